"""Alignment measured on simulated scenes, where it is known: recovered, honest about its error, and kept nominal without evidence."""
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from enmap_sharpener.core.operators import NOMINAL_SIGMA
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair

PIXEL = 30.0
DEFAULT = {"size": 40, "seed": 0, "shift": (0.2, -0.1), "swir_shift": (0.1, 0.02), "blur": 13.0}
SCENES = {
    "aligned": {"shift": (0.0, 0.0), "seed": 3},
    "usual": {"seed": 1},
    "two pixels": {"shift": (2.0, -2.0), "swir_shift": (0.0, 0.0), "seed": 2},
    "two pixels the other way, full frame": {"shift": (-2.0, 2.0), "rotation": 0.0, "swir_shift": (0.1, -0.1)},
    "one and a half": {"shift": (-1.5, 1.1), "swir_shift": (-0.2, 0.3), "seed": 4},
    "sharp": {"blur": 11.0},
    "blurred": {"blur": 17.0},
    "small": {"size": (24, 60), "shift": (0.4, 0.9)},
    "clouds in Sentinel-2": {"sentinel2_clouds": True, "shift": (0.5, -1.0)},
    "clouds in both": {"sentinel2_clouds": True, "clouds": True, "shift": (0.5, -0.3)},
    "same day": {"change": 0.0},
}


@cache
def measured(name):
    """(what was put in, the alignment that was reported)."""
    settings = DEFAULT | SCENES[name]
    scene, guide, _ = simulate_pair(**settings)
    return settings, sharpen(scene, guide, threads=1).report["alignment"]


def errors(name, detector):
    """Errors of shift and of blur [EnMAP pixels], and the stated ones, arrays (y, x)."""
    settings, report = measured(name)
    found = report[detector]
    assert found["measured"]
    shift = np.add(settings["shift"], settings["swir_shift"] if detector == "SWIR" else 0)
    off = np.r_[np.subtract(found["shift"], shift), np.subtract(found["sigma"], settings["blur"] / PIXEL)]
    return off, np.array(found["shift_error"] + found["sigma_error"], float), settings["blur"] / PIXEL


@pytest.mark.parametrize("detector", ["VNIR", "SWIR"])
@pytest.mark.parametrize("name", SCENES)
def test_shift_is_recovered(name, detector):
    off, _, _ = errors(name, detector)
    assert np.abs(off[:2]).max() < 0.05


@pytest.mark.parametrize("detector", ["VNIR", "SWIR"])
@pytest.mark.parametrize("name", SCENES)
def test_blur_is_recovered(name, detector):
    """Within 5 %; SWIR is measured against 20 m bands sharpened to 10 m, which leaves up to 7 % on the smallest scene."""
    off, _, blur = errors(name, detector)
    assert np.abs(off[2:]).max() < (0.07 if (name, detector) == ("small", "SWIR") else 0.05) * blur


@pytest.mark.parametrize("part", [slice(0, 2), slice(2, 4)], ids=["shift", "blur"])
@pytest.mark.parametrize("detector", ["VNIR", "SWIR"])
def test_stated_errors_are_honest_within_a_factor_of_three(detector, part):
    z = []
    for name in ("aligned", "usual", "sharp", "blurred", "small", "same day", "clouds in Sentinel-2"):
        off, stated, _ = errors(name, detector)
        assert (stated > 0).all() and np.isfinite(stated).all()
        z.append((off / stated)[part])
    spread = np.sqrt(np.mean(np.square(z)))
    assert 0.2 < spread < 3     # a floor for what is systematic makes them cautious on easy scenes
    assert np.abs(z).max() < 9


@pytest.mark.slow
def test_clouds_do_not_disturb():
    """The same scene with and without a cloud in Sentinel-2."""
    settings = DEFAULT | {"size": 48, "seed": 5}
    reports = [sharpen(*simulate_pair(**settings, sentinel2_clouds=cloud)[:2], threads=1).report["alignment"]["VNIR"] for cloud in (False, True)]
    np.testing.assert_allclose(reports[1]["shift"], reports[0]["shift"], atol=0.01)
    np.testing.assert_allclose(reports[1]["sigma"], reports[0]["sigma"], rtol=0.02)


def test_metres_agree_with_pixels():
    _, report = measured("usual")
    for found in report.values():
        np.testing.assert_allclose(found["shift_m"], np.multiply(found["shift"], PIXEL), atol=0.006)
        np.testing.assert_allclose(found["sigma_m"], np.multiply(found["sigma"], PIXEL), atol=0.006)


def nominal(found):
    """Whether a report keeps the nominal geometry and says so."""
    return not found["measured"] and found["shift"] == [0.0, 0.0] and found["shift_error"] == [None, None] and np.allclose(found["sigma"], NOMINAL_SIGMA, atol=1e-4)


def filled(image, level, sigma, seed):
    """The image with its spectra replaced by `level` and white noise."""
    noise = sigma * np.random.default_rng(seed).standard_normal(image.shape, "float32")
    return image.copy(data=np.where(np.isnan(image.values), np.nan, level + noise).astype("float32"))


@pytest.mark.parametrize(("level", "sigma"), [(0.02, 0.001), (0.2, 0.05), (0.1, 0.0)], ids=["water", "noise", "constant"])
def test_without_texture_the_nominal_geometry_stays(level, sigma):
    scene, guide, _ = simulate_pair(30, 0)
    scene = replace(scene, cube=filled(scene.cube, level, sigma, 1))
    guide = replace(guide, bands10=filled(guide.bands10, level, sigma, 2), bands20=filled(guide.bands20, level, sigma, 3))
    plan = sharpen(scene, guide, threads=1)
    assert nominal(plan.report["alignment"]["VNIR"]) and nominal(plan.report["alignment"]["SWIR"])
    valid = np.isfinite(scene.cube.values[scene.bands.good]).any()
    cube = plan.to_dataarray().values[scene.bands.good]
    assert valid and np.isfinite(cube).any() and abs(np.nanmean(cube) - level) < 0.005


def test_another_place_keeps_the_nominal_geometry():
    """A guide that shows something else is no evidence."""
    scene = simulate_pair(40, 0)[0]
    other = simulate_pair(40, 99)[1]
    assert nominal(sharpen(scene, other, threads=1).report["alignment"]["VNIR"])


def test_wholly_clouded_guide_keeps_the_nominal_geometry():
    scene, guide, _ = simulate_pair(30, 0)
    guide = replace(guide, scl=guide.scl.copy(data=np.full(guide.scl.shape, 9, "uint8")))
    assert nominal(sharpen(scene, guide, threads=1).report["alignment"]["VNIR"])
