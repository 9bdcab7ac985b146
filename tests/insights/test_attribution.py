"A look inside networks: of which the insides are known, and what is refused."
import shutil

import numpy as np
import pandas as pd
import pytest
from networks import network

from enmap_sharpener.cli import app as cli
from enmap_sharpener.insights.attribution import (
    NetworkTile,
    chance,
    extent,
    match_operators,
    occlusion,
    operators,
    receptive_field,
    store_tile,
)
from enmap_sharpener.model.supermapnet import keras, save_model
from enmap_sharpener.preprocessing.tile_store import write_prediction_store, write_wald_store
from enmap_sharpener.simulation.scene import simulate, simulate_pair

PICTURES = {f"{name}.png" for name in ("input", "detail_maps", "main_maps", "kernels", "residual", "occlusion", "field", "network")}


def positive(net):
    "The same with positive weights, so that no effect is cancelled by another."
    for variable in net.trainable_variables:
        if variable.path.endswith("kernel"):
            variable.assign(np.full(variable.shape, 1 / np.prod(variable.shape[:-1]), np.float32))
    return net


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    "A product with its partner, a training and a prediction store, and a network."
    folder = tmp_path_factory.mktemp("insights")
    simulate(folder / "enmap", size=30, seed=1, truth=False)
    scene, guide, _ = simulate_pair((56, 40), seed=2)
    write_wald_store(scene, guide, folder / "wald.zarr", tile=16, stride=13)
    write_prediction_store(scene, guide, folder / "prediction.zarr", tile=24, stride=24)
    save_model(network(), folder / "net.keras")
    return folder


def product(place):
    return next((place / "enmap").glob("ENMAP*"))


def call(model, scene, output):
    return cli.main(["insights", "--model", str(model), "--scene", str(scene), "--output", str(output)])


def refused(capfd, *arguments):
    "What a command that is to fail prints: one line."
    assert call(*arguments) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("enmap-sharpener: ")
    return lines[0]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["product", "prediction.zarr"])
def test_everything_is_written(place, tmp_path, source):
    assert call(place / "net.keras", product(place) if source == "product" else place / source, tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == PICTURES | {"bands.csv", "kernels.csv"}
    bands, kernels = (pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("bands", "kernels"))
    assert len(bands) > 200 and (bands.residual_rms > 0).all() and set(bands.leans_on) <= {"B02", "B03", "B04", "B08"}
    assert len(kernels) == 4 * 6 and kernels.correlation.abs().between(0, 1).all()


def test_no_model(place, tmp_path, capfd):
    assert "no such file" in refused(capfd, tmp_path / "none.keras", product(place), tmp_path / "out")
    (tmp_path / "text.keras").write_text("no model")
    assert "no Keras model" in refused(capfd, tmp_path / "text.keras", product(place), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_kind_of_model(place, tmp_path, capfd):
    keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(1)]).save(tmp_path / "dense.keras")
    assert "of the kind Sequential" in refused(capfd, tmp_path / "dense.keras", product(place), tmp_path / "out")


def test_another_base(place, tmp_path, capfd):
    save_model(network(contract={"base": "subspace"}), tmp_path / "net.keras")
    assert "interpolated" in refused(capfd, tmp_path / "net.keras", place / "wald.zarr", tmp_path / "out")


def test_a_band_that_is_not_there(place, tmp_path, capfd):
    save_model(network(contract={"guide": ("B02", "B03", "B04", "B09")}), tmp_path / "net.keras")
    for source in (product(place), place / "wald.zarr"):
        assert "lacks B09" in refused(capfd, tmp_path / "net.keras", source, tmp_path / "out")


def test_no_scene(place, tmp_path, capfd):
    assert "is not there" in refused(capfd, place / "net.keras", tmp_path / "nowhere", tmp_path / "out")
    refused(capfd, place / "net.keras", tmp_path, tmp_path / "out")


def test_scene_without_partner(place, tmp_path, capfd):
    alone = tmp_path / product(place).name
    shutil.copytree(product(place), alone, ignore=shutil.ignore_patterns("sentinel2"))
    assert "sentinel2" in refused(capfd, place / "net.keras", alone, tmp_path / "out")


def test_empty_stores(place, tmp_path, capfd):
    (tmp_path / "empty.zarr").mkdir()
    assert "no readable store" in refused(capfd, place / "net.keras", tmp_path / "empty.zarr", tmp_path / "out")
    import zarr
    shutil.copytree(place / "prediction.zarr", tmp_path / "masked.zarr")
    zarr.open_group(str(tmp_path / "masked.zarr"), mode="r+")["valid"][:] = False
    assert "has a valid pixel" in refused(capfd, place / "net.keras", tmp_path / "masked.zarr", tmp_path / "out")


def test_output_that_cannot_be(place, tmp_path, capfd):
    (tmp_path / "file").write_text("in the way")
    assert "file" in refused(capfd, place / "net.keras", place / "wald.zarr", tmp_path / "file" / "out")


@pytest.mark.parametrize("channel", range(4))
def test_occlusion_finds_the_channel_that_is_used(place, channel):
    net = positive(network())
    kernel = net.detail[0].conv.kernel
    kernel.assign(np.where(np.arange(4)[:, None] == channel, 0.1, 0) * np.ones(kernel.shape, np.float32))
    change = occlusion(net, store_tile(net, place / "wald.zarr"))
    assert (change[channel] > 0).all() and not np.delete(change, channel, 0).any()


def test_a_lively_tile_without_nodata_is_taken(place):
    tile = store_tile(network(), place / "wald.zarr")
    assert isinstance(tile, NetworkTile) and tile.x.shape == (16, 16, 4) and np.isfinite(tile.cube.values).all()
    assert 0 < tile.guide.values.mean() < 1 and abs(float(tile.cube.sel(band=30).mean()) - float(tile.guide.values[:3].mean())) < 0.2


@pytest.mark.parametrize("size", [3, 4, 5, 9])
@pytest.mark.parametrize("angle", [0, 90, 37, 200])
def test_planted_sobel(size, angle):
    for width in range(3, size + 1, 2):
        x, y = operators(size)["Sobel", width]
        kernel = 3 + 0.2 * (np.cos(np.radians(angle)) * x + np.sin(np.radians(angle)) * y)
        found = match_operators(kernel[:, :, None, None]).iloc[0]
        assert (found.operator, found.width) == ("Sobel", width)
        assert found.correlation == pytest.approx(1) and found.angle == pytest.approx(angle, abs=0.01)


def test_sobel_operators_are_sobels():
    x, y = operators(3)["Sobel", 3]
    np.testing.assert_allclose(x / x.max() * 2, [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(y, x.T)
    laplacian = operators(5)["Laplacian", 3][0]
    assert laplacian[2, 2] == laplacian.min() and abs(laplacian.sum()) < 1e-12


def test_level_and_tiny_kernels_are_like_nothing():
    assert (match_operators(np.ones((5, 5, 1, 2))).correlation == 0).all()
    assert set(match_operators(np.ones((1, 1, 2, 2))).operator) == {"none"}


def test_chance_is_larger_for_smaller_kernels():
    assert 0.5 > np.median(chance(5)) > np.median(chance(9)) > 0.1


@pytest.mark.parametrize("settings", [{}, {"detail_kernels": (3, 3, 3), "main_kernels": ((7, 7, 5), (3, 3, 3), (1, 1, 1), (5, 5, 3))},
                                      {"contract": {"scaling": "reflectance"}}])
def test_receptive_field_is_the_reach_of_positive_weights(settings):
    net = positive(network(**settings))
    field = receptive_field(net)
    pixels = max(extent(change)[0] for change in field.values())
    assert (pixels, extent(field["cube"])[1]) == net.reach
    assert extent(field["cube"], 0.5) < extent(field["cube"])


def test_receptive_field_of_a_network_that_adds_nothing():
    field = receptive_field(network(zero_start=True))
    assert {extent(change) for change in field.values()} == {(0, 0)}
