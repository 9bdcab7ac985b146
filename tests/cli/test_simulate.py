"`simulate`: what it writes, and that nothing is lost."
import json

import numpy as np
import pytest

from enmap_sharpener.cli.app import main
from enmap_sharpener.evaluation.cases import find_cases
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.pairing import checked, read_pair
from enmap_sharpener.scenes.sentinel2 import SCL_CLOUD, read_sentinel2


def simulate(folder, *options):
    return main(["simulate", "--output", str(folder), "--size", "24", *map(str, options)])


def test_what_it_writes(tmp_path, capfd):
    folder = tmp_path / "simulated"
    assert main(["simulate", "--output", str(folder), "--size", "12", "--seed", "3"]) == 0
    out, err = capfd.readouterr()
    scene, = folder.glob("ENMAP01-*")
    assert err == "Simulating …\n" and "…-SPECTRAL_IMAGE.TIF: 224 x 12 x 12 pixels of 30 m" in out and (folder / "truth.tif").is_file() and read_enmap(scene).cube.shape[1:] == (12, 12)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["simulate", "--output", str(folder), "--size", "12", "--seed", "3"]) == 2
    assert "exists already" in capfd.readouterr().err and before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_two_seeds_share_a_folder(tmp_path):
    "Neither takes anything of the other, and each has its truth."
    assert [simulate(tmp_path, "--seed", seed) for seed in (1, 2)] == [0, 0]
    first, second = sorted(tmp_path.glob("ENMAP01*"))
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert (second / "truth.tif").is_file() and json.loads((tmp_path / "simulation.json").read_text())["seed"] == 1
    assert simulate(tmp_path, "--seed", 2) == 2 and simulate(tmp_path, "--seed", 2, "--overwrite") == 0
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files
    cases = find_cases([tmp_path])
    assert [(c.name, c.truth) for c in cases] == [(first.name, tmp_path / "truth.tif"), (second.name, second / "truth.tif")]
    for case in cases:
        truth, scene = read_cube(case.truth), read_enmap(case.product)
        assert abs(float(truth[50].mean()) - float(scene.cube[50].mean())) < 0.02


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_clouds(tmp_path, share):
    "That share of both images, in the masks of both, elsewhere in each, and the same for the same seed."
    for name in ("a", "b"):
        assert simulate(tmp_path / name, "--clouds", share, "--seed", 3, "--no-truth") == 0
    assert simulate(tmp_path / "clear", "--seed", 3, "--no-truth") == 0
    products = [next((tmp_path / name).glob("ENMAP*")) for name in ("a", "b", "clear")]
    (scene, guide), (again, _), (clear, sky) = map(read_pair, products)
    np.testing.assert_array_equal(scene.cube.values, again.cube.values)
    seen = np.isfinite(clear.cube[20].values)
    cloud, hidden = scene.quality["cloud"].values == 1, np.isin(guide.scl.values, SCL_CLOUD)
    assert abs(cloud[seen].mean() - share) < 0.03 and share <= hidden.mean() < share + 0.15 and not (clear.quality["cloud"].values == 1).any()
    brighter = scene.cube[20].values - clear.cube[20].values
    assert np.nanmedian(brighter[cloud & seen]) > 0.1 and scene.quality["cloudshadow"].values.any()
    untouched = seen & ~scene.cloud_mask().values & (scene.quality["haze"].values == 0)
    assert np.abs(brighter[untouched]).max() < 0.1 and np.isin(guide.scl.values, 3).any() and not np.isin(sky.scl.values, SCL_CLOUD).any()
    assert checked(scene, guide).found == guide.found          # clouds are no offset


@pytest.mark.parametrize("share", ["20", "-0.1", "0.95"])
def test_so_many_clouds_cannot_be(tmp_path, share, capfd):
    assert simulate(tmp_path / "x", "--clouds", share) == 2
    assert "take 0 to 0.9, so that 20 % is 0.2" in capfd.readouterr().err and not (tmp_path / "x").exists()


@pytest.mark.parametrize("relief", ["-1", "9000"])
def test_such_mountains_cannot_be(tmp_path, relief, capfd):
    assert simulate(tmp_path / "x", "--relief", relief) == 2
    assert "take 0 to 4000" in capfd.readouterr().err and not (tmp_path / "x").exists()


def test_mountains(tmp_path):
    assert simulate(tmp_path, "--relief", 900) == 0
    assert json.loads((tmp_path / "simulation.json").read_text())["relief"] == 900 and read_pair(next(tmp_path.glob("ENMAP*")))[1].bands10.shape[0] == 4


@pytest.mark.slow
def test_an_order_and_a_safe_product(tmp_path, capfd):
    "As users get them: found by each other, sharpened, and scored with the truth; what is there is not replaced."
    assert simulate(tmp_path, "--layout", "order", "--seed", 1) == 0
    order, safe = next(tmp_path.glob("*.zip")), next(tmp_path.glob("*.SAFE"))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([order.name, safe.name, "simulation.json", "truth.qml", "truth.tif"])
    other = tmp_path.with_name(f"{tmp_path.name}_folder")
    assert simulate(other, "--seed", 1) == 0
    right = read_pair(next(other.glob("ENMAP*")))
    scene, guide = read_pair(order, safe)
    np.testing.assert_array_equal(scene.cube.values, right[0].cube.values)
    np.testing.assert_allclose(guide.bands10.values, right[1].bands10.values, atol=1e-6)
    assert read_pair(order)[1].source == safe and "-1000 is added to its numbers, as MTD_MSIL2A.xml says" in guide.found[0] and guide.date == right[1].date
    assert main(["sharpen", str(order), "--sentinel2", str(safe), "--output", str(tmp_path / "out.tif"), "--method", "cubic", "--quiet"]) == 0
    assert simulate(tmp_path, "--layout", "order", "--seed", 1) == 2 and "exists already" in capfd.readouterr().err
    [case] = find_cases([tmp_path])
    assert (case.product, case.sentinel2, case.truth) == (order, safe, tmp_path / "truth.tif")
    assert simulate(tmp_path, "--layout", "order", "--seed", 2) == 0
    assert len(list(tmp_path.glob("*.zip"))) == len(list(tmp_path.glob("*.SAFE"))) == len(list(tmp_path.glob("*truth.tif"))) == 2
    assert read_sentinel2(safe).bands10.shape == guide.bands10.shape


@pytest.mark.parametrize("options, said", [
    (["--seed", "-1"], "seed -1; wanted whole numbers, the size as one or (y, x) [EnMAP pixels], the seed from 0 to 9999999999"),
    (["--seed", "99999999999999999999"], "seed 99999999999999999999; wanted whole numbers"),
    (["--size", "99999999"], "is too large; take at most 10000 a side"),
    (["--layout", "order", "--seed", "-1"], "seed -1; wanted whole numbers"),
])
def test_what_cannot_be_is_told_before_anything_is_made(tmp_path, options, said, capfd):
    assert main(["simulate", "--output", str(tmp_path / "x"), *options]) == 2
    err = capfd.readouterr().err
    assert said in err and err.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("empty", [["--output", ""], ["--output="]])
def test_an_empty_name_is_not_the_current_folder(tmp_path, monkeypatch, empty, capfd):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--size", "12", *empty]) == 2
    assert capfd.readouterr().err == "enmap-sharpener: --output: an empty text is given; give a value, or leave it out\n" and not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before(tmp_path, monkeypatch, capfd):
    from enmap_sharpener.core import files
    monkeypatch.setattr(files.shutil, "disk_usage", lambda place: type("usage", (), {"free": 3e6}))
    assert main(["simulate", "--output", str(tmp_path / "x"), "--size", "60"]) == 2
    assert "the disk is full, 3.0 MB are left and at least 4.0 MB needed" in capfd.readouterr().err and not list(tmp_path.iterdir())
    assert main(["simulate", "--output", str(tmp_path / "x"), "--size", "60", "--no-truth", "--quiet"]) == 0
