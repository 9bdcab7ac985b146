"""How fast supErMAPnet is: seconds a tile, pixels a second, and where the time goes; two Markdown tables.

    python benchmarks/network.py                              # 32 x 32 pixels, 224 bands, on what there is
    KERAS_BACKEND=jax python benchmarks/network.py --repeats 9

The plain form, one tile at a time, is what the thesis code runs; the factored form gives the same numbers. All forms take turns in one run, so
that a busy machine slows all of them; medians are given. The second table times every part of the factored form alone, from its inputs in the
device's memory, with the multiply-adds that it takes.
"""
import argparse
import time

import numpy as np

from enmap_sharpener.model.supermapnet import SupErMAPnet, keras, ops


class Alone(keras.Model):
    """A function of tensors as a model of its own, so that the backend compiles it; gives a mean for each tile, which costs little to fetch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        out = ops.cast(self.function(*inputs), "float32")
        return ops.mean(out, axis=tuple(range(1, len(out.shape))))


def medians(functions, repeats):
    """Median seconds of each function by name; they take turns, after one call each that does not count."""
    seconds = {name: [] for name in functions}
    for i in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if i:
                seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(s)) for name, s in seconds.items()}


def network(form, dtype, weights=None):
    """A network with given weights."""
    net = SupErMAPnet(form=form, dtype=dtype)
    net.build()
    if weights:
        net.set_weights(weights)
    return net


def forms(size, bands, repeats):
    """The first table: rows of (form, numbers, batch, seconds a tile, pixels a second, times as fast, largest difference)."""
    rng = np.random.default_rng(0)
    x, x1 = rng.standard_normal((4, size, size, 4)).astype("float32"), rng.standard_normal((4, size, size, bands, 1)).astype("float32")
    plain = network("plain", "float32")
    chosen = [("plain", "float32", 1), *(("factored", dtype, batch) for dtype in ("float32", "mixed_bfloat16") for batch in (1, 4))]
    nets = {dtype: network("factored", dtype, plain.get_weights()) for dtype in ("float32", "mixed_bfloat16")}
    run = lambda form, dtype, batch: np.asarray((plain if form == "plain" else nets[dtype]).predict_on_batch([x[:batch], x1[:batch]]), np.float32)
    seconds = medians({key: lambda key=key: run(*key) for key in chosen}, repeats)
    truth, reference = run(*chosen[0]), seconds[chosen[0]]
    for key in chosen:
        each = seconds[key] / key[2]
        yield *key, each, size**2 / each, reference / each, float(np.abs(run(*key)[:1] - truth).max())


def parts(net, size, bands):
    """Parts of the factored form: name -> (function, shapes of its inputs, multiply-adds a pixel)."""
    out, s = {}, net.settings
    channels, before = s["channels"], None
    for layer in net.detail:
        out[layer.name] = layer, [(channels,)], layer.size**2 * channels * layer.filters
        channels = layer.filters
    kernel = s["main_kernels"][0]
    out["main_1"] = net.first, [(bands, 1)], int(np.prod(kernel)) * s["main_filters"][0] * bands
    for i, layer in enumerate([*net.injected, net.last]):
        before, detail, taps = s["main_filters"][i], s["detail_filters"][i], layer.size[2]
        flat = int(np.prod(layer.size[:2])) * taps * layer.filters
        out[f"{layer.name}, spectra"] = lambda m, e=layer: e._along_bands(m, e.kernel[..., :e.channels, :]), [(bands, before)], flat * before * bands
        out[f"{layer.name}, injected"] = (lambda d, e=layer: e._injected(d, e.kernel[..., e.channels:, :], bands), [(detail,)],
                                          flat * detail + bands * taps * layer.filters)
    out["leaky rectifier, 3 times"] = lambda m: ops.leaky_relu(ops.leaky_relu(ops.leaky_relu(m, 0.3), 0.3), 0.3), [(bands, s["main_filters"][0])], 0
    return {name: (function, [(1, size, size, *shape) for shape in shapes], work) for name, (function, shapes, work) in out.items()}


def profile(size, bands, repeats):
    """The second table: rows of (part, seconds a tile, share of their sum, multiply-adds a pixel, 10⁹ multiply-adds a second)."""
    rng, found = np.random.default_rng(0), parts(network("factored", "float32"), size, bands)
    ready = {}
    for name, (function, shapes, _) in found.items():
        inputs = [ops.convert_to_tensor(rng.standard_normal(shape).astype("float32")) for shape in shapes]
        model = Alone(function)
        ready[name] = lambda model=model, inputs=inputs: np.asarray(model.predict_on_batch(inputs))
    seconds = medians(ready, repeats)
    for name, (_, _, work) in found.items():
        yield name, seconds[name], seconds[name] / sum(seconds.values()), work, work * size**2 / seconds[name] / 1e9


def main():
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, help="pixels a side of a tile")
    parser.add_argument("--bands", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    devices = ", ".join(keras.distribution.list_devices())
    print(f"Tiles of {options.size} x {options.size} pixels and {options.bands} bands; Keras {keras.__version__} on {keras.backend.backend()}, {devices}; "
          f"medians of {options.repeats}\n")
    print("| form | numbers | batch | s a tile | pixels a second | times as fast | largest difference |\n|---|---|--:|--:|--:|--:|--:|", flush=True)
    for form, numbers, batch, each, rate, ratio, off in forms(options.size, options.bands, options.repeats):
        print(f"| {form} | {numbers} | {batch} | {each:.4f} | {rate:,.0f} | {ratio:.2f} | {off:.1e} |", flush=True)
    print("\n| part of the factored form | ms a tile | share | multiply-adds a pixel | 10⁹ multiply-adds a second |\n|---|--:|--:|--:|--:|", flush=True)
    for name, each, share, work, rate in profile(options.size, options.bands, options.repeats):
        print(f"| {name} | {1000 * each:.1f} | {100 * share:.1f} % | {work:,} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
