"""Update the weights once: forward, backward, optimizer, and the totals for the epoch's figures.

At batch 128 and 32x32 pixels an update is some hundred kernels of a few microseconds each, so a GPU waits for Python to
launch them. `fast` on CUDA therefore captures the whole update once as a CUDA graph. A step is then two copies and one
launch. The training itself does not change: the graph runs the eager step's kernels, dropout draws from the same
generator (each replay takes a new seed and offset), the learning rate is read from the device, and a partial last batch
has a graph of its own.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.errors import UserError
from runner.training.deterministic import use_deterministic_forms
from runner.training.optimizers import DiagonalLM
from zoo.handwritten import Network
from zoo.recipe import Augmentation, Recipe
from zoo.spec import ModelSpec
from zoo.spec import cross_entropy as cross_entropy_of

UPDATES_A_CALL = 256  # for hand-written passes: a call costs as much as an update, and a stop waits for its end
WARM_UP = 3  # eager steps before a capture: cuDNN chooses its kernels, libraries take their workspaces


class Step:
    """The eager update. A call trains on one batch and adds to `sums`: summed loss, wrong answers, images (float64 (3,))."""

    updates = 1  # updates per call

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Any, Tensor], Tensor],
        sums: Tensor,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        compiled: bool = False,
    ) -> None:
        self.model, self.optimizer, self.loss, self.sums, self.autocast = model, optimizer, loss, sums, autocast
        if sums.device.type == "cuda":
            use_deterministic_forms(model)
        # `dynamic=False`: the partial batch is compiled separately, and the full batches keep their kernels
        self.forward = torch.compile(model, dynamic=False) if compiled else model
        self._parts = sums.unbind()  # made once: a view costs as much as an addition

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        loss, output = self.update(images, labels)
        add_up(self._parts, None if isinstance(self.loss, Smoothed) else loss, output, labels)

    def update(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """Update the weights without the totals; return the batch's mean loss and the network's output."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            output = self.forward(images)
        output = tuple(o.float() for o in output) if isinstance(output, tuple) else output.float()
        loss = self.loss(output, labels)
        loss.backward()
        self.optimizer.step()
        return loss, output


class GraphedStep:
    """The same update as a captured CUDA graph, one per batch size, captured at its first use.

    A capture needs warm-up steps, which train. Weights, buffers, momentum, totals and RNG state are therefore restored,
    in place because the graph holds their addresses. All optimizer hyper-parameters except the learning rate are
    constants of the graph; if a schedule changes one, the graphs are captured again. The first update of a training
    runs eagerly, because it creates the velocities and Torch7's convention does not dampen it.

    If a capture fails, `give_up` is called once with the error, and the training continues eagerly from the restored
    state.
    """

    updates = 1

    def __init__(self, step: Step, give_up: Callable[[Exception], None] = lambda error: None) -> None:
        self.step, self.give_up = step, give_up
        self._failed = False
        self._pool: Any = None  # shared: no two graphs run at once, and none reads another's memory
        self._baked: list[tuple[Any, ...]] = []
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        for group in step.optimizer.param_groups:  # on the device: a number would be a constant of the graph
            group["lr"] = torch.tensor(float(group["lr"]), device=step.sums.device)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self._failed or not self.step.optimizer.state:
            return self.step(images, labels)
        constants = [(group.get("momentum"), group["weight_decay"]) for group in self.step.optimizer.param_groups]
        if constants != self._baked:
            self._captured.clear()
            self._pool = torch.cuda.graph_pool_handle()  # a pool ends with its last graph
            self._baked = constants
        if len(labels) not in self._captured:
            try:
                self._captured[len(labels)] = self._capture(images.clone(), labels.clone())
            except RuntimeError as error:  # includes CUDA errors and memory shortage
                self._failed = True
                self._captured.clear()
                self.give_up(error)
                return self.step(images, labels)
        graph, own_images, own_labels = self._captured[len(labels)]
        own_images.copy_(images)
        own_labels.copy_(labels)
        return graph.replay()

    def _capture(self, images: Tensor, labels: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        device = images.device
        generator = torch.cuda.get_rng_state(device)
        before = [(value, value.clone()) for value in self._values()]
        try:
            side = torch.cuda.Stream(device)
            side.wait_stream(torch.cuda.current_stream(device))
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self.step(images, labels)
            torch.cuda.current_stream(device).wait_stream(side)
            self.step.optimizer.zero_grad(set_to_none=True)  # the graph allocates its own gradients
            graph = torch.cuda.CUDAGraph()
            # thread_local: other threads may call the driver meanwhile
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self.step(images, labels)
        finally:  # also after a failure, because the warm-up has trained
            for value, content in before:
                value.copy_(content)
            torch.cuda.set_rng_state(generator, device)
        return graph, images, labels

    def _values(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        momentum = [value for state in self.step.optimizer.state.values() for value in state.values()]
        tensors = [value for value in momentum if isinstance(value, Tensor)]
        return [*(value.detach() for value in self.step.model.state_dict().values()), *tensors, self.step.sums]


class HandwrittenStep:
    """Single-image updates on a CPU by a network with hand-written passes, many per call."""

    def __init__(self, model: nn.Module, optimizer: DiagonalLM, network: Network, sums: Tensor, updates: int) -> None:
        self.model, self.optimizer, self.network, self.sums, self.updates = model, optimizer, network, sums, updates

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.network.train(self.model, images, labels, self.optimizer.steps(), self.sums)


def uses_handwritten_passes(spec: ModelSpec, recipe: Recipe, device: torch.device) -> bool:
    """Return whether the model's hand-written passes train this recipe here."""
    return device.type == "cpu" and spec.has_handwritten_passes(recipe)


def updates_a_call(spec: ModelSpec, recipe: Recipe, device: torch.device) -> int:
    """Return the number of updates in one call of the recipe's step.

    It is 1 if the rate changes within an epoch or the images are augmented.
    """
    one_by_one = recipe.schedule.within_epochs or recipe.augmentation != Augmentation()
    return UPDATES_A_CALL if uses_handwritten_passes(spec, recipe, device) and not one_by_one else 1


def handwritten_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, spec: ModelSpec, recipe: Recipe, sums: Tensor
) -> HandwrittenStep | None:
    """Return the step with the model's hand-written passes; None if they cannot train this recipe."""
    if spec.handwritten_network is None or not uses_handwritten_passes(spec, recipe, sums.device):
        return None
    assert isinstance(optimizer, DiagonalLM)
    return HandwrittenStep(
        model, optimizer, spec.handwritten_network(), sums, updates_a_call(spec, recipe, sums.device)
    )


@dataclass(frozen=True)
class Smoothed:
    """Cross-entropy of logits against smoothed labels: `share` is spread evenly over all classes."""

    share: float

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, label_smoothing=self.share)


def training_loss(spec: ModelSpec, recipe: Recipe) -> Callable[[Any, Tensor], Tensor]:
    """Return the training loss. Raise UserError if the recipe needs a target that this loss cannot take."""
    plain = spec.loss is cross_entropy_of
    for name, setting in (("labels", recipe.labels), ("augmentation.mixup", recipe.augmentation.mixup)):
        if setting and not plain:
            raise UserError(
                f"{spec.name}: {name} needs the plain cross-entropy, but this model has a loss of its own: leave {name} out"
            )
    return Smoothed(recipe.labels.share) if recipe.labels else spec.loss


def make_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Any, Tensor], Tensor],
    sums: Tensor,
    switches: dict[str, bool | str],
    kind: type[Step] = Step,
    give_up: Callable[[Exception], None] = lambda error: None,
) -> Step | GraphedStep:
    """Return the update as the profile's switches say; `kind` is the class of the eager step.

    Call it when model, optimizer and totals are on their device: a captured graph holds their addresses.
    """
    step = kind(model, optimizer, loss, sums, autocast_of(switches, sums.device), bool(switches["compiled"]))
    return GraphedStep(step, give_up) if switches["graphs"] else step


def step_for(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    spec: ModelSpec,
    recipe: Recipe,
    sums: Tensor,
    switches: dict[str, bool | str],
    give_up: Callable[[Exception], None] = lambda error: None,
) -> Step | GraphedStep | HandwrittenStep:
    """Return the step with the model's hand-written passes if they can train the recipe, else the profile's step."""
    own = handwritten_step(model, optimizer, spec, recipe, sums)
    return own or make_step(model, optimizer, training_loss(spec, recipe), sums, switches, give_up=give_up)


def autocast_of(switches: dict[str, bool | str], device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """Return a context manager factory for forward passes.

    autocast's cache is off: each weight is used once, and a graph must own its casts.
    """
    if switches["autocast"] == "off":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def add_up(sums: Sequence[Tensor], loss: Tensor | None, output: Tensor | tuple[Tensor, ...], labels: Tensor) -> None:
    """Add a batch's summed loss, wrong answers and images to the three totals, without waiting for the device.

    `loss` is the mean training loss. If auxiliary heads contribute to it, or the labels are smoothed (None), the
    classifier's own cross-entropy is added instead, so that it can be compared with the test loss and with chance.
    `labels` are (N,), or class shares, float (N, classes): an answer then counts as wrong by 1 minus the share of its
    class.
    """
    logits = output[0].detach() if isinstance(output, tuple) else output.detach()
    if loss is None or isinstance(output, tuple):
        loss = cross_entropy(logits, labels)
    answers = logits.argmax(dim=1)
    mixed = labels.dim() == 2
    total, wrong, images = sums
    total.add_(loss.detach(), alpha=len(labels))
    wrong.add_((1 - labels.gather(1, answers[:, None])).sum() if mixed else (answers != labels).sum())
    images.add_(len(labels))
