"""Every network and preprocessing on tensors that say they are on a GPU: nothing is elsewhere, nothing is copied per batch.

torch's fake tensors have a device and a shape and no content, so no GPU is needed. Which operations have no deterministic
algorithm there is looked up in torch's own documentation.
"""

import collections
import dataclasses
import functools
import math
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from helpers import models_of_every_kind
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.datasets import get_dataset
from runner import new_model
from runner.training import preprocess, profiles
from runner.training.augment import _sources, augment
from runner.training.batches import Batches, DeviceSet
from runner.training.deterministic import use_deterministic_forms
from runner.training.step import add_up
from zoo import load_models
from zoo.spec import cross_entropy

CUDA = torch.device("cuda:0")
MODELS = load_models()
KINDS = models_of_every_kind()


def size(dataset):
    return math.prod(get_dataset(dataset).shape)


SHAPES = {  # every variant, but one of those whose images and classes have the same shape
    (name, get_dataset(dataset).shape, get_dataset(dataset).classes): dataset
    for name, spec in MODELS.items()
    for dataset in spec.variants
}
# What may copy or wait is in the kinds of layers: unmarked is one model of each kind, on its smallest images.
VARIANTS = [
    pytest.param(
        MODELS[name],
        dataset,
        id=f"{name}-{dataset}",
        marks=[pytest.mark.slow] * (name not in KINDS or size(dataset) > min(map(size, MODELS[name].variants))),
    )
    for (name, *_), dataset in SHAPES.items()
]


class Calls(TorchDispatchMode):
    """Counts operations by name; copies from the host to the GPU as 'copies', waits for the GPU as 'waits'."""

    def __init__(self):
        super().__init__()
        self.counts = collections.Counter()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        output = function(*arguments, **(options or {}))
        name = function._schema.name.removeprefix("aten::")
        devices = [
            {value.device.type for value in tree_leaves(part) if isinstance(value, torch.Tensor)}
            for part in ((arguments, options), output)
        ]
        copied = (name == "copy_" and len(devices[0]) > 1) or (devices[0] == {"cpu"} and "cuda" in devices[1])
        waited = name == "_local_scalar_dense" or ("cuda" in devices[0] and devices[1] == {"cpu"})
        self.counts.update([name, *["copies"] * copied, *["waits"] * waited])
        return output


class Build:
    """A network's builder, equal to that of every network with the same kinds of layers: one of them is looked at."""

    def __init__(self, build):
        self.build = build
        with torch.device("meta"):
            self.kinds = frozenset((type(m).__module__, type(m).__qualname__) for m in build().modules())

    def __call__(self):
        return self.build()

    def __eq__(self, other):
        return self.kinds == other.kinds

    def __hash__(self):
        return hash(self.kinds)


@contextmanager
def pretended():
    """Tensors without content, on a GPU that isn't there; none of them is in a cache afterwards."""
    caches = preprocess._blur, preprocess._yuv_matrix, _sources
    for cache in caches:
        cache.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.MonkeyPatch.context() as patch:
        for name in ("uniform_", "normal_"):  # weights without content need no draws
            patch.setattr(torch.Tensor, name, lambda self, *_, **__: self)
        yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def fake():
    """Pretended tensors."""
    with pretended():
        yield


@functools.cache
def forward_pass(build, shape, loss):
    """Where the results of a forward pass are, and how often each operation was called; once for each kind of network."""
    with pretended():
        with CUDA:
            model = build().train()
            images, labels = torch.empty(4, *shape), torch.empty(4, dtype=torch.int64)
            sums = torch.zeros(3, dtype=torch.float64)
        with Calls() as calls:
            output = model(images.contiguous(memory_format=torch.channels_last))
            value = loss(output, labels)
            add_up(sums.unbind(), value, output, labels)
    return {result.device for result in (value, *tree_leaves(output))}, calls.counts


@pytest.mark.parametrize(("spec", "dataset"), VARIANTS)
def test_forward_loss_and_sums_of_every_variant_stay_on_the_gpu(spec, dataset):
    devices, counts = forward_pass(Build(spec.variants[dataset].build), get_dataset(dataset).shape, spec.loss)
    assert devices == {CUDA}
    assert counts["copies"] == counts["waits"] == 0, counts
    assert counts["add_"] >= 2


@pytest.mark.parametrize("name", preprocess.TRANSFORMS)
def test_no_preprocessing_copies_anything_to_the_gpu_for_a_batch(name):
    """The first batch may, for what all batches share. (They were 2 and 3 copies a batch for gcn_lcn and yuv_lcn.)"""
    kind = preprocess.TRANSFORMS[name]
    fitted = kind.fit(np.random.default_rng(0).integers(0, 256, (8, 3, 4, 4), dtype=np.uint8))
    with pretended():
        images = torch.empty(20, 3, 4, 4, dtype=torch.uint8, device=CUDA)
        transform = kind({key: torch.empty(array.shape, device=CUDA) for key, array in fitted.items()})
        data = DeviceSet(images, torch.empty(20, dtype=torch.int64, device=CUDA), transform)
        recipe = dataclasses.replace(MODELS["lenet"].variants["mnist"].recipe, batch_size=5)
        batches = Batches(data, recipe, torch.Generator(), torch.channels_last)
        batches.begin(torch.empty(20, dtype=torch.int64))
        batches[0]
        with Calls() as calls:
            for number in (1, 2, 3):
                found, _ = batches[number]
    assert (found.device, found.dtype, found.shape) == (CUDA, torch.float32, (5, 3, 4, 4))
    assert calls.counts["index_select"] == 6
    assert calls.counts["copies"] == calls.counts["waits"] == 0, calls.counts


def test_augmentation_copies_nothing_but_the_draws_of_a_generator_on_the_host(fake):
    """A training's own generator is on the GPU, which a machine without one can't make."""
    images = torch.empty(5, 3, 8, 8, device=CUDA)
    augment(images, True, 2, torch.Generator())
    with Calls() as calls:
        out = augment(images, True, 2, torch.Generator())
    assert out.device == CUDA
    assert calls.counts["copies"] == 1


def test_the_counter_sees_a_copy_a_wait_and_a_tensor_in_the_wrong_place(fake):
    there = torch.empty(3, device=CUDA)
    with Calls() as calls:
        there + torch.tensor([1.0, 2.0, 3.0]).to(CUDA)
        there.copy_(torch.zeros(3))
        assert calls.counts["waits"] == 0
        there.cpu()
    assert calls.counts["copies"] == 2
    assert calls.counts["waits"] == 1
    with pytest.raises(RuntimeError, match="device"):
        there + torch.zeros(3)


# --- what `reference` may use ------------------------------------------------------------------------------------------------

# Operations that raise on CUDA tensors under deterministic algorithms -> the name in torch's documentation.
WITHOUT_DETERMINISTIC = {
    "avg_pool3d_backward": "AvgPool3d",
    "_adaptive_avg_pool2d_backward": "AdaptiveAvgPool2d",
    "_adaptive_avg_pool3d_backward": "AdaptiveAvgPool3d",
    "adaptive_max_pool2d_backward": "AdaptiveMaxPool2d",
    "fractional_max_pool2d_backward": "FractionalMaxPool2d",
    "fractional_max_pool3d_backward": "FractionalMaxPool3d",
    "max_unpool2d": "MaxUnpool2d",
    "max_unpool3d": "MaxUnpool3d",
    "upsample_linear1d_backward": "interpolate",
    "upsample_bilinear2d_backward": "interpolate",
    "upsample_bicubic2d_backward": "interpolate",
    "upsample_trilinear3d_backward": "interpolate",
    "reflection_pad1d_backward": "ReflectionPad1d",
    "reflection_pad2d_backward": "ReflectionPad2d",
    "reflection_pad3d_backward": "ReflectionPad3d",
    "nll_loss2d_forward": "NLLLoss",
    "_ctc_loss_backward": "CTCLoss",
    "_embedding_bag": "EmbeddingBag",
    "put_": "put_",
    "histc": "histc",
    "bincount": "bincount",
    "median": "median",
    "grid_sampler_2d_backward": "grid_sample",
    "grid_sampler_3d_backward": "grid_sample",
    "scatter_reduce": "scatter_reduce",
}


def refused(text):
    """The names in torch's list of what raises, for CUDA tensors."""
    _, _, listed = text.split("``mode=True``:")
    listed = listed.split("In addition, several operations")[0]
    entries = [" ".join(entry.split()) for entry in listed.split("* :")[1:]]
    return {re.search(r"torch\.(?:\w+\.)*(\w+)`", e)[1] for e in entries if "CUDA" in e or "MaxUnpool" in e}


def test_the_list_is_torchs_own():
    names = refused(torch.use_deterministic_algorithms.__doc__)
    assert {"AdaptiveAvgPool2d", "bincount", "CTCLoss"} <= names
    assert names - set(WITHOUT_DETERMINISTIC.values()) == {"MaxUnpool1d"}  # which is MaxUnpool2d
    assert set(WITHOUT_DETERMINISTIC.values()) <= names


@functools.cache
def operations(build, shape, loss):
    """The names of what one update calls, on tensors without content. Networks of the same kinds of layers call the same."""
    with torch.device("meta"):
        model, images, labels = build(), torch.empty(4, *shape), torch.empty(4, dtype=torch.int64)
    use_deterministic_forms(model)
    with Calls() as calls:
        loss(model.train()(images), labels).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    return frozenset(calls.counts)


def refused_of(build, shape, loss):
    return operations(Build(build), shape, loss) & set(WITHOUT_DETERMINISTIC)


@pytest.mark.parametrize("spec", [pytest.param(s, id=s.name) for s in MODELS.values() if s.variants])
def test_every_network_has_a_deterministic_backward_pass_on_a_gpu(spec):
    """Else `reference` refuses it there, and the failure would count as the model's own. See ModelSpec.bitwise."""
    dataset, variant = next(iter(spec.variants.items()))
    found = refused_of(variant.build, get_dataset(dataset).shape, spec.loss)
    assert not (found and spec.bitwise), f"{spec.name} uses {set(found)}: choose other layers, or declare bitwise=False"


def test_the_template_of_new_model_has_one_too():
    namespace = {}
    exec(new_model.MODEL.format(name="tiny_net", paper="tiny_net"), namespace)
    spec = namespace["MODELS"][0]
    variant = spec.variants["mnist"]
    assert not refused_of(variant.build, (1, 28, 28), spec.loss)
    assert sum(p.numel() for p in variant.build().parameters()) == variant.parameters


def test_a_layer_without_one_is_found():
    def build():
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))

    assert refused_of(build, (1, 28, 28), cross_entropy) == {"_adaptive_avg_pool2d_backward"}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_response_normalisation_on_a_gpu_is_torchs_own(layout):
    images = torch.randn(3, 11, 5, 4, dtype=torch.float64).contiguous(memory_format=layout)
    direction, results = torch.randn_like(images), []
    for ours in (False, True):
        norm, inputs = nn.Sequential(nn.LocalResponseNorm(5, alpha=0.3, k=2.0)), images.clone().requires_grad_()
        if ours:
            use_deterministic_forms(norm)
        output = norm(inputs)
        output.backward(direction)
        results.append((output, inputs.grad))
    for torchs, own in zip(*results, strict=True):
        torch.testing.assert_close(own, torchs)


def test_a_model_that_is_not_bitwise_is_warned_and_not_refused():
    try:
        for bitwise, warned in ((True, False), (False, True)):
            switches = profiles.resolve("reference", torch.device("cpu"), bitwise=bitwise)
            profiles.apply(switches)
            assert torch.are_deterministic_algorithms_enabled()
            assert torch.is_deterministic_algorithms_warn_only_enabled() == warned
        profiles.apply(profiles.resolve("fast", torch.device("cpu"), bitwise=False))
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
