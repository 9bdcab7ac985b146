"""Metrics against independent formulas, scikit-image and the reference scorer; files, grids, nodata."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from cubes import WAVELENGTH, cube, made_up_observation, pair, write
from rasterio.transform import from_origin
from scipy.ndimage import zoom
from skimage.metrics import structural_similarity

from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels, ProductError
from enmap_sharpener.evaluation import metrics
from enmap_sharpener.evaluation import scores as evaluation
from enmap_sharpener.evaluation.scores import (
    agreement,
    compare,
    comparison_table,
    ergas,
    error_maps,
    evaluate_file,
    measure,
    mse,
    psnr,
    q2n,
    read_cube,
    rmse,
    sam,
    scc,
    seed_scores,
    ssim,
    table_text,
    uiqi,
)

SHARED = Path(__file__).parents[2] / "../shared"


# ---------------------------------------------------------------- metrics

def test_metrics_equal_their_formulas_on_the_valid_pixels():
    o, t = pair()
    ok = np.isfinite(o + t).all(0)
    d, a, b = (o - t)[:, ok].astype(float), o[:, ok].astype(float), t[:, ok].astype(float)
    assert np.allclose(mse(o, t), (d**2).mean(1), rtol=1e-5)
    assert np.allclose(rmse(o, t) ** 2, mse(o, t))
    assert np.allclose(psnr(o, t), 20 * np.log10(b.max(1) / np.sqrt((d**2).mean(1))), rtol=1e-5)
    assert np.allclose(psnr(o, t, peak=1.0), -10 * np.log10((d**2).mean(1)), rtol=1e-5)
    angle = np.degrees(np.arccos((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0)))
    assert np.allclose(sam(o, t)[ok], angle, rtol=1e-4) and np.isnan(sam(o, t)[~ok]).all()
    assert np.isclose(ergas(o, t, 3), 100 / 3 * np.sqrt(((d**2).mean(1) / b.mean(1) ** 2).mean()), rtol=1e-5)


@pytest.mark.parametrize("seed", [False, True])
def test_ssim_is_that_of_scikit_image_where_all_is_valid(seed):
    o, t = (c.astype(float) for c in pair(nodata=False))
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False) if seed else {}
    expected = [structural_similarity(y, x, data_range=y.max(), **options) for x, y in zip(o, t)]
    assert np.allclose(ssim(o, t, seed=seed), expected)


def test_ssim_counts_only_windows_without_nodata():
    o, t = (c.astype(float) for c in pair(nodata=False))
    cut = ssim(o[:, 8:], t[:, 8:], peak=1.0)
    o[:, :8] = np.nan
    assert np.allclose(ssim(o, t, peak=1.0), cut)


def test_scc_is_the_correlation_of_the_laplacians_pixel_by_pixel():
    o, t = (c.astype(float) for c in pair(3))
    ok, found = np.isfinite(o + t).all(0), scc(o, t)
    for a, b, value in zip(o, t, found):
        high = []
        for y in range(1, ok.shape[0] - 1):
            for x in range(1, ok.shape[1] - 1):
                near = slice(y - 1, y + 2), slice(x - 1, x + 2)
                if ok[near].all():
                    high.append([9 * c[y, x] - c[near].sum() for c in (a, b)])
        assert np.isclose(value, np.corrcoef(np.transpose(high))[0, 1])
    flat = np.full((1, 9, 9), 0.2)
    assert np.isnan(scc(flat, flat)[0]) and np.isnan(scc(o[:, :2], t[:, :2])).all()


def naive_product(a, b):
    """Cayley and Dickson's product of two hypercomplex numbers, straight from its definition."""
    if len(a) == 1:
        return a * b
    h = len(a) // 2
    star = lambda v: np.r_[v[:1], -v[1:]]
    (a, b), (c, d) = (a[:h], a[h:]), (b[:h], b[h:])
    return np.r_[naive_product(a, c) - naive_product(star(d), b), naive_product(d, a) + naive_product(b, star(c))]


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 7, 8])
def test_q2n_is_the_hypercomplex_index_computed_number_by_number(bands):
    o, t = (c.astype(float) for c in pair(bands, 8, 8, nodata=False))
    mean, scale = t.mean((1, 2), keepdims=True), t.std((1, 2), keepdims=True)
    size = 1 << (bands - 1).bit_length()
    z1, z2 = (np.pad(((c - mean) / scale + 1).reshape(bands, -1), ((0, size - bands), (0, 0))) for c in (t, o))
    star = lambda v: np.r_[v[:1], -v[1:]]
    cov = np.mean([naive_product(a, star(b)) for a, b in zip(z1.T, z2.T)], 0) - naive_product(z1.mean(1), star(z2.mean(1)))
    m1, m2 = (np.linalg.norm(z.mean(1)) for z in (z1, z2))
    expected = 4 * np.linalg.norm(cov) * m1 * m2 / ((z1.var(1).sum() + z2.var(1).sum()) * (m1**2 + m2**2))
    assert np.isclose(q2n(o, t, block=8), expected)


def test_q2n_of_one_band_is_the_scalar_index_of_the_normalised_block():
    o, t = (c.astype(float) for c in pair(1, 32, 32, nodata=False))
    normal = [(c - t.mean()) / t.std() + 1 for c in (o, t)]
    assert np.isclose(q2n(o, t), abs(uiqi(*normal)[0]))
    assert np.isclose(uiqi(o, t)[0], 4 * np.cov(o.ravel(), t.ravel(), bias=True)[0, 1] * o.mean() * t.mean()
                      / ((o.var() + t.var()) * (o.mean() ** 2 + t.mean() ** 2)))


def test_q2n_invariances_and_order():
    o, t = (c.astype(float) for c in pair(9))
    gain, offset = np.linspace(0.5, 3, 9)[:, None, None], np.linspace(0, 1, 9)[:, None, None]
    assert np.isclose(q2n(gain * o + offset, gain * t + offset), q2n(o, t))         # units of a band do not matter
    assert np.isclose(q2n(t, t), 1) and q2n(o, t) < 1
    assert q2n(t + 3 * (o - t), t) < q2n(o, t)                                          # more error is worse
    assert 0 < q2n(o[::-1], t) < 0.8                                                     # bands in the wrong order are seen


def test_constant_and_zero_mean_bands_do_not_break_the_rest():
    o, t = pair(5, nodata=False)
    t[1] = 0.0                                    # zero: no peak, no relative error, no structure
    t[2] = o[2] = 0.3                             # constant and equal
    t[3] -= t[3].mean(dtype="f8")                 # zero mean
    assert np.isnan(psnr(o, t)[1]) and np.isinf(psnr(o, t)[2])
    assert np.isfinite(ergas(o, t)) and np.isfinite(uiqi(o, t)).all() and np.isfinite(q2n(o, t))
    assert uiqi(o, t)[2] == 1 and np.isnan(ssim(o, t)[1])
    scores, bands = measure(o, t, border=0)
    assert np.isnan(bands.r2[2]) and np.isinf(scores.psnr) and np.isfinite(scores.ergas)


def test_one_pixel():
    o, t = np.full((4, 1, 1), 0.21, "f4"), np.full((4, 1, 1), 0.2, "f4")
    scores, bands = measure(o, t)
    assert scores.pixels == 1 and np.isclose(scores.rmse, 0.01, rtol=1e-4) and np.isnan(scores.ssim) and scores.sam < 1e-3
    assert bands.r2.isna().all() and 0 < scores.q2n <= 1


def test_empty_band_is_left_out_and_nothing_valid_is_an_error():
    o, t = pair()
    t[4] = np.nan
    assert np.isnan(mse(o, t)[4]) and np.isfinite(np.delete(mse(o, t), 4)).all()
    assert compare(o, t).bands == 11
    nothing = np.full_like(t, np.nan)
    for f in (mse, rmse, psnr, sam, ergas, ssim, uiqi, q2n, scc, seed_scores, compare):
        with pytest.raises(NoValidPixels, match="nodata"):
            f(nothing, t)
    with pytest.raises(GridError, match="shape"):
        mse(o[:, 1:], t)


def test_seed_scores_are_those_of_a_value_range_of_ten_thousand():
    o, t = (c.astype(float) for c in pair(nodata=False))
    s = seed_scores(o, t)
    assert np.isclose(s["mse"], np.mean((1e4 * (o - t)) ** 2)) and np.isclose(s["psnr"], 10 * np.log10(1e8 / s["mse"]))
    assert s["ssim"] > np.mean(ssim(o, t)) and s["psnr"] > np.mean(psnr(o, t)) and np.isclose(s["sam"], sam(o, t).mean())


# ---------------------------------------------------------------- tiles, grids, bands

def test_tiles_give_what_the_whole_gives(monkeypatch):
    o, t = (cube(c) for c in pair(ny=101, nx=75))
    whole, bands = measure(o, t, border=0, ssim_step=1)
    monkeypatch.setattr(evaluation, "_TILE", 32)
    tiled, tiled_bands = measure(o, t, border=0, ssim_step=1, threads=3)
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


def test_progress_is_told():
    seen = []
    o, t = pair()
    measure(o, t, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]


# ---------------------------------------------------------------- files

@pytest.mark.parametrize("tags", ["wavelength", "micrometres", "imagery"])
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_read_cube_finds_wavelengths_nodata_and_units(tmp_path, tags, dtype):
    o, _ = pair()
    path = write(tmp_path / "a.tif", o, WAVELENGTH, from_origin(366000, 5806000, 10, 10), dtype, tags)
    c = read_cube(path)
    assert c.dtype == "float32" and c.dims == ("band", "y", "x") and c.chunks is not None
    assert np.allclose(c.wavelength, WAVELENGTH) and np.allclose(c.values, o, atol=6e-5, equal_nan=True)
    assert ("fwhm" in c.coords) == (tags != "micrometres") and float(c.x[0]) == 366005


def test_read_cube_tells_floats_times_ten_thousand(tmp_path):
    o, _ = pair()
    path = write(tmp_path / "a.tif", 1e4 * o, WAVELENGTH, from_origin(366000, 5806000, 10, 10), "float32")
    assert np.allclose(read_cube(path).values, o, atol=1e-5, equal_nan=True)


def test_read_cube_reads_an_envi_header(tmp_path):
    o, _ = pair(4)
    w = [418.2412, 530.5, 1200.75, 2445.125]
    path = write(tmp_path / "a.bsq", o, [], from_origin(366000, 5806000, 10, 10), driver="ENVI")
    header = next(tmp_path.glob("*.hdr"))
    header.write_text(header.read_text() + f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, w))}}}\nfwhm = {{6.5, 7, 8, 10}}\n")
    assert np.allclose(read_cube(path).wavelength, w, atol=1e-9) and list(read_cube(path).fwhm.values) == [6.5, 7, 8, 10]


def test_read_cube_says_what_is_wrong(tmp_path):
    o, _ = pair(3)
    with pytest.raises(BandError, match="plain.tif.*wavelength"):
        read_cube(write(tmp_path / "plain.tif", o, [], from_origin(366000, 5806000, 10, 10)))
    with pytest.raises(ProductError, match="absent.tif"):
        read_cube(tmp_path / "absent.tif")
    (tmp_path / "text.tif").write_text("not a TIFF")
    with pytest.raises(ProductError, match="text.tif"):
        read_cube(tmp_path / "text.tif")


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


# ---------------------------------------------------------------- agreement, tables

def test_agreement_is_perfect_with_the_right_geometry_only():
    truth, seen, geometry = made_up_observation()
    assert agreement(truth, seen, geometry).rmse.max() < 1e-6
    assert agreement(truth, seen).rmse.min() > 1e-4
    shifted = agreement(truth + 0.01, seen, geometry)
    assert np.allclose(shifted.rmse, 0.01, atol=1e-5) and np.allclose(shifted.bias, 0.01, atol=1e-5)


def test_agreement_with_nodata_subsets_and_nothing():
    truth, seen, geometry = made_up_observation()
    holes = truth.copy(data=np.where(np.arange(60)[:, None] < 20, np.nan, truth.values))
    full, part = agreement(truth, seen, geometry), agreement(holes.isel(band=slice(3, 9)), seen, geometry)
    assert part.rmse.max() < 1e-6 and list(part.index) == [4, 5, 6, 7, 8, 9] and (part.pixels < full.pixels[3:9]).all()
    with pytest.raises(NoValidPixels):
        agreement(truth * np.nan, seen, geometry)
    with pytest.raises(BandError):
        agreement(truth.assign_coords(wavelength=truth.wavelength + 3), seen, geometry)
    with pytest.raises(GridError, match="overlap"):
        agreement(cube(truth.values, WAVELENGTH, x0=9e5), seen, geometry)


def test_geometry_comes_from_the_item_beside_the_output(tmp_path, caplog):
    assert evaluation._geometry(tmp_path / "a.tif") == {} and "nominal" in caplog.text
    (tmp_path / "a.json").write_text(json.dumps({"properties": {"enmap_sharpener:alignment": {"VNIR": {"shift": [0, 0]}}}}))
    assert evaluation._geometry(tmp_path / "a.tif") == {"VNIR": {"shift": [0, 0]}}


def test_evaluate_file(tmp_path):
    o, t = pair()
    transform = from_origin(366000, 5806000, 10, 10)
    paths = [write(tmp_path / name, c, WAVELENGTH, transform) for name, c in (("o.tif", o), ("t.tif", t))]
    found = evaluate_file(*paths)
    assert set(found) == {"scores", "bands"} and np.isclose(found["scores"].psnr, np.nanmean(psnr(*(read_cube(p)[:, 3:-3, 3:-3] for p in paths))))


def test_table_marks_the_best():
    scores = {"a": {"psnr": 30.0, "ssim": 0.9, "sam_land": 2.0, "ergas": 3.0}, "longer name": {"psnr": 31.0, "ssim": np.nan, "sam_land": 1.0, "ergas": 3.0}}
    table = comparison_table(scores)
    assert list(table.index) == ["a", "longer name"] and all(u in " ".join(table) for u in ("dB", "°"))
    text, plain = table_text(table), table_text(table, markdown=False)
    assert text.count("**") // 2 == 5 and "**31.00**" in text and "**0.9000**" in text and "–" in text
    assert plain.count("*") == 5 and len({len(line) for line in text.splitlines()}) == 1


def test_private_sums_do_not_depend_on_dtype():
    o, t = pair()
    assert np.isclose(compare(o, t).psnr, compare(o.astype(float), t.astype(float)).psnr, rtol=1e-6)
    assert metrics._signs(8).shape == (8, 8) and set(np.unique(metrics._signs(8))) == {-1, 1}
