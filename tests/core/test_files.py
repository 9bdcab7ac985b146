"What is written replaces what was there, or nothing."
import csv
import os
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest

from enmap_sharpener.core.errors import OutputError
from enmap_sharpener.core.files import private_folder, sweep_unfinished, whole, whole_files, write_table


@pytest.fixture
def linked(tmp_path):
    "A link to a folder that holds something."
    (tmp_path / "far").mkdir()
    (tmp_path / "far/dear.txt").write_text("dear")
    (tmp_path / "place").symlink_to(tmp_path / "far")
    return tmp_path / "place"


def test_a_link_to_a_folder_is_replaced_and_not_what_it_leads_to(linked):
    with whole(linked) as part:
        part.mkdir()
        (part / "new.txt").write_text("new")
    assert not linked.is_symlink() and os.listdir(linked) == ["new.txt"] and os.listdir(linked.parent / "far") == ["dear.txt"]
    assert sorted(os.listdir(linked.parent)) == ["far", "place"]


def test_a_link_to_a_folder_is_replaced_by_a_file(linked):
    with whole(linked) as part:
        part.write_text("new")
    assert linked.read_text() == "new" and not linked.is_symlink()


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_what_is_there_stays_where_nothing_is_made(linked, kind):
    place = linked if kind == "link" else linked.parent / "far"
    with pytest.raises(OutputError, match="cannot be written"):
        with whole(place):
            pass
    assert os.listdir(place) == ["dear.txt"] and sorted(os.listdir(linked.parent)) == ["far", "place"]


def test_a_folder_comes_back_where_it_cannot_be_replaced(linked, monkeypatch):
    place, replace = linked.parent / "far", os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: replace(a, b) if b != place or a.name.endswith(".old") else (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OutputError, match="No space"):
        with whole(place) as part:
            part.mkdir()
    assert os.listdir(place) == ["dear.txt"]


# ---- several files

PLACES = "fresh", "file", "folder", "link", "last"


@pytest.fixture
def several(tmp_path):
    "Places of several kinds, all but the first with something in it."
    (tmp_path / "far").mkdir()
    (tmp_path / "far/dear.txt").write_text("dear")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/file").write_text("old")
    (tmp_path / "out/folder").mkdir()
    (tmp_path / "out/folder/held").write_text("old")
    (tmp_path / "out/link").symlink_to(tmp_path / "far")
    (tmp_path / "out/last").write_text("old")
    return {name: tmp_path / "out" / name for name in PLACES}


def contents(folder):
    "All that is in a folder, with the text of files and the goals of links."
    return {str(p.relative_to(folder)): os.readlink(p) if p.is_symlink() else p.read_text() if p.is_file() else None for p in folder.rglob("*")}


def make(staged, kind, most=None):
    "Make files or folders, `most` at most."
    for place in list(staged.values())[:most]:
        if kind == "folders":
            place.mkdir()
            place = place / "held"
        place.write_text("new")


@pytest.fixture(params=["links", "no links"])
def linking(request, monkeypatch):
    "File systems that have hard links, and that have not."
    if request.param == "no links":
        monkeypatch.setattr(os, "link", lambda *a, **k: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted")))


@pytest.mark.parametrize("kind", ["files", "folders"])
@pytest.mark.parametrize("most", range(len(PLACES)))
def test_all_come_back_where_one_cannot_be_replaced(several, linking, kind, most):
    folder = several["file"].parent
    before = contents(folder)
    with pytest.raises(OutputError, match="No such file"), whole_files(several) as staged:
        make(staged, kind, most)
    assert contents(folder) == before and (folder.parent / "far/dear.txt").read_text() == "dear"


@pytest.mark.parametrize("kind", ["files", "folders"])
def test_all_are_replaced(several, linking, kind):
    with whole_files(several) as staged:
        make(staged, kind)
    folder = several["file"].parent
    assert contents(folder) == {name: "new" for name in PLACES} if kind == "files" else {n: text for name in PLACES for n, text in ((name, None), (f"{name}/held", "new"))}
    assert (folder.parent / "far/dear.txt").read_text() == "dear"


@pytest.mark.parametrize("step", range(5))
def test_nothing_is_lost_where_it_is_killed_between(several, linking, monkeypatch, step):
    folder, steps, replace = several["file"].parent, [], os.replace

    def killed(a, b):
        steps.append(b)
        if len(steps) > step:
            os._exit(9)
        replace(a, b)

    if not (process := os.fork()):
        try:
            monkeypatch.setattr(os, "replace", killed)
            with whole_files(several) as staged:
                make(staged, "files")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    sweep_unfinished(folder)
    assert all((folder / name).read_text() in ("old", "new") for name in ("file", "last")) and os.path.lexists(folder / "link")
    assert contents(folder).get("folder/held", "new") in ("old", "new") and not [name for name in os.listdir(folder) if name.startswith(".")]


def test_what_cannot_be_given_back_stays_where_it_was_put(several, monkeypatch):
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: replace(a, b) if str(b).endswith(".old") else (_ for _ in ()).throw(OSError(5, "Input/output error")))
    folder = several["file"].parent
    with pytest.raises(OutputError, match="Input/output error"), whole_files({"folder": several["folder"]}) as staged:
        make(staged, "folders")
    [old] = folder.glob(".*.part/folder.old/held")
    monkeypatch.undo()
    sweep_unfinished(folder)
    assert (several["folder"] / "held").read_text() == "old" and not old.exists()


# ---- private folders

def left(place, age=2 * 86400):
    "A folder as if a run had left it."
    (place / "inner").mkdir(parents=True)
    (place / "inner/key.pem").write_text("secret")
    os.utime(place, (time.time() - age,) * 2)
    return place


def test_private_folders_that_killed_runs_left_are_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mine = private_folder(tmp_path)
    prefix = mine.name.partition(f"-{os.getpid()}-")[0]
    assert mine.stat().st_mode & 0o777 == 0o700 and mine.name.startswith("enmap-sharpener-")
    alive = left(tmp_path / f"{prefix}-{process.pid}-abcd")
    process.kill()
    process.wait()
    gone, young = left(tmp_path / f"{prefix}-{process.pid}-efgh"), left(tmp_path / f"{prefix}-{process.pid}-ijkl", 60)
    alive.rename(alive := tmp_path / f"{prefix}-{os.getpid()}-abcd")
    os.utime(alive, (0, 0))
    elsewhere = left(tmp_path / f"enmap-sharpener-other-{process.pid}-abcd")
    odd = left(tmp_path / f"{prefix}-none-abcd")
    (tmp_path / "dear").mkdir()
    (tmp_path / "dear/letter").write_text("dear")
    (link := tmp_path / f"{prefix}-{process.pid}-link").symlink_to(tmp_path / "dear")
    shutil.rmtree(private_folder(tmp_path))
    assert not gone.exists() and all(p.exists() for p in (mine, alive, young, elsewhere, odd, link, tmp_path / "dear/letter"))


def test_hidden_private_folders(tmp_path):
    place = private_folder(tmp_path, hidden=True)
    assert place.name.startswith(".enmap-sharpener-") and place.parent == tmp_path


# ---- tables

def test_no_cell_is_a_formula(tmp_path):
    evil = ["=HYPERLINK(\"http://x\")", "+1+1", "-2+3+cmd|' /C calc'!A0", "@SUM(1)", "\t=1", "\r=1"]
    table = pd.DataFrame({"=x": evil, "number": [-1.5, 2, np.nan, 0, 1e9, -3], "text": ["-1.5", "+2", "a=b", "", None, "-inf"], "count": range(6)}, index=pd.Index(evil, name="id"))
    write_table(tmp_path / "a.csv", table)
    with open(tmp_path / "a.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t\r") and cell not in ("-1.5", "+2", "-inf", "-3.0")] == []
    found = pd.read_csv(tmp_path / "a.csv", index_col="id")
    assert list(found.index) == [f"'{text}".replace("\r", " ") for text in evil] and list(found.columns) == ["'=x", "number", "text", "count"]
    assert found.number.equals(table.number.reset_index(drop=True).set_axis(found.index)) and found["count"].dtype == int


def test_tables_with_two_indices(tmp_path):
    index = pd.MultiIndex.from_tuples([("=case", 1), ("b", 2)], names=["case", "method"])
    write_table(tmp_path / "a.csv", pd.DataFrame({"psnr": [1 / 3, 2.0]}, index), float_format="%.3g")
    assert (tmp_path / "a.csv").read_text() == "case,method,psnr\n'=case,1,0.333\nb,2,2\n"


@pytest.mark.parametrize("late", ["first", "second", "folder"])
def test_what_appears_meanwhile_is_left_as_it_is(tmp_path, late):
    "Unless it may be replaced: of several files none is there then but the other's."
    places = {name: tmp_path / "new" / name for name in ("first", "second", "folder")}
    for overwrite in (False, True):
        with pytest.raises(OutputError, match=f"{late}: has appeared meanwhile.*--overwrite") if not overwrite else nullcontext(), whole_files(places, overwrite) as staged:
            staged["first"].write_text("ours")
            staged["second"].write_text("ours")
            staged["folder"].mkdir()
            (staged["folder"] / "file").write_text("ours")
            if not overwrite:
                places[late].write_text("theirs")
        assert {p.name: p.read_text() if p.is_file() else None for p in (tmp_path / "new").iterdir()} == ({"first": "ours", "second": "ours", "folder": None} if overwrite else {late: "theirs"})
