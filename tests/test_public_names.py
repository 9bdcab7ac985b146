"The names that users need are at the top of the package, load when they are asked for, and cost nothing before."
import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import enmap_sharpener as es
from enmap_sharpener.core.errors import RequestError

FILE = Path(es.__file__)


def test_names_load_and_are_what_their_modules_have():
    for name in es.__all__:
        assert getattr(es, name) is getattr(es, name) and name in dir(es)
    assert {"read_enmap", "read_sentinel2", "sharpen", "write_scene", "simulate_pair", "open", "compare", "search_scenes", "EnmapError"} <= set(es.__all__)
    from enmap_sharpener.sharpening.sharpening import sharpen
    assert es.sharpen is sharpen and es.sharpening.sharpening.sharpen is sharpen


def test_no_name_is_that_of_a_room():
    assert not set(es.__all__) & {path.name for path in FILE.parent.iterdir()}


def test_editors_are_told_the_same_names():
    (block,) = [node for node in ast.parse(FILE.read_text(encoding="utf-8")).body if isinstance(node, ast.If)]
    told = {a.asname: f"{node.module}:{a.name}" for node in block.body for a in node.names}
    assert told == es._PLACES and {*told, "__version__"} == set(es.__all__)


@pytest.mark.parametrize("name, loaded", [(None, "numpy"), (None, "importlib.metadata"), ("EnmapError", "numpy"), ("sharpen", "keras")])
def test_what_is_not_asked_for_is_not_loaded(name, loaded):
    code = f"import sys, enmap_sharpener as es\n{f'es.{name}' if name else ''}\nassert {loaded!r} not in sys.modules, {loaded!r}"
    path = [str(FILE.parents[1]), *sys.path]     # without `site` a package that is installed in place is not found by itself
    subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:] = {path!r}\n{code}"], check=True)


def test_unknown_name():
    with pytest.raises(AttributeError, match="has no attribute 'sharpn'"):
        _ = es.sharpn


def test_missing_extra_is_said(tmp_path):
    code = ("import sys; sys.modules['pystac_client'] = None; sys.modules['shapely'] = None\nimport enmap_sharpener as es\n"
            "try:\n    es.search_scenes\nexcept es.EnmapError as error:\n    print(error)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "search_scenes needs" in told and "pip install '.[scrape]'" in told


# --------------------------------------------------------------------------- arguments of another kind
@pytest.mark.parametrize("name", ["read_enmap", "read_sentinel2", "open"])
@pytest.mark.parametrize("path", [None, 5, "", b"enmap", [], np.zeros(3)])
def test_what_is_no_path(name, path):
    with pytest.raises(RequestError, match="is no path; wanted the name of a file or folder"):
        getattr(es, name)(path)


def test_a_missing_file_without_an_ending_is_missing(tmp_path):
    with pytest.raises(es.EnmapError, match="cube: is not there; check how it is spelt"):
        es.open(tmp_path / "cube")


@pytest.mark.parametrize("name", ["https://example.org/cube.tif", "https://example.org/cube"])
def test_an_address_is_called_one(name):
    with pytest.raises(es.EnmapError, match="is an address; fetch the file and give its path"):
        es.open(name)


@pytest.mark.parametrize("wrong", [{"size": 30.5}, {"size": "60"}, {"size": None}, {"size": float("nan")}, {"size": (20, 30, 40)}, {"size": ()}, {"seed": 1.5}, {"seed": "x"}, {"seed": None}])
def test_what_is_no_size_or_seed(wrong):
    with pytest.raises(RequestError, match="wanted whole numbers"):
        es.simulate_pair(**{"size": 20, **wrong})


@pytest.fixture(scope="module")
def sharpened():
    scene, guide, _ = es.simulate_pair(size=20, seed=0)
    return scene, guide, es.sharpen(scene, guide, "cubic")


@pytest.mark.parametrize("change, words", [
    (lambda s, g, r: (None, s, g), "NoneType is no Sharpened; wanted what sharpen returns"),
    (lambda s, g, r: (r.to_dataarray, s, g), "method is no Sharpened"),
    (lambda s, g, r: (r, g, s), "Sentinel2 is no Scene"),
    (lambda s, g, r: (r, s, None), "NoneType is no Sentinel2"),
])
def test_what_cannot_be_written(sharpened, tmp_path, change, words):
    result, scene, guide = change(*sharpened)
    with pytest.raises(RequestError, match=words):
        es.write_scene(result, tmp_path / "out.tif", scene=scene, guide=guide)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("path", [None, 5, ""])
def test_where_nothing_can_be_written(sharpened, path):
    scene, guide, result = sharpened
    with pytest.raises(RequestError, match="is no path"):
        es.write_scene(result, path, scene=scene, guide=guide)


@pytest.mark.parametrize("result", [None, 5, np.zeros(3)])
def test_what_has_no_errors(result):
    with pytest.raises(RequestError, match="has no errors; wanted the path of a result"):
        es.error(result)


@pytest.mark.parametrize("memory", [0, -1, float("nan"), "2", None])
def test_memory_that_is_none(sharpened, memory):
    with pytest.raises(RequestError, match="wanted a number above 0"):
        es.sharpen(*sharpened[:2], "cubic", memory=memory)


@pytest.mark.parametrize("tuning", [None, {"rank": 4}, 5])
def test_tuning_that_is_none(sharpened, tuning):
    with pytest.raises(RequestError, match="is no Tuning"):
        es.sharpen(*sharpened[:2], "cubic", tuning=tuning)


def test_a_result_is_not_written_as_that_of_another_scene(sharpened, tmp_path):
    _, guide, result = sharpened
    other = es.simulate_pair(size=20, seed=1)[0]
    with pytest.raises(RequestError, match="is made of .*0000000000_.* the scene is .*0000000001_"):
        es.write_scene(result, tmp_path / "out.tif", scene=other, guide=guide)
    assert not any(tmp_path.iterdir())
