"""A result on another grid: where its pixels lie, what they hold, and which grids are refused."""
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import reproject

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import GridError, ProductError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.evaluation.agreement import evaluate_file
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.sharpening import regridding
from enmap_sharpener.sharpening.regridding import Regridded, check_meets, grid_of_file, grid_over
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate, simulate_pair


@pytest.fixture(scope="module")
def plan():
    return sharpen(*simulate_pair(size=40, seed=2, clouds=0.1)[:2], bands="10,60,131,200")


def test_its_own_grid_and_a_part_of_it_are_copied(plan):
    cube, quality = plan.to_dataarray().values, plan.quality_dataarray().values
    part = Regridded(plan, plan.grid.part(slice(20, 90), slice(-7, 50)))
    np.testing.assert_array_equal(part.to_dataarray().values[..., 7:], cube[:, 20:90, :50])
    np.testing.assert_array_equal(part.quality_dataarray().values[..., 7:], quality[:, 20:90, :50])
    assert np.isnan(part.to_dataarray().values[..., :7]).all() and (part.quality_dataarray().values[0, :, :7] == 0).all()


@pytest.mark.parametrize("crs, pixel", [("EPSG:3035", 10), ("EPSG:32634", 10), ("EPSG:4326", 1e-4), ("EPSG:32632", 4), ("EPSG:3035", 45)])
def test_it_is_what_gdal_makes_of_the_whole(plan, crs, pixel):
    grid = grid_over(plan.grid, crs, pixel)
    warped, own = Regridded(plan, grid), plan.to_dataarray()
    cube, quality = warped.to_dataarray().values, warped.quality_dataarray().values
    wanted = np.full((len(own), *grid.shape), np.nan, np.float32)
    reproject(own.values, wanted, src_transform=plan.grid.transform, src_crs=plan.grid.crs, src_nodata=np.nan, dst_transform=grid.transform, dst_crs=grid.crs, dst_nodata=np.nan,
              resampling=Resampling.cubic, tolerance=0.01, **warped._kernel)
    both = np.isfinite(cube) & np.isfinite(wanted)
    assert both.sum() > 0.97 * np.isfinite(wanted).sum()
    np.testing.assert_allclose(cube[both], wanted[both], atol=1.1e-4)
    np.testing.assert_array_equal(np.isfinite(cube).any(0), quality[0] > 0)
    assert np.isnan(cube[2]).all() and set(np.unique(quality[0])) == {0, 1, 2, 3}
    nearest = np.zeros((1, *grid.shape), np.uint8)
    reproject(plan.quality_dataarray().values[:1], nearest, src_transform=plan.grid.transform, src_crs=plan.grid.crs, dst_transform=grid.transform, dst_crs=grid.crs, resampling=Resampling.nearest, tolerance=0)
    assert (quality[0] == nearest[0]).mean() > 0.99


def test_it_does_not_depend_on_blocks_nor_on_quarters(plan, monkeypatch):
    grid = grid_over(plan.grid, "EPSG:3035", 10)
    whole = Regridded(plan, grid)
    cube, quality = whole.to_dataarray().values, whole.quality_dataarray().values
    monkeypatch.setattr(regridding, "LARGEST", 50)
    pieces = Regridded(plan, grid)
    np.testing.assert_allclose(pieces.to_dataarray(), cube, atol=1.01e-4)      # to a hundredth of a pixel
    for b in pieces.blocks(37):
        np.testing.assert_array_equal(b.quality[:2], quality[:2, b.rows, b.cols])
        np.testing.assert_allclose(b.quality[2].astype(int), quality[2, b.rows, b.cols], atol=1)
    assert pieces.report["pixels"]["sharpened"] == pytest.approx(whole.report["pixels"]["sharpened"]) and pieces.report["agreement"]["rmse"] == pytest.approx(whole.report["agreement"]["rmse"], rel=0.2)
    np.testing.assert_allclose(pieces.to_dataarray(lazy=True)[:, 30:60, 20:50], cube[:, 30:60, 20:50], atol=1.01e-4)


def test_the_grid_of_a_size_lies_on_multiples_of_it_around_the_scene(plan):
    grid = grid_over(plan.grid, "EPSG:3035", 20)
    assert all((a.start / 20) % 1 == 0 for a in (grid.rows, grid.cols)) and grid.metres == 20
    assert grid_over(plan.grid, str(plan.grid.crs), 10) == plan.grid
    assert grid_over(plan.grid, "EPSG:4326", 1e-4).metres == pytest.approx(11.12, abs=0.01)


@pytest.mark.parametrize("crs, pixel, words", [("EPSG:nothing", 10, "is no coordinate system"), ("", 10, "is no coordinate system"), ("EPSG:4326", 10, "give their side in degrees"),
                                               ("EPSG:3035", 0, "give their side in metre"), ("EPSG:3035", float("nan"), "give their side"), ("EPSG:3035", 0.01, "give their side")])
def test_what_is_no_grid_is_refused(plan, crs, pixel, words):
    with pytest.raises(GridError, match=words):
        grid_over(plan.grid, crs, pixel)


def test_a_grid_elsewhere_is_refused(plan):
    with pytest.raises(GridError, match="do not meet"):
        Regridded(plan, Grid(plan.grid.crs, Axis(0, 10, 5), Axis(0, 10, 5)))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("regridded"), size=24, seed=4)


def test_on_the_command_line(made, tmp_path, capfd):
    output = tmp_path / "laea.tif"
    assert main(["sharpen", str(made.enmap), "--grid", "EPSG:3035", "10", "--output", str(output), "--product", str(tmp_path / "product")]) == 0
    assert "of 10 m in EPSG:3035, warped from EPSG:32633" in capfd.readouterr().out
    told = json.loads(output.with_suffix(".json").read_text())["properties"]
    assert told["proj:code"] == "EPSG:3035" and told["gsd"] == 10 and told["enmap_sharpener:warped"]["from"]["crs"] == "EPSG:32633"
    product = read_enmap(next((tmp_path / "product").iterdir()))
    assert Grid.of(product.cube) == Grid.of(read_cube(output)) and (product.quality["classes"].values[np.isfinite(product.cube.values[50])] != 3).mean() > 0.98
    half = tmp_path / "half.tif"
    assert main(["uncertainty", str(output), "--level", "68", "--bands", "650nm", "--output", str(half)]) == 0
    with rasterio.open(half) as file:
        assert file.crs.to_epsg() == 3035
    with pytest.raises(GridError, match="was warped"):
        evaluate_file(output, scene=made.enmap)
    again = tmp_path / "like.nc"
    assert main(["sharpen", str(made.enmap), "--like", str(output), "--output", str(again)]) == 0
    assert grid_of_file(again) == grid_of_file(output)
    np.testing.assert_array_equal(read_cube(again).values, read_cube(output).values)


@pytest.mark.parametrize("options, words", [
    (["--grid", "EPSG:3035", "10", "--like", "x.tif"], "both name a grid"),
    (["--grid", "EPSG:1", "10"], "is no coordinate system"),
    (["--grid", "EPSG:3035"], "--grid"),
    (["--like", "nowhere.tif"], "nowhere.tif"),
])
def test_what_the_command_refuses(made, tmp_path, capfd, options, words):
    assert main(["sharpen", str(made.enmap), *options, "--output", str(tmp_path / "out.tif")]) == 2
    err = capfd.readouterr().err
    assert words in err and err.count("\n") == 1 and not any(tmp_path.iterdir())


def test_a_file_that_is_no_raster_or_has_no_place(tmp_path):
    with pytest.raises(ProductError):
        grid_of_file(Path(__file__))
    with rasterio.open(tmp_path / "plain.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 4, 4), np.uint8))
    with pytest.raises(GridError):
        grid_of_file(tmp_path / "plain.tif")


@pytest.mark.parametrize("start, step", [(-5e4, 7e4), (-9000.0, 8000.0)], ids=["larger than the scene", "whose centres lie beside it"])
def test_pixels_none_of_whose_centres_lies_in_the_scene_are_refused(plan, start, step):
    own = plan.grid
    grid = Grid(own.crs, *(Axis(a.start + start, step, 3) for a in (own.rows, own.cols)))
    with pytest.raises(GridError, match=f"map.tif: no pixel has its centre in the scene, pixels are {step:g} units wide, the scene .*; take smaller pixels"):
        regridding.check_meets(grid, own, "map.tif")


@pytest.mark.parametrize("step, n", [(0.2, 8000), (10.0, 40000)], ids=["finer than half a metre", "far more than the scene"])
def test_far_too_many_pixels_are_refused(plan, step, n):
    grid = Grid(plan.grid.crs, Axis(plan.grid.rows.start, step, n), Axis(plan.grid.cols.start, step, n))
    with pytest.raises(GridError, match=f"map.tif: has {n} x {n} pixels of {step:g} units, of which the scene covers .* %; cut it to the scene, or take larger pixels"):
        regridding.check_meets(grid, Grid(plan.grid.crs, *(Axis(a.start, 30.0, max(a.n // 3, 1)) for a in (plan.grid.rows, plan.grid.cols))), "map.tif")


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(ProductError, match=r"2024/none\.tif: is not there; check how it is spelt"):
        grid_of_file(tmp_path / "2024/none.tif")


def test_a_damaged_file_is_named_with_its_folder(tmp_path):
    (tmp_path / "second_date").mkdir()
    (tmp_path / "second_date/sentinel2_10m.tif").write_bytes(b"II*\0" + bytes(20))
    with pytest.raises(ProductError, match=r"second_date/sentinel2_10m\.tif: cannot be read, it is truncated or corrupt"):
        grid_of_file(tmp_path / "second_date/sentinel2_10m.tif")


@pytest.mark.parametrize("crs", ["IAU_2015:30100", "EPSG:32799", "EPSG:5701", "no name"])
def test_a_coordinate_system_to_which_nothing_leads_is_told_in_one_line(crs):
    "The moon's, one that is not known, heights alone, and no name at all; also of a file."
    own = Grid(CRS.from_epsg(32633), Axis(-5_806_120.0, 30.0, 24), Axis(366_010.0, 30.0, 24))
    with pytest.raises(GridError, match="is no coordinate system that EnMAP's EPSG:32633 can be brought to") as told:
        grid_over(own, crs, 10)
    assert "\n" not in str(told.value)
    if crs.startswith("IAU"):
        with pytest.raises(GridError, match="moon.tif: is in IAU_2015:30100, to which EPSG:32633 cannot be brought"):
            check_meets(Grid(CRS.from_user_input(crs), own.rows, own.cols), own, "moon.tif")
