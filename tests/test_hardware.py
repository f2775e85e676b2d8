"""Which GPUs are found, and under which name: over a pretended NVML, beside torch's own reading of CUDA_VISIBLE_DEVICES."""

import itertools
import re
import shutil
import subprocess
import tomllib
from types import SimpleNamespace

import pytest
import torch
from fake_nvml import FakeCard, FakeInstance, FakeNvml, install

from benchmarks.errors import UserError
from runner import nvml
from runner.engines import hardware, slots
from runner.engines.hardware import Build, code_runs_on, find, unfit_card, visible_gpus
from runner.engines.slots import Slot, SlotLock, make_slots, take_one

BUILD = Build("2.15.0", "13.2", ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"])
A, B, C = "GPU-aaaa1111-0000", "GPU-aabb2222-0000", "GPU-cccc3333-0000"
ONE, TWO = "MIG-1111aaaa-0000", "MIG-2222bbbb-0000"
THREE = [FakeCard(A), FakeCard(B), FakeCard(C)]
ONE_LOST = [FakeCard(A), FakeCard(B, lost=True), FakeCard(C)]
SPLIT = [FakeCard(A, mig=[FakeInstance(ONE, 1), None, FakeInstance(TWO, 2)]), FakeCard(B)]
OLDER = [FakeCard(A, mig=[FakeInstance(f"MIG-{A}/1/0", 1), FakeInstance(f"MIG-{A}/2/0", 2)])]
MIXED = [FakeCard(A, "Tesla V100", (7, 0)), FakeCard(B)]
NO_GPU = "cpu"

CASES = [  # the machine, CUDA_VISIBLE_DEVICES, what is used: UUIDs in order, NO_GPU, or words of the error
    (THREE, None, [A, B, C]),
    (THREE, "0", [A]),
    (THREE, "2,0", [C, A]),
    (THREE, " 1 , 2", [B, C]),
    (THREE, "0,-1,1", [A]),
    (THREE, "0,7,1", [A]),
    (THREE, "0,,1", [A]),
    (THREE, "0,x,1", [A]),
    (THREE, "1gpu2,2ampere", [B, C]),  # CUDA reads as much of a number as there is
    (THREE, "7", "none of the 3 GPUs"),
    (THREE, "0,0", "none of the 3 GPUs"),  # twice is an error of CUDA's, too
    (THREE, "all", "none of the 3 GPUs"),
    (THREE, "", NO_GPU),
    (THREE, "-1", NO_GPU),
    (THREE, "NoDevFiles", NO_GPU),  # SLURM's word
    (THREE, A, [A]),
    (THREE, f"{C},{A}", [C, A]),
    (THREE, "GPU-aaaa", [A]),
    (THREE, "GPU-c,GPU-aabb", [C, B]),
    (THREE, "GPU-aa", "none of the 3 GPUs"),  # two begin so
    (THREE, "GPU-", "none of the 3 GPUs"),
    (THREE, "GPU-aaaa,GPU-ffff,GPU-cccc", [A]),
    (THREE, "GPU-aaaa,1", [A]),
    (THREE, "0,GPU-cccc", [A]),
    (THREE, f"GPU-aaaa,{A}", "none of the 3 GPUs"),
    (ONE_LOST, None, [A, C]),
    (ONE_LOST, "1", [C]),  # CUDA counts those that answer
    ([FakeCard(A, lost=True)], None, "GPU 0 does not answer: GPU is lost"),
    (SPLIT, None, [ONE, TWO, B]),
    (SPLIT, "0", [ONE, TWO]),
    (SPLIT, "1", [B]),
    (SPLIT, A, [ONE, TWO]),
    (SPLIT, TWO, [TWO]),
    (SPLIT, "MIG-2222", [TWO]),
    (SPLIT, f"MIG-{A}/1/0", [ONE]),  # the older name, of a newer driver
    (SPLIT, f"MIG-{A}/9/0", "none of the 2 GPUs"),
    (SPLIT, f"MIG-{A}/1/0,{ONE}", "none of the 2 GPUs"),
    (OLDER, None, [f"MIG-{A}/1/0", f"MIG-{A}/2/0"]),
    (OLDER, f"MIG-{A}/2/0", [f"MIG-{A}/2/0"]),
    ([FakeCard(A, mig=[])], None, "MIG mode and has no instance"),
    ([FakeCard(A, mig=[]), FakeCard(B)], None, [B]),
    (MIXED, None, [B]),
    (MIXED, "0", r"Tesla V100 has compute capability 7\.0"),
    ([FakeCard(A, mode=nvml.PROHIBITED)], None, "PROHIBITED"),
    ([FakeCard(A, "NVIDIA GB10", (12, 1), unsupported={"memory"})], None, [A]),  # it shares the machine's memory
    ([], None, NO_GPU),
]


@pytest.fixture(autouse=True)
def _roomy(monkeypatch):
    """Slots are limited by the memory that is free at the moment; here it is enough for all."""
    roomy = SimpleNamespace(available=64 * slots.MEMORY_PER_SLOT)
    monkeypatch.setattr(slots.psutil, "virtual_memory", lambda: roomy)


@pytest.mark.parametrize(("cards", "variable", "expected"), CASES, ids=[str(n) for n in range(len(CASES))])
def test_a_variable_names_the_gpus_that_cuda_would_see(monkeypatch, cards, variable, expected):
    install(monkeypatch, FakeNvml(*cards), variable)
    monkeypatch.setattr(hardware, "torch_build", lambda: BUILD)
    if expected == NO_GPU:
        assert {slot.device for slot in make_slots(1, 1)} == {"cpu"}
    elif isinstance(expected, str):
        with pytest.raises(UserError, match=f"no GPU can be used: .*{expected}.*--device cpu"):
            make_slots(1, 1)
        assert {slot.device for slot in make_slots(1, 1, "cpu")} == {"cpu"}
    else:
        assert [slot.visible for slot in make_slots(1, 1)] == expected


NAMES = ["0", "1", "2", "3", "-1", "", "x", "1gpu", A, B, "GPU-c", "GPU-aa", "GPU-ffff"]


def test_it_reads_a_list_as_torch_does(monkeypatch):
    """Every list of up to three of these entries, beside the two functions by which torch counts devices through NVML.

    But for numbers that are too large, which torch leaves to the driver, and for a UUID that stands twice, whether or not the
    list has ended before.
    """
    cards = [nvml.Card("NVIDIA H100", 1, 1, uuid) for uuid in (A, B, C)]
    for length in (1, 2, 3):
        for entries in itertools.product(NAMES, repeat=length):
            variable = ",".join(entries)
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
            listed = torch.cuda._parse_visible_devices()
            if listed and isinstance(listed[0], str):
                listed = torch.cuda._transform_uuid_to_ordinals(listed, [A, B, C])
            if "3" in entries or (entries[0].startswith("GPU-") and len(set(entries)) < length):
                continue
            assert [gpu.uuid for gpu in visible_gpus(cards, variable)] == [cards[number].uuid for number in listed], (
                variable
            )


def test_a_driver_that_does_not_answer_is_an_error_and_no_driver_is_none(monkeypatch):
    install(monkeypatch, FakeNvml(broken="Driver/library version mismatch"))
    monkeypatch.setattr(nvml, "device_files", lambda: iter(["/dev/nvidia0"]))
    with pytest.raises(UserError, match="Driver/library version mismatch"):
        make_slots(1, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert make_slots(1, 1)[0].device == "cpu"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(nvml, "device_files", lambda: iter(()))
    assert make_slots(1, 1)[0].device == "cpu"
    with pytest.raises(UserError, match="--device is cuda, but this machine has no GPU"):
        make_slots(1, 1, "cuda")


def test_who_insists_on_the_processor_asks_no_driver(monkeypatch):
    def asked():
        raise AssertionError

    monkeypatch.setattr(nvml, "gpus", asked)
    assert make_slots(1, 1, "cpu")[0].device == "cpu"


def test_unused_gpus_are_named_and_the_machines_memory_limits_the_slots(monkeypatch):
    monkeypatch.setattr(hardware, "torch_build", lambda: BUILD)
    little = SimpleNamespace(available=4 * slots.MEMORY_PER_SLOT)
    monkeypatch.setattr(slots.psutil, "virtual_memory", lambda: little)
    install(monkeypatch, FakeNvml(FakeCard(C, lost=True), *MIXED))
    lines: list[str] = []
    assert [slot.shares for slot in make_slots(6, 1, warn=lines.append)] == [6] * 4
    assert len(lines) == 3
    for words, line in zip(("GPU 0 does not answer", "Tesla V100", "4 of 6 GPU slots"), lines, strict=True):
        assert words in line


# --- one lock for each physical share ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cards", "one", "other"),
    [
        (THREE, "0", A),
        (THREE, "GPU-aaaa", A),
        (ONE_LOST, "1", "GPU-cc"),
        (SPLIT, ONE, f"MIG-{A}/1/0"),
        (SPLIT, "0", "MIG-1111"),
        (OLDER, None, f"MIG-{A}/1/0"),
    ],
)
def test_two_clones_that_name_a_gpu_differently_meet_at_one_lock(monkeypatch, tmp_path, cards, one, other):
    monkeypatch.setenv("REPROZOO_LOCKS", str(tmp_path))
    monkeypatch.setattr(hardware, "torch_build", lambda: BUILD)
    pair = []
    for variable in (one, other):
        install(monkeypatch, FakeNvml(*cards), variable)
        pair.append(SlotLock(make_slots(2, 1)[0]))
    assert pair[0].acquire()
    assert not pair[1].acquire()
    assert SlotLock(make_slots(2, 1)[-1]).acquire()  # the other share
    pair[0].release()
    assert pair[1].acquire()


def test_bench_and_try_take_a_gpu_that_nobody_uses_or_say_that_all_are_in_use(monkeypatch, tmp_path):
    monkeypatch.setenv("REPROZOO_LOCKS", str(tmp_path))
    for name in ("CUDA_VISIBLE_DEVICES", "CUBLAS_WORKSPACE_CONFIG", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")
    pair = [Slot("gpu0.0", "cuda", A), Slot("gpu1.0", "cuda", B)]
    assert SlotLock(pair[0]).acquire()
    assert take_one(pair, 1).slot.visible == B
    assert slots.os.environ["CUDA_VISIBLE_DEVICES"] == B
    with pytest.raises(UserError, match="every GPU is in use"):
        take_one(pair, 1)


# --- build and hardware ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("capability", "architectures", "runs"),
    [
        ((9, 0), ["sm_90"], True),
        ((8, 9), ["sm_80", "sm_86"], True),  # an L4 runs an A100's code
        ((8, 0), ["sm_86"], False),
        ((7, 0), BUILD.architectures, False),  # V100
        ((6, 0), BUILD.architectures, False),  # P100
        ((7, 5), BUILD.architectures, True),  # T4
        ((12, 1), BUILD.architectures, True),
        ((11, 0), BUILD.architectures, False),
        ((10, 3), ["sm_100"], True),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((8, 0), ["compute_90"], False),
        ((9, 0), ["sm_90a"], True),
        ((9, 1), ["sm_90a"], False),
        ((9, 0), ["gfx90a"], False),
    ],
)
def test_code_runs_on_gpus_of_its_own_major_version(capability, architectures, runs):
    assert code_runs_on(capability, architectures) == runs


def test_it_judges_machine_code_as_torch_does():
    for device, code in itertools.product((60, 70, 75, 80, 86, 89, 90, 100, 103, 120, 121), (75, 80, 86, 90, 100, 120)):
        runs = code_runs_on(divmod(device, 10), [f"sm_{code}"])
        assert runs == torch.cuda._code_compatible_with_device(device, code), (device, code)


@pytest.mark.parametrize(
    ("cuda", "build", "words"),
    [
        (13000, BUILD, None),  # the same major version: most things work
        (14000, BUILD, None),
        (12020, BUILD, r"driver 535\.1 supports CUDA up to 12\.2, but torch 2\.15\.0 needs 13\.2"),
        (13020, Build("2.15.0+cpu", None, []), r"2\.15\.0\+cpu is built without CUDA: `make setup TORCH=auto`"),
    ],
)
def test_a_driver_that_is_too_old_for_torch_is_reported_before_the_first_job(monkeypatch, cuda, build, words):
    install(monkeypatch, FakeNvml(FakeCard(A), driver="535.1", cuda=cuda))
    monkeypatch.setattr(hardware, "torch_build", lambda: build)
    if words is None:
        assert make_slots(1, 1)[0].visible == A
    else:
        with pytest.raises(UserError, match=words):
            make_slots(1, 1)


def test_this_torch_says_what_it_was_compiled_for():
    build = hardware.torch_build()
    assert build.version == str(torch.__version__)
    assert (build.cuda is None) == (not build.architectures)


def test_a_card_that_keeps_its_capability_to_itself_is_tried():
    assert unfit_card(nvml.Card("GRID", 1, 1, A), BUILD) is None
    assert find(nvml.Gpus("580", 13020, [nvml.Card("GRID", 1, 1, A)]), None, BUILD).gpus


@pytest.mark.parametrize(
    ("mode", "count", "mps", "works"),
    [(3, 1, False, True), (3, 2, False, False), (3, 2, True, True), (0, 2, False, True)],
)
def test_an_exclusive_gpu_has_one_slot_unless_mps_shares_it(monkeypatch, tmp_path, mode, count, mps, works):
    install(monkeypatch, FakeNvml(FakeCard(A, mode=mode)))
    monkeypatch.setattr(hardware, "torch_build", lambda: BUILD)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    if mps:
        (tmp_path / "control").touch()
    if works:
        assert len(make_slots(count, 1)) == count
    else:
        with pytest.raises(UserError, match="EXCLUSIVE_PROCESS"):
            make_slots(count, 1)


def test_cards_of_two_kinds_may_be_numbered_in_two_ways(monkeypatch):
    cards = [nvml.Card(name, 1, 1, name) for name in ("A", "B")]
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert hardware.numbers_differ(cards)
    assert not hardware.numbers_differ([cards[0], cards[0]])
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert not hardware.numbers_differ(cards)


def test_setup_installs_another_build_of_torch_without_the_locks_cuda(checkout):
    make = shutil.which("make") or pytest.skip("make isn't installed")
    done = subprocess.run(
        [make, "-n", "setup", "TORCH=cu126"], cwd=checkout, capture_output=True, text=True, check=True
    )
    [install] = [line for line in done.stdout.splitlines() if "--torch-backend" in line]
    assert "--torch-backend cu126" in install
    assert install.endswith("-r -")
    left_out = re.compile(re.search("grep -vE '([^']+)' requirements.lock", install)[1])
    lock = [line.split("==")[0] for line in (checkout / "requirements.lock").read_text().splitlines()]
    kept = [name for name in lock if not left_out.search(name)]
    assert {"torch", "torchvision", "nvidia-ml-py", "numpy"} <= set(kept)
    assert not [name for name in kept if name.startswith(("nvidia-c", "cuda", "triton"))]
    assert any(name.startswith("nvidia-cudnn") for name in lock)


def test_the_oldest_torch_that_is_admitted_is_the_one_that_is_tested(checkout):
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["dependencies"]
    lock = dict(
        line.split(";")[0].strip().split("==") for line in (checkout / "requirements.lock").read_text().splitlines()
    )
    for name in ("torch", "torchvision"):
        [floor] = [entry.removeprefix(f"{name}>=") for entry in project if entry.startswith(f"{name}>=")]
        assert lock[name].split(".")[:2] == floor.split("."), name


# --- samples -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uuid", "unsupported", "metrics"),
    [
        (B, set(), {"gpu_percent": 87, "gpu_memory_mb": 512.0, "gpu_power_w": 312.0}),
        (B, {"power"}, {"gpu_percent": 87, "gpu_memory_mb": 512.0}),
        (B, {"utilisation"}, {"gpu_memory_mb": 512.0, "gpu_power_w": 312.0}),
        (ONE, set(), {"gpu_memory_mb": 512.0}),
        ("GPU-elsewhere", set(), {}),
    ],
)
def test_a_metric_that_a_gpu_does_not_have_takes_no_other_with_it(monkeypatch, uuid, unsupported, metrics):
    install(monkeypatch, FakeNvml(SPLIT[0], FakeCard(B, unsupported=unsupported)))
    assert nvml.GpuSampler(uuid).sample() == metrics
