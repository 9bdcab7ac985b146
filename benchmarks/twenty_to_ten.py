"""Sentinel-2's 20 m bands at 10 m, on real Sentinel-2: a Markdown table of RMSE, SRE, SAM, UIQI and ERGAS for several methods.

    python benchmarks/twenty_to_ten.py --output benchmarks/twenty_to_ten.md     # all images in ../shared/data
    python benchmarks/twenty_to_ten.py augsburg

There is no truth at 10 m, so all is done one scale down (Wald et al. 1997): 10 m bands are brought to 20 m and 20 m bands to 40 m as DSen2's
authors do it, with a Gaussian of half a pixel and the mean of 2 x 2 pixels, and the 20 m bands as they were delivered are the truth.
"""
import argparse
import sys
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Axis, Grid, axes
from enmap_sharpener.core.operators import Observation, linear_stencil
from enmap_sharpener.evaluation.metrics import ergas, rmse, sam, uiqi
from enmap_sharpener.fusion.band_registration import USUAL_BLUR, register_twenty
from enmap_sharpener.fusion.regression import LocalRegression
from enmap_sharpener.fusion.response_bands import sample_windows
from enmap_sharpener.fusion.sharpen20 import LOCAL, Mover, Sharpen20, measure_blur20, measure_swir_geometry
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.sharpening.interpolation import cubic_stencil

SHARED = Path(__file__).parents[1] / "../shared"
FINE, COARSE = SENTINEL2.finest, SENTINEL2.coarser
RED_EDGE, SWIR = COARSE.serving("VNIR"), COARSE.serving("SWIR")
PROTOCOL_SIGMA = 0.5     # Gaussian before the mean of 2 x 2 pixels [pixels]: `downPixelAggr` in DSen2's utils/patches.py
SOFTER = Mover(blur=USUAL_BLUR**2 - (PROTOCOL_SIGMA**2 + 0.25) / 4)     # from the protocol's blur of the 10 m bands to that which the 20 m bands have beside them
UIQI_BLOCK = 8           # side of the blocks [pixels]: Wang and Bovik 2002
BORDER = 4               # pixels at 20 m that are not judged: interpolation has no neighbours there
CROP = 400               # pixels at 20 m of a larger image's crops
TILE, WHOLE = 144, 288   # side of a tile, and of what is measured as a whole, as of a scene [pixels of the finer bands]


@dataclass
class Image:
    """A real image.

    Parameters
    ----------
    ten, twenty
        10 m and 20 m bands, shapes (2 y, 2 x, 4) and (y, x, 6), float32 [reflectance].
    """

    ten: np.ndarray
    twenty: np.ndarray

    def crop(self, rng):
        """A part of it of `CROP` pixels at most, wherever `rng` says."""
        at = [slice(0, n) if n <= CROP else slice(s := int(rng.integers(n - CROP)), s + CROP) for n in self.twenty.shape[:2]]
        even = [slice(a.start, a.start + (a.stop - a.start) // 2 * 2) for a in at]
        return Image(self.ten[tuple(slice(2 * a.start, 2 * a.stop) for a in even)], self.twenty[tuple(even)])


def _npz(path):
    """An image of `sentinel2_more`."""
    with np.load(path) as file:
        return Image(*(np.moveaxis(file[name], 0, -1).astype(np.float32) / 1e4 for name in ("ten", "tw")))


def _folder(path):
    """An image with a file for each band."""
    def bands(names):
        files = [rasterio.open(path / f"{name}.tif") for name in names]
        return np.stack([f.read(1) for f in files], -1).astype(np.float32) / 1e4
    return Image(bands(FINE.names), bands(COARSE.names))


def _mat(path):
    """DSen2's own sample: B4 B3 B2 B8, with rows and columns exchanged."""
    import h5py  # comes with Keras, and is needed for this image alone
    with h5py.File(path) as file:
        ten, twenty = (np.asarray(file[name]).T.astype(np.float32) / 1e4 for name in ("im10", "im20"))
    return Image(ten[..., [2, 1, 0, 3]], twenty)


IMAGES = {
    "T48QUE": (_folder, "sentinel2_T48QUE"),
    "T49JGM": (_mat, "S2B_MSIL1C_20171022_T49JGM.mat"),
    "delmarva": (_npz, "sentinel2_more/s2_delmarva_32618_native_L1C.npz"),
    "augsburg": (_npz, "sentinel2_more/s2_augsburg_native.npz"),
    "T43RCP June": (_npz, "sentinel2_more/s2_T43RCP_20200604_native.npz"),
    "T43RCP August": (_npz, "sentinel2_more/s2_T43RCP_20200813_native.npz"),
    "bigearthnet": (_npz, "sentinel2_more/s2_bigearthnet_29U_native.npz"),
}


def halved(image):
    """An image at twice the pixel size, as DSen2's authors do it, shape (y, x, band)."""
    smooth = gaussian_filter(image, (PROTOCOL_SIGMA, PROTOCOL_SIGMA, 0))
    y, x, bands = image.shape
    return smooth.reshape(y // 2, 2, x // 2, 2, bands).mean((1, 3))


def grids(shape):
    """Grid of the finer bands and of the coarser ones, for `shape` of the finer [their pixels]."""
    return tuple(Grid(None, *(Axis(0.0, float(k), n // k) for n in shape)) for k in (1, 2))


def tiles(ten, twenty):
    """Where blur and geometry are measured, as of a scene: (10 m bands, 20 m bands, fine grid, 20 m grid) of up to six tiles."""
    fine, fine20 = grids(ten.shape[:2])
    boxes = sample_windows(np.ones(fine20.shape, bool), TILE // 2, whole=(WHOLE // 2) ** 2)
    twice = [tuple(slice(2 * s.start, 2 * s.stop) for s in box) for box in boxes]
    return [(ten[wide], twenty[box], fine.part(*wide), fine20.part(*box)) for box, wide in zip(boxes, twice, strict=True)]


def few(parts):
    """Three of the tiles, for what is one number of the whole sensor."""
    return parts[::-(-len(parts) // 3)]


def bicubic(ten, twenty):
    """Cubic convolution; the 10 m bands are not used."""
    fine, fine20 = grids(ten.shape[:2])
    return Observation(*(cubic_stencil(a, b) for a, b in zip(axes(fine20), axes(fine), strict=True))).degrade(twenty, axes=(0, 1))


def gsa(ten, twenty):
    """As GSA (Aiazzi et al. 2007) with, for each band, the combination of the 10 m bands that is most like it in place of a panchromatic band."""
    low = ten.reshape(ten.shape[0] // 2, 2, ten.shape[1] // 2, 2, -1).mean((1, 3))
    with_one = lambda x: np.concatenate([x, np.ones_like(x[..., :1])], -1)
    flat = lambda x: x.reshape(-1, x.shape[-1]).astype(float)
    weights = np.linalg.lstsq(flat(with_one(low)), flat(twenty), rcond=None)[0].astype(np.float32)
    return bicubic(ten, twenty - with_one(low) @ weights) + with_one(ten) @ weights


def regression(ten, twenty):
    """The local regression alone, with the measured blur: nothing moved, and no agreement with the 20 m bands asked for."""
    fine, fine20 = grids(ten.shape[:2])
    blur = measure_blur20(few(tiles(ten, twenty)), COARSE.gauges)
    low = Observation.between(fine20, fine, blur).degrade(ten, axes=(0, 1))
    model = LocalRegression.fit([low], [twenty], *LOCAL)
    return model.predict(ten, model.maps(low, twenty), *(linear_stencil(a, b) for a, b in zip(axes(fine20), axes(fine), strict=True)))


@dataclass
class Measured:
    """What is measured of an image before it is sharpened.

    Parameters
    ----------
    parts
        `tiles` on which it was measured.
    lies
        Detector to where the bands that serve it lie [20 m pixels].
    blur
        Of the 20 m bands [20 m pixels].
    mover : Mover
        From the 10 m bands to B11 and B12.
    """

    parts: list
    lies: dict
    blur: float
    mover: Mover

    @classmethod
    def of(cls, ten, twenty):
        """As of a scene."""
        parts = tiles(ten, twenty)
        lies = {detector: found.shift for detector, found in register_twenty(few(parts), COARSE).items()}
        blur = measure_blur20(few(parts), COARSE.gauges, shift=lies["VNIR"])
        return cls(parts, lies, blur, measure_swir_geometry([(m, z[..., SWIR], *g) for m, z, *g in few(parts)], blur, lies=lies["SWIR"]))

    @property
    def groups(self):
        """(bands, mover of the 10 m bands, where they lie, whether what is left is carried along the guide) of red edge and SWIR."""
        return (RED_EDGE, Mover(), self.lies["VNIR"], False), (SWIR, self.mover, self.lies["SWIR"], True)


def back(shift):
    """From the 10 m bands to where 20 m bands lie: the sharpened image is moved there to be compared with those that were delivered."""
    return Mover(tuple(-2 * s for s in shift))


def package(ten, twenty, found=None, kriging=True):
    """What a scene's guide is made with: blur and geometry measured, red edge and SWIR apart, local regression, guided kriging of B11 and B12, agreement with the 20 m bands."""
    found, out = found or Measured.of(ten, twenty), np.empty((*ten.shape[:2], len(COARSE)), np.float32)
    for bands, move, shift, guided in found.groups:
        model = Sharpen20.fit([(move(m), z[..., bands], *g) for m, z, *g in found.parts], found.blur, shift, guided and kriging)
        out[..., bands] = back(shift)(model(move(ten), twenty[..., bands], *grids(ten.shape[:2])))
    return out


def without_kriging(ten, twenty):
    """The same without guided kriging."""
    return package(ten, twenty, kriging=False)


def as_sharp_as_the_truth(ten, twenty):
    """The same with 10 m bands that are blurred as much more as the 20 m bands are, at their own scale, than the protocol makes them."""
    return package(SOFTER(ten), twenty)


METHODS = {"bicubic": bicubic, "GSA-like": gsa, "local regression alone": regression, "this package without guided kriging": without_kriging, "this package": package,
           "this package, softer guide": as_sharp_as_the_truth}


@dataclass
class Scores:
    """How near an image is to the truth.

    Parameters
    ----------
    rmse
        [reflectance x 10 000], shape (band,).
    sre
        Signal to reconstruction error, mean of the bands [dB].
    sam, uiqi, ergas
        Of all bands; the first in degrees.
    """

    rmse: np.ndarray
    sre: float
    sam: float
    uiqi: float
    ergas: float

    @classmethod
    def of(cls, output, truth):
        """Scores of bands [reflectance], shape (y, x, band), without a border."""
        inner = slice(BORDER, -BORDER)
        o, t = (np.moveaxis(x[inner, inner], -1, 0).astype(float) for x in (output, truth))
        error = rmse(o, t)
        return cls(1e4 * error, float(np.mean(20 * np.log10(t.mean((1, 2)) / error))), float(np.nanmean(sam(o, t))), float(np.mean(uiqi(o, t, UIQI_BLOCK))), ergas(o, t, 2))

    def line(self, *first, reference):
        """A line of the table; the error also as a share of that of `reference`."""
        numbers = [*(f"{e:.1f}" for e in self.rmse), f"{self.rmse.mean():.1f}", f"{self.rmse.mean() / reference.rmse.mean():.2f}",
                   f"{self.sre:.1f}", f"{self.sam:.2f}", f"{self.uiqi:.3f}", f"{self.ergas:.2f}"]
        return "| " + " | ".join((*first, *numbers)) + " |"


def mean(scores):
    """Scores averaged over images."""
    return Scores(*(np.mean([getattr(s, f.name) for s in scores], axis=0) for f in fields(Scores)))


HEAD = ["image", "20 m pixels", "method", *COARSE.names, "mean RMSE", "of bicubic's", "SRE [dB]", "SAM [°]", "UIQI", "ERGAS"]

PAGE = """# 20 m bands at 10 m

Real Sentinel-2, one scale down: 20 m bands sharpened from 40 to 20 m and compared with those that were delivered. RMSE is in reflectance × 10 000, as in the
literature; SRE is the mean over the bands of 20 log₁₀(mean / RMSE). `python benchmarks/twenty_to_ten.py --output benchmarks/twenty_to_ten.md` makes this page.

{table}

`T48QUE` (L2A, Vietnam) and `T49JGM` (L1C, Australia) are parts of a tile, `delmarva` is coast and fields (L1C), `augsburg` a city, `T43RCP` two dates of very small fields,
`bigearthnet` one patch. Blur and geometry are measured on each image, nothing else is learnt, and the settings are those with which every EnMAP scene is sharpened. *GSA-like*
has, in place of a panchromatic band, the combination of the four 10 m bands that is most like the band to be sharpened. *Local regression alone* knows the blur and no more; *without guided kriging*
what the regression leaves of B11 and B12 is interpolated, not carried along the 10 m bands.
In `T48QUE` the 20 m bands lie 10 m off the 10 m bands in both directions, which only *this package* measures; its result lies where the 10 m bands lie and was moved back to be compared.

One scale down the guide is sharper than the truth: the protocol brings the 10 m bands to 20 m with a blur of 7.1 m (1σ), while the 20 m bands are blurred by 8.6 m beside the 10 m bands, as is measured at their own scale. With a
*softer guide*, 10 m bands that are blurred by the difference, most images gain 0.3 to 0.7 dB, and networks that are trained by this protocol learn the same. From 20 to 10 m there is no such truth; the sharpened bands are as sharp as the 10 m bands.

## Published figures

Of 15 tiles of L1C, whole, that DSen2 was not trained on (Lanaras et al. 2018, the table of aggregate results for 2 ×). The protocol is theirs: both groups of bands are blurred with a
Gaussian of half a pixel and averaged over 2 × 2 pixels.

| method | mean RMSE | of bicubic's | SRE [dB] | SAM [°] | UIQI |
|---|---|---|---|---|---|
{published}

The figures are quoted second-hand, not computed again: look them up in the paper before you cite them. What differs: the images (`T49JGM` is a part of one of their 15 tiles, the others are not theirs, and some are L2A), four pixels at the border are not judged here, and UIQI is of blocks of 8 × 8
pixels that do not overlap. So the share of bicubic's error is what may be compared, and only roughly: it depends on the ground. DSen2 is a network that was trained on 45 tiles;
SupReME and this package learn from the image alone.

- Aiazzi, Baronti, Selva 2007, Improving component substitution pansharpening through multivariate regression of MS+Pan data, IEEE TGRS 45(10), doi 10.1109/TGRS.2007.901007.
- Lanaras, Bioucas-Dias, Baltsavias, Schindler 2017, Super-resolution of multispectral multiresolution images from a single sensor (SupReME), CVPR Workshops.
- Lanaras, Bioucas-Dias, Galliani, Baltsavias, Schindler 2018, Super-resolution of Sentinel-2 images: learning a globally applicable deep neural network (DSen2), ISPRS Journal 146, 305–319, doi 10.1016/j.isprsjprs.2018.09.018.
- Wald, Ranchin, Mangolini 1997, Fusion of satellite images of different spatial resolutions, PE&RS 63(6), 691–699.
"""

PUBLISHED = {"bicubic": (123.5, 25.3, 1.24, 0.821), "SupReME": (69.7, 29.7, 1.26, 0.887), "DSen2": (34.5, 36.0, 0.78, 0.941)}


def published():
    """Lines of the published figures: RMSE, SRE, SAM, UIQI."""
    return "\n".join(f"| {name} | {error:.1f} | {error / PUBLISHED['bicubic'][0]:.2f} | {sre:.1f} | {angle:.2f} | {q:.3f} |"
                     for name, (error, sre, angle, q) in PUBLISHED.items())


def table(images, seed):
    """Lines of the table of all methods on images, a dictionary of `Image`."""
    yield "| " + " | ".join(HEAD) + " |"
    yield "|---" * len(HEAD) + "|"
    found = {method: [] for method in METHODS}
    for name, image in images.items():
        part = image.crop(np.random.default_rng(seed))
        ten, twenty = halved(part.ten), halved(part.twenty)
        for method, function in METHODS.items():
            found[method].append(Scores.of(function(ten, twenty), part.twenty))
            yield found[method][-1].line(name, " × ".join(map(str, part.twenty.shape[:2])), method, reference=found["bicubic"][-1])
    if len(images) > 1:
        for method, scores in found.items():
            yield mean(scores).line("**mean**", "", method, reference=mean(found["bicubic"]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="*", help="names; all by default")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data")
    parser.add_argument("--seed", type=int, default=0, help="of where larger images are cropped")
    parser.add_argument("--output", type=Path, help="also write the page, with the published figures")
    options = parser.parse_args()
    if unknown := set(options.images) - set(IMAGES):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(IMAGES)}")
    places = {name: (read, options.shared / "data" / path) for name, (read, path) in IMAGES.items() if name in (options.images or IMAGES)}
    for _, place in places.values():
        if not place.exists():
            sys.exit(f"{place}: not there; name the folder that has data with --shared")
    lines = []
    for line in table({name: read(place) for name, (read, place) in places.items()}, options.seed):
        print(line, flush=True)
        lines.append(line)
    if options.output:
        write_text(options.output, PAGE.format(table="\n".join(lines), published=published()))


if __name__ == "__main__":
    main()
