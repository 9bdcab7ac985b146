"The catalogue of a hundred thousand scenes: no file grows with their number, and nothing is read twice."
import json
import os
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("papermill", reason="needs the extra `batch`")

import pystac  # noqa: E402

from enmap_sharpener.batch import catalogue  # noqa: E402
from enmap_sharpener.batch.catalogue import write_catalogue  # noqa: E402


def item(name, number):
    "Little more than an item must have."
    west = 10 + number % 50 / 10
    ring = [[west, 50], [west + 1, 50], [west + 1, 51], [west, 51], [west, 50]]
    return {"type": "Feature", "stac_version": "1.1.0", "id": name, "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, 50, west + 1, 51],
            "properties": {"datetime": f"2023-{number % 12 + 1:02d}-01T10:00:00Z"}, "links": [{"rel": "derived_from", "href": "../../data/source"}, {"rel": "license", "href": "https://example.org/licence"}],
            "assets": {"data": {"href": f"{name}.tif"}}}


def finished(folder, names, begin=0):
    "Scenes that are done."
    for number, name in enumerate(names, begin):
        (folder / name).mkdir(parents=True)
        (folder / name / f"{name}.json").write_text(json.dumps(item(name, number)))
        (folder / name / "done.json").write_text('{"seconds": 1.0, "files": {}}')
    return folder


@pytest.fixture
def read(monkeypatch):
    "Items that are read, and how often."
    found = Counter()

    def counted(path, before=catalogue.read_facts):
        found[Path(path).name] += 1
        return before(path)
    monkeypatch.setattr(catalogue, "read_facts", counted)
    return found


NAMES = [f"scene{n:04d}" for n in range(2500)]


def test_a_catalogue_of_thousands_has_no_long_file(tmp_path):
    folder = finished(tmp_path / "sharpen", NAMES)
    top = pystac.Catalog.from_file(str(write_catalogue(folder)))
    collection = next(top.get_children())
    assert [child.title for child in collection.get_child_links()] == ["scene0000 to scene0999", "scene1000 to scene1999", "scene2000 to scene2499"]
    assert collection.extent.spatial.bboxes == [[10, 50, 15.9, 51]] and [f"{t:%m}" for t in collection.extent.temporal.intervals[0]] == ["01", "12"]
    assert max(path.stat().st_size for path in (folder / "stac").rglob("*.json")) < 250_000
    found = list(collection.get_items(recursive=True))
    assert [one.id for one in found] == NAMES
    for one in found[::700]:
        assert one.get_parent().id.startswith("enmap-sharpened-") and one.get_collection().id == "enmap-sharpened" and one.get_root().id == "enmap-sharpener"
        assert Path(one.assets["data"].get_absolute_href()) == folder / one.id / f"{one.id}.tif"
        assert Path(one.get_single_link("derived_from").get_absolute_href()) == tmp_path / "data/source"
        assert one.get_single_link("license").href == "https://example.org/licence" and str(tmp_path) not in Path(one.get_self_href()).read_text()


def test_one_scene_more_costs_one_scene(tmp_path, read):
    folder = finished(tmp_path / "sharpen", NAMES[:1500])
    write_catalogue(folder)
    assert sum(read.values()) == 2 * 1500      # what the collection has to know, and the copy
    read.clear()
    kept = (folder / "stac/enmap-sharpened/0001/scene0000/scene0000.json").stat().st_ino
    write_catalogue(folder)
    assert not read
    finished(folder, ["scene9999"])
    write_catalogue(folder)
    assert read == {"scene9999.json": 2} and (folder / "stac/enmap-sharpened/0001/scene0000/scene0000.json").stat().st_ino == kept
    os.utime(folder / "scene0003/scene0003.json", (1, 1))     # made anew
    read.clear()
    write_catalogue(folder)
    assert read == {"scene0003.json": 2}
    assert len(list(pystac.Catalog.from_file(str(folder / "stac/catalog.json")).get_items(recursive=True))) == 1501


def test_a_catalogue_grows_and_shrinks(tmp_path, monkeypatch):
    "From items in the collection to catalogues of some each, and back."
    monkeypatch.setattr(catalogue, "_MOST", 3)
    ids = lambda: [one.id for one in pystac.Catalog.from_file(str(write_catalogue(folder))).get_items(recursive=True) if one.get_root().id == "enmap-sharpener"]
    folder = finished(tmp_path / "sharpen", NAMES[:3])
    assert ids() == NAMES[:3] and (folder / "stac/enmap-sharpened/scene0000/scene0000.json").exists()
    finished(folder, NAMES[3:7], begin=3)
    assert ids() == NAMES[:7] and (folder / "stac/enmap-sharpened/0003/scene0006/scene0006.json").exists()
    for name in NAMES[2:7]:
        (folder / name / "done.json").unlink()
    assert ids() == NAMES[:2] and not (folder / "stac/enmap-sharpened/0001").exists()


@pytest.mark.parametrize("damage", ["", "{", '{"id": 3}\n', "[]\n"])
def test_a_damaged_catalogue_is_made_anew(tmp_path, damage):
    folder = finished(tmp_path / "sharpen", NAMES[:2])
    write_catalogue(folder)
    (folder / "stac/items.jsonl").write_text(damage)
    assert len(list(pystac.Catalog.from_file(str(write_catalogue(folder))).get_items(recursive=True))) == 2


def test_items_that_cannot_be_listed(tmp_path, caplog):
    folder = finished(tmp_path / "sharpen", NAMES[:2])
    for name, change in {"out": {"id": "../../out"}, "nowhere": {"bbox": None}, "endless": {"bbox": [1, 2, float("nan"), 3]}, "bare": {"links": None}}.items():
        finished(folder, [name])
        (folder / name / f"{name}.json").write_text(json.dumps(item(name, 0) | change))
    for place in ("scene0000/again.json", "scene0000/below/again.json"):       # of one name in one scene, and that of another scene
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(json.dumps(item("scene0001", 1)))
    found = sorted(one.id for one in pystac.Catalog.from_file(str(write_catalogue(folder))).get_items(recursive=True))
    assert len(set(found)) == 4 and {"scene0000", "scene0000_scene0001", "scene0001_scene0001"} < set(found)
    assert sum("is no STAC item that can be catalogued" in line for line in caplog.messages) == 4
