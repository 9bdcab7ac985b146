"""Scores of cubes, tile by tile: grids, bands, nodata, and the reference scorer."""
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
from cubes import WAVELENGTH, cube, pair, write
from rasterio.transform import from_origin
from scipy.ndimage import zoom

from enmap_sharpener.core.errors import BandError, GridError, ProductError, RequestError
from enmap_sharpener.evaluation import scores as evaluation
from enmap_sharpener.evaluation.bootstrap import score_intervals
from enmap_sharpener.evaluation.metrics import psnr, q2n, sam, scc, ssim, uiqi
from enmap_sharpener.evaluation.scores import compare, error_maps, score
from enmap_sharpener.scenes import cubes as lining
from enmap_sharpener.scenes.cubes import read_cube

SHARED = Path(__file__).parents[2] / "../shared"


# ---------------------------------------------------------------- tiles, grids, bands

def test_tiles_give_what_the_whole_gives(monkeypatch):
    o, t = (cube(c) for c in pair(ny=101, nx=75))
    whole, bands = score(o, t, border=0, ssim_step=1)
    monkeypatch.setattr(evaluation, "_TILE", 32)
    monkeypatch.setattr(evaluation, "WIDE", 40)
    monkeypatch.setattr(evaluation, "FEW", 5)
    tiled, tiled_bands = score(o, t, border=0, ssim_step=1, threads=3)
    assert np.allclose(whole, tiled, rtol=1e-6) and np.allclose(bands, tiled_bands, rtol=1e-6)
    assert np.isclose(whole.q2n, q2n(o, t), rtol=1e-6) and np.isclose(whole.sam, np.nanmean(sam(o, t)), rtol=1e-5)
    assert np.allclose(bands.ssim, ssim(o, t)) and np.allclose(bands.scc, scc(o, t)) and np.allclose(bands.uiqi, uiqi(o, t)) and np.allclose(bands.psnr, psnr(o, t), rtol=1e-6)
    e = error_maps(o, t)
    assert np.allclose(e.sam, sam(o, t), rtol=1e-3, atol=1e-4, equal_nan=True)


def test_tiles_without_one_of_the_bands_hold_no_valid_pixel(monkeypatch):
    monkeypatch.setattr(evaluation, "_TILE", 32)
    o, t = pair(ny=64, nx=64, nodata=False)
    o[3, :, :32] = np.nan
    scores = compare(o, t, border=0)
    assert scores.pixels == 64 * 32 and scores.missing == 0.5 and scores.bands == 12
    assert np.isclose(scores.rmse, np.sqrt(np.mean((o - t)[:, :, 32:] ** 2)), rtol=1e-5)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_output_on_another_grid_is_sampled_at_truth_pixel_centres():
    o, t = pair(nodata=False)
    fine = cube(np.kron(o, np.ones((1, 2, 2), "f4")), step=5.0)
    assert np.allclose(compare(fine, cube(t)), compare(cube(o), cube(t)))
    part = compare(cube(o[:, 10:, 10:], x0=366100.0, y0=5805900.0), cube(t))
    assert np.isclose(part.missing, 1 - 27 * 40 / (34 * 47)) and part.pixels == 27 * 40


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("by_tiles", [False, True])
def test_output_is_averaged_to_a_truth_with_larger_pixels(by_tiles, monkeypatch, caplog):
    if by_tiles:
        for name, size in (("_TILE", 16), ("WIDE", 20), ("FEW", 5)):
            monkeypatch.setattr(evaluation, name, size)
        monkeypatch.setattr(lining, "_AT_ONCE", 20_000)
    o, t = (np.pad(c, ((0, 0), (0, 0), (0, 1))).reshape(12, 40, 3, 54, 3).mean((2, 4)) for c in (pair(ny=120, nx=161)[i] for i in (0, 1)))
    o[:, :, -1] = np.nan                                          # this pixel of the truth reaches beyond the output
    expected = score(cube(o, step=30.0), cube(t, step=30.0), ssim_step=1, border=0)
    caplog.clear()
    found = score(cube(pair(ny=120, nx=161)[0]), cube(t, step=30.0), ssim_step=1, border=0)
    assert np.allclose(found[0], expected[0], rtol=1e-5) and np.allclose(found[1], expected[1], rtol=1e-4, atol=1e-6, equal_nan=True)
    told, = caplog.messages
    assert "truth's pixels are 30 m, the output's 10 m: the output is averaged" in told
    assert np.isclose(score_intervals(cube(pair(ny=120, nx=161)[0]), cube(t, step=30.0), n=5, border=0).value["rmse"], expected[0].rmse, rtol=1e-5)


def rough(seed=0):
    "An output and a truth full of detail."
    rng = np.random.default_rng(seed)
    t = rng.random((12, 40, 53), "f4")
    return t + rng.normal(0, 0.1, t.shape).astype("f4"), t


@pytest.mark.parametrize(("place", "told"), [({"x0": 366004.0}, "up to 4 m (40% of a pixel) off"), ({"x0": 366030.0}, "moved by 3 left [pixels]"), ({}, None), ({"x0": 366000.05}, None)])
def test_a_truth_that_lies_off_is_told(place, told, caplog):
    o, t = rough()
    score(cube(o), cube(t, **place))
    assert [told in message for message in caplog.messages] == ([True] if told else [])


def test_a_truth_of_other_ground_is_told(caplog):
    o, t = rough()
    score(cube(o), cube(t[:, ::-1].copy()))
    score(cube(o), cube(rough(seed=5)[1]))
    flipped, other = caplog.messages
    assert "fits the output when it is turned upside down (" in flipped and "hardly show the same ground" in other


def test_other_bands_are_averaged_into_the_truth_s():
    w = np.arange(500, 700, 5.0)
    smooth = lambda v: np.sin(v / 60)[:, None, None] * np.ones((1, 20, 20)) * 0.1 + 0.3
    same = compare(cube(smooth(w + 1), w + 1), cube(smooth(w), w))
    assert same.rmse < 1e-3 and same.bands == len(w)
    with pytest.raises(BandError, match="500, 505, 510"):
        compare(cube(smooth(w), w), cube(smooth(w), w + 1000))
    with pytest.raises(BandError, match="39 bands of output and 40"):
        compare(smooth(w)[:39], smooth(w))


def test_grids_that_do_not_meet():
    o, t = pair(nodata=False)
    with pytest.raises(GridError, match="do not overlap"):
        compare(cube(o, x0=500000.0), cube(t))
    with pytest.raises(GridError, match="32632"):
        compare(cube(o, crs=32632), cube(t))
    with pytest.raises(GridError, match="40 x 53"):
        compare(o, t[:, :-1])


def test_what_a_cube_declares_as_nodata_is_none_and_integers_are_refused(tmp_path):
    o, t = (write(tmp_path / name, c, WAVELENGTH, from_origin(366000, 5806000, 10, 10)) for name, c in zip(("o.tif", "t.tif"), pair()))
    raw = [rioxarray.open_rasterio(path) for path in (o, t)]
    with pytest.raises(RequestError, match="the output is int16"):
        compare(*raw)
    floats = [(image.astype("f4") / np.float32(1e4)).rio.write_crs(32633).rio.write_nodata(np.float32(-3.2768)) for image in raw]
    assert np.allclose(compare(*floats), compare(o, t), rtol=1e-6)
    for wrong, told in ((floats[0][0], "y 40, x 53"), (floats[0][:0], "band 0"), (floats[0].transpose("y", "x", "band"), "y 40, x 53, band 12")):
        with pytest.raises(RequestError, match=told):
            compare(wrong, floats[1])


def test_bands_without_wavelengths_are_told_by_their_numbers(caplog):
    o, t = (cube(c) for c in rough())
    bare, expected = [c.drop_vars("wavelength") for c in (o, t)], compare(o, t, ssim_step=1)
    assert np.allclose(compare(*bare, ssim_step=1), expected) and np.allclose(compare(bare[0][::-1], bare[1], ssim_step=1), expected)
    assert not caplog.messages
    assert np.allclose(compare(o[::-1], bare[1], ssim_step=1), expected)
    assert "only the output tells wavelengths: bands are compared by their numbers" in caplog.text
    with pytest.raises(BandError, match=r"bands 2, 3, 4, 5, … of output and 1, 2, 3, 4, … of truth"):
        compare(bare[0].assign_coords(band=np.arange(2, 14)), t)
    with pytest.raises(BandError, match="wavelengths that are none"):
        compare(o, t.assign_coords(wavelength=("band", np.full(12, np.nan))))


@pytest.mark.parametrize("wrong", [{"ssim_step": 0}, {"border": -1}, {"border": 2.5}, {"threads": 0}, {"threads": -1}, {"threads": 1.5}])
def test_numbers_that_are_none_are_refused(wrong):
    with pytest.raises(RequestError, match="wanted a whole number from"):
        compare(*pair(), **wrong)


def test_progress_is_told():
    seen = []
    o, t = pair()
    score(o, t, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


def reference_score():
    path = SHARED / "tools/score.py"
    if not path.exists():
        pytest.skip("the reference scorer is not at hand")
    spec = importlib.util.spec_from_file_location("score", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score


def check_against_reference(case, output):
    expected, found = reference_score()(case, output), compare(read_cube(output), read_cube(case / "truth.tif"))
    for key, digits in {"bands": 0, "psnr": 2, "sam_land": 3, "ergas": 3, "rmse": 5, "missing": 4, "ssim": 4}.items():
        if key != "ssim" or expected["missing"] == 0:      # the reference takes windows with nodata in
            assert abs(expected[key] - found[key]) < 0.6 * 10.0**-digits + 1e-4 * (key == "ssim"), (key, expected, found)


@pytest.mark.parametrize("change", ["same grid", "other grid", "other bands"])
def test_scores_are_those_of_the_reference_scorer(tmp_path, change):
    o, t = pair(ny=44, nx=61, nodata=False)
    t[5] = np.nan                                                   # an empty band, as real scenes have
    write(tmp_path / "truth.tif", t, WAVELENGTH, from_origin(366000, 5806000, 30, 30))
    if change == "same grid":
        o[5] = np.nan
        write(tmp_path / "o.tif", o, WAVELENGTH, from_origin(366000, 5806000, 30, 30))
    elif change == "other grid":
        write(tmp_path / "o.tif", o[:, 8:30, 5:50], WAVELENGTH, from_origin(366000 + 157, 5806000 - 246, 30, 30), "float32")
    else:
        o[7] = np.nan
        write(tmp_path / "o.tif", o, WAVELENGTH + 4, from_origin(366000, 5806000, 30, 30), tags="imagery")
    check_against_reference(tmp_path, tmp_path / "o.tif")


@pytest.mark.parametrize("case", ["potsdam_validation", "sanfrancisco"])
def test_scores_of_a_real_case_are_those_of_the_reference_scorer(tmp_path, case):
    folder = SHARED / "data/cases" / case
    if not folder.exists():
        pytest.skip("the real cases are not at hand")
    with rasterio.open(next(folder.glob("*/*SPECTRAL_IMAGE.TIF"))) as f:
        coarse = f.read().astype("f4")
    with rasterio.open(folder / "truth.tif") as f:
        profile, wavelength = f.profile, [float(f.tags(i)["wavelength"]) for i in f.indexes]
        shape = f.shape
    factor = [n / m for n, m in zip(shape, coarse.shape[1:])]
    fine = np.stack([zoom(np.where(b == -32768, 0, b), factor, order=1, grid_mode=True, mode="nearest") for b in coarse]) / 1e4
    fine[(coarse == -32768).any((1, 2))] = np.nan
    write(tmp_path / "o.tif", fine, wavelength, profile["transform"], crs=profile["crs"])
    check_against_reference(folder, tmp_path / "o.tif")


@pytest.mark.parametrize("detectors", [True, False])
def test_the_order_of_bands_costs_nothing(detectors):
    "Also where two detectors see nearly the same wavelength."
    o, t = pair(nodata=False)
    wavelength = WAVELENGTH.copy()
    wavelength[5] = wavelength[4] + 0.3
    truth, output = cube(t, wavelength), cube(o, wavelength)
    if detectors:
        truth, output = (c.assign_coords(detector=("band", np.where(np.arange(12) < 5, "VNIR", "SWIR"))) for c in (truth, output))
    expected, bands = score(output, truth)
    order = np.random.default_rng(0).permutation(12)
    found, shuffled = score(output[order], truth)
    assert np.allclose(found.astype(float), expected.astype(float), rtol=1e-6) and np.allclose(shuffled.rmse, bands.rmse)
    some = score(output[order[:7]], truth[np.sort(order[:7])])[0]
    assert np.isclose(some.rmse, np.sqrt(np.mean(bands.rmse.values[np.sort(order[:7])] ** 2)), rtol=1e-5)


def test_a_part_of_the_bands_is_compared_with_its_equals():
    "No band is averaged with its neighbours where the other cube has it."
    o, t = pair(bands=40, nodata=False)
    wavelength = np.linspace(500, 700, 40)
    expected = score(cube(o, wavelength), cube(t, wavelength), ssim_step=1)[1]
    found = score(cube(o[::2], wavelength[::2]), cube(t, wavelength), ssim_step=1)[1]
    assert np.allclose(found.rmse[::2], expected.rmse[::2]) and not np.allclose(found.rmse[1::2], expected.rmse[1::2])


@pytest.mark.parametrize("factor, told", [(100, "100 times as bright as the truth"), (1e4, "10000 times as bright"), (0.01, "100 times as dark"), (0.1, "10 times as dark"), (11, "10 times as bright")])
def test_other_units_are_named_and_not_scored(factor, told):
    o, t = pair()
    with pytest.raises(ProductError, match=f"output is {told}.*in another unit"):
        score(cube(o * np.float32(factor)), cube(t))


@pytest.mark.parametrize("factor", [0, 0.3, 0.5, 2, 3, 30, -1])
def test_what_is_merely_wrong_is_scored(factor):
    o, t = pair()
    assert score(cube(o * np.float32(factor)), cube(t))[0].rmse > 0


def test_field(shared):
    "All VNIR bands first: as sorted."
    found = compare(shared / "data/field/72_vnir_first_output/vnir_first.tif", shared / "data/cases/potsdam_train/truth.tif")
    assert round(found.psnr, 2) == 39.59
