"Networks' files from others are looked at before Keras opens them."
import io
import json
import os
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
from networks import network

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import ModelError
from enmap_sharpener.model.keras_file import check_keras_file
from enmap_sharpener.model.supermapnet import load_model, save_model

WEIGHTS = "model.weights.h5"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    "The members of a sound file."
    path = tmp_path_factory.mktemp("net") / "good.keras"
    save_model(network(), path)
    load_model(path)
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.fixture
def write(good, tmp_path):
    "A file with other members."
    def make(compression=zipfile.ZIP_STORED, **others):
        with zipfile.ZipFile(tmp_path / "evil.keras", "w", compression) as file:
            for name, content in (good | {"model.weights.h5" if k == "weights" else f"{k}.json": v for k, v in others.items()}).items():
                file.writestr(name, content)
        return tmp_path / "evil.keras"
    return make


def changed(good, where, value):
    "The configuration with another value somewhere."
    config = json.loads(good["config.json"])
    *above, last = where.split(".")
    inner = config
    for key in above:
        inner = inner[key]
    inner[last] = value
    return json.dumps(config)


def refused(path, match=""):
    "Both refuse a file, in one line."
    for opening in (check_keras_file, load_model):
        with pytest.raises(ModelError, match=match) as error:
            opening(path)
        assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_what_is_written_passes(write, good):
    check_keras_file(write())
    check_keras_file(write(zipfile.ZIP_DEFLATED))
    check_keras_file(write(config=changed(good, "module", "enmap_sharpener.model")))     # before there were rooms
    check_keras_file(write(config=changed(good, "module", None)))                        # from the notebook that makes the class: only what is registered is looked up


CALL = {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"}
LAMBDA = {"module": "keras.layers", "class_name": "Lambda", "registered_name": None,
          "config": {"name": "l", "function": {"class_name": "__lambda__", "config": {"code": "4wAA", "defaults": None, "closure": None}}, "arguments": {}}}


@pytest.mark.parametrize("where", ["config.contract", "config.dtype", "config.contract.trained_on", "config.residual", "build_config", "compile_config"])
@pytest.mark.parametrize("evil", [CALL, LAMBDA, {"class_name": "__lambda__"}, [[LAMBDA]], {"a": {"b": [CALL]}}], ids=["call", "lambda", "code", "list", "deep"])
def test_no_object_is_made(write, good, where, evil):
    refused(write(config=changed(good, where, evil)), "the object|the setting")


@pytest.mark.parametrize("key, value", [("class_name", "Functional"), ("class_name", "Sequential"), ("class_name", None), ("class_name", []), ("module", "os"),
                                        ("registered_name", "system"), ("registered_name", None), ("config", []), ("config", "os.system"), ("config.more", 1), ("more", 1)])
def test_no_other_class_is_looked_up(write, good, key, value):
    refused(write(config=changed(good, key, value)))


def test_a_lambda_in_a_network_of_layers(write, tmp_path):
    mark = tmp_path / "attacked"
    config = {"module": "keras", "class_name": "Sequential", "registered_name": None, "build_config": {}, "compile_config": {}, "config": {"name": "s", "layers": [
        {"module": "subprocess", "class_name": "run", "config": {"args": ["touch", str(mark)]}, "registered_name": "run"}, LAMBDA]}}
    refused(write(config=json.dumps(config)), "of the kind Sequential")
    assert not mark.exists()


@pytest.mark.parametrize("text", ["", "5", "[]", "null", "{}", "[" * 100_000, '{"config":' * 100_000, "NaN", b"\xff\xfe", "{" + '"a":1,' * 3])
def test_configurations_that_are_none(write, text):
    refused(write(config=text))


@pytest.mark.parametrize("settings", [{"main_filters": [60_000] * 3}, {"main_kernels": [[900, 900, 900]] * 4}, {"detail_filters": [10**12, 4, 3]}, {"channels": 10**9},
                                      {"main_filters": [-1] * 3}, {"main_filters": "abc"}, {"main_kernels": [[3] * 10_000] * 4}, {"main_filters": [1] * 10_000}, {"channels": None}])
def test_layers_that_would_fill_the_memory(write, good, settings):
    config = json.loads(good["config.json"])
    config["config"].update(settings)
    refused(write(config=json.dumps(config)), "layers")


# ---- members

def test_members(write, good, tmp_path):
    with zipfile.ZipFile(write(), "a") as file:
        file.writestr("assets/x.txt", "more")
    refused(tmp_path / "evil.keras", "assets/x.txt")
    with zipfile.ZipFile(write(), "a") as file, pytest.warns(UserWarning, match="Duplicate"):
        file.writestr("config.json", "{}")
    refused(tmp_path / "evil.keras", "nothing else")
    with zipfile.ZipFile(tmp_path / "evil.keras", "w") as file:
        file.writestr("config.json", good["config.json"])
    refused(tmp_path / "evil.keras", "nothing else")


def test_huge_members(write):
    refused(write(zipfile.ZIP_DEFLATED, config=b" " * 2**25), "config.json has 34 MB")
    refused(write(zipfile.ZIP_DEFLATED, metadata=b" " * 2**25), "metadata.json has 34 MB")
    with zipfile.ZipFile(path := write(), "a") as file:     # what the directory of a ZIP says is checked before anything is unpacked
        file.getinfo(WEIGHTS).file_size = 2**40
        file._didModify = True
    refused(path, f"{WEIGHTS} has 1,099,512 MB")


# ---- weights

def weights(good, change):
    "Weights that were changed."
    store = io.BytesIO(good[WEIGHTS])
    with h5py.File(store, "a") as file:
        change(file)
    return store.getvalue()


def external(file, secret):
    shape = file["first/vars/1"].shape
    del file["first/vars/1"]
    file["first/vars"].create_dataset("1", shape, "f4", external=[(os.fspath(secret), 0, h5py.h5f.UNLIMITED)])


def virtual(file, secret):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource(os.fspath(secret), "a", (3,))
    del file["first/vars/1"]
    file["first/vars"].create_virtual_dataset("1", layout)


def replaced(**options):
    def change(file, _):
        del file["first/vars/1"]
        file["first/vars"].create_dataset("1", **options)
    return change


def linked(link):
    def change(file, secret):
        del file["first/vars/1"]
        file["first/vars/1"] = link(secret)
    return change


def circle(file, _):
    file["first/vars/up"] = file["first"]


def note(file, _):
    file["first"].attrs["note"] = np.zeros(7000)


@pytest.mark.parametrize("change", [
    external, virtual, circle, note, linked(lambda secret: h5py.ExternalLink(secret, "/a")), linked(lambda _: h5py.SoftLink("/first/vars/0")),
    replaced(data=np.zeros(3, "f4"), chunks=True), replaced(data=np.zeros(3, "f4"), compression="gzip"), replaced(shape=(10**12,), dtype="f4"),
    replaced(data=[b"a", b"b"], dtype=h5py.string_dtype()), replaced(data=np.zeros(3, [("a", "f4")]))],
    ids=["external", "virtual", "circle", "note", "external link", "soft link", "chunks", "gzip", "huge", "texts", "compound"])
def test_weights_lie_in_the_file(write, good, tmp_path, change):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["a"] = np.arange(3, dtype="f4")
    refused(write(weights=weights(good, lambda file: change(file, secret))), "weights|more than one name|a note")


@pytest.mark.parametrize("content", [b"", b"no HDF5", b"\x89HDF\r\n\x1a\n" + b"\0" * 3000])
def test_weights_that_are_none(write, content):
    refused(write(weights=content))


def test_damaged_anywhere(write, good):
    "One byte is changed, or the end is missing: it loads, or one line says why it does not."
    content = write().read_bytes()
    for at in np.random.default_rng(0).integers(0, len(content), 40):
        for cut in (content[:at], content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1:]):
            (path := write()).write_bytes(cut)
            try:
                check_keras_file(path)
            except ModelError as error:
                assert "\n" not in str(error)


# ---- commands

def test_refused_before_keras_is_imported(write):
    code = ("import sys; from enmap_sharpener.sharpening.network import open_network\ntry: open_network(sys.argv[1])\n"
            "except Exception as error: print(type(error).__name__, 'keras' in sys.modules)")
    path = write(config="{}")
    assert subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True).stdout.strip() == "ModelError False"


def test_the_command_says_so(write, good, tmp_path, capfd):
    path = write(config=changed(good, "config.contract", CALL))
    status = main(["sharpen-tiles", "--model", str(path), "--input-dir", str(tmp_path), "--output-dir", str(tmp_path / "out")])
    assert status == 2 and capfd.readouterr().err.count("\n") == 1
