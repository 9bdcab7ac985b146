"Training pairs from any hyperspectral cube: it is the truth, and both sensors' views of it are made with blurs, shifts and lights as they occur."
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.interpolate import interp1d
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from enmap_sharpener.core.errors import NoValidPixels
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.preprocessing.tile_store import tile_corners, write_store
from enmap_sharpener.preprocessing.wald import PredictionPair, align
from enmap_sharpener.scenes.enmap import Scene
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.scenes.sentinel2 import Sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import Simulation, scene_metadata
from enmap_sharpener.simulation.sensors import enmap_bands


def resampled(cube, wavelength):
    """A cube's spectra at EnMAP's 224 wavelengths, by linear interpolation along the wavelength.

    Parameters
    ----------
    cube : ndarray, shape (band, y, x)
        [reflectance], NaN nodata; bands that are NaN everywhere are left out.
    wavelength : ndarray, shape (band,)
        [nm].

    Returns
    -------
    ndarray, shape (224, y, x), float32
    """
    held = np.isfinite(cube).any((1, 2))
    order = np.flatnonzero(held)[np.argsort(np.asarray(wavelength)[held])]
    at = np.interp(enmap_bands().wavelength, np.asarray(wavelength)[order], np.arange(len(order)))
    low = np.minimum(at.astype(int), len(order) - 2)
    part = (at - low).astype(np.float32)[:, None, None]
    return (cube[order[low]] * (1 - part) + cube[order[low + 1]] * part).astype(np.float32)


def painted(image, library, near=6):
    """A cube with the texture of a real image of Sentinel-2, its spectra from a library.

    Each pixel gets the mean of the spectra that look most like it to Sentinel-2, brought to its ten bands by a factor that changes linearly from band to band.

    Parameters
    ----------
    image : ndarray, shape (band, y, x)
        The ten bands on one grid [reflectance].
    library : ndarray, shape (spectrum, 224)
        [reflectance].
    near : int
        Spectra that are averaged.

    Returns
    -------
    ndarray, shape (224, y, x), float32
    """
    wavelength, pixels = enmap_bands().wavelength, np.maximum(image.reshape(len(image), -1).T, 1e-3)
    response = SENTINEL2.responses(wavelength)
    seen = library @ response.T
    library = library[(seen > 5e-3).all(1)]
    seen = seen[(seen > 5e-3).all(1)]
    shape = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    nearest = cKDTree(shape(seen)).query(shape(pixels), [*range(1, near + 1)])[1]
    spectra = (library / np.linalg.norm(seen, axis=1, keepdims=True))[nearest].mean(1)
    centre = response @ wavelength / response.sum(1)
    order = np.argsort(centre)
    ratio = pixels / np.maximum(spectra @ response.T, 1e-6)
    factor = interp1d(centre[order], ratio[:, order], fill_value=(ratio[:, order[0]], ratio[:, order[-1]]), bounds_error=False)(wavelength)
    return np.ascontiguousarray((spectra * factor).T.reshape(-1, *image.shape[1:]), np.float32)


def _even(truth, ratio):
    "A cube cropped to whole EnMAP pixels, an even number of them."
    ny, nx = (n // (2 * ratio) * 2 * ratio for n in truth.shape[1:])
    return truth[:, :ny, :nx]


def views(truth, seed, ratio=3, strength=1.0):
    """EnMAP's and Sentinel-2's view of a cube.

    Parameters
    ----------
    truth : ndarray, shape (224, y, x)
        [reflectance], NaN nodata.
    seed : int
        Of what is drawn: blur 0.35…0.52 and shift to 0.2 [EnMAP pixels], responses up to 4 nm off, gains 0.05, offsets 0.005 [reflectance], field 0.04, noise 0.5 %.
    ratio : int
        Pixels of the cube along one of EnMAP's.
    strength : float
        Factor of the differences in light.

    Returns
    -------
    Scene, Sentinel2, ndarray
        Both views, and the truth on Sentinel-2's grid.
    """
    rng, truth = np.random.default_rng(seed), _even(truth, ratio)
    simulation = Simulation(truth.shape[1] // ratio, seed)
    rows, cols = (Axis(a.start, 10.0, n) for a, n in zip((simulation.grid.rows, simulation.grid.cols), truth.shape[1:], strict=True))
    fine = Grid(simulation.grid.crs, rows, cols)
    every = lambda k: Grid(fine.crs, *(Axis(a.start, 10.0 * k, a.n // k) for a in (rows, cols)))
    see = Observation.between(every(ratio), fine, rng.uniform(0.35, 0.52), tuple(rng.uniform(-0.2, 0.2, 2)))
    coarse = see.degrade(truth) * (1 + 0.003 * rng.standard_normal((len(truth), *every(ratio).shape))).astype(np.float32)
    bands = enmap_bands()
    coords = {"band": bands.number, **{k: ("band", getattr(bands, k)) for k in ("wavelength", "fwhm", "detector", "good")}}
    scene = Scene(every(ratio).georeference(coarse, coords=coords).chunk(), bands, replace(scene_metadata(simulation), id=f"lesson_{seed:04d}"), {}, Path("lesson"))
    return scene, _sentinel2(truth, fine, every(2), rng, strength), truth


def _sentinel2(truth, fine, grid20, rng, strength):
    "Sentinel-2's view: 10 m and 20 m bands in another light."
    names, fine_bands, coarse_bands = SENTINEL2.names, SENTINEL2.fine, SENTINEL2.coarse
    off = strength * rng.uniform(-4, 4)
    seen = np.tensordot(SENTINEL2.responses(enmap_bands().wavelength + off).astype(np.float32), np.nan_to_num(truth), 1)
    field = gaussian_filter(rng.standard_normal(fine.shape), max(fine.shape) / 4, mode="reflect")
    light = 1 + strength * 0.04 * (field / (field.std() + 1e-9))
    seen = seen * light * (1 + strength * 0.05 * rng.standard_normal((len(names), 1, 1))) + strength * 0.005 * rng.standard_normal((len(names), 1, 1))
    seen[coarse_bands] = gaussian_filter(seen[coarse_bands], (0, 0.8, 0.8), mode="nearest")
    noisy = lambda image: (image + 0.005 * image.mean((1, 2), keepdims=True) * rng.standard_normal(image.shape)).astype(np.float32)
    ten = noisy(seen[fine_bands])
    twenty = noisy(seen[coarse_bands].reshape(-1, grid20.ny, 2, grid20.nx, 2).mean((2, 4)))
    image = lambda values, grid, bands: grid.georeference(values, coords={"band": bands}).chunk()
    return Sentinel2(image(ten, fine, list(names[fine_bands])), image(twenty, grid20, list(names[coarse_bands])), None, Path("lesson"), None)


class _Lesson(PredictionPair):
    "Views of a cube at its own scale, with the cube as the target; `other` is `x1` of the subspace method, shape (y, x, good band), or None."

    names = ("hs", "ms", "target")

    def __init__(self, aligned, truth, base, other, threads):
        super().__init__(aligned, threads, "interpolated" if base == "subspace" else base)
        self.truth, self.other = truth, other

    def read(self, rows, cols):
        "As `PredictionPair.read`, with `target`."
        found = super().read(rows, cols)
        if self.other is not None:
            found["hs"] = self.other[rows, cols]
        found["target"] = self.truth[rows, cols]
        found["valid"] = found["valid"] & np.isfinite(found["target"]).all(-1) & np.isfinite(found["hs"]).all(-1)
        return found


def write_lesson(cube, path, seed, *, base="interpolated", tile=24, stride=18, split=0, ratio=3, threads=1):
    """A training store from a cube, seen once by both sensors.

    Parameters
    ----------
    cube : ndarray, shape (224, y, x)
        [reflectance], see `resampled`.
    path : str or Path
    seed : int
        See `views`.
    base : str
        What `hs` is: 'interpolated', 'regression' or 'subspace', see `Contract`.
    tile, stride : int
        [pixels of the cube].
    split : int
        0 training, 1 validation, 2 test.
    ratio, threads : int

    Returns
    -------
    int
        Number of tiles.

    Raises
    ------
    NoValidPixels
        No tile is wholly valid.
    """
    scene, guide, truth = views(cube, seed, ratio)
    aligned = align(scene, guide, threads=threads)
    pair = aligned.pair
    lies = tuple(slice(round(float(b.index(a.centres[0]))), round(float(b.index(a.centres[0]))) + a.n)
                 for a, b in zip((pair.fine.rows, pair.fine.cols), (Grid.of(guide.bands10).rows, Grid.of(guide.bands10).cols), strict=True))
    good = scene.bands.good
    inner = np.moveaxis(truth[(good, *lies)], 0, -1)
    other = None
    if base == "subspace":
        done = sharpen(scene, guide, threads=threads)
        if done.grid != pair.fine:
            raise NoValidPixels(f"{path}: the subspace method gives another grid than the alignment")
        other = np.moveaxis(done.to_dataarray().values[good], 0, -1)
    source = _Lesson(aligned, inner, base, other, threads)
    corners = tile_corners(source.grid.shape, tile, stride)
    whole = source.read(slice(0, source.grid.ny), slice(0, source.grid.nx))["valid"]
    corners = corners[[whole[r:r + tile, c:c + tile].sum() >= 0.98 * tile**2 for r, c in corners]]
    if not len(corners):
        raise NoValidPixels(f"{path}: no tile of {tile} pixels is valid; the cube is too small")
    write_store(path, "wald", source, corners, {"tile": tile, "stride": stride, "base": base, "lesson": seed}, split=split, threads=threads)
    return len(corners)
