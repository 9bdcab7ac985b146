"Scenes in folders and in lists, as people and spreadsheets leave them."
import shutil
import tarfile
from pathlib import Path

import pytest

from enmap_sharpener.core.errors import ProductError, RequestError
from enmap_sharpener.scenes.finding import Row, find_products, read_list, scene_name, source_files

ID = "ENMAP01-____L2A-DT0000001867_20220724T104526Z_008_V010302_20230628T000000Z"


def product(folder, name=ID):
    for part in ("METADATA.XML", "SPECTRAL_IMAGE.TIF", "QL_QUALITY_CLOUD.TIF"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{name}-{part}").touch()
    return folder / name


def names(folder):
    return [p.name for p in find_products(folder)]


# ---- in a folder

def test_a_product_is_itself(tmp_path):
    place = product(tmp_path)
    (place / "sentinel2").mkdir()
    assert find_products(place) == [place] and names(tmp_path) == [ID]


def test_packed_and_unpacked_is_one(tmp_path):
    product(tmp_path)
    shutil.make_archive(str(tmp_path / ID), "zip", tmp_path, ID)
    assert names(tmp_path) == [ID]
    shutil.rmtree(tmp_path / ID)
    (tmp_path / ID / "sentinel2").mkdir(parents=True)
    assert names(tmp_path) == [f"{ID}.zip"]


def test_archives_by_name_or_by_what_they_hold(tmp_path):
    inner = product(tmp_path / "made")
    shutil.make_archive(str(tmp_path / "potsdam"), "zip", inner)
    with tarfile.open(tmp_path / "berlin.tar.gz", "w:gz") as file:
        file.add(inner, "dims_op/x")
    (tmp_path / f"{ID}.zip").write_bytes(b"damaged")
    (tmp_path / "notes.zip").write_bytes(b"no archive")
    (tmp_path / "S2A_MSIL2A_20220724T101611_N0400_R065_T33UUU_20220724T161611.SAFE.zip").write_bytes(b"")
    shutil.rmtree(tmp_path / "made")
    assert names(tmp_path) == [f"{ID}.zip", "berlin.tar.gz", "potsdam.zip"]


def test_what_is_no_scene(tmp_path):
    for name in ("sentinel2", "rejected", ".part", "S2A_MSIL2A_20220724T101611_N0400_R065_T33UUU_20220724T161611.SAFE"):
        product(tmp_path / name)
    (tmp_path / "s2").mkdir()
    (tmp_path / "s2" / "S2A_MSIL2A_20220724T101611_product-metadata.xml").touch()
    assert names(tmp_path) == []
    with pytest.raises(ProductError, match="is no folder"):
        find_products(tmp_path / "nowhere")


def test_a_folder_of_several_stands_for_them(tmp_path):
    for name in ("a", "b"):
        product(tmp_path / "both", ID.replace("1867", f"186{ord(name)}"))
    product(tmp_path / "one")
    assert len(names(tmp_path)) == 3 and names(tmp_path)[-1] == "one"


def test_names():
    assert [scene_name(p) for p in (f"x/{ID}/", f"{ID}.ZIP", f"{ID}/{ID}-METADATA.XML", "a.tar.gz", "v1.2/b")] == [ID, ID, ID, "a", "b"]


def test_source_files(tmp_path):
    place = product(tmp_path)
    (place / "x.aux.xml").touch()
    assert len(source_files(place)) == 3 == len(source_files(next(place.glob("*METADATA.XML"))))
    (tmp_path / "a.zip").touch()
    assert source_files(tmp_path / "a.zip") == [tmp_path / "a.zip"]
    with pytest.raises(ProductError, match="does not exist"):
        source_files(tmp_path / "b.zip")


# ---- in a list

@pytest.fixture
def place(tmp_path):
    for name in ("a", "b", "a b", "guide 1", "g1", "g2"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path


def write(place, text, encoding="utf-8"):
    (place / "scenes.csv").write_bytes(text.encode(encoding))
    return place / "scenes.csv"


def read(place, text, encoding="utf-8"):
    return [(r.name, *(p.name for p in r.sentinel2)) for r in read_list(write(place, text, encoding))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_as_spreadsheets_write(place, encoding, mark, end):
    (place / "data/größe").mkdir()
    lines = [mark.join(cells) for cells in (("enmap", "sentinel2"), ("data/a", "data/g1"), ("", ""), ("data/größe", "data/g2"))]
    assert read(place, end.join(lines), encoding) == [("a", "g1"), ("größe", "g2")]


def test_columns_in_any_order_comments_and_no_partner(place):
    assert read(place, "# mine\nSentinel2, ENMAP\n  data/g1 , data/a\n#data/g2,data/b\n,data/b\n") == [("a", "g1"), ("b",)]
    assert read(place, "enmap\ndata/a\ndata/b\n") == [("a",), ("b",)]
    assert read(place, "enmap,sentinel2\ndata/a\n") == [("a",)]


@pytest.mark.parametrize("cell, found", [("data/g1 data/g2", ("g1", "g2")), ("data/guide 1", ("guide 1",)), ('"data/guide 1"', ("guide 1",)), ('"""data/guide 1"" data/g1"', ("guide 1", "g1")),
                                         ("'data/guide 1'  data/g1", ("guide 1", "g1"))])
def test_several_partners(place, cell, found):
    assert read(place, f"enmap,sentinel2\ndata/a b,{cell}\n") == [("a b", *found)]


def test_paths_are_relative_to_the_table(place, monkeypatch):
    monkeypatch.chdir(place / "data")
    write(place, f"enmap,sentinel2\ndata/a,{place}/data/g1\n")
    assert read_list("../scenes.csv") == [Row("a", Path("../data/a"), (place / "data/g1",))]


@pytest.mark.parametrize("text, told", [
    ("", "is empty; wanted is a table"), ("\n\n# x\n", "is empty"), ("enmap,sentinel2\n", "has no row"), ("enmap,sentinell2\ndata/a,data/g1", "row 1: 'sentinell2' is no column; did you mean sentinel2"),
    ("scene,sentinel2\n", "row 1: 'scene' is no column"), ("sentinel2\ndata/g1", "row 1: has the columns sentinel2; wanted"), ("enmap,enmap\n", "row 1: has the columns"),
    ("data/a,data/g1\n", "row 1: 'data/a' is no column"), ("enmap,sentinel2\ndata/a,data/g1\n\ndata/c,data/g1", "row 4: .*data/c: does not exist; paths are relative to the table"),
    ("enmap,sentinel2\ndata/a,data/g1 data/g9", "row 2: .*g9: does not exist"), ("enmap,sentinel2\n,data/g1", "row 2: enmap: is empty"),
    ("enmap,sentinel2\ndata/a,data/g1\n# x\ndata/a,data/g2", "row 4: is named a like that in row 2"), ("enmap,sentinel2\ndata/a,data/g1,data/g2", "row 2: has 3 cells for 2 columns"),
    ("enmap,sentinel2\ndata/a,'data/g1", "row 2: .*cannot be read .*put paths with blanks into quotes"), ("a\0b", "is no column"),
])
def test_what_is_wrong_is_told_with_its_row(place, text, told):
    with pytest.raises(RequestError, match=told) as error:
        read(place, text)
    assert "\n" not in str(error.value)


def test_a_table_that_is_none(place):
    with pytest.raises(ProductError, match="is no file"):
        read_list(place / "none.csv")
    with pytest.raises(ProductError, match="is no file"):
        read_list(place / "data")
    (place / "scenes.csv").write_bytes(bytes(range(128, 256)) * 3)
    with pytest.raises(RequestError):
        read_list(place / "scenes.csv")


def test_metadata_of_a_result_are_no_product(tmp_path):
    "What `sharpen` wrote beside a product, packed or not, does not hide it; alone it is an incomplete one."
    (tmp_path / "potsdam-METADATA.XML").touch()
    assert find_products(tmp_path) == [tmp_path]
    inner = product(tmp_path / "made")
    shutil.make_archive(str(tmp_path / "order"), "zip", inner)
    shutil.rmtree(tmp_path / "made")
    assert names(tmp_path) == ["order.zip"]
    product(tmp_path, ID)
    assert names(tmp_path) == [ID, "order.zip"]
    for file in (tmp_path / ID).iterdir():
        shutil.copy(file, tmp_path)
    assert find_products(tmp_path) == [tmp_path]
