"""Spectra and curves over the bands."""
from types import SimpleNamespace

import numpy as np
import pandas as pd
from cubes import drawn, texts
from cubes import random_cube as cube

from enmap_sharpener.figures import spectra as curves
from enmap_sharpener.figures.spectra import band_curve, spectra
from enmap_sharpener.scenes.guide_bands import SENTINEL2


def test_spectra_of_two_detectors_guide_and_points_outside():
    detector = np.where(np.arange(20) % 2, "VNIR", "SWIR")
    c = cube(detector=("band", detector))
    c[3] = np.nan
    names = ("B02", "B03", "B04", "B08")
    s2 = cube(4).drop_vars(("wavelength", "band")).assign_coords(band=list(names))
    guide = SimpleNamespace(bands10=s2, bands20=None, table=SENTINEL2.finest)
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
