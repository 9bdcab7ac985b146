"The error estimate: that it holds on scenes with a truth, depends on nothing that it should not, and says something wherever there is a value."
from dataclasses import replace

import numpy as np
import pytest
from products import of_larger_pixels

from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.core.raster import NODATA, SCALE
from enmap_sharpener.fusion.error_widths import relative_error
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.scale_down import one_scale_down
from enmap_sharpener.fusion.subspace import fit_subspace
from enmap_sharpener.fusion.uncertainty import estimate_errors, evidence_windows, relative_logarithm
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


def whole(plan):
    "Cube, NaN where there is none, and quality."
    cube, quality = np.full((len(plan.bands), *plan.grid.shape), np.nan, np.float32), np.zeros((len(plan.quality_bands), *plan.grid.shape), np.uint8)
    for b in plan.blocks():
        cube[:, b.rows, b.cols] = np.where(b.cube == NODATA, np.nan, b.cube * SCALE)
        quality[:, b.rows, b.cols] = b.quality
    return cube, quality


def coverage(plan, truth, likely=False):
    "Shares of true values inside the intervals of both levels, in %: shape (level, band, pixel) of yes and no, of the good bands and inner pixels."
    cube, quality = whole(plan)
    good = plan.bands.good
    rows, cols = (np.round(a.index(b.centres)).astype(int) for a, b in zip((Grid.of(truth).rows, Grid.of(truth).cols), (plan.grid.rows, plan.grid.cols), strict=True))
    error = np.abs(cube[good] - truth.values[good][:, rows][:, :, cols])[:, 3:-3, 3:-3]
    half = [plan.errors.half_width(relative_error(quality[2]), quality[1] / 100, level, likely)[:, 3:-3, 3:-3] for level in (68, 95)]
    held = np.isfinite(error)
    assert np.isfinite(half[0][held]).all()
    return [(error <= h)[held].mean() for h in half], error, half


@pytest.mark.parametrize("seed, options", [(11, {}), (12, {"change": 1.0, "shift": (0.3, -0.2)}), (13, {"noise": 2.0, "rotation": 0.0})])
def test_holds_on_simulated_ground_of_seeds_that_were_not_fitted(seed, options):
    scene, guide, truth = simulate_pair(size=36, seed=seed, **options)
    plan = sharpen(scene, guide)
    (low, high), error, half = coverage(plan, truth)
    assert low > 0.63 and high > 0.92
    vnir = plan.bands.vnir[plan.bands.good]
    for part in (vnir, ~vnir):
        held = np.isfinite(error[part])
        assert (error[part] <= half[0][part])[held].mean() > 0.60 and (error[part] <= half[1][part])[held].mean() > 0.90
    assert np.nanmedian(half[0]) < 6 * np.nanmedian(error)      # and it says something


@pytest.mark.parametrize("order", [1, 3])
def test_a_guide_that_was_interpolated_makes_less_sure(order, caplog):
    "One scale down nothing is seen of what it lacks: without more, 30 to 37 % of the truth lay inside intervals of 68 %."
    scene, guide, truth = simulate_pair(size=60, seed=1)
    plan = sharpen(scene, replace(guide, bands10=of_larger_pixels(guide.bands10, 2, order)))
    (low, high), error, half = coverage(plan, truth)
    assert low > 0.63 and high > 0.88 and np.nanmedian(half[0]) < 6 * np.nanmedian(error)
    assert caplog.text.count("as its B02 B03 B04 B08 were interpolated, errors are estimated 5 times as large") == 1


@pytest.mark.parametrize("size", [15, 21])
def test_windows_of_odd_sizes_are_looked_at_with_all_bands_and_nothing_is_said_of_them(size, caplog):
    "Their 20 m pixels one scale down did not reach the end: what they lacked was told as if the user's image lacked it."
    model = fit_subspace(Pair(*simulate_pair(size=size, seed=1)[:2]))
    below = one_scale_down(model, (slice(0, size), slice(0, size)))
    assert below.error.shape[2] == len(model.pair.bands) and "one scale down" not in caplog.text


@pytest.fixture(scope="module")
def fitted():
    "A fitted scene with its errors."
    return estimate_errors(fit_subspace(Pair(*simulate_pair(size=30, seed=3)[:2])))


def test_changes_no_spectrum():
    scene, guide, _ = simulate_pair(size=24, seed=5)
    with_it, without = sharpen(scene, guide), sharpen(scene, guide, uncertainty=False)
    (cube, quality), (other, fewer) = whole(with_it), whole(without)
    np.testing.assert_array_equal(cube, other)
    np.testing.assert_array_equal(quality[:2], fewer)
    assert without.errors is None and len(fewer) == 2 and len(quality) == 3


def test_relative_error_does_not_depend_on_blocks(fitted):
    model, _ = fitted
    bands, shape = len(model.pair.bands), model.pair.fine.shape

    def told(rows, cols):
        return relative_logarithm(model.block(rows, cols, np.arange(bands), np.empty((bands, rows.stop - rows.start, cols.stop - cols.start), np.int16)))

    every = told(slice(0, shape[0]), slice(0, shape[1]))
    for window in ((slice(0, 17), slice(0, 23)), (slice(20, 41), slice(31, shape[1])), (slice(shape[0] - 5, shape[0]), slice(40, 41))):
        np.testing.assert_allclose(told(*window), every[window], atol=1e-4)
    assert abs(np.median(every)) < 0.7 and every.std() > 0.1


def test_same_scene_same_errors():
    pair = simulate_pair(size=24, seed=5)[:2]
    one, two = (estimate_errors(fit_subspace(Pair(*pair)), threads)[1] for threads in (1, 2))
    np.testing.assert_array_equal(one.half68, two.half68)


def test_twice_the_reflectance_is_twice_the_error():
    "The scale has the unit of reflectance: its exponents add up to one. Noise is scaled with it; only what is stored in steps of 1e-4 is not."
    scene, guide, _ = simulate_pair(size=30, seed=4)
    double = lambda image: image.copy(data=np.asarray(2 * image.values, np.float32))
    other = replace(scene, cube=double(scene.cube)), replace(guide, bands10=double(guide.bands10), bands20=double(guide.bands20))
    one, two = (estimate_errors(fit_subspace(Pair(*p)))[1] for p in ((scene, guide), other))
    assert 1.8 < np.median(two.half68 / one.half68) < 2.2


@pytest.mark.parametrize("size", [10, 11, 13])
def test_scenes_too_small_to_be_looked_at_one_scale_down_have_errors_too(size):
    scene, guide, _ = simulate_pair(size=size, seed=1, rotation=0.0)
    model = fit_subspace(Pair(scene, guide))
    assert (one_scale_down(model, model.measured.samples[0]) is None) == (size < 12)
    errors = estimate_errors(model)[1]
    assert (errors.half68 > 1e-4).all() and (errors.half68 < 0.2).all() and np.isfinite(errors.detail95).all()


@pytest.mark.parametrize("change", ["constant", "noise", "turned"])
def test_where_the_guide_shows_nothing_the_missing_detail_is_told(change):
    "What is interpolated lacks detail, and the intervals say so."
    scene, guide, truth = simulate_pair(size=36, seed=2, rotation=0.0)
    rng = np.random.default_rng(0)
    make = {"constant": lambda v: np.full_like(v, 0.15), "noise": lambda v: rng.uniform(0.05, 0.3, v.shape).astype(np.float32), "turned": lambda v: v[:, ::-1, ::-1]}[change]
    guide = replace(guide, bands10=guide.bands10.copy(data=make(guide.bands10.values)), bands20=guide.bands20.copy(data=make(guide.bands20.values)))
    (low, high), _, _ = coverage(sharpen(scene, guide), truth)
    assert low > 0.60 and high > 0.90


def test_a_guide_without_20_m_bands():
    scene, guide, truth = simulate_pair(size=36, seed=6)
    (low, high), _, _ = coverage(sharpen(scene, replace(guide, bands20=None)), truth)
    assert low > 0.63 and high > 0.92


def test_few_bands_have_the_errors_that_they_have_among_all():
    scene, guide, _ = simulate_pair(size=24, seed=5)
    every, few = sharpen(scene, guide), sharpen(scene, guide, bands="20,150,131")
    assert few.errors.number.tolist() == [20, 150]
    np.testing.assert_array_equal(few.errors.half95, every.errors.half95[np.isin(every.errors.number, [20, 150])])


@pytest.mark.parametrize("ratio", [2, 2.5, 4])
def test_any_ratio_of_the_grids(ratio):
    "EnMAP with pixels of another size, made of the truth."
    scene, guide, truth = simulate_pair(size=48, seed=8, rotation=0.0)
    fine = Grid.of(truth)
    coarse = Grid(fine.crs, *(Axis(a.start + 20, 10.0 * ratio, int((a.n - 4) / ratio)) for a in (fine.rows, fine.cols)))
    good = scene.bands.good
    see, rng = Observation.between(coarse, fine, 0.42), np.random.default_rng(0)
    cube = see.degrade(np.nan_to_num(truth.values[good]).astype(np.float32)) + 0.001 * rng.standard_normal((good.sum(), *coarse.shape))
    scene = replace(scene, cube=coarse.georeference(cube.astype(np.float32)).chunk(), bands=scene.bands.take(np.flatnonzero(good)), quality={})
    (low, high), _, _ = coverage(sharpen(scene, guide), truth.isel(band=np.flatnonzero(good)))
    assert low > 0.63 and high > 0.92


def test_evidence_of_a_large_scene_comes_from_a_fixed_number_of_windows():
    few, many = [(slice(0, 30), slice(0, 40))], [(slice(i, i + 48), slice(0, 48)) for i in range(0, 288, 48)]
    assert evidence_windows(few) == few and len(evidence_windows(many)) == 3 and evidence_windows(many)[0] == many[0]


def test_ground_without_any_detail_has_a_guide_and_an_error_one_scale_down():
    "Where EnMAP and the guide are the same everywhere the guide's gain is that of the whole: nothing over nothing is no gain."
    scene, guide, _ = simulate_pair(size=30, seed=3)
    spectrum = np.nan_to_num(scene.cube.values[:, 10:20, 10:20].mean((1, 2)))
    even = lambda image, values: image.copy(data=np.float32(values)[:, None, None] + np.zeros(image.shape, np.float32))
    near = lambda nm: [spectrum[np.abs(scene.bands.wavelength - w).argmin()] for w in nm]
    scene = replace(scene, cube=even(scene.cube, spectrum), quality={})
    guide = replace(guide, bands10=even(guide.bands10, near((492, 560, 665, 833))), bands20=even(guide.bands20, near((704, 740, 783, 865, 1610, 2190))), scl=None)
    with np.errstate(invalid="raise", divide="raise"):
        model = fit_subspace(Pair(scene, guide))
        below = one_scale_down(model, model.measured.samples[0])
    assert np.isfinite(below.error).all() and np.abs(below.error).max() < 0.01
    plan = sharpen(scene, guide)
    cube, quality = whole(plan)
    held = np.isfinite(cube).all(0) if plan.bands.good.all() else np.isfinite(cube[plan.bands.good]).all(0)
    assert held.any() and (quality[2][held] > 0).all() and np.isfinite(plan.errors.half68).all()
