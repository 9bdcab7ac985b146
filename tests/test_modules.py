"Every module has tests: in the notebook that it comes from, or in tests/room/test_module.py; and no test file is of a module that is not there."
import re

import nbformat
import pytest
from readme import ROOT

NOTEBOOKS = {}
for _path in sorted((ROOT / "nbs").rglob("[0-9]*.ipynb")):
    _cells = [cell.source for cell in nbformat.read(_path, as_version=4).cells if cell.cell_type == "code"]
    _name = re.search(r"^#\| ?default_exp ([\w.]+)", "\n".join(_cells), re.MULTILINE)
    NOTEBOOKS[_name[1] if _name else _path.stem] = [source for source in _cells if not re.search(r"^#\| ?(export|exporti|default_exp)\b", source, re.MULTILINE)]
TEST = re.compile(r"^\s*(assert|test_\w+\(|with expect_fail)", re.MULTILINE)


def test_every_notebook_exports():
    assert all((ROOT / "enmap_sharpener" / f"{name.replace('.', '/')}.py").is_file() for name in NOTEBOOKS)
    modules = {path.relative_to(ROOT / "enmap_sharpener").with_suffix("").as_posix().replace("/", ".") for path in (ROOT / "enmap_sharpener").glob("*/*.py")}
    assert {name for name in modules if not name.endswith("__init__")} == set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_has_tests(name):
    room, module = name.split(".")
    file = ROOT / f"tests/{room}/test_{module}.py"
    assert any(TEST.search(source) for source in NOTEBOOKS[name]) or file.is_file(), f"neither its notebook nor {file.relative_to(ROOT)} tests it"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*/test_*.py")), ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_file_is_of_a_module(path):
    name = f"{path.parent.name}.{path.stem.removeprefix('test_')}"
    assert any(f"{name}_".startswith(f"{module}_") for module in NOTEBOOKS), "tests/room/test_module.py, or test_module_aspect.py, is of enmap_sharpener.room.module"
