"""Make the training data of the shipped networks from ../shared/data and train them.

    python benchmarks/train_models.py --data ../shared/data --workdir lessons --output output/models/supErMAPnet.keras

Lessons: Potsdam's train file, AVIRIS over California and the Salton Sea, simulated landscapes, and images of Sentinel-2 painted with spectra of libraries; each seen several times
with drawn blur, shift, responses and light. Validation is on ground that training does not see. Made stores are used again.
"""
import argparse
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from lessons import painted, resampled, write_lesson
from scipy.interpolate import interp1d
from scipy.io import loadmat
from twenty_to_ten import IMAGES

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


def library(data):
    "Spectra of soils, plants, minerals, mixtures and cities at EnMAP's wavelengths, shape (spectrum, 224)."
    def told(name, key):
        text = re.search(key + r" = \{(.*?)\}", (data / "spectra" / name).read_text(), re.S).group(1)
        return np.array([float(x) for x in text.split(",")])

    read = lambda name, bands, scale: np.fromfile(data / "spectra" / name, "<f4").reshape(-1, bands) * scale
    wavelength, target = told("ecostress_library_with_mixtures.hdr", "wavelength"), enmap_bands().wavelength
    found = [interp1d(wavelength, read("ecostress_library_with_mixtures", 479, 1))(target)]
    good = told("roberts2017_urban.hdr", "bbl") > 0
    wavelength = 1000 * told("roberts2017_urban.hdr", "wavelength")[good]
    found.append(interp1d(wavelength, read("roberts2017_urban.sli", 224, 1e-4)[:, good], bounds_error=False, fill_value="extrapolate")(target))
    found = np.concatenate(found)
    return np.clip(found[np.isfinite(found).all(1)], 0, 1.2)


def textured(data, name, spectra, side=144):
    "A part of an image of Sentinel-2 at 20 m, painted with spectra."
    read, path = IMAGES[name]
    image = read(data / path)
    ten, twenty = image.ten, image.twenty
    both = np.concatenate([ten.reshape(ten.shape[0] // 2, 2, ten.shape[1] // 2, 2, 4).mean((1, 3)), twenty], -1)
    most = [max((n - side) // 2, 0) for n in both.shape[:2]]
    part = both[most[0]:most[0] + side, most[1]:most[1] + side]
    return painted(np.moveaxis(part, -1, 0), spectra)


def sites(data):
    "Name, cube of 224 bands, number of draws, split (0 training, 1 validation), and share of a tile from one to the next."
    potsdam = resampled(*tif(data / "enmap_potsdam/train.tif"))
    cut = potsdam.shape[2] * 5 // 8
    yield "potsdam", potsdam[:, :, :cut], 20, 0, 0.5
    yield "potsdam", potsdam[:, :, cut + 6:], 2, 1, 0.5
    yield "california", resampled(*tif(data / "airborne/aviris_california_15m.tif")), 8, 0, 0.5
    yield "salton", resampled(*salton(data / "airborne/salton_sea_roi.mat")), 8, 0, 0.5
    for seed in range(31, 37):
        truth = simulate_pair(36, seed=seed, rotation=0.0)[2].values
        inner = np.isfinite(truth[40])
        rows, cols = np.flatnonzero(inner.mean(1) > 0.8), np.flatnonzero(inner.mean(0) > 0.8)
        yield f"simulated{seed}", resampled(truth[:, rows[0]:rows[-1] + 1, cols[0]:cols[-1] + 1], enmap_bands().wavelength), 1, int(seed == 36), 0.5 + 0.5 * (seed == 36)
    spectra = library(data)
    for name in ("T48QUE", "delmarva", "augsburg", "T43RCP June"):
        yield name.split()[0], textured(data, name, spectra), 3, 0, 1.0
    yield "T49JGM", textured(data, "T49JGM", spectra, 100), 1, 1, 1.0


def lessons(data, folder, base, tile):
    "Stores that are not there yet. Validation is on ground that training does not see: a part of Potsdam's file, a guard apart, and sites of their own."
    for name, cube, draws, split, step in sites(data):
        for seed in range(100 * split, 100 * split + draws):
            path = folder / f"{name}_{split}_{seed:03d}.zarr"
            if not path.exists():
                try:
                    print(path.name, write_lesson(cube, path, seed, base=base, tile=tile, stride=round(tile * step), split=split, threads=2), "tiles", flush=True)
                except NoValidPixels as error:
                    print(error, flush=True)


def main():
    "Both steps."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--base", default="regression", choices=["interpolated", "regression", "subspace"])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--window", type=int, default=48)
    parser.add_argument("--tile", type=int, default=24)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    folder = options.workdir / options.base
    folder.mkdir(parents=True, exist_ok=True)
    lessons(options.data, folder, options.base, options.tile)
    if options.output:
        from enmap_sharpener.training.training import QUICK, train
        recipe = replace(QUICK, base=options.base, epochs=options.epochs, repeats=options.repeats, spectral_window=options.window,
                         residual=0.1 if options.base == "interpolated" else 0.05, initial_lr=1e-3 if options.base == "interpolated" else 2e-4, mixed_precision=True, patience=options.epochs)
        train(folder, options.output, recipe, resume=options.resume, progress=lambda n, of: n % 50 == 0 and print(f"{n}/{of}", flush=True))


if __name__ == "__main__":
    main()
