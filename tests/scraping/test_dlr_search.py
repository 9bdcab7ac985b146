"Requests that make no sense are refused; DLR's catalogue is searched as it is, with its troubles."
import copy
import json
import logging
import math
import os
import time
from datetime import datetime, timedelta, timezone

import pytest
import shapely
from fake_dlr import DlrStac, item, season, strip
from hypothesis import given
from hypothesis import strategies as st

from enmap_sharpener.core.errors import ComeBack, RequestError, ServiceError
from enmap_sharpener.core.ledger import Skipped
from enmap_sharpener.scraping import dlr_search as catalogue
from enmap_sharpener.scraping.dlr_items import Malformed, SceneItem, SearchResult, read_scene_item
from enmap_sharpener.scraping.dlr_search import scenes_table, search_scenes
from enmap_sharpener.scraping.query import parse_box, parse_interval, read_area, to_area

BOX, SUMMER = (10.4, 47.0, 12.8, 48.9), "2022-06-01/2022-09-30"
POLYGON = {"type": "Polygon", "coordinates": [[[11, 47], [12, 47], [12, 48], [11, 48], [11, 47]]]}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    "Short pauses and timeouts."
    monkeypatch.setattr(catalogue, "_PAUSE", 0.005)
    monkeypatch.setattr(catalogue, "_TIMEOUT", 5.0)
    monkeypatch.setattr(catalogue, "_FILTER_TIMEOUT", 0.2)


def find(server, area=BOX, span=SUMMER, **options):
    return search_scenes(area, span, url=server.stac_url, **options)


def is_one_clear_line(error, *words):
    text = str(error.value)
    assert "\n" not in text and len(text) < 400 and text.endswith("."), text
    assert all(word in text for word in words), text
    return True


# dates

@pytest.mark.parametrize("text, start, stop", [
    ("2022-06-01T00:00:00Z/2022-09-30T23:59:59Z", "2022-06-01T00:00:00", "2022-09-30T23:59:59"),
    ("2022-06-01/2022-09-30", "2022-06-01T00:00:00", "2022-09-30T23:59:59"),
    ("2022-06-01", "2022-06-01T00:00:00", "2022-06-01T23:59:59"),
    ("2024-02", "2024-02-01T00:00:00", "2024-02-29T23:59:59"),
    ("2023", "2023-01-01T00:00:00", "2023-12-31T23:59:59"),
    ("../2022-06-30", "2022-04-01T00:00:00", "2022-06-30T23:59:59"),
    ("/2022-06-30", "2022-04-01T00:00:00", "2022-06-30T23:59:59"),
    (" 2022-06-01 / 2022-06-02 ", "2022-06-01T00:00:00", "2022-06-02T23:59:59"),
    ("2022-06-01T02:00:00+02:00/2022-06-01T10:30Z", "2022-06-01T00:00:00", "2022-06-01T10:30:00"),
    ("2022-06-01T10:30:00.123456Z/2022-06-02", "2022-06-01T10:30:00", "2022-06-02T23:59:59"),
])
def test_interval(text, start, stop):
    assert [t.isoformat() for t in parse_interval(text)] == [start + "+00:00", stop + "+00:00"]


@pytest.mark.parametrize("text", ["2022-06-01/..", "2022-06/", "../.."])
def test_open_end_is_now(text):
    assert abs((parse_interval(text)[1] - datetime.now(timezone.utc)).total_seconds()) < 5


@pytest.mark.parametrize("text, words", [
    ("2022-06-01/2022-09-31", ["2022-09-31", "September 2022 has 30 days"]),
    ("2023-02-29", ["February 2023 has 28 days"]),
    ("2022-13-01", ["no month 13"]),
    ("2022-00-01", ["no month 0"]),
    ("2022-06-00", ["June 2022 has 30 days"]),
    ("2022-06-01T24:00:00Z", ["no such time of day"]),
    ("2022-06-01T10:61:00Z", ["no such time of day"]),
    ("2022-09-01/2022-06-01", ["ends before it starts"]),
    ("2999-01-01/..", ["ends before it starts"]),
    ("9999-12-31T23:59:59-23:59", ["no such time"]),
    ("0000-01-01", ["the year 0"]),
    ("1 June 2022", ["is not a date", "2022-06-01"]),
    ("01.06.2022/30.09.2022", ["is not a date"]),
    ("2022-06-01/2022-07-01/2022-08-01", ["START/STOP"]),
    ("", ["START/STOP"]), ("/", ["START/STOP"]),
    ("2022-06-01\n/x\x1b[31m", ["is not a date"]),
])
def test_bad_interval(text, words):
    with pytest.raises(RequestError) as error:
        parse_interval(text)
    assert is_one_clear_line(error, *words) and "\x1b" not in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_a_span_or_refused(text):
    try:
        start, stop = parse_interval(text)
    except RequestError:
        return
    assert start <= stop and start.tzinfo


# boxes

@pytest.mark.parametrize("numbers, words", [
    ((28.30, 47.90, 5.84, 54.06), ["west 28.3 is not left of east 5.84", "west south east north"]),
    ((5.84, 54.06, 28.30, 47.90), ["south 54.06 is not below north 47.9"]),
    ((47.90, 105.84, 54.06, 128.30), ["latitude 128.3 is beyond 90", "swapped"]),
    ((5.84, 47.90, 228.30, 54.06), ["longitude 228.3"]),
    ((643545, 5205705, 679665, 5241045), ["projected"]),
    ((5.84, 47.90, 28.30), ["four numbers"]),
    ((5.84, 47.90, 0, 28.30, 54.06, 100), ["four numbers"]),
    ((5.84, 47.90, math.nan, 54.06), ["four numbers"]),
    ((5.84, 47.90, "east", 54.06), ["four numbers"]),
    ("5.84;47.90;28.30;54.06", ["four numbers"]),
    ((5.84, 47.90, 5.84, 54.06), ["is not left of"]),
    ((5.84, 47.90, 28.30, 47.90), ["is not below"]),
    (None, ["four numbers"]), (5, ["four numbers"]),
])
def test_bad_box(numbers, words):
    with pytest.raises(RequestError) as error:
        parse_box(numbers)
    assert is_one_clear_line(error, *words)


def test_box_across_the_antimeridian():
    assert to_area((170, -20, -170, -10)).area == pytest.approx(200)
    assert len(shapely.get_parts(to_area((170, -20, -170, -10)))) == 2
    assert to_area("-180 -90 180 90").area == 360 * 180


# areas in files

def write(path, data):
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


@pytest.mark.parametrize("data", [
    POLYGON,
    {"type": "Feature", "properties": None, "geometry": POLYGON},
    {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": POLYGON}, {"type": "Feature", "geometry": None}]},
    {"type": "GeometryCollection", "geometries": [POLYGON]},
    {"type": "MultiPolygon", "coordinates": [POLYGON["coordinates"]]},
    {**POLYGON, "coordinates": [[[str(v) for v in xy] for xy in POLYGON["coordinates"][0]]]},
    {**POLYGON, "coordinates": [[[*xy, 500.0] for xy in POLYGON["coordinates"][0]]]},
    {**POLYGON, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}},
    {**POLYGON, "crs": {"type": "name", "properties": {"name": "EPSG:4326"}}},
])
def test_area(tmp_path, data):
    area = read_area(write(tmp_path / "area.geojson", data))
    assert area.geom_type == "Polygon" and area.bounds == (11, 47, 12, 48) and not area.has_z


def test_area_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "area.geojson"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(POLYGON).encode())
    assert read_area(str(path)).area == 1


def ring(*points):
    return {"type": "Polygon", "coordinates": [[list(p) for p in points]]}


@pytest.mark.parametrize("data, words", [
    (ring((6e5, 52e5), (7e5, 52e5), (7e5, 53e5), (6e5, 52e5)), ["600000, 5200000 are not longitude and latitude", "reproject"]),
    ({**POLYGON, "crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32632"}}}, ["EPSG::32632", "reproject"]),
    ({**POLYGON, "crs": "nonsense"}, ["CRS is nonsense"]),
    ({"type": "Point", "coordinates": [11, 47]}, ["holds a Point", "Polygon is wanted"]),
    ({"type": "GeometryCollection", "geometries": [POLYGON, {"type": "LineString", "coordinates": [[1, 2], [3, 4]]}]}, ["LineString"]),
    ({"type": "FeatureCollection", "features": []}, ["no polygon"]),
    ({"type": "FeatureCollection", "features": {"a": 1}}, ["no polygon"]),
    ({"type": "FeatureCollection"}, ["no polygon"]),
    ({"type": "FeatureCollection", "features": [17]}, ["no GeoJSON type"]),
    ({"type": "Topology", "objects": {}}, ["holds a Topology"]),
    ({"type": ["Polygon"]}, ["no GeoJSON type"]),
    ({}, ["no GeoJSON type"]),
    ({"type": "Polygon"}, ["malformed"]),
    ({"type": "Polygon", "coordinates": [[["a", "b"]]]}, ["malformed"]),
    ({"type": "Polygon", "coordinates": [11, 47]}, ["malformed"]),
    (ring((11, 47), (12, 47)), ["malformed"]),
    ({"type": "Polygon", "coordinates": []}, ["empty"]),
    (ring((11, 47), (12, 47), (11.5, 47), (11, 47)), ["encloses nothing"]),
    (ring((179, 0), (-179, 0), (-179, 2), (179, 2), (179, 0)), ["358 degrees wide", "antimeridian"]),
    ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 3], [4, 1], [NaN, 1]]]}', ["area.geojson"]),
    ('{"type": "Polygon", "coordinates": [[[1e999, 1], [2, 3], [4, 1], [1e999, 1]]]}', ["area.geojson"]),
    ([POLYGON], ["not GeoJSON"]), ("[1, 2", ["is not JSON"]), ("", ["is not JSON"]), ("\x00\x01", ["is not JSON"]),
    ("<kml></kml>", ["is not JSON"]),
    ("[" * 100_000 + "]" * 100_000, ["is not JSON"]),
    ('{"type": "Polygon", "coordinates": ' + "[" * 900 + "]" * 900 + "}", ["area.geojson"]),
    ('{"type": "Polygon", "coordinates": [[[' + "9" * 5000 + ", 1]]]}", ["area.geojson"]),
    ("9" * 5000, ["area.geojson"]),
])
def test_bad_area(tmp_path, data, words):
    with pytest.raises(RequestError) as error:
        read_area(write(tmp_path / "area.geojson", data))
    assert is_one_clear_line(error, "area.geojson", *words) and str(tmp_path) not in str(error.value)


def test_area_that_is_no_file(tmp_path):
    (tmp_path / "latin.geojson").write_bytes(b'{"type": "\xff\xfe"}')
    with open(tmp_path / "huge.geojson", "wb") as file:
        file.truncate(50_000_000)
    for name, words in {"none.geojson": "cannot be read", ".": "cannot be read", "latin.geojson": "is not JSON", "huge.geojson": "50 MB"}.items():
        with pytest.raises(RequestError) as error:
            read_area(tmp_path / name)
        assert is_one_clear_line(error, words)


def test_area_cut_at_the_antimeridian(tmp_path):
    east, west = (ring((x, 0), (x + 1, 0), (x + 1, 2), (x, 2), (x, 0))["coordinates"] for x in (179, -180))
    area = read_area(write(tmp_path / "fiji.geojson", {"type": "MultiPolygon", "coordinates": [east, west]}))
    assert area.area == pytest.approx(4) and len(shapely.get_parts(area)) == 2


def test_loops_that_cross_themselves_are_repaired(tmp_path):
    bow = read_area(write(tmp_path / "bow.geojson", ring((10, 47), (12, 48), (12, 47), (10, 48), (10, 47))))
    assert bow.is_valid and bow.area == pytest.approx(1)


# records

def test_real_records(shared):
    answer = json.loads((shared / "data/enmap_product/enmap_l2a_stac_search_real.json").read_text())
    first, second = (read_scene_item(record, to_area((10, 46, 12, 48))) for record in answer["features"])
    assert (first.datatake, first.tile, first.version, first.epsg, first.quality) == ("0000044371", "033", "01.05.02", 32632, 0)
    assert (first.cloud, first.snow, second.cloud, second.cirrus, second.haze) == (0, 1, 5, 1, 3)
    assert first.start == datetime(2023, 9, 29, 10, 47, 11, 445922, tzinfo=timezone.utc)
    assert first.grid[1] == (1178, 1204) and first.grid[0][:6] == (30, 0, 643545, 0, -30, 5241045)
    assert len(first.assets) == 13 and first.citation.startswith("DLR (2026)") and first.overlap == 1
    assert first.off_nadir == pytest.approx(4.6015, abs=1e-3) and first.sun_elevation == pytest.approx(40.28677)


def test_template_is_like_the_real_record(shared):
    real = json.loads((shared / "data/enmap_product/enmap_l2a_stac_item_real.json").read_text())
    made = item()
    assert made["id"] == real["id"] and set(made["assets"]) == set(real["assets"])
    assert all(made["assets"][key]["href"] == real["assets"][key]["href"] for key in real["assets"])
    assert set(made["properties"]) <= set(real["properties"])
    fields = {key: type(value) for key, value in made["properties"].items()}
    assert all(isinstance(real["properties"][key], kind) for key, kind in fields.items())


def broken(**changes):
    record = {**item(), **changes}
    return record


def without(key):
    record = item()
    del record["assets"][key]
    return record


def located(href):
    record = item()
    record["assets"]["image"]["href"] = href
    return record


@pytest.mark.parametrize("record, reason", [
    (item(enmap__sceneAOT=-999), "aerosol"), (item(enmap__sceneAOT="-999"), "aerosol"), (item(enmap__sceneAOT=-999.0), "aerosol"),
    (broken(geometry=None), "footprint"), (broken(geometry={"type": "Polygon"}), "footprint"),
    (broken(geometry={"type": "Polygon", "coordinates": [[[1, 2], ["x", 3]]]}), "footprint"),
    (broken(geometry={"type": "Point", "coordinates": [11, 47]}), "footprint"),
    (broken(geometry=ring((6e5, 52e5), (7e5, 52e5), (7e5, 53e5), (6e5, 52e5))), "footprint"),
    (broken(geometry=ring((11, 47), (11, 47), (11, 47), (11, 47))), "footprint"),
    (broken(geometry=[1, 2]), "footprint"), (broken(geometry={"type": 5, "coordinates": [1]}), "footprint"),
    (without("image"), "'image'"), (without("metadata"), "'metadata'"), (broken(assets=None), "'image'"), (broken(assets=[1]), "'image'"),
    (broken(assets={"image": "x", "metadata": 5}), "'image'"),
    (located("file:///etc/passwd"), "'image'"), (located("s3://x/y"), "'image'"), (located(None), "'image'"), (located("../x.TIF"), "'image'"),
    (broken(properties=None), "properties"), (broken(properties=[]), "properties"),
    (broken(id=None), "name"), (broken(id="../../../etc"), "name"), (broken(id=item()["id"] + "/.."), "name"), (broken(id=5), "name"),
    (broken(id=item()["id"].replace("20230929", "20239929"), properties={}), "no time"),
    ("nonsense", "name"), (None, "name"), ([], "name"), ({}, "name"),
])
def test_records_that_are_no_scene(record, reason):
    skipped = read_scene_item(record, to_area(BOX))
    assert isinstance(skipped, Skipped) and reason in skipped.reason and "\n" not in "".join(skipped)


def test_names_of_skipped_are_fit_for_a_terminal():
    skipped = read_scene_item({"id": "\x1b[2J" + "x\n" * 10_000}, to_area(BOX))
    assert len(skipped.id) <= 120 and skipped.id.isprintable()


@pytest.mark.parametrize("value, number", [
    (5, 5.0), ("5", 5.0), (5.5, 5.5), (" 5 ", 5.0), (-999, math.nan), ("-999", math.nan), (None, math.nan), ("null", math.nan),
    ("", math.nan), ([], math.nan), (250, math.nan), (-3, math.nan), ("nan", math.nan), ("inf", math.nan)])
def test_covers_of_any_type(value, number):
    scene = read_scene_item(item(cloud=value, enmap__cirrus_cover=value), to_area(BOX))
    assert [scene.cloud, scene.cirrus] == pytest.approx([number, number], nan_ok=True)


def test_what_is_missing_is_nan_or_none():
    record = item()
    record["properties"] = {}
    del record["assets"]["image"]["proj:shape"], record["assets"]["image"]["proj:epsg"]
    scene = read_scene_item(record, to_area(BOX))
    assert math.isnan(scene.cloud) and math.isnan(scene.off_nadir) and scene.quality == -1
    assert scene.epsg is None and scene.grid is None and scene.citation == ""
    assert scene.start == datetime(2023, 9, 29, 10, 47, 11, tzinfo=timezone.utc) and scene.processed.year == 2026


@pytest.mark.parametrize("shape, transform", [
    (["1178", "1204"], ["30", 0, "643545", 0, -30, 5241045]), ([1178], [30] * 6), (None, None), ([0, 5], [30, 0, 1, 0, -30, 1]),
    ([10**9, 5], [30, 0, 1, 0, -30, 1]), ([5, 5], [0] * 6), ([5, 5], [30, 0, math.nan, 0, -30, 1]), ([5, 5], [30, 0]), ("ab", "abcdef")])
def test_grid_of_any_type(shape, transform):
    record = item()
    record["assets"]["image"] |= {"proj:shape": shape, "proj:transform": transform}
    grid = read_scene_item(record, to_area(BOX)).grid
    assert grid is None if shape != ["1178", "1204"] else grid[1] == (1178, 1204) and grid[0].c == 643545


def test_crs_in_the_words_of_the_newer_extension():
    record = item()
    del record["properties"]["proj:epsg"], record["assets"]["image"]["proj:epsg"]
    record["properties"]["proj:code"] = "EPSG:32633"
    assert read_scene_item(record, to_area(BOX)).epsg == 32633


JUNK = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6)


@given(st.data())
def test_a_record_with_junk_in_it_is_a_scene_or_skipped(data):
    record = copy.deepcopy(item())
    part = data.draw(st.sampled_from([record, record["properties"], record["assets"], record["assets"]["image"], record["geometry"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JUNK)
    assert isinstance(read_scene_item(record, to_area(BOX)), SceneItem | Skipped)


# searching

def test_search():
    with DlrStac() as dlr:
        result = find(dlr, max_cloud_cover=20)
    reasons = dict(result.skipped)
    assert [s.start for s in result.found] == sorted(s.start for s in result.found)
    assert len(result.found) == 10 and all(isinstance(s.cloud, float) and s.cloud <= 20 for s in result.found)
    assert sorted("aerosol" in r for r in reasons.values()) == [False, False, True, True]
    assert any("quality is low" in r for r in reasons.values())
    asked = dlr.searches[0].json()
    assert asked["bbox"] == list(BOX) and asked["datetime"] == "2022-06-01T00:00:00Z/2022-09-30T23:59:59Z"
    assert asked["limit"] == 100 and asked["collections"] == ["ENMAP_HSI_L2A"]
    assert asked["filter"] == {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 20]} and asked["filter-lang"] == "cql2-json"


def test_newest_processing_is_preferred_and_the_older_named():
    old, new = item(1, 1, version="01.03.02", processed="2023-01-01T00:00:00Z"), item(1, 1, processed="2026-01-01T00:00:00Z")
    other = item(1, 2, version="01.03.02", processed="2022-01-01T00:00:00Z")
    with DlrStac([new, other, old, new]) as dlr:
        result = find(dlr, span="2023-09")
    assert {s.id for s in result.found} == {new["id"], other["id"]}
    assert result.skipped == (Skipped(old["id"], f"it was processed again: {new['id']}"),)


def test_an_older_processing_that_can_be_used_is_better_than_a_newer_that_cannot():
    old, new = item(1, 1, version="01.03.02", processed="2023-01-01T00:00:00Z"), item(1, 1, enmap__sceneAOT="-999")
    with DlrStac([old, new]) as dlr:
        assert [s.id for s in find(dlr, span="2023-09").found] == [old["id"]]


@pytest.mark.parametrize("cirrus, number", [(0, 2), (5, 2), (6, 1), ("6", 1), (-999, 2)])
def test_clouds_and_cirrus_count_together(cirrus, number):
    with DlrStac([item(1, 1, cloud=0), item(1, 2, cloud="5", enmap__cirrus_cover=cirrus)]) as dlr:
        result = find(dlr, span="2023-09", max_cloud_cover=10)
    assert len(result.found) == number and all("clouds and cirrus is 11 %, 10 %" in s.reason for s in result.skipped)


def test_cover_not_known():
    with DlrStac([item(cloud=-999)]) as dlr:
        assert len(find(dlr, span="2023-09").found) == 1
        assert "not known" in find(dlr, span="2023-09", max_cloud_cover=99).skipped[0].reason


@pytest.mark.parametrize("settings", [
    {}, {"cql2": "ignored"}, {"cql2": "refused"}, {"cql2": "broken"}, {"cql2": "stalls", "stall": 0.4}, {"post": False},
    {"paging": "always"}, {"paging": "get"}, {"page_limit": 100},
    {"faults": [503]}, {"faults": [500, 502, 504]}, {"faults": [(429, {"Retry-After": "0"})]}, {"faults": [(503, {"Retry-After": "soon"})]},
    {"faults": ["cut"]}, {"faults": ["html"]}, {"faults": ["garbage", "cut", 500]}, {"faults": [[1, 2]]}, {"faults": [{"features": 5}]},
], ids=str)
@pytest.mark.parametrize("page", [2, 100])
def test_the_same_scenes_however_the_server_behaves(monkeypatch, settings, page):
    with DlrStac() as dlr:
        want = find(dlr, max_cloud_cover=20).found
    monkeypatch.setattr(catalogue, "_PAGE", page)
    with DlrStac(**settings) as dlr:
        result = find(dlr, max_cloud_cover=20)
        assert result.found == want and result.matched >= 14
        assert all(request.method == "POST" or "bbox" in request.query for request in dlr.searches)
        assert all(request.method == "GET" or "bbox" in request.json() for request in dlr.searches)


def test_a_server_that_repeats_a_page_is_left_and_the_gap_told(monkeypatch, caplog):
    monkeypatch.setattr(catalogue, "_PAGE", 4)
    with DlrStac(paging="stuck") as dlr, caplog.at_level(logging.WARNING):
        result = find(dlr)
        assert len(dlr.searches) == 2 and len(result.found) <= 4 and result.matched > 4
    assert "only" in caplog.text and "may be missing" in caplog.text


def test_many_pages(monkeypatch):
    monkeypatch.setattr(catalogue, "_PAGE", 25)
    records = [record for day in range(10, 22) for record in strip(100 + day, f"2022-07-{day}T10:30:00Z", 11.5, 48.5, [0] * 6)]
    calls = []
    with DlrStac(records[::-1]) as dlr:
        result = find(dlr, progress=lambda *numbers: calls.append(numbers))
    assert [s.id for s in result.found] == [r["id"] for r in records]
    assert calls == [(25, 72), (50, 72), (72, 72)] and len(dlr.searches) == 3


def test_order_start_and_number():
    records = season()
    results = []
    for shuffled in (records, records[::-1]):
        with DlrStac(shuffled) as dlr:
            whole = find(dlr).found
            results.append([s.id for s in whole])
            assert find(dlr, max_scenes=3, start_index=2).found == whole[2:5]
            assert find(dlr, max_scenes=100, start_index=9).found == whole[9:]
            assert find(dlr, start_index=1000).found == ()
    assert results[0] == results[1]


def test_malformed_records_do_not_hide_the_others():
    records = [item(1, 1), {**item(1, 2), "geometry": None, "bbox": item()["bbox"]}, {**item(1, 3), "assets": {}}, item(1, 4)]
    with DlrStac(records) as dlr:
        result = find(dlr, span="2023-09")
    assert [s.tile for s in result.found] == ["001", "004"] and len(result.skipped) == 2


@pytest.mark.parametrize("odd", [
    None, 5, "x", [], {}, [None], {"id": 5}, {"id": ["a"], "properties": None}, {**item(1, 2), "properties": None}, {**item(1, 2), "properties": [1]},
    {**item(1, 2), "id": 7}, {**item(1, 2), "id": None}, {k: v for k, v in item(1, 2).items() if k != "geometry"}, {**item(1, 2), "geometry": "POINT"},
    {**item(1, 2), "assets": 3}, {**item(1, 2), "id": "x" * 300_000}, {**item(1, 2), "id": {"a": 1}}], ids=lambda odd: repr(odd)[:40])
def test_odd_records_are_told_and_the_others_found(odd):
    with DlrStac([item(1, 1), odd, item(1, 4)]) as dlr:
        result = find(dlr, span="2023-09")
    assert [s.tile for s in result.found] == ["001", "004"]
    [malformed], [line] = result.skipped, result.lacks
    assert isinstance(malformed, Malformed) and "1 record is not understood" in line and malformed.reason in line and len(line) < 400 and "\n" not in line


def test_broken_scenes_are_no_malformed_records():
    with DlrStac() as dlr:
        assert not find(dlr).lacks


# pages that cannot be had

@pytest.mark.parametrize("counts", [True, False])
def test_a_next_page_that_cannot_be_asked_for_is_told(monkeypatch, counts):
    monkeypatch.setattr(catalogue, "_PAGE", 4)
    with DlrStac(paging="lost", counts=counts) as dlr:
        result = find(dlr)
        assert len(dlr.searches) == 1 and result.found
    assert len(result.lacks) == 1 and "may be missing" in result.lacks[0] and "4" in result.lacks[0]


@pytest.mark.parametrize("paging, lacks", [("next", 0), ("always", 0), ("stuck", 1), ("get", 0)])
@pytest.mark.parametrize("page", [4, 15, 100])
def test_without_a_count_every_page_is_had_or_told(monkeypatch, paging, lacks, page):
    with DlrStac() as dlr:
        want = find(dlr).found
    monkeypatch.setattr(catalogue, "_PAGE", page)
    with DlrStac(paging=paging, counts=False) as dlr:
        result = find(dlr)
    assert len(result.lacks) == lacks and (lacks or result.found == want)


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("most", [None, 3, 500])
def test_a_list_without_end_is_cut(monkeypatch, counts, most):
    monkeypatch.setattr(catalogue, "_PAGE", 10)
    with DlrStac(paging="endless", counts=counts) as dlr:
        result = find(dlr, span="2022-06-12/2022-06-14", max_scenes=most)
        assert len(dlr.searches) < (12 if counts else 450)
    assert any("no end" in line for line in result.lacks) or most == 3


# as many as are wanted

@pytest.fixture(scope="module")
def thousands():
    "Three thousand scenes of three years, of each datatake the southern tile first, as DLR lists them."
    records, model = [], item(1, 1)
    for n in range(1500):
        start = datetime(2022, 6, 1, 10, tzinfo=timezone.utc) + timedelta(days=0.7 * n)
        for tile in (2, 1):
            moment = start + timedelta(seconds=4 * tile)
            properties = {**model["properties"], "datetime": (moment + timedelta(seconds=2)).isoformat(), "start_datetime": moment.isoformat()}
            name = model["id"].replace("DT0000000001", f"DT{n:010}").replace("20230929T104711Z_001", f"{moment:%Y%m%dT%H%M%S}Z_{tile:03}")
            records.append({**model, "id": name, "properties": properties})
    return records


@pytest.mark.parametrize("settings, searches", [
    ({}, 4), ({"counts": False}, 12), ({"heeds_time": False}, 7), ({"cql2": "ignored"}, 4), ({"post": False}, 6), ({"paging": "get"}, 4)], ids=str)
@pytest.mark.parametrize("order", [1, -1, 7])
def test_no_more_is_asked_for_than_is_wanted(thousands, settings, searches, order):
    "The first ones in time, whatever the order of the list; where time is not heeded, all of it is read unless what comes is in order."
    items = {1: sorted(thousands, key=lambda r: r["properties"]["start_datetime"]), -1: thousands[::-1], 7: [r for k in range(7) for r in thousands[k::7]]}[order]
    wanted = [r["id"] for r in sorted(thousands, key=lambda r: r["properties"]["start_datetime"])]
    with DlrStac(items, **settings) as dlr:
        result = find(dlr, span="2022-06-01/2025-06-01", max_scenes=100, start_index=5, max_cloud_cover=50)
        assert len(result.found) == 100 and not result.lacks
        if settings == {"heeds_time": False} and order == 7:        # what came first was in order
            return
        assert [s.id for s in result.found] == wanted[5:105]
        most = 32 if settings == {"heeds_time": False} and order == -1 else searches
        assert len(dlr.searches) <= most + 1      # a kept connection that was just closed is asked once more


def test_scenes_that_will_not_do_are_made_up_for(thousands):
    "Of the first two years each is too cloudy."
    items = [{**r, "properties": r["properties"] | {"eo:cloud_cover": 90}} for r in thousands[:2000]] + thousands[2000:]
    with DlrStac(items, cql2="ignored") as dlr:
        result = find(dlr, span="2022-06-01/2025-06-01", max_scenes=50, max_cloud_cover=50)
    assert [s.id for s in result.found] == sorted((r["id"] for r in thousands[2000:2050]), key=lambda i: i.split("_")[5])


def test_drawn_area_is_kept_to(tmp_path):
    triangle = shapely.Polygon([(10.4, 47), (12.8, 47), (10.4, 48.9)])
    with DlrStac() as dlr:
        result = find(dlr, area=triangle)
        assert dlr.searches[0].json()["bbox"] == list(triangle.bounds)
    assert all(triangle.intersects(s.footprint) and 0 < s.overlap <= 1 for s in result.found)
    assert any("outside the area" in s.reason for s in result.skipped) and any(s.overlap < 0.9 for s in result.found)


def test_scenes_of_another_time_are_left_out():
    with DlrStac([{**item(1, 1), "properties": {**item(1, 1)["properties"], "datetime": None}}]) as dlr:
        result = find(dlr, span="2022-06")
    assert not result.found and "outside the span" in result.skipped[0].reason


def test_across_the_antimeridian():
    fiji = [item(1, 1, lon=178.5, lat=-17), item(1, 2, lon=179.95, lat=-17), item(1, 3, lon=-179.2, lat=-17), item(1, 4, lon=0, lat=-17)]
    with DlrStac(fiji) as dlr:
        result = find(dlr, area=(177, -20, -178, -15), span="2023-09")
        assert [request.json()["bbox"] for request in dlr.searches] == [[-180, -20, -178, -15], [177, -20, 180, -15]]
    assert [s.tile for s in result.found] == ["001", "002", "003"]
    assert all(s.overlap == pytest.approx(1) for s in result.found)


def test_whole_world_is_one_box():
    with DlrStac() as dlr:
        assert len(find(dlr, area=(-180, -90, 180, 90)).found) == 12 and len(dlr.searches) == 1


# refusals and failures

@pytest.mark.parametrize("options", [{"max_cloud_cover": 101}, {"max_cloud_cover": -1}, {"max_cloud_cover": math.nan}, {"max_scenes": 0},
                                     {"start_index": -1}, {"url": "ftp://x"}, {"url": "geoservice.dlr.de"}, {"url": "file:///etc/passwd"}])
def test_refused_before_anybody_is_asked(options):
    with DlrStac() as dlr:
        with pytest.raises(RequestError) as error:
            search_scenes(BOX, SUMMER, **{"url": dlr.stac_url, **options})
        assert is_one_clear_line(error) and not dlr.log


def test_collection_that_does_not_exist():
    with DlrStac() as dlr, pytest.raises(RequestError) as error:
        find(dlr, collection="ENMAP_L2B")
    assert is_one_clear_line(error, "no collection 'ENMAP_L2B'", "ENMAP_HSI_L2A")


def test_nothing_found_is_no_error():
    with DlrStac() as dlr:
        assert find(dlr, area=(0, 0, 1, 1)) == SearchResult((), (), 0)


@pytest.mark.parametrize("fault, words", [
    (503, ["out of order", "503", "try again later"]), (500, ["out of order"]), (404, ["404", "as the test wanted"]), (400, ["400"]),
    (403, ["refused", "403"]), ("cut", ["cannot be reached"]), ("html", ["not as a catalogue"]), ("garbage", ["not as a catalogue"]),
    ({"type": "Catalog"}, ["not as a catalogue"]), ([], ["not as a catalogue"]), ((302, {"Location": "/elsewhere"}), ["moved"]),
    ((429, {"Retry-After": "0"}), ["out of order", "429"]), ("stall", ["no answer within"]),
], ids=str)
@pytest.mark.parametrize("cover", [100, 20])
def test_failure_is_one_line_that_names_the_host(monkeypatch, fault, words, cover):
    monkeypatch.setattr(catalogue, "_TIMEOUT", 0.1)
    monkeypatch.setattr(catalogue, "_FILTER_TIMEOUT", 0.1)
    with DlrStac(faults=[fault] * 20, stall=0.3) as dlr:
        with pytest.raises(ServiceError) as error:
            find(dlr, max_cloud_cover=cover)
        assert is_one_clear_line(error, dlr.url.removeprefix("http://"), *words) and error.value.__cause__ is None
        assert len(dlr.searches) <= 8


def test_nobody_listens():
    with DlrStac() as dlr:
        url = dlr.stac_url
    with pytest.raises(ServiceError) as error:
        search_scenes(BOX, SUMMER, url=url)
    assert is_one_clear_line(error, "127.0.0.1", "cannot be reached")


@pytest.mark.parametrize("cover", [100, 20])
def test_retry_after_is_obeyed_but_not_for_hours(cover):
    with DlrStac(faults=[(429, {"Retry-After": "0.3"}), (503, {"Retry-After": "0.2"})]) as dlr:
        begin = time.monotonic()
        assert find(dlr, max_cloud_cover=cover).found and time.monotonic() - begin > 0.5 and len(dlr.searches) == 3
        dlr.faults = [(503, {"Retry-After": "86400"})] * 9
        with pytest.raises(ComeBack, match=r"^127.0.0.1:\d+: asks to be left alone for 24.0 h .status 503.; start again at 20\d\d-"):
            find(dlr, max_cloud_cover=cover)
        assert len(dlr.searches) == 4


def test_no_password_is_sent_or_shown(monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password secret-word\nmachine 127.0.0.1 login me password secret-word\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with DlrStac() as dlr, DlrStac(faults=[(307, {"Location": f"{dlr.stac_url}/search"})]) as moved:
        assert len(find(moved).found) == 12
        assert all("authorization" not in request.headers for request in dlr.log + moved.log)
        moved.faults = [404]
        with pytest.raises(ServiceError) as error:
            search_scenes(BOX, SUMMER, url=moved.stac_url.replace("http://", "http://me:secret-word@"))
    assert "secret-word" not in str(error.value)


def test_table():
    with DlrStac() as dlr:
        found = find(dlr).found
    table = scenes_table(found, {found[0].id: 812_345_678})
    assert len(table) == len(found) and list(table["id"]) == [s.id for s in found]
    assert table["size [MB]"][0] == 812.3 and math.isnan(table["size [MB]"][1])
    assert "size [MB]" not in scenes_table(found) and len(scenes_table([])) == 0 and len(scenes_table([], {})) == 0


@pytest.mark.net
@pytest.mark.skipif("ENMAP_USERNAME" not in os.environ, reason="asks DLR itself; set ENMAP_USERNAME to run it")
def test_the_real_catalogue(monkeypatch):
    monkeypatch.undo()
    result = search_scenes((10.9, 46.9, 11.5, 47.6), "2023-09-29", max_cloud_cover=20)
    assert {"032", "033"} <= {s.tile for s in result.found} and all(s.grid and s.epsg == 32632 for s in result.found)
