"What a command says: on a log as on a terminal, nothing when quiet, and a sentence for each option."
import os
import re
import subprocess
import sys
import time

import pytest

from enmap_sharpener.cli import terminal
from enmap_sharpener.cli.app import COMMANDS, app, main
from enmap_sharpener.simulation.scene import simulate

NAMES = [app.name_transform(function) for functions in COMMANDS.values() for function in functions]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    place = tmp_path_factory.mktemp("simulated")
    simulate(place, 24, 0, truth=False)
    return place


def test_sharpen_says_what_it_does_and_what_came_of_it(scene, tmp_path, capfd):
    assert main(["sharpen", str(scene), "--output", str(tmp_path / "a.tif")]) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch(r"Sharpening ENMAP01-\S+ with \S+sentinel2, taken 9 days apart: subspace to \S+a\.tif\n", err)
    first, *lines = out.splitlines()
    assert re.fullmatch(r"\S+a\.tif: 224 bands, 73 x 73 pixels of 10 m, \d+ MB, in \d+ s", first)
    assert re.search(r"^  \d+\.\d % sharpened", out, re.M) and re.search(r"^  alignment: VNIR .* EnMAP pixels\); SWIR", out, re.M)
    assert re.search(r"^  agreement good: .* 0\.00\d+ \(RMSE, reflectance\); worst in band \d+ \(\d+ nm\)", out, re.M)
    assert not {"sigma", "one_scale_down", "covered"} & set(re.split(r"\W", out)), "names that nobody can look up"
    assert lines[-1].startswith("  see also ") and {"a_quality.tif", "a.png", "a.json"} <= set(lines[-1].removeprefix("  see also ").split(", "))


@pytest.mark.parametrize("name", ["PROJ_LIB", "PROJ_DATA"])
def test_a_variable_that_leads_proj_astray_is_named(scene, tmp_path, name):
    found = subprocess.run([sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())", "sharpen", str(scene), "--output", str(tmp_path / "a.tif")],
                           env={**os.environ, name: str(tmp_path)}, capture_output=True, text=True, check=False)
    assert found.returncode == 2 and found.stderr.splitlines()[-1] == f"enmap-sharpener: {name} is {str(tmp_path)!r}, where the database of coordinate systems (proj.db) is not; unset it"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="has no device that is always full")
def test_a_full_disk_behind_a_pipe_is_told(scene, tmp_path):
    with open("/dev/full", "w") as full:
        found = subprocess.run([sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())", "inspect", str(scene), "--output", str(tmp_path)], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert found.returncode == 2 and found.stderr.splitlines()[-1] == "enmap-sharpener: what it prints, or a temporary file: cannot be written (No space left on device); make room"


def test_a_backend_that_matplotlib_does_not_know_is_named(scene, tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "foo")
    def draw(*given):
        raise ValueError("Key backend: 'foo' is not a valid value for backend; supported values are ['agg']")     # as where nothing has drawn before
    monkeypatch.setattr("enmap_sharpener.reconstruction.output._draw", draw)
    assert main(["sharpen", str(scene), "--output", str(tmp_path / "a.tif"), "--method", "cubic", "--quiet"]) == 2
    assert capfd.readouterr().err == "enmap-sharpener: MPLBACKEND is 'foo', which draws no picture; unset it\n" and not list(tmp_path.iterdir())


def test_quiet_is_silence(scene, tmp_path, capfd):
    assert main(["sharpen", str(scene), "--output", str(tmp_path / "a.tif"), "--method", "cubic", "--quiet"]) == 0
    assert main(["simulate", "--size", "12", "--no-truth", "--output", str(tmp_path / "b"), "--quiet"]) == 0
    assert tuple(capfd.readouterr()) == ("", "")


def test_simulate_lists_what_it_wrote(tmp_path, capfd):
    assert main(["simulate", "--size", "12", "--no-truth", "--output", str(tmp_path)]) == 0
    out, err = capfd.readouterr()
    assert err == "Simulating …\n" and "…-SPECTRAL_IMAGE.TIF: 224 x 12 x 12" in out


def test_a_refusal_stays_one_line(tmp_path, capfd):
    (tmp_path / "empty").mkdir()
    assert main(["sharpen", str(tmp_path / "empty"), "--output", str(tmp_path / "a.tif")]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1


@pytest.mark.parametrize("quiet", [False, True])
def test_a_line_a_minute(quiet, monkeypatch, capfd):
    monkeypatch.setattr(terminal, "_SOON", 0.01)
    monkeypatch.setattr(terminal, "_MINUTE", 0.1)
    with terminal.Session(quiet=quiet).progress("Training") as progress:
        for step in range(8):
            if progress:
                progress(step, 8, f"epoch {step}")
            time.sleep(0.1)
    out, err = capfd.readouterr()
    first, *lines = err.splitlines() or [""]
    assert out == "" and (first, bool(lines)) == (("", False) if quiet else ("Training …", True))
    assert all(re.fullmatch(r"Training: epoch \d, \d+ %, for \d s(, about \d+ s left)?", line) for line in lines)


def test_a_log_ends_with_its_work(monkeypatch, capfd):
    monkeypatch.setattr(terminal, "_SOON", 0.01)
    monkeypatch.setattr(terminal, "_MINUTE", 0.02)
    with pytest.raises(ValueError), terminal.Session().progress("Training", begun="Training a network"):
        time.sleep(0.2)
        raise ValueError
    assert capfd.readouterr().err.startswith("Training a network\nTraining: for 0 s\n")
    time.sleep(0.1)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_sentence_a_unit_and_its_default(name):
    for argument in app[name].assemble_argument_collection(parse_docstring=True):
        if not argument.show:
            continue
        told, names = argument.parameter.help or "", argument.names
        assert len(told.split()) >= 3 and told.rstrip().endswith("."), (names, told)
        assert not any("--empty" in n for n in names), names
        if argument.field_info.default is None:
            assert re.search("by default|either|instead of", told, re.I), (names, told)
        if re.search(r"\b(int|float)\b", str(argument.hint)):
            assert re.search(r"\[|\bhow many|how often|seed|share|rate|numbers of the|from 0 to 1|no limit", told, re.I), (names, told)


@pytest.mark.parametrize("command, options", [
    ("sharpen x --output x.tif", ["--mem-limit", "--resolution", "--grid EPSG:3035"]),
    ("simulate --output x", ["--clouds", "--relief"]),
    ("scrape --enmap-dir x --date-time 2023", ["--max-cloud-cover", "--bbox 1 2 3"]),
    ("scrape-sentinel2 --enmap-dir x", ["--days", "--margin", "--max-units"]),
    ("train --train-data-dir x", ["--initial-lr", "--gpu-mem-limit"]),
    ("batch sharpen --scenes x --output x", ["--mem-limit"]),
])
def test_a_number_that_is_none_is_refused(tmp_path, monkeypatch, capfd, command, options):
    "For all commands in one place: nan and infinite numbers before anything is looked at."
    monkeypatch.chdir(tmp_path)
    for option in options:
        for number in ("nan", "inf", "-inf"):
            assert main([*command.split(), *(f"{option} {number}" if " " in option else f"{option}={number}").split()]) == 2
            out, err = capfd.readouterr()
            assert "wanted a finite number" in err and err.count("\n") == 1 and not list(tmp_path.iterdir()), err
    if command.startswith("train"):
        assert main(["train", "--train-data-dir", "x", "--initial-lr", "0"]) == 2 and "wanted a number above 0" in capfd.readouterr().err
