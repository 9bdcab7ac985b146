"supErMAPnet and its training: faults in the data, stops at any moment, losses that are not finite, other backends, precision."
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import nullcontext
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr

from enmap_sharpener.cli.app import main
from enmap_sharpener.core.errors import ModelError, ProductError
from enmap_sharpener.model.data import Tiles, Variation, check_store, training_stores
from enmap_sharpener.model.supermapnet import Contract, SupErMAPnet, load_model, ops, save_model
from enmap_sharpener.preprocessing.tile_store import write_wald_store
from enmap_sharpener.simulation.scene import simulate_pair
from enmap_sharpener.training import training
from enmap_sharpener.training.training import QUICK, THESIS, losses, train, use_devices

SMALL = {"detail_kernels": (3, 3, 3), "detail_filters": (4, 4, 2), "main_kernels": ((3, 3, 3),) * 4, "main_filters": (4, 4, 4)}
SHORT = replace(QUICK, epochs=3, spectral_window=16, batch_size=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A folder with a training and a validation store."
    folder = tmp_path_factory.mktemp("data")
    write_wald_store(*simulate_pair((60, 70), seed=3)[:2], folder / "a.zarr", tile=12, stride=12)
    write_wald_store(*simulate_pair((50, 50), seed=4)[:2], folder / "b.zarr", tile=12, stride=12, split=1)
    return folder


@pytest.fixture
def data(made, tmp_path):
    "A copy of it that may be damaged."
    subprocess.run(["cp", "-r", made, tmp_path / "data"], check=True)
    return tmp_path / "data"


def damage(store, name, index, value):
    "Change numbers of a store on disk."
    zarr.open_group(str(store), mode="r+")[name][index] = value


@pytest.mark.parametrize(("name", "value", "told"), [
    ("target", 32000, "target reaches from .* to 3.20"), ("hs", -32768, "hs has no data where"), ("ms", -9000, "ms reaches from")])
def test_numbers_that_cannot_be(data, name, value, told):
    for other, number in (("hs", 1000), ("ms", 1000), ("target", 1000), ("valid", True), (name, value)):
        damage(data / "b.zarr", other, (2, 5, 5), number)
    with pytest.raises(ProductError, match=told) as error:
        train(data, data / "x.keras", SHORT, **SMALL)
    assert "b.zarr: tile 2" in str(error.value) and not (data / "x.keras").exists()


def test_zeros_and_small_negatives_are_data(data):
    damage(data / "a.zarr", "target", 0, 0)
    damage(data / "a.zarr", "hs", 0, -50)
    check_store(data / "a.zarr")


def test_wrong_stores(data, tmp_path):
    with pytest.raises(ProductError, match="no training tiles"):
        training_stores(tmp_path / "nothing")
    with pytest.raises(ProductError, match="no readable store"):
        (tmp_path / "empty.zarr").mkdir()
        check_store(tmp_path / "empty.zarr")
    stores = [check_store(p) for p in training_stores(data)]
    with pytest.raises(ModelError, match="takes 'subspace'"):
        Tiles(stores, 0, Contract(base="subspace"))
    with pytest.raises(ModelError, match="fewer than a batch of 999"):
        train(data, tmp_path / "x.keras", replace(SHORT, batch_size=999), **SMALL)
    write_wald_store(*simulate_pair((50, 50), seed=5)[:2], data / "c.zarr", tile=10, stride=10)
    with pytest.raises(ModelError, match="different sizes"):
        train(data, tmp_path / "x.keras", SHORT, **SMALL)


def test_targets_that_are_not_valid_teach_nothing(made):
    store = check_store(made / "a.zarr")
    tiles = Tiles([store], 0, Contract())
    tiles.parts[0][4][0, :4] = False
    inputs, y = tiles.batch([0], np.random.default_rng(0))
    assert np.isnan(y[0, :4]).all() and np.isfinite(y[0, 4:]).all()
    net = SupErMAPnet(**SMALL)
    net.build()
    predicted = net([inputs["x"], inputs["x1"]])
    for name, loss in losses("standard").items():
        other = ops.convert_to_numpy(predicted).copy()
        other[0, :4] += 7
        first, second = float(loss(y, predicted)[0]), float(loss(y, other)[0])
        assert np.isfinite(first) and (name.startswith("ssim") or abs(first - second) < 1e-6)


def test_variation_keeps_cube_and_target_together():
    rng = np.random.default_rng(0)
    cube = rng.random((12, 12, 6)).astype("float32")
    guide = cube[..., :4].copy()
    for _ in range(20):
        x, x1, y = Variation()(rng, guide, cube[..., None], cube)
        assert np.array_equal(x1[..., 0], y) and x.shape == guide.shape
        assert np.corrcoef(x[2:-2, 2:-2].ravel(), y[2:-2, 2:-2, :4].ravel())[0, 1] > 0.7
    x, x1, y = Variation()(rng, guide[:8], cube[:8, ..., None], cube[:8])
    assert x.shape == (8, 12, 4) and y.shape == (8, 12, 6)


@pytest.mark.slow
def test_killed_at_any_moment_the_curve_is_the_same(made, tmp_path):
    code = ("import sys; from pathlib import Path; sys.path[:0] = ['tests', 'tests/training']; from test_training import SHORT, SMALL, replace, train;"
            f"train(Path({str(made)!r}), Path(sys.argv[1]), replace(SHORT, epochs=5), resume=True, progress=lambda n, of: print(n, flush=True), **SMALL)")
    root = Path(__file__).parents[2]
    start = lambda name: subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=root)
    calm = start("calm.keras")
    calm.communicate()
    assert calm.returncode == 0
    rng, kills = np.random.default_rng(1), 0
    for _ in range(3):
        process = start("cut.keras")
        steps = int(rng.integers(3, 14))
        for _line in process.stdout:
            steps -= 1
            if steps < 0:
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
        process.communicate()
        if process.returncode == 0:
            break
        time.sleep(0.1)
    if process.returncode:
        process = start("cut.keras")
        process.communicate()
    assert process.returncode == 0 and kills
    tables = [pd.read_csv(tmp_path / f"{n}.csv").drop(columns="seconds") for n in ("calm", "cut")]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-4)
    np.testing.assert_allclose(*(np.concatenate([w.ravel() for w in load_model(tmp_path / f"{n}.keras").get_weights()]) for n in ("calm", "cut")), atol=1e-5)


@pytest.mark.slow
def test_a_loss_that_is_not_finite(made, tmp_path):
    with pytest.raises(ModelError, match="not finite in four starts"):
        train(made, tmp_path / "x.keras", replace(SHORT, initial_lr=1e30, clip=None, schedule="exponential", loss="mse"), **SMALL)
    assert not (tmp_path / "x.keras").exists()


class Killed(Exception):
    "A stop."


def is_cut(made, output, monkeypatch, recipe):
    "Train so that the first start's loss is not finite, and the second is stopped in its second epoch; the recipe that was trained."
    starts, epoch = [], training._epoch

    def unsteady(run, *rest):
        if run.state["epoch"] == 0:
            starts.append(run.recipe)
        elif len(starts) > 1:
            raise Killed
        return {**epoch(run, *rest), **({"loss": np.nan} if len(starts) == 1 else {})}

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training, "_epoch", unsteady)
        train(made, output, recipe, **SMALL)
    return starts[1]


def test_a_run_that_started_again_goes_on(made, tmp_path, monkeypatch):
    second = is_cut(made, tmp_path / "x.keras", monkeypatch, SHORT)
    assert second == replace(SHORT, base=second.base, seed=1000)
    train(made, tmp_path / "x.keras", SHORT, resume=True, **SMALL)
    train(made, tmp_path / "calm.keras", second, **SMALL)
    tables = [pd.read_csv(tmp_path / f"{n}.csv").drop(columns="seconds") for n in ("calm", "x")]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-4)
    assert json.loads((tmp_path / "x.json").read_text())["recipe"]["seed"] == 1000


@pytest.mark.parametrize("again", [False, True], ids=["first", "second"])
def test_checkpoints_of_earlier_versions(made, tmp_path, again):
    "They had the seed of the attempt, and did not tell which that was: the first goes on, another is refused."
    train(made, tmp_path / "x.keras", replace(SHORT, epochs=1), **SMALL)
    place = tmp_path / "x/checkpoint.npz"
    with np.load(place) as file:
        arrays = dict(file)
    state = json.loads(str(arrays.pop("state")))
    del state["attempt"]
    state["recipe"]["seed"] += 1000 * again
    np.savez(place, state=json.dumps({**state, "starts": 0}), **arrays)
    with pytest.raises(ModelError, match="earlier version that had started again") if again else nullcontext():
        train(made, tmp_path / "x.keras", replace(SHORT, epochs=1), resume=True, **SMALL)


@pytest.mark.slow
def test_it_ends_early_with_the_best_weights(made, tmp_path):
    net = train(made, tmp_path / "x.keras", replace(SHORT, epochs=12, patience=2, least_gain=1e6), **SMALL)
    history = pd.read_csv(tmp_path / "x.csv")
    assert len(history) == 3
    told = json.loads((tmp_path / "x.json").read_text())
    assert told["best_epoch"]["val_loss"] == pytest.approx(history.val_loss.min()) and told["parameters"] == net.count_params()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [replace(THESIS, epochs=1, batch_size=2, spectral_window=12), replace(SHORT, epochs=1, mixed_precision=True)], ids=["thesis", "mixed"])
def test_recipes(made, tmp_path, recipe):
    net = train(made, tmp_path / "x.keras", recipe, **SMALL)
    row = pd.read_csv(tmp_path / "x.csv").iloc[0]
    assert np.isfinite(row.drop("epoch").astype(float)).all() and 0 < row.val_ssim <= 1
    assert all(w.dtype == np.float32 for w in net.get_weights()) and load_model(tmp_path / "x.keras").dtype_policy.name == "float32"


@pytest.mark.slow
def test_decay_is_that_of_the_thesis(made, tmp_path):
    train(made, tmp_path / "x.keras", replace(THESIS, epochs=5, batch_size=4, spectral_window=8, least_gain=-1e9), **SMALL)
    rates = pd.read_csv(tmp_path / "x.csv").learning_rate
    np.testing.assert_allclose(rates, 1e-4 * 0.1 ** (np.arange(1, 6) / 5), rtol=1e-4)


def test_without_validation_tiles_nothing_is_called_validation(data, tmp_path, caplog):
    "And beside the network lies only what is named after it, whatever dots are in its name."
    from enmap_sharpener.training.hyperparameter_search import search_settings
    shutil.rmtree(data / "b.zarr")
    train(data, tmp_path / "out/mine.v2.keras", replace(SHORT, epochs=1), **SMALL)
    assert "no tiles are for validation" in caplog.text
    assert not [name for name in pd.read_csv(tmp_path / "out/mine.v2.csv") if name.startswith("val_")]
    assert json.loads((tmp_path / "out/mine.v2.json").read_text())["judged_by"] == "training"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["mine.v2", *(f"mine.v2.{ending}" for ending in ("csv", "json", "keras", "png"))]
    search_settings(data, tmp_path / "search", replace(SHORT, epochs=1), grid={name: [value] for name, value in SMALL.items()}, trials=1)
    assert json.loads((tmp_path / "search/best.json").read_text())["judged_by"] == "training"


def test_with_validation_tiles_the_figures_say_so():
    from enmap_sharpener.training.hyperparameter_search import epochs_figure
    table = pd.DataFrame({"epoch": [1], "ssim": [0.8], "psnr": [30.0]})
    of = lambda figure: [panel.get_ylabel() for panel in figure.axes]
    assert of(epochs_figure({"a": table})) == ["SSIM, training tiles", "PSNR [dB], training tiles"]
    assert of(epochs_figure({"a": table.assign(val_ssim=0.7, val_psnr=29.0)})) == ["SSIM, validation", "PSNR [dB], validation"]


def test_a_name_that_is_no_network_is_refused_before_it_learns(made, tmp_path):
    with pytest.raises(ModelError, match="ends in .keras; give --output .*mine.keras"):
        train(made, tmp_path / "mine", SHORT, **SMALL)
    assert not list(tmp_path.iterdir())


def test_gpus_that_are_not_there(made, tmp_path, capfd):
    with pytest.raises(ModelError, match="GPU 7, 9: not there"):
        use_devices([7, 9])
    status = main(["train", "--train-data-dir", str(made), "--output", str(tmp_path / "x.keras"), "--gpus", "7"])
    assert status == 2 and capfd.readouterr().err.count("\n") == 1


def test_files_that_are_no_network(tmp_path):
    (tmp_path / "cut.keras").write_bytes(b"PK\x03\x04 cut short")
    net = SupErMAPnet(**SMALL)
    net.build()
    save_model(net, tmp_path / "good.keras")
    whole = (tmp_path / "good.keras").read_bytes()
    (tmp_path / "half.keras").write_bytes(whole[: len(whole) // 2])
    for name in ("cut", "half", "none"):
        with pytest.raises(ModelError, match=f"{name}.keras"):
            load_model(tmp_path / f"{name}.keras")


def test_loading_executes_nothing(tmp_path):
    net = SupErMAPnet(**SMALL)
    net.build()
    save_model(net, tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as old, zipfile.ZipFile(tmp_path / "evil.keras", "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["config"]["contract"] = {"module": "builtins", "class_name": "function", "config": "print", "registered_name": "function"}
                config["module"], config["registered_name"] = "os", "system"
                content = json.dumps(config)
            new.writestr(name, content)
    with pytest.raises(ModelError):
        load_model(tmp_path / "evil.keras")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_one_file_under_another_backend(tmp_path, backend):
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    net = SupErMAPnet(**SMALL)
    net.build()
    rng = np.random.default_rng(0)
    x, x1 = rng.standard_normal((1, 11, 9, 4)).astype("float32"), rng.standard_normal((1, 11, 9, 13, 1)).astype("float32")
    save_model(net, tmp_path / "net.keras")
    np.savez(tmp_path / "in.npz", x=x, x1=x1, y=ops.convert_to_numpy(net([x, x1])))
    code = ("import sys, numpy as np; from enmap_sharpener.model.supermapnet import keras, load_model, ops; f = np.load(sys.argv[2]);"
            "assert keras.backend.backend() == sys.argv[3]; y = ops.convert_to_numpy(load_model(sys.argv[1])([f['x'], f['x1']])); print(np.abs(y - f['y']).max())")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "net.keras"), str(tmp_path / "in.npz"), backend], env={**os.environ, "KERAS_BACKEND": backend},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    assert float(done.stdout) < 1e-5


DEVICES = """
import sys
from contextlib import nullcontext
from contextlib import nullcontext
from dataclasses import replace
import keras
backend, data, output, small = keras.backend.backend(), sys.argv[1], sys.argv[2], eval(sys.argv[3])
if backend == "tensorflow":
    import tensorflow
    tensorflow.config.set_logical_device_configuration(tensorflow.config.list_physical_devices("CPU")[0], [tensorflow.config.LogicalDeviceConfiguration()] * 2)
from enmap_sharpener.training import training
def two(*chosen):
    if backend == "tensorflow":
        return tensorflow.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope()
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=["cpu:0", "cpu:1"]))
    return nullcontext()
if backend != "torch":
    training.use_devices = two
training.train(data, output, replace(training.QUICK, epochs=2, spectral_window=16, batch_size=4), **small)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_two_devices_and_other_backends_learn_the_same(data, tmp_path, backend):
    "Two virtual processors share each batch, under TensorFlow's and JAX's strategies that several GPUs take; PyTorch has one."
    if not find_spec(backend):
        pytest.skip(f"{backend} is not installed")
    train(data, tmp_path / "one.keras", replace(SHORT, epochs=2), **SMALL)
    done = subprocess.run([sys.executable, "-c", DEVICES, str(data), str(tmp_path / "two.keras"), repr(SMALL)], capture_output=True, text=True,
                          env={**os.environ, "KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"})
    assert done.returncode == 0, done.stderr[-800:]
    one, two = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("one", "two"))
    for column in ("loss", "mae", "val_loss", "val_mae"):
        np.testing.assert_allclose(two[column], one[column], rtol=2e-3)
