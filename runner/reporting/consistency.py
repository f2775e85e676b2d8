"""Check fields of a record against each other: speed and time, best epoch, trail of attempts, switches of the profile."""

import math
from collections.abc import Callable, Mapping

from benchmarks.records import RunRecord

Note = Callable[[str, str], None]  # (field, problem)
SPEED_SHARE = 0.01  # relative tolerance of the speed, because images and seconds are rounded


def differ(one: float | None, other: float | None) -> bool:
    """Return whether two values of a record or a curve differ, to within 1e-6, because errors are rounded to 6 decimals."""
    if one is None or other is None:
        return one is not other
    return not math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-6)


def check_best(record: RunRecord, errors: Mapping[int, float], curve: str, error: Note) -> None:
    """Report a best epoch that does not match the curve. `errors` are its test errors in percent by epoch."""
    best = record.best_epoch
    if (best is None) != (record.best_test_error is None):
        error("best_epoch", f"is {best}, best_test_error {record.best_test_error}: expected both or neither")
    elif best is not None and differ(errors.get(best), record.best_test_error):
        error(
            "best_epoch",
            f"is {best}, whose test error in {curve} is {errors.get(best)}, expected {record.best_test_error}",
        )
    elif record.best_test_error is not None and differ(min(errors.values()), record.best_test_error):
        error("best_test_error", f"is {record.best_test_error}, expected {min(errors.values())}, the lowest in {curve}")


def check_speed(record: RunRecord, epochs: int, error: Note) -> None:
    """Report a speed that differs from the images of `epochs` epochs per training second.

    The tolerance is SPEED_SHARE plus the rounding of both values.
    """
    images = images_trained(record, epochs)
    if images is None:
        return
    least = images / (record.train_seconds + 0.001) * (1 - SPEED_SHARE) - 0.1
    most = images / max(record.train_seconds - 0.001, 1e-9) * (1 + SPEED_SHARE) + 0.1
    if not least <= record.images_per_second <= most:
        seconds, speed = record.train_seconds, record.images_per_second
        expected = images / max(seconds, 0.001)
        error(
            "images_per_second",
            f"is {speed:.6g}, expected {expected:.6g} for {epochs} epochs of this recipe in {seconds:.6g} s",
        )


def images_trained(record: RunRecord, epochs: int) -> int | None:
    """Return the number of training images in `epochs` epochs of the job's recipe; None if the recipe cannot be read."""
    from zoo.recipe import recipe_from

    try:
        recipe = recipe_from(record.job.effective_recipe)
    except ValueError:
        return None  # reported by verify
    total = 0
    for first, last in ((0, min(epochs, recipe.epochs)), (recipe.epochs, epochs)):
        if last > first:
            stage = recipe.stage_of(first)
            total += (last - first) * stage.recipe.images_per_epoch(record.protocol.training_images - stage.left_out)
    return total


def check_trail(record: RunRecord, error: Note) -> None:
    """Report a trail that contradicts the record, or that changes without a forced resume."""
    if not record.trail:
        return
    environment = record.environment
    if len(record.trail) > record.attempts:
        error("trail", f"has {len(record.trail)} entries, expected at most {record.attempts}, the number of attempts")
    own = {
        "hardware": environment.hardware,
        "torch": environment.torch,
        "threads": environment.threads,
        "sources_sha256": record.source.sha256,
        "data_sha256": record.data.sha256,
    }
    if not any(all(getattr(entry, name) in (None, value) for name, value in own.items()) for entry in record.trail):
        error("trail", "has no entry with the record's own hardware, torch, threads, sources and data")
    changed = [name for name in (*own, "numpy") if len({getattr(entry, name) for entry in record.trail}) > 1]
    if changed and not record.forced_resume:
        error("forced_resume", f"is false, but {', '.join(changed)} changed along the trail")


def check_profile(record: RunRecord, error: Note) -> None:
    """Report a switch of a `reference` run that the profile does not allow.

    The memory layout is left out, because each model chooses its own. Switches that are not recorded are left out too.
    """
    import torch

    from runner.training import profiles

    if record.job.profile != "reference":
        return
    recorded = record.environment.precision
    for name, value in profiles.resolve("reference", torch.device(record.environment.device)).items():
        actual = recorded.get(name, value)
        # A model that is not `bitwise` has operations without a deterministic algorithm.
        allowed = (value, "where it can be") if name == "deterministic" else (value,)
        if name != "channels_last" and actual not in allowed:
            error(f"environment.precision.{name}", f"is {actual}, expected {value} for the profile 'reference'")
