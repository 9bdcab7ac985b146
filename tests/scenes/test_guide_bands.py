"""What EnMAP sees of a guide's bands, and tables of guides with other bands."""
import numpy as np
import pytest

from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.simulation.materials import SPECTRUM_NM, alpine_spectra, material_spectra
from enmap_sharpener.simulation.sensors import enmap_bands, enmap_spectra


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


# Central wavelengths of Sentinel-2A and widths at half the response [nm], and the response of B05 at every nanometre from 695: ESA, Sentinel-2 Spectral Response Functions, COPE-GSEG-EOPG-TN-15-0007.
ESA = {"B02": (492.4, 66), "B03": (559.8, 36), "B04": (664.6, 31), "B08": (832.8, 106), "B05": (704.1, 15), "B06": (740.5, 15), "B07": (782.8, 20), "B8A": (864.7, 21),
       "B11": (1613.7, 91), "B12": (2202.4, 175)}
B05 = np.array([0.0284, 0.1237, 0.3938, 0.7611, 0.9711, 0.9989, 1, 0.9941, 0.9832, 0.967, 0.9485, 0.9271, 0.9037, 0.8861, 0.8672, 0.7908, 0.5884, 0.2633, 0.0568, 0.0062])


@pytest.mark.parametrize("name", ESA)
def test_enmap_sees_each_band_where_esa_measured_it(name):
    centre, width = ESA[name]
    bands = enmap_bands()
    weights = SENTINEL2.responses(bands.wavelength, bands.good)[SENTINEL2.names.index(name)]
    mean = weights @ bands.wavelength
    spread = np.sqrt(weights @ (bands.wavelength - mean) ** 2)
    assert mean == pytest.approx(centre, abs=0.4)
    assert spread == pytest.approx(width / np.sqrt(12), rel=0.2)      # of a rectangle; EnMAP's own bands make it wider


def test_the_red_edge_is_seen_as_the_measured_response_sees_it():
    "On the red edge two nanometres change what B05 sees of plants by a tenth."
    bands, spectra = enmap_bands(), np.concatenate([material_spectra(), alpine_spectra()])
    weights = SENTINEL2.responses(bands.wavelength, bands.good)[SENTINEL2.names.index("B05")]
    seen, at = enmap_spectra(bands) @ weights, 695 - SPECTRUM_NM[0] + np.arange(len(B05))
    expected = spectra[:, at] @ B05 / B05.sum()
    later = spectra[:, at + 2] @ B05 / B05.sum()
    np.testing.assert_allclose(seen, expected, rtol=0.025)
    assert np.abs(later / expected - 1).max() > 0.08
