"README.md is what its notebook gives, and what it tells people to type works."
import re
import shlex
import shutil
from glob import glob
from pathlib import Path

import pytest
from readme import ROOT, render

README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^ {4}(enmap-sharpener .+)$|`(enmap-sharpener [^`]+)`", README, re.MULTILINE)


def test_made_from_notebook():
    pytest.importorskip("nbconvert")
    assert render() == README, "make readme brings it up to date"


def test_small_and_without_embedded_pictures():
    assert "base64" not in README and "data:image" not in README
    assert len(README) < 15_000


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_link(link):
    assert (ROOT / link).exists()


@pytest.mark.parametrize("picture", sorted((ROOT / "output/figures").rglob("*.png")), ids=lambda p: p.name)
def test_pictures_are_small(picture):
    assert picture.stat().st_size < 450_000


@pytest.mark.parametrize("command", [a or b for a, b in COMMANDS])
def test_command_exists(command, capsys):
    from enmap_sharpener.cli.app import main
    _, name, *arguments = shlex.split(command, comments=True)
    assert main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert all(a in text for a in arguments if a.startswith("--"))


LONG = ("--cluster", "train", "search", "insights")    # Slurm, and what takes minutes: their own tests run them


@pytest.mark.slow
def test_commands_run(services, capfd):
    "One after the other as README has them, in an empty folder, against servers on the loopback address; scenes and files have the names that are there."
    from enmap_sharpener.cli.app import main
    pytest.importorskip("distributed")
    box = {"12.9": services.wide, **dict.fromkeys(["52.3", "13.2", "52.5"], []), "48": ["24"]}
    for command in (a or b for a, b in COMMANDS):
        words = shlex.split(command, comments=True)[1:]
        if any(w in LONG for w in words) or words[0] == "demo":
            continue
        for folder, size, wanted in (("pairs", "72", words[0] == "preprocess"), ("flight", "16", words[0] in ("sharpen", "batch"))):    # the services' scene is too small for a tile
            if wanted and not Path(folder).exists():
                assert main(["simulate", "--size", size, "--output", folder, "--quiet"]) == 0
                shutil.rmtree("data/enmap")
                shutil.copytree(folder, "data/enmap", ignore=shutil.ignore_patterns("truth.tif", "simulation.json"))
        scene = next(map(str, Path("data/enmap").glob("ENMAP01*")), "")
        words = [w for word in words for w in box.get(word, [word])]
        words = [scene if w.startswith("ENMAP01-") else "flight/truth.tif" if w == "flight.bsq" else f"{scene}/sentinel2" if w == "sentinel2" else w for w in words]
        words = [str(ROOT / w) if w.startswith("output/models") else w for w in words]
        words = [f for w in words for f in (sorted(glob(w)) if w.startswith("rehearsal/") else [w])]
        if "scenes.csv" in words:
            Path("scenes.csv").write_text("enmap;sentinel2\n" + "\n".join(f"{order};{safe}" for order, safe in zip(glob("rehearsal/*.zip"), glob("rehearsal/*.SAFE"), strict=True)))
        assert main(words) == 0, (command, capfd.readouterr().err[-500:])


@pytest.mark.parametrize("option", sorted(set(re.findall(r"`(--[a-z-]+)[^`]*`", README)) - {"--help"}))
def test_option_exists(option, capsys):
    from enmap_sharpener.cli.app import main
    assert all(main([command, "--help"]) == 0 for command in ("sharpen", "scrape", "scrape-sentinel2"))
    assert option in capsys.readouterr().out


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\bmake ([a-z]+)", README)) & {"demo", "test", "readme"}))
def test_make_target_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_python_example(tmp_path, monkeypatch):
    from enmap_sharpener.simulation.scene import simulate
    paths = simulate(tmp_path, size=30, truth=False)
    paths.enmap.rename(tmp_path / "enmap")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    exec(compile(example, "README.md", "exec"), {})
    for name in re.findall(r"`(potsdam[^`]*)`", README.split("## What is written")[1].split("##")[0]):
        assert (tmp_path / name).is_file()
