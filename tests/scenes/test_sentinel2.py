"Sentinel-2 stacks and single bands, in the forms they come in."
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from products import sentinel2
from rasterio.crs import CRS

from enmap_sharpener.core.errors import BandError, GridError, MetadataError, NoValidPixels, ProductError, RequestError
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.core.raster import to_int16
from enmap_sharpener.scenes.sentinel2 import BANDS_10M, BANDS_20M, HIDES, read_sentinel2, said_of_mask, write_sentinel2
from enmap_sharpener.scenes.sentinel2_metadata import date_of

FINE = sentinel2()
COARSE = sentinel2((36, 54), BANDS_20M, pixel=20, seed=2)
SCL = (COARSE[0].fillna(0) * 20).astype("uint8").drop_vars("band")


@pytest.fixture
def folder(tmp_path):
    return write_sentinel2(tmp_path / "s2", FINE, COARSE, SCL)


def save(path, data, dtype="int16", descriptions=(), nodata=None, crs="EPSG:32633", transform=None, driver="GTiff", **options):
    "Write an array (band, y, x) as it is."
    path.parent.mkdir(parents=True, exist_ok=True)
    data = np.asarray(data)
    with rasterio.open(path, "w", driver=driver, count=len(data), height=data.shape[1], width=data.shape[2], dtype=dtype, crs=crs,
                       transform=transform or FINE.rio.transform(), nodata=nodata, **options) as file:
        file.write(data.astype(dtype))
        for i, text in enumerate(descriptions, 1):
            file.set_band_description(i, text)


def singles(folder, offset=0, name="{band}.tif", bands=BANDS_10M, cube=FINE, **options):
    "Files of single bands as ESA writes them: uint16, 0 is nodata."
    for band in bands:
        numbers = to_int16(cube.sel(band=[band]).values)
        save(folder / name.format(band=band), np.where(numbers < 0, 0, numbers + offset), "uint16", transform=cube.rio.transform(), **options)


def same(guide, coarse=True):
    np.testing.assert_allclose(guide.bands10.values, FINE.values, atol=1e-6)
    assert tuple(guide.bands10.band.values) == BANDS_10M and guide.bands10.dtype == "float32"
    if coarse:
        np.testing.assert_allclose(guide.bands20.values, COARSE.values, atol=1e-6)
        assert tuple(guide.bands20.band.values) == BANDS_20M
    return True


# ---- stacks

def test_round_trip(folder):
    guide = read_sentinel2(folder)
    assert same(guide)
    np.testing.assert_array_equal(guide.scl, SCL)
    assert guide.scl.dtype == "uint8" and guide.bands20.rio.resolution() == (20, -20)


def test_20_m_files_are_optional(folder):
    for name in "sentinel2_20m.tif", "scl_20m.tif":
        (folder / name).unlink()
    guide = read_sentinel2(folder)
    assert same(guide, coarse=False) and guide.bands20 is None and guide.scl is None


@pytest.mark.parametrize("numbers, dtype", [(90, "uint8"), (200, "uint8"), (1234, "uint16"), (0.25, "float32")])
def test_what_is_no_scene_classification_is_left_out_and_said(folder, numbers, dtype):
    classes = SCL.values.astype(dtype)
    classes[5:9, 5:9] = numbers
    save(folder / "scl_20m.tif", classes[None], dtype, transform=COARSE.rio.transform())
    guide = read_sentinel2(folder)
    assert guide.scl is None and [f"it holds numbers such as {numbers:g}, wanted classes from 0 to 11" in line for line in guide.found] == [True]


@pytest.mark.parametrize("values", [(0, 1), (1,), (0,)])
def test_a_mask_of_0_and_1_is_no_scene_classification(folder, values):
    save(folder / "scl_20m.tif", np.resize(np.array(values, "uint8"), (1, *SCL.shape)), "uint8", transform=COARSE.rio.transform())
    guide = read_sentinel2(folder)
    assert guide.scl is None and ["holds no other numbers than 0 and 1, as a mask does" in line for line in guide.found] == [True]


def test_what_hides_all_or_does_not_cover_is_said(folder):
    guide, grid = read_sentinel2(folder), Grid.of(COARSE)
    assert said_of_mask(guide, grid) == [] == said_of_mask(replace(guide, scl=None), grid)
    nine, cloudy = guide.scl.copy(data=np.full(SCL.shape, 9, "uint8")), guide.scl.copy(data=np.resize(np.array([8, 9, 10], "uint8"), SCL.shape))
    [line] = said_of_mask(replace(guide, scl=nine), grid)
    assert "its classification hides 100% of it (values 9: no scene classification?)" in line and line.endswith(HIDES)
    assert "hides 100% of it (values 8 9 10)" in said_of_mask(replace(guide, scl=cloudy), grid)[0]
    part = guide.scl[:SCL.shape[0] // 2]
    [line] = said_of_mask(replace(guide, scl=part), grid)
    assert line.endswith("its classification covers 50% of it; the rest is not used")
    other = guide.bands10.rio.write_crs("EPSG:32634")
    assert said_of_mask(replace(guide, scl=nine), Grid.of(other)) == []


def test_bands_are_put_in_order_by_their_names(folder):
    numbers = to_int16(FINE.values)
    save(folder / "sentinel2_10m.tif", numbers[[3, 0, 2, 1]], descriptions=("B8", "B02 (492 nm)", "band 4", "B3"), nodata=-32768)
    assert same(read_sentinel2(folder))


@pytest.mark.parametrize("descriptions", [(), ("Band 1", "Band 2", "Band 3", "Band 4"), ("band_1", "band_2", "band_3", "band_4"), ("", "", "", "")])
def test_bands_without_names_are_left_to_enmap(folder, descriptions):
    save(folder / "sentinel2_10m.tif", to_int16(FINE.values), descriptions=descriptions, nodata=-32768)
    guide = read_sentinel2(folder)
    assert guide.unnamed == ("bands10",) and list(guide.bands10.band.values) == [1, 2, 3, 4]
    np.testing.assert_allclose(guide.bands10.values, FINE.values, atol=1e-6)


@pytest.mark.parametrize("descriptions", [("blue", "green", "red", "nir"), ("0_B2", "0_B3", "0_B4", "0_B8"), ("B02_10m", "B03_10m", "B04_10m", "B08_10m"),
                                          ("B2_median", "B3_median", "B4_median", "B8_median"), ("S2_B2", "S2_B3", "S2_B4", "S2_B8"), ("b2", "b3", "b4", "b8")])
def test_names_with_something_before_or_behind(folder, descriptions):
    save(folder / "sentinel2_10m.tif", to_int16(FINE.values)[::-1], descriptions=descriptions[::-1], nodata=-32768)
    assert same(read_sentinel2(folder))


@pytest.mark.parametrize("dtype, factor", [("uint16", 1e4), ("float32", 1.0), ("float32", 1e4)])
def test_untagged_zeros_of_a_stack_are_nodata(folder, dtype, factor):
    numbers = np.where(np.isnan(FINE.values), 0, np.rint(FINE.values * 1e4) * (factor / 1e4))
    save(folder / "sentinel2_10m.tif", numbers, dtype, descriptions=BANDS_10M)
    assert same(read_sentinel2(folder))


@pytest.mark.parametrize("dtype, factor, value", [("int16", 1e4, -9999), ("float32", 1.0, -9999), ("float32", 1.0, -0.9999), ("float32", 1e4, -9999), ("uint16", 1e4, 65535)])
@pytest.mark.parametrize("single", [True, False])
def test_numbers_that_are_no_reflectance_are_nodata_and_said(tmp_path, dtype, factor, value, single):
    data = np.where(np.isfinite(FINE.values), np.maximum(FINE.values, 0.001) * factor, value)
    data[:, -9:, -7:] = value
    if single:
        for band, image in zip(BANDS_10M, data, strict=True):
            save(tmp_path / f"{band}.tif", image[None], dtype)
    else:
        save(tmp_path / "sentinel2_10m.tif", data, dtype, BANDS_10M)
    guide = read_sentinel2(tmp_path)
    np.testing.assert_array_equal(np.isfinite(guide.bands10.values), data != value)
    assert float(guide.bands10.min()) >= 0
    assert len([line for line in guide.found if f"{value:g} is taken as nodata, which it does not declare" in line]) == 1


def test_zero_in_one_band_of_a_stack_is_a_measurement(folder):
    numbers = to_int16(FINE.values)
    numbers[3, 20:30, 20:30] = 0
    save(folder / "sentinel2_10m.tif", numbers, descriptions=BANDS_10M, nodata=-32768)
    guide = read_sentinel2(folder)
    assert (guide.bands10[3, 20:30, 20:30] == 0).all() and np.isfinite(guide.bands10[:, 20:30, 20:30].values).all()


def test_a_stack_of_zeros_is_read_as_it_is(folder):
    save(folder / "sentinel2_10m.tif", FINE.values * 0 + 0, "uint16", descriptions=BANDS_10M)
    guide = read_sentinel2(folder)
    assert (guide.bands10 == 0).all() and "is 0 everywhere" in guide.found[0]


def test_percent(folder):
    save(folder / "sentinel2_10m.tif", FINE.values * 100, "float32", descriptions=BANDS_10M, nodata=np.nan)
    guide = read_sentinel2(folder)
    np.testing.assert_allclose(guide.bands10.values, FINE.values, atol=1e-6)
    assert "percent" in guide.found[0]


def test_the_file_s_own_offset_is_used(folder):
    "As Earth Search's collection 1 has it."
    save(folder / "sentinel2_10m.tif", np.where(np.isnan(FINE.values), 0, np.rint(FINE.values * 1e4) + 1000), "uint16", descriptions=BANDS_10M, nodata=0)
    with rasterio.open(folder / "sentinel2_10m.tif", "r+") as file:
        file.scales, file.offsets = (0.0001,) * 4, (-0.1,) * 4
    guide = read_sentinel2(folder)
    assert same(guide) and "its own scale and offset are used" in guide.found[0]
    np.testing.assert_allclose(read_sentinel2(folder, offset=0).bands10.values, FINE.values + 0.1, atol=1e-6)


@pytest.mark.parametrize("single", [True, False])
def test_scales_that_differ_are_each_used_and_all_said(tmp_path, single):
    numbers = np.where(np.isnan(FINE.values), 0, np.rint(FINE.values * 1e4) + 1)
    paths = [tmp_path / f"{band}.tif" for band in BANDS_10M] if single else [tmp_path / "sentinel2_10m.tif"]
    for path, image in zip(paths, numbers[:, None] if single else [numbers], strict=True):
        save(path, image, "uint16", descriptions=[] if single else BANDS_10M, nodata=0)
        with rasterio.open(path, "r+") as file:
            file.scales = [1e-3 if path.stem == "B08" else 1e-4] if single else [1e-4, 1e-4, 1e-4, 1e-3]
    guide = read_sentinel2(tmp_path)
    expected = np.where(numbers == 0, np.nan, numbers) * np.array([1e-4, 1e-4, 1e-4, 1e-3])[:, None, None]
    np.testing.assert_allclose(guide.bands10.values, expected, atol=1e-5)
    told = " ".join(guide.found)
    assert "0.001 +0" in told and told.count("0.0001 +0") == 3
    assert single or "which differ (reflectance = number x 0.0001 +0 for B02, 0.0001 +0 for B03, 0.0001 +0 for B04, 0.001 +0 for B08); are they right?" in told


def test_a_stack_by_its_own_path(folder):
    assert same(read_sentinel2(folder / "sentinel2_10m.tif"))
    (folder / "sentinel2_10m.tif").rename(folder / "mine.tif")
    guide = read_sentinel2(folder / "mine.tif")
    assert same(guide, coarse=False) and guide.bands20 is None


def test_names_of_files_of_aws(tmp_path):
    singles(tmp_path, name="R10m/{band}.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    singles(tmp_path, name="R20m/{band}.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    singles(tmp_path, name="R60m/{band}.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    assert same(read_sentinel2(tmp_path), coarse=False)


@pytest.mark.parametrize("given", ["", "GRANULE", "GRANULE/L2A_T33UUU_A1/IMG_DATA", "GRANULE/L2A_T33UUU_A1/IMG_DATA/R10m"])
@pytest.mark.parametrize("name", ["MTD_MSIL2A.xml", "S2A_T33UUU_product-metadata.xml", "product_metadata.xml"])
def test_metadata_beside_and_above(tmp_path, given, name):
    singles(tmp_path, 1000, "GRANULE/L2A_T33UUU_A1/IMG_DATA/R10m/T33UUU_20230601T101611_{band}_10m.tif")
    (tmp_path / name).write_text("<n1:x xmlns:n1='u'><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE></n1:x>")
    guide = read_sentinel2(tmp_path / given)
    assert same(guide, coarse=False) and guide.date.day == 1 and f"as {name} says" in guide.found[0]


@pytest.mark.parametrize("place", ["S2B_MSIL1C_20230725T101559_N0509_R065_T33UUU_20230725T121100.SAFE", "x/L1C_T33UUU_A033000_20230725T102020"])
def test_level_1c_is_refused(tmp_path, place):
    singles(tmp_path / place)
    with pytest.raises(ProductError, match=f"{place.split('/')[-1]}: is level 1C"):
        read_sentinel2(tmp_path / place)


def test_level_1c_by_its_metadata(tmp_path):
    singles(tmp_path)
    (tmp_path / "product-metadata.xml").write_text("<x><PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL></x>")
    with pytest.raises(ProductError, match="product-metadata.xml: is level 1C"):
        read_sentinel2(tmp_path)


@pytest.mark.parametrize("crs", ["EPSG:25833", "+proj=tmerc +lat_0=0 +lon_0=15 +k=0.9996 +x_0=500000 +y_0=0 +datum=WGS84 +units=m"])
def test_other_spellings_of_utm_are_the_same(folder, crs):
    save(folder / "sentinel2_10m.tif", to_int16(FINE.values), descriptions=BANDS_10M, nodata=-32768, crs=crs)
    assert same(read_sentinel2(folder))


def test_bands_of_a_larger_stack_are_found(folder):
    numbers = to_int16(FINE.values)
    save(folder / "sentinel2_10m.tif", np.concatenate([numbers[:3] * 0, numbers]), descriptions=("B01", "B05", "SCL", *BANDS_10M), nodata=-32768)
    assert same(read_sentinel2(folder))


@pytest.mark.parametrize("descriptions, count", [((), 3), (("B02", "B03", "B04"), 3), (("B02", "B03", "B04", "B8A"), 4),
                                                 (("blue", "green", "red", "infrared"), 4), (("B02", "B03", "B04", "B04"), 4)])
def test_unknown_or_missing_bands_are_refused(folder, descriptions, count):
    save(folder / "sentinel2_10m.tif", np.ones((count, 72, 108)), descriptions=descriptions)
    with pytest.raises(BandError, match=r"sentinel2_10m\.tif: .*B0"):
        read_sentinel2(folder)


@pytest.mark.parametrize("scale, nodata", [(1.0, np.nan), (1e4, np.nan), (1.0, -9999), (1e4, -9999)])
def test_floats_are_told_by_their_size(folder, scale, nodata):
    save(folder / "sentinel2_10m.tif", np.where(np.isnan(FINE), nodata, FINE * scale), "float32", BANDS_10M, nodata)
    assert same(read_sentinel2(folder))


@pytest.mark.parametrize("value, factor", [(4.9, 1), (5, 1), (5.1, 0.01), (110, 0.01), (111, 1e-4)])
def test_floats_at_the_limits_of_size(folder, value, factor):
    save(folder / "sentinel2_10m.tif", np.full(FINE.shape, value), "float32", BANDS_10M)
    np.testing.assert_allclose(read_sentinel2(folder).bands10.values, value * factor, rtol=1e-5)


def test_date_of_a_stack(tmp_path):
    from datetime import datetime, timezone
    date = datetime(2023, 6, 1, 10, 20, 30, tzinfo=timezone.utc)
    assert read_sentinel2(write_sentinel2(tmp_path, FINE, date=date)).date == date


@pytest.mark.parametrize("names, day", [(["S2_20229924T101611_B02.tif"], None), (["S2_20220230T101611.tif", "S2_20220724T101611.tif"], "2022-07-24 10:16"),
                                        (["S2_20220724T999999_B02.tif"], "2022-07-24 00:00")])
def test_a_time_that_cannot_be_is_none(names, day):
    found = date_of({}, names)
    assert (found and f"{found:%Y-%m-%d %H:%M}") == day


# ---- single bands

@pytest.mark.parametrize("name", ["{band}.tif", "{band}.TIFF", "T33UUU_20230601T101611_{band}_10m.tif", "R10m/x_{band}.tif",
                                  "a/b/c/d/T33UUU_20230601T101611_{band}.tif"])
def test_single_files_by_band(tmp_path, name):
    singles(tmp_path, name=name)
    guide = read_sentinel2(tmp_path)
    assert same(guide, coarse=False) and guide.bands20 is None
    assert (guide.date is not None) == ("2023" in name)


MTD = """<?xml version="1.0"?><n1:Level-2A_User_Product xmlns:n1="https://psd-15.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
<n1:General_Info><Product_Info><PRODUCT_START_TIME>2023-06-01T10:16:11.024Z</PRODUCT_START_TIME>
<PROCESSING_BASELINE>{baseline}</PROCESSING_BASELINE></Product_Info><Product_Image_Characteristics>
<QUANTIFICATION_VALUES_LIST><BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>{offsets}
</Product_Image_Characteristics></n1:General_Info></n1:Level-2A_User_Product>"""
OFFSETS = "<BOA_ADD_OFFSET_VALUES_LIST>" + "".join(f'<BOA_ADD_OFFSET band_id="{i}">-1000</BOA_ADD_OFFSET>' for i in range(13)) + \
    "</BOA_ADD_OFFSET_VALUES_LIST>"


@pytest.mark.parametrize("baseline, offsets, added", [("02.14", "", 0), ("05.09", OFFSETS, 1000), ("04.00", "", 1000), ("04.00", OFFSETS, 1000)])
def test_offset_of_the_processing_baseline(tmp_path, baseline, offsets, added):
    singles(tmp_path, offset=added)
    (tmp_path / "MTD_MSIL2A.xml").write_text(MTD.format(baseline=baseline, offsets=offsets))
    guide = read_sentinel2(tmp_path)
    assert same(guide, coarse=False) and guide.date.isoformat() == "2023-06-01T10:16:11.024000+00:00"


@pytest.fixture
def safe(tmp_path):
    "A SAFE product: JPEG 2000, three resolutions, masks named like bands."
    top = tmp_path / "S2A_MSIL2A_20230601T101611_N0509_R065_T33UUU_20230601T161611.SAFE"
    images = "GRANULE/L2A_T33UUU/IMG_DATA/R{m}m/T33UUU_20230601T101611_{{band}}_{m}m.jp2"
    jp2 = dict(driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES")
    singles(top, 1000, images.format(m=10), **jp2)
    singles(top, 1000, images.format(m=20), BANDS_20M, COARSE, **jp2)
    singles(top, 1000, images.format(m=20), ("B02", "B03", "B04"), FINE[:, ::2, ::2].rio.write_transform(COARSE.rio.transform()), **jp2)
    save(top / images.format(m=20).format(band="SCL"), SCL.values[None], "uint8", transform=COARSE.rio.transform(), **jp2)
    save(top / "GRANULE/L2A_T33UUU/QI_DATA/MSK_QUALIT_B02.jp2", SCL.values[None], "uint8", **jp2)
    (top / "MTD_MSIL2A.xml").write_text(MTD.format(baseline="05.09", offsets=OFFSETS))
    return top


def test_safe(safe, tmp_path):
    for path in safe, shutil.make_archive(str(tmp_path / "x"), "zip", tmp_path, safe.name):
        guide = read_sentinel2(path)
        assert same(guide)
        np.testing.assert_array_equal(guide.scl, SCL)


def test_reads_windows_of_single_files(tmp_path):
    singles(tmp_path)
    window = read_sentinel2(tmp_path).bands10.sel(band="B04")[10:12, 20:25]
    np.testing.assert_allclose(window.values, FINE.sel(band="B04")[10:12, 20:25].values, atol=1e-6)


def test_real_bands(shared):
    guide = read_sentinel2(shared / "data/sentinel2_T48QUE")
    assert guide.bands10.shape == (4, 1068, 1068) and guide.bands20.shape == (6, 534, 534)
    assert 0.02 < float(guide.bands10.sel(band="B02").mean()) < float(guide.bands10.sel(band="B08").mean()) < 0.5


def test_cases_open(case):
    guide = read_sentinel2(case)
    assert guide.bands10.shape[0] == 4 and (guide.scl is not None) == (case.name == "potsdam_hard")


# ---- bad input: the class, and one line that names the file

def refused(path, error, text):
    with pytest.raises(error, match=text) as caught:
        guide = read_sentinel2(path)
        guide.bands10.values  # noqa: B018  (a damaged block shows when it is read)
    assert "\n" not in str(caught.value)


def test_missing_and_empty_folder(tmp_path):
    refused(tmp_path / "nowhere", ProductError, "does not exist")
    refused(tmp_path, ProductError, "neither sentinel2_10m.tif nor")


def test_missing_band_file(tmp_path):
    singles(tmp_path, bands=("B02", "B03", "B08"))
    refused(tmp_path, BandError, "lacks B04")


def test_two_files_of_one_band(tmp_path):
    singles(tmp_path, name="a_{band}.tif")
    singles(tmp_path, name="b_{band}.tif")
    refused(tmp_path, ProductError, "second file of B02")


@pytest.mark.parametrize("held", [("B8A", "B11", "B12"), ("B12",), ("B11", "B05"), BANDS_20M[:5]])
def test_a_20_m_stack_may_hold_some_bands_in_any_order(folder, held):
    save(folder / "sentinel2_20m.tif", to_int16(COARSE.sel(band=list(held)).values), descriptions=held, transform=COARSE.rio.transform(), nodata=-32768)
    guide = read_sentinel2(folder)
    ordered = [b for b in BANDS_20M if b in held]
    assert [*guide.bands20.band.values] == ordered and guide.table.names == (*BANDS_10M, *ordered)
    np.testing.assert_allclose(guide.bands20.values, COARSE.sel(band=ordered).values, atol=1e-6)


def test_single_files_of_some_20_m_bands(tmp_path):
    singles(tmp_path)
    singles(tmp_path, bands=("B8A", "B11", "B12"), cube=COARSE)
    assert read_sentinel2(tmp_path).table.names == (*BANDS_10M, "B8A", "B11", "B12")


@pytest.mark.parametrize("names, told", [(("B02", "B03"), "B05 B06"), (("B11", "B12", "B11"), "B11")])
def test_a_20_m_stack_without_20_m_bands_or_with_one_twice(folder, names, told):
    save(folder / "sentinel2_20m.tif", np.ones((len(names), 36, 54)), descriptions=names, transform=COARSE.rio.transform())
    refused(folder, BandError, f"sentinel2_20m.tif.*{told}")


def test_nodata_everywhere(folder):
    save(folder / "sentinel2_10m.tif", np.full((4, 72, 108), -32768), descriptions=BANDS_10M, nodata=-32768)
    refused(folder, NoValidPixels, "sentinel2_10m.tif: is nodata everywhere")


def test_a_few_valid_pixels_are_enough(folder):
    data = np.full((4, 72, 108), -32768)
    data[:, 70, 100] = 500
    save(folder / "sentinel2_10m.tif", data, descriptions=BANDS_10M, nodata=-32768)
    assert np.isfinite(read_sentinel2(folder).bands10).sum() == 4


@pytest.mark.parametrize("name, cube, bands, what", [("sentinel2_10m", FINE, BANDS_10M, "10 m bands"), ("sentinel2_20m", COARSE, BANDS_20M, "20 m bands")])
def test_pixels_that_are_not_square(folder, name, cube, bands, what):
    left, top, step = cube.rio.transform().c, cube.rio.transform().f, cube.rio.transform().a
    save(folder / f"{name}.tif", to_int16(cube.values), descriptions=bands, transform=rasterio.transform.from_origin(left, top, 2 * step, step))
    refused(folder, GridError, f"{what}: its pixels are {2 * step:g} wide and {step:g} high; wanted square ones")


@pytest.mark.parametrize("wide, high, crs, square", [(10, 10.02, 32633, True), (9.9, 10, 32633, True), (10, 10.5, 32633, False), (10, 20, 32633, False),
                                                     (9e-5, 9e-5, 4326, True), (1.43e-4, 9e-5, 4326, True), (1.8e-4, 9e-5, 4326, False), (9e-5, 1.8e-4, 4326, False)])
def test_what_is_square(wide, high, crs, square):
    west, north = (13, 51) if crs == 4326 else (366000, 5806000)
    grid = Grid.laid(CRS.from_epsg(crs), rasterio.transform.from_origin(west, north, wide, high), (100, 100))
    if square:
        return grid.check_square("x.tif")
    with pytest.raises(GridError, match="x.tif: its pixels are .* wide and .* high"):
        grid.check_square("x.tif")


def test_crs_missing_or_different(folder):
    numbers = to_int16(COARSE.values)
    save(folder / "sentinel2_20m.tif", numbers, descriptions=BANDS_20M, crs="EPSG:32632", transform=COARSE.rio.transform())
    refused(folder, GridError, "EPSG:32632.*EPSG:32633")
    save(folder / "sentinel2_20m.tif", numbers, descriptions=BANDS_20M, crs=None, transform=COARSE.rio.transform())
    refused(folder, GridError, "sentinel2_20m.tif: has no coordinate reference system")


def test_extents_differ(folder):
    save(folder / "sentinel2_20m.tif", to_int16(COARSE.values)[:, :30], descriptions=BANDS_20M, transform=COARSE.rio.transform())
    refused(folder, GridError, "one extent")


def test_single_files_on_other_grids(tmp_path):
    singles(tmp_path)
    singles(tmp_path, bands=["B08"], cube=FINE[:, :-1].rio.write_transform(FINE.rio.transform()))
    refused(tmp_path, GridError, "B08.tif: has another grid")


def test_damaged_file(folder):
    path = folder / "sentinel2_10m.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    refused(folder, ProductError, "sentinel2_10m.tif")
    path.write_bytes(b"<html>please log in</html>")
    refused(folder, ProductError, "sentinel2_10m.tif: cannot be read")


def test_unsafe_metadata(tmp_path):
    singles(tmp_path)
    (tmp_path / "MTD_MSIL2A.xml").write_text('<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><a>&x;</a>')
    refused(tmp_path, ProductError, "MTD_MSIL2A.xml: refused")


@pytest.mark.parametrize("band", ["abc", "", "13", "-1", "9" * 400, "1.0", "٣"])
def test_offset_of_a_band_that_is_none(tmp_path, band):
    singles(tmp_path)
    (tmp_path / "MTD_MSIL2A.xml").write_text(MTD.format(baseline="05.09", offsets=f'<BOA_ADD_OFFSET band_id="{band}">-1000</BOA_ADD_OFFSET>'))
    refused(tmp_path, MetadataError, "BOA_ADD_OFFSET")


@pytest.mark.parametrize("number", ["abc", "", "nan", "inf", "1e999"])
def test_numbers_that_are_none(tmp_path, number):
    singles(tmp_path)
    (tmp_path / "MTD_MSIL2A.xml").write_text(MTD.format(baseline=number, offsets=""))
    refused(tmp_path, MetadataError, "PROCESSING_BASELINE are no numbers")
    (tmp_path / "MTD_MSIL2A.xml").write_text(MTD.format(baseline="05.09", offsets=f'<BOA_ADD_OFFSET band_id="1">{number}</BOA_ADD_OFFSET>'))
    refused(tmp_path, MetadataError, "BOA_ADD_OFFSET")


@pytest.mark.parametrize("divisor", ["abc", "0", "-1", "nan"])
def test_divisor_that_is_none(tmp_path, divisor):
    singles(tmp_path)
    (tmp_path / "MTD_MSIL2A.xml").write_text(MTD.format(baseline="05.09", offsets="").replace(">10000<", f">{divisor}<"))
    refused(tmp_path, MetadataError, "BOA_QUANTIFICATION_VALUE")


def test_zeros_beside_a_declared_nodata_are_measurements(folder):
    "Dark water, which is 0 in all bands of real guides."
    numbers = to_int16(FINE.values)
    numbers[:, 20:40, 20:40] = 0
    save(folder / "sentinel2_10m.tif", numbers, descriptions=BANDS_10M, nodata=-32768)
    assert (read_sentinel2(folder).bands10[:, 20:40, 20:40] == 0).all()


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
def test_an_offset_that_is_given_holds_for_floats_too(tmp_path, scale):
    numbers = np.where(np.isnan(FINE.values), np.nan, to_int16(FINE.values) + 1000.0) * scale
    save(tmp_path / "sentinel2_10m.tif", numbers, "float32", BANDS_10M)
    assert not same_level(read_sentinel2(tmp_path)) and same_level(guide := read_sentinel2(tmp_path, offset=-1000))
    assert "-1000 is added to its numbers, as asked for" in guide.found[-1]


def same_level(guide):
    return np.nanmax(np.abs(guide.bands10.values - FINE.values)) < 1e-3


def test_a_folder_with_the_archive_as_it_came(tmp_path):
    singles(tmp_path / "S2A_MSIL2A_20230601T101611_N0209_R065_T33UUU_20230601T161611.SAFE")
    place = tmp_path / "sentinel2"
    place.mkdir()
    shutil.make_archive(str(place / "S2A_MSIL2A_20230601T101611_N0209_R065_T33UUU_20230601T161611.SAFE"), "zip", tmp_path, "S2A_MSIL2A_20230601T101611_N0209_R065_T33UUU_20230601T161611.SAFE")
    assert same(read_sentinel2(place), coarse=False)


@pytest.mark.parametrize("offset", ["-1000", float("nan"), -0.1, True, [0]])
def test_what_is_no_offset_is_refused(tmp_path, offset):
    "-0.1, which is reflectance, was added to digital numbers, and so was nan."
    with pytest.raises(RequestError, match="wanted what is added to the digital numbers: -1000, or 0"):
        read_sentinel2(tmp_path, offset)
