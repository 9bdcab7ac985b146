"""Indices from any bands and grids against plain formulas; references of other sensors, formats, pixel sizes; bad input."""
import re

import numpy as np
import pandas as pd
import pytest
import rasterio
from cubes import cube, write
from products import SCENE_ID, product
from rasterio.transform import from_origin

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import BandError, GridError, NoValidPixels
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.evaluation import vegetation
from enmap_sharpener.evaluation.vegetation import INDICES, compare_indices, index_figure
from enmap_sharpener.scenes.cubes import read_cube

WAVELENGTH = np.r_[np.arange(430, 1000, 8.0), np.arange(1000, 2400, 12.0)]


def ground(ny, nx, step=10.0, wavelength=WAVELENGTH, x0=366000.0, y0=5806000.0):
    "Vegetation whose density runs from west to east, over soil; smooth, so that pixels of any size see nearly the same."
    x = (x0 - 366000.0 + step * (np.arange(nx) + 0.5)) / 900
    green = np.interp(wavelength, [400, 550, 670, 720, 800, 1300, 1600, 2200], [0.03, 0.08, 0.03, 0.2, 0.45, 0.4, 0.2, 0.1])
    soil = np.interp(wavelength, [400, 1000, 2400], [0.1, 0.25, 0.35])
    values = green[:, None] * x + soil[:, None] * (1 - x)
    return cube(np.broadcast_to(values[:, None], (len(wavelength), ny, nx)).astype("f4").copy(), wavelength, x0, y0, step)


def expected(grid_x):
    "The three indices at eastings, from spectra as B03, B04, B08, B11 nearly see them."
    x = (np.asarray(grid_x) - 366000.0) / 900
    nm = np.array([559.8, 664.6, 832.8, 1613.7])
    green = np.interp(nm, [400, 550, 670, 720, 800, 1300, 1600, 2200], [0.03, 0.08, 0.03, 0.2, 0.45, 0.4, 0.2, 0.1])
    g, r, n, s = green[:, None] * x + np.interp(nm, [400, 1000, 2400], [0.1, 0.25, 0.35])[:, None] * (1 - x)
    return {"NDVI": (n - r) / (n + r), "GNDVI": (n - g) / (n + g), "NDII": (n - s) / (n + s)}


@pytest.fixture
def three():
    "A sharpened cube, its EnMAP scene (30 m, at another phase), and a reference of the same bands."
    return ground(66, 90), ground(24, 31, 30.0, x0=365985.0, y0=5806015.0), ground(50, 61, x0=366100.0, y0=5805900.0)


def test_indices_are_the_formulas(three):
    maps, table = compare_indices(*three)
    assert list(maps) == list(INDICES) and list(maps.source.values) == ["EnMAP", "sharpened", "reference"] and maps.NDVI.shape == (3, 50, 61)
    for name, values in expected(maps.x.values).items():
        assert np.abs(maps[name].values - values)[..., 5:-5].max() < 0.03
    assert (table.mse < 1e-4).all() and (table.pixels == 50 * 61).all() and table.mse.xs("sharpened", level=1).max() < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("step", [0.5, 2.5, 4.0, 10.0, 12.0, 20.0, 30.0, 45.0])
def test_references_of_any_pixel_size(three, step, monkeypatch):
    n = int(300 / step)
    reference = ground(n, n, step, x0=366200.0 + step / 3, y0=5805700.0 - step / 4)
    maps, table = compare_indices(three[0], three[1], reference)
    assert maps.NDVI.rio.transform().a == max(step, 10.0) and np.isfinite(maps.NDVI).mean() > 0.6
    for name, values in expected(maps.x.values).items():
        assert np.nanmax(np.abs(maps[name].values - values)) < 0.03
    if step < 10:
        monkeypatch.setattr(vegetation, "windows", lambda shape, size=256: [(slice(y, min(y + 5, shape[0])), slice(x, min(x + 7, shape[1]))) for y in range(0, shape[0], 5)
                                                                           for x in range(0, shape[1], 7)])
        assert np.allclose(compare_indices(three[0], three[1], reference)[0].NDVI, maps.NDVI, atol=1e-6, equal_nan=True)


def test_sensors_with_few_broad_bands_give_what_they_can(three):
    camera = ground(50, 61, wavelength=np.array([480.0, 545, 660, 850]), x0=366100.0, y0=5805900.0)
    maps, table = compare_indices(three[0], three[1], camera)
    assert list(maps) == ["NDVI", "GNDVI"] and (table.mse < 1e-3).all()
    for wavelength, words in (([1000.0, 1250], "no band"), ([540.0, 660], "none of NDVI")):
        with pytest.raises(BandError, match=words):
            compare_indices(three[0], three[1], ground(50, 61, wavelength=np.array(wavelength), x0=366100.0, y0=5805900.0))


def test_broad_bands_are_not_made_of_what_hardly_covers_them(three, caplog):
    "Of these bands one lies beside the near infrared, and one fills a ninth of the short-wave infrared."
    few = np.array([463.6, 664.6, 748.9, 1620.4])
    for width, told in ((10.5, "none of NDVI"), (np.nan, "none of NDVI")):
        with pytest.raises(BandError, match=told):
            compare_indices(ground(66, 90, wavelength=few).assign_coords(fwhm=("band", np.full(4, width))), *three[1:])
    some = np.r_[few, 795.0, 815, 835, 855, 875]
    maps, _ = compare_indices(ground(66, 90, wavelength=some).assign_coords(fwhm=("band", np.full(9, 10.5))), *three[1:])
    assert list(maps) == ["NDVI"] and "NDII is left out: sharpened without its bands" in caplog.text
    landsat = ground(66, 90, wavelength=np.array([561.4, 654.6, 864.7, 1608.9])).assign_coords(fwhm=("band", [57.3, 37.5, 28.3, 84.7]))
    assert list(compare_indices(*three[:2], landsat)[0]) == ["NDVI", "GNDVI", "NDII"]


def test_nodata_of_each_is_left_out(three):
    output, scene, reference = (c.copy() for c in three)
    output[:, :20] = np.nan
    scene[:, :, 20:] = np.nan
    reference[:, 40:] = np.nan
    output[30] = np.nan                                       # an empty band among those of a response
    maps, table = compare_indices(output, scene, reference)
    held = np.isfinite(maps.NDVI.values)
    assert (held.all(0) == held.any(0)).all() and (table.pixels == held[0].sum()).all() and 0 < held[0].mean() < 0.7
    assert not held[0, :10].any() and not held[0, 40:].any() and np.nanmax(np.abs(maps.NDVI - expected(maps.x.values)["NDVI"])) < 0.03
    fine = ground(200, 240, 2.5, x0=366100.0, y0=5805900.0)
    fine[:, 100, 120] = np.nan                                # one pixel of 2.5 m takes what sees it, and no more
    hole = np.isnan(compare_indices(three[0], three[1], fine)[0].NDVI.values[2])
    assert 0 < hole[5:-5, 5:-5].sum() < 40


def test_dark_water_has_no_index(three):
    output, scene, reference = three
    reference[:, 10:20] = 0.004
    maps, _ = compare_indices(output, scene, reference)
    assert np.isnan(maps.NDVI[:, 10:20]).all() and np.isfinite(maps.NDVI[:, 25:]).all() and abs(maps.NDVI).max() <= 1


def test_what_cannot_be_compared_is_refused(three):
    output, scene, reference = three
    for images, error, words in (((output, scene, reference.rio.write_crs(32632)), GridError, "reproject"),
                                 ((output, scene.rio.write_crs(32632), reference), GridError, "belong"),
                                 ((output, scene, ground(50, 61, x0=9e5)), GridError, "overlap"),
                                 ((output, scene * np.nan, reference), BandError, "data"),
                                 ((output.where(output.x < 366400), scene, reference.where(reference.x > 366500)), NoValidPixels, "nodata")):
        with pytest.raises(error, match=words) as caught:
            compare_indices(*images)
        assert "\n" not in str(caught.value)


def airborne(shared, path, driver="GTiff"):
    "A real AVIRIS cube, which has no coordinates, laid over the scene of `products` as if its pixels were half a metre."
    with rasterio.open(shared / "data/airborne/aviris_california_15m.tif") as file:
        values, wavelength = file.read(masked=True).filled(-32768), [float(file.tags(i)["wavelength"]) for i in file.indexes]
    tiled = np.tile(np.where(values == -32768, np.nan, values / 1e4), (1, 8, 8))
    write(path, tiled, wavelength if driver == "GTiff" else [], from_origin(366300, 5805900, 0.5, 0.5), driver=driver)
    if driver == "ENVI":
        header = path.with_suffix(".hdr")
        header.write_text(header.read_text() + f"wavelength units = Nanometers\nwavelength = {{{', '.join(map(str, wavelength))}}}\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["GTiff", "ENVI"])
def test_an_airborne_flight_at_half_a_metre(shared, tmp_path, driver):
    path = airborne(shared, tmp_path / ("flight.tif" if driver == "GTiff" else "flight.bsq"), driver)
    reference = read_cube(path)
    maps, table = compare_indices(ground(72, 108), ground(24, 36, 30.0), reference)
    assert list(maps) == list(INDICES) and maps.NDVI.shape == (3, 20, 20)
    r, n = (reference.values[np.abs(reference.wavelength.values - w).argmin()] for w in (665, 833))
    plain = [x[100:300, 100:300].mean() for x in (r, n)]      # whole tiles
    assert np.isclose(float(maps.NDVI[2, 5:15, 5:15].mean()), (plain[1] - plain[0]) / (plain[1] + plain[0]), atol=0.05)


@pytest.mark.slow
def test_command_writes_maps_table_and_pictures(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    product(tmp_path, bands=60)
    for name, step, origin in (("output.tif", 10.0, (366000, 5806140)), ("reference.tif", 5.0, (366210, 5805960))):
        c = ground(60, 80, step, x0=float(origin[0]), y0=float(origin[1]))
        write(tmp_path / name, c.values, WAVELENGTH, from_origin(*origin, step, step))
    arguments = ["indices", "output.tif", "--scene", SCENE_ID, "--reference", "reference.tif", "--output", "out"]
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert re.fullmatch("Comparing …\nSee .*\n", err) and "NDVI" in out and "sharpened" in out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted([f"{n}.{e}" for n in INDICES for e in ("png", "tif")] + ["indices.csv"])
    table = pd.read_csv(tmp_path / "out/indices.csv", index_col=["index", "source"])
    assert set(table) == {"mse", "bias", "r", "pixels"} and table.mse["NDVI", "sharpened"] < table.mse["NDVI", "EnMAP"]
    with rasterio.open(tmp_path / "out/NDVI.tif") as file:
        assert file.descriptions == ("EnMAP", "sharpened", "reference") and file.dtypes[0] == "float32" and file.crs.to_epsg() == 32633
    assert main([*arguments[:4], "--reference", "output.tif", "--output", "output.tif"]) == 2
    assert main([*arguments[:4], "--reference", "none.tif", "--output", "out2"]) == 2
    out, err = capfd.readouterr()
    assert err.replace("Comparing …\n", "").count("\n") == 2 and "none.tif" in err and not (tmp_path / "out2").exists()

    def full(*given, **options):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(vegetation, "write_table", full)      # the last of all, when the maps are there
    assert main([*arguments[:-1], "out2"]) == 2 and "No space left on device" in capfd.readouterr().err and not (tmp_path / "out2").exists(), "nothing stays half-written"


def test_figure_says_what_it_shows(three):
    maps, _ = compare_indices(*three)
    text = " ".join(t.get_text() for axis in index_figure(maps, "NDII").axes for t in (axis.title, axis.yaxis.label))
    assert "EnMAP, interpolated" in text and "MSE" in text and "NDII" in text
    assert Grid.of(maps.NDII).cols == Axis(366100.0, 10.0, 61)
