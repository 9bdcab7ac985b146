"Scenes that are unlike the others are told apart by their pixels; those that are like them are left in peace."
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import product, sentinel2

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import NoValidPixels, OutputError, ProductError
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.preprocessing import outliers as module
from enmap_sharpener.preprocessing.outlier_figures import contact_sheet, histograms, write_figures
from enmap_sharpener.preprocessing.outliers import (
    STATISTICS,
    _unexplained,
    inspect,
    measure_sample,
    outliers,
    read_sample,
    sample_pair,
    scene_places,
    size_outliers,
)
from enmap_sharpener.scenes.sentinel2 import write_sentinel2
from enmap_sharpener.scraping.services import scene_folders
from enmap_sharpener.simulation.scene import simulate, simulate_pair


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    "Five simulated scenes, not to be changed."
    folder = tmp_path_factory.mktemp("scenes")
    for seed in range(5):
        simulate(folder, size=45, seed=seed, truth=False, overwrite=True)
    return folder


@pytest.fixture
def scenes(originals, tmp_path):
    "A copy, to be spoiled; the places of its scenes."
    return scene_folders(shutil.copytree(originals, tmp_path / "scenes"))


def change(path, function):
    "Rewrite a raster in place; nodata stays."
    with rasterio.open(path, "r+") as file:
        values = file.read()
        file.write(np.where(values == NODATA, NODATA, np.clip(function(values.astype(float)), -32767, 32767)).astype(values.dtype))


def cube_of(place) -> Path:
    return next(place.glob("*SPECTRAL_IMAGE.TIF"))


@pytest.mark.slow
def test_alike(originals):
    table = inspect(originals, threads=2)
    assert (table.outlier == "").all() and table[list(STATISTICS)].notna().all().all()
    assert table.valid.between(0.6, 0.8).all() and (table.enmap_mb > table.sentinel2_mb).all()


def test_the_thread_that_asks_is_told_how_far_it_is(tmp_path, monkeypatch):
    for n in range(4):
        (tmp_path / f"{n}.zarr").mkdir()
    monkeypatch.setattr(module, "_row", lambda place, *_: {"id": place.stem, **dict.fromkeys([*STATISTICS, "valid", "enmap_mb", "sentinel2_mb"], 1.0), "trouble": ""})
    told = []
    inspect(tmp_path, threads=3, progress=lambda done, total: told.append((threading.get_ident(), done, total)))
    assert told == [(threading.get_ident(), done, 4) for done in (1, 2, 3, 4)]


@pytest.mark.slow
@pytest.mark.parametrize("statistic, spoil", [
    ("level", lambda v: v * 4),
    ("spread", lambda v: np.median(v, (1, 2), keepdims=True) + 5 * (v - np.median(v, (1, 2), keepdims=True))),
    ("noise", lambda v: v + np.random.default_rng(0).normal(0, 120, v.shape)),
    ("striping", lambda v: v + np.random.default_rng(0).normal(0, 60, (len(v), 1, v.shape[2]))),
    ("disagreement", lambda v: 2 * np.median(v[:, 18:27, 18:27], (1, 2), keepdims=True) - v),   # bright is dark, at the same level
])
def test_what_pixels_say(scenes, statistic, spoil):
    change(cube_of(scenes[2]), spoil)
    table = inspect(scenes[0].parent)
    assert statistic in table.outlier.iloc[2]
    assert (table.outlier.drop(table.index[2]) == "").all(), table.outlier.to_list()


def test_damage_is_told_and_others_go_on(scenes):
    cube_of(scenes[0]).write_bytes(cube_of(scenes[0]).read_bytes()[:50_000])
    shutil.rmtree(scenes[1] / "sentinel2")
    (scenes[2] / "sentinel2/sentinel2_10m.tif").write_bytes(b"no raster")
    with rasterio.open(cube_of(scenes[3]), "r+") as file:
        file.write(np.full((file.count, *file.shape), NODATA, "int16"))
    table = inspect(scenes[0].parent)
    for row, word in enumerate(("truncated", "no Sentinel-2 partner", "sentinel2_10m.tif", "no pixel holds data")):
        assert word in table.outlier.iloc[row], table.outlier.iloc[row]
    assert table.outlier.iloc[4] == "" and table.level[1:3].notna().all() and table.disagreement[:4].isna().all()


def test_stripes_along_the_track_are_not_noise():
    "Noise of any strength is no stripe; a stripe is found though it is turned against the columns."
    scene, guide, _ = simulate_pair(size=50, seed=2)
    noisy = scene.cube + np.random.default_rng(1).normal(0, 0.01, scene.cube.shape).astype("float32")
    plain = measure_sample(sample_pair(replace(scene, cube=noisy)))
    assert plain["noise"] > 0.008 and plain["striping"] < 0.15
    rows, cols = np.indices(scene.cube.shape[1:])
    line = np.round(cols - np.tan(np.radians(-12)) * rows).astype(int) + 60
    stripes = np.random.default_rng(2).normal(0, 0.01, (len(noisy), 170)).astype("float32")
    assert measure_sample(sample_pair(replace(scene, cube=noisy + stripes[:, line])))["striping"] == pytest.approx(0.9, rel=0.35)


@pytest.mark.slow
def test_disagreement_grows_with_the_shift():
    found = [measure_sample(sample_pair(*simulate_pair(size=50, seed=4, shift=(s, 0), swir_shift=(0, 0))[:2]))["disagreement"] for s in (0, 1, 2)]
    assert 1.15 * found[0] < found[1] < found[2] / 1.15


def test_partner_that_covers_a_part(tmp_path):
    place = product(tmp_path, bands=60)
    small = sentinel2(shape=(30, 40), corner=(366200, 5805900))
    write_sentinel2(place / "sentinel2", small)
    sample = read_sample(place)
    held = np.isfinite(sample.guide[0]).all(-1)
    assert 0 < held.sum() <= 10 * 14 and sample.guide[0].shape[:2] == (24, 36) and sample.trouble == ""
    write_sentinel2(place / "sentinel2", sentinel2(corner=(466000, 5806140)))
    sample = read_sample(place)
    assert np.isnan(sample.guide[0]).all() and np.isnan(measure_sample(sample)["disagreement"])


def test_other_crs_and_no_data(tmp_path):
    place = product(tmp_path, bands=60)
    write_sentinel2(place / "sentinel2", sentinel2().rio.write_crs("EPSG:32632"))
    sample = read_sample(place)
    assert "EPSG:32633 and EPSG:32632" in sample.trouble and sample.guide == []
    scene, *_ = simulate_pair(size=30)
    with pytest.raises(NoValidPixels, match="no pixel"):
        sample_pair(replace(scene, cube=scene.cube * np.nan))


def test_too_few_to_tell():
    assert not outliers([1.0, 5.0, 900.0]).any() and not size_outliers([1, 1, 100]).any()
    assert not outliers([]).any() and not outliers([np.nan, np.inf, 1, 2, 1, 2, 1]).any()
    assert outliers([1.0] * 9 + [1.5]).tolist() == [0] * 10 and outliers([1.0] * 9 + [2.0])[9] > 6
    assert outliers([0.0] * 9 + [1.0])[9] > 5 and not outliers([0.0] * 10).any()
    assert size_outliers([100, 101, 99, 100, 40])[4] < -1.5 and size_outliers([100, 101, 99, 100, 180])[4] > 1.5


def test_places(tmp_path):
    with pytest.raises(ProductError, match="does not exist"):
        scene_places(tmp_path / "nowhere")
    with pytest.raises(ProductError, match="no EnMAP scene"):
        scene_places(tmp_path)
    for name in ("model_input/b.zarr", "model_input/.a.zarr.part", "model_input/c.txt"):
        (tmp_path / name).mkdir(parents=True)
    assert [p.name for p in scene_places(tmp_path)] == ["b.zarr"]


@pytest.mark.slow
def test_figures(scenes, tmp_path):
    shutil.rmtree(scenes[1] / "sentinel2")
    cube_of(scenes[0]).unlink()
    table = inspect(scenes[0].parent)
    files = write_figures(scenes[0].parent, tmp_path / "sheets", table)
    assert sorted(p.name for p in (tmp_path / "sheets").iterdir()) == sorted(p.name for p in files)
    assert len(files) == 2 + 4 and "no Sentinel-2 partner" in (tmp_path / "sheets/inspection.csv").read_text()
    assert contact_sheet(read_sample(scenes[1])).axes and len(histograms(table).axes) == 8
    assert histograms(table.iloc[:1]).axes     # nothing is known of it
    with pytest.raises(OutputError, match="folder"):
        write_figures(scenes[0].parent, tmp_path / "sheets/inspection.csv", table)


@pytest.mark.slow
def test_real_water(water, tmp_path):
    "Two real cut-outs of one scene with their quality layers: dark, and with the same noise."
    for which in (0, 1):
        water(which)
    table = inspect(tmp_path)
    assert len(table) == 2 and table.level.between(0, 0.1).all()
    assert table.noise.max() < 1.5 * table.noise.min() and (table.noise > 1e-4).all()
    assert table.outlier.str.contains("no Sentinel-2 partner").all()


@pytest.mark.slow
def test_command(scenes, tmp_path, capfd):
    change(cube_of(scenes[4]), lambda v: v * 4)
    assert main(["inspect", str(scenes[0].parent)]) == 0
    out = capfd.readouterr().out
    assert all(p.name in out for p in scenes) and "unlike the others: " + scenes[4].name in out and "level" in out
    assert len(list((scenes[0].parent / "inspection").iterdir())) == 7
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2
    error = capfd.readouterr().err
    assert "nowhere: is no folder" in error and error.count("\n") == 1


@pytest.mark.parametrize("kind", ["plain", "a constant band", "twin bands", "two bands", "one band", "fewer pixels than bands"])
def test_what_neighbours_do_not_tell_is_what_least_squares_leave(kind):
    rng = np.random.default_rng(3)
    window = np.cumsum(rng.normal(size=(20, 24, 12)), axis=2) * 0.02 + 0.2 + 0.002 * rng.normal(size=(20, 24, 12))
    held = rng.random((20, 24)) > (0.99 if kind.startswith("fewer") else 0.3)
    if kind == "a constant band":
        window[..., 5] = 0.1
    if kind == "twin bands":
        window[..., 7] = window[..., 4]
    window = window[..., :{"two bands": 2, "one band": 1}.get(kind, 12)].astype(np.float32)
    pixels = (window[held] - window[held].mean(0)).astype(float)
    expected = np.zeros(window.shape)
    for b in range(window.shape[-1]):
        other = [i for i in range(max(0, b - 3), min(window.shape[-1], b + 4)) if i != b]
        expected[held, b] = pixels[:, b] - (pixels[:, other] @ np.linalg.lstsq(pixels[:, other], pixels[:, b], rcond=None)[0] if other else 0)
    assert np.abs(_unexplained(window, held, 3) - expected).max() < 1e-6
