"From a box and a span of dates to sharpened scenes, through the commands that a user types; against servers on the loopback address."
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_region import STARTS

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import ServiceError
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.scraping import copernicus, stac_archives
from enmap_sharpener.scraping import services as scraping
from enmap_sharpener.scraping.providers import open_provider

NAME = r"ENMAP01-____L2A-DT00000000\d\d_2023\d{4}T\d{6}Z_\d{3}_V010502_\d{8}T\d{6}Z"
SPAN = "2023-05-01T00:00:00Z/2023-10-15T23:59:59Z"
COMMAND = [sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())"]


def run(capfd, *arguments):
    """Exit status, what was printed, and what was complained about."""
    status = main([str(a) for a in arguments])
    out, err = capfd.readouterr()
    return status, out, re.sub("^.* …\n", "", err, flags=re.M)      # but for what begins


def scrape(region, folder="enmap", *more):
    return ["scrape", "--bbox", *region.wide, "--date-time", SPAN, "--max-cloud-cover", "30", "--enmap-dir", folder, *more]


def contents(folder):
    """Every file below a folder, the times of the records left out."""
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name in ("manifest.jsonl", "partner.json"):
            lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
            data = sorted(json.dumps({k: v for k, v in json.loads(line).items() if k != "time"}, sort_keys=True) for line in lines)
        found[str(path.relative_to(folder))] = data
    return found


@pytest.mark.slow
def test_from_a_box_to_a_sharpened_scene(services, capfd):
    status, out, err = run(capfd, *scrape(services))
    assert (status, out) == (0, "") and re.fullmatch(rf"(fetched {NAME}: 10 files, 0.5 MB\n){{2}}2 fetched \(1.0 MB\), 0 there already, 0 not, in enmap\n", err)
    places = scraping.scene_folders("enmap")
    assert [read_enmap(p).metadata.start for p in places] == list(STARTS)
    assert len(read_enmap(places[0]).quality) == 8
    status, out, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")
    assert (status, out) == (0, "") and err.startswith("cdse: 2 scenes to fetch, about ") and err.count("\n") == 4
    assert len(re.findall(rf"partner of {NAME}: 2023-\d\d-\d\d, \d+% of the scene clear", err)) == 2 and err.endswith("2 given a partner, 0 there already, 0 not, in enmap\n")
    assert run(capfd, "sharpen", places[1], "--output", "sharp.tif", "--quiet")[0] == 0
    assert abs((read_sentinel2(places[0] / "sentinel2").date - STARTS[0]).days) <= 15


def test_started_again_it_asks_for_nothing_that_is_there(services, capfd):
    run(capfd, *scrape(services)), run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")
    before, files = len(services.download.log), contents("enmap")
    windows = len(services.copernicus.windows)
    assert run(capfd, *scrape(services))[0] == 0 and run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")[0] == 0
    assert len(services.download.log) == before and len(services.copernicus.windows) == windows and contents("enmap") == files


def test_dry_run_shows_what_and_why_and_fetches_nothing(services, capfd):
    status, out, _ = run(capfd, *scrape(services, "enmap", "--dry-run"))
    assert status == 0 and not Path("enmap").exists()
    assert all(word in out for word in ("cloud [%]", "off nadir [deg]", "overlap [%]", "size [MB]", "aerosol", "processed again", "quality is low"))
    assert out.count("ENMAP01-____L2A-DT0000000002_20230812T101500Z") == 1


def test_dry_run_needs_no_account(services, capfd):
    "Only the sizes are not known then, and why is said once."
    Path(".env").write_text("".join(f"{k}='{v}'\n" for k, v in services.env.items() if "URL" in k))
    status, out, _ = run(capfd, *scrape(services, "enmap", "--dry-run"))
    assert status == 0 and "ENMAP01-____L2A-DT0000000002" in out
    assert "the size of 2 is not known: " in out and out.count("wants a login and none was given") == 1


def test_dry_run_adds_sizes_and_marks_what_is_there(services, capfd):
    run(capfd, *scrape(services, "enmap", "--max-scenes", "1"))
    before = contents("enmap")
    status, out, _ = run(capfd, *scrape(services, "enmap", "--dry-run"))
    one, two = (line for line in out.splitlines() if re.match(rf"\s*{NAME} ", line))
    assert status == 0 and one.split()[-1] == "yes" and two.split()[-1] == "0.4" and "1 to fetch, 1 there already; the cubes of 1 have 0.4 MB" in out
    assert contents("enmap") == before


def test_a_failure_is_told_once_and_briefly(services, capfd):
    services.download.faults["0000000001_20230716T101500Z_001_V010502_20230820T000000Z-SPECTRAL_IMAGE_COG.TIF"] = [404] * 9
    status, _, err = run(capfd, *scrape(services))
    assert status == 1 and err.count("status 404") == 1 and max(len(re.findall(NAME, line)) for line in err.splitlines()) == 1
    assert "is skipped: SPECTRAL_IMAGE_COG.TIF: is not on the server (status 404)" in err
    assert err.splitlines()[-1] == "enmap-sharpener: 1 of 2 scenes were not fetched, see above; the same command tries them again"
    services.download.faults.clear()
    services.download.faults["0000000001_20230716T101500Z_001_V010502_20230820T000000Z-SPECTRAL_IMAGE_COG.TIF"] = [404] * 9
    status, _, err = run(capfd, *scrape(services, "enmap", "--quiet"))
    assert err.count("\n") == 1 and "404" in err


@pytest.mark.parametrize(("kind", "fetched"), [("0", 2), ("1", 0), ("2", 2)])
def test_list_of_timestamps(services, capfd, kind, fetched):
    assert run(capfd, *scrape(services, "enmap", "--timestamps-file", kind))[0] == 0
    listed = Path("enmap/timestamps.txt")
    assert listed.exists() == (kind != "0") and len(list(Path("enmap").glob("ENMAP01*"))) == fetched
    if listed.exists():
        assert [line.split("\t")[0] for line in listed.read_text().splitlines()] == [f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in STARTS]


def test_window_of_an_area_file(services, capfd, tmp_path):
    west, south, east, north = services.box
    ring = [[west + 0.4 * (east - west), south + 0.4 * (north - south)], [west + 0.7 * (east - west), south + 0.4 * (north - south)],
            [west + 0.7 * (east - west), south + 0.7 * (north - south)]]
    Path("field.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [[*ring, ring[0]]]}))
    status, _, err = run(capfd, "scrape", "--intersects", "field.geojson", "--date-time", SPAN, "--max-scenes", 1, "--enmap-dir", "part", "--window")
    assert status == 0 and re.fullmatch(rf"fetched {NAME}: 10 files, 0.2 MB\n1 fetched \(0.2 MB\), 0 there already, 0 not, in part\n", err)
    scene, = scraping.scene_folders("part")
    assert max(read_enmap(scene).cube.shape[1:]) < services.size


@pytest.mark.parametrize(("change", "told"), [
    ({"--date-time": "2022-09-01/2022-09-31"}, "September"),
    ({"--date-time": "2023-10-01/2023-05-01"}, "ends before"),
    ({"--bbox": ["52", "13", "50", "14"]}, "52"),
    ({"--max-cloud-cover": "130"}, "0 to 100"),
    ({"--intersects": "nothing.geojson"}, "either --bbox"),
    ({"--timestamps-file": "3"}, "timestamps-file"),
])
def test_what_cannot_be_asked_is_one_line(services, capfd, change, told):
    asked = {"--bbox": services.wide, "--date-time": SPAN, "--enmap-dir": "enmap"} | change
    arguments = [a for name, value in asked.items() for a in (name, *(value if isinstance(value, list) else [value]))]
    status, out, err = run(capfd, "scrape", *arguments)
    assert status == 2 and told in err and err.count("\n") == 1 and not out and not Path("enmap").exists()


def test_negative_longitudes_are_numbers(services, capfd):
    status, _, err = run(capfd, "scrape", "--bbox", -5.84, -47.9, -5.3, -46.2, "--date-time", SPAN, "--enmap-dir", "enmap")
    assert status == 2 and "no scene for this area" in err


def test_a_wrong_password_stops_with_advice(services, capfd):
    Path(".env").write_text("".join(f"{k}='{'wr0ng-w0rd' if k == 'ENMAP_PASSWORD' else v}'\n" for k, v in services.env.items()))
    services.download.basic = "ignore"
    status, out, err = run(capfd, *scrape(services, "enmap", "--verbose"))
    assert status == 2 and not out and "wr0ng-w0rd" not in err and "check user and password: ENMAP_USERNAME" in err.splitlines()[-1]


def test_an_account_without_the_permission_is_told_so(services, capfd):
    services.download.allowed = False
    status, _, err = run(capfd, *scrape(services))
    assert status == 2 and "this account has no permission for" in err


def test_a_scene_that_fails_does_not_stop_the_others(services, capfd):
    services.download.faults["0000000001_20230716T101500Z_001_V010502_20230820T000000Z-SPECTRAL_IMAGE_COG.TIF"] = [404] * 9
    status, _, err = run(capfd, *scrape(services))
    assert status == 1 and "1 of 2 scenes were not fetched" in err.splitlines()[-1] and "SPECTRAL_IMAGE" in err
    assert Path("enmap/manifest.jsonl").read_text().count("\n") == 1


def test_records_that_are_not_understood_are_told_and_the_others_fetched(services, capfd):
    services.catalogue.items += [None, {"id": 5, "properties": None}]
    status, out, err = run(capfd, *scrape(services))
    assert status == 1 and "2 records are not understood" in err and "not complete" in err.splitlines()[-1] and not out
    assert Path("enmap/manifest.jsonl").read_text().count("\n") == 2
    assert run(capfd, *scrape(services, "enmap", "--dry-run"))[0] == run(capfd, *scrape(services, "enmap", "--timestamps-file", "1"))[0] == 1
    status, _, err = run(capfd, *scrape(services, "enmap", "--quiet"))
    assert status == 1 and err.count("\n") == 1 and "2 records" in err


def test_pages_that_cannot_be_had_are_told(services, capfd, monkeypatch):
    from enmap_sharpener.scraping import dlr_search
    monkeypatch.setattr(dlr_search, "_PAGE", 2)
    services.catalogue.paging, services.catalogue.counts = "lost", False
    status, _, err = run(capfd, *scrape(services))
    assert status == 1 and "cannot be asked for" in err and "not complete" in err.splitlines()[-1]


def test_units_are_counted_over_all_scenes(services, capfd):
    run(capfd, *scrape(services))
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap", "--max-units", 0.5)
    assert status == 2 and "2 of 2 scenes were not given a partner" in err and not services.copernicus.asked("/process")
    estimate = scraping.estimate_units("enmap", open_provider("cdse", services.env))
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap", "--max-units", 1.02 * max(estimate.values()))
    assert status == 1 and "1 of 2 scenes" in err


def test_a_scene_without_its_cube_is_told_and_the_others_get_their_partner(services, capfd):
    "As one that was skipped, or is being downloaded."
    run(capfd, *scrape(services))
    first, second = sorted(Path("enmap").glob("ENMAP01*"))
    next(first.glob("*SPECTRAL_IMAGE*.TIF")).unlink()
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")
    assert status == 1 and "1 of 2 scenes" in err and first.name in err
    assert (second / "sentinel2/partner.json").is_file() and not (first / "sentinel2").exists()


def test_a_file_in_the_way_of_a_partner_costs_only_that(services, capfd):
    run(capfd, *scrape(services))
    first, second = sorted(Path("enmap").glob("ENMAP01*"))
    (first / "sentinel2").write_text("mine")
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")
    assert status == 1 and "was not fetched by this command" in err
    assert (second / "sentinel2/partner.json").is_file() and (first / "sentinel2").read_text() == "mine"


def test_the_day_of_a_partner_can_be_chosen(services, capfd):
    run(capfd, *scrape(services))
    first, second = sorted(Path("enmap").glob("ENMAP01*"))
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", first, "--date", "2023-07-19")
    assert status == 0 and json.loads((first / "sentinel2/partner.json").read_text())["chosen"]["date"] == "2023-07-19"
    assert not (second / "sentinel2").exists()
    assert "is no date" in run(capfd, "scrape-sentinel2", "--enmap-dir", first, "--date", "yesterday")[2]


def test_verify_heals_scenes_and_partners(services, capfd):
    run(capfd, *scrape(services)), run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")
    before = contents("enmap")
    for name in ("*SPECTRAL_IMAGE*.TIF", "sentinel2/sentinel2_20m.tif"):
        path = sorted(Path("enmap").glob(f"ENMAP01*/{name}"))[0]
        data = path.read_bytes()
        path.write_bytes(data[:len(data) // 2] + bytes(len(data) - len(data) // 2))
    assert run(capfd, *scrape(services))[0] == run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap")[0] == 0 and contents("enmap") != before
    status, _, err = run(capfd, *scrape(services, "enmap", "--verify"))
    assert status == 0 and "SPECTRAL_IMAGE" in err and "fetched again" in err
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap", "--verify")
    assert status == 0 and "sentinel2_20m.tif" in err and "fetched again" in err
    assert contents("enmap") == before
    asked = len(services.download.log), len(services.copernicus.log)
    assert run(capfd, *scrape(services, "enmap", "--verify"))[0] == run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap", "--verify")[0] == 0
    assert (len(services.download.log), len(services.copernicus.log)) == asked


def test_verify_keeps_the_day_that_was_chosen(services, capfd):
    run(capfd, *scrape(services))
    first = sorted(Path("enmap").glob("ENMAP01*"))[0]
    run(capfd, "scrape-sentinel2", "--enmap-dir", first, "--date", "2023-07-19")
    (first / "sentinel2/scl_20m.tif").unlink()
    assert run(capfd, "scrape-sentinel2", "--enmap-dir", first, "--verify")[0] == 0
    assert json.loads((first / "sentinel2/partner.json").read_text())["chosen"]["date"] == "2023-07-19" and (first / "sentinel2/scl_20m.tif").is_file()


def test_a_service_that_refuses_twice_is_asked_no_more(services, capfd):
    run(capfd, *scrape(services))
    services.copernicus.quota = 0
    provider = open_provider("cdse", services.env)
    with pytest.raises(ServiceError, match="quota|units"):
        scraping.fetch_partners("enmap", provider)
    assert not list(Path("enmap").rglob("partner.json"))


def test_folder_without_scenes(services, capfd):
    Path("empty").mkdir()
    assert run(capfd, "scrape-sentinel2", "--enmap-dir", "empty", "--provider", "earth-search")[2].startswith("enmap-sharpener: empty: no EnMAP scene")


def test_simulated_scenes_have_their_partner(tmp_path, capfd):
    run(capfd, "simulate", "--size", 12, "--output", tmp_path / "sim", "--no-truth")
    status, _, err = run(capfd, "scrape-sentinel2", "--enmap-dir", tmp_path / "sim", "--provider", "earth-search")
    assert (status, err) == (0, f"0 given a partner, 1 there already, 0 not, in {tmp_path}/sim\n")
    assert run(capfd, "sharpen", *scraping.scene_folders(tmp_path / "sim"), "--output", tmp_path / "out.tif", "--method", "cubic")[0] == 0


def test_no_secret_is_seen_anywhere(services, capfd, caplog):
    with caplog.at_level("DEBUG"):
        _, out, err = run(capfd, *scrape(services, "enmap", "--verbose"))
        _, out2, err2 = run(capfd, "scrape-sentinel2", "--enmap-dir", "enmap", "--verbose")
    files = b"".join(p.read_bytes() for p in Path("enmap").rglob("*") if p.is_file() and p.suffix.upper() != ".TIF")
    seen = out + err + out2 + err2 + caplog.text + files.decode(errors="replace")
    assert len(services.secrets) > 2 and not [s for s in services.secrets if s in seen]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_and_fetches_nothing_twice(services, tmp_path):
    env = {**os.environ, **services.env, "OMP_NUM_THREADS": "1"}
    commands = scrape(services), ["scrape-sentinel2", "--enmap-dir", "enmap"]
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    for command in commands:
        subprocess.run([*COMMAND, *command], cwd=undisturbed, env=env, check=True, capture_output=True)
    windows = len(services.copernicus.windows)
    services.download.log.clear(), services.download.sent.clear(), services.copernicus.log.clear()
    services.download.pace = (60_000, 0.02)
    chance, kills = random.Random(5), 0
    for command in commands:
        for _ in range(30):
            child = subprocess.Popen([*COMMAND, *command], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            asked = lambda: len(services.download.log) + len(services.copernicus.log)
            before, more, deadline = asked(), chance.randint(2, 6), time.monotonic() + 60
            while child.poll() is None and asked() < before + more and time.monotonic() < deadline:
                time.sleep(0.005)
            if child.poll() is None:
                time.sleep(chance.uniform(0, 0.1))
                child.send_signal(signal.SIGKILL)
                kills += child.wait() == -signal.SIGKILL
            if child.returncode == 0:
                break
        assert child.returncode == 0
    assert kills >= 4
    assert contents(tmp_path / "enmap") == contents(undisturbed / "enmap")
    assert len(services.copernicus.windows) <= windows + kills      # at most the one under way when it was killed


def test_real_services():
    """Searches, sizes and one look, where the environment has credentials."""
    if not (os.environ.get("ENMAP_SHARPENER_NET") and os.environ.get("ENMAP_USERNAME")):
        pytest.skip("needs the network: set ENMAP_SHARPENER_NET, ENMAP_USERNAME and ENMAP_PASSWORD")
    from enmap_sharpener.scraping.dlr_search import search_scenes
    found = search_scenes((11, 47.8, 11.5, 48.2), "2023-06-01/2023-09-30", max_scenes=2).found
    with scraping.open_client(os.environ) as client:
        assert all(size > 1e8 for size in scraping.cube_sizes(found, client).values())


def test_every_variable_is_in_the_example():
    told = dict(line[2:].split("=", 1) for line in (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
                if line.startswith("# ") and "=" in line and line[2:].split("=")[0].isupper())
    services = {k.upper(): v for k, v in vars(scraping.DlrAddresses()).items()}
    services |= {name: getattr(module, name) for module, names in ((copernicus, ("COPERNICUS_URL", "COPERNICUS_TOKEN_URL")),
                                                                   (stac_archives, ("EARTH_SEARCH_URL", "PLANETARY_COMPUTER_URL"))) for name in names}
    accounts = dict.fromkeys(["ENMAP_USERNAME", "ENMAP_PASSWORD", "ENMAP_SESSION_TOKEN", "COPERNICUS_CLIENT_ID", "COPERNICUS_CLIENT_SECRET"], "")
    assert told == services | accounts
