"""Imports the whole package and what notebooks need besides: the first thing that a server of forks does, so that what it forks has it all."""
import importlib
import pkgutil
from contextlib import suppress

import enmap_sharpener

for found in pkgutil.walk_packages(enmap_sharpener.__path__, "enmap_sharpener."):
    with suppress(Exception):       # needs an extra that is not installed
        importlib.import_module(found.name)
for name in ("IPython", "fastcore.test", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "nbdev.test", "rioxarray", "tensorflow"):
    with suppress(ImportError):
        importlib.import_module(name)
