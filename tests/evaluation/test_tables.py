"""What tables say of scores: the best, means over cases, boxes."""

import numpy as np
import pandas as pd

from enmap_sharpener.evaluation.tables import (
    band_panels,
    box_plots,
    comparison_table,
    results_table,
    table_latex,
    table_text,
)


def record(case, method, **scores):
    return {"case": case, "method": method, "scores": scores, "spread": {"psnr": [1, 2]} if scores else {}, "full_resolution": {"QNR": 0.9}, "seconds": None}


def test_means_are_only_of_methods_that_were_scored_everywhere():
    table = results_table([record("a", "x", psnr=30.0), record("a", "y", psnr=20.0), record("b", "x", psnr=32.0), record("c", "x"), record("c", "y")])
    assert list(table.index[-2:]) == [("mean", "x")] + [("mean", "y")] or ("mean", "y") not in table.index
    assert np.isnan(table.psnr["mean", "x"]) and table.QNR["mean", "x"] == 0.9 and "psnr_low" in table
    assert results_table([record("a", "x", psnr=30.0)]).index.unique("case").tolist() == ["a"] and results_table([]).empty


def test_tables_mark_the_best_of_each_case():
    scores = {("a_1", "x"): {"psnr": 30.0, "mse": 1e-4}, ("a_1", "y"): {"psnr": 20.0, "mse": 2e-4}, ("b", "x"): {"psnr": 10.0}, ("b", "y & z"): {"psnr": 11.0, "mse": 1.0}}
    table = comparison_table(scores, ("mse", "psnr"))
    text, plain, latex = table_text(table), table_text(table, markdown=False), table_latex(table)
    lines = text.splitlines()
    assert len(lines) == 6 and lines[2].count("**") == 4 and lines[3].count("**") == 0 and "–" in lines[4] and lines[5].count("**") == 4
    assert len({len(line) for line in lines}) == 1 and plain.count("*") == 4
    assert latex.count(r"\\") == 5 and r"a\_1" in latex and r"y \& z" in latex and latex.count(r"\midrule") == 2 and latex.count(r"\textbf") == 4
    assert "↑" not in latex and latex.count("{") == latex.count("}") and r"\begin{tabular}{llrr}" in latex


def test_box_plots_hold_all_bands_of_a_method():
    bands = {(c, m): pd.DataFrame({"r2": np.linspace(0, 1, 9), "ssim": np.r_[np.nan, np.linspace(0.5, 1, 8)]}) for c in "ab" for m in ("x", "y")}
    figure = box_plots(bands)
    assert len(figure.axes) == 2 and [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["x", "y"]


def test_table_marks_the_best():
    scores = {"a": {"psnr": 30.0, "ssim": 0.9, "sam_land": 2.0, "ergas": 3.0}, "longer name": {"psnr": 31.0, "ssim": np.nan, "sam_land": 1.0, "ergas": 3.0}}
    table = comparison_table(scores)
    assert list(table.index) == ["a", "longer name"] and all(u in " ".join(table) for u in ("dB", "°"))
    text, plain = table_text(table), table_text(table, markdown=False)
    assert text.count("**") // 2 == 5 and "**31.00**" in text and "**0.9000**" in text and "–" in text
    assert plain.count("*") == 5 and len({len(line) for line in text.splitlines()}) == 1


def test_panels_of_cases_with_other_bands():
    def table(wavelength, rmse):
        return pd.DataFrame({"wavelength": wavelength, "rmse": np.full(len(wavelength), rmse), "r2": 0.9})

    fine, coarse = np.arange(420.0, 1000, 7), np.arange(440.0, 900, 10)
    bands = {("a", "cubic"): table(fine, 0.02), ("b", "cubic"): table(coarse, 0.04), ("a", "gsa"): table(fine, 0.01), ("b", "gsa"): table(coarse, 0.03)}
    panels = band_panels(bands)
    assert list(dict.fromkeys(case for case, _ in panels)) == ["a", "b", "mean"] and panels["a", "cubic"] is bands["a", "cubic"]
    mean = panels["mean", "cubic"]
    assert len(mean) == len(coarse) and np.allclose(mean.rmse, 0.03) and np.abs(mean.wavelength - coarse).max() < 5
    many = {(str(i), "cubic"): table(fine, i) for i in range(5)}
    assert list(band_panels(many)) == [("mean", "cubic")] and np.allclose(band_panels(many)["mean", "cubic"].rmse, 2)
    apart = {("a", "x"): table(fine, 1), ("b", "x"): table(np.arange(2000.0, 2400, 9), 1)}
    assert band_panels(apart) == apart
    assert band_panels({("a", "x"): table(fine, 1)}).keys() == {("a", "x")}
