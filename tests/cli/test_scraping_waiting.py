"How long a server is waited for: one policy for all of them, which the user is told of; through the commands, against servers on the loopback address."
import logging
import re
import shutil
import time
from email.utils import formatdate

import pytest
from fake_archive import Archive, Pass, Tile

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import ComeBack, DownloadError, ServiceError
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scraping import bulk, retries
from enmap_sharpener.scraping.providers import open_provider
from enmap_sharpener.scraping.services import fetch_partners
from enmap_sharpener.scraping.stac_archives import EarthSearch, PlanetaryComputer
from enmap_sharpener.simulation.scene import simulate

SPAN = "2023-05-01T00:00:00Z/2023-10-15T23:59:59Z"
COME_BACK = r"127.0.0.1:\d+: asks to be left alone for (1\.0 h|\d+ min) \(status 429\); start again at \d{4}-\d\d-\d\d \d\d:\d\d, what is there is kept\."


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    paths = simulate(tmp_path_factory.mktemp("product"), 24, 1, truth=False)
    shutil.rmtree(paths.sentinel2)
    return paths.enmap


@pytest.fixture
def enmap(scene, tmp_path):
    "A folder with two scenes and no partner."
    for name in (scene.name, scene.name.replace("DT0000000001", "DT0000000002")):
        shutil.copytree(scene, tmp_path / "enmap" / name)
    return tmp_path / "enmap"


@pytest.fixture
def archive(scene, monkeypatch):
    grid = Grid.of(read_enmap(scene).cube)
    west, _, _, north = (20 * round(v / 20) for v in grid.bounds)
    with Archive([Tile("33UUU", grid.crs.to_epsg(), west - 1000, north + 1000, 3000)], [Pass("2023-07-17T10:16:11Z")]) as server:
        monkeypatch.setenv("GDAL_HTTP_PROXY", server.url)
        yield server


def scrape(region, *more):
    return [str(a) for a in ("scrape", "--bbox", *region.wide, "--date-time", SPAN, "--max-cloud-cover", "30", "--enmap-dir", "enmap", *more)]


def of(server, end):
    return [r for r in server.log if r.path.endswith(end)]


def told(wait):
    "What a server says: so many seconds or milliseconds, or the date an hour from now, which is no name of a test, since each process would collect another."
    return formatdate(time.time() + 3601, usegmt=True) if wait == "a date" else wait


@pytest.mark.parametrize(("service", "end", "seconds"), [
    ("catalogue", "/search", 3600), ("download", "METADATA.XML", 3600), ("download", "IMAGE_COG.TIF", "a date"), ("sso", "/login", 3600)])
def test_dlr_is_not_waited_for_an_hour(services, capfd, service, end, seconds):
    server = getattr(services, service)
    services.download.basic = "ignore" if service == "sso" else "accept"
    server.busy_paths = {end: told(seconds)}
    begin = time.monotonic()
    assert main(scrape(services)) == 2 and time.monotonic() - begin < 20
    assert re.fullmatch("enmap-sharpener: " + COME_BACK, capfd.readouterr().err.splitlines()[-1])
    assert len(of(server, end)) <= (1 if service == "catalogue" else 2)      # one of each scene that is being fetched


@pytest.mark.parametrize(("end", "asked"), [("/token", 3600), ("/search", 3600_000), ("/process", 3600_000), ("/process", "a date")])
def test_copernicus_is_not_waited_for_an_hour(services, enmap, end, asked):
    services.copernicus.busy_paths = {end: told(asked)}
    with pytest.raises(ComeBack, match=f"^{COME_BACK}$"):
        fetch_partners(enmap, open_provider("cdse", services.env))
    assert len(of(services.copernicus, end)) == 1


@pytest.mark.parametrize("end", ["/search", "SCL.tif", "sentinel2-l2"])
def test_archives_are_not_waited_for_an_hour(archive, enmap, end):
    archive.busy_paths = {end: 3600}
    source = PlanetaryComputer(archive.planetary_computer, archive.sas_url) if "l2" in end else EarthSearch(archive.earth_search, retries=0, delay=0.01)
    with pytest.raises(ComeBack, match=f"^{COME_BACK}$"):
        fetch_partners(enmap, source)
    assert len(of(archive, end)) <= 3      # GDAL, and who asks for how long


def test_a_wait_is_told(services, capfd, monkeypatch):
    "For what, and until when; once for all threads."
    monkeypatch.setattr(retries, "_TOLD", 0.5)
    services.download.faults["METADATA.XML"] = ["429 in 0.6"] * 2
    assert main(scrape(services)) == 0
    assert re.fullmatch(r"127.0.0.1:\d+ asks to wait \(status 429\); going on at \d\d:\d\d:\d\d, in 1 s\n(fetched .*\n){2}2 fetched .*\n", re.sub("^.* …\n", "", capfd.readouterr().err, flags=re.M))


def test_no_more_than_a_quarter_of_an_hour_in_all(services, enmap, monkeypatch):
    "A server that asks for a little again and again."
    monkeypatch.setattr(retries.Patience.__init__, "__defaults__", (1.0, 2.0))
    services.copernicus.busy_paths = {"/process": 300}
    with pytest.raises(ComeBack):
        fetch_partners(enmap, open_provider("cdse", services.env))
    assert len(of(services.copernicus, "/process")) == 4


def test_silence_is_told_and_ends(monkeypatch, caplog):
    monkeypatch.setattr(retries, "_LONGEST_SILENCE", 0.3)
    monkeypatch.setattr(retries, "_TOLD", 0.1)
    def silent():
        time.sleep(0.15)
        raise retries.Again("no answer in time")
    with caplog.at_level(logging.WARNING), pytest.raises(DownloadError, match="given up after 2|given up after 3"):
        retries.Patience(99, 0.001).persist("http://127.0.0.1/x", silent)
    assert "127.0.0.1: no answer in time; trying again in" in caplog.text


@pytest.mark.parametrize(("service", "end"), [("catalogue", "/search"), ("download", "METADATA.XML"), ("copernicus", "/token"), ("copernicus", "/process")])
def test_a_body_in_drops_is_given_up(services, enmap, monkeypatch, service, end):
    "A byte now and then is no answer, though none of them is late."
    from enmap_sharpener.scraping import dlr_search
    from enmap_sharpener.scraping.copernicus import SentinelHub
    from enmap_sharpener.scraping.credentials import Login
    from enmap_sharpener.scraping.transfer import Client
    monkeypatch.setattr(dlr_search, "_TIMEOUT", 0.3), monkeypatch.setattr(dlr_search, "_PAUSE", 0.01)
    server = getattr(services, service)
    server.trickling = [end]
    begin = time.monotonic()
    with pytest.raises((ServiceError, DownloadError), match="within|bytes came|Timeout|not answer"):
        if service == "catalogue":
            dlr_search.search_scenes(services.box, SPAN, url=server.stac_url)
        elif service == "download":
            with Client(Login("ada", "p%ss:wörd"), host=server.url, sso=services.sso.url, tries=3, timeout=0.3, pause=0.01) as client:
                client.fetch(next(server.url + path for path in server.files if path.endswith(end)), enmap / "x.xml")
        else:
            fetch_partners(enmap, SentinelHub(server.client_id, server.secret, base_url=server.url, token_url=server.url + "/token", timeout=0.3, attempts=2, wait=0.01))
    assert time.monotonic() - begin < 10 and 2 <= len(of(server, end)) <= 4


# ---- one run in a folder

def test_one_download_at_a_time_in_a_folder(services, enmap, capfd):
    "Whichever of the commands it is; nothing is asked for."
    with bulk.alone_in(enmap):
        for command in scrape(services), ["scrape-sentinel2", "--enmap-dir", "enmap"]:
            assert main(command) == 2
            assert capfd.readouterr().err.splitlines()[-1].endswith("another run is downloading into this folder; wait for it or stop it.")
        one = next(enmap.glob("ENMAP*"))
        assert main(["scrape-sentinel2", "--enmap-dir", str(one)]) == 2 and "another run" in capfd.readouterr().err
        assert main(["preprocess", "--stage", "scrape", "--enmap-dir", "enmap", "--output-dir", "out"]) == 2 and "another run" in capfd.readouterr().err
    assert not services.download.log and not services.copernicus.log


def test_where_nothing_is_lacking_no_lock_is_needed(services, enmap):
    for place in enmap.glob("ENMAP*"):
        (place / "sentinel2").mkdir()
    with bulk.alone_in(enmap):
        assert main(["scrape-sentinel2", "--enmap-dir", "enmap"]) == 0


@pytest.mark.parametrize("extra", ["partner.json", None])
def test_overwrite_never_deletes_what_a_person_made(services, enmap, capfd, extra):
    first, second = sorted(enmap.glob("ENMAP*"))
    own = first / "sentinel2"
    own.mkdir()
    (own / "my own.tif").write_text("mine")
    if extra:
        (own / extra).write_text("{}")
    assert main(["scrape-sentinel2", "--enmap-dir", "enmap", "--overwrite"]) == 1
    assert "stays as it is; move it away" in capfd.readouterr().err and (own / "my own.tif").read_text() == "mine"
    assert (second / "sentinel2/partner.json").exists()
    assert main(["scrape-sentinel2", "--enmap-dir", str(second), "--overwrite"]) == 0
