"""Cubes from files of all kinds: wavelengths, units, nodata, and what is wrong with them."""

import numpy as np
import pytest
from cubes import WAVELENGTH, pair, write
from rasterio.transform import from_origin

from enmap_sharpener.core.errors import BandError, ProductError
from enmap_sharpener.scenes.cubes import read_cube


@pytest.mark.parametrize("tags", ["wavelength", "micrometres", "imagery"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_read_cube_finds_wavelengths_nodata_and_units(tmp_path, tags, dtype):
    o, _ = pair()
    path = write(tmp_path / "a.tif", o, WAVELENGTH, from_origin(366000, 5806000, 10, 10), dtype, tags)
    c = read_cube(path)
    assert c.dtype == "float32" and c.dims == ("band", "y", "x") and c.chunks is not None
    assert np.allclose(c.wavelength, WAVELENGTH) and np.allclose(c.values, o, atol=6e-5, equal_nan=True)
    assert ("fwhm" in c.coords) == (tags != "micrometres") and float(c.x[0]) == 366005


def test_read_cube_tells_floats_times_ten_thousand(tmp_path):
    o, _ = pair()
    path = write(tmp_path / "a.tif", 1e4 * o, WAVELENGTH, from_origin(366000, 5806000, 10, 10), "float32")
    assert np.allclose(read_cube(path).values, o, atol=1e-5, equal_nan=True)


def test_read_cube_reads_an_envi_header(tmp_path):
    o, _ = pair(4)
    w = [418.2412, 530.5, 1200.75, 2445.125]
    path = write(tmp_path / "a.bsq", o, [], from_origin(366000, 5806000, 10, 10), driver="ENVI")
    header = next(tmp_path.glob("*.hdr"))
    header.write_text(header.read_text() + f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, w))}}}\nfwhm = {{6.5, 7, 8, 10}}\n")
    assert np.allclose(read_cube(path).wavelength, w, atol=1e-9) and list(read_cube(path).fwhm.values) == [6.5, 7, 8, 10]


def test_read_cube_says_what_is_wrong(tmp_path):
    o, _ = pair(3)
    with pytest.raises(BandError, match="plain.tif.*wavelength"):
        read_cube(write(tmp_path / "plain.tif", o, [], from_origin(366000, 5806000, 10, 10)))
    with pytest.raises(ProductError, match="absent.tif"):
        read_cube(tmp_path / "absent.tif")
    (tmp_path / "text.tif").write_text("not a TIFF")
    with pytest.raises(ProductError, match="text.tif"):
        read_cube(tmp_path / "text.tif")
