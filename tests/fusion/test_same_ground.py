"A guide that shows something else: EnMAP alone is used there, and a line says so."
from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from enmap_sharpener.core.grid import Grid
from enmap_sharpener.fusion.measurement import align_guide
from enmap_sharpener.fusion.pair import Pair, interpolate
from enmap_sharpener.fusion.same_ground import UNCHECKED, same_ground
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair

GUIDED = ("subspace", "gsa")     # the other peers share what is tested here
NOT_THE_SAME = "does not show the same ground as EnMAP"


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(size=48, seed=3)[:2]


def altered(guide, change):
    "The guide with `change(values)` in both stacks."
    stacks = {name: getattr(guide, name) for name in ("bands10", "bands20") if getattr(guide, name) is not None}
    return replace(guide, **{name: image.copy(data=np.asarray(change(image.values), np.float32)) for name, image in stacks.items()})


def judged(scene, guide, method="subspace"):
    "Class, trust and report."
    plan = sharpen(scene, guide, method)
    kind, trust = plan.quality_dataarray().values[:2]
    return kind, trust, plan.report


def turned(values):
    return values[:, ::-1, ::-1]


def half_turned(values):
    out = values.copy()
    out[:, :, values.shape[2] // 2:] = turned(values)[:, :, values.shape[2] // 2:]
    return out


WRONG = {
    "turned": turned, "mirrored": lambda v: v[:, ::-1], "constant": lambda v: 0 * v + 0.15, "zeros": lambda v: 0 * v, "saturated": lambda v: 0 * v + 1.6,
    "noise": lambda v: np.random.default_rng(0).uniform(0, 0.4, v.shape), "a ramp": lambda v: 0 * v + np.linspace(0.05, 0.3, v.shape[2]),
    "far away": lambda v: np.roll(v, v.shape[1] // 3, 1), "one bright pixel": lambda v: np.where(np.arange(v.shape[2]) == 30, 0.5, 0 * v + 0.1),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("method", GUIDED)
def test_other_ground(pair, what, method):
    scene, guide = pair
    kind, trust, report = judged(scene, altered(guide, WRONG[what]), method)
    assert set(np.unique(kind)) <= {0, 2} and trust.max() <= 5
    assert report["same_ground"]["same"] is False and sum(NOT_THE_SAME in line for line in report["assumptions"]) == 1


@pytest.mark.parametrize("method", GUIDED)
def test_half_of_it(pair, method):
    scene, guide = pair
    kind, trust, report = judged(scene, altered(guide, half_turned), method)
    kind_right, trust_right, _ = judged(scene, guide, method)
    held, middle = kind_right > 0, kind.shape[1] // 2
    left, right = held[:, :middle - 24], held[:, middle + 24:]
    assert (kind[:, middle + 24:][right] == 2).mean() > 0.85 and trust[:, middle + 24:][right].mean() < 10
    assert trust[:, :middle - 24][left].mean() > trust_right[:, :middle - 24][left].mean() - 10
    assert report["same_ground"]["same"] is True and any("shows other ground than EnMAP, or cloud, on" in line for line in report["assumptions"])


def test_where_it_is_wrong_nothing_is_lost_against_enmap_alone(pair):
    "What is put out under other ground is no worse than without a guide."
    scene, guide = pair
    truth = simulate_pair(size=48, seed=3)[2]
    good = np.flatnonzero(scene.bands.good)
    error = {}
    for name, g, method in (("wrong", altered(guide, turned), "subspace"), ("cubic", guide, "cubic")):
        cube = sharpen(scene, g, method).to_dataarray()
        true = truth.sel(x=cube.x, y=cube.y, method="nearest").values
        error[name] = float(np.sqrt(np.nanmean((cube.values[good] - true[good]) ** 2)))
    assert error["wrong"] <= error["cubic"]


@pytest.mark.parametrize("size", [40, pytest.param(100, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)])
def test_at_every_size(size):
    "Another place, the same turned, nothing and noise are never trusted, the right ground is, whatever the size of the scene."
    scene, guide, _ = simulate_pair(size=size, seed=5)
    elsewhere = simulate_pair(size=size, seed=6)[1]
    middle = (slice(size // 8, -size // 8),) * 2
    trust = lambda g: align_guide(Pair(scene, g)).whole.trust[middle].mean()
    assert trust(guide) > 0.9
    assert trust(replace(elsewhere, scl=guide.scl)) == 0
    for what in ("turned", "saturated", "noise"):
        assert trust(altered(guide, WRONG[what])) == 0


def test_a_guide_without_detail_has_no_sharp_geometry():
    "Its standard errors are infinite, and nothing is computed that has no value."
    scene, guide, _ = simulate_pair(size=24, seed=5)
    with np.errstate(all="raise", under="ignore"):
        geometry = align_guide(Pair(scene, altered(guide, WRONG["saturated"]))).geometry
    assert not geometry.measured and geometry.shift == (0.0, 0.0)


@pytest.fixture(scope="module")
def patched(pair):
    "The guide with patches of other ground, off the edges of EnMAP's pixels; and where, on the grid of its 10 m bands."
    where = np.zeros(pair[1].bands10.shape[1:], bool)
    places = [(30, 44, 16, 12), (70, 20, 14, 18), (92, 96, 12, 16), (40, 100, 18, 14)]
    def patches(values):
        k = values.shape[1] / where.shape[0]
        out = values.copy()
        for y, x, h, w in (np.round(np.array(p) * k).astype(int) for p in places):
            out[:, y:y + h, x:x + w] = values[:, ::-1, ::-1][:, y:y + h, x:x + w]
        return out
    for y, x, h, w in places:
        where[y:y + h, x:x + w] = True
    return altered(pair[1], patches), where


def test_changed_ground_is_no_worse_than_enmap_alone(pair, patched):
    "Over the patches, and over what is distrusted; and the ground around them keeps its detail."
    (scene, _), (guide, where), truth = pair, patched, simulate_pair(size=48, seed=3)[2]
    plan, good = sharpen(scene, guide), np.flatnonzero(scene.bands.good)
    cube, grid = plan.to_dataarray(), Grid.of(guide.bands10)
    true = truth.sel(x=cube.x, y=cube.y, method="nearest").values[good]
    rows, cols = (np.round(a.index(b.centres)).astype(int) for a, b in zip((grid.rows, grid.cols), (plan.grid.rows, plan.grid.cols), strict=True))
    changed, trust = where[rows][:, cols], plan.quality_dataarray().values[1]
    alone = sharpen(scene, guide, "cubic").to_dataarray().values[good]
    rms = lambda image, at: float(np.sqrt(np.nanmean((image - true)[:, at] ** 2)))
    for at in (changed, (trust < 50) & binary_dilation(changed, iterations=6)):
        assert at.sum() > 200 and rms(cube.values[good], at) <= rms(alone, at)
    around = binary_dilation(changed, iterations=6) & ~changed
    assert rms(cube.values[good], around) < 0.7 * rms(alone, around)


def test_trust_keeps_to_edges_that_the_guide_shows(pair, patched):
    "Linear interpolation between EnMAP's pixels trusts more of what has changed, and less of what has not."
    aligned = align_guide(Pair(pair[0], patched[0]))
    fine, coarse, grid = aligned.pair.fine, aligned.pair.coarse, Grid.of(patched[0].bands10)
    rows, cols = (np.round(a.index(b.centres)).astype(int) for a, b in zip((grid.rows, grid.cols), (fine.rows, fine.cols), strict=True))
    changed, window = patched[1][rows][:, cols], tuple(slice(0, n) for n in fine.shape)
    trust, linear = aligned.whole.trust_between(*window), interpolate(aligned.whole.trust, coarse, fine)
    around = binary_dilation(changed, iterations=4) & ~changed
    assert trust[changed].mean() < linear[changed].mean() and trust[around].mean() > linear[around].mean() + 0.05
    part = slice(31, 77), slice(18, 63)
    np.testing.assert_array_equal(aligned.whole.trust_between(*part), trust[part])


@pytest.mark.parametrize("name, change", {
    "right": lambda v: v, "brighter": lambda v: 1.5 * v + 0.05, "another season": lambda v: 0.4 - v, "hazy": lambda v: 0.5 * v + 0.1,
    "noisy": lambda v: v + np.random.default_rng(1).normal(0, 0.01, v.shape), "a pixel off": lambda v: np.roll(v, 3, 2)}.items())
def test_what_is_no_other_ground(pair, name, change):
    kind, _, report = judged(pair[0], altered(pair[1], change), "gsa")
    assert report["same_ground"]["same"] is True and report["same_ground"]["other_ground"] == 0
    assert not any(NOT_THE_SAME in line for line in report["assumptions"]) and (kind == 1).any()


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_a_guide_mostly_under_cloud(pair, share):
    "What is left of it is judged by itself: right or wrong."
    scene, guide = pair
    def clouds(values):
        out = values.copy()
        out[:, : int(share * values.shape[1])] = np.nan
        return out
    kind, _, report = judged(scene, altered(guide, clouds), "gsa")
    assert report["same_ground"]["same"] is not False and (kind == 1).any()
    kind, _, report = judged(scene, altered(guide, lambda v: clouds(turned(v))), "gsa")
    assert report["same_ground"]["same"] is False and not (kind == 1).any()


@pytest.mark.parametrize("method", GUIDED)
def test_ground_without_structure_contradicts_nothing(pair, method):
    "Sand, water: the guide may be right, and adds nothing; the report says that it could not be checked."
    scene, guide = pair
    rng = np.random.default_rng(0)
    level = np.nan_to_num(scene.cube.values[:, 20:30, 20:30].mean((1, 2), keepdims=True))
    sand = replace(scene, cube=scene.cube.copy(data=np.float32(level + 0.0007 * rng.normal(size=scene.cube.shape))), quality={})
    R = [float(level[np.abs(scene.bands.wavelength - nm).argmin(), 0, 0]) for nm in (492, 560, 665, 833)]
    flat = replace(guide, bands20=None, bands10=guide.bands10.copy(data=np.float32(np.array(R)[:, None, None] + 0.0007 * rng.normal(size=guide.bands10.shape))))
    kind, _, report = judged(sand, flat, method)
    assert report["same_ground"]["same"] is None and (kind == 1).mean() > 0.9
    assert any(line.endswith(UNCHECKED) for line in report["assumptions"])


def part(scene, rows, cols):
    "A window of a scene, without its quality layers."
    return replace(scene, cube=scene.cube[:, rows, cols].rio.write_transform(scene.cube[:, rows, cols].rio.transform(recalc=True)), quality={})


@pytest.mark.parametrize("size", [7, 9, 12])
@pytest.mark.parametrize("what", ["right", "turned", "zeros"])
def test_small_scenes(pair, size, what):
    "What is too small to tell is sharpened; nothing fails."
    window = slice(20, 20 + size)
    kind, trust, report = judged(part(pair[0], window, window), altered(pair[1], {"right": lambda v: v, **WRONG}[what]))
    assert set(np.unique(kind)) <= {1, 2} and report["same_ground"]["same"] in {"right": (True, None), "turned": (False, None, *[True] * (size < 9)), "zeros": (False,)}[what]
    assert (kind == 1).any() == (report["same_ground"]["same"] is not False)


def test_few_valid_pixels(pair):
    scene, guide = pair
    few = scene.cube.values.copy()
    few[:, :20], few[:, 26:], few[:, :, :20], few[:, :, 26:] = 4 * (np.nan,)
    kind, _, report = judged(replace(scene, cube=scene.cube.copy(data=few)), guide)
    assert report["same_ground"]["same"] in (True, None) and (kind == 1).any()


def test_islands_in_a_calm_sea():
    "Most of the scene is flat; what little is not agrees, or it does not."
    rng, use = np.random.default_rng(0), np.ones((80, 80), bool)
    there, elsewhere = (0.02 + 0.0005 * rng.normal(size=(2, 80, 80, 4))).astype(np.float32)
    there[10:30, 40:60] = 0.1 + 0.1 * rng.random((20, 20, 1))
    elsewhere[45:60, 5:40] = 0.1 + 0.1 * rng.random((15, 35, 1))
    assert same_ground(there, there + 0.0003, use).verdict is True and not same_ground(there, there, use).other.any()
    assert same_ground(there, elsewhere, use).other[13:27, 43:57].mean() > 0.9


@pytest.mark.parametrize("name", ["91_flat_guide/const1500", "91_flat_guide/noise", "91_flat_guide/saturated", "91_flat_guide/zeros", "92_other_ground/flipped"])
@pytest.mark.parametrize("method", GUIDED)
def test_field(shared, name, method):
    folder = shared / "data/field" / name
    product = next((folder.parent / "scene" if "92" in name else folder.parent).glob("ENMAP*"))
    kind, trust, report = judged(read_enmap(product), read_sentinel2(folder), method)
    assert set(np.unique(kind)) == {0, 2} and trust.max() == 0 and any(NOT_THE_SAME in line for line in report["assumptions"])


@pytest.mark.parametrize("method", GUIDED)
def test_every_case_shows_the_same_ground(case, method):
    product = next(p for p in case.glob("ENMAP*"))
    report = sharpen(read_enmap(product), read_sentinel2(case), method).report
    assert report["same_ground"]["same"] is True and report["same_ground"]["other_ground"] == 0


@pytest.mark.parametrize("what", ["turned", "zeros", "constant"])
def test_twenty_metre_bands_of_other_ground_are_left_out(pair, what):
    "The 10 m bands guide alone, as if there were no others."
    scene, guide = pair
    wrong = replace(guide, bands20=guide.bands20.copy(data=np.asarray(WRONG[what](guide.bands20.values), np.float32)))
    found, alone = sharpen(scene, wrong), sharpen(scene, replace(guide, bands20=None))
    said = "do not show the ground that EnMAP and its other bands show" if what == "turned" else "its B05 B06 B07 B8A B11 B12 are the same everywhere"
    assert len(found.report["guide_bands"]) == 4 and any(said in line for line in found.report["assumptions"])
    np.testing.assert_array_equal(found.to_dataarray().values, alone.to_dataarray().values)


ODD = {
    "turned": lambda v: v[:, ::-1, ::-1],
    "noise": lambda v: np.random.default_rng(0).normal(0.1, 0.03, v.shape),
    "far aside": lambda v: np.roll(v, v.shape[2] // 20, 2),      # some 70 m
    "the same everywhere": lambda v: 0 * v + 0.15,
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("stack, names", [("bands20", ["B11", "B12"]), ("bands20", ["B05", "B06", "B07", "B8A"]), ("bands20", ["B12"]), ("bands10", ["B08"]), ("bands10", ["B02", "B03"])])
def test_bands_that_show_something_else_are_left_out_and_said(pair, what, stack, names):
    "They were used, with trust 100: B11 and B12 of noise made the whole worse than no 20 m bands by 7 dB."
    scene, guide = pair
    image = getattr(guide, stack)
    at, values = np.isin(image.band.values, names), image.values.copy()
    values[at] = ODD[what](values[at])
    found = Pair(scene, replace(guide, **{stack: image.copy(data=values)}))
    aligned = align_guide(found)
    assert set(found.names) - set(aligned.pair.names) == set(names)
    assert any(f"its {' '.join(names)}" in line and line.endswith("left out") for line in aligned.pair.assumptions)


def test_all_twenty_metre_bands_far_aside_are_left_out(pair):
    scene, guide = pair
    aligned = align_guide(Pair(scene, replace(guide, bands20=guide.bands20.copy(data=np.roll(guide.bands20.values, 4, 2)))))
    assert len(aligned.pair.names) == 4


@pytest.mark.parametrize("options", [{}, {"change": 1.0}, {"clouds": 0.3}, {"noise": 3.0}])
def test_no_band_is_left_out_of_a_guide_that_is_right(options):
    for seed in (0, 1):
        found = Pair(*simulate_pair(size=36, seed=seed, **options)[:2])
        assert align_guide(found).pair.names == found.names


def test_no_band_of_a_case_is_left_out(case):
    product = next(p for p in case.glob("ENMAP*"))
    found = Pair(read_enmap(product), read_sentinel2(case))
    assert align_guide(found).pair.names == found.names
