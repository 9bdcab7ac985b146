"Scene and guide against each other: names, levels, dates, and where the partner lies."
import itertools
import re
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from products import of_larger_pixels

from enmap_sharpener.core.errors import BandError, GridError, ProductError
from enmap_sharpener.scenes.enmap import count_products, product_folder, read_enmap
from enmap_sharpener.scenes.pairing import checked, days_apart, find_guide, read_pair, reconciled
from enmap_sharpener.scenes.sentinel2 import BANDS_10M, BANDS_20M, read_sentinel2
from enmap_sharpener.simulation.scene import simulate, simulate_pair


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


def test_pixels_that_are_not_square(pair):
    scene, guide = pair
    transform = guide.bands10.rio.transform()
    longer = guide.bands10.rio.write_transform(transform * transform.scale(2, 1)).assign_coords(x=transform.c + 20 * (np.arange(guide.bands10.sizes["x"]) + 0.5))
    with pytest.raises(GridError, match="its pixels are 20 wide and 10 high"):
        reconciled(scene, replace(guide, bands10=longer))


@pytest.mark.parametrize("unit, divisor", [(100, 100), (10_000, 10_000)])
@pytest.mark.parametrize("both", [True, False])
def test_numbers_that_are_no_reflectance(pair, unit, divisor, both):
    scene, guide = pair
    if both:
        guide = replace(guide, bands10=guide.bands10 * unit, bands20=guide.bands20 * unit)
    with pytest.raises(ProductError, match=f"in the middle; wanted reflectance, from 0 to 1: divide it by {divisor}$"):
        reconciled(replace(scene, cube=scene.cube * unit), guide)


@pytest.mark.parametrize("order, factor", [(1, 2), (3, 2), (3, 3), (1, 6), (3, 6)])
def test_ten_metre_bands_that_were_interpolated(order, factor):
    scene, guide, _ = simulate_pair(size=100, seed=3)
    image = guide.bands10[:, :300, :300]
    fine = of_larger_pixels(image, factor, order)
    found = reconciled(scene, replace(guide, bands10=fine.copy(data=np.rint(1e4 * fine.values).astype("float32") / 1e4))).found
    assert sum("B02 B03 B04 B08 show hardly anything finer than 20 m" in line for line in found) == 1, found
    assert not any("finer" in line for line in reconciled(scene, replace(guide, bands10=image)).found)


def test_a_cube_with_other_bands_than_its_table(pair):
    scene, guide = pair
    with pytest.raises(BandError, match="its cube has 100 bands, its table 224"):
        reconciled(replace(scene, cube=scene.cube[:100]), guide)


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


def test_the_level_of_twenty_metre_bands_alone(pair):
    scene, guide = pair
    above = np.float32(0.1)
    [line] = reconciled(scene, replace(guide, bands20=guide.bands20 + above)).found
    assert "above EnMAP in all of its 20 m bands" in line and "treat the files of both stacks alike" in line
    [line] = reconciled(scene, replace(guide, bands10=guide.bands10 + above, bands20=guide.bands20 + above)).found
    assert "above EnMAP in all bands" in line and "--sentinel2-offset -1000 takes it off" in line


@pytest.mark.parametrize("one, other", [("B04", "B08"), ("B08", "B04"), ("B02", "B08"), ("B12", "B06")])
def test_a_band_that_is_a_copy_of_another_is_no_offset_in_all(pair, one, other):
    scene, guide = pair
    stack = "bands10" if one in BANDS_10M else "bands20"
    image = getattr(guide, stack).copy(deep=True)
    image.loc[{"band": one}] = image.sel(band=other).values
    assert not [line for line in reconciled(scene, replace(guide, **{stack: image})).found if "in all" in line]


def exchanged(guide, one, other):
    "A guide whose bands have each other's names."
    stack = "bands10" if one in BANDS_10M else "bands20"
    names = [{one: other, other: one}.get(name, name) for name in getattr(guide, stack).band.values]
    return replace(guide, **{stack: getattr(guide, stack).sel(band=names).assign_coords(band=getattr(guide, stack).band.values)})


@pytest.mark.parametrize("one, other", [("B11", "B12"), ("B02", "B08"), ("B03", "B04"), ("B02", "B04"), ("B04", "B08"), ("B05", "B06")])
@pytest.mark.parametrize("added", [0, 0.1])
def test_bands_that_have_each_other_s_names(pair, caplog, one, other, added):
    scene, guide = pair
    guide = replace(guide, bands10=guide.bands10 + np.float32(added), bands20=guide.bands20 + np.float32(added))
    found = reconciled(scene, exchanged(guide, one, other)).found
    [line] = [line for line in found if "names" in line]
    assert line.endswith(f": {one} and {other} look like each other's to EnMAP; check the names of its bands") and line in caplog.text
    assert not [line for line in reconciled(scene, replace(exchanged(guide, one, other), described=guide.table)).found if "names" in line]      # as what is made of it one scale down


@pytest.mark.parametrize("seed", [0, 1, 3])
@pytest.mark.parametrize("change", [1, 3])
def test_no_names_are_doubted_that_are_right(seed, change):
    scene, guide, _ = simulate_pair(40, seed, change=change)
    assert reconciled(scene, guide).found == guide.found


def test_no_names_are_doubted_in_the_cases(case):
    scene, guide = read_pair(next(case.glob("ENMAP*")), case)
    assert not [line for line in reconciled(scene, guide).found if "each other's" in line]


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
    with pytest.raises(ProductError, match="its partner is missing, there is no .* and no .*a/sentinel2; name the Sentinel-2 files"):
        find_guide(tmp_path / "a.zip")
    shutil.copytree(product / "sentinel2", tmp_path / "sentinel2")
    with pytest.raises(ProductError, match="its partner is missing, there is no .*a/sentinel2, and whose the Sentinel-2 files beside it are cannot be told, as other products lie there"):
        find_guide(tmp_path / "a.zip")
    (tmp_path / "b.zip").rename(tmp_path / "b.txt")
    (tmp_path / "ENMAP01-____L2A-DT1").mkdir()
    with pytest.raises(ProductError, match="as other products lie there"):
        find_guide(tmp_path / "a.zip")
    (tmp_path / "ENMAP01-____L2A-DT1").rmdir()
    assert find_guide(tmp_path / "a.zip") == tmp_path / "sentinel2"
    shutil.copytree(product / "sentinel2", tmp_path / "a/sentinel2")
    assert find_guide(tmp_path / "a.zip") == tmp_path / "a/sentinel2"
    scene, guide = read_pair(tmp_path / "a.zip")
    assert guide.source == tmp_path / "a/sentinel2" and scene.source == tmp_path / "a.zip"


def order(product, place, partner=None):
    "A DLR order as it is unpacked, with Sentinel-2 files in the order's folder."
    target = place / "dims_op_oc_oc-en_700000001_1" / "ENMAP.HSI.L2A" / product.name
    shutil.copytree(product, target, ignore=shutil.ignore_patterns("sentinel2"))
    if partner:
        shutil.copytree(product / "sentinel2", target.parents[1] / partner)
    return target.parents[1]


SAFE = "S2A_MSIL2A_20230725T101609_N0509_R065_T33UUU_20230725T161600.SAFE"


@pytest.mark.parametrize("partner", ["sentinel2", SAFE])
def test_the_partner_in_an_order(product, tmp_path, partner):
    place = order(product, tmp_path, partner)
    assert find_guide(place) == place / partner == read_pair(place)[1].source
    assert find_guide(tmp_path) == place / partner
    (tmp_path / SAFE).mkdir()
    assert find_guide(place) == place / partner


def test_a_packed_product_in_a_folder(product, tmp_path):
    "With a SAFE product in its ZIP beside it, unpacked or not; two of them are too many, and of level 1C it is refused by name."
    shutil.make_archive(str(tmp_path / "order"), "zip", product.parent, product.name)
    assert product_folder(tmp_path) == tmp_path
    shutil.make_archive(str(tmp_path / SAFE), "zip", product / "sentinel2")
    assert find_guide(tmp_path) == tmp_path / f"{SAFE}.zip" == find_guide(tmp_path / "order.zip")
    scene, guide = read_pair(tmp_path)
    assert scene.source == tmp_path and guide.date is not None
    shutil.copytree(product / "sentinel2", tmp_path / SAFE)
    assert find_guide(tmp_path).name.startswith(SAFE[:60])       # the same, unpacked
    (tmp_path / SAFE.replace("20230725T101609", "20230805T101609")).mkdir()
    with pytest.raises(ProductError, match="2 Sentinel-2 products lie in .*name the one that is its partner"):
        find_guide(tmp_path)
    for path in tmp_path.glob("S2A*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / SAFE.replace("2A_2", "1C_2")).mkdir()
    with pytest.raises(ProductError, match="is level 1C"):
        read_pair(tmp_path)


def test_how_many_products(product, tmp_path):
    assert [count_products(p) for p in (product, product.parent, product / "sentinel2", next(product.glob("*METADATA.XML")))] == [1, 1, 0, 1]
    for name in ("a", "b"):
        shutil.copytree(product, tmp_path / name / product.name)
    assert count_products(tmp_path) == 2 and count_products(tmp_path / "a") == 1


def test_files_of_bands_beside_the_product(product, tmp_path):
    shutil.copytree(product, tmp_path / product.name, ignore=shutil.ignore_patterns("sentinel2"))
    with pytest.raises(ProductError, match="its partner is missing"):
        find_guide(tmp_path)
    for band in BANDS_10M[:3]:
        (tmp_path / f"T33UUU_20230725T101609_{band}_10m.jp2").touch()
    with pytest.raises(ProductError, match="its partner is missing"):
        find_guide(tmp_path)
    (tmp_path / "T33UUU_20230725T101609_B08_10m.jp2").touch()
    assert find_guide(tmp_path) == tmp_path


@pytest.mark.parametrize("gain, offset", [(1, 0.1), (1, -0.1), (0.01, 0)])
def test_what_contradicts_is_not_learnt_from(pair, gain, offset):
    scene, guide = pair
    assert checked(scene, guide).found == guide.found
    with pytest.raises(ProductError, match="EnMAP"):
        checked(scene, replace(guide, bands10=guide.bands10 * np.float32(gain) + np.float32(offset)))


def test_clouds_of_sentinel2_do_not_change_the_level(pair):
    scene, guide = pair
    cloud = guide.scl.copy(data=np.where(np.arange(guide.scl.shape[1]) < guide.scl.shape[1] // 2, 9, guide.scl.values).astype("uint8"))
    bright = guide.bands10.copy(data=np.where(np.arange(guide.bands10.shape[2]) < guide.bands10.shape[2] // 2, np.float32(0.7), guide.bands10.values))
    assert checked(scene, replace(guide, bands10=bright, scl=cloud)).found == guide.found
    with pytest.raises(ProductError):
        checked(scene, replace(guide, bands10=bright + np.float32(0.1), scl=cloud))


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


@pytest.mark.parametrize("order", [lambda cube: cube[::-1], lambda cube: cube.sortby("wavelength"), lambda cube: cube.sortby("detector")])
def test_a_cube_in_another_order_than_its_table_is_refused(pair, order):
    "It was sharpened with the responses of other bands, and the guide was blamed."
    scene, guide = pair
    if not np.array_equal((cube := order(scene.cube)).band, scene.cube.band):
        with pytest.raises(BandError, match=r"band \d+ of its cube has the (wavelength|detector) \S+, of its table \S+; put both in one order"):
            reconciled(replace(scene, cube=cube), guide)


@pytest.mark.parametrize("change, words", [
    (lambda cube: cube - 1000, "is -1e+03 in the middle; wanted reflectance, from 0 to 1: check the offset that was added"),
    (lambda cube: cube.fillna(-3.2768).where(cube.x > cube.x[4], -3.2768), r"holds -3\.2768 in \d+\.\d% of the values that were looked at, which is no reflectance but nodata; put NaN there"),
    (lambda cube: cube.where(cube.x > cube.x[4], -9999), "holds -9999 in"),
    (lambda cube: cube.where(cube.x > cube.x[4], 1e20), r"holds 1e\+20 in")])
def test_a_cube_whose_numbers_are_no_reflectance(pair, change, words):
    "A cube that was made in Python has seen none of the checks of files; -1000 was called agreement good."
    scene, guide = pair
    with pytest.raises(ProductError, match=words.replace("+03", r"\+03")):
        reconciled(replace(scene, cube=change(scene.cube.load()).astype("float32").rio.write_crs(scene.cube.rio.crs)), guide)


def test_layers_that_do_not_cover_the_cube_are_refused(pair):
    "It ended in numpy's error."
    scene, guide = pair
    with pytest.raises(GridError, match="its quality layers cover 30 x 30 of the 40 x 40 pixels of its cube; cut both alike"):
        reconciled(replace(scene, quality={name: layer[..., :30, :30] for name, layer in scene.quality.items()}), guide)
