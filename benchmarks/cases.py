"""The benchmark cases against other methods: a Markdown table of PSNR [dB], SAM [degrees] and ERGAS.

    python benchmarks/cases.py                          # all cases in ../shared/data/cases and cases_more; without these, the one of tests/data
    python benchmarks/cases.py potsdam_hard --method cubic
    python benchmarks/cases.py --cases data/cases       # those that build_cases.py makes

One set of settings for all. What other methods reach is in peers.json; those of cases_more, simulated from airborne images, have no peers. What is scored is the file that a user gets, with
`evaluation.scores`. The areas are small, so the SAM is also given for each case's four quarters: the spread says how far one number can be believed.
"""
import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from enmap_sharpener.core.files import write_text
from enmap_sharpener.evaluation.scores import score as evaluate
from enmap_sharpener.fusion.tuning import DEFAULT
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.cubes import read_cube
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.methods import METHODS
from enmap_sharpener.sharpening.sharpening import sharpen

SHARED, OWN = Path(__file__).parents[1] / "../shared", Path(__file__).parents[1] / "tests/data/cases"
METRICS = {"psnr": max, "sam_land": min, "ergas": min}    # and which of two is the better


def score(case, output):
    """PSNR [dB], SAM of land [degrees], ERGAS and the share of missing pixels of a result, against the truth in the folder `case`."""
    return evaluate(read_cube(output), read_cube(case / "truth.tif"))[0]


def quarters(truth, place):
    """The truth cut into four, each as a case of its own; their folders."""
    with rasterio.open(truth) as file:
        height, width = file.height // 2, file.width // 2
        for row in range(2):
            for col in range(2):
                window = Window(col * width, row * height, width, height)
                folder = place / f"{row}{col}"
                folder.mkdir(parents=True)
                profile = {**file.profile, "width": width, "height": height, "transform": file.window_transform(window)}
                with rasterio.open(folder / "truth.tif", "w", **profile) as part:
                    part.write(file.read(window=window))
                    for i in file.indexes:
                        part.update_tags(i, **file.tags(i))
                yield folder


def places(shared):
    """Folders of cases: those of `shared`, or where it is not there the one that comes with the repository."""
    return [shared / "data/cases", shared / "data/cases_more"] if (shared / "data/cases").is_dir() else [OWN]


def find_cases(folders):
    """Folders of all cases by their names, in order."""
    found = [case for folder in folders for case in sorted(folder.glob("*")) if (case / "truth.tif").is_file() and any(case.glob("ENMAP*"))]
    return {case.name: case for case in found}


def produce(case, output, method="subspace", tuning=DEFAULT):
    """Sharpen a case into the file `output`; what `sharpen` returned."""
    scene, guide = read_enmap(next(case.glob("ENMAP*"))), read_sentinel2(case)
    sharpened = sharpen(scene, guide, method, tuning=tuning)
    write_scene(sharpened, output, scene=scene, guide=guide)
    return sharpened


def run(case, method):
    """Sharpen a case and score it; the scores, those of its quarters, and agreement with the input."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output.tif"
        sharpened = produce(case, output, method)
        parts = [score(folder, output) for folder in quarters(case / "truth.tif", Path(place) / "parts")]
        return score(case, output), parts, sharpened.report.get("agreement", {})


def best(peers):
    """For each metric the best of all peers."""
    return {metric: better(peer[metric] for peer in peers.values()) for metric, better in METRICS.items()}


def triple(found):
    """PSNR / SAM / ERGAS."""
    return f"{found['psnr']:.2f} / {found['sam_land']:.3f} / {found['ergas']:.3f}"


GROUPS = {"Potsdam": ("potsdam_train", "potsdam_validation"), "another day": ("potsdam_train_mismatch", "potsdam_validation_mismatch"),
          "changed, cloudy": ("potsdam_hard",), "San Francisco": ("sanfrancisco",)}
NAMES = {"SFIMHS": "SFIM", "GLPHS": "MTF-GLP", "bilinear": "bilinear interpolation", "cubic": "cubic interpolation"}


def by_method(peers, own):
    """Lines of a table with a row for each method: means over the cases of each group."""
    groups = {group: names for group, names in GROUPS.items() if set(names) <= set(own)}
    if not groups:
        return
    yield f"| PSNR / SAM / ERGAS | {' | '.join(groups)} |"
    yield "|---" * (len(groups) + 1) + "|"
    rows = {NAMES.get(name, name): {case: found[name] for case, found in peers.items() if name in found} for name in dict.fromkeys(n for found in peers.values() for n in found)}
    for name, found in {**rows, "**this package**": own}.items():
        cells = [triple({metric: np.mean([found[case][metric] for case in names]) for metric in METRICS}) if set(names) <= set(found) else "–" for names in groups.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def by_case(peers, results):
    """Lines of a table with a row for each case."""
    yield "| case | best peer in each: PSNR / SAM / ERGAS | this package | its SAM by quarter | agreement | missing |"
    yield "|---|---|---|---|---|---|"
    for name, (found, parts, agreement) in results.items():
        sam = [part["sam_land"] for part in parts]
        agrees = f"{agreement['rmse']:.5f} (worst band {agreement['worst_band_rmse']:.5f})" if agreement else "–"
        yield (f"| {name} | {triple(best(peers[name])) if name in peers else '–'} | {triple(found)} | {min(sam):.2f} – {max(sam):.2f} | {agrees} "
               f"| {found['missing']:g} |")


LABELS = {"psnr": "PSNR", "sam_land": "SAM", "ergas": "ERGAS"}


def where_not_best(peers, own):
    """A sentence on the cases in which a peer scores better, from the scores of each case by its name."""
    tried = {name: found for name, found in own.items() if name in peers}
    lost = [f"{name} in {LABELS[metric]} ({NAMES.get(peer, peer)} {peers[name][peer][metric]:.3f}, this package {found[metric]:.3f})"
            for name, found in tried.items() for metric, better in METRICS.items()
            for peer in [better(peers[name], key=lambda p: peers[name][p][metric])]
            if better(peers[name][peer][metric], found[metric]) != found[metric]]
    if lost:
        return f"**Where it is not best**: {'; '.join(lost)}."
    unknown = f" On the {len(own) - len(tried)} others no peer was run, so nothing is known." if len(own) > len(tried) else ""
    return f"**Where it is not best**: in none of the {len(tried)} cases with peers is one of them better in PSNR, SAM or ERGAS.{unknown}"


PAGE = """# Against other methods, case by case

{by_method}

{by_case}

{not_best}

Agreement is the RMSE [reflectance] of the degraded result against the input. The areas are a few thousand pixels each: the SAM of the four quarters of each case says how far one number can be believed,
and nothing global is claimed. What the peers reach is in `benchmarks/peers.json`. `python benchmarks/cases.py --output benchmarks/cases.md` makes this page.
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names; all by default")
    parser.add_argument("--method", choices=list(METHODS), default="subspace")
    parser.add_argument("--cases", dest="folders", type=Path, nargs="+", help="folders of cases, instead of the usual ones")
    parser.add_argument("--output", type=Path, help="also write the page")
    options = parser.parse_args()
    peers, cases = json.loads((Path(__file__).parent / "peers.json").read_text()), find_cases(options.folders or places(SHARED))
    if not cases:
        sys.exit(f"{', '.join(map(str, options.folders))}: no case there; wanted folders with an EnMAP product, Sentinel-2 files and truth.tif, as build_cases.py makes them")
    if unknown := set(options.cases) - set(cases):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(cases)}")
    results = {}
    for name in options.cases or sorted(cases, key=lambda name: name not in peers):
        results[name] = run(cases[name], options.method)
        print(*list(by_case(peers, {name: results[name]}))[2 * (len(results) > 1):], sep="\n", flush=True)
    own = {name: found for name, (found, *_) in results.items()}
    methods = list(by_method(peers, own))
    print("", *methods, sep="\n")
    if options.output:
        write_text(options.output, PAGE.format(by_method="\n".join(methods), by_case="\n".join(by_case(peers, results)), not_best=where_not_best(peers, own)))


if __name__ == "__main__":
    main()
