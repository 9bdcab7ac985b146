"Guides that describe themselves: `guide.json`, tags, and what is refused."
import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from enmap_sharpener.core.errors import BandError, EnmapError, GridError, NoValidPixels, ProductError
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.scenes.guide_sensors import GUIDE_SENSORS
from enmap_sharpener.scenes.guides import read_guide

RNG = np.random.default_rng(0)
NUMBERS = RNG.integers(1000, 3000, (10, 60, 60)).astype("uint16")


def save(path, image, pixel=3.0, names=(), tags=None, nodata=0, crs="EPSG:32633", **options):
    "Write bands as they are."
    with rasterio.open(path, "w", driver="GTiff", count=len(image), height=image.shape[1], width=image.shape[2], dtype=image.dtype, crs=crs, nodata=nodata,
                       transform=from_origin(300_000, 5_800_000, pixel, pixel), **options) as file:
        file.write(image)
        for i, name in enumerate(names, 1):
            file.set_band_description(i, name)
        for i, tag in enumerate(tags or [], 1):
            file.update_tags(i, **tag)
    return path


def describe(folder, **told):
    (folder / "guide.json").write_text(json.dumps(told))
    return folder


def test_numbers_that_are_no_reflectance_are_nodata_and_said(tmp_path):
    numbers = NUMBERS[:8].astype("int16")
    numbers[:, :5] = -9999
    save(tmp_path / "x.tif", numbers, nodata=None)
    guide = read_guide(describe(tmp_path, sensor="superdove"))
    assert np.isnan(guide.bands10.values[:, :5]).all() and np.isfinite(guide.bands10.values[:, 5:]).all()
    assert [line for line in guide.found if "nodata" in line] == ["x.tif: -9999 is taken as nodata, which it does not declare"]


def test_pixels_that_are_not_square(tmp_path):
    path = save(tmp_path / "x.tif", NUMBERS[:8])
    with rasterio.open(path, "r+") as file:
        file.transform = from_origin(300_000, 5_800_000, 6, 3)
    with pytest.raises(GridError, match="x.tif: its pixels are 6 wide and 3 high; wanted square ones"):
        read_guide(describe(tmp_path, sensor="superdove"))


@pytest.mark.parametrize("last, told", [(1e-4, "its own scale and offset are used (reflectance = number x 0.0001 +0)"), (1e-3, "which differ (reflectance = number x 0.0001 +0 for band 1, ")])
def test_scales_of_its_own_are_said(tmp_path, last, told):
    path = save(tmp_path / "x.tif", NUMBERS[:8])
    with rasterio.open(path, "r+") as file:
        file.scales = [1e-4] * 7 + [last]
    guide = read_guide(describe(tmp_path, sensor="superdove"))
    assert told in guide.found[0] and ("0.001 +0 for band 8" in guide.found[0]) == (last == 1e-3)
    np.testing.assert_allclose(guide.bands10.values[7], NUMBERS[7] * last, atol=1e-5)


# ---- sensors that are ready

def test_superdove_is_told_by_its_name_alone(tmp_path):
    save(tmp_path / "20220724_101611_PSScene_AnalyticMS_SR_8b_clip.tif", NUMBERS[:8])
    guide = read_guide(describe(tmp_path, sensor="SuperDove"))
    assert guide.table.sensor == "SuperDove" and guide.table.names == tuple(b[0] for b in GUIDE_SENSORS["superdove"].bands)
    np.testing.assert_allclose(guide.bands10.values, NUMBERS[:8] * 1e-4, atol=1e-6)
    assert guide.table["rededge"].centre == 705 and guide.table["nir"].grid == 3 and guide.date.year == 2022


def test_bands_are_found_by_their_descriptions_and_sorted_along_the_spectrum(tmp_path):
    save(tmp_path / "x.tif", NUMBERS[:3], names=("nir", "Red", "Green I"))
    guide = read_guide(describe(tmp_path, sensor="superdove"))
    assert guide.table.names == ("green_i", "red", "nir")
    np.testing.assert_allclose(guide.bands10.values, NUMBERS[[2, 1, 0]] * 1e-4, atol=1e-6)


def test_landsat_files_by_the_ends_of_their_names(tmp_path):
    for band, pixel in (("SR_B2", 30), ("SR_B5", 30), ("SR_B7", 30), ("B8", 15)):
        side = 60 if pixel == 15 else 30
        save(tmp_path / f"LC09_L2SP_193023_20220724_20220726_02_T1_{band}.TIF", NUMBERS[:1, :side, :side] * 10, pixel)
    guide = read_guide(describe(tmp_path, sensor="landsat9"))
    assert guide.table.names == ("B8", "B2", "B5", "B7") and guide.table.coarser.names == ("B2", "B5", "B7")
    assert [b.detector for b in guide.table] == ["VNIR", "VNIR", "VNIR", "SWIR"]
    np.testing.assert_allclose(guide.bands20.values[0], NUMBERS[0, :30, :30] * 10 * 2.75e-5 - 0.2, atol=1e-6)


def test_pan_sharpened_landsat_has_one_grid_and_carries_the_swir(tmp_path):
    save(tmp_path / "ps.tif", NUMBERS[:7], 15, names=[f"B{i}" for i in range(1, 8)])
    table = read_guide(describe(tmp_path, sensor="landsat8")).table
    assert len(table.finest) == 7 and table.finest.detectors == ("VNIR", "SWIR") and not len(table.coarser)


def test_orthophoto_of_eight_bits_is_averaged(tmp_path):
    photo = RNG.integers(1, 256, (4, 61, 62)).astype("uint8")
    save(tmp_path / "photo.tif", photo, 1.0, nodata=None)
    guide = read_guide(describe(tmp_path, sensor="orthophoto", resolution=3))
    grid = Grid.of(guide.bands10)
    assert (grid.shape, grid.cols.step, guide.table["red"].grid) == ((20, 20), 3, 3)
    mean = photo[:, :60, :60].reshape(4, 20, 3, 20, 3).mean((2, 4)) / 255
    np.testing.assert_allclose(guide.bands10.sel(band=["red", "green", "blue", "nir"]).values, mean, atol=1e-5)
    np.testing.assert_allclose(read_guide(tmp_path, resolution=6).bands10.shape, (4, 10, 10))


# ---- bands that are listed

def test_bands_of_the_same_index_are_refused(tmp_path):
    save(tmp_path / "a.tif", NUMBERS[:3])
    bands = [{"name": n, "centre": c, "width": 40, "index": i} for n, c, i in (("red", 660, 1), ("near", 860, 2), ("far", 940, 1))]
    with pytest.raises(ProductError, match=r"band 3 \(far\) is band 1 of a\.tif, as is red; give each an index of its own"):
        read_guide(describe(tmp_path, sensor="Meteor", bands=bands))


def test_bands_of_two_files_and_a_mask(tmp_path):
    save(tmp_path / "a.tif", NUMBERS[:2])
    save(tmp_path / "b.tif", NUMBERS[2:5, :30, :30], 6)
    save(tmp_path / "udm.tif", (np.arange(3600).reshape(1, 60, 60) % 2).astype("uint8"), nodata=None)
    bands = [{"name": "far", "centre": 1610, "width": 90, "file": "b.tif", "index": 3}, {"name": "near", "centre": 860, "width": 40, "file": "a.tif", "index": 2, "pixel": 3}]
    guide = read_guide(describe(tmp_path, sensor="Meteor", bands=bands, mask="udm.tif", clear=[1], date="2022-07-24"))
    assert guide.table.names == ("near", "far") and guide.table.sensor == "Meteor" and guide.date.day == 24
    np.testing.assert_allclose(guide.bands10.values, NUMBERS[1:2] * 1e-4, atol=1e-6)
    np.testing.assert_allclose(guide.bands20.values, NUMBERS[4:5, :30, :30] * 1e-4, atol=1e-6)
    assert set(np.unique(guide.scl.values[:, 1::2])) == {7} and set(np.unique(guide.scl.values[:, ::2])) == {9}


@pytest.mark.parametrize("tags", [[{"wavelength": "490", "wavelength_units": "nm", "fwhm": "50"}, {"wavelength": "865", "wavelength_units": "nm", "fwhm": "40"}],
                                  [{"wavelength": "0.49"}, {"wavelength": "0.865"}]])
def test_wavelengths_in_the_tags_describe_a_raster(tmp_path, tags):
    file = save(tmp_path / "x.tif", NUMBERS[:2], tags=tags)
    guide = read_guide(file)
    assert [round(b.centre) for b in guide.table] == [490, 865] and {b.width for b in guide.table} == ({50, 40} if "fwhm" in tags[0] else {40})
    assert ("fwhm" in tags[0]) == (not any("tell the widths" in line for line in guide.found))


# ---- what is refused

WRONG = ["[]", "{", "3", '{"sensor": "meteor"}', "{}", '{"sensor": 3}', '{"sensor": "superdove", "scale": "1"}', '{"sensor": "superdove", "scale": NaN}', '{"sensor": "superdove", "scale": true}',
         '{"sensor": "superdove", "scale": 1e999}', '{"sensor": "superdove", "offset": 0.1}', '{"sensor": "superdove", "file": "../x.tif"}', '{"sensor": "superdove", "file": "/etc/passwd"}',
         '{"sensor": "superdove", "pixels": 3}', '{"sensor": "superdove", "date": "yesterday"}', '{"sensor": "superdove", "clear": [1.5], "mask": "x.tif", "file": "x.tif"}',
         '{"sensor": "superdove", "mask": "x.tif", "file": "x.tif"}', '{"sensor": "superdove", "mask": "x.tif"}', '{"bands": []}', '{"bands": [3]}', '{"bands": {"a": 1}}', '{"bands": [{"centre": 600}]}', '{"bands": [{"centre": NaN, "width": 3}]}', '{"bands": [{"centre": 600, "width": 30, "index": 1.5}]}',
         '{"bands": [{"centre": 600, "width": 30, "index": 99}]}', '{"bands": [{"centre": 600, "width": 30, "pixel": 10}]}', '{"bands": [{"centre": 600, "width": -30}]}',
         '{"sensor": "superdove", "scale": ' + "9" * 600 + "}", "[" * 100_000, " " * 2_000_000, '{"sensor": "a\\u0000b"}']


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_a_wrong_description_is_one_line(tmp_path, text):
    save(tmp_path / "x.tif", NUMBERS[:8])
    (tmp_path / "guide.json").write_text(text)
    with pytest.raises(ProductError, match="guide.json") as caught:
        read_guide(tmp_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("told, error, text", [
    (dict(bands=[{"name": "a", "centre": c, "width": 30} for c in (500, 600)]), BandError, "band a is there twice"),
    (dict(bands=[{"name": "a", "centre": 1600, "width": 30}]), BandError, "below 1000 nm"),
    (dict(sensor="superdove", resolution=7), GridError, "3 m cannot be averaged to 7 m"),
])
def test_bands_and_grids_that_cannot_guide(tmp_path, told, error, text):
    save(tmp_path / "x.tif", NUMBERS[:8])
    with pytest.raises(error, match=text):
        read_guide(describe(tmp_path, **told))


def test_files_of_one_pixel_size_that_lie_apart_and_three_sizes(tmp_path):
    save(tmp_path / "a.tif", NUMBERS[:1])
    save(tmp_path / "b.tif", NUMBERS[:1, :30])
    bands = [{"name": n, "centre": c, "width": 30, "file": f"{n}.tif"} for n, c in (("a", 500), ("b", 600))]
    with pytest.raises(GridError, match="b.tif: has another grid than a.tif"):
        read_guide(describe(tmp_path, bands=bands))
    save(tmp_path / "b.tif", NUMBERS[:1], 6)
    save(tmp_path / "c.tif", NUMBERS[:1], 9)
    with pytest.raises(GridError, match="pixels of 3, 6, 9 m"):
        read_guide(describe(tmp_path, bands=[*bands, {"name": "c", "centre": 700, "width": 30, "file": "c.tif"}]))


def test_nothing_but_nodata_and_a_mask_elsewhere(tmp_path):
    save(tmp_path / "x.tif", 0 * NUMBERS[:8])
    with pytest.raises(NoValidPixels, match="nodata everywhere"):
        read_guide(describe(tmp_path, sensor="superdove"))
    save(tmp_path / "x.tif", NUMBERS[:8])
    save(tmp_path / "m.tif", NUMBERS[:1], crs="EPSG:32632")
    with pytest.raises(GridError, match="EPSG:32632"):
        read_guide(describe(tmp_path, sensor="superdove", mask="m.tif"))


def test_sentinel2_is_read_as_before(tmp_path):
    with pytest.raises(EnmapError, match="sentinel2_10m.tif"):
        read_guide(tmp_path)
    file = save(tmp_path / "sentinel2_10m.tif", NUMBERS[:4], 10, names=("B02", "B03", "B04", "B08"), tags=[{"wavelength": str(w)} for w in (490, 560, 665, 842)])
    assert read_guide(file).described is None and read_guide(file).table.sensor == "Sentinel-2"
