"""What other programs find in results of every format, and that each is written whole or not at all."""
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from fakes import FakeSharpened, fake_sources

import enmap_sharpener as es
from enmap_sharpener.core.errors import BandError, GridError, OutputError, ProductError, UnknownName
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.reconstruction.formats import FORMATS
from enmap_sharpener.reconstruction.output import output_files, write_cube, write_scene
from enmap_sharpener.scenes.cubes import read_cube

NAMES = {"gtiff": "out.tif", "cog": "out.tif", "envi": "out.img", "netcdf": "out.nc", "zarr": "out.zarr"}
ACQUIRED = {"acquired": {"enmap": "2023-06-01T10:15:00+00:00"}}


class Dated(FakeSharpened):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.report = ACQUIRED

    def blocks(self, size=512):
        yield from super().blocks(size)
        self.report |= ACQUIRED


def save(folder, form, sharpened=None, **options):
    sharpened = sharpened or Dated()
    return write_scene(sharpened, folder / NAMES[form], **fake_sources(sharpened), form=form, **options)


def reflectance(fake):
    numbers = fake.cube(*fake.whole)
    return np.where(numbers == NODATA, np.nan, numbers * np.float32(1e-4))


@pytest.fixture(scope="module", params=FORMATS)
def form(request):
    return request.param


@pytest.fixture(scope="module")
def written(form, tmp_path_factory):
    return save(tmp_path_factory.mktemp(form), form)


def test_the_package_reads_what_it_wrote(written):
    fake, cube = Dated(), es.open(written["data"])
    np.testing.assert_allclose(cube.values, reflectance(fake), atol=1e-7)
    assert cube.name == "reflectance" and cube.attrs == {"units": "1", "long_name": "surface reflectance"} and cube.dtype == "float32" and cube.chunks
    np.testing.assert_allclose(cube.wavelength, fake.bands.wavelength)
    np.testing.assert_allclose(cube.fwhm, fake.bands.fwhm)
    assert cube.detector.values.tolist() == fake.bands.detector.tolist() and cube.good.values.tolist() == fake.bands.good.tolist()
    assert (cube.rio.crs, cube.rio.transform()) == (fake.grid.crs, fake.grid.transform)
    assert cube.time.values == np.datetime64("2023-06-01T10:15:00") and cube.time.dtype.kind == "M"


def test_windows_and_chosen_bands(written):
    wanted = reflectance(Dated())
    cube = es.open(written["data"])
    np.testing.assert_allclose(cube[[4, 0, 2], 30:41, 5].values, wanted[[4, 0, 2], 30:41, 5], atol=1e-7)
    np.testing.assert_allclose(cube.isel(y=[3, 50, 7], x=[69, 0]).values, wanted[:, [3, 50, 7]][:, :, [69, 0]], atol=1e-7)
    assert cube[:, 5:5].values.shape == (6, 0, 70)


def test_opened_it_can_be_saved_as_anything_and_read_again(written, tmp_path):
    cube = es.open(written["data"])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*does not have a Zarr V3 specification.*")
        cube.to_zarr(tmp_path / "three.zarr", zarr_format=3)
    cube.to_netcdf(tmp_path / "again.nc", engine="h5netcdf")
    again = es.open(tmp_path / "again.nc")
    np.testing.assert_allclose(again.values, cube.values, atol=1e-7)
    assert again.time == cube.time and (again.detector == cube.detector).all()


def test_the_other_files_stand_beside_it(written):
    folder, name = written["data"].parent, written["data"]
    assert {p.name for p in folder.iterdir()} == {p.name for p in written.values()} and (folder / "out_quality.tif").is_file()
    item = json.loads(written["stac"].read_text())
    assert item["assets"]["data"]["href"] == name.name and "fake" in item["properties"]["processing:lineage"]
    if (folder / "out.hdr").exists():
        assert item["assets"]["header"]["href"] == "out.hdr"
    assert name.name in written["metadata"].read_text()


# ---- other programs ----------------------------------------------------------------------------------------------

def test_spectral_python_reads_the_header(tmp_path):
    envi = pytest.importorskip("spectral.io.envi", reason="SPy (spectral) is not installed")
    fake, files = Dated(), save(tmp_path, "envi")
    image = envi.open(str(files["header"]), str(files["data"]))
    np.testing.assert_allclose(image.bands.centers, fake.bands.wavelength)
    np.testing.assert_allclose(image.bands.bandwidths, fake.bands.fwhm)
    assert image.bands.band_unit == "Nanometers" and list(map(int, image.metadata["bbl"])) == [1] * 5 + [0] and image.scale_factor == 10000
    np.testing.assert_allclose(image.read_pixel(30, 20)[:5], reflectance(fake)[:5, 30, 20], atol=1e-6)


def test_rasterio_reads_envi(tmp_path):
    fake, files = Dated(), save(tmp_path, "envi")
    with rasterio.open(files["data"]) as file:
        np.testing.assert_array_equal(file.read(), fake.cube(*fake.whole))
        assert (file.driver, file.crs, file.transform, file.nodata) == ("ENVI", fake.grid.crs, fake.grid.transform, NODATA)
        assert file.descriptions[0].startswith("band 1 (420.25 Nanometers)")
        header = {k.lower(): v for k, v in file.tags(ns="ENVI").items()}
    assert header["wavelength_units"] == "Nanometers" and header["reflectance_scale_factor"] == "10000" and header["bbl"] == "{1, 1, 1, 1, 1, 0}"


@pytest.mark.parametrize("epsg, map_info", [(32633, "UTM, 1, 1, 366010, 5806120, 10, 10, 33, North, WGS-84"), (32733, "33, South, WGS-84"), (3035, "Arbitrary, 1, 1")])
def test_map_info(tmp_path, epsg, map_info):
    fake = Dated()
    fake.grid = type(fake.grid)(rasterio.crs.CRS.from_epsg(epsg), fake.grid.rows, fake.grid.cols)
    files = write_cube(fake, tmp_path / "out.bsq")
    assert map_info in files["header"].read_text()
    assert es.open(files["data"]).rio.crs == fake.grid.crs


@pytest.mark.parametrize("form, reader", [("netcdf", xr.open_dataset), ("zarr", xr.open_zarr)])
def test_xarray_reads_place_bands_and_time(tmp_path, form, reader):
    fake, files = Dated(), save(tmp_path, form)
    with reader(files["data"]) as data:
        cube = data.reflectance
        np.testing.assert_allclose(cube.values, reflectance(fake), atol=1e-7)
        assert data.attrs["Conventions"].startswith("CF-") and cube.rio.crs == fake.grid.crs and cube.rio.transform() == fake.grid.transform
        assert cube.wavelength.attrs["standard_name"] == "radiation_wavelength" and cube.wavelength.attrs["units"] == "nm" and cube.good.dtype == bool
        assert cube.x.attrs["standard_name"] == "projection_x_coordinate" and str(cube.time.values).startswith("2023-06-01T10:15")
        assert cube.encoding["dtype"] == "int16" and cube.encoding["_FillValue"] == NODATA


def test_gdal_reads_netcdf(tmp_path):
    fake, files = Dated(), save(tmp_path, "netcdf")
    with rasterio.open(f"netcdf:{files['data']}:reflectance") as file:
        np.testing.assert_array_equal(file.read(), fake.cube(*fake.whole))
        assert (file.crs, file.transform, file.nodata) == (fake.grid.crs, fake.grid.transform, NODATA) and file.scales[0] == pytest.approx(1e-4)


# ---- whole or not at all -----------------------------------------------------------------------------------------

def raises(error):
    def trouble(n):
        if n == 1:
            raise error
    return trouble


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), ProductError("gone")])
@pytest.mark.parametrize("before", [False, True])
def test_trouble_on_the_way_leaves_what_was(tmp_path, form, error, before):
    listed = lambda: {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    if before:
        save(tmp_path, form)
    there = listed()
    with pytest.raises(type(error)):
        save(tmp_path, form, Dated((600, 600), 2, raises(error)), overwrite=True)
    assert listed() == there


def test_overwriting(tmp_path, form):
    save(tmp_path, form)
    with pytest.raises(OutputError, match="exists already.*--overwrite"):
        save(tmp_path, form)
    files = save(tmp_path, form, Dated(bands=3), overwrite=True)
    assert es.open(files["data"]).sizes["band"] == 3 and not list(tmp_path.glob(".*"))


def test_a_store_that_was_replaced_comes_back_when_publishing_fails(tmp_path, monkeypatch):
    save(tmp_path, "zarr")
    real = os.replace
    def replace(a, b):
        if Path(b).name == "out.zarr" and Path(a).name == "out.zarr":
            raise OSError(28, "No space left on device")
        real(a, b)
    monkeypatch.setattr(os, "replace", lambda a, b: replace(a, b))
    with pytest.raises(OutputError):
        save(tmp_path, "zarr", Dated(bands=3), overwrite=True)
    monkeypatch.undo()
    assert es.open(tmp_path / "out.zarr").sizes["band"] == 6


def test_a_folder_that_is_no_store_is_not_replaced(tmp_path):
    (tmp_path / "out.zarr").mkdir()
    (tmp_path / "out.zarr" / "photo.jpg").touch()
    with pytest.raises(OutputError, match="exists already"):
        save(tmp_path, "zarr", overwrite=True)


@pytest.mark.parametrize("form", ["envi", "netcdf", "zarr"])
def test_full_disk(tmp_path, form):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a small disk")
    noise = Dated((1100, 1100), 8)
    noise.cube = lambda rows, cols: np.random.default_rng(0).integers(0, 9000, (8, rows.stop - rows.start, cols.stop - cols.start)).astype("int16")
    from enmap_sharpener.core import files
    space, files.shutil.disk_usage = files.shutil.disk_usage, lambda p: type("usage", (), {"free": 1e12})     # as if it filled up on the way
    try:
        with pytest.raises(OutputError, match="cannot be written|full"):
            save(disk, form, noise)
        assert not list(disk.iterdir())
    finally:
        files.shutil.disk_usage = space
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("shape", [(1, 25), (5, 700), (530, 16), (513, 1030)])
def test_any_shape(tmp_path, form, shape):
    fake = Dated(shape, bands=3)
    files = write_cube(fake, tmp_path / NAMES[form], form=form)
    np.testing.assert_allclose(es.open(files["data"]).values, reflectance(fake), atol=1e-7)


MEASURED = """
import resource, sys
from pathlib import Path
from fakes import FakeSharpened
from enmap_sharpener.reconstruction.output import write_cube
fake = FakeSharpened((int(sys.argv[2]), 1024), 30)
write_cube(fake, Path(sys.argv[1]), overwrite=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.img", "out.nc", "out.zarr"])
def test_memory_does_not_grow_with_the_scene(tmp_path, name):
    pytest.importorskip("resource")
    small, large = (int(subprocess.run([sys.executable, "-c", MEASURED, tmp_path / name, str(rows)], capture_output=True, text=True,
                                       cwd=Path(__file__).parents[1], check=True).stdout) for rows in (1024, 5120))
    assert large - small < 80, f"{small} MB for 1024 rows, {large} MB for 5120, where the cube grew by 250 MB"


# ---- what is told ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, form, error, words", [
    ("out.jpg", None, OutputError, "wanted a name that ends in .tif, .img, .bsq, .nc or .zarr"),
    ("out", None, OutputError, "no format is known"),
    ("out.tif", "netcdf", OutputError, "wanted a name that ends in .nc"),
    ("out.tif", "geotif", UnknownName, "gtiff"),
])
def test_names_and_formats_that_do_not_fit(tmp_path, name, form, error, words):
    with pytest.raises(error, match=words):
        output_files(tmp_path / name, form=form)


def test_compressions_that_a_format_does_not_know(tmp_path):
    with pytest.raises(OutputError, match="NetCDF is not compressed with zstd; choose from deflate, none"):
        save(tmp_path, "netcdf", compress="zstd")
    assert not list(tmp_path.iterdir())


def damaged(path):
    "Cut or spoil a result."
    if path.is_dir():
        chunk = max(path.rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0)
        chunk.write_bytes(chunk.read_bytes()[:100])
    else:
        os.truncate(path, path.stat().st_size * 2 // 3)


def test_damage_is_told_in_one_line(tmp_path, form):
    files = save(tmp_path, form, Dated((300, 300)))
    damaged(files["data"])
    with pytest.raises(ProductError) as told:
        es.open(files["data"]).values      # noqa: B018
    assert "\n" not in str(told.value) and NAMES[form] in str(told.value)


@pytest.mark.parametrize("name", ["out.nc", "out.zarr"])
def test_missing_and_foreign_files(tmp_path, name):
    with pytest.raises(ProductError):
        read_cube(tmp_path / name)
    made = xr.DataArray(np.zeros((2, 3, 3), "f4"), dims=("band", "y", "x"), name="reflectance")
    store = made.to_netcdf if name.endswith("nc") else lambda path: made.to_zarr(path, zarr_format=2, consolidated=True)
    store(tmp_path / name)
    with pytest.raises(BandError, match="no wavelengths"):
        read_cube(tmp_path / name)
    (tmp_path / "b").mkdir()
    made = made.assign_coords(wavelength=("band", [500.0, 600.0], {"units": "nm"}))
    store = made.to_netcdf if name.endswith("nc") else lambda path: made.to_zarr(path, zarr_format=2, consolidated=True)
    store(tmp_path / "b" / name)
    with pytest.raises(GridError, match="no coordinate reference system"):
        read_cube(tmp_path / "b" / name)


def test_a_netcdf_file_that_leads_elsewhere_is_refused(tmp_path):
    h5py = pytest.importorskip("h5py")
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1000))
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("reflectance", (1, 10, 10), "i2", external=[(str(secret), 0, 200)])
    with h5py.File(tmp_path / "b.nc", "w") as file:
        file["reflectance"] = h5py.ExternalLink(str(tmp_path / "a.nc"), "/reflectance")
    for name in ("a.nc", "b.nc"):
        with pytest.raises(ProductError, match="leads out of it"):
            read_cube(tmp_path / name)


def test_a_store_with_a_codec_that_runs_is_refused(tmp_path):
    files = save(tmp_path, "zarr")
    array = files["data"] / "reflectance" / ".zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | {"compressor": {"id": "pickle"}}))
    with pytest.raises(ProductError, match="pickle"):
        read_cube(files["data"])
