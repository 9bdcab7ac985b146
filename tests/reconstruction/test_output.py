"""Hard cases of writing: every file whole or not at all, whatever goes wrong."""
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
from fakes import SCENE_ID, FakeSharpened, fake_sources

from enmap_sharpener.core import files
from enmap_sharpener.core.errors import OutputError, ProductError
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.reconstruction import output as reconstruction
from enmap_sharpener.reconstruction.geotiff import COMPRESSIONS
from enmap_sharpener.reconstruction.output import output_files, write_scene
from enmap_sharpener.scenes.cubes import read_cube

NAMES = ["out-METADATA.XML", "out.json", "out.png", "out.qml", "out.tif", "out_quality.qml", "out_quality.tif"]


def save(folder, sharpened=None, **options):
    sharpened = sharpened or FakeSharpened()
    return write_scene(sharpened, folder / "out.tif", **fake_sources(sharpened), **options)


def content(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return save(tmp_path_factory.mktemp("written"))


def test_values_georeference_and_tags_survive(written):
    fake = FakeSharpened()
    with rasterio.open(written["data"]) as file:
        np.testing.assert_array_equal(file.read(), fake.cube(*fake.whole))
        assert (file.crs, file.transform, file.nodata) == (fake.grid.crs, fake.grid.transform, NODATA)
        assert file.dtypes[0] == "int16" and file.scales == (1e-4,) * 6 and file.interleaving.name == "band" and file.is_tiled
        assert file.tags(1, ns="IMAGERY") == {"CENTRAL_WAVELENGTH_UM": "0.42025", "FWHM_UM": "0.007123"}
        assert file.tags(1) == {"wavelength": "420.25", "wavelength_units": "Nanometers", "fwhm": "7.123", "bbl": "1", "detector": "VNIR"}
        assert file.tags(6)["bbl"] == "0" and file.descriptions[0] == "band 1 (420.25 Nanometers)"
    assert sorted(p.name for p in written["data"].parent.iterdir()) == NAMES      # no .aux.xml, nothing unfinished


def test_quality_is_named_and_coloured(written):
    fake = FakeSharpened()
    with rasterio.open(written["quality"]) as file:
        np.testing.assert_array_equal(file.read(), fake.quality(*fake.whole))
        assert file.descriptions[0] == "class" and file.tags(1)["class_1"] == "sharpened"
        assert file.colormap(1)[1][:3] == (0x2A, 0x7F, 0x62)


def test_read_cube_gives_reflectance_and_wavelengths(written):
    cube = read_cube(written["data"])
    np.testing.assert_allclose(cube.wavelength, FakeSharpened().bands.wavelength)
    assert np.isnan(cube[0, 0, 0]) and float(cube[0, 20, 20]) == pytest.approx((7 * 20 + 3 * 20 - 50) / 1e4)


def test_hypercoast_opens_it(written):
    hypercoast = pytest.importorskip("hypercoast")
    cube = hypercoast.read_enmap(str(written["data"]))
    np.testing.assert_allclose(cube.wavelength, FakeSharpened().bands.wavelength, atol=0.01)


def test_metadata_xml_is_readable(written):
    from enmap_sharpener.scenes.metadata import parse_bands, parse_metadata, parse_xml
    root = parse_xml(written["metadata"].read_bytes(), "x")
    bands, complete, _ = parse_bands(root, "x")
    assert complete and list(bands.good) == [True] * 5 + [False] and parse_metadata(root, "x").citation == "A & B"


def test_stac_item_is_valid_and_complete(written):
    item = pystac.Item.from_file(str(written["stac"]))
    text = json.loads(written["stac"].read_text())
    assert text["stac_version"].startswith("1.1") and text["properties"]["proj:code"] == "EPSG:32633"
    assert text["properties"]["proj:shape"] == [90, 70] and text["properties"]["proj:transform"][0] == 10
    assert text["properties"]["enmap_sharpener:agreement"] == {"rmse": 0.0007} and text["properties"]["view:sun_azimuth"] == 190
    assert [link["rel"] for link in text["links"]] == ["derived_from"] * 2 + ["license"] * 2
    assert text["links"][0]["href"].startswith("https://") and text["links"][0]["href"].endswith(f"/items/{SCENE_ID}") and text["links"][0]["title"] == SCENE_ID
    assert text["properties"]["license"] == "other" and {p["name"] for p in text["properties"]["providers"]} >= {"DLR", "ESA"}
    kind = FakeSharpened().quality(*FakeSharpened().whole)[0]
    assert text["properties"]["eo:cloud_cover"] == pytest.approx(100 * (kind == 3).sum() / (kind > 0).sum(), abs=0.01)
    for role, name in (("data", "data"), ("quality", "quality"), ("metadata", "metadata"), ("thumbnail", "picture")):
        content, told = written[name].read_bytes(), text["assets"][role]
        assert told["file:size"] == len(content) and told["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert text["assets"]["quality"]["bands"][0]["nodata"] == 0 and "nodata" not in text["assets"]["quality"]["bands"][1]
    names = [band["name"] for band in text["assets"]["data"]["bands"]]
    assert names == [f"B{n:03d}" for n in range(1, 7)]
    band = text["assets"]["data"]["bands"][0]
    assert band["eo:center_wavelength"] == pytest.approx(0.42025) and band["eo:full_width_half_max"] == pytest.approx(0.007123)
    assert all((written["stac"].parent / asset["href"]).is_file() for asset in text["assets"].values())
    west, south, east, north = item.bbox
    assert 13 < west < east < 13.1 and 52.3 < south < north < 52.5
    pytest.importorskip("jsonschema")
    from pystac.validation.stac_validator import JsonSchemaSTACValidator
    JsonSchemaSTACValidator().validate_core(text, pystac.STACObjectType.ITEM, text["stac_version"])


EO_NAMES = {"pan", "coastal", "blue", "green", "green05", "yellow", "red", "rededge", "rededge071", "rededge075", "rededge078", "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "lwir", "lwir11", "lwir12"}


def test_the_item_keeps_to_the_schemas_of_eo_and_file(tmp_path):
    "What eo v2.0.0 and file v2.1.0 ask of an item; their schemas are no part of pystac."
    item = json.loads(save(tmp_path, FakeSharpened(bands=120))["stac"].read_text())
    assert {f"https://stac-extensions.github.io/{name}/schema.json" for name in ("eo/v2.0.0", "file/v2.1.0")} <= set(item["stac_extensions"])
    fields = [item["properties"], *item["assets"].values(), *(band for asset in item["assets"].values() for band in asset.get("bands", []))]
    assert {key for field in fields for key in field if key.startswith("eo:")} <= {"eo:cloud_cover", "eo:common_name", "eo:center_wavelength", "eo:full_width_half_max", "eo:bands"}
    assert {field["eo:common_name"] for field in fields if "eo:common_name" in field} <= EO_NAMES and 0 <= item["properties"]["eo:cloud_cover"] <= 100
    assert all(field[key] > 0 for field in fields for key in ("eo:center_wavelength", "eo:full_width_half_max") if key in field)
    for asset in item["assets"].values():
        assert {key for key in asset if key.startswith("file:")} <= {"file:checksum", "file:size"} and set(asset.get("file:checksum", "")) <= set("0123456789abcdef")


def test_a_cog_is_called_one_and_names_are_given_once(tmp_path):
    fake = FakeSharpened(bands=120)
    data = json.loads(save(tmp_path, fake, form="cog")["stac"].read_text())["assets"]["data"]
    assert data["type"].endswith("profile=cloud-optimized")
    named = {band["eo:common_name"]: 1000 * band["eo:center_wavelength"] for band in data["bands"] if "eo:common_name" in band}
    assert {"red", "green", "blue", "nir", "swir16", "swir22"} <= set(named) and abs(named["red"] - 665) <= 10


def test_odc_finds_bands_by_their_names(tmp_path):
    load = pytest.importorskip("odc.stac").load
    fake = FakeSharpened(bands=120)
    item = pystac.Item.from_file(str(save(tmp_path, fake)["stac"]))
    loaded = load([item], bands=["red", "B001"])
    red = int(np.abs(fake.bands.wavelength - 665).argmin())
    np.testing.assert_array_equal(loaded.red.values[0], fake.cube(*fake.whole)[red])
    assert loaded.odc.crs.epsg == 32633


def test_sources_by_their_identifiers(tmp_path):
    fake = FakeSharpened()
    sources = fake_sources(fake, tmp_path)
    (tmp_path / "sentinel2").mkdir()
    (tmp_path / "sentinel2" / "partner.json").write_text('{"chosen": {"items": ["S2A_MSIL2A_1", "S2A_MSIL2A_2"]}}')
    titles = lambda: [link["title"] for link in json.loads(write_scene(fake, tmp_path / "out.tif", **sources, overwrite=True)["stac"].read_text())["links"]][:2]
    assert titles() == [SCENE_ID, "S2A_MSIL2A_1, S2A_MSIL2A_2"]
    sources["guide"] = replace(sources["guide"], source=tmp_path / "S2B_MSIL2A_20230601T101500_N0509_R065_T33UUU_20230601T120000.SAFE")
    assert titles()[1] == "S2B_MSIL2A_20230601T101500_N0509_R065_T33UUU_20230601T120000"


@pytest.mark.parametrize("shape", [(1, 25), (5, 700), (530, 16), (513, 1030)])
@pytest.mark.parametrize("form", ["gtiff", "cog"])
def test_any_shape(tmp_path, shape, form):
    fake = FakeSharpened(shape, bands=3)
    files = save(tmp_path, fake, form=form)
    with rasterio.open(files["data"]) as file:
        np.testing.assert_array_equal(file.read(), fake.cube(*fake.whole))


@pytest.mark.parametrize("compress", COMPRESSIONS)
def test_every_compression(tmp_path, compress):
    files = save(tmp_path, compress=compress)
    with rasterio.open(files["data"]) as file:
        found = file.compression.name.lower() if file.compression else "none"
        np.testing.assert_array_equal(file.read(), FakeSharpened().cube(*FakeSharpened().whole))
    assert found == compress


def test_cog_is_one(tmp_path):
    files = save(tmp_path, FakeSharpened((1100, 600), 3), form="cog")
    with rasterio.open(files["quality"]) as file:
        assert file.overviews(1) == [2, 4] and set(np.unique(file.read(1, out_shape=(275, 150)))) <= {0, 1, 2, 3}
    with rasterio.open(files["data"]) as file:
        assert file.overviews(1) == [2, 4] and file.interleaving.name == "band"
        assert file.tags(2, ns="IMAGERY") and file.tags(2)["wavelength_units"] == "Nanometers" and file.scales[0] == 1e-4
        offsets = [int(file.get_tag_item("BLOCK_OFFSET_0_0", "TIFF", bidx=1, **level)) for level in ({"ovr": 1}, {"ovr": 0}, {})]
        assert offsets == sorted(offsets)           # coarse overviews first: a reader of the head sees the scene
        assert int(file.get_tag_item("IFD_OFFSET", "TIFF", bidx=1)) < min(offsets)


def test_progress_is_told(tmp_path):
    told = []
    save(tmp_path, FakeSharpened((600, 600), 2), progress=lambda *a: told.append(a))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def raises(error):
    def trouble(n):
        if n == 1:
            raise error
    return trouble


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt(), SystemExit(1), ProductError("gone"), MemoryError()])
@pytest.mark.parametrize("before", [False, True])
def test_trouble_on_the_way_leaves_what_was(tmp_path, error, before):
    if before:
        save(tmp_path)
    there = content(tmp_path)
    with pytest.raises(type(error)):
        save(tmp_path, FakeSharpened((600, 600), 2, raises(error)), overwrite=True)
    assert content(tmp_path) == there


@pytest.mark.parametrize("step", ["_draw", "finish_rasters", "metadata_xml", "stac_item"])
def test_trouble_at_the_end_leaves_what_was(tmp_path, monkeypatch, step):
    monkeypatch.setattr(reconstruction, step, lambda *a, **k: raises(KeyboardInterrupt())(1))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "new" / "deep", form="cog")
    assert not list(tmp_path.iterdir())


def test_trouble_while_publishing_leaves_nothing(tmp_path, monkeypatch):
    real, calls = os.replace, []
    def replace(a, b):
        calls.append(b)
        if Path(b).name == "out.json":
            raise KeyboardInterrupt
        real(a, b)
    monkeypatch.setattr(reconstruction.os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_cube_is_published_last():
    assert list(output_files("out.tif"))[-1] == "data"


def test_existing_output_is_refused_before_any_work(tmp_path):
    save(tmp_path)
    there = content(tmp_path)
    with pytest.raises(OutputError, match=r"out\.tif: exists already.*--overwrite"):
        save(tmp_path, FakeSharpened(trouble=raises(AssertionError)))
    assert content(tmp_path) == there
    save(tmp_path, FakeSharpened(bands=3), overwrite=True)
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.count == 3
    assert sorted(content(tmp_path)) == NAMES


def test_one_sidecar_is_enough_to_refuse(tmp_path):
    (tmp_path / "out.png").touch()
    with pytest.raises(OutputError, match="out.png"):
        save(tmp_path)


def test_a_folder_in_the_way_is_not_replaced(tmp_path):
    (tmp_path / "out.tif").mkdir()
    with pytest.raises(OutputError, match="out.tif"):
        save(tmp_path, overwrite=True)


def test_not_writable(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        output_files("/proc/out.tif")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="ermission"):
        save(tmp_path)


def test_full_disk_is_noticed_before_and_on_the_way(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda p: type("usage", (), {"free": 100}))
    with pytest.raises(OutputError, match="disk is full"):
        save(tmp_path, FakeSharpened(trouble=raises(AssertionError)))
    room = iter([10**9, 10**9, 100])
    monkeypatch.setattr(files.shutil, "disk_usage", lambda p: type("usage", (), {"free": next(room)}))
    with pytest.raises(OutputError, match="disk is full"):
        save(tmp_path, FakeSharpened((600, 600), 2))
    assert not list(tmp_path.iterdir())


LIMITED = """
import resource, sys
from pathlib import Path
from fakes import SCENE_ID, FakeSharpened, fake_sources
from enmap_sharpener.core.errors import OutputError
from enmap_sharpener.reconstruction.output import write_scene
fake = FakeSharpened((1100, 1100), 8)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    write_scene(fake, Path(sys.argv[1]) / "new" / "out.tif", **fake_sources(fake), compress="none")
except OutputError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [3_000, 1_000_000, 18_000_000])
def test_a_file_that_cannot_grow_is_an_output_error(tmp_path, limit):
    pytest.importorskip("resource")
    run = subprocess.run([sys.executable, "-c", LIMITED, tmp_path, str(limit)], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=True)
    assert "cannot be written" in run.stdout and ".unfinished" not in run.stdout
    assert not list(tmp_path.iterdir())


def test_real_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("may not mount a small disk")
    try:
        with pytest.raises(OutputError, match="full"):
            save(disk, FakeSharpened((1100, 1100), 8), compress="none")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


MEASURED = """
import resource, sys
from pathlib import Path
from fakes import SCENE_ID, FakeSharpened, fake_sources
from enmap_sharpener.reconstruction.output import write_scene
fake = FakeSharpened((int(sys.argv[2]), 1024), 30)
write_scene(fake, Path(sys.argv[1]) / "out.tif", **fake_sources(FakeSharpened()), compress="zstd", overwrite=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_scene(tmp_path):
    pytest.importorskip("resource")
    small, large = (int(subprocess.run([sys.executable, "-c", MEASURED, tmp_path, str(rows)], capture_output=True, text=True,
                                       cwd=Path(__file__).parents[1], check=True).stdout) for rows in (1024, 5120))
    assert large - small < 80, f"{small} MB for 1024 rows, {large} MB for 5120, where the cube grew by 250 MB"


def test_a_result_that_appears_meanwhile_is_not_replaced(tmp_path):
    "Of two runs the first to end has its result, and the other says so."
    first = []

    def meanwhile(n):
        if not first:
            first.append(save(tmp_path, FakeSharpened(bands=3)))
            first.append({p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()})

    with pytest.raises(OutputError, match="has appeared meanwhile"):
        save(tmp_path, FakeSharpened(trouble=meanwhile))
    assert content(tmp_path) == first[1] and sorted(first[1]) == NAMES
