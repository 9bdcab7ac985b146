"Scene and guide against each other: names, levels, dates, and where the partner lies."
import itertools
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from enmap_sharpener.core.errors import BandError, ProductError
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.pairing import days_apart, find_guide, read_pair, reconciled
from enmap_sharpener.scenes.sentinel2 import BANDS_10M, BANDS_20M, read_sentinel2
from enmap_sharpener.simulation.scene import simulate


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated"), 40, seed=5).enmap


@pytest.fixture(scope="module")
def pair(product):
    return read_pair(product)


def unnamed(guide, stack, order):
    image = getattr(guide, stack)[list(order)]
    return replace(guide, **{stack: image.assign_coords(band=range(1, len(image) + 1))}, unnamed=(stack,))


@pytest.mark.parametrize("order", itertools.permutations(range(4)))
@pytest.mark.parametrize("added", [0, 0.1])
def test_the_order_of_four_bands(pair, order, added):
    scene, guide = pair
    found = reconciled(scene, unnamed(replace(guide, bands10=guide.bands10 + np.float32(added)), "bands10", order))
    np.testing.assert_allclose(found.bands10.values, guide.bands10.values + np.float32(added), atol=1e-6)
    assert tuple(found.bands10.band.values) == BANDS_10M and "have no names; EnMAP tells that" in found.found[0]


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_twenty_metre_bands(pair, seed):
    scene, guide = pair
    found = reconciled(scene, unnamed(guide, "bands20", np.random.default_rng(seed).permutation(6)))
    np.testing.assert_array_equal(found.bands20.values, guide.bands20.values)
    assert tuple(found.bands20.band.values) == BANDS_20M


@pytest.mark.parametrize("what", ["flat", "noise", "elsewhere"])
def test_a_guide_that_shows_nothing_gets_no_names(pair, what):
    scene, guide = pair
    values = {"flat": guide.bands10 * 0 + 0.15, "elsewhere": guide.bands10.assign_coords(x=guide.bands10.x + 50_000),
              "noise": guide.bands10.copy(data=np.random.default_rng(0).uniform(0, 0.5, guide.bands10.shape).astype("float32"))}[what]
    if what == "elsewhere":
        values = values.rio.write_transform(values.rio.transform().translation(50_000, 0) * values.rio.transform())
    with pytest.raises(BandError, match="have no names, and EnMAP does not tell which are B02 B03 B04 B08"):
        reconciled(scene, unnamed(replace(guide, bands10=values), "bands10", range(4)))


def test_a_pair_as_it_should_be_is_not_talked_about(pair):
    assert reconciled(*pair).found == pair[1].found


@pytest.mark.parametrize("gain, offset, told", [(1, 0.1, "lies 0.1.. above EnMAP"), (1.15, 0.1, "above EnMAP"), (0.85, 0.1, "above EnMAP"), (1, -0.1, "below EnMAP"),
                                                (0.01, 0, "times as bright"), (100, 0, "times as bright"), (10, 0, "times as bright")])
def test_levels_that_contradict(pair, gain, offset, told):
    scene, guide = pair
    [line] = reconciled(scene, replace(guide, bands10=guide.bands10 * np.float32(gain) + np.float32(offset))).found
    assert re.search(told, line), line


@pytest.mark.parametrize("gain, offset", [(1.3, 0), (0.75, 0), (1, 0.03), (1.1, -0.02)])
def test_what_atmospheres_do_is_no_contradiction(pair, gain, offset):
    scene, guide = pair
    assert reconciled(scene, replace(guide, bands10=guide.bands10 * np.float32(gain) + np.float32(offset))).found == guide.found


@pytest.mark.parametrize("days, told", [(0, ""), (-29, ""), (31, "was taken 31 days after EnMAP; what"), (-100, "was taken 100 days before EnMAP, in another season"),
                                        (365, "365 days after EnMAP; what"), (-545, "545 days before EnMAP, in another season")])
def test_days(pair, days, told):
    scene, guide = pair
    guide = replace(guide, date=scene.metadata.start + timedelta(days=days))
    assert days_apart(scene, guide) == pytest.approx(days)
    assert [told in line for line in reconciled(scene, guide).found] == ([True] if told else [])


def test_an_unknown_date_is_said(pair):
    scene, guide = pair
    assert "its date is not known" in reconciled(scene, replace(guide, date=None)).found[0]


def test_the_partner_is_found(product, tmp_path):
    assert find_guide(product) == product / "sentinel2" == find_guide(product.parent) == find_guide(next(product.glob("*METADATA.XML")))
    for name in ("a", "b"):
        shutil.make_archive(str(tmp_path / name), "zip", product)
    with pytest.raises(ProductError, match="its partner is missing, there is no .*a/sentinel2; name the Sentinel-2 files"):
        find_guide(tmp_path / "a.zip")
    shutil.copytree(product / "sentinel2", tmp_path / "sentinel2")
    with pytest.raises(ProductError, match="its partner is missing"):     # whose it is, nobody can tell
        find_guide(tmp_path / "a.zip")
    (tmp_path / "b.zip").unlink()
    assert find_guide(tmp_path / "a.zip") == tmp_path / "sentinel2"
    shutil.copytree(product / "sentinel2", tmp_path / "a/sentinel2")
    assert find_guide(tmp_path / "a.zip") == tmp_path / "a/sentinel2"
    scene, guide = read_pair(tmp_path / "a.zip")
    assert guide.source == tmp_path / "a/sentinel2" and scene.source == tmp_path / "a.zip"


# ---- the handed inputs

RIGHT = {"3_pc_loose_product_metadata/pc": 0.05507, "9_gee_zero_nodata_untagged/s2": 0.05821, "9_gee_zero_nodata_untagged/s2float": 0.05821, "32_ten_bands_Band_n/s2": 0.05507}


@pytest.mark.parametrize("name", RIGHT)
def test_field(shared, name):
    scene = read_enmap(next((shared / "data/cases/potsdam_train").glob("ENMAP*")))
    guide = reconciled(scene, read_sentinel2(shared / "data/field" / name))
    assert float(guide.bands10[0].mean()) == pytest.approx(RIGHT[name], abs=1e-4) and tuple(guide.bands10.band.values) == BANDS_10M


@pytest.mark.parametrize("name", ["30_dims_tree/dims.zip", "30_dims_tree/dims.tar.gz", "30_dims_tree/dims_op_oc_oc-en_700000001_1", "80_dims_nested_zip",
                                  "20_cube_cropped", "21_all_cropped", "23_cube_float01", "24_nodata_zero_untagged"])
def test_field_of_enmap(shared, name):
    scene = read_enmap(shared / "data/field" / name)
    assert 0.28 < float(scene.cube[60].mean()) < 0.31
    west, south, east, north = scene.cube.rio.bounds()
    assert not scene.metadata.footprint or name not in ("20_cube_cropped", "21_all_cropped")
    assert Path(scene.source).name == name.split("/")[-1]
