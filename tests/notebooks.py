"""Runs notebooks as `nbdev_test` does, which of their cells by settings.ini, each in a process of its own; but all are forked from one
process that has imported everything once. `python tests/notebooks.py` runs all, `python tests/notebooks.py nbs/05_fusion` those of a room."""
import argparse
import multiprocessing
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
SLOW = {        # take more than a quarter of a minute of processor time, most of them to train networks
    "05_transfer", "05_tile_store", "08_outlier_figures", "10_pipeline", "00_supermapnet", "00_training", "01_hyperparameter_search", "03_network", "09_benchmark",
    "01_attribution_figures", "03_runner", "09_evaluation", "scene", "model"}


def notebooks(places):
    "All notebooks at and below some places, but hidden ones and those in folders with a .notest; the last room's first, for they take long."
    found = {path for place in map(Path, places) for path in ([place] if place.is_file() else place.rglob("*.ipynb"))}
    shown = lambda path: not any(part.startswith((".", "_")) for part in path.relative_to(ROOT).parts)
    return sorted((p for p in map(Path.resolve, found) if shown(p) and not (p.parent / ".notest").exists()), reverse=True)


def execute(path, flags, pipe):
    "A notebook in this process; sends CPU time [s], and whether all cells passed."
    from nbdev.config import get_config
    from nbdev.test import test_nb
    config = get_config(path=ROOT)
    with redirect_stdout(StringIO()):       # what widgets are as text
        passed, _ = test_nb(path, skip_flags=config.tst_flags.split(), force_flags=flags, basepath=config.config_path)
    pipe.send((sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)), passed))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("places", nargs="*", default=[ROOT / "nbs"], help="notebooks and folders of notebooks")
    parser.add_argument("--flags", default="", help="marks of cells (slow, gpu, net) to run too")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--which", choices=["all", "quick", "slow"], default="all", help="those that take long, the others, or all")
    given = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):       # notebooks fill the processors
        os.environ.setdefault(name, "1")
    # Forking what has imported much is safe on Linux alone.
    context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
    if sys.platform == "linux":
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])     # where the server looks
        context.set_forkserver_preload(["everything"])
        first = context.Process(target=int)         # starts the server, which imports, before several threads ask it for processes
        first.start()
        first.join()

    def run(path):
        start, (end, pipe) = time.perf_counter(), context.Pipe(duplex=False)
        process = context.Process(target=execute, args=(path, given.flags.split(), pipe))
        process.start()
        pipe.close()
        try:
            used, passed = end.recv()       # not the exit status: threads that ask for it at once lose it
        except EOFError:        # it died
            used, passed = float("nan"), False
        process.join()
        print(f"{'passed' if passed else 'FAILED'} {path.relative_to(ROOT)} [{time.perf_counter() - start:.1f} s, {used:.1f} of CPU]", flush=True)
        return passed

    chosen = [path for path in notebooks(given.places) if given.which == "all" or (path.stem in SLOW) == (given.which == "slow")]
    with ThreadPoolExecutor(given.workers) as pool:
        passed = list(pool.map(run, chosen))
    print(f"{sum(passed)} of {len(passed)} notebooks passed")
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
