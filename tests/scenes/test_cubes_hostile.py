"""Cubes from others: what lies beside a file says nothing, and a file is of the kind that its name says."""
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from enmap_sharpener.core.errors import BandError, EnmapError, ProductError
from enmap_sharpener.scenes.cubes import read_cube

PLACE = dict(crs="EPSG:32633", transform=from_origin(0, 0, 30, 30), width=6, height=5, dtype="int16", count=2)


def cube(path, driver="GTiff", **options):
    with rasterio.open(path, "w", driver=driver, **PLACE, **options) as file:
        file.write(np.full((2, 5, 6), 1234, np.int16))
        if driver == "GTiff":
            for i in (1, 2):
                file.update_tags(i, wavelength=500 + i, wavelength_units="nm")
    return path


def test_a_sidecar_says_nothing(tmp_path):
    path = cube(tmp_path / "a.tif")
    bands = "".join(f'<PAMRasterBand band="{i}"><NoDataValue>1234</NoDataValue><Metadata><MDI key="wavelength">9{i}0</MDI></Metadata></PAMRasterBand>' for i in (1, 2))
    path.with_name("a.tif.aux.xml").write_text(f"<PAMDataset>{bands}</PAMDataset>")
    path.with_name("a.tif.ovr").write_text('<VRTDataset rasterXSize="6" rasterYSize="5"/>')
    path.with_name("a.tif.msk").write_bytes(b"II*\0")
    found = read_cube(path)
    assert found.wavelength.values.tolist() == [501, 502]
    np.testing.assert_allclose(found.values, 0.1234)


def test_a_vrt_by_another_name(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"root:x:0:0:" * 20)
    (tmp_path / "a.tif").write_text(f'''<VRTDataset rasterXSize="6" rasterYSize="5"><SRS>EPSG:32633</SRS><GeoTransform>0,30,0,0,0,-30</GeoTransform>
        <VRTRasterBand dataType="Byte" band="1" subClass="VRTRawRasterBand"><SourceFilename>{secret}</SourceFilename><ImageOffset>0</ImageOffset>
        <PixelOffset>1</PixelOffset><LineOffset>6</LineOffset></VRTRasterBand></VRTDataset>''')
    with pytest.raises(ProductError, match="a.tif: cannot be read"):
        read_cube(tmp_path / "a.tif")


@pytest.mark.parametrize("line", ["header offset = abc", "header offset = -5", "header offset = 99999999999999999999999", "bands = 1000000000",
                                  "samples = 1000000\nlines = 1000000", "wavelength = { , , }", "wavelength = {1e999, nan}", "data type = 77"])
def test_an_envi_header_that_makes_no_sense(tmp_path, line):
    cube(tmp_path / "a.bsq", "ENVI")
    header = tmp_path / "a.hdr"
    key = {part.split("=")[0].strip() for part in line.split("\n")}
    kept = [text for text in header.read_text().split("\n") if text.split("=")[0].strip() not in key]
    header.write_text("\n".join(kept) + f"\n{line}\n")
    with pytest.raises(EnmapError, match="a.bsq"):
        read_cube(tmp_path / "a.bsq")


def test_an_envi_cube(tmp_path):
    cube(tmp_path / "a.bsq", "ENVI")
    with pytest.raises(BandError, match="no wavelengths"):
        read_cube(tmp_path / "a.bsq")
    with open(tmp_path / "a.hdr", "a") as file:
        file.write("wavelength = {0.5, 0.6}\nwavelength units = Micrometers\n")
    assert read_cube(tmp_path / "a.bsq").wavelength.values.tolist() == [500, 600]
