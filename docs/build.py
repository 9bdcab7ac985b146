"""The site: `make docs`. Pages, notebooks, README's sections and a page for each module are gathered in _docs/source; Sphinx makes _docs/html of them, warnings are errors."""
import ast
import importlib
import re
import shutil
import sys
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import nbformat

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "_docs"
FOLDERS = {"notebooks": "[0-9][0-9]_*/*.ipynb", "notebooks/jobs": "jobs/*.ipynb", "notebooks/explore": "explore/*.ipynb"}    # of the site: what of nbs it lists
LISTED = {
    "notebooks": "# Notebooks\n\nThe notebooks are the source of the package: each explains one concern, exports one module, and tests it. They stand in "
                 "[rooms](/rooms.md), of which each uses only those before it. Here they are with the outputs of their last run; code that goes into the package "
                 "is folded behind the names that it defines.\n",
    "notebooks/jobs": "# Jobs\n\nNotebooks with parameters, which `enmap-sharpener batch` runs over many scenes, see [Many scenes, on Slurm](/guides/slurm.md).\n",
    "notebooks/explore": "# Exploration\n\nNotebooks to look around in. Here they stand still; in JupyterLab, `jupyter lab nbs/explore`, their controls move.\n",
}
CALLED = {    # what the reference begins with: names of the package itself, or `room.module:name`, in the order in which they are needed
    "open": "Open a cube of reflectance, sharpened or not: an xarray with wavelengths, read when it is used.",
    "read_enmap": "Open an EnMAP L2A product: folder, ZIP or tar.",
    "read_sentinel2": "Open Sentinel-2 bands over a scene, or another image that guides.",
    "sharpen": "Sharpen the one with the other; nothing is computed yet.",
    "write_scene": "Compute a sharpened scene and write all files that belong to it.",
    "error": "How far the values of a result may be from the truth.",
    "compare": "Scores of results against a truth: PSNR, SSIM, SAM, ERGAS and more.",
    "evaluation.agreement:evaluate_file": "Judge a file by a truth, by its EnMAP scene, or by both.",
    "evaluation.benchmark:run_benchmark": "Try several methods on several scenes, with intervals and figures.",
    "evaluation.vegetation:write_indices": "NDVI, GNDVI and NDII before and after, beside a reference.",
    "before_after": "A picture of a scene before and after, with a window enlarged.",
    "simulate": "Write a simulated scene, whose truth is known, as DLR and ESA deliver scenes.",
    "simulate_pair": "The same in memory, for small sizes.",
    "search_scenes": "Find EnMAP scenes over an area in a span of time.",
    "download_scenes": "Fetch them from DLR.",
    "fetch_partners": "Fetch the best Sentinel-2 image for each.",
    "EnmapError": "What is raised on purpose; its message is one line for the user.",
}
INVENTORIES = {     # names of others that signatures link to
    "python": "https://docs.python.org/3/", "numpy": "https://numpy.org/doc/stable/", "pandas": "https://pandas.pydata.org/docs/",
    "xarray": "https://docs.xarray.dev/en/stable/", "rasterio": "https://rasterio.readthedocs.io/en/stable/", "matplotlib": "https://matplotlib.org/stable/"}
PATIENCE = 4     # seconds for the inventory of each
DIRECTIVE = re.compile(r"^#\| ?(\w+).*\n?", re.MULTILINE)


def settings():
    "What settings.ini says of the project."
    config = ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def notebooks(folder: str) -> list[Path]:
    "The notebooks that a folder of the site lists, in their order."
    return sorted((ROOT / "nbs").glob(FOLDERS[folder]))


def place(path: Path) -> str:
    "Where the site has a notebook: its folder `notebooks` is laid out as `nbs` is, so that links between notebooks hold."
    return f"notebooks/{path.relative_to(ROOT / 'nbs').as_posix()}"


def room(path: Path) -> tuple[str, str]:
    "What the room of a notebook is called, and what it owns, from the docstring of its sub-package."
    source = ROOT / "enmap_sharpener" / path.parent.name[3:] / "__init__.py"
    name, _, owns = ast.get_docstring(ast.parse(source.read_text(encoding="utf-8"))).partition(": ")
    return name, owns[0].upper() + owns[1:]


def title(notebook) -> tuple[str, str]:
    "What a notebook is called, and the sentence below."
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    return lines[0].lstrip("# "), " ".join(line.lstrip("> ") for line in lines[1:] if line.startswith(">"))


def _rest(notebook) -> str:
    "What else the first cell says."
    return "\n".join(line for line in notebook.cells[0].source.splitlines()[1:] if not line.startswith(">")).strip()


def module(notebook) -> str | None:
    "The module that a notebook exports, as `room.module`."
    found = re.search(r"^#\| ?default_exp ([\w.]+)", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
    return found and found[1]


def _defined(source: str) -> str:
    "Names that a cell defines, or that it imports."
    names = []
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", node)]
        names += [getattr(t, "name", None) or getattr(t, "id", None) for target in targets for t in getattr(target, "elts", [target])]
    return ", ".join(dict.fromkeys(filter(None, names))) or "imports"


def _reference_of(name: str) -> str:
    "Where the names of a module are explained: commands have a page in common."
    return "commands" if name.startswith("cli.") else name.replace(".", "/")


def original(path: Path) -> str:
    "Where the site keeps a notebook as it lies in the repository, to be downloaded."
    return f"originals/{path.relative_to(ROOT / 'nbs').as_posix()}"


def origin(name: str) -> str | None:
    "The file of the repository that a page is made from; None where there are several, or none that is written by hand."
    if path := _notebook_pages().get(name):
        return path.relative_to(ROOT).as_posix()
    places = () if name.startswith(("api/", "notebooks/")) else (f"docs/{name}.md", f"{name.upper()}.md", f"output/{name}.md")
    return next((place for place in places if (ROOT / place).is_file()), None)


@cache
def _notebook_pages() -> dict[str, Path]:
    "The notebook of each page that is one, or is the reference of its module."
    pages = {place(path).removesuffix(".ipynb"): path for folder in FOLDERS for path in notebooks(folder)}
    names = {module(nbformat.read(path, as_version=4)): path for path in notebooks("notebooks")}
    return pages | {f"api/{_reference_of(name)}": path for name, path in names.items() if name and _reference_of(name) != "commands"}


def page(path: Path):
    "A notebook as the site shows it: nbdev's directives go, exported code is folded behind the names that it defines."
    notebook = nbformat.read(path, as_version=4)
    (name, sentence), exported = title(notebook), module(notebook)
    links = [f"[Reference of `{exported}`](/api/{_reference_of(exported)}.md)"] if exported else []
    link = " · ".join([*links, f"{{download}}`Download the notebook </{original(path)}>`"])
    cells = [nbformat.v4.new_markdown_cell("\n\n".join([f"# {name}", f"{{.lead}}\n{sentence}", link, _rest(notebook)]))]
    for cell in notebook.cells[1:]:
        found = DIRECTIVE.findall(cell.source) if cell.cell_type == "code" else []
        if {"hide", "default_exp"} & set(found):
            continue
        if cell.cell_type == "code":
            cell.source = DIRECTIVE.sub("", cell.source).strip("\n")
        if "export" in found:
            names = _defined(cell.source)
            cell.outputs = []       # the sentence below a constant is no result
            cell.metadata = {"tags": ["hide-input"], "mystnb": {"code_prompt_show": names, "code_prompt_hide": names}}
        cells.append(cell)
    notebook.cells, notebook.metadata["language_info"] = cells, {"name": "python"}
    return notebook


def listing(folder: str, pages: dict[Path, object]) -> str:
    "The page that lists a folder; the notebooks that are the package, room by room."
    text = [LISTED[folder]]
    for (name, owns), group in _rooms(pages, folder):
        text += [f"## {name}\n\n{owns}\n"] * (folder == "notebooks")
        text += [f"- [{heading}](/{place(path)}): {sentence}" for path, (heading, sentence) in group]
        text += ["", *_hidden((f"/{place(path.with_suffix(''))}" for path, _ in group), name)]
    if folder == "notebooks" and (more := [f"/{name}/index" for name in FOLDERS if name != folder and notebooks(name)]):
        text += ["## Jobs and exploration\n", *(f"- [{LISTED[m[1:-6]].splitlines()[0][2:]}]({m}.md)" for m in more), "", *_hidden(more, "More")]
    return "\n".join(text)


def _rooms(pages: dict[Path, object], folder: str = "notebooks") -> list:
    "Notebooks with what they are called, gathered by room."
    groups = {}
    for path, notebook in pages.items():
        groups.setdefault(room(path) if folder == "notebooks" else ("", ""), []).append((path, title(notebook)))
    return list(groups.items())


def _hidden(documents, caption: str) -> list[str]:
    "Documents for the side of the page."
    return ["```{toctree}", ":hidden:", *[f":caption: {caption}"] * bool(caption), "", *documents, "```", ""]


def _role(place: str, shown: str) -> str:
    "A link to a name, `room.module:name`, in the reference."
    return f"{{py:obj}}`{shown} <enmap_sharpener.{place.replace(':', '.')}>`"


def called() -> str:
    "The table that the reference begins with."
    from enmap_sharpener import _PLACES
    rows = [(_PLACES.get(name, name), f"es.{name}" if name in _PLACES else name.partition(":")[2], said) for name, said in CALLED.items()]
    more = "; without `es.` before them, they are imported from their module" if any(":" in name for name in CALLED) else ""
    return (f"## What you call\n\nAfter `import enmap_sharpener as es`{more}. [In Python, with xarray](/notebooks/explore/xarray.ipynb) shows them at work.\n\n| name | what it does |\n|---|---|\n"
            + "".join(f"| {_role(place, shown)} | {said} |\n" for place, shown, said in rows))


def _from_outside(name: str) -> str:
    "Which names of a module users call, for its page."
    from enmap_sharpener import _PLACES
    found = [_role(place, f"es.{short}") for short, place in _PLACES.items() if place.partition(":")[0] == name]
    return f"What you call of it: {', '.join(found)}.\n\n" if found else ""


def reference(pages: dict[Path, object]) -> dict[str, str]:
    "The pages of the modules, and the one that lists them, from the notebooks that export them."
    documented = {path: notebook for path, notebook in pages.items() if (name := module(notebook)) and _reference_of(name) != "commands"}
    files = {}
    text = ["# Reference\n\nEvery public name of every module: shapes, units, what is raised, and where a formula comes from. "
            f"[The commands](commands.md) have a page of their own.\n\n{called()}\n## Every module\n\nRoom by room, each room after those that it uses.\n\n```{{toctree}}\n:hidden:\n\ncommands\n```\n"]
    for (heading, owns), group in _rooms(documented):
        names = {module(documented[path]): (path, *said) for path, said in group}
        for name, (path, title_, _) in names.items():
            files[f"api/{_reference_of(name)}.md"] = (
                f"# {name}\n\nMade, explained and tested in [{title_}](/{place(path)}).\n\n{_from_outside(name)}"
                f"```{{eval-rst}}\n.. automodule:: enmap_sharpener.{name}\n   :members:\n   :exclude-members: __init__\n```\n")
        text += [f"### {heading}\n\n{owns}\n", *(f"- [`{name}`](/api/{_reference_of(name)}.md): {sentence}" for name, (*_, sentence) in names.items()), ""]
        text += _hidden((f"/api/{_reference_of(name)}" for name in names), heading)
    return files | {"api/index.md": "\n".join(text)}


def commands(pages: dict[Path, object]) -> str:
    "The page of the commands, as the app itself describes them."
    for name in filter(None, map(module, pages.values())):
        if _reference_of(name) == "commands":
            importlib.import_module(f"enmap_sharpener.{name}")
    app = importlib.import_module("enmap_sharpener.cli.app").app
    described = app.generate_docs(output_format="markdown", heading_level=1)
    start = described.index(f"## {app.name[0]} ")
    return "# Commands\n\nWhat `--help` says of each command.\n\n" + linked(described[start:].replace(f"## {app.name[0]} ", "## "))


def sections(name: str) -> dict[str, str]:
    "The sections of README or CONTRIBUTING, without their headings, and what it begins with, to be included in pages."
    text = (ROOT / f"{name.upper()}.md").read_text(encoding="utf-8")
    pitch, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    found = {re.sub(r"[^a-z]+", "-", head.lower()).strip("-"): body for head, _, body in (s.partition("\n") for s in parts)}
    found["pitch"] = "".join(line for line in pitch.splitlines(keepends=True) if not line.startswith(("# ", ">", "!", "*")))
    return {f"{name}/{part}.md": linked(body) for part, body in found.items()}


def benchmarks() -> str:
    "What each script in benchmarks says of itself."
    docs = {path.name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    return linked("\n".join(f"### {name}\n\n{text}\n" for name, text in docs.items()))


def tables() -> dict[str, str]:
    "The pages that scripts in benchmarks wrote beside themselves, without their headings, to be included in pages."
    pages = {path.stem.replace("_", "-"): path.read_text(encoding="utf-8") for path in (ROOT / "benchmarks").glob("*.md")}
    return {f"readme/{name}.md": re.sub("^## ", "### ", text.split("\n", 1)[1], flags=re.MULTILINE) for name, text in pages.items()}


def imported() -> tuple[list[str], dict[tuple[str, str], int]]:
    "The rooms in their order, and how many modules of one import a module of another."
    rooms = list(dict.fromkeys(path.parent.name[3:] for path in notebooks("notebooks")))
    counts = {}
    for path in sorted((ROOT / "enmap_sharpener").glob("*/*.py")):
        names = [node.module or "" for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom) and node.level in (0, 2)]
        for other in {name.removeprefix("enmap_sharpener.").partition(".")[0] for name in names} & set(rooms) - {path.parent.name}:
            counts[path.parent.name, other] = counts.get((path.parent.name, other), 0) + 1
    return rooms, counts


def rooms_map() -> str:
    "A picture of what imports what, as the modules are now: a row for each room, a dot under each room that it imports."
    rooms, counts = imported()
    step, left, top = 26, 118, 48
    size = left + step * len(rooms) + 14, top + step * len(rooms)
    lines = [f'<svg class="rooms" role="img" viewBox="0 0 {size[0]} {size[1]}" aria-label="Which room imports which: all dots lie below the diagonal">']
    for i, name in enumerate(rooms):
        x, y = left + step * (i + 0.5), top + step * (i + 0.5)
        lines.append(f'<line class="line" x1="{left}" x2="{x}" y1="{y}" y2="{y}"/><line class="line" x1="{x}" x2="{x}" y1="{y}" y2="{size[1]}"/>')
        lines.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{name}</text>')
        lines.append(f'<text x="{x + 4}" y="{y - step / 2 - 2}" transform="rotate(-60 {x + 4} {y - step / 2 - 2})">{name}</text>')
        lines.append(f'<rect class="itself" x="{x - 5}" y="{y - 5}" width="10" height="10"/>')
    for (room_, other), count in sorted(counts.items()):
        x, y = left + step * (rooms.index(other) + 0.5), top + step * (rooms.index(room_) + 0.5)
        said = f"{count} module{'s' * (count > 1)} of {room_} import{'s' * (count == 1)} {other}"
        lines.append(f'<circle cx="{x}" cy="{y}" r="{min(3 + 1.6 * count ** 0.5, 9):.1f}"><title>{said}</title></circle>')
    return "```{raw} html\n" + "\n".join([*lines, "</svg>"]) + "\n```\n"


def linked(text: str) -> str:
    "Text of the repository's root with links that hold on the site."
    text = text.replace("](nbs/", "](/notebooks/")
    text = re.sub(r"\]\((LICENSE|CHANGELOG\.md|CONTRIBUTING\.md)\)", lambda m: f"](/{m[1].lower()})", text)
    text = text.replace("](SECURITY.md)", f"]({settings()['git_url']}/blob/main/SECURITY.md)")
    text = text.replace("](/license)", "](/license.md)").replace("](output/models/", "](/models/")
    text = text.replace("](output/figures/gallery/gallery.md)", "](/gallery.md)").replace("](benchmarks/cases.md)", "](/benchmarks.md#case-by-case)").replace("](benchmarks/full_scene.md)", "](/benchmarks.md#a-whole-scene)")
    return re.sub(r"((?:^(?: {4}.*)?\n)*^ {4}.*\n)", _fenced, text, flags=re.MULTILINE)


def _fenced(found: re.Match) -> str:
    "Indented commands as a fenced block, with a colour for what is typed and what is said of it."
    return "\n```console\n" + re.sub(r"^ {4}", "", found[0], flags=re.MULTILINE).strip("\n") + "\n```\n"


def gather(target: Path) -> None:
    "Write the whole source of the site into a folder; files that are the same are left alone, others that lie there go."
    files = {}
    for folder in FOLDERS:
        pages = {path: nbformat.read(path, as_version=4) for path in notebooks(folder)}
        if pages:
            files[f"{folder}/index.md"] = listing(folder, pages)
        files |= {place(path): nbformat.writes(page(path)) for path in pages}
        if folder == "notebooks":
            files |= reference(pages) | {"api/commands.md": commands(pages)}
    files |= sections("readme") | sections("contributing") | tables() | {"readme/benchmarks.md": benchmarks(), "contributing/map.md": rooms_map()}
    files |= {name.lower(): linked((ROOT / name).read_text(encoding="utf-8")) for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
    files["license.md"] = f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n"
    files |= {f"models/{path.name}": path.read_text(encoding="utf-8") for path in (ROOT / "output/models").glob("*.md")}
    figures = ROOT / "output/figures"
    files["gallery.md"] = re.sub(r"\]\((\w+\.png)\)", r"](/figures/gallery/\1)", (figures / "gallery/gallery.md").read_text(encoding="utf-8"))
    data = {name: text.encode() for name, text in files.items()}
    data |= {f"figures/{path.relative_to(figures).as_posix()}": path.read_bytes() for path in figures.rglob("*.png")}
    data |= {f"models/{path.name}": path.read_bytes() for path in (ROOT / "output/models").glob("*.png")}
    docs = ROOT / "docs"
    data |= {path.relative_to(docs).as_posix(): path.read_bytes() for path in docs.rglob("*") if path.suffix == ".md"}
    data |= {original(path): path.read_bytes() for folder in FOLDERS for path in notebooks(folder)}
    for name, content in data.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target).as_posix() not in data:
            path.unlink()


def fetch_inventories(folder: Path) -> None:
    "Get the lists of names of other packages that are not there yet; without a network, signatures have no links."
    folder.mkdir(parents=True, exist_ok=True)
    for name, url in INVENTORIES.items():
        place = folder / f"{name}.inv"
        if place.exists():
            continue
        try:
            with urlopen(f"{url}objects.inv", timeout=PATIENCE) as answer:
                content = answer.read()
        except OSError:
            return      # nor will the next be reached
        if content.startswith(b"# Sphinx inventory version 2"):
            place.write_bytes(content)


def build(output: Path = OUTPUT, fresh: bool = False) -> int:
    "Gather and build; Sphinx's exit status."
    from sphinx.cmd.build import main
    if fresh:
        shutil.rmtree(output, ignore_errors=True)
    gather(output / "source")
    fetch_inventories(output / "inventories")
    return main(["-b", "html", "-W", "--keep-going", "-q", "-j", "auto", "-c", str(ROOT / "docs"), "-d", str(output / "doctrees"),
                 str(output / "source"), str(output / "html")])


if __name__ == "__main__":
    status = build(fresh="--fresh" in sys.argv)
    if status == 0:
        print(f"open {(OUTPUT / 'html/index.html').relative_to(Path.cwd())}" if OUTPUT.is_relative_to(Path.cwd()) else OUTPUT)
    sys.exit(status)
