"Scenes sharpened with other guides than Sentinel-2, of other ratios of pixels."
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import zoom

from enmap_sharpener.core.errors import BandError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.scenes.guide_bands import GuideBands
from enmap_sharpener.scenes.guide_sensors import guide_band
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.sharpening.verdict import verdict
from enmap_sharpener.simulation.scene import simulate_pair

BLUE, RED, NIR, FAR, PAN = (("blue", 490, 60), ("red", 660, 40), ("nir", 860, 50), ("swir", 1610, 90), ("pan", 590, 170))


@pytest.fixture(scope="module")
def simulated():
    scene, guide, truth = simulate_pair(size=40, seed=3)
    return scene, guide, truth


def image(truth, bands, pixel):
    "Bands of a truth on pixels of another size; where those are finer they are interpolated linearly."
    grid, wavelength = Grid.of(truth), truth.wavelength.values
    fine = Grid(grid.crs, *(Axis(a.start, pixel, int(a.n * 10 / pixel)) for a in (grid.rows, grid.cols)))
    values = np.nan_to_num(np.stack([truth.values[np.abs(wavelength - c) < w / 2].mean(0) for _, c, w in bands]))
    out = Observation.between(fine, grid, 0.45).degrade(values) if pixel > 10 else zoom(values, (1, 10 // pixel, 10 // pixel), order=1, mode="nearest", grid_mode=True)
    out = np.where(out > 0.001, out, np.nan)
    return fine.georeference(out.astype("f4"), coords={"band": [b[0] for b in bands]}, name="reflectance")


def other(guide, truth, fine, pixel, coarse=(), larger=0):
    "A guide with other bands."
    table = GuideBands(tuple(guide_band(*b, p) for part, p in ((fine, pixel), (coarse, larger)) for b in part), "Meteor")
    return replace(guide, bands10=image(truth, fine, pixel), bands20=image(truth, coarse, larger) if coarse else None, scl=None, described=table, source=Path("meteor"))


def error(scene, guide, truth, method="subspace", swir=True):
    "RMSE on the ground that the truth holds, where it has the same pixels."
    out = sharpen(scene, guide, method, uncertainty=False, threads=1)
    cube = out.to_dataarray()
    true = truth.sel(x=cube.x, y=cube.y, method="nearest").values
    return float(np.sqrt(np.nanmean((cube.values - true)[out.bands.good & (swir | (out.bands.wavelength < 1000))] ** 2))), out


def test_bands_of_one_size_beat_a_peer_and_carry_the_swir(simulated):
    scene, guide, truth = simulated
    all_of_them = other(guide, truth, (BLUE, RED, NIR, FAR), 10)
    own, out = error(scene, all_of_them, truth)
    assert own < error(scene, all_of_them, truth, "gsa")[0]
    assert own < 0.95 * error(scene, other(guide, truth, (BLUE, RED, NIR), 10), truth)[0]
    assert out.report["guide_bands"] == ["blue", "red", "nir", "swir"]


@pytest.mark.parametrize("fine, pixel, coarse, larger", [((PAN,), 15, (BLUE, RED, NIR, FAR), 30), ((BLUE, NIR), 15, (), 0), ((BLUE, RED, NIR), 5, (), 0), ((PAN,), 10, (), 0), ((RED,), 10, (FAR,), 30)])
def test_other_ratios_and_a_band_alone(simulated, fine, pixel, coarse, larger):
    scene, guide, truth = simulated
    out = sharpen(scene, other(guide, truth, fine, pixel, coarse, larger), threads=1)
    cube = out.to_dataarray()
    assert out.grid.cols.step == pixel and np.isfinite(out.errors.half68[0])
    assert np.isfinite(cube.values[out.bands.good]).any() and out.report["agreement"]["rmse"] < 0.003
    told = [line for line in out.report["assumptions"] if "errors are estimated" in line]
    assert len(told) == (pixel != 10) + (len(fine) == 1)


def test_the_sensor_is_named_truly(simulated):
    scene, guide, truth = simulated
    out = sharpen(scene, other(guide, truth, (BLUE, NIR), 10), uncertainty=False, threads=1)
    out.quality_dataarray()
    assert out.report["guide_sensor"] == "Meteor" and "guide" in out.report["acquired"]
    said = [*verdict(out.report), *(str(vars(b)) for b in out.quality_bands)]
    assert any("Meteor" in line for line in said) and not any("Sentinel-2" in line for line in said)


def test_two_sensors_are_not_joined(simulated):
    scene, guide, truth = simulated
    with pytest.raises(BandError, match="Meteor with blue nir; several dates must be of one sensor|Sentinel-2 .*one sensor"):
        sharpen(scene, [guide, other(guide, truth, (BLUE, NIR), 10)], threads=1)


def test_two_dates_of_another_sensor_are(simulated):
    scene, guide, truth = simulated
    one = other(guide, truth, (BLUE, RED, NIR, FAR), 10)
    west = replace(one, bands10=one.bands10.where(one.bands10.x < one.bands10.x.mean()), source=Path("west"))
    out = sharpen(scene, [west, one], uncertainty=False, threads=1)
    assert out.report["guide_bands"] == ["blue", "red", "nir", "swir"] and out.report["guide_sensor"] == "Meteor"
