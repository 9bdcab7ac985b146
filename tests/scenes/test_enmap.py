"EnMAP products in every form they come in, and what is written."
import re
import shutil
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from products import METADATA, SCENE_ID, cube, product, table
from products import read_and_check as read_enmap
from rasterio.transform import from_origin
from rasterio.windows import Window

from enmap_sharpener.core import raster
from enmap_sharpener.core.errors import BandError, OutputError, ProductError
from enmap_sharpener.core.grid import windows
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.scenes import enmap
from enmap_sharpener.scenes.enmap import QUALITY_LAYERS, check_enmap, write_enmap
from enmap_sharpener.scenes.metadata import BandTable, band_table


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return product(tmp_path_factory.mktemp("original"))


@pytest.fixture
def folder(original, tmp_path):
    "A fresh copy of a product that a test may spoil."
    return Path(shutil.copytree(original, tmp_path / SCENE_ID))


def same(scene, expected=None):
    "Whether a scene holds the cube and the metadata that were written."
    np.testing.assert_allclose(scene.cube.values, (cube() if expected is None else expected).values, atol=1e-6)
    assert scene.metadata.id == SCENE_ID
    return True


# ---- what is written is read

def test_round_trip(original):
    scene = read_enmap(original)
    assert same(scene)
    bands = table()
    for f in fields(BandTable):
        if f.name != "good":
            np.testing.assert_array_equal(getattr(scene.bands, f.name), getattr(bands, f.name))
    np.testing.assert_array_equal(scene.bands.number[~scene.bands.good], [7])
    for name in "start", "sun_elevation", "sun_azimuth", "off_nadir_across", "off_nadir_along", "scene_azimuth", "quality", \
            "citation", "version", "correction", "level":
        assert getattr(scene.metadata, name) == getattr(METADATA, name), name


def test_coordinates_are_pixel_centres(original):
    scene = read_enmap(original).cube
    assert (scene.x[0], scene.y[0], scene.x[1] - scene.x[0], scene.y[1] - scene.y[0]) == (366030, 5806110, 30, -30)
    assert scene.rio.crs.to_epsg() == 32633
    assert scene.rio.transform().to_gdal() == (366015, 30, 0, 5806125, 0, -30)
    assert (scene.dims, scene.dtype, scene.wavelength[0], scene.detector[0]) == (("band", "y", "x"), "float32", 420, "VNIR")


def test_footprint_is_that_of_the_grid(original):
    lon, lat = np.array(read_enmap(original).metadata.footprint).T
    assert np.all(np.abs(lon - 13.03) < 0.03) and np.all(np.abs(lat - 52.38) < 0.03)
    assert lon[1] > lon[0] and lat[3] < lat[0]


def test_quality_layers_by_name(tmp_path):
    layers = {"cloud": np.eye(24, 36), "cirrus": np.full((24, 36), 2), "haze": np.ones((24, 36)), "testflags": np.full((24, 36), 255)}
    scene = read_enmap(product(tmp_path, quality=layers))
    assert set(scene.quality) == set(QUALITY_LAYERS)
    for name, layer in layers.items():
        assert scene.quality[name].dtype == "uint8"
        np.testing.assert_array_equal(scene.quality[name], layer)
    assert scene.quality["pixelmask"].shape == (12, 24, 36)
    assert set(np.unique(scene.quality["classes"])) == {1, 3}
    np.testing.assert_array_equal(scene.cloud_mask(), np.eye(24, 36) > 0)
    assert scene.cloud_mask(haze=True).values.all() and scene.cloud_mask(cirrus=True).values.all()


def test_hypercoast_opens_what_is_written(original):
    hypercoast = pytest.importorskip("hypercoast")
    data = hypercoast.read_enmap(str(original / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"))
    np.testing.assert_allclose(data.wavelength, table().wavelength, atol=0.005)
    np.testing.assert_allclose(data.reflectance.values.transpose(2, 0, 1), cube().values, atol=1e-6)     # it scales as the file says


def test_written_file_is_what_other_readers_expect(original):
    with rasterio.open(original / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF") as file:
        assert (file.dtypes[0], file.nodata, file.count) == ("int16", NODATA, 12)
        assert (file.bounds.left % 30, file.bounds.top % 30) == (15, 15)
    xml = (original / f"{SCENE_ID}-METADATA.XML").read_text()
    assert xml.count("<waveLength>") == xml.count("<wavelengthCenterOfBand>") == 12
    assert re.search(r"<mean>-1000000</mean>\s*<stdDeviation>0</stdDeviation>", xml)
    assert "UTM_Zone33_North" in xml


def test_statistics_are_those_of_the_data(original):
    xml = (original / f"{SCENE_ID}-METADATA.XML").read_text()
    means, stds = (np.array(re.findall(rf"<{tag}>([^<]+)<", xml), float) for tag in ("mean", "stdDeviation"))
    good = np.arange(12) != 6
    np.testing.assert_allclose(means[good], np.nanmean(cube().values[good], (1, 2)) * 1e4, rtol=1e-5)
    np.testing.assert_allclose(stds[good], np.nanstd(cube().values[good], (1, 2)) * 1e4, rtol=1e-4)


def test_windows_are_written_as_they_come(tmp_path, original):
    data = cube()
    blocks = ((r, c, data[:, r, c].values) for r, c in windows((24, 36), 10))
    grid = type("Grid", (), dict(crs=data.rio.crs, transform=data.rio.transform(), ny=24, nx=36))
    assert same(read_enmap(write_enmap(tmp_path, blocks, table(), scene_id=SCENE_ID, grid=grid)))


def test_digital_numbers_pass(tmp_path):
    numbers = raster.to_int16(cube().values)
    assert same(read_enmap(write_enmap(tmp_path, cube().copy(data=numbers), table(), scene_id=SCENE_ID)))


def test_gain_and_offset_of_a_band_are_used(tmp_path):
    bands = band_table(table().wavelength, 8.0, gain=np.linspace(1e-4, 2e-4, 12), offset=0.05)
    scene = read_enmap(write_enmap(tmp_path, cube(), bands, scene_id=SCENE_ID))
    np.testing.assert_allclose(scene.cube.values, cube().values, atol=1.01e-4)
    np.testing.assert_allclose(scene.bands.gain, bands.gain)


def test_values_beyond_int16_are_clipped_and_negative_ones_kept():
    np.testing.assert_array_equal(raster.to_int16(np.array([[[-0.0005, 9.0, -9.0, np.nan]]])), [[[-5, 32767, -32767, NODATA]]])


def test_existing_product_needs_overwrite(tmp_path):
    product(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        product(tmp_path)
    assert same(read_enmap(product(tmp_path, overwrite=True)))


@pytest.mark.parametrize("fault", [KeyboardInterrupt, MemoryError, OSError("No space left on device")])
def test_interrupted_writing_leaves_nothing(tmp_path, fault):
    def blocks():
        yield slice(0, 12), slice(0, 36), cube().values[:, :12]
        raise fault
    grid = type("Grid", (), dict(crs="EPSG:32633", transform=cube().rio.transform(), ny=24, nx=36))
    with pytest.raises((type(fault) if isinstance(fault, Exception) else fault, OutputError)):
        write_enmap(tmp_path, blocks(), table(), scene_id=SCENE_ID, grid=grid)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made a folder"):
        product(tmp_path / "file")


# ---- forms of a product

def test_folder_xml_cube_parent_and_zip(folder, tmp_path):
    xml, image = folder / f"{SCENE_ID}-METADATA.XML", folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"
    packed = shutil.make_archive(str(tmp_path / "nested"), "zip", folder.parent, folder.name)
    flat = shutil.make_archive(str(tmp_path / "flat one (1)"), "zip", folder)
    for path in folder, str(folder), xml, image, folder.parent, packed, flat:
        scene = read_enmap(path)
        assert same(scene) and len(scene.quality) == 8, path


def test_other_files_beside_are_ignored(folder):
    for name in "._ENMAP-METADATA.XML", f"{SCENE_ID}-QL_VNIR_COG_thumbnail.png", f"{SCENE_ID}-SPECTRAL_IMAGE.TIF.aux.xml", \
            f"{SCENE_ID}-QL_VNIR.TIF", "readme.txt":
        (folder / name).write_text("")
    assert same(read_enmap(folder))


def test_two_products_in_one_folder_are_told_by_the_xml(folder):
    for file in list(folder.iterdir()):
        shutil.copy(file, folder / file.name.replace("DT0000000001", "DT0000000002"))
    assert same(read_enmap(folder / f"{SCENE_ID}-METADATA.XML"))


@pytest.mark.parametrize("rename", [
    lambda name: name.lower(), lambda name: name.replace(".TIF", "_COG.TIF"), lambda name: name.replace(".TIF", "_COG.tiff"),
    lambda name: name.removeprefix(f"{SCENE_ID}-"), lambda name: name.replace(".XML", ".XML.XML"),
    lambda name: name.removeprefix(f"{SCENE_ID}-") if "METADATA" in name else name], ids=[
        "lower", "COG", "tiff", "no prefix", "XML.XML", "plain XML"])
def test_spellings(folder, rename):
    for file in list(folder.iterdir()):
        file.rename(folder / "x").rename(folder / rename(file.name))
    scene = read_enmap(folder)
    assert same(scene) and len(scene.quality) == 8


def test_writer_spells_both_ways(tmp_path):
    written = product(tmp_path, cog_names=True)
    assert len(list(written.glob("*_COG.TIF"))) == 9 and same(read_enmap(written))


@pytest.mark.parametrize("interleave", ["BSQ", "BIL", "BIP"])
def test_envi(folder, interleave):
    image = folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"
    with rasterio.open(image) as file:
        profile = dict(driver="ENVI", interleave=interleave.lower(), count=12, height=24, width=36, dtype="int16", crs=file.crs,
                       transform=file.transform)
        with rasterio.open(image.with_suffix(f".{interleave}"), "w", **profile) as envi:
            envi.write(file.read())
    image.unlink()
    assert same(read_enmap(folder))


def test_jpeg2000(folder):
    image = folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"
    with rasterio.open(image) as file:
        profile = dict(driver="JP2OpenJPEG", count=12, height=24, width=36, dtype="int16", crs=file.crs, transform=file.transform)
        with rasterio.open(image.with_suffix(".JP2"), "w", QUALITY=100, REVERSIBLE="YES", YCBCR420="NO", **profile) as jp2:
            jp2.write(file.read())
    image.unlink()
    assert same(read_enmap(folder))


def test_empty_bands_are_found_in_the_data_where_there_are_no_statistics(folder):
    xml = folder / f"{SCENE_ID}-METADATA.XML"
    xml.write_text(re.sub(r"<bandStatistics>.*</bandStatistics>", "", xml.read_text(), flags=re.DOTALL))
    scene = read_enmap(folder)
    np.testing.assert_array_equal(scene.bands.number[~scene.bands.good], [7])
    np.testing.assert_array_equal(scene.cube.good, scene.bands.good)


def test_detectors_without_lists_are_told_by_wavelength(folder):
    xml = folder / f"{SCENE_ID}-METADATA.XML"
    xml.write_text(re.sub(r"<expectedChannelsList>[^<]*<", "<expectedChannelsList><", xml.read_text()))
    scene = read_enmap(folder)
    np.testing.assert_array_equal(scene.bands.detector, table().detector)
    assert "does not list the detector of every band" in scene.assumptions[0]


def test_lists_of_another_band_table_are_not_believed(folder):
    "Bands were dropped and renumbered, the lists stayed: SWIR bands would be VNIR."
    xml = folder / f"{SCENE_ID}-METADATA.XML"
    first, second = re.findall(r"<expectedChannelsList>([^<]*)<", xml.read_text())
    xml.write_text(xml.read_text().replace(f"List>{first}<", f"List>{first},5,6<").replace(f"List>{second}<", "List>4,7,8,9,10,11,12<"))
    scene = read_enmap(folder)
    np.testing.assert_array_equal(scene.bands.detector, table().detector)
    assert "for a detector that cannot have measured them" in scene.assumptions[0]


# ---- laziness, windows, threads

@pytest.mark.parametrize("look", [enmap.read_enmap, check_enmap])
def test_opening_reads_a_few_small_windows(tmp_path, monkeypatch, look):
    product(tmp_path, shape=(300, 280))
    sizes = []

    class Watched:
        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def read(self, bands, window):
            sizes.append((len(bands), window.height, window.width))
            return self.file.read(bands, window=window)

    @contextmanager
    def opened(path):
        with raster.opened(path) as file:
            yield Watched(file)

    monkeypatch.setattr(enmap, "opened", opened)
    monkeypatch.setattr(raster._LazyRaster, "__getitem__", None)
    look(tmp_path)
    assert len(sizes) <= 36 and {n for n, *_ in sizes} == {4} and max(r * c for _, r, c in sizes) <= 32 * 32


def test_only_the_window_is_read(tmp_path, monkeypatch):
    scene = read_enmap(product(tmp_path, shape=(300, 280)))
    shapes = []
    monkeypatch.setattr(raster, "_plain", lambda index, plain=raster._plain: (shapes.append(index.size), plain(index))[1])
    values = scene.cube[:, 100:110, 200:220].values
    assert shapes == [10, 20] and values.shape == (12, 10, 20)
    np.testing.assert_allclose(values, cube(shape=(300, 280)).values[:, 100:110, 200:220], atol=1e-6)


@pytest.mark.parametrize("index", [
    np.s_[3], np.s_[:, 5], np.s_[:, :, 7], np.s_[2:9:3, 20:2:-3, ::5], np.s_[[1, 5, 6]], np.s_[:, 4:4], np.s_[-1, -3:, -2:],
    np.s_[..., 3:9]])
def test_any_index(original, index):
    np.testing.assert_allclose(read_enmap(original).cube[index].values, cube()[index].values, atol=1e-6)


def test_threads_share_nothing(tmp_path):
    scene, expected, wrong = read_enmap(product(tmp_path, shape=(150, 140))), cube(shape=(150, 140)).values, []

    def work(seed):
        for rows, cols in np.random.default_rng(seed).permutation(list(windows((150, 140), 40))):
            if not np.allclose(scene.cube[:, rows, cols].values, expected[:, rows, cols], atol=1e-6, equal_nan=True):
                wrong.append((rows, cols))
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_chunks_follow_blocks():
    assert raster._blocks_of((128, 128), (1000, 1100), 256) == (256, 256)
    assert raster._blocks_of((3, 1200), (1200, 1200), 256) == (54, 1200)
    assert raster._blocks_of((512, 512), (1200, 1200), 256) == (512, 512)
    assert raster._blocks_of((20, 32), (20, 32), 256) == (20, 32)


# ---- band selections

@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4))
def test_number_ranges_select_their_bands(ranges):
    spec = ",".join(f"{min(r)}-{max(r)}" for r in ranges)
    wanted = sorted({n for r in ranges for n in range(min(r), max(r) + 1)})
    np.testing.assert_array_equal(table().number[table().select(spec)], wanted)


@given(st.text(max_size=12))
def test_any_text_is_a_selection_or_a_band_error(text):
    try:
        assert len(table().select(text)) > 0
    except BandError as error:
        assert "\n" not in str(error)


def test_selection_keeps_product_numbers():
    some = table().take([3, 7, 8])
    np.testing.assert_array_equal(some.number, [4, 8, 9])
    np.testing.assert_array_equal(some.select("8-12"), [1, 2])
    for spec in "8-300", "1-225":
        with pytest.raises(BandError, match="reaches beyond the bands; the scene has numbers 4-9"):
            some.select(spec)


# ---- real data

def test_cases_open(case):
    scene = read_enmap(case)
    values = scene.cube.values
    np.testing.assert_array_equal(scene.bands.good, np.isfinite(values).any((1, 2)))
    assert len(scene.bands) in (47, 224) and -0.1 < np.nanmin(values) < np.nanmax(values) < 1.5
    assert scene.metadata.start.year in (2002, 2022)


def test_real_metadata_of_218_bands(shared, tmp_path):
    [xml] = (shared / "data/enmap_product").glob("*METADATA.XML")
    shutil.copy(xml, tmp_path)
    image = tmp_path / xml.name.replace("METADATA.XML", "SPECTRAL_IMAGE.TIF")
    with raster.create_raster(image, count=218, shape=(8, 9), dtype="int16", crs="EPSG:32632", nodata=NODATA,
                              transform=from_origin(628785, 5294265, 4500, 4500)) as file:
        numbers = np.full((218, 8, 9), 1234, "int16")
        numbers[100] = NODATA
        file.write(numbers)
    scene = read_enmap(tmp_path)
    assert (len(scene.bands), scene.bands.vnir.sum(), (~scene.bands.vnir).sum()) == (218, 88, 130)
    np.testing.assert_array_equal(scene.bands.number[scene.bands.vnir][-3:], [93, 95, 96])
    assert scene.bands.wavelength[0] == 423.03 and scene.metadata.quality["sceneAOT"] == 190
    assert "sensorLogVNIR" not in scene.metadata.quality
    assert scene.metadata.footprint[0] == (10.796023441, 47.787525214) and scene.metadata.id.endswith("20200406T201930Z")
    assert scene.metadata.sun_elevation == 63.038384 and scene.metadata.start.microsecond == 999936
    assert scene.cube[0, 0, 0] == pytest.approx(0.1234)


def test_real_water_scene_with_every_quality_layer(water):
    source = water(0)
    scene = read_enmap(source)
    assert set(scene.quality) == set(QUALITY_LAYERS) and scene.quality["pixelmask"].shape == (224, 128, 128)
    with rasterio.open(next(source.glob("*SPECTRAL_IMAGE.TIF"))) as file:
        numbers = file.read(window=Window(10, 20, 30, 40))
    np.testing.assert_allclose(scene.cube[:, 20:60, 10:40].values, np.where(numbers == NODATA, np.nan, numbers / 1e4), atol=1e-6)


def test_zip_reads_windows(folder, tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, f"a folder/{folder.name}/{file.name}")
    np.testing.assert_allclose(read_enmap(tmp_path / "p.zip").cube[3, 10:12, 5:9].values, cube().values[3, 10:12, 5:9], atol=1e-6)


# ---- cubes as other programs save them

def rewritten(folder, change, name=None, **profile):
    "The product's cube, changed by a function of its numbers; METADATA.XML stays."
    image = folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"
    with rasterio.open(image) as file:
        numbers, old = change(file.read()), file.profile
    image.unlink()
    target = folder / name if name else image
    with rasterio.open(target, "w", **{**old, "dtype": numbers.dtype, "predictor": 1, "nodata": None} | profile) as file:
        file.write(numbers)
    return folder


@pytest.mark.parametrize("factor,dtype,told", [(1e-4, "float32", "reflectance from 0 to 1"), (1e-4, "float64", "reflectance from 0 to 1"),
                                               (1e-2, "float32", "percent"), (1, "float32", None), (1, "int16", None), (1, "int32", None)])
def test_the_scale_of_a_cube_is_told_from_its_values(folder, factor, dtype, told):
    def change(numbers):
        return np.where(numbers == NODATA, NODATA if dtype[0] == "i" else np.nan, numbers * factor).astype(dtype)
    scene = read_enmap(rewritten(folder, change, nodata=NODATA if dtype[0] == "i" else None))
    np.testing.assert_allclose(scene.cube.values, cube().values, atol=6e-5)
    assert [told in line for line in scene.assumptions] == ([True] if told else [])


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_untagged_zeros_are_nodata(folder, dtype):
    scene = read_enmap(rewritten(folder, lambda numbers: np.where((numbers == NODATA).all(0), 0, numbers).astype(dtype)))
    np.testing.assert_allclose(scene.cube.values, cube().values, atol=6e-5)
    np.testing.assert_allclose(scene.cube[7].values, cube()[7].values, atol=6e-5)      # one band alone, too
    assert [line for line in scene.assumptions if "0 in all bands are taken as nodata" in line]


@pytest.mark.parametrize("value, factor, dtype", [(-9999, 1, "int16"), (-32767, 1, "int16"), (-9999, 1, "float32"), (-9999, 1e-4, "float32"), (-0.9999, 1e-4, "float32"), (-0.9999, 1e-4, "float64"), (-3.4e38, 1e-4, "float32"),
                                                  (-3.2768, 1e-4, "float32"), (-3.2768, 1e-4, "float64"), (-327.68, 1e-2, "float32")])
def test_numbers_that_are_no_reflectance_are_nodata_and_said_once(folder, value, factor, dtype):
    scene = read_enmap(rewritten(folder, lambda numbers: np.where(numbers == NODATA, value, numbers * factor).astype(dtype)))
    np.testing.assert_allclose(scene.cube.values, cube().values, atol=6e-5)
    assert [line for line in scene.assumptions if "nodata" in line] == [f"{SCENE_ID}-SPECTRAL_IMAGE.TIF: {value:g} is taken as nodata, which it does not declare"]


def test_nodata_that_is_declared_is_not_said(folder):
    scene = read_enmap(rewritten(folder, lambda numbers: np.where(numbers == NODATA, -9999, numbers).astype("int16"), nodata=-9999))
    np.testing.assert_allclose(scene.cube.values, cube().values, atol=6e-5)
    assert not scene.assumptions


def test_a_zero_in_one_band_is_a_measurement(folder):
    def change(numbers):
        numbers[3, 10:14, 10:14] = 0
        return numbers
    scene = read_enmap(rewritten(folder, change, nodata=NODATA))
    assert (scene.cube[3, 10:14, 10:14] == 0).all() and np.isfinite(scene.cube[3:5, 10:14, 10:14].values).all()


@pytest.mark.parametrize("name,driver", [("-SPECTRAL_IMAGE (1).TIF", "GTiff"), ("-SPECTRAL_IMAGE(2).tiff", "GTiff"), ("-SPECTRAL_IMAGE.dat", "ENVI"), ("-SPECTRAL_IMAGE.img", "ENVI")])
def test_other_names_of_the_cube(folder, name, driver):
    options = dict(driver=driver) | ({} if driver == "GTiff" else dict(interleave="bsq", tiled=False, compress=None))
    with rasterio.open(folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF") as file:
        numbers, place = file.read(), dict(crs=file.crs, transform=file.transform, nodata=NODATA, count=file.count, height=file.height, width=file.width, dtype="int16")
    (folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF").unlink()
    with rasterio.open(folder / f"{SCENE_ID}{name}", "w", driver=options["driver"], **place) as file:
        file.write(numbers)
    np.testing.assert_allclose(read_enmap(folder).cube.values, cube().values, atol=6e-5)


def test_a_clipped_cube_takes_its_part_of_the_layers(tmp_path):
    folder = product(tmp_path, quality={"cloud": np.arange(24 * 36).reshape(24, 36) % 2})
    image = folder / f"{SCENE_ID}-SPECTRAL_IMAGE.TIF"
    with rasterio.open(image) as file:
        window = rasterio.windows.Window(7, 5, 20, 11)
        numbers, profile = file.read(window=window), {**file.profile, "width": 20, "height": 11, "transform": file.window_transform(window)}
    with rasterio.open(image, "w", **profile) as file:
        file.write(numbers)
    scene = read_enmap(folder)
    np.testing.assert_array_equal(scene.quality["cloud"], (np.arange(24 * 36).reshape(24, 36) % 2)[5:16, 7:27])
    assert scene.quality["cloud"].rio.transform() == scene.cube.rio.transform() and scene.cloud_mask().any()
    assert scene.metadata.footprint == () and "the corners are the cube's own" in scene.assumptions[0]
    with rasterio.open(image, "r+") as file:
        file.transform = file.transform.translation(5, 0) * file.transform
    with pytest.raises(ProductError, match="QL_.*does not cover the cube, pixel by pixel"):
        read_enmap(folder)
