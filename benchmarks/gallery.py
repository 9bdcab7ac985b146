"""The pictures of the README and of the site's gallery, from real and simulated scenes.

    python benchmarks/gallery.py                 # writes output/figures/gallery and gallery.md there
    python benchmarks/gallery.py sanfrancisco    # one of them

Those of Potsdam and of airborne scenes need the cases in ../shared; the others are made in every clone. All numbers under the pictures are computed here.
"""
import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from cases import OWN, SHARED, produce
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from enmap_sharpener.core.files import write_text
from enmap_sharpener.core.grid import Grid
from enmap_sharpener.core.operators import Observation
from enmap_sharpener.evaluation.benchmark import run_benchmark
from enmap_sharpener.evaluation.cases import find_cases
from enmap_sharpener.evaluation.scores import score as evaluate
from enmap_sharpener.evaluation.tables import band_panels, read_results
from enmap_sharpener.evaluation.vegetation import compare_indices, index_figure
from enmap_sharpener.figures.spectra import band_curve, curve_pieces, fit_limits, mark_gaps
from enmap_sharpener.figures.style import (
    COLOURS,
    COMPOSITES,
    DASHES,
    draw_panel,
    ground_extent,
    paint,
    read_view,
    stretch,
    styled,
    write_figure,
)
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.reconstruction.uncertainty import error
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.interpolation import cubic_stencil
from enmap_sharpener.sharpening.sharpening import sharpen
from enmap_sharpener.simulation.scene import simulate

CAPTIONS = "captions.json"
PLACE = Path(__file__).parents[1] / "output/figures/gallery"
ENMAP = "EnMAP data © DLR 2022, from the example data of the EnMAP-Box; Sentinel-2 made of it."
EO1 = "EO-1 Hyperion and ALI, courtesy of the U.S. Geological Survey and NASA; public domain."
AVIRIS = "Made from an airborne image of AVIRIS, courtesy of NASA/JPL-Caltech; both sensors and their differences are simulated."
SIMULATED = "Simulated by this package; no satellite data."


@dataclass(frozen=True)
class Ground:
    """What is before, after, and true of one place.

    Parameters
    ----------
    before, after, truth
        Cubes, dims (band, y, x) [reflectance].
    output
        The written result.
    titles
        Of the three.
    brightest
        Reflectance beyond which a pixel has no say in how bright the picture is: snow would leave all else black.
    """

    before: object
    after: object
    truth: object
    output: Path
    titles: tuple[str, str, str]
    brightest: float = np.inf

    def part(self, view):
        """(west, east, south, north) of a view given as shares of the result's extent, from its upper left."""
        west, east, south, north = ground_extent(self.after)
        left, right, top, bottom = view
        return west + left * (east - west), west + right * (east - west), north - bottom * (north - south), north - top * (north - south)

    def figures(self):
        """The numbers under a picture, beside those of cubic interpolation."""
        found, truth = evaluate(self.after, self.truth)[0], self.truth
        grid, coarse = Grid.of(truth), Grid.of(self.before)
        up = Observation(*(cubic_stencil(a, b) for a, b in ((coarse.rows, grid.rows), (coarse.cols, grid.cols))))
        cubic = evaluate(grid.georeference(up.degrade(np.nan_to_num(self.before.values)), coords=self.before.coords["wavelength"].coords), truth)[0]
        return (f"PSNR {found.psnr:.1f} dB (cubic interpolation {cubic.psnr:.1f}), SAM {found.sam_land:.2f}° ({cubic.sam_land:.2f}°), ERGAS {found.ergas:.2f} ({cubic.ergas:.2f})")


def shared_case(name):
    """Folder of a case, or None."""
    places = [folder / name for folder in (OWN, SHARED / "data/cases", SHARED / "data/cases_more")]
    return next((place for place in places if place.is_dir()), None)


@cache
def ground(name, titles, work):
    """`Ground` of a case; None where it is not there."""
    folder = shared_case(name)
    if folder is None:
        return None
    output = work / f"{name}.tif"
    produce(folder, output)
    return Ground(read_enmap(next(folder.glob("ENMAP*"))).cube.compute(), read_cube(output), read_cube(folder / "truth.tif"), output, titles)


@cache
def simulated(work, relief=0.0):
    """`Ground` of a simulated scene, with mountains of that height [m]."""
    paths = simulate(work / f"simulated{relief:g}", size=120, seed=5, relief=relief)
    scene, guide = read_enmap(paths.enmap), read_sentinel2(paths.sentinel2)
    output = work / f"simulated{relief:g}.tif"
    write_scene(sharpen(scene, guide), output, scene=scene, guide=guide)
    return Ground(scene.cube.compute(), read_cube(output), read_cube(paths.truth), output, ("EnMAP, 30 m", "sharpened, 10 m", "truth, 10 m"), 0.2 if relief else np.inf)


def bands_near(cube, wavelengths):
    """Positions of the bands nearest to some wavelengths [nm]."""
    return [int(np.abs(cube.wavelength.values - nm).argmin()) for nm in wavelengths]


def row(axes, found, wavelengths, view, titles=(None, None, None), frame=None, even=False):
    """Three panels of one view in one stretch; `frame` is drawn on each. With an `even` stretch colours are as they are seen: it is the same for red, green and blue."""
    images = [read_view(cube, bands_near(cube, wavelengths), view) for cube in (found.before, found.after, found.truth)]
    limits = stretch(*(np.where(image > found.brightest, np.nan, image) for image, _ in images))
    if even:
        limits = np.stack([np.full(3, limits[0].min()), np.full(3, limits[1].max())])
    for axis, (image, extent), title in zip(axes, images, titles, strict=True):
        draw_panel(axis, paint(image, limits), extent, view, title)
        if frame:
            west, east, south, north = frame
            axis.add_patch(Rectangle((west, south), east - west, north - south, fill=False, ec="white", lw=1.2))


@styled
def composites(found, names):
    """A row of three panels for each composite."""
    view = ground_extent(found.after)
    shape = (view[3] - view[2]) / (view[1] - view[0])
    figure = Figure(figsize=(9, 3 * shape * len(names) + 0.4 * len(names)))
    for n, (axes, name) in enumerate(zip(figure.subplots(len(names), 3, squeeze=False), names, strict=True)):
        row(axes, found, COMPOSITES[name], view, found.titles if n == 0 else (None,) * 3)
        axes[0].set_ylabel(f"{name}\n({', '.join(map(str, COMPOSITES[name]))} nm)")
    return figure


@styled
def portrait(found, view, zoom, points):
    """Before, after, truth, a zoom, and spectra at points (shares of the extent) with the interval that holds 68 %."""
    whole, near = found.part(view), found.part(zoom)
    figure = Figure(figsize=(11, 6.4))
    grid = figure.add_gridspec(6, 5, width_ratios=(1, 1, 1, 0.12, 1.15))
    above, below = ([figure.add_subplot(grid[rows, i]) for i in range(3)] for rows in (slice(0, 3), slice(3, 6)))
    row(above, found, COMPOSITES["true colour"], whole, found.titles, near)
    row(below, found, COMPOSITES["true colour"], near)
    half = error(found.output, 68)
    for n, (name, share) in enumerate(points.items()):
        axis = figure.add_subplot(grid[2 * n:2 * n + 2, 4])
        x, _, _, y = found.part((share[0], share[0], share[1], share[1]))
        for cube, key in ((found.before, "before"), (found.truth, "truth"), (found.after, "after")):
            values = cube.sel(x=x, y=y, method="nearest").values
            for w, v in curve_pieces(cube.wavelength.values, values):
                axis.plot(w, v, DASHES[key], color=COLOURS[key], lw=2.4 if key == "truth" else 1.2, alpha=0.4 if key == "truth" else 1)
        middle, width = (cube.sel(x=x, y=y, method="nearest").values for cube in (found.after, half))
        axis.fill_between(found.after.wavelength, middle - width, middle + width, color=COLOURS["after"], alpha=0.25, lw=0)
        axis.set_title(f"{n + 1} {name}", fontsize=9)
        axis.tick_params(labelbottom=n == len(points) - 1)
        fit_limits(axis)
        mark_gaps(axis, text=False)
        above[1].annotate(str(n + 1), (x, y), color="white", fontsize=9, ha="center", va="center", bbox={"boxstyle": "circle,pad=0.15", "fc": "black", "ec": "none"})
    axis.set_xlabel("wavelength (nm)")
    lines = [axis.plot([], [], DASHES[key], color=COLOURS[key], label=label, lw=2.4 if key == "truth" else 1.2, alpha=0.4 if key == "truth" else 1)[0]
             for key, label in zip(("before", "after", "truth"), found.titles, strict=True)]
    figure.legend(handles=lines, loc="outside lower right", ncols=3, fontsize=8)
    return figure


@styled
def landscapes(found, views):
    """A row of three panels for each part of a scene."""
    figure = Figure(figsize=(9, 3.1 * len(views)))
    for n, (axes, (name, view)) in enumerate(zip(figure.subplots(len(views), 3, squeeze=False), views.items(), strict=True)):
        row(axes, found, COMPOSITES["true colour"], found.part(view), found.titles if n == 0 else (None,) * 3, even=True)
        axes[0].set_ylabel(name)
    return figure


HYPERION = ("Hyperion at 90 m", "sharpened with ALI, 30 m", "Hyperion at 30 m")
DEGRADED = ("EnMAP at 90 m", "sharpened, 30 m", "EnMAP at 30 m")
MADE = ("at 90 m", "sharpened, 30 m", "truth, 30 m")


def sanfrancisco(work):
    """San Francisco, two real sensors of one platform."""
    found = ground("sanfrancisco", HYPERION, work)
    points = {"houses": (0.62, 0.47), "park": (0.42, 0.545), "water": (0.25, 0.2)}
    return portrait(found, (0, 1, 0.14, 0.589), (0.3, 0.75, 0.36, 0.562), points), EO1, found.figures()


def potsdam(work):
    """Potsdam, real EnMAP, in three composites."""
    found = ground("potsdam_train", DEGRADED, work)
    return found and (composites(found, COMPOSITES), ENMAP, found.figures())


def airborne(name):
    """A picture of a case made from an airborne image."""
    def picture(work):
        found = ground(name, MADE, work)
        return found and (composites(found, ["true colour"]), AVIRIS, found.figures())
    return picture


def simulation(work):
    """Four parts of a simulated scene."""
    found = simulated(work)
    views = {"river": (0.2, 0.5, 0.1, 0.4), "lake": (0.3, 0.65, 0.3, 0.65), "town": (0.62, 0.9, 0.15, 0.43), "woods": (0.2, 0.5, 0.56, 0.86)}
    return landscapes(found, views), SIMULATED, found.figures()


def mountains(work):
    """A simulated valley between mountains, which the sun lights from elsewhere for each sensor."""
    found = simulated(work, 1000.0)
    points = {"forest": (0.37, 0.72), "rock": (0.2, 0.62), "snow": (0.2, 0.78)}
    return portrait(found, (0, 1, 0, 1), (0.12, 0.45, 0.5, 0.83), points), SIMULATED, found.figures()


def indices(name):
    """A vegetation index before and after, and the truth."""
    def picture(work):
        found = ground("potsdam_train_mismatch", DEGRADED, work)
        if found is None:
            return None
        maps, table = compare_indices(found.after, found.before, found.truth)
        before, after = (table.loc[(name, source), "mse"] for source in ("EnMAP", "sharpened"))
        return index_figure(maps, name), ENMAP, f"mean squared error {before:.2g} before, {after:.2g} after"
    return picture


def curves(work):
    """R² and SSIM over the bands, of this package's method and of others."""
    cases = [folder for folder in map(shared_case, ("potsdam_train", "sanfrancisco")) if folder]
    run_benchmark(find_cases(cases), ["subspace", "gsa", "sfim", "mtf-glp", "cubic"], work / "evaluation")
    _, bands = read_results(work / "evaluation")
    return band_curve({key: table for key, table in band_panels(bands).items() if key[0] != "mean"}, ("r2", "ssim")), f"{ENMAP} {EO1}", ""


PICTURES: dict[str, tuple[str, Callable]] = {
    "sanfrancisco": ("San Francisco: two real sensors", sanfrancisco),
    "potsdam": ("Potsdam: real EnMAP", potsdam),
    "jasper": ("A lake and roads (Jasper Ridge)", airborne("jasper_m")),
    "salton": ("A shore (Salton Sea)", airborne("salton_m")),
    "california": ("Hills and a creek", airborne("california_m")),
    "airport": ("A runway", airborne("airport-4_m")),
    "urban": ("Tanks", airborne("urban-4_m")),
    "simulation": ("Four landscapes", simulation),
    "mountains": ("Mountains, forest to snow", mountains),
    "ndvi": ("NDVI, of images of different days", indices("NDVI")),
    "ndii": ("NDII, of images of different days", indices("NDII")),
    "bands": ("R² and SSIM over the bands", curves),
}


def page(captions):
    """Lines of a page with all pictures."""
    yield from ("# Gallery", "", "Each picture shows what went in, what came out, and what is true. `python benchmarks/gallery.py` draws them, and computes the numbers.", "")
    for name, caption in captions.items():
        yield from (f"## {caption['title']}", "", f"![{caption['title']}]({name}.png)", "", " ".join(filter(None, [caption["figures"] and caption["figures"] + ".", f"*{caption['source']}*"])), "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="*", help=f"of {', '.join(PICTURES)}; all by default")
    parser.add_argument("--output", type=Path, default=PLACE)
    options = parser.parse_args()
    if unknown := set(options.pictures) - set(PICTURES):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(PICTURES)}")
    options.output.mkdir(parents=True, exist_ok=True)
    captions = json.loads((options.output / CAPTIONS).read_text()) if (options.output / CAPTIONS).exists() else {}
    with tempfile.TemporaryDirectory() as work:
        for name in options.pictures or PICTURES:
            title, make = PICTURES[name]
            made = make(Path(work))
            if made is None:
                print(f"{name}: its case is not there; the picture stays as it is")
                continue
            figure, source, figures = made
            write_figure(figure, options.output / f"{name}.png", dpi=100)
            captions[name] = {"title": title, "figures": figures, "source": source}
            print(f"{name}: {title}. {figures}", flush=True)
    captions = {name: captions[name] for name in PICTURES if name in captions}
    write_text(options.output / CAPTIONS, json.dumps(captions, ensure_ascii=False, indent=1) + "\n")
    write_text(options.output / "gallery.md", "\n".join(page(captions)))


if __name__ == "__main__":
    main()
