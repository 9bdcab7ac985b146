"Rasters that came from others: opened by the driver of their ending, and by no other; what leads elsewhere or claims too much is refused."
import socket
import zipfile

import numpy as np
import pytest
import rasterio
import xarray as xr
from rasterio.transform import from_origin

from enmap_sharpener.core.errors import ProductError
from enmap_sharpener.core.raster import LARGEST, NODATA, create_raster, open_raster, opened, to_int16
from enmap_sharpener.fusion import pair

PLACE = dict(crs="EPSG:32633", transform=from_origin(366015, 5806125, 30, 30))
VALUES = np.arange(48, dtype="int16").reshape(1, 6, 8)


def write(path, values=VALUES, driver="GTiff", **options):
    with rasterio.open(path, "w", driver=driver, count=len(values), height=values.shape[1], width=values.shape[2], dtype=values.dtype, **PLACE, **options) as file:
        file.write(values)
    return path


def vrt(source, relative=1, band="", kind="SimpleSource"):
    return (f'<VRTDataset rasterXSize="8" rasterYSize="6"><SRS>EPSG:32633</SRS><GeoTransform>366015, 30, 0, 5806125, 0, -30</GeoTransform>'
            f'<VRTRasterBand dataType="Int16" band="1"{band}><{kind}><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
            f'<SourceBand>1</SourceBand></{kind}></VRTRasterBand></VRTDataset>')


def raw(path):
    "A VRT that reads any file's bytes as pixels."
    return (f'<VRTDataset rasterXSize="8" rasterYSize="6"><SRS>EPSG:32633</SRS><GeoTransform>366015, 30, 0, 5806125, 0, -30</GeoTransform>'
            f'<VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{path}</SourceFilename>'
            '<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>8</LineOffset></VRTRasterBand></VRTDataset>')


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/passwd").write_bytes(b"root:x:0:0:" * 40)
    return write(tmp_path / "elsewhere/secret.tif").parent / "passwd"


@pytest.mark.parametrize("ending", ["TIF", "tif", "jp2", "bsq", "tiff"])
def test_a_vrt_under_another_ending_reads_nothing(tmp_path, secret, ending):
    path = tmp_path / f"X-SPECTRAL_IMAGE.{ending}"
    for text in (raw(secret), vrt(secret.parent / "secret.tif", 0), vrt("http://127.0.0.1:9/x.tif", 0), vrt("/vsicurl/http://127.0.0.1:9/x.tif", 0)):
        path.write_text(text)
        with pytest.raises(ProductError, match=f"X-SPECTRAL_IMAGE.{ending}: cannot be read"):
            open_raster(path)


def test_nor_from_a_zip(tmp_path, secret):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.TIF", raw(secret))
        file.writestr("b.dat", raw(secret))
    for name in ("a.TIF", "b.dat"):
        with pytest.raises(ProductError, match=f"{name}: cannot be read"):
            open_raster(f"/vsizip/{{{tmp_path / 'a.zip'}}}/{name}")


@pytest.mark.parametrize("text", [
    "<VRTDataset", "", "\0", raw("{secret}"), vrt("{folder}/secret.tif", 0), vrt("../elsewhere/secret.tif"), vrt("{folder}/secret.tif"),
    vrt("/vsicurl/http://127.0.0.1:9/x.tif", 0), vrt("http://127.0.0.1:9/x.tif"), vrt("b.vrt"), vrt("b.bsq"), vrt("passwd.tif"),
    vrt("a.tif", band=' subClass="VRTDerivedRasterBand"'), vrt("a.tif", kind="KernelFilteredSource"),
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + vrt("&e;"),
    vrt("a.tif").replace("<SRS>", "<OverviewList>2</OverviewList><GDALWarpOptions><SourceDataset>x</SourceDataset></GDALWarpOptions><SRS>"),
], ids=range(16))
def test_a_vrt_may_only_arrange_what_lies_beside_it(tmp_path, secret, text):
    write(tmp_path / "a.tif")
    (tmp_path / "b.vrt").write_text(raw(secret))
    (tmp_path / "b.bsq").write_text(raw(secret))
    (tmp_path / "passwd.tif").write_text(raw(secret))
    (tmp_path / "x.vrt").write_text(text.replace("{secret}", str(secret)).replace("{folder}", str(secret.parent)))
    with pytest.raises(ProductError, match="x.vrt|passwd.tif"):
        open_raster(tmp_path / "x.vrt")


def test_a_vrt_of_neighbours_is_read(tmp_path):
    write(tmp_path / "a.tif")
    (tmp_path / "x.vrt").write_text(vrt("a.tif"))
    np.testing.assert_array_equal(open_raster(tmp_path / "x.vrt").values, VALUES)


def test_files_beside_a_geotiff_do_not_count(tmp_path, secret):
    write(tmp_path / "a.tif")
    for name in ("a.tif.ovr", "a.tif.msk", "a.ovr"):
        (tmp_path / name).write_text(raw(secret))
    (tmp_path / "a.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{secret.parent}/secret.tif</MDI></Metadata>'
                                            '<PAMRasterBand band="1"><Description>B99</Description></PAMRasterBand></PAMDataset>')
    with opened(tmp_path / "a.tif") as file:
        assert file.descriptions == (None,) and file.overviews(1) == [] and file.files == [str(tmp_path / "a.tif")]
        assert (file.dataset_mask() == 255).all()


@pytest.mark.parametrize("name", ["a.bsq", "a.dat", "a", "a.img"])
def test_envi_is_known_by_its_header(tmp_path, name):
    write(tmp_path / name, driver="ENVI")
    np.testing.assert_array_equal(open_raster(tmp_path / name).values, VALUES)
    (tmp_path / f"{name.partition('.')[0]}.hdr").unlink()
    with pytest.raises(ProductError, match=name):
        open_raster(tmp_path / name)


@pytest.mark.parametrize("driver,name", [("HFA", "a.img"), ("PNG", "a.png"), ("GTiff", "a.png"), ("GTiff", "a.nc")])
def test_other_formats_are_named(tmp_path, driver, name):
    write(tmp_path / name, VALUES.astype("uint8"), driver)
    with pytest.raises(ProductError, match=f"{name}: is no raster of a kind that is read; wanted GeoTIFF"):
        open_raster(tmp_path / name)


@pytest.mark.parametrize("form", ["/vsicurl/{url}", "{url}", "/vsicurl?url={url}", "/vsizip/{{/vsicurl/{url}}}/a.tif", "zip+{url}!a.tif", "/vsisubfile/0_9,/vsicurl/{url}"])
def test_addresses_are_no_rasters(form):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        with pytest.raises(ProductError, match="is an address; fetch the file"):
            open_raster(form.format(url=f"http://127.0.0.1:{server.getsockname()[1]}/a.tif"))
        with pytest.raises(BlockingIOError):     # nobody has knocked
            server.accept()


@pytest.mark.parametrize("size,count,options", [(60_000, 224, dict(tiled=True)), (30_000, 3, dict(tiled=True)), (40_000, 1, dict(blockysize=40_000))])
def test_a_few_bytes_that_claim_a_continent(tmp_path, size, count, options):
    with rasterio.open(tmp_path / "huge.tif", "w", driver="GTiff", width=size, height=size, count=count, dtype="int16", **PLACE, sparse_ok=True, bigtiff="yes", **options):
        pass
    with pytest.raises(ProductError, match=f"is refused, it claims {count} bands of {size} x {size} pixels"):
        open_raster(tmp_path / "huge.tif")


def test_a_large_scene_with_much_nodata_is_none_of_them(tmp_path):
    with create_raster(tmp_path / "a.tif", count=10, shape=(4000, 4000), dtype="int16", nodata=-32768, **PLACE) as file:
        file.write(np.full((10, 500, 4000), -32768, "int16"), window=rasterio.windows.Window(0, 0, 4000, 500))
    assert open_raster(tmp_path / "a.tif").shape == (10, 4000, 4000)


# ---- opened lazily

def test_one_file_with_two_kinds_of_nodata(tmp_path):
    path = write(tmp_path / "a.tif")
    one, two = (open_raster(path, gain=[1.0], offset=[0.0], nodata=nodata) for nodata in (3, 5))
    both = xr.concat([one, two], "time").values
    np.testing.assert_array_equal(np.isnan(both), [VALUES == 3, VALUES == 5])


def test_a_gain_without_an_offset(tmp_path):
    path = write(tmp_path / "a.tif", np.concatenate([VALUES, VALUES]))
    np.testing.assert_allclose(open_raster(path, gain=[0.5, 2.0]).values, np.concatenate([0.5 * VALUES, 2 * VALUES]))
    np.testing.assert_allclose(open_raster(path, gain=0.5, offset=[1, 2]).values, np.concatenate([0.5 * VALUES + 1, 0.5 * VALUES + 2]))


# ---- digital numbers

@pytest.mark.parametrize("kind", ["int8", "uint8", "uint16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_do_not_wrap(kind):
    given = [v for v in (0, 1, 255, 32767, 32768, 40000, 2**31 - 1, -1, NODATA, NODATA - 1) if np.iinfo(kind).min <= v <= np.iinfo(kind).max]
    numbers = to_int16(np.array(given, kind).reshape(1, 1, -1))
    assert numbers.dtype == np.int16 and numbers.ravel().tolist() == [v if v == NODATA else min(max(v, NODATA + 1), LARGEST) for v in given]


def test_numbers_of_the_kind_that_is_written_pass():
    assert to_int16(VALUES) is VALUES


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_is_not_finite_is_nodata(kind):
    given = np.array([0.5, np.nan, np.inf, -np.inf, 9, -9, np.finfo(kind).max], kind).reshape(1, 1, -1)
    assert to_int16(given).ravel().tolist() == [5000, NODATA, NODATA, NODATA, LARGEST, NODATA + 1, NODATA]
    np.testing.assert_array_equal(to_int16(given)[0, :, :, None], packed(given))


def packed(values):
    "What fusion makes of reflectance."
    out = np.empty((*values.shape[1:], len(values)), np.int16)
    pair._pack(values, out)
    return out
