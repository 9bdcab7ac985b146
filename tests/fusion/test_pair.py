"The two images, cropped to what they share."
from dataclasses import replace

import numpy as np
import pytest

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
