import numpy as np
import pytest

from enmap_sharpener.fusion.radiometry import measure_trust


@pytest.fixture(scope="module")
def land():
    "Even fields and buildings of three pixels on the right, shape (48, 48, 4) [reflectance]."
    rng = np.random.default_rng(0)
    fields = np.kron(rng.uniform(0.1, 0.3, (4, 3, 4)), np.ones((12, 12, 1)))
    houses = np.kron(rng.choice([0.05, 0.6], (16, 4, 1)) * np.ones(4), np.ones((3, 3, 1)))
    return np.concatenate([fields, houses], 1)


def seen_twice(land, off=0.06):
    "What two sensors see of it: noise, and one lies off by a part of a pixel."
    noise = np.random.default_rng(1).normal(0, 0.001, (2, *land.shape))
    return land + noise[0], (1 - off) * land + off * np.roll(land, 1, 1) + noise[1]


def test_a_deviation_beside_contrast_that_both_show_is_no_other_ground(land):
    seen, guide = seen_twice(land)
    deviation = np.abs(seen - guide).mean(-1)
    houses = (slice(2, -2), slice(38, -2))
    assert deviation[houses].max() > 0.03
    assert measure_trust(guide, seen, np.ones(land.shape[:2]))[houses].min() > 0.9


def test_the_same_deviation_on_even_ground_is_other_ground(land):
    seen, guide = seen_twice(land)
    guide[14:22, 3:9] += [0.035, 0.035, -0.035, -0.035]
    trust = measure_trust(guide, seen, np.ones(land.shape[:2]))
    assert trust[15:21, 4:8].max() < 0.1
    away = np.ones(land.shape[:2], bool)
    away[10:26, :14] = False
    assert trust[away].mean() > 0.95


def test_contrast_of_the_guide_alone_excuses_nothing(land):
    "Buildings in the guide, even ground in EnMAP."
    seen, guide = seen_twice(land)
    seen[24:36, 36:] = [0.05, 0.1, 0.3, 0.5]
    assert measure_trust(guide, seen, np.ones(land.shape[:2]))[26:34, 39:46].mean() < 0.1
