"What a network starts from: EnMAP interpolated, and with the detail that one regression finds in the guide."
from dataclasses import replace

import numpy as np
import pytest

from enmap_sharpener.core.errors import EnmapError
from enmap_sharpener.core.grid import Grid, axes
from enmap_sharpener.preprocessing.base import BASES, open_base
from enmap_sharpener.preprocessing.tile_store import open_store, write_prediction_store, write_wald_store
from enmap_sharpener.preprocessing.wald import PredictionPair, WaldPair, align
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def simulated():
    return simulate_pair(44, seed=4, shift=(0.3, -0.2), rotation=0.0)


@pytest.fixture(scope="module")
def aligned(simulated):
    return align(*simulated[:2])


def everything(source):
    return slice(0, source.grid.ny), slice(0, source.grid.nx)


def test_nearer_to_the_truth_and_just_as_consistent(simulated, aligned):
    scene, _, truth = simulated
    sources = {base: PredictionPair(aligned, base=base) for base in BASES}
    window = slice(20, 110), slice(20, 110)
    lies = [round((a.start - b.start) / a.step) for a, b in zip(axes(aligned.pair.fine), axes(Grid.of(truth)), strict=True)]
    true = np.moveaxis(truth.values, 0, -1)[tuple(slice(w.start + o, w.stop + o) for w, o in zip(window, lies, strict=True))][..., scene.bands.good]
    rmse = {base: np.sqrt(np.nanmean((source.read(*window)["hs"] - true) ** 2)) for base, source in sources.items()}
    assert rmse["regression"] < 0.5 * rmse["interpolated"]
    inner = slice(10, 30), slice(10, 30)
    for (bands, _), see in zip(aligned.detectors, sources["regression"].hs.sees, strict=True):
        need, enmap = see.inputs(*inner), aligned.enmap(*inner)[..., bands]
        again = see.part(*inner, *need).degrade(sources["regression"].hs(*need)[..., bands], axes=(0, 1))
        assert (again - enmap).std() < 0.02 * enmap.std()


def test_a_window_is_a_part_of_the_whole(aligned):
    for source in (PredictionPair(aligned, base="regression"), WaldPair(aligned, base="regression")):
        whole, window = source.read(*everything(source))["hs"], (slice(7, 21), slice(3, 30))
        np.testing.assert_allclose(source.read(*window)["hs"], whole[window], atol=2e-6)


def test_nearer_to_enmap_under_walds_protocol(aligned):
    source = WaldPair(aligned, base="regression")
    parts = source.read(*everything(source))
    error = lambda hs: np.sqrt(np.nanmean((hs - parts["target"])[parts["valid"]] ** 2))
    plain = WaldPair(aligned).read(*everything(source))["hs"]
    assert error(parts["hs"]) < 0.7 * error(plain)


def test_enmap_that_is_missing_stays_missing(simulated, aligned):
    scene, guide, _ = simulated
    cube = scene.cube.copy()
    cube[:, 12:16, 20:25] = np.nan
    pierced = align(replace(scene, cube=cube), guide)
    hs = [PredictionPair(pierced, base=base).read(slice(0, 100), slice(0, 100))["hs"] for base in BASES]
    assert np.isnan(hs[0]).any() and np.array_equal(np.isnan(hs[0]), np.isnan(hs[1]))


def test_without_20_m_bands(simulated):
    scene, guide, _ = simulated
    source = PredictionPair(align(scene, replace(guide, bands20=None)), base="regression")
    assert all(w.shape[0] == 4 for w in source.hs.weights) and np.isfinite(source.read(slice(30, 40), slice(30, 50))["hs"]).all()


def test_where_nothing_can_be_learnt_it_is_interpolated(aligned):
    "All of a guide distrusted, say: no warning, and no detail that nobody vouches for."
    plain, window = PredictionPair(aligned), (slice(20, 50), slice(30, 60))
    lost = open_base("regression", plain.hs, plain._guide, np.zeros(aligned.pair.coarse.shape, bool), np.ones(10))
    np.testing.assert_array_equal(lost(*window), plain.hs(*window))
    assert (lost.unexplained == 1).all()


def test_an_unknown_base():
    with pytest.raises(EnmapError, match="'subspce' are unknown here; wanted interpolated or regression"):
        open_base("subspce", None, None, None, None)


@pytest.mark.slow
def test_stores_say_what_they_hold(simulated, tmp_path):
    scene, guide, _ = simulated
    for write in (write_wald_store, write_prediction_store):
        found = {}
        for base in BASES:
            write(scene, guide, tmp_path / "x.zarr", base=base, tile=16, stride=16)
            store = open_store(tmp_path / "x.zarr")
            assert store.attrs["settings"]["base"] == base
            found[base] = store.hs.values
        assert found["interpolated"].shape == found["regression"].shape and (found["interpolated"] != found["regression"]).any()
