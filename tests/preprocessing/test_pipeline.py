"All stages on scene pairs: from the command to the stores; killed, broken, repeated and hostile."
import ast
import json
import os
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from killed import start
from products import partner, potsdam
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.warp import transform_bounds

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import OutputError, ProductError, RequestError
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.ledger import Ledger
from enmap_sharpener.core.raster import NODATA, open_raster
from enmap_sharpener.preprocessing import checks, stages
from enmap_sharpener.preprocessing import pipeline as preprocessing
from enmap_sharpener.preprocessing.outliers import inspect
from enmap_sharpener.preprocessing.pipeline import preprocess
from enmap_sharpener.preprocessing.splits import GUARD
from enmap_sharpener.preprocessing.stages import STAGES, Settings
from enmap_sharpener.preprocessing.tile_store import assemble, open_store, store_grid
from enmap_sharpener.scenes import warping
from enmap_sharpener.scenes.enmap import read_enmap, write_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2, write_sentinel2
from enmap_sharpener.simulation.scene import simulate, simulate_pair

SMALL = Settings(tile=8, stride=6)
OPTIONS = ["--tile", "8", "--stride", "6"]
EVERYTHING = [*stages.ALL, "predictions"]


@pytest.fixture(scope="session")
def enmap(tmp_path_factory):
    "Two simulated pairs with one start time, which was the seed's key; not to be changed."
    folder = tmp_path_factory.mktemp("pairs")
    for seed in (1, 2):
        simulate(folder, size=26, seed=seed, shift=(0.4, -0.3), truth=False, overwrite=True)
    return folder


@pytest.fixture(scope="session")
def finished(enmap, tmp_path_factory):
    "All stages of both, run once by the command; not to be changed."
    output = tmp_path_factory.mktemp("finished") / "out"
    assert main(["preprocess", "--stage", *EVERYTHING, "--enmap-dir", str(enmap), "--output-dir", str(output), *OPTIONS]) == 0
    return output


@pytest.fixture
def pairs(enmap, tmp_path):
    "A copy of the pairs, to be spoiled."
    return Path(shutil.copytree(enmap, tmp_path / "enmap"))


@pytest.fixture
def output(finished, tmp_path):
    "A copy of what was made, times and all."
    return Path(shutil.copytree(finished, tmp_path / "out"))


def ids(folder):
    return sorted(p.name for p in Path(folder).glob("ENMAP*"))


def contents(folder):
    "Bytes of all files below a folder, times left out."
    found = {}
    for path in sorted(p for p in Path(folder).rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name == "done.json":
            data = {stage: {k: v for k, v in entry.items() if k not in ("time", "changed")} for stage, entry in json.loads(data).items()}
        found[str(path.relative_to(folder))] = data
    return found


def results(report):
    "Results by stage and scene."
    return {(o.stage, o.scene): o.result for o in report.outcomes}


def planned(pairs, output, settings):
    "Stages that would be done again, by scene."
    report = preprocess(EVERYTHING, pairs, output, settings=settings, dry_run=True)
    return {scene: {o.stage for o in report.outcomes if o.scene == scene and o.result == "would be done"} for scene in ids(pairs)}


# ---- from the command to the stores

def test_end_to_end(enmap, finished):
    assert len(ids(enmap)) == 2 and len({name.split("_")[5] for name in ids(enmap)}) == 1      # one start: the seed would mix them up
    for name in ids(enmap):
        crop, told = json.loads((finished / name / "crop.json").read_text()), json.loads((finished / name / "check.json").read_text())
        assert told["ok"] and abs(told["shift_y"] - 0.4) < 0.1 and abs(told["shift_x"] + 0.3) < 0.1
        assert told["days"] == 9 and told["view_zenith"] > 0                                  # the seed reports neither
        scene, (rows, cols) = read_enmap(enmap / name), (slice(*crop["rows"]), slice(*crop["cols"]))
        store = open_store(finished / "model_input" / f"{name}.zarr")
        assert store.attrs["scene_id"] == name and store.attrs["days_apart"] == 9 and store.attrs["sentinel2_date"]
        with rasterio.open(finished / name / "enmap.tif") as file:
            numbers = file.read()
        row, col = int(store.row[0]), int(store.col[0])
        tile, seen = store.target[0].values, store.valid[0].values
        whole = np.rint(scene.cube[:, rows, cols].values[:, row:row + 8, col:col + 8] * 1e4).transpose(1, 2, 0)
        np.testing.assert_array_equal(tile[seen], np.where(np.isfinite(whole), whole, NODATA).astype("int16")[seen])
        np.testing.assert_array_equal(numbers[:, row:row + 8, col:col + 8].transpose(1, 2, 0)[seen], tile[seen])
        fine = open_store(finished / "prediction_input" / f"{name}.zarr")
        image = assemble(fine)
        assert image.rio.crs == scene.cube.rio.crs and abs(image.rio.resolution()[0]) == 10 and image.shape[0] == len(scene.bands)
        assert np.nanmedian(np.abs(np.nanmean(image.values, (1, 2)) - np.nanmean(scene.cube[:, rows, cols].values, (1, 2)))) < 0.01


def test_records_name_every_file(finished):
    "But the books themselves."
    made = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file() and p.name not in ("done.json", "records.jsonl", ".lock")}
    recorded = Ledger(finished).records()
    assert {p.split(".zarr/")[0] + ".zarr" * (".zarr/" in p) for p in made} == set(recorded)
    assert all((finished / path).stat().st_size == r["bytes"] for path, r in recorded.items() if (finished / path).is_file())


def test_again_nothing_is_done(enmap, output):
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file() and ".zarr" not in p.name and p.name not in (".zattrs", ".zmetadata", "0")}
    report = preprocess(EVERYTHING, enmap, output, settings=SMALL)
    assert {o.result for o in report.outcomes} == {"already"} and not report.failed
    assert all(p.stat().st_mtime_ns == t for p, t in before.items() if p.name != ".lock")


def test_dry_run_writes_nothing(enmap, tmp_path, capfd):
    before = {p: (p.is_dir() or p.read_bytes()) for p in enmap.rglob("*")}
    assert main(["preprocess", "--stage", *STAGES, "--restore", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path / "new/out"), "--dry-run"]) == 0
    out = capfd.readouterr().out
    assert "wald         2 would be done" in out and "scrape       2 already" in out and not (tmp_path / "new").exists()
    assert {p: (p.is_dir() or p.read_bytes()) for p in enmap.rglob("*")} == before


@pytest.mark.slow
def test_stages_can_be_started_alone(pairs, finished, tmp_path):
    first, other = ids(pairs)
    shutil.rmtree(pairs / other)
    for stage in EVERYTHING:
        preprocess(stage, pairs, tmp_path / "out", settings=SMALL)
    of = lambda folder: {name: data for name, data in contents(folder).items() if first in name}
    assert of(tmp_path / "out") == of(finished) and len(of(finished)) > 100


def test_progress_ends_at_the_end(enmap, tmp_path):
    told = []
    preprocess(["crop", "check", "mask"], enmap, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told) and told[0][0] == 0 and told[-1] == (6, 6)


def test_what_a_stage_misses_is_told(enmap, tmp_path, capfd):
    assert main(["preprocess", "--stage", "wald", "predictions", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path)]) == 2
    begun, *err = capfd.readouterr().err.splitlines()
    assert begun == "Preprocessing …" and len(err) == 5 and all("the stage crop has not been run" in line and "--stage crop wald" in line for line in err[:2])
    assert err[-1] == "enmap-sharpener: 2 of 2 scenes failed, for the reasons above"


@pytest.mark.parametrize("options, words", [
    (["--stride", "9", "--tile", "8"], "1 to 8"), (["--least-valid", "2"], "0 to 1"), (["--distance", "-1"], "0 to 100"), (["--stage", "sharpen"], "sharpen")])
def test_wrong_settings(enmap, tmp_path, capfd, options, words):
    assert main(["preprocess", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path / "out"), *options]) == 2
    err = capfd.readouterr().err
    assert words in err and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_folders_that_will_not_do(enmap, tmp_path):
    with pytest.raises(RequestError, match="choose another"):
        preprocess("crop", enmap, enmap / ".." / enmap.name)
    with pytest.raises(ProductError, match="no EnMAP scene"):
        preprocess("crop", tmp_path, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        preprocess("crop", enmap, tmp_path / "file")


def test_help(capfd):
    assert main(["preprocess", "--help"]) == 0
    out = capfd.readouterr().out
    assert "--stage crop wald" in out and "--dry-run" in out and all(stage in out for stage in STAGES)


def test_the_library_neither_prints_nor_exits():
    for name in sorted(Path(stages.__file__).parent.glob("*.py")):
        tree = ast.parse(name.read_text())
        called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        assert not called & {"print", "exit", "quit", "sys.exit", "os._exit"}, name


# ---- what is done again

LATER = {"mask", "wald", "predictions"}


@pytest.mark.parametrize("settings, again", [
    (dict(), set()), (dict(haze=True), {"crop", *LATER}), (dict(distance=90), LATER), (dict(least_valid=0.8), {"wald"}),
    (dict(tile=9), {"wald", "predictions"}), (dict(smooth=(7, 1)), {"wald", "predictions"}), (dict(wanted=checks.Wanted(days=9.5)), {"check"}),
    (dict(seed=3, fractions=(1, 0, 0)), set())])
def test_a_changed_setting_redoes_what_depends_on_it(enmap, finished, settings, again):
    changed = Settings(**{"tile": 8, "stride": 6, **settings})
    assert planned(enmap, finished, changed) == dict.fromkeys(ids(enmap), again)


@pytest.mark.parametrize("file, again", [
    ("*SPECTRAL_IMAGE.TIF", {"crop", "check", *LATER}), ("sentinel2/sentinel2_10m.tif", {"check", *LATER}), ("sentinel2/scl_20m.tif", {"check", *LATER})])
def test_a_changed_input_redoes_what_depends_on_it(pairs, output, file, again):
    first, other = ids(pairs)
    os.utime(next((pairs / first).glob(file)))
    assert planned(pairs, output, SMALL) == {first: again, other: set()}
    (pairs / other / "SPECTRAL_IMAGE.TIF.aux.xml").write_text("statistics of a viewer")
    assert planned(pairs, output, SMALL)[other] == set()


@pytest.mark.slow
@pytest.mark.parametrize("lost, again", [
    ("enmap.tif", {"crop"}), ("mask10.tif", {"mask"}), ("check.json", {"check"}), ("done.json", {"crop", "check", *LATER})])
def test_a_lost_or_shortened_output_is_made_again(enmap, output, lost, again):
    first, other = ids(enmap)
    (output / first / lost).write_bytes(b"short")
    (output / other / lost).unlink()
    found = planned(enmap, output, SMALL)
    assert all(again <= stages <= again | LATER for stages in found.values())
    preprocess(EVERYTHING, enmap, output, settings=SMALL)
    assert planned(enmap, output, SMALL) == dict.fromkeys(ids(enmap), set())


@pytest.mark.slow
def test_done_again_is_as_planned_and_as_done_anew(pairs, output, tmp_path):
    first, other = ids(pairs)
    shutil.rmtree(pairs / other)
    changed = Settings(tile=8, stride=6, distance=0)
    expected = planned(pairs, output, changed)
    report = preprocess(EVERYTHING, pairs, output, settings=changed)
    assert {first: {o.stage for o in report.outcomes if o.result == "done"}} == expected
    preprocess(EVERYTHING, pairs, tmp_path / "anew", settings=changed)
    assert {name: data for name, data in contents(output).items() if first in name} == {k: v for k, v in contents(tmp_path / "anew").items() if first in k}


def test_a_stage_made_from_what_changed_is_not_built_upon(pairs, output):
    os.utime(pairs / ids(pairs)[0] / "sentinel2/scl_20m.tif")
    report = preprocess("wald", pairs, output, settings=SMALL)
    assert results(report) == dict(zip([("wald", name) for name in ids(pairs)], ["failed", "already"], strict=True))
    assert "changed since" in report.failed[0].reason and "--stage mask wald" in report.failed[0].reason


def test_killed_while_replacing_leaves_the_stage_undone(enmap, output, monkeypatch):
    "Outputs of new settings must not pass for those of the old ones."
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(preprocessing, "finish", killed)
        preprocess("mask", enmap, output, settings=Settings(distance=0))
    assert "mask" in planned(enmap, output, SMALL)[ids(enmap)[0]]


# ---- killed

def finished_stages(output):
    "What was finished, when, and from which files."
    return {(p.parent.name, stage): entry for p in output.glob("*/done.json") for stage, entry in json.loads(p.read_text()).items() if entry["inputs"]}


@pytest.fixture(scope="session")
def undisturbed(enmap, tmp_path_factory):
    "All stages, cleaning too, of a good pair and a broken one, never interrupted: the pairs and what was made of them."
    folder, (first, other) = tmp_path_factory.mktemp("undisturbed"), ids(enmap)
    for name in (first, other):
        broken = Path(shutil.copytree(enmap / name, folder / "enmap" / name))
    next(broken.glob("*SPECTRAL_IMAGE.TIF")).unlink()
    shutil.copytree(folder / "enmap", folder / "before")
    preprocess(STAGES, folder / "enmap", folder / "out", settings=SMALL)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_killed_anywhere_it_goes_on(undisturbed, tmp_path, seed):
    "The same bytes as without, and nothing that was finished is done again."
    shutil.copytree(undisturbed / "before", tmp_path / "enmap")
    output, chance, kills, before = tmp_path / "out", random.Random(seed), 0, {}
    for attempt in range(60):
        child = start(preprocess, STAGES, tmp_path / "enmap", output, settings=SMALL)
        child.join(None if attempt >= 10 else chance.choice((0.3, 1.2, 2.5)) * chance.random() + 0.1)
        if child.is_alive():
            os.kill(child.pid, signal.SIGKILL)
            kills += 1
        child.join()
        now = finished_stages(output)
        kept = {key: entry for key, entry in before.items() if key[0] in ids(tmp_path / "enmap")}
        assert all({**now[key], "cleaned": 0} == {**entry, "cleaned": 0} for key, entry in kept.items())
        before = now
        if child.exitcode == 0:
            break
    assert child.exitcode == 0 and kills
    assert contents(output) == contents(undisturbed / "out")
    assert contents(tmp_path / "enmap").keys() == contents(undisturbed / "enmap").keys()


def test_what_a_kill_leaves_is_swept(enmap, output, finished):
    "In a finished store too, whose splits are written again; but nobody else's files."
    first = ids(enmap)[0]
    store = output / "model_input" / f"{first}.zarr"
    left = [store / "split" / f"0.{'0f' * 16}.partial", store / f".zattrs.{'1e' * 16}.partial", store / "split/..zattrs.0a1b2c3d.part", store / "..zmetadata.0a1b2c3d.part",
            output / first / ".enmap.tif.0a1b2c3d.part", output / ".records.jsonl.0a1b2c3d.part", output / "numpy/train/x/.a.npy.0a1b2c3d.part"]
    mine = [output / first / ".notes.part", output / "list.partial"]
    for path in (*left, *mine):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    (output / "prediction_input" / f".{first}.zarr.part").mkdir()
    preprocess("wald", enmap, output, settings=SMALL)
    assert not any(p.exists() for p in left) and all(p.exists() for p in mine)
    assert contents(output).keys() - {str(p.relative_to(output)) for p in mine} == contents(finished).keys()


def test_a_second_run_is_refused(enmap, tmp_path, capfd):
    with Ledger(tmp_path / "out").alone():
        assert main(["preprocess", "--stage", "crop", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path / "out")]) == 2
        assert "another run is at work" in capfd.readouterr().err
        assert main(["preprocess", "--stage", "crop", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path / "out"), "--dry-run"]) == 0
    assert not list((tmp_path / "out").glob("ENMAP*"))
    assert main(["preprocess", "--stage", "crop", "--enmap-dir", str(enmap), "--output-dir", str(tmp_path / "out")]) == 0


# ---- scenes that fail

def test_a_broken_scene_among_good_ones(pairs, tmp_path, capfd):
    first, other = ids(pairs)
    next((pairs / first).glob("*METADATA.XML")).write_text("<level_X>half a file")
    arguments = ["preprocess", "--enmap-dir", str(pairs), "--output-dir", str(tmp_path / "out"), *OPTIONS]
    assert main([*arguments, "--stage", "crop", "mask"]) == 2
    begun, *err = capfd.readouterr().err.splitlines()
    assert begun == "Preprocessing …" and len(err) == 2 and err[0].startswith(f"{first}: crop: ") and "METADATA.XML" in err[0] and err[1].startswith("enmap-sharpener: 1 of 2 scenes failed")
    assert {*json.loads((tmp_path / "out" / other / "done.json").read_text())} == {"crop", "mask"}
    assert main([*arguments, "--stage", "check"]) == 0 and ids(pairs) == [other]
    assert f"{first}: moved to rejected" in capfd.readouterr().err
    assert main([*arguments, "--stage", "check", "--restore", "--dry-run"]) == 0
    assert f"would be brought back: {first}" in capfd.readouterr().out and ids(pairs) == [other]
    shutil.copy(next((pairs / other).glob("*METADATA.XML")), pairs / "rejected" / first / first / f"{first}-METADATA.XML")
    assert main([*arguments, "--stage", "check", "--restore"]) == 0 and ids(pairs) == [first, other] and not (pairs / "rejected").exists()


def test_all_scenes_rejected(pairs, tmp_path, capfd):
    for name in ids(pairs):
        shutil.rmtree(pairs / name / "sentinel2")
    arguments = ["preprocess", "--enmap-dir", str(pairs), "--output-dir", str(tmp_path / "out"), "--stage"]
    assert main([*arguments, "check"]) == 0 and not ids(pairs)
    assert main([*arguments, "check"]) == 2 and "--restore" in capfd.readouterr().err
    assert main([*arguments, "clean"]) == 0


def test_one_folder_that_cannot_be_written(enmap, tmp_path):
    (tmp_path / ids(enmap)[0]).touch()
    assert [*results(preprocess("crop", enmap, tmp_path)).values()] == ["failed", "done"]


def test_a_disk_that_is_full_ends_it(enmap, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OutputError("the disk is full")
    monkeypatch.setattr(stages, "crop_scene", full)
    with pytest.raises(OutputError, match="full"):
        preprocess("crop", enmap, tmp_path)


def test_a_rejected_scene_takes_no_part_in_splits(pairs, output):
    first, other = ids(pairs)
    preprocess("wald", pairs, output, settings=Settings(tile=8, stride=6, numpy=True))
    tiles = sorted((output / "numpy").rglob("*.npy"))
    assert {p.name.rsplit("_", 2)[0] for p in tiles} == {first, other} and {p.parts[-2] for p in tiles} == {"x", "y", "valid"}
    (pairs / first / "sentinel2/sentinel2_20m.tif").write_bytes(b"damaged")
    report = preprocess("check", pairs, output, settings=SMALL)
    assert results(report) == {("check", first): "rejected", ("check", other): "already"}
    split = lambda name: open_store(output / "model_input" / f"{name}.zarr").split.values
    assert (split(first) == GUARD).all() and (split(other) != GUARD).any()
    assert {p.name.rsplit("_", 2)[0] for p in (output / "numpy").rglob("*.npy")} == {other}
    preprocess("wald", pairs, output, settings=SMALL)
    assert (split(first) == GUARD).all()
    (output / first / "notes.txt").write_text("mine")
    report = preprocess("clean", pairs, output)
    assert {o.scene for o in report.outcomes if "enmap.tif" not in o.note} == {first} and report.freed > 1e5
    assert [p.name for p in (output / first).iterdir()] == ["notes.txt"]
    assert not list(output.glob(f"*_input/{first}.zarr")) and len(list(output.glob(f"*_input/{other}.zarr"))) == 2


# ---- cleaning

def test_clean_frees_what_nobody_needs(enmap, output):
    told = preprocess("clean", enmap, output, dry_run=True)
    assert {o.result for o in told.outcomes} == {"would be removed"} and all((output / name / "enmap.tif").exists() for name in ids(enmap))
    report = preprocess("clean", enmap, output)
    assert report.freed == told.freed > 0 and {o.note.split(" ")[0] for o in report.outcomes} == {f"{name}/enmap.tif" for name in ids(enmap)}
    assert planned(enmap, output, SMALL) == dict.fromkeys(ids(enmap), set()) and not preprocess("clean", enmap, output).freed
    assert [*results(preprocess("crop", enmap, output)).values()] == ["done"] * 2       # asked for by name, it is made again


def survives(enmap, output, *files):
    "Nothing of the files changes when all is cleaned as it would be for a scene that was rejected."
    before = {f: f.read_bytes() for f in files}
    for name in ids(enmap):
        shutil.rmtree(enmap / name / "sentinel2")
    preprocess("check", enmap, output)
    preprocess("clean", enmap, output)
    assert {f: f.read_bytes() for f in files} == before


def test_clean_leaves_what_is_not_ours(pairs, output, tmp_path):
    first, other = ids(pairs)
    mine = [output / "notes.txt", output / first / "plot.png", output / first / ".draft.part", output / "model_input/notes.zarr",
            output / "model_input" / f"{first}.zarr" / "hs" / "notes.txt", pairs / "list.txt"]
    for path in mine:
        path.write_text("mine")
    survives(pairs, output, *mine)
    assert not (output / first / "enmap.tif").exists() and not list(output.glob(f"*_input/{other}.zarr"))


def test_clean_leaves_what_was_changed(pairs, output):
    first, other = ids(pairs)
    longer, same = output / first / "enmap.tif", output / other / "mask10.tif"
    longer.write_bytes(longer.read_bytes() + b"more")
    same.write_bytes(bytes(reversed(same.read_bytes())))
    survives(pairs, output, longer, same)


def test_clean_follows_no_links(pairs, output, tmp_path):
    first, other = ids(pairs)
    inside = tmp_path / "elsewhere"
    shutil.move(output / first, inside)
    (output / first).symlink_to(inside)
    store = output / "model_input" / f"{other}.zarr"
    shutil.move(store, tmp_path / "store.zarr")
    store.symlink_to(tmp_path / "store.zarr")
    cube = output / other / "enmap.tif"
    shutil.move(cube, tmp_path / "cube.tif")
    cube.symlink_to(tmp_path / "cube.tif")
    survives(pairs, output, inside / "enmap.tif", tmp_path / "cube.tif", *(tmp_path / "store.zarr/target").iterdir())


def test_an_output_folder_behind_a_link_is_cleaned(enmap, output, tmp_path):
    (tmp_path / "link").symlink_to(output)
    assert preprocess("clean", enmap, tmp_path / "link").freed > 0


def test_clean_believes_no_hostile_records(pairs, output, tmp_path):
    first, other = ids(pairs)
    outside, inside = tmp_path / "precious.txt", output / other / "precious.txt"
    outside.write_text("precious"), inside.write_text("precious")
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr/.zattrs").write_text('{"software": "enmap_sharpener"}')
    record = {"stage": "crop", "scene": first, "bytes": 8}
    paths = ["../precious.txt", str(outside), f"{first}/../../precious.txt", "", ".", "..", first, "model_input", "../store.zarr", f"{other}/precious.txt",
             str(pairs / first / "sentinel2/scl_20m.tif"), f"../enmap/{other}/sentinel2/scl_20m.tif", "\0"]
    lines = [json.dumps({**record, "path": p}) for p in paths] + [json.dumps({**record, "path": "x", "scene": "../../precious"}), "no JSON", "[1]", "{}", "\udcff",
             json.dumps({**record, "path": 7, "bytes": "many"})]
    with open(output / "records.jsonl", "a", encoding="utf-8", errors="surrogateescape") as file:
        file.write("\n".join(lines) + "\n")
    kept = sorted(p for p in tmp_path.rglob("*") if p.is_file() and output not in p.parents and "sentinel2" not in p.parts)
    survives(pairs, output, outside, inside, tmp_path / "store.zarr/.zattrs")
    left = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert {p.name for p in kept} <= left and not (tmp_path / "precious").exists()


@pytest.mark.slow
def test_damaged_books(enmap, output):
    first, _ = ids(enmap)
    (output / "records.jsonl").write_bytes(b"\x00\xff half a line")
    (output / first / "done.json").write_text("[1, 2")
    assert planned(enmap, output, SMALL)[first] == {"crop", "check", *LATER}
    assert not preprocess("clean", enmap, output).freed
    preprocess(EVERYTHING, enmap, output, settings=SMALL)
    assert planned(enmap, output, SMALL)[first] == set()


# ---- partners

@pytest.mark.slow
def test_scrape_stage(services, capfd):
    scrape = ["scrape", "--bbox", *services.wide, "--date-time", "2023-05-01/2023-10-15", "--max-cloud-cover", "30", "--enmap-dir", "enmap"]
    assert main(scrape) == 0
    command = ["preprocess", "--enmap-dir", "enmap", "--output-dir", "out", *OPTIONS]
    capfd.readouterr()

    quota, services.copernicus.quota = services.copernicus.quota, 0        # nobody is rejected because a service refuses
    assert main([*command, "--stage", "crop", "scrape", "check", "mask"]) == 2
    err = capfd.readouterr().err.splitlines()
    assert all(line.startswith(f"{name}: scrape: ") for name, line in zip(ids("enmap"), err[-3:-1], strict=True)) and "2 of 2 scenes failed" in err[-1]
    assert {stage for p in Path("out").glob("*/done.json") for stage in json.loads(p.read_text())} == {"crop"}
    assert len(ids("enmap")) == 2

    services.copernicus.quota = quota
    assert main([*command, "--stage", "all"]) == 0
    assert all((Path("enmap") / name / "sentinel2/partner.json").exists() for name in ids("enmap"))
    asked = len(services.copernicus.log)
    assert main([*command, "--stage", "scrape"]) == 0 and len(services.copernicus.log) == asked

    Path("enmap/rejected/x").mkdir(parents=True)                       # what the check moved aside is not fetched again
    gone = ids("enmap")[0]
    shutil.move(Path("enmap") / gone, Path("enmap/rejected/x") / gone)
    assert main(scrape) == 0 and gone not in ids("enmap")


def test_nobody_to_fetch_from(pairs, tmp_path):
    first, other = ids(pairs)
    shutil.rmtree(pairs / first / "sentinel2")
    report = preprocess(["scrape", "check", "mask"], pairs, tmp_path / "out")
    found = results(report)
    assert [found[stage, first] for stage in ("scrape", "check", "mask")] == ["failed", "left out", "left out"]
    assert found["scrape", other] == "already" and found["check", other] == "done" and ids(pairs) == [first, other]


# ---- the seed's defects that no other test of preprocessing has

def test_brightness_does_not_wrap():
    "The seed aligns images that were cast to 8 bits: bright ground wraps around."
    shifts = []
    for factor in (1, 3):
        scene, guide, _ = simulate_pair(40, 3, shift=(0.6, -0.4), clouds=False)
        bright = lambda image, factor=factor: image.copy(data=image.data * np.float32(factor))
        scene, guide = checks.replace(scene, cube=bright(scene.cube)), checks.replace(guide, bands10=bright(guide.bands10))
        shifts.append(checks.measure_alignment(scene, guide).geometry.shift)
    np.testing.assert_allclose(shifts[0], (0.6, -0.4), atol=0.05)
    np.testing.assert_allclose(shifts[1], shifts[0], atol=0.02)


# ---- real data

@pytest.mark.slow
def test_potsdam(shared, tmp_path):
    place = potsdam(shared, tmp_path / "enmap", "validation")
    report = preprocess([*EVERYTHING, "clean"], tmp_path / "enmap", tmp_path / "out", settings=Settings(tile=16, stride=13))
    assert not report.failed and {o.result for o in report.outcomes} == {"done", "already", "removed"}
    store, numbers = open_store(tmp_path / "out/model_input" / f"{place.name}.zarr"), open_raster(shared / "data/enmap_potsdam/validation.tif").values
    assert store.sizes["tile"] > 9 and (~store.good.values).sum() == 6
    for i in (0, store.sizes["tile"] - 1):
        row, col = int(store.row[i]), int(store.col[i])
        seen = store.valid[i].values
        np.testing.assert_array_equal(store.target[i].values[seen], numbers[:, row:row + 16, col:col + 16].transpose(1, 2, 0)[seen])
    image = assemble(tmp_path / "out/prediction_input" / f"{place.name}.zarr")
    assert image.shape == (224, *(3 * n for n in numbers.shape[1:]))
    assert inspect(tmp_path / "out").loc[place.name].disagreement < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1])
def test_water(water, tmp_path, which):
    "Negative reflectance, which the seed turns into 10 000, comes through; there is hardly anything to align on."
    place = water(which)
    place = Path(shutil.move(place, tmp_path / "enmap" / place.name))
    scene = read_enmap(place)
    partner(place, scene.cube.copy(data=np.nan_to_num(scene.cube.values * 1e4)), scene.bands)
    report = preprocess(EVERYTHING if which else stages.ALL, tmp_path / "enmap", tmp_path / "out", settings=Settings(tile=16, stride=16))
    assert not report.failed and {o.result for o in report.outcomes} <= {"done", "already"}
    store = open_store(tmp_path / "out/model_input" / f"{place.name}.zarr")
    target, seen = store.target.values, store.valid.values
    assert seen.mean() > 0.8 and (target[seen] < 0).any() and (target[seen] < 3000).mean() > 0.95
    for i in (0, store.sizes["tile"] - 1):
        row, col = int(store.row[i]), int(store.col[i])
        whole = np.rint(scene.cube.values[:, row:row + 16, col:col + 16] * 1e4).transpose(1, 2, 0)
        np.testing.assert_array_equal(target[i][seen[i]], np.where(np.isfinite(whole), whole, NODATA).astype("int16")[seen[i]])


# ---- scenes as they come -----------------------------------------------------------------------------------------

@pytest.fixture
def offline(monkeypatch):
    "Whoever looks for a partner elsewhere fails."
    monkeypatch.setattr("enmap_sharpener.scraping.services.fetch_partners", lambda *_, **__: pytest.fail("nothing was missing"))


@pytest.mark.slow
def test_simulated_into_folders_of_their_own(tmp_path, offline, capfd):
    "As README has it: each simulation in a folder below that of the scenes; the partner is that in the product which was found."
    for seed, name in enumerate(("a", "b")):
        assert main(["simulate", "--output", str(tmp_path / "enmap" / name), "--size", "40", "--seed", str(seed), "--no-truth"]) == 0
    command = ["preprocess", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / "out"), *OPTIONS]
    assert main(command) == 0, capfd.readouterr().err
    assert sorted(p.stem for p in (tmp_path / "out/model_input").glob("*.zarr")) == ["a", "b"]
    capfd.readouterr()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("?/*.tif")}
    assert len(before) == 6 and main(command) == 0 and {p: p.stat().st_mtime_ns for p in before} == before


def raised(guide, added):
    "Numbers of a guide with so much in them."
    for path in guide.glob("sentinel2_*.tif"):
        with rasterio.open(path, "r+") as file:
            values = file.read()
            file.write(np.where(values == NODATA, NODATA, values + added).astype(values.dtype))


@pytest.mark.slow
def test_offset_is_not_learnt(tmp_path, offline, capfd):
    "A guide with ESA's offset is named and moved aside; alone, the stage of training data refuses it too; told of it, both give what they would without it."
    for seed, name in enumerate(("a", "b")):
        simulate(tmp_path / "enmap" / name, size=40, seed=seed, truth=False)
    arguments = lambda *more, out="out": ["preprocess", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / out), *OPTIONS, *more]  # noqa: E731
    assert main(arguments(out="right")) == 0
    raised(next((tmp_path / "enmap/a").glob("*/sentinel2")), 1000)
    assert main(arguments("--stage", "crop", "mask", "wald")) == 2
    err = capfd.readouterr().err
    assert "a: wald: " in err and "ESA's offset of 1000 is still in it: --sentinel2-offset -1000 takes it off" in err and "b: wald" not in err
    assert [p.stem for p in (tmp_path / "out/model_input").glob("*.zarr")] == ["b"]
    raised(next((tmp_path / "enmap/b").glob("*/sentinel2")), 1000)
    assert main(arguments("--sentinel2-offset", "-1000", out="told")) == 0
    for name in ("a", "b"):
        with open_store(tmp_path / f"told/model_input/{name}.zarr") as told, open_store(tmp_path / f"right/model_input/{name}.zarr") as right:
            np.testing.assert_array_equal(told.ms.values, right.ms.values)
    assert main(arguments("--stage", "check", out="checked")) == 0
    told = json.loads((tmp_path / "enmap/rejected/a/rejected.json").read_text())
    assert any("ESA's offset of 1000 is still in it" in reason for reason in told["reasons"])


@pytest.mark.slow
def test_orders_and_archives(tmp_path, offline, capfd):
    "An order as ZIP with its SAFE product in a folder, and an archive with a folder of its name beside it; one is rejected, and comes back."
    from enmap_sharpener.simulation.order import simulate_order
    simulate_order(tmp_path / "enmap/potsdam", size=40, seed=1, truth=False)
    made = simulate(tmp_path / "made", size=40, seed=2, truth=False)
    shutil.move(made.sentinel2, tmp_path / "enmap/berlin/sentinel2")
    shutil.make_archive(str(tmp_path / "enmap/berlin"), "zip", made.enmap)
    arguments = lambda *more: ["preprocess", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / "out"), *OPTIONS, *more]  # noqa: E731
    assert main(arguments()) == 0, capfd.readouterr().err
    assert sorted(p.stem for p in (tmp_path / "out/model_input").glob("*.zarr")) == ["berlin", "potsdam"]
    raised(tmp_path / "enmap/berlin/sentinel2", 1000)
    assert main(arguments("--stage", "check")) == 0
    assert (tmp_path / "enmap/rejected/berlin/berlin.zip").is_file() and not (tmp_path / "enmap/berlin.zip").exists()
    assert main(arguments("--stage", "check", "--restore", "--sentinel2-offset", "-1000")) == 0
    assert (tmp_path / "enmap/berlin.zip").is_file() and not (tmp_path / "enmap/rejected").exists()


@pytest.mark.slow
def test_inspect_of_products_as_they_come(tmp_path, capfd):
    from enmap_sharpener.core.errors import RequestError
    from enmap_sharpener.simulation.order import simulate_order
    paths = simulate_order(tmp_path / "potsdam", size=40, seed=1, truth=False)
    right = simulate(tmp_path / "right", size=40, seed=1, truth=False)
    tables = [inspect(place, **more) for place, more in ((paths.order, {}), (paths.order, {"sentinel2": right.sentinel2}), (tmp_path / "potsdam", {}), (tmp_path / "right", {}), (right.enmap, {}))]
    assert [list(t.index) for t in tables] == [[paths.order.stem]] * 3 + [[right.enmap.name]] * 2
    for table in tables:
        np.testing.assert_allclose(table.level.iloc[0], tables[-1].level.iloc[0]), np.testing.assert_allclose(table.disagreement.iloc[0], tables[-1].disagreement.iloc[0], rtol=1e-3)
        assert table.outlier.iloc[0] == ""
    raised(right.sentinel2, 1000)
    assert "ESA's offset of 1000 is still in it" in inspect(right.enmap).outlier.iloc[0] and inspect(right.enmap, offset=-1000).outlier.iloc[0] == ""
    with pytest.raises(RequestError, match="of 2 scenes; name it with one"):
        simulate(tmp_path / "right", size=40, seed=2, truth=False)
        inspect(tmp_path / "right", sentinel2=paths.safe)
    assert main(["inspect", str(paths.order), "--sentinel2", str(paths.safe), "--output", str(tmp_path / "sheets")]) == 0 and (tmp_path / f"sheets/{paths.order.stem}.png").is_file()


def test_several_dates_are_joined_into_one(tmp_path):
    "The joined image lies among the outputs; it is made once, and again when a date has changed."
    paths = simulate(tmp_path / "enmap", 60, seed=2, rotation=0)
    shutil.copytree(paths.sentinel2, paths.sentinel2.with_name("sentinel2_2"))
    order = ["preprocess", "--stage", "crop", "check", "mask", "wald", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / "out"),
             "--tile", "8", "--stride", "8", "--least-valid", "0.3"]
    assert main(order) == 0
    joined = next((tmp_path / "out").glob("ENMAP*")) / "sentinel2"
    told = json.loads((joined / "dates.json").read_text())
    assert [*told["dates"]] == ["1 sentinel2", "2 sentinel2_2"] and sum(d["share"] for d in told["dates"].values()) > 0.9
    guide = read_sentinel2(joined)
    assert guide.bands20 is not None and set(np.unique(guide.scl)) <= {0, 7}
    made = (joined / "sentinel2_10m.tif").stat().st_mtime_ns
    assert main(order) == 0 and (joined / "sentinel2_10m.tif").stat().st_mtime_ns == made
    shutil.rmtree(paths.sentinel2.with_name("sentinel2_2"))
    shutil.copytree(paths.sentinel2, paths.sentinel2.with_name("sentinel2_3"))
    assert main(order) == 0 and [*json.loads((joined / "dates.json").read_text())["dates"]] == ["1 sentinel2", "2 sentinel2_3"]


# ---- grids that are not EnMAP's own UTM zone, guides that are not Sentinel-2

def in_degrees(folder, paths):
    "The product of a simulation, delivered in geographic coordinates; Sentinel-2 stays in its folder."
    scene = read_enmap(paths.enmap)
    west, south, east, north = transform_bounds(Grid.of(scene.cube).crs, "EPSG:4326", *Grid.of(scene.cube).bounds)
    grid = Grid(CRS.from_epsg(4326), Axis(-north, 0.00027, int((north - south) / 0.00027)), Axis(west, 0.00027, int((east - west) / 0.00027)))
    bands = lambda v, nothing: warping.warped(v, grid, nothing).compute()  # noqa: E731
    layer = lambda v: bands(v, 255) if v.ndim == 3 else bands(v.expand_dims("band").assign_coords(band=[v.name]), 3 * (v.name == "classes"))[0].drop_vars("band")  # noqa: E731
    cube, quality = bands(scene.cube, np.nan).assign_coords(scene.bands.coords), {k: layer(v) for k, v in scene.quality.items()}
    product = write_enmap(folder, cube, scene.bands, scene_id=scene.metadata.id, metadata=scene.metadata, quality=quality)
    shutil.move(paths.sentinel2, product)


@pytest.mark.slow
def test_other_grids(tmp_path, offline, capfd):
    "Sentinel-2 of the neighbouring zone, and EnMAP in degrees, become stores as those of one zone do; `inspect` reads them too."
    made = {name: simulate(tmp_path / ("made" if name == "degrees" else "enmap") / name, size=60, seed=3, rotation=0, truth=False) for name in ("plain", "zone", "degrees")}
    guide, own = read_sentinel2(made["zone"].sentinel2), Grid.of(read_enmap(made["plain"].enmap).cube).crs.to_epsg()
    away = lambda image, how: image.rio.reproject(f"EPSG:{own + 1}", resolution=abs(image.rio.resolution()[0]), resampling=how, nodata=np.nan if how else 0)  # noqa: E731
    images = [away(image.load(), how) for image, how in ((guide.bands10, Resampling.lanczos), (guide.bands20, Resampling.lanczos), (guide.scl, Resampling.nearest))]
    shutil.rmtree(made["zone"].sentinel2)
    write_sentinel2(made["zone"].sentinel2, *images, guide.date)
    in_degrees(tmp_path / "enmap/degrees", made["degrees"])
    command = ["preprocess", "--stage", "crop", "check", "mask", "wald", "predictions", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / "out"), *OPTIONS]
    assert main(command) == 0, capfd.readouterr().err
    told = capfd.readouterr()
    assert f"is in EPSG:{own + 1}, EnMAP in EPSG:{own}; it is warped to 10 m pixels of that" in told.err and "degrees: is in geographic coordinates; it is warped to 30 m" in told.err
    assert "check        3 done" in told.out
    levels = {}
    for path in (tmp_path / "out/model_input").glob("*.zarr"):
        with open_store(path) as store:
            assert store_grid(store).crs.to_epsg() == own
            levels[path.stem] = store.ms.values.astype(float).mean((0, 1, 2))
    assert set(levels) == set(made)
    for name in ("zone", "degrees"):
        np.testing.assert_allclose(levels[name], levels["plain"], rtol=0.03)
    table = inspect(tmp_path / "enmap")
    assert (table.outlier == "").all() and np.isfinite(table.disagreement).all()


def test_a_guide_of_another_sensor_is_refused_in_one_line(tmp_path, offline, capfd):
    paths = simulate(tmp_path / "enmap", size=26, seed=1, truth=False)
    guide = paths.sentinel2.rename(paths.enmap / "guide")
    (guide / "guide.json").write_text('{"sensor": "superdove"}')
    command = ["preprocess", "--enmap-dir", str(tmp_path / "enmap"), "--output-dir", str(tmp_path / "out"), *OPTIONS, "--stage"]
    assert main([*command, "crop", "mask"]) != 0
    told = capfd.readouterr().err
    assert told.count("networks learn from Sentinel-2's bands alone") == 1 and "sharpen with this guide by the method subspace" in told
    assert main([*command, "check"]) == 0 and "networks learn from Sentinel-2's bands alone" in (tmp_path / "enmap/rejected" / paths.enmap.name / "rejected.json").read_text()
