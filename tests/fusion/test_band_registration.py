"Where the 20 m bands lie on the 10 m bands: found, used and told; and left alone where they lie right."
import sys
from dataclasses import replace

import numpy as np
import pytest
from readme import ROOT

import enmap_sharpener as es
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.fusion import measurement
from enmap_sharpener.fusion.band_registration import LEAST_SHIFT, Registration, measure_shift20, register_twenty
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.sharpening.sharpening import sharpen

TWENTY = SENTINEL2.coarser
RED_EDGE, SWIR = (TWENTY.serving(name) for name in ("VNIR", "SWIR"))


@pytest.fixture(scope="module")
def simulated():
    "A pair without changes between the days, and its truth."
    return es.simulate_pair(50, seed=1, change=0.0)


def moved(simulated, red_edge, swir, noise=0.001):
    "The guide with 20 m bands that lie off by so many 20 m pixels (y, x), made from the truth."
    _, guide, truth = simulated
    land = np.nan_to_num(truth.values)
    bands = np.tensordot(TWENTY.responses(truth.wavelength.values).astype("f4"), land, 1)
    grid, out = Grid.of(guide.bands20), np.empty(guide.bands20.shape, "f4")
    for positions, lies in ((RED_EDGE, red_edge), (SWIR, swir)):
        out[positions] = Observation.between(grid, Grid.of(truth), 0.45, lies).degrade(bands[positions])
    out += np.random.default_rng(0).normal(0, noise, out.shape).astype("f4")
    return replace(guide, bands20=grid.georeference(out, coords={"band": guide.bands20.band.values}))


def tile(guide):
    "All of a guide as one tile."
    last = lambda image: np.ascontiguousarray(np.moveaxis(image.values, 0, -1))
    return last(guide.bands10), last(guide.bands20), Grid.of(guide.bands10), Grid.of(guide.bands20)


def errors(simulated, guide):
    "RMSE of the VNIR and of the SWIR against the truth, without a border, and the report."
    scene, _, truth = simulated
    found = sharpen(scene, guide, threads=1)
    cube, grid, full = found.to_dataarray().values, found.grid, Grid.of(truth)
    row, col = round((grid.rows.start - full.rows.start) / 10), round((grid.cols.start - full.cols.start) / 10)
    wrong = (cube - truth.values[:, row:row + grid.ny, col:col + grid.nx])[:, 10:-10, 10:-10]
    vnir = scene.bands.detector == "VNIR"
    return *(float(np.sqrt(np.nanmean(wrong[mask] ** 2))) for mask in (vnir, ~vnir)), found.report


@pytest.mark.parametrize("lies", [(0.5, -0.5), (0.12, 0.08), (-1.2, 0.9), (0.0, 0.3)])
def test_a_shift_is_found_to_a_tenth_of_a_10_m_pixel(simulated, lies):
    found = register_twenty([tile(moved(simulated, lies, (0, 0)))], TWENTY)
    assert found["VNIR"].measured and max(found["VNIR"].error) < 0.02
    np.testing.assert_allclose(found["VNIR"].shift, lies, atol=0.05)
    assert not found["SWIR"].measured and found["SWIR"].shift == (0.0, 0.0)


def test_a_shift_beyond_what_is_looked_for_is_none(simulated):
    assert not register_twenty([tile(moved(simulated, (3.0, 0), (0, -4.0)))], TWENTY)["VNIR"].measured


def test_the_fraction_between_the_detectors_is_left_to_their_own_measurement(simulated):
    lies = (0.1, -0.1)
    assert np.hypot(*lies) < LEAST_SHIFT["SWIR"]
    found = register_twenty([tile(moved(simulated, (0, 0), lies))], TWENTY)["SWIR"]
    assert not found.measured
    np.testing.assert_allclose(found.found, lies, atol=0.05)


@pytest.mark.parametrize("kind", ["flat", "noise", "stripes", "small", "other ground"])
def test_nothing_is_moved_without_evidence(simulated, kind):
    ten, twenty, fine, fine20 = tile(moved(simulated, (0.5, 0.5), (0.5, 0.5)))
    rng = np.random.default_rng(1)
    if kind == "flat":
        ten, twenty = np.full_like(ten, 0.2), np.full_like(twenty, 0.3)
    if kind == "noise":
        ten, twenty = (rng.uniform(0.1, 0.3, x.shape).astype("f4") for x in (ten, twenty))
    if kind == "stripes":     # along columns nothing tells the rows apart
        ten, twenty = np.broadcast_to(ten[:1], ten.shape).copy(), np.broadcast_to(twenty[:1], twenty.shape).copy()
    if kind == "other ground":
        twenty = np.ascontiguousarray(twenty[::-1, ::-1])
    if kind == "small":
        ten, twenty, fine, fine20 = ten[:24, :24], twenty[:12, :12], fine.part(slice(0, 24), slice(0, 24)), fine20.part(slice(0, 12), slice(0, 12))
    for found in register_twenty([(ten, twenty, fine, fine20)], TWENTY).values():
        assert found.shift == (0.0, 0.0) and np.isfinite(found.found).all()


def test_a_cloud_that_moved_between_the_bands_moves_no_scene(simulated):
    "Clouds are high and show a parallax: in two places of nine the bands lie elsewhere."
    ten, twenty, *grids = tile(moved(simulated, (0, 0), (0, 0)))
    for r, c in ((30, 40), (70, 20)):
        ten[2 * r:2 * r + 20, 2 * c:2 * c + 20] += 0.4
        twenty[r + 1:r + 11, c + 1:c + 11] += 0.4
    assert not register_twenty([(ten, twenty, *grids)], TWENTY)["VNIR"].measured


def test_errors_are_those_of_repeated_noise(simulated):
    "Shifts of one image with other noise scatter by no more than is told, and not by much less."
    ten, twenty, *grids = tile(moved(simulated, (0.2, -0.1), (0, 0), noise=0))
    rng = np.random.default_rng(2)
    noisy = [(ten, (twenty + rng.normal(0, 0.01, twenty.shape)).astype("f4")[..., RED_EDGE], *grids) for _ in range(12)]
    found, error, _, _ = (np.array(x) for x in zip(*(measure_shift20([t], 0.45) for t in noisy), strict=True))
    assert np.all(found.std(0) < 2 * error.mean(0)) and np.all(error.mean(0) < 0.02)


def test_sharpened_where_it_lies(simulated):
    "With half a 20 m pixel the result is nearly what it is without; as if it lay right, it is far worse."
    right, off = (errors(simulated, moved(simulated, lies, lies)) for lies in ((0, 0), (0.5, -0.5)))
    assert all(b < 1.1 * a for a, b in zip(right[:2], off[:2], strict=True))
    told = off[2]["bands_20m"]
    assert list(told) == ["B05 B06 B07 B8A", "B11 B12"]
    for group in told.values():
        assert group["measured"]
        np.testing.assert_allclose(group["shift_m"], (10, -10), atol=1)
    assert told["B05 B06 B07 B8A"]["sigma_m"] == pytest.approx(9, abs=0.7)
    assert [line.partition(": ")[2].split(" lie ")[0] for line in off[2]["assumptions"] if " m south and " in line] == ["its B05 B06 B07 B8A", "its B11 B12"]
    assert not any(" lie " in line for line in right[2]["assumptions"])


@pytest.mark.slow
def test_as_if_it_lay_right_is_worse(simulated, monkeypatch):
    guide = moved(simulated, (0.5, -0.5), (0.5, -0.5))
    found = errors(simulated, guide)
    monkeypatch.setattr(measurement, "register_twenty", lambda tiles, bands, threads=1: {name: Registration() for name in bands.detectors})
    still = errors(simulated, guide)
    assert all(a < 0.75 * b for a, b in zip(found[:2], still[:2], strict=True))


def test_what_lies_right_is_sharpened_as_if_nothing_had_been_measured(simulated, monkeypatch):
    guide = moved(simulated, (0.01, 0.01), (0.05, 0.05))
    found = sharpen(simulated[0], guide, threads=1).to_dataarray().values
    monkeypatch.setattr(measurement, "register_twenty", lambda tiles, bands, threads=1: {name: Registration() for name in bands.detectors})
    np.testing.assert_array_equal(found, sharpen(simulated[0], guide, threads=1).to_dataarray().values)


@pytest.mark.slow
def test_blocks_do_not_matter_where_bands_lie_off(simulated):
    plan = sharpen(simulated[0], moved(simulated, (0.5, -0.4), (-1.1, 0.6)), threads=1)
    put = [np.zeros((len(plan.bands), *plan.grid.shape), np.int16) for _ in range(2)]
    for size, cube in zip((37, 10_000), put, strict=True):
        for block in plan.blocks(size):
            cube[:, block.rows, block.cols] = block.cube
    assert np.abs(put[0].astype(int) - put[1]).max() <= 1 and (put[0] != put[1]).mean() < 1e-3


@pytest.mark.slow
def test_real_sentinel2(shared):
    "An image that was cut and resampled by others lies 10 m off in both directions; others do not lie off."
    sys.path.append(str(ROOT / "benchmarks"))
    from twenty_to_ten import COARSE, IMAGES, few, tiles
    for name, (read, path) in IMAGES.items():
        image = read(shared / "data" / path).crop(np.random.default_rng(0))
        found = register_twenty(few(tiles(image.ten, image.twenty)), COARSE)["VNIR"]
        np.testing.assert_allclose(np.multiply(found.shift, 20), (10, 10) if name == "T48QUE" else (0, 0), atol=0.5)
