"""When a training ends, and how: functions of its curve, one row per epoch."""

from typing import TYPE_CHECKING, Any

from zoo.recipe import Recipe

if TYPE_CHECKING:
    from runner.training.batches import DeviceSet

CHANCE_SHARE = 0.98  # from this share of the constant answer's loss on, a final training loss counts as chance


def has_diverged(curve: list[dict[str, Any]]) -> bool:
    """Return whether the last epoch's loss was not finite."""
    return bool(curve) and curve[-1]["test_error"] is None


def outcome_of(curve: list[dict[str, Any]], chance_loss: float) -> str:
    """Return "diverged", "collapsed" (the network ended at the loss of a constant answer) or "finished"."""
    if has_diverged(curve):
        return "diverged"
    return "collapsed" if curve[-1]["train_loss"] >= CHANCE_SHARE * chance_loss else "finished"


def is_over(recipe: Recipe, curve: list[dict[str, Any]]) -> bool:
    """Return whether the training has all its epochs, or its schedule or second stage has ended it early."""
    if recipe.second_stage is None:
        return len(curve) >= recipe.epochs or recipe.schedule.over(train_errors(curve))
    matched = len(curve) > recipe.epochs and curve[-1]["objective"] <= curve[recipe.epochs - 1]["objective"]
    return matched or len(curve) >= recipe.most_epochs


def train_errors(curve: list[dict[str, Any]]) -> list[float]:
    """Return each epoch's training error in percent, for schedules that depend on it."""
    return [row["train_error"] for row in curve]


def watched_images(recipe: Recipe, epoch: int, train: "DeviceSet") -> "DeviceSet | None":
    """Return the images on which the second stage needs the loss after `epoch` epochs (with dropout active), or None.

    After the last epoch of the first stage these are the images that it trained on; after that, the images that it left
    out.
    """
    if recipe.second_stage is None or epoch < recipe.epochs:
        return None
    left_out = len(train) - recipe.second_stage.images
    return train.first(left_out) if epoch == recipe.epochs else train.from_(left_out)
