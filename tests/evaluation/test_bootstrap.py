"""Intervals against loops that put scenes together block by block, coverage, pairing; parts of a scene."""
import numpy as np
import pytest
import xarray as xr
from cubes import cube, pair

from enmap_sharpener.core.errors import BandError, NoValidPixels
from enmap_sharpener.evaluation import scores as evaluation
from enmap_sharpener.evaluation.bootstrap import METRICS, difference, error_by, error_figure, spread, strata
from enmap_sharpener.evaluation.scores import measure


def test_values_are_those_of_measure_whatever_the_blocks():
    o, t = pair(8, 47, 61)
    scores = measure(o, t)[0]
    for block in (None, 7, 16, 300):
        found = spread(o, t, block=block, n=50)
        assert np.allclose(found.value, scores[list(METRICS)], rtol=1e-6) and (found.low <= found.high).all()
    assert (found.low == found.value).all() and (found.blocks == 1).all()              # one block can only be drawn again


def test_resampled_scores_are_those_of_scenes_put_together(monkeypatch):
    o, t = (c.astype(float) for c in pair(5, 24, 32, nodata=False))
    o[:, :8, :8] = np.nan
    found = spread(o, t, block=8, n=40, seed=3, border=0, level=0.8)
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


def test_intervals_hold_what_they_promise_where_blocks_are_independent():
    rng, held, trials = np.random.default_rng(0), 0, 60
    for _ in range(trials):
        level = np.kron(rng.uniform(0.5, 1.5, (8, 8)), np.ones((6, 6)))            # errors that go together in blocks
        t = np.full((2, 48, 48), 0.3)
        o = t + 0.01 * level * rng.standard_normal((2, 48, 48))
        row = spread(o, t, block=6, border=0, n=300).loc["rmse"]
        held += row.low <= 0.01 * np.sqrt(np.mean(np.linspace(0.5, 1.5, 1001) ** 2)) <= row.high
    assert 0.85 * trials <= held


def test_the_same_seed_gives_the_same_and_threads_change_nothing():
    o, t = pair()
    assert spread(o, t, n=60, seed=1).equals(spread(o, t, n=60, seed=1, threads=3))
    assert not spread(o, t, n=60, seed=1).equals(spread(o, t, n=60, seed=2))


def test_a_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(0)
    t = 0.3 + 0.1 * rng.random((4, 48, 48))
    hard = np.kron(rng.uniform(0.1, 3, (8, 8)), np.ones((6, 6)))
    noise = 0.01 * hard * rng.standard_normal((4, 48, 48))
    better, worse = t + noise, t + 1.1 * noise
    one, two = spread(better, t), spread(worse, t)
    assert (one.high > two.low).rmse                                                # the intervals overlap
    found = difference(better, worse, t)
    assert (found.better == 1).all() and found.high.rmse < 0 and found.low.psnr > 0
    assert np.allclose(found.value, one.value - two.value) and np.allclose(difference(worse, better, t).better, 0)


def test_a_difference_is_over_the_pixels_that_both_have():
    o, t = pair(nodata=False)
    holes = o.copy()
    holes[:, 10:30, 10:30] = np.nan
    assert (difference(holes, o, t, n=20)[["value", "low", "high"]] == 0).all(axis=None)
    with pytest.raises(BandError, match="same bands"):
        difference(cube(o[:9], np.linspace(420, 2450, 12)[:9]), cube(o), cube(t))
    with pytest.raises(NoValidPixels):
        spread(np.full_like(o, np.nan), t)


def test_a_block_without_one_of_the_bands_counts_for_nothing():
    o, t = pair(ny=40, nx=40, nodata=False)
    o[3, :, :20] = np.nan
    assert np.allclose(spread(o, t, block=10, border=0, n=9).value, measure(o, t, border=0)[0][list(METRICS)], rtol=1e-6)


# ---- parts of a scene --------------------------------------------------------------------------------------------

def ground(ny=40, nx=52):
    "A dark half, a bright half, and a nodata corner."
    values = np.full((6, ny, nx), 0.1, "f4")
    values[:, :, nx // 2:] = np.linspace(0.2, 0.6, 6, dtype="f4")[:, None, None]
    values += np.random.default_rng(0).normal(0, 1e-4, values.shape).astype("f4")
    values[:, :5, :5] = np.nan
    return cube(values)


def test_edges_brightness_and_clusters_are_where_they_are():
    truth = ground()
    parts = strata(truth, clusters=2)
    narrow = strata(ground(40, 20)).edges.values
    assert (narrow[:, 9:11] == 0).mean() > 0.95 and (narrow[:, [*range(9), *range(11, 20)]][5:] > 0).all()
    assert [np.median(narrow[5:, column]) for column in (8, 7, 6, 5, 3)] == [1, 2, 3, 3, 4]
    held = np.isfinite(truth.values[0])
    assert all((image.values == -1).sum() == 25 and (image.values[held] >= 0).all() for image in parts.values())
    assert (parts.cover.values[:, 26:] == 1).all() and (parts.cover.values[8:, :26] == 0).all()
    assert np.allclose(np.bincount(parts.brightness.values[held]) / held.sum(), 0.2, atol=0.01)
    assert strata(truth, seed=1).cover.equals(strata(truth.chunk({"y": 17}), seed=1).cover)


def test_land_cover_is_the_scene_classification_where_there_is_one():
    truth = ground()
    scl = cube(np.full((1, 20, 40), 4, "u1"), step=20.0)[0].drop_vars(["wavelength", "band"])
    scl[:, 10:] = 6
    parts = strata(truth, scl)
    assert (parts.cover.values[10:, :20] == 4).all() and (parts.cover.values[:, 20:] == 6).all()
    table = error_by(truth + 0.01, truth, parts)
    assert list(table.loc["cover"].index) == ["vegetation", "water"]


def test_errors_of_parts_add_up_to_that_of_the_scene():
    truth = ground()
    output = truth.copy(data=truth.values + np.where(np.arange(52) < 26, 0.01, 0.03).astype("f4"))
    table = error_by(output, truth, strata(truth, clusters=2))
    cover = table.loc["cover"]
    assert np.allclose(cover.rmse, [0.01, 0.03], atol=1e-4) and np.allclose(table.groupby("by").share.sum(), 1)
    total = measure(output, truth)[0].rmse ** 2
    assert all(np.isclose((part.rmse**2 * part.share).sum(), total, rtol=1e-4) for _, part in table.groupby("by"))
    figure = error_figure({"a": table, "b": table})
    assert len(figure.axes) == 6


def test_awkward_grounds():
    with pytest.raises(NoValidPixels):
        strata(ground() * np.nan)
    flat = cube(np.full((3, 9, 7), 0.2, "f4"))
    parts = strata(flat)                                        # no edge, one brightness, one cluster
    assert (parts.brightness >= 0).all() and (parts.cover >= 0).all()
    assert len(error_by(flat, flat, parts)) >= 3
    tiny = cube(np.full((3, 1, 1), 0.2, "f4"))
    assert error_by(tiny, tiny, strata(tiny)).pixels.max() == 1
    assert isinstance(strata(ground()[:, 3:5, 3:6]), xr.Dataset)
