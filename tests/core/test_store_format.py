"Stores from others are looked at before anything of them is opened."
import json
import os
import pickle
import shutil
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from numcodecs.abc import Codec

from enmap_sharpener.core.errors import ProductError
from enmap_sharpener.core.files import read_json
from enmap_sharpener.core.store_format import check_format
from enmap_sharpener.preprocessing.outliers import inspect
from enmap_sharpener.preprocessing.splits import record_split
from enmap_sharpener.preprocessing.tile_store import open_store, write_prediction_store, write_wald_store
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A store for training, and one for prediction."
    folder = tmp_path_factory.mktemp("stores")
    pair = simulate_pair((50, 60), seed=3)[:2]
    write_wald_store(*pair, folder / "wald.zarr", tile=16, stride=16)
    write_prediction_store(*pair, folder / "prediction.zarr")
    return folder


@pytest.fixture
def place(made, tmp_path):
    "A store that may be changed."
    return Path(shutil.copytree(made / "wald.zarr", tmp_path / "a.zarr"))


def change(place, name, *, copies=True, own=True, **values):
    "Change metadata of a store: an array's or a group's own, and the consolidated copy of them."
    for file, wanted in ((place / name, own), (place / ".zmetadata", copies)):
        content = json.loads(file.read_text())
        (content["metadata"][name] if file.name == ".zmetadata" else content).update(values)
        if wanted:
            file.write_text(json.dumps(content))


class Unpickling(Codec):
    "The codec `pickle`, as numcodecs registered it up to 0.16.5 and does under Python 3.10."
    codec_id = "pickle"

    def encode(self, buf):
        return pickle.dumps(buf)

    def decode(self, buf, out=None):
        return pickle.loads(bytes(buf))


class Attack:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def unpickled(monkeypatch):
    monkeypatch.setitem(numcodecs.registry.codec_registry, "pickle", Unpickling)


@pytest.mark.parametrize("where", ["filters", "compressor"])
@pytest.mark.parametrize("copies, own", [(True, True), (True, False), (False, True)])
def test_no_pickle_is_read(unpickled, place, where, copies, own):
    mark = place.parent / "attacked"
    change(place, "row/.zarray", copies=copies, own=own, **{"compressor": None} | {where: [{"id": "pickle"}] if where == "filters" else {"id": "pickle"}})
    (place / "row/0").write_bytes(pickle.dumps(Attack(mark)))
    for opening in (check_format, open_store, lambda p: record_split(p, 0, {})):
        with pytest.raises(ProductError, match="'pickle' in row") as error:
            opening(place)
        assert "\n" not in str(error.value) and not mark.exists()


def test_inspect_tells_and_goes_on(unpickled, place, made):
    mark = place.parent / "attacked"
    change(place, "row/.zarray", dtype="|O", compressor=None, filters=[{"id": "pickle"}])
    (place / "row/0").write_bytes(pickle.dumps(Attack(mark)))
    for name in ("wald", "prediction"):
        shutil.copytree(made / f"{name}.zarr", place.parent / f"{name}.zarr")
    table = inspect(place.parent)
    assert "'pickle'" in table.outlier["a"] and "\n" not in table.outlier["a"] and not mark.exists()
    assert np.isfinite(table.enmap_mb["wald"]) and "refused" not in table.outlier["wald"] and "for prediction" in table.outlier["prediction"]


@pytest.mark.parametrize("values, told", [
    ({"dtype": "|O"}, "the type '|O'"), ({"dtype": "|V8"}, "the type"), ({"dtype": [["a", "|O"]]}, "the type"), ({"dtype": 5}, "the type"),
    ({"filters": [{"id": "json2"}]}, "json2"), ({"filters": {"id": "pickle"}}, "pickle"), ({"filters": 5}, "codec"), ({"filters": [[]]}, "codec"),
    ({"filters": [{"id": "vlen-utf8"}]}, "vlen-utf8"), ({"compressor": {"id": "zlib"}}, "zlib"), ({"compressor": "blosc"}, "blosc"), ({"compressor": None}, "None"),
    ({"shape": [10**12], "chunks": [10]}, "1000000000000"), ({"chunks": [10**12]}, "1000000000000"), ({"chunks": [0]}, "shape"), ({"shape": [-1]}, "shape"),
    ({"shape": [[1]]}, "shape"), ({"shape": [2.0]}, "shape"), ({"shape": None}, "shape"), ({"shape": [1] * 40, "chunks": [1] * 40}, "shape"),
    ({"order": "F"}, "metadata"), ({"dimension_separator": "/"}, "metadata"), ({"zarr_format": 3}, "format"), ({"attributes": {}}, "metadata"),
])
def test_what_this_package_does_not_write_is_refused_by_name(place, values, told):
    for copies in (True, False):
        shutil.copytree(place, there := place.with_name(f"{copies}.zarr"))
        change(there, "row/.zarray", copies=copies, own=not copies, **values)
        with pytest.raises(ProductError) as error:
            open_store(there)
        assert told in str(error.value) and "\n" not in str(error.value) and len(str(error.value)) < 500


def test_other_formats_are_refused(place, tmp_path):
    zarr.open_group(str(tmp_path / "three.zarr"), mode="w", zarr_format=3)
    for there in (tmp_path / "three.zarr", place):
        (there / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "codecs": [{"name": "sharding_indexed", "configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}]}')
        with pytest.raises(ProductError, match="zarr.json"):
            open_store(there)
    (place / "zarr.json").rename(place / "row/zarr.json")
    with pytest.raises(ProductError, match="row/zarr.json"):
        open_store(place)
    (place / "row/zarr.json").unlink()
    shutil.copy(place / ".zgroup", place / "row/.zgroup")
    with pytest.raises(ProductError, match="row/.zgroup"):
        open_store(place)


def test_nothing_leads_out(place, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name, make in (("row/0", lambda p: p.symlink_to(secret)), ("hs/0.0.0.0", os.mkfifo), (".zattrs", lambda p: p.symlink_to(secret)), ("more", lambda p: p.symlink_to(tmp_path))):
        shutil.copytree(place, there := tmp_path / "led.zarr")
        (there / name).unlink(missing_ok=True)
        make(there / name)
        with pytest.raises(ProductError, match="a link or a device in it"):
            open_store(there)
        shutil.rmtree(there)
    there.symlink_to(place)     # a store that the user linked into place
    assert open_store(there).sizes == open_store(place).sizes


@pytest.mark.parametrize("name", ["../row/.zarray", "/etc/.zarray", "a/b/.zarray", "zarr.json", "row/.zgroup", ".zarray", "..", ""])
def test_metadata_of_what_lies_elsewhere(place, name):
    content = read_json(place / ".zmetadata")
    content["metadata"][name] = content["metadata"]["row/.zarray"]
    (place / ".zmetadata").write_text(json.dumps(content))
    with pytest.raises(ProductError, match="the metadata"):
        open_store(place)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", '{"metadata": []}', '{"metadata": {}}', '{"metadata": {".zgroup": 5}}', "[" * 100_000, '{"a":' * 100_000, "\x00", "NaN"])
def test_metadata_that_are_none(place, text):
    for name in (".zmetadata", ".zattrs", "row/.zarray", "row/.zattrs", ".zgroup")[:1 if "metadata" in text else None]:
        shutil.copytree(place, there := place.with_name("none.zarr"))
        (there / name).write_text(text)
        with pytest.raises(ProductError) as error:
            open_store(there)
        assert "\n" not in str(error.value)
        shutil.rmtree(there)


@pytest.mark.parametrize("values", [
    {"kind": []}, {"kind": {"a": 1}}, {"files": 5}, {"files": ["hs"]}, {"files": {"hs": "x"}}, {"files": {"hs": 1, "../a": 0}}, {"settings": None}, {"settings": {"tile": 16}},
    {"settings": {"tile": "16", "stride": 16}}, {"settings": {"tile": 16, "stride": 0}}, {"settings": {"tile": 10**9, "stride": 1}}, {"shape": [10**9, 10**9]}, {"shape": [5]},
    {"shape": ["a", "b"]}, {"shape": [1, 1]}, {"transform": [1]}, {"transform": None}, {"transform": [float("nan")] * 6}, {"crs": "nonsense"}, {"crs": 5},
    {"scene_id": "../../out"}, {"scene_id": None}, {"scene_id": "/etc/passwd"}])
def test_attributes_that_are_none(place, values):
    change(place, ".zattrs", **values)
    with pytest.raises(ProductError) as error:
        open_store(place)
    assert "\n" not in str(error.value)


def test_arrays_are_those_of_tiles(place):
    for name, values in (("hs/.zattrs", {"_ARRAY_DIMENSIONS": ["a", "b", "c", "d"]}), ("row/.zattrs", {"_ARRAY_DIMENSIONS": []}), ("row/.zattrs", {"units": "days since yesterday"})):
        shutil.copytree(place, there := place.with_name("other.zarr"))
        change(there, name, **values)
        with pytest.raises(ProductError):
            open_store(there)
        shutil.rmtree(there)


def test_what_killed_runs_leave_is_no_fault(place):
    (place / "hs" / f"0.0.0.0.{'0' * 32}.partial").write_bytes(b"")
    (place / ".zattrs.abcd1234.part").mkdir()
    (place / "note.txt").write_text("mine")
    check_format(place)
