"Many scenes on real Dask workers: workers that die, stops at any moment, failures, other clusters, hostile names and parameters."
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import nbformat
import pytest
from products import METADATA, SCENE_ID, cube, table
from readme import ROOT

from enmap_sharpener.cli.app import main

pytest.importorskip("papermill", reason="needs the extra `batch`")
psutil = pytest.importorskip("psutil", reason="needs the extra `batch`")

import dask  # noqa: E402
from distributed import LocalCluster  # noqa: E402

from enmap_sharpener.batch import runner  # noqa: E402
from enmap_sharpener.batch.clusters import local_workers, remote_workers, slurm_workers  # noqa: E402
from enmap_sharpener.batch.jobs import check_parameters, find_scenes, job_files, open_job  # noqa: E402
from enmap_sharpener.batch.runner import job_results, run_batch, write_report  # noqa: E402
from enmap_sharpener.batch.tasks import TaskOutcome, is_done  # noqa: E402
from enmap_sharpener.core.errors import JobError, OutputError  # noqa: E402
from enmap_sharpener.core.files import read_facts  # noqa: E402
from enmap_sharpener.scenes.enmap import write_enmap  # noqa: E402

PARAMETERS = '''scene: "Path" = "."  # where a number lies
output: "Path" = "."  # folder to write to
factor: float = 2.0  # what to multiply it with
seconds: float = 0.0  # how long that takes
threads: int = 0  # processors'''
BODY = '''import os, time
from pathlib import Path

Path(output, "begun.txt").touch()
time.sleep(seconds)
number = float(Path(scene, "number.txt").read_text()) * factor
if number < 0:
    os.kill(int(os.environ["JPY_PARENT_PID"]), 9)
    time.sleep(60)
Path(output, "result.txt").write_text(str(number))
Path(output, "summary.json").write_text('{"number": %g, "threads": %d, "device": "%s"}' % (number, threads, os.environ.get("CUDA_VISIBLE_DEVICES")))'''


def write_job(path, parameters=PARAMETERS, body=BODY, tags=("parameters",)):
    "A job of one's own."
    cells = [nbformat.v4.new_markdown_cell("# Times\n\n> A number, multiplied."),
             nbformat.v4.new_code_cell(parameters, metadata={"tags": list(tags)}), nbformat.v4.new_code_cell(body)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}}), path)
    return path


def write_scenes(folder, **numbers):
    for name, text in numbers.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "number.txt").write_text(str(text))


@pytest.fixture(autouse=True)
def in_time():
    "What waits for a worker that never comes fails instead of hanging."
    def late(*_):
        raise TimeoutError("still waiting after 5 minutes")
    signal.signal(signal.SIGALRM, late)
    signal.alarm(300)
    yield
    signal.alarm(0)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path / "times.ipynb")
    return tmp_path


@pytest.fixture(scope="module")
def client():
    "A worker for all tests that do nothing to it."
    with local_workers(workers=1, threads=1) as client:
        yield client


def states(report):
    return {o.scene: o.state for o in report.outcomes}


def half_written(folder):
    return [p.name for p in Path(folder).rglob("*.part")]


def kernels(folder):
    "Notebooks' processes that are at work below a folder."
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd().startswith(str(folder)) and any(name in " ".join(process.cmdline()) for name in ("ipykernel", "kernel_server import")):
                found.append(process.pid)
    return found


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


# Workers

@contextmanager
def shaken(folder):
    "Two workers, of which one is killed as soon as its scene is begun."
    def kill(client):
        until(lambda: list(folder.glob(".*.part/begun.txt")))
        busy = next(address for address, keys in client.processing().items() if keys)
        os.kill(client.run(os.getpid, workers=[busy])[busy], signal.SIGKILL)
        killed.append(busy)
    killed = []
    with local_workers(workers=2, threads=1) as client:
        thread = threading.Thread(target=kill, args=[client])
        thread.start()
        yield client
        thread.join()
    assert killed


@pytest.mark.slow
def test_a_worker_dies_and_all_scenes_finish(place):
    write_scenes(place / "data", a=1, b=2, c=3, d=4)
    lines = []
    report = run_batch("times.ipynb", "data/*", "runs", {"seconds": 1.5}, cluster=shaken(place / "runs/times"), tell=lines.append)
    assert states(report) == dict.fromkeys("abcd", "done")
    assert [float((place / "runs/times" / s / "result.txt").read_text()) for s in "abcd"] == [2, 4, 6, 8]
    assert len(lines) == 5 and lines[0] == "times: 4 of 4 scenes to do" and lines[-1].startswith("[4/4] ") and "left" in lines[1]
    assert not half_written(place)
    until(lambda: not kernels(place), 5)


@pytest.mark.slow
def test_a_scene_that_kills_its_workers_does_not_take_others_along(place):
    write_scenes(place / "data", a=1, poison=-1, z=3)
    with dask.config.set({"distributed.scheduler.allowed-failures": 1}):
        report = run_batch("times.ipynb", "data/*", "runs", cluster=local_workers(workers=1, threads=1))
    assert states(report) == {"a": "done", "poison": "failed", "z": "done"}
    assert "every worker that tried died" in report.of("failed")[0].note and not half_written(place)


@pytest.mark.slow
def test_gpus_and_threads_are_given_out(place):
    write_scenes(place / "data", a=1, b=2)
    run_batch("times.ipynb", "data/*", "runs", {"seconds": 1}, cluster=local_workers(threads=3, gpus=[2, 7]))
    table = job_results("runs/times")
    assert set(table.device) == {"2", "7"} and set(table.threads) == {3}


@pytest.mark.slow
def test_a_scheduler_that_runs_already(place):
    write_scenes(place / "data", a=1, b=2)
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        report = run_batch("times.ipynb", "data/*", "runs", cluster=remote_workers(cluster.scheduler_address))
    assert states(report) == {"a": "done", "b": "done"}


SUBMIT = "cp $1 $1.job; cp $1 job.sh; setsid bash -c \"sleep {wait}; exec bash $1.job\" >> slurm.log 2>&1 < /dev/null & echo Submitted batch job $!"
REFUSE = "echo sbatch: error: invalid partition specified: long >&2; echo sbatch: error: Batch job submission failed: Invalid partition name specified >&2; exit 1"


@pytest.fixture
def slurm(place, monkeypatch):
    "Slurm's commands are played by shell scripts: what becomes of two scenes, and what was told."
    (place / "bin").mkdir()
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.setenv("PATH", f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (place / "slurm.yaml").write_text("cores: 7\nmemory: 2 GB\ninterface: lo\ngpu: true\nqueue: long\n")
    write_scenes(place / "data", a=1, b=2)

    def run(sbatch, workers=1, squeue="true"):
        for name, text in {"sbatch": sbatch, "scancel": "kill -- -$1", "squeue": squeue}.items():
            (place / "bin" / name).write_text(f"#!/bin/bash\ncd {place}\n{text}\n")
            (place / "bin" / name).chmod(0o755)
        told = []
        return run_batch("times.ipynb", "data/*", "runs", cluster=slurm_workers("slurm.yaml", workers, "runs/slurm-logs"), tell=told.append), told
    return run


@pytest.mark.slow
def test_slurm(slurm, place):
    report, told = slurm(SUBMIT.format(wait=4), squeue="echo Priority")
    assert states(report) == {"a": "done", "b": "done"} and set(job_results("runs/times").threads) == {7}
    assert told.index("1 job pending") < told.index("no job is pending any more") < len(told) - 2
    assert "#SBATCH -o runs/slurm-logs/enmap-sharpener-%J.out" in (place / "job.sh").read_text() and (place / "runs/slurm-logs").is_dir()
    until(lambda: not kernels(place), 20)


def test_a_queue_that_refuses_the_job_ends_the_batch(slurm, place, capfd):
    began = time.monotonic()
    with pytest.raises(JobError, match="^Slurm takes no job: invalid partition specified: long; Batch job submission failed: Invalid partition name specified; mend the file"):
        slurm(REFUSE, workers=3)
    assert time.monotonic() - began < 60 and "Traceback" not in "".join(capfd.readouterr())      # it waited for ever


@pytest.mark.parametrize("reason", ["AccountNotAllowed", "Job's account not known, so it can't use this partition (long allows good)", "PartitionTimeLimit", "InvalidQOS"])
def test_jobs_that_will_never_begin_end_the_batch(slurm, reason):
    "Slurm 22.05 accepts a job of an account that the partition does not allow, and lets it wait."
    with pytest.raises(JobError, match="^Slurm will begin no job: .*; mend the file of --cluster") as refused:
        slurm(SUBMIT.format(wait=600), squeue=f'echo "{reason}"')
    assert reason in str(refused.value)


def test_where_there_is_no_slurm(slurm, place, monkeypatch):
    (place / "none").mkdir()
    monkeypatch.setenv("PATH", str(place / "none"))
    with pytest.raises(JobError, match="^Slurm takes no job: there is no Slurm here"):
        run_batch("times.ipynb", "data/*", "runs", cluster=slurm_workers("slurm.yaml", 1))


@pytest.mark.slow
def test_a_queue_that_takes_some_of_the_jobs(slurm):
    report, told = slurm(f"if mkdir taken 2> /dev/null; then {SUBMIT.format(wait=0)}; else {REFUSE}; fi", workers=2)
    assert states(report) == {"a": "done", "b": "done"}
    assert [line for line in told if line.startswith("Slurm does not take 1 of the jobs: invalid partition specified: long;")]


def test_time_left_is_not_told_before_a_scene_is_done():
    failed, done = TaskOutcome("a", "failed", 0.1, "no"), TaskOutcome("b", "done", 60.0)
    assert "left" not in runner._told(failed, 1, 10, 0) and runner._told(done, 2, 4, 60.0).endswith("; 60 s left")


# Stops

def start(*arguments):
    return subprocess.Popen([sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())", "batch", *arguments],
                            start_new_session=True, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_in_the_middle(place, client, number):
    write_scenes(place / "data", a=1, b=2)
    process = start("times.ipynb", "--scenes", "data/*", "--param", "seconds=1000", "--workers", "1")
    until(lambda: list(place.glob("runs/times/.*.part/begun.txt")))
    (os.kill if number == signal.SIGKILL else os.killpg)(process.pid, number)     # Ctrl-C reaches all of a terminal's processes
    error = process.communicate(timeout=60)[1]
    if number == signal.SIGKILL:
        until(lambda: not kernels(place), 20)
    else:
        assert process.returncode == 128 + number and error.splitlines()[-1] == "enmap-sharpener: interrupted"
        assert not half_written(place) and "Traceback" not in error
        until(lambda: not kernels(place), 5)
    assert not list(place.glob("runs/times/*.failed.*"))
    report = run_batch("times.ipynb", "data/*", "runs", cluster=nullcontext(client))
    assert states(report) == {"a": "done", "b": "done"} and not half_written(place)


@pytest.mark.slow
def test_two_runs_at_once(place):
    write_scenes(place / "data", a=1)
    process = start("times.ipynb", "--scenes", "data/*", "--param", "seconds=1000", "--workers", "1")
    until(lambda: list(place.glob("runs/times/.*.part/begun.txt")))
    with pytest.raises(OutputError, match="another run is at work"):
        run_batch("times.ipynb", "data/*", "runs")
    os.killpg(process.pid, signal.SIGTERM)
    process.communicate(timeout=60)


# What is done, what failed

@pytest.mark.slow
def test_done_failed_and_again(place, client):
    write_scenes(place / "data", a=1, b="few")
    run = lambda parameters=None, **options: run_batch("times.ipynb", "data/*", "runs", parameters, cluster=nullcontext(client), **options)
    report = run()
    assert states(report) == {"a": "done", "b": "failed"}
    assert report.of("failed")[0].note == "ValueError: could not convert string to float: 'few'"
    kept = nbformat.read("runs/times/b.failed.ipynb", as_version=4)
    assert "could not convert" in str(kept.cells) and not Path("runs/times/b").exists()

    assert states(run()) == {"a": "there already", "b": "failed"}
    assert run().of("failed")[0].note.startswith("before: ValueError")
    assert states(run({"threads": 4})) == {"a": "there already", "b": "failed"}       # how it is computed is no matter
    assert states(run(retry_failed=True)) == {"a": "there already", "b": "failed"}

    Path("data/b/number.txt").write_text("21")       # other inputs: done without being asked
    report = run()
    assert states(report) == {"a": "there already", "b": "done"} and not list(Path("runs").rglob("*.failed.*"))

    before = json.loads(Path("runs/times/a/done.json").read_text())
    with pytest.raises(JobError, match="times/a: was made with no parameters; choose another --output, or replace it with --overwrite"):
        run({"factor": 3})
    assert json.loads(Path("runs/times/a/done.json").read_text()) == before
    assert states(run({"factor": 3}, overwrite=True)) == {"a": "done", "b": "done"}
    assert Path("runs/times/a/result.txt").read_text() == "3.0" and not half_written(place)

    Path("runs/times/a/result.txt").unlink()
    Path("runs/times/b/done.json").write_text("{")
    assert states(run({"factor": 3}, overwrite=True)) == {"a": "done", "b": "done"}


@pytest.mark.slow
def test_nothing_runs_before_all_is_checked(place, capfd):
    write_scenes(place / "data", a=1)
    call = lambda *arguments: main(["batch", *map(str, arguments)])
    for arguments, told in [
            (["times.ipynb", "--scenes", "data/*", "--param", "factr=3"], "takes no parameter factr; it takes factor (float), seconds (float), threads (int)"),
            (["times.ipynb", "--scenes", "data/*", "--param", "factor=three"], "factor=three: wanted float, what to multiply it with"),
            (["times.ipynb", "--scenes", "data/*", "--param", "output=x"], "takes no parameter output"),
            (["times.ipynb", "--scenes", "data/*", "--param", "factor"], "wanted NAME=VALUE"),
            (["times.ipynb", "--scenes", "data/*", "--param", "factor=1", "factor=2"], "factor is given twice"),
            (["sharpen", "--scenes", "data/*", "--param", "method=subspce"], "'subspce' is no method; did you mean subspace? There are: subspace, "),
            (["sharpen", "--scenes", "data/*", "--param", "method=supermapnet"], "the method supermapnet needs a trained network: add the parameter model"),
            (["none.ipynb", "--scenes", "data/*"], "there is no job none.ipynb; choose from"),
            (["times.ipynb", "--scenes", "dat/*"], "dat/*: no folder or ZIP file"),
            (["times.ipynb", "--scenes", "times.ipynb"], "no folder or ZIP file"),
            (["times.ipynb"], "which job, and for which scenes?"),
            (["times.ipynb", "--scenes", "data/*", "--workers", "0"], "--workers 0: wanted at least one"),
            (["times.ipynb", "--scenes", "data/*", "--workers", "2", "--gpus", "0"], "2 workers were asked for and 1 GPUs"),
            (["times.ipynb", "--scenes", "data/*", "--mem-limit", "0.5"], "--mem-limit 0.5: too little"),
            (["times.ipynb", "--scenes", "data/*", "--scheduler", "nonsense:1"], "cannot be reached"),
            (["times.ipynb", "--scenes", "data/*", "--scheduler", "tcp://a:1", "--gpus", "0"], "--gpus is for workers on this machine"),
            (["times.ipynb", "--scenes", "data/*", "--cluster", "none.yaml"], "none.yaml: FileNotFoundError"),
    ]:
        assert call(*arguments) == 2, arguments
        error = capfd.readouterr().err.strip().splitlines()[-1]
        assert told in error, error
        assert not list(place.glob("runs/*/*[!lk]")) or all(p.name in ("report.html",) for p in place.glob("runs/times/[!.]*"))


@pytest.mark.slow
def test_command_tells_of_failures_and_lists_jobs(place, capfd):
    write_scenes(place / "data", a=1, b="few")
    assert main(["batch", "times.ipynb", "--scenes", "data/a", "data/b", "--workers", "1"]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "times: 2 of 2 scenes to do" and [line[:6] for line in lines if line.startswith("[")] == ["[1/2] ", "[2/2] "]      # between them how far it is, once a minute
    assert lines[-1].startswith("enmap-sharpener: 1 of 2 scenes failed, the first is b: ValueError: could not convert string to float: 'few'; see ")
    assert main(["batch", "--list"]) == 0
    told = capfd.readouterr().out
    assert all(f"{name}: " in told for name in job_files()) and "method" in told and "\n  scene" not in told
    assert main(["batch", "times.ipynb", "--scenes", "data/a", "--workers", "1", "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")


def test_what_is_missing_is_told(monkeypatch, capfd):
    monkeypatch.setattr("enmap_sharpener.core.errors.find_spec", lambda name: None if name in ("papermill", "distributed") else name)
    assert main(["batch", "--list"]) == 2
    assert capfd.readouterr().err == "enmap-sharpener: batch needs papermill and distributed: pip install '.[batch]' in the package's checkout\n"


# Jobs, parameters, names

def test_jobs_that_are_none(tmp_path):
    (tmp_path / "text.ipynb").write_text("no JSON")
    (tmp_path / "list.ipynb").write_text("[]")
    write_job(tmp_path / "untagged.ipynb", tags=())
    write_job(tmp_path / "untyped.ipynb", parameters='scene: "Path" = "."\nfactor = 2')
    write_job(tmp_path / "strange.ipynb", parameters='scene: "Path" = "."\nfactor: dict = {}')
    for name, told in {"text": "no notebook that can be read", "list": "no notebook that can be read", "untagged": "wanted a cell tagged",
                       "untyped": "factor is of type None; wanted str", "strange": "factor is of type dict; wanted str"}.items():
        with pytest.raises(JobError, match=told):
            open_job(tmp_path / f"{name}.ipynb")


@pytest.mark.parametrize("kind, text, value", [
    ("int", "3", 3), ("int", "3.5", None), ("int", "true", None), ("int", "", None), ("float", "1e-4", 1e-4), ("float", "3", 3.0), ("float", "x", None),
    ("bool", "True", True), ("bool", "no", None), ("bool", "1", None), ("str", "no", "no"), ("str", "007", "007"), ("str", "", ""), ("str", "a=b", "a=b"),
    ("list[int]", "[1, 2]", [1, 2]), ("list[int]", "1", None), ("list[int]", "[1, b]", None), ("list[str]", "[on, '1']", ["on", "1"]),
    ("list[float]", "[]", []), ("list[str]", "[", None), ("list[str]", "[[a]]", None), ("list[str]", "[{a: b}]", None)])
def test_values(tmp_path, kind, text, value):
    job = open_job(write_job(tmp_path / "job.ipynb", parameters=f'scene: "Path" = "."\nx: {kind} = 0  # something'))
    if value is None:
        with pytest.raises(JobError, match="something"):
            check_parameters(job, {"x": text})
    else:
        found = check_parameters(job, {"x": text})["x"]
        assert found == value and type(found) is type(value)
        assert check_parameters(job, {"x": value})["x"] == value


@pytest.mark.slow
def test_names(place, client):
    names = ["with space", "{braces}", "50%", "<b>&amp;", "ümlaut", "it's", "-dash"]
    write_scenes(place / "data", **dict.fromkeys(names, 1), bad="<few>")
    report = run_batch("times.ipynb", "data/*", "runs {x}", cluster=nullcontext(client))
    assert states(report) == {**dict.fromkeys(names, "done"), "bad": "failed"}
    page = report.page.read_text(encoding="utf-8")
    assert "<few>" not in page and "<b>&amp;</a>" not in page and "&lt;b&gt;&amp;amp;" in page and 'href="50%25/"' in page
    assert str(place) not in page and not any(str(place) in p.read_text() for p in Path("runs {x}").rglob("times.ipynb"))


def test_scenes(place):
    write_scenes(place, **{"data/a": 1, "other/a": 2, "data/b.zarr": 3})
    with zipfile.ZipFile(place / "data/c.ZIP", "w"):
        pass
    (place / "data/manifest.jsonl").touch()
    assert list(find_scenes("data/*")) == ["a", "b", "c"]
    assert find_scenes(["data/a", "data/*", "data/../data/a/"])["a"] == place / "data/a"
    with pytest.raises(JobError, match="have the same name"):
        find_scenes(["data/*", "other/*"])


def test_report_of_nothing(tmp_path):
    assert "0 scenes done, 0 failed" in write_report(tmp_path).read_text()
    (tmp_path / "a").mkdir()
    (tmp_path / "a/done.json").write_text("[1]")
    (tmp_path / "b.failed.json").write_text("{")
    assert "1 scenes done, 1 failed" in write_report(tmp_path).read_text()


def test_report_of_files_from_others(tmp_path):
    "Whatever lies there is text, in the table and on the page, and nothing but what is there is read."
    evil = "<script>alert(1)</script>"
    for name, record, summary in [("a", {"seconds": evil, "parameters": [evil], "files": {"../../x\0": 1}}, {"state": evil, "error": 3, "seconds": [1], evil: evil}),
                                  ("b", {"parameters": evil, "fingerprint": 1, "files": 3}, [evil]), ("c", "[" * 100_000, evil)]:
        (tmp_path / name).mkdir()
        for file, content in (("done.json", record), ("summary.json", summary)):
            (tmp_path / name / file).write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d/done.json")
    (tmp_path / "e.failed.json").write_text(json.dumps({"error": [evil], "seconds": None}))
    table = job_results(tmp_path)
    assert list(table.state) == ["done"] * 4 + ["failed"] and table.error["a"] == "" and table.seconds.isna().all()
    assert "<script" not in write_report(tmp_path).read_text()
    assert not any(is_done(tmp_path / name, read_facts(tmp_path / name / "done.json"), 1) for name in "abcd")


def test_earlier_parameters_that_are_none(place, client):
    write_scenes(place / "data", a=1)
    (place / "runs/times/a").mkdir(parents=True)
    (place / "runs/times/a/done.json").write_text('{"parameters": [1]}')
    with pytest.raises(JobError, match="was made with"):
        run_batch("times.ipynb", "data/*", "runs", cluster=nullcontext(client))


@pytest.mark.slow
def test_paths_of_parameters_and_links(place, client):
    "A parameter that is a path is looked up from where the user is, also where the output is reached by a link; a changed file is a changed input."
    write_scenes(place / "data", a=1)
    (place / "far/off").mkdir(parents=True)
    (place / "runs").symlink_to(place / "far/off")
    write_job(place / "add.ipynb", parameters='scene: "Path" = "."  # scene\noutput: "Path" = "."  # place\nmore: "Path" = None  # another number',
              body='from pathlib import Path\nPath(output, "sum.txt").write_text(Path(scene, "number.txt").read_text() + Path(more).read_text())')
    (place / "more.txt").write_text("7")
    run = lambda **more: run_batch("add.ipynb", "data/a", "runs", more, cluster=nullcontext(client))
    with pytest.raises(JobError, match="needs the parameter more: another number"):
        run()
    with pytest.raises(JobError, match="no.txt is not there"):
        run(more="no.txt")
    assert states(run(more="more.txt")) == {"a": "done"} and (place / "far/off/add/a/sum.txt").read_text() == "17"
    assert states(run(more=place / "more.txt")) == {"a": "there already"}
    (place / "more.txt").write_text("88")
    assert states(run(more="more.txt")) == {"a": "done"}


# Installed

@pytest.mark.slow
def test_jobs_are_in_the_wheel(tmp_path):
    "Built from a copy, as building leaves files behind."
    for name in ("setup.py", "settings.ini", "pyproject.toml", "README.md", "MANIFEST.in"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "nbs").mkdir()
    (tmp_path / "nbs/jobs").symlink_to(ROOT / "nbs/jobs")
    (tmp_path / "enmap_sharpener").mkdir()
    for module in (ROOT / "enmap_sharpener").glob("*.py"):
        (tmp_path / "enmap_sharpener" / module.name).symlink_to(module)
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "out", "."], cwd=tmp_path, check=True, capture_output=True)
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.whl"))) as wheel:
        found = {Path(name).name for name in wheel.namelist() if name.startswith("enmap_sharpener/notebooks/")}
        wheel.extractall(tmp_path / "site")
    assert found == {path.name for path in job_files().values()} == {p.name for p in (ROOT / "nbs/jobs").glob("*.ipynb")}
    told = subprocess.run([sys.executable, "-c", "from enmap_sharpener.batch.jobs import job_files; print(*job_files().values(), sep='\\n')"],
                          cwd=tmp_path / "site", check=True, capture_output=True, text=True).stdout
    assert len(told.splitlines()) == len(found) and all(line.startswith(str(tmp_path / "site")) for line in told.splitlines())


# Scenes as they come, and pairs

def test_forms_of_scenes(place):
    "Archives of either kind and a METADATA.XML; of what fits a pattern neither Sentinel-2 products nor the folders of partners are scenes."
    (place / "data/a/sentinel2").mkdir(parents=True)
    (place / "data/S2A_MSIL2A_20220724T101611_N0400_R065_T33UUU_20220724T161611.SAFE").mkdir()
    for name in ("a.zip", "b.tar.gz", "c-METADATA.XML", "notes.txt"):
        (place / "data" / name).touch()
    assert {k: v.name for k, v in find_scenes("data/*").items()} == {"a": "a.zip", "b": "b.tar.gz", "c": "c-METADATA.XML"}
    (place / "data/a/number.txt").touch()
    with pytest.raises(JobError, match="have the same name"):
        find_scenes("data/*")


PAIRED = PARAMETERS + '\nsentinel2: "Path" = ""  # the other number\nsentinel2_offset: str = ""  # a third'


@pytest.fixture
def paired(place):
    write_job(place / "pairs.ipynb", PAIRED, BODY.replace("* factor", '+ float(Path(sentinel2, "number.txt").read_text() if sentinel2 else 0) + float(sentinel2_offset or 0)', 1))
    write_scenes(place / "far/data", a=1, b=2, c=3, x=10, y=20)
    (place / "far/scenes.csv").write_text("enmap;sentinel2\ndata/a;data/x\ndata/b;data/y\ndata/c;\n")
    return place


def test_pairs(paired, client, capfd):
    "Each scene with the partner of its row; done is done, a partner that changes does its scene again, other partners are other parameters."
    from enmap_sharpener.scenes.finding import read_list
    run = lambda **more: run_batch("pairs.ipynb", read_list("far/scenes.csv"), "runs", cluster=nullcontext(client), **more)  # noqa: E731
    assert states(run()) == dict.fromkeys("abc", "done")
    assert [float((paired / f"runs/pairs/{n}/result.txt").read_text()) for n in "abc"] == [11, 22, 3]
    assert set(states(run()).values()) == {"there already"}
    (paired / "far/data/x/number.txt").write_text("100")
    assert states(run()) == {"a": "done", "b": "there already", "c": "there already"}
    (paired / "far/scenes.csv").write_text("enmap;sentinel2\ndata/a;data/x\ndata/b;data/x\n")
    with pytest.raises(JobError, match="runs/pairs/b: was made with sentinel2=.*/y; choose another --output"):
        run()
    assert states(run(overwrite=True)) == {"a": "there already", "b": "done"}


@pytest.mark.slow
def test_one_bad_pair_does_not_stop_the_others(paired, capfd):
    for name, text in (("a", "2001"), ("c", "2003"), ("y", "few")):
        (paired / f"far/data/{name}/number.txt").write_text(text)
    assert main(["batch", "pairs.ipynb", "--pairs", "far/scenes.csv", "--sentinel2-offset", "-1000", "--workers", "1"]) == 1
    assert "1 of 3 scenes failed, the first is b: ValueError" in capfd.readouterr().err
    assert [float((paired / f"runs/pairs/{n}/result.txt").read_text()) for n in "ac"] == [1011, 1003]


@pytest.mark.parametrize("arguments, told", [
    (["pairs.ipynb", "--pairs", "far/none.csv"], "far/none.csv: is no file"), (["pairs.ipynb", "--pairs", "far/empty.csv"], "far/empty.csv: is empty"),
    (["pairs.ipynb", "--pairs", "far/twice.csv"], "far/twice.csv, row 3: is named a like that in row 2"), (["pairs.ipynb", "--pairs", "far/two.csv"], "a: has 2 Sentinel-2 products"),
    (["times.ipynb", "--pairs", "far/scenes.csv"], "the job times takes none (no parameter sentinel2)"), (["pairs.ipynb", "--pairs", "far/scenes.csv", "--scenes", "far/data/*"], "give one of them"),
    (["pairs.ipynb", "--pairs", "far/scenes.csv", "--param", "sentinel2=far/data/x"], "names others; leave one of them out"), (["times.ipynb", "--scenes", "far/data/*", "--sentinel2-offset", "0"], "takes no parameter sentinel2_offset"),
    (["pairs.ipynb", "--pairs", "far/scenes.csv", "--sentinel2-offset", "1000"], "sentinel2-offset"),
])
def test_tables_that_cannot_be_used(paired, arguments, told, capfd):
    for name, text in (("empty", ""), ("twice", "enmap,sentinel2\ndata/a,data/x\ndata/a,data/y\n"), ("two", "enmap,sentinel2\ndata/a,data/x data/y\n")):
        (paired / f"far/{name}.csv").write_text(text)
    assert main(["batch", *arguments]) == 2
    error = capfd.readouterr().err.strip()
    assert told in error and error.count("\n") == 0 and not list(paired.glob("runs/*/[!.]*"))


def test_a_list_of_partners_for_a_job_that_takes_one(paired, client):
    from enmap_sharpener.scenes.finding import read_list
    write_job(paired / "many.ipynb", PAIRED.replace('sentinel2: "Path" = ""', 'sentinel2: "list[Path]" = []'),
              BODY.replace("* factor", '+ sum(float(Path(p, "number.txt").read_text()) for p in sentinel2)', 1))
    (paired / "far/scenes.csv").write_text("enmap,sentinel2\ndata/a,data/x data/y\ndata/b,data/x\n")
    assert set(states(run_batch("many.ipynb", read_list("far/scenes.csv"), "runs", cluster=nullcontext(client))).values()) == {"done"}
    assert [float((paired / f"runs/many/{n}/result.txt").read_text()) for n in "ab"] == [31, 12]


def test_another_scene_of_the_same_name(place, client):
    "Does not replace what was made of the first; the same scene, moved, does not count as another."
    write_scenes(place, **{"data/a": 1, "other/a": 2})
    run = lambda scenes, **more: states(run_batch("times.ipynb", scenes, "runs", cluster=nullcontext(client), **more))  # noqa: E731
    assert run("data/a") == {"a": "done"}
    with pytest.raises(JobError, match="was made from another scene of this name, .*data/a; choose another --output"):
        run("other/a")
    assert run("data/*") == {"a": "there already"} and (place / "runs/times/a/result.txt").read_text() == "2.0"
    assert run("other/a", overwrite=True) == {"a": "done"}
    (place / "other").rename(place / "moved")
    assert run("moved/a") == {"a": "there already"}


# ---- tiles of a datatake

COUNTED = '''scene: "list[Path]" = ["."]  # tiles
output: "Path" = "."  # folder to write to
sentinel2: "list[Path]" = []  # theirs'''
COUNT = '''from pathlib import Path

Path(output, "tiles.txt").write_text(" ".join(Path(tile).name for tile in scene))
Path(output, "partners.txt").write_text(str(len(sentinel2)))'''


@pytest.fixture
def flights(place):
    "Two tiles of one datatake, and one of another, in one folder with Sentinel-2 beside them."
    for take, number in ((1, 1), (1, 2), (9, 1)):
        write_enmap(place / "tiles", cube(), table(), scene_id=SCENE_ID.replace("DT0000000001", f"DT000000000{take}").replace("_001_V", f"_{number:03d}_V"), metadata=METADATA)
    (place / "tiles/sentinel2").mkdir()
    write_job(place / "count.ipynb", COUNTED, COUNT)
    return place


STRIP = SCENE_ID.replace("_001_V", "_000_V")


def test_tiles_of_a_datatake_are_one_scene(flights, client):
    run = lambda scenes="tiles/*", **more: states(run_batch("count.ipynb", scenes, "runs", strip=True, cluster=nullcontext(client), **more))  # noqa: E731
    other = SCENE_ID.replace("DT0000000001", "DT0000000009")
    assert run() == {STRIP: "done", other: "done"}
    told = (flights / f"runs/count/{STRIP}/tiles.txt").read_text().split()
    assert told == [SCENE_ID, SCENE_ID.replace("_001_V", "_002_V")] and (flights / f"runs/count/{other}/tiles.txt").read_text() == other
    assert set(run("tiles").values()) == {"there already"}
    (flights / "tiles" / told[1]).rename(flights / "aside")      # which leaves one, under its own name
    assert run() == {told[0]: "done", other: "there already"}


def test_a_damaged_tile_fails_its_strip_and_is_named(flights, client):
    write_job(flights / "count.ipynb", COUNTED, "from enmap_sharpener.scenes.strips import read_scene\n\nread_scene(scene)")
    bad = flights / "tiles" / SCENE_ID.replace("_001_V", "_002_V")
    next(bad.glob("*METADATA.XML")).write_text("<level")
    report = run_batch("count.ipynb", "tiles/*", "runs", strip=True, cluster=nullcontext(client))
    assert sorted(o.state for o in report.outcomes) == ["done", "failed"]
    failed, = report.of("failed")
    assert failed.scene == STRIP and bad.name in failed.note and "well-formed" in failed.note


def test_strips_in_a_table_and_jobs_that_take_none(flights, client, capfd):
    from enmap_sharpener.scenes.finding import read_list
    names = [p.name for p in sorted((flights / "tiles").glob("ENMAP*"))]
    write_scenes(flights / "s2", x=1, y=2)
    (flights / "tiles.csv").write_text("enmap,sentinel2\n" + "\n".join(f"tiles/{n},s2/{'x' if '_001_' in n else 'y'}" for n in names))
    assert set(states(run_batch("count.ipynb", read_list("tiles.csv"), "runs", strip=True, cluster=nullcontext(client))).values()) == {"done"}
    assert (flights / f"runs/count/{STRIP}/partners.txt").read_text() == "2"
    assert main(["batch", "times.ipynb", "--scenes", "tiles/*", "--strip"]) == 2
    assert "the job times takes one product for a scene, and no tiles of a strip" in capfd.readouterr().err
