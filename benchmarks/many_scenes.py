"""Many scenes: how soon a command is at work, what `batch` gains on one machine, and whether its client holds a hundred thousand scenes.

    python benchmarks/many_scenes.py                                                  # about ten minutes
    python benchmarks/many_scenes.py --size 1000 --scenes 4                           # whole scenes on this machine
    python benchmarks/many_scenes.py --stubs 100000 --workers 1000 --parts client     # an hour, and 2 GB of disk

On one machine: the same scenes one after the other with `sharpen`, and with `batch` and one or two workers. The client: scenes that do nothing but write what a
finished one leaves, by workers that are threads of this process, through Dask's scheduler; then the same command again, and with one scene more.
Scheduler, workers and stubs share this process, so that the times are more than a client alone would need.
"""
import argparse
import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

from full_scene import COMMAND, execute, machine

from enmap_sharpener.core.files import write_text

HERE = Path(__file__).parent
BEGUN = {
    "`--version`": ["--version"], "`sharpen --help`": ["sharpen", "--help"], "`sharpen`, until it reads": ["sharpen", "nothing", "--output", "x.tif"],
    "`evaluate`, until it reads": ["evaluate", "nothing.tif", "--truth", "nothing.tif"], "`batch --list`": ["batch", "--list"],
}


def begun(repeats=5):
    """Lines: processor time of a command until it would read its input [s]."""
    yield from ("| command | CPU, median of five [s] |", "|---|---|")
    for name, arguments in BEGUN.items():
        used = []
        for _ in range(repeats):
            child = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parent)
            usage = os.wait4(child.pid, 0)[2]
            used.append(usage.ru_utime + usage.ru_stime)
        yield f"| {name} | {statistics.median(used):.2f} |"


# ---- one machine

def scenes(folder, number, size):
    """Simulated scenes of one size, each with its partner."""
    for n in range(number):
        if not (folder / f"scene{n}").exists():
            execute("simulate", "--size", size, "--no-truth", "--seed", n, "--output", folder / "new")
            (next((folder / "new").glob("ENMAP*"))).rename(folder / f"scene{n}")
            shutil.rmtree(folder / "new")
    return sorted(folder.glob("scene*"))


def tree_memory(process):
    """Resident memory of a process and all below it [GB]; what they share counts once for each."""
    import psutil
    found = 0
    for one in (process, *process.children(recursive=True)):
        try:
            found += one.memory_info().rss
        except psutil.Error:
            pass
    return found / 1e9


def adopt_orphans():
    """Be the parent of what outlives its own parent below this process, so that its processor time is counted too (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1)      # PR_SET_CHILD_SUBREAPER


def reap_orphans():
    """Wait for all that is left below this process."""
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass


def measured(commands):
    """Commands one after the other: wall time [s], processor time with all below them [s], most memory at a time [GB]."""
    import psutil
    adopt_orphans()
    start, before, most = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
    for arguments in commands:
        child = subprocess.Popen([*COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parent)
        process = psutil.Process(child.pid)
        while child.poll() is None:
            most = max(most, tree_memory(process))
            time.sleep(0.25)
        if child.returncode:
            sys.exit(f"failed: {' '.join(map(str, arguments))}")
        reap_orphans()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - start, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, most


def one_machine(number, size, workdir):
    """Lines: scenes an hour, one after the other and as a batch."""
    found = scenes(workdir, number, size)
    yield from (f"| {number} scenes of {size} × {size} | wall [s] | scenes an hour | of the first | CPU a scene [s] | memory [GB] |", "|---|---|---|---|---|---|")
    first = None
    with tempfile.TemporaryDirectory(dir=workdir) as place:
        runs = {"`sharpen`, one after the other": [["sharpen", scene, "--output", f"{place}/{scene.name}.tif"] for scene in found]}
        for workers in (1, 2):
            runs[f"`batch`, {workers} at a time"] = [["batch", "sharpen", "--scenes", *found, "--output", f"{place}/{workers}", "--workers", workers]]
        for name, commands in runs.items():
            wall, cpu, memory = measured(commands)
            first = first or wall
            yield f"| {name} | {wall:.0f} | {3600 * number / wall:.0f} | {first / wall:.2f} | {cpu / number:.1f} | {memory:.2f} |"


# ---- the client

ITEM = {"type": "Feature", "stac_version": "1.1.0", "geometry": {"type": "Polygon", "coordinates": [[[13, 52], [14, 52], [14, 53], [13, 53], [13, 52]]]}, "bbox": [13, 52, 14, 53],
        "properties": {"datetime": "2024-01-01T00:00:00Z"}, "links": [], "assets": {"data": {"href": "result.tif"}}}
SUMMARY = {"method": "subspace", "bands": 224, "rows": 3000, "columns": 3000, "MB": 2000.1, "agreement": 0.0004}


def stub(task):
    """What a finished scene leaves, without its rasters."""
    from enmap_sharpener.batch.tasks import TaskOutcome
    folder = task.folder / task.scene
    folder.mkdir()
    (folder / f"{task.scene}.json").write_text(json.dumps(ITEM | {"id": task.scene}))
    (folder / "summary.json").write_text(json.dumps(SUMMARY))
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    (folder / "done.json").write_text(json.dumps({"source": task.source, "fingerprint": task.fingerprint, "parameters": task.settings, "seconds": 64.0, "files": files}))
    return TaskOutcome(task.scene, "done", 64.0), ""


QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1h", "distributed.admin.tick.cycle": "1h", "distributed.admin.system-monitor.interval": "1h"}


@contextmanager
def stub_workers(number):
    """As many workers, threads of this process; what each of them would measure of its own process many times a second, one process need not for a thousand."""
    import dask
    from distributed import Client, LocalCluster
    with (dask.config.set(QUIET),
          LocalCluster(n_workers=number, threads_per_worker=1, memory_limit=0, processes=False, protocol="inproc://", dashboard_address=None, worker_dashboard_address=None) as cluster,
          Client(cluster, set_as_default=False) as client):
        yield client


class Clock:
    """Processor and wall time of functions of a module, by name."""

    def __init__(self, module, *names):
        self.used = {}
        for name in names:
            setattr(module, name, self.timed(name, getattr(module, name)))

    def timed(self, name, function):
        def timed(*arguments, **options):
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                self.used[name] = time.process_time() - cpu, time.perf_counter() - wall
        return timed


def client(number, workers, workdir):
    """Lines: what each step of a run takes, the first time, again, and with one scene more."""
    from enmap_sharpener.batch import runner
    runner.run_task = stub
    clock = Clock(runner, "_run", "write_report", "write_catalogue", "run_batch")
    place = Path(tempfile.mkdtemp(dir=workdir))
    yield from (f"| {number} stubs, {workers} workers | in all, CPU (wall) [s] | begin | client, scheduler and stubs | report | catalogue | a scene, CPU [ms] | memory so far [GB] |", "|---|---|---|---|---|---|---|---|")
    for what in ("first run", "the same again", "one scene more"):
        for n in {"first run": range(number), "one scene more": [number]}.get(what, ()):
            (folder := place / "data" / f"ENMAP01-____L2A-DT{n:010d}_20240101T000000Z").mkdir(parents=True)
            (folder / "METADATA.XML").touch()
        clock.used.clear()
        report = runner.run_batch("sharpen", str(place / "data/*"), place / "runs", cluster=stub_workers(workers if what == "first run" else 1))
        total, rest = clock.used["run_batch"], sum(clock.used.get(step, (0, 0))[0] for step in ("_run", "write_report", "write_catalogue"))
        steps = " | ".join(f"{clock.used[step][0]:.1f} ({clock.used[step][1]:.1f})" if step in clock.used else "–" for step in ("_run", "write_report", "write_catalogue"))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
        yield f"| {what} | {total[0]:.1f} ({total[1]:.1f}) | {total[0] - rest:.1f} | {steps} | {1000 * total[0] / number:.2f} | {memory:.2f} |"
    folder = report.page.parent
    largest = lambda paths: max(path.stat().st_size for path in paths) / 1e6
    yield ""
    yield (f"| largest page of the report | {largest(folder.glob('report*.html')):.2f} MB |\n|---|---|\n| largest catalogue | {largest((folder / 'stac').glob('**/catalog.json')):.2f} MB |\n"
           f"| lines of all items | {(folder / 'stac/items.jsonl').stat().st_size / 1e6:.1f} MB |")
    shutil.rmtree(place)


PAGE = """# Many scenes

{machine}. `python benchmarks/many_scenes.py --output benchmarks/many_scenes.md` makes this page; what follows from it for a whole archive is in [the guide](../docs/guides/archive.md).

{text}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=["begun", "machine", "client"], default=["begun", "machine", "client"])
    parser.add_argument("--scenes", type=int, default=4, help="on this machine")
    parser.add_argument("--size", type=int, default=150, help="of these, EnMAP pixels a side")
    parser.add_argument("--stubs", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=100, help="of the stubs")
    parser.add_argument("--workdir", type=Path, default=Path("data/many_scenes"), help="scenes are kept there, for the next time")
    parser.add_argument("--output", type=Path, help="also write the page")
    options = parser.parse_args()
    workdir = options.workdir.resolve()
    (workdir / str(options.size)).mkdir(parents=True, exist_ok=True)
    parts = {"begun": ("Until a command is at work", begun()), "machine": ("One machine", one_machine(options.scenes, options.size, workdir / str(options.size))),
             "client": ("The client", client(options.stubs, options.workers, workdir))}
    told = []
    for name in options.parts:
        heading, lines = parts[name]
        for line in (f"## {heading}", "", *lines, ""):
            told.append(line)
            print(line, flush=True)
    if options.output:
        write_text(options.output, PAGE.format(machine=machine()[0].upper() + machine()[1:], text="\n".join(told).strip()))


if __name__ == "__main__":
    main()
