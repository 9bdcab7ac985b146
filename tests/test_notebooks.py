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
OBJECT = re.compile(r"<[A-Za-z_][\w.]*(?:[ :][^<>]*)?>|\bText\(\d|\bat 0x[0-9a-f]+")    # as Python shows what has nothing to say
NOISE = re.compile(r"absl::InitializeLog|WARNING:tensorflow|oneDNN|\b\w*Warning: ")
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


def _strays(notebook):
    "Outputs that nobody meant: what a drawing function returns, addresses of objects, the noise of libraries, a picture that is there already."
    seen = set()
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            text = output.get("text", "") + data.get("text/plain", "")
            pictures = [value for kind, value in data.items() if kind.startswith("image/")]
            if output.output_type in ("execute_result", "display_data") and not pictures and "text/html" not in data and OBJECT.search(text) or NOISE.search(text):
                yield number, text[:80]
            yield from ((number, "a picture that is there twice") for value in pictures if value in seen)
            seen.update(pictures)


def test_outputs_are_meant(notebook):
    assert not list(_strays(notebook)), "end the cell with a semicolon or assign, and run it again"


@pytest.mark.parametrize("output", [
    nbformat.v4.new_output("execute_result", {"text/plain": "[Text(0.5, 1.0, 'error'), [], []]"}),
    nbformat.v4.new_output("execute_result", {"text/plain": "<Axes: title={'center': 'after'}>"}),
    nbformat.v4.new_output("execute_result", {"text/plain": "[<matplotlib.lines.Line2D at 0x7f00>]"}),
    nbformat.v4.new_output("execute_result", {"text/plain": "<contextlib.nullcontext>"}),
    nbformat.v4.new_output("execute_result", {"text/plain": "(array([1.]), <BarContainer object of 1 artists>)"}),
    nbformat.v4.new_output("stream", name="stderr", text="WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"),
    nbformat.v4.new_output("stream", name="stderr", text="WARNING:tensorflow:5 out of the last 9 calls triggered tf.function retracing."),
    nbformat.v4.new_output("stream", name="stderr", text="scene.py:3: RuntimeWarning: divide by zero"),
])
def test_strays_are_seen(output):
    assert list(_strays(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("draw()", outputs=[output])])))


def test_pictures_that_are_there_twice_are_seen():
    picture = lambda kind, data: nbformat.v4.new_output(kind, {"image/png": data, "text/plain": "<Figure size 640x480 with 1 Axes>"})
    found = lambda *outputs: list(_strays(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("draw()", outputs=list(outputs))])))
    assert found(picture("execute_result", "AAAA"), picture("display_data", "AAAA")) and not found(picture("execute_result", "AAAA"), picture("display_data", "BBBB"))


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
