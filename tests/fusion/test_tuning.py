"""What may be changed in the measuring is changed by `Tuning`, and nothing else is."""
from dataclasses import replace

import numpy as np
import pytest

from enmap_sharpener.fusion.measurement import measure_pair
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.tuning import Tuning
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(24, seed=3, sentinel2_clouds=True)[:2]


@pytest.mark.slow
def test_the_defaults_are_the_defaults(pair):
    plain, tuned = sharpen(*pair).to_dataarray(), sharpen(*pair, tuning=Tuning()).to_dataarray()
    np.testing.assert_array_equal(plain, tuned)
    fewer = sharpen(*pair, tuning=Tuning(rank=3, components=8)).to_dataarray()
    assert 1e-4 < float(np.abs(fewer - plain).mean()) < 0.05


def test_thresholds_reach_their_place(pair):
    classes = sharpen(*pair, tuning=Tuning(trust_sharpened=1.1)).quality_dataarray()[0]
    assert not (classes == 1).any() and (classes == 2).any()
    held = sharpen(*pair, tuning=Tuning(shift_error=0.0)).report["alignment"]["VNIR"]
    assert not held["measured"]
    assert sharpen(*pair).report["alignment"]["VNIR"]["measured"]


def test_measuring_changes_nothing_that_it_is_given(pair):
    given = Pair(*pair)
    before = dict(vars(given))
    measured = measure_pair(given, masked=np.zeros(given.coarse.shape, bool))
    assert vars(given) == before and measured.pair is given


def test_a_scene_that_lacks_a_band_of_the_guide_leaves_its_pair_as_it_was(pair):
    scene, guide = pair
    seen = np.abs(scene.bands.wavelength - 2202) > 150
    few = replace(scene, cube=scene.cube[seen], bands=scene.bands.take(np.flatnonzero(seen)))
    given = Pair(few, guide)
    measured = measure_pair(given)
    assert given.fine20 is not None and len(given.names) == 10
    assert measured.pair.fine20 is not None and measured.pair.names == tuple(n for n in given.names if n != "B12")
