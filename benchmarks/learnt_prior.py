"""A prior learnt on real Sentinel-2: what patch regression and a small network add to sharpened 20 m bands of images that they have not seen.

    python benchmarks/learnt_prior.py --output benchmarks/learnt_prior.md     # minutes, on one core
    python benchmarks/learnt_prior.py --steps 0                               # without the network

One scale down, as in `twenty_to_ten.py`. Each image (and its other dates) is held out in turn; what was learnt on all is also put into the guides of the benchmark cases.
"""
import argparse
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import cases
import numpy as np
from scipy.ndimage import gaussian_filter
from twenty_to_ten import COARSE, FINE, IMAGES, SHARED, SOFTER, Measured, Scores, back, bicubic, grids, halved, package

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.fusion.measurement import GuideModel
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.sharpening import sharpen

LEVEL = 3.0          # Gaussian window of the local level that is taken off [pixels]
SIDE, RIDGE = 5, 1e-3     # of the patches [pixels], and of the regression, a share of the mean variance
WIDTH, DEPTH = 32, 4      # channels and layers of the network, of 3 x 3 pixels each
BATCH, TILE, RATE = 16, 32, 2e-3     # images in a batch, their side [pixels], and the first rate of learning
NUGGET = 1e-4        # with which the result is made to agree with the 20 m bands, as in `Sharpen20`


def _detail(image):
    return image - gaussian_filter(image, (LEVEL, LEVEL, 0))


@dataclass
class Example:
    """An image, sharpened, and what a prior is told of it.

    Parameters
    ----------
    sharp
        The sharpened bands, shape (y, x, band).
    seen
        Detail of the 10 m bands, of the sharpened bands, and what sharpening added to the interpolated ones, each in units of its spread.
    spread
        Of the sharpened bands' detail, shape (band,).
    """

    sharp: np.ndarray
    seen: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, ten, sharp, plain):
        """From 10 m bands, sharpened bands, and interpolated 20 m bands, all on one grid."""
        spread = _detail(sharp).std((0, 1)) + 1e-9
        seen = [_detail(ten) / (_detail(ten).std((0, 1)) + 1e-9), _detail(sharp) / spread, (sharp - plain) / spread]
        return cls(sharp, np.concatenate(seen, -1).astype(np.float32), spread)


def patches(image):
    """Each pixel's surroundings, means over those that are turned or mirrored into each other, shape (y, x, feature)."""
    reach = SIDE // 2
    y, x = image.shape[:2]
    wide = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    alike = {}
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            alike.setdefault(tuple(sorted((abs(i), abs(j)))), []).append(wide[reach + i:reach + i + y, reach + j:reach + j + x])
    return np.concatenate([sum(group) / len(group) for group in alike.values()], -1)


class PatchRegression:
    """The error of the sharpened bands, linear in the patches."""

    def __init__(self, examples, truths):
        normal, right = 0, 0
        for e, truth in zip(examples, truths, strict=True):
            x, r = (a[4:-4, 4:-4].reshape(-1, a.shape[-1]).astype(float) for a in (patches(e.seen), (truth - e.sharp) / e.spread))
            normal, right = normal + x.T @ x / len(x), right + x.T @ r / len(x)
        self.weights = np.linalg.solve(normal + RIDGE * np.trace(normal) / len(normal) * np.eye(len(normal)), right).astype(np.float32)

    @property
    def size(self):
        return self.weights.size

    def __call__(self, e):
        return e.sharp + patches(e.seen) @ self.weights * e.spread


class Network:
    """The same by a residual network; `steps` batches of turned and mirrored tiles."""

    def __init__(self, examples, truths, steps, seed=0):
        import keras
        from keras import layers
        keras.utils.set_random_seed(seed)
        rng, pairs = np.random.default_rng(seed), [(e.seen, (t - e.sharp) / e.spread) for e, t in zip(examples, truths, strict=True)]
        first = layers.Input((None, None, len(FINE) + 2 * len(COARSE)))
        x = layers.Conv2D(WIDTH, 3, padding="same", activation="relu")(first)
        for _ in range(DEPTH - 2):
            x = layers.Add()([x, layers.Conv2D(WIDTH, 3, padding="same", activation="relu")(x)])
        self.model = keras.Model(first, layers.Conv2D(len(COARSE), 3, padding="same", kernel_initializer="zeros")(x))
        self.model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(RATE, steps)), keras.losses.Huber(0.5))
        for _ in range(steps):
            self.model.train_on_batch(*(np.stack(part) for part in zip(*(self._tile(pairs, rng) for _ in range(BATCH)), strict=True)))

    @staticmethod
    def _tile(pairs, rng):
        pair = pairs[rng.integers(len(pairs))]
        row, col = (int(rng.integers(n - TILE + 1)) for n in pair[0].shape[:2])
        turns, mirrored = int(rng.integers(4)), slice(None, None, 1 - 2 * int(rng.integers(2)))
        return [np.rot90(a[row:row + TILE, col:col + TILE], turns)[mirrored] for a in pair]

    @property
    def size(self):
        return self.model.count_params()

    def __call__(self, e):
        return e.sharp + self.model.predict(e.seen[None], verbose=0)[0] * e.spread


@dataclass
class Pair:
    """An image one scale down: what the prior is told, the truth, and what makes a result agree with the 20 m bands."""

    example: Example
    truth: np.ndarray
    twenty: np.ndarray
    blur: float

    @classmethod
    def of(cls, image, guide):
        """`guide` changes the 10 m bands before all else. Bands that lie off are compared where they lie."""
        ten, twenty = guide(halved(image.ten)), halved(image.twenty)
        found = Measured.of(ten, twenty)
        moved = back(found.lies["VNIR"])(ten)
        return cls(Example.of(moved, package(ten, twenty, found, kriging=False), bicubic(ten, twenty)), image.twenty, twenty, found.blur)

    def scores(self, prior=None):
        """Of what the prior makes, or of the sharpened bands as they are."""
        image = self.example.sharp if prior is None else agreeing(prior(self.example), self.twenty, self.blur, *grids(self.truth.shape[:2]))
        return Scores.of(image.astype(np.float32), self.truth)


def agreeing(image, twenty, blur, fine, fine20):
    """An image made to agree with the 20 m bands."""
    see = Observation.between(fine20, fine, blur)
    return image + see.inverse(NUGGET).degrade(twenty - see.degrade(image, axes=(0, 1)), axes=(0, 1))


def kinds(steps):
    """Name to what learns: (examples, truths) -> prior."""
    return {"patch regression": PatchRegression, **({"network": lambda e, t: Network(e, t, steps)} if steps else {})}


def held_out(pairs, steps):
    """Lines of the table of held-out images, and the priors learnt on all: mean SRE [dB] and share of the error that is left."""
    place = lambda name: name.split()[0]     # two dates of one place are held out together
    for name, pair in pairs.items():
        others = [p for n, p in pairs.items() if place(n) != place(name)]
        before, cells = pair.scores(), []
        for learn in kinds(steps).values():
            after = pair.scores(learn([p.example for p in others], [p.truth for p in others]))
            cells += [f"{after.sre - before.sre:+.2f}", f"{after.rmse.mean() / before.rmse.mean():.3f}"]
        yield name, f"{before.sre:.2f}", *cells


def with_prior(prior):
    """`GuideModel.stack` with the prior between sharpening and what follows."""
    plain = GuideModel.stack

    def stack(self, ten, twenty, fine, fine20):
        out, twenty = plain(self, ten, twenty, fine, fine20), self.denoise20(twenty)
        made = prior(Example.of(out[..., :len(FINE)], out[..., len(FINE):], bicubic(out, np.ascontiguousarray(twenty))))
        return np.concatenate([out[..., :len(FINE)], agreeing(made, twenty, self.sharpen.sigma, fine, fine20)], -1).astype(np.float32)
    return stack


def of_cases(shared, priors):
    """Lines of the table of the cases: PSNR [dB] and SAM [degrees] now, and changes with each prior."""
    for folder in sorted(path.parent for path in (shared / "data/cases").glob("*/sentinel2_20m.tif")):
        found = []
        for prior in (None, *priors):
            with patch.object(GuideModel, "stack", GuideModel.stack if prior is None else with_prior(prior)), tempfile.TemporaryDirectory() as place:
                scene, guide = read_enmap(next(folder.glob("ENMAP*"))), read_sentinel2(folder)
                write_scene(sharpen(scene, guide), Path(place) / "output.tif", scene=scene, guide=guide)
                found.append(cases.score(folder, Path(place) / "output.tif"))
        now, *later = found
        yield folder.name, f"{now['psnr']:.2f} / {now['sam_land']:.3f}", *(f"{s['psnr'] - now['psnr']:+.2f} / {s['sam_land'] - now['sam_land']:+.3f}" for s in later)


PAGE = """# A prior learnt on real Sentinel-2

Whether what is learnt on some images of Sentinel-2, one scale down, sharpens the 20 m bands of others better. Two were tried on top of the sharpened bands: a linear regression on symmetric patches of 5 × 5 pixels
({patch_size} weights), and a residual network of {depth} layers ({network_size} weights). Each is told the detail of the 10 m bands, of the sharpened bands, and what sharpening added; its result is made to agree with the 20 m bands again.
`python benchmarks/learnt_prior.py --output benchmarks/learnt_prior.md` makes this page.

Each image is held out in turn (both dates of `T43RCP` together): change of the SRE [dB], and the share of the RMSE that is left. In the second table the guide is
as soft as the truth (*softer guide* in `twenty_to_ten.md`).

{plain}

{soft}

What was learnt on all of them with the softer guide, in the guides of the benchmark cases (PSNR [dB] / SAM [°]):

{cases}

So it is **left out**. On images of Sentinel-2 either prior gains about a decibel, but half of that goes away when the guide is as soft as the truth: it has learnt how the protocol blurs. The rest does not carry over to EnMAP's cases,
where the truth is known at the scale that is wanted: their SAM falls by 0.01° to 0.02°, but three of five lose PSNR. As the guide is by the protocol, it costs on `T48QUE`, whose 20 m bands were resampled by others. A network does no better than a linear filter.
"""


def lines(head, rows):
    """A Markdown table."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data and tools/score.py")
    parser.add_argument("--steps", type=int, default=1500, help="batches that a network learns from; 0: no network")
    parser.add_argument("--output", type=Path, help="write the page, too")
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    images = {name: read(options.shared / "data" / path).crop(np.random.default_rng(0)) for name, (read, path) in IMAGES.items()}
    head, tables = ["image", "SRE now", *(f"{kind}: {what}" for kind in kinds(options.steps) for what in ("SRE", "RMSE"))], []
    for guide in (np.asarray, SOFTER):
        pairs = {name: Pair.of(image, guide) for name, image in images.items()}
        tables.append(lines(head, held_out(pairs, options.steps)))
        print(tables[-1], flush=True)
    priors = [learn([p.example for p in pairs.values()], [p.truth for p in pairs.values()]) for learn in kinds(options.steps).values()]
    told = lines(["case", "now", *kinds(options.steps)], of_cases(options.shared, priors))
    print(told)
    if options.output:
        write_text(options.output, PAGE.format(plain=tables[0], soft=tables[1], cases=told, depth=DEPTH, patch_size=f"{priors[0].size:,}", network_size=f"{priors[-1].size:,}"))


if __name__ == "__main__":
    main()
