"Folders that others made."
import os

from enmap_sharpener.core.archives import list_files


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
