"""How far a guide is trusted that shows the right ground, and one that does not, at several scene sizes.

    python benchmarks/trust.py --output benchmarks/trust.md
    python benchmarks/trust.py --sizes 40 100 --grounds simulated

Grounds: simulated landscapes, and Sentinel-2's own texture (`../shared/data/sentinel2_more`: fields, forest, marsh and coast), of which an EnMAP scene is made with spectra drawn through its ten bands.
Guides: the right one as it is, brighter, hazy and one pixel off; of another place; the same turned, mirrored and moved; the same value everywhere, saturated, zero; noise; clouds that no mask knows;
night. What is told is the trust of the middle of the scene [%], and what both have in common.

Then changed ground: pairs made of the truths of the cases, with patches of other ground copied into the guide; the PSNR there and all around them, of the result, of EnMAP interpolated by cubic splines
(`--method cubic`), and of EnMAP made consistent with the geometry that only the guide gives.
"""
import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import SHARED, find_cases, places
from rasterio.crs import CRS
from scipy.ndimage import binary_dilation, gaussian_filter, zoom
from uncertainty import FROM, between_bands, observed, read_truth, site

from enmap_sharpener.core.grid import Axis, Grid, axes
from enmap_sharpener.core.operators import Observation, linear_stencil
from enmap_sharpener.fusion.measurement import align_guide
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.tuning import DEFAULT
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import Sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair
from enmap_sharpener.simulation.sensors import noise_sigma

SIZES = (40, 60, 100, 200, 500)
LARGEST = {"simulated": 500, "fields and coast": 200}     # EnMAP pixels that a ground has, and as many again beside it
SEEDS = 12, 13, 41, 42, 43
RIM = 3              # fine pixels at the border that are not looked at
CORNER = 40, 30      # of the first window of the real image [10 m pixels]


def clouds(values, rng):
    """A closed, bright cover with soft structure."""
    soft = gaussian_filter(rng.standard_normal(values.shape[1:]), 12)
    return np.broadcast_to(0.55 + 0.12 * soft / soft.std(), values.shape) + 0.004 * rng.standard_normal(values.shape)


RIGHT = {"right": lambda v, o, g: v, "brighter": lambda v, o, g: 1.4 * v + 0.03, "hazy": lambda v, o, g: 0.5 * v + 0.1, "one pixel off": lambda v, o, g: np.roll(v, 3, 2)}
WRONG = {"another place": lambda v, o, g: o, "turned": lambda v, o, g: v[:, ::-1, ::-1], "mirrored": lambda v, o, g: v[:, ::-1], "transposed": lambda v, o, g: v.transpose(0, 2, 1),
         "moved by a third": lambda v, o, g: np.roll(v, 2 * (v.shape[1] // 6), 1), "flat": lambda v, o, g: 0 * v + 0.15, "saturated": lambda v, o, g: 0 * v + 1.6, "zeros": lambda v, o, g: 0 * v,
         "noise": lambda v, o, g: g.uniform(0, 0.4, v.shape), "clouds everywhere": lambda v, o, g: clouds(v, g), "night": lambda v, o, g: 0.002 + 0.001 * g.standard_normal(v.shape)}


def real_pair(size, shared, place):
    """A scene and a guide made of a window of a Sentinel-2 image; EnMAP's spectra go straight through the ten bands."""
    with np.load(shared / "data/sentinel2_more/s2_delmarva_32618_native_L1C.npz") as file:
        ten, twenty = file["ten"], file["tw"]
    n, (row, col) = 3 * size + 18, place
    part, half = ten[:, row:row + n, col:col + n] / 1e4, twenty[:, row // 2:(row + n) // 2, col // 2:(col + n) // 2] / 1e4
    template = simulate_pair(size=12, seed=0)[0]
    bands, rng = template.bands.take(np.flatnonzero(template.bands.good)[::2]), np.random.default_rng(0)
    fine = Grid(CRS.from_epsg(32618), Axis(0.0, 10.0, n), Axis(0.0, 10.0, n))
    all_ten = np.concatenate([part, zoom(half, (1, 2, 2), order=1)])
    order, at, w = between_bands(bands.wavelength)
    w = w[:, None]
    mix = np.zeros((len(bands), 10))
    np.put_along_axis(mix, order[at][:, None], 1 - w, 1)
    np.put_along_axis(mix, order[at + 1][:, None], w, 1)
    coarse = Grid(fine.crs, *(Axis(a.start + 9 * a.step, 3 * a.step, size) for a in axes(fine)))
    seen = Observation.between(coarse, fine, 0.45, (0.15, -0.1)).degrade(np.ascontiguousarray(np.moveaxis(all_ten, 0, -1), np.float32), axes=(0, 1))
    cube = np.moveaxis(seen @ mix.T, -1, 0)
    cube = cube + noise_sigma(cube, bands) * rng.standard_normal(cube.shape)
    grid20 = Grid(fine.crs, *(Axis(a.start, 2 * a.step, n // 2) for a in axes(fine)))
    scene = replace(template, cube=coarse.georeference(cube.astype(np.float32)).chunk(), bands=replace(bands, good=np.ones(len(bands), bool)), quality={})
    return scene, Sentinel2(fine.georeference(part.astype(np.float32)), grid20.georeference(half.astype(np.float32)), None, Path("real"))


def grounds(name, size, shared):
    """Scene, guide, and the guide of another place."""
    if name == "simulated":
        scene, guide = simulate_pair(size=size, seed=3)[:2]
        return replace(scene, quality={}), replace(guide, scl=None), simulate_pair(size=size, seed=4)[1]
    return *real_pair(size, shared, CORNER), real_pair(size, shared, (CORNER[0] + 900, CORNER[1] + 1100))[1]


def altered(guide, other, change, seed=0):
    """The guide with both stacks changed."""
    rng, stacks = np.random.default_rng(seed), {}
    for name in ("bands10", "bands20"):
        image, there = getattr(guide, name), getattr(other, name).values
        stacks[name] = image.copy(data=np.ascontiguousarray(change(image.values, there, rng), np.float32))
    return replace(guide, **stacks)


def trusted(scene, guide):
    """Mean trust of the middle [%] and the verdict, of the whole and of the 20 m bands' presence."""
    aligned = align_guide(Pair(scene, guide), threads=2)
    rim = max(2, min(aligned.pair.coarse.shape) // 10)
    middle = (slice(rim, -rim),) * 2
    return 100 * float(aligned.whole.trust[middle].mean()), aligned.ground


def with_patches(guide, seed, patches=6):
    """The guide with patches of 8 to 15 of its pixels that show other ground, and where they are, bool, on the grid of its 10 m bands."""
    rng, ten, twenty = np.random.default_rng(seed), guide.bands10.values.copy(), guide.bands20.values.copy()
    where = np.zeros(ten.shape[1:], bool)
    for _ in range(patches):
        n = int(rng.integers(4, 8))
        (y, x), (v, u) = ((int(rng.integers(2, s - n - 2)) for s in twenty.shape[1:]) for _ in range(2))
        twenty[:, y:y + n, x:x + n] = twenty[:, v:v + n, u:u + n].copy()
        ten[:, 2 * y:2 * (y + n), 2 * x:2 * (x + n)] = ten[:, 2 * v:2 * (v + n), 2 * u:2 * (u + n)].copy()
        where[2 * y:2 * (y + n), 2 * x:2 * (x + n)] = True
    return replace(guide, bands10=guide.bands10.copy(data=ten), bands20=guide.bands20.copy(data=twenty)), where


def alone(scene, plan):
    """EnMAP interpolated linearly and made consistent, with the measured geometry; shape (good band, y, x)."""
    cube, coarse, fine = scene.cube.values, Grid.of(scene.cube), plan.grid
    out = np.full((len(scene.bands), *fine.shape), np.nan, np.float32)
    for detector, vnir in (("VNIR", True), ("SWIR", False)):
        use = np.flatnonzero(scene.bands.good & (scene.bands.vnir == vnir))
        found, y = plan.report["alignment"][detector], cube[use]
        spread = Observation(linear_stencil(coarse.rows, fine.rows, found["shift"][0]), linear_stencil(coarse.cols, fine.cols, found["shift"][1]))
        out[use] = Observation.between(coarse, fine, found["sigma"], found["shift"]).consistent(spread.degrade(y), y)
    return out[scene.bands.good]


def onto(image, grid, fine):
    """An image on `grid` at the centres of the pixels of `fine`; rows and columns outside are those of the rim."""
    rows, cols = (np.clip(np.round(a.index(b.centres)).astype(int), 0, a.n - 1) for a, b in zip(axes(grid), axes(fine), strict=True))
    return image[rows][:, cols]


def changed_ground(name, scene, guide, truth, grid, seed, tuning):
    """A line of the table: PSNR of the result, of cubic interpolation and of EnMAP made consistent, on changed ground and around it."""
    guide, where = with_patches(guide, seed)
    plan = sharpen(scene, guide, uncertainty=False, tuning=tuning)
    cube, trust = plan.to_dataarray().values[scene.bands.good], plan.quality_dataarray().values[1]
    true, changed = np.moveaxis(onto(truth, grid, plan.grid), -1, 0), onto(where, Grid.of(guide.bands10), plan.grid)
    inner = np.zeros(changed.shape, bool)
    inner[RIM:-RIM, RIM:-RIM] = True
    psnr = lambda image, at: -10 * np.log10(np.nanmean((image - true)[:, at & inner] ** 2))
    cubic, wide = sharpen(scene, guide, "cubic", uncertainty=False).to_dataarray().values[scene.bands.good], binary_dilation(changed, iterations=6)
    images = cube, cubic, alone(scene, plan)
    cells = [" / ".join(f"{psnr(image, at):.2f}" for image in images) for at in (changed, wide & ~changed, ~wide)]
    return f"| {name} | {int(changed.sum())} | {trust[changed & inner].mean():.0f} | {' | '.join(cells)} |"


def changed_table(shared, tuning):
    """The lines of the table of changed ground."""
    folders = find_cases(places(shared))
    for name in FROM:
        scene = read_enmap(next(folders[name].glob("ENMAP*")))
        truth, grid = read_truth(folders[name], np.flatnonzero(scene.bands.good))
        for seed in SEEDS:
            line = changed_ground(f"{site(name)}, seed {seed}", *observed(scene, truth, grid, 3, seed, False), np.nan_to_num(truth), grid, seed, tuning)
            print(line, file=sys.stderr, flush=True)
            yield line


def where_worse(lines):
    """Sentences on the rows of the table of changed ground in which the result is worse than EnMAP without a guide."""
    pairs = np.array([[[float(v) for v in cell.split("/")] for cell in line.strip("| ").split("|")[3:]] for line in lines])     # row, place, image
    told = []
    for k, what in ((1, "cubic interpolation"), (2, "EnMAP made consistent with the guide's geometry")):
        gain = pairs[..., 0] - pairs[..., k]
        where = [f"{place} in {(g < 0).sum()} (mean {g.mean():+.2f} dB, worst {g.min():+.2f})" for place, g in zip(("on the patches", "around them", "elsewhere"), gain.T, strict=True)]
        told.append(f"Against {what}: {'; '.join(where)}")
    return (f"**Where the result is worse than EnMAP alone**, of {len(pairs)} rows. {'. '.join(told)}. Ground that changed into what looks alike is trusted, and its detail is the guide's: "
            "see the trust in the quality layer where ground may have changed.")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="EnMAP pixels a side")
    parser.add_argument("--grounds", nargs="+", default=list(LARGEST), choices=list(LARGEST))
    parser.add_argument("--guides", nargs="+", default=[*RIGHT, *WRONG])
    parser.add_argument("--output", type=Path, help="the page; printed by default")
    parser.add_argument("--no-changed", action="store_true", help="without the table of changed ground")
    parser.add_argument("--shared", type=Path, default=SHARED)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = ["# How far a guide is trusted", "", "Made by `benchmarks/trust.py`. Mean trust of the middle of the scene [%]; in brackets the detail in common and what chance gives at most [%].", "",
             "| ground, EnMAP pixels | " + " | ".join(options.guides) + " |", "|---" * (1 + len(options.guides)) + "|"]
    for name in options.grounds:
        for size in options.sizes:
            if size > LARGEST[name]:
                continue
            scene, guide, other = grounds(name, size, options.shared)
            row = []
            for what in options.guides:
                trust, ground = trusted(scene, altered(guide, other, {**RIGHT, **WRONG}[what]))
                row.append(f"{trust:.0f} ({100 * ground.shared:.0f}/{100 * ground.chance:.0f})")
                print(name, size, what, row[-1], ground.verdict, f"{ground.extent:.3f}", file=sys.stderr, flush=True)
            lines.append(f"| {name}, {size} | " + " | ".join(row) + " |")
    if not options.no_changed:
        rows = [*changed_table(options.shared, DEFAULT)]
        lines += ["", "Changed ground: patches of other ground in the guide (some of it looks like what it replaces, and is rightly trusted). PSNR [dB] of the result / of cubic interpolation / of EnMAP made consistent with the shift and blur that only the guide tells, on the patches, up to six pixels around them, and elsewhere.", "",
                  "| ground | pixels | trust there [%] | patches | around | elsewhere |", "|---" * 6 + "|", *rows, "", where_worse(rows)]
    text = "\n".join(lines) + "\n"
    options.output.write_text(text) if options.output else print(text)


if __name__ == "__main__":
    main()
