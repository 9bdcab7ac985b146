"Fixtures that every test may use."
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
