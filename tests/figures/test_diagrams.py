"""Diagrams: what is drawn can be read, and arrows lead where they should."""

import matplotlib as mpl
import numpy as np
import pytest
from cubes import drawn
from matplotlib.backends.backend_agg import FigureCanvasAgg

from enmap_sharpener.figures.diagrams import ARROWS, PIPELINE, Arrow, Box, diagram, pipeline


def overlapping(figure) -> list[tuple[str, str]]:
    "Pairs of visible texts that lie over one another."
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    ticks = [(*sorted(a.get_view_interval()), tick) for axes in figure.axes for a in (axes.xaxis, axes.yaxis) for tick in a.get_major_ticks()]
    hidden = {label for low, high, tick in ticks if not low <= tick.get_loc() <= high for label in (tick.label1, tick.label2)}
    hidden |= {t for a in figure.axes if not a.get_visible() for t in a.findobj(mpl.text.Text)}
    shown = [t for t in figure.findobj(mpl.text.Text) if t.get_text().strip() and t.get_visible() and t not in hidden]
    boxes = [(t.get_text(), t.get_window_extent(renderer).padded(-1)) for t in shown]
    return [(a, b) for i, (a, p) in enumerate(boxes) for b, q in boxes[:i] if p.overlaps(q)]


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
