"Folders that others made, and archives, of which nothing is left that nobody needs."
import io
import os
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from enmap_sharpener.core import archives
from enmap_sharpener.core.archives import list_files
from enmap_sharpener.core.errors import OutputError, ProductError
from enmap_sharpener.core.files import stored_bytes


def test_links_that_lead_back_end(tmp_path):
    for name in "abcdefgh":
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / "x.tif").touch()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/back").symlink_to(tmp_path)
    (tmp_path / "deep/y.tif").touch()
    assert [os.path.relpath(p, tmp_path) for p in list_files(tmp_path)] == ["deep/y.tif", "x.tif"]


def test_data_that_a_user_linked_into_place(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/x.tif").touch()
    (tmp_path / "product").mkdir()
    (tmp_path / "product/folder").symlink_to(tmp_path / "disk")
    (tmp_path / "product/y.tif").symlink_to(tmp_path / "disk/x.tif")
    assert [os.path.relpath(p, tmp_path / "product") for p in list_files(tmp_path / "product")] == ["folder/x.tif", "y.tif"]


# ---- what is unpacked

@pytest.fixture
def unpacked(tmp_path, monkeypatch):
    "The folder that archives are unpacked into, empty."
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(archives, "_temporary", lambda: tmp_path / "unpacked")
    return tmp_path / "unpacked"


def tar(path, *members):
    "A tar of files with these texts."
    with tarfile.open(path, "w") as file:
        for i, text in enumerate(members):
            entry = tarfile.TarInfo(f"{i}.txt")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text))
    return path


def test_each_archive_is_unpacked_once(unpacked, tmp_path):
    paths = [tar(tmp_path / f"{i}.tar", b"x") for i in range(70)]
    found = [list_files(path) for path in paths]
    assert [list_files(path) for path in paths] == found and len(list(unpacked.iterdir())) == 70 and all(os.path.isfile(f) for [f] in found)


def test_of_a_changed_archive_only_what_it_holds_now_is_kept(unpacked, tmp_path):
    [first] = list_files(tar(tmp_path / "a.tar", b"first"))
    os.utime(tar(tmp_path / "a.tar", b"second"), (1, 1))
    [second] = list_files(tmp_path / "a.tar")
    with open(second) as file:
        assert file.read() == "second" and not os.path.exists(first) and len(list(unpacked.iterdir())) == 1


def test_nothing_is_left_of_a_damaged_archive(unpacked, tmp_path):
    whole = tar(tmp_path / "whole.tar", b"x" * 10_000, b"y" * 10_000).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[:15_000])
    for _ in range(3):
        with pytest.raises(ProductError, match="damaged"):
            list_files(tmp_path / "cut.tar")
    assert not list(unpacked.iterdir())


def test_of_a_tar_in_a_zip_only_its_files_are_kept(unpacked, tmp_path):
    with zipfile.ZipFile(tmp_path / "order.zip", "w") as file:
        file.write(tar(tmp_path / "a.tar", b"one", b"two"), "a.tar")
    [packed] = list_files(tmp_path / "order.zip")
    found = list_files(packed)
    assert list_files(packed) == found and [os.path.basename(f) for f in found] == ["0.txt", "1.txt"] and stored_bytes(unpacked) == 6
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.write(tar(tmp_path / "b.tar"), "b.tar")
    assert list_files(list_files(tmp_path / "empty.zip")[0]) == []


def test_there_must_be_room_for_all_files_of_an_archive(unpacked, tmp_path, monkeypatch):
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: SimpleNamespace(free=12_000 - stored_bytes(unpacked)))
    assert len(list_files(tar(tmp_path / "small.tar", *[b"x" * 1000] * 2))) == 2
    with pytest.raises(OutputError, match="large.tar: at least 0 MB have to be unpacked"):
        list_files(tar(tmp_path / "large.tar", *[b"x" * 1000] * 6))
    assert stored_bytes(unpacked) == 2000
