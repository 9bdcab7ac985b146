"""What QGIS itself shows of a result, its quality, a simulated product and its truth, when they are dragged onto a map."""
import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import rasterio

import enmap_sharpener as es

SHOWN = """
import json, os, sys
from qgis.core import QgsApplication, QgsMapRendererParallelJob, QgsMapSettings, QgsRasterLayer
from qgis.PyQt.QtCore import QSize
from qgis.PyQt.QtGui import QColor
app = QgsApplication([], False)
app.initQgis()
told = {}
for path in sys.argv[1:]:
    layer = QgsRasterLayer(path, "layer")
    renderer = layer.renderer()
    one = {"valid": layer.isValid(), "type": renderer.type(), "crs": layer.crs().authid(), "bands": renderer.usesBands(), "names": [layer.bandName(b) for b in renderer.usesBands()]}
    if renderer.type() == "multibandcolor":
        limits = [getattr(renderer, f"{c}ContrastEnhancement")() for c in ("red", "green", "blue")]
        one["limits"] = [[c.minimumValue(), c.maximumValue()] for c in limits]
    if renderer.type() == "paletted":
        one["classes"] = {int(c.value): [c.label, c.color.name(), c.color.alpha()] for c in renderer.classes()}
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(400, 400))
    settings.setBackgroundColor(QColor(255, 0, 255))
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(path + ".rendered.png")
    told[path] = one
print(json.dumps(told), flush=True)
os._exit(0)      # taking QGIS down in the right order is not what is tested
"""


@pytest.fixture(scope="module")
def qgis():
    "What QGIS shows of files, by its own Python; a picture of each is beside it."
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin")
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GDAL_DATA", "PROJ_LIB", "PROJ_DATA")} | {"QT_QPA_PLATFORM": "offscreen"}
    if python is None or subprocess.run([python, "-c", "import qgis.core"], capture_output=True, env=env).returncode:
        pytest.skip("no QGIS with Python (python3-qgis) on this machine")

    def show(*paths):
        run = subprocess.run([python, "-c", SHOWN, *map(str, paths)], capture_output=True, text=True, env=env, timeout=300)
        assert run.returncode == 0, run.stderr
        return [json.loads(run.stdout.splitlines()[-1])[str(path)] for path in paths]
    return show


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A simulated scene and its results."
    folder = tmp_path_factory.mktemp("styled")
    paths = es.simulate(folder / "in", size=60, seed=3, clouds=True, sentinel2_clouds=True)
    scene, guide = es.read_enmap(paths.enmap), es.read_sentinel2(paths.sentinel2)
    files = {name: es.write_scene(es.sharpen(scene, guide, bands=bands), folder / name, scene=scene, guide=guide)
             for name, bands in (("a.tif", None), ("b.img", "500-900nm"), ("c.tif", "1200-2300nm"))}
    return paths, files


def test_true_colour_with_the_percentiles_of_this_scene(qgis, made):
    paths, files = made
    with rasterio.open(files["a.tif"]["quality"]) as file:
        classes = file.read(1) == 3
    cloudy = {files["a.tif"]["data"]: classes, files["b.img"]["data"]: classes, next(paths.enmap.glob("*-SPECTRAL_IMAGE.TIF")): es.read_enmap(paths.enmap).cloud_mask().values}
    rasters = [files["a.tif"]["data"], files["b.img"]["data"], paths.truth, next(paths.enmap.glob("*-SPECTRAL_IMAGE.TIF"))]
    for path, shown, unit in zip(rasters, qgis(*rasters), (1, 1e4, 1, 1), strict=True):
        assert shown["valid"] and shown["type"] == "multibandcolor" and shown["crs"] == "EPSG:32632" or shown["crs"].startswith("EPSG:326"), path
        assert all("Nanometers" in name for name in shown["names"]), shown["names"]
        with rasterio.open(path) as file:
            values = file.read(shown["bands"], masked=True).astype(float) * (1e-4 if unit == 1 else 1)
        values.mask = np.ma.getmaskarray(values) | cloudy.get(path, False)
        for band, (low, high) in zip(values, shown["limits"], strict=True):
            assert np.isclose([low, high], np.percentile(band.compressed(), [2, 98]), rtol=0.05, atol=2e-3 * unit).all(), path
        picture = picture_of(path)
        assert picture.std((0, 1)).min() > 20 and np.abs(picture[..., 0] - picture[..., 2]).mean() > 3      # neither flat nor grey


def picture_of(path):
    with rasterio.open(f"{path}.rendered.png") as file:
        return np.moveaxis(file.read([1, 2, 3]), 0, -1).astype(float)


def test_bands_are_chosen_by_wavelength(qgis, made):
    _, files = made
    for name, wanted in (("a.tif", (640, 550, 470)), ("c.tif", None)):
        (shown,) = qgis(files[name]["data"])
        found = es.open(files[name]["data"]).wavelength.values[np.array(shown["bands"]) - 1]
        assert np.allclose(found, wanted, atol=6) if wanted else found[0] > found[1] > found[2]


def test_classes_have_names_and_colours_and_nothing_is_transparent(qgis, made):
    _, files = made
    (shown,) = qgis(files["a.tif"]["quality"])
    assert shown["type"] == "paletted" and shown["names"] == ["Band 1: class"]
    assert shown["classes"]["0"][2] == 0 and shown["classes"]["1"][:2] == ["sharpened", "#2a7f62"] and shown["classes"]["2"][0].startswith("EnMAP only")
    colours = {tuple(map(int, c)) for c in picture_of(files["a.tif"]["quality"]).reshape(-1, 3)}
    assert (0x2A, 0x7F, 0x62) in colours and (0xE9, 0xA2, 0x3B) in colours


def test_a_style_goes_by_the_list_of_layers(tmp_path):
    from enmap_sharpener.figures.qgis import write_classes
    from enmap_sharpener.sharpening.quality import QUALITY_BANDS, QualityBand
    more = [QualityBand("error", "relative error [%]", "", "%"), *QUALITY_BANDS, QualityBand("source", "source", "")]
    assert 'band="2"' in write_classes(tmp_path / "a.qml", more).read_text()
