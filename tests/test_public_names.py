"The names that users need are at the top of the package, load when they are asked for, and cost nothing before."
import ast
import subprocess
import sys
from pathlib import Path

import pytest

import enmap_sharpener as es

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
