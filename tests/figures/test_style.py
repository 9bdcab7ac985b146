"""How pictures look: composites, stretch, scale bars, and what is read for them."""
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import numpy as np
import pytest
from cubes import drawn
from cubes import random_cube as cube
from matplotlib.figure import Figure

from enmap_sharpener.figures import style
from enmap_sharpener.figures.quicklook import quicklook
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


def test_stretch_is_shared():
    a, b = np.full((3, 10, 10), 0.1), np.full((3, 10, 10), 0.5)
    low, high = stretch(a, b)
    assert np.allclose(low, 0.1) and np.allclose(high, 0.5)
    assert np.array_equal(stretch(a * np.nan), [[0] * 3, [1] * 3])


def test_scale_bar_is_round():
    for width, text in ((2250, "500 m"), (30000, "5 km"), (90, "20 m"), (41000, "10 km")):
        axis = Figure().subplots()
        style._scale_bar(axis, width)
        assert axis.texts[0].get_text() == text


@pytest.mark.parametrize("crs, told", [("EPSG:32633", True), ("EPSG:2263", False), ("EPSG:4326", False), (None, False)])
def test_only_metres_have_a_scale_bar(crs, told):
    c = cube()
    assert style.has_scale(c.rio.write_crs(crs) if crs else c.drop_vars("spatial_ref")) is told


def test_style_does_not_leak_also_from_threads():
    before = dict(mpl.rcParams)
    c = cube()
    with ThreadPoolExecutor(4) as pool:
        pictures = list(pool.map(lambda _: drawn(quicklook(c)), range(8)))
    assert dict(mpl.rcParams) == before and len(set(pictures)) == 1
