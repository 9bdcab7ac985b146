"Bad EnMAP input: the class of the error, and one line that names the file and says what to do."
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import SCENE_ID, product
from products import read_and_check as read_enmap

from enmap_sharpener.core.errors import EnmapError, GridError, MetadataError, ProductError

IMAGE, XML = f"{SCENE_ID}-SPECTRAL_IMAGE.TIF", f"{SCENE_ID}-METADATA.XML"


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return product(tmp_path_factory.mktemp("original"), shape=(140, 150))


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / SCENE_ID))


def refused(path, error, *texts, read=False):
    "Opening (or else reading) raises `error` with one line that has all the texts."
    with pytest.raises(EnmapError) as caught:
        scene = read_enmap(path)
        if read:
            scene.cube.values  # noqa: B018
    message = str(caught.value)
    assert type(caught.value) is error and "\n" not in message and caught.value.__cause__ is None
    for text in texts:
        assert text in message, message


def change(folder, pattern, replacement):
    xml = folder / XML
    xml.write_text(re.sub(pattern, replacement, xml.read_text(), flags=re.DOTALL))


# ---- metadata and cube that contradict each other

def test_bands_in_another_order_than_their_metadata(folder):
    "The SWIR was sharpened as the VNIR, and the guide was blamed."
    with rasterio.open(folder / IMAGE, "r+") as file:
        tags = [file.tags(i) for i in file.indexes]
        assert all("wavelength" in t for t in tags)
        for i, t in enumerate(reversed(tags), 1):
            file.update_tags(i, **t)
    refused(folder, ProductError, IMAGE, "of its", "bands are tagged with other wavelengths than", XML, "Give the two that belong together.")


def test_a_cube_in_another_zone_than_its_footprint(folder):
    "It was said to be cut, and the result lay 400 km aside."
    for path in folder.glob("*.TIF"):
        with rasterio.open(path, "r+") as file:
            file.crs = "EPSG:32631"
    assert "pixels beside the cube, which says that it is in EPSG:32631: is that its zone" in read_enmap(folder).assumptions[0]


# ---- files

def test_missing_folder(tmp_path):
    refused(tmp_path / "nowhere", ProductError, "nowhere: does not exist")


def test_empty_folder(tmp_path):
    refused(tmp_path, ProductError, "holds no METADATA.XML", "give")


def test_no_cube(folder):
    (folder / IMAGE).unlink()
    refused(folder, ProductError, "SPECTRAL_IMAGE", "holds none")


def test_no_metadata(folder):
    (folder / XML).unlink()
    for path in folder, folder / IMAGE:
        refused(path, ProductError, "holds no METADATA.XML")


def test_two_cubes(folder):
    shutil.copy(folder / IMAGE, folder / IMAGE.replace(".TIF", "_COG.TIF"))
    refused(folder, ProductError, "holds 2", IMAGE, "_COG.TIF")
    assert read_enmap(folder / IMAGE)


def test_two_products(folder):
    shutil.copytree(folder, folder.parent / "another")
    refused(folder.parent, ProductError, "holds 2 products")


def test_any_other_file(folder, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("nothing")
    refused(other, ProductError, "notes.txt", "no readable ZIP")


# ---- the cube

@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.97])
def test_truncated_tiff(folder, share):
    whole = (folder / IMAGE).read_bytes()
    (folder / IMAGE).write_bytes(whole[:int(len(whole) * share)])
    refused(folder, ProductError, IMAGE, "truncated", read=True)


def test_login_page_instead_of_a_tiff(folder):
    (folder / IMAGE).write_bytes(b"<!DOCTYPE html><html><body>Please log in</body></html>")
    refused(folder, ProductError, IMAGE, "cannot be read")


def test_corrupt_block_is_found_when_it_is_read(folder):
    with rasterio.open(folder / IMAGE) as file:
        start = int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=4))
    data = bytearray((folder / IMAGE).read_bytes())
    data[start:start + 200] = bytes(200)
    (folder / IMAGE).write_bytes(data)
    refused(folder, ProductError, IMAGE, "corrupt", read=True)
    assert np.isfinite(read_enmap(folder).cube[5, 50:60, 50:60].values).all()


@pytest.mark.parametrize("interleave", ["BSQ", "BIL", "BIP"])
def test_truncated_envi(folder, interleave):
    path = (folder / IMAGE).with_suffix(f".{interleave}")
    with rasterio.open(folder / IMAGE) as file, rasterio.open(
            path, "w", driver="ENVI", interleave=interleave.lower(), count=12, height=140, width=150, dtype="int16", crs=file.crs,
            transform=file.transform) as envi:
        envi.write(file.read())
    (folder / IMAGE).unlink()
    path.write_bytes(path.read_bytes()[:-2000])
    refused(folder, ProductError, path.name, "truncated", read=True)


def test_envi_without_header(folder):
    (folder / IMAGE).rename((folder / IMAGE).with_suffix(".BSQ"))
    (folder / IMAGE).with_suffix(".BSQ").write_bytes(bytes(5000))
    refused(folder, ProductError, "SPECTRAL_IMAGE.BSQ", "cannot be read")


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_truncated_jpeg2000(folder, share):
    path = (folder / IMAGE).with_suffix(".JP2")
    with rasterio.open(folder / IMAGE) as file, rasterio.open(
            path, "w", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", YCBCR420="NO", count=12, height=140, width=150, dtype="int16",
            crs=file.crs, transform=file.transform) as jp2:
        jp2.write(file.read())
    (folder / IMAGE).unlink()
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])
    refused(folder, ProductError, path.name, read=True)


def test_damaged_quality_layer(folder):
    (folder / f"{SCENE_ID}-QL_QUALITY_CLOUD.TIF").write_bytes(b"II*\0")
    refused(folder, ProductError, "QL_QUALITY_CLOUD.TIF")


def test_quality_layer_of_another_size(folder, tmp_path):
    other = product(tmp_path / "small")
    shutil.copy(other / f"{SCENE_ID}-QL_QUALITY_HAZE.TIF", folder)
    refused(folder, ProductError, "QL_QUALITY_HAZE.TIF", "(24, 36)", "(140, 150)")


def test_quality_layer_in_another_coordinate_system(folder):
    with rasterio.open(folder / f"{SCENE_ID}-QL_QUALITY_HAZE.TIF", "r+") as file:
        file.crs = "EPSG:32631"
    refused(folder, ProductError, "QL_QUALITY_HAZE.TIF: is in EPSG:32631, the cube in EPSG:326")


@pytest.mark.parametrize("options, text", [(dict(crs=None), "no coordinate reference system"),
                                           (dict(transform=rasterio.Affine.identity()), "no north-up grid"),
                                           (dict(transform=rasterio.Affine(30, 5, 366015, 5, -30, 5806125)), "no north-up grid"),
                                           (dict(transform=rasterio.Affine(30, 0, 366015, 0, 30, 5806125)), "no north-up grid"),
                                           (dict(transform=rasterio.Affine(30, 0, 366015, 0, -60, 5806125)), "its pixels are 30 wide and 60 high; wanted square ones, warp it to them (gdalwarp -tr 60 60)")])
def test_no_georeference(folder, options, text):
    with rasterio.open(folder / IMAGE) as file:
        profile, data = file.profile | options, file.read()
    (folder / IMAGE).unlink()
    with rasterio.open(folder / IMAGE, "w", **profile) as file:
        file.write(data)
    refused(folder, GridError, IMAGE, text)


# ---- the XML

@pytest.mark.parametrize("pattern, replacement, text", [
    ("</level_X>", "", "not well-formed"), (".*", "", "not well-formed"), ("level_X", "html", "<html>"),
    ("<level>L2A</level>", "<level>L1B</level>", "level L1B, but EnMAP level L2A"),
    ("<bandCharacterisation>.*</bandCharacterisation>", "", "bandCharacterisation"),
    ("<FWHMOfBand>.*?</FWHMOfBand>", "", "FWHM"), ("<wavelengthCenterOfBand>420.0<", "<wavelengthCenterOfBand>x<", "wavelength"),
    ('<bandID number="2">', '<bandID number="1">', "number"), ('<bandID number="2">', "<bandID>", "number")])
def test_metadata(folder, pattern, replacement, text):
    change(folder, pattern, replacement)
    refused(folder, MetadataError, XML, text)


@pytest.mark.parametrize("pattern, replacement, text", [
    *[("<GainOfBand>.*?<", f"<GainOfBand>{gain}<", f"GainOfBand of band 1 is '{gain}', but a positive number") for gain in ("abc", "0", "0.0", "-0.0001", "nan", "inf", "0,0001", "-999")],
    ("<OffsetOfBand>.*?<", "<OffsetOfBand>x<", "OffsetOfBand of band 1 is 'x', but a number"),
    *[("<FWHMOfBand>.*?<", f"<FWHMOfBand>{fwhm}<", f"FWHMOfBand of band 1 is {fwhm}, but a width in nm") for fwhm in ("0", "-7", "0.0065")],
    ("<wavelengthCenterOfBand>420.0<", "<wavelengthCenterOfBand>4200<", "EnMAP's are 400 to 2500 nm; are they in another unit?")])
def test_values_of_bands_that_cannot_be(folder, pattern, replacement, text):
    change(folder, pattern, replacement)
    refused(folder, MetadataError, XML, text)


def test_wavelengths_in_another_unit_or_order(folder):
    of_bands = (folder / XML).read_text()
    found = re.findall("<wavelengthCenterOfBand>(.*?)<", of_bands)
    for given, text in (([str(float(nm) / 1000) for nm in found], "they seem to be in µm, write them in nm"), (found[::-1], "wavelengths rise along a detector")):
        left = iter(given)
        (folder / XML).write_text(re.sub("(<wavelengthCenterOfBand>).*?<", lambda m, left=left: f"{m[1]}{next(left)}<", of_bands))
        refused(folder, MetadataError, XML, text)


@pytest.mark.parametrize("replacement", ["", "<GainOfBand/>"])
def test_a_missing_gain_is_assumed_and_said(folder, replacement):
    change(folder, "<GainOfBand>.*?</GainOfBand>", replacement)
    scene = read_enmap(folder)
    assert (scene.bands.gain == 1e-4).all()
    assert f"{XML}: does not tell the GainOfBand of any of its bands; 0.0001 is taken" in scene.assumptions


def test_number_of_bands(folder):
    change(folder, '<bandID number="12">.*?</bandID>', "")
    refused(folder, ProductError, IMAGE, "12 bands", "lists 11")


LAUGHS = '<!DOCTYPE a [<!ENTITY l0 "ha">' + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10)) + "]><level_X>&l9;</level_X>"


@pytest.mark.parametrize("xml", [LAUGHS, '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><level_X>&x;</level_X>',
                                 '<!DOCTYPE a [<!ENTITY % x SYSTEM "http://localhost/x.dtd"> %x;]><level_X/>'])
def test_entities(folder, xml):
    (folder / XML).write_text(xml)
    refused(folder, MetadataError, XML, "refused", "entities")


def test_html_instead_of_xml(folder):
    (folder / XML).write_bytes(b"<!DOCTYPE html><html><head><meta charset=x></head></html>\xff\xfe\x00")
    refused(folder, MetadataError, XML, "not well-formed")


def test_declared_encoding_that_does_not_exist(folder):
    (folder / XML).write_bytes(b'<?xml version="1.0" encoding="klingon"?><level_X/>')
    refused(folder, MetadataError, XML, "not well-formed")


# ---- ZIP

@pytest.mark.parametrize("name", ["../evil-METADATA.XML", "a/../../evil.TIF", "/etc/evil", "C:\\evil.TIF", "a\\..\\..\\evil.TIF"])
def test_zip_that_climbs_out(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    refused(tmp_path / "p.zip", ProductError, "p.zip: refused", "leads out")


def test_damaged_zip(folder, tmp_path):
    path = Path(shutil.make_archive(str(tmp_path / "p"), "zip", folder))
    whole = path.read_bytes()
    path.write_bytes(whole[:len(whole) // 2])
    refused(path, ProductError, "p.zip", "no readable ZIP")
    where = whole.index(b"METADATA.XML") + 300
    path.write_bytes(whole[:where] + bytes(100) + whole[where + 100:])
    refused(path, ProductError, XML)


def test_zip_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    refused(tmp_path / "p.zip", ProductError, "p.zip: holds no METADATA.XML")


# ---- files that claim too much, and band numbers that are none

@pytest.mark.parametrize("packed", [True, False])
def test_metadata_without_end(folder, tmp_path, packed):
    "34 MB of XML are 33 kB in a ZIP."
    text = (folder / XML).read_bytes()
    (folder / XML).write_bytes(text.replace(b"</level_X>", b"<a/>" * 8_500_000 + b"</level_X>"))
    path = Path(shutil.make_archive(str(tmp_path / "p"), "zip", folder)) if packed else folder
    refused(path, ProductError, "METADATA.XML: is refused", "more than 17 MB")


def test_zip_of_many_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for i in range(2**16 + 1):
            archive.writestr(f"{i}.txt", b"")
    refused(tmp_path / "p.zip", ProductError, "p.zip: refused, it holds 65537 files")


def test_zip_with_a_long_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        archive.writestr(f"a/{'ü' * 128}.txt", b"")
    refused(tmp_path / "p.zip", ProductError, "p.zip: refused, it holds a name of over 255 bytes")


@pytest.mark.parametrize("number", ["abc", "", "1e3", "-1", "٣", "9" * 5000, "0x10", "1.5"])
def test_band_numbers_that_are_none(folder, number):
    change(folder, 'bandID number="3"', f'bandID number="{number}"')
    refused(folder, MetadataError, "does not give number, wavelength and FWHM of every band")


def test_a_cube_that_is_a_text_leading_elsewhere(folder, tmp_path):
    (tmp_path / "secret").write_bytes(b"root:x:0:0" * 9000)
    (folder / IMAGE).write_text(
        '<VRTDataset rasterXSize="150" rasterYSize="140"><SRS>EPSG:32633</SRS><GeoTransform>366015, 30, 0, 5806125, 0, -30</GeoTransform>' + "".join(
            f'<VRTRasterBand dataType="Byte" band="{i}" subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{tmp_path / "secret"}</SourceFilename>'
            '<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>150</LineOffset></VRTRasterBand>' for i in range(1, 13)) + "</VRTDataset>")
    refused(folder, ProductError, f"{IMAGE}: cannot be read")
    refused(Path(shutil.make_archive(str(tmp_path / "p"), "zip", folder)), ProductError, f"{IMAGE}: cannot be read")


# ---- negative numbers without a sign

def unsigned(folder, change):
    "The cube saved as numbers without a sign, after a change of its int16 numbers."
    with rasterio.open(folder / IMAGE) as file:
        numbers, profile = file.read(), file.profile
    numbers[numbers == -32768] = 0
    profile.update(dtype="uint16", nodata=0)
    profile.pop("predictor", None)
    with rasterio.open(folder / IMAGE, "w", **profile) as file:
        file.write(change(numbers.copy()).astype("uint16"))


def test_negative_numbers_that_wrapped_are_refused(folder):
    def dark(numbers):
        numbers[:, ::3, ::2] = -200
        return numbers
    unsigned(folder, dark)
    refused(folder, ProductError, IMAGE, "holds numbers such as 65336 beside others of", "negative numbers that wrapped (65336 = -200), save it as int16")


@pytest.mark.parametrize("highest", [None, 65535, 40000])
def test_numbers_without_a_sign_are_read_as_they_are(folder, highest):
    def bright(numbers):
        numbers = numbers.clip(0).astype("int32")
        if highest:
            numbers[:, ::9, ::7], numbers[:, 1::9, ::7] = highest, min(highest, 64000)
            numbers[:, 2::9, ::7] = 40000
        return numbers
    unsigned(folder, bright)
    assert read_enmap(folder).cube.shape[0] == 12


# ---- the sun, and time zones

def test_a_sun_below_the_horizon_is_said_and_times_are_utc(folder):
    xml = folder / XML
    text = re.sub(r"(<sunElevationAngle>.*?<center>)[^<]*", r"\g<1>-5.0", xml.read_text(), flags=re.DOTALL)
    xml.write_text(re.sub(r"<startTime>[^<]*", "<startTime>2023-07-16T12:15:00+02:00", text))
    scene = read_enmap(folder)
    assert scene.metadata.start.isoformat() == "2023-07-16T10:15:00+00:00"
    assert any("the sun stood 5.0 degrees below the horizon" in line for line in scene.assumptions)
