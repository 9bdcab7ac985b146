"Tiny EnMAP and Sentinel-2 products for tests."
import logging
from datetime import datetime, timezone
from logging.handlers import BufferingHandler

import numpy as np
import rasterio
import xarray as xr
from rasterio.transform import from_origin
from scipy.ndimage import zoom

from enmap_sharpener.core.errors import EnmapError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import NODATA, open_raster
from enmap_sharpener.scenes.enmap import check_enmap, read_enmap, write_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2_10M
from enmap_sharpener.scenes.metadata import SceneMetadata, band_table
from enmap_sharpener.scenes.sentinel2 import write_sentinel2

SCENE_ID = "ENMAP01-____L2A-DT0000000001_20230601T100000Z_001_V010400_20230701T000000Z"
METADATA = SceneMetadata(
    SCENE_ID, start=datetime(2023, 6, 1, 10, 0, 0, 250000, tzinfo=timezone.utc), sun_elevation=55.5, sun_azimuth=160.25,
    off_nadir_across=-3.5, off_nadir_along=0.125, scene_azimuth=14.0, quality={"cloudCover": 3.0, "overallQuality": 0.0},
    citation="DLR (2023): <EnMAP> & more", version="01.04.00", correction="Land_Mode")


def cube(bands=12, shape=(24, 36), corner=(366015, 5806125), pixel=30, crs="EPSG:32633", seed=0) -> xr.DataArray:
    "Random reflectance with a nodata corner, one empty band, and small negative values."
    values = np.random.default_rng(seed).uniform(-0.01, 0.6, (bands, *shape)).astype("float32").round(4)
    values[:, :4, :5] = np.nan
    values[bands // 2] = np.nan
    data = xr.DataArray(values, dims=("band", "y", "x")).rio.write_crs(crs)
    return data.rio.write_transform(from_origin(*corner, pixel, pixel))


def table(bands=12):
    "A band table from 420 to 2445 nm with both detectors."
    wavelength = np.linspace(420, 2445, bands)
    return band_table(wavelength, np.linspace(6, 11, bands), detector=np.where(wavelength < 950, "VNIR", "SWIR"))


def _said(look, path):
    "What `look(path)` returns, the error that it raises, and what it says meanwhile."
    heard, log = BufferingHandler(1000), logging.getLogger("enmap_sharpener.scenes.enmap")
    level = log.level
    log.addHandler(heard)
    log.setLevel(logging.INFO)
    try:
        result, error = look(path), None
    except EnmapError as refusal:
        result, error = None, refusal
    finally:
        log.removeHandler(heard)
        log.setLevel(level)
    return result, error, [record.getMessage() for record in heard.buffer]


def read_and_check(path):
    "`read_enmap`, which says what `check_enmap` says."
    (scene, error, lines), (_, other, same) = _said(read_enmap, path), _said(check_enmap, path)
    assert (type(other), str(other), same) == (type(error), str(error), lines)
    if error:
        raise error
    return scene


def product(folder, *, bands=12, shape=(24, 36), **options):
    "Write a tiny EnMAP product; its folder."
    return write_enmap(folder, cube(bands, shape), table(bands), scene_id=SCENE_ID, metadata=METADATA, **options)


def both(folder, *twenty):
    "Write a tiny EnMAP product, and Sentinel-2 in the folder `s2` beside it, with `twenty` (20 m bands and classes) if any; the product's folder."
    scene = product(folder, bands=80)
    write_sentinel2(folder / "s2", sentinel2((78, 114)), *twenty)
    return scene


def sentinel2(shape=(72, 108), names=("B02", "B03", "B04", "B08"), corner=(366000, 5806140), pixel=10, seed=1):
    "Random Sentinel-2 bands with a nodata corner."
    values = np.random.default_rng(seed).uniform(0.02, 0.5, (len(names), *shape)).astype("float32").round(4)
    values[:, :3, :3] = np.nan
    data = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": list(names)}).rio.write_crs("EPSG:32633")
    return data.rio.write_transform(from_origin(*corner, pixel, pixel))


def potsdam(shared, folder, name="train", shift=0):
    "The real EnMAP file over land put into a product folder; its partner is made of its own bands, `shift` pixels of 10 m off."
    path = shared / f"data/enmap_potsdam/{name}.tif"
    image = open_raster(path)
    with rasterio.open(path) as file:
        wavelength, fwhm = (np.array([float(file.tags(i)[key]) for i in file.indexes]) for key in ("wavelength", "fwhm"))
    bands = band_table(wavelength, fwhm, good=(image.values != NODATA).any((1, 2)))
    place = write_enmap(folder, image, bands, scene_id=SCENE_ID, metadata=METADATA)
    partner(place, image, bands, shift)
    return place


def partner(place, image, bands, shift=0):
    "Write the 10 m bands that a sensor with EnMAP's own pixels would see, each pixel as three by three."
    weights = SENTINEL2_10M.responses(bands.wavelength, good=bands.good)
    seen = np.tensordot(weights, np.where(bands.good[:, None, None], image.values, 0).astype(float), 1)
    fine, grid = np.roll(np.kron(seen, np.ones((3, 3))), (shift, shift), (1, 2)).astype("int16"), Grid.of(image)
    onto = Grid(grid.crs, Axis(grid.rows.start, 10.0, fine.shape[1]), Axis(grid.cols.start, 10.0, fine.shape[2]))
    write_sentinel2(place / "sentinel2", onto.georeference(fine, coords={"band": ["B02", "B03", "B04", "B08"]}))


def of_larger_pixels(image, factor: int, order: int):
    "An image (band, y, x) as it looks when pixels `factor` times as large were brought to its own by interpolation: 1 linear, 3 cubic."
    bands, ny, nx = len(image), *(n // factor * factor for n in image.shape[1:])
    means = image.values[:, :ny, :nx].reshape(bands, ny // factor, factor, nx // factor, factor).mean((2, 4))
    return image[:, :ny, :nx].copy(data=np.stack([zoom(band, factor, order=order, mode="nearest", grid_mode=True) for band in means]))
