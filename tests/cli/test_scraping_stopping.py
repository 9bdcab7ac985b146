"Ctrl-C and SIGTERM end a download within two seconds, whatever it is waiting for; each in a process of its own, with servers on the loopback address."
import json
import os
import re
import select
import shutil
import signal
import time

import killed
import pytest
from fake_archive import Archive, Pass, Tile

from enmap_sharpener.core.grid import Grid
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.simulation.scene import simulate

SPAN = "2023-05-01T00:00:00Z/2023-10-15T23:59:59Z"
NUMBERS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}
QUICK = ("search", "no headers", "token", "process that is busy", "no bytes", "busy")     # the others are slow


def everywhere(faults):
    "Places where a command may wait, and both signals."
    return pytest.mark.parametrize(("fault", "name"), [
        pytest.param(fault, name, id=f"{place}-{name}", marks=[] if place in QUICK and name == "SIGINT" else pytest.mark.slow)
        for place, fault in faults.items() for name in NUMBERS])


def start(arguments, folder, env):
    return killed.start(killed.command, [str(a) for a in arguments], str(folder), env, str(folder / "said.txt"))


def wait_until(condition, run, seconds=30):
    until = time.monotonic() + seconds
    while not condition() and run.is_alive():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.01)


def stop(run, number, out, told="the same command goes on"):
    "Send a signal; it ends in time, with its status, and one line that says so."
    time.sleep(0.2)
    assert run.is_alive(), out.read_text()
    os.kill(run.pid, number)
    begin = time.monotonic()
    run.join(20)
    assert run.exitcode == 128 + number and time.monotonic() - begin < 2, out.read_text()
    line = out.read_text().splitlines()[-1]
    assert line.startswith("enmap-sharpener: interrupted") and told in line


def scrape(region, *more):
    return ["scrape", "--bbox", *region.wide, "--date-time", SPAN, "--max-cloud-cover", "30", "--enmap-dir", "enmap", *more]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    paths = simulate(tmp_path_factory.mktemp("product"), 24, 1, truth=False)
    shutil.rmtree(paths.sentinel2)
    return paths.enmap


@pytest.fixture
def enmap(scene, services, tmp_path):
    "A folder with one scene and no partner."
    shutil.copytree(scene, tmp_path / "enmap" / scene.name)
    return services


DLR = {
    "search": ("catalogue", {"silent": ["/search"]}), "search that is busy": ("catalogue", {"busy_paths": {"/search": 600}}),
    "search in drops": ("catalogue", {"trickling": ["/search"]}),
    "no headers": ("download", {"silent": ["SPECTRAL_IMAGE_COG.TIF"]}), "Retry-After": ("download", {"busy_paths": {"METADATA.XML": 600}}),
    "in drops": ("download", {"trickling": ["SPECTRAL_IMAGE_COG.TIF"]}), "sign-on": ("sso", {"silent": ["/login"]}),
}


@everywhere(DLR)
def test_while_scraping(services, tmp_path, fault, name):
    service, fault = fault
    server = getattr(services, service)
    vars(server).update(fault)
    services.download.basic = "ignore" if service == "sso" else "accept"
    end, = next(iter(fault.values()))
    run = start(scrape(services), tmp_path, services.env)
    wait_until(lambda: any(r.path.endswith(end) for r in server.log), run)
    stop(run, NUMBERS[name], tmp_path / "said.txt")


COPERNICUS = {
    "token": {"silent": ["/token"]}, "token that is busy": {"busy_paths": {"/token": 600}}, "catalogue": {"silent": ["/search"]},
    "catalogue that is busy": {"busy_paths": {"/search": 600_000}}, "process": {"silent": ["/process"]},
    "process that is busy": {"busy_paths": {"/process": 600_000}}, "process in drops": {"trickling": ["/process"]},
}


@everywhere(COPERNICUS)
def test_while_asking_copernicus(enmap, tmp_path, fault, name):
    vars(enmap.copernicus).update(fault)
    end, = next(iter(fault.values()))
    run = start(["scrape-sentinel2", "--enmap-dir", "enmap"], tmp_path, enmap.env)
    wait_until(lambda: enmap.copernicus.asked(end), run)
    stop(run, NUMBERS[name], tmp_path / "said.txt")


@pytest.fixture
def archive(scene, tmp_path):
    "An archive that saw the scene, and the variables that lead to it."
    grid = Grid.of(read_enmap(scene).cube)
    west, _, _, north = (20 * round(v / 20) for v in grid.bounds)
    tile = Tile("33UUU", grid.crs.to_epsg(), west - 1000, north + 1000, 3000)
    shutil.copytree(scene, tmp_path / "enmap" / scene.name)
    with Archive([tile], [Pass("2023-07-17T10:16:11Z")]) as server:
        server.env = {"EARTH_SEARCH_URL": server.earth_search, "PLANETARY_COMPUTER_URL": server.planetary_computer,
                      "PC_SDK_SAS_URL": server.sas_url, "GDAL_HTTP_PROXY": server.url, "COPERNICUS_CLIENT_ID": ""}
        yield server


ARCHIVES = {
    "search": {"silent": ["/search"]}, "search that is busy": {"busy_paths": {"/search": 600}}, "no bytes": {"silent": ["B04.tif"]},
    "in drops": {"trickling": ["SCL.tif"]}, "busy": {"busy_paths": {"SCL.tif": 600}}, "signing": {"silent": ["sentinel2-l2"]},
    "signing that is busy": {"busy_paths": {"sentinel2-l2": 600}},
}


@everywhere(ARCHIVES)
def test_while_reading_an_archive(archive, tmp_path, fault, name):
    vars(archive).update(fault)
    end, = next(iter(fault.values()))
    provider = "planetary-computer" if "sentinel2" in end else "earth-search"
    run = start(["scrape-sentinel2", "--enmap-dir", "enmap", "--provider", provider], tmp_path, archive.env)
    wait_until(lambda: any(r.path.endswith(end) for r in archive.log), run)
    stop(run, NUMBERS[name], tmp_path / "said.txt")


@pytest.mark.slow
def test_on_a_terminal(services, scene, tmp_path):
    "Bytes, steps and waits are shown while they last, and a line stays."
    services.download.pace = (20_000, 0.05)
    services.download.faults["METADATA.XML"] = ["429 in 6"]
    enmap = services.env
    seen = {}
    for command in scrape(services), ["scrape-sentinel2", "--enmap-dir", "enmap"]:
        ours, theirs = os.openpty()
        run = killed.start(killed.command, command, str(tmp_path), enmap | {"COLUMNS": "140", "TERM": "xterm"}, os.ttyname(theirs))
        text = b""
        while run.is_alive() or select.select([ours], [], [], 0.2)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                text += os.read(ours, 1 << 16)
        seen[command[0]] = text.decode()
        os.close(ours), os.close(theirs)
        assert run.exitcode == 0, text
    told = seen["scrape"]
    assert re.search(r"\d+(\.\d+)?/\d+(\.\d+)? [kM]B", told) and re.search(r"127.0.0.1:\d+ asks to wait \(status 429\); going on at \d\d:\d\d:\d\d, in \d s", told)
    size = sum(file["size"] for line in (tmp_path / "enmap/manifest.jsonl").read_text().splitlines() for file in json.loads(line)["files"])
    assert f"2 fetched ({size / 1e6:.1f} MB), 0 there already, 0 not, in enmap" in told and "fetched ENMAP" not in told
    assert re.search(r"2023-\d\d-\d\d, B0[25]-(B08|SCL), \d+ x \d+ pixels", seen["scrape-sentinel2"])      # a bar is drawn ten times a second, and shows no shorter step


def test_a_second_signal_ends_at_once(archive, tmp_path):
    archive.silent = ["SCL.tif"]
    run = start(["scrape-sentinel2", "--enmap-dir", "enmap", "--provider", "earth-search"], tmp_path, archive.env)
    wait_until(lambda: archive.reads("SCL"), run)
    os.kill(run.pid, signal.SIGTERM)
    time.sleep(0.1)
    begin = time.monotonic()
    stop(run, signal.SIGTERM, tmp_path / "said.txt")
    assert time.monotonic() - begin < 0.9      # less than the first one is given


def test_preprocess_too(archive, tmp_path):
    archive.silent = ["SCL.tif"]
    run = start(["preprocess", "--stage", "scrape", "--enmap-dir", "enmap", "--output-dir", "out", "--provider", "earth-search"], tmp_path, archive.env)
    wait_until(lambda: archive.reads("SCL"), run)
    stop(run, signal.SIGINT, tmp_path / "said.txt")
