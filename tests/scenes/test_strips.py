"""Tiles of a datatake as one scene: what is the same as of the uncut scene, what is refused, and what is told."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import METADATA, SCENE_ID, cube, table

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import BandError, GridError, ProductError
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.evaluation.agreement import evaluate_file
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.enmap import Scene, read_enmap, write_enmap
from enmap_sharpener.scenes.pairing import find_guides, read_pair
from enmap_sharpener.scenes.sentinel2 import write_sentinel2
from enmap_sharpener.scenes.strips import join_tiles, read_scene
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


def tile(scene, number, rows, gain=1.0, **changes):
    "Rows of a scene as a tile, brighter by a factor."
    cut = lambda image: Grid.of(image).part(rows, slice(0, image.shape[-1]))
    quality = {k: cut(v).georeference(v.values[..., rows, :], name=k, coords={"band": v.band.values} if v.ndim > 2 else {}) for k, v in scene.quality.items()}
    image = cut(scene.cube).georeference(scene.cube.values[:, rows] * np.float32(gain), coords=scene.bands.coords, name="reflectance")
    named = replace(scene.metadata, id=scene.metadata.id.replace("_001_V", f"_{number:03d}_V"))
    return replace(scene, **{"cube": image.chunk(), "metadata": named, "quality": quality, "source": Path(f"tile{number}")} | changes)


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(size=50, seed=3, clouds=0.05)[:2]


ROWS = slice(0, 24), slice(18, 40), slice(33, 50)


@pytest.fixture
def tiles(pair):
    return [tile(pair[0], n, rows) for n, rows in enumerate(ROWS, 1)]


def test_a_strip_is_sharpened_as_the_scene_that_it_was_cut_from(pair, tiles):
    scene, guide = pair
    whole, strip = sharpen(scene, guide), sharpen([tiles[1], tiles[2], tiles[0]], guide)
    assert strip.grid == whole.grid and strip.report["tiles"] == [t.metadata.id for t in tiles] and "tiles" not in whole.report
    np.testing.assert_allclose(strip.to_dataarray(), whole.to_dataarray(), atol=1.01e-4)
    np.testing.assert_array_equal(strip.quality_dataarray(), whole.quality_dataarray())
    assert strip.errors is not None and strip.report["alignment"] == whole.report["alignment"]


def test_its_masks_are_those_of_the_scene_and_any_window_can_be_read(pair, tiles):
    scene, strip = pair[0], join_tiles(tiles)
    np.testing.assert_array_equal(strip.cloud_mask(haze=True, cirrus=True), scene.cloud_mask(haze=True, cirrus=True))
    assert strip.quality.keys() == scene.quality.keys() and all(v.dtype == np.uint8 for v in strip.quality.values())
    np.testing.assert_allclose(strip.cube[3, 20:45:3, 5].values, scene.cube[3, 20:45:3, 5].values, rtol=1e-6)
    np.testing.assert_allclose(strip.cube[[5, 2]][:, ::7, ::-5].values, scene.cube.values[[5, 2], ::7, ::-5], rtol=1e-6)
    assert strip.cube[:, 3:3].shape == (len(scene.bands), 0, 50)


def test_a_step_between_tiles_is_faded(pair):
    scene = pair[0]
    strip = join_tiles([tile(scene, 1, ROWS[0]), tile(scene, 2, slice(14, 50), 1.1)])
    ratio = strip.cube.values[60, :, 25] / scene.cube.values[60, :, 25]
    ratio = ratio[np.isfinite(ratio)]
    assert ratio[0] == pytest.approx(1) and ratio[-1] == pytest.approx(1.1, rel=1e-4) and np.abs(np.diff(ratio)).max() < 0.02


def test_tiles_that_contradict_each_other_where_they_overlap_are_refused_or_it_is_said(pair, tiles):
    scene = pair[0]
    for gain in (0.5, 2.0):
        with pytest.raises(ProductError, match=r"^tile2: contradicts tile1 where they overlap \(at \d+ nm by 0\.\d+, with medians of .*sharpen each by itself$"):
            join_tiles([tiles[0], tile(scene, 2, ROWS[1], gain)])
    elsewhere = replace(scene, cube=scene.cube.copy(data=scene.cube.values[:, ::-1]))
    with pytest.raises(ProductError, match="tile2: contradicts tile1"):
        join_tiles([tiles[0], tile(elsewhere, 2, ROWS[1])])
    [line] = join_tiles([tiles[0], tile(scene, 2, ROWS[1], 1.15)]).assumptions
    assert line.startswith("tile 002: differs from tile 001 where they overlap (at ") and line.endswith("one fades into the other there")
    noisy = scene.cube + np.random.default_rng(1).normal(0, 0.01, scene.cube.shape).astype(np.float32)      # far more than EnMAP's
    assert not join_tiles([tiles[0], tile(replace(scene, cube=noisy), 2, ROWS[1], 1.03), tiles[2]]).assumptions
    assert not join_tiles([tiles[0], tile(scene, 2, slice(24, 40), 0.5)]).assumptions      # side by side


def test_what_is_measured_counts_before_nodata_band_by_band(pair):
    scene = pair[0]
    hole = scene.cube.values.copy()
    hole[:, 20:22, 10:12] = np.nan
    hole[7, 19, 15] = np.nan
    first = tile(replace(scene, cube=scene.cube.copy(data=hole)), 1, ROWS[0])
    strip = join_tiles([first, tile(scene, 2, slice(18, 50))])
    np.testing.assert_allclose(strip.cube.values, scene.cube.values, rtol=1e-6)
    np.testing.assert_allclose(join_tiles([first, tile(scene, 2, slice(21, 50))]).cube.values[:, 20, 10:12], np.nan)


def test_bands_that_one_tile_lacks_are_nodata_there_and_it_is_said(pair):
    scene, guide = pair
    dark = scene.cube.values.copy()
    dark[100] = np.nan
    good = scene.bands.good.copy()
    good[100] = False
    lacking = tile(replace(scene, cube=scene.cube.copy(data=dark), bands=replace(scene.bands, good=good), quality={}), 2, slice(24, 50))
    strip = join_tiles([tile(scene, 1, slice(0, 24)), lacking])
    assert strip.bands.good[100] and len(strip.assumptions) == 2
    assert "tile 002: its bands 101 are empty" in strip.assumptions[0] and "has no quality layers classes, cloud" in strip.assumptions[1]
    assert not strip.cloud_mask().values[24:].any() and (strip.quality["classes"].values[24:] == 1).all()
    plan = sharpen(strip, guide)
    found, whole = plan.to_dataarray().values, sharpen(scene, guide).to_dataarray().values
    assert set(strip.assumptions) <= set(plan.report["assumptions"])
    assert np.isnan(found[100, -30:]).all() and np.isfinite(found[100, 10:40]).any()
    others = np.arange(len(found)) != 100
    assert np.sqrt(np.nanmean((found - whole)[others] ** 2)) < 0.004


def test_gains_may_differ_on_disk(tmp_path):
    image = cube()
    places = [write_enmap(tmp_path, image[:, rows].rio.write_transform(Grid.of(image).part(rows, slice(0, 36)).transform), replace(table(), gain=np.full(12, gain)),
                          scene_id=SCENE_ID.replace("_001_V", f"_{n:03d}_V"), metadata=METADATA) for n, (rows, gain) in enumerate(((slice(0, 14), 1e-4), (slice(10, 24), 2e-4)), 1)]
    np.testing.assert_allclose(read_scene(places).cube.values, image.values, atol=1.01e-4)
    assert isinstance(read_scene(places[0]), Scene) and not read_scene(places[:1]).tiles


def test_metadata_are_those_of_all(pair, tiles):
    turned = [replace(t, metadata=replace(t.metadata, sun_azimuth=a, quality={"cloudCover": c, "overallQuality": q}, sun_elevation=e))
              for t, a, c, q, e in zip(tiles, (358, 0, 2), (10, 20, 60), (0, 2, 1), (50, np.nan, 52), strict=True)]
    told = join_tiles(turned).metadata
    assert told.id == tiles[0].metadata.id.replace("_001_V", "_000_V") and told.sun_azimuth == pytest.approx(0, abs=1e-9) and told.sun_elevation == 51
    assert told.quality == {"cloudCover": 30, "overallQuality": 2}
    assert told.start == tiles[0].metadata.start and len(told.footprint) == 4
    missing = join_tiles([tiles[0], tiles[2]])
    assert "tile 002 of the datatake is not among those given" in missing.assumptions[0]
    assert np.isnan(missing.cube.values[:, 25:32]).all()


@pytest.mark.parametrize("change, error, words", [
    (lambda t: replace(t, metadata=replace(t.metadata, id=t.metadata.id.replace("DT0000000003", "DT0000000009"))), ProductError, "is of the datatake DT0000000009"),
    (lambda t: replace(t, metadata=replace(t.metadata, id=t.metadata.id.replace("_V010502_", "_V010303_"))), ProductError, "comes from the processor V010303"),
    (lambda t: replace(t, metadata=replace(t.metadata, correction="Water_Mode")), ProductError, "comes from the correction Water_Mode"),
    (lambda t: replace(t, metadata=replace(t.metadata, id="myscene")), ProductError, "does not tell of which datatake"),
    (lambda t: replace(t, metadata=replace(t.metadata, id=t.metadata.id.replace("_002_V", "_001_V"))), ProductError, "give each tile once"),
    (lambda t: replace(t, cube=t.cube.rio.write_crs("EPSG:32634")), GridError, "a strip has one coordinate system"),
    (lambda t: replace(t, cube=t.cube.assign_coords(x=t.cube.x + 15).rio.write_transform(t.cube.rio.transform() * rasterio.Affine.translation(0.5, 0))), GridError, "or lie between them"),
    (lambda t: replace(t, cube=t.cube.coarsen(y=2, x=2, boundary="trim").mean()), GridError, "pixels (60 m)"),
    (lambda t: replace(t, cube=t.cube[:90], bands=t.bands.take(np.arange(90))), BandError, "other bands"),
])
def test_what_is_no_tile_of_the_strip_is_refused(tiles, change, error, words):
    with pytest.raises(error) as failure:
        join_tiles([tiles[0], change(tiles[1])])
    assert words in str(failure.value) and "\n" not in str(failure.value) and str(failure.value).startswith("tile2")
    with pytest.raises(ProductError, match="no EnMAP product was given"):
        join_tiles([])


@pytest.fixture(scope="module")
def written(pair, tmp_path_factory):
    "A folder with the products of three tiles, and Sentinel-2 beside them."
    folder, (scene, guide) = tmp_path_factory.mktemp("datatake"), pair
    for n, rows in enumerate(ROWS, 1):
        part = tile(scene, n, rows)
        write_enmap(folder, part.cube, part.bands, scene_id=part.metadata.id, metadata=replace(part.metadata, footprint=()), quality=part.quality)
    write_sentinel2(folder / "sentinel2", guide.bands10, guide.bands20, guide.scl, guide.date)
    return folder


def products(folder):
    return sorted(folder.glob("ENMAP*"))


def test_a_folder_of_a_datatake_on_the_command_line(written, tmp_path, capfd):
    output = tmp_path / "strip.tif"
    assert main(["sharpen", str(written), "--strip", "--output", str(output), "--product", str(tmp_path / "product")]) == 0
    err = capfd.readouterr().err
    assert "(3 tiles)" in err and "warning" not in err.lower()
    item = json.loads(output.with_suffix(".json").read_text())
    assert len([link for link in item["links"] if link["rel"] == "derived_from"]) == 4 and len(item["properties"]["enmap_sharpener:tiles"]) == 3
    made = read_enmap(next((tmp_path / "product").iterdir()))
    assert "_000_V" in made.metadata.id and made.cube.shape == (224, *item["properties"]["proj:shape"]) and "cloud" in made.quality
    scene, guide = read_pair(products(written)[::-1])
    files = write_scene(sharpen(scene, guide), tmp_path / "again.tif", scene=[read_enmap(p) for p in products(written)], guide=guide)
    with rasterio.open(files["data"]) as a, rasterio.open(output) as b:
        np.testing.assert_array_equal(a.read(), b.read())
    assert evaluate_file(output, scene=products(written))["agreement"].rmse.max() < 0.01


@pytest.mark.parametrize("options, words", [
    (lambda f: [f], "--strip takes all of one datatake"),
    (lambda f: [f, f, "--strip"], "takes one folder"),
    (lambda f: [f / "sentinel2", "--strip"], "holds no EnMAP product"),
    (lambda f: [products(f)[0], products(f)[0]], "give each tile once"),
    (lambda f: [products(f)[0], f / "nowhere"], "does not exist"),
])
def test_what_the_command_refuses(written, tmp_path, capfd, options, words):
    assert main(["sharpen", *map(str, options(written)), "--sentinel2", str(written / "sentinel2"), "--output", str(tmp_path / "out.tif")]) == 2
    err = capfd.readouterr().err
    assert words in err and err.count("\n") == 1 and not any(tmp_path.iterdir())


def test_partners_lie_beside_the_tiles_or_in_each(written, tmp_path):
    assert find_guides(products(written)) == [written / "sentinel2"]
    tiles = [tmp_path / p.name for p in products(written)]
    for place in tiles:
        (place / "sentinel2").mkdir(parents=True)
        (place / f"{place.name}-METADATA.XML").touch()
    assert find_guides(tiles) == [place / "sentinel2" for place in tiles]
