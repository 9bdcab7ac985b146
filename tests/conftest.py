"Fixtures that every test may use."
import logging
import os
import shutil
from pathlib import Path

import pytest

SHARED, OWN = Path(__file__).parents[1] / "../shared", Path(__file__).parent / "data"


LEVELS = {None: logging.WARNING, "enmap_sharpener": logging.NOTSET}


@pytest.fixture(autouse=True)
def levels():
    """A command sets the levels of logging for its process; each test begins with Python's own, or an earlier command would silence its messages.

    Set before the test and not only taken back after it: fixtures of a module run commands too, and before this one.
    """
    for name, level in LEVELS.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture(scope="session")
def shared() -> Path:
    "The folder of real data beside the repository; the test is skipped where there is none."
    if not (SHARED / "data").is_dir():
        pytest.skip("needs the real data in ../shared/data, which are not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def real_case():
    "The folder of a benchmark case by its name; the test is skipped where it neither comes with the repository nor lies beside it."
    def found(name) -> Path:
        places = [folder / name for folder in (OWN / "cases", SHARED / "data/cases") if (folder / name).is_dir()]
        return places[0] if places else pytest.skip("needs the real data in ../shared/data, which are not part of the repository")
    return found


@pytest.fixture(params=["potsdam_train", "potsdam_validation_mismatch", "potsdam_hard", "sanfrancisco"])
def case(request, real_case) -> Path:
    "A benchmark case: an EnMAP product folder, Sentinel-2 files and the truth."
    return real_case(request.param)


@pytest.fixture(scope="session")
def some_metadata(tmp_path_factory) -> Path:
    "The METADATA.XML of a simulated product of 224 bands."
    from enmap_sharpener.simulation.scene import simulate
    [xml] = simulate(tmp_path_factory.mktemp("simulated"), size=20, truth=False).enmap.glob("*METADATA.XML")
    return xml


@pytest.fixture
def water(tmp_path, some_metadata):
    """Copies one of two real EnMAP products of open water, with all their quality layers, into a folder; the first comes with the repository.

    They lack METADATA.XML: that of a simulation is put beside.
    """
    def copied(which, place=None) -> Path:
        found = sorted((OWN / "water").iterdir()) + sorted((SHARED / "data/enmap_water").glob("*X04390566"))
        if which >= len(found):
            pytest.skip("needs the real data in ../shared/data, which are not part of the repository")
        place = Path(shutil.copytree(found[which], place or tmp_path / found[which].name, copy_function=shutil.copyfile))
        place.chmod(0o755)
        shutil.copyfile(some_metadata, place / f"{found[which].name}-METADATA.XML")
        return place
    return copied


@pytest.fixture
def services(monkeypatch, tmp_path):
    """The region: its accounts are in a .env in the working directory, its addresses in the environment; its box a little widened is `wide`."""
    from fake_region import Region
    region = Region()
    with region as env:
        (tmp_path / ".env").write_text("".join(f"{k}='{v}'\n" for k, v in env.items() if not k.endswith("_URL")))
        (tmp_path / ".env").chmod(0o600)
        for name in {*env, "ENMAP_SESSION_TOKEN"}:
            monkeypatch.delenv(name, raising=False)
        for name in (name for name in env if name.endswith("_URL")):
            monkeypatch.setenv(name, env[name])
        monkeypatch.setenv("NETRC", str(tmp_path / "no.netrc"))
        monkeypatch.chdir(tmp_path)
        region.env = env
        west, south, east, north = region.box
        region.wide = [str(round(v, 3)) for v in (west - 0.1, south - 0.1, east + 0.1, north + 0.1)]
        yield region


@pytest.fixture(scope="module")
def browser():
    "Chromium without a window; the test is skipped where it or playwright is missing."
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def pytest_configure(config):
    "Where several workers fill the processors, threads of BLAS and TensorFlow wait for one another: the same sums take three times as long."
    if getattr(config.option, "numprocesses", None):
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            os.environ.setdefault(name, "1")


# The server of forks has to find the helpers of the tests.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
