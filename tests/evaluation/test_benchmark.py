"""Methods on cases: what is found, what is run, what is known already, and what fails."""
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
from cubes import write
from products import cube, product, sentinel2, table
from rasterio.transform import from_origin

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import ProductError, RequestError
from enmap_sharpener.evaluation import benchmark as module
from enmap_sharpener.evaluation.benchmark import run_benchmark
from enmap_sharpener.evaluation.cases import find_cases
from enmap_sharpener.evaluation.scores import score
from enmap_sharpener.evaluation.tables import (
    read_results,
)
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.sentinel2 import write_sentinel2
from enmap_sharpener.simulation.scene import simulate


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """Two cases of twelve bands, one of them empty, and a nodata corner; not to be changed."""
    folder = tmp_path_factory.mktemp("cases")
    for seed in (1, 2):
        place, guide = folder / f"case_{seed}", sentinel2((78, 114), seed=seed)
        write_sentinel2(product(place, bands=12) / "sentinel2", guide)
        coarse, bands = cube(12), table(12)
        truth = np.repeat(np.repeat(coarse.values, 3, 1), 3, 2) * (0.7 + guide.values.mean(0)[:72, :108])
        write(place / "truth.tif", truth, bands.wavelength, from_origin(366015, 5806125, 10, 10))
    return folder


@pytest.fixture
def cases(originals, tmp_path):
    """Copies of both, to be spoiled."""
    return Path(shutil.copytree(originals, tmp_path / "cases"))


@pytest.fixture
def calls(monkeypatch):
    """What was sharpened and what was scored."""
    made = {"sharpen": [], "score": []}
    for name in made:
        function = getattr(module, name)

        def call(*args, name=name, function=function, **kwargs):
            made[name].append(args[2] if name == "sharpen" else "")
            return function(*args, **kwargs)
        monkeypatch.setattr(module, name, call)
    return made


def touch(path):
    """Another time of change, an hour on."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 3600 * 10**9))


def find(folder, part):
    return next(p for p in sorted(folder.rglob("*")) if part in p.name)


# ---- cases -------------------------------------------------------------------------------------------------------

def test_layouts_of_cases(cases, tmp_path):
    names = lambda *folders: [c.name for c in find_cases(folders)]
    assert names(cases) == ["case_1", "case_2"] == names(cases / "case_1", cases / "case_2")
    one = find_cases([cases / "case_1"])[0]
    assert one.truth.name == "truth.tif" and one.product != one.folder
    (one.sentinel2 / "sentinel2_10m.tif").rename(one.folder / "sentinel2_10m.tif")         # the layout of the benchmark cases
    assert find_cases([one.folder])[0].sentinel2 == one.folder
    shutil.move(one.product, tmp_path / "flat")
    (one.folder / "sentinel2_10m.tif").rename(tmp_path / "flat/sentinel2_10m.tif")
    assert find_cases([tmp_path / "flat"])[0].truth is None


def test_what_is_no_case_is_refused(cases, tmp_path):
    (tmp_path / "empty/sub").mkdir(parents=True)
    (tmp_path / "file").touch()
    for place, words in ((tmp_path / "empty", "holds no case"), (tmp_path / "nowhere", "no folder"), (tmp_path / "file", "no folder")):
        with pytest.raises(ProductError, match=words):
            find_cases([place])
    shutil.copytree(cases / "case_1", tmp_path / "other/case_1")
    with pytest.raises(RequestError, match="case_1"):
        find_cases([cases, tmp_path / "other"])


def test_the_shared_cases_are_found(shared):
    cases = {c.name: c for c in find_cases([shared / "data/cases"])}
    assert {"potsdam_train", "potsdam_hard", "sanfrancisco"} <= set(cases) and all(c.truth for c in cases.values())


# ---- what is done, and done again --------------------------------------------------------------------------------

@pytest.mark.slow
def test_records_say_what_score_says(cases, tmp_path):
    found, out = find_cases([cases]), tmp_path / "out"
    told = []
    report = run_benchmark(found, ["cubic", "sfim"], out, threads=1, progress=lambda *done: told.append(done))
    assert len(report.done) == 4 and not report.failed and told[-1] == (2, 2) and [d for d, _ in told] == sorted(d for d, _ in told)
    scores, bands = score(read_cube(out / "case_1/sfim.tif"), read_cube(cases / "case_1/truth.tif"))
    record = json.loads((out / "case_1/sfim.scores.json").read_text())
    assert {"case", "method", "scores", "spread", "full_resolution", "seconds", "fingerprint"} <= set(record)
    assert np.allclose([record["scores"][k] for k in scores.index], scores, rtol=1e-6) and record["seconds"] > 0
    assert all(low <= record["scores"][k] <= high for k, (low, high) in record["spread"].items()) and {"psnr", "sam", "ergas", "rmse"} <= set(record["spread"])
    assert {"D_lambda", "D_s", "QNR", "HQNR", "agreement"} <= set(record["full_resolution"])
    table = pd.read_csv(out / "case_1/sfim.bands.csv")
    assert {"band", "wavelength", "rmse", "psnr", "ssim", "r2"} <= set(table) and table.ssim.notna().all() and len(table) == len(bands)
    rows = pd.read_csv(out / "scores.csv")
    assert list(rows.case) == ["case_1"] * 2 + ["case_2"] * 2 + ["mean"] * 2 and list(rows.method) == ["cubic", "sfim"] * 3
    assert np.isclose(rows.psnr[5], rows.psnr[[1, 3]].mean()) and np.isclose(rows.psnr[1], scores.psnr, rtol=1e-5)
    again, bands = read_results(out)
    assert np.allclose(again.psnr, rows.psnr, rtol=1e-5) and set(bands) == {(c, m) for c in ("case_1", "case_2") for m in ("cubic", "sfim")}


@pytest.mark.slow
def test_nothing_is_done_twice_and_all_that_must_be_is(cases, tmp_path, calls):
    case, out = find_cases([cases / "case_1"]), tmp_path / "out"

    def run(sharpened, scored, *methods):
        calls["sharpen"].clear(), calls["score"].clear()
        report = run_benchmark(case, methods or ["cubic"], out, threads=1)
        assert not report.failed and (calls["sharpen"], len(calls["score"])) == (sharpened, scored)

    run(["cubic"], 1)
    run([], 0)
    run(["bilinear"], 1, "cubic", "bilinear")
    touch(cases / "case_1/truth.tif")
    run([], 1)
    touch(find(cases, "sentinel2_10m.tif"))
    run(["cubic"], 1)
    run(["bilinear"], 1, "cubic", "bilinear")
    (out / "case_1/cubic.scores.json").write_text("not JSON")
    run([], 1)                                                     # who knows whose output that is: judged, not replaced
    run([], 0)
    (out / "case_1/cubic.tif").unlink()
    run(["cubic"], 1)


@pytest.mark.slow
def test_what_others_put_there_is_judged_and_never_replaced(cases, tmp_path, calls):
    case, out = find_cases([cases / "case_1"]), tmp_path / "out"
    run_benchmark(case, ["cubic"], out, threads=1)
    mine = out / "case_1/cubic.tif"
    shutil.copy(mine, out / "case_1/cnmf.tif")
    with rasterio.open(mine, "r+") as file:
        file.write(file.read(1) + 100, 1)
    touch(mine)
    content = mine.read_bytes()
    touch(find(cases, "sentinel2_10m.tif"))
    report = run_benchmark(case, ["cubic", "cnmf"], out, threads=1)
    assert calls["sharpen"] == ["cubic"] and report.done == [("case_1", "cubic"), ("case_1", "cnmf")] and mine.read_bytes() == content
    record = json.loads((out / "case_1/cnmf.scores.json").read_text())
    assert record["seconds"] is None and record["scores"]["psnr"] > 0


@pytest.mark.slow
def test_interrupted_after_sharpening_it_goes_on_there(cases, tmp_path, calls, monkeypatch):
    case, out = find_cases([cases / "case_1"]), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module, "score_intervals", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_benchmark(case, ["cubic"], out, threads=1)
    assert json.loads((out / "case_1/cubic.scores.json").read_text())["scores"] == {} and not (out / "scores.csv").exists()
    run_benchmark(case, ["cubic"], out, threads=1)
    assert calls["sharpen"] == ["cubic"] and json.loads((out / "case_1/cubic.scores.json").read_text())["seconds"] > 0
    touch(find(cases, "sentinel2_10m.tif"))
    run_benchmark(case, ["cubic"], out, threads=1)
    assert calls["sharpen"] == ["cubic"] * 2


# ---- what goes wrong ---------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_a_case_that_fails_does_not_stop_the_others(cases, tmp_path):
    image = find(cases / "case_1", "SPECTRAL_IMAGE")
    image.write_bytes(image.read_bytes()[:5000])
    report = run_benchmark(find_cases([cases]), ["cubic", "bilinear"], tmp_path / "out", threads=1)
    assert report.done == [("case_2", "cubic"), ("case_2", "bilinear")] and [f[:2] for f in report.failed] == [("case_1", "cubic"), ("case_1", "bilinear")]
    assert all("SPECTRAL_IMAGE" in reason and "\n" not in reason for *_, reason in report.failed)
    assert set(pd.read_csv(tmp_path / "out/scores.csv").case) == {"case_2"}


def test_defects_and_damaged_outputs_are_reported_too(cases, tmp_path, monkeypatch):
    case, out = find_cases([cases / "case_1"]), tmp_path / "out"
    (out / "case_1").mkdir(parents=True)
    (out / "case_1/mine.tif").write_bytes(b"no TIFF")
    monkeypatch.setattr("enmap_sharpener.sharpening.interpolation.fit_bilinear", lambda *args: 1 / 0)
    report = run_benchmark(case, ["mine", "bilinear", "cubic"], out, threads=1)
    reasons = {method: reason for _, method, reason in report.failed}
    assert report.done == [("case_1", "cubic")] and "mine.tif" in reasons["mine"] and "ZeroDivisionError" in reasons["bilinear"]


@pytest.mark.slow
def test_truth_and_output_that_do_not_meet_is_that_outputs_failure(cases, tmp_path):
    case, out = find_cases([cases / "case_1"]), tmp_path / "out"
    run_benchmark(case, ["cubic"], out, threads=1)
    with rasterio.open(out / "case_1/cubic.tif") as file:
        profile, values, tags = file.profile, file.read(), [file.tags(i) for i in file.indexes]
    profile["transform"] = profile["transform"].translation(900000, 0) * profile["transform"]
    with rasterio.open(out / "case_1/elsewhere.tif", "w", **profile) as file:
        file.write(values)
        for i, t in enumerate(tags, 1):
            file.update_tags(i, **t)
    report = run_benchmark(case, ["elsewhere", "cubic"], out, threads=1)
    assert report.already == [("case_1", "cubic")] and "overlap" in report.failed[0][2]


@pytest.mark.slow
def test_without_truth_only_what_needs_none(cases, tmp_path):
    (cases / "case_1/truth.tif").unlink()
    out = tmp_path / "out"
    report = run_benchmark(find_cases([cases]), ["cubic"], out, threads=1)
    assert len(report.done) == 2 and not (out / "case_1/cubic.bands.csv").exists()
    rows = pd.read_csv(out / "scores.csv").set_index("case")
    assert np.isnan(rows.psnr["case_1"]) and rows.QNR.notna().all() and np.isnan(rows.psnr["mean"])
    run_benchmark(find_cases([cases])[:1], ["cubic"], out, threads=1)
    assert "QNR" in (out / "scores.md").read_text() and "PSNR (dB)" not in (out / "scores.md").read_text()


def test_what_is_asked_for_wrongly_is_refused_before_anything_runs(cases, tmp_path, calls):
    found, out = find_cases([cases]), tmp_path / "out"
    (tmp_path / "net.keras").touch()
    for methods, model, words in ((["cubic", "magic"], None, "magic.*choose from subspace"), (["../cubic"], None, "not known"), ([], None, "one or more"),
                                  (["cubic", "cubic"], None, "each once"), (["supermapnet"], None, "trained network"),
                                  (["cubic"], tmp_path / "net.keras", "takes a network"), (["supermapnet"], tmp_path / "none.keras", "not there")):
        with pytest.raises(RequestError, match=words):
            run_benchmark(found, methods, out, model=model)
    assert not out.exists() and not calls["sharpen"]
    with pytest.raises(ProductError, match="no results"):
        read_results(tmp_path)


# ---- the command -------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_command(cases, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = find(cases / "case_2", "SPECTRAL_IMAGE")
    arguments = ["evaluate", "--methods", "cubic", "sfim", "--case", str(cases), "--output", "out", "--cpus", "0"]
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    first, *told, last = err.splitlines()
    assert (first, last) == ("Evaluating …", "4 judged, 0 known already, 0 failed; see out") and out.count("| case_") == 4 and out.count("| mean ") == 2
    assert told and all(line.startswith(("the truth's pixels lie up to 5 m (50% of a pixel) off", "the truth fits the output when it is moved", "output and truth correlate by")) for line in told)     # it lies on EnMAP's pixels, not on the guide's
    image.write_bytes(image.read_bytes()[:5000])
    assert main([*arguments, "--quiet"]) == 2
    out, err = capfd.readouterr()
    assert err.count("\n") == 1 and "2 of 4 were not judged" in err and "case_2, cubic" in err and out.count("| case_1") == 2


@pytest.mark.parametrize("arguments, words", [
    ([], "--methods"), (["--methods", "cubic"], "--case"), (["--case", "."], "--methods"), (["x.tif", "--methods", "cubic", "--case", "."], "either"),
    (["--methods", "cubic", "--case", "nowhere"], "nowhere"), (["--methods", "cubic", "--case", "."], "no case"), (["x.tif"], "--truth"),
])
def test_misuse_of_the_command_is_one_line(arguments, words, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err and not list(tmp_path.iterdir())


# ---- cases as they come ------------------------------------------------------------------------------------------

SAFE = "S2A_MSIL2A_20230610T101611_N0509_R065_T33UUU_20230610T161611.SAFE"


def packed(case, place):
    "A case whose product is in the ZIP of an order, its Sentinel-2 files beside it under the name of a product, and the truth."
    original = find_cases([case])[0]
    (place / "order").mkdir(parents=True)
    shutil.copytree(original.product, place / "order/ENMAP.HSI.L2A" / original.product.name, ignore=shutil.ignore_patterns("sentinel2"))
    shutil.make_archive(str(place / "dims_op_oc_oc-en_700000001_1"), "zip", place / "order")
    shutil.rmtree(place / "order")
    shutil.copytree(original.sentinel2, place / SAFE)
    shutil.copy(original.truth, place)
    return place


@pytest.mark.slow
def test_a_packed_product_beside_its_partner_is_a_case(cases, tmp_path):
    place = packed(cases / "case_1", tmp_path / "packed")
    [case] = find_cases([place])
    assert (case.name, case.product.name, case.sentinel2.name, case.truth) == ("packed", "dims_op_oc_oc-en_700000001_1.zip", SAFE, place / "truth.tif")
    scores = [run_benchmark(find_cases([folder]), ["cubic"], tmp_path / "out", threads=1) for folder in (place, cases / "case_1", place)]
    assert [len(r.done) for r in scores] == [1, 1, 0] and len(scores[2].already) == 1
    a, b = (json.loads((tmp_path / "out" / name / "cubic.scores.json").read_text())["scores"] for name in ("packed", "case_1"))
    assert a == b
    touch(place / SAFE / "sentinel2_10m.tif")
    assert run_benchmark(find_cases([place]), ["cubic"], tmp_path / "out", threads=1).done


@pytest.mark.slow
def test_the_partner_of_a_case_is_named(cases, tmp_path, capfd):
    one, two = (c.sentinel2 for c in find_cases([cases]))
    for place in (cases / "case_1", find(cases / "case_1", "ENMAP01"), find(cases / "case_1", "METADATA.XML")):
        assert [c.sentinel2 for c in find_cases([place], two)] == [two]
    with pytest.raises(RequestError, match="of 2 cases; name it with one"):
        find_cases([cases], two)
    with pytest.raises(RequestError, match="of 2 cases"):
        find_cases([cases / "case_1", cases / "case_2"], two)
    shutil.rmtree(one)
    with pytest.raises(ProductError, match="case_1: its partner is missing, there is no Sentinel-2 product beside it and no .*sentinel2"):
        find_cases([cases / "case_1"])
    assert [c.name for c in find_cases([cases])] == ["case_2"]        # and the other is told
    arguments = ["evaluate", "--methods", "cubic", "--case", str(cases / "case_1"), "--output", str(tmp_path / "out")]
    assert main(arguments) == 2 and "its partner is missing" in capfd.readouterr().err
    assert main([*arguments, "--sentinel2", str(two)]) == 0
    assert main(["evaluate", str(tmp_path / "out/case_1/cubic.tif"), "--truth", str(cases / "case_1/truth.tif"), "--sentinel2", str(two)]) == 2
    assert "--sentinel2 goes with --methods and --case" in capfd.readouterr().err


@pytest.mark.slow
def test_an_offset_is_another_input(cases, tmp_path):
    results = [run_benchmark(find_cases([cases / "case_1"], offset=offset), ["sfim"], tmp_path / "out", threads=1) for offset in (None, 0, -1000, -1000, None)]
    assert [len(r.already) for r in results] == [0, 0, 0, 1, 0]


def test_a_case_with_several_dates(tmp_path):
    made = simulate(tmp_path / "a", size=20, seed=6)
    again = Path(shutil.copytree(made.sentinel2, tmp_path / "second"))
    [case] = find_cases([made.enmap], sentinel2=[made.sentinel2, again])
    assert (case.sentinel2, case.others) == (made.sentinel2, (again,))
    report = module.run_benchmark([case], ["cubic"], tmp_path / "out")
    assert not report.failed and len(report.done) == 1
    assert find_cases([made.enmap], sentinel2=again)[0].others == ()
