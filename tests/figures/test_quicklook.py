"""Figures of awkward cubes: they are made, say what they show, and leave matplotlib as it was."""
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from cubes import drawn, texts
from cubes import random_cube as cube
from matplotlib.figure import Figure
from rasterio.transform import from_origin

from enmap_sharpener.evaluation.comparisons import error_map
from enmap_sharpener.figures import spectra as curves
from enmap_sharpener.figures import style
from enmap_sharpener.figures.quicklook import before_after, quicklook, rgb
from enmap_sharpener.figures.spectra import band_curve, spectra
from enmap_sharpener.figures.style import stretch


def test_composites():
    name = lambda **kw: style.composite_bands(cube(200, **kw))
    bands, text = name()
    w = cube(200).wavelength.values
    assert np.allclose(w[bands], (640, 550, 470), atol=6) and text.startswith("True colour (6")
    assert name(low=520, high=1000)[1].startswith("Colour infrared")
    assert name(low=980)[1].startswith("Short-wave infrared")
    assert name(low=1300, high=1500)[1].startswith("False colour")
    assert "686 nm" in style.composite_bands(cube(1, low=686, high=686))[1]
    assert style.composite_bands(cube(10).drop_vars("wavelength"))[1] == "Bands 9, 5, 2"


def test_composite_avoids_bands_without_data_and_water_vapour():
    good = np.ones(200, bool)
    good[::2] = False
    chosen, _ = style.composite_bands(cube(200, good=("band", good)))
    assert good[chosen].all()
    c = cube(60, low=1300, high=1990)
    assert all(not a < c.wavelength.values[b] < z for b in style.composite_bands(c)[0] for a, z in style.WATER_VAPOUR)


def test_rgb_is_grey_without_data_and_small_when_asked():
    c = cube()
    c[:, :9] = np.nan
    image = rgb(c)
    assert image.shape == (30, 47, 3) and (image[:9] == style.NODATA_GREY).all() and not (image[9:] == style.NODATA_GREY).all(-1).any()
    assert rgb(c, size=20).shape == (10, 15, 3)
    assert np.isfinite(rgb(c * np.nan)).all() and np.isfinite(rgb(np.zeros((3, 4, 5)))).all()


def test_stretch_is_shared():
    a, b = np.full((3, 10, 10), 0.1), np.full((3, 10, 10), 0.5)
    low, high = stretch(a, b)
    assert np.allclose(low, 0.1) and np.allclose(high, 0.5)
    assert np.array_equal(stretch(a * np.nan), [[0] * 3, [1] * 3])


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
    drawn(quicklook(c, "title"))
    drawn(before_after(c, c, c))
    drawn(error_map(c, c + 0.01))


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
    for x0 in (366000.0, 366900.0, 999000.0):
        drawn(before_after(cube(20, 8, 9, 30.0, x0=x0), after, cube(20, 5, 5, x0=x0)))


def test_before_and_after_of_a_subset_without_visible_bands():
    figure = before_after(cube(100), cube(30, low=1500, high=2450))
    assert "False colour" in texts(figure) or "infrared" in texts(figure)
    drawn(figure)


def test_arrays_without_georeference():
    a, b = np.random.default_rng(0).random((2, 6, 20, 31))
    a[:, 3:9] = np.nan
    for figure in (quicklook(a), before_after(a[:, ::3, ::3], b, zoom=(0.2, 0.5, 0.3, 0.6)), error_map(a, b)):
        drawn(figure)


def test_nothing_valid_is_drawn_grey():
    c = cube() * np.nan
    for figure in (quicklook(c), before_after(c, c, c), error_map(c, c)):
        drawn(figure)


def test_spectra_of_two_detectors_guide_and_points_outside():
    detector = np.where(np.arange(20) % 2, "VNIR", "SWIR")
    c = cube(detector=("band", detector))
    c[3] = np.nan
    names = ("B02", "B03", "B04", "B08")
    s2 = cube(4).drop_vars(("wavelength", "band")).assign_coords(band=list(names))
    guide = SimpleNamespace(bands10=s2, bands20=None)
    figure = spectra([(366055, 5805945), (0, 0), (366100, 5805900)], c, c + 0.01, c, guide, names=["field", "outside", "wood"])
    assert drawn(figure)
    said = texts(figure)
    assert all(word in said for word in ("field", "outside", "Sentinel-2", "Truth", "wavelength (nm)", "reflectance"))
    drawn(spectra([(366055, 5805945)], after=c))


def test_lines_break_at_gaps_and_do_not_zigzag_in_the_overlap():
    w = np.array([800, 810, 905, 907, 1000, 1390, 1461, 1470.0])
    pieces = [list(p) for p, _ in curves.curve_pieces(w, np.ones(8))]
    assert sorted(pieces) == [[800, 810], [905], [907], [1000], [1390], [1461, 1470]]
    pieces = [list(p) for p, _ in curves.curve_pieces(np.array([900, 905, 907, 912.0]), np.ones(4), np.array(["VNIR", "SWIR", "VNIR", "SWIR"]))]
    assert sorted(pieces) == [[900, 907], [905, 912]]


def test_band_curves():
    table = pd.DataFrame({"wavelength": np.linspace(420, 2450, 60), "rmse": 0.01, "r2": 0.9, "ssim": np.nan})
    table.loc[::4, "ssim"] = 0.8
    figure = band_curve({f"method {i}": table * (1 + i / 10) for i in range(9)}, ("rmse", "r2", "ssim"))
    assert drawn(figure) and all(word in texts(figure) for word in ("method 8", "RMSE (reflectance)", "R²", "water", "overlap"))
    drawn(band_curve(table))
    drawn(band_curve(table.iloc[:1]))


def test_scale_bar_is_round():
    for width, text in ((2250, "500 m"), (30000, "5 km"), (90, "20 m"), (41000, "10 km")):
        axis = Figure().subplots()
        style._scale_bar(axis, width)
        assert axis.texts[0].get_text() == text


def test_style_does_not_leak_also_from_threads():
    before = dict(mpl.rcParams)
    c = cube()
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: drawn(quicklook(c)), range(8)))
    assert dict(mpl.rcParams) == before and len(set(pictures)) == 1
