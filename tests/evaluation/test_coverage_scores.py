"Intervals and scores are judged on the same pixels."
import numpy as np
import pytest

import enmap_sharpener as es
from enmap_sharpener.evaluation.coverage import coverage
from enmap_sharpener.evaluation.scores import score
from enmap_sharpener.scenes.cubes import read_cube


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("made")
    scene, guide, truth = es.simulate_pair(size=24, seed=1)
    es.write_scene(es.sharpen(scene, guide, bands="20-60"), place / "out.tif", scene=scene, guide=guide)
    return place / "out.tif", truth


def moved(truth, share):
    "The same numbers, a share of a pixel to the south-east."
    t = truth.rio.transform()
    return truth.assign_coords(x=truth.x + share * t.a, y=truth.y + share * t.e).rio.write_transform(t * t.translation(share, share))


@pytest.mark.parametrize("share", [0.5, 0.6, -0.6])
def test_a_truth_that_lies_off_spoils_both(made, share):
    "Pixels beside one another are compared by both, or by neither."
    output, truth = made
    good, bad = truth, moved(truth, share)
    psnr = [score(read_cube(output), t)[0].psnr for t in (good, bad)]
    held = [coverage(output, t)["all"][68] for t in (good, bad)]
    assert psnr[0] - psnr[1] > 10 and held[0] - held[1] > 20


def test_a_truth_that_lies_off_a_little_changes_neither(made):
    output, truth = made
    for t in (moved(truth, 0.4), moved(truth, -0.4)):
        np.testing.assert_array_equal(coverage(output, t), coverage(output, truth))
        assert score(read_cube(output), t)[0].psnr == pytest.approx(score(read_cube(output), truth)[0].psnr)
