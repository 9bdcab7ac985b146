"""The site: `make docs`. Pages, notebooks, README's sections and a page for each module are gathered in _docs/source; Sphinx makes _docs/html of them, warnings are errors."""
import ast
import importlib
import re
import shutil
import sys
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "_docs"
FOLDERS = {"notebooks": "nbs", "jobs": "nbs/jobs", "explore": "nbs/explore"}
LISTED = {
    "notebooks": "# Notebooks\n\nThe notebooks are the source of the package: each explains one concern, exports one module, and tests it. Here they are with "
                 "the outputs of their last run; code that goes into the package is folded behind the names that it defines.\n",
    "jobs": "# Jobs\n\nNotebooks with parameters, which `enmap-sharpener batch` runs over many scenes, see [Many scenes, on Slurm](/guides/slurm.md).\n",
    "explore": "# Exploration\n\nNotebooks to look around in. Here they stand still; in JupyterLab, `jupyter lab nbs/explore`, their controls move.\n",
}
DIRECTIVE = re.compile(r"^#\| ?(\w+).*\n?", re.MULTILINE)


def notebooks(folder: str) -> list[Path]:
    "The notebooks of a folder, in their order, without the one that README is made from."
    return sorted(path for path in (ROOT / FOLDERS[folder]).glob("*.ipynb") if path.stem != "index")


def title(notebook) -> tuple[str, str]:
    "What a notebook is called, and the sentence below."
    lines = [line for line in notebook.cells[0].source.splitlines() if line.strip()]
    return lines[0].lstrip("# "), " ".join(line.lstrip("> ") for line in lines[1:] if line.startswith(">"))


def _rest(notebook) -> str:
    "What else the first cell says."
    return "\n".join(line for line in notebook.cells[0].source.splitlines()[1:] if not line.startswith(">")).strip()


def module(notebook) -> str | None:
    "The module that a notebook exports."
    found = re.search(r"^#\| ?default_exp (\w+)", "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
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
    return "commands" if name.startswith("cli") else name


def page(path: Path):
    "A notebook as the site shows it: nbdev's directives go, exported code is folded behind the names that it defines."
    notebook = nbformat.read(path, as_version=4)
    (name, sentence), exported = title(notebook), module(notebook)
    link = f"[Reference of `{exported}`](/api/{_reference_of(exported)}.md)" if exported else ""
    cells = [nbformat.v4.new_markdown_cell("\n\n".join([f"# {name}", f"{{.lead}}\n{sentence}", link, _rest(notebook)]))]
    for cell in notebook.cells[1:]:
        found = DIRECTIVE.findall(cell.source) if cell.cell_type == "code" else []
        if {"hide", "default_exp"} & set(found):
            continue
        if cell.cell_type == "code":
            cell.source = DIRECTIVE.sub("", cell.source).strip("\n")
        if "export" in found:
            names = _defined(cell.source)
            cell.metadata = {"tags": ["hide-input"], "mystnb": {"code_prompt_show": names, "code_prompt_hide": names}}
        cells.append(cell)
    notebook.cells, notebook.metadata["language_info"] = cells, {"name": "python"}
    return notebook


def listing(folder: str, pages: dict[Path, object]) -> str:
    "The page that lists a folder: groups by number, each with the title of its first notebook."
    groups = {}
    for path, notebook in pages.items():
        groups.setdefault(path.stem[:2] if folder == "notebooks" else "", []).append((path, *title(notebook)))
    text = [LISTED[folder]]
    for group in groups.values():
        heading = group[0][1]
        if folder == "notebooks":
            text.append(f"## {heading}\n")
        text += [f"- [{name}]({path.name}): {sentence}" for path, name, sentence in group]
        text += ["", "```{toctree}", ":hidden:", *([f":caption: {heading}"] if folder == "notebooks" else []), "", *(path.stem for path, *_ in group), "```", ""]
    if folder == "notebooks" and (more := [f"/{name}/index" for name in FOLDERS if name != folder and notebooks(name)]):
        text += ["## Jobs and exploration\n", "```{toctree}", ":maxdepth: 2", ":caption: More", "", *more, "```", ""]
    return "\n".join(text)


def reference(pages: dict[Path, object]) -> dict[str, str]:
    "The pages of the modules, and the one that lists them, from the notebooks that export them."
    sources = {name: (path, *title(notebook)) for path, notebook in pages.items() if (name := module(notebook)) and _reference_of(name) == name}
    files, groups = {}, {}
    for name, (path, heading, sentence) in sources.items():
        files[f"api/{name}.md"] = (f"# {name}\n\nMade, explained and tested in [{heading}](/notebooks/{path.name}).\n\n"
                                   f"```{{eval-rst}}\n.. automodule:: enmap_sharpener.{name}\n   :members:\n   :exclude-members: __init__\n```\n")
        groups.setdefault(path.stem[:2], []).append((heading, name, sentence))
    text = ["# Reference\n\nEvery public name of every module: shapes, units, what is raised, and where a formula comes from. "
            "[The commands](commands.md) have a page of their own.\n\n```{toctree}\n:hidden:\n\ncommands\n```\n"]
    for group in groups.values():
        text += [f"## {group[0][0]}\n", *(f"- [`{name}`]({name}.md): {sentence}" for _, name, sentence in group), ""]
        text += ["```{toctree}", ":hidden:", f":caption: {group[0][0]}", "", *(name for _, name, _ in group), "```", ""]
    return files | {"api/index.md": "\n".join(text)}


def commands(pages: dict[Path, object]) -> str:
    "The page of the commands, as the app itself describes them."
    for name in filter(None, map(module, pages.values())):
        if name.startswith("cli"):
            importlib.import_module(f"enmap_sharpener.{name}")
    app = importlib.import_module("enmap_sharpener.cli.app").app
    described = app.generate_docs(output_format="markdown", heading_level=1)
    start = described.index(f"## {app.name[0]} ")
    return "# Commands\n\nWhat `--help` says of each command.\n\n" + linked(described[start:].replace(f"## {app.name[0]} ", "## "))


def readme() -> dict[str, str]:
    "The sections of README, without their headings, and what it begins with, to be included in pages."
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pitch, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    parts = {re.sub(r"[^a-z]+", "-", head.lower()).strip("-"): body for head, _, body in (s.partition("\n") for s in sections)}
    parts["pitch"] = "".join(line for line in pitch.splitlines(keepends=True) if not line.startswith(("# ", ">", "!", "*")))
    return {f"readme/{name}.md": linked(body) for name, body in parts.items()}


def benchmarks() -> str:
    "What each script in benchmarks says of itself."
    docs = {path.name: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) for path in sorted((ROOT / "benchmarks").glob("*.py"))}
    return linked("\n".join(f"### {name}\n\n{text}\n" for name, text in docs.items()))


def linked(text: str) -> str:
    "Text of the repository's root with links that hold on the site."
    text = re.sub(r"\]\(nbs/(jobs/|explore/)?(\w+\.ipynb)", lambda m: f"](/{m[1] or 'notebooks/'}{m[2]}", text)
    text = re.sub(r"\]\((LICENSE|CHANGELOG\.md|CONTRIBUTING\.md)\)", lambda m: f"](/{m[1].lower()})", text)
    text = text.replace("](/license)", "](/license.md)").replace("](output/models/", "](/models/")
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
        files |= {f"{folder}/{path.name}": nbformat.writes(page(path)) for path in pages}
        if folder == "notebooks":
            files |= reference(pages) | {"api/commands.md": commands(pages)}
    files |= readme() | {"readme/benchmarks.md": benchmarks()}
    files |= {name.lower(): linked((ROOT / name).read_text(encoding="utf-8")) for name in ("CHANGELOG.md", "CONTRIBUTING.md")}
    files["license.md"] = f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n"
    files |= {f"models/{path.name}": path.read_text(encoding="utf-8") for path in (ROOT / "output/models").glob("*.md")}
    data = {name: text.encode() for name, text in files.items()}
    data |= {f"figures/{path.name}": path.read_bytes() for path in (ROOT / "output/figures").glob("*.png")}
    docs = ROOT / "docs"
    data |= {path.relative_to(docs).as_posix(): path.read_bytes() for path in docs.rglob("*") if path.suffix == ".md"}
    for name, content in data.items():
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for path in target.rglob("*"):
        if path.is_file() and path.relative_to(target).as_posix() not in data:
            path.unlink()


def build(output: Path = OUTPUT, fresh: bool = False) -> int:
    "Gather and build; Sphinx's exit status."
    from sphinx.cmd.build import main
    if fresh:
        shutil.rmtree(output, ignore_errors=True)
    gather(output / "source")
    return main(["-b", "html", "-W", "--keep-going", "-q", "-j", "auto", "-c", str(ROOT / "docs"), "-d", str(output / "doctrees"),
                 str(output / "source"), str(output / "html")])


if __name__ == "__main__":
    status = build(fresh="--fresh" in sys.argv)
    if status == 0:
        print(f"open {(OUTPUT / 'html/index.html').relative_to(Path.cwd())}" if OUTPUT.is_relative_to(Path.cwd()) else OUTPUT)
    sys.exit(status)
