"The 20 m bands of a guide in another coordinate system: sharpened where they were observed."
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from readme import ROOT

from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.fusion import native_grid
from enmap_sharpener.fusion.native_grid import NativeGuide, brought_to
from enmap_sharpener.scenes.guide_bands import SENTINEL2, GuideBand, GuideBands
from enmap_sharpener.scenes.warping import in_crs_of, warped
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair

SAID = "its 20 m bands are sharpened on their own grid before they are warped"


def half(grid):
    return Grid(grid.crs, *(Axis(a.start, 2 * a.step, a.n // 2) for a in (grid.rows, grid.cols)))


@pytest.fixture(scope="module")
def seen():
    "A scene, its guide as observed in the neighbouring zone, and the 20 m bands as they would have been in its own."
    scene, guide, truth = simulate_pair(size=50, seed=5, change=0, clouds=0, rotation=0)
    responses = SENTINEL2.responses(truth.wavelength.values).astype("f4")
    here, crs = Grid.of(truth), CRS.from_epsg(32632)
    ground = here.georeference(np.tensordot(responses, np.nan_to_num(truth.values), 1), coords={"band": list(SENTINEL2.names)}, name="reflectance")
    box = Grid.of(ground[:1].rio.reproject(crs, resolution=10))
    there = Grid(crs, *(Axis(20 * np.ceil(a.start / 20), 10, a.n // 2 * 2 - 2) for a in (box.rows, box.cols)))
    turned = warped(ground.chunk(), there, np.nan).values

    def observe(image, grid, table):
        low = Observation.between(half(grid), grid, 0.45).degrade(np.nan_to_num(image))
        low[:, np.isnan(image).any(0).reshape(grid.ny // 2, 2, -1, 2).any((1, 3))] = np.nan
        return half(grid).georeference(low.astype("f4"), coords={"band": list(table.names)}, name="reflectance")

    ten = there.georeference(turned[:4], coords={"band": list(SENTINEL2.finest.names)}, name="reflectance")
    away = replace(guide, source=Path("away"), bands10=ten, bands20=observe(turned[4:], there, SENTINEL2.coarser), scl=None)
    even = here.part(slice(0, here.ny // 2 * 2), slice(0, here.nx // 2 * 2))
    return scene, away, observe(ground.values[4:, :even.ny, :even.nx], even, SENTINEL2.coarser)


def rmse(bands, wanted, edge=10):
    found = bands.interp(x=wanted.x, y=wanted.y, method="nearest")
    return float(np.sqrt(np.nanmean(((found - wanted).values[:, edge:-edge, edge:-edge]) ** 2)))


def test_the_bands_are_as_if_observed_in_the_scenes_zone(seen):
    scene, away, wanted = seen
    came = brought_to(scene, away)
    assert any(line == f"away: {SAID}" for line in came.found) and any("it is warped to 10 m pixels" in line for line in came.found)
    assert rmse(came.bands20, wanted) < 0.4 * rmse(in_crs_of(scene, away).bands20, wanted)
    assert [*came.bands20.band.values] == [*SENTINEL2.coarser.names] and came.bands20.dtype == np.float32
    np.testing.assert_array_equal(came.bands10.values, in_crs_of(scene, away).bands10.values)


def test_windows_do_not_matter(seen, monkeypatch):
    scene, away, _ = seen
    once = brought_to(scene, away).bands20.values
    monkeypatch.setattr(native_grid, "CHUNK", 23)
    np.testing.assert_allclose(brought_to(scene, away).bands20.values, once, atol=2e-5)


@pytest.mark.parametrize("names", [["B8A", "B11", "B12"], ["B05"], ["B11", "B12"]])
def test_some_of_the_bands_will_do(seen, names):
    scene, away, wanted = seen
    came = brought_to(scene, replace(away, bands20=away.bands20.sel(band=names)))
    assert [*came.bands20.band.values] == names and SAID in came.found[-1]
    assert rmse(came.bands20, wanted.sel(band=names)) < 0.5 * rmse(in_crs_of(scene, away).bands20.sel(band=names), wanted.sel(band=names))


def test_gaps_stay_gaps_and_grow_little(seen):
    scene, away, wanted = seen
    y, x = (float(a.mean()) for a in (away.bands20.y, away.bands20.x))
    hole = (abs(away.bands20.y - y) < 200) & (abs(away.bands20.x - x) < 300)
    full, came = (np.isnan(brought_to(scene, replace(away, bands20=bands)).bands20.values).any(0) for bands in (away.bands20, away.bands20.where(~hole)))
    lost = (came & ~full).sum() * 400
    assert 400 * 600 * 0.95 < lost < 480 * 680
    bands = brought_to(scene, replace(away, bands20=away.bands20.where(~hole))).bands20
    assert rmse(bands, wanted) < 0.005


def test_grids_that_begin_elsewhere(seen):
    "The 10 m bands were cropped apart from the 20 m bands, at odd pixels."
    scene, away, wanted = seen
    came = brought_to(scene, replace(away, bands10=away.bands10[:, 5:, 3:-7]))
    assert SAID in came.found[-1] and rmse(came.bands20, wanted) < 0.5 * rmse(in_crs_of(scene, away).bands20, wanted)


@pytest.mark.parametrize("spoilt", [
    lambda g: replace(g, bands20=g.bands20 * np.nan),
    lambda g: replace(g, bands10=g.bands10 * np.nan),
    lambda g: replace(g, unnamed=("bands20",)),
    lambda g: replace(g, bands20=g.bands20[:, :8]),
    lambda g: replace(g, bands20=g.bands20.where(g.bands20.x < float(g.bands20.x.mean()) - 700)),
], ids=["20 m empty", "10 m empty", "unnamed", "8 rows", "too little"])
def test_where_nothing_can_be_measured_they_are_warped_as_they_are(seen, spoilt):
    scene, away, _ = seen
    came, alone = brought_to(scene, spoilt(away)), in_crs_of(scene, spoilt(away))
    assert not any(SAID in line for line in came.found)
    np.testing.assert_array_equal(came.bands20.values, alone.bands20.values)


def test_another_sensor_with_two_grids(seen):
    "Landsat-like: a panchromatic band of 10 m, say, and three of 20 m."
    scene, away, wanted = seen
    bands = GuideBands((GuideBand("PAN", 600, 180, 10, "VNIR", 10), *(replace(SENTINEL2[n], gauge=False) for n in ("B05", "B8A", "B11"))), "A sensor")
    pan = away.bands10.mean("band", keepdims=True).assign_coords(band=["PAN"]).rio.write_crs(away.bands10.rio.crs)
    guide = replace(away, bands10=pan, bands20=away.bands20.sel(band=["B05", "B8A", "B11"]), described=bands)
    came = brought_to(scene, guide)
    assert SAID in came.found[-1] and [*came.bands20.band.values] == ["B05", "B8A", "B11"]
    assert rmse(came.bands20, wanted.sel(band=came.bands20.band.values)) < rmse(in_crs_of(scene, guide).bands20, wanted.sel(band=came.bands20.band.values))


def test_bands_that_lie_off_come_back_where_they_belong(seen):
    scene, away, wanted = seen
    own = Grid.of(away.bands20)
    off = Grid(own.crs, replace(own.rows, start=own.rows.start + 10), replace(own.cols, start=own.cols.start + 5))
    moved = off.georeference(away.bands20.values, coords={"band": away.bands20.band.values}, name="reflectance")
    came = brought_to(scene, replace(away, bands20=moved))
    assert any("lie" in line and "of its 10 m bands; they are used where they lie" in line for line in came.found)
    assert rmse(came.bands20, wanted) < 0.5 * rmse(in_crs_of(scene, replace(away, bands20=moved)).bands20, wanted)


def test_a_scene_is_sharpened_with_it(seen):
    scene, away, _ = seen
    plan = sharpen(scene, away)
    assert f"away: {SAID}" in plan.report["assumptions"] and (plan.quality_dataarray().values[0] == 1).mean() > 0.9


def test_a_guide_in_the_scenes_zone_is_left_alone(seen):
    scene, away, _ = seen
    own = in_crs_of(scene, replace(away, bands20=None))
    assert brought_to(scene, own) is own and NativeGuide.of(away).fine20.shape == away.bands20.shape[1:]


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT.parent / "shared/data/cases/potsdam_train").is_dir(), reason="the shared data are not here")
def test_little_is_lost_of_a_real_scene_whose_guide_was_observed_in_the_other_zone():
    "0.2 dB; interpolating all pixels loses more than 1."
    sys.path.append(str(ROOT / "benchmarks"))
    from warped import DONE, observed_there
    found = observed_there(ROOT.parent / "shared/data/cases/potsdam_train")
    assert found["own"] - found[DONE] < 0.2 and found["own"] - found["interpolated"] > 1
