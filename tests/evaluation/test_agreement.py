"""Outputs against the EnMAP scene that they were made from: geometry, nodata, files."""
import json

import numpy as np
import pytest
from cubes import WAVELENGTH, cube, made_up_observation, pair, write
from rasterio.transform import from_origin

import enmap_sharpener as es
from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels
from enmap_sharpener.evaluation.agreement import agreement_by_band, evaluate_file, read_geometry, summed_up
from enmap_sharpener.evaluation.metrics import psnr
from enmap_sharpener.scenes.cubes import read_cube


def test_agreement_is_perfect_with_the_right_geometry_only():
    truth, seen, geometry = made_up_observation()
    assert agreement_by_band(truth, seen, geometry).rmse.max() < 1e-6
    assert agreement_by_band(truth, seen).rmse.min() > 1e-4
    shifted = agreement_by_band(truth + 0.01, seen, geometry)
    assert np.allclose(shifted.rmse, 0.01, atol=1e-5) and np.allclose(shifted.bias, 0.01, atol=1e-5)


def test_agreement_with_nodata_subsets_and_nothing():
    truth, seen, geometry = made_up_observation()
    holes = truth.copy(data=np.where(np.arange(60)[:, None] < 20, np.nan, truth.values))
    full, part = agreement_by_band(truth, seen, geometry), agreement_by_band(holes.isel(band=slice(3, 9)), seen, geometry)
    assert part.rmse.max() < 1e-6 and list(part.index) == [4, 5, 6, 7, 8, 9] and (part.pixels < full.pixels[3:9]).all()
    with pytest.raises(NoValidPixels):
        agreement_by_band(truth * np.nan, seen, geometry)
    with pytest.raises(BandError):
        agreement_by_band(truth.assign_coords(wavelength=truth.wavelength + 3), seen, geometry)
    with pytest.raises(GridError, match="overlap"):
        agreement_by_band(cube(truth.values, WAVELENGTH, x0=9e5), seen, geometry)


def test_geometry_comes_from_the_item_beside_the_output(tmp_path, caplog):
    caplog.set_level("WARNING", logger="enmap_sharpener")
    assert read_geometry(tmp_path / "a.tif") == {} and "nominal" in caplog.text
    (tmp_path / "a.json").write_text(json.dumps({"properties": {"enmap_sharpener:alignment": {"VNIR": {"shift": [0, 0]}}}}))
    assert read_geometry(tmp_path / "a.tif") == {"VNIR": {"shift": [0, 0]}}


def test_evaluate_file(tmp_path):
    o, t = pair()
    transform = from_origin(366000, 5806000, 10, 10)
    paths = [write(tmp_path / name, c, WAVELENGTH, transform) for name, c in (("o.tif", o), ("t.tif", t))]
    found = evaluate_file(*paths)
    assert set(found) == {"scores", "bands"} and np.isclose(found["scores"].psnr, np.nanmean(psnr(*(read_cube(p)[:, 3:-3, 3:-3] for p in paths))))


@pytest.mark.parametrize(("method", "size"), [("subspace", 40), ("gsa", 40), ("cubic", 40), ("cubic", 180)])
def test_sharpen_and_evaluate_find_the_same_agreement(method, size):
    scene, guide, _ = es.simulate_pair(size, seed=1)
    plan = es.sharpen(scene, guide, method, bands="20-30,150-155")
    table = agreement_by_band(plan.to_dataarray(), scene.cube, plan.report.get("alignment"))
    told, found = plan.report["agreement"], summed_up(table)
    assert told["worst_band"] == found["worst_band"] and told["worst_band_nm"] == found["worst_band_nm"]
    assert told["rmse"] == pytest.approx(found["rmse"], rel=1e-3 if size < 170 else 0.02)      # a larger scene has seams between its blocks, which are left out
    assert told["worst_band_rmse"] == pytest.approx(found["worst_band_rmse"], rel=1e-3 if size < 170 else 0.02)
