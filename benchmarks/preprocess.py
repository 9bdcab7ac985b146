"""Preprocessing of a whole scene: seconds, peak memory and MB/s of each stage, as a Markdown table.

    python benchmarks/preprocess.py                               # 1000 EnMAP pixels a side, 224 bands: 3000 x 3000 at 10 m
    python benchmarks/preprocess.py --size 200 --stages crop mask

The scene is simulated once and kept in --workdir; what is made of it is removed at the end. Every stage is a process of its own, the command
that a user types, and starting Python is counted. Peak memory is the largest resident set of that process; MB/s are those of EnMAP's cube
(int16, not compressed). `scrape` is not measured: that is the network's speed.

Two processors that had other work too, 1000 x 1000 EnMAP pixels:

|stage|wall [s]|CPU [s]|peak [GB]|MB/s|all outputs [GB]|
|---|--:|--:|--:|--:|--:|
|crop|22.2|15.1|1.13|20|0.17|
|check|34.7|15.5|0.91|13|0.17|
|mask|8.9|6.2|0.49|50|0.17|
|wald|30.3|26.4|0.90|15|0.56|
|predictions|73.8|59.0|0.95|6|2.33|
|clean|5.0|4.6|0.32|90|2.17|
"""
import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from full_scene import execute, scene

STAGES = ("crop", "check", "mask", "wald", "predictions", "clean")


def size_of(folder):
    """Bytes of all files below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="EnMAP pixels a side")
    parser.add_argument("--workdir", type=Path, default=Path("data/full_scene"), help="where the simulated scene is kept, for the next time")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="later ones need the earlier ones")
    options = parser.parse_args()
    workdir = options.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(workdir).free / 1e9, 20 * (options.size / 1000) ** 2
    if free < needed:
        sys.exit(f"{workdir}: {free:.0f} GB are free, {needed:.0f} GB wanted; choose another --workdir")
    enmap, _ = scene(workdir, options.size)
    cube = options.size**2 * 224 * 2 / 1e6

    print(f"{options.size} x {options.size} EnMAP pixels, {len(os.sched_getaffinity(0))} processors\n")
    print("|stage|wall [s]|CPU [s]|peak [GB]|MB/s|all outputs [GB]|\n|---|--:|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(dir=workdir) as place:
        pairs, output = Path(place) / "enmap", Path(place) / "out"
        pairs.mkdir()
        (pairs / enmap.name).symlink_to(enmap)          # a scene that fails the check is moved, not this one
        for stage in (s for s in STAGES if s in options.stages):
            wall, cpu, memory = execute("preprocess", "--stage", stage, "--enmap-dir", pairs, "--output-dir", output)
            print(f"|{stage}|{wall:.1f}|{cpu:.1f}|{memory:.2f}|{cube / wall:.0f}|{size_of(output) / 1e9:.2f}|", flush=True)


if __name__ == "__main__":
    main()
