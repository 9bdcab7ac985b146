"""Figures of awkward cubes: they are made, say what they show, and leave matplotlib as it was."""
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from cubes import drawn, texts
from cubes import random_cube as cube
from rasterio.transform import from_origin

from enmap_sharpener.evaluation.comparisons import error_figure
from enmap_sharpener.figures import style
from enmap_sharpener.figures.quicklook import before_after, quicklook, rgb


def shown(axes):
    "Pixels of the images in a panel."
    return [image.get_array() for image in axes.get_images()]


def test_rgb_is_grey_without_data_and_small_when_asked():
    c = cube()
    c[:, :9] = np.nan
    image = rgb(c)
    assert image.shape == (30, 47, 3) and (image[:9] == style.NODATA_GREY).all() and not (image[9:] == style.NODATA_GREY).all(-1).any()
    assert rgb(c, size=20).shape == (10, 15, 3)
    assert np.isfinite(rgb(c * np.nan)).all() and np.isfinite(rgb(np.zeros((3, 4, 5)))).all()


def test_lazy_cubes_are_read_by_the_piece():
    calls = []

    class Lazy:
        shape, dtype, ndim = (20, 3000, 3000), np.dtype("f4"), 3

        def __getitem__(self, key):
            shape = [len(range(*k.indices(n))) if isinstance(k, slice) else 1 for k, n in zip(key, self.shape)]
            calls.append(np.prod(shape))
            return np.full([n for n, k in zip(shape, key) if isinstance(k, slice)], 0.2, "f4")

    import dask.array as da
    like = cube(20, 3, 3)
    big = xr.DataArray(da.from_array(Lazy(), (20, 500, 500), meta=np.empty((0, 0, 0), "f4")), {"wavelength": like.wavelength}, ("band", "y", "x"))
    big = big.rio.write_crs(32633).rio.write_transform(from_origin(366000, 5806000, 10, 10))
    assert rgb(big).shape == (750, 750, 3) and sum(calls) <= 3 * 3000**2 + 100


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (300, 4), (7, 7)])
def test_any_shape_is_drawn(shape):
    c = cube(8, *shape)
    figures = quicklook(c, "title"), before_after(c, c, c), error_figure(c, c + 0.01)
    assert all(map(drawn, figures)) and "title" in texts(figures[0]) and "RMSE, mean 0.01" in texts(figures[2])
    for axes in (*figures[0].axes, *figures[1].axes[:3]):
        np.testing.assert_allclose(shown(axes), [rgb(c)], atol=0.01)      # quantiles of three images that are alike differ a little


def test_before_and_after_on_their_own_grids():
    before, after = cube(100, 12, 17, 30.0, x0=365985.0, y0=5806015.0), cube(100)
    after[:, :8] = np.nan
    figure = before_after(SimpleNamespace(cube=before), after, after, title="Potsdam")
    assert drawn(figure)
    said = texts(figure)
    assert all(word in said for word in ("EnMAP, 30 m", "Sharpened, 10 m", "Truth, 10 m", "Potsdam", "True colour", "100 m"))
    axes = figure.axes
    assert len({(*a.get_xlim(), *a.get_ylim()) for a in axes[:3]}) == 1                # one view for all of the row
    assert axes[0].get_images()[0].get_extent()[0] < axes[1].get_images()[0].get_extent()[0]


def test_cubes_that_cover_a_part_or_nothing_of_the_view():
    after = cube(20, 90, 120)
    for x0, columns in ((366000.0, 9), (367050.0, 5), (999000.0, 0)):
        figure = before_after(cube(20, 8, 9, 30.0, x0=x0), after, cube(20, 5, 5, x0=x0))
        assert drawn(figure)
        before, sharpened, truth = figure.axes[:3]
        assert [image.shape[1] for image in shown(before)] == [columns] * bool(columns) and len(shown(truth)) == bool(columns)
        assert [image.shape for image in shown(sharpened)] == [(90, 120, 3)]
        assert all(axes.get_facecolor()[:3] == pytest.approx([float(style.NODATA_GREY)] * 3) for axes in (before, truth))


def test_before_and_after_of_a_subset_without_visible_bands():
    figure = before_after(cube(100), cube(30, low=1500, high=2450))
    assert "False colour" in texts(figure) or "infrared" in texts(figure)
    drawn(figure)


def test_arrays_without_georeference():
    a, b = np.random.default_rng(0).random((2, 6, 20, 31))
    a[:, 3:9] = np.nan
    figures = quicklook(a), before_after(a[:, ::3, ::3], b, zoom=(0.2, 0.5, 0.3, 0.6)), error_figure(a, b)
    assert all(map(drawn, figures)) and not any(" m" in texts(figure).replace(" mean", "") for figure in figures)
    [image] = shown(figures[0].axes[0])
    assert (image[3:9] == style.NODATA_GREY).all() and not (image[9:] == style.NODATA_GREY).all(-1).any()
    assert all((*axes.get_xlim(), *axes.get_ylim()) == (0.2, 0.5, 0.3, 0.6) for axes in figures[1].axes[2:4])
    assert shown(figures[2].axes[0])[0].mask[3:9].all() and not shown(figures[2].axes[0])[0].mask[9:].any()


def test_nothing_valid_is_drawn_grey():
    c = cube() * np.nan
    figures = quicklook(c), before_after(c, c, c), error_figure(c, c)
    assert all(map(drawn, figures))
    panels = [shown(axes) for figure in figures[:2] for axes in figure.axes]
    assert len(panels) == 7 and all((image == style.NODATA_GREY).all() for images in panels for image in images) and all(panels[:4])
    assert all(shown(axes)[0].mask.all() for axes in figures[2].axes[:2]) and "RMSE, mean nan" in texts(figures[2])
