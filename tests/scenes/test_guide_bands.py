"""What EnMAP sees of a guide's bands, and tables of guides with other bands."""
import numpy as np
import pytest

from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.simulation.sensors import enmap_bands


def test_responses_sum_to_one_and_see_their_centre():
    bands = enmap_bands()
    R = SENTINEL2.responses(bands.wavelength)
    np.testing.assert_allclose(R.sum(1), 1, rtol=1e-12)
    assert (R >= 0).all()
    for row, (centre, width) in zip(R, zip(SENTINEL2.centres.values(), (b.width for b in SENTINEL2))):
        assert abs(row @ bands.wavelength - centre) < 0.15 * width
        assert row[np.abs(bands.wavelength - centre) > 1.5 * width].sum() < 1e-3


def test_responses_follow_the_order_of_the_bands():
    wavelength = enmap_bands().wavelength
    order = np.random.default_rng(0).permutation(len(wavelength))
    np.testing.assert_allclose(SENTINEL2.responses(wavelength[order]), SENTINEL2.responses(wavelength)[:, order], atol=1e-12)


def test_responses_without_the_bands_they_need_are_zero():
    R = dict(zip(SENTINEL2.names, SENTINEL2.responses(np.linspace(420, 990, 90))))
    assert not R["B11"].any() and not R["B12"].any()
    np.testing.assert_allclose([R[n].sum() for n in ("B02", "B04", "B08", "B8A")], 1)
    assert SENTINEL2.take(("B02", "B12")).responses([500.0, 510.0]).shape == (2, 2)


def test_responses_leave_out_bad_bands():
    bands = enmap_bands()
    good = np.abs(bands.wavelength - 1613.7) > 200
    R = SENTINEL2.responses(bands.wavelength, good=good)
    assert not R[:, ~good].any()
    assert not R[SENTINEL2.names.index("B11")].any()
    assert R[SENTINEL2.names.index("B12")].sum() == pytest.approx(1)


def test_overlapping_detectors_are_not_counted_twice():
    """Where VNIR and SWIR both sample a wavelength, a ramp is still seen at the centre of the response."""
    wavelength = np.sort(np.r_[np.arange(420, 1000, 6.5), np.arange(820, 2450, 10.0)])
    row = SENTINEL2.take(("B8A",)).responses(wavelength)[0]
    assert abs(row @ wavelength - SENTINEL2["B8A"].centre) < 2
