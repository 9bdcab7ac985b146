"Stores and splits: whole or not at all, the same bytes every time, no training pixel near a test tile, tiles that lie where they say."
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import xarray as xr
import zarr
from hypothesis import given, settings
from killed import WRITERS, start, write_store
from products import METADATA, SCENE_ID
from rasterio.crs import CRS
from rasterio.warp import transform

from enmap_sharpener.core.errors import NoValidPixels, OutputError, ProductError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import NODATA, open_raster, to_int16
from enmap_sharpener.preprocessing import splits
from enmap_sharpener.preprocessing import tile_store as store
from enmap_sharpener.preprocessing.splits import GUARD, REACH, TEST, TRAIN, VALIDATION, assign_splits, export_numpy
from enmap_sharpener.preprocessing.tile_store import (
    assemble,
    open_store,
    store_grid,
    tile_corners,
    tile_starts,
    write_prediction_store,
    write_wald_store,
)
from enmap_sharpener.preprocessing.wald import PredictionPair, WaldPair, align
from enmap_sharpener.scenes.enmap import read_enmap, write_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2_10M
from enmap_sharpener.scenes.metadata import band_table
from enmap_sharpener.scenes.sentinel2 import read_sentinel2, write_sentinel2
from enmap_sharpener.simulation.scene import simulate, simulate_pair

SMALL = {"tile": 16, "stride": 12}


@pytest.fixture(scope="module")
def simulated():
    return simulate_pair((50, 54), seed=3, shift=(0.4, -0.3))


@pytest.fixture(scope="module")
def stores(simulated, tmp_path_factory):
    "One store of either kind."
    folder = tmp_path_factory.mktemp("stores")
    for kind, write in WRITERS.items():
        write(*simulated[:2], folder / f"{kind}.zarr", threads=2)
    return folder


def digest(path):
    "Of every file's name and content."
    total = hashlib.sha256()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        total.update(str(file.relative_to(path)).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()


# ---- tiles

@given(st.integers(1, 200), st.integers(1, 40), st.data())
def test_tiles_cover_everything(n, tile, data):
    stride = data.draw(st.integers(1, tile))
    starts = tile_starts(n, tile, stride)
    assert starts[0] == 0 and (np.diff(starts) > 0).all() and (np.diff(starts) <= stride).all()
    assert starts[-1] + tile >= n and (starts[-1] + tile == n or len(starts) == 1)


@settings(max_examples=40)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(0, 99))
def test_shares_match_brute_force(ny, nx, tile, seed):
    valid = np.random.default_rng(seed).random((ny, nx)) < 0.7
    corners = tile_corners((ny, nx), tile, max(1, tile - 2))
    expected = [valid[r:r + tile, c:c + tile].sum() / tile**2 for r, c in corners]
    np.testing.assert_allclose(store._shares(valid, corners, tile), expected)


@pytest.mark.parametrize("stride", [0, 33, -1])
def test_strides_that_leave_pixels_out(stride):
    with pytest.raises(ValueError, match="left out"):
        tile_corners((50, 50), 32, stride)


def test_pairs_lie_on_the_same_ground(simulated, stores):
    "Pairs keep together: in each tile all three sensors' images are those of its row and column."
    data, source = open_store(stores / "wald.zarr"), WaldPair(align(*simulated[:2]))
    parts, good = source.read(slice(0, source.grid.rows.n), slice(0, source.grid.cols.n)), data.good.values
    assert data.sizes["tile"] >= 5 and store_grid(data) == source.grid
    for i, (row, col) in enumerate(zip(data.row.values, data.col.values, strict=True)):
        box = slice(row, row + 16), slice(col, col + 16)
        np.testing.assert_array_equal(data.target[i].values[..., good], to_int16(parts["target"][box]))
        np.testing.assert_array_equal(data.valid[i].values, parts["valid"][box])
        for name, values in (("hs", data.hs[i].values[..., good]), ("ms", data.ms[i].values)):
            expected = to_int16(parts[name][box])
            assert np.array_equal(values == NODATA, expected == NODATA) and np.abs(values.astype(int) - expected).max() <= 1
        assert data.valid[i].values.mean() >= 0.9
        assert float(data.east[i]) == source.grid.cols.start + col * 30 and float(data.north[i]) == -(source.grid.rows.start + row * 30)


def test_target_is_the_product(simulated, stores):
    "Not one number of EnMAP changes."
    data, cube = open_store(stores / "wald.zarr"), to_int16(np.moveaxis(simulated[0].cube.values, 0, -1))
    y0, x0 = (int(round(v)) for v in (Grid.of(simulated[0].cube).rows.index(store_grid(data).rows.centres[0]), Grid.of(simulated[0].cube).cols.index(store_grid(data).cols.centres[0])))
    for i in range(data.sizes["tile"]):
        r, c = int(data.row[i]) + y0, int(data.col[i]) + x0
        ours, theirs, valid = data.target[i].values, cube[r:r + 16, c:c + 16], data.valid[i].values
        np.testing.assert_array_equal(ours[valid], theirs[valid])
    assert (data.target.values[..., ~data.good.values] == NODATA).all()


def lake(simulated):
    "The scene with all but a strip of it a lake of zero reflectance, and a little less."
    scene, guide, _ = simulated
    values = scene.cube.values.copy()
    values[:, 14:, 26:] = np.where(np.isnan(values[:, 14:, 26:]), np.nan, 0)
    values[:, 30:, 36:] = np.where(np.isnan(values[:, 30:, 36:]), np.nan, np.float32(-0.0008))
    return type(scene)(scene.cube.copy(data=values), scene.bands, scene.metadata, scene.quality, scene.source), guide


def test_tiles_of_zeros_are_kept(simulated, tmp_path, stores):
    "Zeros are data: the seed drops tiles with less than 90 % of values that are not zero, and with them every lake."
    report = write_wald_store(*lake(simulated), tmp_path / "lake.zarr", **SMALL)
    before, after = open_store(stores / "wald.zarr"), open_store(tmp_path / "lake.zarr")
    assert report["tiles"] >= before.sizes["tile"] - 1
    target = after.target.values[..., after.good.values]
    seed = (np.where(target == NODATA, 0, target) != 0).mean((1, 2, 3))
    assert (seed < 0.9).sum() >= 2                              # that many the seed drops
    assert ((target < 0) & (target != NODATA)).any() and target[target != NODATA].max() < 10_000


@pytest.mark.parametrize("shape", [(20, 20), (15, 41)])
def test_scene_smaller_than_a_tile(simulated, tmp_path, shape):
    window = tuple(slice(12, 12 + n) for n in shape)
    with pytest.raises(NoValidPixels, match="take smaller tiles"):
        write_wald_store(*simulated[:2], tmp_path / "a.zarr", window=window)
    assert not list(tmp_path.iterdir())
    report = write_wald_store(*simulated[:2], tmp_path / "a.zarr", window=window, least_valid=0.1)
    data = open_store(tmp_path / "a.zarr")
    assert report["tiles"] == data.sizes["tile"] >= 1 and data.target.shape[1:3] == (32, 32)
    assert (data.target[0].values[shape[0]:] == NODATA).all() and not data.valid[0].values[shape[0]:].any()
    write_prediction_store(*simulated[:2], tmp_path / "b.zarr", window=window, tile=80, stride=80)
    assert assemble(tmp_path / "b.zarr").shape[1:] == store_grid(open_store(tmp_path / "b.zarr")).shape


# ---- what a store says

def test_a_store_says_where_it_comes_from(simulated, stores):
    for kind in WRITERS:
        attrs = open_store(stores / f"{kind}.zarr").attrs
        assert attrs["kind"] == kind and attrs["scene_id"] == simulated[0].metadata.id and attrs["days_apart"] >= 0
        assert attrs["alignment"]["VNIR"]["shift"] and attrs["alignment"]["after"]["correlation"] > attrs["alignment"]["before"]["correlation"]
        json.dumps(attrs, allow_nan=False)


def test_no_pickles_and_no_times(stores):
    for file in stores.rglob(".zarray"):
        assert "O" not in json.loads(file.read_text())["dtype"]
    year = str(datetime.now(timezone.utc).year)
    for file in stores.rglob(".zattrs"):
        assert f"{year}-{datetime.now(timezone.utc).month:02d}" not in file.read_text()


def test_one_tile_a_chunk_and_threads_may_read(stores):
    data = open_store(stores / "wald.zarr")
    assert data.hs.encoding["chunks"] == (1, 16, 16, 224)
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda i: data.hs[i].values, [*range(data.sizes["tile"])] * 3))
    np.testing.assert_array_equal(np.stack(read[: data.sizes["tile"]]), data.hs.values)
    np.testing.assert_array_equal(read[0], read[data.sizes["tile"]])


# ---- whole or not at all

@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_bytes(simulated, stores, tmp_path, kind):
    place = tmp_path / f"{kind}.zarr"
    for threads in (1, 3):
        WRITERS[kind](*simulated[:2], place, threads=threads)
        assert digest(place) == digest(stores / f"{kind}.zarr")
        assert [p.name for p in tmp_path.iterdir()] == [place.name]


def test_progress(simulated, tmp_path):
    told = []
    report = WRITERS["wald"](*simulated[:2], tmp_path / "a.zarr", progress=lambda n, of: told.append((n, of)))
    assert told == sorted(told) and told[-1] == (report["tiles"],) * 2
    assert report["bytes"] == sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    "A product folder."
    folder = tmp_path_factory.mktemp("product")
    paths = simulate(folder, (30, 32), seed=1, truth=False)
    shutil.move(paths.enmap, folder / "enmap")
    return folder


def fresh(product, tmp_path):
    os.symlink(product / "enmap", tmp_path / "enmap")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_killed_at_any_moment(product, tmp_path, kind):
    "Nothing half-written under the final name; run again, the same bytes."
    place, out = fresh(product, tmp_path), tmp_path / "out/a.zarr"
    begin = time.perf_counter()
    write_store(kind, place)
    wanted, seconds, killed = digest(out), time.perf_counter() - begin, 0
    rng = random.Random(0)
    for fraction in (rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.1)):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        run = start(write_store, kind, place)
        end = time.perf_counter() + fraction * seconds
        while time.perf_counter() < end and run.is_alive():
            time.sleep(0.01)
        run.kill()
        run.join()
        killed += run.exitcode == -signal.SIGKILL
        assert not out.exists() or digest(out) == wanted
    write_store(kind, place)
    assert killed and digest(out) == wanted and [p.name for p in out.parent.iterdir()] == ["a.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize("die, there", [(0, True), (1, False)])
def test_killed_between_renames(product, tmp_path, die, there):
    "A store that is being replaced is never lost."
    place, out = fresh(product, tmp_path), tmp_path / "out/a.zarr"
    write_store("wald", place)
    wanted = digest(out)
    run = start(write_store, "wald", place, die)
    run.join()
    assert run.exitcode == -signal.SIGKILL and out.exists() == there
    with pytest.raises(NoValidPixels):
        write_wald_store(read_enmap(place / "enmap"), read_sentinel2(place / "enmap/sentinel2"), out, tile=400, stride=400)
    assert digest(out) == wanted and [p.name for p in out.parent.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("limit", [2_000, 300_000])
def test_disk_full(simulated, stores, tmp_path, kind, limit):
    "Chunks that cannot be written, and scratch files that cannot: nothing is left, and what was there stays."
    shutil.copytree(stores / f"{kind}.zarr", tmp_path / "a.zarr")
    before, was = digest(tmp_path / "a.zarr"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, was[1]))
    try:
        with pytest.raises(OutputError, match="space|make room"):
            WRITERS[kind](*simulated[:2], tmp_path / "a.zarr", threads=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
    assert digest(tmp_path / "a.zarr") == before and [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_a_chunk_that_cannot_be_written(simulated, tmp_path, monkeypatch):
    real, calls = os.replace, []
    def replace(a, b):
        calls.append(b)
        if len(calls) > 20:
            raise OSError(28, "No space left on device")
        real(a, b)
    monkeypatch.setattr(os, "replace", replace)
    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match="No space left"):
        WRITERS["wald"](*simulated[:2], tmp_path / "a.zarr")
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be(simulated, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="folder"):
        WRITERS["wald"](*simulated[:2], tmp_path / "file" / "a.zarr")
    with pytest.raises(OutputError, match="no store of this package"):
        WRITERS["wald"](*simulated[:2], tmp_path / "file")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_text("mine")
    with pytest.raises(OutputError, match="no store of this package"):
        WRITERS["wald"](*simulated[:2], tmp_path / "photos")
    assert (tmp_path / "photos/cat.jpg").exists() and (tmp_path / "file").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("kind", WRITERS)
def test_interrupted(simulated, tmp_path, kind):
    def stop(done, total):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        WRITERS[kind](*simulated[:2], tmp_path / "a.zarr", threads=2, progress=stop)
    assert not list(tmp_path.iterdir())


# ---- damaged and foreign stores

def test_no_store(tmp_path):
    with pytest.raises(ProductError, match="no readable store"):
        open_store(tmp_path / "missing.zarr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProductError, match="no readable store|no tiles"):
        open_store(tmp_path / "empty")
    (tmp_path / "text").write_text("no")
    with pytest.raises(ProductError, match="no readable store"):
        open_store(tmp_path / "text")


def test_foreign_store(tmp_path):
    xr.Dataset({"hs": ("x", np.arange(3))}).to_zarr(tmp_path / "a.zarr", zarr_format=2)
    with pytest.raises(ProductError, match="no tiles of this package"):
        open_store(tmp_path / "a.zarr")


@pytest.mark.parametrize("damage", ["chunk", "cube", "metadata", "json", "attributes"])
def test_damaged_store(stores, tmp_path, damage):
    "A store that was copied in part is refused: missing chunks would read as zeros or nodata."
    place = tmp_path / "a.zarr"
    shutil.copytree(stores / "wald.zarr", place)
    if damage == "chunk":
        next((place / "hs").glob("3.*")).unlink()
    elif damage == "cube":
        shutil.rmtree(place / "target")
    elif damage == "metadata":
        (place / ".zmetadata").write_text("")
    elif damage == "json":
        (place / ".zmetadata").write_text((place / ".zmetadata").read_text()[:700])
    else:
        store.amend(place, {"files": {}})
    with pytest.raises(ProductError, match="a.zarr"):
        open_store(place)


# ---- back into a scene

def test_assembled_tiles_are_the_interpolated_cube(simulated, stores):
    source, image = PredictionPair(align(*simulated[:2])), assemble(stores / "prediction.zarr", chunk=70)
    cube = source.hs(slice(0, source.grid.rows.n), slice(0, source.grid.cols.n))
    ours = image.values[simulated[0].bands.good]
    assert Grid.of(image) == source.grid and image.chunks is not None
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(np.moveaxis(cube, -1, 0)))
    np.testing.assert_allclose(ours, np.moveaxis(cube, -1, 0), atol=1.1e-4)
    np.testing.assert_array_equal(image.wavelength, simulated[0].bands.wavelength)


def test_every_measured_pixel_is_in_a_tile(simulated, stores):
    held = np.isfinite(assemble(stores / "prediction.zarr").values[simulated[0].bands.good]).any(0)
    data = open_store(stores / "prediction.zarr")
    covered = np.zeros(store_grid(data).shape, bool)
    for row, col in zip(data.row.values, data.col.values, strict=True):
        covered[row:row + 16, col:col + 16] = True
    assert not (held & ~covered).any() and held.mean() > 0.5


def test_other_tiles_are_put_together(stores):
    data = open_store(stores / "prediction.zarr")
    tiles = np.random.default_rng(0).uniform(0, 1, (*data.hs.shape[:3], 2)).astype("float32")
    tiles[5] = np.nan
    image = assemble(data, tiles)
    assert image.shape[0] == 2 and "wavelength" not in image.coords and 0 <= np.nanmin(image.values) <= np.nanmax(image.values) <= 1
    np.testing.assert_array_equal(assemble(data, tiles, chunk=31).values, image.values)
    np.testing.assert_array_equal(image[1:, 10:20, 7:9].values, image.values[1:, 10:20, 7:9])
    for wrong in (tiles[:-1], tiles[:, :8]):
        with pytest.raises(ValueError, match="in its order"):
            assemble(data, wrong)


# ---- splits

def fake(path, epsg, corner, shape, *, tile=32, stride=27, pixel=30.0, keep=1.0, seed=0):
    "A store of nothing but places."
    corners = tile_corners(shape, tile, stride)
    corners = corners[np.random.default_rng(seed).random(len(corners)) <= keep]
    bands = {"band": [1], **{k: ("band", v) for k, v in {"wavelength": [500.0], "fwhm": [7.0], "detector": ["VNIR"], "good": [True]}.items()}}
    data = xr.Dataset({"hs": (("tile", "y", "x", "band"), np.zeros((len(corners), tile, tile, 1), np.int16)),
                       "valid": (("tile", "y", "x"), np.ones((len(corners), tile, tile), bool))},
                      {**bands, "row": ("tile", corners[:, 0]), "col": ("tile", corners[:, 1]), "split": ("tile", np.zeros(len(corners), np.int8)),
                       "east": ("tile", corner[0] + corners[:, 1] * pixel), "north": ("tile", corner[1] - corners[:, 0] * pixel)},
                      {"kind": "wald", "scene_id": path.stem, "crs": CRS.from_epsg(epsg).to_wkt(), "shape": list(shape), "files": {},
                       "settings": {"tile": tile, "stride": stride},
                       "transform": [pixel, 0.0, corner[0], 0.0, -pixel, corner[1]]})
    data.to_zarr(path, mode="w", zarr_format=2, consolidated=True, encoding={"hs": {"chunks": (len(corners), tile, tile, 1)}})
    store.amend(path, {"files": {"hs": len(list((path / "hs").iterdir()))}})
    return path


def gaps(one, i, other, j):
    "Distances between tiles of two stores [pixels of the first], in the first one's own zone; shape (len(i), len(j))."
    grid = store_grid(one)
    def box(store, k):
        g, size = store_grid(store), store.sizes["y"]
        west, north = store.east.values[k], store.north.values[k]
        x = np.stack([west, west + size * g.cols.step] * 2)
        y = np.stack([north] * 2 + [north - size * g.rows.step] * 2)
        if g.crs != grid.crs:
            x, y = (np.reshape(v, x.shape) for v in transform(g.crs, grid.crs, x.ravel(), y.ravel()))
        return x.min(0), x.max(0), y.min(0), y.max(0)
    (w, e, s, n), (w2, e2, s2, n2) = box(one, i), box(other, j)
    across = np.maximum(w2 - e[:, None], w[:, None] - e2)
    along = np.maximum(s2 - n[:, None], s[:, None] - n2)
    return np.maximum(across, along) / grid.cols.step


def leaks(paths):
    "Whether any training tile comes near a tile of validation or test, or these near one another."
    opened = [open_store(p) for p in paths]
    kinds = [store.split.values for store in opened]
    for a, one in enumerate(opened):
        for b, other in enumerate(opened):
            for k, m in ((TRAIN, VALIDATION), (TRAIN, TEST), (VALIDATION, TEST)):
                i, j = np.flatnonzero(kinds[a] == k), np.flatnonzero(kinds[b] == m)
                if i.size and j.size and gaps(one, i, other, j).min() < 0.98 * REACH:
                    return True
    return False


def test_one_scene_is_cut_with_guards(tmp_path):
    paths = [fake(tmp_path / "a.zarr", 32633, (366015, 5806125), (700, 900))]
    told = assign_splits(paths, seed=1)
    assert told["by"] == "block" and min(told.values(), key=lambda v: v if isinstance(v, int) else 1e9) > 0
    total = sum(v for v in told.values() if isinstance(v, int))
    assert 0.1 < told["test"] / total < 0.2 and 0.1 < told["validation"] / total < 0.2 and told["train"] / total > 0.4
    assert not leaks(paths)
    data = open_store(paths[0])
    assert [int((data.split == k).sum()) for k in (TRAIN, VALIDATION, TEST, GUARD)] == [told[k] for k in ("train", "validation", "test", "guard")]
    assert data.split.attrs["by"] == "block" and data.split.attrs["seed"] == 1
    before = digest(paths[0])
    assign_splits(paths, seed=1)
    assert digest(paths[0]) == before


def test_random_tiles_would_leak(tmp_path):
    "Why tiles are not split at random, as training on the seed's folders does: overlapping tiles share their pixels."
    path = fake(tmp_path / "a.zarr", 32633, (366015, 5806125), (300, 300))
    zarr.open_group(str(path), mode="r+")["split"][:] = np.random.default_rng(0).integers(0, 3, open_store(path).sizes["tile"])
    assert leaks([path])


def test_overlapping_scenes_are_one_place(tmp_path):
    "Consecutive scenes of a datatake overlap; two that do are cut together, whatever their grids' phase."
    paths = [fake(tmp_path / "a.zarr", 32633, (366015, 5806125), (600, 500)), fake(tmp_path / "b.zarr", 32633, (364087, 5806125 - 500 * 30), (640, 520), seed=1)]
    told = assign_splits(paths)
    assert told["by"] == "block" and told["test"] and not leaks(paths)


def test_scenes_whose_reach_touches_are_one_place(tmp_path):
    "Tiles that do not overlap, but lie within the operators' reach."
    for gap, places in ((0, 2), (60, 2), (2 * REACH + 1, 3)):
        for p in tmp_path.iterdir():
            shutil.rmtree(p)
        paths = [fake(tmp_path / "a.zarr", 32633, (366015, 5806125), (100, 100)), fake(tmp_path / "b.zarr", 32633, (366015 + (100 + gap) * 30, 5806125), (100, 100)),
                 fake(tmp_path / "c.zarr", 32633, (566015, 5806125), (100, 100))]
        told = assign_splits(paths)
        assert told["by"] == ("scene" if places == 3 else "block") and not leaks(paths)


@pytest.mark.parametrize("first, second", [(32633, 32632), (32632, 32633), (32610, 32611), (32760, 32759)])
def test_scenes_in_two_zones(tmp_path, first, second):
    "The same ground in two UTM zones is one place; a third and a fourth scene are far off in other zones."
    south = first > 32700
    lon = -180 + 6 * (max(first % 100, second % 100) - 1)
    x, y = transform(CRS.from_epsg(4326), CRS.from_epsg(first), [lon], [-45.0 if south else 45.0])
    u, v = transform(CRS.from_epsg(first), CRS.from_epsg(second), [x[0] + 3000], [y[0] - 3000])
    paths = [fake(tmp_path / "b.zarr", first, (x[0], y[0]), (300, 300)), fake(tmp_path / "c.zarr", second, (u[0], v[0]), (300, 300)),
             fake(tmp_path / "a.zarr", 32645, (500_000, 3_000_000), (200, 200)), fake(tmp_path / "d.zarr", 32720, (500_000, 7_000_000), (200, 200))]
    told = assign_splits(paths)
    assert told["by"] == "scene" and not leaks(paths[:2])
    assert {tuple(np.unique(open_store(p).split)) for p in paths[:2]} in [{(k,)} for k in (0, 1, 2)]
    told = assign_splits(paths[:2])
    assert told["by"] == "block" and not leaks(paths[:2])


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**6))
def test_no_leak_wherever_scenes_lie(tmp_path_factory, seed):
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("any")
    paths = []
    for i in range(rng.integers(1, 6)):
        shape = tuple(int(n) for n in rng.integers(40, 500, 2))
        paths.append(fake(folder / f"{i}.zarr", int(rng.choice([32632, 32633])), (500_000 + float(rng.integers(-40_000, 40_000)), 5_800_000.0), shape, keep=0.8, seed=seed,
                          tile=int(rng.choice([16, 32])), stride=14))
    told = assign_splits(paths, tuple(rng.choice([(0.7, 0.15, 0.15), (0.8, 0.0, 0.2), (0.5, 0.25, 0.25)])), seed)
    assert not leaks(paths) and told["train"] > 0
    shutil.rmtree(folder)


def test_a_place_too_small_is_for_training(stores, tmp_path, caplog):
    shutil.copytree(stores / "wald.zarr", tmp_path / "a.zarr")
    told = assign_splits([tmp_path / "a.zarr"])
    assert told["train"] == open_store(tmp_path / "a.zarr").sizes["tile"] and "too small" in caplog.text
    with pytest.raises(ProductError, match="no store is given"):
        assign_splits([])


def test_split_that_cannot_be_written(tmp_path, monkeypatch):
    path = fake(tmp_path / "a.zarr", 32633, (366015, 5806125), (300, 300))
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(splits, "amend", full)
    with pytest.raises(OutputError, match="No space left"):
        assign_splits([path])


# ---- as the seed has it

def test_numpy_files(stores, tmp_path):
    "Pairs kept together, as in the seed's folders; negatives and nodata become 0 and not 10000; no tile of the guard."
    shutil.copytree(stores / "wald.zarr", tmp_path / "a.zarr")
    data = open_store(tmp_path / "a.zarr")
    n = data.sizes["tile"]
    zarr.open_group(str(tmp_path / "a.zarr"), mode="r+")["split"][:] = np.resize([0, 0, 1, 2, -1], n)
    assert export_numpy(tmp_path / "a.zarr", tmp_path / "npy") == n - n // 5
    names = {s: sorted(p.name for p in (tmp_path / "npy" / s / "x").iterdir()) for s in ("train", "validation", "test")}
    assert sum(map(len, names.values())) == len({n for part in names.values() for n in part}) == n - n // 5
    assert all(sorted(p.name for p in (tmp_path / "npy" / s / kind).iterdir()) == names[s] for s in names for kind in ("y", "valid"))
    first = f"{data.attrs['scene_id']}_{int(data.row[0]):05d}_{int(data.col[0]):05d}.npy"
    x, y, valid = (np.load(tmp_path / "npy/train" / kind / first, allow_pickle=False) for kind in ("x", "y", "valid"))
    assert x.shape == (228, 16, 16) and y.shape == (224, 16, 16) and x.dtype == y.dtype == np.float32
    np.testing.assert_array_equal(y, np.clip(np.moveaxis(data.target[0].values, -1, 0), 0, 10_000))
    np.testing.assert_array_equal(x[224:], np.clip(np.moveaxis(data.ms[0].values[..., :4], -1, 0), 0, 10_000))
    np.testing.assert_array_equal(valid, data.valid[0].values)
    assert (y[~data.good.values] == 0).all()
    zarr.open_group(str(tmp_path / "a.zarr"), mode="r+")["split"][:] = 2
    (tmp_path / "npy/train/x/other_00000_00000.npy").write_bytes(b"mine")
    assert export_numpy(tmp_path / "a.zarr", tmp_path / "npy") == n
    assert [p.name for p in (tmp_path / "npy/train").rglob("*.npy")] == ["other_00000_00000.npy"]


def test_numpy_files_that_cannot_be(stores, tmp_path, monkeypatch):
    with pytest.raises(ProductError, match="no training tiles"):
        export_numpy(stores / "prediction.zarr", tmp_path / "npy")
    def full(file, values):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        export_numpy(stores / "wald.zarr", tmp_path / "npy")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


# ---- real data

def partner(place, cube, values, wavelength, good):
    "Sentinel-2 files made of a real scene's own bands."
    seen = np.tensordot(SENTINEL2_10M.responses(wavelength, good=good), values.astype(float), 1)
    seen = np.where((values == NODATA).all(0), NODATA, seen)
    fine, grid = np.kron(seen, np.ones((3, 3))).astype("int16"), Grid.of(cube)
    fine_grid = Grid(grid.crs, Axis(grid.rows.start, 10.0, fine.shape[1]), Axis(grid.cols.start, 10.0, fine.shape[2]))
    write_sentinel2(place / "sentinel2", fine_grid.georeference(fine, coords={"band": ["B02", "B03", "B04", "B08"]}))


def potsdam(shared, tmp_path):
    "The real file put into a product folder."
    cube = open_raster(shared / "data/enmap_potsdam/train.tif")
    with rasterio.open(shared / "data/enmap_potsdam/train.tif") as file:
        wavelength, fwhm = (np.array([float(file.tags(i)[k]) for i in file.indexes]) for k in ("wavelength", "fwhm"))
    bands = band_table(wavelength, fwhm, good=(cube.values != NODATA).any((1, 2)))
    place = write_enmap(tmp_path, cube, bands, scene_id=SCENE_ID, metadata=METADATA)
    partner(place, cube, cube.values, wavelength, bands.good)
    return place


def through(place, guide, tmp_path, **options):
    "Both stores of a scene, opened; checked for what holds of any."
    scene, guide = read_enmap(place), read_sentinel2(guide)
    report = write_wald_store(scene, guide, tmp_path / "out/w.zarr", tile=16, stride=12, threads=2, **options)
    write_prediction_store(scene, guide, tmp_path / "out/p.zarr", threads=2, **options)
    data, fine = open_store(tmp_path / "out/w.zarr"), open_store(tmp_path / "out/p.zarr")
    valid, good = data.valid.values, data.good.values
    target, hs = (data[k].values[..., good][valid].astype(int) for k in ("target", "hs"))
    both = (target != NODATA) & (hs != NODATA)
    assert both.mean() > 0.99 and np.sqrt(np.mean((target - hs)[both] ** 2.0)) < 0.6 * np.std(target[both])
    image = assemble(fine)
    assert Grid.of(image) == store_grid(fine) and np.isfinite(image.values[good]).mean() > 0.9
    cube = scene.cube.values[good]
    numbers = set(np.unique(to_int16(cube)))
    assert set(np.unique(data.target.values)) <= numbers | {NODATA}
    return report, data, fine


@pytest.mark.slow
def test_potsdam(shared, tmp_path):
    report, data, _ = through(potsdam(shared, tmp_path), tmp_path / SCENE_ID / "sentinel2", tmp_path, smooth=None)
    assert report["tiles"] == data.sizes["tile"] > 20 and report["valid"] > 0.95 and (~data.good).sum() == 6


def test_cases(case, tmp_path):
    "Real EnMAP and two real sensors, at 90 m and 30 m."
    [place] = [p for p in case.iterdir() if p.is_dir()]
    scene, guide = read_enmap(place), read_sentinel2(case)
    write_prediction_store(scene, guide, tmp_path / "p.zarr")
    image = assemble(tmp_path / "p.zarr")
    assert image.rio.resolution()[0] == 30 and np.isfinite(image.values[scene.bands.good]).mean() > 0.9
    report = write_wald_store(scene, guide, tmp_path / "w.zarr", tile=8, stride=6, least_valid=0.5)
    assert report["tiles"] > 0 and np.abs(report["alignment"]["after"]["shift"]).max() < 0.3


@pytest.mark.parametrize("which", [0, 1])
def test_water(water, tmp_path, which):
    "Real open water: hundreds of thousands of small negatives, which the seed turns into 10000, stay as they are."
    place = water(which)
    scene = read_enmap(place)
    values = to_int16(scene.cube.values)
    partner(place, scene.cube, values, scene.bands.wavelength, scene.bands.good)
    report = write_wald_store(scene, read_sentinel2(place / "sentinel2"), tmp_path / "w.zarr", threads=2, least_valid=0.5)
    data = open_store(tmp_path / "w.zarr")
    target = data.target.values
    assert report["tiles"] > 4 and ((target < 0) & (target != NODATA)).sum() > 300_000
    row, col = int(data.row[0]), int(data.col[0])
    theirs = np.moveaxis(values[:, row:row + 32, col:col + 32], 0, -1)
    held = target[0] != NODATA
    assert held.mean() > 0.3
    np.testing.assert_array_equal(target[0][held], theirs[held])
