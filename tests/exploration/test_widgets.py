"What controls show is what the files hold, and what goes wrong is told in a line; the pictures themselves without any control."
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import rasterio
from readme import ROOT

pytest.importorskip("ipywidgets")
pytest.importorskip("ipyevents")

from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels, ProductError  # noqa: E402
from enmap_sharpener.core.raster import NODATA  # noqa: E402
from enmap_sharpener.evaluation.cases import find_cases  # noqa: E402
from enmap_sharpener.evaluation.vegetation import INDICES  # noqa: E402
from enmap_sharpener.exploration.scene_views import (  # noqa: E402
    SHOWN,
    View,
    caption,
    interpolated,
    open_sources,
    picture,
    pixel_at,
    sharpen_window,
    spectrum_figure,
)
from enmap_sharpener.exploration.widgets import ModelExplorer, SceneExplorer  # noqa: E402
from enmap_sharpener.reconstruction.output import write_cube  # noqa: E402
from enmap_sharpener.scenes.enmap import read_enmap  # noqa: E402
from enmap_sharpener.scenes.sentinel2 import read_sentinel2  # noqa: E402
from enmap_sharpener.sharpening.sharpening import sharpen  # noqa: E402
from enmap_sharpener.simulation.scene import simulate  # noqa: E402

GREY = round(0.85 * 255)


def sharpened(product, path):
    write_cube(sharpen(read_enmap(product), read_sentinel2(product / "sentinel2"), "cubic", threads=1), path)
    return path


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    "A case that is not square, with an output in it and one elsewhere, not to be changed."
    folder = tmp_path_factory.mktemp("explored")
    made = simulate(folder / "cases/one", size=(23, 16), seed=3)
    sharpened(made.enmap, folder / "cases/one/mine.tif")
    (folder / "runs/one").mkdir(parents=True)
    for file in (folder / "cases/one").glob("mine*.tif"):
        shutil.copy(file, folder / "runs/one" / file.name.replace("mine", "cubic"))
    return folder


@pytest.fixture
def place(original, tmp_path):
    "A copy, to be spoiled."
    return shutil.copytree(original, tmp_path / "explored")


@pytest.fixture(scope="session")
def sources(original):
    return open_sources(find_cases([original / "cases"])[0])


def case(place):
    return find_cases([place / "cases/one"])[0]


def spoil(path, change):
    with rasterio.open(path, "r+") as file:
        file.write(change(file.read()))


# ---- layers -----------------------------------------------------------------------------------------------------

def test_layers_are_found_where_they_lie(original):
    names = lambda outputs="": list(open_sources(case(original), outputs).layers)
    assert names() == ["EnMAP", "mine", "truth"]
    assert names(original / "runs") == names(original / "runs/one") == ["EnMAP", "mine", "cubic", "truth"]
    assert names(original / "runs/one/cubic.tif") == ["EnMAP", "cubic", "truth"]


def test_a_raster_without_a_quality_file_is_no_output(place):
    shutil.copy(place / "cases/one/mine.tif", place / "cases/one/other.tif")
    assert "other" not in open_sources(case(place)).layers


def test_layers_that_cannot_be(place, tmp_path):
    with pytest.raises(ProductError, match="nowhere.tif"):
        open_sources(case(place), tmp_path / "nowhere.tif")
    file = place / "runs/one/cubic.tif"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ProductError, match="cubic.tif"):
        open_sources(case(place), file)
    with rasterio.open(place / "cases/one/mine.tif", "r+") as moved:
        moved.transform = rasterio.Affine.translation(1e5, 0) * moved.transform
    with pytest.raises(GridError, match="mine.tif: is not where the scene one is"):
        open_sources(case(place))
    with rasterio.open(tmp_path / "plain.tif", "w", driver="GTiff", width=4, height=4, count=1, dtype="int16", crs="EPSG:32633",
                       transform=rasterio.Affine(10, 0, 366000, 0, -10, 5806000)) as plain:
        plain.write(np.ones((1, 4, 4), "int16"))
    with pytest.raises(BandError, match="no wavelengths"):
        open_sources(case(place), tmp_path / "plain.tif")


def test_partner_of_another_place(place):
    for file in place.rglob("sentinel2/*.tif"):
        with rasterio.open(file, "r+") as moved:
            moved.transform = rasterio.Affine.translation(1e5, 0) * moved.transform
    with pytest.raises(GridError, match="choose the partner"):
        open_sources(case(place))


# ---- pictures ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("show", SHOWN)
def test_each_side_is_its_layer(sources, show):
    view = View("EnMAP", "mine", show, 900)
    out = {border: picture(sources, replace(view, border=border), 200) for border in (0, 0.5, 1)}
    height, width = out[0].shape[:2]
    assert max(height, width) == 200 and height / width == pytest.approx(sources.grid.ny / sources.grid.nx, abs=0.02)
    inner = np.s_[30:, :width // 2 - 5], np.s_[30:, width // 2 + 5:]        # without the ring, which is in the corner
    assert (out[0.5][inner[0]] == out[1][inner[0]]).all() and (out[0.5][inner[1]][:, :-5] == out[0][inner[1]][:, :-5]).all()
    assert (out[0] != out[1]).any()


def test_colours_are_the_values(sources):
    "A single wavelength is grey by the value of its nearest band, from the percentiles that are given."
    view = View("mine", "mine", "one wavelength", 861, (0, 100), border=0)
    cube = sources.layers["mine"]
    band = cube[int(np.abs(cube.wavelength.values - 861).argmin())].values
    ny, nx = band.shape
    out = picture(sources, view, max(ny, nx))[30:, 30:]
    wanted = np.where(np.isnan(band), GREY, np.rint(255 * (band - np.nanmin(band)) / (np.nanmax(band) - np.nanmin(band))))[30:, 30:]
    assert out.shape[:2] == wanted.shape and np.abs(out[..., 0] - wanted).max() <= 1 and (out[..., 0] == out[..., 2]).all()


@pytest.mark.parametrize("name", INDICES)
def test_limits_of_an_index(sources, name):
    text = caption(sources, View("EnMAP", "mine", name, stretch=(0, 100)))
    low, high = (float(v) for v in text.split(": ")[1].replace(" (dark) to", "").split(" (light)")[0].split())
    assert -1 <= low < high <= 1 and "reflectance" not in text


def test_layer_without_data(place):
    for file in ("mine.tif", "truth.tif"):
        spoil(place / "cases/one" / file, lambda values: np.full_like(values, NODATA))
    sources = open_sources(case(place))
    for show in SHOWN:
        out = picture(sources, View("mine", "truth", show, border=0), 60)[25:, 5:]
        assert (out == GREY).all(), show
    assert "mine" not in [line.get_label() for line in spectrum_figure(sources, View("EnMAP", "mine", row=40, col=40)).axes[0].lines]
    assert caption(sources, View("mine", "mine")).startswith("true colour")


@pytest.mark.parametrize("side", [0, 1, 5, 30, 1000])
def test_windows_and_clicks(sources, side):
    ny, nx = sources.grid.shape
    for row, col in ((0, 0), (ny - 1, nx - 1), (ny // 2, 0)):
        view = View("EnMAP", "mine", row=row, col=col, side=side)
        rows, cols = view.window((ny, nx))
        assert rows.start <= row < rows.stop <= ny and cols.start <= col < cols.stop <= nx
        assert rows.stop - rows.start == (min(side, ny) or ny)
        assert max(picture(sources, view, 50).shape) == 50
        assert pixel_at(sources, view, 0, 0) == (rows.start, cols.start)
        assert pixel_at(sources, view, 1, 1) == (rows.stop - 1, cols.stop - 1)
        middle = ((i - w.start + 0.5) / (w.stop - w.start) for i, w in ((row, rows), (col, cols)))
        assert pixel_at(sources, view, *middle) == (row, col)


# ---- spectra ----------------------------------------------------------------------------------------------------

def test_interpolated_is_what_the_method_cubic_gives(sources):
    cube, good = sources.layers["mine"].values, sources.scene.bands.good
    held = np.argwhere(np.isfinite(cube[good]).all(0))
    inside = held[np.all([(held > 12) & (held < np.array(cube.shape[1:]) - 12)], axis=(0, 2))]
    for row, col in inside[::40]:
        got = interpolated(sources, row, col)[good]
        if np.isfinite(got).all():
            np.testing.assert_allclose(got, cube[good, row, col], atol=6e-5)


def test_lines_of_the_figure(sources):
    row, col = (n // 2 for n in sources.grid.shape)
    names = lambda *layers: [t.get_text() for t in spectrum_figure(sources, View(*layers, row=row, col=col)).axes[0].get_legend().get_texts()]
    assert names("EnMAP", "mine") == ["EnMAP, interpolated", "mine", "Sentinel-2"]
    assert names("mine", "truth") == ["EnMAP, interpolated", "mine", "truth", "Sentinel-2"]
    assert names("EnMAP", "EnMAP") == ["EnMAP, interpolated", "Sentinel-2"]


# ---- the sharpener on a window ----------------------------------------------------------------------------------

@pytest.mark.parametrize("method", ["subspace", "sfim", "bilinear"])
def test_window_becomes_a_layer(sources, method):
    more, view, text = sharpen_window(sources, View("EnMAP", "mine", row=20, col=50, side=12), method)
    name = f"{method}, here"
    assert list(more.layers) == [*sources.layers, name] and (view.left, view.right, view.side) == ("mine", name, min(48, max(sources.grid.shape)) % max(sources.grid.shape))
    assert text.startswith(f"{method} on ") and "differs from mine by 0." in text
    assert name not in sources.layers
    assert (picture(more, replace(view, border=1), 90) != picture(more, replace(view, border=0), 90)).any()


def test_window_without_data(place):
    for file in place.rglob("*SPECTRAL_IMAGE.TIF"):
        spoil(file, lambda values: np.full_like(values, NODATA))
    with pytest.raises(NoValidPixels):
        sharpen_window(open_sources(case(place)), View(side=30), "cubic")


# ---- controls ---------------------------------------------------------------------------------------------------

@pytest.fixture
def explorer(original):
    return SceneExplorer(original / "cases", size=120)


def test_each_control_moves_its_picture(explorer):
    changes = {"border": (0.8, 1), "show": ("NDII", 1), "stretch": ((10, 60), 1), "row": (40, 2), "col": (28, 2), "left": ("truth", 2), "right": ("EnMAP", 2)}
    for name, (value, count) in changes.items():
        before = explorer.image.value, explorer.plot.value
        getattr(explorer, name).value = value
        after = explorer.image.value, explorer.plot.value
        assert sum(a != b for a, b in zip(before, after, strict=True)) == count, name
        assert getattr(explorer.view, "show" if name == "show" else name) == value
    assert explorer.nm.disabled
    explorer.show.value, before = "one wavelength", explorer.image.value
    assert not explorer.nm.disabled
    explorer.nm.value = 2200
    assert explorer.image.value != before and "2200 nm" in explorer.caption.value


def test_failures_are_told_and_leave_what_is_there(explorer, place):
    for action, words in ((lambda: setattr(explorer.folder, "value", "no/such/folder"), "is no folder"),
                          (lambda: setattr(explorer.folder, "value", str(place / "runs")), "holds no case"),
                          (lambda: [setattr(explorer.method, "value", "supermapnet"), explorer.run.click()], "needs a trained network"),
                          (lambda: [setattr(explorer.model, "value", "none.keras"), explorer.run.click()], "there is no such file")):
        before = explorer.image.value
        action()
        assert words in explorer.status.value and "#b00020" in explorer.status.value and explorer.image.value == before
    assert not explorer.run.disabled
    explorer.folder.value = str(place / "cases/one")
    assert "#b00020" not in explorer.status.value


def test_from_nothing_to_a_folder(original):
    "An explorer of a wrong folder is there, and takes a right one."
    explorer = SceneExplorer(original / "none")
    explorer.show.value, explorer.border.value = "GNDVI", 0.1
    explorer.click({"relativeX": 1, "relativeY": 1, "boundingRectWidth": 2, "boundingRectHeight": 2})
    explorer.run.click()
    assert explorer.image.value == b"" and "is no folder" in explorer.status.value
    explorer.folder.value = str(original / "cases")
    assert explorer.image.value[:4] == b"\x89PNG" and explorer.right.value == "mine"


def test_a_status_cannot_be_markup(explorer):
    explorer.folder.value = "<script>alert(1)</script>"
    assert "<script>" not in explorer.status.value and "&lt;script&gt;" in explorer.status.value


@pytest.mark.slow
def test_real_scene(shared):
    explorer = SceneExplorer(shared / "data/cases/potsdam_train", size=200)
    assert explorer.right.value == "truth" and explorer.image.value[:4] == b"\x89PNG" and explorer.plot.value
    explorer.side.value = explorer.side.options[1][1]
    explorer.method.value = "gsa"
    explorer.run.click()
    assert "differs from truth" in explorer.status.value, explorer.status.value


@pytest.mark.slow
def test_model(original, tmp_path):
    pytest.importorskip("keras")
    from networks import network

    from enmap_sharpener.model.supermapnet import save_model
    save_model(network(), tmp_path / "net.keras")
    product = next((original / "cases/one").glob("ENMAP*"))
    explorer = ModelExplorer(tmp_path / "net.keras", product)
    assert list(explorer.layer.options) == [*(f"detail_{i}" for i in (1, 2, 3)), *(f"main_{i}" for i in (1, 2, 3))] and explorer.number.max == 6
    explorer.number.value = 6
    for name, value, count in (("nm", 860, 1), ("layer", "main_1", 2), ("nm", 2200, 2), ("number", 2, 1)):
        before = explorer.image.value, explorer.sheet.value
        getattr(explorer, name).value = value
        assert sum(a != b for a, b in zip(before, (explorer.image.value, explorer.sheet.value), strict=True)) == count, name
        assert explorer.number.value <= explorer.number.max
    explorer.model.value = str(tmp_path / "none.keras")
    assert "there is no such file" in explorer.status.value
    assert ModelExplorer(network(), product).model.value == "in memory"


@pytest.mark.slow
def test_without_ipywidgets_one_line():
    code = ("import sys; sys.modules['ipywidgets'] = None\ntry:\n    import enmap_sharpener.exploration.widgets\n"
            "except Exception as error:\n    print(type(error).__name__, error)")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert run.stdout == "MissingExtra exploring needs ipywidgets: pip install '.[explore]' in the package's checkout\n"


@pytest.mark.parametrize("path", [*sorted((ROOT / "nbs/explore").glob("*.ipynb")), ROOT / "nbs/13_exploration/02_widgets.ipynb"], ids=lambda p: p.stem)
def test_notebooks_stand_still(path: Path):
    "A picture is in them; nothing is that needs a kernel, or a script from elsewhere, to be seen."
    notebook = nbformat.read(path, as_version=4)
    kinds = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert "widgets" not in notebook.metadata and kinds & {"image/png", "image/jpeg"} and not any("widget" in kind for kind in kinds)
