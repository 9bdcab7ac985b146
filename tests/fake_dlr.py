"""DLR's STAC catalogue on the loopback address, with what it does well and what it does badly.

`item` makes a scene's record as the service sends it; the template is a real record of 2026, trimmed.
"""
import copy
import json
import time
from datetime import datetime, timedelta, timezone

from loopback import Loopback
from pyproj import Transformer

COLLECTION = "ENMAP_HSI_L2A"
DOWNLOAD = "https://download.geoservice.dlr.de"
LAYERS = {
    "image": "SPECTRAL_IMAGE_COG.TIF",
    "vnir": "QL_VNIR_COG.TIF",
    "swir": "QL_SWIR_COG.TIF",
    "quality_classes": "QL_QUALITY_CLASSES_COG.TIF",
    "quality_cloud": "QL_QUALITY_CLOUD_COG.TIF",
    "quality_cloud_shadow": "QL_QUALITY_CLOUDSHADOW_COG.TIF",
    "quality_haze": "QL_QUALITY_HAZE_COG.TIF",
    "quality_cirrus": "QL_QUALITY_CIRRUS_COG.TIF",
    "quality_snow": "QL_QUALITY_SNOW_COG.TIF",
    "quality_testflags": "QL_QUALITY_TESTFLAGS_COG.TIF",
    "defective_pixel_mask": "QL_PIXELMASK_COG.TIF",
}
OTHERS = {"metadata": ("METADATA.XML", "application/xml"), "thumbnail": ("QL_VNIR_COG_thumbnail.png", "image/png")}
GEOTIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
TEMPLATE = {
    "type": "Feature",
    "stac_version": "1.0.0",
    "stac_extensions": [
        "https://stac-extensions.github.io/eo/v1.1.0/schema.json",
        "https://stac-extensions.github.io/projection/v1.0.0/schema.json",
        "https://stac-extensions.github.io/scientific/v1.0.0/schema.json",
        "https://stac-extensions.github.io/view/v1.1.0/schema.json",
    ],
    "collection": COLLECTION,
    "properties": {
        "platform": "enmap",
        "sat:relative_orbit": "8045",
        "processing:level": "L2A",
        "data_type": "int16",
        "enmap:nodata": -32768,
        "enmap:overallQuality": 0,
        "enmap:overallQualitySWIR": 0,
        "enmap:overallQualityVNIR": 0,
        "enmap:archivedVersion": "01.04.00",
        "raster:nodata": "null",
        "eo:snow_cover": 0,
        "view:sun_azimuth": 173.883623,
        "view:sun_elevation": 40.28677,
        "enmap:acrossOffNadirAngle": 4.60153589006,
        "enmap:alongOffNadirAngle": 0.00071922503995,
        "enmap:cirrus_cover": 0,
        "enmap:cloud_shadow": 0,
        "enmap:haze_cover": 1,
        "enmap:sceneAOT": 102,
        "enmap:sceneWV": 1104,
        "enmap:water_cover": 6,
    },
}


def item(datatake=44371, tile=33, start="2023-09-29T10:47:11Z", lon=11.13, lat=47.14, cloud=0, *, version="01.05.02",
         processed="2026-01-06T18:52:19Z", folder=True, download=DOWNLOAD, **properties):
    """A scene's record, some 30 km around `lon`, `lat`.

    `properties` replaces or adds properties, with double underscores for colons (`enmap__sceneAOT="-999"`).
    `folder=False` leaves the scene's folder out of the addresses of its files, as in some old records.
    """
    began, done = (datetime.fromisoformat(t.replace("Z", "+00:00")) for t in (start, processed))
    name = (f"ENMAP01-____L2A-DT{datatake:010d}_{began:%Y%m%dT%H%M%S}Z_{tile:03d}_V{version.replace('.', '')}_{done:%Y%m%dT%H%M%S}Z")
    record = copy.deepcopy(TEMPLATE)
    record["id"] = name
    corners = [(-0.147, 0.166), (-0.241, -0.105), (0.148, -0.158), (0.245, 0.113), (-0.147, 0.166)]
    ring = [[round((lon + x + 180) % 360 - 180, 6), round(lat + y, 6)] for x, y in corners]
    record["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    record["bbox"] = [min(x for x, _ in ring), min(y for _, y in ring), max(x for x, _ in ring), max(y for _, y in ring)]
    epsg, grid = _grid(lon, ring)
    record["properties"].update({
        "version": version, "proj:epsg": epsg, "datetime": _text(began + timedelta(seconds=2.25)),
        "start_datetime": _text(began + timedelta(seconds=0.445922)), "end_datetime": _text(began + timedelta(seconds=4.9)),
        "eo:cloud_cover": cloud, "enmap:datatakeID": f"{datatake:010d}", "enmap:tileID": str(tile),
        "enmap:processingDate": _text(done),
        "sci:citation": f"DLR ({done:%Y}): EnMAP L0 Product {datatake:010d}_{tile} doi: 10.15489/rlyibn8gjc58 Processed to level 2A",
        **{key.replace("__", ":"): value for key, value in properties.items()}})
    base = f"{download}/ENMAP/files/L2A/{began:%Y/%m/%d}/DT{datatake:010d}/{tile:02d}/" + (f"{name}/" if folder else "")
    record["assets"] = {key: {"href": f"{base}{name}-{end}", "type": GEOTIFF, **grid} for key, end in LAYERS.items()}
    record["assets"] |= {key: {"href": f"{base}{name}-{end}", "type": kind} for key, (end, kind) in OTHERS.items()}
    return record


def _text(time):
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _grid(lon, ring):
    """EPSG code and proj: fields of the UTM grid around a footprint, its edges 15 m off the multiples of 30."""
    epsg = (32600 if ring[0][1] >= 0 else 32700) + int((lon + 180) % 360 // 6) + 1
    x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(*zip(*ring))
    west, north = (min(x) - 15) // 30 * 30 + 15, -((-max(y) - 15) // 30 * 30 + 15)
    shape = [int((north - min(y)) // 30) + 1, int((max(x) - west) // 30) + 1]
    return epsg, {"proj:epsg": epsg, "proj:shape": shape, "proj:transform": [30.0, 0.0, west, 0.0, -30.0, north, 0.0, 0.0, 1.0]}


def strip(datatake, start, lon, lat, clouds, **properties):
    """Records of the tiles that one overpass takes, north to south."""
    began = datetime.fromisoformat(start.replace("Z", "+00:00"))
    return [item(datatake, n + 1, _text(began + timedelta(seconds=4.45 * n)), lon - 0.096 * n, lat - 0.267 * n, cloud, **properties)
            for n, cloud in enumerate(clouds)]


def season(**properties):
    """Records of a summer over Bavaria, with every kind of trouble that the catalogue holds."""
    records = strip(20001, "2022-06-12T10:31:02Z", 11.6, 48.6, [3, "7", 0, 12, 64], version="01.03.02", **properties)
    records += strip(30002, "2022-07-23T10:25:40Z", 12.2, 48.5, [0, 1, 2, 9], enmap__acrossOffNadirAngle="-21.4", **properties)
    records += strip(40003, "2022-08-05T10:38:11Z", 11.1, 48.4, ["0", 22, 5], folder=False, **properties)
    records += strip(20001, "2022-06-12T10:31:02Z", 11.6, 48.6, [4], version="01.05.02", processed="2026-03-01T00:00:00Z", **properties)
    records += [item(50004, 7, "2022-08-20T10:30:00Z", 11.9, 48.3, 1, enmap__sceneAOT=-999, **properties),
                item(50005, 8, "2022-08-24T10:30:00Z", 11.9, 48.3, 1, enmap__sceneAOT="-999", **properties),
                item(60006, 2, "2022-09-02T10:30:00Z", 11.4, 48.2, 2, enmap__overallQuality="2", **properties)]
    return records


def utc(text):
    """An aware datetime, or None for an open end."""
    if text in ("", ".."):
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(timezone.utc)


class DlrStac(Loopback):
    """The catalogue, at `stac_url`.

    Parameters
    ----------
    items : list of dict
        The records.
    page_limit : int
        A larger `limit` is refused.
    cql2 : str
        What a filter does: 'works', 'ignored', 'refused' (400), 'broken' (500), or 'stalls' (no answer for `stall` seconds).
    paging : str
        'next' as it should be, 'always' (a next link on the last page too), 'stuck' (startIndex has no effect),
        'get' (the next link of a POST is one to GET, without the box), 'lost' (a next link that leads nowhere), 'endless' (the last page
        has a next one, with the same scenes under new names, and so on).
    counts : bool
        Whether it tells how many there are.
    heeds_time : bool
        Whether it searches in the span of time.
    post : bool
        False answers 405 to a POST.
    faults : list
        What the next searches meet, one each: a status, (status, headers), 'stall', 'cut' (a body cut short), 'html',
        'garbage', or a dict or list that is sent as it is.
    """

    def __init__(self, items=None, *, page_limit=500, cql2="works", paging="next", post=True, faults=(), stall=2.0, counts=True,
                 heeds_time=True):
        super().__init__()
        self.items = season() if items is None else items
        self.page_limit, self.cql2, self.paging, self.post, self.stall = page_limit, cql2, paging, post, stall
        self.faults, self.counts, self.heeds_time = list(faults), counts, heeds_time

    @property
    def stac_url(self):
        return f"{self.url}/eoc/ogc/stac/v1"

    @property
    def searches(self):
        """The searches asked so far."""
        return [request for request in self.log if request.path.endswith("/search")]

    def respond(self, request, handler):
        path = request.path.partition("/stac/v1")[2].rstrip("/")
        if path == "/search":
            self._search(request, handler)
        elif path == "":
            self.send(handler, self._root())
        elif path == f"/collections/{COLLECTION}":
            self.send(handler, {"type": "Collection", "id": COLLECTION, "stac_version": "1.0.0", "license": "proprietary"})
        else:
            self.send(handler, {"code": "404", "description": "not found"}, 404)

    def _root(self):
        links = [{"rel": "search", "href": f"{self.stac_url}/search", "method": m, "type": "application/geo+json"} for m in ("GET", "POST")]
        return {"type": "Catalog", "id": "eoc", "stac_version": "1.0.0", "description": "EOC", "links": links,
                "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]}

    def _search(self, request, handler):
        if request.method == "POST" and not self.post:
            return self.send(handler, {"description": "method not allowed"}, 405)
        with self._lock:
            fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            return self._fault(fault, handler)
        asked = request.json() if request.method == "POST" else self._parsed(request.query)
        if int(asked.get("limit", 10)) > self.page_limit:
            return self.send(handler, {"code": "400", "description": f"limit must be at most {self.page_limit}"}, 400)
        if "filter" in asked and self.cql2 in ("refused", "broken"):
            return self.send(handler, {"description": "filter failed"}, 400 if self.cql2 == "refused" else 500)
        if "filter" in asked and self.cql2 == "stalls":
            return time.sleep(self.stall)
        self.send(handler, self._page(asked, request.method), content_type="application/geo+json")

    def _fault(self, fault, handler):
        if fault == "stall":
            time.sleep(self.stall)
        elif fault == "cut":
            handler.send_response(200)
            handler.send_header("Content-Length", "5000")
            handler.end_headers()
            handler.wfile.write(b'{"type": "FeatureCollection", "features": [')
            handler.close_connection = True
        elif fault in ("html", "garbage"):
            self.send(handler, "<html>maintenance</html>" if fault == "html" else '{"features": [', content_type="text/html")
        elif isinstance(fault, dict | list):
            self.send(handler, fault)
        else:
            status, headers = fault if isinstance(fault, tuple) else (fault, {})
            self.send(handler, {"code": str(status), "description": "as the test wanted"}, status, headers=headers)

    @staticmethod
    def _parsed(query):
        asked = dict(query)
        if "bbox" in asked:
            asked["bbox"] = [float(v) for v in asked["bbox"].split(",")]
        if "filter" in asked:
            asked["filter"] = json.loads(asked["filter"])
        return {**asked, "collections": asked.get("collections", COLLECTION).split(",")}

    def _page(self, asked, method):
        matching = [record for record in self.items if self._matches(record, asked)]
        start, limit = int(asked.get("startIndex", 0)), int(asked.get("limit", 10))
        page = matching[:limit] if self.paging == "stuck" else matching[start:start + limit]
        if self.paging == "endless" and start >= len(matching):
            page = [{**record, "id": record["id"].replace("DT00000", f"DT{start:05}")} for record in matching[:limit]]
        answer = {"type": "FeatureCollection", "numberMatched": len(matching), "numberReturned": len(page), "features": page, "links": []}
        if not self.counts:
            del answer["numberMatched"]
        if start + limit < len(matching) and self.paging == "lost":
            answer["links"].append({"rel": "next", "type": "application/geo+json", "href": f"{self.stac_url}/search"})
        elif start + limit < len(matching) or self.paging in ("always", "stuck", "endless"):
            link = {"rel": "next", "type": "application/geo+json", "href": f"{self.stac_url}/search"}
            if method == "POST" and self.paging != "get":
                link |= {"method": "POST", "body": {**asked, "startIndex": start + limit}}
            else:
                link["href"] += f"?startIndex={start + limit}&limit={limit}"
            answer["links"].append(link)
        return answer

    def _matches(self, record, asked):
        properties = record.get("properties") if isinstance(record, dict) else None
        if not isinstance(properties, dict):
            return True
        if COLLECTION not in asked.get("collections", [COLLECTION]):
            return False
        if "bbox" in asked and "bbox" in record:
            west, south, east, north = asked["bbox"]
            w, s, e, n = record["bbox"]
            if e < west or w > east or n < south or s > north:
                return False
        if self.heeds_time and "datetime" in asked and properties.get("datetime"):
            first, last = (utc(part) for part in asked["datetime"].split("/"))
            taken = utc(properties["datetime"])
            if first and taken < first or last and taken > last:
                return False
        if "filter" in asked and self.cql2 == "works":
            return float(properties.get("eo:cloud_cover") or 0) <= asked["filter"]["args"][1]
        return True
