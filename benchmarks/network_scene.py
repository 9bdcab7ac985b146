"""What supErMAPnet costs for a pixel of a scene on processors, halos included: as it flows by rows, and layer by layer in the backend.

    python benchmarks/network_scene.py                        # the shipped network, 224 bands
    python benchmarks/network_scene.py --repeats 3 --core 60

Both compute the same tiles within their halos in one run and take turns; processor time is counted, which other work on the machine changes less than
the clock. A scene's tile has up to 174 pixels a side; layer by layer, 2 GB of feature maps allow 88 with the halo, so 70 without.
"""
import argparse
import os
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from threadpoolctl import threadpool_limits

from enmap_sharpener.model.memory import MOST_STREAMED, tile_side
from enmap_sharpener.model.streaming import Streamed
from enmap_sharpener.sharpening.network import apply, open_network

HERE = Path(__file__).parent


def tile(core, halo, bands):
    """`x` and `x1` of a tile, smooth along pixels and bands as scenes are, with a standard deviation of one."""
    rng, side = np.random.default_rng(core), core + 2 * halo
    smooth = lambda shape, sigma: (lambda a: (a / a.std()).astype(np.float32))(gaussian_filter(rng.standard_normal(shape), sigma))
    return smooth((side, side, 4), (1, 1, 0)), smooth((side, side, bands), (1.5, 1.5, 3))


def seconds(function):
    """Processor seconds of a call, and what it gave."""
    begun = time.process_time()
    made = function()
    return time.process_time() - begun, made


def measured(net, bands, core, repeats):
    """Rows of (form, core, processor ms a pixel, largest difference): medians."""
    flow, halo = Streamed(net), net.reach[0]
    plain = lambda x, x1: apply(net, x[None], x1[None, ..., None])[0, halo:-halo, halo:-halo]
    forms = [("by rows", flow, MOST_STREAMED), ("by rows", flow, core), ("layer by layer", plain, core)]
    inputs = {side: tile(side, halo, bands) for _, _, side in forms}
    for _, form, _ in forms[1:]:
        form(*tile(8, halo, bands))      # what is compiled is compiled then
    taken, made = [[] for _ in forms], {}
    for _ in range(repeats):
        for i, (name, form, side) in enumerate(forms):
            spent, out = seconds(lambda form=form, side=side: form(*inputs[side]))
            taken[i].append(1e3 * spent / side**2)
            made[name, side] = out
    difference = np.abs(made["by rows", core] - made["layer by layer", core]).max()
    return [(name, side, float(np.median(t)), difference if side == core and form is flow else 0.0) for (name, form, side), t in zip(forms, taken, strict=True)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=HERE.parent / "output/models/supErMAPnet.keras")
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--core", type=int, help="side of a tile without its halo [pixels]; by default what 2 GB allow layer by layer")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    net, _ = open_network(str(options.model))
    cores = len(os.sched_getaffinity(0))
    with threadpool_limits(1, user_api="blas"):
        rows = measured(net, options.bands, options.core or tile_side(net, options.bands) - 2 * net.reach[0], options.repeats)
    slowest = rows[-1][2]
    print(f"| form | tile without halo | CPU ms a pixel | ms a pixel of {cores} cores | times less | a scene of 3000 x 3000 on {cores} cores [h] | largest difference [spreads] |\n|---|--:|--:|--:|--:|--:|--:|")
    for name, side, ms, difference in rows:
        print(f"| {name} | {side} | {ms:.2f} | {ms / cores:.2f} | {slowest / ms:.1f} | {ms / cores * 9e6 / 3.6e6:.1f} | {f'{difference:.0e}' if difference else '–'} |")


if __name__ == "__main__":
    main()
