"""Intervals of scores and of their differences."""
import numpy as np
import pytest
from cubes import cube, pair

from enmap_sharpener.core.errors import BandError, NoValidPixels
from enmap_sharpener.evaluation import scores as evaluation
from enmap_sharpener.evaluation.bootstrap import RESAMPLED, score_difference, score_intervals
from enmap_sharpener.evaluation.scores import score


def test_values_are_those_of_score_whatever_the_blocks():
    o, t = pair(8, 47, 61)
    scores = score(o, t)[0]
    for block in (None, 7, 16, 300):
        found = score_intervals(o, t, block=block, n=50)
        assert np.allclose(found.value, scores[list(RESAMPLED)], rtol=1e-6) and (found.low <= found.high).all()
    assert (found.low == found.value).all() and (found.blocks == 1).all()              # one block can only be drawn again


def test_resampled_scores_are_those_of_scenes_put_together(monkeypatch):
    o, t = (c.astype(float) for c in pair(5, 24, 32, nodata=False))
    o[:, :8, :8] = np.nan
    found = score_intervals(o, t, block=8, n=40, seed=3, border=0, level=0.8)
    blocks = [(slice(y, y + 8), slice(x, x + 8)) for y in range(0, 24, 8) for x in range(0, 32, 8)][1:]
    peak = t[:, np.isfinite(o[0])].max(1)
    counts = np.random.default_rng(3).multinomial(len(blocks), np.full(len(blocks), 1 / len(blocks)), 40)
    scores = []
    for taken in counts:
        a, b = (np.concatenate([c[(slice(None), *w)].reshape(5, -1) for w, k in zip(blocks, taken) for _ in range(k)], 1) for c in (o, t))
        error, land = ((a - b) ** 2).mean(1), b.mean(0) > evaluation.LAND
        angle = np.degrees(np.arccos(np.clip((a * b).sum(0) / np.linalg.norm(a, axis=0) / np.linalg.norm(b, axis=0), -1, 1)))
        scores.append([np.sqrt(error.mean()), (10 * np.log10(peak**2 / error)).mean(), angle.mean(), angle[land].mean(),
                       100 / 3 * np.sqrt((error / b.mean(1) ** 2).mean())])
    low, high = np.quantile(scores, [0.1, 0.9], axis=0)
    assert np.allclose(found.low, low, rtol=1e-6) and np.allclose(found.high, high, rtol=1e-6) and (found.blocks == 11).all()


@pytest.mark.slow
def test_intervals_hold_what_they_promise_where_blocks_are_independent():
    rng, held, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        level = np.kron(rng.uniform(0.5, 1.5, (8, 8)), np.ones((6, 6)))            # errors that go together in blocks
        t = np.full((2, 48, 48), 0.3)
        o = t + 0.01 * level * rng.standard_normal((2, 48, 48))
        row = score_intervals(o, t, block=6, border=0, n=300).loc["rmse"]
        held += row.low <= 0.01 * np.sqrt(np.mean(np.linspace(0.5, 1.5, 1001) ** 2)) <= row.high
    assert 0.85 * trials <= held


def test_the_same_seed_gives_the_same_and_threads_change_nothing():
    o, t = pair()
    assert score_intervals(o, t, n=60, seed=1).equals(score_intervals(o, t, n=60, seed=1, threads=3))
    assert not score_intervals(o, t, n=60, seed=1).equals(score_intervals(o, t, n=60, seed=2))


def test_a_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    t = 0.3 + 0.1 * rng.random((4, 48, 48))
    hard = np.kron(rng.uniform(0.1, 3, (8, 8)), np.ones((6, 6)))
    noise = 0.01 * hard * rng.standard_normal((4, 48, 48))
    better, worse = t + noise, t + 1.1 * noise
    one, two = score_intervals(better, t), score_intervals(worse, t)
    assert (one.high > two.low).rmse                                                # the intervals overlap
    found = score_difference(better, worse, t)
    assert (found.better == 1).all() and found.high.rmse < 0 and found.low.psnr > 0
    assert np.allclose(found.value, one.value - two.value) and np.allclose(score_difference(worse, better, t).better, 0)


def test_a_difference_is_over_the_pixels_that_both_have():
    o, t = pair(nodata=False)
    holes = o.copy()
    holes[:, 10:30, 10:30] = np.nan
    assert (score_difference(holes, o, t, n=20)[["value", "low", "high"]] == 0).all(axis=None)
    with pytest.raises(BandError, match="same bands"):
        score_difference(cube(o[:9], np.linspace(420, 2450, 12)[:9]), cube(o), cube(t))
    with pytest.raises(NoValidPixels):
        score_intervals(np.full_like(o, np.nan), t)


def test_a_block_without_one_of_the_bands_counts_for_nothing():
    o, t = pair(ny=40, nx=40, nodata=False)
    o[3, :, :20] = np.nan
    assert np.allclose(score_intervals(o, t, block=10, border=0, n=9).value, score(o, t, border=0)[0][list(RESAMPLED)], rtol=1e-6)
