"""Cubes from files of all kinds: wavelengths, units, nodata, and what is wrong with them."""

import numpy as np
import pytest
import rasterio
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


# ---- as other programs write them


def header(path, *lines):
    "An ENVI cube with lines in its header."
    o, _ = pair(4, nodata=False)
    write(path, o, [], from_origin(366000, 5806000, 10, 10), driver="ENVI", dtype="float32")
    hdr = path.with_suffix(".hdr")
    hdr.write_text(hdr.read_text() + "".join(f"{line}\n" for line in lines))
    return o


@pytest.mark.parametrize("units, values", [("Unknown", "0.42, 0.53, 1.2, 2.4"), ("unknown", "420, 530, 1200, 2400"), ("Micrometers", "0.42, 0.53, 1.2, 2.4"), ("um", "0.42, 0.53, 1.2, 2.4"),
                                           ("µm", "0.42, 0.53, 1.2, 2.4"), ("Nanometers", "420, 530, 1200, 2400"), ("nm", "420, 530, 1200, 2400"), ("", "0.42, 0.53, 1.2, 2.4"),
                                           ("Index", "420, 530, 1200, 2400"), ("Meters", "4.2e-7, 5.3e-7, 1.2e-6, 2.4e-6"), ("nanometer", "420, 530, 1200, 2400"), ("Millimeters", "4.2e-4, 5.3e-4, 1.2e-3, 2.4e-3")])
def test_units_of_wavelengths(tmp_path, units, values):
    header(tmp_path / "a.bsq", f"wavelength units = {units}", f"wavelength = {{{values}}}")
    assert np.allclose(read_cube(tmp_path / "a.bsq").wavelength, [420, 530, 1200, 2400])


@pytest.mark.parametrize("line", ["reflectance scale factor = 10000.000000", "reflectance scale factor = 10000", "Reflectance Scale Factor = 1e4", "reflectance scale factor = 0.0001",
                                  "reflectance_scale_factor = 10000", "scale factor = 10000", ""])
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint16", "int32"])
def test_factor_of_an_envi_header(tmp_path, line, dtype):
    o, _ = pair(4, nodata=False)
    numbers = np.rint(o * 1e4).astype(dtype)
    with rasterio.open(tmp_path / "a.bsq", "w", driver="ENVI", count=4, height=o.shape[1], width=o.shape[2], dtype=dtype, crs="EPSG:32633",
                       transform=from_origin(366000, 5806000, 10, 10)) as f:
        f.write(numbers)
    hdr = tmp_path / "a.hdr"
    hdr.write_text(hdr.read_text() + f"{line}\nwavelength units = nm\nwavelength = {{420, 530, 1200, 2400}}\n")
    assert np.allclose(read_cube(tmp_path / "a.bsq").values, o, atol=1e-4)


@pytest.mark.parametrize("line", ["reflectance scale factor = 1", "reflectance scale factor = 0", "reflectance scale factor = nan", "reflectance scale factor = many", "reflectance scale factor = 1e300"])
def test_a_factor_that_cannot_be_is_not_followed(tmp_path, line):
    o = header(tmp_path / "a.bsq", line, "wavelength units = nm", "wavelength = {420, 530, 1200, 2400}")
    assert np.allclose(read_cube(tmp_path / "a.bsq").values, o, atol=1e-6)


@pytest.mark.parametrize("said", [True, False])
@pytest.mark.parametrize("dtype, factor", [("float32", 1), ("float32", 100), ("float32", 1e4), ("int16", 1e4), ("int16", 2000), ("int32", 1e5)])
def test_levels_and_scales(tmp_path, dtype, factor, said):
    "The file's own scale counts if it gives reflectance; else what the level allows."
    o, _ = pair(nodata=False)
    if not said and factor in (2000, 1e5):
        pytest.skip("nothing tells")
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=len(o), height=o.shape[1], width=o.shape[2], dtype=dtype, crs="EPSG:32633", transform=from_origin(366000, 5806000, 10, 10)) as f:
        f.write(np.rint(o * factor).astype(dtype) if dtype != "float32" else o * np.float32(factor))
        if said:
            f.scales = [1 / factor] * len(o)
        for i, w in enumerate(WAVELENGTH, 1):
            f.set_band_description(i, f"Band {i} ({w:.3f} Nanometers)")
    assert np.allclose(read_cube(tmp_path / "a.tif").values, o, atol=1 / factor if dtype != "float32" else 1e-5) and np.allclose(read_cube(tmp_path / "a.tif").wavelength, WAVELENGTH, atol=1e-3)


def test_a_scale_that_is_a_leftover(tmp_path):
    o, _ = pair(nodata=False)
    path = write(tmp_path / "a.tif", o, WAVELENGTH, from_origin(366000, 5806000, 10, 10), "float32")
    with rasterio.open(path, "r+") as f:
        f.scales = [1e-4] * len(o)
    assert np.allclose(read_cube(path).values, o, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32", "int32"])
@pytest.mark.parametrize("value", [-9999, 0, -999])
def test_nodata_that_is_not_declared(tmp_path, dtype, value):
    "Where all bands are -9999 or 0 there is nothing; a single band that is 0 is dark."
    o, _ = pair(nodata=False)
    o[3, :9] = 0
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", count=len(o), height=o.shape[1], width=o.shape[2], dtype=dtype, crs="EPSG:32633", transform=from_origin(366000, 5806000, 10, 10)) as f:
        numbers = (np.rint(o * 1e4) if dtype != "float32" else o).astype(dtype)
        numbers[:, 20:, :11] = value
        f.write(numbers)
        for i, w in enumerate(WAVELENGTH, 1):
            f.update_tags(i, wavelength=str(w))
    found = read_cube(tmp_path / "a.tif").values
    o[:, 20:, :11] = np.nan
    assert np.allclose(found, o, atol=6e-5, equal_nan=True)
