"""Equations as MathML, which browsers draw themselves, with a font for them: no script, nothing from elsewhere."""
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert

LETTERS = [*range(0x20, 0x7F), *range(0xA0, 0x100), *range(0x300, 0x370), *range(0x370, 0x400), *range(0x2010, 0x2070), *range(0x2190, 0x2330), *range(0x1D434, 0x1D468), *range(0x1D6FC, 0x1D71C)]


def _inline(self, node):
    self.body.append(convert(node.astext(), display="inline"))
    raise SkipNode


def _display(self, node):
    anchor = f' id="{node["ids"][0]}"' if node["ids"] else ""
    number = f'<span class="eqno">({node["number"]})</span>' if node.get("number") else ""
    self.body.append(f'<div class="math-block"{anchor}><div>{convert(node.astext(), display="block")}</div>{number}</div>\n')
    raise SkipNode


def _write_font(app, error):
    "STIX Two Math, which comes with ziamath, with the letters and operators of equations; a tenth of its size."
    import ziamath
    from fontTools import subset
    if error:
        return
    options = subset.Options(flavor="woff", layout_features=["*"], notdef_outline=True)
    font = subset.load_font(str(next(Path(ziamath.__file__).parent.glob("fonts/STIXTwoMath*"))), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=LETTERS)
    subsetter.subset(font)
    subset.save_font(font, str(Path(app.outdir) / "_static/math.woff"), options)


def setup(app):
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("build-finished", _write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
