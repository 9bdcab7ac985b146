"Every module has tests: in the notebook that it comes from, or in tests/room/test_module.py; and no test file is of a module that is not there."
import ast
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


def _made(source):
    "Names that a module makes itself."
    nodes = list(ast.walk(ast.parse(source)))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} | {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


MADE = {".".join(path.relative_to(ROOT).with_suffix("").parts): _made(path.read_text(encoding="utf-8")) for path in (ROOT / "enmap_sharpener").rglob("*.py")}
FOREIGN = {"__version__", "ops"}      # Keras's operations, for the backend that the network's module has chosen


def _borrowed(source, module):
    "Names that a module, test or notebook imports from a module that does not make them."
    for node in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)):
        above = module.split(".")[:-node.level] if node.level else []
        owner = ".".join([*above, node.module or ""]).strip(".")
        names = {alias.name for alias in node.names} - MADE[owner] - FOREIGN if owner in MADE else ()
        yield from (f"{owner}.{name}" for name in names if f"{owner}.{name}" not in MADE)


def test_names_are_imported_from_the_module_that_makes_them():
    files = [path for folder in ("enmap_sharpener", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    sources = [(".".join(path.relative_to(ROOT).with_suffix("").parts), path.read_text(encoding="utf-8")) for path in files]
    sources += [(name, re.sub(r"^[%!].*$", "", source, flags=re.MULTILINE)) for name, cells in NOTEBOOKS.items() for source in cells]
    assert not [(module, name) for module, source in sources for name in _borrowed(source, module)]
