"What is installed, promised and listed in several places agrees; without extras, sharpening works and every other command says what it lacks."
import ast
import re
import subprocess
import sys
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from readme import ROOT

settings = ConfigParser(delimiters=["="], interpolation=None)
settings.read(ROOT / "settings.ini", encoding="utf-8")
settings = settings["DEFAULT"]
text = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CITATION.cff", "conda/meta.yaml", "pyproject.toml", "CONTRIBUTING.md", "README.md", "Makefile", ".github/workflows/ci.yml")}
ROOMS = [path.name[3:] for path in sorted((ROOT / "nbs").glob("[0-9][0-9]_*"))]
LOWEST, HIGHEST = settings["min_python"], settings["max_python"]


def test_versions_agree():
    wanted = settings["version"]
    assert re.search(rf"^version: {wanted}$", text["CITATION.cff"], re.MULTILINE)
    assert re.search(rf"^  version: {wanted}$", text["conda/meta.yaml"], re.MULTILINE)


def test_citation_is_valid():
    "What version 1.2.0 of the Citation File Format asks for: keys, types of works, names, years, DOIs."
    import yaml
    said = yaml.safe_load(text["CITATION.cff"])
    assert said["cff-version"] == "1.2.0" and said["license"] == "Apache-2.0" and said["type"] == "software"
    assert said.keys() <= {"cff-version", "message", "title", "type", "authors", "version", "license", "repository-code", "url", "abstract", "keywords", "preferred-citation", "references"}
    assert said["repository-code"] == settings["git_url"] and said["preferred-citation"]["version"] == settings["version"]
    for work in (said["preferred-citation"], *said["references"]):
        assert {"type", "title", "authors"} <= work.keys() and work["type"] in ("article", "book", "software", "thesis") and isinstance(work["year"], int)
        assert all(author.keys() in ({"name"}, {"family-names", "given-names"}) for author in work["authors"])
        assert re.fullmatch(r"10\.\d{4,9}/\S+", work.get("doi", "10.1234/none")) and all(isinstance(work.get(key, ""), str) for key in ("issue", "journal"))


def test_extras_are_installed_in_one_spelling():
    "One that works before there is an index: from a checkout."
    folders = [ROOT / "docs", ROOT / "nbs", ROOT / "enmap_sharpener"]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in (".md", ".ipynb", ".py")] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md")]
    wrong = [path.name for path in files if re.search(r"enmap_sharpener\[[a-z{]|pip install \"", path.read_text(encoding="utf-8"))]
    assert not wrong


def test_faults_are_reported_to_the_same_address():
    from enmap_sharpener.core.errors import issue_tracker
    assert issue_tracker() == settings["git_url"] + "/issues"
    assert f"]({issue_tracker()})" in text["CONTRIBUTING.md"]


def test_pythons_agree():
    first, last = (int(version.partition(".")[2]) for version in (LOWEST, HIGHEST))
    all_of_them = [f"3.{minor}" for minor in range(first, last + 1)]
    assert all(f"Python {LOWEST} to {HIGHEST}" in text[name] for name in ("README.md", "CONTRIBUTING.md"))
    assert f"(3, {first}) <= sys.version_info[:2] <= (3, {last})" in text["Makefile"]
    assert re.search(r"python: \[(.*)\]", text[".github/workflows/ci.yml"])[1].replace('"', "").split(", ") == all_of_them
    assert text["conda/meta.yaml"].count(f"python >={LOWEST},<3.{last + 1}") == 2


def test_conda_needs_the_same():
    renamed = {"dask": "dask-core", "matplotlib": "matplotlib-base"}
    run = re.search(r"^  run:\n(.*?)^\w", text["conda/meta.yaml"], re.MULTILINE | re.DOTALL)[1]
    found = {tuple(line.strip("- ").split(" ")) for line in run.strip().splitlines()} - {("python", f">={LOWEST},<3.{int(HIGHEST[2:]) + 1}")}
    needed = [re.fullmatch(r"([\w-]+)(.*)", word).groups() for word in settings["requirements"].split()]
    assert found == {(renamed.get(name, name), version) for name, version in needed}


# ---- rooms ------------------------------------------------------------------------------------------------------

def test_rooms_are_the_same_everywhere():
    packages = {path.parent.name for path in (ROOT / "enmap_sharpener").glob("*/__init__.py")}
    assert packages == set(ROOMS)
    layers = re.search(r"^layers = \[(.*?)\]", text["pyproject.toml"], re.MULTILINE | re.DOTALL)[1]
    assert re.findall(r'"(\w+)"', layers) == ROOMS[::-1]
    table = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", text["CONTRIBUTING.md"], re.MULTILINE)
    assert [name for name, *_ in table] == ROOMS
    for before, (_, _, may) in zip(ROOMS[1:-2], table[2:-1], strict=True):
        assert may == f"up to `{before}`"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_says_what_it_owns(room):
    said = ast.get_docstring(ast.parse((ROOT / f"enmap_sharpener/{room}/__init__.py").read_text(encoding="utf-8")))
    assert re.fullmatch(r"[A-Z][\w ]+: .+\.", said)


# ---- without extras ---------------------------------------------------------------------------------------------

def brought() -> set[str]:
    "Top-level modules of what the required packages bring, and of what those require."
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    found, todo = set(), [Requirement(word) for word in settings["requirements"].split()]
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in found:
            continue
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        found.add(name)
        todo += [r for r in map(Requirement, lines) if not r.marker or any(r.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras))]
    return {module for module, owners in packages_distributions().items() if found & {canonicalize_name(owner) for owner in owners}}


HIDING = """
import sys
from importlib.metadata import packages_distributions
kept = set(sys.argv[1].split(","))
hidden = {name for name in packages_distributions() if name not in kept and name not in sys.stdlib_module_names and not name.startswith(("_", "enmap_sharpener"))}

class Hide:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import importlib.util
seen = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: None if name.partition(".")[0] in hidden else seen(name, package)
sys.meta_path.insert(0, Hide)
for name in [name for name in sys.modules if name.partition(".")[0] in hidden]:
    del sys.modules[name]

from enmap_sharpener.cli.app import main
for line in sys.stdin:
    print("rc", main(line.strip().split("\\t")), file=sys.stderr, flush=True)
"""


def without_extras(*commands) -> list[tuple[int, str]]:
    "Exit status and what is said of commands, run one after the other where only the required packages are found."
    typed = "\n".join("\t".join(map(str, words)) for words in commands)
    ran = subprocess.run([sys.executable, "-c", HIDING, ",".join(brought())], input=typed, capture_output=True, text=True, timeout=300, cwd=ROOT)
    told = re.split(r"^rc (\d)\n", ran.stderr, flags=re.MULTILINE)
    assert len(told) == 2 * len(commands) + 1, ran.stderr[-2000:]
    return [(int(status), said) for said, status in zip(told[:-1:2], told[1::2], strict=True)]


LACKING = {
    "simulate": ("simulate --output {0}/scene", "demo --output {0}/demo"),
    "scrape": ("scrape --bbox 12.9 52.3 13.2 52.5 --date-time 2023-05-01/2023-05-30 --enmap-dir {0} --dry-run", "scrape-sentinel2 --enmap-dir {0}"),
    "preprocess": ("preprocess --enmap-dir {0} --output-dir {0}/out", "inspect {0}", "sharpen-tiles --model {0}/net.keras --input-dir {0} --output-dir {0}/out",
                   "reconstruct --predictions-dir {0} --meta-path {0} --output-dir {0}/out"),
    "cpu": ("train --train-data-dir {0} --output {0}/net.keras", "search --train-data-dir {0} --output-dir {0}/out",
            "sharpen {1} --method supermapnet --model {0}/net.keras --output {0}/net.tif", "insights --model {0}/net.keras --scene {1} --output {0}/out"),
    "view": ("view {0}/sharpened.tif",),
    "batch": ("batch --list", "batch sharpen --scenes {1} --output {0}/out"),
}


@pytest.mark.slow
def test_without_extras(tmp_path):
    from enmap_sharpener.simulation.scene import simulate
    scene, written = simulate(tmp_path / "simulated", size=24, truth=False).enmap, tmp_path / "sharpened.tif"
    (tmp_path / "net.keras").touch()
    lacking = [(extra, line.format(tmp_path, scene)) for extra, lines in LACKING.items() for line in lines]
    works = ["--version", f"sharpen {scene} --output {written} --quiet", f"evaluate {written} --scene {scene} --quiet"]
    told = without_extras(*(line.split() for line in [*works, *(line for _, line in lacking)]))
    assert told[:3] == [(0, "")] * 3 and written.is_file()
    for (extra, line), (status, said) in zip(lacking, told[3:], strict=True):
        assert status == 2 and len(said.splitlines()) == 1 and f"[{extra}]" in said, (line, status, said)


def test_where_is_what_is_where_it_is_said_to_be():
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Where is what")[2].partition("\n## ")[0]
    told = [re.findall(r"`(\w+)\.(\w+)`([^.]*?)(?=, `\w+\.|; `\w+\.|$)", row.split(" | ")[-1].rstrip(" |")) for row in table.splitlines() if row.startswith("| ") and "`" in row]
    assert len(told) > 10 and all(told)
    for room, module, names in [place for row in told for place in row]:
        source = (ROOT / "enmap_sharpener" / room / f"{module}.py").read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+)`", names):
            assert re.search(rf"^(def {name}\b|class {name}\b|[A-Z_, ]*\b{name}\b[A-Z_, ]* = )", source, re.MULTILINE), (room, module, name)
