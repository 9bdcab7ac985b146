"Lessons, which `benchmarks/train_models.py` learns from: both sensors' views of a cube, and a store of them."
import sys

import numpy as np
import pytest
from readme import ROOT

from enmap_sharpener.core.errors import EnmapError
from enmap_sharpener.preprocessing.tile_store import open_store
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.simulation.scene import simulate_pair
from enmap_sharpener.simulation.sensors import enmap_bands

sys.path.append(str(ROOT / "benchmarks"))
from lessons import painted, resampled, views, write_lesson  # noqa: E402


@pytest.fixture(scope="module")
def cube():
    return simulate_pair(40, seed=5)[2].values[:, 6:96, 6:90]


def test_views(cube):
    scene, guide, truth = views(cube, seed=1)
    assert (scene.cube.shape, guide.bands10.shape, guide.bands20.shape, truth.shape) == ((224, 30, 28), (4, 90, 84), (6, 45, 42), (224, 90, 84))
    np.testing.assert_array_equal(views(cube, seed=1)[0].cube.values, scene.cube.values)


def test_a_cube_of_enmaps_bands_is_left_as_it_is(cube):
    good = enmap_bands().good
    np.testing.assert_allclose(resampled(cube, enmap_bands().wavelength)[good], cube[good], atol=1e-6)


def test_a_painted_image_looks_to_sentinel2_as_it_did(cube):
    "Near its ten bands, whose responses are narrow; and its spectra are those of the library where the library is what is painted."
    full = resampled(cube, enmap_bands().wavelength)[:, 20:80, 20:80]
    assert np.isfinite(full).all()
    response, own, other = SENTINEL2.responses(enmap_bands().wavelength), full[:, :30, :30], full[:, 30:, 30:]
    image = np.tensordot(response, own, 1)
    made = painted(image, other.reshape(224, -1).T)
    assert made.shape == (224, 30, 30) and np.abs(np.tensordot(response, made, 1) / image - 1).mean() < 0.02
    np.testing.assert_allclose(painted(image, own.reshape(224, -1).T, near=1), own, rtol=0.02, atol=1e-3)


@pytest.mark.slow
def test_store(cube, tmp_path):
    "What the regression and the subspace method give is nearer to the truth than the interpolation."
    error = {}
    for base in ("interpolated", "regression", "subspace"):
        assert write_lesson(cube, tmp_path / f"{base}.zarr", 1, base=base) > 0
        store = open_store(tmp_path / f"{base}.zarr")
        good, valid = store.good.values, store.valid.values
        error[base] = np.sqrt(((store.hs.values[..., good].astype(float) - store.target.values[..., good])[valid] ** 2).mean())
    assert error["subspace"] < 0.5 * error["interpolated"] and error["regression"] < 0.6 * error["interpolated"]


def test_a_cube_that_is_too_small(cube, tmp_path):
    with pytest.raises(EnmapError):
        write_lesson(cube[:, :18, :], tmp_path / "small.zarr", 1)
