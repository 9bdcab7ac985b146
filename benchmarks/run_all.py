"""All benchmarks of speed and quality, one after the other, into one page with the machine that they ran on.

    make bench                                            # about an hour on two cores; writes benchmarks/RESULTS.md
    python benchmarks/run_all.py cases full_scene         # some of them; the others stay in the page as they were
"""
import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

from full_scene import machine

from enmap_sharpener.core.files import write_text

HERE = Path(__file__).parent
RUNS = {     # heading and arguments of each script
    "cases": ("Against other methods", ()),
    "full_scene": ("A whole scene", ("--output", HERE / "full_scene.md")),
    "strips": ("A strip", ("--output", HERE / "strips.md")),
    "network_scene": ("A network on a scene", ()),
    "twenty_to_ten": ("20 m bands at 10 m", ("--output", HERE / "twenty_to_ten.md")),
    "dates": ("Several dates", ("--output", HERE / "dates.md")),
    "ablation": ("What each part brings", ()),
    "many_scenes": ("Many scenes", ("--output", HERE / "many_scenes.md")),
    "download": ("Downloads", ()),
    "preprocess": ("Preprocessing", ()),
}
PAGE = HERE / "RESULTS.md"


def sections():
    """Heading to text of the page as it is."""
    if not PAGE.exists():
        return {}
    parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def ran(script, arguments):
    """What a script printed of tables, or the last line of its error."""
    done = subprocess.run([sys.executable, HERE / f"{script}.py", *map(str, arguments)], capture_output=True, text=True, cwd=HERE.parent)
    if done.returncode:
        return f"Not run: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f'status {done.returncode}'}"
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|") or not line)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", help=f"of {', '.join(RUNS)}; all by default")
    options = parser.parse_args()
    if unknown := set(options.runs) - set(RUNS):
        sys.exit(f"{', '.join(sorted(unknown))}: not known; choose from {', '.join(RUNS)}")
    texts = sections()
    for script in options.runs or RUNS:
        heading, arguments = RUNS[script]
        print(f"{script}.py ...", flush=True)
        stamp = f"{datetime.date.today().isoformat()}, {machine()}; `benchmarks/{script}.py`."
        texts[heading] = f"\n{stamp}\n\n{ran(script, arguments).strip()}\n\n"
        order = {heading: n for n, (heading, _) in enumerate(RUNS.values())}
        body = "".join(f"## {heading}\n{text}" for heading, text in sorted(texts.items(), key=lambda item: order.get(item[0], len(order))))
        write_text(PAGE, f"# Results\n\nWhat `make bench` measured. Compare within a section: times hold for the machine and its load, ratios and scores for more.\n\n{body.rstrip()}\n")


if __name__ == "__main__":
    main()
