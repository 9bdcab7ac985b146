"Sentinel-2 from open archives: every number is known, for the ground of the archive is a formula."
import logging
import os
import signal
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from fake_archive import BANDS, PASSES, TILES, TOKEN, Archive, Pass, Tile, moved
from products import METADATA, SCENE_ID, cube, table
from pyproj import Transformer
from rasterio.crs import CRS
from shapely import box

from enmap_sharpener.core.errors import PartnerError, ServiceError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.scenes.enmap import write_enmap
from enmap_sharpener.scenes.sentinel2 import BANDS_10M, BANDS_20M, read_sentinel2
from enmap_sharpener.scraping.matchup import fetch_partner
from enmap_sharpener.scraping.stac_archives import EarthSearch, PlanetaryComputer

START = datetime(2022, 7, 20, 10, 28, tzinfo=timezone.utc)
PATIENCE = {"timeout": 2.0, "retries": 2, "delay": 0.02}
NAMES = ("earth-search", "planetary-computer")


def grid(west, north, nx, ny, step=10.0, epsg=32633):
    return Grid(CRS.from_epsg(epsg), Axis(-float(north), step, ny), Axis(float(west), step, nx))


def provider(archive, name, monkeypatch, **options):
    monkeypatch.setenv("GDAL_HTTP_PROXY", archive.url)
    if name == "earth-search":
        return EarthSearch(archive.earth_search, **PATIENCE | options)
    return PlanetaryComputer(archive.planetary_computer, archive.sas_url, **PATIENCE | options)


def find(source, where, day="2022-07-20", days=3):
    "The acquisition of a day."
    start = datetime.fromisoformat(f"{day}T10:28:00+00:00")
    found = source.acquisitions(moved(box(*where.bounds), where.crs.to_epsg(), 4326), start, days)
    (chosen,) = (a for a in found if str(a.date) == day)
    return chosen


def truth(archive, band, where, number=0):
    return archive.truth(band, *np.meshgrid(where.cols.centres, -where.rows.centres), archive.passes[number])


@pytest.fixture(scope="module")
def archive():
    with Archive() as server:
        yield server


@pytest.fixture(autouse=True)
def no_faults(request):
    yield
    if "archive" in request.fixturenames:
        request.getfixturevalue("archive").faults.clear()


# ---- numbers

@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bands, step", [(BANDS_10M, 10), (BANDS_20M, 20), (("SCL",), 20)])
def test_numbers_are_those_of_the_formula_over_two_tiles(archive, monkeypatch, name, bands, step):
    where = grid(303100, 5799000, 4000 // step, 600 // step, float(step))       # the tiles overlap from 305000 to 306000
    source = provider(archive, name, monkeypatch)
    values = source.read(find(source, where), bands, where)
    assert values.dtype == np.int16
    for band, got in zip(bands, values):
        np.testing.assert_array_equal(got, truth(archive, band, where), band)


@pytest.mark.parametrize("name", NAMES)
def test_another_zone_fills_only_where_the_own_has_nothing(archive, monkeypatch, name):
    where = grid(298500, 5799000, 300, 60)
    source = provider(archive, name, monkeypatch)
    error = source.read(find(source, where), ("B02", "B08"), where) - np.stack([truth(archive, b, where) for b in ("B02", "B08")])
    own = where.cols.centres > 300000
    assert not error[..., own].any()
    assert np.abs(error[..., ~own]).max() <= 3          # of numbers that change by up to 25 from pixel to pixel


def test_a_scene_in_the_other_zone_is_copied_from_there(archive, monkeypatch):
    tile = archive.tiles["32UQD"]
    where = grid(tile.x + 1000, tile.y - 3000, 50, 50, epsg=tile.epsg)
    source = provider(archive, "earth-search", monkeypatch)
    east, north = np.meshgrid(where.cols.centres, -where.rows.centres)
    e, n = Transformer.from_crs(tile.epsg, 32633, always_xy=True).transform(east, north)
    np.testing.assert_array_equal(source.read(find(source, where), ("B04",), where)[0], archive.truth("B04", e, n, archive.passes[0]))


def test_half_a_pixel_off_is_interpolated_not_shifted(archive, monkeypatch):
    where = grid(301005, 5799015, 60, 60)
    source = provider(archive, "earth-search", monkeypatch)
    error = source.read(find(source, where), ("B02",), where)[0] - truth(archive, "B02", where)
    assert np.abs(error).max() <= 3 and np.abs(error.mean()) < 0.3


def test_windows_and_the_whole_agree_without_a_seam(archive, monkeypatch):
    where = grid(298500, 5799000, 240, 80)
    source = provider(archive, "earth-search", monkeypatch)
    chosen = find(source, where)
    whole = source.read(chosen, ("B03",), where)
    parts = [source.read(chosen, ("B03",), where.part(slice(0, 80), slice(a, a + 80))) for a in (0, 80, 160)]
    apart = np.abs(np.concatenate(parts, 2).astype(int) - whole)
    assert apart.max() <= 2 and not apart[..., where.cols.centres > 300000].any()


@pytest.mark.parametrize("name", NAMES)
def test_where_nothing_was_seen_is_nodata(archive, monkeypatch, name):
    "The pass of 17 July ends at 305500 east; the tiles end at 5800020 north. No pixel beside an edge is a mixture."
    where = grid(304900, 5800500, 120, 80)
    source = provider(archive, name, monkeypatch)
    values = source.read(find(source, where, "2022-07-17"), ("B04", "SCL"), grid(304900, 5800500, 60, 40, 20.0))
    assert (values[0] == NODATA).sum() == (values[1] == 0).sum() == 60 * 40 - 30 * 16
    fine = source.read(find(source, where, "2022-07-17"), ("B04",), where)[0]
    seen = np.ix_(-where.rows.centres < 5800020, where.cols.centres < 305500)
    np.testing.assert_array_equal(fine[seen], truth(archive, "B04", where, 1)[seen])
    assert (fine == NODATA).sum() == fine.size - fine[seen].size


def test_the_edge_of_a_warped_pass_is_not_mixed_with_nodata(monkeypatch):
    "In a store whose files do not declare 0 as nodata."
    tiles = (Tile("32UQD", 32632, 0, 0),)
    with Archive(tiles, (Pass("2022-07-20T10:16:11Z", swath=box(290000, 5780000, 299000, 5820000)),)) as archive:
        where = grid(298000, 5799500, 200, 60)
        source = provider(archive, "planetary-computer", monkeypatch)
        values = source.read(find(source, where), ("B02",), where)[0]
        seen = values != NODATA
        assert np.abs(values - truth(archive, "B02", where))[seen].max() <= 3
        assert seen[:, where.cols.centres < 298960].all() and not seen[:, where.cols.centres > 299010].any()


# ---- offsets

@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number, day, baseline", [(3, "2021-07-20", "03.01"), (0, "2022-07-20", "04.00"), (4, "2024-07-19", "05.10")])
def test_no_ten_percent_from_any_baseline(archive, monkeypatch, name, number, day, baseline):
    where = grid(301000, 5799000, 40, 30)
    source = provider(archive, name, monkeypatch)
    before = len(archive.reads())
    values = source.read(find(source, where, day), ("B02", "B04"), where)
    np.testing.assert_array_equal(values, [truth(archive, b, where, number) for b in ("B02", "B04")])
    assert {r.path.split("/")[3] for r in archive.reads()[before:]} == {baseline}      # of two processings the newer


@pytest.mark.parametrize("shifted, told", [(True, True), (True, False), (False, False)])
@pytest.mark.parametrize("baseline", ["03.01", "04.00"])
def test_what_the_second_collection_says_is_not_believed(monkeypatch, shifted, told, baseline):
    passes = (Pass("2022-07-20T10:16:11Z", baselines=(baseline,), shifted=shifted, told=told),)
    with Archive(TILES[:1], passes, collections=("sentinel-2-l2a",)) as archive:
        where = grid(301000, 5799000, 40, 30)
        source = provider(archive, "earth-search", monkeypatch)
        np.testing.assert_array_equal(source.read(find(source, where), ("B04",), where)[0], truth(archive, "B04", where))


def test_the_second_collection_serves_only_where_the_first_has_nothing(monkeypatch):
    passes = (PASSES[0], replace(PASSES[1], swath=None, collections=("sentinel-2-l2a",)))
    with Archive(TILES[:1], passes) as archive:
        source = provider(archive, "earth-search", monkeypatch)
        where = grid(301000, 5799000, 40, 30)
        found = source.acquisitions(moved(box(*where.bounds), 32633, 4326), START, 5)
        assert [(a.date.day, a.items) for a in found] == [(17, ("S2B_33UUU_20220717_0_L2A",)), (20, ("S2A_T33UUU_20220720T101611_L2A",))]


# ---- finding

@pytest.mark.parametrize("name", NAMES)
def test_acquisitions_are_single_passes(archive, monkeypatch, name):
    where = grid(303100, 5799000, 400, 60)
    found = provider(archive, name, monkeypatch).acquisitions(moved(box(*where.bounds), 32633, 4326), START, 15)
    assert [(str(a.date), a.platform, a.relative_orbit, len(a.items)) for a in found] == [
        ("2022-07-17", "S2B", 108, 2), ("2022-07-20", "S2A", 65, 2), ("2022-07-25", "S2B", 65, 2)]
    assert [round(a.overlap, 2) for a in found] == [0.6, 1, 1] and [round(a.cloud) for a in found] == [0, 0, 80]
    assert all(a.sun_elevation == pytest.approx(57.25) and a.sun_azimuth == pytest.approx(152.5) for a in found)


def test_two_satellites_on_a_day_stay_apart(monkeypatch):
    passes = (PASSES[0], Pass("2022-07-20T10:26:11Z", "sentinel-2c", 108), Pass("2022-07-20T11:57:00Z", "sentinel-2a", 66))
    with Archive(TILES[:1], passes) as archive:
        where = grid(301000, 5799000, 20, 20)
        found = provider(archive, "planetary-computer", monkeypatch).acquisitions(moved(box(*where.bounds), 32633, 4326), START, 1)
        assert [(a.platform, a.relative_orbit, len(a.items)) for a in found] == [("S2A", 65, 1), ("S2C", 108, 1), ("S2A", 66, 1)]


def test_a_look_is_coarse_and_cheap(archive, monkeypatch):
    where = grid(301000, 5799900, 40, 30, 200.0)
    source = provider(archive, "earth-search", monkeypatch)
    chosen, before = find(source, where, "2022-07-25", 1), len(archive.reads())
    classes, angles = source.look(chosen, where)
    assert classes.dtype == np.uint8 and angles == {} and np.mean(classes == 9) == pytest.approx(0.8, abs=0.06)
    assert {r.path.rsplit("/")[-1] for r in archive.reads()[before:]} == {"SCL.tif"}


def test_after_a_restart_items_are_found_by_name(archive, monkeypatch):
    where = grid(301000, 5799000, 20, 20)
    chosen = find(provider(archive, "earth-search", monkeypatch), where)
    values = provider(archive, "earth-search", monkeypatch).read(chosen, ("B04",), where)
    np.testing.assert_array_equal(values[0], truth(archive, "B04", where))
    with pytest.raises(ServiceError, match="has no GONE any more"):
        provider(archive, "earth-search", monkeypatch).read(replace(chosen, items=("GONE",)), ("B04",), where)


def test_an_item_that_lacks_something_is_left_out(archive, monkeypatch, caplog):
    items = [item | ({"assets": {}} if "33UVU" in item["id"] else {"geometry": None} if "32UQD" in item["id"] else {})
             for item in archive.items("es", "sentinel-2-c1-l2a")]
    where = grid(303100, 5799000, 400, 60)
    source = provider(archive, "earth-search", monkeypatch)
    monkeypatch.setattr(source, "_search", lambda **query: items)
    assert find(source, where).items == ("S2A_T33UUU_20220720T101611_L2A",)
    assert "S2A_T33UVU_20220720T101611_L2A is not understood" in caplog.text


def odd_items(archive):
    "What no item should be, and items with one thing that is odd."
    [sound, *_] = archive.items("es", "sentinel-2-c1-l2a")
    changed = lambda **changes: {**sound, "id": "odd", **changes}
    within = lambda key, **changes: changed(**{key: {**sound[key], **changes}})
    asset = lambda **changes: within("assets", red={**sound["assets"]["red"], **changes})
    return [None, 5, "x", [], {}, {"id": 5}, changed(id=7), changed(id=None), changed(properties=None), changed(properties=[1]), changed(geometry=None),
            changed(geometry={"type": "Polygon", "coordinates": [[["a", 1]]]}), changed(geometry={"type": "Polygon", "coordinates": []}),
            changed(geometry={"type": "Point", "coordinates": [12, 52]}), changed(assets=None), changed(assets=[]), within("assets", red=None), within("assets", red="x"),
            asset(href=None), asset(href=5), asset(href="s3://a/b.tif"), asset(href="http://["), within("properties", datetime=7),
            within("properties", **{"proj:code": None}), within("properties", **{"proj:code": [32633]}), changed(collection=["a"]), changed(collection=None)]


def test_odd_items_are_told_and_the_others_taken(archive, monkeypatch, caplog):
    where = grid(301000, 5799000, 100, 100)
    monkeypatch.setattr(archive, "odd", odd_items(archive))
    source = provider(archive, "earth-search", monkeypatch)
    chosen = find(source, where)
    assert "odd" not in chosen.items and caplog.text.count("is not understood") >= len(archive.odd) - 1
    np.testing.assert_array_equal(source.read(chosen, ("B04",), where)[0], truth(archive, "B04", where))


@pytest.mark.parametrize("change", [
    {"proj:shape": "x"}, {"proj:shape": [None, 1]}, {"proj:transform": [1, 2]}, {"proj:transform": None}, {"raster:bands": {}}, {"raster:bands": [5]}, {"raster:bands": []},
    {"raster:bands": [{"offset": "much", "scale": 1}]}, {"raster:bands": [{"offset": -0.1, "scale": "x"}]}], ids=str)
def test_odd_facts_of_a_file_do_not_change_its_numbers(archive, monkeypatch, change):
    where = grid(301000, 5799000, 100, 100)
    items = archive.items
    monkeypatch.setattr(archive, "items", lambda *which: [{**i, "assets": {k: {**a, **change} for k, a in i["assets"].items()}} for i in items(*which)])
    source = provider(archive, "earth-search", monkeypatch)
    np.testing.assert_array_equal(source.read(find(source, where), ("B04",), where)[0], truth(archive, "B04", where))


def test_relative_addresses_are_meant_from_the_item(archive, monkeypatch):
    where = grid(301000, 5799000, 100, 100)
    items = archive.items
    relative = lambda a: {**a, "href": ".." + a["href"].removeprefix(archive.url)}
    monkeypatch.setattr(archive, "items", lambda *which: [{**i, "links": [{"rel": "self", "href": f"{archive.url}/x/item.json"}],
                                                           "assets": {k: relative(a) for k, a in i["assets"].items()}} for i in items(*which)])
    source = provider(archive, "earth-search", monkeypatch)
    np.testing.assert_array_equal(source.read(find(source, where), ("B04",), where)[0], truth(archive, "B04", where))


@pytest.mark.parametrize("paging, told", [("endless", "no end"), ("lost", "cannot be asked for")])
def test_pages_without_end_or_that_cannot_be_had_are_told(archive, monkeypatch, caplog, paging, told):
    where, before = grid(301000, 5799000, 100, 100), len(archive.log)
    monkeypatch.setattr(archive, "paging", paging)
    source = provider(archive, "earth-search", monkeypatch)
    assert source.acquisitions(moved(box(*where.bounds), 32633, 4326), START, 3)
    assert told in caplog.text and "may be missing" in caplog.text and len(archive.log) - before < 12


# ---- faults

def stores(fault, times=10**9, name=".tif"):
    "A fault in the store, a number of times."
    left = iter(range(times))
    return lambda request: fault if name in request.path and next(left, None) is not None else None


@pytest.mark.parametrize("fault, times", [(503, 5), (429, 3), (500, 2), (403, 2), ("cut", 3), ("stall", 1)])
def test_what_passes_is_tried_again(archive, monkeypatch, fault, times):
    where = grid(301000, 5799000, 100, 100)
    source = provider(archive, "earth-search", monkeypatch, timeout=1.0)
    chosen = find(source, where)
    archive.faults[:] = [stores(fault, times)]
    np.testing.assert_array_equal(source.read(chosen, ("B04",), where)[0], truth(archive, "B04", where))


@pytest.mark.parametrize("fault, told", [(503, "503.; try again later"), (404, "404.; choose another day"), (403, "403"),
                                         ("cut", "expected|bytes"), ("stall", "too slow|timed out|Timeout")])
def test_what_does_not_pass_ends_in_one_line(archive, monkeypatch, caplog, fault, told):
    where = grid(301000, 5799000, 100, 100)
    source = provider(archive, "earth-search", monkeypatch, timeout=1.0, retries=1)
    chosen = find(source, where)
    archive.faults[:] = [stores(fault)]
    with pytest.raises(ServiceError, match=told) as error:
        source.read(chosen, ("B04",), where)
    assert str(error.value).startswith(f"{archive.url[7:]}: B04 of S2A_T33UUU_20220720T101611_L2A cannot be read") and "\n" not in str(error.value)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR and r.name.startswith("odc")]
    archive.faults.clear()                              # and the failure is not remembered
    np.testing.assert_array_equal(source.read(chosen, ("B04",), where)[0], truth(archive, "B04", where))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("fault", [503, None, "cut"])
def test_a_signal_ends_reading(archive, monkeypatch, number, fault):
    "Nothing is tried again after it, and no result is given, whether the server works or not."
    class Stopped(BaseException):
        pass
    def stop(*_):
        raise Stopped
    where = grid(301000, 5799000, 100, 100)
    source = provider(archive, "earth-search", monkeypatch)
    chosen, before = find(source, where), len(archive.reads())
    def signalled(request):
        if ".tif" in request.path:
            if len(archive.reads()) - before == 1:
                os.kill(os.getpid(), number)
            return fault
        return None
    archive.faults[:] = [signalled]
    old = signal.signal(number, stop)
    try:
        with pytest.raises(Stopped):
            source.read(chosen, ("B04",), where)
    finally:
        signal.signal(number, old)
    assert len(archive.reads()) - before <= 10 * 3     # of one try: GDAL asks again, and for parts


@pytest.mark.parametrize("fault", [503, "cut"])
def test_a_fault_while_warping_leaves_no_hole(archive, monkeypatch, fault):
    where = grid(298000, 5799000, 100, 100)
    source = provider(archive, "earth-search", monkeypatch, retries=0)
    chosen, seen = find(source, where), []
    def after_the_header(request):
        if "32UQD/B04" in request.path and request.method == "GET":
            seen.append(request)
            return fault if len(seen) > 1 else None
    archive.faults[:] = [after_the_header]
    with pytest.raises(ServiceError, match="B04 of S2A_T32UQD"):
        source.read(chosen, ("B04",), where)


@pytest.mark.parametrize("name", NAMES)
def test_a_search_is_tried_again_and_then_told(archive, monkeypatch, name):
    where = grid(301000, 5799000, 20, 20)
    source = provider(archive, name, monkeypatch)
    archive.faults[:] = [stores(503, 2, "/search")]
    assert find(source, where).items
    archive.faults[:] = [stores(503, name="/search")]
    with pytest.raises(ServiceError, match=r"127.0.0.1:\d+: cannot be searched .*503.*another provider"):
        find(source, where)
    archive.faults[:] = [stores("stall", name="/search")]
    with pytest.raises(ServiceError, match="cannot be searched .*timed out"):
        find(provider(archive, name, monkeypatch, timeout=0.3, retries=1), where)


def test_an_archive_that_is_no_archive(archive, monkeypatch):
    where = grid(301000, 5799000, 20, 20)
    with pytest.raises(ServiceError, match="cannot be searched .*404"):
        find(EarthSearch(archive.url + "/nothing/here", **PATIENCE), where)
    with pytest.raises(ServiceError, match="cannot be searched .*[Rr]efused"):
        find(EarthSearch("http://127.0.0.1:9", **PATIENCE), where)
    def text(request, handler):
        archive.send(handler, "<html>moved\nsomewhere</html>", content_type="text/html")
    monkeypatch.setattr(archive, "respond", text)
    with pytest.raises(ServiceError, match="cannot be searched") as error:
        find(EarthSearch(archive.earth_search, **PATIENCE), where)
    assert "\n" not in str(error.value)


# ---- signatures

def test_signatures_are_asked_for_once_and_shown_to_nobody(archive, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    where = grid(301000, 5799000, 40, 30)
    source = provider(archive, "planetary-computer", monkeypatch)
    chosen, before = find(source, where), len(archive.log)
    source.read(chosen, ("B04", "B08"), where)
    asked = archive.log[before:]
    assert len([r for r in asked if r.path.startswith("/sas/")]) == 1
    assert all(r.query.get("sig") for r in asked if r.path.endswith(".tif"))
    archive.faults[:] = [stores(403)]
    with pytest.raises(ServiceError) as error:
        source.read(chosen, ("B04",), where)
    assert "sig=" not in str(error.value) and "notforyoureyes" not in caplog.text + str(error.value) + repr(source)
    assert TOKEN not in caplog.text and error.value.__cause__ is None


@pytest.mark.parametrize("fault, told", [(503, "503"), ("stall", "timed out"), (403, "403"), ("junk", "token")])
def test_a_signing_service_that_fails_is_told(archive, monkeypatch, fault, told):
    where = grid(301000, 5799000, 40, 30)
    source = provider(archive, "planetary-computer", monkeypatch, timeout=2.0, retries=0)
    chosen = find(source, where)
    archive.faults[:] = [stores(fault, name="/sas/")]
    with pytest.raises(ServiceError, match=f"cannot be read .*{told}") as error:
        source.read(chosen, ("B04",), where)
    assert "\n" not in str(error.value)


def test_a_signature_that_runs_out_is_renewed(archive, monkeypatch):
    where = grid(301000, 5799000, 40, 30)
    source = provider(archive, "planetary-computer", monkeypatch)
    chosen, before = find(source, where), len(archive.log)
    monkeypatch.setattr(archive, "lifetime", 100)
    source.read(chosen, ("B04",), where)
    source.read(chosen, ("B04",), where)
    assert len([r for r in archive.log[before:] if r.path.startswith("/sas/")]) == 2


# ---- the whole way

@pytest.mark.parametrize("name", NAMES)
def test_a_partner_is_fetched_beside_its_scene(monkeypatch, tmp_path, name):
    with Archive() as archive:
        scene = cube(corner=(304815, 5799225), shape=(24, 36))       # over the border of the two tiles
        folder = write_enmap(tmp_path / SCENE_ID, scene, table(), scene_id=SCENE_ID, metadata=replace(METADATA, start=START))
        record = fetch_partner(folder, provider(archive, name, monkeypatch), days=10)
        assert record["provider"] == name and record["chosen"]["date"] == "2022-07-20" and record["units"]["spent"] == 0
        partner = read_sentinel2(folder / "sentinel2")
        where = Grid.of(partner.bands10)
        assert all(edge % 10 == 0 for edge in where.bounds)
        for band, got in zip(BANDS_10M, partner.bands10.values):
            np.testing.assert_allclose(got * 10000, truth(archive, band, where), atol=0.01)
        np.testing.assert_array_equal(partner.scl.values, truth(archive, "SCL", Grid.of(partner.scl)))
        assert set(partner.bands20.band.values) <= set(BANDS)


@pytest.mark.parametrize("band", ["B8A", "SCL", "B02"])
def test_where_the_best_day_lacks_a_file_the_next_is_taken(monkeypatch, tmp_path, caplog, band):
    with Archive(passes=(Pass("2022-07-20T10:16:11Z"), Pass("2022-07-22T10:26:01Z", "sentinel-2b", 108))) as archive:
        scene = cube(corner=(301000, 5799000), shape=(24, 36))
        folder = write_enmap(tmp_path / SCENE_ID, scene, table(), scene_id=SCENE_ID, metadata=replace(METADATA, start=START))
        archive.faults[:] = [lambda request: 404 if f"/0/04.00/33UUU/{band}.tif" in request.path else None]
        record = fetch_partner(folder, provider(archive, "earth-search", monkeypatch), days=10)
        assert record["chosen"]["date"] == "2022-07-22" and "2022-07-20 lacks files" in caplog.text
        archive.faults[:] = [lambda request: 404 if f"{band}.tif" in request.path else None]
        with pytest.raises(PartnerError, match="no data for any of 2 acquisitions"):
            fetch_partner(folder, provider(archive, "earth-search", monkeypatch), days=10, overwrite=True)
        assert (folder / "sentinel2/partner.json").is_file()


@pytest.mark.net
@pytest.mark.skipif("ENMAP_SHARPENER_NET" not in os.environ, reason="reads from the real archives; set ENMAP_SHARPENER_NET to allow it")
@pytest.mark.parametrize("source", [EarthSearch(), PlanetaryComputer()], ids=NAMES)
def test_the_real_archives(source):
    "Potsdam; numbers of both must be alike, and dark enough to have no offset."
    where = grid(366000, 5806140, 60, 60)
    found = source.acquisitions(moved(box(*where.bounds), 32633, 4326), START, 5)
    values = source.read(max(found, key=lambda a: (a.overlap, -a.cloud)), ("B02", "B04"), where)
    assert (values != NODATA).all() and np.percentile(values, 5) < 900
