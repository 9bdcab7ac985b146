"""The simulated scene: it is what it says it is."""
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import rasterio
import xarray as xr

from enmap_sharpener.core.errors import GridError, OutputError, RequestError
from enmap_sharpener.core.files import is_unfinished
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.simulation.landscape import landscape
from enmap_sharpener.simulation.materials import KINDS, MATERIALS
from enmap_sharpener.simulation.scene import (
    Simulation,
    enmap_image,
    enmap_quality,
    scene_metadata,
    sentinel2_classes,
    sentinel2_images,
    simulate,
    simulate_pair,
    truth_image,
)
from enmap_sharpener.simulation.sensors import enmap_bands, noise_sigma

SIZE = (26, 41)   # neither square nor even
CALM = dict(change=0.0, noise=0.0)


@pytest.fixture(scope="module")
def pair():
    """Scene, Sentinel-2 and truth with EnMAP's noise but nothing between the two days, and without nodata corners."""
    return simulate_pair(SIZE, seed=1, shift=(0.6, -1.3), swir_shift=(0.0, 0.3), blur=15.0, rotation=0.0, change=0.0)


@pytest.mark.slow
def test_landscape_has_some_of_everything():
    land = landscape((120, 120), seed=2)
    kinds = {KINDS[k] for k in land.kind[np.unique(land.objects)]}
    assert {"wheat", "maize", "road", "garden", "roof tile"} <= kinds
    water = land.abundances()[..., [n.startswith("water") for n in MATERIALS]].sum(-1)
    assert 0.01 < (water > 0.5).mean() < 0.4
    assert land.abundances().min() >= 0


def test_same_seed_same_scene_other_seed_other_scene():
    a, b, c = (simulate_pair(12, seed) for seed in (3, 3, 4))
    for x, y in zip(a[:2], b[:2]):
        for name in ("cube",) if hasattr(x, "cube") else ("bands10", "bands20", "scl"):
            xr.testing.assert_identical(getattr(x, name).compute(), getattr(y, name).compute())
    xr.testing.assert_identical(a[2].compute(), b[2].compute())
    assert np.abs(a[2] - c[2]).mean() > 0.01


def test_mountains_are_the_same_for_both_sensors_but_for_the_light():
    """Chunks do not matter; the truth is lit as EnMAP's image is, Sentinel-2's from elsewhere, which darkens some slopes and brightens others; snow is bright, and called so."""
    flat, high = (Simulation((61, 50), seed=5, change=0.0, noise=0.0, relief=relief) for relief in (0, 1200))
    truth = truth_image(high, chunk=16).compute()
    xr.testing.assert_equal(truth, truth_image(high).compute())
    scene, guide = enmap_image(high).compute(), sentinel2_images(high)[0].compute()
    assert abs(float(scene[47].mean() / truth[47].mean()) - 1) < 0.03
    red = int(np.abs(truth.wavelength.values - 665).argmin())
    lit = (guide[2].values / truth[red].values)[np.isfinite(truth[red].values)]
    assert (lit < 0.95).mean() > 0.02 and (lit > 1.05).mean() > 0.02
    level = sentinel2_images(flat)[0].compute()[2].values / truth_image(flat).compute()[red].values
    assert np.nanstd(level) < 0.5 * np.nanstd(lit)      # what differs is the light, not the bands
    snow = np.repeat(np.repeat(sentinel2_classes(high).values == 11, 2, 0), 2, 1)
    assert snow.any() and np.median(guide[0].values[snow]) > 3 * np.median(guide[0].values[~snow]) and not (sentinel2_classes(flat).values == 11).any()


@pytest.mark.parametrize("make", [enmap_image, truth_image, lambda s, **k: sentinel2_images(s, **k)[0],
                                  lambda s, **k: sentinel2_images(s, **k)[1]])
def test_does_not_depend_on_the_chunks(make):
    simulation = Simulation(SIZE, seed=5, clouds=True, sentinel2_clouds=True)
    whole, parts = make(simulation), make(simulation, chunk=17)
    assert parts.data.npartitions > 3
    np.testing.assert_allclose(whole.values, parts.values, atol=1e-6)


def test_noise_does_not_depend_on_the_chunks_across_its_tiles():
    simulation = Simulation((10, 140), seed=5)
    np.testing.assert_allclose(enmap_image(simulation).values, enmap_image(simulation, chunk=90).values, atol=1e-6)


@pytest.mark.parametrize("detector, shift", [("VNIR", (0.6, -1.3)), ("SWIR", (0.6, -1.0))])
def test_degraded_truth_is_enmap(pair, detector, shift):
    """The observation operators of the package, written independently of the simulation, see the truth as EnMAP does."""
    scene, _, truth = pair
    own = (scene.bands.detector == detector) & scene.bands.good
    seen = Observation.between(Grid.of(scene.cube), Grid.of(truth), sigma=0.5, shift=shift).degrade(np.nan_to_num(truth.values[own]))
    inner = (slice(None), slice(6, -6), slice(6, -6))    # beyond the truth there is none, and the simulation sees further
    residual = (seen - scene.cube.values[own])[inner] / noise_sigma(seen, scene.bands.take(own))[inner]
    assert 0.9 < residual.std() < 1.1
    assert abs(residual.mean()) < 0.05


def test_sentinel2_is_the_response_of_the_truth():
    _, sentinel2, truth = simulate_pair(SIZE, seed=1, rotation=0.0, **CALM)
    seen = np.isfinite(truth[0].values)
    weights = SENTINEL2.finest.responses(truth.wavelength.values, good=enmap_bands().good)
    expected = np.tensordot(weights, np.nan_to_num(truth.values), 1)[:, seen]
    np.testing.assert_allclose(sentinel2.bands10.values[:, seen], expected, atol=0.015)
    assert np.sqrt(np.mean((sentinel2.bands10.values[:, seen] - expected) ** 2)) < 0.003
    weights = SENTINEL2.coarser.responses(truth.wavelength.values, good=enmap_bands().good)
    fine = np.tensordot(weights, np.nan_to_num(truth.values), 1)
    coarse = Observation.between(Grid.of(sentinel2.bands20), Grid.of(truth), sigma=0.5).degrade(fine)
    inner = (slice(None), slice(8, -8), slice(8, -8))
    assert np.sqrt(np.mean((sentinel2.bands20.values - coarse)[inner] ** 2)) < 0.004


def test_change_is_what_was_asked_for():
    calm, changed = (sentinel2_images(Simulation(SIZE, seed=1, change=c, noise=0.0))[0].values for c in (0.0, 1.0))
    ratio = np.median(changed / calm, axis=(1, 2))
    assert 0.005 < np.abs(ratio - 1).mean() < 0.2
    assert np.corrcoef(calm[2].ravel(), changed[2].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("size", [20, 33, (12, 50), (50, 12)])
def test_grids(size):
    scene, sentinel2, truth = simulate_pair(size, seed=1, **CALM)
    west, south, east, north = Grid.of(scene.cube).bounds
    assert [west % 30, north % 30] == [15, 15]
    for image, step in ((sentinel2.bands10, 10), (sentinel2.bands20, 20), (sentinel2.scl, 20)):
        grid = Grid.of(image)
        assert (grid.rows.step, [b % 20 for b in grid.bounds]) == (step, [0] * 4)
        assert grid.bounds[0] <= west - 60 and grid.bounds[1] <= south - 60 and grid.bounds[2] >= east + 60 and grid.bounds[3] >= north + 60
    assert Grid.of(truth) == Grid.of(sentinel2.bands10)
    assert scene.cube.shape[1:] == tuple(np.broadcast_to(size, 2))


def test_nodata_corners_and_empty_bands():
    scene, _, truth = simulate_pair(40, seed=1)
    measured = np.isfinite(scene.cube.values)
    assert not measured[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert measured[0, 20, 20] and 0.6 < measured[0].mean() < 0.8
    assert list(scene.bands.number[~measured.any((1, 2))]) == [131, 132, 133, 134, 135]
    assert (measured[scene.bands.good] == measured[0]).all()
    known = np.isfinite(truth[0])
    nearest = scene.cube[0].sel(x=truth.x, y=truth.y, method="nearest")
    assert np.isfinite(nearest.values[known.values]).all() and known.sum() > 8 * measured[0].sum()
    assert list(truth.band.values[~np.isfinite(truth).any(("y", "x")).values]) == [131, 132, 133, 134, 135]


def test_clouds_and_quality_layers():
    settings = dict(size=60, seed=2, rotation=0.0, **CALM)
    clear, cloudy = Simulation(**settings), Simulation(**settings, clouds=True, sentinel2_clouds=True)
    quality = enmap_quality(cloudy)
    assert set(np.unique(quality["classes"])) <= {1, 2} and (quality["classes"] == 2).any()
    difference = enmap_image(cloudy)[20].values - enmap_image(clear)[20].values
    assert (difference[quality["cloud"] == 1] > 0.05).mean() > 0.9
    assert (difference[quality["cloudshadow"] == 1] < 0).mean() > 0.9
    untouched = (quality["cloud"] + quality["cloudshadow"] + quality["haze"]) == 0
    assert np.abs(difference[untouched]).max() < 0.1 and quality["cloud"].any() and quality["cloudshadow"].any()
    scl, was = sentinel2_classes(cloudy).values, sentinel2_classes(clear).values
    assert {3, 8, 9} <= set(np.unique(scl)) and not {3, 8, 9} & set(np.unique(was))
    assert not any(layer.any() for name, layer in enmap_quality(clear).items() if name != "classes")


def test_files_hold_what_is_in_memory(tmp_path):
    told = []
    paths = simulate(tmp_path, SIZE, seed=1, progress=lambda done, total: told.append((done, total)))
    scene, sentinel2, truth = simulate_pair(SIZE, seed=1)
    read, guide = read_enmap(paths.enmap), read_sentinel2(paths.sentinel2)
    np.testing.assert_array_equal(read.cube.values, scene.cube.values)
    np.testing.assert_array_equal(guide.bands10.values, sentinel2.bands10.values)
    np.testing.assert_array_equal(guide.bands20.values, sentinel2.bands20.values)
    np.testing.assert_array_equal(guide.scl.values, sentinel2.scl.values)
    np.testing.assert_array_equal(read.bands.wavelength, scene.bands.wavelength)
    np.testing.assert_array_equal(read.bands.vnir, scene.bands.vnir)
    np.testing.assert_array_equal(read.quality["classes"].values, scene.quality["classes"].values)
    assert read.metadata.id == scene.metadata.id == paths.enmap.name
    assert (guide.date - read.metadata.start).days == 9
    with rasterio.open(paths.truth) as file:
        np.testing.assert_array_equal(np.where(file.read() == -32768, np.nan, file.read() * np.float32(1e-4)), truth.values)
        assert float(file.tags(1)["wavelength"]) == scene.bands.wavelength[0]
    assert json.loads(paths.settings.read_text())["shift"] == [0.2, -0.1]
    assert told[-1][0] == told[-1][1] == len(told)


def test_without_truth_and_over_an_earlier_one(tmp_path):
    simulate(tmp_path, 12)
    with pytest.raises(OutputError, match="exists already"):
        simulate(tmp_path, 12)
    paths = simulate(tmp_path, 12, truth=False, overwrite=True)
    assert paths.truth is None and not (tmp_path / "truth.tif").exists() and paths.enmap.is_dir()


def test_interrupting_leaves_nothing(tmp_path):
    def stop(done, total):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "new", 12, progress=stop)
    assert not (tmp_path / "new").exists()


def test_a_file_that_cannot_be_replaced_leaves_the_earlier_simulation(tmp_path, monkeypatch):
    paths, replace = simulate(tmp_path, 12), os.replace
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    def stop(a, b):
        if str(b) == str(paths.settings):
            raise PermissionError(13, "Permission denied")
        replace(a, b)
    with monkeypatch.context() as patch, pytest.raises(OutputError, match="cannot be written"):
        patch.setattr(os, "replace", stop)
        simulate(tmp_path, 12, noise=0.0, overwrite=True)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_what_a_kill_leaves_is_known_and_swept(tmp_path):
    killed = "import os, signal, sys; from enmap_sharpener import simulate; simulate(sys.argv[1], 12, progress=lambda done, total: os.kill(os.getpid(), signal.SIGKILL))"
    assert subprocess.run([sys.executable, "-c", killed, str(tmp_path)]).returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert left and all(map(is_unfinished, left))


@pytest.mark.parametrize("settings", [dict(size=9), dict(size=(50, 5)), dict(shift=(2.6, 0)), dict(blur=0.0), dict(blur=25)])
def test_settings_out_of_range(settings):
    with pytest.raises(GridError):
        Simulation(**settings)


def test_band_table_is_that_of_a_real_scene(shared):
    from xml.etree import ElementTree
    bands = ElementTree.parse(shared / "data/response/enmap_wavelength.xml").getroot().findall(".//bandID")
    for tag, ours, tolerance in (("wavelengthCenterOfBand", enmap_bands().wavelength, 0.5), ("FWHMOfBand", enmap_bands().fwhm, 0.3)):
        np.testing.assert_allclose(ours, [float(b.findtext(tag)) for b in bands], atol=tolerance)


def test_a_seed_that_the_identifier_cannot_tell_is_refused():
    assert "DT9999999999_" in scene_metadata(Simulation(20, 9_999_999_999)).id
    for seed in 10**10, 99999999999999999999:
        with pytest.raises(RequestError, match=f"seed {seed}; .*the seed from 0 to 9999999999"):
            Simulation(20, seed)
