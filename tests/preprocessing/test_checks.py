"Scenes that pass, scenes that fail and why, and that those are moved aside and brought back as they were."
import json
import os
import shutil
from datetime import timedelta

import numpy as np
import pytest
import rasterio
from products import METADATA, SCENE_ID, potsdam, table

from enmap_sharpener.core.errors import OutputError, ProductError
from enmap_sharpener.core.raster import NODATA
from enmap_sharpener.preprocessing import quarantine as aside
from enmap_sharpener.preprocessing.checks import Wanted, check_folder, check_scene, clearest, measure_alignment
from enmap_sharpener.preprocessing.quarantine import candidates, reject, rejected, restore
from enmap_sharpener.scenes.enmap import read_enmap, write_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2, write_sentinel2
from enmap_sharpener.scraping.services import scene_folders
from enmap_sharpener.simulation.scene import simulate


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    "A scene and its partner, to copy."
    return simulate(tmp_path_factory.mktemp("simulated"), size=(26, 32), seed=5, truth=False).enmap


@pytest.fixture
def place(simulated, tmp_path):
    return shutil.copytree(simulated, tmp_path / "enmap" / simulated.name)


def only(verdict, words):
    "The verdict fails for one reason, in these words."
    assert not verdict.ok and len(verdict.reasons) == 1 and words in verdict.reasons[0], verdict.reasons
    return verdict


def cube_file(place):
    return next(place.glob("*SPECTRAL_IMAGE.TIF"))


def change(path, function, **profile):
    "Write a raster again with other values or another profile."
    with rasterio.open(path) as file:
        values, old, names, tags = file.read(), file.profile, file.descriptions, file.tags()
    values = function(values)
    with rasterio.open(path, "w", **{**old, **profile, "height": values.shape[1], "width": values.shape[2]}) as file:
        file.write(values)
        file.descriptions = names
        file.update_tags(**tags)


# ---- what passes

def test_a_good_pair(place):
    before = contents(place)
    verdict = check_scene(place, threads=2)
    assert verdict.ok and verdict.notes == () and verdict.id == place.name
    assert (verdict.shift_y, verdict.shift_x) == pytest.approx((0.2, -0.1), abs=0.03) and verdict.blur == pytest.approx(13 / 30, abs=0.03)
    assert verdict.agreement > 0.9 and verdict.overlap == 1 and verdict.clear > 0.95 and 0.5 < verdict.valid < 0.9 and verdict.days == pytest.approx(9, abs=0.1)
    assert contents(place) == before
    assert json.loads(json.dumps(verdict.as_dict(), allow_nan=False))["ok"] is True


def test_angles_and_days_are_reported(place):
    "The seed reports neither the days between the acquisitions nor how far off nadir EnMAP looked."
    verdict = check_scene(place)
    metadata = read_enmap(place).metadata
    assert verdict.sun_elevation == pytest.approx(metadata.sun_elevation, abs=0.01)
    assert np.isfinite(verdict.view_zenith) == np.isfinite(metadata.off_nadir_across)
    (place / "sentinel2/partner.json").write_text(json.dumps({"chosen": {"days": -3.5}}))
    assert check_scene(place).days == 3.5
    (place / "sentinel2/partner.json").write_text("{")
    assert check_scene(place).days == pytest.approx(9, abs=0.1)


def test_missing_layers_are_noted(place):
    "Products without some quality layers, and Sentinel-2 without classes or 20 m bands, are of use."
    for name in "CLOUD", "CLOUDSHADOW", "HAZE", "TESTFLAGS":
        next(place.glob(f"*QL_QUALITY_{name}.TIF")).unlink()
    for name in "scl_20m.tif", "sentinel2_20m.tif":
        (place / "sentinel2" / name).unlink()
    verdict = check_scene(place)
    assert verdict.ok and [w for w in ("cloud and cloudshadow", "scene classification", "20 m bands") if w in "; ".join(verdict.notes)] == [
        "cloud and cloudshadow", "scene classification", "20 m bands"]


def test_flat_ground_cannot_be_told(place):
    "Calm water has nothing to align: that is no reason to reject it."
    rng = np.random.default_rng(0)
    change(cube_file(place), lambda v: np.where(v == NODATA, NODATA, rng.normal(30, 8, v.shape)).astype("int16"))
    for name in ("10m", "20m"):
        change(place / f"sentinel2/sentinel2_{name}.tif", lambda v: rng.normal(110, 5, v.shape).astype("int16"))
    verdict = check_scene(place)
    assert verdict.ok and "the alignment cannot be told" in verdict.notes[-1] and np.isnan(verdict.shift_y)


@pytest.mark.parametrize("shape", [(1, 30), (30, 1), (1, 1), (4, 5)])
def test_a_few_pixels(tmp_path, shape):
    rng = np.random.default_rng(1)
    values = np.clip(rng.normal(1000, 200, (12, *shape)), 0, 3000).astype("int16")
    grid = open_raster_like(values)
    place = write_enmap(tmp_path, grid, table(), scene_id=SCENE_ID, metadata=METADATA)
    ground = np.clip(rng.normal(1000, 200, (4, 3 * shape[0] + 8, 3 * shape[1] + 8)), 0, 3000).astype("int16")
    write_sentinel2(place / "sentinel2", open_raster_like(ground, (365980, 5806160), 10, ["B02", "B03", "B04", "B08"]))
    verdict = check_scene(place, wanted=Wanted(agreement=-1))
    # twelve bands do not reach every band of Sentinel-2, which is a reason in words and no crash
    assert all("good bands" in r or "correlates" in r for r in verdict.reasons) and verdict.overlap == 1


def open_raster_like(values, corner=(366015, 5806125), pixel=30, names=None):
    "Numbers as a DataArray with a place."
    import xarray as xr
    from rasterio.transform import from_origin
    data = xr.DataArray(values, dims=("band", "y", "x"), coords={"band": names} if names else None).rio.write_crs("EPSG:32633")
    return data.rio.write_transform(from_origin(*corner, pixel, pixel))


# ---- what fails

def test_no_partner(place):
    shutil.rmtree(place / "sentinel2")
    only(check_scene(place), "sentinel2")


def test_a_missing_band_file(place):
    (place / "sentinel2/sentinel2_10m.tif").unlink()
    only(check_scene(place), "holds neither sentinel2_10m.tif nor")


@pytest.mark.parametrize("kind, words", [("METADATA.XML", "no METADATA.XML"), ("SPECTRAL_IMAGE.TIF", "SPECTRAL_IMAGE file is wanted")])
def test_a_missing_product_file(place, kind, words):
    next(place.glob(f"*{kind}")).unlink()
    only(check_scene(place), words)


def test_a_truncated_cube(place):
    os.truncate(cube_file(place), cube_file(place).stat().st_size // 2)
    only(check_scene(place), "is truncated")


def damage(path, band):
    "Overwrite a block in the middle of a file, whose size stays right."
    with rasterio.open(path) as file:
        start, size = (int(file.get_tag_item(f"BLOCK_{item}_0_0", "TIFF", bidx=band)) for item in ("OFFSET", "SIZE"))
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(i % 251 for i in range(size)))


def test_damage_in_the_middle_is_found(place):
    damage(cube_file(place), 100)
    only(check_scene(place), "SPECTRAL_IMAGE.TIF: cannot be read, it is truncated or corrupt")


@pytest.mark.parametrize("name, band", [("sentinel2_10m.tif", 3), ("sentinel2_20m.tif", 5), ("scl_20m.tif", 1)])
def test_damage_in_the_partner_is_found(place, name, band):
    damage(place / "sentinel2" / name, band)
    assert name in only(check_scene(place), "truncated or corrupt").reasons[0]


def test_damage_in_a_quality_layer_is_found(place):
    damage(next(place.glob("*QL_QUALITY_CLOUD.TIF")), 1)
    only(check_scene(place), "QL_QUALITY_CLOUD.TIF: cannot be read")


def test_two_coordinate_systems(place):
    for file in (place / "sentinel2").glob("*.tif"):
        change(file, lambda v: v, crs="EPSG:32632")
    only(check_scene(place), "do not overlap, in EPSG:32633 and EPSG:32632")      # one that does is brought to EnMAP's: test_pipeline


def shifted(place, rows, cols):
    "Move the georeference of the partner by EnMAP pixels."
    for file in (place / "sentinel2").glob("*.tif"):
        with rasterio.open(file, "r+") as raster:
            raster.transform = raster.transform.translation(30 * cols, -30 * rows) * raster.transform


def test_no_overlap(place):
    shifted(place, 2000, 0)
    only(check_scene(place), "do not overlap")


def test_too_little_overlap(place):
    shifted(place, 0, 24)
    verdict = check_scene(place)
    assert "Sentinel-2 covers" in verdict.reasons[0] and "at least 50% are wanted" in verdict.reasons[0] and 0 < verdict.overlap < 0.5


def test_a_shift_that_is_too_large(tmp_path):
    far = simulate(tmp_path, size=40, seed=6, shift=(0.1, 2.5), swir_shift=(0, 0), truth=False, noise=0.2).enmap
    shifted(far, 0, 0.25)
    verdict = only(check_scene(far), "2.75 columns apart; at most 2.5 EnMAP pixels")
    assert verdict.shift_x == pytest.approx(2.75, abs=0.05) and check_scene(far, wanted=Wanted(shift=3)).ok


@pytest.mark.parametrize("rows, cols", [(0, 7), (-6, 3)])
def test_a_partner_out_of_reach(tmp_path, rows, cols):
    pair = simulate(tmp_path, size=40, seed=6, truth=False).enmap
    shifted(pair, rows, cols)
    only(check_scene(pair), "they do not show the same ground, or lie too far apart")


def test_a_partner_of_other_ground(place, tmp_path):
    other = simulate(tmp_path / "other", size=(26, 32), seed=99, truth=False).sentinel2
    shutil.rmtree(place / "sentinel2")
    shutil.copytree(other, place / "sentinel2")
    verdict = only(check_scene(place), "do not show the same ground")
    assert verdict.agreement < 0.3


def test_days_apart(place):
    guide = read_sentinel2(place / "sentinel2")
    late = guide.date + timedelta(days=10)
    bands10, bands20, scl = (a.compute() for a in (guide.bands10, guide.bands20, guide.scl))
    write_sentinel2(place / "sentinel2", bands10, bands20, scl, late)
    only(check_scene(place), "19.0 days apart; at most 15 are wanted")
    assert check_scene(place, wanted=Wanted(days=20)).ok


def test_clouds_everywhere(place):
    change(place / "sentinel2/scl_20m.tif", lambda v: v * 0 + 9)
    verdict = check_scene(place)
    assert "clouds and missing data leave 0%" in verdict.reasons[0] and "no pixel is left" in verdict.reasons[1] and verdict.overlap == 1


def test_nothing_measured(place):
    change(cube_file(place), lambda v: v * 0 + NODATA)
    verdict = check_scene(place)
    assert "EnMAP measured 0% of its grid" in verdict.reasons[0] and verdict.overlap == 0 and verdict.clear == 0


def test_partner_without_data(place):
    change(place / "sentinel2/sentinel2_10m.tif", lambda v: v * 0 + NODATA)
    only(check_scene(place), "nodata everywhere")


def test_every_reason_is_told(place):
    change(cube_file(place), lambda v: v * 0 + NODATA)
    shutil.rmtree(place / "sentinel2")
    assert len(check_scene(place).reasons) == 2


def test_clearest_window_is_the_best_of_its_raster():
    clear = np.random.default_rng(3).random((70, 41)) < np.linspace(0, 1, 41)
    window = clearest(clear, 16)
    sums = [clear[y:y + 16, x:x + 16].sum() for y in [*range(0, 54, 4), 54] for x in [*range(0, 25, 4), 25]]
    assert clear[window].sum() == max(sums) and clear[window].shape == (16, 16)


# ---- moved aside, and back

def contents(folder):
    "Bytes, times and kinds of all that lies below a folder."
    return {str(p.relative_to(folder)): (p.is_dir() or p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in sorted(folder.rglob("*"))}


@pytest.fixture
def folder(place):
    "A folder with a scene that passes and two that do not: of one even the METADATA.XML is missing."
    start = place.name.split("_")[5]
    for n, broken in enumerate(("sentinel2/sentinel2_10m.tif", "*METADATA.XML"), 2):
        # the same start and tile: only the version and the processing time tell them apart, and the seed, which keys by start, mixes them up
        copy = shutil.copytree(place, place.with_name(place.name.replace("_V010502_", f"_V01050{n + 1}_")))
        assert copy.name.split("_")[5] == start
        next(copy.glob(broken)).unlink()
    (place.parent / "notes").mkdir()
    (place.parent / ".part").mkdir()
    return place.parent


def test_failing_scenes_move_and_come_back_as_they_were(folder):
    before = contents(folder)
    table = check_folder(folder)
    assert list(table.ok) == [True, False, False] and list(table.id) == sorted(table.id) and table.reasons[0] == ""
    assert [p.name for p in scene_folders(folder)] == [table.id[0]] == [p.name for p in candidates(folder)]
    moved = rejected(folder)
    assert set(moved.id) == set(table.id[1:]) and {*moved.reasons} == {*table.reasons[1:]}
    told = json.loads((folder / "rejected" / table.id[1] / "rejected.json").read_text())
    assert told["ok"] is False and told["id"] == table.id[1] and told["days"] is None
    assert restore(folder) == sorted(table.id[1:])
    assert contents(folder) == before


def test_a_scene_aside_can_be_read(folder):
    table = check_folder(folder)
    assert read_enmap(folder / "rejected" / table.id[1]).metadata.id == table.id[0]    # the XML of a copy


def test_nothing_moves_when_told(folder):
    before, told = contents(folder), []
    assert list(check_folder(folder, move=False, progress=lambda *n: told.append(n)).ok) == [True, False, False]
    assert contents(folder) == before and told == [(1, 3), (2, 3), (3, 3)]


def test_one_scene_comes_back(folder):
    table = check_folder(folder)
    assert restore(folder, [table.id[2]]) == [table.id[2]]
    assert list(rejected(folder).id) == [table.id[1]]
    with pytest.raises(ProductError, match="is not among the 1 rejected"):
        restore(folder, [table.id[0]])


def test_moving_is_one_rename(folder, monkeypatch):
    "Killed before the rename, the scene is where it was; after it, it is aside; there is no third."
    names, verdict = [], check_scene(candidates(folder)[1])
    before = contents(verdict_place := folder / verdict.id)
    rename = os.rename

    def watched(source, target):
        names.append((source, target))
        assert contents(source) == before and not target.exists()
        rename(source, target)
        assert contents(target) == before and not source.exists()
    monkeypatch.setattr(aside.os, "rename", watched)
    now = reject(verdict_place, verdict)
    assert names == [(verdict_place, now)]
    restore(folder)
    assert names == [(verdict_place, now), (now, verdict_place)] and not (folder / "rejected").exists()


def test_a_move_that_fails_leaves_everything(folder, monkeypatch):
    before, scene = contents(folder), candidates(folder)[1]

    def refused(*_):
        raise OSError(18, "Invalid cross-device link")
    monkeypatch.setattr(aside.os, "rename", refused)
    with pytest.raises(OutputError, match="cross-device.*left where it is"):
        reject(scene, check_scene(scene))
    assert {k: v[0] for k, v in contents(folder).items()} == {k: v[0] for k, v in before.items()}


def test_killed_between_record_and_rename(folder, monkeypatch):
    scene = candidates(folder)[1]
    verdict = check_scene(scene)

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(aside.os, "rename", killed)
        reject(scene, verdict)
    assert scene.is_dir() and (folder / "rejected" / scene.name / "rejected.json").exists()
    assert rejected(folder).empty and restore(folder) == [] and not (folder / "rejected").exists()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(aside.os, "rename", killed)
        reject(scene, verdict)
    assert reject(scene, verdict) == folder / "rejected" / scene.name / scene.name and len(rejected(folder)) == 1


def test_rejected_twice(folder):
    "A scene that was fetched again and fails again does not replace the one before."
    scene = candidates(folder)[1]
    copy = shutil.copytree(scene, folder.parent / "copy")
    first = reject(scene, check_scene(scene))
    (copy / "new").write_text("fetched again")
    shutil.copytree(copy, scene)
    second = reject(scene, check_scene(scene))
    assert first != second and second.parent.name == f"{scene.name}.2" and len(rejected(folder)) == 2
    assert restore(folder) == [scene.name] and (scene / "new").exists() and len(rejected(folder)) == 1
    assert restore(folder) == []                                # its place is taken
    with pytest.raises(OutputError, match="is there again already"):
        restore(folder, [scene.name])
    shutil.rmtree(scene)
    assert restore(folder) == [scene.name] and not (scene / "new").exists()


def test_a_folder_without_scenes(tmp_path):
    (tmp_path / "rejected/x/x").mkdir(parents=True)
    with pytest.raises(ProductError, match="no EnMAP scene in it"):
        check_folder(tmp_path)


# ---- real data

def test_cases_pass(case, tmp_path):
    "Two real sensors, and real EnMAP with simulated Sentinel-2; any pixel size."
    [product] = [p for p in case.iterdir() if p.is_dir()]
    verdict = check_scene(product, case)
    assert verdict.ok and verdict.agreement > 0.8 and max(abs(verdict.shift_y), abs(verdict.shift_x)) < 0.5
    assert any("days" in note for note in verdict.notes)


@pytest.mark.parametrize("cut, words", [(30, "same ground"), (0, "")])
def test_potsdam_as_a_product(shared, tmp_path, cut, words):
    "The real file at 30 m put into a product folder; its partner is made of its own bands, once of the ground next to it."
    place = potsdam(shared, tmp_path, shift=cut)
    verdict = check_scene(place)
    assert verdict.ok == (not words) and words in "; ".join(verdict.reasons) and verdict.valid == 1


def test_alignment_of_a_real_pair(shared):
    case = shared / "data/cases/sanfrancisco"
    [product] = [p for p in case.iterdir() if p.is_dir()]
    found = measure_alignment(read_enmap(product), read_sentinel2(case))
    assert found.geometry.measured and found.agreement > 0.9 and found.pixels > 4000


def test_defective_values_are_noted(place):
    from enmap_sharpener.preprocessing.checks import DEFECTIVE
    [mask] = place.glob("*QL_PIXELMASK*")
    assert not any("defective" in note for note in check_scene(place).notes)
    change(mask, lambda values: np.where((np.arange(values.size).reshape(values.shape) % 20 == 0) & (values == 0), 1, values))
    verdict = check_scene(place)
    assert verdict.ok and any("5.0% of EnMAP's values are marked as defective" in note for note in verdict.notes) and DEFECTIVE < 0.05
