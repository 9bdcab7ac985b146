"""Indices without truth against plain loops over pixels, bands and blocks; nodata, grids and memory."""
import tracemalloc

import numpy as np
import pytest
import xarray as xr
from cubes import cube, made_up_observation

from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.evaluation import full_resolution as fullres
from enmap_sharpener.evaluation.full_resolution import full_resolution_scores
from enmap_sharpener.evaluation.metrics import q2n


def case(ny=22, nx=25, bands=5, seed=0, detectors=("VNIR", "VNIR", "VNIR", "SWIR", "SWIR")):
    """A sharpened cube of 3 x the pixels of a scene on the same corner, and a guide that is larger; no nodata."""
    rng = np.random.default_rng(seed)
    coarse = Grid(cube(np.zeros((1, 2, 2))).rio.crs, Axis(-5806000.0, 30, ny), Axis(366000.0, 30, nx))
    wavelength = np.linspace(450, 2200, bands)
    coords = {"band": np.arange(1, bands + 1), "wavelength": ("band", wavelength)}
    ground = 0.05 + 0.5 * rng.random((bands, 3 * ny, 3 * nx)) * rng.random((1, 3 * ny, 3 * nx))
    output = cube(ground.astype("f4"), wavelength)
    seen = 0.05 + 0.4 * rng.random((bands, ny, nx)) * rng.random((1, ny, nx))
    scene = coarse.georeference(seen.astype("f4"), coords={**coords, "detector": ("band", list(detectors)[:bands])})
    guide = cube(rng.random((3, 3 * ny + 8, 3 * nx + 7)).astype("f4"), x0=366000.0 - 40, y0=5806000.0 + 30)
    return output, scene, guide.drop_vars("wavelength")


def universal(a, b):
    """Wang and Bovik's index of two lists of numbers, equation 1."""
    cov = np.cov(a, b, bias=True)
    return 4 * cov[0, 1] * a.mean() * b.mean() / ((cov[0, 0] + cov[1, 1]) * (a.mean() ** 2 + b.mean() ** 2))


def weights(n_coarse, shift, sigma):
    """Rows of a Gaussian of `sigma` coarse pixels around each centre, cut at four of them and half a fine pixel, fine pixels a third as large."""
    centre = np.clip(3 * (np.arange(n_coarse) + shift) + 1, 0, 3 * n_coarse - 1)
    d = np.arange(3 * n_coarse) - centre[:, None]
    taps = 2 * int(np.ceil(12 * sigma + 0.5)) + 1
    near = np.abs(d) <= 12 * sigma + 0.5
    first = np.clip(np.round(centre) - taps // 2, 0, 3 * n_coarse - taps)[:, None]
    near &= (np.arange(3 * n_coarse) >= first) & (np.arange(3 * n_coarse) < first + taps)
    w = np.exp(-0.5 * (d / (3 * sigma)) ** 2) * near
    return w / w.sum(1, keepdims=True)


def naive(output, scene, guide, geometry, side=11):
    """D_lambda, D_s and D_lambda of Khan in loops; everything valid, ratio 3, shared corner."""
    F, M, P = output.values.astype(float), scene.values.astype(float), guide.values[:, 3:, 4:].astype(float)
    bands, ny, nx = M.shape
    P = P[:, :3 * ny, :3 * nx]
    looks = [(weights(ny, g["shift"][0], g["sigma"][0]), weights(nx, g["shift"][1], g["sigma"][1])) for g in (geometry[d] for d in scene.detector.values)]
    low = [[ay @ p @ ax.T for p in P] for ay, ax in looks]                           # band, guide band, y, x
    seen = np.stack([ay @ f @ ax.T for f, (ay, ax) in zip(F, looks)])
    chosen = [int(np.argmax([np.corrcoef(M[i].ravel(), p.ravel())[0, 1] for p in low[i]])) for i in range(bands)]

    def mean_index(a, b, k):
        scores, pixels = [], []
        for y in range(0, ny, side):
            for x in range(0, nx, side):
                cut = slice(k * y, k * min(y + side, ny)), slice(k * x, k * min(x + side, nx))
                scores.append(universal(a[cut].ravel(), b[cut].ravel()))
                pixels.append(a[cut].size)
        return np.average(scores, weights=pixels)

    spectral = [abs(mean_index(F[i], F[j], 3) - mean_index(M[i], M[j], 1)) for i in range(bands) for j in range(bands) if i != j]
    spatial = [abs(mean_index(F[i], P[chosen[i]], 3) - mean_index(M[i], low[i][chosen[i]], 1)) for i in range(bands)]
    return np.mean(spectral), np.mean(spatial), 1 - q2n(seen, M, 3 * side)


@pytest.mark.parametrize("shape", [(22, 25), (11, 11), (37, 23)])
@pytest.mark.parametrize("blocks", [6, 3])
def test_indices_are_those_of_plain_loops(shape, blocks, monkeypatch):
    monkeypatch.setattr(fullres, "_BLOCKS", blocks)
    images = case(*shape)
    geometry = {"VNIR": {"shift": (0.1, -0.2), "sigma": (0.45, 0.4)}, "SWIR": {"shift": (0.2, 0.0), "sigma": (0.5, 0.42)}}
    found, (spectral, spatial, khan) = full_resolution_scores(*images, geometry), naive(*images, geometry)
    assert np.isclose(found.D_lambda, spectral, rtol=1e-5) and np.isclose(found.D_s, spatial, rtol=1e-5)
    assert np.isclose(found.D_lambda_khan, khan, rtol=1e-4)
    assert np.isclose(found.QNR, (1 - spectral) * (1 - spatial)) and np.isclose(found.HQNR, (1 - khan) * (1 - spatial), rtol=1e-4)


def test_what_agrees_has_no_distortion_of_khan_and_relations_kept_have_none():
    truth, seen, geometry = made_up_observation()
    guide = cube(truth.values[2:5]).drop_vars("wavelength")
    found = full_resolution_scores(truth, seen, guide, geometry)
    assert found.D_lambda_khan < 1e-5 and found.agreement < 1e-6 and np.isclose(found.HQNR, 1 - found.D_s, atol=1e-5)
    assert full_resolution_scores(truth, seen, guide).D_lambda_khan > 10 * found.D_lambda_khan        # the wrong geometry
    flat = xr.full_like(truth, 0.3), xr.full_like(seen, 0.3), xr.full_like(guide, 0.2)
    assert np.allclose(full_resolution_scores(*flat)[["D_lambda", "D_s", "QNR"]], [0, 0, 1], atol=1e-6)


def test_nodata_is_left_out_wherever_it_is():
    output, scene, guide = case(66, 33)
    plain = full_resolution_scores(output, scene, guide)
    half = scene.copy()
    half[:, :33] = np.nan                                # three rows of blocks, one of those of Q2n
    assert np.allclose(full_resolution_scores(output, half, guide), full_resolution_scores(output, scene[:, 33:], guide), rtol=1e-5)
    for image, window in ((output, (0, slice(20), slice(20))), (scene, (3, slice(9), slice(30))), (guide, (1, slice(40), slice(50)))):
        copy = image.copy()
        copy[window] = np.nan
        images = [copy if i is image else i for i in (output, scene, guide)]
        found = full_resolution_scores(*images)
        assert np.isfinite(found).all() and not np.allclose(found, plain) and (found.drop("agreement") <= 1).all()


def test_empty_bands_and_other_bands_are_left_out():
    output, scene, guide = case()
    expected = full_resolution_scores(output[[0, 1, 3, 4]], scene[[0, 1, 3, 4]], guide)
    output[2] = np.nan
    assert np.allclose(full_resolution_scores(output, scene.assign_coords(good=("band", [True, True, False, True, True])), guide), expected)
    output, scene, guide = case()
    assert np.allclose(full_resolution_scores(output[[4, 0, 3, 1]], scene, guide), expected)           # a subset in any order
    one = full_resolution_scores(output[:1], scene, guide)
    assert one.D_lambda == 0 and np.isfinite(one).all()


def test_what_cannot_be_compared_is_refused_in_one_line():
    output, scene, guide = case()
    for images, error, words in (((output * np.nan, scene, guide), NoValidPixels, "nodata"),
                                 ((output, scene, guide * np.nan), NoValidPixels, "guide"),
                                 ((output, scene.assign_coords(good=("band", [False] * 5)), guide), NoValidPixels, "empty"),
                                 ((output, scene, guide.rio.write_crs(32632)), GridError, "32632"),
                                 ((output, scene.rio.write_crs(32632), guide), GridError, "32632"),
                                 ((output.assign_coords(wavelength=output.wavelength + 5), scene, guide), BandError, "wavelength"),
                                 ((cube(output.values, output.wavelength.values, x0=9e5), scene, guide), GridError, "overlap")):
        with pytest.raises(error, match=words) as caught:
            full_resolution_scores(*images)
        assert "\n" not in str(caught.value)


def test_memory_does_not_grow_with_the_scene():
    peaks = []
    for n in (140, 420):
        output, scene, guide = case(n, 40, 2)
        output, scene, guide = (image.chunk({"band": -1, "y": 60, "x": 60}) for image in (output, scene, guide))
        tracemalloc.start()
        full_resolution_scores(output, scene, guide, threads=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    whole = 420 * 40 * 9 * 2 * 4                       # the fine cube; agreement holds one band of it at a time
    assert peaks[1] - peaks[0] < 3 * whole
