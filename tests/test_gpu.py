"""What only a GPU can settle, in about ten minutes: `make test-gpu`, which ends with what to report. See docs/gpu.md."""

import dataclasses
import math
import os
import signal
import time

import pytest
import torch
from torch import nn

from benchmarks.datasets import get_dataset
from benchmarks.records import Job
from benchmarks.suites import get_suite
from runner import nvml
from runner.engines.hardware import usable_gpus
from runner.engines.local import Work, run_local
from runner.engines.slots import Slot
from runner.files import read_json, read_lines
from runner.jobs.paths import PlannedJob
from runner.jobs.state import state_of
from runner.submit.plan import make_jobs
from runner.training import profiles
from runner.training.batches import DeviceSet, Prepared
from runner.training.loop import Hooks, train
from runner.training.setup import Setup
from runner.training.step import GraphedStep, make_step
from runner.worker.options import RunOptions
from runner.worker.record import curve_csv, weights_sha256
from zoo import load_models
from zoo.recipe import Fixed, Shuffled

pytestmark = pytest.mark.gpu

MODELS = load_models()
TRAINABLE = [pytest.param(spec, id=spec.name) for spec in MODELS.values() if spec.variants]
STEPS, BATCH = 20, 32


@pytest.fixture
def cuda():
    yield torch.device("cuda")
    torch.use_deterministic_algorithms(False)


def first_steps(spec, profile, device, **changes):
    """Twenty updates of a recipe on random images, in two epochs; `changes` are of the profile's switches."""
    dataset = min(spec.variants, key=lambda name: math.prod(get_dataset(name).shape))
    facts, generator = get_dataset(dataset), torch.Generator().manual_seed(5)
    images = torch.randn(STEPS // 2 * BATCH, *facts.shape, generator=generator).to(device)
    labels = torch.randint(facts.classes, (len(images),), generator=generator).to(device)
    black = torch.full((facts.shape[0], 1, 1), -2.0, device=device)
    data = Prepared(DeviceSet(images, labels, None, black), DeviceSet(images[:BATCH], labels[:BATCH], None))
    recipe = spec.variants[dataset].recipe
    order = Shuffled() if isinstance(recipe.order, Fixed) else recipe.order
    recipe = dataclasses.replace(recipe, epochs=2, batch_size=BATCH, order=order, second_stage=None)
    switches = profiles.resolve(profile, device, spec.channels_last_on_cpu, spec.bitwise) | changes
    profiles.apply(switches)
    job = Job(dataset=dataset, model=spec.name, revision=1, recipe=recipe.to_dict(), profile=profile, seed=0)
    hooks = Hooks(lambda: False, lambda state: None, lambda facts: None, lambda line: None)
    return train(Setup(job, spec, recipe, data, device, switches), "0" * 32, hooks)


def test_what_this_machine_is(gpu_report):
    gpus = nvml.gpus()
    assert isinstance(gpus, nvml.Gpus)
    build = f"torch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    gpu_report(f"{build}; driver {gpus.driver}, CUDA {gpus.cuda}; architectures {' '.join(torch.cuda.get_arch_list())}")
    for card in gpus.cards:
        gpu_report(f"{card.name}, compute capability {card.capability}, {card.total >> 30} GiB, MIG {card.instances}")
    visible = {f"GPU-{torch.cuda.get_device_properties(n).uuid}" for n in range(torch.cuda.device_count())}
    in_one_piece = {gpu.uuid for gpu in usable_gpus().gpus if gpu.card.instances is None}
    gpu_report(f"usable: {sorted(gpu.uuid for gpu in usable_gpus().gpus)}")
    assert in_one_piece <= visible  # NVML's reading and CUDA's are of the same cards


@pytest.mark.parametrize("spec", TRAINABLE)
def test_twenty_steps_of_reference_twice_have_the_same_bits(cuda, gpu_report, spec):
    one, other = (first_steps(spec, "reference", cuda) for _ in range(2))
    same = (weights_sha256(one.weights), curve_csv(one.curve)) == (
        weights_sha256(other.weights),
        curve_csv(other.curve),
    )
    if not same:
        gpu_report(f"reference, {spec.name}: two runs differ")
    assert same == spec.bitwise or same


@pytest.mark.parametrize("spec", TRAINABLE)
def test_twenty_steps_of_fast_with_graphs_are_near_the_eager_ones(cuda, gpu_report, spec):
    """Other kernels may be chosen, and dropout's draws are the same: the losses stay near each other."""
    eager = first_steps(spec, "fast", cuda, graphs=False, cudnn_benchmark=False)
    graphed = first_steps(spec, "fast", cuda, cudnn_benchmark=False)
    apart = max(
        abs(a["train_loss"] - b["train_loss"]) / max(b["train_loss"], 1e-3)
        for a, b in zip(graphed.curve, eager.curve, strict=True)
    )
    gpu_report(f"fast, {spec.name}: graphs {graphed.switches['graphs']}, losses within {apart:.1e} of the eager ones")
    assert graphed.switches["graphs"] is True
    assert apart < 0.2


def test_no_input_of_a_graph_is_freed_and_a_capture_takes_so_long(cuda, gpu_report, monkeypatch):
    """With torch's own check of what a graph reads; the seconds are what each epoch of a rising momentum costs twice."""
    graph = torch.cuda.graph
    monkeypatch.setattr(torch.cuda, "graph", lambda g, **o: graph(g, check_input_liveness=True, **o))
    seconds, capture = [], GraphedStep._capture

    def timed(self, *arguments):
        torch.cuda.synchronize()
        began = time.perf_counter()
        result = capture(self, *arguments)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
        return result

    monkeypatch.setattr(GraphedStep, "_capture", timed)
    assert first_steps(MODELS["maxout_mlp"], "fast", cuda).switches["graphs"] is True
    gpu_report(f"a capture of maxout_mlp takes {', '.join(f'{value:.3f}' for value in seconds)} s")


def test_the_partial_batch_takes_no_memory_of_its_own(cuda, gpu_report):
    reserved = []
    for sizes in ((128,), (128, 80)):
        torch.cuda.empty_cache()
        spec = MODELS["nin"]
        model = spec.variants["cifar10"].build().to(cuda)
        sums = torch.zeros(3, dtype=torch.float64, device=cuda)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9, fused=True)
        fast = profiles.resolve("fast", cuda)
        step = make_step(model, optimizer, spec.loss, sums, fast, give_up=lambda error: pytest.fail(str(error)))
        for size in (*sizes, *sizes):
            step(torch.zeros(size, 3, 32, 32, device=cuda), torch.zeros(size, dtype=torch.int64, device=cuda))
        reserved.append(torch.cuda.memory_reserved() / 1e6)
        del model, optimizer, step
    gpu_report(f"NiN reserves {reserved[0]:.0f} MB with one graph, {reserved[1]:.0f} MB with two")
    assert reserved[1] < 1.5 * reserved[0]


def test_max_pooling_in_channels_last_twice(cuda, gpu_report):
    """profiles.py keeps this layout from `reference`, because its backward pass is said to add atomically."""
    for kernel, stride in ((2, 2), (3, 2)):
        images = torch.randn(128, 96, 32, 32, device=cuda).contiguous(memory_format=torch.channels_last)
        gradients = []
        for _ in range(5):
            images = images.detach().requires_grad_()
            output = nn.functional.max_pool2d(images, kernel, stride)
            torch.manual_seed(0)
            output.backward(torch.randn_like(output))
            gradients.append(images.grad)
        same = all(torch.equal(gradients[0], other) for other in gradients[1:])
        gpu_report(
            f"max pooling {kernel}/{stride} in channels_last: five backward passes {'equal' if same else 'DIFFER'}"
        )


def test_if_one_of_two_slots_on_a_gpu_is_killed_its_job_is_run_again(gpu_report):
    pytest.importorskip("sklearn")
    uuid = usable_gpus().gpus[0].uuid
    jobs = make_jobs(get_suite("quickstart"), load_models(), only=["lenet"], seeds=range(4), overrides={"epochs": 2000})
    pairs = [PlannedJob.of(job) for job in jobs]
    for job, paths in pairs:
        paths.write_job(job)
    killed: list[int] = []

    def kill_one():
        for _, paths in pairs:
            lease = read_json(paths.lease) or {}
            if not killed and lease.get("epoch", 0) >= 1:
                killed.append(lease["pid"])
                os.kill(lease["pid"], signal.SIGKILL)

    slots = [Slot(f"gpu0.{k}", "cuda", uuid, shares=2) for k in range(2)]
    began = time.monotonic()
    run_local(Work(pairs, RunOptions(submission="s")), slots, kill_one, lambda line: None)
    gpu_report(f"two slots, one worker killed: 4 jobs in {time.monotonic() - began:.0f} s")
    assert killed
    assert all(state_of(paths) == "done" for _, paths in pairs)
    starts = [sum(line["event"] == "start" for line in read_lines(paths.attempts)) for _, paths in pairs]
    assert sorted(starts) == [1, 1, 1, 2]
