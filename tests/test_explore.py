"The notebooks of nbs/explore in JupyterLab, in a real browser: their controls move, and the pictures follow."
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec

import pytest
from readme import ROOT

pytestmark = pytest.mark.slow
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


def _answers(url):
    "Whether the server is up."
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "JupyterLab on the loopback address with a copy of the notebooks, and nothing of the user's settings: a function from a notebook's name to its address."
    for name in ("jupyterlab", "ipywidgets", "ipyevents", "ipykernel"):
        pytest.importorskip(name)
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "nbs/explore", home / "work/nbs/explore", ignore=shutil.ignore_patterns(".*"))
    (home / "work/output").symlink_to(ROOT / "output")
    for name, content in SETTINGS.items():
        (home / "settings" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "settings" / f"{name}.jupyterlab-settings").write_text(json.dumps(content))
    places = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
              "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "TMPDIR": "."}
    env = os.environ | {k: str(home / v) for k, v in places.items()} | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    token = secrets.token_hex(16)
    with open(home / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", "--ServerApp.port_retries=500",
             f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={home / 'work'}"], env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        told, end = home / f"runtime/jpserver-{server.pid}.json", time.monotonic() + 60      # which port it found
        while not told.exists() or not _answers(f"http://127.0.0.1:{json.loads(told.read_text())['port']}/api?token={token}"):
            assert server.poll() is None and time.monotonic() < end, (home / "log").read_text()[-2000:]
            time.sleep(0.2)
        port = json.loads(told.read_text())["port"]
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/nbs/explore/{name}.ipynb?reset&token={token}"
    finally:
        server.send_signal(signal.SIGTERM)      # kernels end with it
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.fixture
def opened(browser, lab):
    "A function that opens a notebook, runs all cells, and gives the page once its controls are there."
    page = browser.new_page(viewport={"width": 1500, "height": 1500})
    page.set_default_timeout(60_000)

    def open_notebook(name):
        page.goto(lab(name))
        page.locator(".jp-Notebook .jp-Cell").nth(3).wait_for()
        assert page.locator(".jp-RenderedImage img").count() >= 1          # a picture is there before anything runs
        page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for()       # before that, cells are not run but forgotten
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.locator("img.widget-image").nth(1).wait_for()
        return page

    yield open_notebook
    page.close()


def pixels(page, n):
    "The n-th picture among the controls, as it is on the screen; one that is exchanged while it is decoded is taken anew."
    image = page.locator("img.widget-image").nth(n)
    return image.evaluate("""async image => { const decoded = left => image.decode().catch(e => {
            if (!left) throw e; return new Promise(go => setTimeout(go, 100)).then(() => decoded(left - 1)); });
        await decoded(100); const c = document.createElement('canvas');
        [c.width, c.height] = [image.naturalWidth, image.naturalHeight]; c.getContext('2d').drawImage(image, 0, 0); return c.toDataURL(); }""")


def changed(page, n, before, seconds=30):
    "The n-th picture once it differs from what it was."
    end = time.monotonic() + seconds
    while (now := pixels(page, n)) == before:
        assert time.monotonic() < end, "the picture does not change"
        time.sleep(0.1)
    return now


def handle(page, label):
    "The handle of a slider, found by its label; without one that of the slider that has none."
    sliders = page.locator(".widget-slider")
    chosen = sliders.filter(has_text=label) if label else sliders.filter(has_not=page.locator(".widget-label:visible"))
    return chosen.first.locator(".noUi-handle").first


def choose(page, label, option):
    page.locator(".widget-dropdown").filter(has_text=label).first.locator("select").select_option(label=option)


def test_scene(opened, tmp_path):
    page = opened("scene")
    picture, spectra = pixels(page, 0), pixels(page, 1)
    handle(page, None).press("ArrowRight")
    handle(page, None).press("PageUp")
    swiped = changed(page, 0, picture)
    assert pixels(page, 1) == spectra
    choose(page, "show", "NDVI")
    index = changed(page, 0, swiped)
    image = page.locator("img.widget-image").first
    box = image.bounding_box()
    image.click(position={"x": 0.4 * box["width"], "y": 0.6 * box["height"]})
    spectra, index = changed(page, 1, spectra), changed(page, 0, index)
    choose(page, "method", "cubic")
    page.get_by_role("button", name="Sharpen this window").click()
    page.get_by_text("differs from subspace by").wait_for()
    changed(page, 0, index)
    changed(page, 1, spectra)
    page.screenshot(path=tmp_path / "scene.png")


def test_model(opened, tmp_path):
    if not find_spec("keras"):
        pytest.skip("networks need Keras")
    if not (ROOT / "output/models/supErMAPnet.keras").is_file():
        pytest.skip("the shipped network is not here")
    page = opened("model")
    maps, sheet = pixels(page, 0), pixels(page, 1)
    handle(page, "map").press("ArrowRight")
    maps = changed(page, 0, maps)
    assert pixels(page, 1) == sheet
    choose(page, "layer", "main_1")
    changed(page, 1, sheet)
    page.screenshot(path=tmp_path / "model.png")
