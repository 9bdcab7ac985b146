"Precision of a network: layers compute in what was asked for, and what they are added to keeps its digits."
import numpy as np
import pytest

pytest.importorskip("keras")
from enmap_sharpener.model.data import RIM, _forget_rim  # noqa: E402
from enmap_sharpener.model.supermapnet import Contract, SupErMAPnet, load_model, save_model  # noqa: E402

SMALL = dict(detail_filters=(4, 4, 2), main_filters=(4, 4, 4))


def built(**settings):
    net = SupErMAPnet(**SMALL, **settings)
    net.build()
    return net


def numbers(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layers_of(net):
    return [net.first, net.last, *net.injected, *net.detail, *(part for d in net.detail for part in (d.conv, d.norm))]


@pytest.mark.parametrize("policy, computed", [("mixed_bfloat16", "bfloat16"), ("float32", "float32")])
def test_every_layer_computes_in_what_was_asked_for(policy, computed):
    net = built(dtype=policy)
    assert {layer.compute_dtype for layer in layers_of(net)} == {computed}
    assert {str(v.dtype) for v in net.variables} == {"float32"}


def test_what_the_layers_are_added_to_keeps_its_digits():
    "A network that adds nothing returns `x1` to the last digit, in mixed precision too."
    x, x1 = numbers((1, 12, 12, 4), 0), numbers((1, 12, 12, 20, 1), 1)
    np.testing.assert_array_equal(np.asarray(built(dtype="mixed_bfloat16", zero_start=True)([x, x1])), x1[..., 0])


def test_both_precisions_give_about_the_same():
    x, x1 = numbers((1, 12, 12, 4), 0), numbers((1, 12, 12, 20, 1), 1)
    plain, mixed = built(residual=0.1), built(residual=0.1, dtype="mixed_bfloat16")
    mixed.set_weights(plain.get_weights())
    one, two = (np.asarray(net([x, x1])) - x1[..., 0] for net in (plain, mixed))
    assert one.std() > 1e-3 and 0 < np.abs(one - two).max() < 0.05 * np.abs(one).max()


@pytest.mark.parametrize("base", ["interpolated", "regression", "subspace"])
def test_a_file_keeps_the_contract(tmp_path, base):
    save_model(built(contract=Contract(base)), tmp_path / "net.keras")
    assert load_model(tmp_path / "net.keras").contract.base == base


def test_only_cut_edges_are_forgotten():
    pixels, bands = RIM
    for start, first, last in ((0, 0, bands), (30, bands, bands), (80, bands, 0)):
        y = np.zeros((2, 24, 20, 20), np.float32)
        _forget_rim(y, start, 100)
        kept = np.isfinite(y)
        assert kept[:, pixels:-pixels, pixels:-pixels, first:20 - last].all() and kept.sum() == 2 * (24 - 2 * pixels) * (20 - 2 * pixels) * (20 - first - last)


def test_a_tile_of_few_pixels_keeps_some():
    y = np.zeros((1, 5, 5, 3), np.float32)
    _forget_rim(y, 4, 100)
    assert np.isfinite(y).any()
