"""Benchmark cases from a real EnMAP L2A image, by Wald's protocol: an EnMAP product at 90 m, Sentinel-2 files at 30 and 60 m, and the truth at 30 m.

    python benchmarks/build_cases.py enmap_potsdam.tif data/cases           # the cases of Potsdam
    python benchmarks/build_cases.py SPECTRAL_IMAGE.TIF data/cases --name fields
    python benchmarks/cases.py --cases data/cases

`enmap_potsdam.tif` belongs to the example data of the EnMAP-Box (its menu Project, Add Example Data): a part of scene DT0000001867 of 24 July 2022, EnMAP data (c) DLR 2022.
Two windows of it are cut, one to develop on and one to look at once. Any other EnMAP image becomes one case, as a whole. Of each there is a second, NAME_mismatch, as if both
sensors had looked on other days: gains, offsets, a slow field, noise, a shift of a fraction of a pixel and another blur, none of which is told. Reflectance comes from the image as it is:
nothing here knows more of Sentinel-2 than the responses of its bands (`scenes.guide_bands`).
"""
import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from dates import smooth

from enmap_sharpener.core.errors import EnmapError
from enmap_sharpener.core.grid import Axis, Grid, axes
from enmap_sharpener.core.operators import NOMINAL_SIGMA, Observation
from enmap_sharpener.core.raster import NODATA, SCALE, create_raster
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import write_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.scenes.metadata import band_table, tag_bands
from enmap_sharpener.scenes.sentinel2 import write_sentinel2

SCENE = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T000000Z"
USUAL_WIDTH = 8.0     # of EnMAP's bands, where the image does not tell [nm]
RATIO = 3      # of EnMAP's pixels to Sentinel-2's
POTSDAM = {"potsdam_train": (364095, 5808165, 366975, 5809965), "potsdam_validation": (365055, 5805285, 366855, 5807085)}    # west, south, east, north [m], EPSG:32633


@dataclass(frozen=True)
class Mismatch:
    """How the two sensors differ beyond their pixels and bands; by default not at all.

    Parameters
    ----------
    gain, offset
        Spread of the bands' factors, and of what is added to them [reflectance].
    field
        Spread of a slow factor over the image.
    noise
        Of the guide [reflectance].
    shift, blur
        (y, x) of EnMAP's pixels [EnMAP pixels], and its point spread function's standard deviation [EnMAP pixels].
    """

    gain: float = 0.0
    offset: float = 0.0
    field: float = 0.0
    noise: float = 0.0
    shift: tuple = (0.0, 0.0)
    blur: float = NOMINAL_SIGMA


RECIPES = {"": Mismatch(), "_mismatch": Mismatch(0.06, 0.004, 0.03, 0.002, (0.22, -0.17), 0.48)}


def windows(path, name):
    """(name, truth) of what becomes a case: the two windows of Potsdam where they lie in it, else the whole."""
    cube = read_cube(path)
    grid = Grid.of(cube)
    inside = lambda axis, low, high: np.flatnonzero((axis.centres > low) & (axis.centres < high))
    for case, (west, south, east, north) in ({} if name else POTSDAM).items():
        rows, cols = inside(grid.rows, -north, -south), inside(grid.cols, west, east)
        if grid.crs.to_epsg() == 32633 and len(rows) == (north - south) / 30 and len(cols) == (east - west) / 30:
            yield case, cube.isel(y=rows, x=cols)
    if name:
        size = [n // (2 * RATIO) * 2 * RATIO for n in grid.shape]      # whole pixels at 90 and 60 m
        yield name, cube.isel(y=slice(0, size[0]), x=slice(0, size[1]))


def coarser(grid, factor):
    """The grid of pixels `factor` times as large."""
    return Grid(grid.crs, *(Axis(a.start, a.step * factor, a.n // factor) for a in axes(grid)))


def write_truth(cube, bands, folder):
    """The truth as int16 GeoTIFF with wavelengths."""
    numbers, grid = np.where(np.isfinite(cube.values), np.rint(cube.values / SCALE), NODATA).astype(np.int16), Grid.of(cube)
    with create_raster(folder / "truth.tif", count=len(numbers), shape=grid.shape, dtype="int16", crs=grid.crs, transform=grid.transform, nodata=NODATA) as file:
        file.write(numbers)
        tag_bands(file, bands)


def build(cube, folder, recipe, rng):
    """One case in `folder`."""
    cube = cube.isel(band=np.argsort(cube.wavelength.values, kind="stable"))
    grid, nm, values = Grid.of(cube), cube.wavelength.values, np.ascontiguousarray(cube.values, np.float32)
    bands = band_table(nm, cube.fwhm.values if "fwhm" in cube.coords else USUAL_WIDTH, detector=cube.detector.values if "detector" in cube.coords else None)
    good = np.isfinite(values).all((1, 2))
    coarse, half = coarser(grid, RATIO), coarser(grid, 2)
    seen = np.full((len(values), *coarse.shape), np.nan, np.float32)
    seen[good] = Observation.between(coarse, grid, recipe.blur, recipe.shift).degrade(values[good])
    guide = np.einsum("bn,nyx->byx", SENTINEL2.responses(nm, good)[:, good], values[good])
    guide = guide * np.exp(recipe.gain * rng.standard_normal((len(guide), 1, 1))) * (1 + recipe.field * smooth(rng, grid.shape, 25))
    guide = (guide + recipe.offset * rng.standard_normal((len(guide), 1, 1)) + recipe.noise * rng.standard_normal(guide.shape)).astype(np.float32)
    twenty = Observation.between(half, grid).degrade(np.ascontiguousarray(guide[SENTINEL2.coarse]))
    named = lambda image, where, table: where.georeference(image, coords={"band": list(table.names)})
    folder.mkdir(parents=True)
    write_enmap(folder, coarse.georeference(seen), bands, scene_id=SCENE)
    write_sentinel2(folder, named(guide[SENTINEL2.fine], grid, SENTINEL2.finest), named(twenty, half, SENTINEL2.coarser))
    write_truth(cube, bands, folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, help="EnMAP L2A reflectance with wavelengths in its bands' tags or metadata")
    parser.add_argument("folder", type=Path, help="where a folder for each case is made")
    parser.add_argument("--name", help="of the one case that the whole image becomes; without it the image is Potsdam's")
    options = parser.parse_args()
    try:
        found = list(windows(options.image, options.name))
    except EnmapError as error:
        sys.exit(str(error))
    if not found:
        sys.exit(f"{options.image}: does not hold the windows of Potsdam ({', '.join(POTSDAM)}); name the case that the whole image is to become with --name")
    for seed, (name, cube) in enumerate(found):
        for ending, recipe in RECIPES.items():
            folder = options.folder / f"{name}{ending}"
            if folder.exists():
                print(f"{folder}: is there already")
                continue
            build(cube, folder, recipe, np.random.default_rng(seed))
            print(f"{folder}: {cube.sizes['x']} x {cube.sizes['y']} pixels of {abs(cube.rio.resolution()[0]):g} m")


if __name__ == "__main__":
    main()
