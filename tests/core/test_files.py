"What is written replaces what was there, or nothing."
import os

import pytest

from enmap_sharpener.core.errors import OutputError
from enmap_sharpener.core.files import whole


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
