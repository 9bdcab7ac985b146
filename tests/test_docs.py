"The site is built without a warning, loads nothing from elsewhere, leads nowhere that is not there; what its guides tell people to type works."
import fcntl
import functools
import http.server
import os
import re
import shlex
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from glob import glob
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from readme import ROOT

from enmap_sharpener.cli.app import app, main

sys.path.insert(0, str(ROOT / "docs"))
PAGES = sorted((ROOT / "docs").rglob("*.md"))
LOADED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src", "object": "data"}


# ---- what is typed ----------------------------------------------------------------------------------------------

def typed(path):
    "The commands in the console blocks of a page, as lists of words."
    blocks = re.findall(r"^```console\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert all(line.startswith("$ ") for line in lines), f"{path.name}: a line of a console block begins with $"
    return [shlex.split(line[2:], comments=True) for line in lines]


def execute(words, **replaced):
    "A command in this process, with patterns filled in as the shell does where they are not quoted, and some words replaced."
    words = [w for word in words for w in (replaced.get(word, [word]))]
    return main([w for word in words[1:] for w in (sorted(glob(word)) if "*" in word else [word])])


COMMANDS = [(page.stem, words) for page in PAGES for words in typed(page)]


@pytest.mark.parametrize("page, words", COMMANDS, ids=lambda v: v if isinstance(v, str) else " ".join(v[1:3]))
def test_command_is_understood(page, words):
    main(["--version"])    # registers all commands
    assert words[0] == "enmap-sharpener"
    app.parse_args(words[1:], exit_on_error=False, print_error=False)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_make_targets_and_extras_exist(path):
    text, makefile = path.read_text(encoding="utf-8"), (ROOT / "Makefile").read_text()
    (extras,) = re.findall(r"^extras = (.*)$", (ROOT / "settings.ini").read_text(), re.MULTILINE)
    for target in re.findall(r"`make (\w+)`", text):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    asked = ",".join(re.findall(r"pip install '\.\[([\w,]+)\]'", text)).split(",") + (re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) if path.stem == "install" else [])
    for extra in filter(None, asked):
        assert extra in extras.split()


@pytest.mark.slow
def test_tutorial_without_an_account(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = [words for words in typed(ROOT / "docs/tutorial.md") if not words[1].startswith("scrape")]
    assert [words[1] for words in commands] == ["simulate", "sharpen", "simulate", "sharpen", "evaluate", "evaluate"]
    for words in commands:
        assert execute(words) == 0, words
    out = capsys.readouterr().out
    assert {"agreement", "psnr", "sam"} <= set(out.split()) and Path("potsdam.png").is_file()
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/tutorial.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    exec(compile(example, "tutorial.md", "exec"), {})
    assert Path("potsdam_again.tif").read_bytes() == Path("potsdam.tif").read_bytes() and Path("look.png").is_file()


@pytest.mark.slow
def test_tutorial_with_an_account(services, capsys):
    "The same against servers on the loopback address, whose scenes lie in another box."
    box = {"12.9": services.wide, **dict.fromkeys(["52.3", "13.2", "52.5"], [])}
    for words in typed(ROOT / "docs/tutorial.md"):
        if words[1] != "simulate" and "--truth" not in words and "rehearsed.tif" not in words:
            assert execute(words, **box) == 0, words


def test_guide_of_qgis(tmp_path, monkeypatch):
    "Its command, and what it says of bands, units and classes."
    import rasterio

    from enmap_sharpener.simulation.scene import simulate
    monkeypatch.chdir(tmp_path)
    simulate("data/enmap", size=24, truth=False)
    text = (ROOT / "docs/guides/qgis.md").read_text(encoding="utf-8")
    for words in typed(ROOT / "docs/guides/qgis.md"):
        assert execute(words) == 0
    assert main(["sharpen", *glob("data/enmap/ENMAP01-*"), "--output", "potsdam.tif", "--method", "cubic", "--quiet"]) == 0
    with rasterio.open("potsdam.tif") as file:
        assert set(file.scales) == {1e-4} and file.nodata == -32768
        assert {"wavelength", "wavelength_units", "fwhm", "bbl"} <= set(file.tags(1))
        named = re.findall(r"(\d+) \((\d+) nm\)", text)
        assert len(named) == 9
        for band, wavelength in named:
            assert abs(float(file.tags(int(band))["wavelength"]) - float(wavelength)) < 1
            assert f"band {band} (" in file.descriptions[int(band) - 1]
        assert [int(file.tags(i)["bbl"]) for i in range(131, 136)] == [0] * 5
    with rasterio.open("potsdam_quality.tif") as file:
        assert file.count == 2 and len(re.findall(r"^\| \d \|", text, re.MULTILINE)) == sum(k.startswith("class_") for k in file.tags(1))
        file.colormap(1)


@pytest.mark.slow
def test_guide_of_formats(tmp_path, monkeypatch, capsys):
    "Its commands and its Python."
    pytest.importorskip("odc.stac")
    from enmap_sharpener.simulation.scene import simulate
    monkeypatch.chdir(tmp_path)
    simulate("data/enmap", size=30, truth=False)
    text = (ROOT / "docs/guides/formats.md").read_text(encoding="utf-8")
    for words in typed(ROOT / "docs/guides/formats.md"):
        assert execute([*words, "--method", "cubic"]) == 0, words
    for example in re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(example, "formats.md", "exec"), {})
    assert "swir16" in capsys.readouterr().out and Path("part.nc").is_file() and Path("envi/potsdam.hdr").is_file() and len(list(Path("products").glob("*/*"))) == 10


@pytest.mark.slow
def test_guide_of_an_airborne_reference(tmp_path, monkeypatch):
    "Its Python, with a reference of 5 m, in micrometres and of fewer bands; and its first command."
    import rasterio

    from enmap_sharpener.simulation.scene import simulate
    monkeypatch.chdir(tmp_path)
    truth = simulate("data/enmap", size=24).truth
    assert main(["sharpen", *glob("data/enmap/ENMAP01-*"), "--output", "potsdam.tif", "--method", "cubic", "--quiet"]) == 0
    with rasterio.open(truth) as file:
        values, profile = file.read(range(5, 96, 6)).repeat(2, 1).repeat(2, 2), file.profile
        named = [float(file.tags(i)["wavelength"]) for i in range(5, 96, 6)]
    profile.update(count=len(named), width=values.shape[2], height=values.shape[1], transform=profile["transform"] @ rasterio.Affine.scale(0.5))
    with rasterio.open("airborne.tif", "w", **profile) as file:
        file.write(values)
        for i, wavelength in enumerate(named, 1):
            file.update_tags(i, wavelength=wavelength / 1000, wavelength_units="Micrometers")
    text = (ROOT / "docs/guides/reference.md").read_text(encoding="utf-8")
    example, indices = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names = {}
    exec(compile(example, "reference.md", "exec"), names)
    exec(compile(indices, "reference.md", "exec"), names)
    assert all((Path("indices") / name).is_file() for name in re.findall(r"indices/([\w.]+)", indices))
    assert names["scores"]["psnr"] > 18 and names["scores"]["bands"] == len(named) and Path("airborne_bands.csv").is_file()
    first, methods = typed(ROOT / "docs/guides/reference.md")
    assert execute(first) == 0
    assert execute(["enmap-sharpener", *methods[1:]], subspace=["bilinear"], gsa=[]) == 0    # the quick ones
    assert Path("output/evaluation/scores.csv").is_file()


def test_guide_of_slurm(tmp_path):
    "Its file is what dask-jobqueue takes, and says what the guide says."
    pytest.importorskip("dask_jobqueue")
    from enmap_sharpener.batch.clusters import slurm_cluster
    (text,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/guides/slurm.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for gpu in (False, True):
        (tmp_path / "slurm.yaml").write_text(text.replace("# gpu", "gpu" if gpu else "# gpu") + "\ninterface: lo\n")
        with slurm_cluster(tmp_path / "slurm.yaml") as cluster:
            script = cluster.job_script()
        for part in ("-J enmap-sharpener", "-A enmap", "-p standard", "--cpus-per-task=8", "-t 04:00:00", "module load python"):
            assert part in script
        assert ("--gres=gpu:1" in script) == gpu


# ---- how notebooks become pages ---------------------------------------------------------------------------------

def test_a_notebook_becomes_a_page(tmp_path, monkeypatch):
    import build
    from build import module, page
    monkeypatch.setattr(build, "ROOT", tmp_path)
    place = tmp_path / "nbs/00_room/00_name.ipynb"
    place.parent.mkdir(parents=True)
    new = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_markdown_cell("# Name\n\n> One sentence."),
        nbformat.v4.new_code_cell("#| default_exp room.name"),
        nbformat.v4.new_code_cell("#| export\nimport numpy as np"),
        nbformat.v4.new_code_cell("#| export\nA, B = 1, 2\n\n\ndef f():\n    pass\n\n\nclass G:\n    '#| hide'", outputs=[nbformat.v4.new_output("execute_result", {"text/plain": "'said of B'"})]),
        nbformat.v4.new_code_cell("#| hide\nsecret"),
        nbformat.v4.new_code_cell("f()", outputs=[nbformat.v4.new_output("stream", text="out")])])
    nbformat.write(new, place)
    assert module(new) == "room.name"
    head, imports, code, shown = page(place).cells
    assert head.source.startswith("# Name\n") and "One sentence." in head.source and "](/api/room/name.md)" in head.source and "{download}`Download the notebook </originals/00_room/00_name.ipynb>`" in head.source
    assert imports.source == "import numpy as np" and imports.metadata.mystnb.code_prompt_show == "imports"
    assert code.metadata.tags == ["hide-input"] and code.metadata.mystnb.code_prompt_show == "A, B, f, G" and not code.outputs
    assert shown.source == "f()" and shown.outputs[0].text == "out" and "tags" not in shown.metadata


def test_sections_that_pages_include():
    from build import benchmarks, rooms_map, sections, tables
    made = sections("readme") | sections("contributing") | tables() | {"readme/benchmarks.md": benchmarks(), "contributing/map.md": rooms_map()}
    asked = {name for page in PAGES for name in re.findall(r"\{include\} (?:\.\./)*(\S+)", page.read_text(encoding="utf-8"))}
    assert asked <= set(made), f"no section in README or CONTRIBUTING for {asked - set(made)}"
    assert all(path.name in benchmarks() for path in (ROOT / "benchmarks").glob("*.py"))
    assert not any(re.search(r"\]\((nbs|output)/", text) for text in made.values())


def test_reference_begins_with_what_users_call():
    from importlib import import_module

    from build import CALLED, called

    import enmap_sharpener as es
    assert set(es.__all__) - {"__version__"} == {name for name in CALLED if ":" not in name}
    for name, said in CALLED.items():
        module, _, function = name.rpartition(":")
        assert hasattr(import_module(f"enmap_sharpener.{module}") if module else es, function) and said.endswith(".") and len(said.split()) < 20
    assert called().count("\n| {py:obj}`") == len(CALLED)


@pytest.mark.parametrize("name, place", [
    ("tutorial", "docs/tutorial.md"), ("guides/qgis", "docs/guides/qgis.md"), ("changelog", "CHANGELOG.md"), ("contributing", "CONTRIBUTING.md"),
    ("notebooks/05_fusion/09_subspace", "nbs/05_fusion/09_subspace.ipynb"), ("notebooks/explore/xarray", "nbs/explore/xarray.ipynb"), ("models/supErMAPnet", "output/models/supErMAPnet.md"),
    ("api/fusion/subspace", "nbs/05_fusion/09_subspace.ipynb"), ("api/index", None), ("api/commands", None), ("notebooks/index", None), ("gallery", None), ("search", None)])
def test_where_a_page_is_from(name, place):
    from build import origin
    assert origin(name) == place and (place is None or (ROOT / place).is_file())


def test_lists_of_others_names(tmp_path, monkeypatch):
    "They are fetched where there is a network, kept, and done without where there is none; what is no such list is not taken for one."
    import build
    served = tmp_path / "served"
    for name, content in (("good", b"# Sphinx inventory version 2\n"), ("other", b"<html>log in</html>")):
        (served / name).mkdir(parents=True)
        (served / name / "objects.inv").write_bytes(content)
    with _served(served) as base:
        monkeypatch.setattr(build, "INVENTORIES", {"other": f"{base}/other/", "good": f"{base}/good/"})
        build.fetch_inventories(tmp_path / "found")
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["good.inv"]
    monkeypatch.setattr(build, "INVENTORIES", {"gone": f"{base}/gone/", "good": f"{base}/good/"})
    build.fetch_inventories(tmp_path / "found")
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["good.inv"]


# ---- the site ---------------------------------------------------------------------------------------------------

@contextmanager
def _served(folder):
    "The address of a server of a folder's files."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            "Nothing is printed."
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site():
    "The folder of the finished site; one worker builds, and one that comes later finds all of it done."
    pytest.importorskip("sphinx")
    from build import OUTPUT, build
    OUTPUT.mkdir(exist_ok=True)
    with open(OUTPUT / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run, last = os.environ.get("PYTEST_XDIST_TESTRUNUID"), OUTPUT / ".run"
        if not run or not last.exists() or last.read_text() != run:
            assert build() == 0, "Sphinx warns; see above"
            last.write_text(run or "")
    return OUTPUT / "html"


class Page(HTMLParser):
    "Links, anchors, and what is loaded when a page is opened."

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors, self.loaded, self.headings = set(), set(), set(), Counter()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.anchors |= {attrs.get("id"), attrs.get("name")}
        self.headings[tag] += 1
        if tag == "a" and attrs.get("href"):
            self.links.add(attrs["href"])
        if tag in LOADED and attrs.get(LOADED[tag]) and attrs.get("rel") not in ("canonical", "author", "search", "index", "next", "prev"):
            self.loaded.add(attrs[LOADED[tag]])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


@pytest.mark.slow
def test_pages_are_there(site, pages):
    from build import FOLDERS, module, notebooks, place
    listed = [path for folder in FOLDERS for path in notebooks(folder)]
    assert {*listed, ROOT / "nbs/index.ipynb"} == set((ROOT / "nbs").rglob("*.ipynb"))
    for path in listed:
        assert (site / place(path)).with_suffix(".html").is_file()
        name = module(nbformat.read(path, as_version=4))
        assert not name or name.startswith("cli.") or f"enmap_sharpener.{name}" in (site / f"api/{name.replace('.', '/')}.html").read_text(encoding="utf-8")
    for name in ("index", "install", "tutorial", "theory", "benchmarks", "changelog", "limits", "api/commands", "guides/qgis", "guides/slurm", "guides/reference", "rooms"):
        assert pages[site / f"{name}.html"].headings["h1"] == 1
    assert pages[site / "theory.html"].headings["math"] > 20
    assert (site / "_static/math.woff").stat().st_size < 400_000


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(site, pages):
    assert not any("mathjax" in url.lower() for page in pages.values() for url in page.loaded)
    foreign = {(path.name, url) for path, page in pages.items() for url in page.loaded if urlsplit(url).netloc}
    assert not foreign
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.findall(r"(?:@import\s+|url\()[\"']?(?:https?:)?//[^)\"']+", styles)


@pytest.mark.slow
def test_links_lead_somewhere(site, pages):
    dead = set()
    for path, page in pages.items():
        for link in page.links | page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            place = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = place / "index.html" if place.is_dir() else place
            if not place.is_file() or (parts.fragment and place in pages and unquote(parts.fragment) not in pages[place].anchors):
                dead.add((path.relative_to(site).as_posix(), link))
    assert not dead


@pytest.fixture(scope="module")
def address(site):
    with _served(site) as base:
        yield base


@pytest.mark.slow
def test_pages_lead_to_the_repository(site, pages):
    "The file that each is made from, and the notebook as it lies there."
    from build import notebooks, origin, place, settings
    base = settings()["git_url"]
    for path, page in pages.items():
        name = path.relative_to(site).with_suffix("").as_posix()
        found = [link for link in page.links if link.startswith((f"{base}/edit/main/", f"{base}/blob/main/"))]
        assert (wanted := origin(name)) is None or any(link.endswith(f"/main/{wanted}") for link in found), name
    for path in notebooks("notebooks"):
        html = (site / place(path)).with_suffix(".html")
        (link,) = [link for link in pages[html].links if "_downloads/" in link]
        assert (html.parent / unquote(link)).read_bytes() == path.read_bytes()


APART = """() => {   // what stands in the header is apart by some pixels
    const boxes = [...document.querySelectorAll('.bd-header button, .bd-header a.navbar-brand, .bd-header .nav-item > a')].map(e => e.getBoundingClientRect())
        .filter(b => b.width && b.height && b.top < 100).sort((a, b) => a.left - b.left);
    return boxes.every((b, i) => !i || boxes[i - 1].right + 2 <= b.left || boxes[i - 1].bottom <= b.top || b.bottom <= boxes[i - 1].top);
}"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 1280, 390])
def test_in_a_browser(browser, address, width):
    "No page is wider than the window, the picture is on the first screen, and nothing is asked of any other address."
    page = browser.new_page(viewport={"width": width, "height": 844})
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in ("index", "tutorial", "theory", "benchmarks", "guides/qgis", "api/index", "api/commands", "api/sharpening/sharpening", "gallery", "troubles", "notebooks/index", "notebooks/05_fusion/09_subspace", "notebooks/06_preprocessing/07_outliers", "rooms"):
        page.goto(f"{address}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
        assert page.evaluate(APART), name
    page.goto(f"{address}/index.html")
    picture = page.locator(".hero-picture img").bounding_box()
    assert picture["y"] + picture["height"] < 844 and picture["width"] > 0.5 * min(width, 1000)
    assert page.evaluate("document.querySelector('.hero-picture img').naturalWidth") > 500
    assert all(url.startswith((address, "data:")) for url in asked) and not errors
    page.close()


@pytest.mark.slow
def test_search_finds(browser, address):
    page = browser.new_page()
    page.goto(f"{address}/index.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("kriging")
    page.keyboard.press("Enter")
    page.wait_for_selector("ul.search li a[href*='04_operators'], ul.search li a[href*='theory']")    # results come one by one
    page.goto(f"{address}/search.html?q=trust")
    first = page.wait_for_selector("ul.search li:first-child a[href]").get_attribute("href")
    assert not first.startswith(("api/", "notebooks/0", "notebooks/1", "changelog")), "what people read comes first"
    page.close()
