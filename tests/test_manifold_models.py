"""ManifoldMixup and the models it is for: wrapped, compiled, copied, in several processes; and all that it refuses."""

import copy
import gc
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from miamix_cpu import ManifoldMixup, MiAMix, MiAMixBatch, MiAMixCollator, MiAMixConfig, mixed_cross_entropy
from miamix_cpu.manifold import mix_features
from tests.test_manifold import (
    BYTES,
    CLASSES,
    LAYERS,
    N,
    choosing,
    forward_by_hand,
    gradients,
    make,
    network,
    numpy_batch,
)


def compiled(model, backend="eager", **options):
    try:
        return torch.compile(model, backend=backend, **options)
    except RuntimeError as error:  # this Python or system is too new, or too old
        pytest.skip(f"torch.compile does not work here: {error}")


def test_torch_compile():
    """Without a graph break, once a layer."""
    torch.compiler.reset()
    counts = torch._dynamo.utils.counters["stats"]
    before, model = counts["unique_graphs"], network()
    manifold = ManifoldMixup(model, LAYERS[1:])
    fast = compiled(model, "aot_eager", fullgraph=True)
    for seed in range(2):
        for layer in LAYERS[1:]:
            batch = choosing(make("fmix", seed=seed), layer, LAYERS[1:])
            with manifold(batch):
                logits = fast(batch.images)
            with manifold(batch):
                expected = model(batch.images)
            torch.testing.assert_close(logits, expected)
            for found, eager in zip(*(gradients(model, x, batch.targets) for x in (logits, expected)), strict=True):
                torch.testing.assert_close(found, eager, rtol=1e-4, atol=1e-6)
    assert counts["unique_graphs"] - before == len(LAYERS[1:])


def test_hooks_that_compiled_code_does_not_have_are_missed():
    model, batch = network(), make()
    fast = compiled(model)
    fast(batch.images)
    words = "layer '3' must run once .* ran 0 times: .* make ManifoldMixup before torch.compile"
    with pytest.raises(RuntimeError, match=words), ManifoldMixup(fast, ["3"])(batch):
        fast(batch.images)


def train_rank(rank, folder):
    """Save a rank's gradients after a step of DistributedDataParallel."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    model = DistributedDataParallel(network())
    manifold = ManifoldMixup(model, ["input", "module.1", "3"])
    batch = of_rank(rank)
    with manifold(batch) as layer:
        logits = model(batch.images)
    mixed_cross_entropy(logits, batch.targets).backward()
    torch.save((layer, manifold.layers, [p.grad for p in model.parameters()]), f"{folder}/{rank}")
    del model
    gc.collect()  # as in examples/ddp.py
    dist.destroy_process_group()


def of_rank(rank):
    return make("fmix", samples=BYTES[N * rank :][:N], seed=1)


@pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
def test_ranks_may_mix_different_layers(tmp_path):
    torch.multiprocessing.spawn(train_rank, (str(tmp_path),), 2)
    found = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    chosen = [layer for layer, _, _ in found]
    assert len(set(chosen)) == 2, "this seed must choose two"
    assert found[0][1] == ["input", "1", "3"]
    model, own = network(), []
    for rank, layer in enumerate(chosen):
        batch = of_rank(rank)
        own.append(gradients(model, forward_by_hand(model, batch, layer), batch.targets))
    for _, _, grads in found:
        for grad, first, second in zip(grads, *own, strict=True):
            torch.testing.assert_close(grad, (first + second) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("wrap", [lambda m: m, DataParallel, compiled, lambda m: compiled(DataParallel(m))])
def test_layers_by_name_and_by_module_of_a_wrapped_model(wrap):
    inner = network()
    model = wrap(inner)
    manifold = ManifoldMixup(model, ["input", inner[1], "3", inner[4]])
    assert manifold.layers == LAYERS


class Wrapper(nn.Module):
    """Whose part is called as DistributedDataParallel calls its own."""

    def __init__(self):
        super().__init__()
        self.module, self.head = network(), nn.Linear(CLASSES, 2)

    def forward(self, images, twice=0):
        for _ in range(twice):
            self.module(images)
        return self.head(self.module(images * 2))


def test_a_part_called_module_is_no_wrapper():
    model, batch = Wrapper(), make()
    manifold = ManifoldMixup(model, ["input", "module.3", "head"])
    for layer in manifold.layers:
        with manifold(choosing(batch, layer, manifold.layers)):
            assert len(model(batch.images)) == N


@pytest.mark.parametrize(("features", "error", "words"), [
    (torch.zeros(N, 5, 6), ValueError, r"features must be \(N, C, H, W\) for masks, got \(8, 5, 6\): use mixup alone"),
    (torch.zeros(N, 8, 6, 32), ValueError, r"got \(8, 8, 6, 32\), which looks like \(N, H, W, C\): use mixup alone"),
    (torch.zeros(N + 1, 3, 8, 8), ValueError, r"features must be of 8 samples, got \(9, 3, 8, 8\)"),
    (torch.zeros(()), ValueError, r"features must be of 8 samples, got \(\)"),
    (torch.zeros(N, 3, 8, 6, dtype=torch.uint8), TypeError, "must be floating point, got torch.uint8: normalise bytes"),
    ({"x": torch.zeros(N)}, TypeError, "features must be a tensor, got dict"),
])  # fmt: skip
def test_features_that_do_not_fit(features, error, words):
    with pytest.raises(error, match=words):
        mix_features(features, make("cutmix"))


@pytest.mark.parametrize(("batch", "error", "words"), [
    (lambda: (1, 2), TypeError, r"batch must be a MixedBatch \(return_batch=True\), got tuple"),
    (lambda: make(config=MiAMixConfig()), ValueError, 'images of the batch are mixed already: use .*mixes="features"'),
    (numpy_batch, TypeError, "batch must have tensors, as MiAMixCollator makes them, got ndarray as its masks"),
    (lambda: replace(make("fmix"), masks=None), TypeError, "got NoneType as its masks"),
])  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*second view")
def test_batches_that_cannot_be_mixed(batch, error, words):
    with pytest.raises(error, match=words), ManifoldMixup(network(), ["0"])(batch()):
        pass


@pytest.mark.parametrize(("layers", "error", "words"), [
    (["9"], ValueError, "layer '9' is not a module of the model; it has 0, 1, 2, 3, 4, 5, 6, 7, and others inside"),
    ([nn.Linear(1, 1)], ValueError, "layer of type Linear is not a module of the model"),
    ([None], ValueError, "layer None is not a module"),
    ([""], ValueError, "layer '' is not a module"),
    (["0", "1", "0"], ValueError, r"layers must not contain a module twice, got \['0', '1', '0'\]"),
    ([], ValueError, "layers must be a list of at least one name or module"),
    ("0", ValueError, "layers must be a list"),
])  # fmt: skip
def test_layers_that_cannot_be(layers, error, words):
    with pytest.raises(error, match=words):
        ManifoldMixup(network(), layers)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got function"):
        ManifoldMixup(network, ["0"])
    with pytest.raises(ValueError, match=r"model has a module 'input'.*rename it"):
        ManifoldMixup(nn.ModuleDict({"input": nn.Identity()}), ["input"])


def test_hooks_do_nothing_outside_and_after_an_exception():
    model, batch = network().eval(), choosing(make("fmix"), "3")
    plain = model(batch.images)
    manifold = ManifoldMixup(model, LAYERS)
    assert model(batch.images).equal(plain)
    words = "already being mixed: leave its `with` block"
    with pytest.raises(RuntimeError, match=words), manifold(batch), manifold(batch):
        pass
    with pytest.raises(ZeroDivisionError), manifold(batch):
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="features must be of 8 samples"), manifold(batch):
        model(batch.images[:3])
    assert model(batch.images).equal(plain)
    with manifold(batch):
        assert not model(batch.images).equal(plain)
    manifold.remove()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    with pytest.raises(RuntimeError, match="layer '3' must run once in the `with` block, ran 0 times"), manifold(batch):
        assert model(batch.images).equal(plain)


def test_a_layer_that_does_not_run_once():
    model, batch = Wrapper(), make()
    manifold = ManifoldMixup(model, ["module.3"])
    words = r"'module\.3' must run once in the `with` block, ran 2 times: call the model once"
    with pytest.raises(RuntimeError, match=words), manifold(batch):
        model(batch.images, twice=1)
    images, words = ManifoldMixup(model, ["input"]), "'input' is the model's first argument, but it got keywords only"
    with pytest.raises(TypeError, match=words), images(batch):
        model(images=batch.images)
    with images(batch):
        model(batch.images, twice=1)


class Recomputed(nn.Module):
    def __init__(self, reentrant):
        super().__init__()
        self.first, self.part, self.reentrant = nn.Conv2d(3, 3, 1), nn.Sequential(nn.Conv2d(3, 3, 1)), reentrant

    def forward(self, x):
        return checkpoint(self.part, self.first(x), use_reentrant=self.reentrant).mean((2, 3))


@pytest.mark.parametrize(
    ("reentrant", "words"), [(True, "ran without gradients, as where"), (False, "number of tensors")]
)
def test_a_layer_that_is_recomputed_does_not_get_other_gradients(reentrant, words):
    model, batch = Recomputed(reentrant), make()
    with pytest.raises(RuntimeError, match=words):
        with ManifoldMixup(model, ["part.0"])(batch):
            out = model(batch.images)
        out.sum().backward()
    with ManifoldMixup(model, ["first"])(batch):
        out = model(batch.images)
    out.sum().backward()


def test_copies_of_a_model_are_not_mixed():
    """By deepcopy, as averages of weights are made, and by pickle, as models go to other processes."""
    model, batch = network().eval(), make()
    for layer in LAYERS:
        manifold = ManifoldMixup(model, [layer])
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            with manifold(batch):
                model(batch.images)
                copied = twin(batch.images)
            assert copied.equal(model(batch.images))


@pytest.mark.parametrize(("make", "words"), [
    (lambda: MiAMixConfig(mixes="features"), 'mixes="features" has no second views .* set p_self=0, got 0.1'),
    (lambda: MiAMixConfig.plain("resizemix", mixes="features"), "can't be combined with resizemix"),
    (lambda: MiAMixConfig(mixes="labels"), "mixes must be 'images' or 'features', got 'labels'"),
    (lambda: MiAMixCollator(2, MiAMixConfig.recipe("manifold-mixup")), "needs return_batch=True"),
    (lambda: MiAMixBatch(2, MiAMixConfig.recipe("manifold-mixup"), seed=0), "needs the whole batch, .* use MiAMix"),
])  # fmt: skip
def test_what_features_exclude(make, words):
    with pytest.raises(ValueError, match=words):
        make()
    plan = MiAMix(2, MiAMixConfig.plain("resizemix")).plan(4, 8, 8, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match="mixes must be 'images' for resizemix"):
        replace(plan, mixes="features").checked()
