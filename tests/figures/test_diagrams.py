"""Diagrams: what is drawn can be read, and arrows lead where they should."""

import numpy as np
import pytest
from cubes import drawn, overlapping

from enmap_sharpener.figures.diagrams import ARROWS, PIPELINE, Arrow, Box, diagram, pipeline

# Diagrams

def test_the_pipeline_is_readable():
    figure = pipeline()
    assert drawn(figure) and not overlapping(figure)
    assert set(PIPELINE) <= {t.get_text() for t in figure.axes[0].texts} and figure.get_figwidth() < 8.5


def test_data_flow_one_way():
    "No box is reached from itself."
    ways = {name: [a.end for a in ARROWS if a.start == name] for name in PIPELINE}
    def after(name, seen=()):
        assert name not in seen
        return [name, *(n for end in ways[name] for n in after(end, (*seen, name)))]
    assert {n for name in PIPELINE for n in after(name)} == set(PIPELINE) and "evaluation" in after("scraping")


@pytest.mark.parametrize("end", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-2, -1)])
@pytest.mark.parametrize("dashed", [True, False])
def test_arrows_in_any_direction(end, dashed):
    from enmap_sharpener.figures.diagrams import _HEIGHT, _WIDTH, _route
    a, b = Box(0, 0, "files"), Box(*end, "room")
    path = np.array(_route(a, b, dashed))
    assert (np.abs(np.diff(path, axis=0)).min(1) == 0).all()                       # level or upright
    for (x, y), box in ((path[0], a), (path[-1], b)):
        assert np.isclose(abs(x - box.column), _WIDTH / 2) or np.isclose(abs(y - box.row), _HEIGHT / 2)
    drawn(diagram({"a": a, "b": b}, [Arrow("a", "b", dashed)]))
