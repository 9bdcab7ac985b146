"""Networks as methods: whole scenes without a seam, consistent with EnMAP; tiles in, tiles out, and together again; what cannot be is told in one line."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

pytest.importorskip("keras")

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import EnmapError, ModelError, OutputError, ProductError
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.model import memory
from enmap_sharpener.model.streaming import Streamed
from enmap_sharpener.model.supermapnet import Contract, SupErMAPnet, keras, save_model
from enmap_sharpener.preprocessing.tile_store import open_store, write_prediction_store
from enmap_sharpener.reconstruction import tiled_inference as tiles
from enmap_sharpener.sharpening import network as networks
from enmap_sharpener.sharpening.regridding import Regridded, grid_over
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate, simulate_pair

TINY = {"detail_filters": (4, 4, 2), "main_filters": (4, 4, 4)}


def network(base="interpolated", scaling="standard", guide=("B02", "B03", "B04", "B08"), residual=0.3, **settings):
    "A small network with random weights."
    keras.utils.set_random_seed(1)
    net = SupErMAPnet(**TINY, residual=residual, channels=len(guide), contract=Contract(base, scaling, guide), **settings)
    net.build()
    return net


def everything(model):
    "Window of the whole output."
    return slice(0, model.pair.fine.ny), slice(0, model.pair.fine.nx)


def thinned(pair):
    "A pair with every third VNIR band and every twelfth SWIR band, which is quicker."
    scene, guide, truth = pair
    order = np.arange(len(scene.bands))
    kept = np.flatnonzero(np.where(scene.bands.vnir, order % 3, order % 12) == 0)
    return replace(scene, cube=scene.cube[kept], bands=scene.bands.take(kept)), guide, truth[kept]


@pytest.fixture(scope="module")
def pair():
    "A rotated scene with clouds in both sensors, its guide and the truth."
    return thinned(simulate_pair(26, seed=2, shift=(0.3, -0.4), sentinel2_clouds=True))


@pytest.fixture(scope="module")
def fitted(pair):
    "Fitted networks by base and scaling, made once."
    made = {}

    def get(base="interpolated", scaling="standard", **settings):
        key = base, scaling, *sorted(settings.items())
        if key not in made:
            made[key] = sharpen(*pair[:2], "supermapnet", model=network(base, scaling, **settings), threads=1)._model
        return made[key]
    return get


# ---- whole scenes

@pytest.mark.parametrize(("base", "scaling"), [("interpolated", "standard"), ("subspace", "reflectance")])
def test_the_result_depends_neither_on_tiles_nor_on_blocks(fitted, base, scaling):
    model = fitted(base, scaling)
    rows, cols = everything(model)
    bands = np.arange(len(model.pair.bands))
    whole = np.full((len(bands), rows.stop, cols.stop), NODATA, np.int16)
    model.block(rows, cols, bands, whole)
    for side, window in ((33, (slice(0, 37), slice(11, 60))), (41, (slice(40, 41), slice(cols.stop - 5, cols.stop)))):
        part = np.full((len(bands), *(w.stop - w.start for w in window)), NODATA, np.int16)
        replace(model, side=side).block(*window, bands, part)
        there = whole[:, window[0], window[1]]
        assert ((part == NODATA) == (there == NODATA)).all()
        assert np.abs(part.astype(int) - there).max() <= 1


@pytest.mark.parametrize("settings", [{}, {"main_kernels": ((5, 5, 4), (5, 5, 3), (3, 3, 6), (3, 3, 2))}, {"main_kernels": ((7, 7, 1), (3, 5, 2), (4, 2, 5), (2, 2, 2)), "detail_kernels": (4, 2, 3)},
                                      {"main_filters": (2,), "main_kernels": ((9, 9, 7), (5, 5, 3)), "detail_filters": (3,), "detail_kernels": (5,)}])
def test_what_processors_compute_is_what_a_backend_computes(fitted, settings):
    model = fitted()
    net = SupErMAPnet(**{**TINY, **settings}, residual=0.3, contract=Contract())
    net.build()
    net.set_weights([w + 0.02 * np.random.default_rng(i).random(w.shape) for i, w in enumerate(net.get_weights())])
    ours = replace(model, net=net, streamed=Streamed(net), side=2 * net.reach[0] + 19, threads=3)
    rows, cols = slice(0, 41), slice(model.pair.fine.nx - 34, model.pair.fine.nx)
    a, b = ours.raw(rows, cols), replace(ours, streamed=None, side=2 * net.reach[0] + 60).raw(rows, cols)
    assert np.abs(b - model.base(rows, cols)).max() > 1e-3
    assert np.abs(a - b).max() < 1e-5


@pytest.mark.slow
def test_threads_and_blocks_of_a_plan_give_the_same(pair):
    cubes = []
    for threads, size in ((1, 512), (3, 31)):
        plan = sharpen(*pair[:2], "supermapnet", model=network(), threads=threads)
        out = np.empty((len(plan.bands), *plan.grid.shape), np.int16)
        for block in plan.blocks(size):
            out[:, block.rows, block.cols] = block.cube
        cubes.append(out.astype(int))
    assert np.abs(cubes[0] - cubes[1]).max() <= 1


def test_the_output_degraded_is_enmap(pair):
    plan = sharpen(*pair[:2], "supermapnet", model=network())
    cube = plan.to_dataarray()
    assert plan.report["network"]["added_rms"] > 1e-3
    assert plan.report["agreement"]["worst_band_rmse"] < 1e-4
    model = plan._model
    for bands, see, _ in model.detectors[:1]:
        low = see.degrade(np.nan_to_num(cube.values[pair[0].bands.good][bands]))
        truth = np.moveaxis(model.pair.enmap(*(slice(0, n) for n in model.pair.coarse.shape)), -1, 0)[bands]
        inner = np.isfinite(truth).all(0)
        for axis in (0, 1):     # where the operator sees a nodata pixel nothing can be said
            inner &= np.roll(inner, 2, axis) & np.roll(inner, -2, axis)
        inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
        assert inner.sum() > 50
        assert np.sqrt(np.mean((low - truth)[:, inner] ** 2)) < 2e-4


def test_on_the_subspace_method_enmap_sees_no_change(pair):
    ours = sharpen(*pair[:2], "supermapnet", model=network("subspace"))
    theirs = sharpen(*pair[:2], "subspace")
    a, b = ours.to_dataarray().values, theirs.to_dataarray().values
    assert (np.isnan(a) == np.isnan(b)).all()
    assert np.sqrt(np.nanmean((a - b) ** 2)) > 5e-4
    assert ours.report["agreement"]["rmse"] == pytest.approx(theirs.report["agreement"]["rmse"], rel=0.05)


@pytest.mark.parametrize("base", ["interpolated", "subspace"])
def test_a_network_that_adds_nothing_returns_x1(fitted, base):
    model = fitted(base, residual=0.1, zero_start=True)
    window = everything(model)
    assert np.nanmax(np.abs(model.raw(*window) - model.base(*window))) < 1e-6
    assert model.report["network"]["added_rms"] < 1e-6
    if base == "subspace":
        every, out = np.arange(len(model.pair.bands)), [np.full((len(model.pair.bands), *model.pair.fine.shape), NODATA, np.int16) for _ in range(2)]
        model.block(*window, every, out[0])
        x1 = np.moveaxis(model.base(*window), -1, 0)
        assert np.nanmax(np.abs(np.where(out[0] == NODATA, np.nan, out[0] * 1e-4) - x1)) < 1.01e-4


def test_where_sentinel2_is_distrusted_nothing_is_added(fitted):
    model = fitted()
    window = everything(model)
    added = np.abs(model.raw(*window) - model.base(*window)).max(-1)
    share = networks._share(model.measured, *window)[..., 0]
    assert (share < 0.01).sum() > 20 and added[share < 0.01].max() < 1e-3 < np.median(added[share > 0.99])


def test_quality_and_coverage_are_those_of_the_subspace_method(pair):
    ours, theirs = (sharpen(*pair[:2], *more[:1], **more[1]) for more in (("supermapnet", {"model": network()}), ("subspace", {})))
    assert ours.grid == theirs.grid and (ours.bands.number == theirs.bands.number).all()
    window = slice(0, ours.grid.ny), slice(0, ours.grid.nx)
    a, b = ours.block(*window), theirs.block(*window)
    assert ((a.cube == NODATA) == (b.cube == NODATA)).all() and (a.quality == b.quality[:len(a.quality)]).all()      # a network tells no error
    assert {1, 2} <= set(np.unique(a.quality[0]))


def test_some_bands_only(pair):
    some = sharpen(*pair[:2], "supermapnet", model=network(), bands="450-470nm,1600-1700nm")
    every = sharpen(*pair[:2], "supermapnet", model=network())
    window = slice(10, 40), slice(20, 60)
    kept = np.isin(every.bands.number, some.bands.number)
    assert 1 < kept.sum() < 10 and np.abs(some.block(*window).cube.astype(int) - every.block(*window).cube[kept]).max() <= 1


def test_twenty_metre_bands_in_any_order(pair):
    net = network(guide=("B8A", "B03", "B12"))
    with pytest.raises(ModelError, match="lacks B12"):     # EnMAP does not see it
        sharpen(*pair[:2], "supermapnet", model=net)
    model = sharpen(*simulate_pair(20, seed=1)[:2], "supermapnet", model=net)._model
    window = slice(20, 60), slice(10, 50)
    x = model.guide(*window)
    assert x.shape == (40, 40, 3) and np.isfinite(x).all()
    low = np.corrcoef(x[..., 1].ravel(), np.nan_to_num(model.pair.ten(*window)[..., 1]).ravel())[0, 1]
    assert low > 0.9
    assert model.report["guide_bands"] == ["B8A", "B03", "B12"]


def test_mirror():
    assert networks._mirrored(slice(1, 3), 3, 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]
    for n in (1, 2, 5, 30):
        for size in (1, 3, 7, 40):
            cuts = networks._cuts(n, size)
            assert {c.stop - c.start for c in cuts} == {cuts[0].stop - cuts[0].start} and cuts[0].stop - cuts[0].start <= size
            assert set().union(*(range(c.start, c.stop) for c in cuts)) == set(range(n))


def test_memory_bounds_the_tile():
    net = SupErMAPnet()
    sides = [memory.tile_side(net, 224, m) for m in (0.01, 1, 4, 1000)]
    assert sides[0] == 2 * net.reach[0] + 8 and sides == sorted(sides)
    assert sides[-1] ** 2 * 224 * 64 < 2**31


def test_mixed_precision_computes_in_single(pair):
    mixed, plain = network(dtype="mixed_bfloat16"), network()
    mixed.set_weights(plain.get_weights())
    window = slice(20, 40), slice(20, 40)
    a, b = (sharpen(*pair[:2], "supermapnet", model=n)._model.raw(*window) for n in (mixed, plain))
    assert np.abs(a - b).max() < 1e-6


def test_the_core_needs_no_keras():
    code = ("import sys; sys.modules['keras'] = None; sys.modules['tensorflow'] = None\n"
            "import enmap_sharpener.sharpening.sharpening, enmap_sharpener.sharpening.network, enmap_sharpener.reconstruction.tiled_inference, enmap_sharpener.cli.app, enmap_sharpener.cli.networks")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# ---- what cannot be

def test_a_network_where_none_is_wanted_and_none_where_one_is(pair):
    with pytest.raises(EnmapError, match="--model"):
        sharpen(*pair[:2], "supermapnet")
    with pytest.raises(EnmapError, match="takes no network"):
        sharpen(*pair[:2], "subspace", model="net.keras")
    with pytest.raises(EnmapError, match="supermapnet"):
        sharpen(*pair[:2], "magic")


def test_guide_bands_that_are_not_there(pair):
    scene, guide, _ = pair
    with pytest.raises(ModelError, match="lacks B05"):
        sharpen(scene, replace(guide, bands20=None), "supermapnet", model=network(guide=("B02", "B05", "B04", "B08")))
    with pytest.raises(ModelError, match="4 channels and names 2"):
        sharpen(scene, guide, "supermapnet", model=SupErMAPnet(**TINY, channels=4, contract=Contract(guide=("B02", "B03"))))
    with pytest.raises(ModelError, match="no network of this package"):
        sharpen(scene, guide, "supermapnet", model=keras.Sequential([keras.layers.Dense(1)]))


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("OOM when allocating tensor with shape[1]"), RuntimeError("CUDA out of memory. Tried"),
                                   RuntimeError("RESOURCE_EXHAUSTED: Out of memory while")])
def test_too_little_memory_is_told_with_advice(fitted, monkeypatch, error):
    model = fitted()

    def fail(*_):
        raise error
    monkeypatch.setattr(model.net, "predict_on_batch", fail)
    for streamed in (None, fail):
        with pytest.raises(ModelError, match="do not fit into memory; take smaller .*--mem-limit"):
            replace(model, streamed=streamed).raw(slice(0, 20), slice(0, 20))


def test_other_errors_pass(fitted, monkeypatch):
    def fail(*_):
        raise RuntimeError("room")
    model = fitted()
    monkeypatch.setattr(model.net, "predict_on_batch", fail)
    for streamed in (None, fail):
        with pytest.raises(RuntimeError, match="room"):
            replace(model, streamed=streamed).raw(slice(0, 20), slice(0, 20))


# ---- tiles

@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Two stores of tiles of a scene without Sentinel-2 clouds, and two networks; not to be changed."
    folder = tmp_path_factory.mktemp("tiles")
    scene, guide, _ = thinned(simulate_pair(36, seed=4))
    (folder / "in").mkdir()
    write_prediction_store(scene, guide, folder / "in/one.zarr")
    shutil.copytree(folder / "in/one.zarr", folder / "in/two.zarr")
    save_model(network(scaling="reflectance"), folder / "net.keras")
    save_model(network("subspace"), folder / "subspace.keras")
    save_model(network(guide=("B02", "B09", "B04", "B08")), folder / "bands.keras")
    tiles.sharpen_tiles(folder / "net.keras", folder / "in", folder / "out")
    return folder, scene, guide


@pytest.fixture
def place(made, tmp_path):
    "A copy of it, to be spoiled."
    return Path(shutil.copytree(made[0], tmp_path / "work"))


def contents(folder):
    "Bytes of all files by name."
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_tiles_agree_with_the_whole_scene_inside(made):
    folder, scene, guide = made
    model = sharpen(scene, guide, "supermapnet", model=folder / "net.keras")._model
    store, data = open_store(folder / "in/one.zarr"), xr.open_zarr(folder / "out/one.zarr", mask_and_scale=False, chunks=None)
    halo, compared = model.net.reach[0], 0
    for i in range(store.sizes["tile"]):
        row, col = int(store.row[i]), int(store.col[i])
        window = slice(row + halo, row + 32 - halo), slice(col + halo, col + 32 - halo)
        hs, out = (d[i, halo:-halo, halo:-halo].values[..., scene.bands.good] for d in (store.hs, data.sharpened))
        held = store.valid[i].values.all() and (hs != NODATA).all()
        if held and networks._share(model.measured, *window).min() > 0.999:
            assert np.abs(model.raw(*window) - out * 1e-4).max() < 2e-3    # the tiles' inputs are rounded to 1e-4
            compared += 1
    assert compared >= 2


def test_predictions_have_nodata_where_enmap_has(made):
    store, data = open_store(made[0] / "in/one.zarr"), xr.open_zarr(made[0] / "out/one.zarr", mask_and_scale=False, chunks=None)
    good = store.good.values
    assert ((data.sharpened.values == NODATA) == (store.hs.values == NODATA))[..., good].all() and (data.sharpened.values[..., ~good] == NODATA).all()
    assert data.attrs["model"] == "net.keras" and data.attrs["scene_id"] == store.attrs["scene_id"]
    decoded = xr.open_zarr(made[0] / "out/one.zarr", chunks=None).sharpened.values
    assert np.nanmax(decoded) < 3 and np.isnan(decoded).any()


def test_done_is_done_and_another_network_does_it_again(place):
    first = contents(place / "out")
    report = tiles.sharpen_tiles(place / "net.keras", place / "in", place / "out")
    assert report.already == ["one", "two"] and contents(place / "out") == first
    save_model(network(scaling="reflectance", residual=0.2), place / "net.keras")
    assert tiles.sharpen_tiles(place / "net.keras", place / "in", place / "out").done == ["one", "two"]
    assert contents(place / "out") != first and not list((place / "out").glob(".*"))


@pytest.mark.slow
def test_the_same_bytes_after_a_stop(place, monkeypatch):
    shutil.rmtree(place / "out")
    tiles.sharpen_tiles(place / "net.keras", place / "in", place / "first", batch_size=4)
    real, calls = tiles.apply, []

    def stopped(*args):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)
    monkeypatch.setattr(tiles, "apply", stopped)
    with pytest.raises(KeyboardInterrupt):
        tiles.sharpen_tiles(place / "net.keras", place / "in", place / "out", batch_size=4)
    assert [p.name for p in (place / "out").iterdir()] == [".one.zarr.part"]
    calls[:] = [1] * 10
    assert tiles.sharpen_tiles(place / "net.keras", place / "in", place / "out", batch_size=4).done == ["one", "two"]
    assert len(calls) == 10 + 2 * -(-open_store(place / "in/one.zarr").sizes["tile"] // 4) - 3     # three batches were not done again
    assert contents(place / "out") == contents(place / "first")


def test_nothing_is_left_where_nothing_was_done(place, monkeypatch):
    def fail(*_):
        raise MemoryError
    monkeypatch.setattr(tiles, "apply", fail)
    with pytest.raises(MemoryError):
        tiles.sharpen_tiles(place / "net.keras", place / "in", place / "new")
    assert not list((place / "new").iterdir())


def test_a_damaged_store_does_not_stop_the_others(place):
    chunk = next((place / "in/one.zarr/hs").glob("5.*"))
    chunk.write_bytes(chunk.read_bytes()[:50])
    report = tiles.sharpen_tiles(place / "net.keras", place / "in", place / "new")
    assert report.done == ["two"] and report.skipped[0].id == "one" and "cannot be read" in report.skipped[0].reason
    assert [p.name for p in (place / "new").iterdir()] == ["two.zarr"]


def test_what_is_no_prediction_is_not_replaced(place):
    (place / "new/one.zarr").mkdir(parents=True)
    (place / "new/one.zarr/mine.txt").write_text("dear")
    with pytest.raises(OutputError, match="holds no sharpened tiles"):
        tiles.sharpen_tiles(place / "net.keras", place / "in", place / "new")
    assert (place / "new/one.zarr/mine.txt").read_text() == "dear"


def test_tiles_that_do_not_fit(place, made):
    with pytest.raises(ModelError, match="subspace"):
        tiles.sharpen_tiles(place / "subspace.keras", place / "in", place / "new")
    with pytest.raises(ModelError, match="lacks B09"):
        tiles.sharpen_tiles(place / "bands.keras", place / "in", place / "new")
    write_prediction_store(*made[1:], place / "small/s.zarr", tile=4, stride=4, window=(slice(8, 16), slice(8, 16)))
    with pytest.raises(ModelError, match="4 x 4 pixels are too small"):
        tiles.sharpen_tiles(place / "net.keras", place / "small", place / "new")
    with pytest.raises(ProductError, match="holds no tiles"):
        tiles.sharpen_tiles(place / "net.keras", place / "out/one.zarr/sharpened", place / "new")
    assert not (place / "new").exists()


def test_bands_that_the_regression_explains_are_left_alone(fitted):
    "Bands under Sentinel-2's own are explained all but wholly, those of the SWIR less; what is added is taken as much as is left."
    model = fitted("regression")
    unexplained, window = model.base.unexplained, (slice(12, 40), slice(12, 40))
    near = [int(np.abs(model.pair.bands.wavelength - nm).argmin()) for nm in (560, 665)]
    assert (unexplained[near] < 0.05).all() and unexplained.max() > unexplained[near].max()
    np.testing.assert_allclose(model.gate, np.clip(10 * unexplained, 0, 1), rtol=1e-6)
    added, whole = (np.abs(m.raw(*window) - m.base(*window)).mean((0, 1)) for m in (model, replace(model, gate=1.0)))
    np.testing.assert_allclose(added, model.gate * whole, rtol=1e-3, atol=1e-6)
    assert fitted("interpolated").gate == 1.0


def test_batches_are_what_fits(made):
    store, net = open_store(made[0] / "in/one.zarr"), SupErMAPnet()
    assert tiles._batch(net, store, None, 0.05) == 1 and tiles._batch(net, store, 3, 100) == 3 and tiles._batch(net, store, None, 100) == 64
    assert 10 < tiles._batch(net, store, None, 2) < 64


# ---- together again

def test_together_again(place):
    report = tiles.reconstruct(place / "out", place / "in", place / "tif")
    assert report.done == ["one", "two"] and report.missing == {"one": [], "two": []} and not report.skipped
    store = open_store(place / "in/one.zarr")
    with rasterio.open(place / "tif/one.tif") as file, rasterio.open(place / "tif/one_quality.tif") as quality:
        cube, kind = file.read(), quality.read(1)
        assert file.crs.to_wkt() == rasterio.crs.CRS.from_wkt(store.attrs["crs"]).to_wkt() and list(file.transform)[:6] == store.attrs["transform"]
        assert file.shape == tuple(store.attrs["shape"]) and file.count == store.sizes["band"] and file.nodata == NODATA
    assert ((kind > 0) == (cube != NODATA).any(0)).all() and (kind == 1).mean() > 0.3
    data = xr.open_zarr(place / "out/one.zarr", mask_and_scale=False, chunks=None)
    row, col = int(store.row[5]), int(store.col[5])
    middle = np.moveaxis(cube[:, row + 6:row + 26, col + 6:col + 26], 0, -1)
    assert (middle == data.sharpened[5, 6:26, 6:26].values).all()
    before = contents(place / "tif")
    assert tiles.reconstruct(place / "out", place / "in", place / "tif").already == ["one", "two"] and contents(place / "tif") == before
    assert tiles.reconstruct(place / "out", place / "in", place / "tif", overwrite=True).done == ["one", "two"]


def test_missing_tiles_are_told_and_left_as_nodata(place, caplog):
    whole = tiles.reconstruct(place / "out", place / "in", place / "whole")
    for i in (5, 6):
        (place / f"out/one.zarr/sharpened/{i}.0.0.0").unlink()
    report = tiles.reconstruct(place / "out", place / "in", place / "tif")
    assert report.missing == {"one": [5, 6], "two": []} and not whole.missing["one"]
    assert "2 of" in caplog.text and "5, 6" in caplog.text
    store = open_store(place / "in/one.zarr")
    with rasterio.open(place / "tif/one.tif") as file, rasterio.open(place / "whole/one.tif") as other, rasterio.open(place / "tif/one_quality.tif") as quality:
        cube, before, kind = file.read(), other.read(), quality.read(1)
    inner = slice(int(store.row[5]) + 5, int(store.row[5]) + 27), slice(int(store.col[5]) + 5, int(store.col[5]) + 27)
    assert (cube[:, inner[0], inner[1]] == NODATA).all() and (kind[inner] == 0).all() and (before[:, inner[0], inner[1]] != NODATA).any()
    assert (cube[0] != before[0]).sum() < 3 * 32 * 32


def test_tiles_of_another_store(place, made):
    write_prediction_store(*made[1:], place / "other/one.zarr", tile=24, stride=20)
    shutil.copytree(place / "in/two.zarr", place / "other/three.zarr")
    report = tiles.reconstruct(place / "out", place / "other", place / "tif")
    told = {s.id: s.reason for s in report.skipped}
    assert "24 x 24" in told["one"] and "--meta-path" in told["two"] and "sharpen-tiles first" in told["three"] and not report.done
    report = tiles.reconstruct(place / "in", place / "in", place / "tif")
    assert len(report.skipped) == 2 and "no readable store of sharpened tiles" in report.skipped[0].reason
    assert not (place / "tif").exists()


# ---- commands

@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    "A simulated scene, its tiles, and networks on disk."
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder / "enmap", size=20, seed=5, truth=False)
    assert main(f"preprocess --stage crop mask predictions --base interpolated --enmap-dir {folder / 'enmap'} --output-dir {folder / 'data'}".split()) == 0
    for base in ("interpolated", "subspace"):
        save_model(network(base), folder / f"{base}.keras")
    return folder


def product(folder):
    "The EnMAP product in there."
    return next(p.parent for p in (folder / "enmap").glob("*/*METADATA.XML"))


@pytest.mark.parametrize("bands", [None, "1-3"])
def test_progress_is_told_tile_by_tile(pair, bands):
    plan, told = sharpen(*pair[:2], "supermapnet", model=network(), memory=0.002, threads=2, bands=bands), []
    tiles, seconds = plan.expected()
    for _ in range(2):      # who listened to the first does not hear of the second
        told.clear()
        with plan.following(lambda done, total, told=told: told.append((done, total))) as of_blocks:
            assert of_blocks is None
            list(plan.blocks())
    total = told[0][1]
    assert total == tiles > 3 and seconds > 0 and sorted(told) == [(n, total) for n in range(1, total + 1)]
    other = lambda done, total: None
    plan = sharpen(*pair[:2], "cubic")
    with plan.following(other) as of_blocks:
        assert of_blocks is other and plan.expected() is None


def test_on_another_grid_the_tiles_that_it_needs_are_expected(pair):
    plan = sharpen(*pair[:2], "supermapnet", model=network(), memory=0.002, threads=2)
    other = Regridded(plan, grid_over(plan.grid, "EPSG:3035", 10))
    done = []
    with other.following(lambda *told: done.append(told)):
        list(other.blocks())
    assert other.expected()[0] == len(done) >= plan.expected()[0] and other.cube(slice(0, 9), slice(0, 8)).shape == (len(plan.bands), 9, 8)


def test_a_small_scene_keeps_all_threads_at_work(fitted):
    for threads, count in ((1, 1), (2, 2), (5, 6)):
        tiles = replace(fitted(), threads=threads)._cores(slice(3, 63), slice(0, 70))
        assert len(tiles) == count and set().union(*(range(c.start, c.stop) for _, c in tiles)) == set(range(70))
    assert len(replace(fitted(), threads=50)._cores(slice(0, 9), slice(4, 20))) == 1


def refused(capfd, arguments, *words):
    "Assert that a command ends with status 2 and one line that has all `words`."
    capfd.readouterr()
    status = main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    assert status == 2 and not out and err.count("\n") == 1 and "Traceback" not in err, (status, out, err)
    for word in words:
        assert word in err, err


def test_sharpen_end_to_end(simulated, tmp_path, capfd):
    arguments = ["sharpen", product(simulated), "--output", tmp_path / "out.tif", "--method", "supermapnet", "--model", simulated / "subspace.keras"]
    assert main(list(map(str, arguments))) == 0
    assert re.fullmatch("Sharpening .*: supermapnet to .*\nsupermapnet: [0-9]+ tiles, about .* on [0-9]+ threads?\n", capfd.readouterr().err)
    told = json.loads((tmp_path / "out.json").read_text())["properties"]
    assert told["enmap_sharpener:network"]["model"] == "subspace.keras" and told["enmap_sharpener:network"]["added_rms"] > 1e-4
    assert told["enmap_sharpener:agreement"]["rmse"] < 1e-3
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.tags()["method"] == "supermapnet" and (file.read(30) != NODATA).mean() > 0.3


def test_tiles_end_to_end(simulated, tmp_path, capfd):
    send = f"sharpen-tiles --model {simulated / 'interpolated.keras'} --input-dir {simulated / 'data/prediction_input'} --output-dir {tmp_path / 'tiles'} --batch-size 4 --cpus 0"
    assert main(send.split()) == 0 and main(send.split()) == 0
    store = next((tmp_path / "tiles").glob("*.zarr"))
    next((store / "sharpened").glob("0.*")).unlink()
    assert set(capfd.readouterr().err.splitlines()) == {"Sharpening tiles …"}
    assert main(f"reconstruct --predictions-dir {tmp_path / 'tiles'} --meta-path {simulated / 'data/prediction_input'} --output-dir {tmp_path / 'out'}".split()) == 0
    assert "1 of" in capfd.readouterr().err
    assert sorted(p.suffix for p in (tmp_path / "out").iterdir()) == [".tif", ".tif"]


def test_commands_refuse_in_one_line(simulated, tmp_path, capfd):
    sharpen_it = ["sharpen", product(simulated), "--output", tmp_path / "out.tif"]
    refused(capfd, [*sharpen_it, "--method", "supermapnet"], "--model")
    refused(capfd, [*sharpen_it, "--model", simulated / "subspace.keras"], "takes no network")
    refused(capfd, [*sharpen_it, "--method", "magic"], "supermapnet")
    refused(capfd, [*sharpen_it, "--method", "supermapnet", "--model", tmp_path / "none.keras"], "there is no such file")
    refused(capfd, [*sharpen_it, "--method", "supermapnet", "--model", simulated / "subspace.keras", "--mem-limit", "3"], "give at least 4.9")
    send = ["sharpen-tiles", "--input-dir", simulated / "data/prediction_input", "--output-dir", tmp_path / "out"]
    (tmp_path / "text.keras").write_text("no network")
    refused(capfd, [*send, "--model", tmp_path / "text.keras"], "is no Keras model")
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]).save(tmp_path / "dense.keras")
    refused(capfd, [*send, "--model", tmp_path / "dense.keras"], "Sequential", "wanted SupErMAPnet")
    with zipfile.ZipFile(simulated / "interpolated.keras") as old, zipfile.ZipFile(tmp_path / "torn.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name)[:2000 if name.endswith("h5") else None])
    refused(capfd, [*send, "--model", tmp_path / "torn.keras"], "is it damaged?")
    refused(capfd, [*send, "--model", simulated / "subspace.keras"], "use `sharpen --method supermapnet`")
    refused(capfd, [*send, "--model", simulated / "interpolated.keras", "--batch-size", "0"], "--batch-size 0")
    refused(capfd, [*send, "--model", simulated / "interpolated.keras", "--mem-limit", "1"], "--mem-limit 1")
    refused(capfd, ["sharpen-tiles", "--model", simulated / "interpolated.keras", "--input-dir", tmp_path / "none", "--output-dir", tmp_path / "out"], "holds no tiles")
    refused(capfd, ["reconstruct", "--predictions-dir", tmp_path, "--meta-path", tmp_path, "--output-dir", tmp_path / "out"], "holds no tiles")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.tif").exists()


@pytest.mark.slow
def test_stopped_by_a_signal_it_goes_on(place):
    code = ("import sys, time\nfrom enmap_sharpener.reconstruction import tiled_inference as tiles\nreal = tiles.apply\n"
            "tiles.apply = lambda *a: (time.sleep(0.3), real(*a))[1]\nfrom enmap_sharpener.cli.app import main\nsys.exit(main())")
    shutil.rmtree(place / "out")
    arguments = ["sharpen-tiles", "--model", place / "net.keras", "--input-dir", place / "in/one.zarr", "--output-dir", place / "out", "--batch-size", "2"]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    marker = place / "out/.one.zarr.part/progress.json"
    until = time.time() + 50
    while time.time() < until and not (marker.exists() and json.loads(marker.read_text())["done"] >= 2):
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 143 and process.stderr.read().strip().endswith("interrupted")
    assert not (place / "out/one.zarr").exists()
    assert tiles.sharpen_tiles(place / "net.keras", place / "in/one.zarr", place / "out", batch_size=2).done == ["one"]
    assert [p.name for p in (place / "out").iterdir()] == ["one.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_within_a_tile_and_leaves_nothing(simulated, tmp_path, number):
    code = ("import sys, time\nfrom enmap_sharpener.model import streaming\nreal = streaming.first_rows\n"
            "streaming.first_rows = lambda *a: (time.sleep(0.2), real(*a))[1]\nstreaming.Streamed.seconds = lambda *a: 1.0\n"
            "from enmap_sharpener.cli.app import main\nsys.exit(main())")
    arguments = ["sharpen", product(simulated), "--output", tmp_path / "out.tif", "--method", "supermapnet", "--model", simulated / "interpolated.keras", "--mem-limit", "5"]
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    assert any("supermapnet: " in line and "tiles" in line for line in process.stderr if not line.startswith("Sharpening"))
    process.send_signal(number)
    told = process.communicate(timeout=120)[1]
    assert process.returncode == 128 + number and told == "enmap-sharpener: interrupted\n"
    assert not list(tmp_path.iterdir())
