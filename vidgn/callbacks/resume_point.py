"""Where a run stands, written so that Lightning resumes exactly there.

    step 0 | step 1 | ... | step N-1 | validation | step N ...
           ^ STEP          ^ VALIDATION           ^ VALIDATED
           ^ CUT: trainer.max_steps ended the run here, and Lightning has ended the epoch

Lightning tells these places apart by comparing counters (lightning/pytorch/loops/training_epoch_loop.py,
update_restart_stage, advance). A vidgn checkpoint is taken where all metrics of the step before are logged, which
is not where Lightning's own is, so the counters are put into the state that it recognizes.
"""

import math
from typing import Any, Literal

from vidgn.lightning_internals import epoch_counters, loader_states, train_counters, uncount_step, validation_counters

Place = Literal["step", "cut", "validation", "validated"]

WORLD_BATCH = "world_batch"  # of a checkpoint: videos per batch of all ranks, what its counters count in


def settle(checkpoint: dict[str, Any], place: Place, *, accumulate: int, world_batch: int) -> None:
    """Rewrite the counters of a checkpoint in place.

    Args:
        checkpoint: as Lightning dumps it.
        place: `step`: taken when the next batch was fetched, which counts as not fetched. `cut`: taken when the last
            step of the run (trainer.max_steps) ended its epoch, which counts as not ended. `validation`: taken
            before or during a validation, which is run again from its start. `validated`: after one.
        accumulate: batches per optimizer step.
        world_batch: videos per batch of all ranks.
    """
    checkpoint[WORLD_BATCH] = world_batch
    if place == "step":
        _unfetch(checkpoint, accumulate=accumulate)
        for order in _orders(checkpoint):
            order["start"] -= world_batch
    elif place == "cut":
        _reopen_epoch(checkpoint, accumulate=accumulate)
    elif place == "validation":
        _await_validation(checkpoint)


def rescale(checkpoint: dict[str, Any], *, accumulate: int, world_batch: int, by_steps: bool) -> float:
    """Rewrite a checkpoint in place for another number of ranks: the order of videos continues where it was.

    The counters are those that a run of `world_batch` would have at this place, the schedule is at the same share of
    the run, and the rates follow the linear rule.

    Args:
        checkpoint: as `settle` left it.
        accumulate: batches per optimizer step.
        world_batch: videos per batch of all ranks, now.
        by_steps: the length of the run is a number of steps (trainer.max_steps): the schedule stays at its step.

    Returns:
        How many times the videos of a batch, 1 where nothing changed.
    """
    before, orders = checkpoint.get(WORLD_BATCH) or 0, _orders(checkpoint)
    if before in (0, world_batch) or not orders:
        return 1.0
    progress = train_counters(checkpoint)
    videos, start = orders[0]["num_items"], orders[0]["start"]
    per_epoch = max(1, videos // world_batch)
    left = 0 if progress["is_last_batch"] else max(0, videos - start) // world_batch
    if left == 0 and not progress["is_last_batch"]:  # fewer videos than a batch are left: they wait for another epoch
        progress["current"]["completed"] += 1  # what _unfetch took
        progress["total"]["completed"] += 1
        progress["is_last_batch"] = True
        _await_validation(checkpoint)
    done, now = max(0, per_epoch - left), progress["current"]["processed"]
    progress["current"].update({name: count + done - now for name, count in progress["current"].items()})
    for order in orders:
        order["start"] = videos if left == 0 else start
    if not by_steps:
        steps = checkpoint["epoch"] * math.ceil(per_epoch / accumulate) + done // accumulate
        for schedule in checkpoint["lr_schedulers"]:
            schedule.update(last_epoch=steps, _step_count=steps + 1)
    ratio = world_batch / before
    _scale_rates(checkpoint, ratio)
    return ratio


def _orders(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the places in the order of videos: of the data module, whatever its class, and of Lightning's loaders."""
    parts = [*loader_states(checkpoint), *checkpoint.values()]
    return [part for part in parts if isinstance(part, dict) and {"start", "num_items"} <= part.keys()]


def _await_validation(checkpoint: dict[str, Any]) -> None:
    """Make the state that of a validation that has begun (RESTARTED_MID_EVALUATION)."""
    begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
    validation_counters(checkpoint).update(total=dict(begun), current=dict(begun), is_last_batch=False)


def _unfetch(checkpoint: dict[str, Any], *, accumulate: int) -> None:
    """Make the state that of `on_train_batch_end` of the batch before (RESTARTED_ON_TRAIN_BATCH_END)."""
    progress = train_counters(checkpoint)
    for counts in (progress["total"], progress["current"]):
        counts["ready"] -= 1
        counts["completed"] -= 1
    progress["is_last_batch"] = False
    validation_counters(checkpoint)["is_last_batch"] = False
    if progress["current"]["ready"] % accumulate == 0:
        uncount_step(checkpoint)


def _reopen_epoch(checkpoint: dict[str, Any], *, accumulate: int) -> None:
    """Make the state that of `on_train_batch_end` of the last step, before its epoch ends."""
    for counts in (epoch_counters(checkpoint)["total"], epoch_counters(checkpoint)["current"]):
        counts["processed"] -= 1
    progress = train_counters(checkpoint)
    for counts in (progress["total"], progress["current"]):
        counts["completed"] -= 1
    validation_counters(checkpoint)["is_last_batch"] = False
    if progress["current"]["ready"] % accumulate == 0:
        uncount_step(checkpoint)
    if progress["is_last_batch"]:  # Lightning then begins the next epoch
        for order in _orders(checkpoint):
            order["start"] = 0


def _scale_rates(checkpoint: dict[str, Any], ratio: float) -> None:
    for schedule in checkpoint["lr_schedulers"]:
        for name in ("base_lrs", "_last_lr"):
            schedule[name] = [rate * ratio for rate in schedule[name]]
    for optimizer in checkpoint["optimizer_states"]:
        for group in optimizer["param_groups"]:
            for name in ("lr", "initial_lr"):
                group[name] *= ratio
