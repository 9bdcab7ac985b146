"""One Sentinel-2 date against several: Markdown tables of PSNR [dB], SAM [degrees] and ERGAS.

    python benchmarks/dates.py --output benchmarks/dates.md
    python benchmarks/dates.py --build DIR                  # only makes the dates

First the cases with the further dates that come with them, then with dates that are made here from the cases' truth, with a seed: each with its own clouds and
shadows (which the classification tells), changed ground, growth of plants field by field, responses of its bands, gains, offsets, a slow field, noise and shift, all of
which nobody tells. The second table says what a set is worth beside the best of its dates alone. Nothing here is real Sentinel-2 of several dates: expect less.
"""
import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from cases import score
from scipy.ndimage import gaussian_filter, shift

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.reconstruction.output import write_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2, GuideBands
from enmap_sharpener.scenes.pairing import read_guides
from enmap_sharpener.scenes.sentinel2 import write_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen

SHARED = Path(__file__).parents[1] / "../shared"
GIVEN = {"potsdam_hard": "train", "train_h1": "train", "potsdam_train_mismatch": "train", "jasper_h": "jasper", "airport-4_h": "airport-4"}
MADE = "potsdam_train", "jasper_m", "airport-4_m"
GROWTH = np.array([0.6, 0.3, 0.8, -0.6, 0.4, -0.3, -0.5, -0.6, 0.4, 0.7], np.float32)[:, None, None]     # how a band follows when plants dry up


@dataclass(frozen=True)
class Recipe:
    """What a date is like.

    Parameters
    ----------
    clouds
        Share of the ground under clouds; their shadows hide as much again.
    changed
        Patches of other ground.
    growth
        Spread of how far plants of a field have grown, as the logarithm of the brightest bands' change.
    shift
        Most that the image lies off [10 m pixels].
    noise
        Standard deviation [reflectance].
    west
        Share of the ground in the west that it does not cover.
    """

    clouds: float = 0.0
    changed: int = 0
    growth: float = 0.05
    shift: float = 0.0
    noise: float = 0.002
    west: float = 0.0


SETS = {
    "clear": (Recipe(), Recipe(), Recipe()),
    "cloudy, changed": (Recipe(0.3, 2, 0.1),) * 3,
    "shifted": (Recipe(0.15), Recipe(0.3, shift=0.7), Recipe(0.3, shift=0.7)),
    "another season": (Recipe(0.25, growth=0.4),) * 3,
    "half the ground": (Recipe(west=0.5, growth=0), Recipe(0.2, growth=0.1), Recipe(0.2, growth=0.1)),
    "one good, two poor": (Recipe(0.2), Recipe(0.1, 6, 0.7, noise=0.02), Recipe(0.1, 6, 0.7, noise=0.02)),
}


def smooth(rng, shape, sigma):
    """A smooth random field of mean 0 and spread 1."""
    margin = 3 * int(sigma)
    field = gaussian_filter(rng.standard_normal([n + 2 * margin for n in shape]), sigma)[margin:-margin, margin:-margin]
    return ((field - field.mean()) / field.std()).astype(np.float32)


def seen(truth, rng):
    """The truth as Sentinel-2's bands with responses that are a little off, shape (band, y, x), and its grid."""
    with rasterio.open(truth) as file:
        cube, wavelength = file.read().astype(np.float32) / 1e4, np.array([float(file.tags(i)["wavelength"]) for i in file.indexes])
        good = (file.read() != file.nodata).all((1, 2))
        grid = Grid(file.crs, Axis(-file.transform.f, -file.transform.e, file.height), Axis(file.transform.c, file.transform.a, file.width))
    bands = GuideBands(tuple(replace(b, centre=b.centre + rng.normal(0, 2), width=b.width * float(np.exp(rng.normal(0, 0.08)))) for b in SENTINEL2))
    return np.einsum("bn,nyx->byx", bands.responses(wavelength, good)[:, good], cube[good]).astype(np.float32), grid


def build(truth, folder, seed, recipe):
    """A date of the ground in `truth` as a Sentinel-2 folder."""
    rng = np.random.default_rng(seed)
    image, grid = seen(truth, rng)
    shape = grid.shape
    ndvi = (image[3] - image[2]) / (image[3] + image[2] + 1e-3)
    fields = np.digitize(gaussian_filter(ndvi, 1), np.quantile(ndvi, [0.15, 0.3, 0.45, 0.6, 0.75, 0.9]))
    stage = rng.normal(0, 1, 7)[fields] + 0.5 * smooth(rng, shape, 6)
    image = image * np.exp(recipe.growth * stage * np.clip(ndvi, 0, 1) * GROWTH)
    for _ in range(recipe.changed):
        size = rng.integers(4, 12, 2)
        there, here = ([slice(s := int(rng.integers(0, n - k)), s + k) for n, k in zip(shape, size, strict=True)] for _ in range(2))
        image[:, here[0], here[1]] = image[:, there[0], there[1]].copy()
    if recipe.shift:
        by = rng.uniform(-recipe.shift, recipe.shift, 2)
        image = np.stack([shift(band, by, order=3, mode="nearest") for band in image])
    image = image * np.exp(rng.normal(0, 0.08, (10, 1, 1))) * (1 + 0.03 * smooth(rng, shape, 25)) + rng.normal(0, 0.004, (10, 1, 1))
    classes = np.full(shape, 4, np.uint8)
    if recipe.clouds:
        field = smooth(rng, shape, 7)
        white = field > np.quantile(field, 1 - recipe.clouds)
        shadow = np.zeros_like(white)
        shadow[5:, 7:] = white[:-5, :-7]
        edge = gaussian_filter(white.astype(float), 1.2)
        image = image * (1 - 0.55 * gaussian_filter(shadow.astype(float), 1) * (1 - edge)) * (1 - edge) + 0.75 * edge
        classes[shadow], classes[white] = 3, 9
    image = (image + rng.normal(0, recipe.noise, image.shape)).astype(np.float32)
    image[:, :, :int(recipe.west * shape[1])] = np.nan
    half = Grid(grid.crs, *(Axis(a.start, 2 * a.step, a.n // 2) for a in (grid.rows, grid.cols)))
    twenty = Observation.between(half, grid, 0.35).degrade(image[4:]).astype(np.float32)
    names = list(SENTINEL2.names)
    return write_sentinel2(folder, grid.georeference(image[:4], coords={"band": names[:4]}), half.georeference(twenty, coords={"band": names[4:]}),
                           grid.georeference(classes) if recipe.clouds else None)


def scored(case, dates):
    """(PSNR, SAM, ERGAS, share of class 1) of a case with some dates."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output.tif"
        write_cube(sharpen(read_enmap(next(case.glob("ENMAP*"))), read_guides(dates)), output)
        found = score(case, output)
        with rasterio.open(Path(place) / "output_quality.tif") as file:
            classes = file.read(1)
    return found["psnr"], found["sam_land"], found["ergas"], float((classes == 1).sum() / (classes > 0).sum())


def told(found):
    """PSNR / SAM / ERGAS."""
    return f"{found[0]:.2f} / {found[1]:.3f} / {found[2]:.3f}"


def folder_of(shared, case):
    return next(shared / "data" / place / case for place in ("cases", "cases_more") if (shared / "data" / place / case).is_dir())


def given(shared):
    """The first table, line by line."""
    yield from ("| case | one date | and one cloudy | and two cloudy | and a clear one |", "|---|---|---|---|---|")
    for case, name in GIVEN.items():
        own = folder_of(shared, case)
        further = [shared / f"data/cases_more/dates/{name}_s20{i}" for i in ("1h", "2h", "3m")]
        sets = [own], [own, further[0]], [own, *further[:2]], [own, further[2]]
        yield f"| {case} | " + " | ".join(told(scored(own, dates)) for dates in sets) + " |"


def made(shared, place):
    """The second table, line by line."""
    yield from ("| dates | case | each alone (PSNR) | all three | PSNR against the best alone | ERGAS × | class 1: best alone, all |", "|---|---|---|---|---|---|---|")
    for s, (what, recipes) in enumerate(SETS.items()):
        for case in MADE:
            own = folder_of(shared, case)
            dates = [build(own / "truth.tif", place / f"{case}_{s}_{i}", 100 * s + i, recipe) for i, recipe in enumerate(recipes)]
            alone, joined = [scored(own, [d]) for d in dates], scored(own, dates)
            best = max(a[0] for a in alone), min(a[2] for a in alone), max(a[3] for a in alone)
            yield (f"| {what} | {case} | {', '.join(f'{a[0]:.2f}' for a in alone)} | {told(joined)} | {joined[0] - best[0]:+.2f} | {joined[2] / best[1]:.3f} "
                   f"| {best[2]:.0%}, {joined[3]:.0%} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/cases")
    parser.add_argument("--output", type=Path, help="the page to write; printed by default")
    parser.add_argument("--build", type=Path, help="only make the dates, in this folder")
    options = parser.parse_args()
    if options.build:
        for s, recipes in enumerate(SETS.values()):
            for case in MADE:
                for i, recipe in enumerate(recipes):
                    print(build(folder_of(options.shared, case) / "truth.tif", options.build / f"{case}_{s}_{i}", 100 * s + i, recipe))
        return
    with tempfile.TemporaryDirectory() as place:
        parts = ["# Several Sentinel-2 dates", "PSNR [dB] / SAM [degrees] / ERGAS, as `benchmarks/dates.py` writes them.", "## Dates that come with the cases", "\n".join(given(options.shared)),
                 "## Dates made from the truth, with a seed", "\n".join(made(options.shared, Path(place)))]
    text = "\n\n".join(parts) + "\n"
    if options.output:
        write_text(options.output, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
