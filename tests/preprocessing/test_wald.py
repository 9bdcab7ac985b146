"Wald's protocol: zeros and negatives are data, smoothing stays within a run of bands, nothing reaches further than it says, awkward scenes."
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter
from scipy.signal import savgol_filter

from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import to_int16
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.preprocessing import wald
from enmap_sharpener.preprocessing.base import Interpolator
from enmap_sharpener.preprocessing.splits import REACH
from enmap_sharpener.preprocessing.wald import (
    PredictionPair,
    WaldPair,
    align,
    residual_shift,
    runs,
    smooth_spectra,
    smoothing_matrix,
    wald_grid,
)
from enmap_sharpener.scenes.metadata import band_table
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def simulated():
    "A scene that lies off its partner, with a blur of its own."
    return simulate_pair((60, 66), seed=5, shift=(0.4, -0.3))


@pytest.fixture(scope="module")
def aligned(simulated):
    return align(*simulated[:2])


def changed(scene, change):
    "The scene with `change` applied to its reflectance, shape (band, y, x)."
    values = scene.cube.values.copy()
    change(values)
    return replace(scene, cube=scene.cube.copy(data=values))


def whole(source):
    "Everything that a source gives."
    return source.read(slice(0, source.grid.rows.n), slice(0, source.grid.cols.n))


# ---- smoothing

@pytest.fixture(scope="module")
def bands(simulated):
    return simulated[0].bands


def test_smoothing_stays_within_a_run(bands):
    "Smoothing across the interleaved detectors, the water vapour gaps and the empty bands: the seed's moving mean does, this does not."
    weights = smoothing_matrix(bands)
    group = np.full(len(bands), -1)
    for i, run in enumerate(runs(bands)):
        group[run] = i
        assert len(set(bands.detector[run])) == 1 and bands.good[run].all() and np.diff(bands.wavelength[run]).max() < 30
    assert (group[bands.good] >= 0).all() and (group[~bands.good] == -1).all()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-12)
    apart = (group[:, None] != group) & ~np.eye(len(bands), dtype=bool)
    assert not weights[apart].any()
    seed = savgol_filter(np.eye(len(bands)), 7, 1, axis=0)
    assert np.abs(seed[apart]).max() > 0.1
    assert (np.count_nonzero(weights[bands.good], axis=1) == 7).all()


def test_nothing_leaks_over_the_gaps(bands):
    "A spectrum with a level of its own in each run comes out as it went in; the seed's does not."
    spectrum = np.full(len(bands), np.nan, np.float32)
    for level, run in enumerate(runs(bands), 1):
        spectrum[run] = level / 10
    np.testing.assert_allclose(smooth_spectra(spectrum[None], bands)[0], spectrum, atol=1e-6)
    seed = savgol_filter(np.nan_to_num(spectrum), 7, 1)
    assert np.abs(seed - spectrum)[bands.good].max() > 0.05


def test_smoothing_keeps_straight_lines_zeros_and_negatives(bands):
    line = (bands.wavelength - 1000) / 1e5
    cube = np.stack([line, 0 * line, -0.002 + 0 * line]).astype("float32")
    cube[:, ~bands.good] = np.nan
    cube[1, 17] = np.nan
    ours = smooth_spectra(cube, bands)
    np.testing.assert_allclose(ours, cube, atol=2e-7)
    assert ours.dtype == np.float32 and (ours[2, bands.good] < 0).all()


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8])
def test_short_runs(count):
    table = band_table(np.linspace(500, 500 + 6 * count, count), np.full(count, 6.0), detector=np.full(count, "VNIR"))
    values = np.random.default_rng(0).uniform(0, 1, (5, count))
    assert np.isfinite(smooth_spectra(values, table)).all()
    assert [len(r) for r in runs(table)] == [count]


def test_spectra_are_smoothed_before_they_are_degraded(simulated, aligned):
    smooth = replace(aligned, smooth=(7, 1))
    target = whole(WaldPair(smooth))["target"]
    cube = np.moveaxis(simulated[0].cube.values[aligned.pair.scene.bands.good], 0, -1)
    held = np.isfinite(target).all(-1)
    np.testing.assert_allclose(target[held], smooth_spectra(cube, aligned.pair.bands)[held], atol=1e-6)


# ---- what is data

def test_zeros_and_small_negatives_are_data(simulated):
    "Zeros counted as invalid, and negatives wrapped to 10000, as in the seed: a lake at zero and below stays, number for number."
    def lake(values):
        values[:, 20:44, 10:50] = np.where(np.isfinite(values[:, 20:44, 10:50]), 0, np.nan)
        values[:, 30:40, 20:40] = np.where(np.isfinite(values[:, 30:40, 20:40]), np.float32(-0.0012), np.nan)
    scene = changed(simulated[0], lake)
    source = WaldPair(align(scene, simulated[1]))
    parts, good = whole(source), scene.bands.good
    inner = (slice(22, 42), slice(12, 48))
    assert (parts["valid"] == whole(WaldPair(align(*simulated[:2])))["valid"])[inner].mean() > 0.99 and parts["valid"][inner].mean() > 0.9
    held = np.isfinite(parts["target"]).all(-1)
    np.testing.assert_array_equal(to_int16(parts["target"][held]), to_int16(np.moveaxis(scene.cube.values[good], 0, -1)[held]))
    assert (parts["target"][32:38, 22:38] < 0).all() and (parts["target"][22:28, 12:48] == 0).all()
    assert (parts["hs"][34:36, 27:33] < 0).all()
    wrapped = np.clip(to_int16(parts["target"][32:38, 22:38]).astype("uint16"), 0, 10000)
    assert (wrapped == 10000).all()             # what the seed makes of it


def test_nodata_is_no_number(simulated):
    "Nodata wrapped to 10000 and interpolated into its neighbours, as in the seed: here a hole is a hole, and its neighbours never see a nodata number."
    def hole(values):
        values[:, 25:31, 30:36] = np.nan
    parts = whole(WaldPair(align(changed(simulated[0], hole), simulated[1])))
    assert np.isnan(parts["target"][25:31, 30:36]).all() and not parts["valid"][25:31, 30:36].any()
    full = whole(WaldPair(align(*simulated[:2])))["hs"]
    assert np.nanmin(parts["hs"]) > np.nanmin(full) - 0.03 and np.nanmax(parts["hs"]) < np.nanmax(full) + 0.03
    assert np.isfinite(parts["hs"][parts["valid"]]).mean() > 0.99 and np.isfinite(parts["target"][parts["valid"]]).mean() > 0.99


def test_classes_of_sentinel2_and_of_enmap_are_masked(simulated):
    "Shadow and no data of Sentinel-2's classification ignored, as in the seed: neither is valid here."
    scene, guide, _ = simulated
    scl, values = guide.scl.copy(), (0, 1, 3, 8, 9, 10, 4, 6)
    places = [(slice(15 + 15 * (i // 4), 24 + 15 * (i // 4)), slice(12 + 11 * (i % 4), 21 + 11 * (i % 4))) for i in range(8)]
    scl[:] = 4
    for value, (rows, cols) in zip(values, places, strict=True):
        scl[{"y": slice(rows.start * 3 // 2, rows.stop * 3 // 2), "x": slice(cols.start * 3 // 2, cols.stop * 3 // 2)}] = value
    pair = WaldPair(align(scene, replace(guide, scl=scl)))
    for value, (rows, cols) in zip(values, places, strict=True):
        inside = pair.valid[rows.start + 3:rows.stop - 3, cols.start + 3:cols.stop - 3]
        assert inside.size and (inside.all() if value in (4, 6) else not inside.any()), value
    cloud = scene.quality["cloud"].copy()
    cloud[30:40, 20:30] = 1
    parts = whole(WaldPair(align(replace(scene, quality={**scene.quality, "cloud": cloud}), guide)))
    assert not parts["valid"][30:40, 20:30].any() and np.isnan(parts["target"][30:40, 20:30]).all()


def test_mask_of_another_zone_is_refused(simulated, aligned):
    mask = aligned.pair.fine
    elsewhere = replace(mask, crs=type(mask.crs).from_epsg(32601)).georeference(np.zeros(mask.shape, np.uint8))
    with pytest.raises(GridError, match="stage mask"):
        align(*simulated[:2], mask10=elsewhere)


def test_a_mask_replaces_both_sensors_masks(simulated):
    scene, guide, _ = simulated
    fine = Grid.of(guide.bands10)
    bits = np.zeros(fine.shape, np.uint8)
    bits[60:90, 60:90] = 16
    pair = WaldPair(align(scene, guide, mask10=fine.georeference(bits)))
    assert not pair.valid[23:28, 23:28].any() and pair.valid[40:50, 40:50].all()


# ---- the operators

def test_blur_and_shift_are_those_measured(simulated, aligned):
    "Sentinel-2 degraded with the measured shift agrees with EnMAP; as the georeference says it does not."
    source = WaldPair(aligned)
    assert np.allclose(aligned.vnir.shift, (0.4, -0.3), atol=0.06)
    before, after = (np.abs(source.report[k]["shift"]).max() for k in ("before", "after"))
    assert before > 0.25 and after < 0.08
    assert source.report["after"]["correlation"] > source.report["before"]["correlation"]


def test_degrading_is_the_gaussian_of_each_detector(aligned):
    "Far from the rim the degraded cube is a Gaussian blur of the scene, sampled where the coarse grid lies."
    source, still = WaldPair(aligned), aligned
    cube = still.pair.enmap(slice(0, still.pair.coarse.rows.n), slice(0, still.pair.coarse.cols.n))
    rows, cols = (np.rint(a.index(b.centres)) for a, b in zip((source.grid.rows, source.grid.cols), (source.degraded.rows, source.degraded.cols), strict=True))
    degraded = source.coarse.read(slice(0, source.degraded.rows.n), slice(0, source.degraded.cols.n))
    for positions, geometry in aligned.detectors:
        k = positions[len(positions) // 2]
        sigma = np.array(geometry.sigma) * 3
        exact = [a.index(b.centres) for a, b in zip((source.grid.rows, source.grid.cols), (source.degraded.rows, source.degraded.cols), strict=True)]
        y, x = (np.arange(n) for n in cube.shape[:2])
        weights = [np.exp(-0.5 * ((i[:, None] - e) / s) ** 2) for i, e, s in zip((y, x), exact, sigma, strict=True)]
        plain = weights[0].T @ np.nan_to_num(cube[..., k]) @ weights[1]
        norm = weights[0].T @ np.isfinite(cube[..., k]).astype(float) @ weights[1]
        inner = (slice(5, -5), slice(5, -5))
        full = np.isfinite(gaussian_filter(cube[..., k], 4))[np.ix_(rows.astype(int), cols.astype(int))][inner]
        assert full.any()
        np.testing.assert_allclose(degraded[..., k][inner][full], (plain / norm)[inner][full], atol=2e-3)


@pytest.mark.parametrize("shape, shift", [((30, 31), (0.0, 0.0)), ((7, 8), (0.9, -1.2)), ((16, 47), (-0.49, 0.51)), ((11, 100), (2.3, -2.4))])
def test_the_coarse_grid_lies_as_the_scene_does(shape, shift):
    crs = Grid.of(xr.DataArray(np.zeros((2, 2)), dims=("y", "x"), coords={"y": [1, 0], "x": [0, 1]}).rio.write_crs("EPSG:32633")).crs
    coarse = Grid(crs, Axis(0.0, 30.0, shape[0]), Axis(0.0, 30.0, shape[1]))
    fine = Grid(crs, Axis(-5.0, 10.0, shape[0] * 3 + 1), Axis(-5.0, 10.0, shape[1] * 3 + 1))
    above = wald_grid(coarse, fine, shift)
    for a, b, c, s in zip((coarse.rows, coarse.cols), (above.rows, above.cols), (fine.rows, fine.cols), shift, strict=True):
        assert b.step == 90 and (b.centres > a.start).all() and (b.centres < a.start + a.step * a.n).all()
        phase = (a.index(b.centres) - c.index(a.centres[:1] + s * a.step)) % 3
        np.testing.assert_allclose(np.minimum(phase, 3 - phase), 0, atol=1e-6)
        assert (a.n - 3) / 3 <= b.n <= (a.n + 3) / 3


def test_windows_do_not_show(simulated, aligned):
    "What is read by windows is what is read at once, beside holes too."
    holes = np.random.default_rng(0).random((60, 66)) < 0.05
    holes[20:34, 20:40] = True
    def pierce(values):
        values[:, holes] = np.nan
        values[30:40, :, 50] = np.nan
    pierced = replace(aligned, pair=Pair(changed(simulated[0], pierce), simulated[1]))
    for source in (WaldPair(pierced), PredictionPair(pierced)):
        at_once = whole(source)
        for rows, cols in ((slice(0, 9), slice(0, 60)), (slice(17, 40), slice(25, 47)), (slice(50, 60), slice(59, 60))):
            part = source.read(rows, cols)
            for name in part:
                np.testing.assert_allclose(part[name], at_once[name][rows, cols], atol=2e-6, err_msg=name)


def test_level_ground_stays_level(aligned):
    coarse, fine = aligned.pair.coarse, aligned.pair.fine
    flat = lambda rows, cols, bands: np.full((rows.stop - rows.start, cols.stop - cols.start, len(bands)), 0.25, np.float32)
    hs = Interpolator(flat, coarse, fine, aligned.detectors)(slice(0, fine.rows.n), slice(0, fine.cols.n))
    np.testing.assert_allclose(hs[np.isfinite(hs)], 0.25, rtol=2e-5)
    assert np.isfinite(hs).mean() > 0.9


def test_nothing_reaches_further_than_it_says():
    "`hs` depends on no target further off than the guard of the splits; with holes, too."
    scene, guide, _ = simulate_pair((30, 150), seed=4, rotation=0.0)
    aligned = align(scene, replace(guide, bands20=None, scl=None))
    aligned = replace(aligned, **{name: replace(getattr(aligned, name), sigma=(0.84, 0.84)) for name in ("vnir", "swir")})   # the widest that is ever measured
    holes = np.random.default_rng(1).random(aligned.pair.coarse.shape) < 0.3
    holes[:, 40:55] = holes[:, 80:100] = True
    for missing in (holes & False, holes):
        missing[15, 75] = False
        def change(level, missing=missing):
            def inner(values):
                values[:, 15, 75] = level
                values[:, missing] = np.nan
            return inner
        one, two = (whole(WaldPair(replace(aligned, pair=Pair(changed(scene, change(v)), aligned.pair.guide)))) for v in (0.1, 0.9))
        differs = np.argwhere((np.nan_to_num(one["hs"]) != np.nan_to_num(two["hs"])).any(-1))
        assert 6 < np.abs(differs - (15, 75)).max() <= REACH
        assert (np.argwhere((np.nan_to_num(one["target"]) != np.nan_to_num(two["target"])).any(-1)) == (15, 75)).all()


@pytest.mark.parametrize("move", [(0, 0), (2, -3), (-4, 1)])
def test_residual_shift_is_found(move):
    image = gaussian_filter(np.random.default_rng(0).normal(size=(70, 80, 4)), (1.5, 1.5, 0))
    valid = np.ones((60, 70), bool)
    seen = image[5:65, 5:75]
    moved = image[5 - move[0]:65 - move[0], 5 - move[1]:75 - move[1]]
    shift, correlation = residual_shift(seen, moved, valid)
    np.testing.assert_allclose(np.abs(shift), np.abs(move), atol=0.1)
    assert correlation == pytest.approx(1) if move == (0, 0) else correlation < 0.9
    assert np.isnan(residual_shift(seen, moved, valid & False)[0]).all()


# ---- awkward scenes

def test_218_bands(simulated):
    "Older products have 218 bands."
    scene, guide, _ = simulated
    keep = np.setdiff1d(np.arange(224), np.flatnonzero(~scene.bands.good)[:6])
    keep = keep[np.linspace(0, len(keep) - 1, 218).round().astype(int)] if len(keep) > 218 else keep
    few = replace(scene, cube=scene.cube.isel(band=keep), bands=scene.bands.take(keep))
    parts = whole(WaldPair(align(few, guide)))
    assert parts["hs"].shape[-1] == few.bands.good.sum() <= 218 and parts["valid"].any()


def without(scene, detector):
    "The scene with a detector that is all nodata."
    lost = scene.bands.detector == detector
    def empty(values):
        values[lost] = np.nan
    return replace(changed(scene, empty), bands=replace(scene.bands, good=scene.bands.good & ~lost))


def test_whole_swir_empty(simulated):
    "Without the SWIR EnMAP does not see B11 and B12; the red edge stays."
    scene, guide, _ = simulated
    aligned = align(without(scene, "SWIR"), guide)
    for source in (WaldPair(aligned), PredictionPair(aligned)):
        parts = whole(source)
        assert parts["hs"].shape[-1] == (scene.bands.good & (scene.bands.detector == "VNIR")).sum()
        assert parts["ms"].shape[-1] == 8 and parts["valid"].mean() > 0.5


def test_whole_vnir_empty(simulated):
    with pytest.raises(BandError, match="B02"):
        align(without(simulated[0], "VNIR"), simulated[1])


def test_all_cloudy(simulated):
    scene, guide, _ = simulated
    cloud = scene.quality["cloud"] * 0 + 1
    with pytest.raises(NoValidPixels, match="cloudy"):
        align(replace(scene, quality={**scene.quality, "cloud": cloud}), guide)


def test_four_bands_without_classes(simulated):
    scene, guide, _ = simulated
    aligned = align(scene, replace(guide, bands20=None, scl=None))
    assert whole(WaldPair(aligned))["ms"].shape[-1] == whole(PredictionPair(aligned))["ms"].shape[-1] == 4


def moved(image, east, crs=None):
    "An image with another georeference."
    grid = Grid.of(image)
    grid = replace(grid, cols=replace(grid.cols, start=grid.cols.start + east), **({"crs": type(grid.crs).from_epsg(crs)} if crs else {}))
    return grid.georeference(image.values, coords={"band": image.band.values})


def test_partner_of_another_place(simulated):
    scene, guide, _ = simulated
    with pytest.raises(GridError, match="do not overlap"):
        align(scene, replace(guide, bands10=moved(guide.bands10, 50_000), bands20=None, scl=None))
    with pytest.raises(GridError, match="32601"):
        align(scene, replace(guide, bands10=moved(guide.bands10, 0, 32601), bands20=None, scl=None))
    with pytest.raises(GridError, match="7 x 7"):
        align(scene, replace(guide, bands10=moved(guide.bands10, 62 * 30), bands20=None, scl=None))


def test_partner_that_covers_a_part(simulated):
    scene, guide, _ = simulated
    part = align(scene, replace(guide, bands10=guide.bands10[:, 31:150, 40:177], bands20=None, scl=None))
    pair = WaldPair(part)
    assert pair.grid.shape[0] < 45 and pair.valid[3:-3, 3:-3].mean() > 0.9
    assert Grid.of(guide.bands10[:, 31:150, 40:177]).bounds[0] <= pair.grid.bounds[0] + 15


def test_window_of_a_crop(simulated):
    scene, guide, _ = simulated
    window = slice(9, 50), slice(13, 56)
    pair = WaldPair(align(scene, guide, window=window))
    assert pair.grid == Grid.of(scene.cube).part(*window)
    target, cube = whole(pair)["target"], np.moveaxis(scene.cube.values[scene.bands.good][(slice(None), *window)], 0, -1)
    held = np.isfinite(target)
    np.testing.assert_array_equal(to_int16(target[held]), to_int16(cube[held]))
    assert held.mean() > 0.9
    with pytest.raises(GridError, match="7 x 7"):
        align(scene, guide, window=(slice(0, 6), slice(0, 40)))


@pytest.mark.parametrize("window", [(slice(30, 37), slice(30, 37)), (slice(3, 11), slice(1, 60)), (slice(0, 59), slice(20, 29))])
def test_tiny_and_odd(simulated, window):
    aligned = align(*simulated[:2], window=window)
    for source in (WaldPair(aligned), PredictionPair(aligned)):
        parts = whole(source)
        assert parts["hs"].shape[:2] == source.grid.shape and np.isfinite(parts["hs"]).any()


def test_rotated_footprint():
    scene, guide, _ = simulate_pair((70, 70), seed=2, rotation=20.0)
    source = WaldPair(align(scene, guide))
    missing = np.isnan(scene.cube.values[scene.bands.good]).all(0)
    assert 0.05 < missing.mean() < 0.7
    parts = whole(source)
    assert not (parts["valid"] & missing).any() and parts["valid"][~missing].mean() > 0.7
    fine = whole(PredictionPair(source.aligned))
    assert np.isnan(fine["hs"][:20, :20]).all() == missing[:6, :6].all()


def test_constants_agree():
    assert 0.9 < wald.CLEAR < 1 and REACH >= 49
