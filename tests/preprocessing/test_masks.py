"The largest rectangle, crops that change no number, and masks that take values away and change none."
import json
from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from products import METADATA, SCENE_ID, cube, sentinel2, table
from rasterio.transform import from_origin
from scipy.ndimage import zoom

from enmap_sharpener.core.errors import GridError, MetadataError, NoValidPixels, OutputError, ProductError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.preprocessing import crop, masks
from enmap_sharpener.preprocessing.crop import (
    CropRecord,
    crop_scene,
    cropped,
    joined_mask,
    largest_rectangle,
    measured,
    quality_reasons,
    read_crop,
)
from enmap_sharpener.preprocessing.masks import (
    apply_mask,
    join_masks,
    mask_scene,
    masked_share,
    read_masked,
    sentinel2_mask,
)
from enmap_sharpener.scenes.enmap import Scene, read_enmap, write_enmap
from enmap_sharpener.scenes.sentinel2 import Sentinel2, read_sentinel2, write_sentinel2
from enmap_sharpener.simulation.scene import simulate, simulate_pair

FAST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


# ---- the largest rectangle

def brute(valid):
    "Area of the largest rectangle of True, by trying all of them."
    total = np.pad(valid.astype(int).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    best, (ny, nx) = 0, valid.shape
    for a in range(ny):
        for b in range(a + 1, ny + 1):
            for c in range(nx):
                for d in range(c + 1, nx + 1):
                    n = (b - a) * (d - c)
                    if n > best and total[b, d] - total[a, d] - total[b, c] + total[a, c] == n:
                        best = n
    return best


@settings(max_examples=400, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)))
def test_rectangle_is_exact(valid):
    if not valid.any():
        with pytest.raises(NoValidPixels):
            largest_rectangle(valid)
        return
    rows, cols = largest_rectangle(valid)
    assert valid[rows, cols].all() and valid[rows, cols].size == brute(valid) > 0


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_rectangle_is_exact_where_much_is_valid(share):
    rng = np.random.default_rng(int(100 * share))
    for shape in ((1, 17), (17, 1), (11, 13), (14, 9)):
        valid = rng.random(shape) < share
        valid[0, 0] = True
        assert valid[largest_rectangle(valid)].size == brute(valid) == valid[largest_rectangle(valid)].sum()


def test_rectangle_of_a_full_scene():
    y, x = np.mgrid[:1200, :1300]
    valid = (np.abs(x - 650 + 0.2 * (y - 600)) < 500) & (np.abs(y - 600 - 0.2 * (x - 650)) < 480)
    rows, cols = largest_rectangle(valid)
    assert valid[rows, cols].all() and valid[rows, cols].size > 0.5 * valid.sum()


def test_rectangle_follows_the_data_and_not_the_corners():
    "The seed takes the box between four corners; a missing line inside it ends a rectangle here."
    valid = np.ones((40, 50), bool)
    valid[25, 3:] = False
    rows, cols = largest_rectangle(valid)
    assert (rows, cols) == (slice(0, 25), slice(0, 50))


# ---- what was measured

def scene_of(values, **columns):
    "A scene in memory from reflectance (band, y, x)."
    bands = replace(table(len(values)), **columns)
    data = xr.DataArray(np.asarray(values, "float32"), dims=("band", "y", "x")).rio.write_crs("EPSG:32633")
    return Scene(data.rio.write_transform(from_origin(366015, 5806125, 30, 30)), bands, METADATA, {}, None)


def test_zero_and_negative_reflectance_is_measured():
    "The seed's least share of valid values counts zeros as invalid, and a lake is thrown away."
    values = np.zeros((12, 5, 7))
    values[:, 0] = -0.002
    values[:, 4] = np.nan
    held = measured(scene_of(values))
    assert held[:4].all() and not held[4].any()
    assert (values[:, 1:4] > 0).mean() == 0     # what the seed counts


def test_both_detectors_have_to_measure():
    values = np.full((12, 3, 6), 0.1)
    vnir = table(12).vnir
    values[vnir, :, 0] = np.nan
    values[~vnir, :, 5] = np.nan
    values[3, :, 2] = np.nan                    # one defective band ends nothing
    np.testing.assert_array_equal(measured(scene_of(values)), np.broadcast_to([False, True, True, True, True, False], (3, 6)))


def test_one_detector_alone_and_empty_bands():
    values = np.full((4, 3, 3), 0.1)
    values[:2] = np.nan
    only_swir = scene_of(values, good=np.array([False, False, True, True]), detector=np.array(["VNIR", "VNIR", "SWIR", "SWIR"]))
    assert measured(only_swir).all()
    assert not measured(scene_of(values, good=np.zeros(4, bool))).any()


@pytest.mark.parametrize("shape", [(1, 40), (33, 1), (1, 1), (17, 29)])
def test_awkward_shapes(shape, tmp_path):
    values = np.random.default_rng(0).uniform(0, 0.5, (12, *shape)).astype("float32")
    scene = scene_of(values)
    assert measured(scene, threads=2).shape == shape
    place = write_enmap(tmp_path, scene.cube, scene.bands, scene_id=SCENE_ID)
    record = crop_scene(place, tmp_path / "out", threads=2)
    assert record.window == (slice(0, shape[0]), slice(0, shape[1])) and read_crop(tmp_path / "out", place).cube.shape == (12, *shape)
    write_sentinel2(tmp_path / "s2", sentinel2((3 * shape[0] + 5, 3 * shape[1] + 4)))
    mask_scene(tmp_path / "out", place, tmp_path / "s2")
    clean, guide = read_masked(tmp_path / "out", place, tmp_path / "s2")
    assert clean.cube.shape == (12, *shape) and clean.cube.values.shape == (12, *shape) and guide.bands20 is None


# ---- crop

@pytest.fixture
def product(tmp_path):
    return write_enmap(tmp_path / "enmap", cube(), table(), scene_id=SCENE_ID, metadata=METADATA, quality=layers())


def layers(shape=(24, 36)):
    "Quality layers with a spot each."
    spots = {}
    for i, (name, value) in enumerate({"cloud": 1, "cloudshadow": 1, "haze": 1, "cirrus": 2}.items()):
        spots[name] = np.zeros(shape, "uint8")
        spots[name][8 + 3 * i, 10 + 5 * i] = value
    spots["cirrus"][-1, -1] = 255               # background, no cirrus
    return spots


def raw(path, window=None):
    with rasterio.open(path) as file:
        return file.read(window=window)


def test_crop_keeps_every_number(product, tmp_path):
    record = crop_scene(product, tmp_path / "out")
    assert (record.scene, record.shape) == (SCENE_ID, (24, 36)) and record == CropRecord.read(tmp_path / "out")
    whole, part = raw(next(product.glob("*SPECTRAL_IMAGE.TIF"))), raw(tmp_path / "out/enmap.tif")
    np.testing.assert_array_equal(part, whole[(slice(None), *record.window)])
    assert part.dtype == "int16" and (part < 0).any() and (part[6] == NODATA).all()


def test_crop_is_the_largest_rectangle_of_the_data(product, tmp_path):
    record = crop_scene(product, tmp_path / "out")
    held = np.isfinite(cube()[0].values)
    assert record.window == largest_rectangle(held) and record.measured == pytest.approx(held.mean(), abs=1e-6)
    assert record.kept == pytest.approx(brute(held) / held.sum(), abs=1e-6)


def test_crop_can_be_read_as_a_scene(product, tmp_path):
    record = crop_scene(product, tmp_path / "out")
    whole, part = read_enmap(product), read_crop(tmp_path / "out", product)
    np.testing.assert_array_equal(part.cube.values, whole.cube.values[(slice(None), *record.window)])
    grid = Grid.of(part.cube)
    assert grid == Grid.of(whole.cube).part(*record.window) and grid.bounds == Grid.of(cropped(whole, *record.window).quality["cloud"]).bounds
    with rasterio.open(tmp_path / "out/enmap.tif") as file:
        assert file.transform == grid.transform and file.tags(3)["wavelength_units"] == "Nanometers" and file.nodata == NODATA
        assert float(file.tags(3)["wavelength"]) == pytest.approx(whole.bands.wavelength[2])


def test_every_number_of_int16_survives(tmp_path):
    "-9999 and less is nodata, everything else a measurement; the seed's unsigned integers turn -5 and -32768 into 10000."
    numbers = np.full((12, 256, 256), 7, "int16")
    numbers[0] = np.arange(-32768, 32768).reshape(256, 256)
    image = xr.DataArray(numbers, dims=("band", "y", "x")).rio.write_crs("EPSG:32633").rio.write_transform(from_origin(0, 0, 30, 30))
    crop_scene(write_enmap(tmp_path, image, table(), scene_id=SCENE_ID), tmp_path / "out")
    np.testing.assert_array_equal(raw(tmp_path / "out/enmap.tif"), np.where(numbers <= -9999, NODATA, numbers))
    seed = lambda values: np.clip(values.astype("uint16"), 0, 10000)
    assert list(seed(np.array([-5, NODATA, 20], "int16"))) == [10000, 10000, 20]


def test_another_gain_becomes_ours(tmp_path):
    bands = replace(table(), gain=np.full(12, 2e-4), offset=np.full(12, -0.01))
    place = write_enmap(tmp_path, cube(), bands, scene_id=SCENE_ID)
    crop_scene(place, tmp_path / "out")
    np.testing.assert_allclose(read_crop(tmp_path / "out", place).cube.values, cropped(read_enmap(place), *CropRecord.read(tmp_path / "out").window).cube.values,
                               atol=6e-5)


@pytest.mark.parametrize("asked, bits", [({}, {2, 4}), ({"haze": True}, {2, 4, 8}), ({"cirrus": True}, {2, 4, 16}), ({"haze": True, "cirrus": True}, {2, 4, 8, 16})])
def test_layers_are_joined_on_request(product, tmp_path, asked, bits):
    record = crop_scene(product, tmp_path / "out", **asked)
    part = raw(tmp_path / "out/mask.tif")[0]
    assert set(np.unique(part)) == bits | {0} and part.shape == raw(tmp_path / "out/enmap.tif").shape[1:]
    scene = read_enmap(product)
    np.testing.assert_array_equal(part, quality_reasons(scene, **asked)[record.window])
    np.testing.assert_array_equal(joined_mask(scene, **asked), scene.cloud_mask(**asked).values)
    assert record.masked == pytest.approx((part > 0).mean(), abs=1e-6) and len(record.layers) == len(bits) and not record.missing


def test_products_without_layers(product, tmp_path, caplog):
    for name in "CLOUDSHADOW", "CIRRUS":
        next(product.glob(f"*QL_QUALITY_{name}.TIF")).unlink()
    record = crop_scene(product, tmp_path / "out", cirrus=True)
    assert record.layers == ("cloud",) and record.missing == ("cloudshadow", "cirrus") and "no quality layer cloudshadow, cirrus" in caplog.text
    assert set(np.unique(raw(tmp_path / "out/mask.tif"))) == {0, 2}


def test_the_same_bytes_again(product, tmp_path):
    for threads in (1, 3):
        crop_scene(product, tmp_path / str(threads), threads=threads)
    for file in (tmp_path / "1").iterdir():
        assert file.read_bytes() == (tmp_path / "3" / file.name).read_bytes(), file.name
    assert len(list((tmp_path / "1").iterdir())) == 3


def test_the_product_is_not_touched(product, tmp_path):
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in product.iterdir()}
    crop_scene(product, tmp_path / "out")
    assert before == {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in product.iterdir()}


def test_progress_of_a_crop(product, tmp_path):
    told = []
    crop_scene(product, tmp_path / "out", progress=lambda *n: told.append(n))
    assert told == [(1, 2), (2, 2)]


def test_nothing_measured(tmp_path):
    place = write_enmap(tmp_path, cube() * np.nan, table(), scene_id=SCENE_ID)
    with pytest.raises(NoValidPixels, match="not one pixel was measured"):
        crop_scene(place, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_crop_that_fails_leaves_no_record(product, tmp_path, monkeypatch):
    crop_scene(product, tmp_path / "out")

    def full(*_, **__):
        raise OutputError("the disk is full")
    monkeypatch.setattr(crop, "to_int16", full)
    with pytest.raises(OutputError):
        crop_scene(product, tmp_path / "out")
    assert not (tmp_path / "out/crop.json").exists() and not list((tmp_path / "out").glob(".*"))
    with pytest.raises(ProductError, match="stage crop"):
        read_crop(tmp_path / "out", product)


def test_stages_name_the_one_before(product, tmp_path):
    write_sentinel2(product / "sentinel2", sentinel2())
    with pytest.raises(ProductError, match="stage crop first"):
        mask_scene(tmp_path, product)
    crop_scene(product, tmp_path)
    with pytest.raises(ProductError, match="stage mask first"):
        read_masked(tmp_path, product)
    (tmp_path / "enmap.tif").unlink()
    with pytest.raises(ProductError, match="enmap.tif.*stage crop first"):
        read_crop(tmp_path, product)
    (tmp_path / "crop.json").write_text("{")
    with pytest.raises(ProductError, match="stage crop first"):
        CropRecord.read(tmp_path)


def test_a_crop_of_another_scene_is_refused(product, tmp_path):
    "Products are told apart by their full identifier: a reprocessed one has the same start."
    again = SCENE_ID.replace("V010400", "V010502")
    other = write_enmap(tmp_path / "enmap", cube(), table(), scene_id=again, metadata=replace(METADATA, id=again))
    crop_scene(product, tmp_path / "out")
    with pytest.raises(ProductError, match="crop of .*V010400.*not of .*V010502"):
        read_crop(tmp_path / "out", other)


def test_no_metadata(product, tmp_path):
    next(product.glob("*METADATA.XML")).write_text("<level_X>")
    with pytest.raises(MetadataError):
        crop_scene(product, tmp_path / "out")


# ---- masks on another grid

COARSE = Grid("EPSG:32633", Axis(-5806125.0, 30.0, 8), Axis(366015.0, 30.0, 11))


def own_mask(*spots, shape=(8, 11), grid=COARSE):
    bits = np.zeros(shape, "uint8")
    for y, x in spots:
        bits[y, x] = 2
    return grid.georeference(bits)


def clear_guide(shape=(32, 40), corner=(366000, 5806140), scl=None, scl_pixel=20, crs="EPSG:32633", pixel=10):
    place = lambda a, p: a.rio.write_crs(crs).rio.write_transform(from_origin(*corner, p, p))
    values = xr.DataArray(np.full((4, *shape), 0.1, "float32"), dims=("band", "y", "x"), coords={"band": ["B02", "B03", "B04", "B08"]})
    classes = None if scl is None else place(xr.DataArray(np.asarray(scl, "uint8"), dims=("y", "x")), scl_pixel)
    return Sentinel2(place(values, pixel), None, classes, None)


def test_a_mask_reaches_every_pixel_that_it_touches_and_no_other():
    "EnMAP's pixels end in the middle of Sentinel-2's: 3 become 4."
    mask = join_masks(own_mask((2, 3)), clear_guide(), distance=0)
    rows, cols = np.nonzero(mask.values)
    grid = Grid.of(mask)
    assert (grid.rows.start, grid.cols.start, mask.shape) == (-5806140, 366000, (32, 40))
    assert {*rows} == set(range(7, 11)) and {*cols} == set(range(10, 14)) and (mask.values[7:11, 10:14] == 2).all()


def test_masks_are_not_interpolated():
    "Interpolated linearly and made whole numbers again, as in the seed, a cloud of one pixel vanishes or shrinks."
    coarse = own_mask((2, 3), (5, 6))
    ours = join_masks(coarse, clear_guide(), distance=0)
    clouds = masked_share(ours, COARSE)
    seed = zoom((coarse.values > 0).astype(float), 3, order=1, grid_mode=True, mode="nearest").astype("uint8")
    assert seed.sum() < 9 * 2 and (clouds[coarse.values > 0] == 1).all() and set(np.unique(ours)) == {0, 2}


@pytest.mark.parametrize("fine, step", [((8, 11), 30.0), ((24, 33), 10.0), ((27, 37), 9.0), ((13, 17), 20.0)])
def test_carried_bits_match_brute_force(fine, step):
    rng = np.random.default_rng(int(step))
    bits = rng.integers(0, 256, (8, 11)).astype("uint8")
    grid = Grid("EPSG:32633", Axis(COARSE.rows.start + 7.0, step, fine[0]), Axis(COARSE.cols.start - 12.0, step, fine[1]))
    found = masks._carried(bits, COARSE, grid, 64)
    touch = lambda a, i, b, j: a.start + i * a.step < b.start + (j + 1) * b.step - 1e-3 and a.start + (i + 1) * a.step > b.start + j * b.step + 1e-3
    for i in range(fine[0]):
        for j in range(fine[1]):
            under = [bits[y, x] for y in range(8) for x in range(11) if touch(grid.rows, i, COARSE.rows, y) and touch(grid.cols, j, COARSE.cols, x)]
            assert found[i, j] == (np.bitwise_or.reduce(under) if under else 64)


@pytest.mark.parametrize("value", range(12))
def test_classes_that_are_masked(value):
    "The seed masks 8, 9 and 10 only: shadow, saturation and missing data stay in."
    scl = np.full((16, 20), 4)
    scl[7, 9] = value
    mask = join_masks(own_mask(), clear_guide(scl=scl), distance=0).values
    wanted = np.zeros((32, 40), bool)
    wanted[14:16, 18:20] = value in (0, 1, 3, 8, 9, 10)
    np.testing.assert_array_equal(mask > 0, wanted)
    assert not wanted.any() or {*mask[wanted]} == {32 if value == 0 else 64}


def test_missing_data_of_sentinel2_is_masked():
    guide = clear_guide()
    guide.bands10[2, 4, 5] = np.nan
    mask = join_masks(own_mask(), guide, distance=0).values
    assert mask[4, 5] == 32 and (mask > 0).sum() == 1


@pytest.mark.parametrize("distance", [0, 9, 10, 14, 15, 25, 60, 1000])
def test_distance_is_exact(distance):
    spots = [(3, 4), (20, 30)]
    guide = clear_guide()
    for y, x in spots:
        guide.bands10[0, y, x] = np.nan
    mask = join_masks(own_mask(), guide, distance=distance).values
    y, x = np.mgrid[:32, :40]
    wanted = np.min([10 * np.hypot(y - a, x - b) for a, b in spots], axis=0) <= distance
    np.testing.assert_array_equal(mask > 0, wanted)
    np.testing.assert_array_equal(mask & 128 > 0, wanted if distance else wanted & False)
    np.testing.assert_array_equal(mask & 32 > 0, (y == 3) & (x == 4) | (y == 20) & (x == 30))


def test_the_end_of_enmap_is_no_cloud():
    own = own_mask()
    own[:, 6:] = 1
    mask = join_masks(own, clear_guide(), distance=60).values
    assert set(np.unique(mask)) == {0, 1}


def test_windows_do_not_show(monkeypatch):
    rng = np.random.default_rng(5)
    guide = clear_guide((61, 47), scl=np.where(rng.random((31, 24)) < 0.03, 9, 4))
    own = own_mask((2, 3), (6, 9))
    whole = join_masks(own, guide, distance=35).values
    monkeypatch.setattr(masks, "windows", lambda shape, size: crop.windows(shape, 7))
    np.testing.assert_array_equal(join_masks(own, guide, distance=35, threads=3).values, whole)
    assert 0 < (whole > 0).mean() < 1


def test_classes_on_an_odd_grid():
    "33 rows of 10 m have 16 rows of 20 m under them; the last row takes the class of the one before."
    scl = np.full((16, 20), 4)
    scl[-1] = 9
    mask = join_masks(own_mask(), clear_guide((33, 41), scl=scl), distance=0).values
    assert (mask[30:, :] > 0).all() and (mask[:30] == 0).all()


def test_sentinel2_is_cut_to_enmap_and_a_margin():
    guide = clear_guide((300, 320), corner=(365000, 5807000))
    for margin, around in ((0, 5), (95, 95), (300, 300)):
        bounds = Grid.of(join_masks(own_mask(), guide, margin=margin)).bounds
        wanted = np.add(COARSE.bounds, np.array([-1, -1, 1, 1]) * around)
        assert np.abs(bounds - wanted).max() <= 5


def test_wrong_crs_and_masks_that_miss():
    with pytest.raises(GridError, match="EnMAP is in EPSG:32633, Sentinel-2 in EPSG:32632"):
        join_masks(own_mask(), clear_guide(crs="EPSG:32632"))
    for corner in ((466000, 5806140), (366000, 5706140), (365680, 5806140)):
        with pytest.raises(GridError, match="do not overlap"):
            join_masks(own_mask(), clear_guide((32, 32), corner=corner))


def test_sentinel2_mask_is_on_its_grid():
    scl = np.full((16, 20), 4)
    scl[7, 9] = 3
    guide = clear_guide(scl=scl)
    part = Grid.of(guide.bands10).part(slice(3, 28), slice(10, 40))
    whole = sentinel2_mask(guide, Grid.of(guide.bands10), 20)
    np.testing.assert_array_equal(sentinel2_mask(guide, part, 20)[3:-3, 3:], whole[6:25, 13:])
    assert whole.dtype == bool and whole.sum() > 4


# ---- applied

def test_share_matches_brute_force():
    rng = np.random.default_rng(2)
    fine = Grid("EPSG:32633", Axis(COARSE.rows.start - 4.0, 9.0, 26), Axis(COARSE.cols.start + 11.0, 9.0, 40))
    mask = fine.georeference((rng.random(fine.shape) < 0.4).astype("uint8"))
    cover = lambda a, b: np.maximum(0, np.minimum.outer(a.start + a.step * (1 + np.arange(a.n)), b.start + b.step * (1 + np.arange(b.n)))
                                    - np.maximum.outer(a.start + a.step * np.arange(a.n), b.start + b.step * np.arange(b.n)))
    wanted = 1 - cover(COARSE.rows, fine.rows) @ (mask.values == 0) @ cover(COARSE.cols, fine.cols).T / 900
    np.testing.assert_allclose(masked_share(mask, COARSE), wanted, atol=1e-5)
    assert masked_share(mask, COARSE)[:, 0].min() > 0.3      # beyond the mask


SCENE, GUIDE, _ = simulate_pair(size=(14, 17), seed=4)


@FAST
@given(arrays("uint8", (14, 17), elements=st.sampled_from([0, 0, 0, 2, 16])), st.integers(0, 2**31), st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_masking_changes_no_value(own, seed, share):
    grid = Grid.of(GUIDE.bands10)
    mask = grid.georeference((np.random.default_rng(seed).random(grid.shape) < 0.1).astype("uint8") * 64)
    scene, guide = apply_mask(SCENE, GUIDE, own, mask, share)
    out = (own > 0) | (masked_share(mask, Grid.of(SCENE.cube)) > share)
    for before, after, gone in ((SCENE.cube, scene.cube, out), (GUIDE.bands10, guide.bands10, mask.values > 0),
                                (GUIDE.bands20, guide.bands20, masked_share(mask, Grid.of(GUIDE.bands20)) > share)):
        before, after = before.values, after.values
        assert after.dtype == "float32" and np.isnan(after[:, gone]).all()
        assert before[:, ~gone].tobytes() == after[:, ~gone].tobytes()


def test_negative_values_stay_and_nodata_stays_nodata():
    "The seed clips to 0…10000 in unsigned integers: nodata and small negative values become 10000."
    values = np.full((12, 8, 11), 0.1, "float32")
    values[:, 0, 0], values[:, 1, 1], values[:, 2, 2] = -0.0005, np.nan, 0
    scene, guide = apply_mask(scene_of(values), clear_guide(), np.zeros((8, 11)), join_masks(own_mask(), clear_guide()))
    after = scene.cube.values
    assert (after[:, 0, 0] == np.float32(-0.0005)).all() and np.isnan(after[:, 1, 1]).all() and (after[:, 2, 2] == 0).all()
    numbers = np.array([-5, NODATA, 0, 1000], "int16")
    seed = np.clip(numbers.astype("uint16"), 0, 10000)
    assert not np.array_equal(seed[[0, 1]], numbers[[0, 1]])
    np.testing.assert_array_equal(crop.to_int16(after)[0, [0, 1, 2, 5], [0, 1, 2, 5]], numbers)


def test_pixels_that_sentinel2_does_not_cover_are_left_out():
    guide = clear_guide((32, 20))
    scene, _ = apply_mask(scene_of(np.full((12, 8, 11), 0.1)), guide, np.zeros((8, 11)), join_masks(own_mask(), guide))
    np.testing.assert_array_equal(np.isnan(scene.cube.values[0]).all(0), np.arange(11) >= 6)


def test_a_mask_of_another_grid_is_refused():
    guide = clear_guide()
    for corner, pixel in (((366005, 5806140), 10), ((366000, 5806140), 20), ((365990, 5806140), 10)):
        mask = join_masks(own_mask(), clear_guide(corner=corner, pixel=pixel))
        with pytest.raises(GridError, match="no pixels of Sentinel-2's"):
            apply_mask(SCENE, guide, np.zeros((14, 17)), mask)


def test_stages_on_files_equal_those_in_memory(tmp_path):
    paths = simulate(tmp_path / "enmap", size=(33, 45), seed=2, clouds=True, sentinel2_clouds=True, truth=False)
    out = tmp_path / "out"
    record = crop_scene(paths.enmap, out, threads=2)
    told = mask_scene(out, paths.enmap, distance=30, share=0.5, threads=2)
    scene, guide = read_masked(out, paths.enmap)
    whole, partner = read_enmap(paths.enmap), read_sentinel2(paths.sentinel2)
    part = cropped(whole, *record.window)
    own = quality_reasons(part)
    mask = join_masks(Grid.of(part.cube).georeference(own), partner, distance=30)
    wanted, ground = apply_mask(part, partner, own, mask, 0.5)
    for a, b in ((scene.cube, wanted.cube), (guide.bands10, ground.bands10), (guide.bands20, ground.bands20), (guide.scl, ground.scl)):
        np.testing.assert_array_equal(a.values, b.values)
        assert Grid.of(a) == Grid.of(b)
    assert scene.cube.chunks and guide.bands10.chunks and told["enmap"] == pytest.approx(np.isnan(scene.cube.values[0]).mean(), abs=1e-6)
    assert 0 < told[2] and 0 < told[64] <= told["masked"] < 1
    with rasterio.open(out / "mask10.tif") as file:
        assert file.tags()["distance_m"] == "30" and "cloud" in file.tags(1)["bit_64"]


def test_masks_are_written_alike_twice(tmp_path):
    paths = simulate(tmp_path / "enmap", size=(30, 25), seed=2, clouds=True, sentinel2_clouds=True, truth=False)
    for name in "ab":
        crop_scene(paths.enmap, tmp_path / name)
        mask_scene(tmp_path / name, paths.enmap)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["crop.json", "enmap.tif", "mask.tif", "mask10.tif"]
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


def test_sentinel2_without_classes(tmp_path, caplog):
    paths = simulate(tmp_path / "enmap", size=(20, 26), seed=2, truth=False)
    for name in "scl_20m.tif", "sentinel2_20m.tif":
        (paths.sentinel2 / name).unlink()
    crop_scene(paths.enmap, tmp_path / "out")
    told = mask_scene(tmp_path / "out", paths.enmap)
    assert told["masked"] == 0 and "no scene classification" in caplog.text
    scene, guide = read_masked(tmp_path / "out", paths.enmap)
    assert guide.scl is None and guide.bands20 is None and np.isfinite(scene.cube.values[0]).all()


# ---- real data

@pytest.mark.parametrize("which", [0, 1])
def test_real_water(water, tmp_path, which):
    place = water(which)
    record = crop_scene(place, tmp_path / "out", haze=True, cirrus=True)
    assert record.window == (slice(0, 128), slice(0, 128)) and record.layers == ("cloud", "cloudshadow", "haze", "cirrus")
    numbers = raw(tmp_path / "out/enmap.tif")
    np.testing.assert_array_equal(numbers, raw(next(place.glob("*SPECTRAL_IMAGE.TIF"))))
    assert ((numbers < 0) & (numbers != NODATA)).sum() > 1_000_000        # that many the seed would have turned into 10000
    guide = clear_guide((400, 400), corner=tuple(np.add(Grid.of(read_enmap(place).cube).bounds, (-105, 0, 0, 105))[[0, 3]]), crs="EPSG:32618")
    write_sentinel2(place / "sentinel2", guide.bands10)
    mask_scene(tmp_path / "out", place)
    scene, _ = read_masked(tmp_path / "out", place)
    np.testing.assert_array_equal(crop.to_int16(scene.cube.values), numbers)


def test_real_land(case, tmp_path):
    "Any pixel size: the cases have 90 m and 30 m."
    [place] = [p for p in case.iterdir() if p.is_dir()]
    record = crop_scene(place, tmp_path)
    told = mask_scene(tmp_path, place, case, distance=60)
    scene, guide = read_masked(tmp_path, place, case)
    whole = read_enmap(place).cube[(slice(None), *record.window)].values
    left = np.isfinite(scene.cube.values)
    np.testing.assert_array_equal(scene.cube.values[left], whole[left])
    assert left.any() and (told["enmap"] > 0) == (told["masked"] > 0) == (case.name == "potsdam_hard")
    assert json.loads((tmp_path / "crop.json").read_text())["scene"] == place.name
