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
import time
from pathlib import Path

import rasterio
from rasterio.windows import Window

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
    """Sharpen a case and score it; the scores, those of its quarters, agreement with the input, and seconds."""
    with tempfile.TemporaryDirectory() as place:
        output, start = Path(place) / "output.tif", time.perf_counter()
        sharpened = produce(case, output, method)
        seconds = time.perf_counter() - start
        parts = [score(folder, output) for folder in quarters(case / "truth.tif", Path(place) / "parts")]
        return score(case, output), parts, sharpened.report.get("agreement", {}), seconds


def best(peers):
    """For each metric the best of all peers."""
    return {metric: better(peer[metric] for peer in peers.values()) for metric, better in METRICS.items()}


def triple(found):
    """PSNR / SAM / ERGAS."""
    return f"{found['psnr']:.2f} / {found['sam_land']:.3f} / {found['ergas']:.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names; all by default")
    parser.add_argument("--method", choices=list(METHODS), default="subspace")
    parser.add_argument("--cases", dest="folders", type=Path, nargs="+", help="folders of cases, instead of the usual ones")
    options = parser.parse_args()
    peers, cases = json.loads((Path(__file__).parent / "peers.json").read_text()), find_cases(options.folders or places(SHARED))
    if not cases:
        sys.exit(f"{', '.join(map(str, options.folders))}: no case there; wanted folders with an EnMAP product, Sentinel-2 files and truth.tif, as build_cases.py makes them")
    if unknown := set(options.cases) - set(cases):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(cases)}")

    print("| case | best peer in each: PSNR / SAM / ERGAS | this package | its SAM by quarter | agreement | missing | time |")
    print("|---|---|---|---|---|---|---|")
    for name in options.cases or sorted(cases, key=lambda name: name not in peers):
        found, parts, agreement, seconds = run(cases[name], options.method)
        sam = [part["sam_land"] for part in parts]
        agrees = f"{agreement['rmse']:.5f} (worst band {agreement['worst_band_rmse']:.5f})" if agreement else "–"
        print(f"| {name} | {triple(best(peers[name])) if name in peers else '–'} | {triple(found)} | {min(sam):.2f} – {max(sam):.2f} | {agrees} "
              f"| {found['missing']:g} | {seconds:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
