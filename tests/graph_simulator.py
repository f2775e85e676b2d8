"""A CUDA graph without a GPU: what is captured is recorded, call by call, and replayed into the same tensors.

Kernels, streams and memory pools are not simulated. What is: a capture fixes every number and every tensor that it meets, a
replay takes no other path, and nothing may wait for the device while capturing.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WAITS = {"aten::_local_scalar_dense", "aten::item", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


class _Recorder(TorchDispatchMode):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        name = function._schema.name
        if name in WAITS:
            raise torch.AcceleratorError(f"CUDA error: {name} waits for the device while its stream is capturing")
        output = function(*arguments, **(options or {}))
        self.calls.append((function, arguments, options or {}, output))
        return output


class SimulatedGraph:
    """In the place of torch.cuda.CUDAGraph."""

    def __init__(self):
        self.calls = []

    @torch.no_grad()
    def replay(self):
        for function, arguments, options, output in self.calls:
            again = function(*arguments, **options)
            if any(value.alias_info is not None for value in function._schema.returns):
                continue  # a view, or a tensor that was changed in place
            for old, new in zip(tree_leaves(output), tree_leaves(again), strict=True):
                if isinstance(old, torch.Tensor):
                    old.detach().copy_(new)


class _Stream:
    def __init__(self, *arguments):
        pass

    def wait_stream(self, other):
        pass


class Simulator:
    """What was captured into which pool, and when a capture is to fail: 'begin' or 'end', counted down by `good`."""

    def __init__(self):
        self.pools, self.replays, self.fails, self.good = [], 0, None, 0

    @contextmanager
    def graph(self, graph, pool=None, stream=None, capture_error_mode="global"):
        failing = self.fails if len(self.pools) >= self.good else None
        self.pools.append(pool)
        if failing == "begin":
            raise torch.AcceleratorError("CUDA error: operation not permitted when stream is capturing\nand more")
        with _Recorder(graph.calls):
            yield
        if failing == "end":
            raise torch.AcceleratorError("CUDA error: capturing stream has unjoined work\nand more")


def simulate(monkeypatch):
    """Put simulated graphs, streams and generators in the place of torch's for CUDA; returns the Simulator."""
    simulator = Simulator()
    replacements = {
        "Stream": _Stream,
        "current_stream": lambda device=None: _Stream(),
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": SimulatedGraph,
        "graph": simulator.graph,
        "graph_pool_handle": object,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
    }
    for name, value in replacements.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return simulator
