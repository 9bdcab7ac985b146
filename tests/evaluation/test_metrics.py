"""Metrics against independent formulas and scikit-image."""

import numpy as np
import pytest
from cubes import pair
from skimage.metrics import structural_similarity

from enmap_sharpener.core.errors import GridError, NoValidPixels
from enmap_sharpener.evaluation import metrics
from enmap_sharpener.evaluation.metrics import ergas, mse, psnr, q2n, rmse, sam, scc, seed_scores, ssim, uiqi
from enmap_sharpener.evaluation.scores import compare, score


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
    scores, bands = score(o, t, border=0)
    assert np.isnan(bands.r2[2]) and np.isinf(scores.psnr) and np.isfinite(scores.ergas)


def test_one_pixel():
    o, t = np.full((4, 1, 1), 0.21, "f4"), np.full((4, 1, 1), 0.2, "f4")
    scores, bands = score(o, t)
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


def test_private_sums_do_not_depend_on_dtype():
    o, t = pair()
    assert np.isclose(compare(o, t).psnr, compare(o.astype(float), t.astype(float)).psnr, rtol=1e-6)
    assert metrics._signs(8).shape == (8, 8) and set(np.unique(metrics._signs(8))) == {-1, 1}
