"""The benchmark cases against other methods: a Markdown table of PSNR [dB], SAM [degrees] and ERGAS.

    python benchmarks/cases.py                          # all cases in ../shared/data/cases and cases_more
    python benchmarks/cases.py potsdam_hard --method cubic

One set of settings for all. Those of cases_more, simulated from airborne images, have no peers. What is scored is the file that a user gets, with the score that the cases come with. The areas
are small, so the SAM is also given for each case's four quarters: the spread says how far one number can be believed.
"""
import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

import rasterio
from rasterio.windows import Window

from enmap_sharpener.fusion.tuning import DEFAULT
from enmap_sharpener.reconstruction.output import write_scene
from enmap_sharpener.scenes.enmap import read_enmap
from enmap_sharpener.scenes.sentinel2 import read_sentinel2
from enmap_sharpener.sharpening.methods import METHODS
from enmap_sharpener.sharpening.sharpening import sharpen

SHARED = Path(__file__).parents[1] / "../shared"
METRICS = {"psnr": max, "sam_land": min, "ergas": min}    # and which of two is the better


def scorer(shared):
    """The function `score` of the cases' own tool."""
    spec = importlib.util.spec_from_file_location("score", shared / "tools/score.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.score


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


def find_cases(shared):
    """Folders of all cases by their names, those with peers first."""
    folders = [folder for place in ("cases", "cases_more") for folder in sorted((shared / "data" / place).glob("*")) if (folder / "truth.tif").is_file() and any(folder.glob("ENMAP*"))]
    return {folder.name: folder for folder in folders}


def produce(case, output, method="subspace", tuning=DEFAULT):
    """Sharpen a case into the file `output`; what `sharpen` returned."""
    scene, guide = read_enmap(next(case.glob("ENMAP*"))), read_sentinel2(case)
    sharpened = sharpen(scene, guide, method, tuning=tuning)
    write_scene(sharpened, output, scene=scene, guide=guide)
    return sharpened


def run(case, method, score):
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
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/cases and tools/score.py")
    options = parser.parse_args()
    folder = options.shared / "data/cases"
    if not (folder / "peers.json").is_file():
        sys.exit(f"{folder / 'peers.json'}: not there, and the cases are wanted beside it; name their folder with --shared")
    peers, score, cases = json.loads((folder / "peers.json").read_text()), scorer(options.shared), find_cases(options.shared)
    if unknown := set(options.cases) - set(cases):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(cases)}")

    print("| case | best peer in each: PSNR / SAM / ERGAS | this package | its SAM by quarter | agreement | missing | time |")
    print("|---|---|---|---|---|---|---|")
    for name in options.cases or [*peers, *(name for name in cases if name not in peers)]:
        found, parts, agreement, seconds = run(cases[name], options.method, score)
        sam = [part["sam_land"] for part in parts]
        agrees = f"{agreement['rmse']:.5f} (worst band {agreement['worst_band_rmse']:.5f})" if agreement else "–"
        print(f"| {name} | {triple(best(peers[name])) if name in peers else '–'} | {triple(found)} | {min(sam):.2f} – {max(sam):.2f} | {agrees} "
              f"| {found['missing']:g} | {seconds:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
