"""Inputs as archives, exports and other programs hand them out, from the files to the files: the right score, and what is assumed is said."""
import json

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from enmap_sharpener.core.errors import ProductError
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.evaluation.scores import score
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.metadata import parse_metadata, parse_xml
from enmap_sharpener.scenes.pairing import read_pair
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture
def sharpened(shared, tmp_path):
    "Sharpen a field input, whose missing half is `potsdam_train`'s: scores, report, STAC item, and the files."
    case = shared / "data/cases/potsdam_train"
    def call(enmap=None, sentinel2=None):
        product = shared / "data/field" / enmap if enmap else next(case.glob("ENMAP*"))
        scene, guide = read_pair(product, shared / "data/field" / sentinel2 if sentinel2 else case)
        plan = sharpen(scene, guide)
        files = write_scene(plan, tmp_path / "out.tif", scene=scene, guide=guide)
        return score(read_cube(files["data"]), read_cube(case / "truth.tif"))[0], plan.report, json.loads(files["stac"].read_text()), files
    return call


slow = pytest.mark.slow


@pytest.mark.parametrize("enmap, sentinel2, psnr, said", [
    (None, "3_pc_loose_product_metadata/pc", 39.59, "B02.tif: -1000 is added to its numbers, as"),
    pytest.param(None, "9_gee_zero_nodata_untagged/s2", 31.73, "", marks=slow),
    pytest.param(None, "9_gee_zero_nodata_untagged/s2float", 31.73, "holds reflectance from 0 to 1", marks=slow),
    pytest.param(None, "9_gee_zero_nodata_untagged/s2tag", 31.73, "", marks=slow),
    pytest.param(None, "32_ten_bands_Band_n/s2", 38.15, "EnMAP tells that 1 is B02, 2 is B03, 3 is B04, 7 is B08", marks=slow),
    pytest.param("23_cube_float01", None, 39.59, "is taken as reflectance from 0 to 1", marks=slow),
    pytest.param("30_dims_tree/dims.zip", None, 39.59, "", marks=slow),
    pytest.param("30_dims_tree/dims.tar.gz", None, 39.59, "", marks=slow),
    pytest.param("30_dims_tree/dims_op_oc_oc-en_700000001_1", None, 39.59, "", marks=slow)])
def test_scores(sharpened, enmap, sentinel2, psnr, said):
    scores, report, item, files = sharpened(enmap, sentinel2)
    assert scores["psnr"] >= psnr and scores["missing"] == 0
    assert item["properties"]["enmap_sharpener:assumptions"] == report["assumptions"] and sum(said in line for line in report["assumptions"]) == 1 or not said
    assert report["same_ground"]["same"] is True
    if sentinel2 and sentinel2.startswith("9"):
        with rasterio.open(files["quality"]) as file:
            kind, trust = file.read([1, 2])
        assert (trust[kind == 2] < 50).all() and (trust[kind == 2] == 0).mean() > 0.8 and 0.2 < (kind == 2).mean() < 0.9


def test_dates(sharpened):
    "In the report and in the STAC item, from a file's name."
    _, report, item, _ = sharpened(None, "3_pc_loose_product_metadata/pc")
    assert report["acquired"] == {"enmap": "2022-07-24T10:45:26+00:00", "sentinel2": "2022-07-24T10:16:11+00:00", "days_apart": -0.02}
    assert item["properties"]["enmap_sharpener:acquired"] == report["acquired"]


@pytest.mark.parametrize("name", ["20_cube_cropped", pytest.param("21_all_cropped", marks=slow)])
def test_a_clipped_cube(sharpened, shared, name):
    "Sharpened where it is; the corners in METADATA.XML and STAC item are its own."
    scores, report, item, files = sharpened(name)
    assert scores["psnr"] > 36.5 and any("the corners are the cube's own" in line for line in report["assumptions"])
    cube = read_enmap(shared / "data/field" / name).cube
    west, south, east, north = cube.rio.bounds()
    with rasterio.open(files["data"]) as file:
        assert file.bounds == pytest.approx((west, south, east, north), abs=cube.rio.resolution()[0])
        lon, lat = transform(file.crs, "EPSG:4326", *zip(*((file.bounds[i], file.bounds[j]) for i in (0, 2) for j in (1, 3)), strict=True))
    ring = np.array(item["geometry"]["coordinates"][0])
    assert ring.min(0) == pytest.approx([min(lon), min(lat)], abs=1e-5) and ring.max(0) == pytest.approx([max(lon), max(lat)], abs=1e-5)
    corners = np.array(parse_metadata(parse_xml(files["metadata"].read_bytes(), "out"), "out").footprint)
    assert corners.min(0) == pytest.approx([min(lon), min(lat)], abs=3e-4) and corners.max(0) == pytest.approx([max(lon), max(lat)], abs=3e-4)


@slow
def test_background_without_a_tag(shared):
    "As the same cube with nodata there; class 0."
    case, name = shared / "data/cases/potsdam_train", "24_nodata_zero_untagged"
    scene, guide = read_enmap(shared / "data/field" / name), read_sentinel2(case)
    whole = read_enmap(next(case.glob("ENMAP*")))
    held = np.isfinite(scene.cube.values[60])
    assert 0.2 < held.mean() < 0.9
    plan, expected = sharpen(scene, guide), sharpen(type(whole)(whole.cube.where(held), whole.bands, whole.metadata, {}, whole.source), guide)
    np.testing.assert_allclose(plan.to_dataarray().values, expected.to_dataarray().values, atol=2e-4)
    kind = plan.quality_dataarray().values[0]
    rows, cols = (np.clip(np.floor(a.index(b.centres) + 0.5).astype(int), 0, a.n - 1) for a, b in zip((Grid.of(scene.cube).rows, Grid.of(scene.cube).cols), (plan.grid.rows, plan.grid.cols), strict=True))
    assert ((kind == 0) == ~held[rows[:, None], cols]).mean() > 0.97


@slow
def test_bands_that_were_dropped_and_numbered_anew(shared):
    "Each band belongs to the detector that sees it: the scene is as good as the one of which nothing was dropped."
    scene = read_enmap(shared / "data/field/82_enpt_sim_left")
    whole, guide, truth = simulate_pair(size=40, seed=0)
    found, best = (score(sharpen(s, guide).to_dataarray(), truth)[0].psnr for s in (scene, whole))
    assert best > 33.4 and found == pytest.approx(best, abs=0.05)
    assert set(scene.bands.detector[scene.bands.wavelength > 1005]) == {"SWIR"}


@slow
def test_an_order_with_its_archive_still_packed(shared):
    scene = read_enmap(shared / "data/field/80_dims_nested_zip")
    _, guide, truth = simulate_pair(size=40, seed=0)
    assert score(sharpen(scene, guide).to_dataarray(), truth)[0].psnr > 33


def test_a_product_of_level_1c(shared):
    folder = shared / "data/field/44_l1c"
    with pytest.raises(ProductError, match="is level 1C"):
        read_pair(next(folder.glob("ENMAP*")), next(folder.glob("*.SAFE")))


def test_bands_of_twenty_metres_that_are_shorter(shared):
    "Both warped to the next zone: all ten bands are used, and the inner part is as if all had been cut alike."
    folder = shared / "data/field/34_enmap_utm32"
    scene, guide = read_pair(next(folder.glob("ENMAP*")), folder / "s2")
    plan = sharpen(scene, guide)
    assert len(plan.report["guide_bands"]) == 10 and plan.report["alignment"]["VNIR"]["measured"]
    found = plan.to_dataarray().values
    cut = sharpen(scene, type(guide)(guide.bands10[:, :, :100], guide.bands20, guide.scl, guide.source)).to_dataarray().values
    assert np.isfinite(found).any(0).mean() > 0.8 and np.sqrt(np.nanmean((found[..., :80] - cut[..., :80]) ** 2)) < 0.0015
