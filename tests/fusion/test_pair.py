"The two images, cropped to what they share."
import errno
import os
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, zoom

from enmap_sharpener.core.errors import BandError, NoValidPixels, OutputError
from enmap_sharpener.core.grid import Axis, Grid, axes
from enmap_sharpener.fusion import harmonisation, measurement, response_bands
from enmap_sharpener.fusion import pair as pair_module
from enmap_sharpener.fusion.alignment import Geometry
from enmap_sharpener.fusion.pair import Pair, on_disk
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.sharpening.verdict import verdict
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(size=24, seed=3)[:2]


def shorter(guide, top, bottom, left, right):
    image = guide.bands20
    part = image[:, top:image.shape[1] - bottom, left:image.shape[2] - right]
    return replace(guide, bands20=part.rio.write_transform(part.rio.transform(recalc=True)))


@pytest.mark.parametrize("rim", [(1, 0, 0, 0), (0, 1, 0, 1), (0, 0, 2, 0), (1, 1, 1, 1), (0, 2, 0, 2)])
def test_twenty_metre_bands_that_end_a_little_earlier(pair, rim):
    "They are used, and what they lack at the rim changes nothing further in."
    scene, guide = pair
    plan, whole = sharpen(scene, shorter(guide, *rim)), sharpen(scene, guide)
    assert plan.report["guide_bands"] == whole.report["guide_bands"] and plan.grid == whole.grid
    a, b = plan.to_dataarray().values, whole.to_dataarray().values
    assert (np.isfinite(a) == np.isfinite(b)).all() and np.sqrt(np.nanmean((a - b)[:, 20:-20, 20:-20] ** 2)) < 0.002


def test_twenty_metre_bands_that_end_much_earlier_are_left_out(pair):
    scene, guide = pair
    found = Pair(scene, shorter(guide, 0, 20, 0, 0))
    assert len(found.names) == 4 and found.assumptions[-1] == f"{guide.source}: its 20 m bands do not cover its 10 m bands; they are left out"


def test_what_was_found_is_told_without_the_way_to_it(pair, tmp_path):
    scene, guide = pair
    found = Pair(scene, replace(guide, date=None, source=tmp_path / "s2"))
    assert found.assumptions == ["s2: its date is not known"]


@pytest.fixture(scope="module")
def rim(pair):
    "Pixels at the rim of what EnMAP measured, two wide, and all that it measured."
    held = np.isfinite(pair[0].cube.values).any(0)
    return held & ~binary_erosion(held, iterations=2), held


def on_fine(mask, scene, plan):
    "A mask of EnMAP's pixels at those of the result."
    rows, cols = (a.nearest(b) for a, b in zip(axes(Grid.of(scene.cube)), axes(plan.grid), strict=True))
    return mask[np.ix_(rows, cols)]


@pytest.mark.parametrize("first, most", [(91, 0.1), (60, 0.15), (20, 0.1)])
def test_pixels_that_lack_many_bands_teach_their_neighbours_nothing(pair, rim, first, most):
    "The bands behind the first ones end earlier: what is left of a detector stood for the whole of it, up to 0.46 off beside it."
    scene, guide = pair
    values = scene.cube.values.copy()
    values[first:, rim[0]] = np.nan
    plan, whole = sharpen(replace(scene, cube=scene.cube.copy(data=values)), guide), sharpen(scene, guide)
    a, b = plan.to_dataarray().values, whole.to_dataarray().values
    inner, good = on_fine(rim[1] & ~rim[0], scene, plan), plan.bands.good
    assert np.isfinite(a[good][:, inner]).all() and np.abs((a - b)[good][:, inner]).max() < most
    assert np.isnan(a[good & (np.arange(len(good)) >= first)][:, on_fine(rim[0], scene, plan)]).all()


def test_a_band_without_nodata_outside_what_is_measured_changes_nothing(pair, rim):
    scene, guide = pair
    values = scene.cube.values.copy()
    values[60, ~rim[1]] = 0
    a, b = sharpen(replace(scene, cube=scene.cube.copy(data=values)), guide), sharpen(scene, guide)
    np.testing.assert_array_equal(a.to_dataarray().values, b.to_dataarray().values)
    assert a.report["pixels"] == b.report["pixels"]


def test_bands_that_are_empty_though_the_metadata_call_them_good_are_left_out(pair):
    "They ended in a division by zero."
    scene, guide = pair
    values = scene.cube.values.copy()
    values[[60, 200]] = np.nan
    plan = sharpen(replace(scene, cube=scene.cube.copy(data=values)), guide)
    out = plan.to_dataarray()
    assert not plan.bands.good[[60, 200]].any() and np.isnan(out.values[[60, 200]]).all() and plan.bands.good.sum() == scene.bands.good.sum() - 2
    assert any("2 of its bands are empty where Sentinel-2 covers it (61, 201); left out" in line for line in plan.report["assumptions"])
    written = sharpen(replace(scene, cube=scene.cube.copy(data=values)), guide, bands="60-62").to_dataarray().values
    assert np.isfinite(written[0]).any() and np.isnan(written[1]).all()


def on_ten(guide, order):
    "The guide with its 20 m bands on pixels of 10 m."
    grid, values = Grid.of(guide.bands20), guide.bands20.values
    fine = Grid(grid.crs, *(Axis(a.start, a.step / 2, 2 * a.n) for a in axes(grid)))
    values = np.kron(values, np.ones((1, 2, 2))) if order == 0 else np.stack([zoom(v, 2, order=order, mode="nearest", grid_mode=True) for v in values])
    return replace(guide, bands20=fine.georeference(values.astype(np.float32), coords={"band": guide.bands20.band.values}))


@pytest.mark.parametrize("order, worse", [(0, 1.001), (1, 1.6), (3, 1.15)])
def test_twenty_metre_bands_on_pixels_of_ten_are_brought_back(pair, order, worse):
    "As exports write them; taken for bands of 10 m they made the result worse than interpolation, with trust 100."
    scene, guide = pair
    truth = simulate_pair(size=24, seed=3)[2]
    plan, whole = sharpen(scene, on_ten(guide, order)), sharpen(scene, guide)
    assert any("its 20 m bands come on pixels of 10 m; they are averaged to 20 m again" in line for line in plan.report["assumptions"])

    def rmse(plan):
        out = plan.to_dataarray()
        return float(np.sqrt(np.nanmean((out.values - truth.sel(x=out.x, y=out.y, method="nearest").values) ** 2)))

    assert rmse(plan) < worse * rmse(whole)


def test_finest_bands_that_repeat_are_left_out_or_refused(pair):
    scene, guide = pair
    values = guide.bands10.values
    rows, cols = (np.arange(n) // 2 * 2 for n in values.shape[1:])
    twice = values[:, rows][:, :, cols]
    with pytest.raises(BandError, match="its B02 B03 B04 B08 repeat their values"):
        sharpen(scene, replace(guide, bands10=guide.bands10.copy(data=twice)))
    one = values.copy()
    one[3] = twice[3]
    plan = sharpen(scene, replace(guide, bands10=guide.bands10.copy(data=one)))
    assert "B08" not in plan.report["guide_bands"] and any("its B08 is repeated from pixel to pixel" in line for line in plan.report["assumptions"])


def test_bands_are_told_by_their_names(pair):
    scene, guide = pair
    turned = replace(guide, bands10=guide.bands10[::-1], bands20=guide.bands20.isel(band=[4, 5, 0, 1, 2, 3]))
    np.testing.assert_array_equal(sharpen(scene, turned).to_dataarray().values, sharpen(scene, guide).to_dataarray().values)
    with pytest.raises(BandError, match="B02 B02 B04 B08; B02 B03 B04 B08 are wanted, each once"):
        sharpen(scene, replace(guide, bands10=guide.bands10.assign_coords(band=["B02", "B02", "B04", "B08"])))


def test_where_the_swir_cannot_be_measured_it_lies_as_the_vnir_does(pair, monkeypatch):
    "It was taken to lie where its georeference says, though the VNIR lay 90 m aside."
    scene, guide = pair
    measure = measurement.measure_geometry
    monkeypatch.setattr(measurement, "measure_geometry", lambda tiles, start=None, systematic=0.002, *more, **options:
                        Geometry() if systematic == measurement.SWIR_SYSTEMATIC else measure(tiles, start, systematic, *more, **options))
    plan = sharpen(scene, guide)
    vnir, swir = (plan.report["alignment"][name] for name in ("VNIR", "SWIR"))
    assert vnir["measured"] and not swir["measured"] and swir["shift"] == vnir["shift"] != [0, 0] and swir["shift_error"] == [None, None]
    assert any("SWIR not to be measured, taken to lie as the VNIR does" in line for line in verdict(plan.report))


def test_large_arrays_lie_in_files_and_nothing_else_changes(pair, monkeypatch):
    scene, guide = pair
    once = sharpen(scene, guide).to_dataarray().values
    small = np.arange(6.0)
    assert on_disk(small) is small
    for module in (pair_module, measurement, response_bands, harmonisation):
        assert module.on_disk is on_disk
    monkeypatch.setattr(pair_module, "LARGE", 1)
    kept = on_disk(small.reshape(2, 3))
    assert isinstance(kept.base, np.memmap) and type(kept) is np.ndarray and (kept == small.reshape(2, 3)).all()
    plan = sharpen(scene, guide)
    assert all(isinstance(a.base, np.memmap) for a in (plan._model.found.seen, plan._model.whole.degraded))
    np.testing.assert_array_equal(plan.to_dataarray().values, once)


def lacking(guide, names, share):
    "The guide without the western part of some 20 m bands."
    gone = (np.arange(guide.bands20.shape[2]) < share * guide.bands20.shape[2])[None, None] & np.isin(guide.bands20.band.values, names)[:, None, None]
    return replace(guide, bands20=guide.bands20.where(~gone))


@pytest.mark.parametrize(("names", "share", "said"), [
    (["B07"], 1, "its B07 lack 100% of what its 10 m bands show; left out"),
    (["B07", "B11"], 0.5, "its B07 B11 lack 5"),
    (["B05", "B06", "B07", "B8A", "B11", "B12"], 0.5, "lack 5"),
    (["B12"], 0.15, "EnMAP's own level stands in there"),
])
def test_20_m_bands_that_lack_pixels_are_left_out_and_said(pair, names, share, said):
    "Filled with EnMAP's level they spoilt the others, and what they showed."
    scene, guide = pair
    truth = simulate_pair(size=24, seed=3)[2]
    plan, ten, all_bands = (sharpen(scene, g) for g in (lacking(guide, names, share), replace(guide, bands20=None), guide))
    assert any(said in line for line in plan.report["assumptions"])
    assert set(all_bands.report["guide_bands"]) - set(plan.report["guide_bands"]) == (set(names) if share > 0.2 else set())

    def rmse(plan):
        out = plan.to_dataarray()
        return float(np.sqrt(np.nanmean((out.values - truth.sel(x=out.x, y=out.y, method="nearest").values) ** 2)))

    assert rmse(all_bands) < 1.1 * rmse(plan) and rmse(plan) < 1.1 * rmse(ten)


def test_a_10_m_band_that_is_empty_is_refused(pair):
    scene, guide = pair
    with pytest.raises(NoValidPixels, match="its B03 are nodata wherever it covers EnMAP"):
        Pair(scene, replace(guide, bands10=guide.bands10.where(guide.bands10.band != "B03")))


def test_a_temporary_folder_that_is_full_is_told_in_one_line(pair, tmp_path, monkeypatch):
    "Before anything is written, where it cannot do, and on the way; what a disk takes in parts is whole."
    monkeypatch.setattr(pair_module.tempfile, "tempdir", str(tmp_path))
    told = rf"{tmp_path}: a temporary file of .* MB cannot be written there \(No space left on device\); make room, or set TMPDIR"
    usage = lambda free: monkeypatch.setattr(pair_module.shutil, "disk_usage", lambda place: type("usage", (), {"free": free}))  # noqa: E731
    usage(100_000)
    with pytest.raises(OutputError, match=told):
        Pair(*pair)
    usage(10**9)
    scratch, pwrite, values = pair_module.Scratch((4, 5, 6), np.int16), os.pwrite, np.arange(120).reshape(4, 5, 6)
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: pwrite(file, data[:7], at))
    scratch.write(slice(0, 4), slice(0, 5), values)
    np.testing.assert_array_equal(scratch.read(slice(0, 4), slice(0, 5)), values)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=told):
        sharpen(*pair)
    monkeypatch.setattr(pair_module.tempfile, "TemporaryFile", full)
    monkeypatch.setattr(pair_module, "LARGE", 1)
    with pytest.raises(OutputError, match=told):
        on_disk(np.arange(6.0))


def test_small_chunks_are_joined_with_the_same_result():
    assert pair_module._joined((7,) * 40, 256) == [0, 252, 280] and pair_module._joined((256, 256, 30), 256) == [0, 256, 512, 542]
    assert pair_module._joined((100, 200, 300, 5, 5), 256) == [0, 100, 300, 600, 610]
    cube = simulate_pair(40, seed=1)[0].cube.compute()
    whole, small = (pair_module._spooled(c, 2, "x") for c in (cube.chunk(), cube.chunk(band=40, y=7, x=13)))
    window = [slice(0, n) for n in whole.shape[:2]]
    np.testing.assert_array_equal(whole.read(*window), small.read(*window))
    np.testing.assert_allclose(whole.filled, small.filled)
