"""How Sphinx makes the site; `build.py` gathers what it is made from."""
import os
import re
import sys
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

here = Path(__file__).parent
sys.path.insert(0, str(here))
import build  # noqa: E402

os.environ.setdefault("KERAS_BACKEND", "jax")    # enough to read docstrings, and a tenth of the size of TensorFlow

config = ConfigParser(delimiters=["="], interpolation=None)
config.read(here.parent / "settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]

project, author, release = cfg["lib_name"], cfg["author"], cfg["version"]
project_copyright = cfg["copyright"]
root_doc = "index"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.intersphinx", "numpydoc", "sphinx_design", "mathml"]
if find_spec("sphinx_copybutton"):
    extensions.append("sphinx_copybutton")
    copybutton_prompt_text = "$ "
exclude_patterns = ["readme/*", "contributing/*", "originals/*"]    # parts that pages include, and what is downloaded

nb_execution_mode = "off"       # notebooks are shown as they were committed
nb_output_stderr = "remove"
nb_ipywidgets_js = {}           # nothing is loaded from elsewhere
myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 3
default_role = "literal"
smartquotes_action = "qe"    # two dashes stay two: they are options
autodoc_mock_imports = [name for name in ("papermill", "distributed", "psutil", "ipywidgets", "bokeh", "tornado", "spyndex") if not find_spec(name)]    # what extras bring
autodoc_member_order = "bysource"
autodoc_default_options = {"no-value": True}
add_module_names = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
python_use_unqualified_type_names = True
html_math_renderer = "mathml"

html_theme = "pydata_sphinx_theme"
html_title = project
html_baseurl = cfg["doc_host"] + cfg["doc_baseurl"] + "/"
html_search_scorer = str(here / "_static/scorer.js")    # guides before names
html_static_path = [str(here / "_static")]
html_css_files = ["site.css"]
html_favicon = html_logo = str(here / "_static/favicon.svg")
html_context = {"default_mode": "auto"}
templates_path = [str(here / "_templates")]
html_copy_source = html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "github_url": cfg["git_url"],
    "navbar_end": ["theme-switcher", "navbar-icon-links"],
    "header_links_before_dropdown": 7,
    "show_prev_next": True,
    "secondary_sidebar_items": {pattern: ["page-toc"] for pattern in ("*", "api/*", "guides/*", "models/*")},    # notebooks need the width
    "article_footer_items": ["origin"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {page: [] for page in ("index", "theory", "benchmarks", "changelog")}


def _plural(app, what, name, obj, options, lines):
    "`Grid`s in a docstring, as it must be for reStructuredText."
    lines[:] = [re.sub(r"(`[^`]+`)(\w)", r"\1\\ \2", line) if line.count("`") % 2 == 0 else line for line in lines]


def _origin(app, name, template, context, doctree):
    "Where the repository has the file that a page is made from."
    if place := build.origin(name):
        context["origin"] = f"{cfg['git_url']}/{'edit' if place.endswith('.md') else 'blob'}/{cfg['branch']}/{place}"


def _inventories(app, config):
    "Links to names of other packages, of those whose lists `build.py` got."
    folder = Path(app.outdir).parent / "inventories"
    config.intersphinx_mapping = {name: (url, (str(folder / f"{name}.inv"),)) for name, url in build.INVENTORIES.items() if (folder / f"{name}.inv").exists()}


def setup(app):
    app.connect("config-inited", _inventories, priority=100)     # before intersphinx looks at them
    app.connect("html-page-context", _origin)
    app.connect("autodoc-process-docstring", _plural, priority=400)
