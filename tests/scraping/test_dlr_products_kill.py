"A run that is killed at any moment and started again ends as if nothing had happened, and fetches nothing twice."
import contextlib
import json
import os
import random
import signal
import time

import killed
import pytest
from fake_download import DownloadSite, SignOn, as_delivered, publish

from enmap_sharpener.simulation.scene import simulate


def start(folder, site, scenes, window=None):
    return killed.start(killed.download, str(folder), site.url, site.sso.url, scenes, window)


def kill_after(run, site, size):
    "Kill a run once the site has sent it so many bytes, unless it has ended by then: what happens does not depend on how fast the machine is."
    sent = lambda: sum(end - begin for _, begin, end in list(site.sent))
    before = sent()
    while run.is_alive() and sent() - before < size:
        time.sleep(0.002)
    run.kill()
    run.join()


def content(folder) -> dict:
    "Everything below a folder; times taken out of records."
    files = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    for name in files:
        if name.endswith(("manifest.jsonl", "window.json")):
            files[name] = [{k: v for k, v in json.loads(line).items() if k != "time"} for line in files[name].splitlines()]
    return files


def on_disk(folder) -> dict:
    "Bytes that a killed run has kept: file name -> size."
    return {p.name.removesuffix(".part"): p.stat().st_size for p in folder.glob("*/*") if p.suffix != ".json"}


@pytest.fixture(scope="module")
def products(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    paths = [simulate(folder / str(seed), (24, 26), seed, truth=False).enmap for seed in (1, 2)]
    return {path.name: as_delivered(path) for path in paths}


@contextlib.contextmanager
def world(products, **settings):
    with SignOn() as sso, DownloadSite(sso=sso, **settings) as site:
        yield site, {name: publish(site, name, files) for name, files in products.items()}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    dict(), dict(basic="ignore", lasts=12), dict(version="none")], ids=["basic", "form", "no version"])
def test_killed_at_any_moment(products, tmp_path, settings):
    with world(products) as (site, scenes):
        run = start(tmp_path / "calm", site, scenes)
        run.join(60)
        assert run.exitcode == 0
        wanted = content(tmp_path / "calm")
    kept, kills, rng = {}, 0, random.Random(0)
    with world(products, pace=(2048, 0.001), **settings) as (site, scenes):
        wanted = {k: v if isinstance(v, bytes) else [r | {"source": scenes[r["id"]]["image"].rpartition("/")[0]} for r in v] for k, v in wanted.items()}
        while True:
            sent = len(site.sent)
            run = start(tmp_path / "killed", site, scenes)
            kill_after(run, site, 10_000 + rng.expovariate(1 / 40_000))
            for path, begin, end in list(site.sent)[sent:]:
                name = path.rpartition("/")[2]
                if end > begin + 1:     # one byte shows that a login works, and is no file
                    assert begin >= kept.get(name, 0), f"{name}: {kept[name]} bytes were there, but it was asked for from {begin}"
                    assert kept.get(name) != len(site.files[path]), f"{name}: was whole"
            kept = on_disk(tmp_path / "killed")
            if run.exitcode == 0:
                break
            assert run.exitcode == -signal.SIGKILL
            kills += 1
        total = sum(map(len, site.files.values()))
    assert content(tmp_path / "killed") == wanted
    print(kills, "kills,", sum(site.twice().values()), "of", total, "bytes were in flight")
    assert kills > 5 and sum(site.twice().values()) < kills * 2 * 65536


@pytest.mark.slow
def test_window_killed_at_any_moment(products, tmp_path):
    rng = random.Random(2)
    with world(products) as (site, scenes):
        window = (0.0, -80.0, 30.0, 84.0)
        start(tmp_path / "calm", site, scenes, window).join(60)
        wanted, kills = content(tmp_path / "calm"), 0
        site.pace = (4096, 0.001)
        site.sent.clear()
        while True:
            run = start(tmp_path / "killed", site, scenes, window)
            kill_after(run, site, 10_000 + rng.expovariate(1 / 40_000))
            if run.exitcode == 0:
                break
            assert run.exitcode == -signal.SIGKILL
            kills += 1
        assert content(tmp_path / "killed") == wanted
        assert sum(site.twice().values()) < kills * 2 * (65536 + 100)
        print(kills, "kills,", sum(site.twice().values()), "bytes of", sum(map(len, site.files.values())), "twice")


def test_ctrl_c(products, tmp_path):
    "Ends at once, although a connection stalls, and keeps what is there."
    with world(products, pace=(2048, 0.01)) as (site, scenes):
        site.faults["SPECTRAL_IMAGE_COG.TIF"] = ["stall"] * 2
        run = killed.start(killed.download, str(tmp_path / "e"), site.url, site.sso.url, scenes, interrupted=True)
        while not any("SPECTRAL" in path for path, *_ in list(site.sent)):
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(run.pid, signal.SIGINT)
        begin = time.monotonic()
        run.join(10)
        assert run.exitcode == 130 and time.monotonic() - begin < 1.2
        assert list((tmp_path / "e").rglob("*.part"))
