"What all commands have in common: help, and what is said of misuse."
import os
import subprocess
import sys
from pathlib import Path

import pytest

from enmap_sharpener.cli.app import main

COMMAND = [sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())"]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("arguments", [["sharpen"], ["nothing"], ["evaluate", "x.tif"], ["evaluate", "x.tif", "--truth", "y.tif"],
                                       ["simulate"], ["simulate", "--size", "0", "--output", "x"], ["demo", "--size", "many"]])
def test_misuse_is_one_line(arguments, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and not list(tmp_path.iterdir())


def test_help_has_examples(capfd):
    done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "sharpen" in done.stdout
    for command in "sharpen", "simulate", "evaluate", "demo":
        assert main([command, "--help"]) == 0
        assert f"enmap-sharpener {command} " in capfd.readouterr().out.split("Examples")[1]
    assert main(["--version"]) == 0
    assert capfd.readouterr().out[0].isdigit()


def test_a_fault_says_where_to_report_it(capfd):
    from enmap_sharpener.cli.terminal import status_of
    from enmap_sharpener.core.errors import issue_tracker

    def app(*_, **__):
        raise ZeroDivisionError("division by zero")
    assert status_of(app, []) == 1
    told = capfd.readouterr().err
    assert told == f"enmap-sharpener: unexpected ZeroDivisionError: division by zero; run again with --verbose and report what it prints at {issue_tracker()}\n"


def test_what_gdal_keeps_is_bounded(tmp_path):
    "A share of the machine's memory is the default; a command may take a quarter of a gigabyte, or what the user says."
    code = "import os, sys; from enmap_sharpener.cli.app import main; main(['simulate', '--size', '20', '--output', sys.argv[1], '--no-truth', '--quiet']); print(os.environ['GDAL_CACHEMAX'])"
    for asked, expected in (({}, "256"), ({"GDAL_CACHEMAX": "64"}, "64")):
        environment = {k: v for k, v in os.environ.items() if k != "GDAL_CACHEMAX"} | asked
        told = subprocess.run([sys.executable, "-c", code, tmp_path / f"out{expected}"], env=environment, capture_output=True, text=True, check=True)
        assert told.stdout.strip() == expected


def test_a_mistake_is_told_before_what_is_heavy_is_loaded(tmp_path):
    "What only the work needs is imported by the work: a wrong path is told in half the time."
    code = "import sys; from enmap_sharpener.cli.app import main; status = main(sys.argv[1:]); print(status, *sorted({name.partition('.')[0] for name in sys.modules}))"
    told = subprocess.run([sys.executable, "-c", code, "sharpen", tmp_path / "nothing", "--output", tmp_path / "x.tif"], capture_output=True, text=True, cwd=ROOT, check=True)
    status, *loaded = told.stdout.split()
    assert status == "2" and "nothing: does not exist" in told.stderr
    assert not {"matplotlib", "numba", "pystac", "distributed", "skimage", "keras"} & set(loaded)


def test_it_is_said_that_loops_are_compiled(monkeypatch):
    from enmap_sharpener.cli import terminal
    from enmap_sharpener.core import kernels
    session, texts = terminal.Session(), []
    monkeypatch.setattr(terminal.Session, "note", lambda self, text: None)
    with session.progress("Sharpening") as move:
        for begun in (True, False):
            for tell in kernels._watchers:
                tell(begun)
            texts.append(move.text)
        move(text="reading")
        move(done=1, total=2)
        texts.append(move.text)
    assert texts == ["compiling for this machine (once)", "", "reading"] and not kernels._watchers
