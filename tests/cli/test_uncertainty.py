"`uncertainty` as a user meets it: from a result to a raster of half widths."
import numpy as np
import pytest
import rasterio
from products import both

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.raster import NODATA


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    "A tiny result and its folder."
    folder = tmp_path_factory.mktemp("result")
    scene = both(folder)
    assert main(["sharpen", str(scene), "--sentinel2", str(folder / "s2"), "--output", str(folder / "out.tif"), "--quiet"]) == 0
    return folder


@pytest.mark.parametrize("level, bands", [(68, None), (95, "3-5")])
def test_grid_bands_and_nodata_are_those_of_the_result(result, level, bands):
    output = result / f"half{level}.tif"
    assert main(["uncertainty", str(result / "out.tif"), "--level", str(level), "--output", str(output), "--quiet", *(["--bands", bands] if bands else [])]) == 0
    with rasterio.open(output) as half, rasterio.open(result / "out.tif") as cube:
        index = list(range(3, 6)) if bands else list(cube.indexes)
        assert (half.crs, half.transform, half.shape, half.nodata, half.dtypes[0]) == (cube.crs, cube.transform, cube.shape, cube.nodata, "int16")
        assert [half.tags(i)["wavelength"] for i in half.indexes] == [cube.tags(i)["wavelength"] for i in index]
        values, there = half.read(), cube.read(index) != NODATA
        np.testing.assert_array_equal(values != NODATA, there)
        assert (values[there] >= 1).all()


def test_wider_at_95_than_at_68_and_less_if_only_likely(result):
    for name, options in {"a": ["--level", "68"], "b": ["--level", "95"], "c": ["--level", "95", "--likely"]}.items():
        assert main(["uncertainty", str(result / "out.tif"), "--output", str(result / f"{name}.tif"), "--quiet", *options]) == 0
    a, b, c = (rasterio.open(result / f"{name}.tif").read(40).astype(float) for name in "abc")
    held = a > 20
    assert 2.2 < np.median(b[held] / a[held]) < 2.8 and 1.1 < np.median(b[held] / c[held]) < 1.3


@pytest.mark.parametrize("spoil, said", [
    (lambda folder: ["out.tif", "--level", "90"], "68 and 95"),
    (lambda folder: ["out.tif", "--bands", "900000nm"], "matches no band"),
    (lambda folder: (folder / "out_errors.csv").unlink() or ["out.tif"], "out_errors.csv: not there"),
    (lambda folder: (folder / "out_errors.csv").write_text("band\nnothing\n") and ["out.tif"], "not a table of errors"),
    (lambda folder: (folder / "out_quality.tif").unlink() or ["out.tif"], "out_quality.tif"),
    (lambda folder: ["other.tif"], "other.tif"),
])
def test_what_is_missing_is_told_in_one_line(result, tmp_path, capfd, spoil, said):
    import shutil
    folder = shutil.copytree(result, tmp_path / "copy")
    name, *options = spoil(folder)
    capfd.readouterr()
    assert main(["uncertainty", str(folder / name), "--output", str(folder / "half.tif"), *options]) == 2
    out, err = capfd.readouterr()
    assert said in err and err.strip().count("\n") == 0 and not (folder / "half.tif").exists()


def test_left_out_on_request(result, tmp_path, capfd):
    arguments = ["sharpen", str(next(result.glob("ENMAP*"))), "--sentinel2", str(result / "s2"), "--output", str(tmp_path / "out.tif"), "--quiet"]
    assert main(arguments) == 0 and (tmp_path / "out_errors.csv").is_file()
    assert main([*arguments, "--no-uncertainty", "--overwrite"]) == 0
    assert not (tmp_path / "out_errors.csv").exists()      # of the earlier result
    with rasterio.open(tmp_path / "out_quality.tif") as file:
        assert file.count == 2
    capfd.readouterr()
    assert main(["uncertainty", str(tmp_path / "out.tif"), "--output", str(tmp_path / "half.tif")]) == 2
    assert "--no-uncertainty" in capfd.readouterr().err


def test_what_appears_meanwhile_is_not_replaced(result, tmp_path, monkeypatch, capfd):
    from enmap_sharpener.reconstruction import uncertainty
    window, output = uncertainty.ErrorsOnDisk.window, tmp_path / "half.tif"
    monkeypatch.setattr(uncertainty.ErrorsOnDisk, "window", lambda *given: output.write_text("another's") and window(*given))
    assert main(["uncertainty", str(result / "out.tif"), "--output", str(output), "--quiet"]) == 2
    assert "half.tif: has appeared meanwhile" in capfd.readouterr().err and output.read_text() == "another's" and list(tmp_path.iterdir()) == [output]


def test_empty_bands_are_told_before_anything_is_computed(tmp_path, capfd, monkeypatch):
    "By `sharpen` and by `uncertainty`, and in Python when they are written."
    import enmap_sharpener as es
    from enmap_sharpener.core.errors import NoValidPixels
    made, said = es.simulate(tmp_path / "s", size=24, truth=False), "the bands that are asked for (131, 132, 133) are empty in this scene; choose others (--bands)"
    scene, guide = es.read_enmap(made.enmap), es.read_sentinel2(made.sentinel2)
    with pytest.raises(NoValidPixels, match="x.tif: the bands that are asked for .131, 132. are empty"):
        es.write_scene(es.sharpen(scene, guide, "cubic", bands="131-132"), tmp_path / "x.tif", scene=scene, guide=guide)
    assert main(["sharpen", str(made.enmap), "--output", str(tmp_path / "out.tif"), "--quiet"]) == 0
    monkeypatch.setattr("enmap_sharpener.cli.sharpen.sharpen_scene", None)
    for command in (["sharpen", str(made.enmap)], ["uncertainty", str(tmp_path / "out.tif")]):
        assert main([*command, "--bands", "131-133", "--output", str(tmp_path / "new.tif")]) == 2
        err = capfd.readouterr().err
        assert said in err and err.count("\n") == 1 and not (tmp_path / "new.tif").exists()
