"Guides that lack some of Sentinel-2's bands."
from dataclasses import replace

import numpy as np
import pytest

from enmap_sharpener.core.errors import BandError, GridError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.fusion.denoising import TYPICAL_NOISE, relative_noise
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.response_bands import response_bands
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def simulated():
    scene, guide, truth = simulate_pair(size=40, seed=3)
    return scene, guide, truth


def some(guide, *names):
    return replace(guide, bands20=guide.bands20.sel(band=list(names)) if names else None)


def error(scene, guide, truth):
    "RMSE of the SWIR, and the result."
    out = sharpen(scene, guide, uncertainty=False, threads=1)
    cube = out.to_dataarray()
    wrong = (cube.values - truth.sel(x=cube.x, y=cube.y, method="nearest").values)[(out.bands.wavelength > 1450) & out.bands.good]
    return float(np.sqrt(np.nanmean(wrong**2))), out


@pytest.mark.parametrize("names", [("B8A", "B11", "B12"), ("B11", "B12"), ("B12",)])
def test_swir_bands_without_the_red_edge_help_the_swir(simulated, names):
    scene, guide, truth = simulated
    alone, _ = error(scene, some(guide), truth)
    with_them, out = error(scene, some(guide, *names), truth)
    assert out.report["guide_bands"] == ["B02", "B03", "B04", "B08", *names]
    assert with_them < 0.98 * alone


@pytest.mark.parametrize("names", [("B05", "B06"), ("B05",)])
def test_red_edge_bands_without_the_swir(simulated, names):
    scene, guide, truth = simulated
    wrong, out = error(scene, some(guide, *names), truth)
    assert out.report["guide_bands"] == ["B02", "B03", "B04", "B08", *names] and "swir_guide_shift_m" not in out.report
    assert wrong < 1.1 * error(scene, some(guide), truth)[0]


def test_errors_are_estimated_with_any_bands(simulated):
    scene, guide, _ = simulated
    out = sharpen(scene, some(guide, "B11"), threads=1)
    assert out.quality_bands[-1].name == "relative_error" and out.report["guide_bands"][-1] == "B11"


@pytest.mark.parametrize("lost, kept", [(("B12",), 9), (("B11", "B12"), 8), (("B02",), 9), (("B05", "B06", "B07", "B8A", "B11", "B12"), 4)])
def test_bands_that_enmap_does_not_see_are_left_out(simulated, lost, kept):
    scene, guide, _ = simulated
    table = guide.table
    blind = [abs(scene.bands.wavelength - table[b].centre) < 2 * table[b].width for b in lost]
    pair, found = response_bands(Pair(replace(scene, bands=replace(scene.bands, good=scene.bands.good & ~np.any(blind, 0))), guide))
    assert len(pair.names) <= kept and not set(lost) & set(pair.names)
    assert found.seen.shape[-1] == len(pair.names) and pair.ten(slice(0, 6), slice(0, 6)).shape[-1] == len(pair.guide_bands.finest)
    if pair.fine20:
        assert pair.twenty(slice(0, 4), slice(0, 4)).shape[-1] == len(pair.guide_bands.coarser)
    assert any(lost[-1] in line for line in pair.told)


def test_values_of_what_is_left_are_those_of_its_names(simulated):
    scene, guide, _ = simulated
    whole = Pair(scene, guide)
    pair = whole.seeing({"B03", "B08", "B06", "B12"}).seeing({"B08", "B12"})
    window, window20 = (slice(0, 6), slice(0, 8)), (slice(0, 3), slice(0, 4))
    assert pair.names == ("B08", "B12")
    np.testing.assert_allclose(pair.ten(*window)[..., 0], whole.ten(*window)[..., 3])
    np.testing.assert_allclose(pair.twenty(*window20)[..., 0], whole.twenty(*window20)[..., 5])


def test_a_scene_that_sees_no_band_of_the_finest_grid(simulated):
    scene, guide, _ = simulated
    bands = replace(scene.bands, good=scene.bands.good & (scene.bands.wavelength > 1000))
    with pytest.raises(BandError, match="B02, B03, B04, B08; one of these"):
        response_bands(Pair(replace(scene, bands=bands), guide))


def test_noise_of_one_band_is_the_usual():
    assert relative_noise([(np.ones((20, 20, 1), "f4"), np.ones((20, 20), "f4"))], slice(0, 1)) == TYPICAL_NOISE


@pytest.mark.parametrize("by, text", [(1 / 2.9, "finer by 1.4 times"), (6, "average them to")])
def test_pixels_that_are_not_finer_or_far_too_fine(simulated, by, text):
    scene, guide, _ = simulated
    own = Grid.of(guide.bands10)
    grid = Grid(own.crs, *(Axis(a.start, a.step / by, max(int(a.n * by), 8)) for a in (own.rows, own.cols)))
    image = grid.georeference(np.ones((4, *grid.shape), "f4"), coords={"band": ["B02", "B03", "B04", "B08"]})
    with pytest.raises(GridError, match=text):
        Pair(scene, replace(guide, bands10=image, bands20=None, scl=None))
