"""Comparisons of awkward input, and the job that draws everything from an evaluation."""
import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cubes import drawn, overlapping, texts
from cubes import random_cube as cube
from matplotlib.image import imread

from enmap_sharpener.core.errors import GridError, OutputError, ProductError, RequestError
from enmap_sharpener.evaluation.comparisons import comparison_figure, landmarks, ranking, read_reported, score_dots
from enmap_sharpener.figures.diagrams import pipeline
from enmap_sharpener.figures.spectra import band_curve
from enmap_sharpener.figures.style import write_figure


def scores(cases=("a", "b"), methods=("cubic", "gsa", "subspace"), **columns):
    index = pd.MultiIndex.from_product([cases, methods], names=["case", "method"])
    table = pd.DataFrame({"psnr": np.arange(len(index), dtype=float) + 20, "ergas": 5 - np.arange(len(index)) / 10, **columns}, index)
    return table.assign(psnr_low=table.psnr - 1, psnr_high=table.psnr + 1)


# Scores

def test_all_scores_are_drawn_and_said():
    table = scores(ssim=np.nan)
    table = pd.concat([table, pd.concat({"mean": table.xs("a")}, names=["case"])])
    figure = score_dots(table)
    assert drawn(figure) and not overlapping(figure)
    assert [a.get_title() for a in figure.axes] == ["PSNR (dB) ↑", "ERGAS ↓"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["subspace", "gsa", "cubic"]
    x = np.concatenate([line.get_xdata() for line in figure.axes[0].lines])
    assert set(table.psnr.drop("mean")) <= set(x) and {20 + 1.5, 21 + 1.5, 22 + 1.5} <= set(x)


def test_methods_that_failed_on_a_case_have_no_mean():
    table = scores().drop([("b", "gsa")])
    figure = score_dots(table, ["psnr"])
    assert sum(line.get_color() == "black" and np.isfinite(line.get_xdata()).all() for line in figure.axes[0].lines) == 2
    assert ranking(table) == ["subspace", "cubic", "gsa"] and ranking(table.assign(psnr=np.nan)) == ["cubic", "gsa", "subspace"]


def test_many_cases_and_methods_can_be_told_apart():
    table = scores([f"case {i}" for i in range(9)], [f"method {i}" for i in range(12)])
    figure = score_dots(table)
    assert drawn(figure) and not overlapping(figure)
    assert len({(h.get_color(), h.get_marker()) for h in figure.legends[0].legend_handles}) == 10
    drawn(score_dots(scores(["one"], ["only"])))


def test_scores_that_others_report():
    reported = pd.DataFrame({"psnr": [25.0, 26, 27]}, pd.MultiIndex.from_tuples([("a", "GSA"), ("a", "CNMF"), ("elsewhere", "CNMF")], names=["case", "method"]))
    figure = score_dots(scores(), reported=reported)
    said = texts(figure)
    assert "CNMF" in said and "reported, not run here" in said and "GSA" not in said and "elsewhere" not in said


def test_nothing_to_draw():
    for table in (scores()[:0], scores().drop(columns=["psnr", "ergas"])):
        with pytest.raises(RequestError, match="no scores to draw"):
            score_dots(table)


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 1}', '{"a": {"b": 1}}', '{"a": {"b": {"psnr": "x"}}}'])
def test_reports_that_are_none(tmp_path, text):
    (tmp_path / "r.json").write_text(text)
    for path in (tmp_path / "r.json", tmp_path / "not_there.json"):
        with pytest.raises(ProductError, match="no scores") as error:
            read_reported(path)
        assert "\n" not in str(error.value)


def test_curves_of_several_cases():
    w = np.linspace(420, 2450, 60)
    table = lambda top: pd.DataFrame({"wavelength": w, "rmse": np.where((w > 1800) & (w < 1975), 9.0, top), "r2": 0.9})
    figure = band_curve({(case, m): table(0.01 * i) for case in ("a", "b") for i, m in enumerate(("x", "y", "z"), 1)})
    assert drawn(figure) and not overlapping(figure) and len(figure.axes) == 4
    assert {a.get_ylim() for a in figure.axes[:2]} == {figure.axes[0].get_ylim()} and figure.axes[0].get_ylim()[1] < 0.04
    colours = [{line.get_label(): line.get_color() for line in a.lines if line.get_label()[0] != "_"} for a in figure.axes[:2]]
    assert colours[0] == colours[1] and len(set(colours[0].values())) == 3


# Outputs

@pytest.mark.parametrize("n", [1, 3, 6])
def test_comparison(n):
    truth = cube(30)
    figure = comparison_figure({f"method {i}": truth + 0.01 * (i + 1) for i in range(n)}, truth, title="Potsdam")
    assert drawn(figure) and not overlapping(figure)
    said = texts(figure)
    assert all(word in said for word in ("Potsdam", "truth, 10 m", "True colour", "RMSE 0.0100", f"RMSE 0.0{n}00", "RMSE (reflectance)"))
    maps = [i for a in figure.axes for i in a.images if i.get_cmap().name == "inferno"]
    assert len(maps) == n and len({i.get_clim() for i in maps}) == 1


def test_the_error_is_that_of_the_window():
    truth = cube(20, 60, 80)
    output = truth.copy()
    output[:, :30] += 0.05
    west, north = 366000, 5806000
    said = [texts(comparison_figure({"m": output}, truth, (west, west + 800, *rows))) for rows in ((north - 200, north - 20), (north - 590, north - 400))]
    assert "RMSE 0.0500" in said[0] and "RMSE 0.0000" in said[1]


def test_comparison_of_what_holds_nothing_or_is_elsewhere():
    truth = cube(10, 12, 14)
    figure = comparison_figure({"nothing": truth * np.nan, "much": truth}, truth)
    assert drawn(figure) and "no data" in texts(figure)
    assert "no data" in texts(comparison_figure({"other bands": cube(7, 12, 14, low=3000, high=4000)}, truth))
    with pytest.raises(GridError, match="do not overlap"):
        comparison_figure({"m": cube(10, 12, 14, x0=999000.0)}, truth)
    arrays = np.random.default_rng(0).random((2, 6, 20, 31))
    drawn(comparison_figure({"m": arrays[0]}, arrays[1]))


def test_a_large_scene_is_shown_by_a_window():
    truth = cube(4, 150, 260)
    figure = comparison_figure({"m": truth}, truth)
    (low, high), (bottom, top) = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    assert high - low == top - bottom == 1000 and drawn(figure)


def test_landmarks():
    c = cube(60)
    c[:] = 0.1
    c[:, 3, 5], c[:, 20, 8] = np.nan, 0.9
    found = landmarks(c)
    assert list(found) == ["bright", "dark", "edge", "green"] and all(c.sel(x=x, y=y).notnull().all() for x, y in found.values())
    assert "green" not in landmarks(cube(20, low=1500)) and landmarks(c * np.nan) == {}
    plain = landmarks(c.drop_vars("spatial_ref"))
    assert all(isinstance(v, int) for point in plain.values() for v in point)
    assert set(landmarks(cube(30, 1, 1))) == {"bright", "dark", "edge", "green"}


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    figure = pipeline()
    assert imread(write_figure(figure, tmp_path / "new/a.png")).shape[1] > 900
    monkeypatch.setattr(figure, "savefig", lambda part, **_: (Path(part).write_bytes(b"x"), (_ for _ in ()).throw(OSError(28, "No space left on device")))[1].__next__())
    with pytest.raises(OutputError, match="No space"):
        write_figure(figure, tmp_path / "new/b.png")
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.png"]


# The job

@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    "A tiny case, evaluated."
    from enmap_sharpener.evaluation.benchmark import run_benchmark
    from enmap_sharpener.evaluation.cases import find_cases
    from enmap_sharpener.simulation.scene import simulate
    folder = tmp_path_factory.mktemp("figures")
    simulate(folder / "case", size=16, seed=1)
    assert not run_benchmark(find_cases([folder / "case"]), ["cubic", "subspace"], folder / "evaluation", threads=1).failed
    return folder


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("papermill", reason="needs the extra `batch`")
    from enmap_sharpener.batch.clusters import local_workers
    with local_workers(workers=1, threads=1) as client:
        yield client


def run(client, evaluated, output, **parameters):
    from enmap_sharpener.batch.runner import run_batch
    report = run_batch("figures", evaluated / "evaluation", output, parameters, cluster=nullcontext(client))
    return report, report.page.parent / "evaluation"


PICTURES = {"scores.png", "bands.png", "boxes.png", "pipeline.png", "case/parts.png"}


@pytest.mark.slow
def test_job_draws_everything(client, evaluated, tmp_path):
    (tmp_path / "reported.json").write_text(json.dumps({"case": {"CNMF": {"psnr": 29.0}}}))
    report, folder = run(client, evaluated, tmp_path, cases=[str(evaluated / "case")], reported=tmp_path / "reported.json")
    assert [o.state for o in report.outcomes] == ["done"], report.outcomes[0].note
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")} - {"thumbnail.png"}
    assert found == PICTURES | {f"case/{name}.png" for name in ("before_after", "spectra", "errors", "comparison")}
    assert all(imread(folder / name).std() > 0.01 for name in found)
    assert json.loads((folder / "summary.json").read_text()) == {"figures": len(found), "cases": 1, "methods": 2, "best": "subspace"}


@pytest.mark.slow
def test_job_for_a_case_without_truth(client, evaluated, tmp_path):
    from enmap_sharpener.evaluation.benchmark import run_benchmark
    from enmap_sharpener.evaluation.cases import find_cases
    stranger = shutil.copytree(evaluated / "case", tmp_path / "stranger")
    (stranger / "truth.tif").unlink()
    report, _ = run(client, evaluated, tmp_path / "runs", cases=[str(stranger)])
    assert "stranger: was not evaluated in evaluation" in report.outcomes[0].note
    assert not run_benchmark(find_cases([stranger]), ["cubic", "bilinear"], tmp_path / "evaluation", threads=1).failed
    report, folder = run(client, tmp_path, tmp_path / "others", cases=[str(stranger)])
    assert [o.state for o in report.outcomes] == ["done"], report.outcomes[0].note
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")} - {"thumbnail.png"}
    assert found == {"scores.png", "pipeline.png", "stranger/before_after.png", "stranger/spectra.png"}
