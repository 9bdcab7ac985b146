"Whole scenes and windows of them: complete, verified, recorded, and nothing fetched twice."
import json
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
from fake_download import DownloadSite, SignOn, as_delivered, found_scene, publish
from rasterio.warp import transform as transform_points

from enmap_sharpener.core.errors import DownloadError, LoginError, OutputError, ProductError
from enmap_sharpener.scenes import metadata
from enmap_sharpener.scenes.enmap import QUALITY_LAYERS, read_enmap
from enmap_sharpener.scenes.metadata import parse_xml
from enmap_sharpener.scraping import bulk
from enmap_sharpener.scraping.bulk import DownloadReport, Manifest, alone_in, download_scenes
from enmap_sharpener.scraping.credentials import Login
from enmap_sharpener.scraping.dlr_products import download_scene
from enmap_sharpener.scraping.transfer import Client, FileRecord
from enmap_sharpener.simulation.scene import simulate

ADA = Login("ada", "p%ss:wörd")


@pytest.fixture(scope="session")
def products(tmp_path_factory) -> dict:
    "Two small products as the server has them: scene -> file name -> content."
    folder = tmp_path_factory.mktemp("served")
    paths = [simulate(folder / str(seed), (40, 44), seed, truth=False).enmap for seed in (1, 2)]
    return {path.name: as_delivered(path) for path in paths}


@pytest.fixture
def world(products):
    "The server, a client for it, and the scenes as the catalogue lists them."
    with SignOn() as sso, DownloadSite(sso=sso) as site, Client(ADA, host=site.url, sso=sso.url, pause=0.01, timeout=1, tries=3) as client:
        yield site, client, [found_scene(name, publish(site, name, files)) for name, files in products.items()]


def the_box(folder, found, rows=(5, 13), cols=(2, 9)):
    "A box just inside some pixels of a scene."
    cube = read_enmap(folder / found.id).cube
    x = [float(cube.x[cols[0]]), float(cube.x[cols[1] - 1])]
    y = [float(cube.y[rows[1] - 1]), float(cube.y[rows[0]])]
    (west, east), (south, north) = transform_points(cube.rio.crs, "EPSG:4326", x, y)
    return west, south, east, north


# ---- whole scenes

def test_nothing_is_looked_at_more_often_than_it_must_be(world, tmp_path, monkeypatch):
    _, client, found = world
    opened, parsed = [], []
    plain_open, plain_parse = rasterio.open, metadata.parse_xml
    monkeypatch.setattr(rasterio, "open", lambda path, *args, **options: (opened.append(Path(path).name), plain_open(path, *args, **options))[1])
    monkeypatch.setattr(metadata, "parse_xml", lambda data, name: (parsed.append(name), plain_parse(data, name))[1])
    download_scenes(found[:1], tmp_path, client)
    times = Counter(name.removesuffix(".part") for name in opened)
    assert set(times) == {p.name for p in (tmp_path / found[0].id).glob("*.TIF")} and max(times.values()) == 2      # when it has come, and with the others
    assert parsed == [f"{found[0].id}-METADATA.XML"]


def test_everything_comes_along(world, products, tmp_path):
    site, client, found = world
    seen = []
    report = download_scenes(found, tmp_path, client, progress=lambda done, total: seen.append((done, total)))
    assert [r["id"] for r in report.done] == sorted(products) and not report.skipped and not report.already
    for name, files in products.items():
        assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == files
        assert set(read_enmap(tmp_path / name).quality) == set(QUALITY_LAYERS)
    [record, _] = map(json.loads, (tmp_path / "manifest.jsonl").read_text().splitlines())
    assert list(record) == ["id", "time", "source", "window", "citation", "files"] and "DLR" in record["citation"]
    assert {f["name"]: f for f in record["files"]} == {p.name: FileRecord.of(p)._asdict() for p in (tmp_path / record["id"]).iterdir()}
    size = sum(map(len, (body for files in products.values() for body in files.values())))
    assert seen[-1] == (size, size) and [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen[-3:]} <= {size, None} or abs(seen[-3][1] - size) < 0.3 * size

    site.log.clear()
    assert download_scenes(found, tmp_path, client) == DownloadReport((), tuple(f.id for f in found), ())
    assert not site.log


@pytest.mark.parametrize("parallel", [1, 2])
def test_connections_are_kept(world, tmp_path, parallel):
    "As many as are allowed bring all files, though more threads are at work."
    site, client, found = world
    download_scenes(found, tmp_path, client, parallel=parallel)
    assert len(site.log) >= 20 and len(site.peers) <= parallel


def test_what_was_rejected_is_not_fetched_again(world, tmp_path):
    site, client, found = world
    download_scenes(found, tmp_path, client)
    beside = tmp_path / "rejected" / found[0].id
    beside.mkdir(parents=True)
    (tmp_path / found[0].id).rename(beside / found[0].id)
    site.log.clear()
    assert download_scenes(found, tmp_path, client) == DownloadReport((), tuple(f.id for f in found), ())
    assert not site.log and not (tmp_path / found[0].id).exists()


def test_only_what_is_missing(world, tmp_path):
    site, client, found = world
    download_scenes(found, tmp_path, client)
    manifest = (tmp_path / "manifest.jsonl").read_text()
    folder = tmp_path / found[0].id
    haze, image = next(folder.glob("*HAZE*")), next(folder.glob("*SPECTRAL*"))
    haze.unlink()
    image.write_bytes(image.read_bytes()[:-9])
    (folder / "sentinel2").mkdir()
    (folder / "sentinel2" / "partner.json").write_text("{}")
    site.log.clear()
    report = download_scenes(found, tmp_path, client)
    assert sorted(Path(r.path).name for r in site.log) == [haze.name, image.name]
    assert len(report.done) == len(report.already) == 1 and (folder / "sentinel2" / "partner.json").exists()
    strip = lambda text: re.sub(r'"time": "[^"]*"', "", text)
    assert strip((tmp_path / "manifest.jsonl").read_text()) == strip(manifest)


@pytest.mark.parametrize("manifest", ["", "garbage\n[]\n{}\n", None])
def test_a_lost_manifest_is_made_again(world, tmp_path, manifest):
    "The files are looked at, and not fetched."
    site, client, found = world
    download_scenes(found, tmp_path, client)
    path = tmp_path / "manifest.jsonl"
    path.unlink() if manifest is None else path.write_text(manifest)
    site.log.clear()
    assert len(download_scenes(found, tmp_path, client).done) == 2 and not site.log
    assert len(Manifest(path).records()) == 2


def test_old_addresses(products, world, tmp_path):
    "The folder of the scene is missing in the address."
    site, client, found = world
    name = found[0].id
    old = found_scene(name, publish(site, name, products[name], folder=False))
    assert len(download_scenes([old], tmp_path, client).done) == 1
    assert len(site.log) == len(products[name]) + 1, "one try tells for all files"


@pytest.mark.parametrize("key", ["metadata", "image"])
def test_one_asset_is_not_there(world, tmp_path, key):
    site, client, found = world
    del site.files[found[0].assets[key].removeprefix(site.url)]
    report = download_scenes(found, tmp_path, client)
    [(name, reason)] = report.skipped
    assert name == found[0].id and "404" in reason and [r["id"] for r in report.done] == [found[1].id]
    assert not Manifest(tmp_path / "manifest.jsonl").get(name)


@pytest.mark.parametrize("lost", ["from the server", "from the record"])
@pytest.mark.parametrize("window", [False, True])
def test_a_layer_that_is_missing_is_named_and_does_not_cost_the_scene(world, tmp_path, caplog, lost, window):
    site, client, found = world
    path, scene = found[0].assets["quality_haze"].removeprefix(site.url), found[0]
    body = site.files[path]
    if lost == "from the server":
        del site.files[path]
    else:
        scene = found_scene(scene.id, {k: v for k, v in scene.assets.items() if k != "quality_haze"})
    box = (-180, -80, 180, 84) if window else None
    report = download_scenes([scene, found[1]], tmp_path, client, window=box)
    assert [r["id"] for r in report.done] == [f.id for f in found] and not report.skipped
    assert f"{scene.id}: comes without QL_QUALITY_HAZE" in caplog.text and "comes without" not in caplog.text.replace(f"{scene.id}: comes without", "")
    assert [r.get("missing") for r in Manifest(tmp_path / "manifest.jsonl").records()] == [["QL_QUALITY_HAZE"], None]
    assert set(read_enmap(tmp_path / scene.id).quality) == set(QUALITY_LAYERS) - {"haze"}
    site.log.clear()
    assert len(download_scenes([scene, found[1]], tmp_path, client, window=box).already) == 2 and not site.log

    site.files[path] = body         # it comes later: asked for again where that is wanted
    report = download_scenes(found, tmp_path, client, window=box, verify=True)
    if not window:
        assert [r["id"] for r in report.done] == [scene.id] and set(read_enmap(tmp_path / scene.id).quality) == set(QUALITY_LAYERS)


def shifted(body: bytes, tmp_path, **changes) -> bytes:
    "A raster moved by some pixels, or in another CRS."
    path = tmp_path / "shifted.tif"
    path.write_bytes(body)
    with rasterio.open(path, "r+") as file:
        file.transform = file.transform * file.transform.translation(changes.get("columns", 0), 0)
        file.crs = changes.get("crs", file.crs)
    return path.read_bytes()


@pytest.mark.parametrize("change, told", [({"columns": 1}, "lies elsewhere"), ({"columns": 0.5}, "lies elsewhere"), ({"crs": "EPSG:32632"}, "EPSG:32632")])
@pytest.mark.parametrize("key", ["image", "quality_cloud"])
@pytest.mark.parametrize("window", [False, True])
def test_a_raster_of_another_place_is_refused(world, tmp_path, change, told, key, window):
    site, client, found = world
    path = found[0].assets[key].removeprefix(site.url)
    with rasterio.MemoryFile(site.files[path]) as memory, memory.open() as file:
        grid, epsg = (file.transform, file.shape), file.crs.to_epsg()
    scene = found_scene(found[0].id, found[0].assets, epsg=epsg, grid=grid)
    box = (-180, -80, 180, 84) if window else None
    good = site.files[path]
    site.files[path] = shifted(good, tmp_path, **change)
    [(_, reason)] = download_scenes([scene], tmp_path / "e", client, window=box).skipped
    assert told in reason and "\n" not in reason
    site.files[path] = good
    assert download_scenes([scene], tmp_path / "e", client, window=box).done, "the state heals"


def test_a_cube_of_another_place_is_refused_by_the_corners_in_its_metadata(world, tmp_path):
    site, client, found = world
    path = found[0].assets["image"].removeprefix(site.url)
    site.files[path] = shifted(site.files[path], tmp_path, columns=9)
    [(_, reason)] = download_scenes(found[:1], tmp_path / "e", client).skipped
    assert "9 pixels from the corners in METADATA.XML" in reason


@pytest.mark.parametrize("key", ["quality_cloud", "quality_classes", "quality_snow"])
def test_a_cube_is_no_mask(world, tmp_path, key):
    "Nor is a record that names the cube as one."
    site, client, found = world
    path = lambda key: found[0].assets[key].removeprefix(site.url)
    good = site.files[path(key)]
    site.files[path(key)] = site.files[path("image")]
    for window in (None, (-180, -80, 180, 84)):
        [(_, reason)] = download_scenes(found[:1], tmp_path / f"{window}", client, window=window).skipped
        assert "has 224 bands, but 1 is wanted" in reason
    site.files[path(key)] = good
    assert download_scenes(found[:1], tmp_path / "None", client).done
    named = found_scene(found[0].id, found[0].assets | {key: found[0].assets["image"]})
    [record] = download_scenes([named], tmp_path / "named", client).done
    assert len(record["missing"]) == 1 and "SPECTRAL" not in record["missing"][0]


def test_a_cube_of_three_bands_heals(world, tmp_path):
    "It was left there by somebody, or by an earlier version of this package, and is no cube of this scene."
    site, client, found = world
    path = found[0].assets["image"].removeprefix(site.url)
    three = tmp_path / "three.tif"
    with rasterio.MemoryFile(site.files[path]) as memory, memory.open() as file, rasterio.open(three, "w", **file.profile | {"count": 3}) as few:
        few.write(file.read([1, 2, 3]))
    place = tmp_path / "e" / found[0].id
    place.mkdir(parents=True)
    (place / Path(path).name).write_bytes(three.read_bytes())
    [record] = download_scenes(found[:1], tmp_path / "e", client).done
    assert read_enmap(place).cube.shape[0] == 224 and (place / Path(path).name).read_bytes() == site.files[path]


# ---- damage

@pytest.mark.parametrize("fault", ["zeros", "flipped", "damaged"])
@pytest.mark.parametrize("key", ["image", "quality_classes", "defective_pixel_mask"])
def test_what_was_damaged_on_its_way_is_fetched_again(world, products, tmp_path, fault, key):
    site, client, found = world
    path = found[0].assets[key].removeprefix(site.url)
    site.faults[path] = [fault]
    download_scenes(found[:1], tmp_path, client)
    assert {p.name: p.read_bytes() for p in (tmp_path / found[0].id).iterdir()} == products[found[0].id]
    site.faults[path] = [fault] * 2
    [(_, reason)] = download_scenes(found[:1], tmp_path / "twice", client).skipped
    assert "fetched twice and no good" in reason and not list((tmp_path / "twice").rglob("*.part*"))


@pytest.mark.parametrize("damage", [lambda b: b[:4096] + bytes(len(b) - 4096), lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b[:-9], lambda b: b""],
                         ids=["zeros", "a bit", "shorter", "empty"])
def test_verify_heals_what_was_damaged_on_disk(world, products, tmp_path, damage, caplog):
    site, client, found = world
    download_scenes(found, tmp_path, client)
    place, partner = tmp_path / found[0].id, tmp_path / found[0].id / "sentinel2"
    partner.mkdir()
    (partner / "partner.json").write_text("{}")
    image = next(place.glob("*SPECTRAL*"))
    image.write_bytes(damage(image.read_bytes()))
    site.log.clear()
    report = download_scenes(found, tmp_path, client, verify=True)
    assert report.already == (found[1].id,) and [r["id"] for r in report.done] == [found[0].id]
    assert [Path(r.path).name for r in site.log] == [image.name] and image.name in caplog.text
    assert image.read_bytes() == products[found[0].id][image.name] and (partner / "partner.json").exists()
    site.log.clear()
    assert download_scenes(found, tmp_path, client, verify=True).already == tuple(f.id for f in found) and not site.log


def test_verify_heals_a_part_of_a_scene(world, tmp_path):
    site, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    box = the_box(tmp_path / "whole", found[0])
    download_scenes(found[:1], tmp_path / "part", client, window=box)
    place = tmp_path / "part" / found[0].id
    before = {p.name: p.read_bytes() for p in place.iterdir() if p.name != "window.json"}
    (place / "sentinel2").mkdir()
    image = next(place.glob("*SPECTRAL*"))
    image.write_bytes(image.read_bytes()[:-40] + bytes(40))
    next(place.glob("*HAZE*")).unlink()
    assert len(download_scenes(found[:1], tmp_path / "part", client, window=box, verify=True).done) == 1
    assert {p.name: p.read_bytes() for p in place.iterdir() if p.is_file() and p.name != "window.json"} == before and (place / "sentinel2").is_dir()
    assert sorted(p.name for p in (tmp_path / "part").iterdir()) == [".manifest.lock", found[0].id, "manifest.jsonl"]
    next(place.glob("*HAZE*")).unlink()
    assert download_scenes(found[:1], tmp_path / "part", client, window=box).done, "also without being asked to look"
    assert {p.name: p.read_bytes() for p in place.iterdir() if p.is_file() and p.name != "window.json"} == before


@pytest.mark.parametrize("key", ["image", "quality_classes"])
@pytest.mark.parametrize("fault", ["zeros", "flipped"])
def test_blocks_that_were_damaged_on_their_way_are_fetched_again(world, tmp_path, key, fault):
    site, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    box = the_box(tmp_path / "whole", found[0], (0, 40), (0, 44))
    path = found[0].assets[key].removeprefix(site.url)
    site.faults[path] = [None, fault, None, fault]
    for _ in range(2):
        report = download_scenes(found[:1], tmp_path / "part", client, window=box)
        if report.done:
            break
    assert report.done, report.skipped
    part, whole = (read_enmap(tmp_path / name / found[0].id) for name in ("part", "whole"))
    np.testing.assert_array_equal(part.cube.values, whole.cube.values)
    for name in QUALITY_LAYERS:
        np.testing.assert_array_equal(part.quality[name].values, whole.quality[name].values)


def test_what_is_no_product(world, products, tmp_path):
    site, client, found = world
    of = lambda key: found[0].assets[key].removeprefix(site.url)
    good = dict(site.files)
    wrong = {"metadata of another scene": (of("metadata"), good[found[1].assets["metadata"].removeprefix(site.url)], "is the metadata of"),
             "no XML": (of("metadata"), b"<level_X>", "well-formed"), "no TIFF": (of("image"), b"\x89PNG....", "is no TIFF"),
             "cut on the server": (of("image"), good[of("image")][:200_000], "truncated|read|ends too early"), "empty": (of("quality_snow"), b"", "no TIFF"),
             "a page": (of("quality_snow"), b"<html><body>Maintenance", "web page"),
             "too few bands": (of("image"), good[of("quality_snow")], "bands")}
    for name, (path, body, told) in wrong.items():
        site.files = good | {path: body}
        [(_, reason)] = download_scenes(found[:1], tmp_path / name, client).skipped
        assert re.search(told, reason) and "\n" not in reason, (name, reason)
        assert not list((tmp_path / name).rglob("*.part*")), name


@pytest.mark.parametrize("url", ["/ENMAP/..%2F..%2Fevil.TIF", "/ENMAP/evil.TIF", "/ENMAP/", "/x/{}-A%00.TIF", "/x/{}-A.TIF%2F..%2Fb"])
def test_addresses_that_are_none_of_the_scene(world, tmp_path, url):
    site, client, found = world
    bad = found_scene(found[0].id, found[0].assets | {"image": site.url + url.format(found[0].id)})
    [(_, reason)] = download_scenes([bad], tmp_path, client).skipped
    assert "none of this scene" in reason and not site.log
    [(_, reason)] = download_scenes([found_scene("../evil" + found[0].id, found[0].assets)], tmp_path, client).skipped
    assert "no identifier" in reason


def test_assets_missing_in_the_catalogue(world, tmp_path):
    _, client, found = world
    [(_, reason)] = download_scenes([found_scene("E1", {"metadata": "https://h/E1/E1-METADATA.XML"})], tmp_path, client).skipped
    assert "image" in reason


def test_some_assets(world, tmp_path):
    site, client, found = world
    record = download_scene(found[0], tmp_path, client, keys=["metadata"])
    assert [f["name"] for f in record["files"]] == [f"{found[0].id}-METADATA.XML"] and len(site.log) == 1


def test_a_bad_network(world, products, tmp_path):
    site, client, found = world
    site.faults[""] = ["cut", 503, "429 in 0", "html", "cut", 500, "range error"] * 3 + ["damaged"]
    client._patience.tries = 30
    assert len(download_scenes(found, tmp_path, client, parallel=2).done) == 2
    for name, files in products.items():
        assert {p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} == files


def test_a_refused_login_stops_everything(world, tmp_path):
    site, client, found = world
    path = found[1].assets["image"].removeprefix(site.url)
    site.faults[path] = [401] * 9
    site.sso.users = {}
    with pytest.raises(LoginError):
        download_scenes(found, tmp_path, client, parallel=1)
    assert [r["id"] for r in Manifest(tmp_path / "manifest.jsonl").records()] == [found[0].id], "what is complete stays so"


@pytest.mark.parametrize("basic", ["accept", "refuse", "ignore"])
@pytest.mark.parametrize("parallel", [1, 4])
@pytest.mark.parametrize("closed", [0, 1])
def test_a_scene_that_is_refused_does_not_stop_the_others(world, tmp_path, basic, parallel, closed):
    "Be it the first or the last: the account is known, and lets in elsewhere."
    site, client, found = world
    site.basic = basic
    site.faults[f"/{found[closed].id}-METADATA.XML"] = [403] * 99
    report = download_scenes(found, tmp_path, client, parallel=parallel)
    assert [r["id"] for r in report.done] == [found[1 - closed].id]
    [(name, reason)] = report.skipped
    assert name == found[closed].id and "no permission for it (status 403)" in reason and site.sso.logins < 5


def test_an_account_that_is_refused_everywhere_stops_soon(world, tmp_path):
    site, client, found = world
    site.allowed = False
    many = [found_scene(found[0].id[:-1] + str(n), {k: url.replace(found[0].id, found[0].id[:-1] + str(n)) for k, url in found[0].assets.items()}) for n in range(9)]
    with pytest.raises(LoginError, match="EnMAP Access Service"):
        download_scenes(many, tmp_path, client, parallel=1)
    assert site.sso.logins == 3


def test_folders(world, tmp_path):
    _, client, found = world
    with alone_in(tmp_path), pytest.raises(DownloadError, match="another run"):
        download_scenes(found, tmp_path, client)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        download_scenes(found, tmp_path / "file", client)


def test_the_lock_follows_no_link(world, tmp_path):
    _, client, found = world
    (tmp_path / "in").mkdir()
    (tmp_path / "mine").write_text("my own text")
    (tmp_path / "in/.manifest.lock").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="cannot be locked"):
        download_scenes(found, tmp_path / "in", client)
    assert (tmp_path / "mine").read_text() == "my own text"


def test_a_hostile_manifest(world, tmp_path):
    "Lines that are no records are left out; those that name files elsewhere touch none."
    _, client, found = world
    (tmp_path / "mine").write_text("my own text")
    record = {"id": found[0].id, "window": None, "files": [{"name": "../../mine", "size": 3}]}
    lines = [b"\xff\xfe", b"[" * 100_000, b"[1]", b'{"id": ["a"]}', b'{"id": 7, "files": 1}', json.dumps(record).encode(), b'"x"']
    (tmp_path / "in").mkdir()
    (tmp_path / "in/manifest.jsonl").write_bytes(b"\n".join(lines))
    assert len(download_scenes(found, tmp_path / "in", client).done) == len(found)
    assert (tmp_path / "mine").read_text() == "my own text"


@pytest.mark.parametrize("kind", ["folder", "pipe", "too large"])
def test_a_manifest_that_cannot_be_read_is_put_aside(world, tmp_path, monkeypatch, caplog, kind):
    site, client, found = world
    download_scenes(found, tmp_path, client)
    path = tmp_path / "manifest.jsonl"
    before = path.read_bytes()
    if kind == "too large":
        monkeypatch.setattr(bulk, "_LARGEST_MANIFEST", 10)
        path.write_bytes(before)
    else:
        path.unlink()
        path.mkdir() if kind == "folder" else os.mkfifo(path)
    (tmp_path / "manifest.jsonl.1").write_text("of old")
    site.log.clear()
    assert len(download_scenes(found, tmp_path, client).done) == 2 or kind == "too large"
    assert not site.log and "is now manifest.jsonl.2" in caplog.text
    assert (tmp_path / "manifest.jsonl.1").read_text() == "of old" and (tmp_path / "manifest.jsonl.2").exists() and path.is_file()


def test_a_manifest_with_what_cannot_be_written(world, tmp_path):
    _, client, found = world
    (tmp_path / "manifest.jsonl").write_text('{"id": "\\ud800", "files": []}\n{"id": "old", "citation": "a\u2028b"}\n')
    assert len(download_scenes(found, tmp_path, client).done) == 2
    assert {r["id"] for r in Manifest(tmp_path / "manifest.jsonl").records()} == {"old", *(f.id for f in found)}


@pytest.mark.parametrize("more", [170, 4000])
def test_a_name_that_no_file_can_have_costs_its_scene_only(world, tmp_path, more):
    "With the endings of what is under way it has to fit into 255 bytes."
    _, client, found = world
    long = found_scene(found[0].id, found[0].assets | {"quality_haze": found[0].assets["quality_haze"].replace("QL_QUALITY_HAZE", "QL_QUALITY_HAZE" + "x" * more)})
    report = download_scenes([long, found[1]], tmp_path, client)
    assert [r["id"] for r in report.done] == [found[1].id]
    [(name, reason)] = report.skipped
    assert name == found[0].id and "letters" in reason and len(reason) < 400


@pytest.mark.parametrize("url", ["http://[", "http://[x]/a", "https://h:port/", "http://h:99999999/a", "http:///a", "https://h/\x00"])
def test_what_is_no_address_costs_its_scene_only(world, tmp_path, url):
    _, client, found = world
    odd = found_scene(found[0].id, found[0].assets | {"image": url})
    report = download_scenes([odd, found[1]], tmp_path, client)
    assert [r["id"] for r in report.done] == [found[1].id] and len(report.skipped) == 1


def test_what_lies_in_the_way_of_a_scene_costs_only_that(world, tmp_path):
    _, client, found = world
    (tmp_path / found[0].id).write_text("mine")
    report = download_scenes(found, tmp_path, client)
    assert [r["id"] for r in report.done] == [found[1].id] and "cannot be made a folder" in report.skipped[0].reason
    assert (tmp_path / found[0].id).read_text() == "mine"


# ---- windows

def test_window(world, tmp_path):
    site, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    whole, box = read_enmap(tmp_path / "whole" / found[0].id), the_box(tmp_path / "whole", found[0])
    site.sent.clear()
    [record] = download_scenes(found[:1], tmp_path / "part", client, window=box).done
    assert record["window"] == list(box) and sorted(p.name for p in (tmp_path / "part").iterdir()) == [".manifest.lock", found[0].id, "manifest.jsonl"]
    part = read_enmap(tmp_path / "part" / found[0].id)
    assert part.cube.shape[1:] == (8, 7)
    same = lambda layer, of: np.testing.assert_array_equal(layer.values, of.sel(x=part.cube.x, y=part.cube.y).values)
    same(part.cube, whole.cube)
    assert set(part.quality) == set(QUALITY_LAYERS)
    for name, layer in part.quality.items():
        same(layer, whole.quality[name])
    image = found[0].assets["image"].removeprefix(site.url)
    assert sum(stop - start for path, start, stop in site.sent if path == image) < len(site.files[image]) / 3

    xml = next((tmp_path / "part" / found[0].id).glob("*METADATA.XML"))
    root = parse_xml(xml.read_bytes(), xml.name)
    assert (root.findtext("specific/heightOfOrthoScene"), root.findtext("product/image/merge/dimension/columns")) == ("8", "7")
    assert root.findtext("product/image/merge/name") == record["files"][1]["name"]
    (west, north), _, (east, south), _ = part.metadata.footprint
    assert west < box[0] < box[2] < east and south < box[1] < box[3] < north and east - west < 1.4 * (box[2] - box[0])
    assert part.metadata.id == found[0].id and part.metadata.start == whole.metadata.start

    site.log.clear()
    assert download_scenes(found[:1], tmp_path / "part", client, window=box).already == (found[0].id,)
    assert download_scenes(found[:1], tmp_path / "whole", client, window=box).already == (found[0].id,), "the whole has every part"
    (tmp_path / "part" / "manifest.jsonl").unlink()
    assert download_scenes(found[:1], tmp_path / "part", client, window=box).done == (record,)
    for window in None, (*box[:3], box[3] + 0.001):
        [(_, reason)] = download_scenes(found[:1], tmp_path / "part", client, window=window).skipped
        assert "delete" in reason
    assert not site.log


def test_window_beyond_the_scene(world, tmp_path):
    _, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    west, south, east, north = the_box(tmp_path / "whole", found[0], (0, 40), (0, 44))
    download_scenes(found[:1], tmp_path / "all", client, window=(west - 1, south - 1, east + 1, north + 1))
    np.testing.assert_array_equal(read_enmap(tmp_path / "all" / found[0].id).cube.values, read_enmap(tmp_path / "whole" / found[0].id).cube.values)
    [(_, reason)] = download_scenes(found[:1], tmp_path / "none", client, window=(east + 1, south, east + 2, north)).skipped
    assert "does not touch" in reason and not (tmp_path / "none" / found[0].id).exists()


@pytest.mark.parametrize("n", range(0, 24, 3))
def test_window_goes_on(world, tmp_path, n):
    "The server goes down after some requests; later what is missing is read."
    site, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    box = the_box(tmp_path / "whole", found[0])
    site.faults[""] = [None] * n + [503] * 3
    first = download_scenes(found[:1], tmp_path / "part", client, window=box)
    if first.skipped:
        assert "status 503" in first.skipped[0].reason and "given up" in first.skipped[0].reason
        assert not (tmp_path / "part" / found[0].id).exists()
        site.faults.clear()
        assert download_scenes(found[:1], tmp_path / "part", client, window=box).done
    assert read_enmap(tmp_path / "part" / found[0].id).cube.shape == (224, 8, 7)


def test_window_of_layers_that_do_not_fit(world, tmp_path):
    site, client, found = world
    download_scenes(found[:1], tmp_path / "whole", client)
    box = the_box(tmp_path / "whole", found[0])
    other = found[1].assets["quality_snow"].removeprefix(site.url)
    shifted = tmp_path / "shifted.tif"
    shifted.write_bytes(site.files[other])
    with rasterio.open(shifted, "r+") as file:
        file.transform = file.transform * file.transform.translation(1, 0)
    site.files[found[0].assets["quality_snow"].removeprefix(site.url)] = shifted.read_bytes()
    [(_, reason)] = download_scenes(found[:1], tmp_path / "part", client, window=box).skipped
    assert "lies elsewhere" in reason
    site.files[found[0].assets["image"].removeprefix(site.url)] = b"\0" * 5000
    [(_, reason)] = download_scenes(found[:1], tmp_path / "bad", client, window=box).skipped
    assert "in parts" in reason


def test_window_and_unknown_product(world, tmp_path):
    _, client, found = world
    (tmp_path / found[0].id).mkdir()
    with pytest.raises(ProductError, match="delete"):
        download_scene(found[0], tmp_path, client, window=(0, 0, 1, 1))
