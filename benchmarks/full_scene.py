"""A whole scene: wall time, processor time, peak memory and size of the output, for each method through the same writer; and what judging a result takes.

    python benchmarks/full_scene.py                     # 500 and 1000 EnMAP pixels a side: 1500 and 3000 at 10 m, 224 bands
    python benchmarks/full_scene.py --sizes 200 --repeats 1 --output benchmarks/full_scene.md

Scenes are simulated once and kept in --workdir. Every run is a process of its own, the command that a user types;
methods take turns, so that a busy machine is unfair to none. Peak memory is the largest resident set of that process.
"""
import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from enmap_sharpener.core.files import write_text

COMMAND = [sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())"]


def execute(*arguments):
    """Run the command; wall time [s], processor time [s], peak memory [GB]."""
    start = time.perf_counter()
    child = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=Path(__file__).parents[1], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        sys.exit(f"failed: {' '.join(map(str, arguments))}")
    unit = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e9


def scene(workdir, size):
    """Folders of EnMAP and Sentinel-2 of a simulated scene, made if they are not there."""
    folder = workdir / f"scene_{size}"
    if not (folder / "simulation.json").exists():
        print(f"simulating {size} x {size} ...", flush=True)
        seconds, _, memory = execute("simulate", "--size", size, "--no-truth", "--output", folder)
        print(f"  {seconds:.0f} s, {memory:.2f} GB", flush=True)
    enmap = next(folder.glob("ENMAP*"))
    return enmap, enmap / "sentinel2"


RUNS = {
    "cubic": ("--method", "cubic"),
    "subspace, no errors": ("--no-uncertainty",),
    "subspace": (),
}
JUDGED = "evaluate --scene"


def measure(enmap, guide, name, extra, kept):
    """Sharpen once, or judge `kept`; wall time [s], processor time [s], peak memory [GB], size of the GeoTIFF [GB]."""
    if name == JUDGED:
        return *execute("evaluate", kept, "--scene", enmap), 0.0
    output = kept if name == "subspace" else kept.with_name("other.tif")
    used = execute("sharpen", enmap, "--sentinel2", guide, "--output", output, "--overwrite", *RUNS[name], *extra)
    return *used, output.stat().st_size / 1e9


def lines(found, size):
    """Lines of the table: medians, the largest memory, and the ratio of processor times to the first run's."""
    middle = lambda runs, i: statistics.median(run[i] for run in runs)
    first = middle(next(iter(found.values())), 1)
    for name, runs in found.items():
        written = f"{runs[0][3]:.2f}" if runs[0][3] else "–"
        walls = ", ".join(f"{run[0]:.0f}" for run in runs)
        yield f"| {size} | {name} | {middle(runs, 0):.0f} ({walls}) | {middle(runs, 1):.0f} | {middle(runs, 1) / first:.2f} | {max(run[2] for run in runs):.2f} | {written} |"


HEAD = ("| size [EnMAP pixels] | run | wall, median (each) [s] | CPU [s] | of the first | peak memory [GB] | output [GB] |", "|---|---|---|---|---|---|---|")

PAGE = """# A whole scene

Simulated scenes, seen whole by both sensors; {machine}. Runs take turns, so that a busy machine is unfair to none. `python benchmarks/full_scene.py --output benchmarks/full_scene.md` makes this page.

{table}
"""


def machine():
    """Processors and memory, in words."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    names = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")] if Path("/proc/cpuinfo").exists() else []
    return f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores ({names[0] if names else platform.processor()}), {pages / 1e9:.0f} GB of memory"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000], help="EnMAP pixels a side")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=Path("data/full_scene"), help="scenes are kept there, for the next time")
    parser.add_argument("--output", type=Path, help="also write the page")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="the rest goes to sharpen, such as --cpus 0")
    options = parser.parse_args()
    workdir = options.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(workdir).free / 1e9
    needed = sum(16 * (size / 1000) ** 2 for size in options.sizes)
    if free < needed:
        sys.exit(f"{workdir}: {free:.0f} GB are free, {needed:.0f} GB wanted; choose another --workdir")
    table = list(HEAD)
    print(*HEAD, sep="\n", flush=True)
    for size in options.sizes:
        enmap, guide = scene(workdir, size)
        found = {name: [] for name in (*RUNS, JUDGED)}
        with tempfile.TemporaryDirectory(dir=workdir) as place:
            for _ in range(options.repeats):
                for name, runs in found.items():
                    runs.append(measure(enmap, guide, name, options.options, Path(place) / "kept.tif"))
        new = list(lines(found, size))
        print(*new, sep="\n", flush=True)
        table += new
    if options.output:
        write_text(options.output, PAGE.format(machine=machine(), table="\n".join(table)))


if __name__ == "__main__":
    main()
