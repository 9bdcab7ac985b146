"""The constants of `fusion.uncertainty`, fitted with whole sites left out, and how well the intervals hold there.

    python benchmarks/uncertainty.py --output benchmarks/uncertainty.md      # fit: the page, and the constants to put into the notebook
    python benchmarks/uncertainty.py --check potsdam_validation …            # coverage of cases, through the files that a user gets

To do it again after a change of the fusion: run the first, put the constants that it prints into nbs/05_fusion/12_uncertainty.ipynb, export, and look at the cases named `validation` once, with the
second: nothing may be tuned on those.

Sites: the cases with a truth beside the repository (`../shared/data/cases`, `cases_more`) but those for validation; pairs made of their truths with other ratios of the grids (2, 2.5, 3, 4), shifts, blurs,
noise, gains and changed ground; simulated landscapes. The texture of Sentinel-2 images at 20 m, dressed with measured spectra, is looked at and not fitted on: their spectra are made, and fitting on them
makes the one pair of two real sensors worse (2 points). One of them has an image of another day as its guide, when all crops had changed. What is fitted, for each detector, is the logarithm of the 68 % quantile of a band's errors over the relative error of the pixels, by ridge
regression on the evidence of the scene, every site with the same weight. The exponents add up to one.
"""
import argparse
import importlib.util
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import rasterio
from cases import SHARED, find_cases, places, produce
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from enmap_sharpener.core.grid import Axis, Grid, axes
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.core.raster import NODATA, SCALE
from enmap_sharpener.fusion import uncertainty as package
from enmap_sharpener.fusion.error_widths import FADING, TRUSTED
from enmap_sharpener.fusion.measurement import measure_pair
from enmap_sharpener.fusion.pair import Pair
from enmap_sharpener.fusion.subspace import fit_subspace
from enmap_sharpener.reconstruction.uncertainty import write_half_widths
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.guide_bands import SENTINEL2
from enmap_sharpener.scenes.sentinel2 import Sentinel2, read_sentinel2
from enmap_sharpener.simulation.scene import simulate_pair
from enmap_sharpener.simulation.sensors import noise_sigma

RIM, PIXELS = 3, 3000      # pixels at the border that are not looked at, and how many are, of each case
FEWEST = 30                # pixels of a stratum of which anything is told
RIDGE = 0.02               # of the exponents
MADE = [(3, 1, False), (3, 2, True), (2, 3, False), (2.5, 4, False), (4, 5, False), (3, 6, False)]      # ratio, seed, changed ground
FROM = ["potsdam_train", "airport-4_m", "urban-4_m", "jasper_m", "california_m", "salton_m"]
OFF, OFF_CASES = (0.0, 0.05, 0.1, 0.2), ["potsdam_train", "sanfrancisco", "airport-4_m", "jasper_m", "california_m", "salton_m", "urban-4_m"]     # errors of the shift [EnMAP pixels]
TEXTURES = [("fields", "s2_delmarva_32618_native_L1C", (20, 560), 150), ("coast", "s2_delmarva_32618_native_L1C", (330, 780), 150), ("marsh", "s2_delmarva_32618_native_L1C", (780, 330), 150),
            ("city", "s2_augsburg_native", (0, 0), 149), ("parcels", "s2_T43RCP_20200604_native", (0, 0), 132)]     # ground, image, first row and column, side [20 m pixels]
TEXTURED = [(3, 21, False), (2, 22, True)]
SPECTRA, NEAREST = 3, 8     # every which of Potsdam's spectra they are dressed with, and how many with each pixel
OTHER_DAY = ("parcels", "s2_T43RCP_20200813_native")
SIMULATED = [(0, 48, {}), (1, 64, {"change": 1}), (2, 110, {"change": 1, "shift": (0.3, -0.4)}), (3, 64, {"change": 0.5, "noise": 2})]


def site(name):
    """Which ground a case shows."""
    return "train" if name.startswith(("potsdam_train", "potsdam_hard", "train")) else name.split("_")[0]


def read_truth(folder, good):
    """Truth of a case, shape (y, x, good band) [reflectance], and its grid."""
    with rasterio.open(folder / "truth.tif") as file:
        image = file.read().astype(np.float32)
        image[image == file.nodata] = np.nan
        return np.moveaxis(image[good], 0, -1) / 1e4, Grid.laid(file.crs, file.transform, file.shape)


def observed(scene, truth, grid, ratio, seed, changed):
    """A scene and a guide made of a truth: shifts up to 0.4 EnMAP pixels, blur, noise, gains, offsets and a slow field, and patches of other ground."""
    rng, bands, truth = np.random.default_rng(seed), scene.bands.take(np.flatnonzero(scene.bands.good)), np.ascontiguousarray(np.nan_to_num(truth))
    coarse = Grid(grid.crs, *(Axis(a.start, a.step * ratio, int(a.n / ratio + 1e-6)) for a in axes(grid)))
    cube, shift = np.empty((*coarse.shape, len(bands)), np.float32), rng.uniform(-0.3, 0.3, 2)
    for name in ("VNIR", "SWIR"):
        index = np.flatnonzero(bands.detector == name)
        see = Observation.between(coarse, grid, rng.uniform(0.38, 0.52), tuple(shift + rng.uniform(-0.1, 0.1, 2) * (name == "SWIR")))
        if index.size:
            cube[..., index] = see.degrade(np.ascontiguousarray(truth[..., index]), axes=(0, 1))
    cube = np.moveaxis(cube, -1, 0)
    cube = cube + noise_sigma(cube, bands) * rng.standard_normal(cube.shape)
    guide = truth @ SENTINEL2.responses(bands.wavelength).T.astype(np.float32)
    for _ in range(6 * changed):
        n = rng.integers(8, 16)
        (y, x), (v, u) = ((rng.integers(0, s - n) for s in grid.shape) for _ in range(2))
        guide[y:y + n, x:x + n] = guide[v:v + n, u:u + n].copy()
    field = gaussian_filter(rng.standard_normal(grid.shape), max(grid.shape) / 4)[..., None]
    guide = guide * (1 + 0.04 * rng.standard_normal(10) + 0.03 * field / field.std()) + 0.004 * rng.standard_normal(10)
    half = Grid(grid.crs, *(Axis(a.start, 2 * a.step, a.n // 2) for a in axes(grid)))
    twenty = Observation.between(half, grid, 0.45, tuple(rng.uniform(-0.15, 0.15, 2))).degrade(np.ascontiguousarray(guide[..., 4:], np.float32), axes=(0, 1))
    image = lambda g, v: g.georeference(np.ascontiguousarray(np.moveaxis(v + rng.standard_normal(v.shape) * (0.001 + 0.006 * v), -1, 0), np.float32))
    scene = replace(scene, cube=coarse.georeference(cube.astype(np.float32)).chunk(), bands=replace(bands, good=np.ones(len(bands), bool)), quality={})
    return scene, Sentinel2(image(grid, guide[..., :4]), image(half, twenty), None, Path("made"))


def texture(shared, image, corner, side):
    """A window of a Sentinel-2 image at 20 m, where all its ten bands are real: shape (y, x, band) [reflectance]."""
    with np.load(shared / f"data/sentinel2_more/{image}.npz") as file:
        ten, twenty = file["ten"].astype(np.float32), file["tw"]
    half = ten[:, :ten.shape[1] // 2 * 2, :ten.shape[2] // 2 * 2].reshape(4, ten.shape[1] // 2, 2, ten.shape[2] // 2, 2).mean((2, 4))
    (y, x), (h, w) = corner, np.minimum(half.shape[1:], twenty.shape[1:])
    cut = (slice(None), slice(y, min(y + side, h)), slice(x, min(x + side, w)))
    return np.ascontiguousarray(np.moveaxis(np.concatenate([half[cut], twenty[cut]]), 0, -1) / np.float32(1e4))


def between_bands(wavelength):
    """Order of Sentinel-2's bands by wavelength; and for each wavelength [nm] the place in it of the band before, and the weight of the one behind, 0…1."""
    centre = np.array([b.centre for b in SENTINEL2])
    order = np.argsort(centre)
    at = np.clip(np.searchsorted(centre[order], wavelength) - 1, 0, len(order) - 2)
    before, behind = centre[order[at]], centre[order[at + 1]]
    return order, at, np.clip((wavelength - before) / (behind - before), 0, 1)


def dressed(image, spectra, wavelength):
    """Spectra for a Sentinel-2 image, shape (y, x, band): the mean of those of measured ones, (n, band), that are nearest in shape, stretched between the bands so that it is seen as the image has it."""
    response, (order, at, right) = SENTINEL2.responses(wavelength).astype(np.float32), between_bands(wavelength)
    shape = lambda v: v / np.linalg.norm(v, axis=1, keepdims=True)
    pixels, right = image.reshape(-1, image.shape[-1]), right.astype(np.float32)
    drawn = shape(spectra)[cKDTree(shape(spectra @ response.T)).query(shape(pixels), NEAREST)[1]].mean(1)
    ratio = (pixels / (drawn @ response.T))[:, order]
    return (drawn * (ratio[:, at] * (1 - right) + ratio[:, at + 1] * right)).reshape(*image.shape[:2], -1)


def textured(shared, scene, spectra):
    """Pairs of the texture of Sentinel-2 images, with the bands of a scene; and one whose guide is a real image of another day."""
    wavelength = scene.bands.wavelength[scene.bands.good]
    for name, file, corner, side in TEXTURES:
        image = texture(shared, file, corner, side)
        grid = Grid(Grid.of(scene.cube).crs, *(Axis(0.0, 20.0, n) for n in image.shape[:2]))
        truth = dressed(image, spectra, wavelength)
        for ratio, seed, changed in TEXTURED:
            yield f"{name}, ratio {ratio}, seed {seed}", name, *observed(scene, truth, grid, ratio, seed, changed), truth, grid
        if name == OTHER_DAY[0]:
            other = dressed(texture(shared, OTHER_DAY[1], corner, side), spectra, wavelength)
            yield f"{name}, another day", name, observed(scene, truth, grid, 3, 23, False)[0], observed(scene, other, grid, 3, 23, False)[1], truth, grid


def grounds(shared):
    """(name, site, scene, guide, truth, grid) of all that is fitted on."""
    folders = find_cases(places(shared))
    opened = lambda folder: (scene := read_enmap(next(folder.glob("ENMAP*"))), *read_truth(folder, np.flatnonzero(scene.bands.good)))
    for name, folder in folders.items():
        if "validation" not in name:
            scene, truth, grid = opened(folder)
            yield name, site(name), scene, read_sentinel2(folder), truth, grid
    for name in FROM:
        scene, truth, grid = opened(folders[name])
        for ratio, seed, changed in MADE:
            yield f"{site(name)}, ratio {ratio}, seed {seed}", site(name), *observed(scene, truth, grid, ratio, seed, changed), truth, grid
    scene, truth, _ = opened(folders["potsdam_train"])
    yield from textured(shared, scene, truth[np.isfinite(truth).all(-1)][::SPECTRA])
    for seed, size, options in SIMULATED:
        scene, guide, truth = simulate_pair(size=size, seed=seed, **options)
        yield f"simulate, seed {seed}", "simulate", scene, guide, np.moveaxis(truth.values[scene.bands.good], 0, -1), Grid.of(truth)


def looked_at(name, place, scene, guide, truth, grid, off=0.0):
    """What is needed of a case: evidence, errors of some pixels, their relative error, trust and stratum; `off` is added to the measured shifts [EnMAP pixels]."""
    pair = Pair(scene, guide)
    measured = measure_pair(pair)
    pair, moved = measured.pair, lambda g: replace(g, shift=(g.shift[0] + 0.6 * off, g.shift[1] - 0.8 * off))
    model = fit_subspace(pair, measured=replace(measured, vnir=moved(measured.vnir), swir=moved(measured.swir)))
    evidence = package.Evidence.of(model)
    model = replace(model, look=package.Pattern.of(model, evidence))
    full, start = tuple(slice(0, n) for n in pair.fine.shape), [round(float(b.index(a.centres[0]))) for a, b in zip(axes(pair.fine), axes(grid), strict=True)]
    part = tuple(slice(max(0, -s), min(n, m - s)) for s, n, m in zip(start, pair.fine.shape, grid.shape, strict=True))
    true, cube = np.full((*pair.fine.shape, truth.shape[2]), np.nan, np.float32), np.full((len(pair.bands), *pair.fine.shape), NODATA, np.int16)
    true[part] = truth[tuple(slice(p.start + s, p.stop + s) for p, s in zip(part, start, strict=True))]
    relative = np.exp(package.relative_logarithm(model.block(*full, np.arange(len(cube)), cube)))
    error = np.abs(np.moveaxis(np.where(cube == NODATA, np.nan, cube * SCALE), 0, -1) - true)
    held = np.isfinite(error).all(-1)
    held[:RIM] = held[-RIM:] = held[:, :RIM] = held[:, -RIM:] = False
    edge = np.hypot(*np.gradient(true.mean(-1)))
    at = tuple(i[np.random.default_rng(0).permutation(len(i))[:PIXELS]] for i in np.nonzero(held))
    flat, steep = np.nanquantile(edge[held], (0.5, 0.75))
    case = {"name": name, "site": place, "bands": pair.bands, "evidence": evidence, "error": error[at], "relative": relative[at], "trust": model.trust(*full)[at],
            "flat": edge[at] <= flat, "edge": edge[at] >= steep}
    return case | {"features": features(case)}


def features(case):
    """Target, shape (band,), and features of the regressions: with what is seen one scale down, and without."""
    e, sure = case["evidence"], case["trust"] > TRUSTED
    sure = sure if sure.sum() > 100 else np.ones(len(sure), bool)
    target = np.log(package.quantile68(case["error"][sure] / case["relative"][sure, None])) - np.log(max(1, e.growth / package.GUARD))
    log = lambda v: np.log(np.maximum(v, package.LEAST_WIDTH))
    grown, level, detail, shared = log(e.left * e.growth), log(e.level), log(e.detail), log(e.detail * e.share)
    far = case["bands"].wavelength > np.where(case["bands"].vnir, package.EDGES["VNIR"], package.EDGES["SWIR"])
    plan = lambda base, *more: (target - base, np.column_stack([~far, far, *(m - base for m in more)]).astype(float))
    missed = log(e.missed)
    return {"below": (*plan(missed, detail + missed - log(e.below), grown, level, shared), missed), "alone": (*plan(grown, level, detail), grown)}


def solved(cases, name, vnir):
    """Coefficients of a regression over cases, but those of Sentinel-2's texture."""
    cases = [c for c in cases if c["site"] not in {t[0] for t in TEXTURES}]
    sites = [c["site"] for c in cases]
    rows, targets, weights = [], [], []
    for c in cases:
        y, X, _ = c["features"][name]
        pick = c["bands"].vnir == vnir
        if pick.any():
            rows.append(X[pick])
            targets.append(y[pick])
            weights.append(np.full(pick.sum(), 1 / pick.sum() / sites.count(c["site"])))
    X, y, w = np.concatenate(rows), np.concatenate(targets), np.concatenate(weights)[:, None]
    return np.linalg.solve((X * w).T @ X + np.diag([1e-6, 1e-6, *[RIDGE] * (X.shape[1] - 2)]), (X * w).T @ y)


def held_out(cases, case, name="below"):
    """Scale of each band of a case, from all sites but its own."""
    others, (_, X, base), out = [c for c in cases if c["site"] != case["site"]], case["features"][name], np.empty(len(case["bands"]))
    for vnir in (True, False):
        pick = case["bands"].vnir == vnir
        if pick.any():
            out[pick] = np.exp((X @ solved(others, name, vnir) + base)[pick])
    return out * max(1, case["evidence"].growth / package.GUARD)


def covering(case, scale, safe):
    """Where errors are inside the intervals of 68 and 95 %, two of shape (pixel, band)."""
    e = case["evidence"]
    missing = package.MISSING * np.maximum(e.detail, package.PLAIN * e.plain) * np.clip((TRUSTED - case["trust"]) / FADING, 0, 1)[:, None]
    half = safe * np.hypot(scale * case["relative"][:, None], missing)
    return [case["error"] <= width for width in (half, package.FACTOR95 * half)]


def coverage(case, scale, safe):
    """Share of errors inside the intervals of 68 and 95 %: of all, flat and edge pixels, VNIR and SWIR, and untrusted ground."""
    vnir, out = case["bands"].vnir, []
    for inside in covering(case, scale, safe):
        parts = [inside, inside[case["flat"]], inside[case["edge"]], inside[:, vnir], inside[:, ~vnir], inside[case["trust"] < 0.3]]
        out.append([100 * p.mean() if p.size and len(p) >= FEWEST else np.nan for p in parts])
    return np.array(out)


def page(cases):
    """The page: constants, and coverage with each case's own site left out."""
    lines = ["# How well the intervals hold", "", f"Made by `benchmarks/uncertainty.py`: {len(cases)} cases of {len({c['site'] for c in cases})} sites, the site of each left out when its intervals are made. Per cent of "
             "true values inside the 68 % and the 95 % interval, with what is added for safety (published), and at the end without (likely). The grounds with names of landscapes are Sentinel-2's texture, on which nothing is fitted.", "",
             "| case | all | flat | edge | VNIR | SWIR | untrusted | likely |", "|---|---|---|---|---|---|---|---|"]
    text = lambda pair: "–" if np.isnan(pair).any() else "/".join(f"{v:.0f}" for v in pair)
    tables = []
    for c in cases:
        scale = held_out(cases, c)
        table, likely = coverage(c, scale, package.SAFE), coverage(c, scale, 1)
        tables.append(np.concatenate([table, likely[:, :1]], 1))
        lines.append(f"| {c['name']} | " + " | ".join(text(v) for v in tables[-1].T) + " |")
    for name, function in (("mean", np.nanmean), ("least", np.nanmin)):
        lines.append(f"| **{name}** | " + " | ".join(text(v) for v in function(tables, 0).T) + " |")
    lines += ["", "Constants fitted on all sites:", "", "| | logarithms of the factor | exponents |", "|---|---|---|"]
    for name in ("below", "alone"):
        for vnir in (True, False):
            b = solved(cases, name, vnir)
            lines.append(f"| {'VNIR' if vnir else 'SWIR'}, {'with' if name == 'below' else 'without'} what is seen one scale down | {', '.join(f'{v:.3f}' for v in b[:2])} | {', '.join(f'{v:.3f}' for v in b[2:])} |")
    return "\n".join([*lines, "", *single_bands(cases), ""])


def single_bands(cases):
    """A section: how far the scale of single bands is off, and what their intervals hold."""
    off, held = [], []
    fitted = [c for c in cases if c["site"] not in {t[0] for t in TEXTURES}]
    for c in fitted:
        y, _, base = c["features"]["below"]
        true, scale = np.exp(y + base) * max(1, c["evidence"].growth / package.GUARD), held_out(cases, c)
        off.append(np.abs(np.log(true / scale)))
        held.append([100 * inside.mean(0) for inside in covering(c, scale, package.SAFE)])
    off, (held68, held95) = np.concatenate(off), np.concatenate(held, 1)
    share = lambda test: f"{100 * test.mean():.0f}"
    within = [share(off < np.log(1 + more)) for more in (0.2, 0.3, 0.5)]
    return ["## Single bands", "", f"Of the bands of the {len(fitted)} cases that are fitted on, each site left out, the true 68 % scale lay within 20, 30 and 50 % of the likely one for {within[0]}, {within[1]} and {within[2]} %. The published 68 % "
            f"interval of a band of a case held at least 63 % for {share(held68 >= 63)} % of the bands, and at least 50 % for {share(held68 >= 50)} %; that of 95 % held at least 92 % for {share(held95 >= 92)} %, and at least 85 % for {share(held95 >= 85)} %."]


def shifted(shared):
    """A section: coverage with the package's constants where the shift is wrong by more than measuring leaves."""
    lines = ["## A wrong shift", "", f"These {len(OFF_CASES)} cases: {', '.join(OFF_CASES)}; sharpened as if EnMAP lay off from where it was measured by 0 to {OFF[-1]} of its pixels; published intervals, 68 / 95 %, and how much wider they became by themselves, "
             "since what the guide leaves of EnMAP grows. (With the constants of the package, fitted on these sites too.)", "",
             "| wrong by [EnMAP pixels] | mean: all | flat | edge | VNIR | SWIR | least: all | flat | edge | mean width |", "|---" * 10 + "|"]
    folders, first = find_cases(places(shared)), None
    opened = [(n, site(n), scene := read_enmap(next(folders[n].glob("ENMAP*"))), read_sentinel2(folders[n]), *read_truth(folders[n], np.flatnonzero(scene.bands.good))) for n in OFF_CASES]
    for off in OFF:
        tables, widths = [], []
        for ground in opened:
            case = looked_at(*ground, off)
            scale = package._scales(case["bands"], case["evidence"])
            tables.append(coverage(case, package.SAFE * scale, 1)[:, :5])
            widths.append(np.log(scale).mean())
        first = np.mean(widths) if first is None else first
        values = [*np.nanmean(tables, 0).T, *np.nanmin(tables, 0).T[:3]]
        lines.append(f"| {off:g} | " + " | ".join("/".join(f"{v:.0f}" for v in pair) for pair in values) + f" | × {np.exp(np.mean(widths) - first):.2f} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines) + "\n"


def check(names, shared):
    """Coverage of cases by the cases' own tool, a JSON line each."""
    folders = find_cases(places(shared))
    sys.path.append(str(shared / "tools"))
    spec = importlib.util.spec_from_file_location("covered", shared / "tools/coverage.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    sys.path.pop()      # Numba would take the tool for the library of the same name
    for name in names or folders:
        with tempfile.TemporaryDirectory() as place:
            output = Path(place) / "output.tif"
            produce(folders[name], output)
            widths = [write_half_widths(output, Path(place) / f"half{level}.tif", level) for level in (68, 95)]
            print(json.dumps(tool.coverage(folders[name], output, *widths)), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", nargs="*", metavar="CASE", help="names of cases; all by default")
    parser.add_argument("--output", type=Path, help="the page; printed by default")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/cases and tools/coverage.py")
    options = parser.parse_args()
    if options.check is not None:
        return check(options.check, options.shared)
    cases = []
    for ground in grounds(options.shared):
        cases.append(looked_at(*ground))
        print(ground[0], flush=True, file=sys.stderr)
    text = page(cases) + "\n" + shifted(options.shared)
    if options.output and options.output.is_file():      # what was measured by hand stays
        text += "".join(options.output.read_text().partition("\nMeasuring leaves far less")[1:])
    options.output.write_text(text) if options.output else print(text)


if __name__ == "__main__":
    main()
