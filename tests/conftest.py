"Fixtures that every test may use."
import multiprocessing
import os
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[1] / "../shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    "The folder of real data beside the repository; the test is skipped where there is none."
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data in ../shared/data, which are not part of the repository")
    return SHARED


@pytest.fixture(params=["potsdam_train", "potsdam_validation_mismatch", "potsdam_hard", "sanfrancisco"])
def case(request, shared) -> Path:
    "A benchmark case: an EnMAP product folder, Sentinel-2 files and the truth."
    return shared / "data/cases" / request.param


# One server of forks for all tests that kill: a run starts in milliseconds, with everything imported. It has to find the tests' modules.
os.environ["PYTHONPATH"] = os.pathsep.join([os.path.dirname(os.path.abspath(__file__)), *filter(None, [os.environ.get("PYTHONPATH")])])
multiprocessing.get_context("forkserver").set_forkserver_preload(["test_transfer_kill", "enmap_sharpener.store", "enmap_sharpener.simulate", "enmap_sharpener.preprocessing"])
