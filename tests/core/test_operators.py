"""Properties of the operators between grids: any origin, ratio, shape and shift."""
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS

from enmap_sharpener.core.errors import GridError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import (
    Observation,
    Stencil,
    gaussian_stencil,
    kriging_stencil,
    linear_stencil,
    smoothing_stencil,
    window_stencil,
)

UTM = CRS.from_epsg(32633)
RATIOS = (3.0, 10 / 3, 2.5, 2.0, 1.0)
quick = settings(max_examples=40, deadline=None)
dtypes = st.sampled_from([np.float32, np.float64])


@st.composite
def axes_pairs(draw, most=12):
    """A coarse axis of 1…`most` pixels and a fine one that covers it, with any origin."""
    n, ratio = draw(st.integers(1, most)), draw(st.sampled_from(RATIOS))
    start = draw(st.floats(-1e4, 1e4))
    before, after = draw(st.floats(0, 3)), draw(st.floats(0, 3))
    return Axis(start, 30.0, n), Axis(start - before * 30, 30 / ratio, int(np.ceil((n + before + after) * ratio)))


@st.composite
def operators(draw, most=12):
    """An observation between two grids, its sigma and shift."""
    (cy, fy), (cx, fx) = draw(axes_pairs(most)), draw(axes_pairs(most))
    sigma = draw(st.floats(0.25, 0.7)), draw(st.floats(0.25, 0.7))
    shift = draw(st.floats(-0.4, 0.4)), draw(st.floats(-0.4, 0.4))
    return Observation.between(Grid(UTM, cy, cx), Grid(UTM, fy, fx), sigma, shift)


def images(operator, seed, dtype=np.float64, bands=3):
    """A fine and a coarse random image."""
    rng = np.random.default_rng(seed)
    shapes = [(bands, operator.rows.n_in, operator.cols.n_in), (bands, operator.rows.start.size, operator.cols.start.size)]
    return [rng.standard_normal(s).astype(dtype) for s in shapes]


def dense(operator, x):
    """A_y X A_x^T with plain matrices."""
    return np.einsum("iy,...yx,jx->...ij", operator.rows.matrix.toarray(), x, operator.cols.matrix.toarray())


# --------------------------------------------------------------------------- degrade and adjoint
@quick
@given(operators(), st.integers(0, 99))
def test_rows_sum_to_one_and_weights_are_not_negative(operator, seed):
    for stencil in (operator.rows, operator.cols):
        np.testing.assert_allclose(stencil.weights.sum(1), 1, rtol=1e-12)
        assert (stencil.weights >= 0).all()
        assert (stencil.start >= 0).all() and (stencil.start + stencil.weights.shape[1] <= stencil.n_in).all()
    level = operator.degrade(np.full((operator.rows.n_in, operator.cols.n_in), 0.37))
    np.testing.assert_allclose(level, 0.37, rtol=1e-12)


@quick
@given(operators(), st.integers(0, 99))
def test_adjoint_by_inner_products(operator, seed):
    x, y = images(operator, seed)
    np.testing.assert_allclose((operator.degrade(x) * y).sum(), (x * operator.adjoint(y)).sum(), rtol=1e-10, atol=1e-10)


@quick
@given(operators(), st.integers(0, 99), dtypes)
def test_degrade_equals_the_matrices(operator, seed, dtype):
    x, y = images(operator, seed, dtype)
    near = {"rtol": 0, "atol": 1e-5 if dtype is np.float32 else 1e-12}
    seen = operator.degrade(x)
    assert seen.dtype == dtype
    np.testing.assert_allclose(seen, dense(operator, x.astype(float)), **near)
    np.testing.assert_allclose(operator.degrade(np.moveaxis(x, 0, -1), axes=(0, 1)), np.moveaxis(seen, 0, -1), **near)
    np.testing.assert_allclose(operator.adjoint(y), np.einsum("iy,bij,jx->byx", operator.rows.matrix.toarray(), y, operator.cols.matrix.toarray()), **near)


@quick
@given(axes_pairs(), st.integers(0, 99), dtypes, st.sampled_from([(0, ()), (1, (3,)), (0, (4,)), (1, (2, 5)), (0, (1,)), (1, (2, 1)), (2, (2, 3))]))
def test_kernels_equal_the_sparse_matrix_along_any_axis(pair, seed, dtype, layout):
    axis, others = layout
    coarse, fine = pair
    rng = np.random.default_rng(seed)
    stencils = [gaussian_stencil(coarse, fine, 0.4), linear_stencil(coarse, fine), kriging_stencil(gaussian_stencil(coarse, fine, 0.4)),
                window_stencil(fine.n, 1.5)]
    for stencil in stencils:
        shape = list(others)
        shape.insert(axis, stencil.n_in)
        x = rng.standard_normal(shape).astype(dtype)
        want = np.moveaxis(np.tensordot(stencil.matrix.toarray(), x.astype(float), (1, axis)), 0, axis)
        for given_x in (x, np.asfortranarray(x), np.repeat(x, 2, axis)[tuple(slice(None, None, 2 if a == axis else 1) for a in range(x.ndim))]):
            got = stencil(given_x, axis)
            assert got.dtype == dtype and got.shape == want.shape
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 if dtype is np.float32 else 1e-11)


@quick
@given(axes_pairs())
def test_transpose_of_a_stencil_is_the_transposed_matrix(pair):
    for stencil in (gaussian_stencil(*pair, 0.4), linear_stencil(*pair), window_stencil(pair[1].n, 1.2)):
        np.testing.assert_array_equal(stencil.transpose.matrix.toarray(), stencil.matrix.toarray().T)


def test_transpose_with_inputs_that_nobody_sees():
    far = Axis(0.0, 10.0, 40)
    stencil = gaussian_stencil(Axis(150.0, 30.0, 2), far, 0.3)
    assert (stencil.matrix.toarray().sum(0) == 0).any()
    np.testing.assert_array_equal(stencil.transpose.matrix.toarray(), stencil.matrix.toarray().T)


@pytest.mark.parametrize("upwards", [False, True])
def test_nan_reaches_what_depends_on_it_and_no_more(upwards):
    coarse, fine = Axis(0.0, 30.0, 9), Axis(-15.0, 10.0, 31)
    stencil = kriging_stencil(gaussian_stencil(coarse, fine, 0.4), reach=2) if upwards else gaussian_stencil(coarse, fine, 0.4)
    touched = (stencil.start <= 4) & (stencil.start + stencil.weights.shape[1] > 4)
    for shape, axis in (((stencil.n_in,), 0), ((stencil.n_in, 6), 0), ((3, stencil.n_in), 1)):
        x = np.ones(shape, np.float32)
        x[(slice(None),) * axis + (4,)] = np.nan
        lost = np.isnan(stencil(x, axis)).all(tuple(a for a in range(len(shape)) if a != axis))
        depends = np.abs(stencil.matrix.toarray()[:, 4]) > 0
        assert lost[depends].all() and not lost[~touched].any()


# --------------------------------------------------------------------------- windows
@quick
@given(operators(), st.data())
def test_part_with_its_inputs_is_a_slice_of_the_whole(operator, data):
    x, y = images(operator, 0)
    for op, source in ((operator, x), (operator.inverse(1e-2), y), (operator.smoother(0.1), y)):
        window = []
        for stencil in (op.rows, op.cols):
            first = data.draw(st.integers(0, stencil.start.size - 1))
            window.append(slice(first, data.draw(st.integers(first + 1, stencil.start.size))))
        need = op.inputs(*window)
        assert all(0 <= n.start < n.stop <= s.n_in for n, s in zip(need, (op.rows, op.cols)))
        got = op.part(*window, *need).degrade(source[:, need[0], need[1]])
        np.testing.assert_allclose(got, op.degrade(source)[:, window[0], window[1]], rtol=1e-9, atol=1e-10)


def test_part_takes_wider_inputs_than_it_needs():
    op = Observation.between(Grid(UTM, Axis(0.0, 30.0, 9), Axis(0.0, 30.0, 8)), Grid(UTM, Axis(-20.0, 10.0, 33), Axis(-25.0, 10.0, 31)))
    x = np.random.default_rng(0).standard_normal((33, 31))
    got = op.part(slice(3, 5), slice(2, 6), slice(0, 33), slice(1, 31)).degrade(x[:, 1:])
    np.testing.assert_allclose(got, op.degrade(x)[3:5, 2:6], atol=1e-12)


# --------------------------------------------------------------------------- shift equivariance
@quick
@given(st.integers(-4, 4), st.integers(-4, 4), st.sampled_from([3.0, 2.5, 10 / 3]), st.floats(0.25, 0.6))
def test_shift_equivariance(dy, dx, ratio, sigma):
    """The ground moved by whole fine pixels is the operator with the opposite shift; both grids moved are the same operator."""
    coarse = Grid(UTM, Axis(0.0, 30.0, 7), Axis(0.0, 30.0, 6))
    fine = Grid(UTM, Axis(-165.0, 30 / ratio, int(18 * ratio)), Axis(-155.0, 30 / ratio, int(17 * ratio)))
    x = np.random.default_rng(1).standard_normal((2, *fine.shape))
    moved = np.roll(x, (dy, dx), (-2, -1))
    shift = dy / ratio, dx / ratio  # rounding may move a pixel across the cut at four sigma, where weights are 3e-4
    np.testing.assert_allclose(Observation.between(coarse, fine, sigma, shift).degrade(moved), Observation.between(coarse, fine, sigma).degrade(x), rtol=0, atol=5e-4)
    along = [Grid(UTM, replace(g.rows, start=g.rows.start + 1234.5), replace(g.cols, start=g.cols.start - 77.7)) for g in (coarse, fine)]
    np.testing.assert_allclose(Observation.between(*along, sigma).degrade(x), Observation.between(coarse, fine, sigma).degrade(x), rtol=0, atol=5e-4)


@quick
@given(axes_pairs(), st.floats(-0.4, 0.4))
def test_shift_is_the_same_as_moving_the_coarse_grid(pair, shift):
    coarse, fine = pair
    moved = replace(coarse, start=coarse.start + shift * coarse.step)
    np.testing.assert_allclose(gaussian_stencil(coarse, fine, 0.4, shift).matrix.toarray(), gaussian_stencil(moved, fine, 0.4).matrix.toarray(), atol=5e-4)
    np.testing.assert_allclose(linear_stencil(coarse, fine, shift).matrix.toarray(), linear_stencil(moved, fine).matrix.toarray(), atol=1e-9)


def test_gaussian_has_the_width_and_place_asked_for():
    coarse, fine = Axis(0.0, 30.0, 5), Axis(-300.0, 1.0, 750)
    w, at = gaussian_stencil(coarse, fine, 0.45, 0.3).matrix.toarray(), fine.centres
    mean = w @ at
    np.testing.assert_allclose(mean, coarse.centres + 9.0, atol=0.02)
    np.testing.assert_allclose(np.sqrt(w @ at**2 - mean**2), 13.5, rtol=2e-3)


# --------------------------------------------------------------------------- consistency
def bound(stencil, nugget, length=2.0):
    """Least share of any coarse image that A K keeps: the smallest eigenvalue of S (S + nugget)^-1."""
    A = stencil.matrix.toarray()
    S = A @ np.exp(-np.abs(np.subtract.outer(np.arange(stencil.n_in), np.arange(stencil.n_in))) / length) @ A.T
    values = np.linalg.eigvalsh(S)
    return values[0] / (values[0] + nugget * np.trace(S) / len(S))


@quick
@given(operators(8), st.integers(0, 99), st.sampled_from([1e-1, 1e-2, 1e-3, 1e-6]))
def test_consistent_agrees_with_the_observation_as_far_as_the_nugget_asks(operator, seed, nugget):
    x, y = images(operator, seed)
    before, after = y - operator.degrade(x), y - operator.degrade(operator.consistent(x, y, nugget))
    most = 1 - bound(operator.rows, nugget) * bound(operator.cols, nugget)
    assert np.linalg.norm(after) <= (most + 1e-4) * np.linalg.norm(before)


@pytest.mark.parametrize(("dtype", "nugget", "tolerance"), [(np.float64, 1e-9, 0.015), (np.float64, 1e-3, 0.03), (np.float32, 1e-3, 0.03)])
@pytest.mark.parametrize(("ratio", "shape"), [(3.0, (31, 22)), (10 / 3, (17, 40)), (2.5, (1, 25)), (3.0, (1, 1))])
def test_consistent_reproduces_an_image_of_the_ground(ratio, shape, dtype, nugget, tolerance):
    """An observed image, unlike white noise, is kept almost whole; so are large scenes, but for what local kriging leaves."""
    coarse = Grid(UTM, Axis(-5.0, 30.0, shape[0]), Axis(7.0, 30.0, shape[1]))
    fine = Grid(UTM, *(Axis(a.start - 20, 30 / ratio, int(np.ceil((a.n * 30 + 40) * ratio / 30))) for a in (coarse.rows, coarse.cols)))
    op = Observation.between(coarse, fine, 0.43, (0.2, -0.1))
    ground = 0.2 + 0.05 * np.random.default_rng(0).standard_normal((2, *fine.shape))
    y = op.degrade(ground).astype(dtype)
    found = op.consistent(np.full(ground.shape, 0.1, dtype), y, nugget)
    assert found.dtype == dtype
    np.testing.assert_allclose(op.degrade(found), y, rtol=0, atol=tolerance * max(y.std(), 0.01) + 0.1 * nugget)


def test_consistent_changes_nothing_that_agrees_or_is_not_asked_for():
    op = Observation.between(Grid(UTM, Axis(0.0, 30.0, 9), Axis(0.0, 30.0, 8)), Grid(UTM, Axis(-20.0, 10.0, 33), Axis(-25.0, 10.0, 31)))
    x = np.random.default_rng(0).random((3, 33, 31))
    np.testing.assert_allclose(op.consistent(x, op.degrade(x)), x, atol=1e-12)
    np.testing.assert_array_equal(op.consistent(x, np.full((3, 9, 8), np.nan)), x)
    y = op.degrade(x)
    y[0, 4, 4] = np.nan
    np.testing.assert_allclose(op.consistent(x, y), x, atol=1e-12)


def test_kriging_keeps_the_least_change():
    """K is the minimum of the prior's norm: any other fine image that is seen alike has a larger one (up to the nugget)."""
    gaussian = gaussian_stencil(Axis(0.0, 30.0, 6), Axis(-30.0, 10.0, 24), 0.43)
    A, K = gaussian.matrix.toarray(), kriging_stencil(gaussian, 1e-10).matrix.toarray()
    C = np.exp(-np.abs(np.subtract.outer(np.arange(24), np.arange(24))) / 2.0)
    rng = np.random.default_rng(0)
    y = rng.standard_normal(6)
    least = K @ y
    free = np.linalg.svd(A)[2][6:]
    for _ in range(10):
        other = least + free.T @ rng.standard_normal(18)
        np.testing.assert_allclose(A @ other, A @ least, atol=1e-9)
        assert other @ np.linalg.solve(C, other) > least @ np.linalg.solve(C, least)


@quick
@given(axes_pairs(8), st.sampled_from([1e-3, 0.1, 1.0]))
def test_smoother_is_the_inverse_seen_again(pair, nugget):
    """Where the neighbourhood holds all pixels, smoothing is A K."""
    gaussian = gaussian_stencil(*pair, 0.43)
    smooth = smoothing_stencil(gaussian, nugget, reach=7).matrix.toarray()
    np.testing.assert_allclose(smooth, (gaussian.matrix @ kriging_stencil(gaussian, nugget).matrix).toarray(), atol=1e-8)
    assert np.abs(np.linalg.eigvals(smooth)).max() < 1


# --------------------------------------------------------------------------- edges of the domain
def test_a_coarse_pixel_outside_the_fine_grid_is_an_error():
    with pytest.raises(GridError, match="crop to the overlap"):
        gaussian_stencil(Axis(0.0, 30.0, 4), Axis(2000.0, 10.0, 12), 0.4)


def test_different_coordinate_systems_are_an_error():
    axes = Axis(0.0, 30.0, 4), Axis(0.0, 30.0, 4)
    with pytest.raises(GridError, match="EPSG:32632"):
        Observation.between(Grid(UTM, *axes), Grid(CRS.from_epsg(32632), *axes))


def test_grid_of_georeferenced_image_round_trip():
    grid = Grid(UTM, Axis(-5_806_125.0, 30.0, 4), Axis(366_015.0, 30.0, 5))
    assert Grid.of(grid.georeference(np.zeros((2, 4, 5)))) == grid
    assert grid.bounds == (366_015.0, 5_806_005.0, 366_165.0, 5_806_125.0)
    part = grid.part(slice(1, 3), slice(2, 5))
    assert Grid.of(grid.georeference(np.zeros((4, 5)))[1:3, 2:5]) == part


def test_linear_interpolation_is_exact_on_ramps_and_constant_beyond():
    coarse, fine = Axis(0.0, 30.0, 6), Axis(-40.0, 10.0, 26)
    got = linear_stencil(coarse, fine)(coarse.centres, 0)
    np.testing.assert_allclose(got, np.clip(fine.centres, 15, 165), atol=1e-9)
    one = linear_stencil(Axis(0.0, 30.0, 1), fine)(np.array([0.3]), 0)
    np.testing.assert_allclose(one, 0.3)


def test_window_stencil_is_a_cut_gaussian():
    got = window_stencil(31, 2.0)(np.eye(31)[15], 0)
    d = np.arange(31) - 15
    np.testing.assert_allclose(got, np.where(abs(d) <= 8, np.exp(-0.5 * (d / 2) ** 2), 0), atol=1e-12)


def test_stencil_is_hand_made_correctly():
    stencil = Stencil(np.array([0, 2]), np.array([[1.0, 2.0], [3.0, 4.0]]), 4)
    np.testing.assert_array_equal(stencil.matrix.toarray(), [[1, 2, 0, 0], [0, 0, 3, 4]])
    np.testing.assert_array_equal(stencil(np.array([1.0, 1, 1, 2]), 0), [3, 11])


@pytest.mark.parametrize("stencil", [kriging_stencil, smoothing_stencil])
def test_kriging_of_a_long_axis_does_not_hold_all_pairs_of_pixels(stencil):
    coarse, fine = Axis(0.0, 3.0, 6000), Axis(0.0, 1.0, 18_000)
    seen = gaussian_stencil(coarse, fine, 0.45, 0.1)
    tracemalloc.start()
    try:
        found = stencil(seen, 1e-3, 4.0)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2e8       # all pairs of fine and coarse ones alone are 0.9 GB
    part = stencil(gaussian_stencil(Axis(0.0, 3.0, 60), Axis(0.0, 1.0, 180), 0.45, 0.1), 1e-3, 4.0)
    n = 20 * (3 if stencil is kriging_stencil else 1)
    np.testing.assert_allclose(found.weights[:n], part.weights[:n], rtol=1e-3, atol=1e-5)
