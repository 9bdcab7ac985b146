"""Other guides than Sentinel-2: a Markdown table of PSNR [dB], SAM [degrees] and ERGAS beside those of peers with the same guide.

    python benchmarks/guides.py --output benchmarks/guides.md      # and the table in docs/guides/sensors.md

From a truth (of the cases, and simulated) EnMAP is made as it would see that ground, and a guide of each kind: box-shaped responses, which the package takes for
super-Gaussians, a blur of its own, gains and offsets of its bands, noise, and a shift of EnMAP that nobody tells, all with a seed. The ratio of the pixels is the
sensor's; what a pixel is in metres is a name. The case `sanfrancisco` is real texture of EO-1 Hyperion at 30 m. Peers see the guide's bands of the finest pixels; where
there is a coarser grid, also those made finer by this package (`+`).
"""
import argparse
import json
import logging
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin
from scipy.ndimage import gaussian_filter

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Axis, Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.evaluation.metrics import ergas, psnr, sam
from enmap_sharpener.scenes.enmap import Scene, read_enmap
from enmap_sharpener.scenes.guide_sensors import GUIDE_SENSORS
from enmap_sharpener.scenes.guides import read_guide
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate_pair

SHARED = Path(__file__).parents[1] / "../shared"
CRS = rasterio.crs.CRS.from_epsg(32633)
WEST, NORTH = 300_000.0, 5_800_000.0
METHODS = "subspace", "gsa", "sfim", "mtf-glp"
GUIDE, BEGIN, END = Path(__file__).parents[1] / "docs/guides/sensors.md", "<!-- guides -->", "<!-- /guides -->"


@dataclass(frozen=True)
class Kind:
    """A kind of guide.

    Parameters
    ----------
    sensor
        Of `GUIDE_SENSORS`.
    ratio
        EnMAP's pixels in the guide's finest.
    pixel
        The finest [m].
    finest, coarser
        Names of the bands on either grid, and how much larger the pixels of the second are.
    averaged
        Pixels that are averaged to one.
    """

    sensor: str
    ratio: int
    pixel: float
    finest: tuple
    coarser: tuple = ()
    larger: int = 1
    averaged: int = 1


OLI = tuple(f"B{i}" for i in range(1, 8))
ALI = tuple(b[0] for b in GUIDE_SENSORS["ali"].bands[1:])
KINDS = {
    "Landsat 8, pan-sharpened, 15 m": Kind("landsat8", 2, 15, OLI),
    "Landsat 9, pan 15 m and 30 m": Kind("landsat9", 2, 15, ("B8",), OLI, 2),
    "ALI, nine bands at a third": Kind("ali", 3, 10, ALI),
    "ALI, four of its bands at a third": Kind("ali", 3, 10, ("MS-1", "MS-2", "MS-3", "MS-4p")),
    "ALI, pan 10 m and nine bands 30 m": Kind("ali", 3, 10, ("pan",), ALI, 3),
    "SuperDove, 3 m": Kind("superdove", 10, 3, tuple(b[0] for b in GUIDE_SENSORS["superdove"].bands)),
    "orthophoto, averaged to a fifth": Kind("orthophoto", 5, 3, ("red", "green", "blue", "nir"), averaged=2),
}
SOURCES = {"potsdam_train": "cases", "jasper_m": "cases_more", "sanfrancisco": "cases"}


def box(wavelength, low, high):
    """Weights of a box between two wavelengths [nm]; none where no band lies in it."""
    inside = (wavelength >= low - 3) & (wavelength <= high + 3)
    return inside / inside.sum() if inside.any() else None


def grid(shape, pixel):
    """Grid of that many pixels from one corner."""
    return Grid(CRS, Axis(-NORTH, pixel, shape[0]), Axis(WEST, pixel, shape[1]))


def save(path, image, pixel, names):
    """Write bands, shape (band, y, x) [reflectance], as digital numbers with names."""
    with rasterio.open(path, "w", driver="GTiff", count=len(image), height=image.shape[1], width=image.shape[2], dtype="uint16", nodata=0, crs=CRS,
                       transform=from_origin(WEST, NORTH, pixel, pixel)) as file:
        file.write(np.clip(np.rint(image * 1e4), 1, 65535).astype("uint16"))
        file.descriptions = names


def build(folder, kind, truth, bands, scene, seed=0):
    """EnMAP, and a guide in a folder, of a truth; the truth on the grid of the result.

    Parameters
    ----------
    folder : Path
        Gets the guide.
    kind : Kind
    truth
        Shape (band, y, x) [reflectance].
    bands : BandTable
        Of the truth.
    scene : Scene
        Whose metadata EnMAP has.
    seed : int
    """
    rng, fine = np.random.default_rng(seed), kind.pixel
    step = kind.ratio * kind.averaged
    truth = truth[:, :truth.shape[1] // step * step, :truth.shape[2] // step * step]
    full, coarse = grid(truth.shape[1:], fine), grid([n // step for n in truth.shape[1:]], fine * step)
    shift = rng.uniform(-0.25, 0.25, 2)
    low = Observation.between(coarse, full, 0.45, tuple(shift)).degrade(truth)
    low += rng.standard_normal(low.shape) * (0.0005 + 0.004 * low.mean((1, 2), keepdims=True))
    cube = coarse.georeference(low.astype("f4"), coords=bands.coords, name="reflectance").chunk()
    enmap = Scene(cube, replace(bands, good=np.ones(len(bands), bool)), scene.metadata, {}, Path("enmap"))
    edges, held = {b[0]: b[1:3] for b in GUIDE_SENSORS[kind.sensor].bands}, {}
    for name in (*kind.finest, *kind.coarser):
        weights = box(bands.wavelength, *edges[name])
        if weights is not None and edges[name][1] < bands.wavelength.max() + 30:
            held[name] = np.tensordot(weights, truth, 1) * rng.uniform(0.93, 1.07) + rng.uniform(-0.005, 0.005)
    for names, by, file in ((kind.finest, 1, "fine.tif"), (kind.coarser, kind.larger, "coarse.tif")):
        names = [n for n in names if n in held]
        if names:
            image = np.stack([held[n] for n in names])
            image = gaussian_filter(image, (0, 0.45, 0.45)) if by == 1 else Observation.between(grid([n // by for n in full.shape], fine * by), full, 0.43).degrade(image)
            image = image * (1 + 0.005 * rng.standard_normal(image.shape))
            save(folder / file, image, fine * by, names)
    told = {"sensor": kind.sensor, "scale": 1e-4, **({"resolution": kind.averaged * fine} if kind.averaged > 1 else {})}
    (folder / "guide.json").write_text(json.dumps(told))
    if kind.averaged > 1:
        k = kind.averaged
        truth = truth.reshape(len(truth), truth.shape[1] // k, k, truth.shape[2] // k, k).mean((2, 4))
    return enmap, truth


def scored(result, truth, ratio):
    """PSNR [dB], SAM [degrees] and ERGAS without the outermost pixels."""
    cut = slice(ratio, -ratio)
    out, truth = (np.moveaxis(np.asarray(v, float)[:, cut, cut], 0, -1) for v in (result, truth))
    return float(np.mean(psnr(out, truth))), float(np.nanmean(sam(out, truth))), float(ergas(out, truth, ratio))


def truths(names):
    """Name, truth, bands and scene of each source."""
    for name, where in SOURCES.items():
        if name in names:
            place = SHARED / "data" / where / name
            scene = read_enmap(next(place.glob("ENMAP*")))
            with rasterio.open(place / "truth.tif") as file:
                truth = file.read().astype("f4") * 1e-4
            good = np.flatnonzero(scene.bands.good & np.isfinite(truth).all((1, 2)) & (truth.min((1, 2)) > -3))
            yield name, truth[good], scene.bands.take(good), scene
    if "simulated" in names:
        scene, _, truth = simulate_pair(size=70, seed=7, clouds=0)
        values, (y, x) = truth.values, (n // 2 for n in truth.shape[1:])
        half = next(n for n in range(min(y, x), 0, -1) if np.isfinite(values[20, y - n:y + n, x - n:x + n]).all())      # the scene lies askew
        values = values[:, y - half:y + half, x - half:x + half]
        good = np.flatnonzero(scene.bands.good & np.isfinite(values).all((1, 2)))
        yield "simulated", values[good], scene.bands.take(good), scene


def rows(names, kinds, methods, folder, threads):
    """Lines of the table."""
    for source, truth, bands, scene in truths(names):
        for title, kind in KINDS.items():
            if title not in kinds or min(truth.shape[1:]) < 10 * kind.ratio * kind.averaged:
                continue
            place = Path(tempfile.mkdtemp(dir=folder))
            enmap, wanted = build(place, kind, truth, bands, scene)
            guide, found = read_guide(place), {}
            for method in methods:
                result = sharpen(enmap, guide, method, threads=threads, uncertainty=False)
                found[method] = scored(result.to_dataarray().values, wanted, kind.ratio)
                if method == "subspace" and guide.bands20 is not None:
                    finer = finer_guide(guide, result)
            if guide.bands20 is not None and "subspace" in methods:
                found |= {f"{m} +": scored(sharpen(enmap, finer, m, threads=threads).to_dataarray().values, wanted, kind.ratio) for m in methods if m != "subspace"}
            yield title, source, found


def finer_guide(guide, result):
    """The guide with its coarser bands made finer, as the default method makes them."""
    raw, table = result._model.raw, result._model.pair.guide_bands
    values = np.moveaxis(raw.read(*(slice(0, n) for n in raw.shape[:2])), -1, 0)
    bands = replace(table, bands=tuple(replace(b, grid=table.bands[0].grid) for b in table))
    return replace(guide, bands10=result.grid.georeference(values, coords={"band": list(table.names)}, name="reflectance"), bands20=None, described=bands)


SCORES = {"PSNR": max, "SAM": min, "ERGAS": min}


def grouped(lines):
    """(guide, truth) to method to scores, from lines of the table."""
    groups = {}
    for guide, truth, method, *scores in ([cell.strip() for cell in line.strip("| ").split("|")] for line in lines):
        groups.setdefault((guide, truth), {})[method] = [float(value) for value in scores]
    return groups


def summary(lines, default="subspace"):
    """Lines of the table in the guide on other sensors: the default method, and the best of the others in each score."""
    out = ["| guide | truth | PSNR [dB], and of the best peer | SAM [°] | ERGAS |", "|---|---|---|---|---|"]
    for (guide, truth), found in grouped(lines).items():
        best = [better(scores[i] for method, scores in found.items() if method != default) for i, better in enumerate(SCORES.values())]
        cells = [f"**{own:.{digits}f}**, {other:.{digits}f}" for own, other, digits in zip(found[default], best, (1, 2, 2), strict=True)]
        out.append(f"| {guide} | {truth if truth == 'simulated' else f'`{truth}`'} | {' | '.join(cells)} |")
    return out


def where_not_best(lines, default="subspace"):
    """A sentence on the rows of the table in which another method than the default is better."""
    groups, lost = grouped(lines), []
    for place, found in groups.items():
        for i, (label, better) in enumerate(SCORES.items()):
            best = better(found, key=lambda method: found[method][i])
            if found[best][i] != found[default][i]:
                lost.append(f"{' on '.join(place)} in {label} ({best} {found[best][i]}, {default} {found[default][i]})")
    return f"**Where the default is not best**: {'; '.join(lost)}." if lost else f"**Where the default is not best**: in none of these {len(groups)} pairs of guide and truth is another method better in PSNR, SAM or ERGAS."


def main():
    """Read arguments, compute, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--output", type=Path, help="Markdown file; printed by default")
    parser.add_argument("--sources", nargs="*", default=[*SOURCES, "simulated"])
    parser.add_argument("--kinds", nargs="*", default=[*KINDS])
    parser.add_argument("--methods", nargs="*", default=[*METHODS])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    lines = ["| guide | truth | method | PSNR [dB] | SAM [°] | ERGAS |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for title, source, found in rows(given.sources, given.kinds, given.methods, folder, given.threads):
            for method, (a, b, c) in found.items():
                lines.append(f"| {title} | {source} | {method} | {a:.2f} | {b:.2f} | {c:.2f} |")
                print(lines[-1], flush=True)
    if given.output:
        write_text(given.output, "# Other guides than Sentinel-2\n\n" + __doc__.split("\n\n", 2)[2].strip() + "\n\n" + "\n".join(lines) + "\n\n" + where_not_best(lines[2:]) + "\n")
        before, rest = GUIDE.read_text().split(BEGIN)
        write_text(GUIDE, before + BEGIN + "\n\n" + "\n".join(summary(lines[2:])) + "\n\n" + END + rest.split(END)[1])


if __name__ == "__main__":
    main()
