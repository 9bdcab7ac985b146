"""Parts of a scene, and the errors of each."""
import numpy as np
import pytest
import xarray as xr
from cubes import cube

from enmap_sharpener.core.errors import NoValidPixels
from enmap_sharpener.evaluation.scores import score
from enmap_sharpener.evaluation.strata import errors_by_stratum, find_strata, strata_figure


def ground(ny=40, nx=52):
    "A dark half, a bright half, and a nodata corner."
    values = np.full((6, ny, nx), 0.1, "f4")
    values[:, :, nx // 2:] = np.linspace(0.2, 0.6, 6, dtype="f4")[:, None, None]
    values += np.random.default_rng(0).normal(0, 1e-4, values.shape).astype("f4")
    values[:, :5, :5] = np.nan
    return cube(values)


def test_edges_brightness_and_clusters_are_where_they_are():
    truth = ground()
    parts = find_strata(truth, clusters=2)
    narrow = find_strata(ground(40, 20)).edges.values
    assert (narrow[:, 9:11] == 0).mean() > 0.95 and (narrow[:, [*range(9), *range(11, 20)]][5:] > 0).all()
    assert [np.median(narrow[5:, column]) for column in (8, 7, 6, 5, 3)] == [1, 2, 3, 3, 4]
    held = np.isfinite(truth.values[0])
    assert all((image.values == -1).sum() == 25 and (image.values[held] >= 0).all() for image in parts.values())
    assert (parts.cover.values[:, 26:] == 1).all() and (parts.cover.values[8:, :26] == 0).all()
    assert np.allclose(np.bincount(parts.brightness.values[held]) / held.sum(), 0.2, atol=0.01)
    assert find_strata(truth, seed=1).cover.equals(find_strata(truth.chunk({"y": 17}), seed=1).cover)


def test_land_cover_is_the_scene_classification_where_there_is_one():
    truth = ground()
    scl = cube(np.full((1, 20, 40), 4, "u1"), step=20.0)[0].drop_vars(["wavelength", "band"])
    scl[:, 10:] = 6
    parts = find_strata(truth, scl)
    assert (parts.cover.values[10:, :20] == 4).all() and (parts.cover.values[:, 20:] == 6).all()
    table = errors_by_stratum(truth + 0.01, truth, parts)
    assert list(table.loc["cover"].index) == ["vegetation", "water"]


@pytest.mark.slow
def test_errors_of_parts_add_up_to_that_of_the_scene():
    truth = ground()
    output = truth.copy(data=truth.values + np.where(np.arange(52) < 26, 0.01, 0.03).astype("f4"))
    table = errors_by_stratum(output, truth, find_strata(truth, clusters=2))
    cover = table.loc["cover"]
    assert np.allclose(cover.rmse, [0.01, 0.03], atol=1e-4) and np.allclose(table.groupby("by").share.sum(), 1)
    total = score(output, truth)[0].rmse ** 2
    assert all(np.isclose((part.rmse**2 * part.share).sum(), total, rtol=1e-4) for _, part in table.groupby("by"))
    figure = strata_figure({"a": table, "b": table})
    assert len(figure.axes) == 6


def test_awkward_grounds():
    with pytest.raises(NoValidPixels):
        find_strata(ground() * np.nan)
    flat = cube(np.full((3, 9, 7), 0.2, "f4"))
    parts = find_strata(flat)                                        # no edge, one brightness, one cluster
    assert (parts.brightness >= 0).all() and (parts.cover >= 0).all()
    assert len(errors_by_stratum(flat, flat, parts)) >= 3
    tiny = cube(np.full((3, 1, 1), 0.2, "f4"))
    assert errors_by_stratum(tiny, tiny, find_strata(tiny)).pixels.max() == 1
    assert isinstance(find_strata(ground()[:, 3:5, 3:6]), xr.Dataset)
