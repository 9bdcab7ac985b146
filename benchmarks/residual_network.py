"""Does a small residual network on top of the subspace method gain anything? (It did not, so none is shipped.)

    python benchmarks/residual_network.py --data ../shared/data

The network sees one coefficient of the sharpened spectra at a time (in the scene's own noise-scaled components), its detail, the four 10 m bands, their
detail and the trust: three convolutions of 3 x 3, 24 channels wide, the last from zero, 8,000 multiply-adds for each of 12 coefficients, 95,000 a pixel.
It learns the truth's difference on the lessons of `train_models.py` (drawn blur, shift and light; flips, turns and signs), each error weighted by its share of the scene's.
Printed is the gain in dB of the spectra's weighted squared error: as it is; with each coefficient blended in by the best factor in 0...1 that the truth can tell
(no gate can do better); for scenes trained on, for the kept-out part of Potsdam, and for the cases.
"""
import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers
from lessons import views
from scipy.ndimage import gaussian_filter
from train_models import sites

from enmap_sharpener.core.errors import NoValidPixels
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.fusion.spectra import band_noise
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen

RANK, USED, TILE = 16, 12, 32


def detail(image):
    "What a Gaussian of 1.5 pixels leaves."
    return image - gaussian_filter(image, (1.5, 1.5, 0), mode="nearest")


def example(scene, guide, truth, threads=2):
    "Inputs and target of a pair, truth a DataArray that covers the output."
    done = sharpen(scene, guide, threads=threads)
    good = np.flatnonzero(scene.bands.good)
    last = lambda cube: np.moveaxis(np.asarray(cube.values[good], np.float32), 0, -1)
    on_grid = lambda image: image.reindex(y=-done.grid.rows.centres, x=done.grid.cols.centres, method="nearest")
    coarse, out, true = last(scene.cube), last(done.to_dataarray()), last(on_grid(truth))
    held = np.isfinite(coarse).all(-1)
    mean, noise = coarse[held].mean(0), band_noise([np.nan_to_num(coarse)], [held])
    z = (coarse[held] - mean) / noise
    power, basis = np.linalg.eigh((z.T @ z).astype(float) / len(z))
    basis, spread = basis[:, ::-1][:, :RANK].astype(np.float32), np.sqrt(power[::-1][:RANK]).astype(np.float32)
    project = lambda cube: ((cube - mean) / noise) @ basis / spread
    c, error = project(out), project(true - out + mean)
    ten = np.moveaxis(on_grid(guide.bands10).values, 0, -1)
    ten = (ten - np.nanmean(ten, (0, 1))) / np.nanstd(ten, (0, 1))
    valid = np.isfinite(c).all(-1) & np.isfinite(error).all(-1) & np.isfinite(ten).all(-1)
    c, error, ten = (np.nan_to_num(x).astype(np.float32) for x in (c, error, ten))
    trust = (np.clip(done.quality_dataarray().values[1], 0, 100) / 100).astype(np.float32)[..., None]
    fine = detail(c)
    scale = fine[valid].std(0) + 1e-6
    spectra = noise[:, None] * basis * spread
    weight = ((spectra / np.sqrt((spectra**2).sum(1, keepdims=True))) ** 2).mean(0)
    share = weight * (error[valid] ** 2).mean(0)
    return {"c": c, "fine": fine / scale, "guide": np.concatenate([ten, 4 * detail(ten), trust], -1), "error": error / scale, "valid": valid,
            "weight": weight * scale**2 / share.sum(), "chance": (share[:USED] / share[:USED].sum() + 0.02) / (1 + 0.02 * USED)}


def inputs(e, window, k):
    "What the network sees of coefficient k."
    return np.concatenate([e["c"][window][..., k:k + 1], e["fine"][window][..., k:k + 1], e["guide"][window]], -1)


def batch(examples, rng, n=64):
    "Tiles of drawn scenes and coefficients, turned, flipped, of either sign."
    found = []
    while len(found) < n:
        e = examples[rng.integers(len(examples))]
        y, x = (rng.integers(size - TILE + 1) for size in e["valid"].shape)
        window, k = (slice(y, y + TILE), slice(x, x + TILE)), rng.choice(USED, p=e["chance"] / e["chance"].sum())
        if e["valid"][window].all():
            sign = rng.choice([-1, 1])
            both = np.concatenate([sign * e["error"][window][..., k:k + 1], inputs(e, window, k)], -1)
            both[..., 1:3] *= sign
            both = np.rot90(both, rng.integers(4))
            found.append((both[:, ::rng.choice([-1, 1])], e["weight"][k] / e["chance"][k]))
    both, weight = (np.stack(x).astype(np.float32) for x in zip(*found, strict=True))
    return both[..., 1:], both[..., :1], weight[:, None, None]


def gain(model, examples):
    "Gain [dB] as it is, and with the best factor for each coefficient."
    total = np.zeros(3)
    for e in examples:
        for k in range(RANK):
            left = e["error"][..., k][e["valid"]]
            added = np.asarray(model(inputs(e, (slice(None),) * 2, k)[None]))[0, ..., 0][e["valid"]] if k < USED else 0 * left
            best = np.clip((added * left).sum() / ((added**2).sum() + 1e-9), 0, 1)
            total += [e["weight"][k] * float(np.mean((left - f * added) ** 2)) for f in (0, 1, best)]
    return tuple(round(float(v), 3) for v in 10 * np.log10(total[0] / total[1:]))


def cases(data):
    "The benchmark cases that were not trained on."
    for name in ("potsdam_validation", "potsdam_validation_mismatch", "sanfrancisco"):
        folder = data / "cases" / name
        yield name, example(read_enmap(next(folder.glob("ENMAP*"))), read_sentinel2(folder), read_cube(folder / "truth.tif"))


def lessons(data):
    "(name, kept out, example) for every drawn view of the lessons' cubes."
    for name, cube, draws, kept, _ in sites(data):
        for seed in range(200 + 100 * kept, 200 + 100 * kept + max(draws // 2, 2)):
            try:
                scene, guide, truth = views(cube, seed, strength=(0.3, 1, 2)[seed % 3])
                yield name, bool(kept), example(scene, guide, Grid.of(guide.bands10).georeference(truth))
            except NoValidPixels as error:
                print(name, seed, error)


def main():
    "Lessons, training, and the table."
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=1250)
    options = parser.parse_args()
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    found = list(lessons(options.data))
    train = [e for _, kept, e in found if not kept and min(e["valid"].shape) >= TILE]
    image = keras.Input((None, None, 11))
    x = image
    for _ in range(2):
        x = layers.Conv2D(24, 3, padding="same", activation="relu")(x)
    model = keras.Model(image, layers.Conv2D(1, 3, padding="same", kernel_initializer="zeros")(x))
    rate = keras.optimizers.schedules.CosineDecay(0.0, options.steps, warmup_target=1.5e-3, warmup_steps=50)
    model.compile(keras.optimizers.Adam(rate, clipnorm=1.0), "mse")
    for step in range(options.steps):
        x, y, weight = batch(train, rng)
        loss = model.train_on_batch(x, y, sample_weight=weight)
        if step % 250 == 249:
            print(f"step {step + 1}: weighted loss {float(loss):.3f}", flush=True)
    table = {f"{n}, trained on": gain(model, [e for m, kept, e in found if m == n and not kept][:2]) for n in dict.fromkeys(n for n, _, _ in found)}
    table["potsdam, kept out"] = gain(model, [e for _, kept, e in found if kept])
    table |= {name: gain(model, [e]) for name, e in cases(options.data)}
    print("| scenes | gain [dB] | with the best gate |\n|---|--:|--:|")
    for name, (plain, best) in table.items():
        print(f"| {name} | {plain:+.3f} | {best:+.3f} |")


if __name__ == "__main__":
    main()
