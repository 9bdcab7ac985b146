"""A strip's memory: one, two and three tiles of a datatake sharpened as one image, each by a process of its own.

    python benchmarks/strips.py                       # three tiles of 1000 x 1000 EnMAP pixels: some ten minutes, and 8 GB of disk
    python benchmarks/strips.py --size 200 --tiles 1 3 --output benchmarks/strips.md

The tiles are one simulated scene, again and again along the track, with twenty rows in common. Peak memory is the largest resident set of the process,
of which *own* is what no file holds; the rest are pages of files that the system takes back when it needs them.
"""
import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import dask.array as da
from full_scene import machine, scene

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen

COMMON = 20


def moved(image, metres):
    """An image that lies some metres farther south."""
    own = Grid.of(image)
    grid = replace(own, rows=replace(own.rows, start=own.rows.start + metres))
    return grid.georeference(image.data, coords={name: c for name, c in image.coords.items() if c.dims == ("band",)}, name=image.name, attrs=image.attrs)


def tile(whole, number, metres):
    """A scene as the `number`th tile of its datatake."""
    told = replace(whole.metadata, id=re.sub(r"_\d{3}_V", f"_{number:03d}_V", whole.metadata.id))
    return replace(whole, cube=moved(whole.cube, metres), quality={name: moved(layer, metres) for name, layer in whole.quality.items()}, metadata=told, source=Path(f"tile {number}"))


def along(image, rows, number):
    """An image once for each tile, `rows` rows apart."""
    own, data = Grid.of(image), da.concatenate([image.data[:, :rows]] * (number - 1) + [image.data], axis=1)
    return replace(own, rows=replace(own.rows, n=data.shape[1])).georeference(data, coords={"band": image.band.values}, name=image.name)


def own_memory():
    """Memory that no file holds [GB]; 0 where the system does not tell."""
    status = Path("/proc/self/status")
    return next((int(line.split()[1]) / 1e6 for line in status.read_text().splitlines() if line.startswith("RssAnon")), 0.0) if status.exists() else 0.0


def one(enmap, guide, number, place):
    """Sharpen as many tiles to a file; rows of the strip, wall and processor time [s], own and largest memory [GB]."""
    most, start = [0.0], time.perf_counter()

    def watch():
        while True:
            most[0] = max(most[0], own_memory())
            time.sleep(0.05)

    threading.Thread(target=watch, daemon=True).start()
    whole, image = read_enmap(enmap), replace(read_sentinel2(guide), scl=None)
    rows = whole.cube.shape[1] - COMMON
    pixel = Grid.of(whole.cube).rows.step
    tiles = [tile(whole, n + 1, n * rows * pixel) for n in range(number)]
    image = replace(image, **{name: along(stack, round(rows * pixel / Grid.of(stack).rows.step), number) for name in ("bands10", "bands20") if (stack := getattr(image, name)) is not None})
    plan = sharpen(tiles, image)
    write_scene(plan, Path(place) / "strip.tif", scene=tiles, guide=image)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return rows * (number - 1) + whole.cube.shape[1], time.perf_counter() - start, used.ru_utime + used.ru_stime, most[0], used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


HEAD = ("| tiles | rows [EnMAP pixels] | wall [s] | CPU [s] | own memory [GB] | peak memory [GB] |", "|---|---|---|---|---|---|")
PAGE = "# A strip\n\n{about}\n\n{machine}; `python benchmarks/strips.py --output benchmarks/strips.md` makes this page.\n\n{table}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="EnMAP pixels a side of a tile")
    parser.add_argument("--tiles", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--workdir", type=Path, default=Path("data/full_scene"), help="scenes are kept there, for the next time")
    parser.add_argument("--output", type=Path, help="also write the page")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        enmap, guide, place = options.one
        return print(json.dumps(one(enmap, guide, options.tiles[0], place)))
    workdir = options.workdir.resolve()
    workdir.mkdir(parents=True, exist_ok=True)
    enmap, guide = scene(workdir, options.size)
    table = list(HEAD)
    print(*HEAD, sep="\n", flush=True)
    for number in options.tiles:
        with tempfile.TemporaryDirectory(dir=workdir) as place:
            done = subprocess.run([sys.executable, __file__, "--tiles", str(number), "--one", enmap, guide, place], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-2000:])
        rows, wall, cpu, own, most = json.loads(done.stdout.splitlines()[-1])
        table.append(f"| {number} | {rows} | {wall:.0f} | {cpu:.0f} | {own:.2f} | {most:.2f} |")
        print(table[-1], flush=True)
    if options.output:
        write_text(options.output, PAGE.format(about=__doc__.rpartition("\n\n")[2].strip(), machine=machine(), table="\n".join(table)))


if __name__ == "__main__":
    main()
