"Guided kriging: each weight is that of a dense solution, windows are parts of the whole, and odd images are no trouble."
import warnings

import numpy as np
import pytest

from enmap_sharpener.core.grid import Axis, Grid, inside
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.fusion import guided_kriging
from enmap_sharpener.fusion.guided_kriging import REACH, GuidedKriging, Likeness


def grids(shape, ratio, origin=0.0):
    "A coarse grid of some shape, and a fine one that covers it."
    fine = (Axis(-origin, 10.0, int(np.ceil(n * ratio + origin / 10))) for n in shape)
    return Grid(None, *(Axis(0.0, 10.0 * ratio, n) for n in shape)), Grid(None, *fine)


def kriging(shape, ratio=3, shift=(0.0, 0.0), nugget=0.02, channels=4, origin=0.0, size=12):
    "A kriging with a guide of patches, and residuals of three channels."
    coarse, fine = grids(shape, ratio, origin)
    rng = np.random.default_rng(1)
    patches = rng.uniform(0.05, 0.4, (-(-fine.ny // 7), -(-fine.nx // 7), channels))
    guide = np.kron(patches, np.ones((7, 7, 1)))[: fine.ny, : fine.nx].astype(np.float32)
    see = Observation.between(coarse, fine, 0.45, shift)
    likeness = Likeness.fit([guide], components=min(3, channels), floor=1e-3, size=size)
    return GuidedKriging.between(likeness, see, coarse, fine, nugget, shift), guide, rng.normal(size=(*shape, 3)).astype(np.float32)


def dense(k, guide):
    "Covariance of all coarse pixels with one another, by plain products."
    low = k.see.degrade(k.likeness(guide), axes=(0, 1)).reshape(-1, k.likeness.inverse.shape[0]).astype(float)
    own = [guided_kriging._sampled_covariance(s) for s in (k.see.rows, k.see.cols)]
    return np.kron(*own) * (low @ k.likeness.inverse @ low.T)


@pytest.mark.parametrize("shape", [(9, 14), (1, 4), (3, 2), (5, 140), (1, 1)])
def test_weights_are_those_of_a_dense_solution(shape):
    k, guide, left = kriging(shape)
    valid = np.ones(shape, bool)
    valid.flat[shape[1] // 2] = shape == (1, 1)
    low = k.see.degrade(k.likeness(guide), axes=(0, 1))
    found = k._untangled(low, np.ascontiguousarray(low @ k.likeness.inverse), left, valid)
    S, flat = dense(k, guide), left.reshape(-1, 3)
    S[np.diag_indices(len(S))] += np.where(valid.ravel(), k.noise, guided_kriging.UNKNOWN * k.noise)
    for y, x in np.ndindex(shape):
        near = [i * shape[1] + j for i in range(max(0, y - REACH), min(shape[0], y + REACH + 1)) for j in range(max(0, x - REACH), min(shape[1], x + REACH + 1))]
        wanted = np.linalg.solve(S[np.ix_(near, near)], flat[near])[near.index(y * shape[1] + x)]
        assert np.allclose(found[y, x], wanted, atol=2e-3 * np.abs(wanted).max() + 1e-3), (y, x)


@pytest.mark.parametrize(("ratio", "shift", "origin"), [(3, (0.0, 0.0), 0.0), (2, (0.3, -0.2), 0.0), (2.5, (0.0, 0.0), 4.0), (3, (1.7, -2.0), 0.0), (10, (0.1, 0.1), 3.0)])
def test_a_window_is_a_part_of_the_whole(ratio, shift, origin):
    k, guide, left = kriging((17, 23), ratio, shift, origin=origin)
    whole = k(left, guide)
    assert np.isfinite(whole).all() and whole.shape == (*guide.shape[:2], 3)
    for window in ((slice(0, 7), slice(0, 9)), (slice(11, 30), slice(20, 21)), (slice(guide.shape[0] - 8, guide.shape[0]), slice(5, guide.shape[1]))):
        near = k.inputs(*window)
        seen, part = k.seen(*window), k.window(*window)
        assert np.abs(part(left[near], guide[seen], True, inside(window, seen)) - whole[window]).max() < 1e-5 * np.abs(whole).max()


def test_a_pixel_without_data_tells_nothing():
    k, guide, left = kriging((12, 12))
    known = np.ones((12, 12), bool)
    known[4, 7] = False
    wrong = left.copy()
    wrong[4, 7] = 100
    assert np.allclose(k(wrong, guide, known), k(left, guide, known), atol=1e-3)
    assert np.abs(k(wrong, guide) - k(left, guide)).max() > 1


@pytest.mark.parametrize("guide", [np.full((12, 12, 4), 0.2), np.full((12, 12, 1), 0.0), np.arange(4.0).reshape(2, 2, 1), np.full((1, 1, 2), 0.3)], ids=["constant", "zero", "four pixels", "one pixel"])
def test_odd_guides(guide):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        likeness = Likeness.fit([guide.astype(np.float32)], components=4, floor=0.01, size=24)
    alike = likeness(guide.astype(np.float32))
    assert np.isfinite(alike).all() and likeness.centres.shape[1] <= 24
    own = np.einsum("yxi,ij,yxj->yx", alike, likeness.inverse, alike)      # a place is alike to itself
    assert np.allclose(own, 1, atol=1e-3)


def test_what_looks_alike_gets_it():
    "A coarse pixel of two fields: what is left of it changes where the guide changes."
    coarse, fine = grids((9, 9), 3)
    guide = np.full((27, 27, 1), 0.1, np.float32)
    guide[:, 13:] = 0.4                       # the boundary lies within the column of pixels 4
    truth = np.where(guide[..., 0] > 0.2, 0.05, 0.0)[..., None].astype(np.float32)
    see = Observation.between(coarse, fine, 0.42)
    k = GuidedKriging.between(Likeness.fit([guide], 1, 0.01, 8), see, coarse, fine, 0.01)
    found = k(see.degrade(truth, axes=(0, 1)), guide)
    step = np.diff(found[9:18, 8:18, 0].mean(0))
    assert step.argmax() == 4 and step[4] > 4 * np.delete(step, 4).max(), step      # a step where the guide has one, a ramp elsewhere


def test_two_fits_are_the_same():
    _, guide, _ = kriging((20, 20))
    noisy = guide + np.random.default_rng(0).normal(scale=0.01, size=guide.shape).astype(np.float32)
    a, b = (Likeness.fit([noisy], 3, 1e-3, 12) for _ in range(2))
    assert all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("mean", "project", "centres", "inverse"))
