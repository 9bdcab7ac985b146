"""A result as an EnMAP product: what its readers ask for, on the real form of each; and what is refused."""
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio

import enmap_sharpener as es
from enmap_sharpener.core.errors import BandError, OutputError
from enmap_sharpener.scenes.enmap import QUALITY_LAYERS

SNAP = re.compile(r"ENMAP\d{2}-____L2A-DT.{10}_\d{8}T\d{6}Z_.{3}_V.{6}_\d{8}T\d{6}Z")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    paths = es.simulate(tmp_path_factory.mktemp("in"), size=40, seed=2, clouds=True)
    return es.read_enmap(paths.enmap), es.read_sentinel2(paths.sentinel2)


def write(sources, folder, bands=None, name="out.tif", **options):
    scene, guide = sources
    return es.write_scene(es.sharpen(scene, guide, "cubic", bands=bands), folder / name, scene=scene, guide=guide, product=folder / "products", **options)


@pytest.fixture(scope="module")
def made(sources, tmp_path_factory):
    return write(sources, tmp_path_factory.mktemp("out"))


def test_the_package_reads_it_as_a_scene(sources, made):
    scene, again, cube = sources[0], es.read_enmap(made["product"]), es.open(made["data"])
    np.testing.assert_allclose(again.cube.values, cube.values, atol=1e-7)
    assert again.metadata.id == scene.metadata.id and again.metadata.start == scene.metadata.start and again.cube.rio.resolution() == (10, -10)
    assert (again.bands.detector == scene.bands.detector).all() and np.allclose(again.bands.wavelength, scene.bands.wavelength)
    assert set(again.quality) == set(scene.quality) == set(QUALITY_LAYERS) and not again.assumptions


def test_quality_layers_say_what_enmap_says_there(sources, made):
    scene, again = sources[0], es.read_enmap(made["product"])
    for name in ("classes", "cloud", "cloudshadow", "pixelmask"):
        layer = again.quality[name]
        wanted = scene.quality[name].sel(x=layer.x + 1e-3, y=layer.y - 1e-3, method="nearest")
        np.testing.assert_array_equal(layer.values, wanted.values, err_msg=name)
    assert again.cloud_mask().values.any() and not again.cloud_mask().values.all()


def test_snap_finds_ten_files_by_their_names(made):
    names = sorted(p.name for p in made["product"].iterdir())
    assert len(names) == 10 and all(SNAP.match(name) for name in names) and SNAP.fullmatch(made["product"].name)
    assert {SNAP.sub("", name) for name in names} == {"-METADATA.XML", "-SPECTRAL_IMAGE.TIF", *(f"-{layer.file}.TIF" for layer in QUALITY_LAYERS.values())}
    root = ElementTree.parse(next(made["product"].glob("*-METADATA.XML"))).getroot()
    assert root.findtext("processing/productFormat") == "GeoTIFF+Metadata" and len(root.findtext("metadata/name")) >= 74
    assert sorted(e.text for e in root.iterfind("product/productFileInformation/file/name")) == names
    for angle in ("sunElevationAngle", "sunAzimuthAngle", "acrossOffNadirAngle", "alongOffNadirAngle", "sceneAzimuthAngle"):
        assert all(np.isfinite(float(root.findtext(f"specific/{angle}/{corner}"))) for corner in ("upper_left", "upper_right", "lower_right", "lower_left"))


def test_enmap_box_imports_it(made):
    "What its importer reads: 3.13 and later, and 3.12 (smileCorrection)."
    xml = next(made["product"].glob("ENMAP*L2A*METADATA.XML"))
    assert xml.with_name(xml.name.replace("-METADATA.XML", "-SPECTRAL_IMAGE.TIF")).is_file()
    root = ElementTree.parse(xml).getroot()
    column = lambda tag: [float(e.text) for e in root.findall(f"specific/bandCharacterisation/bandID/{tag}")]
    wavelength = column("wavelengthCenterOfBand")
    assert wavelength == sorted(wavelength) and len(wavelength) == len(column("FWHMOfBand")) == len(column("GainOfBand")) == len(column("OffsetOfBand")) == 224
    vnir, swir = ([int(n) for n in root.findtext(f"specific/{d}ProductQuality/expectedChannelsList").split(",")] for d in ("vnir", "swir"))
    assert sorted(vnir + swir) == list(range(1, 225))
    assert wavelength[swir[0]] > wavelength[vnir[0]] and wavelength[vnir[-1]] > 0     # it takes the numbers, which count from 1, for places, which count from 0
    statistics = root.findall("product/bandStatistics/bandID")
    assert len(statistics) == 224 and all(e.find("mean") is not None and e.find("stdDeviation") is not None for e in statistics)
    smile = [float(e.text) for e in root.findall("product/smileCorrection/VNIR/bandID/wavelength")]
    assert smile == [wavelength[n - 1] for n in vnir]


def test_hypercoast_opens_it(made):
    hypercoast = pytest.importorskip("hypercoast")
    cube = hypercoast.read_enmap(str(next(made["product"].glob("*SPECTRAL_IMAGE.TIF"))))
    np.testing.assert_allclose(cube.wavelength, es.open(made["data"]).wavelength, atol=0.01)


def test_a_part_of_the_bands_and_another_format(sources, tmp_path):
    files = write(sources, tmp_path, "40-130", "out.img")
    again = es.read_enmap(files["product"])
    assert len(again.bands) == 91 and again.quality["pixelmask"].shape[0] == 91
    with rasterio.open(next(files["product"].glob("*SPECTRAL_IMAGE.TIF"))) as file:
        assert file.count == 91


def test_what_is_refused_leaves_nothing(sources, tmp_path):
    with pytest.raises(BandError, match="SWIR is missing"):
        write(sources, tmp_path, "600-700nm")
    scene, guide = sources
    last = len(scene.bands)
    with pytest.raises(BandError, match="two bands of the SWIR or more"):      # at which EnMAP-Box's importer ends with an IndexError
        write(sources, tmp_path, f"1-10,{last}")
    with pytest.raises(OutputError, match="is the scene itself"):
        es.write_scene(es.sharpen(scene, guide, "cubic"), tmp_path / "out.tif", scene=scene, guide=guide, product=scene.source.parent, overwrite=True)
    assert not list(tmp_path.iterdir())
    (tmp_path / "products" / scene.metadata.id).mkdir(parents=True)
    with pytest.raises(OutputError, match="exists already.*--overwrite"):
        write(sources, tmp_path)
    assert write(sources, tmp_path, "40-130", overwrite=True)["product"].is_dir()


def test_the_command(sources, tmp_path, capfd):
    from enmap_sharpener.cli.app import main
    arguments = ["sharpen", str(sources[0].source), "--method", "cubic", "--output", str(tmp_path / "out.tif"), "--product", str(tmp_path / "p")]
    assert main([*arguments, "--bands", "600-700nm"]) == 2
    told = capfd.readouterr().err
    assert "both detectors" in told and told.count("\n") == 1 and not list(tmp_path.iterdir())
    assert main([*arguments, "--bands", "40-130"]) == 0
    assert es.read_enmap(tmp_path / "p").metadata.id == sources[0].metadata.id
