"""A guide in the neighbouring UTM zone: a Markdown table of what warping it costs, in PSNR [dB] of the result.

    python benchmarks/warped.py --output benchmarks/warped.md

A guide is observed through a Gaussian point spread function (standard deviation in its pixels), once on EnMAP's own grid and once on that of the neighbouring zone, some five degrees turned, and
there brought back by each resampling; columns are PSNR with the first, and what the others lose. Two kinds of ground, as no guide tells which it shows: *no finer* is a truth that has no detail
below the guide's pixels (band-limited between them), *finer* has twice as many pixels a side as the guide. What is aliased in the second no resampling can tell from what is not.
The second table is a case whose guide was observed in the neighbouring zone: the 20 m bands, made from the truth, are seen there through a blur of 0.45 of their pixels, and the 10 m bands are brought there by the sinc;
the columns are the result with both observed on EnMAP's grid, and what is lost by interpolating the pixels of all bands, as it is done (the 20 m bands are sharpened where they were observed, and then warped), and with the
10 m bands alone. What remains is what the 10 m bands hold below their pixels: the airborne scenes are their own 10 m bands, sharper than a telescope makes them.
The third table is there and back: the guide of a case is warped to the neighbouring zone by GDAL's kernels and by the sinc, 20 m bands too, and given to `sharpen`, which brings it back. What of 20 m bands was warped once is no
regular sampling any more, which sharpening takes it for. By GDAL's kernels less is lost so than by interpolating a second time; by the sinc, which all but undoes itself, more.
"""
import argparse
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from guides import SHARED, grid, truths
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.signal import resample

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.evaluation.metrics import psnr
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import Scene, read_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2, band_responses
from enmap_sharpener.scenes.sentinel2 import Sentinel2, read_sentinel2
from enmap_sharpener.scenes.warping import in_crs_of, places, warped, without_gaps
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair

AROUND, EDGE = 30, 6      # guide pixels that the ground goes on beyond EnMAP, mirrored; and those that are not scored
BLURS = 0.45, 0.55, 0.7
UP = 4                    # pixels of the band-limited ground in one of its own


def lanczos(image, at, reach=3):
    """Values at fractional places by Lanczos' kernel."""
    first = np.floor(at).astype(int)
    steps = np.arange(1 - reach, reach + 1)
    weights = [np.stack([np.sinc(t) * np.sinc(t / reach) for t in a - (f + steps[:, None, None])]) for a, f in zip(at, first, strict=True)]
    weights = [w / w.sum(0) for w in weights]
    index = [np.clip(f + steps[:, None, None], 0, n - 1) for f, n in zip(first, image.shape, strict=True)]
    return sum(weights[0][i] * weights[1][j] * image[index[0][i], index[1][j]] for i in range(len(steps)) for j in range(len(steps)))


RESAMPLED = {
    "cubic spline": lambda image, at: map_coordinates(image, at, order=3, mode="nearest"),
    "spline of order 5": lambda image, at: map_coordinates(image, at, order=5, mode="nearest"),
    "Lanczos 3": lanczos,
}
DONE = "as it is done (sinc and spline)"


def ground_of(image):
    """A band-limited image between its pixels: mirrored, and made finer by Fourier's transform."""
    wide = np.pad(image, [(0, n) for n in image.shape], mode="symmetric")
    for axis in (0, 1):
        wide = resample(wide, UP * wide.shape[axis], axis=axis)
    return wide[:UP * image.shape[0], :UP * image.shape[1]]


def neighbour(own):
    """The grid of the zone to the west around a grid."""
    crs, step = CRS.from_epsg(own.crs.to_epsg() - 1), own.cols.step
    west, south, east, north = transform_bounds(own.crs, crs, *own.bounds, densify_pts=21)
    return Grid(crs, Axis(-np.floor(north / step) * step, step, int((north - south) // step)), Axis(np.ceil(west / step) * step, step, int((east - west) // step)))


def result(enmap, image, where, wanted):
    """PSNR of the result with four bands of 10 m on a grid as the guide."""
    guide = Sentinel2(where.georeference(image.astype("f4"), coords={"band": list(SENTINEL2.finest.names)}, name="reflectance"), None, None, Path("guide"), enmap.metadata.start)
    out = sharpen(enmap, guide, uncertainty=False).to_dataarray().sel(x=wanted.x, y=wanted.y, method="nearest").values
    cut = slice(EDGE, -EDGE)
    return float(np.mean(psnr(*(np.moveaxis(v[:, cut, cut].astype(float), 0, -1) for v in (out, wanted.values)))))


def observed(truth, bands, scene, blur, finer, resampled=RESAMPLED, seed=0):
    """PSNR with the guide on EnMAP's grid, and with that of the neighbouring zone by each resampling and as it is done; `finer` is the truth's pixels in one of the guide."""
    rng, step = np.random.default_rng(seed), 3 * finer
    truth = truth[:, :truth.shape[1] // step * step, :truth.shape[2] // step * step]
    rows, cols = truth.shape[1:]
    full, fine, coarse = (grid((rows // k, cols // k), 10 * k / finer) for k in (1, finer, step))
    low = Observation.between(coarse, full, 0.45, (0.1, -0.15)).degrade(truth)
    low += rng.standard_normal(low.shape) * (0.0005 + 0.004 * low.mean((1, 2), keepdims=True))
    cube = coarse.georeference(low.astype("f4"), coords=bands.coords, name="reflectance").chunk()
    enmap = Scene(cube, replace(bands, good=np.ones(len(bands), bool)), scene.metadata, {}, Path("enmap"))
    wanted = fine.georeference(truth.reshape(len(truth), rows // finer, finer, cols // finer, finer).mean((2, 4)))
    seen = np.tensordot(band_responses(bands.wavelength, SENTINEL2.finest, np.ones(len(bands), bool)), truth, 1)
    wide = [(0, 0)] + 2 * [(AROUND * finer, AROUND * finer)]
    grounds = [ground_of(gaussian_filter(band, blur * finer)) for band in np.pad(seen, wide, mode="symmetric")]
    around = lambda g, n: g.part(slice(-n, g.ny + n), slice(-n, g.nx + n))
    under = around(full, AROUND * finer)
    see = lambda g, n: (image := np.stack([map_coordinates(b, UP * places(under, g), order=5, mode="nearest") for b in grounds])) * (1 + 0.005 * np.random.default_rng(n).standard_normal(image.shape))
    own, away, target = around(fine, AROUND), neighbour(around(fine, AROUND)), around(fine, EDGE)
    there, back = see(away, 2), places(away, target)
    return {"own": result(enmap, see(own, 1), own, wanted), **{name: result(enmap, np.stack([how(band, back) for band in there]), target, wanted) for name, how in resampled.items()},
            DONE: result(enmap, there, away, wanted)}


def sources():
    """Name, truth, bands, scene, and pixels of the truth in one of the guide."""
    for name, truth, bands, scene in truths(("jasper_m", "simulated")):
        yield f"{name}, no finer", truth, bands, scene, 1
    scene, _, truth = simulate_pair(size=130, seed=7, clouds=0, rotation=0)
    rows, cols = (n // 2 for n in truth.shape[1:])
    half = next(n for n in range(min(rows, cols), 0, -1) if np.isfinite(truth.values[20, rows - n:rows + n, cols - n:cols + n]).all())      # no data at the rim
    values = truth.values[:, rows - half:rows + half, cols - half:cols + half]
    good = np.flatnonzero(scene.bands.good & np.isfinite(values).all((1, 2)))[::2]
    yield "simulated, finer", values[good], scene.bands.take(good), scene, 2


KERNELS = Resampling.bilinear, Resampling.cubic, Resampling.cubic_spline, Resampling.lanczos


def at_multiples(image, like):
    """An image moved as far as brings the grid `like` to multiples of two of its pixels, where a warped guide lies."""
    own = Grid.of(image)
    rows, cols = (replace(a, start=a.start - b.start % (2 * b.step)) for a, b in ((own.rows, like.rows), (own.cols, like.cols)))
    return Grid(own.crs, rows, cols).georeference(image.values, coords={k: v for k, v in image.coords.items() if v.dims == ("band",)}, name=image.name)


class Case:
    """A case on multiples of two of its guide's pixels, where a warped guide lies."""

    def __init__(self, place):
        scene, guide = read_enmap(next(place.glob("ENMAP*"))), replace(read_sentinel2(place), scl=None)
        like = Grid.of(guide.bands10)
        move = lambda image: None if image is None else at_multiples(image, like)
        self.truth, self.scene = move(read_cube(place / "truth.tif")), replace(scene, cube=move(scene.cube).chunk(), quality={})
        self.guide = replace(guide, bands10=move(guide.bands10), bands20=move(guide.bands20))

    def score(self, guide):
        """PSNR of the result with a guide."""
        out = sharpen(self.scene, guide, uncertainty=False).to_dataarray().sel(x=self.truth.x, y=self.truth.y, method="nearest", tolerance=1)
        cut = slice(EDGE, -EDGE)
        a, b = (np.moveaxis(v.values.astype(float), 0, -1)[cut, cut] for v in (out, self.truth))
        held = np.isfinite(a).all((0, 1)) & np.isfinite(b).all((0, 1))
        return float(np.mean(psnr(a[..., held], b[..., held])))


def away(image):
    """An image brought to the neighbouring zone by the sinc."""
    return warped(image.chunk(), neighbour(Grid.of(image)), np.nan).compute()


def there_and_back(place):
    """PSNR of a case with its guide, and with that as GDAL and the sinc bring it to the neighbouring zone."""
    case = Case(place)
    stacks = {name: image for name in ("bands10", "bands20") if (image := getattr(case.guide, name)) is not None}
    gdal = lambda image, how: image.rio.reproject(neighbour(Grid.of(image)).crs, resolution=abs(image.rio.resolution()[0]), resampling=how, nodata=np.nan)
    warp = lambda how: replace(case.guide, **{name: how(image) for name, image in stacks.items()})
    return {"own": case.score(case.guide), **{how.name: case.score(warp(lambda image, how=how: gdal(image, how))) for how in KERNELS}, DONE: case.score(warp(away))}


BLUR20 = 0.45


def twice(grid):
    """The grid of pixels of twice the size; a grid of an even number of rows and columns."""
    return Grid(grid.crs, *(replace(a, step=2 * a.step, n=a.n // 2) for a in (grid.rows, grid.cols)))


def seen20(image):
    """An image at 10 m as 20 m bands of the same zone, NaN where a pixel under them is."""
    image = image[:, :image.shape[1] // 2 * 2, :image.shape[2] // 2 * 2]
    grid, missing = Grid.of(image), np.isnan(image.values).any(0)
    low = Observation.between(twice(grid), grid, BLUR20).degrade(without_gaps(image.values, missing))
    low[:, missing.reshape(grid.ny // 2, 2, -1, 2).any((1, 3))] = np.nan
    return twice(grid).georeference(low.astype("f4"), coords={"band": image.band.values}, name="reflectance")


def observed_there(place):
    """PSNR of a case whose guide was observed in EnMAP's zone, and in the neighbouring one: with its pixels interpolated, as it is done, and of the 10 m bands alone against the same."""
    case, table = Case(place), SENTINEL2.coarser
    good = np.isfinite(case.truth.values).all((1, 2))
    bands = np.tensordot(band_responses(case.truth.wavelength.values[good], table), case.truth.values[good], 1)
    ground = Grid.of(case.truth).georeference(bands.astype("f4"), coords={"band": list(table.names)}, name="reflectance")
    here, there = (replace(case.guide, bands10=ten, bands20=seen20(image)) for ten, image in ((case.guide.bands10, ground), (away(case.guide.bands10), away(ground))))
    alone = lambda guide: replace(guide, bands20=None)
    own = case.score(here)
    return {"own": own, "interpolated": case.score(in_crs_of(case.scene, there)), DONE: case.score(there), "four bands": own + case.score(alone(there)) - case.score(alone(here))}


def table(head, found):
    """Lines of a Markdown table: the first number as it is, what the others lose."""
    yield from (f"| {' | '.join(head)} |", "|" + "---|" * len(head))
    for name, (own, *others) in found:
        yield f"| {' | '.join([*name, f'{own:.2f}', *(f'{v - own:+.2f}' for v in others)])} |"


def main():
    """Read arguments, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, help="Markdown file; printed by default")
    parser.add_argument("--cases", nargs="*", default=["cases/potsdam_train", "cases/potsdam_train_mismatch", "cases/sanfrancisco", "cases_more/jasper_m", "cases_more/airport-4_m", "cases_more/salton_m"])
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    first = [((name, f"{blur:g}"), observed(*rest[:3], blur, rest[3]).values()) for name, *rest in sources() for blur in BLURS]
    lines = [*table(["ground", "blur of the guide", "own grid [dB]", *RESAMPLED, DONE], first), ""]
    folders = [SHARED / "data" / name for name in given.cases]
    second = [((case.name,), observed_there(case).values()) for case in folders if (case / "sentinel2_20m.tif").is_file()]
    lines += [*table(["case", "observed in EnMAP's zone [dB]", "all interpolated", "as it is done", "10 m bands alone"], second), ""]
    third = [((case.name,), there_and_back(case).values()) for case in folders if case.is_dir()]
    lines += table(["case", "as it is [dB]", *(how.name for how in KERNELS), "sinc"], third)
    print(*lines, sep="\n")
    if given.output:
        write_text(given.output, "# A guide in the neighbouring zone\n\n" + __doc__.split("\n\n", 2)[2].strip() + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
