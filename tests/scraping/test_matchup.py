"Which Sentinel-2 acquisition, on which grid, and how a fetch ends; the provider is a stand-in in memory."
import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
from hypothesis import given
from hypothesis import strategies as st
from products import METADATA, SCENE_ID, cube, product, table
from rasterio.crs import CRS

from enmap_sharpener.core.errors import GridError, OutputError, PartnerError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.scenes.enmap import read_enmap, write_enmap
from enmap_sharpener.scenes.pairing import find_guide, has_guide
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.scraping.candidates import Acquisition, TileItem, acquisition_score, passes, rank, read_tile_item
from enmap_sharpener.scraping.matchup import (
    _windows_of,
    choose,
    enmap_angles,
    fetch_partner,
    scene_footprint,
    target_grid,
)
from enmap_sharpener.scraping.services import pairs_table, scene_folders

START = METADATA.start
WORLD = shapely.box(-170, -80, 170, 80)


def acquisition(days=1.0, overlap=1.0, cloud=0.0, **told):
    time = START + timedelta(days=days)
    return Acquisition(time.date(), time, "S2A", (f"tile {days}",), WORLD, cloud, overlap, days, **{"extra": {"end": time.isoformat()}} | told)


class Memory:
    "A provider in memory: number of pixels since the map's origin; `clouds` of the scene by days; counts what it is asked."

    name, largest, spent = "memory", 60, 0.0

    def __init__(self, acquisitions=(), clouds=None, missing=()):
        self.listed, self.clouds, self.missing, self.looks, self.reads = list(acquisitions), clouds or {}, missing, [], 0

    def acquisitions(self, footprint, start, days):
        return self.listed

    def look(self, a, grid):
        self.looks.append(a.days)
        scl = np.full(grid.shape, 4, "uint8")
        scl.ravel()[:round(scl.size * self.clouds.get(a.days, a.cloud) / 100)] = 9
        return scl, {}

    def read(self, a, bands, grid):
        self.reads += 1
        x, y = np.meshgrid(grid.cols.centres // grid.cols.step, -grid.rows.centres // grid.rows.step)
        planes = [np.full(grid.shape, 4) if b == "SCL" else (x + 3 * y + n) % 9000 for n, b in enumerate(bands)]
        return np.where(a.days in self.missing, -32768, np.stack(planes)).astype("int16")

    def estimate(self, grid):
        return 0.0


shares = st.floats(0, 1)


@given(st.lists(st.tuples(st.floats(-20, 20), shares, st.floats(0, 100)), max_size=8))
def test_the_ranking_follows_the_formula(candidates):
    ranking = rank([acquisition(*c) for c in candidates], 15)
    assert len(ranking) == len(candidates) and [r.score for r in ranking] == sorted((r.score for r in ranking), reverse=True)
    for place, (value, a, why) in enumerate(ranking):
        clear = a.overlap * (1 - a.cloud / 100)
        refused = abs(a.days) > 15 or a.overlap < 0.5 or clear < 0.1
        assert value == (0 if refused else pytest.approx(clear * np.exp(-abs(a.days) / 15)))
        assert why.startswith("refused") == refused and "\n" not in why
        if not refused and sum(r.score > 0 for r in ranking) > 1:
            assert ("beats" if place == 0 else "falls behind") in why


@given(st.lists(st.tuples(st.floats(-15, 15), shares, st.floats(0, 100), st.floats(0, 100)), min_size=1, max_size=12, unique_by=lambda c: c[0]))
def test_looking_in_order_of_hope_finds_the_best_of_all(candidates):
    grid = Grid(CRS.from_epsg(32633), Axis(-5_806_140.0, 10.0, 60), Axis(366_000.0, 10.0, 60))
    provider = Memory([acquisition(days, 1.0, told) for days, _, told, _ in candidates], {c[0]: c[3] for c in candidates})
    everything = [acquisition_score(acquisition(days, 1.0, true), 15) for days, _, _, true in candidates]
    area = shapely.box(13, 52.3, 13.1, 52.4)
    if max(everything) == 0:
        return
    try:
        ranking = choose(provider, area, START, grid)
    except PartnerError:
        assert max(everything) < 0.12           # 96 pixels a side round the shares
        return
    assert ranking[0].score == pytest.approx(max(everything), abs=0.01)
    assert len(provider.looks) == len(set(provider.looks)) <= len(candidates)


def test_a_good_day_spares_the_looks_at_the_others():
    grid = Grid(CRS.from_epsg(32633), Axis(-5_806_140.0, 10.0, 60), Axis(366_000.0, 10.0, 60))
    provider = Memory([acquisition(d) for d in (-12, -7, -2, 3, 8, 13)])
    assert choose(provider, shapely.box(13, 52.3, 13.1, 52.4), START, grid)[0].acquisition.days == -2
    assert provider.looks == [-2]


@given(st.floats(2e5, 8e5), st.floats(1e6, 9e6), st.floats(0, 1000))
def test_the_grid_is_sentinel2s_and_holds_the_margin(west, north, margin):
    enmap = Grid(CRS.from_epsg(32733), Axis(-north, 30, 11), Axis(west, 30, 17))
    grid = target_grid(enmap, margin)
    assert all(edge % 20 == 0 for edge in grid.bounds) and (grid.rows.step, grid.cols.step) == (10, 10)
    for inner, outer, sign in zip(enmap.bounds, grid.bounds, (1, 1, -1, -1)):
        assert -1e-6 <= sign * (inner - outer) - margin < 20 + 1e-6


@given(st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 2500))
def test_windows_cover_a_grid_once(ny, nx, largest):
    largest = max(largest, max(ny, nx) // 12 + 1)
    grid = Grid(CRS.from_epsg(32633), Axis(-60.0, 10.0, ny), Axis(20.0, 10.0, nx))
    rows = _windows_of(grid, largest)
    assert sum(row[0].ny for row in rows) == ny and sum(part.nx for part in rows[0]) == nx
    assert max(max(part.shape) for row in rows for part in row) <= largest
    for row in rows:
        for left, right in zip(row, row[1:]):
            assert left.bounds[2] == right.bounds[0] and left.bounds[1::2] == right.bounds[1::2]
    for above, below in zip(rows, rows[1:]):
        assert above[0].bounds[1] == below[0].bounds[3]


@pytest.mark.parametrize(("crs", "word"), [(4326, "UTM"), (2263, "UTM")])
def test_grids_that_are_not_metric_are_refused(crs, word):
    with pytest.raises(GridError, match=word):
        target_grid(Grid(CRS.from_epsg(crs), Axis(-50.0, 1.0, 3), Axis(10.0, 1.0, 3)))


def test_a_partner_comes_whole_and_stays(tmp_path):
    scene, provider = product(tmp_path), Memory([acquisition(2, cloud=5), acquisition(-1, cloud=60)])
    told = []
    record = fetch_partner(scene, provider, tell=told.append)
    assert record["chosen"]["days"] == 2 and record["units"] == {"estimate": 0.0, "spent": 0.0}
    partner, reads = read_sentinel2(scene / "sentinel2"), provider.reads
    assert partner.bands20.shape[1] * 2 == partner.bands10.shape[1] and partner.date == START + timedelta(days=2)
    assert any("clouds over the scene" in t for t in told) and any("B02-B08" in t for t in told)
    assert fetch_partner(scene, provider) == record and provider.reads == reads
    again = fetch_partner(scene, Memory([acquisition(1)]), overwrite=True)
    assert again["chosen"]["days"] == 1 and [p.name for p in scene.iterdir() if p.name.startswith(".")] == []
    assert read_enmap(scene).metadata.id == SCENE_ID


def test_a_partner_that_cannot_be_replaced_stays(tmp_path, monkeypatch):
    scene, replace = product(tmp_path), os.replace
    before = fetch_partner(scene, Memory([acquisition(2)]))
    def stop(a, b):
        if str(b) == str(scene / "sentinel2") and not str(a).endswith(".old"):
            raise PermissionError(13, "Permission denied")
        replace(a, b)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="sentinel2: cannot be written"):
        patch.setattr(os, "replace", stop)
        patch.setattr(os, "rename", stop)
        fetch_partner(scene, Memory([acquisition(1)]), overwrite=True)
    assert fetch_partner(scene, Memory()) == before


def test_what_a_kill_left_beside_a_partner_goes(tmp_path):
    scene = product(tmp_path)
    fetch_partner(scene, Memory([acquisition(2)]))
    hidden = scene / ".sentinel2.abcdefgh.part"
    hidden.mkdir()
    (hidden / "sentinel2_10m.tif").write_bytes(b"half")
    assert fetch_partner(scene, Memory([acquisition(1)]), overwrite=True)["chosen"]["days"] == 1 and not hidden.exists()


def test_the_partner_of_an_archive_lies_beside_it(tmp_path):
    scene, provider = product(tmp_path / "made"), Memory([acquisition(1)])
    shutil.make_archive(str(tmp_path / "enmap/order"), "zip", scene)
    assert fetch_partner(tmp_path / "enmap/order.zip", provider)["chosen"]["days"] == 1
    assert sorted(p.name for p in (tmp_path / "enmap/order").iterdir()) == ["sentinel2"] and find_guide(tmp_path / "enmap/order.zip") == tmp_path / "enmap/order/sentinel2"
    assert [p.name for p in scene_folders(tmp_path / "enmap")] == ["order.zip"] and has_guide(tmp_path / "enmap/order.zip")


def test_a_plan_for_something_else_is_thrown_away(tmp_path):
    scene = product(tmp_path)
    broken = Memory([acquisition(2)])
    broken.read = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch_partner(scene, broken)
    assert (scene / ".sentinel2.part/plan.json").exists()
    other = Memory([acquisition(3)])
    assert fetch_partner(scene, other, margin=100)["chosen"]["days"] == 3


def test_a_damaged_plan_is_made_again(tmp_path):
    scene, provider = product(tmp_path), Memory([acquisition(2)])
    read = provider.read
    provider.read = lambda a, bands, grid: read(a, bands, grid) if "SCL" in bands else (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch_partner(scene, provider)
    work = scene / ".sentinel2.part"
    assert list(work.glob("0_20m_*.tif")) and not list(work.glob("0_10m_*.tif"))
    (work / "plan.json").write_text("{")
    assert fetch_partner(scene, Memory([acquisition(2)]))["chosen"]["days"] == 2


@pytest.mark.parametrize("change", [{"ranking": [[1, {}, ""]]}, {"ranking": 7}, {"units": "many"}, {"ranking": [[1, {"footprint": "x", "date": "2023-01-01"}, ""]]}], ids=str)
def test_a_hostile_plan_is_made_again(tmp_path, change):
    scene = product(tmp_path)
    broken = Memory([acquisition(2)])
    broken.read = lambda *a: (_ for _ in ()).throw(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        fetch_partner(scene, broken)
    plan = scene / ".sentinel2.part/plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | change))
    assert fetch_partner(scene, Memory([acquisition(2)]))["chosen"]["days"] == 2


def test_work_follows_no_link(tmp_path):
    scene, other = product(tmp_path), tmp_path / "other"
    other.mkdir()
    (other / "plan.json").write_text("mine")
    (scene / ".sentinel2.part").symlink_to(other)
    assert fetch_partner(scene, Memory([acquisition(2)]))["chosen"]["days"] == 2
    assert [p.name for p in other.iterdir()] == ["plan.json"] and (other / "plan.json").read_text() == "mine"


def test_a_hostile_record_is_told_as_nothing(tmp_path):
    scene = product(tmp_path)
    (scene / "sentinel2").mkdir()
    for text in ("[]", '{"chosen": 7, "angles": [1], "units": "x"}', '{"chosen": {"start": "soon", "overlap": "most"}}', "[" * 100_000, "\xff"):
        (scene / "sentinel2/partner.json").write_text(text)
        [row] = pairs_table(tmp_path).to_dict("records")
        assert row["id"] == scene.name and pd.isna(row["overlap [%]"]) and pd.isna(row["EnMAP (UTC)"]) is False


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    scene = product(tmp_path)
    (scene / "sentinel2").mkdir()
    (scene / "sentinel2/mine.txt").write_text("mine")
    with pytest.raises(PartnerError, match="was not fetched by this command"):
        fetch_partner(scene, Memory([acquisition(2)]))
    assert (scene / "sentinel2/mine.txt").read_text() == "mine"


def test_all_days_empty(tmp_path):
    provider = Memory([acquisition(2), acquisition(4)], missing=(2, 4))
    with pytest.raises(PartnerError, match="memory has no data for any of 2 acquisitions within 15 days"):
        fetch_partner(product(tmp_path), provider)


def test_scenes_that_cannot_have_a_partner(tmp_path):
    scene = write_enmap(tmp_path / "a", cube(), table(), scene_id=SCENE_ID, metadata=replace(METADATA, start=None))
    with pytest.raises(PartnerError, match="tell no time"):
        fetch_partner(scene, Memory([acquisition(2)]))
    around = ((179.9, 52.0), (-179.8, 52.0), (-179.8, 51.7), (179.9, 51.7))
    scene = read_enmap(product(tmp_path / "b"))
    with pytest.raises(PartnerError, match="crosses the antimeridian"):
        scene_footprint(replace(scene, metadata=replace(scene.metadata, footprint=around)))


def test_what_is_unknown_is_null_in_the_record(tmp_path):
    scene = write_enmap(tmp_path, cube(), table(), scene_id=SCENE_ID, metadata=replace(METADATA, sun_elevation=np.nan))
    record = fetch_partner(scene, Memory([acquisition(2)]))
    assert "NaN" not in (scene / "sentinel2/partner.json").read_text()
    assert record["angles"]["enmap"]["sun_elevation"] is None and record["chosen"]["sun_elevation"] is None


def test_a_full_scene_needs_little_memory(tmp_path, monkeypatch):
    "Windows are written as they come and put together block by block."
    largest = []
    monkeypatch.setattr("enmap_sharpener.scenes.sentinel2.to_int16", lambda v: largest.append(v.shape) or v)
    provider = Memory([acquisition(2)])
    provider.largest = 300
    fetch_partner(product(tmp_path, bands=3, shape=(200, 220)), provider)
    assert max(shape[1] for shape in largest) <= 512
    with rasterio.open(next(tmp_path.glob("*/sentinel2/sentinel2_10m.tif"))) as file:
        x, y = np.meshgrid(np.arange(file.width) + file.bounds.left // 10, file.bounds.top // 10 - 1 - np.arange(file.height))
        np.testing.assert_array_equal(file.read(1), (x + 3 * y) % 9000)


def test_enmaps_angles():
    assert enmap_angles(replace(METADATA, off_nadir_across=0.0, off_nadir_along=0.0))["view_zenith"] == 0
    tilted = enmap_angles(replace(METADATA, off_nadir_across=-30.0, off_nadir_along=0.0))["view_zenith"]
    assert tilted == pytest.approx(33.45, abs=0.1)


def feature(name, area=WORLD, **properties):
    return {"id": name, "geometry": shapely.geometry.mapping(area), "properties": {"datetime": "2023-06-03T10:16:09Z", **properties}}


def test_numbers_and_names_of_any_kind():
    tile = read_tile_item(feature("S2A_MSIL2A_20230603T101601_N0509_R065_T33UUU_20230603T161500", **{
        "eo:cloud_cover": "n/a", "s2:mean_solar_zenith": 30, "s2:mean_solar_azimuth": "150", "platform": "Sentinel-2A"}))
    assert np.isnan(tile.cloud) and (tile.sun_elevation, tile.sun_azimuth, tile.platform, tile.relative_orbit) == (60, 150, "S2A", 65)
    assert read_tile_item(feature("S2C_5MKP_20230603_0_L2A")).mgrs == "05MKP"
    for wrong in (feature("a") | {"geometry": None}, feature("a", datetime="soon"), {"id": "a", "properties": {}, "geometry": {}}):
        with pytest.raises(ValueError, match="no time|no footprint"):
            read_tile_item(wrong)


def test_a_pass_over_midnight_is_one_and_two_satellites_are_two():
    midnight = START.replace(hour=23, minute=59, second=55)
    area = shapely.box(13, 52.3, 13.1, 52.4)
    tiles = [TileItem("a", midnight, "S2A", area), TileItem("b", midnight + timedelta(seconds=14), "S2A", area), TileItem("c", midnight, "S2B", area)]
    made = passes(tiles, area, START)
    assert sorted(a.items for a in made) == [("a", "b"), ("c",)] and made[0].date == START.date()
    assert json.dumps(made[0].extra)


def test_two_parts_of_one_tile_both_stay():
    left, right = shapely.box(13, 52, 13.06, 53), shapely.box(13.05, 52, 13.1, 53)
    made, = passes([TileItem("T_0", START, "S2A", left, "33UUU"), TileItem("T_1", START, "S2A", right, "33UUU")], shapely.box(13, 52.3, 13.1, 52.4), START)
    assert made.items == ("T_0", "T_1") and made.overlap == 1
