"""One update of the weights: forward, backward, optimiser, and the sums that the epoch's figures come from.

At batch 128 and 32x32 pixels an update is some hundred kernels of a few microseconds each: a GPU waits for Python to
launch them. `fast` on CUDA therefore captures the whole update once as a CUDA graph, and a step is two copies and one
launch. Nothing of the training is changed by it: the graph is the eager step's own kernels, dropout draws from the same
generator (a captured graph takes its seed and offset anew for each replay), the learning rate is read from the device,
and a partial last batch has a graph of its own.
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
from zoo.explicit import Network
from zoo.recipe import Augmentation, Recipe
from zoo.recipe import DiagonalLM as DiagonalRule
from zoo.spec import ModelSpec
from zoo.spec import cross_entropy as cross_entropy_of

UPDATES_A_CALL = 256  # of a network that is written out: a call costs what an update costs, and a stop waits for it
WARM_UP = 3  # eager steps before a capture: cuDNN chooses its kernels, libraries take their workspaces


class Step:
    """The eager update. Calling it trains on one batch and adds to `sums`: summed loss, wrong, images (float64, (3,))."""

    updates = 1  # a call's batches: each is an update

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
        # `dynamic=False`: the partial batch of each epoch is compiled by itself, and the kernels of the whole ones stay
        self.forward = torch.compile(model, dynamic=False) if compiled else model
        self._parts = sums.unbind()  # once: a view costs as much as an addition

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        loss, output = self.update(images, labels)
        add_up(self._parts, None if isinstance(self.loss, Smoothed) else loss, output, labels)

    def update(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor | tuple[Tensor, ...]]:
        """The weights' part alone; gives the batch's mean loss and the network's output."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            output = self.forward(images)
        output = tuple(o.float() for o in output) if isinstance(output, tuple) else output.float()
        loss = self.loss(output, labels)
        loss.backward()
        self.optimizer.step()
        return loss, output


class GraphedStep:
    """The same update as a captured CUDA graph, one for each size of batch, captured when it first comes.

    A capture needs steps before it, which train: weights, buffers, momentum, sums and the generator are put back, in
    place, since the graph holds their addresses. The optimiser's numbers but the rate are baked in: when a schedule
    changes one, the graphs are captured anew. The very first update of a training runs eagerly: it makes the velocities,
    and Torch7's convention does not dampen it.

    A capture that fails is told to `give_up`, once, and the training goes on eagerly from where it was.
    """

    updates = 1

    def __init__(self, step: Step, give_up: Callable[[Exception], None] = lambda error: None) -> None:
        self.step, self.give_up = step, give_up
        self._failed = False
        self._pool: Any = None  # one for all graphs: no two run at once, and none reads what another left there
        self._baked: list[tuple[Any, ...]] = []
        self._captured: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        for group in step.optimizer.param_groups:  # on the device: a number would be baked into the graph
            group["lr"] = torch.tensor(float(group["lr"]), device=step.sums.device)

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        if self._failed or not self.step.optimizer.state:
            return self.step(images, labels)
        baked = [(group.get("momentum"), group["weight_decay"]) for group in self.step.optimizer.param_groups]
        if baked != self._baked:
            self._captured.clear()
            self._pool = torch.cuda.graph_pool_handle()  # a pool ends with its last graph
            self._baked = baked
        if len(labels) not in self._captured:
            try:
                self._captured[len(labels)] = self._capture(images.clone(), labels.clone())
            except RuntimeError as error:  # CUDA's own errors, and memory that is short, are RuntimeErrors
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
            self.step.optimizer.zero_grad(set_to_none=True)  # the graph makes its own gradients, in its own memory
            graph = torch.cuda.CUDAGraph()
            # thread_local: other threads may ask the driver things
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                self.step(images, labels)
        finally:  # after a failure too: the warm-up has trained
            for value, content in before:
                value.copy_(content)
            torch.cuda.set_rng_state(generator, device)
        return graph, images, labels

    def _values(self) -> list[Tensor]:
        """Everything that a step changes."""
        momentum = [value for state in self.step.optimizer.state.values() for value in state.values()]
        tensors = [value for value in momentum if isinstance(value, Tensor)]
        return [*(value.detach() for value in self.step.model.state_dict().values()), *tensors, self.step.sums]


class WrittenOutStep:
    """Updates on one image each by a network whose passes are written out, on a CPU; many in a call."""

    def __init__(self, model: nn.Module, optimizer: DiagonalLM, network: Network, sums: Tensor, updates: int) -> None:
        self.model, self.optimizer, self.network, self.sums, self.updates = model, optimizer, network, sums, updates

    def __call__(self, images: Tensor, labels: Tensor) -> None:
        self.network.train(self.model, images, labels, self.optimizer.steps(), self.sums)


def written_out(spec: ModelSpec, recipe: Recipe, device: torch.device) -> bool:
    """Tell whether the model's own passes train this recipe: one image per update, on a CPU."""
    own = not recipe.max_norm and not recipe.average and not recipe.labels and not recipe.augmentation.mixup
    one_image = recipe.batch_size == 1 and isinstance(recipe.optimizer, DiagonalRule) and own
    return spec.explicit_network is not None and device.type == "cpu" and one_image


def updates_a_call(spec: ModelSpec, recipe: Recipe, device: torch.device) -> int:
    """Return how many updates a call of the recipe's step makes.

    A rate that moves from update to update, and images that are augmented, are handed over one by one.
    """
    one_by_one = recipe.schedule.within_epochs or recipe.augmentation != Augmentation()
    return UPDATES_A_CALL if written_out(spec, recipe, device) and not one_by_one else 1


def written_out_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, spec: ModelSpec, recipe: Recipe, sums: Tensor
) -> WrittenOutStep | None:
    """Return the step of the model's own passes where they train this recipe."""
    if spec.explicit_network is None or not written_out(spec, recipe, sums.device):
        return None
    assert isinstance(optimizer, DiagonalLM)
    return WrittenOutStep(model, optimizer, spec.explicit_network(), sums, updates_a_call(spec, recipe, sums.device))


@dataclass(frozen=True)
class Smoothed:
    """Cross-entropy of logits against labels of which each class gets its part of `share`."""

    share: float

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits, labels, label_smoothing=self.share)


def training_loss(spec: ModelSpec, recipe: Recipe) -> Callable[[Any, Tensor], Tensor]:
    """Return the loss that is trained on; raises UserError where the recipe asks for a target that it can't take."""
    plain = spec.loss is cross_entropy_of
    for name, asked in (("labels", recipe.labels), ("augmentation.mixup", recipe.augmentation.mixup)):
        if asked and not plain:
            raise UserError(
                f"{spec.name}: {name} needs the plain cross-entropy; this model has a loss of its own: leave it out"
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
    """Return the update as the profile's switches want it. Made once everything that it changes is in its place."""
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
) -> Step | GraphedStep | WrittenOutStep:
    """Return the model's own written-out step where it can train the recipe, else the profile's."""
    own = written_out_step(model, optimizer, spec, recipe, sums)
    return own or make_step(model, optimizer, training_loss(spec, recipe), sums, switches, give_up=give_up)


def autocast_of(switches: dict[str, bool | str], device: torch.device) -> Callable[[], AbstractContextManager[Any]]:
    """A context for forward passes. Without autocast's cache: each weight is used once, and a graph must own its casts."""
    if switches["autocast"] == "off":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16, cache_enabled=False)


def add_up(sums: Sequence[Tensor], loss: Tensor | None, output: Tensor | tuple[Tensor, ...], labels: Tensor) -> None:
    """Add a batch's summed loss, number of wrong answers and of images to the three sums, without a wait for the device.

    `loss` is the mean that was trained on. Where auxiliary heads share in it, or its labels were smoothed (None), the
    classifier's own counts: a training loss can be set beside the test loss, and beside chance, only without them. `labels`
    are (N,), or shares of the classes, float (N, classes): an answer is then wrong by what isn't its class's share.
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
