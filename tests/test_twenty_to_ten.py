"20 m bands sharpened one scale down: the protocol and the scores of `benchmarks/twenty_to_ten.py`."
import re
import sys

import numpy as np
import pytest
from readme import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from twenty_to_ten import METHODS, PUBLISHED, Image, Scores, halved, table  # noqa: E402


@pytest.fixture(scope="module")
def image():
    "Fields of 16 pixels at 20 m in ten bands that are mixtures of three, with what no band shares."
    rng = np.random.default_rng(3)
    ground = np.kron(rng.uniform(0.05, 0.4, (10, 10, 3)), np.ones((16, 16, 1))) * (1 + 0.2 * rng.normal(size=(160, 160, 1)))
    bands = ground @ rng.uniform(0.1, 0.5, (3, 10)) + 0.002 * rng.normal(size=(160, 160, 10))
    return Image(bands[..., :4].astype("f4"), bands[..., 4:].reshape(80, 2, 80, 2, 6).mean((1, 3)).astype("f4"))


def test_a_point_is_spread_as_dsen2_does_it():
    point = np.zeros((16, 16, 1), "f4")
    point[8, 8] = 1
    w = np.exp(-0.5 * (np.arange(-2, 3) / 0.5) ** 2)      # of pixels 6 to 10, which are averaged in pairs
    pairs = np.array([w[0] + w[1], w[2] + w[3], w[4]]) / w.sum() / 2
    np.testing.assert_allclose(halved(point)[3:6, 3:6, 0], np.outer(pairs, pairs), atol=1e-6)


def test_scores():
    truth = np.random.default_rng(0).uniform(0.1, 0.3, (24, 24, 6)).astype("f4")
    truth += 0.2 - truth[4:-4, 4:-4].mean((0, 1))
    scores = Scores.of(truth + np.float32(0.02), truth)
    np.testing.assert_allclose(scores.rmse, 200, rtol=1e-3)
    assert scores.sre == pytest.approx(20, abs=1e-3) and scores.ergas == pytest.approx(5, rel=1e-3) and 0 < scores.sam < 5 and 0.9 < scores.uiqi < 1


@pytest.mark.slow
def test_every_method_in_the_table(image):
    head, _, *lines = table({"fields": image}, 0)
    found = {cells[2]: float(cells[9]) for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines)}
    assert list(found) == list(METHODS) and len({line.count("|") for line in (head, *lines)}) == 1
    assert found["this package"] < 0.5 * found["bicubic"] and found["this package"] <= min(found[name] for name in ("bicubic", "GSA-like", "local regression alone"))


def test_a_prior_finds_a_blur_and_keeps_the_20_m_bands(image):
    "What errs alike everywhere is learnt from one image and taken off another; the result is seen at 20 m as before."
    from learnt_prior import Example, PatchRegression, agreeing
    from scipy.ndimage import gaussian_filter
    from twenty_to_ten import bicubic, grids
    examples, truths = [], []
    for part in (slice(0, 40), slice(40, 80)):
        ten, truth = image.ten[2 * part.start:2 * part.stop], np.repeat(np.repeat(image.twenty[part], 2, 0), 2, 1)
        blurred = gaussian_filter(truth, (0.7, 0.7, 0))
        examples.append(Example.of(ten, blurred, bicubic(ten, image.twenty[part])))
        truths.append(truth)
    prior, rms = PatchRegression(examples[:1], truths[:1]), lambda x: float(np.sqrt(np.mean(x[6:-6, 6:-6] ** 2)))
    made = prior(examples[1])
    assert rms(made - truths[1]) < 0.6 * rms(examples[1].sharp - truths[1])
    fine, fine20 = grids(made.shape[:2])
    again = agreeing(made, image.twenty[40:], 0.43, fine, fine20)
    from enmap_sharpener.core.operators import Observation
    see = Observation.between(fine20, fine, 0.43)
    assert rms(see.degrade(again, axes=(0, 1)) - image.twenty[40:]) < 0.1 * rms(see.degrade(made, axes=(0, 1)) - image.twenty[40:])


def test_page_tells_what_is_measured(shared):
    "The page is of this script: its methods, its published figures, and an image that is quick to do again."
    page = (ROOT / "benchmarks/twenty_to_ten.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in (*METHODS, *PUBLISHED))
    from twenty_to_ten import IMAGES
    read, path = IMAGES["bigearthnet"]
    for line in list(table({"bigearthnet": read(shared / "data" / path)}, 0))[2:]:
        told, = (old for old in page.splitlines() if old.split("|")[1:4] == line.split("|")[1:4])
        numbers = lambda text: [float(n) for n in re.findall(r"\d+\.\d+", text)]
        np.testing.assert_allclose(numbers(line), numbers(told), rtol=0.02, atol=0.02)
