"A guide in another coordinate system than EnMAP."
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import transform, transform_bounds
from readme import ROOT

from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.scenes import warping
from enmap_sharpener.scenes.warping import in_crs_of
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(size=40, seed=3, change=0)[:2]


def abroad(scene, guide, zone=None):
    """The guide as a tile of the neighbouring zone, or of Europe's equal-area projection."""
    own = Grid.of(scene.cube).crs.to_epsg()
    crs = CRS.from_epsg(zone or (own - 1 if own > 32601 else own + 1))
    warp = lambda image, how: image.rio.reproject(crs, resolution=abs(image.rio.resolution()[0]), resampling=how, nodata=np.nan if image.dtype.kind == "f" else 0)
    return replace(guide, source=Path("abroad"), bands10=warp(guide.bands10, Resampling.lanczos), bands20=warp(guide.bands20, Resampling.lanczos),
                   scl=None if guide.scl is None else warp(guide.scl, Resampling.nearest))


@pytest.mark.parametrize("zone", [None, 3035])
def test_it_is_warped_and_said(pair, zone):
    scene, guide = pair
    plan, alone = sharpen(scene, abroad(scene, guide, zone)), sharpen(scene, guide)
    assert plan.grid.crs == alone.grid.crs and (plan.grid.cols.step, plan.grid.cols.start % 10) == (10, 0)
    assert any("abroad: is in EPSG" in line and "it is warped to 10 m pixels of that" in line for line in plan.report["assumptions"])
    a, b = plan.to_dataarray(), alone.to_dataarray()
    a = a.interp(x=b.x, y=b.y)
    assert np.sqrt(np.nanmean((a.values - b.values) ** 2)) < 0.012
    assert (plan.quality_dataarray().values[0] == 1).mean() > 0.95 * (alone.quality_dataarray().values[0] == 1).mean()


def test_with_another_date_in_its_own_zone(pair):
    scene, guide = pair
    plan = sharpen(scene, [guide, abroad(scene, guide)])
    assert [*plan.report["dates"]] == [f"1 {guide.source.name}", "2 abroad"] and all(d["share"] > 0.1 for d in plan.report["dates"].values())


def test_gaps_stay_gaps_and_classes_stay_classes(pair):
    scene, guide = pair
    away = abroad(scene, guide)
    away = replace(away, bands10=away.bands10.where(away.bands10.y > float(away.bands10.y.mean())))
    back = in_crs_of(scene, away).bands10.values
    assert 0.3 < np.isnan(back).mean() < 0.7 and np.nanmin(back) > -0.05 and np.nanmax(back) < 1
    classes = in_crs_of(scene, away).scl
    assert classes is None or set(np.unique(classes)) <= {0, *np.unique(away.scl)}


@pytest.mark.slow
def test_little_is_lost_of_a_guide_that_was_observed_in_the_other_zone():
    """0.2 dB at Sentinel-2's blur, where the ground has no finer detail than its pixels; splines alone lose more."""
    sys.path.append(str(ROOT / "benchmarks"))
    from warped import DONE, RESAMPLED, observed, truths
    (_, truth, bands, scene), name = *truths(("simulated",)), "spline of order 5"
    found = observed(truth, bands, scene, 0.55, 1, {name: RESAMPLED[name]})
    assert found["own"] - found[DONE] < 0.2 < found["own"] - found[name]


def test_what_lies_halfway_is_as_it_was_before_it_was_sampled():
    y, x = np.mgrid[:80, :80]
    wave = lambda y, x: np.cos(2 * np.pi * (0.4 * y + 0.1)) + np.sin(2 * np.pi * 0.43 * x)
    made = warping.doubled(wave(y, x))
    assert made.shape == (160, 160)
    np.testing.assert_allclose(made[40:120, 40:120], wave(*np.mgrid[:160, :160] / 2)[40:120, 40:120], atol=0.02)
    np.testing.assert_array_equal(made[::2, ::2], wave(y, x))


def test_windows_do_not_matter(pair, monkeypatch):
    scene, guide = pair
    away = abroad(scene, guide)
    once = in_crs_of(scene, away).bands10.values
    monkeypatch.setattr(warping, "CHUNK", 37)
    np.testing.assert_allclose(in_crs_of(scene, away).bands10.values, once, atol=1e-5)


def in_degrees(scene):
    "A scene as if it was delivered in geographic coordinates."
    west, south, east, north = transform_bounds(Grid.of(scene.cube).crs, "EPSG:4326", *Grid.of(scene.cube).bounds)
    degrees = Grid(CRS.from_epsg(4326), Axis(-north, 0.00027, int((north - south) / 0.00027)), Axis(west, 0.00027, int((east - west) / 0.00027)))
    layer = lambda v, k, nothing: warping.warped(v if v.ndim == 3 else v.expand_dims("band").assign_coords(band=[k]), degrees, nothing)
    quality = {k: layer(v, k, 255) if v.ndim == 3 else layer(v, k, 0)[0].drop_vars("band") for k, v in scene.quality.items()}
    return replace(scene, cube=layer(scene.cube, "", np.nan).assign_coords(scene.bands.coords), quality=quality, source=Path("degrees"))


def test_enmap_in_geographic_coordinates_is_brought_to_the_zone_of_the_guide(pair):
    scene, guide = pair
    delivered = in_degrees(scene)
    plan, direct = sharpen(delivered, guide), sharpen(scene, guide)
    assert plan.grid.crs == direct.grid.crs and plan.grid.cols.step == 10
    assert any("degrees: is in geographic coordinates; it is warped to 30 m pixels of EPSG:" in line for line in plan.report["assumptions"])
    a, b = plan.to_dataarray(), direct.to_dataarray()
    a = a.interp(x=b.x, y=b.y, method="nearest")
    assert np.isfinite(a.values[50]).sum() > 0.8 * np.isfinite(b.values[50]).sum()
    assert np.sqrt(np.nanmean((a.values - b.values) ** 2)) < 0.02
    assert warping.in_metres(scene, guide) is scene and Grid.of(warping.in_metres(delivered).cube).crs == direct.grid.crs


def test_nor_is_it_brought_to_a_projection_that_has_no_number(pair):
    scene, guide = pair
    nameless = CRS.from_string("+proj=tmerc +lat_0=40 +lon_0=13.3 +k=0.9999 +x_0=1000 +datum=WGS84 +units=m")
    assert nameless.to_epsg() is None
    other = replace(guide, bands10=guide.bands10.rio.write_crs(nameless))
    assert Grid.of(warping.in_metres(in_degrees(scene), other).cube).crs == Grid.of(scene.cube).crs


@pytest.mark.parametrize("target", [32632, 32635, 3035, 4326, 32733])
@pytest.mark.parametrize("step", [10, 30, 3000])
def test_places_are_those_of_every_pixel(target, step):
    own = Grid(CRS.from_epsg(32633), Axis(-5_810_000, step, 403), Axis(360_000, step, 517))
    west, south, east, north = transform_bounds(own.crs, f"EPSG:{target}", *own.bounds)
    size = step / 111_000 if target == 4326 else step
    part = Grid(CRS.from_epsg(target), Axis(-north, size, 301), Axis(west, size, 250))
    xs, ys = np.meshgrid(part.cols.centres, -part.rows.centres)
    x, y = transform(part.crs, own.crs, xs.ravel(), ys.ravel())
    exact = np.stack([own.rows.index(-np.asarray(y)), own.cols.index(np.asarray(x))]).reshape(2, *part.shape)
    np.testing.assert_allclose(warping.places(own, part), exact, atol=1e-3)
    one = part.part(slice(7, 8), slice(9, 10))
    np.testing.assert_allclose(warping.places(own, one)[:, 0, 0], exact[:, 7, 9], atol=1e-6)
