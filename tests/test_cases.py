"""The six real cases: what the project promises to reach, written and scored as a user would."""
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rioxarray

from enmap_sharpener.core.grid import Grid
from enmap_sharpener.core.operators import Observation, linear_stencil
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.evaluation.scores import score
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen

PEERS = Path(__file__).parents[1] / "benchmarks/peers.json"
REACH = {   # psnr [dB], sam_land [degrees], ergas
    "potsdam_train": (39.5, 1.37, 1.33), "potsdam_train_mismatch": (37.6, 1.50, 1.42),
    "potsdam_validation": (37.3, 2.23, 2.15), "potsdam_validation_mismatch": (36.0, 2.30, 2.21),
    "potsdam_hard": (33.8, 1.56, 1.66), "sanfrancisco": (36.0, 1.45, 2.10),
}


@cache
def sharpened(folder):
    """(scene, guide, plan) of a case."""
    product, = (p for p in Path(folder).iterdir() if p.is_dir())
    scene, guide = read_enmap(product), read_sentinel2(Path(folder))
    return scene, guide, sharpen(scene, guide)


@pytest.fixture(scope="module", params=REACH)
def scored(request, real_case, tmp_path_factory):
    """(name, scores, report) of a case, through the files that a user gets."""
    folder = real_case(request.param)
    scene, guide, plan = sharpened(folder)
    files = write_scene(plan, tmp_path_factory.mktemp(request.param) / "out.tif", scene=scene, guide=guide)
    return request.param, score(read_cube(files["data"]), read_cube(folder / "truth.tif"))[0], plan.report


def test_reaches_what_it_must(scored):
    name, scores, _ = scored
    psnr, sam, ergas = REACH[name]
    assert scores["psnr"] >= psnr and scores["sam_land"] <= sam and scores["ergas"] <= ergas


def test_better_than_every_peer_in_every_metric(scored):
    name, scores, _ = scored
    peers = json.loads(PEERS.read_text())[name].values()
    assert scores["psnr"] > max(p["psnr"] for p in peers)
    assert scores["sam_land"] < min(p["sam_land"] for p in peers)
    assert scores["ergas"] < min(p["ergas"] for p in peers)


def test_nothing_is_missing(scored):
    assert scored[1]["missing"] == 0


def test_agrees_with_the_input(scored):
    found = scored[2]["agreement"]
    assert found["rmse"] < 0.001 and found["worst_band_rmse"] < 0.003


def test_hard_case_where_the_guide_is_not_trusted(shared):
    """Under cloud, shadow and on changed ground the output is no worse than the consistent interpolation with the measured geometry."""
    folder = shared / "data/cases/potsdam_hard"
    scene, _, plan = sharpened(folder)
    grid, (kind, trust, _) = plan.grid, plan.quality_dataarray().values
    x, truth = plan.to_dataarray().values, read_truth(folder / "truth.tif", grid)
    own = consistent(scene, plan)
    doubted = (trust < 50) & (kind > 0)
    assert doubted.mean() > 0.02 and (kind[doubted] == 2).all()
    good = scene.bands.good & np.isfinite(truth).all((1, 2))
    error = [float(np.sqrt(((a - truth)[good][:, doubted] ** 2).mean())) for a in (x, own)]
    assert error[0] <= error[1]


def read_truth(path, grid):
    """The truth at the pixel centres of a grid, shape (band, y, x) [reflectance]."""
    image = rioxarray.open_rasterio(path)
    own = Grid.of(image)
    rows, cols = (np.floor(o.index(g.centres) + 0.5).astype(int) for o, g in ((own.rows, grid.rows), (own.cols, grid.cols)))
    values = image.values[:, rows[:, None], cols]
    return np.where(values == NODATA, np.nan, values * np.float32(1e-4))


def consistent(scene, plan):
    """What EnMAP alone can tell: linear interpolation made consistent, with the measured geometry; shape (band, y, x)."""
    cube, fine = scene.cube.compute(), plan.grid
    coarse, out = Grid.of(cube), np.full((len(scene.bands), *fine.shape), np.nan, np.float32)
    for detector, vnir in (("VNIR", True), ("SWIR", False)):
        use = np.flatnonzero(scene.bands.good & (scene.bands.vnir == vnir))
        found, y = plan.report["alignment"][detector], cube.values[use]
        spread = Observation(linear_stencil(coarse.rows, fine.rows, found["shift"][0]), linear_stencil(coarse.cols, fine.cols, found["shift"][1]))
        out[use] = Observation.between(coarse, fine, found["sigma"], found["shift"]).consistent(spread.degrade(y), y)
    return out
