"The Sentinel Hub of the Copernicus Data Space on 127.0.0.1: token, catalogue, Process API."
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import parse_qsl

import numpy as np
import shapely
from loopback import Loopback
from pyproj import Transformer
from rasterio.io import MemoryFile
from rasterio.transform import from_bounds

ANGLES = {"sunZenithAngles": 35.5, "sunAzimuthAngles": 158.25, "viewZenithMean": 4.75, "viewAzimuthMean": 110.0}
FIVE_METRES = {"B02": 10, "B03": 10, "B04": 10, "B08": 10}      # the others are 20 m


def reflectance(band, x, y):
    "Digital number of native Sentinel-2 pixels at map coordinates [m]: smooth, and different in every pixel."
    step = FIVE_METRES.get(band, 20)
    x, y = (np.floor(v / step) * step + step / 2 for v in (x, y))
    phase = sum(map(ord, band))
    return np.rint(1500 + 5 * (phase % 97) + 700 * np.sin(x / 900 + phase) * np.cos(y / 700) + 300 * np.sin(x / 31) * np.sin(y / 43 + phase)).astype("int32")


def no_cloud(x, y):
    "Clear everywhere."
    return np.zeros(np.broadcast(x, y).shape, bool)


@dataclass
class Pass:
    """What one satellite saw: `tiles` are (MGRS name, lon/lat polygon); `cloud(x, y)` the clouds on map coordinates.

    `told` is the cloud cover [%] that the catalogue tells of the tiles; an `empty` pass is listed, but has no data.
    """

    time: datetime
    tiles: list
    platform: str = "S2B"
    told: object = 10.0
    cloud: Callable = no_cloud
    empty: bool = False

    def features(self):
        for n, (mgrs, area) in enumerate(self.tiles):
            moment = self.time + timedelta(seconds=14 * n)
            stamp = f"{self.time:%Y%m%dT%H%M%S}"
            yield {"type": "Feature", "stac_version": "1.0.0", "id": f"{self.platform}_MSIL2A_{stamp}_N0510_R065_T{mgrs}_{stamp}.SAFE",
                   "geometry": shapely.geometry.mapping(area), "bbox": area.bounds, "collection": "sentinel-2-l2a", "links": [], "assets": {},
                   "properties": {"datetime": f"{moment:%Y-%m-%dT%H:%M:%SZ}", "platform": f"sentinel-{self.platform[1:].lower()}",
                                  "eo:cloud_cover": self.told}}


class SentinelHubSite(Loopback):
    """Renders passes. What goes wrong is switched by attributes.

    lifetime : seconds that a token is good for, whatever `told_lifetime` says; quota : units that are left; busy : list of
    Retry-After values [ms], one for each process request that is answered 429; broken : number of requests answered 503;
    page : items on a page of the catalogue; odd : what it lists besides; endless : whether there is always a next page; dies : called before each process request.
    """

    client_id, secret = "fake-client-id", "s3cret-Client/Secret+value"

    def __init__(self, passes, formula=reflectance):
        super().__init__()
        self.passes, self.formula, self.tokens = list(passes), formula, {}
        self.lifetime = self.told_lifetime = 600.0
        self.quota, self.busy, self.broken, self.page, self.charged, self.dies = 1e6, [], 0, 3, 0.0, lambda: None
        self.odd, self.endless = [], False

    def asked(self, end):
        "Requests whose path ends so."
        return [r for r in self.log if r.path.endswith(end)]

    @property
    def windows(self):
        "Process requests that ask for bands."
        return [r.json() for r in self.asked("/process") if "B02" in r.json()["evalscript"] or "B05" in r.json()["evalscript"]]

    def respond(self, request, handler):
        if request.path.endswith("/token"):
            return self.token(request, handler)
        if self.broken > 0:
            self.broken -= 1
            return self.fail(handler, 503, "Service Unavailable")
        if self.tokens.get(request.headers.get("authorization", "")[7:], 0) < time.time():
            return self.fail(handler, 401, f"token {request.headers.get('authorization')} is expired")
        return self.catalogue(request, handler) if request.path.endswith("/search") else self.process(request.json(), handler)

    def fail(self, handler, status, message, code="COMMON", **headers):
        self.send(handler, {"error": {"status": status, "reason": "x", "message": message, "code": code}}, status, headers=headers)

    def token(self, request, handler):
        form = dict(parse_qsl(request.body.decode()))
        if (form.get("client_id"), form.get("client_secret"), form.get("grant_type")) != (self.client_id, self.secret, "client_credentials"):
            return self.send(handler, {"error": "invalid_client", "error_description": f"bad secret {form.get('client_secret')}"}, 401)
        token = f"token-{len(self.tokens)}.{'x' * 20}"
        self.tokens[token] = time.time() + self.lifetime
        self.send(handler, {"access_token": token, "token_type": "Bearer", "expires_in": self.told_lifetime})

    def catalogue(self, request, handler):
        query = request.json()
        start, end = (datetime.fromisoformat(t.replace("Z", "+00:00")) for t in query["datetime"].split("/"))
        area = shapely.geometry.shape(query["intersects"])
        found = [f for p in self.passes for f in p.features() if shapely.geometry.shape(f["geometry"]).intersects(area)
                 and start <= datetime.fromisoformat(f["properties"]["datetime"].replace("Z", "+00:00")) <= end]
        found = [*self.odd, *found]
        first = query.get("next", 0) % (len(found) if self.endless else 10**9)
        context = {"limit": self.page, "returned": len(found[first:first + self.page])}
        if first + self.page < len(found) or self.endless:
            context["next"] = first + self.page
        self.send(handler, {"type": "FeatureCollection", "features": found[first:first + self.page], "links": [], "context": context})

    def process(self, query, handler):
        self.dies()
        if self.busy:
            return self.fail(handler, 429, "slow down", "RATE_LIMIT_EXCEEDED", **{"Retry-After": str(self.busy.pop(0))})
        width, height, script = query["output"]["width"], query["output"]["height"], query["evalscript"]
        if max(width, height) > 2500:
            return self.fail(handler, 400, "The width and height must be at most 2500 pixels", "RENDERER_EXCEPTION")
        bands = json.loads(re.search(r"bands: (\[.*?\])", script)[1])
        dtype = re.search(r'sampleType: "(\w+)"', script)[1].lower()
        assert 'mosaicking: "SIMPLE"' in script
        units = width * height / 512**2 * (len(bands) - bands.count("dataMask")) / 3 * (2 if dtype == "float32" else 1)
        if self.charged + units > self.quota:
            return self.fail(handler, 403, "Insufficient processing units or requests available in your account.",
                             "ACCESS_INSUFFICIENT_PROCESSING_UNITS")
        self.charged += units
        self.send(handler, self.render(query, bands, dtype, width, height), content_type="image/tiff",
                  headers={"X-ProcessingUnits-Spent": f"{units:.6f}"})

    def render(self, query, bands, dtype, width, height):
        "The TIFF of a request: nearest native pixel at each pixel centre."
        bounds, data = query["input"]["bounds"], query["input"]["data"][0]
        assert set(data["processing"][k] for k in ("upsampling", "downsampling")) == {"NEAREST"}
        west, south, east, north = bounds["bbox"]
        x, y = np.meshgrid(west + (np.arange(width) + 0.5) * (east - west) / width, north - (np.arange(height) + 0.5) * (north - south) / height)
        crs = f"EPSG:{bounds['properties']['crs'].rpartition('/')[2]}"
        start, end = (datetime.fromisoformat(data["dataFilter"]["timeRange"][k].replace("Z", "+00:00")) for k in ("from", "to"))
        within = [p for p in self.passes if start <= p.time <= end and not p.empty]
        lon, lat = Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y)
        cube, seen = np.zeros((len(bands), height, width), "float64"), np.zeros((height, width), bool)
        for one in within:
            here = shapely.contains_xy(shapely.union_all([a for _, a in one.tiles]), lon, lat)
            cloud = one.cloud(x, y)
            for plane, band in zip(cube, bands):
                values = ANGLES[band] if band in ANGLES else np.where(cloud, 9, 4) if band == "SCL" else np.ones_like(x) if band == "dataMask" \
                    else np.where(cloud, 8000, self.formula(band, x, y)) + (0 if data["processing"].get("harmonizeValues", True) else 1000)
                plane[here] = np.broadcast_to(values, here.shape)[here]
            seen |= here
        nodata = float(re.search(r"NODATA = (-?\d+)", query["evalscript"])[1])
        planes = [np.where(seen, p, 0 if b == "SCL" else nodata) for p, b in zip(cube, bands) if b != "dataMask"]
        with MemoryFile() as memory:
            with memory.open(driver="GTiff", width=width, height=height, count=len(planes), dtype=dtype, crs=crs,
                             transform=from_bounds(west, south, east, north, width, height)) as file:
                file.write(np.stack(planes).astype(dtype))
            return memory.read()
