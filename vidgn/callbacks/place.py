"""Where a run stands, written so that Lightning goes on from exactly there.

    step 0 | step 1 | ... | step N-1 | validation | step N ...
           ^ STEP          ^ VALIDATION           ^ VALIDATED

Lightning tells these places apart by comparing counters (lightning/pytorch/loops/training_epoch_loop.py,
update_restart_stage, advance). A checkpoint of ours is taken where all metrics of the step before are logged, which
is not where Lightning's own is, so the counters are put into the state that it recognizes.
"""

from typing import Any, Literal

Place = Literal["step", "validation", "validated"]


def settle(checkpoint: dict[str, Any], place: Place, *, accumulate: int, world_batch: int) -> None:
    """Rewrite the counters of a checkpoint in place.

    Args:
        checkpoint: as Lightning dumps it.
        place: `step`: taken when the next batch was fetched, which counts as not fetched. `validation`: taken
            before or during a validation, which is run again from its start. `validated`: after one.
        accumulate: batches per optimizer step.
        world_batch: videos per batch of all ranks.
    """
    loops = checkpoint["loops"]["fit_loop"]
    if place == "step":
        _unfetch(loops, accumulate=accumulate)
        for loader in (*loops.get("combined_loader", ()), checkpoint.get("VideoDataModule", {})):
            if "start" in loader:
                loader["start"] -= world_batch
    elif place == "validation":
        begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # RESTARTED_MID_EVALUATION
        progress = loops["epoch_loop.val_loop.batch_progress"]
        progress.update(total=dict(begun), current=dict(begun), is_last_batch=False)


def _unfetch(loops: dict[str, Any], *, accumulate: int) -> None:
    """Make the state that of `on_train_batch_end` of the batch before (RESTARTED_ON_TRAIN_BATCH_END)."""
    progress = loops["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        counts["ready"] -= 1
        counts["completed"] -= 1
    progress["is_last_batch"] = False
    loops["epoch_loop.val_loop.batch_progress"]["is_last_batch"] = False
    if progress["current"]["ready"] % accumulate == 0:
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning counts it again when it restarts
