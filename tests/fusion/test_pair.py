"The two images, cropped to what they share."
import errno
import os
from dataclasses import replace

import numpy as np
import pytest

from enmap_sharpener.core.errors import NoValidPixels, OutputError
from enmap_sharpener.fusion import harmonisation, measurement, response_bands
from enmap_sharpener.fusion import pair as pair_module
from enmap_sharpener.fusion.pair import Pair, on_disk
from enmap_sharpener.sharpening.sharpening import sharpen
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
