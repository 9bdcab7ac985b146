"Everything works where Numba can keep nothing."
import os
import subprocess
import sys

import pytest

# as Numba is in a package that others installed and without a home folder; root may write everywhere, so that permissions cannot show it
NOWHERE = """
import sys
from numba.core import caching
def nowhere(cls, *_):
    return None
for locator in (caching.InTreeCacheLocator, caching.UserWideCacheLocator):
    locator.from_function = classmethod(nowhere)
from enmap_sharpener.cli.app import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_commands_without_a_cache(tmp_path):
    (tmp_path / "temporary").mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"} | {"TMPDIR": str(tmp_path / "temporary")}
    arguments = [sys.executable, "-c", NOWHERE, "simulate", "--output", str(tmp_path / "scene"), "--size", "30"]
    ended = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "scene/truth.tif").exists() and not list((tmp_path / "temporary").iterdir())
