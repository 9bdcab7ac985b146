"An open archive of Sentinel-2 on the loopback address: a STAC API, a signing service and a store of COGs by Range."
from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import lru_cache

import numpy as np
import rasterio.shutil
import shapely
from loopback import Loopback
from pyproj import Transformer
from rasterio.io import MemoryFile
from rasterio.transform import from_origin
from shapely.geometry import Polygon, box, mapping, shape

BANDS = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
COMMON = ("blue", "green", "red", "nir", "rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22")
METRES = dict.fromkeys(BANDS[:4], 10) | dict.fromkeys((*BANDS[4:], "SCL"), 20)
BLOB_HOST = "sentinel2l2a01.blob.core.windows.net"
TOKEN = "st=2022-01-01&se=2099-01-01&sp=rl&sig=notforyoureyes"
ZONE33 = 32633


def landscape(band: str, x, y, day: int = 0):
    """What the ground reflects (times 10000, whole numbers) at map coordinates of UTM zone 33: smooth, steep enough that
    half a pixel shows, and another number in every band and on every day."""
    i = BANDS.index(band)
    waves = 260 * np.sin(x / (150 + 9 * i)) + 190 * np.cos(y / (170 - 7 * i)) + 60 * np.sin((x + 2 * y) / 310)
    return np.rint(700 + 120 * i + waves + 11 * day)


def classes(x, y, clouds: float = 0.0):
    "Scene classification at map coordinates of zone 33: fields of classes 4 and 5, clouds (9) on that share of the ground."
    fields = np.where((np.floor(x / 200) + np.floor(y / 200)) % 2, 4, 5)
    return np.where(np.mod(x, 2000) < 2000 * clouds, 9, fields).astype("uint8")


@dataclass(frozen=True)
class Tile:
    "A square of pixels in a UTM zone: name, zone's EPSG code, upper-left corner, width [m]."

    name: str
    epsg: int
    x: float
    y: float
    width: float = 6000.0

    @property
    def outline(self):
        return box(self.x, self.y - self.width, self.x + self.width, self.y)


@dataclass(frozen=True)
class Pass:
    """One overflight: when, which satellite and orbit, in which processing baselines there are products.

    `swath` (in zone 33) limits what was seen, `clouds` is the share of the ground, `shifted` says whether Earth Search's
    sentinel-2-l2a has the offset of +1000 taken away, and `told` what its metadata say about that.
    """

    time: str
    platform: str = "sentinel-2a"
    orbit: int = 65
    baselines: tuple = ("04.00",)
    clouds: float = 0.0
    swath: Polygon | None = None
    tiles: tuple | None = None
    shifted: bool = True
    told: bool = True
    collections: tuple | None = None

    @property
    def when(self):
        return _time(self.time)


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


# Two tiles of zone 33 that overlap by a kilometre, and one of zone 32 over the west of the first: around 12 degrees east.
TILES = (Tile("33UUU", 32633, 300000, 5800020), Tile("33UVU", 32633, 305000, 5800020), Tile("32UQD", 32632, 0, 0))
PASSES = (Pass("2022-07-20T10:16:11Z"),
          Pass("2022-07-17T10:26:01Z", "sentinel-2b", 108, swath=box(290000, 5780000, 305500, 5820000)),
          Pass("2022-07-25T10:16:09Z", "sentinel-2b", clouds=0.8),
          Pass("2021-07-20T10:16:11Z", baselines=("03.01",)),
          Pass("2024-07-19T10:16:11Z", "sentinel-2b", baselines=("04.00", "05.10")))


def moved(outline, source: int, target: int):
    "A geometry from one coordinate system to another."
    change = Transformer.from_crs(source, target, always_xy=True).transform
    return shapely.transform(outline, lambda points: np.column_stack(change(*points.T)))


def _placed(tile: Tile) -> Tile:
    "The tile of zone 32 where the neighbours are: its corner is 3 km west and 2 km north of theirs, on multiples of 20 m."
    if tile.x:
        return tile
    x, y = Transformer.from_crs(ZONE33, tile.epsg, always_xy=True).transform(297000, 5802000)
    return Tile(tile.name, tile.epsg, round(x / 20) * 20, round(y / 20) * 20, tile.width)


class Archive(Loopback):
    """Sentinel-2 on a server, as earth-search and the Planetary Computer have it.

    `/es/v1` is a STAC API with the collections sentinel-2-c1-l2a and sentinel-2-l2a, `/pc/v1` one with the Planetary
    Computer's sentinel-2-l2a; `/sas` signs; everything else is the store. Assets of the Planetary Computer lie on Microsoft's
    host, which is reached with this server as the proxy: set the environment variable GDAL_HTTP_PROXY to `archive.url`.

    Faults: `archive.faults` holds functions of a request that answer a status (404, 503), "stall", "cut", "junk" (a
    signing service without a signature) or None; the first that answers wins.
    """

    def __init__(self, tiles=TILES, passes=PASSES, page=3, collections=("sentinel-2-c1-l2a", "sentinel-2-l2a")):
        super().__init__()
        self.tiles, self.passes = {t.name: t for t in map(_placed, tiles)}, passes
        self.page, self.collections, self.faults = page, collections, []
        self.odd, self.paging = [], "next"      # what a search lists besides; or 'endless', 'lost' (a next link without an address)
        self.lifetime = 3600        # of signatures [s]
        self.cog = lru_cache(maxsize=None)(self._cog)

    @property
    def earth_search(self):
        return f"{self.url}/es/v1"

    @property
    def planetary_computer(self):
        return f"{self.url}/pc/v1"

    @property
    def sas_url(self):
        return f"{self.url}/sas/token"

    def reads(self, name=""):
        "Requests for the store that name something."
        return [r for r in self.log if r.path.endswith(".tif") and name in r.path]

    # what the pixels are

    def truth(self, band: str, x, y, overpass: Pass):
        "Reflectance times 10000, or the class, that a satellite saw at map coordinates of zone 33."
        if band == "SCL":
            return classes(x, y, overpass.clouds)
        return landscape(band, x, y, overpass.when.toordinal() % 7)

    def _seen(self, tile: Tile, overpass: Pass):
        "Outline of a tile's data in its own zone."
        if overpass.swath is None:
            return tile.outline
        return tile.outline.intersection(moved(overpass.swath.segmentize(1000), ZONE33, tile.epsg))

    def _cog(self, store: str, number: int, baseline: str, tile: str, band: str) -> bytes:
        "A COG."
        tile, overpass, step = self.tiles[tile], self.passes[number], METRES[band]
        n = round(tile.width / step)
        x, y = np.meshgrid(tile.x + (np.arange(n) + 0.5) * step, tile.y - (np.arange(n) + 0.5) * step)
        e, s = (x, y) if tile.epsg == ZONE33 else Transformer.from_crs(tile.epsg, ZONE33, always_xy=True).transform(x, y)
        values = self.truth(band, e, s, overpass)
        if band != "SCL":
            values = np.clip(values + self.offset(store, overpass, baseline), 1, 65535)
        if overpass.swath is not None:
            west, south, east, north = overpass.swath.bounds
            values = np.where((e > west) & (e < east) & (s > south) & (s < north), values, 0)
        dtype = "uint8" if band == "SCL" else "uint16"
        profile = dict(driver="GTiff", width=n, height=n, count=1, dtype=dtype, crs=tile.epsg, nodata=None if store == "pc" else 0,
                       transform=from_origin(tile.x, tile.y, step, step))
        with MemoryFile() as plain, MemoryFile() as cog:
            with plain.open(**profile) as file:
                file.write(values.astype(dtype), 1)
            with plain.open() as file:
                rasterio.shutil.copy(file, cog.name, driver="COG", blocksize=128, compress="deflate",
                                     overview_resampling="nearest" if band == "SCL" else "average")
            return cog.read()

    @staticmethod
    def offset(store: str, overpass: Pass, baseline: str) -> int:
        "What is added to the pixels of a store."
        if float(baseline) < 4:
            return 0
        return 0 if store == "l2a" and overpass.shifted else 1000

    # the STAC API

    def items(self, api: str, collection: str) -> list[dict]:
        out = []
        for number, overpass in enumerate(self.passes):
            for tile in self.tiles.values():
                if tile.name not in (overpass.tiles or self.tiles) or collection not in (overpass.collections or [collection]):
                    continue
                seen = self._seen(tile, overpass)
                if seen.is_empty:
                    continue
                for baseline in overpass.baselines if api == "pc" else overpass.baselines[-1:]:
                    out.append(self._item(api, collection, number, tile, baseline, seen))
        return sorted(out, key=lambda item: item["properties"]["datetime"], reverse=True)

    def _item(self, api, collection, number, tile, baseline, seen) -> dict:
        overpass = self.passes[number]
        stamp, sat = overpass.when.strftime("%Y%m%dT%H%M%S"), "S2" + overpass.platform[-1].upper()
        uri = f"{sat}_MSIL2A_{stamp}_N{baseline.replace('.', '')}_R{overpass.orbit:03d}_T{tile.name}_{stamp}"
        lonlat = moved(seen.segmentize(500), tile.epsg, 4326)
        sun = {"view:sun_azimuth": 152.5, "view:sun_elevation": 57.25}
        late = timedelta(seconds=sorted(self.tiles).index(tile.name) if api == "es" else 0)   # each tile has its own time there
        properties = {
            "datetime": (overpass.when + late).isoformat().replace("+00:00", "Z"),
            "eo:cloud_cover": 100 * overpass.clouds,
            "s2:processing_baseline": baseline, "s2:product_uri": f"{uri}.SAFE", "constellation": "sentinel-2",
            "s2:datatake_id": f"G{sat}_{stamp}_028117_N{baseline}", "s2:generation_time": f"20{baseline[:2]}-01-01T00:00:00Z"}
        if api == "pc":
            properties |= {"platform": overpass.platform.title(), "proj:epsg": tile.epsg, "s2:mgrs_tile": tile.name,
                           "sat:relative_orbit": overpass.orbit, "s2:mean_solar_zenith": 32.75, "s2:mean_solar_azimuth": 152.5}
            name, store = uri, "pc"
        elif collection == "sentinel-2-c1-l2a":
            properties |= sun | {"platform": overpass.platform, "proj:code": f"EPSG:{tile.epsg}", "grid:code": f"MGRS-{tile.name}",
                                 "view:incidence_angle": 3.5}
            name, store = f"{sat}_T{tile.name}_{stamp}_L2A", "c1"
        else:
            properties |= sun | {"platform": overpass.platform, "proj:epsg": tile.epsg, "grid:code": f"MGRS-{tile.name}",
                                 "earthsearch:boa_offset_applied": overpass.told}
            name, store = f"{sat}_{tile.name}_{stamp[:8]}_0_L2A", "l2a"
        keys = dict(zip(BANDS if api == "pc" else COMMON, BANDS)) | {"SCL" if api == "pc" else "scl": "SCL"}
        assets = {key: self._asset(store, number, baseline, tile, band) for key, band in keys.items()}
        return {"type": "Feature", "stac_version": "1.0.0", "id": name, "collection": collection, "properties": properties,
                "stac_extensions": ["https://stac-extensions.github.io/projection/v1.1.0/schema.json",
                                    "https://stac-extensions.github.io/raster/v1.1.0/schema.json"],
                "geometry": mapping(lonlat), "bbox": list(lonlat.bounds), "links": [], "assets": assets}

    def _asset(self, store, number, baseline, tile, band) -> dict:
        step = METRES[band]
        n, host = round(tile.width / step), f"http://{BLOB_HOST}/sentinel2-l2" if store == "pc" else f"{self.url}/{store}"
        asset = {"href": f"{host}/{number}/{baseline}/{tile.name}/{band}.tif", "roles": ["data"],
                 "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                 "proj:shape": [n, n], "proj:transform": [step, 0, tile.x, 0, -step, tile.y]}
        if store != "pc":   # sentinel-2-l2a says this whatever its pixels are
            bands = {"nodata": 0, "data_type": "uint8" if band == "SCL" else "uint16", "spatial_resolution": step}
            if band != "SCL":
                bands |= {"scale": 0.0001, "offset": -0.1 if float(baseline) >= 4 else 0}
            asset["raster:bands"] = [bands]
        return asset

    def _search(self, api: str, query: dict) -> dict:
        found = [i for c in query["collections"] for i in (self.items(api, c) if c in self.collections else [])]
        area = shape(query["intersects"]) if "intersects" in query else box(*query.get("bbox", (-180, -90, 180, 90)))
        start, end = (_time(t) for t in query.get("datetime", "0001-01-01T00:00:00Z/9999-01-01T00:00:00Z").split("/"))
        found = [i for i in found if shape(i["geometry"]).intersects(area) and i["id"] in query.get("ids", [i["id"]])
                 and start <= _time(i["properties"]["datetime"]) <= end]
        found = [*self.odd, *found]
        first = int(query.get("token", 0)) % (len(found) if self.paging == "endless" and found else 10**9)
        page = {"type": "FeatureCollection", "features": found[first:first + self.page], "numberMatched": len(found), "links": []}
        if self.paging == "lost" and first + self.page < len(found):
            page["links"] = [{"rel": "next"}]
        elif first + self.page < len(found) or self.paging == "endless":
            page["links"] = [{"rel": "next", "method": "POST", "type": "application/geo+json", "href": f"{self.url}/{api}/v1/search",
                              "body": {**query, "token": first + self.page}}]
        return page

    # answers

    def respond(self, request, handler):
        fault = next((f for f in (fault(request) for fault in self.faults) if f is not None), None)
        if fault == "stall":
            time.sleep(30)
        elif isinstance(fault, int):
            return self.send(handler, {"description": "the server is unwell"}, fault)
        if match := re.fullmatch(r"/(es|pc)/v1(/search)?", request.path):
            return self.send(handler, self._search(match[1], request.json()) if match[2] else self._landing(match[1]))
        if request.path == f"/sas/token/{BLOB_HOST.split('.')[0]}/sentinel2-l2":
            if fault == "junk":
                return self.send(handler, {"error": "no token"})
            expiry = datetime.now(timezone.utc) + timedelta(seconds=self.lifetime)
            return self.send(handler, {"msft:expiry": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"), "token": TOKEN})
        if match := re.fullmatch(r"/(c1|l2a|sentinel2-l2)/(\d+)/([\d.]+)/(\w+)/(\w+)\.tif", request.path):
            if match[1] == "sentinel2-l2" and "sig" not in request.query:
                return self.send(handler, "Public access is not permitted on this storage account.", 409)
            store = match[1].replace("sentinel2-l2", "pc")
            return self._part(request, handler, self.cog(store, int(match[2]), *match.group(3, 4, 5)), fault == "cut")
        self.send(handler, {"description": f"no {request.path} here"}, 404)

    def _landing(self, api: str) -> dict:
        root = f"{self.url}/{api}/v1"
        return {"type": "Catalog", "id": api, "stac_version": "1.0.0", "description": "Sentinel-2",
                "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
                "links": [{"rel": "self", "href": root}, {"rel": "root", "href": root},
                          {"rel": "search", "href": f"{root}/search", "method": "POST", "type": "application/geo+json"}]}

    def _part(self, request, handler, body: bytes, cut: bool):
        "The bytes that were asked for; half of them when `cut`."
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        start, end = (int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)) if wanted else (0, len(body) - 1)
        if start >= len(body):
            return self.send(handler, b"", 416, headers={"Content-Range": f"bytes */{len(body)}"})
        headers = {"Accept-Ranges": "bytes"} | ({"Content-Range": f"bytes {start}-{end}/{len(body)}"} if wanted else {})
        part = body[start:end + 1]
        if cut and request.method == "GET":
            handler.send_response(206 if wanted else 200)
            for name, value in {"Content-Length": str(len(part)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(part[:len(part) // 2])
            handler.close_connection = True
            return None
        self.send(handler, part, 206 if wanted else 200, "image/tiff", headers)
