"""DLR's download server with its sign-on, on the loopback address, with every fault that has been seen there."""
import base64
import hashlib
import re
import secrets
import time
from collections import Counter
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import parse_qsl, quote

import rasterio
from loopback import Loopback
from shapely.geometry import box

from enmap_sharpener.scraping.dlr_items import SceneItem

LOGIN_PAGE = """<!DOCTYPE html><html><head><title>Login - EOC Geoservice</title></head><body>
<form method="post" id="delegated" action="login"><input type="hidden" name="client_name" value="eolab2_enmap-dl"/>
<input type="hidden" name="execution" value="{execution}"/><input type="hidden" name="_eventId" value="delegatedAuthenticationRedirect"/>
<button type="submit">EO-Lab</button></form>
<form method="post" id="fm1" action="{action}"><input type="text" id="username" name="username" value=""/>
<input type="password" id="password" name="password"/><input type="hidden" name="execution" value="{execution}"/>
<input type="hidden" name="_eventId" value="submit"/><input type="hidden" name="geolocation"/>
<input type="submit" name="submitBtn" value="Login"/></form><a href="#">Terms of use</a></body></html>"""
POLICY_PAGE = """<!DOCTYPE html><html><head><title>Acceptable Usage Policy</title></head><body><h3>Acceptable Usage Policy</h3>
<form method="post" action="login"><input type="hidden" name="execution" value="{execution}"/>
<input type="hidden" name="_eventId" value="submit"/><button type="submit">Accept</button></form></body></html>"""
STAMP = "Mon, 23 Oct 2023 10:00:00 GMT"


class SignOn(Loopback):
    """The CAS of the sign-on. `policy`: it wants its usage policy accepted first; `accepted` counts who fell for that."""

    def __init__(self, users=None, policy=False, remembers=False, action="login", outage=0):
        super().__init__()
        self.users, self.policy, self.remembers, self.action, self.outage = users or {"ada": "p%ss:wörd"}, policy, remembers, action, outage
        self.tickets, self.cookies, self.executions = {}, set(), {}
        self.issued, self.accepted, self.failures, self.logins = set(), 0, 0, 0     # issued: every secret that was handed out

    def respond(self, request, handler):
        if self.outage:
            self.outage -= 1
            return self.send(handler, "<html>Service Unavailable</html>", 503, "text/html")
        cookies = dict(re.findall(r"([\w-]+)=([^;\s]+)", request.headers.get("cookie", "")))
        if request.path != "/eoc/auth/login":
            return self.send(handler, "no such page", 404)
        if request.method == "GET":
            if cookies.get("TGC") in self.cookies:
                return self._ticket(handler, request.query["service"])
            return self._page(handler, LOGIN_PAGE)
        form = dict(parse_qsl(request.body.decode(), keep_blank_values=True))
        known = self.executions.pop(form.get("execution"), None)
        if not known or known != request.headers.get("x-xsrf-token") or known != cookies.get("XSRF-TOKEN") or "client_name" in form:
            return self.send(handler, "<html>forged</html>", 403, "text/html")
        if "password" not in form:
            self.accepted += 1
        elif self.users.get(form.get("username")) != form["password"]:
            self.failures += 1
            return self._page(handler, LOGIN_PAGE, 401)
        elif self.policy:
            return self._page(handler, POLICY_PAGE)
        self.logins += 1
        return self._ticket(handler, request.query["service"])

    def _page(self, handler, page, status=200):
        token, execution = secrets.token_hex(8), f"e1s{secrets.token_hex(4)}"
        self.executions[execution] = token
        self.issued.add(token)
        headers = {"Set-Cookie": [f"XSRF-TOKEN={token}; Path=/", f"JSESSIONID={secrets.token_hex(8)}; Path=/eoc"]}
        self.send(handler, page.format(execution=execution, action=self.action), status, "text/html;charset=UTF-8", headers)

    def _ticket(self, handler, service):
        ticket, granting = f"ST-{secrets.token_hex(8)}", f"TGT-{secrets.token_hex(8)}"
        self.tickets[ticket] = service
        self.issued |= {ticket, granting}
        if self.remembers:
            self.cookies.add(granting)
        mark = "&" if "?" in service else "?"
        self.send(handler, b"", 302, headers={"Location": f"{service}{mark}ticket={ticket}", "Set-Cookie": f"TGC={granting}; Path=/eoc"})


class DownloadSite(Loopback):
    """The download server: `files` by path, behind a login unless `public`.

    `basic`: 'accept', 'refuse' (403) or 'ignore' (on to the login page). `lasts`: requests that a session serves. `allowed`: whether
    accounts have the permission. `wall`: 'redirect', or 'page' for the login page in place of the file. `faults`: by end of a path, or
    '' for all, a list whose first entry is the next fault: a status, 'cut', 'stall', 'reset', 'html', 'plain html', 'elsewhere',
    'damaged', 'zeros' (from the middle on), 'flipped' (one bit of the last byte), '429 in 0.2', '429 at date', 'range error', 'no ranges'.
    `pace`: (bytes, seconds) between pieces of a body. `heeds_if_range`: whether a part is only sent of the version that is asked for.
    `told_length`: False leaves the whole length out of Content-Range.
    """

    def __init__(self, files=None, sso=None, users=None, basic="accept", public=False, lasts=10**9, wall="redirect", pace=None,
                 version="etag"):
        super().__init__()
        self.files, self.sso, self.users = files or {}, sso, users or {"ada": "p%ss:wörd"}
        self.basic, self.public, self.lasts, self.wall, self.pace, self.version = basic, public, lasts, wall, pace, version
        self.allowed, self.elsewhere, self.faults, self.sessions, self.sent = True, None, {}, {}, []
        self.heeds_if_range, self.told_length = True, True

    def href(self, path) -> str:
        "Address of a file."
        return self.url + path

    def session(self) -> str:
        "The cookie that a browser would have got."
        token = "eyJ" + secrets.token_hex(12)
        self.sessions[token] = self.lasts
        return token

    def respond(self, request, handler):
        if ticket := request.query.get("ticket"):
            return self._enter(request, handler, ticket)
        refusal = self._refusal(request)
        if refusal == "wall":
            return self._wall(request, handler)
        fault = self._fault(request.path)
        if refusal or fault in (401, 403):
            return self.send(handler, "<html>Forbidden</html>", refusal or fault, "text/html")
        if request.path not in self.files or fault == 404:
            return self.send(handler, "<html>Not Found</html>", 404, "text/html")
        self._file(request, handler, self.files[request.path], fault)

    def _refusal(self, request):
        "None where a request is let in, else a status or 'wall'."
        if self.public:
            return None
        name = request.headers.get("authorization", "").removeprefix("Basic ")
        if name and self.basic != "ignore":
            user, _, password = base64.b64decode(name).decode().partition(":")
            return None if self.basic == "accept" and self.allowed and self.users.get(user) == password else 403
        token = dict(re.findall(r"([\w-]+)=([^;\s]+)", request.headers.get("cookie", ""))).get("session")
        with self._lock:
            if self.sessions.get(token, 0) < 1:
                return "wall"
            self.sessions[token] -= 1
        return None if self.allowed else 403

    def _enter(self, request, handler, ticket):
        "A ticket of the sign-on becomes a session."
        if self.sso is None or self.sso.tickets.pop(ticket, None) is None:
            return self.send(handler, "<html>bad ticket</html>", 403, "text/html")
        self.send(handler, b"", 302, headers={"Location": self.url + request.path, "Set-Cookie": f"session={self.session()}; Path=/; HttpOnly"})

    def _wall(self, request, handler):
        target = f"{self.sso.url}/eoc/auth/login?service={quote(self.url + request.path, safe='')}" if self.sso else "/login"
        if self.wall == "redirect" and self.sso:
            return self.send(handler, b"", 302, headers={"Location": target})
        self.send(handler, LOGIN_PAGE.format(execution="e1", action=target.replace("&", "&amp;")), 200, "text/html")

    def _fault(self, path):
        "The next fault for a path."
        with self._lock:
            for end, list_ in self.faults.items():
                if list_ and path.endswith(end):
                    return list_.pop(0)
        return None

    def _file(self, request, handler, body, fault):
        "A file, or what a fault makes of it."
        if isinstance(fault, int):
            return self.send(handler, "<html>trouble</html>", fault, "text/html")
        if fault == "elsewhere":
            return self.send(handler, b"", 302, headers={"Location": self.elsewhere + request.path})
        if isinstance(fault, str) and fault.startswith("429"):
            date = format_datetime(datetime.now(timezone.utc) + timedelta(seconds=2), usegmt=True)
            return self.send(handler, "slow down", 429, headers={"Retry-After": date if "date" in fault else fault.split()[-1]})
        if fault in ("html", "plain html"):
            kind = "text/html" if fault == "html" else "application/octet-stream"
            return self.send(handler, "\n<!-- x --><!DOCTYPE html><html>Maintenance</html>", 200, kind)
        if fault == "damaged":
            body = bytes(len(body))
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        if fault == "zeros":
            body = body[:len(body) // 2] + bytes(len(body) - len(body) // 2)
        if fault == "flipped":
            body = body[:-1] + bytes([body[-1] ^ 1])
        headers = {"etag": {"ETag": tag}, "modified": {"Last-Modified": STAMP}, "weak": {"ETag": "W/" + tag, "Last-Modified": STAMP}}
        self._stream(request, handler, body, fault, {"Accept-Ranges": "bytes", **headers.get(self.version, {})})

    def _stream(self, request, handler, body, fault, headers):
        "Send a body or a part of it, piece by piece; every part that left is written down."
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        version = request.headers.get("if-range")
        start, stop, status = 0, len(body), 200
        if fault == "range error" or asked and int(asked[1]) >= len(body):
            return self.send(handler, b"", 416, headers={"Content-Range": f"bytes */{len(body)}"})
        if asked and fault != "no ranges" and (version in (None, headers.get("ETag"), headers.get("Last-Modified")) or not self.heeds_if_range):
            start, status = int(asked[1]), 206
            stop = min(len(body), int(asked[2]) + 1) if asked[2] else len(body)
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body) if self.told_length else '*'}"
        handler.send_response(status)
        for name, value in {"Content-Type": "application/octet-stream", "Content-Length": str(stop - start), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        end = start + (stop - start) // 2 if fault in ("cut", "stall", "reset") else stop
        step, rest = self.pace or (1 << 16, 0)
        entry = [request.path, start, start]
        with self._lock:
            self.sent.append(entry)
        while entry[2] < end:
            piece = body[entry[2]:min(entry[2] + step, end)]
            entry[2] += len(piece)
            handler.wfile.write(piece)
            time.sleep(rest)
        if fault == "stall":
            time.sleep(1.5)
        handler.close_connection = handler.close_connection or end < stop

    def twice(self) -> dict:
        "Bytes of each file that were sent more than once."
        sums = Counter()
        for path in {p for p, _, _ in self.sent}:
            spans, reach = sorted((a, b) for p, a, b in self.sent if p == path), 0
            for start, stop in spans:
                sums[path] += max(0, min(stop, reach) - start)
                reach = max(reach, stop)
        return dict(sums)


class Stranger(Loopback):
    """Another host, where a redirect may lead: it hands out everything and remembers what it was told."""

    def __init__(self, files):
        super().__init__()
        self.files = files

    def respond(self, request, handler):
        if request.path in self.files:
            return self.send(handler, self.files[request.path], content_type="application/octet-stream",
                             headers={"Set-Cookie": "track=1; Path=/"})
        self.send(handler, "<html>none</html>", 403, "text/html")

    def told(self) -> list:
        "Names of all headers that carry a secret."
        return [n for r in self.log for n in r.headers if n in ("authorization", "cookie", "x-xsrf-token")]


KEYS = {"METADATA": "metadata", "SPECTRAL_IMAGE": "image", "QL_QUALITY_CLASSES": "quality_classes", "QL_QUALITY_CLOUD": "quality_cloud",
        "QL_QUALITY_CLOUDSHADOW": "quality_cloud_shadow", "QL_QUALITY_HAZE": "quality_haze", "QL_QUALITY_CIRRUS": "quality_cirrus",
        "QL_QUALITY_SNOW": "quality_snow", "QL_QUALITY_TESTFLAGS": "quality_testflags", "QL_PIXELMASK": "defective_pixel_mask"}


def as_delivered(product, block=16) -> dict:
    """The files of a product by name, spelled and tiled as the STAC service has them: pixel-interleaved blocks, `_COG.TIF`."""
    files = {}
    for path in sorted(p for p in Path(product).iterdir() if p.is_file() and p.suffix != ".qml"):      # the simulation adds how QGIS shows it
        if path.suffix != ".TIF":
            files[path.name] = path.read_bytes()
            continue
        with rasterio.open(path) as source, rasterio.MemoryFile() as memory:
            profile = source.profile | dict(blockxsize=block, blockysize=block, tiled=True, interleave="pixel", compress="deflate")
            with memory.open(**profile) as copy:
                copy.write(source.read())
            files[path.stem + "_COG.TIF"] = memory.read()
    return files


def publish(site, scene_id, files, folder=True) -> dict:
    """Put the files of a scene on a site; asset key -> address. Without `folder`, addresses lack the folder of the scene, as old items do."""
    place = f"/ENMAP/files/L2A/2023/07/16/{scene_id[16:28]}/01/"
    assets = {}
    for name, body in files.items():
        site.files[f"{place}{scene_id}/{name}"] = body
        kind = name.removeprefix(scene_id + "-").split(".")[0].removesuffix("_COG")
        assets[KEYS.get(kind, kind.lower())] = site.url + place + (f"{scene_id}/" if folder else "") + name
    return assets


def found_scene(scene_id, assets, **changes) -> SceneItem:
    "A scene of the catalogue with these addresses."
    start = datetime(2023, 7, 16, 10, 15, tzinfo=timezone.utc)
    known = dict(id=scene_id, datatake=scene_id[18:28], tile="001", start=start, processed=start, version="010502", cloud=0.0, cirrus=0.0, haze=0.0,
                 snow=0.0, off_nadir=3.0, sun_elevation=50.0, quality=0, footprint=box(12, 52, 13, 53), overlap=1.0, assets=assets,
                 citation="DLR (2023): EnMAP L0 Product, doi: 10.15489/rlyibn8gjc58")
    return SceneItem(**known | changes)
