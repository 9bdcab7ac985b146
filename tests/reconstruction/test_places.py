"What is read is never replaced, whatever is asked for and by whatever name."
import shutil
from pathlib import Path

import pytest
import xarray as xr
from products import SCENE_ID, both, sentinel2

from enmap_sharpener.cli.app import main
from enmap_sharpener.scenes.sentinel2 import BANDS_20M


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    "A tiny product, a guide, and a result."
    folder = tmp_path_factory.mktemp("originals")
    coarse = sentinel2((39, 57), BANDS_20M, pixel=20)
    scene = both(folder, coarse, xr.full_like(coarse[0], 4, "uint8"))
    (folder / "network.keras").touch()
    assert main(["sharpen", str(scene), "--sentinel2", str(folder / "s2"), "--output", str(folder / "out.tif"), "--quiet"]) == 0
    return folder


@pytest.fixture
def place(originals, tmp_path, monkeypatch):
    "A copy, where the command is run."
    place = shutil.copytree(originals, tmp_path / "place")
    monkeypatch.chdir(place)
    return place


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


@pytest.mark.parametrize("options", [
    ["--output", "s2/sentinel2_10m.tif"],
    ["--output", "s2/../s2/sentinel2_20m.tif"],
    ["--output", "s2/scl_20m.tif"],
    ["--output", f"{SCENE_ID}/{SCENE_ID}-SPECTRAL_IMAGE.TIF"],
    ["--output", f"{SCENE_ID}/{SCENE_ID}-QL_QUALITY_CLOUD.TIF"],
    ["--output", f"{SCENE_ID}/{SCENE_ID}.tif"],
    ["--output", "link.tif"],
    ["--output", "grid.tif", "--like", "grid.tif"],
    ["--output", "new.tif", "--product", "products"],
])
def test_sharpen_refuses_to_replace_what_it_reads(place, capfd, options):
    (place / "link.tif").symlink_to(place / "s2/sentinel2_10m.tif")
    shutil.copy("s2/sentinel2_10m.tif", "grid.tif")
    guide = "s2"
    if "--product" in options:      # the guide lies where the product goes
        guide = shutil.copytree("s2", f"products/{SCENE_ID}/s2")
    before = content(place)
    assert main(["sharpen", SCENE_ID, "--sentinel2", str(guide), "--method", "cubic", "--overwrite", *options]) == 2
    out, err = capfd.readouterr()
    assert "would be lost; choose another name" in err and err.count("\n") == 1 and content(place) == before


def test_an_archive_is_not_replaced_by_a_product(place, capfd):
    "Nor is a network, which is read too."
    from enmap_sharpener.reconstruction.places import check_not_read, input_files
    from enmap_sharpener.scenes.enmap import read_enmap
    shutil.make_archive("scene", "zip", SCENE_ID)
    assert {Path(f).name for f in input_files(read_enmap("scene.zip"))} == {"scene.zip"}
    shutil.make_archive("scene", "tar", SCENE_ID)
    assert str(Path("scene.tar")) in input_files(read_enmap("scene.tar"))
    with pytest.raises(Exception, match="network.keras: is read"):
        check_not_read([place / "network.keras"], None, "network.keras")


def test_a_result_beside_its_scene_may_be_replaced(place):
    "In the folder of the product, in that of the guide, and twice."
    for output in (f"{SCENE_ID}/out.tif", "s2/out.tif"):
        for _ in range(2):
            assert main(["sharpen", SCENE_ID, "--sentinel2", "s2", "--output", output, "--method", "cubic", "--overwrite", "--quiet"]) == 0


@pytest.mark.parametrize("output, said", [
    ("out.tif", "is read"),
    ("out_quality.tif", "is read"),
    ("other.tif", "is the name of a result"),
    ("other_quality.tif", "quality file of other.tif"),
])
def test_uncertainty_refuses_to_replace_results(place, capfd, output, said):
    for ending in (".tif", "_quality.tif", "_errors.csv"):
        shutil.copy(f"out{ending}", f"other{ending}")
    before = content(place)
    assert main(["uncertainty", "out.tif", "--output", output, "--overwrite"]) == 2
    out, err = capfd.readouterr()
    assert said in err and "exists already" not in err and err.count("\n") == 1 and content(place) == before


def test_indices_refuse_to_replace_what_they_read(place, capfd):
    Path("out.tif").rename("NDVI.tif")
    before = content(place)
    assert main(["indices", "NDVI.tif", "--scene", SCENE_ID, "--reference", "NDVI.tif", "--output", "."]) == 2
    err = capfd.readouterr().err
    assert "NDVI.tif: is read" in err and content(place) == before, err


@pytest.mark.parametrize("output, said", [
    ("out.nc", "out.tif: is a result of that name already"),
    ("out.img", "out.tif: is a result of that name already"),
    ("out_quality.tif", "is the quality file of out.tif"),
])
def test_no_result_takes_the_companions_of_another(place, capfd, output, said):
    before = content(place)
    assert main(["sharpen", SCENE_ID, "--sentinel2", "s2", "--method", "cubic", "--output", output, "--overwrite"]) == 2
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1 and content(place) == before


def test_a_raster_of_that_name_that_is_no_result_is_left_alone(place):
    shutil.copy("out.tif", "image.tif")
    before = Path("image.tif").read_bytes()
    assert main(["sharpen", SCENE_ID, "--sentinel2", "s2", "--method", "cubic", "--output", "image.img", "--quiet"]) == 0
    assert main(["sharpen", SCENE_ID, "--sentinel2", "s2", "--method", "cubic", "--output", "image.img", "--quiet", "--overwrite"]) == 0
    assert Path("image.tif").read_bytes() == before
    assert main(["sharpen", SCENE_ID, "--sentinel2", "s2", "--method", "cubic", "--output", "out.tif", "--overwrite", "--quiet"]) == 0
