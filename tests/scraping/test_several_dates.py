"Several Sentinel-2 dates for a scene: which set is chosen, where it lies, and what happens when one of it fails."
from datetime import timedelta
from itertools import combinations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from products import METADATA, SCENE_ID, product

from enmap_sharpener.core.errors import PartnerError
from enmap_sharpener.core.files import read_json
from enmap_sharpener.scenes.pairing import find_guides, read_pair
from enmap_sharpener.scraping.candidates import Acquisition
from enmap_sharpener.scraping.services import fetch_partners
from enmap_sharpener.scraping.several_dates import best_set, fetch_dates


def acquisition(days):
    time = METADATA.start + timedelta(days=days)
    return Acquisition(time.date(), time, "S2A", (f"tile {days}",), shapely.box(-170, -80, 170, 80), 0.0, 1.0, days, extra={"end": time.isoformat()})


class Halves:
    "A provider in memory: day 5 sees the east alone, the others the west; counts what it is asked."

    name, largest, spent = "halves", 60, 0.0

    def __init__(self, listed, missing=()):
        self.listed, self.missing, self.looks, self.reads = listed, missing, [], 0

    def acquisitions(self, footprint, start, days):
        return self.listed

    def look(self, a, grid):
        self.looks.append(a.days)
        classes = np.full(grid.shape, 4, "uint8")
        middle = grid.nx // 2
        classes[:, slice(None, middle) if a.days == 5 else slice(middle, None)] = 9
        return classes, {}

    def read(self, a, bands, grid):
        self.reads += 1
        planes = [np.full(grid.shape, 4 if band == "SCL" else 1000) for band in bands]
        return np.where(a.days in self.missing, -32768, np.stack(planes)).astype("int16")

    def estimate(self, grid):
        return 0.0


@pytest.fixture
def scene(tmp_path):
    product(tmp_path / "enmap")
    return tmp_path / "enmap" / SCENE_ID


@given(st.lists(st.tuples(st.floats(0, 1), st.lists(st.booleans(), min_size=6, max_size=6)), min_size=1, max_size=6), st.integers(1, 4))
def test_no_other_set_leaves_less(candidates, most):
    scores, clear = [c[0] for c in candidates], np.array([c[1] for c in candidates])
    chosen, uncovered = best_set(clear, scores, most)
    assert len(chosen) == len(set(chosen)) == min(most, len(candidates)) and [scores[i] for i in chosen] == sorted((scores[i] for i in chosen), reverse=True)
    assert uncovered == pytest.approx(min(1 - clear[list(c)].any(0).mean() for c in combinations(range(len(clear)), len(chosen))))


def test_the_set_and_not_the_best_single_ones(scene):
    provider = Halves([acquisition(d) for d in (1, 2, 5)])
    record = fetch_dates(scene, provider, 2)
    assert sorted(provider.looks) == [1, 2, 5] and record["chosen"]["days"] == 1
    assert "leave 0% of the scene uncovered together, the 2 best single ones 5" in record["why"] and record["rule"].startswith("the set that leaves least")
    assert [p.name for p in find_guides(scene)] == ["sentinel2", "sentinel2_2"]
    assert read_json(scene / "sentinel2_2/partner.json")["chosen"]["days"] == 5
    _, guides = read_pair(scene)
    assert len(guides) == 2 and guides[0].date < guides[1].date
    assert not [p for p in scene.iterdir() if p.name.startswith(".")]


def test_a_date_without_data_is_done_without(scene, caplog):
    provider = Halves([acquisition(1), acquisition(5)], missing=(5,))
    assert fetch_dates(scene, provider, 2)["chosen"]["days"] == 1
    assert [p.name for p in find_guides(scene)] == ["sentinel2"] and "the other dates are fetched without it" in caplog.text


def test_what_is_there_stays_and_what_is_old_goes(scene):
    provider = Halves([acquisition(d) for d in (1, 2, 5)])
    fetch_partners(scene.parent, provider, dates=3)
    reads = provider.reads
    assert fetch_partners(scene.parent, provider, dates=3).already and provider.reads == reads
    fetch_partners(scene.parent, provider, dates=2, overwrite=True)
    assert [p.name for p in find_guides(scene)] == ["sentinel2", "sentinel2_2"]
    fetch_partners(scene.parent, provider, overwrite=True)
    assert [p.name for p in find_guides(scene)] == ["sentinel2"]


def test_what_somebody_else_put_there_is_not_touched(scene):
    (scene / "sentinel2_2").mkdir(parents=True)
    (scene / "sentinel2_2/mine.tif").write_bytes(b"mine")
    with pytest.raises(PartnerError, match="sentinel2_2: was not fetched by this command"):
        fetch_dates(scene, Halves([acquisition(1)]), 2)


def test_nothing_will_do(scene):
    with pytest.raises(PartnerError, match="will do .1 there, 1 looked at.; allow more days"):
        fetch_dates(scene, Halves([acquisition(40)]), 2)


def test_the_cost_of_all_is_what_counts(scene):
    provider = Halves([acquisition(1), acquisition(5)])
    provider.estimate = lambda grid: 10.0
    with pytest.raises(PartnerError, match="2 dates would cost about 20 processing units, more than the 15 allowed"):
        fetch_dates(scene, provider, 2, max_units=15)
