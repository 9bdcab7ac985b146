"""`sharpen` as a user meets it: bad input, interruptions, pipes, and the whole way from product to output."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from products import SCENE_ID, both, sentinel2

from enmap_sharpener.cli.app import main
from enmap_sharpener.scenes.sentinel2 import write_sentinel2

COMMAND = [sys.executable, "-c", "import sys; from enmap_sharpener.cli.app import main; sys.exit(main())"]
ROOT = Path(__file__).parents[2]
NAMES = ["out-METADATA.XML", "out.json", "out.png", "out.qml", "out.tif", "out_quality.qml", "out_quality.tif"]


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    """A tiny EnMAP product and a Sentinel-2 folder, not to be changed."""
    folder = tmp_path_factory.mktemp("originals")
    both(folder)
    return folder


@pytest.fixture
def inputs(originals, tmp_path):
    """Copies of both, to be spoiled."""
    return Path(shutil.copytree(originals, tmp_path / "in"))


@pytest.fixture
def run(inputs, tmp_path, capfd):
    """Run `sharpen` in this process: status, stdout, stderr but for the line that says what begins."""
    def call(*options, enmap=inputs / SCENE_ID, s2=inputs / "s2", output=tmp_path / "out" / "out.tif", method="cubic"):
        capfd.readouterr()
        status = main(["sharpen", str(enmap), "--sentinel2", *map(str, s2 if isinstance(s2, list) else [s2]), "--output", str(output),
                       *([] if any(o.startswith("--method") for o in options) else ["--method", method]), *options])
        out, err = capfd.readouterr()
        return status, out, re.sub("^Sharpening ENMAP.*\n", "", err, flags=re.M)
    return call


@pytest.fixture
def refused(run, tmp_path):
    """Assert that `sharpen` ends with status 2, one line that has all `words`, and nothing written."""
    def call(*words, options=(), **where):
        status, out, err = run(*options, **where)
        assert status == 2 and out == "" and err.count("\n") == 1 and "Traceback" not in err, (status, out, err)
        for word in words:
            assert word.lower() in err.lower(), err
        assert not (tmp_path / "out").exists()
    return call


def find(folder, part):
    return next(p for p in folder.rglob("*") if part in p.name)


def rewrite(path, change=lambda values: values, **profile):
    """Write a raster anew with other values or another profile."""
    with rasterio.open(path) as file:
        values, old, names = change(file.read()), file.profile, file.descriptions
    path.unlink()
    options = {**old, "count": len(values), "dtype": values.dtype, **profile}
    with rasterio.open(path, "w", **{k: v for k, v in options.items() if v is not None}) as file:
        file.write(values)
        file.descriptions = names[:len(values)]


# ---- the products ------------------------------------------------------------------------------------------------

def test_missing_folders(refused, tmp_path):
    refused("nowhere", "not exist", enmap=tmp_path / "nowhere")
    refused("nowhere", s2=tmp_path / "nowhere")


@pytest.mark.parametrize("part", ["METADATA", "SPECTRAL_IMAGE"])
def test_incomplete_product(refused, inputs, part):
    find(inputs, part).unlink()
    refused(part.replace("_", " ").split()[0])


def test_two_cubes(refused, inputs):
    cube = find(inputs, "SPECTRAL_IMAGE")
    shutil.copy(cube, cube.with_name(cube.name.replace(".TIF", "_COG.TIF")))
    refused("SPECTRAL_IMAGE")


@pytest.mark.parametrize("file", ["SPECTRAL_IMAGE", "sentinel2_10m"])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.9])
def test_truncated_tiff(refused, inputs, file, kept):
    path = find(inputs, file)
    content = path.read_bytes()
    path.write_bytes(content[:int(kept * len(content))])
    refused(path.name)


@pytest.mark.parametrize("file", ["SPECTRAL_IMAGE", "sentinel2_10m"])
def test_corrupt_tiff(refused, inputs, file):
    path = find(inputs, file)
    content = bytearray(path.read_bytes())
    middle = slice(len(content) // 3, len(content) // 3 * 2)
    content[middle] = bytes(range(256)) * (len(content[middle]) // 256) + bytes(len(content[middle]) % 256)
    path.write_bytes(content)
    refused(path.name, method="subspace")


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "ha">' + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 9) for i in range(9)) + b"]>"
ENTITY = b'<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize("spoil, word", [
    (lambda xml: xml[:-20], "well-formed"),
    (lambda xml: b"", "well-formed"),
    (lambda xml: xml.replace(b"L2A</level>", b"L1B</level>").replace(b"ENMAP_L2A<", b"ENMAP_L1B<"), "L1B"),
    (lambda xml: xml.replace(b"<level_X>", ENTITY + b"<level_X>", 1).replace(b"DLR", b"&a;"), "entit"),
    (lambda xml: xml.replace(b"<level_X>", LAUGHS + b"<level_X>", 1).replace(b"DLR", b"&j;"), "entit"),
], ids=["cut", "empty", "level", "external", "laughs"])
def test_bad_xml(refused, inputs, spoil, word):
    path = find(inputs, "METADATA")
    path.write_bytes(spoil(path.read_bytes()))
    refused(path.name, word)


def test_band_count_differs(refused, inputs):
    rewrite(find(inputs, "SPECTRAL_IMAGE"), lambda v: v[:-1])
    refused("79 bands", "80")


@pytest.mark.parametrize("file", ["SPECTRAL_IMAGE", "sentinel2_10m"])
def test_no_crs(refused, inputs, file):
    path = find(inputs, file)
    rewrite(path, crs=None)
    refused(path.name, "coordinate reference system")


def test_nothing_valid(refused, inputs):
    rewrite(find(inputs, "SPECTRAL_IMAGE"), lambda v: np.full_like(v, -32768))
    refused("nodata")


def test_zip_that_climbs_out(refused, inputs, tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (inputs / SCENE_ID).iterdir():
            archive.write(file, f"../{file.name}")
    refused("evil.zip", "leads out of it", enmap=path)


def test_zip_that_is_none(refused, tmp_path):
    path = tmp_path / "no.zip"
    path.write_bytes(b"PK\3\4 nothing")
    refused("no.zip", enmap=path)


def test_good_zip_and_xml(run, inputs, tmp_path):
    path = tmp_path / "good.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in (inputs / SCENE_ID).iterdir():
            archive.write(file, f"{SCENE_ID}/{file.name}")
    assert run(enmap=path)[::2] == (0, "")
    assert run("--overwrite", enmap=find(inputs, "METADATA"))[::2] == (0, "")


# ---- Sentinel-2 --------------------------------------------------------------------------------------------------

def test_another_crs(refused, inputs):
    rewrite(find(inputs, "sentinel2_10m"), crs="EPSG:32632")
    refused("32632", "32633")


def test_no_overlap_says_how_far(refused, inputs):
    path = find(inputs, "sentinel2_10m")
    rewrite(path, transform=rasterio.transform.from_origin(366000 + 25_000, 5806140, 10, 10))
    refused("km")


def test_partial_overlap_is_sharpened_and_said(run, inputs, tmp_path):
    write_sentinel2(inputs / "s2", sentinel2(shape=(72, 54)))
    status, out, err = run()
    assert status == 0 and "covers 4" in err and err.count("\n") == 1
    with rasterio.open(tmp_path / "out/out.tif") as file:
        assert file.width <= 54


def test_missing_bands(refused, inputs):
    write_sentinel2(inputs / "s2", sentinel2())
    rewrite(find(inputs, "sentinel2_10m"), lambda v: v[:3])
    refused("B08")


def test_band_order_is_taken_from_the_names(run, inputs, tmp_path):
    expected = run(method="subspace"), rasterio.open(tmp_path / "out/out.tif").read()
    path = find(inputs, "sentinel2_10m")
    with rasterio.open(path) as file:
        values, profile, names = file.read(), file.profile, file.descriptions
    path.unlink()
    with rasterio.open(path, "w", **profile) as file:
        file.write(values[::-1])
        file.descriptions = names[::-1]
    status, out, err = run("--overwrite", method="subspace")
    if status == 0:
        np.testing.assert_array_equal(rasterio.open(tmp_path / "out/out.tif").read(), expected[1])
    else:
        assert status == 2 and "B08" in err


def test_reflectance_from_0_to_1_is_told_apart(run, inputs, tmp_path):
    run(method="subspace")
    expected = rasterio.open(tmp_path / "out/out.tif").read()
    rewrite(find(inputs, "sentinel2_10m"), lambda v: np.where(v == -32768, np.nan, v / np.float32(1e4)).astype("float32"), nodata=np.nan, predictor=3)
    status, out, err = run("--overwrite", method="subspace")
    assert status == 0
    assert np.abs(rasterio.open(tmp_path / "out/out.tif").read().astype(int) - expected).max() <= 1


def test_guide_is_all_nodata(refused, inputs):
    rewrite(find(inputs, "sentinel2_10m"), lambda v: np.full_like(v, -32768))
    refused("sentinel2_10m", "nodata")


# ---- the output --------------------------------------------------------------------------------------------------

def test_output_exists(run, tmp_path):
    assert run()[::2] == (0, "")
    there = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    status, out, err = run()
    assert status == 2 and "exists" in err and "--overwrite" in err and err.count("\n") == 1
    assert there == {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} and sorted(there) == NAMES
    assert run("--overwrite")[::2] == (0, "")


def test_output_cannot_be_written(refused, tmp_path):
    (tmp_path / "file").touch()
    refused("cannot be written", output=tmp_path / "file" / "out.tif")
    refused("cannot be written", output=Path("/proc/out.tif"))
    refused(".tif", output=tmp_path / "out" / "out.png")


def test_disk_full(inputs, tmp_path):
    resource = pytest.importorskip("resource")
    done = subprocess.run([*COMMAND, "sharpen", inputs / SCENE_ID, "--sentinel2", inputs / "s2", "--output", tmp_path / "out/out.tif", "--method", "cubic"],
                          capture_output=True, text=True, cwd=ROOT,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY)))
    assert done.returncode == 2 and done.stdout == "" and "cannot be written" in done.stderr and done.stderr.count("\n") <= 2     # the first may say what begins
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options, words", [
    (["--bands", "red"], ["red", "450-700nm"]),
    (["--bands", "500-600"], ["500-600"]),
    (["--method=magic"], ["magic", "subspace"]),
    (["--compress", "rar"], ["rar", "zstd"]),
    (["--cpus", "4096"], ["4096"]),
    (["--cpus", "x"], ["x"]),
    (["--mem-limit", "0.1"], ["0.1", "GB"]),
    (["--colour", "red"], ["--colour"]),
])
def test_wrong_options(refused, options, words):
    refused(*words, options=options)


def test_verbose_shows_where(run, tmp_path):
    status, out, err = run("--verbose", enmap=tmp_path / "nowhere")
    assert status == 2 and "Traceback" in err and "ProductError" in err


# ---- what comes out ----------------------------------------------------------------------------------------------

def test_bands_and_cog(run, tmp_path):
    assert run("--bands", "1-3,1000-1050nm", "--format", "cog", "--compress", "deflate", "--cpus", "0", "--mem-limit", "4")[0] == 0
    with rasterio.open(tmp_path / "out/out.tif") as file:
        assert file.count == 5 and file.compression.name == "deflate"
        assert [round(float(file.tags(b)["wavelength"])) for b in file.indexes] == [420, 446, 471, 1010, 1035]
        assert file.descriptions[3].startswith("band 24 ")


def test_evaluate(run, tmp_path, inputs, capfd):
    run(method="subspace")
    output = tmp_path / "out/out.tif"
    assert main(["evaluate", str(output), "--truth", str(output), "--scene", str(inputs / SCENE_ID)]) == 0
    out, err = capfd.readouterr()
    assert err == "Evaluating …\n" and "sam" in out and "agreement" in out and "°" in out


# ---- terminals, pipes, signals -----------------------------------------------------------------------------------

def test_terminal_shows_progress_and_a_summary(inputs, tmp_path):
    pty = pytest.importorskip("pty")
    arguments = [*map(str, COMMAND), "sharpen", str(inputs / SCENE_ID), "--sentinel2", str(inputs / "s2"), "--method", "cubic"]
    for options, shown in ([], True), (["--quiet"], False):
        screen, terminal = pty.openpty()
        child = subprocess.Popen([*arguments, "--output", str(tmp_path / f"{shown}.tif"), *options], stdout=terminal, stderr=terminal, cwd=ROOT)
        os.close(terminal)
        text = b""
        while True:
            try:
                text += os.read(screen, 4096)
            except OSError:
                break
        os.close(screen)
        assert child.wait() == 0
        assert (b"Sharpening" in text and b"80 bands" in text) == shown and (text == b"") != shown, text


SLOW = """
import signal, sys, time
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)      # who runs the tests under nohup has it ignored
from enmap_sharpener.cli import app as cli
from enmap_sharpener.reconstruction import formats
from enmap_sharpener.sharpening import sharpening
formats.TILE = 16
block = sharpening.Sharpened.block
sharpening.Sharpened.block = lambda self, *window: (time.sleep(0.5), block(self, *window))[1]
sys.exit(cli.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "before"), [
    (signal.SIGINT, True), (signal.SIGTERM, False), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, True)))])
def test_interruption_leaves_what_was(inputs, tmp_path, run, number, before):
    out = tmp_path / "out"
    if before:
        run("--bands", "1")
    there = {p.name: p.read_bytes() for p in out.iterdir()} if before else None
    child = subprocess.Popen([sys.executable, "-c", SLOW, "sharpen", inputs / SCENE_ID, "--sentinel2", inputs / "s2", "--output", out / "out.tif",
                              "--method", "cubic", "--overwrite"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not any(out.glob(".unfinished*/*out.tif*")) and time.monotonic() < until and child.poll() is None:
        time.sleep(0.05)
    time.sleep(0.6)
    child.send_signal(number)
    time.sleep(0.1)
    child.send_signal(number)        # impatience must not interrupt the cleaning up
    stdout, stderr = child.communicate(timeout=60)
    assert (child.returncode, stdout, stderr.splitlines()[1:]) == (128 + number, "", ["enmap-sharpener: interrupted"])      # after what has begun
    assert ({p.name: p.read_bytes() for p in out.iterdir()} == there) if before else not out.exists()


# ---- inputs as users have them -----------------------------------------------------------------------------------

def test_the_offset_that_is_given(run, inputs, tmp_path):
    "Numbers with ESA's 1000 in them give the same result with it taken off; other numbers are refused."
    assert run(output=tmp_path / "right.tif")[0] == 0
    rewrite(inputs / "s2/sentinel2_10m.tif", lambda v: np.where(v == -32768, v, v + 1000).astype(v.dtype))
    assert run("--sentinel2-offset", "-1000", output=tmp_path / "same.tif")[0] == 0
    with rasterio.open(tmp_path / "right.tif") as a, rasterio.open(tmp_path / "same.tif") as b:
        np.testing.assert_array_equal(a.read(), b.read())
    assert run("--sentinel2-offset", "1000")[0] == 2


def test_a_partner_that_is_missing(inputs, tmp_path, capfd):
    shutil.make_archive(str(tmp_path / "scenes/a"), "zip", inputs, SCENE_ID)
    assert main(["sharpen", str(tmp_path / "scenes/a.zip"), "--output", str(tmp_path / "out.tif")]) == 2
    err = capfd.readouterr().err
    assert "a.zip: its partner is missing" in err and f"{tmp_path}/scenes/a/sentinel2" in err and err.count("\n") == 1


def test_several_dates(inputs, run, tmp_path):
    """Each further folder is one more date; the quality file tells which was used where, and the item names all."""
    shutil.copytree(inputs / "s2", inputs / "s2b")
    status, out, err = run(s2=[inputs / "s2", inputs / "s2b"], method="subspace")
    assert status == 0, err
    with rasterio.open(tmp_path / "out/out_quality.tif") as file:
        assert file.descriptions[-1] == "which Sentinel-2 image" and file.tags(file.count)["class_2"] == "image 2: s2b"
        assert set(np.unique(file.read(file.count))) <= {0, 1, 2}
    item = json.loads((tmp_path / "out/out.json").read_text())
    assert "the Sentinel-2 bands in s2 and s2b, method" in item["properties"]["processing:lineage"]
    assert sum(link["title"] == "Sentinel-2" for link in item["links"]) == 2 and len(item["properties"]["enmap_sharpener:dates"]) == 2


def test_a_date_given_twice(inputs, refused):
    refused("is given twice; give each date once", s2=[inputs / "s2", inputs / "s2"])


def test_further_dates_beside_the_first_are_found(inputs, tmp_path, capfd):
    for name in ("sentinel2", "sentinel2_2", "sentinel2_10"):
        shutil.copytree(inputs / "s2", inputs / SCENE_ID / name)
    assert main(["sharpen", str(inputs / SCENE_ID), "--output", str(tmp_path / "o.tif"), "--method", "cubic"]) == 0, capfd.readouterr()
    with rasterio.open(tmp_path / "o_quality.tif") as file:
        assert [file.tags(file.count)[f"class_{i}"] for i in (1, 2, 3)] == [f"image {i}: {n}" for i, n in enumerate(("sentinel2", "sentinel2_2", "sentinel2_10"), 1)]


def test_no_cluster_is_looked_for(originals, tmp_path):
    "Dask imports its distributed scheduler wherever it is not told what to compute with."
    code = "import sys; from enmap_sharpener.cli.app import main; status = main(sys.argv[1:]); print(status, 'distributed' in sys.modules)"
    arguments = ["sharpen", originals / SCENE_ID, "--sentinel2", originals / "s2", "--output", tmp_path / "out.tif", "--quiet"]
    told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert told.stdout.split() == ["0", "False"], told.stderr
