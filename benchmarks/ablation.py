"""What each part of the default method brings: a Markdown table of the mean change of PSNR [dB] and the mean ratios of SAM and ERGAS.

    python benchmarks/ablation.py                       # all cases, about four minutes
    python benchmarks/ablation.py potsdam_train jasper_m

Each part alone, and all, against the method without any of them; the tables are for the cases with peers and for the further ones. It goes by `cases.py`, whose files and score these are.
"""
import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from cases import METRICS, SHARED, find_cases, places, produce, score

from enmap_sharpener.fusion.tuning import DEFAULT

WITHOUT = {"blur_alike": 0.0, "swir_shift": False, "guided_bands": False, "guided_residual": False, "detail_relations": False}
PARTS = {"A a soft choice of the SWIR's blur": ["blur_alike"], "B guided kriging of B11 and B12": ["guided_bands"], "C the shift of the SWIR's guide tried on EnMAP": ["swir_shift"],
         "A to C": ["blur_alike", "guided_bands", "swir_shift"], "D guided kriging of what the guide leaves": ["guided_residual"],
         "E what detail tells of detail, as strongly as the scene says": ["detail_relations"], "all": list(WITHOUT)}


def scores(cases, **changed):
    """PSNR, SAM and ERGAS of each case, shape (case, metric)."""
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / "output.tif"
        found = []
        for case in cases:
            produce(case, output, tuning=replace(DEFAULT, **changed))
            found.append([score(case, output)[metric] for metric in METRICS])
            for file in Path(place).iterdir():
                file.unlink()
    return np.array(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="names; all by default")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with data/cases, data/cases_more")
    options = parser.parse_args()
    cases = find_cases(places(options.shared))
    if unknown := set(options.cases) - set(cases):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(cases)}")
    chosen = [cases[name] for name in options.cases or cases]
    plain = scores(chosen, **WITHOUT)
    groups = {place: [i for i, case in enumerate(chosen) if case.parent.name == place] for place in ("cases", "cases_more")}
    groups = {place: members for place, members in groups.items() if members}
    print("| part | " + " | ".join(f"{len(members)} of {place}: PSNR, SAM, ERGAS" for place, members in groups.items()) + " |")
    print("|---|" + "---|" * len(groups))
    for part, kept in PARTS.items():
        found = scores(chosen, **{name: value for name, value in WITHOUT.items() if name not in kept})
        told = [f"{(found - plain)[members, 0].mean():+.2f} dB, × {(found / plain)[members, 1].mean():.3f}, × {(found / plain)[members, 2].mean():.3f}" for members in groups.values()]
        print(f"| {part} | " + " | ".join(told) + " |", flush=True)


if __name__ == "__main__":
    main()
