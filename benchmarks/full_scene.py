"""A whole scene: wall time, peak memory and size of the output, for each method through the same writer.

    python benchmarks/full_scene.py                     # 500 and 1000 EnMAP pixels a side: 1500 and 3000 at 10 m, 224 bands
    python benchmarks/full_scene.py --sizes 200 --repeats 1

Scenes are simulated once and kept in --workdir. Every run is a process of its own, the command that a user types;
methods take turns, so that a busy machine is unfair to none. Peak memory is the largest resident set of that process.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMAND = [sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())"]


def execute(*arguments):
    """Run the command; wall time [s], processor time [s], peak memory [GB]."""
    start = time.perf_counter()
    child = subprocess.Popen([*COMMAND, *map(str, arguments)], cwd=Path(__file__).parents[1])
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


def measure(enmap, guide, method, extra):
    """Sharpen once; wall time [s], processor time [s], peak memory [GB], size of the GeoTIFF [GB]."""
    with tempfile.TemporaryDirectory(dir=enmap.parent) as place:
        output = Path(place) / "out.tif"
        used = execute("sharpen", enmap, "--sentinel2", guide, "--output", output, "--method", method, *extra)
        return *used, output.stat().st_size / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 1000], help="EnMAP pixels a side")
    parser.add_argument("--methods", nargs="+", default=["cubic", "subspace"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workdir", type=Path, default=Path("data/full_scene"), help="kept, for the next time")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="the rest goes to the command, such as --cpus 0")
    options = parser.parse_args()
    workdir = options.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(workdir).free / 1e9
    needed = sum(12 * (size / 1000) ** 2 for size in options.sizes)
    if free < needed:
        sys.exit(f"{workdir}: {free:.0f} GB are free, {needed:.0f} GB wanted; choose another --workdir")

    print(f"{'size':>5} {'method':10} {'wall [s]':>9} {'(every run)':24} {'ratio':>6} {'CPU [s]':>8} {'peak [GB]':>10} {'output [GB]':>12}")
    for size in options.sizes:
        enmap, guide = scene(workdir, size)
        runs = {method: [] for method in options.methods}
        for _ in range(options.repeats):
            for method in options.methods:
                runs[method].append(measure(enmap, guide, method, options.options))
        walls = {method: statistics.median(run[0] for run in found) for method, found in runs.items()}
        for method, found in runs.items():
            every = ", ".join(f"{run[0]:.1f}" for run in found)
            ratio, cpu = walls[method] / walls[options.methods[0]], statistics.median(run[1] for run in found)
            memory, output = max(run[2] for run in found), found[0][3]
            print(f"{size:5} {method:10} {walls[method]:9.1f} {every:24} {ratio:6.2f} {cpu:8.1f} {memory:10.2f} {output:12.2f}", flush=True)


if __name__ == "__main__":
    main()
