"""A sharpened scene without the sharpening: blocks of known numbers, for tests of what comes after."""
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rasterio.crs import CRS

from enmap_sharpener.core.grid import Axis, Grid, windows
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.scenes.enmap import Scene
from enmap_sharpener.scenes.metadata import SceneMetadata, band_table
from enmap_sharpener.scenes.sentinel2 import Sentinel2
from enmap_sharpener.sharpening.quality import QUALITY_BANDS

SCENE_ID = "ENMAP01-____L2A-DT0000000001_20230601T101500Z_001_V010400_20230701T000000Z"


class FakeSharpened:
    """Blocks of a formula of band, row and column; the upper left corner is nodata. `trouble(n)` is called before block n."""

    method = "fake"
    quality_bands, errors = QUALITY_BANDS, None

    def __init__(self, shape=(90, 70), bands=6, trouble=lambda n: None):
        self.grid = Grid(CRS.from_epsg(32633), Axis(-5_806_120.0, 10.0, shape[0]), Axis(366_010.0, 10.0, shape[1]))
        wavelength = np.linspace(420.25, 2445.5, bands)
        self.bands = band_table(wavelength, np.where(wavelength < 1000, 7.123, 9.5), good=np.arange(bands) != bands - 1)
        self.trouble, self.report = trouble, {}

    def cube(self, rows, cols):
        """Digital numbers of a window, int16 (band, y, x)."""
        y, x = np.arange(rows.start, rows.stop, dtype="int32")[:, None], np.arange(cols.start, cols.stop, dtype="int32")
        band = np.arange(len(self.bands), dtype="int32")[:, None, None]
        cube = ((y * 7 + x * 3 + band * 11) % 4001 - 50).astype("int16")
        return np.where((y + x < 20) | ~self.bands.good[:, None, None], np.int16(NODATA), cube)

    def quality(self, rows, cols):
        """Quality of a window, uint8 (2, y, x)."""
        y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(cols.start, cols.stop)
        return np.where(y + x < 20, 0, np.stack([1 + (y + x) % 3, (y + x) % 101])).astype("uint8")

    def block_count(self, size):
        return len(list(windows(self.grid.shape, size)))

    def blocks(self, size=512):
        for n, (rows, cols) in enumerate(windows(self.grid.shape, size)):
            self.trouble(n)
            yield SimpleNamespace(rows=rows, cols=cols, cube=self.cube(rows, cols), quality=self.quality(rows, cols))
        self.report = {"alignment": {"vnir_shift": [0.1, -0.2]}, "agreement": {"rmse": 0.0007}}

    @property
    def whole(self):
        """Two slices that cover the grid."""
        return slice(0, self.grid.shape[0]), slice(0, self.grid.shape[1])


def fake_sources(sharpened, folder=Path("data")):
    """An EnMAP scene and a guide with what a writer asks of them."""
    metadata = SceneMetadata(SCENE_ID, start=datetime(2023, 6, 1, 10, 15, tzinfo=timezone.utc), sun_elevation=55.5, sun_azimuth=-170.0,
                             citation="A & B")
    coarse = Grid(sharpened.grid.crs, Axis(sharpened.grid.rows.start + 5, 30.0, max(2, sharpened.grid.rows.n // 3)),
                  Axis(sharpened.grid.cols.start + 5, 30.0, max(2, sharpened.grid.cols.n // 3)))
    bands, rng = sharpened.bands, np.random.default_rng(0)
    values = rng.random((len(bands), *coarse.shape), "float32") * 0.4
    values[~bands.good] = np.nan
    coords = {"band": bands.number, **{k: ("band", getattr(bands, k)) for k in ("wavelength", "fwhm", "detector", "good")}}
    scene = Scene(coarse.georeference(values, coords=coords), bands, metadata, {}, Path(folder) / SCENE_ID)
    return {"scene": scene, "guide": Sentinel2(None, None, None, Path(folder) / "sentinel2")}
