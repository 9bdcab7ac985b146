"Local regression: the relation of the whole scene, and how strongly windows are drawn to it."
import numpy as np
import pytest

from enmap_sharpener.fusion.regression import RIDGES, LocalRegression, _without_blocks, detail_weights

SHAPE = 40, 36
TRUE = np.float32([[0.2, -0.1], [0.3, 0.5], [0.1, 0.2]])


@pytest.fixture
def guide():
    return np.random.default_rng(0).uniform(0, 0.4, (*SHAPE, 3)).astype(np.float32)


def waves(period):
    "What changes slowly over the tile, shape (y, x, 1)."
    y, x = np.indices(SHAPE)
    return (np.sin(y / period) + np.cos(x / period)).astype(np.float32)[..., None]


def test_detail_is_not_misled_by_a_field_that_lies_over_the_guide(guide):
    "The field follows the target's own level, as moist lowland under mist does; levels then tell another relation than detail."
    land = waves(12)
    target = guide @ TRUE + 0.3 * land
    seen = guide + 0.2 * land
    of_detail = detail_weights([seen], [target], [np.ones(SHAPE, bool)])
    of_levels = LocalRegression.fit([seen], [target], 2.0, 0.1).weights
    assert np.abs(of_detail - TRUE).max() < 0.1 < np.abs(of_levels - TRUE).max()


def test_pixels_that_are_not_held_teach_nothing(guide):
    held = np.ones(SHAPE, bool)
    held[5:20, 8:30] = False
    target = guide @ TRUE
    spoilt = np.where(held[..., None], target, np.float32(7))
    for detail in (False, True):
        fitted = LocalRegression.fit([guide], [spoilt], 2.0, 0.1, held=[held], detail=detail)
        np.testing.assert_allclose(fitted.weights, TRUE, atol=2e-4)
    assert LocalRegression.fit([guide], [spoilt], 2.0, held=[held], detail=True).ridge in RIDGES


def test_several_tiles_of_several_shapes(guide):
    parts = [guide[:11, :9], guide[20:, 3:]]
    fitted = LocalRegression.fit(parts, [p @ TRUE for p in parts], 2.0, detail=True)
    np.testing.assert_allclose(fitted.weights, TRUE, atol=1e-3)


def test_windows_are_drawn_to_one_relation_where_there_is_one(guide):
    noise = np.random.default_rng(1).normal(0, 0.03, (*SHAPE, 2)).astype(np.float32)
    assert LocalRegression.fit([guide], [guide @ TRUE + noise], 2.0, detail=True).ridge == max(RIDGES)


def test_windows_are_left_alone_where_relations_change(guide):
    changing = guide @ TRUE * (1 + 0.9 * waves(3))
    assert LocalRegression.fit([guide], [changing], 2.0, detail=True).ridge == min(RIDGES)


def test_what_is_foretold_of_a_block_does_not_know_it(guide):
    "A block that is spoilt changes what is foretold of the others, and not what is foretold of itself."
    fitted, held = LocalRegression.fit([guide], [guide @ TRUE], 2.0, 0.1, detail=True), np.ones(SHAPE, bool)
    spoilt = guide @ TRUE
    spoilt[4:6, 4:6] += 1                                    # a whole block of the first fold
    for (fold, before), (_, after) in zip(_without_blocks(fitted, guide, guide @ TRUE, held), _without_blocks(fitted, guide, spoilt, held), strict=True):
        same = np.array_equal(before[4:6, 4:6], after[4:6, 4:6])
        assert same == bool(fold[4, 4])


def test_a_tile_of_one_pixel_row(guide):
    fitted = LocalRegression.fit([guide[:1]], [guide[:1] @ TRUE], 2.0, detail=True)
    assert np.isfinite(fitted.weights).all() and fitted.ridge in RIDGES
