"""Several Sentinel-2 dates as one guide: what is joined, what is left out, and what that brings on the cases."""
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from enmap_sharpener.core.errors import EnmapError, GridError, NoValidPixels
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.fusion import several_dates
from enmap_sharpener.fusion.measurement import measure_pair
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.response_bands import even_windows
from enmap_sharpener.fusion.several_dates import join_dates
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair


@pytest.fixture(scope="module")
def pair():
    return simulate_pair(size=48, seed=3, change=0)[:2]


def whole(pair):
    return slice(0, pair.fine.ny), slice(0, pair.fine.nx)


def named(guide, name, **images):
    return replace(guide, source=Path(name), **images)


def on(grid, values, image):
    return grid.georeference(values, coords={"band": image.band.values} if image.ndim > 2 else {}, name=image.name)


def part(guide, rows, name):
    """Rows of a guide, counted in 20 m pixels."""
    def cut(image, factor):
        window = slice(rows.start * factor, rows.stop * factor)
        return on(Grid.of(image).part(window, slice(0, image.shape[-1])), image.values[..., window, :], image)
    return named(guide, name, bands10=cut(guide.bands10, 2), bands20=cut(guide.bands20, 1), scl=None if guide.scl is None else cut(guide.scl, 1))


def clouded(guide, rows, name, scl=True):
    """A cloud over rows that are counted in 20 m pixels, with or without a classification that tells it."""
    white = np.zeros(guide.bands20.shape[1:], bool)
    white[rows] = True
    fine = np.kron(white, np.ones((2, 2), bool))[:guide.bands10.shape[1], :guide.bands10.shape[2]]
    classes = on(Grid.of(guide.bands20), np.where(white, 9, 4).astype(np.uint8), guide.scl if guide.scl is not None else guide.bands20[0])
    return named(guide, name, bands10=guide.bands10.where(~fine, 0.7), bands20=guide.bands20.where(~white, 0.7), scl=classes if scl else None)


def moved(guide, pixels, name, both=True):
    """A guide whose image lies `pixels` 20 m pixels further south and east than it says, or its 20 m bands alone."""
    roll = lambda image, by: image.copy(data=np.roll(image.values, (by, by), (1, 2)))
    return named(guide, name, bands10=roll(guide.bands10, 2 * pixels) if both else guide.bands10, bands20=roll(guide.bands20, pixels))


def test_one_date_gives_the_same_bytes_as_it_does_outside_a_list(pair):
    scene, guide = pair
    alone, listed = sharpen(scene, guide), sharpen(scene, [guide])
    np.testing.assert_array_equal(alone.to_dataarray(), listed.to_dataarray())
    np.testing.assert_array_equal(alone.quality_dataarray(), listed.quality_dataarray())
    assert "dates" not in listed.report and len(listed.quality_bands) == len(alone.quality_bands)


def test_clouds_of_each_date_are_filled_by_the_other(pair):
    scene, guide = pair
    dates = [clouded(guide, slice(8, 20), "a"), clouded(guide, slice(40, 55), "b", scl=False)]
    plan = sharpen(scene, dates)
    quality, alone = plan.quality_dataarray().values, sharpen(scene, guide).quality_dataarray().values
    assert plan.quality_bands[-1].name == "source" and len(quality) == len(alone) + 1
    assert (quality[0] == 1)[alone[0] == 1].mean() > 0.99
    assert set(np.unique(quality[-1])) == {0, 1, 2} and (quality[-1][alone[0] == 0] == 0).all()
    rows = (Grid.of(guide.bands10).rows.n - quality.shape[1]) // 2
    assert (quality[-1][20 - rows:36 - rows][quality[0][20 - rows:36 - rows] == 1] == 2).all()
    assert (quality[-1][86 - rows:104 - rows][quality[0][86 - rows:104 - rows] == 1] == 1).all()
    shares = [d["share"] for d in plan.report["dates"].values()]
    assert [*plan.report["dates"]] == ["1 a", "2 b"] and 0.98 < sum(shares) < 1.001 and min(shares) > 0.1


def test_dates_that_cover_different_parts_on_grids_that_start_elsewhere(pair):
    scene, guide = pair
    rows = guide.bands20.shape[1]
    plan, alone = sharpen(scene, [part(guide, slice(30, rows), "south"), part(guide, slice(0, 40), "north")]), sharpen(scene, guide)
    assert plan.grid == alone.grid and plan.report["covered"] == alone.report["covered"]
    a, b = plan.to_dataarray().values, alone.to_dataarray().values
    assert (np.isfinite(a) == np.isfinite(b)).all() and np.sqrt(np.nanmean((a - b) ** 2)) < 0.003
    assert (plan.quality_dataarray().values[0] == alone.quality_dataarray().values[0]).mean() > 0.99


def test_one_has_10_m_bands_alone(pair):
    scene, guide = pair
    dates = [named(clouded(guide, slice(40, 55), "fine"), "fine", bands20=None, scl=None), clouded(guide, slice(8, 20), "both")]
    plan = sharpen(scene, dates)
    assert len(plan.report["guide_bands"]) == 10
    quality, alone = plan.quality_dataarray().values[0], sharpen(scene, guide).quality_dataarray().values[0]
    assert (quality == 1)[alone == 1].mean() > 0.98      # what the date without 20 m bands shows alone is trusted less
    assert len(sharpen(scene, [replace(d, bands20=None) for d in dates]).report["guide_bands"]) == 4


def test_dates_that_lie_elsewhere_are_moved(pair):
    "By what lies between the measured shifts: a tenth of a pixel is reached, and the detail is that of one date."
    scene, guide = pair
    joined = join_dates(scene, [named(guide, "a"), moved(guide, 1, "b")])
    found = joined.dates.report
    assert found["1 a"]["moved_m"] == [0.0, 0.0] or found["2 b"]["moved_m"] == [0.0, 0.0]
    moves = np.subtract(found["1 a"]["moved_m"], found["2 b"]["moved_m"])
    np.testing.assert_allclose(moves, [20, 20], atol=1)
    inner = slice(20, -20), slice(20, -20)
    a, b = joined.ten(*whole(joined))[inner], Pair(scene, guide).ten(*whole(joined))[inner]
    if found["1 a"]["moved_m"] != [0.0, 0.0]:
        b = np.roll(b, (2, 2), (0, 1))
    assert np.sqrt(np.nanmean((a - b) ** 2)) < 0.15 * np.nanstd(b - np.roll(b, 1, 0))


def test_20_m_bands_that_lie_elsewhere_are_brought_back(pair):
    scene, guide = pair
    joined = join_dates(scene, [named(guide, "a"), moved(guide, 1, "b", both=False)])
    inner = slice(10, -10), slice(10, -10)
    everything = slice(0, joined.fine20.ny), slice(0, joined.fine20.nx)
    a, b = joined.twenty(*everything)[inner], Pair(scene, guide).twenty(*everything)[inner]
    assert np.sqrt(np.nanmean((a - b) ** 2)) < 0.15 * np.nanstd(b - np.roll(b, 1, 0))


def test_noise_falls(pair):
    scene, guide = pair
    rng = np.random.default_rng(0)
    dates = [named(guide, name, bands10=guide.bands10 + rng.normal(0, 0.01, guide.bands10.shape).astype(np.float32)) for name in "abcd"]
    joined, clean = join_dates(scene, dates), Pair(scene, guide)
    noise = lambda pair: np.nanstd(pair.ten(*whole(pair)) - clean.ten(*whole(clean)))
    assert noise(joined) < 0.6 * noise(Pair(scene, dates[0]))


def test_a_poor_date_is_left_out_and_said(pair):
    """Also where it alone shows the ground: EnMAP alone, class 2, is nearer the truth there."""
    scene, guide = pair
    rng = np.random.default_rng(1)
    poor = named(guide, "poor", bands10=guide.bands10 * rng.uniform(0.4, 1.6, guide.bands10.shape).astype(np.float32), bands20=None, scl=None)
    plan, alone = sharpen(scene, [poor, clouded(guide, slice(8, 20), "good")]), sharpen(scene, clouded(guide, slice(8, 20), "good"))
    told = [line for line in plan.report["assumptions"] if "left out" in line]
    assert len(told) == 1 and told[0].startswith("poor: leaves ") and "good" in told[0]
    share = float(re.search(r"it is left out, also from the (\d+\.\d)% of EnMAP's ground that no date shows which is used", told[0])[1])
    classes = plan.quality_dataarray().values[0]
    assert share == pytest.approx(100 * (classes == 2).sum() / (classes > 0).sum(), rel=0.3)
    assert plan.report["dates"]["1 poor"]["share"] == 0 and 1 not in plan.quality_dataarray().values[-1]
    np.testing.assert_array_equal(plan.to_dataarray(), alone.to_dataarray())
    np.testing.assert_array_equal(plan.quality_dataarray()[0], alone.quality_dataarray()[0])
    assert (plan.quality_dataarray()[0] == 2).mean() > 0.1


def test_what_shows_nothing_of_the_scene_is_left_out(pair):
    scene, guide = pair
    grid = Grid.of(guide.bands10)
    away = replace(grid, cols=replace(grid.cols, start=grid.cols.start + 1e5))
    far, empty = named(guide, "far", bands10=on(away, guide.bands10.values, guide.bands10), bands20=None, scl=None), named(guide, "empty", bands10=guide.bands10 * np.nan)
    joined = join_dates(scene, [far, guide, empty])
    assert [line.split(":")[0] for line in joined.guide.found if "left out" in line] == ["far", "empty"]
    assert joined.dates.names == ["far", guide.source.name, "empty"] and set(np.unique(joined.dates.source_at(*whole(joined)))) == {0, 2}
    with pytest.raises(GridError, match="km apart"):
        join_dates(scene, [far, far])
    with pytest.raises(NoValidPixels, match="every pixel is nodata"):
        join_dates(scene, [empty, empty])
    with pytest.raises(EnmapError, match="no Sentinel-2 image was given"):
        sharpen(scene, [])


def test_what_is_there_twice_counts_once(pair):
    "In another folder, a part of it, or without its 20 m bands; an image that differs in its 20 m bands, or shows what the other's mask hides, is another one."
    scene, guide = pair
    cut = guide.bands10.shape[1] // 4
    again = [named(guide, "again"), part(guide, slice(0, cut), "cut"), named(guide, "fine", bands20=None)]
    joined = join_dates(scene, [guide, *again])
    assert [line.split(":")[0] for line in joined.guide.found if "shows nothing that" in line] == ["fine", "cut", "again"]
    assert [d["share"] for d in joined.dates.report.values()] == pytest.approx([1, 0, 0, 0], abs=1e-3)
    np.testing.assert_array_equal(sharpen(scene, [guide, *again]).to_dataarray(), sharpen(scene, guide).to_dataarray())
    others = [named(guide, "brighter", bands20=guide.bands20 * np.float32(1.01)), clouded(guide, slice(8, 20), "cloud")]
    for other in others:
        assert not any("shows nothing that" in line for line in join_dates(scene, [other, guide]).guide.found), other.source


def test_pixels_that_lie_between_are_refused(pair):
    scene, guide = pair
    grid = Grid.of(guide.bands10)
    between = replace(grid, rows=replace(grid.rows, start=grid.rows.start + 4))
    with pytest.raises(GridError, match="lie between them; several dates must share their pixels"):
        join_dates(scene, [guide, named(guide, "b", bands10=on(between, guide.bands10.values, guide.bands10), bands20=None, scl=None)])


def test_windows_do_not_matter(pair, monkeypatch):
    scene, guide = pair
    dates = [clouded(guide, slice(8, 20), "a"), moved(clouded(guide, slice(40, 55), "b"), 1, "b")]
    once = join_dates(scene, dates)
    monkeypatch.setattr(several_dates, "even_windows", lambda grid, size: even_windows(grid, 40))
    cut = join_dates(scene, dates)
    for read, grid in ((lambda p, *w: p.ten(*w), once.fine), (lambda p, *w: p.twenty(*w), once.fine20)):
        everything = slice(0, grid.ny), slice(0, grid.nx)
        np.testing.assert_allclose(read(once, *everything), read(cut, *everything), atol=1.01e-4)
    np.testing.assert_array_equal(once.dates.source_at(*whole(once)), cut.dates.source_at(*whole(cut)))


def test_networks_and_other_methods_take_them(pair):
    scene, guide = pair
    dates = [clouded(guide, slice(8, 20), "a"), clouded(guide, slice(40, 55), "b")]
    for method in ("gsa", "cubic"):
        plan = sharpen(scene, dates, method)
        assert plan.quality_dataarray().shape[0] == len(plan.quality_bands) and [*plan.report["dates"]] == ["1 a", "2 b"]


REACH = {   # place, its further dates, PSNR [dB] that two and three dates must reach
    "potsdam_hard": ("cases", "train", 36.9, 37.7), "train_h1": ("cases_more", "train", 35.1, 37.4),
    "jasper_h": ("cases_more", "jasper", 37.9, 39.7), "airport-4_h": ("cases_more", "airport-4", 39.6, 40.5),
}


def scored(scene, guides, folder, place, scorer):
    from enmap_sharpener.reconstruction.output import write_scene
    write_scene(sharpen(scene, guides), place / "out.tif", scene=scene, guide=guides, overwrite=True)
    return scorer.score(folder, place / "out.tif")


@pytest.fixture(scope="module")
def scorer(shared):
    import importlib.util
    spec = importlib.util.spec_from_file_location("score", shared / "tools/score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", REACH)
def test_cases_reach_what_they_must(shared, scorer, tmp_path, name):
    place, dates, two, three = REACH[name]
    folder = shared / "data" / place / name
    scene = read_enmap(next(folder.glob("ENMAP*")))
    guides = [read_sentinel2(f) for f in (folder, *(shared / f"data/cases_more/dates/{dates}_s20{i}h" for i in (1, 2)))]
    assert scored(scene, guides[:2], folder, tmp_path, scorer)["psnr"] >= two
    assert scored(scene, guides, folder, tmp_path, scorer)["psnr"] >= three


def test_a_second_clear_date_costs_nothing(shared, scorer, tmp_path):
    folder = shared / "data/cases/potsdam_train_mismatch"
    scene = read_enmap(next(folder.glob("ENMAP*")))
    guides = [read_sentinel2(f) for f in (folder, shared / "data/cases_more/dates/train_s203m")]
    one, two = scored(scene, guides[0], folder, tmp_path, scorer), scored(scene, guides, folder, tmp_path, scorer)
    assert two["psnr"] >= 38.4 and two["ergas"] <= one["ergas"]
    assert measure_pair(join_dates(scene, guides)).weight.mean() > 0.99


def test_a_date_of_another_zone_that_lies_elsewhere_is_left_out(pair):
    scene, guide = pair
    far = named(guide, "far", bands10=guide.bands10.rio.write_crs(32632), bands20=guide.bands20.rio.write_crs(32632), scl=None)
    assert "far: does not overlap EnMAP; it is left out" in join_dates(scene, [guide, far]).guide.found
    with pytest.raises(GridError, match="do not overlap, in EPSG:32633 and EPSG:32632"):
        join_dates(scene, [far, far])
