"Small files that commands write and read again may come from others: each is left out or refused in one line, whatever it says."
import json
import os

import pandas as pd
import pytest

from enmap_sharpener.core.errors import EnmapError
from enmap_sharpener.core.files import read_facts
from enmap_sharpener.core.ledger import Ledger, finish, removable, state
from enmap_sharpener.evaluation.agreement import read_geometry
from enmap_sharpener.evaluation.tables import read_results
from enmap_sharpener.preprocessing.crop import CropRecord
from enmap_sharpener.preprocessing.quarantine import rejected
from enmap_sharpener.scraping.bulk import Manifest, _complete
from enmap_sharpener.scraping.services import pairs_table

ODD = [None, 5, -1, True, "text", "../../x", "\0", "x" * 5000, [], {}, [[]], float("nan"), float("inf"), 10**400, ["\ud800"], {"a": None}]
RAW = [b"", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe\x00", b"\0" * 50, b"NaN", b'{"a": 1', b"1" * 10_000, b'"' + b"x" * 2**25 + b'"']
GOOD = {
    "partner.json": {"scene": "a", "provider": "p", "chosen": {"start": "2023-07-16T10:20:30+00:00", "days": 1.5, "platform": "S2A", "cloud": 2.0, "overlap": 1.0},
                     "angles": {"enmap": {"sun_elevation": 5.0, "view_zenith": 2.0}, "sentinel2": {}}, "units": {"spent": 5.0}},
    "record": {"id": "scene", "window": None, "files": [{"name": "a.tif", "size": 5}]},
    "done.json": {"wald": {"time": "t", "settings": {}, "inputs": "i", "outputs": {"model_input/a.zarr": 5}, "changed": {"model_input/a.zarr": 5}, "cleaned": ["a"]}},
    "line": {"path": "scene/a", "stage": "wald", "scene": "scene", "bytes": 5},
    "crop.json": {"rows": [0, 5], "cols": [0, 5], "shape": [9, 9], "measured": 1.0, "kept": 1.0, "masked": 0.0, "layers": ["a"], "missing": []},
    "rejected.json": {"reasons": ["too cloudy"], "found": {}},
    "item.json": {"properties": {"enmap_sharpener:alignment": {"VNIR": {"shift": [0.1, 0.2], "sigma": [0.5, 0.5]}}}},
    "scores.json": {"case": "c", "method": "m", "scores": {"psnr": 40.0}},
}


def variants(value):
    "A value with one part of it replaced by what it should not be."
    yield from ODD
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in parts:
        for other in variants(inner):
            copy = dict(value) if isinstance(value, dict) else list(value)
            copy[key] = other
            yield copy
    if isinstance(value, dict):
        for key in value:
            yield {k: v for k, v in value.items() if k != key}


def texts(name):
    "Contents of a file."
    yield from RAW
    for value in variants(GOOD[name]):
        yield json.dumps(value).encode()


def told(read):
    "What is read, or one line."
    try:
        return read()
    except EnmapError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
        return None


def test_partners(tmp_path):
    (tmp_path / "scene/sentinel2").mkdir(parents=True)
    (tmp_path / "scene/scene-METADATA.XML").touch()
    for text in texts("partner.json"):
        (tmp_path / "scene/sentinel2/partner.json").write_bytes(text)
        table = told(lambda: pairs_table(tmp_path))
        assert table is None or isinstance(table, pd.DataFrame)


def test_manifests(tmp_path):
    for text in texts("record"):
        (tmp_path / "manifest.jsonl").write_bytes(text + b"\n")
        for record in (told(Manifest(tmp_path / "manifest.jsonl").read) or {}).values():
            assert not _complete(record, tmp_path, None, tidy=True)


def test_what_a_linked_scene_leads_to_is_not_removed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    (tmp_path / "scenes").mkdir()
    (tmp_path / "scenes/scene").symlink_to(tmp_path / "mine")
    assert not _complete({"id": "scene", "window": None, "files": [{"name": "letter.txt", "size": 1}]}, tmp_path / "scenes", None, tidy=True)
    assert (tmp_path / "mine/letter.txt").read_text() == "dear"


def test_ledgers(tmp_path):
    ledger = Ledger(tmp_path)
    (tmp_path / "scene").mkdir()
    for text in texts("done.json"):
        (tmp_path / "scene/done.json").write_bytes(text)
        assert state(ledger, "scene", "wald", {}, "i") in ("todo", "cleaned")
        for record in ({"path": "scene/done.json", "stage": "wald", "scene": "scene", "bytes": len(text)},):
            assert removable(ledger, record) is None
    for text in texts("line"):
        (tmp_path / "records.jsonl").write_bytes(text + b"\n")
        for record in (told(ledger.records) or {}).values():
            assert removable(ledger, record) is None
    finish(ledger, "scene", "wald", {}, "i", [])
    assert ledger.done("scene")["wald"]["inputs"] == "i"


def test_crops_and_rejections(tmp_path):
    for text in texts("crop.json"):
        (tmp_path / "crop.json").write_bytes(text)
        found = told(lambda: CropRecord.read(tmp_path))
        assert found is None or isinstance(found.window[0], slice)
    place = tmp_path / "rejected/1/scene"
    place.mkdir(parents=True)
    for text in texts("rejected.json"):
        (place.parent / "rejected.json").write_bytes(text)
        assert all(isinstance(reason, str) for reason in rejected(tmp_path).reasons)


def test_items_and_results(tmp_path):
    for text in texts("item.json"):
        (tmp_path / "a.json").write_bytes(text)
        for found in read_geometry(tmp_path / "a.tif").values():
            assert len(found.get("shift", (0, 0))) == 2
    (tmp_path / "c").mkdir()
    for text in texts("scores.json"):
        (tmp_path / "c/m.scores.json").write_bytes(text)
        told(lambda: read_results(tmp_path))


@pytest.mark.parametrize("text", RAW)
def test_facts(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    assert read_facts(tmp_path / "a.json") == {} == read_facts(tmp_path / "none.json") == read_facts(os.fspath(tmp_path))


def test_a_pipe_holds_no_facts(tmp_path):
    os.mkfifo(tmp_path / "a.json")
    assert read_facts(tmp_path / "a.json") == {}      # nobody writes: who opens it waits
