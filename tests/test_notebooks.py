"Notebooks are short, small, and tell nothing about the machine that ran them."
import ast
import io
import re
import tokenize

import nbformat
import pytest
from readme import ROOT

NOTEBOOKS = sorted((ROOT / "nbs").rglob("*.ipynb"))
EXPORTED = re.compile(r"^#\|\s*exporti?\b", re.MULTILINE)
LONGER = 46    # exported cells of more than 40 lines of code; may only fall
MACHINE = re.compile(r"(?<![\w.])/(?:work|root|home|tmp|Users|var)/\w|[A-Z]:\\\\Users")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def _exported(notebook):
    "Sources of the exported cells, as lists of lines."
    return [cell.source.splitlines() for cell in notebook.cells if cell.cell_type == "code" and EXPORTED.search(cell.source)]


def test_size(path, notebook):
    assert path.stat().st_size < 300_000
    assert len(notebook.cells) < 60
    assert sum(map(len, _exported(notebook))) < 450


def _code_lines(source):
    "How many lines of a cell are code: no docstrings, no comments, nothing blank."
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.Module))
    said = {n for node in nodes if ast.get_docstring(node) is not None for n in range(node.body[0].lineno, node.body[0].end_lineno + 1)}
    blank = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = (token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in blank)
    return len({n for token in tokens for n in range(token.start[0], token.end[0] + 1)} - said)


def test_exported_cells_are_short():
    sources = [(path, "\n".join(lines)) for path in NOTEBOOKS for lines in _exported(nbformat.read(path, as_version=4))]
    long = sorted(((_code_lines(source), path.name) for path, source in sources if _code_lines(source) > 40), reverse=True)
    assert len(long) <= LONGER, long


def test_outputs_name_no_machine(notebook):
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            assert not MACHINE.search(str({**output, "data": data}))


def test_outputs_are_no_errors(notebook):
    for cell in notebook.cells:
        assert all(output.output_type != "error" for output in cell.get("outputs", []))


def test_title(notebook):
    "A name and one sentence, which becomes the module's docstring."
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    assert lines[0].startswith("# ") and lines[1].startswith("> ") and "\\" not in lines[1]


def test_imports_stand_alone(path, notebook):
    "A cell that mixes imports and definitions is executed, and fails, when documentation is made."
    for lines in _exported(notebook):
        code = [line for line in lines if line.strip() and not line.startswith("#")]
        imports = [bool(re.match(r"(import|from) ", line)) for line in code]
        if imports[0]:
            rest = [line for line, found in zip(code, imports, strict=True) if not found and not re.match(r"[\s)]", line)]
            assert not rest, f"{path.name}: {rest[0]}"


def test_slow_notebooks_are_there():
    from notebooks import SLOW
    assert {path.stem for path in (ROOT / "nbs").rglob("*.ipynb")} >= SLOW
