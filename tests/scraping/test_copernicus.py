"Sentinel Hub at Copernicus: the real client against a server on the loopback address."
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from fake_cdse import Pass, SentinelHubSite, reflectance
from products import METADATA, product
from pyproj import Transformer
from rasterio.crs import CRS

from enmap_sharpener.core.errors import CopernicusError, PartnerError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.scenes.sentinel2 import BANDS_10M, BANDS_20M, read_sentinel2
from enmap_sharpener.scraping import copernicus
from enmap_sharpener.scraping.copernicus import SentinelHub, evalscript
from enmap_sharpener.scraping.matchup import fetch_partner, target_grid

AREA = shapely.box(12.5, 52.0, 13.9, 52.8)
START = METADATA.start


def after(days, **told):
    "A pass some days after EnMAP that sees everything."
    return Pass(START + timedelta(days=days), [("33UUU", AREA)], **told)


def client(site, **options):
    return SentinelHub(site.client_id, site.secret, base_url=site.url, token_url=site.url + "/auth/token", **{"wait": 0.01} | options)


@pytest.fixture
def site():
    with SentinelHubSite([after(-8), after(2), after(7)]) as site:
        yield site


@pytest.fixture
def scene(tmp_path):
    return product(tmp_path / "scene")


def expected(path, bands):
    "What a file holds, the formula on its pixels, and its header."
    with rasterio.open(path) as file:
        x, y = file.transform * np.meshgrid(np.arange(file.width) + 0.5, np.arange(file.height) + 0.5)
        return file.read(), np.stack([reflectance(b, x, y) for b in bands]), (file.descriptions, file.res, file.bounds, file.dtypes[0], file.nodata)


def contents(folder):
    "Every file of a folder, without the time in the record."
    told = {p.name: p.read_bytes() for p in Path(folder).iterdir()}
    told["partner.json"] = {k: v for k, v in json.loads(told["partner.json"]).items() if k != "time"}
    return told


@pytest.mark.parametrize("shape", [(3534, 3612), (3612, 3534)])
def test_a_full_scene_costs_less_than_150_units(site, shape):
    grid = Grid(CRS.from_epsg(32632), Axis(-5_241_040.0, 10.0, shape[0]), Axis(643_540.0, 10.0, shape[1]))
    assert 90 < client(site).estimate(grid) < 150
    enmap = Grid(CRS.from_epsg(32632), Axis(-5_241_045.0, 30.0, 1178), Axis(643_545.0, 30.0, 1204))
    assert 95 < client(site).estimate(target_grid(enmap, 300)) < 150


def test_the_limit_stops_before_anything_is_asked(site, scene):
    with pytest.raises(PartnerError, match="units, more than the 0.5 allowed"):
        fetch_partner(scene, client(site), max_units=0.5)
    assert site.log == [] and not (scene / "sentinel2").exists()


def test_windows_without_a_seam_or_a_shift(site, scene):
    provider = client(site)
    provider.largest = 50
    record = fetch_partner(scene, provider)
    folder = scene / "sentinel2"
    assert sorted(p.name for p in folder.iterdir()) == ["partner.json", "scl_20m.tif", "sentinel2_10m.tif", "sentinel2_20m.tif"]
    assert not (scene / ".sentinel2.part").exists()
    for name, bands, step in (("sentinel2_10m.tif", BANDS_10M, 10), ("sentinel2_20m.tif", BANDS_20M, 20)):
        found, wanted, (*told, bounds, dtype, nodata) = expected(folder / name, bands)
        np.testing.assert_array_equal(found, wanted)
        assert told == [bands, (step, step)] and [v % 20 for v in bounds] == [0] * 4 and (dtype, nodata) == ("int16", NODATA)
    with rasterio.open(folder / "scl_20m.tif") as file:
        assert file.dtypes == ("uint8",) and (file.read() == 4).all()
    assert len(site.windows) == 3 * 4 + 2 * 2
    west, south, east, north = record["grid"]["bounds"]
    assert west <= 366015 - 300 and north >= 5806125 + 300 and east >= 366015 + 36 * 30 + 300 and south <= 5806125 - 24 * 30 - 300
    assert read_sentinel2(folder).date == START.replace(microsecond=0) + timedelta(days=2)


def test_beyond_2500_pixels(site, tmp_path):
    scene = product(tmp_path / "long", shape=(6, 850))
    fetch_partner(scene, client(site))
    assert max(w["output"]["width"] for w in site.windows) <= 2500 and len(site.windows) == 3
    found, wanted, _ = expected(scene / "sentinel2/sentinel2_10m.tif", BANDS_10M)
    assert found.shape[2] > 2500
    np.testing.assert_array_equal(found, wanted)


def test_one_pass_and_never_a_mixture(site, scene):
    fetch_partner(scene, client(site))
    spans = {tuple(w["input"]["data"][0]["dataFilter"]["timeRange"].values()) for w in site.windows}
    (start, end), = spans
    inside = [p for p in site.passes if start <= f"{p.time:%Y-%m-%dT%H:%M:%SZ}" <= end]
    assert [p.time for p in inside] == [START + timedelta(days=2)]
    assert all(w["input"]["data"][0]["processing"]["harmonizeValues"] is True for w in site.windows)


def test_the_record(site, scene):
    record = fetch_partner(scene, client(site))
    assert record == json.loads((scene / "sentinel2/partner.json").read_text())
    assert record["chosen"]["date"] == "2023-06-03" and record["provider"] == "cdse" and "beats 2023-06-08" in record["why"]
    assert record["angles"]["sentinel2"] == pytest.approx({"sun_elevation": 54.5, "sun_azimuth": 158.25, "view_zenith": 4.75})
    assert record["angles"]["enmap"] == {"sun_elevation": 55.5, "sun_azimuth": 160.25, "view_zenith": 3.86}
    assert len(record["candidates"]) == 3 and record["chosen"]["relative_orbit"] == 65
    assert record["units"]["spent"] == pytest.approx(site.charged, abs=2e-3) and record["units"]["spent"] < record["units"]["estimate"]
    asked = len(site.log)
    assert fetch_partner(scene, client(site)) == record and len(site.log) == asked


def test_clouds_over_the_scene_decide_not_those_of_the_tile(site, scene):
    site.passes = [after(1, told="1", cloud=lambda x, y: x < 366500), after(3, told=80.0)]
    assert fetch_partner(scene, client(site))["chosen"]["date"] == "2023-06-04"


def test_across_two_tiles_and_beyond_the_data(site, scene):
    lon, _ = Transformer.from_crs(32633, 4326, always_xy=True).transform(366600, 5805700)
    west, east = shapely.box(12.5, 52.0, lon, 52.8), shapely.box(lon - 0.003, 52.0, 13.9, 52.8)
    site.passes = [Pass(START + timedelta(days=1), [("33UUU", west)]), Pass(START + timedelta(days=4), [("32UQD", west), ("33UUU", east)])]
    record = fetch_partner(scene, client(site), overwrite=True)
    assert record["chosen"]["date"] == "2023-06-05" and len(record["chosen"]["items"]) == 2
    found, wanted, _ = expected(scene / "sentinel2/sentinel2_10m.tif", BANDS_10M)
    np.testing.assert_array_equal(found, wanted)
    site.passes = site.passes[:1]
    record = fetch_partner(scene, client(site), overwrite=True)
    found, wanted, _ = expected(scene / "sentinel2/sentinel2_10m.tif", BANDS_10M)
    there = found != NODATA
    assert 0.3 < there.mean() < 0.9 and (found[there] == wanted[there]).all()
    with rasterio.open(scene / "sentinel2/scl_20m.tif") as file:
        assert set(np.unique(file.read())) == {0, 4}


def test_an_expired_token_is_renewed(site, scene):
    provider = client(site)
    provider.acquisitions(AREA, START, 15)
    site.tokens = dict.fromkeys(site.tokens, 0)        # the service forgets it before its time
    fetch_partner(scene, provider)
    assert len(site.asked("/token")) == 2 and len(site.windows) == 2
    site.lifetime = site.told_lifetime = 0.4           # renewed in time: no request with an old token
    provider, asked = client(site), len(site.log)
    for _ in range(3):
        provider.acquisitions(AREA, START, 15)
        time.sleep(0.25)
    assert len(site.asked("/token")) == 5 and len(site.log) - asked == 6


def test_a_token_that_is_never_good(site, scene):
    site.lifetime = -1
    with pytest.raises(CopernicusError, match="access is refused .401: token Bearer [*]{3} is expired.; check"):
        fetch_partner(scene, client(site))
    assert len(site.asked("/search")) == 2


def test_too_many_requests_waits_the_milliseconds_told(site, scene):
    site.busy = [400, 300]
    start = time.monotonic()
    fetch_partner(scene, client(site))
    assert 0.7 < time.monotonic() - start < 20 and site.busy == []
    site.busy = [1] * 99
    with pytest.raises(CopernicusError, match="too many requests.; start again in some minutes"):
        fetch_partner(scene, client(site), overwrite=True)
    assert (scene / "sentinel2/partner.json").exists()


def test_used_up_units(site, scene):
    site.quota = 0.2
    with pytest.raises(CopernicusError) as error:
        fetch_partner(scene, client(site))
    assert "processing units are used up" in str(error.value) and "\n" not in str(error.value)
    site.quota = 1e6
    site.log.clear()
    assert fetch_partner(scene, client(site))["chosen"]["date"] == "2023-06-03"
    assert len(site.windows) == 1 and site.asked("/search") == []      # what was paid for is kept


def test_a_request_that_is_refused(site):
    provider, grid = client(site), Grid(CRS.from_epsg(32633), Axis(-5_806_000.0, 10.0, 4), Axis(366_000.0, 10.0, 2501))
    acquisition, = [a for a in provider.acquisitions(AREA, START, 3)]
    with pytest.raises(CopernicusError, match=r"^Copernicus, B02-B02 of 2023-06-03: the request is refused \(400: .*2500 pixels"):
        provider.read(acquisition, ("B02",), grid)


def test_server_errors_are_tried_again(site, scene):
    site.broken = 3
    fetch_partner(scene, client(site))
    site.broken = 10
    with pytest.raises(CopernicusError, match=r"the catalogue: does not answer as it should \(503\)"):
        fetch_partner(scene, client(site), overwrite=True)


def test_wrong_secret_no_secret_no_server_no_encryption(site, scene):
    with pytest.raises(CopernicusError, match="check COPERNICUS_CLIENT_ID"):
        fetch_partner(scene, SentinelHub("id", "wrong", base_url=site.url, token_url=site.url + "/token", wait=0.01))
    with pytest.raises(CopernicusError, match="set COPERNICUS_CLIENT_ID"):
        SentinelHub("", None)
    with pytest.raises(CopernicusError, match="gives no token .ConnectionError"):
        fetch_partner(scene, SentinelHub("id", "x", base_url=site.url, token_url="http://127.0.0.1:9/token", wait=0.01))
    for urls in ({"base_url": "http://sh.example.org"}, {"token_url": "http://identity.example.org/token"}):
        with pytest.raises(CopernicusError, match="not encrypted"):
            SentinelHub("id", "x", **urls)


def test_the_secret_is_not_carried_over_a_redirect(site, monkeypatch):
    with SentinelHubSite([]) as other:
        monkeypatch.setattr(other, "token", lambda request, handler: other.send(handler, "", 307, headers={"Location": site.url + "/auth/token"}))
        with pytest.raises(CopernicusError, match="gives no token .status 307"):
            client(other).acquisitions(AREA, START, 5)
    assert site.log == []


def test_another_login_in_netrc_stays_at_home(site, scene, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login someone password el5ewhere")
    monkeypatch.setenv("NETRC", str(netrc))
    fetch_partner(scene, client(site))
    assert all(r.headers.get("authorization", "Bearer").startswith("Bearer") for r in site.log)


def test_a_redirect_is_not_followed(site, scene, monkeypatch):
    with SentinelHubSite([]) as other:
        monkeypatch.setattr(site, "process", lambda query, handler: site.send(handler, "", 302, headers={"Location": other.url}))
        with pytest.raises(CopernicusError, match="0 bytes that are no TIFF"):
            fetch_partner(scene, client(site))
        assert other.log == []


def test_a_day_without_data_gives_way_to_the_next(site, scene):
    site.passes[1].empty = True
    record = fetch_partner(scene, client(site))
    assert record["chosen"]["date"] == "2023-06-08"
    assert next(c for c in record["candidates"] if c["date"] == "2023-06-03")["why"].startswith("refused: sees 0%")


def test_a_day_that_turns_out_empty_later_gives_way_too(site, scene, monkeypatch):
    windows = lambda: len(site.windows)
    site.dies = lambda: setattr(site.passes[1], "empty", windows() > 0)       # the look saw data, the windows have none
    told = []
    record = fetch_partner(scene, client(site), tell=told.append)
    assert record["chosen"]["date"] == "2023-06-08" and "2023-06-03 stands before it, but has no data" in record["why"]
    assert "2023-06-03 has no data over the scene" in told


def test_no_acquisition_at_all(site, scene):
    site.passes = [after(20)]
    with pytest.raises(PartnerError, match="within 15 days of 2023-06-01 will do: there is none at all; allow more days"):
        fetch_partner(scene, client(site))
    site.passes = [after(3, cloud=lambda x, y: x > 0)]
    with pytest.raises(PartnerError, match="the best of 1, 2023-06-04, is refused: 0% of the scene is clear"):
        fetch_partner(scene, client(site))
    assert site.windows == [] and not (scene / "sentinel2").exists()


def test_features_that_cannot_be_understood_are_left_out(site, scene, caplog):
    sound = next(after(2).features())
    site.odd = [None, 5, "x", [], {}, {"id": "no-properties", "properties": None}, {"id": 7, "properties": {"datetime": "2023-07-10T10:00:00Z"}},
                *({**sound, "id": "no-geometry", "geometry": g} for g in (None, [], {"type": "Polygon"}, {"type": "Point", "coordinates": [13, 52]},
                  {"type": "Polygon", "coordinates": [[[None, 1]]]}, {"type": "Polygon", "coordinates": [[[float("nan"), 1], [2, 3], [4, 1], [2, 2]]]})),
                *({**sound, "id": "no-time", "properties": p} for p in ({}, [], {"datetime": 5}, {"datetime": {}}, {"datetime": "soon"})),
                {**sound, "id": "odd-numbers", "properties": sound["properties"] | {"eo:cloud_cover": 10**400, "sat:relative_orbit": float("inf")}}]
    record = fetch_partner(scene, client(site))
    assert len(record["candidates"]) == 3 and record["chosen"]["date"] == "2023-06-03"
    assert "no-geometry is not understood" in caplog.text and "no-time is not understood" in caplog.text and "item None" in caplog.text


def test_a_catalogue_without_end_is_cut(site, scene, monkeypatch, caplog):
    monkeypatch.setattr(copernicus, "_MOST_ITEMS", 20)
    site.endless = True
    assert fetch_partner(scene, client(site))["chosen"]["date"] == "2023-06-03"
    assert len(site.asked("/search")) < 12 and "no end" in caplog.text


@pytest.mark.parametrize("answer", [{"features": None, "context": {}}, {"features": []}, [], {"features": [], "context": None}, 5, None])
def test_a_catalogue_that_is_none(site, scene, monkeypatch, answer):
    monkeypatch.setattr(site, "catalogue", lambda request, handler: site.send(handler, json.dumps(answer)))
    with pytest.raises((CopernicusError, PartnerError)) as error:
        fetch_partner(scene, client(site))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("told", [{"access_token": 5}, ["access_token"], "access_token", {"access_token": None}, 7])
def test_a_token_that_is_none(site, scene, monkeypatch, told):
    monkeypatch.setattr(site, "token", lambda request, handler: site.send(handler, json.dumps(told)))
    with pytest.raises(CopernicusError, match="gives no token"):
        fetch_partner(scene, client(site))


@pytest.mark.parametrize("lasts", ["soon", None, {}])
def test_a_token_of_odd_age(site, scene, lasts):
    site.told_lifetime = lasts
    assert fetch_partner(scene, client(site))["chosen"]["date"] == "2023-06-03"


def test_a_day_chosen_by_hand(site, scene):
    "Whatever the rule thinks of it, and whatever its clouds."
    site.passes = [after(-8, cloud=lambda x, y: np.ones(np.broadcast(x, y).shape, bool)), after(2), after(7)]
    record = fetch_partner(scene, client(site), day=site.passes[0].time.date())
    assert record["chosen"]["date"] == str(site.passes[0].time.date()) and record["chosen"]["cloud"] == 100 and record["chosen"]["days"] == pytest.approx(-8)
    assert "by hand" in record["rule"] and "by hand" in record["why"] and len(record["candidates"]) == 1
    with pytest.raises(PartnerError, match="cdse has nothing of 2023-06-02 over the scene; within 15 days of it there are 2023-05-24, 2023-06-03, 2023-06-08"):
        fetch_partner(scene, client(site), day=(START + timedelta(days=1)).date(), overwrite=True)
    assert fetch_partner(scene, client(site), overwrite=True)["chosen"]["date"] == "2023-06-03"
    far = after(40)
    site.passes.append(far)
    assert fetch_partner(scene, client(site), overwrite=True, day=far.time.date())["chosen"]["days"] == pytest.approx(40)


def test_answers_that_are_no_tiff_or_of_another_place(site, scene, monkeypatch):
    monkeypatch.setattr(site, "render", lambda *a: b"<html>maintenance</html>")
    with pytest.raises(CopernicusError, match="24 bytes that are no TIFF"):
        fetch_partner(scene, client(site))
    monkeypatch.undo()
    render = SentinelHubSite.render
    def shifted(self, query, *rest):
        query["input"]["bounds"]["bbox"] = [v + 5 for v in query["input"]["bounds"]["bbox"]]
        return render(self, query, *rest)
    monkeypatch.setattr(SentinelHubSite, "render", shifted)
    with pytest.raises(CopernicusError, match="not what was asked for"):
        fetch_partner(scene, client(site))


def rewritten(body, **changes):
    "A TIFF with something else in its header or pixels."
    with rasterio.MemoryFile(body) as memory, memory.open() as file, rasterio.MemoryFile() as other:
        values = file.read()
        if "nan" in changes:
            values[:, 3, 4] = changes.pop("nan")
        with other.open(**file.profile | changes) as copy:
            copy.write(values.astype(changes.get("dtype", values.dtype)))
        return other.read()


@pytest.mark.parametrize("change, told", [({"crs": "EPSG:32632"}, "EPSG:32632"), ({"crs": None}, "in None"), ({"crs": "EPSG:4326"}, "EPSG:4326"), ({"dtype": "uint8"}, "uint8"),
                                          ({"nan": np.nan}, "no numbers"), ({"nan": np.inf}, "no numbers")], ids=str)
def test_a_tiff_in_another_crs_or_of_no_numbers_is_refused(site, scene, monkeypatch, change, told):
    render = SentinelHubSite.render
    monkeypatch.setattr(SentinelHubSite, "render", lambda self, query, bands, dtype, *size: rewritten(render(self, query, bands, dtype, *size), **change))
    with pytest.raises(CopernicusError, match=told) as error:
        fetch_partner(scene, client(site))
    assert "\n" not in str(error.value) and not (scene / "sentinel2").exists()
    monkeypatch.undo()
    assert fetch_partner(scene, client(site))["chosen"], "and it heals"


class Stopping(SentinelHub):
    "Small windows, and a Ctrl-C before the n-th request to the Process API."

    largest, before = 80, 0

    def _render(self, *what):
        self.before -= 1
        if self.before == 0:
            raise KeyboardInterrupt
        return super()._render(*what)


@pytest.mark.slow
def test_stopped_at_any_request_and_started_again(site, tmp_path):
    def run(folder, before=0):
        provider = Stopping(site.client_id, site.secret, base_url=site.url, token_url=site.url + "/auth/token")
        provider.before = before
        fetch_partner(folder, provider)
    calm = product(tmp_path / "calm")
    run(calm)
    requests = len(site.asked("/process"))
    assert requests > 6
    for moment in range(1, requests + 1):
        site.log.clear()
        scene = product(tmp_path / str(moment))
        with pytest.raises(KeyboardInterrupt):
            run(scene, moment)
        assert not (scene / "sentinel2").exists()
        run(scene)
        bodies = [r.body for r in site.asked("/process") if "viewZenith" not in str(r.body)]
        assert len(bodies) == len(set(bodies)) == 8     # no window twice
        assert contents(scene / "sentinel2") == contents(calm / "sentinel2")


CHILD = """
import sys
from enmap_sharpener.scraping.copernicus import SentinelHub
from enmap_sharpener.scraping.matchup import fetch_partner
url, folder = sys.argv[1:]
provider = SentinelHub({id!r}, {secret!r}, base_url=url, token_url=url + "/auth/token", wait=0.01)
provider.largest = 80
fetch_partner(folder, provider)
"""


@pytest.mark.slow
def test_killed_and_started_again_gives_the_same_bytes(site, tmp_path):
    script = CHILD.format(id=site.client_id, secret=site.secret)
    def run(folder, kill_at=None):
        site.log.clear()
        child = subprocess.Popen([sys.executable, "-c", script, site.url, str(folder)], cwd=Path(__file__).parents[2])
        site.dies = lambda: len(site.asked("/process")) == kill_at and os.kill(child.pid, signal.SIGKILL)
        code = child.wait(60)
        return code, len(site.windows), len(site.asked("/process"))
    calm = product(tmp_path / "calm")
    code, windows, requests = run(calm)
    assert code == 0
    scene = product(tmp_path / "scene")
    assert run(scene, requests - 1)[0] == -signal.SIGKILL and not (scene / "sentinel2").exists()
    kept = sorted(p.name for p in (scene / ".sentinel2.part").glob("*.tif"))
    code, again, _ = run(scene)
    assert code == 0 and again == windows - len(kept) == 2 and len(site.asked("/search")) == 0
    assert contents(scene / "sentinel2") == contents(calm / "sentinel2")


@pytest.mark.slow
def test_no_secret_anywhere(site, scene, caplog, capfd, recwarn):
    for name in ("", "sentinelhub", "requests_oauthlib", "oauthlib", "urllib3", "requests", "enmap_sharpener"):
        caplog.set_level(logging.DEBUG, name)    # pytest takes it back; a level that stays would show in another test's stderr
    said = []
    def attempt(**faults):
        for name, value in faults.items():
            setattr(site, name, value)
        provider = client(site)
        try:
            fetch_partner(scene, provider, overwrite=True, tell=said.append)
        except PartnerError.__base__ as error:
            said.extend([str(error), repr(error), *traceback.format_exception(error)])
            said.extend(repr(e) for e in (error.__cause__, error.__context__))
        said.extend([repr(provider), str(provider), repr(provider._session), repr(vars(provider)), str(provider._config)])
    attempt()
    attempt(lifetime=-1)
    attempt(lifetime=600, broken=99)
    attempt(broken=0, quota=0)
    attempt(quota=1e6, busy=[1] * 40)
    attempt(busy=[], secret="another")
    del site.secret
    attempt(dies=lambda: setattr(site, "passes", []))
    files = [p.read_bytes().decode("latin1") for p in scene.rglob("*") if p.is_file()]
    everything = "\n".join(map(str, [*said, *files, caplog.text, *capfd.readouterr(), *[w.message for w in recwarn]]))
    assert len(site.tokens) > 5 and "access is refused" in everything and "used up" in everything
    for secret in (SentinelHubSite.secret, SentinelHubSite.client_id, "another", *site.tokens, "Bearer t"):
        assert secret not in everything


def test_the_script_clamps_and_marks_what_is_not_there():
    script = evalscript(("B05", "SCL"))
    assert '[Math.min(s.B05, 32767), s.SCL] : [NODATA, 0]' in script and 'mosaicking: "SIMPLE"' in script
    assert 'bands: ["B05", "SCL", "dataMask"], units: "DN"' in script and "const NODATA = -32768" in script


def test_addresses_are_the_real_ones_by_default():
    provider = SentinelHub("id", "secret")
    assert provider._config.sh_base_url == copernicus.COPERNICUS_URL == provider._collection.service_url
    assert repr(provider) == "SentinelHub(https://sh.dataspace.copernicus.eu)"


@pytest.mark.net
@pytest.mark.skipif(not os.environ.get("COPERNICUS_CLIENT_SECRET"), reason="needs COPERNICUS_CLIENT_ID and COPERNICUS_CLIENT_SECRET, and the network")
def test_the_real_service():
    provider = SentinelHub(os.environ["COPERNICUS_CLIENT_ID"], os.environ["COPERNICUS_CLIENT_SECRET"])
    area, start = shapely.box(13.03, 52.38, 13.06, 52.40), datetime(2022, 7, 24, 10, 45, tzinfo=timezone.utc)
    found = provider.acquisitions(area, start, 6)
    grid = Grid(CRS.from_epsg(32633), Axis(-5_806_000.0, 20.0, 20), Axis(366_000.0, 20.0, 30))
    scl, angles = provider.look(found[0], grid)
    assert scl.shape == grid.shape and 40 < angles["sun_elevation"] < 62
    assert provider.read(found[0], ("B05", "SCL"), grid).shape == (2, 20, 30) and provider.spent < 0.5
