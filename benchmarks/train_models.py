"""Make the training data of the shipped networks from ../shared/data and train them.

    python benchmarks/train_models.py --data ../shared/data --workdir lessons --output output/models/supErMAPnet.keras

Lessons: Potsdam's train file (half of them), AVIRIS over California and the Salton Sea, simulated landscapes; each seen several times with drawn
blur, shift and light. Validation tiles are other draws of a part of the cubes that training does not see. Made stores are used again.
"""
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from lessons import resampled, write_lesson
from scipy.io import loadmat

from enmap_sharpener.core.errors import NoValidPixels
from enmap_sharpener.simulation.scene import simulate_pair
from enmap_sharpener.simulation.sensors import enmap_bands


def tif(path):
    "Cube [reflectance] and wavelengths [nm] of a GeoTIFF with the wavelengths in its tags."
    with rasterio.open(path) as file:
        wavelength = np.array([float(file.tags(i)["wavelength"]) for i in file.indexes])
        cube = file.read().astype("float32") * 1e-4
        cube[:, (cube <= -1).all(0)] = np.nan
        cube[(cube <= -1).all((1, 2)) | (cube == 0).all((1, 2))] = np.nan
    return cube, wavelength


def salton(path):
    "The same of the AVIRIS scene over the Salton Sea."
    found = loadmat(path)
    cube = np.moveaxis(found["I"], -1, 0).astype("float32")
    cube[found["bbl"].ravel() == 0] = np.nan
    return cube / (1e4 if np.nanmax(cube) > 10 else 1), 1000 * found["wl"].ravel()


def cubes(data):
    "Name, cube of 224 bands, number of draws for training."
    yield "potsdam", resampled(*tif(data / "enmap_potsdam/train.tif")), 12
    yield "california", resampled(*tif(data / "airborne/aviris_california_15m.tif")), 6
    yield "salton", resampled(*salton(data / "airborne/salton_sea_roi.mat")), 6
    for seed in (31, 32, 33):
        truth = simulate_pair(36, seed=seed, rotation=0.0)[2].values
        inner = np.isfinite(truth[40])
        rows, cols = np.flatnonzero(inner.mean(1) > 0.8), np.flatnonzero(inner.mean(0) > 0.8)
        yield f"simulated{seed}", resampled(truth[:, rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1], enmap_bands().wavelength), 1


def lessons(data, folder, base, tile):
    "Stores that are not there yet. The right quarter of a cube is for validation, a guard apart."
    for name, cube, draws in cubes(data):
        width = cube.shape[2]
        cut = width * 5 // 8 if name == "potsdam" else width
        parts = [(0, s, cube[:, :, :cut]) for s in range(draws)] + ([(1, 100 + s, cube[:, :, cut + 6:]) for s in range(2)] if cut < width else [])
        for split, seed, part in parts:
            path = folder / f"{name}_{split}_{seed:03d}.zarr"
            if not path.exists():
                try:
                    print(path.name, write_lesson(part, path, seed, base=base, tile=tile, stride=tile // 2, split=split, threads=2), "tiles", flush=True)
                except NoValidPixels as error:
                    print(error, flush=True)


def main():
    "Both steps."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--base", default="interpolated", choices=["interpolated", "subspace"])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--window", type=int, default=32)
    parser.add_argument("--tile", type=int, default=24)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    folder = options.workdir / options.base
    folder.mkdir(parents=True, exist_ok=True)
    lessons(options.data, folder, options.base, options.tile)
    if options.output:
        from enmap_sharpener.training.training import QUICK, train
        recipe = replace(QUICK, base=options.base, epochs=options.epochs, repeats=options.repeats, spectral_window=options.window,
                         residual=0.1 if options.base == "interpolated" else 0.05, initial_lr=1e-3 if options.base == "interpolated" else 5e-4, mixed_precision=True, patience=options.epochs)
        train(folder, options.output, recipe, resume=options.resume, progress=lambda n, of: n % 50 == 0 and print(f"{n}/{of}", flush=True))


if __name__ == "__main__":
    main()
