"The benchmark in every clone: the case that comes with the repository, cases built from an EnMAP image, and the gallery's pages."
import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from readme import ROOT

from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.simulation.scene import simulate

sys.path.append(str(ROOT / "benchmarks"))
import build_cases  # noqa: E402
import cases  # noqa: E402


def test_a_case_comes_with_every_clone(capsys, monkeypatch, tmp_path):
    found = cases.find_cases([cases.OWN])
    assert list(found) == ["sanfrancisco"] and sum(f.stat().st_size for f in (ROOT / "tests/data").rglob("*")) < 8e6
    assert cases.places(tmp_path / "nothing") == [cases.OWN]
    monkeypatch.setattr(cases, "SHARED", tmp_path / "nothing")
    monkeypatch.setattr(sys, "argv", ["cases.py", "--method", "cubic", "--output", str(tmp_path / "cases.md")])
    cases.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("| sanfrancisco | 35.56 / 1.561 / 2.214 | 29.") and lines[-1].startswith("| **this package** | 29.")
    page = (tmp_path / "cases.md").read_text()
    assert "**Where it is not best**: sanfrancisco in PSNR (MTF-GLP 35.560, this package 29." in page or "**Where it is not best**: sanfrancisco in PSNR (SFIM 35.560, this package 29." in page
    assert page.count("| sanfrancisco |") == 1 and "| MTF-GLP | 35.56 / 1.561 / 2.214 |" in page


def test_tables_say_where_a_method_loses():
    import guides
    import trust
    peers = {"a": {"SFIMHS": {"psnr": 30.0, "sam_land": 2.0, "ergas": 3.0}, "GSA": {"psnr": 29.0, "sam_land": 1.9, "ergas": 3.5}}}
    good, mixed = {"psnr": 31.0, "sam_land": 1.5, "ergas": 2.0}, {"psnr": 31.0, "sam_land": 1.95, "ergas": 2.0}
    assert cases.where_not_best(peers, {"a": good, "b": good}).endswith("in none of the 1 cases with peers is one of them better in PSNR, SAM or ERGAS. On the 1 others no peer was run, so nothing is known.")
    assert cases.where_not_best(peers, {"a": mixed}) == "**Where it is not best**: a in SAM (GSA 1.900, this package 1.950)."
    rows = ["| ALI | town | subspace | 30.00 | 2.00 | 1.50 |", "| ALI | town | gsa | 29.00 | 2.50 | 1.40 |", "| pan | town | subspace | 30.00 | 2.00 | 1.50 |", "| pan | town | gsa | 29.00 | 2.50 | 1.60 |"]
    assert guides.where_not_best(rows) == "**Where the default is not best**: ALI on town in ERGAS (gsa 1.4, subspace 1.5)."
    assert guides.where_not_best(rows[2:]).endswith("in none of these 1 pairs of guide and truth is another method better in PSNR, SAM or ERGAS.")
    told = trust.where_worse(["| a, seed 1 | 5 | 20 | 30.00 / 31.00 / 29.00 | 40.00 / 36.00 / 36.00 | 42.00 / 36.00 / 36.00 |",
                              "| b | 5 | 20 | 32.00 / 31.00 / 33.00 | 40.00 / 36.00 / 36.00 | 35.50 / 36.00 / 35.00 |"])
    assert "of 2 rows. Against cubic interpolation: on the patches in 1 (mean +0.00 dB, worst -1.00); around them in 0 (mean +4.00 dB, worst +4.00); elsewhere in 1 (mean +2.75 dB, worst -0.50)." in told
    assert "geometry: on the patches in 1 (mean +0.00 dB, worst -1.00); around them in 0" in told


@pytest.mark.parametrize("page, said", [("cases", "Where it is not best"), ("guides", "Where the default is not best"), ("trust", "Where the result is worse than EnMAP alone")])
def test_pages_say_where_a_method_loses(page, said):
    assert f"**{said}**" in (ROOT / f"benchmarks/{page}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments, message", [(["nowhere"], "nowhere: not known; choose from sanfrancisco"), (["--cases", "empty"], "empty: no case there")])
def test_what_cannot_be_judged_is_said(arguments, message, tmp_path):
    (tmp_path / "empty").mkdir()
    told = subprocess.run([sys.executable, ROOT / "benchmarks/cases.py", *arguments, *([] if "--cases" in arguments else ["--cases", str(cases.OWN)])],
                          cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 1 and told.stderr.startswith(message) and told.stderr.count("\n") == 1


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    "An EnMAP image with wavelengths, 41 × 38 pixels."
    paths = simulate(tmp_path_factory.mktemp("image"), size=40, truth=False)
    return next(paths.enmap.glob("*SPECTRAL_IMAGE.TIF"))


def test_any_enmap_image_becomes_a_case(image, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["build_cases.py", str(image), str(tmp_path), "--name", "fields"])
    build_cases.main()
    assert "fields_mismatch: " in capsys.readouterr().out
    truth = read_cube(tmp_path / "fields/truth.tif")
    scene, guide = (read(p) for read, p in ((read_enmap, next((tmp_path / "fields").glob("ENMAP*"))), (read_sentinel2, tmp_path / "fields")))
    assert truth.sizes["x"] % 6 == truth.sizes["y"] % 6 == 0 and scene.cube.sizes["x"] * 3 == truth.sizes["x"]
    assert guide.bands10.shape[1:] == truth.shape[1:] and guide.bands20.sizes["y"] * 2 == truth.sizes["y"]
    assert (np.diff(truth.wavelength) >= 0).all() and len(scene.bands) == truth.sizes["band"]
    told = {name: np.nanmean(np.abs(guide.bands10.values - read_sentinel2(tmp_path / name).bands10.values)) for name in ("fields", "fields_mismatch")}
    assert told["fields"] == 0 and 0.002 < told["fields_mismatch"] < 0.05
    build_cases.main()
    assert capsys.readouterr().out.count("is there already") == 2


def test_an_image_of_elsewhere_is_not_potsdam(image, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["build_cases.py", str(image), str(tmp_path / "cases")])
    with pytest.raises(SystemExit, match="does not hold the windows of Potsdam"):
        build_cases.main()
    assert not (tmp_path / "cases").exists()


def test_the_cases_of_potsdam_are_those_of_the_peers(shared, tmp_path, monkeypatch):
    "Built from the two windows, they are what the peers were measured on, up to the responses and rounding."
    monkeypatch.setattr(sys, "argv", ["build_cases.py", str(shared / "data/enmap_potsdam/train.tif"), str(tmp_path)])
    build_cases.main()
    theirs = shared / "data/cases/potsdam_train"
    with rasterio.open(tmp_path / "potsdam_train/truth.tif") as a, rasterio.open(theirs / "truth.tif") as b:
        assert a.bounds == b.bounds and (a.read() == b.read()).all()
    scenes = [read_enmap(next(folder.glob("ENMAP*"))).cube.values for folder in (tmp_path / "potsdam_train", theirs)]
    assert np.nanmean((scenes[0] - scenes[1]) ** 2) ** 0.5 < 0.001
    guides = [read_sentinel2(folder).bands10.values for folder in (tmp_path / "potsdam_train", theirs)]
    assert np.mean((guides[0] - guides[1]) ** 2) ** 0.5 < 0.001


def test_gallery_has_a_source_under_each_picture():
    folder = ROOT / "output/figures/gallery"
    captions, page = json.loads((folder / "captions.json").read_text()), (folder / "gallery.md").read_text()
    assert sorted(captions) == sorted(p.stem for p in folder.glob("*.png"))
    assert all(c["source"] and f"({name}.png)" in page and c["source"] in page for name, c in captions.items())
    assert "Page" not in page and page.count("## ") == len(captions)
