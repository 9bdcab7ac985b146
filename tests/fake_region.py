"""All services at once, for one small place: DLR's catalogue and download server, and a Sentinel Hub.

Two scenes of the same simulated landscape exist, a month apart; the other records are there to be left out.
"""
import atexit
import shutil
import tempfile
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path

import numpy as np
import rasterio
import shapely
from fake_cdse import Pass, SentinelHubSite
from fake_dlr import DlrStac, item
from fake_download import DownloadSite, SignOn
from rasterio.warp import transform_bounds

from enmap_sharpener.core.grid import Grid
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.simulation.scene import simulate

STARTS = datetime(2023, 7, 16, 10, 15, tzinfo=timezone.utc), datetime(2023, 8, 12, 10, 15, tzinfo=timezone.utc)


class Region:
    """Servers for the length of a with block, which yields the variables that lead to them.

    Attributes
    ----------
    box : tuple
        West, south, east, north [deg].
    catalogue, download, copernicus : Loopback
    """

    def __init__(self, size=24, seed=1, **download):
        self.size, self.seed, self.options = size, seed, download

    def __enter__(self):
        self._open = ExitStack()
        self.paths = _simulated(self.size, self.seed)
        guide = read_sentinel2(self.paths.sentinel2)
        self.sso = self._open.enter_context(SignOn())
        self.download = self._open.enter_context(DownloadSite(sso=self.sso, **self.options))
        self.catalogue = self._open.enter_context(DlrStac())
        self.box = transform_bounds(guide.bands10.rio.crs, "EPSG:4326", *guide.bands10.rio.bounds())
        self.catalogue.items = self._records()
        self.copernicus = self._open.enter_context(SentinelHubSite(self._passes(), _sampler(guide)))
        (name, word), = self.download.users.items()
        return {"ENMAP_CATALOGUE_URL": self.catalogue.stac_url, "ENMAP_DOWNLOAD_URL": self.download.url, "ENMAP_SSO_URL": self.sso.url,
                "ENMAP_USERNAME": name, "ENMAP_PASSWORD": word, "COPERNICUS_URL": self.copernicus.url,
                "COPERNICUS_TOKEN_URL": f"{self.copernicus.url}/token",
                "COPERNICUS_CLIENT_ID": self.copernicus.client_id, "COPERNICUS_CLIENT_SECRET": self.copernicus.secret}

    def __exit__(self, *error):
        self._open.close()

    @property
    def secrets(self):
        """What must be seen nowhere."""
        return {*self.download.users.values(), self.copernicus.secret, *self.copernicus.tokens, *self.sso.issued}

    def _records(self):
        """Two scenes that exist, and reasons to leave others out."""
        west, south, east, north = self.box
        at = {"lon": (west + east) / 2, "lat": (south + north) / 2, "download": self.download.url, "processed": "2023-08-20T00:00:00Z"}
        records = [self._scene(item(n, 1, f"{start:%Y-%m-%dT%H:%M:%SZ}", cloud=cloud, **at))
                   for n, start, cloud in zip((1, 2), STARTS, (3, "12"), strict=True)]
        return records + [
            item(1, 1, f"{STARTS[0]:%Y-%m-%dT%H:%M:%SZ}", cloud=3, **at | {"processed": "2023-07-20T00:00:00Z"}, version="01.04.00"),
            item(3, 4, "2023-06-03T10:31:00Z", cloud=71, **at), item(4, 2, "2023-06-20T10:22:00Z", cloud=4, enmap__sceneAOT="-999", **at),
            item(5, 7, "2023-07-01T10:18:00Z", cloud="2", enmap__overallQuality=2, **at), item(6, 3, "2023-09-21T10:40:00Z", cloud=55, **at)]

    def _scene(self, record):
        """A record with its files on the server: the simulated product under another name."""
        old, new = self.paths.enmap.name, record["id"]
        start = datetime.strptime(new.split("_")[5], "%Y%m%dT%H%M%SZ")
        place = Path(record["assets"]["metadata"]["href"][len(self.download.url):]).parent
        for path in self.paths.enmap.glob("*.*"):
            name, content = path.name.replace(old, new), path.read_bytes()
            if path.suffix == ".XML":
                content = content.replace(old.encode(), new.encode()).replace(b"2023-07-16T10:15", f"{start:%Y-%m-%dT%H:%M}".encode())
            else:
                name = name.replace(".TIF", "_COG.TIF")
            self.download.files[f"{place}/{name}"] = content
            if path.suffix == ".TIF":
                self._place(record, path)
        paths = set(self.download.files)
        record["assets"] = {k: a for k, a in record["assets"].items() if a["href"][len(self.download.url):] in paths}
        return record

    @staticmethod
    def _place(record, path):
        "Let a record say where the rasters lie."
        with rasterio.open(path) as file:
            grid = {"proj:epsg": file.crs.to_epsg(), "proj:shape": list(file.shape), "proj:transform": list(file.transform)}
        record["properties"]["proj:epsg"] = grid["proj:epsg"]
        for asset in record["assets"].values():
            if "proj:shape" in asset:
                asset.update(grid)

    def _passes(self):
        """Sentinel-2 every five days, more or less cloudy, the day of one without data."""
        tile = "33UUU", shapely.box(self.box[0] - 0.4, self.box[1] - 0.3, self.box[2] + 0.4, self.box[3] + 0.3)
        start = datetime(2023, 6, 29, 10, 20, 31, tzinfo=timezone.utc)
        covers = [80, 20, 0, 45, 5, 0, 60, 0, 10, 90, 30, 0]
        return [Pass(start + timedelta(days=5 * n), [tile], "S2" + "AB"[n % 2], told=cover + 4.0, cloud=_clouds(cover, n), empty=n == 5)
                for n, cover in enumerate(covers)]


@cache
def _simulated(size, seed):
    """Paths of a simulated pair; made once, not to be changed."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return simulate(Path(folder), size, seed, truth=False)


def _clouds(cover, n):
    """Clouds over so many per cent of the ground, as a function of map coordinates."""
    wave = lambda x, y: np.sin(x / 170 + n) + np.sin(y / 130 - n)
    level = np.quantile(wave(*np.meshgrid(np.arange(0, 9000, 50), np.arange(0, 9000, 50))), 1 - cover / 100)
    return lambda x, y: wave(x, y) > level


def _sampler(guide):
    """Digital number of the simulated Sentinel-2 at map coordinates; its border continues."""
    grids = {str(b): (Grid.of(stack), stack.sel(band=b).values) for stack in (guide.bands10, guide.bands20) for b in stack.band.values}

    def formula(band, x, y):
        grid, image = grids[band]
        row, col = (np.clip(np.rint(a.index(v)).astype(int), 0, a.n - 1) for a, v in ((grid.rows, -y), (grid.cols, x)))
        return np.nan_to_num(np.rint(image[row, col] * 1e4))

    return formula


