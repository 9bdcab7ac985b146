"The page in a real browser: what is clicked, dragged and saved; and what the command says of what it cannot show."
import csv
import gc
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest
import rasterio

pytest.importorskip("bokeh")

from enmap_sharpener.cli.app import main  # noqa: E402
from enmap_sharpener.core.errors import GridError  # noqa: E402
from enmap_sharpener.exploration import page_server  # noqa: E402
from enmap_sharpener.exploration.page_layers import layer_values, open_shown, seen  # noqa: E402
from enmap_sharpener.exploration.page_server import PageServer  # noqa: E402
from enmap_sharpener.exploration.page_spectra import LARGEST, spectra_of  # noqa: E402
from enmap_sharpener.reconstruction.output import write_scene  # noqa: E402
from enmap_sharpener.reconstruction.uncertainty import error  # noqa: E402
from enmap_sharpener.scenes.cubes import read_cube  # noqa: E402
from enmap_sharpener.scenes.enmap import read_enmap  # noqa: E402
from enmap_sharpener.scenes.sentinel2 import read_sentinel2  # noqa: E402
from enmap_sharpener.sharpening.sharpening import sharpen  # noqa: E402
from enmap_sharpener.simulation.scene import simulate  # noqa: E402

ENDINGS = {"gtiff": ".tif", "cog": ".tif", "envi": ".img", "netcdf": ".nc", "zarr": ".zarr"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "A scene that is not square, and its results in all formats."
    folder = tmp_path_factory.mktemp("viewed")
    made = simulate(folder / "simulated", size=(26, 20), seed=3)
    scene, guide = read_enmap(made.enmap), read_sentinel2(made.sentinel2)
    found = sharpen(scene, guide, threads=1)
    for form, ending in ENDINGS.items():
        if form in ("netcdf", "zarr"):
            pytest.importorskip("h5netcdf" if form == "netcdf" else "zarr")
        write_scene(found, folder / f"{form}/result{ending}", scene=scene, guide=guide, form=form)
    made.truth.rename(folder / "truth.tif")
    return folder


# ---- what is found and read -------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", ENDINGS)
def test_every_format_is_shown_alike(folder, form):
    shown = open_shown(folder / form / f"result{ENDINGS[form]}", folder / "truth.tif")
    assert list(shown.layers) == ["result", "truth", "EnMAP", "Sentinel-2"] and shown.overlays == ("classes", "trust", "error") and not shown.told
    grid = seen(shown, shown.grid.bounds)
    values = layer_values(shown.layers["result"], "true colour", 0, grid)
    cube = read_cube(folder / "gtiff/result.tif")
    wanted = [cube[int(np.abs(cube.wavelength.values - nm).argmin())].values for nm in (640, 550, 470)]
    np.testing.assert_allclose(values, np.stack(wanted), atol=1e-6)
    west, _, _, north = shown.grid.bounds
    mine = spectra_of(shown, "1", [(west + 355, north - 305)])[0]
    good = cube.good.values
    np.testing.assert_allclose(mine.values[good], cube[good, 30, 35].values, atol=1e-6)
    np.testing.assert_allclose(mine.half[good], error(folder / "gtiff/result.tif")[good, 30, 35].values, atol=1e-6)


def test_what_is_not_there_is_told(folder, tmp_path):
    for name in ("result.tif", "result_quality.tif"):
        (tmp_path / name).write_bytes((folder / "gtiff" / name).read_bytes())
    shown = open_shown(tmp_path / "result.tif")
    assert list(shown.layers) == ["result"] and len(shown.told) == 2 and shown.overlays
    (tmp_path / "result_quality.tif").unlink()
    assert open_shown(tmp_path / "result.tif").overlays == ()
    with_scene = open_shown(tmp_path / "result.tif", scene=next((folder / "simulated").glob("ENMAP*")))
    assert list(with_scene.layers) == ["result", "EnMAP", "Sentinel-2"]
    spectrum = spectra_of(shown, "1", [(shown.grid.bounds[0] + 300, shown.grid.bounds[3] - 300)])[0]
    assert np.isnan(spectrum.half).all()


def test_places_that_cannot_be(folder):
    shown = open_shown(folder / "gtiff/result.tif")
    west, south, east, north = shown.grid.bounds
    with pytest.raises(GridError, match="no result"):
        spectra_of(shown, "1", [(west - 5, north)])
    large = 10 * (LARGEST + 1)
    with pytest.raises(GridError, match="draw a smaller one"):
        spectra_of(shown, "1", [(west, north), (west + large, north), (west, north - 100)])
    edge = spectra_of(shown, "1", [(west, south), (east, south), (east, north), (west, north)])
    assert edge[0].pixels == shown.grid.nx * shown.grid.ny
    for size in (1, 7, 10**6):
        assert seen(shown, (west - size, south - size, east + size, north + size)).shape == shown.grid.shape
    assert seen(shown, (east + 1, south, east + 20, north)) is None


def test_steps_are_means(folder):
    "A picture with fewer pixels shows the means of what lies in them."
    shown = open_shown(folder / "gtiff/result.tif")
    grid = seen(shown, shown.grid.bounds, 20)
    step = round(grid.rows.step / 10)
    cube = read_cube(folder / "gtiff/result.tif")
    band = cube[int(np.abs(cube.wavelength.values - 860).argmin())].values
    values = layer_values(shown.layers["result"], "one wavelength", 860, grid)[0]
    assert values.shape == grid.shape and step > 1
    for y, x in ((2, 3), (5, 5), (10, 8)):
        np.testing.assert_allclose(values[y, x], np.nanmean(band[y * step:(y + 1) * step, x * step:(x + 1) * step]), rtol=1e-5)


# ---- the command ------------------------------------------------------------------------------------------------

def told(capfd, *words):
    status = main(["view", *map(str, words)])
    return status, capfd.readouterr().err.strip()


def test_what_cannot_be_shown(folder, tmp_path, capfd):
    (tmp_path / "broken.tif").write_bytes((folder / "gtiff/result.tif").read_bytes()[:3000])
    with rasterio.open(tmp_path / "plain.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="int16", crs="EPSG:32633",
                       transform=rasterio.Affine(10, 0, 366000, 0, -10, 5806000)) as file:
        file.write(np.ones((1, 4, 4), "int16"))
    result = folder / "gtiff/result.tif"
    for words, wanted in (([tmp_path / "nothing.tif"], "does not exist"), ([folder], "is a folder"), ([folder / "gtiff/result_quality.tif"], "give the result"),
                          ([tmp_path / "broken.tif"], "truncated"), ([tmp_path / "plain.tif"], "no wavelengths"), ([result, tmp_path / "nothing.tif"], "does not exist"),
                          ([result, "--scene", tmp_path], "METADATA"), ([result, "--sentinel2", tmp_path], ""), ([result, result, result], "")):
        status, line = told(capfd, *words)
        assert status == 2 and len(line.splitlines()) == 1 and wanted in line, (words, line)


def test_command_serves_until_it_is_interrupted(folder):
    env = os.environ | {"DISPLAY": "", "WAYLAND_DISPLAY": ""}
    command = subprocess.Popen([sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())", "view", str(folder / "gtiff/result.tif")],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        line = command.stdout.readline()
        address = line.split(": ")[1].split()[0]
        port = int(address.split(":")[2].split("/")[0])
        assert line.startswith(str(folder)) and urllib.request.urlopen(address).status == 200
        assert f"ssh -L {port}:127.0.0.1:{port}" in command.stderr.readline()
        asked = time.monotonic()
        command.send_signal(signal.SIGINT)
        assert command.wait(20) == 130
        assert time.monotonic() - asked < 10       # a second, on a machine that has nothing else to do
    finally:
        command.kill()
        command.communicate()


# ---- the server -------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def served(folder):
    served = PageServer(open_shown(folder / "gtiff/result.tif", folder / "truth.tif"))
    yield served
    served.stop()


def ended():
    "Wait until no page is served any more."
    for _ in range(100):
        if not any(thread.name == "page server" for thread in threading.enumerate()):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")
def test_a_server_that_has_stopped_holds_nothing(folder, monkeypatch):
    shown = open_shown(folder / "gtiff/result.tif")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        server = PageServer(shown)
        urllib.request.urlopen(server.address).close()
        server.stop()
        assert ended()
        server.stop()
    monkeypatch.setattr(page_server.Server, "start", lambda self: 1 / 0)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            PageServer(shown)
        assert ended()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_nothing_else_is_served(served):
    assert served.address.startswith(f"http://127.0.0.1:{served.port}/") and len(served.address.rpartition("/")[2]) >= 20
    for path in ("/", "/guessed", "/static/../../../../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/static//etc/passwd"):
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{served.port}{path}")
    others = [a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET) if not a[4][0].startswith("127.")]
    for address in others:
        with pytest.raises(OSError), socket.create_connection((address, served.port), timeout=2):
            pass


# ---- in a browser -----------------------------------------------------------------------------------------------

@pytest.fixture
def opened(browser, served):
    "A function that opens the page in a window of some size, and gives it once the picture is there."
    pages = []

    def open_page(width=1400, height=1000):
        page = browser.new_page(viewport={"width": width, "height": height})
        pages.append(page)
        page.set_default_timeout(60_000)
        page.asked, page.wrong = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("pageerror", lambda error: page.wrong.append(str(error)))
        page.goto(served.address)
        page.get_by_text("red, green, blue").wait_for()
        page.wait_for_timeout(500)
        return page

    yield open_page
    for page in pages:
        page.close()


def canvas(page, n=0):
    "Where the n-th plot lies."
    return page.locator(".bk-Figure").nth(n).bounding_box()


def drawn(page, n=0):
    "What the n-th plot shows."
    return page.locator(".bk-Figure").nth(n).screenshot()


def changed(page, before, n=0):
    "What the n-th plot shows once it is not what it was."
    for _ in range(300):
        if (now := drawn(page, n)) != before:
            return now
        page.wait_for_timeout(100)
    raise AssertionError("the picture does not change")


def place(page, x, y):
    "A place in the map, from 0 to 1."
    box = canvas(page)
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def test_nothing_comes_from_elsewhere(opened, served):
    page = opened()
    assert {url.split("/")[2] for url in page.asked} == {f"127.0.0.1:{served.port}"} and not page.wrong


def test_split_map_and_spectra(opened, tmp_path):
    page = opened()
    first = drawn(page)
    page.mouse.move(*place(page, 0.5, 0.7))
    page.mouse.down()
    page.mouse.move(*place(page, 0.3, 0.7), steps=10)
    page.mouse.up()
    page.mouse.move(5, 5)
    swiped = changed(page, first)
    page.locator("select").nth(2).select_option("NDVI")
    page.get_by_text("NDVI").last.wait_for()
    index = changed(page, swiped)
    page.locator("select").nth(3).select_option("classes")
    page.get_by_text("sharpened", exact=True).wait_for()
    changed(page, index)
    page.locator("select").nth(3).select_option("nothing")
    plot = drawn(page, 1)
    page.mouse.click(*place(page, 0.42, 0.5))
    page.get_by_text("68 % interval").wait_for()
    plot = changed(page, plot, 1)
    page.mouse.click(*place(page, 0.58, 0.45))
    changed(page, plot, 1)
    with page.expect_download() as got:
        page.get_by_role("button", name="Save CSV").click()
    got.value.save_as(tmp_path / "spectra.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "spectra.csv").read_text())))
    assert {row["place"] for row in rows} == {"1", "2"} and {row["layer"] for row in rows} == {"result", "truth", "EnMAP", "Sentinel-2"}
    assert all(0 < float(row["half_width_68"]) < 1 for row in rows if row["layer"] == "result" and row["half_width_68"])
    with page.expect_download() as got:
        page.get_by_role("button", name="Save ENVI library").click()
    got.value.save_as(tmp_path / "spectra.zip")
    with zipfile.ZipFile(tmp_path / "spectra.zip") as archive:
        archive.extractall(tmp_path)
    assert (tmp_path / "result.sli").stat().st_size == 2 * 4 * sum(row["layer"] == "result" and row["place"] == "1" for row in rows)
    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Click into the map").wait_for()
    assert not page.wrong


def test_pan_zoom_and_area(opened):
    page = opened()
    first = drawn(page)
    page.mouse.move(*place(page, 0.6, 0.5))
    page.mouse.down()
    page.mouse.move(*place(page, 0.5, 0.4), steps=8)
    page.mouse.up()
    moved = changed(page, first)
    page.mouse.wheel(0, -300)
    changed(page, moved)
    page.locator(".bk-Figure").first.locator(".bk-tool-icon-box-select, [class*=BoxSelect], .bk-OnOffButton").nth(2).click()
    page.mouse.move(*place(page, 0.55, 0.4))
    page.mouse.down()
    page.mouse.move(*place(page, 0.65, 0.55), steps=8)
    page.mouse.up()
    page.get_by_text("pixels)").wait_for()
    assert not page.wrong


def test_fits_a_phone(opened):
    page = opened(390, 844)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for n in (0, 1):
        box = canvas(page, n)
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] <= 420


# ---- spectral libraries -----------------------------------------------------------------------------------------

def test_spy_reads_the_library(folder, tmp_path):
    envi = pytest.importorskip("spectral.io.envi")
    from enmap_sharpener.exploration.page_spectra import zipped_libraries
    shown = open_shown(folder / "gtiff/result.tif")
    west, _, _, north = shown.grid.bounds
    spectra = [s for n in (1, 2) for s in spectra_of(shown, str(n), [(west + 200 + 100 * n, north - 300)])]
    with zipfile.ZipFile(io.BytesIO(zipped_libraries(spectra, "result"))) as archive:
        archive.extractall(tmp_path)
    library = envi.open(str(tmp_path / "result.hdr"), str(tmp_path / "result.sli"))
    mine = [s for s in spectra if s.layer == "result"]
    assert library.names == ["result 1", "result 2"] and library.bands.band_unit == "Nanometers"
    np.testing.assert_allclose(library.bands.centers, mine[0].wavelength, atol=1e-3)
    for row, s in zip(library.spectra, mine, strict=True):
        np.testing.assert_allclose(row[np.isfinite(s.values)], s.values[np.isfinite(s.values)], rtol=1e-5)
