"""How the best checkpoint is chosen where few validation videos would decide: by the loss, over several clips."""

from dataclasses import replace
from pathlib import Path

from vidgn.callbacks.checkpointing import BEST, Keep
from vidgn.callbacks.early_stop import Monitor, monitor
from vidgn.checkpoints.checkpoint import read_checkpoint
from vidgn.data.manifests.manifest import Manifest
from vidgn.runs.config import RunConfig
from vidgn.terminal.console import say

FEW_VIDEOS = 50  # of the validation, below which one video changes the error by more than 2 %
MOST_CLIPS = 5  # of a video: random clips of one video resemble each other, so that more hardly add anything


def validation_clips(num_videos: int) -> int:
    """Return the fewest clips per video with which 50 clips are validated, at most 5, whatever the batch and the ranks.

    >>> [validation_clips(num_videos) for num_videos in (4, 10, 20, 49, 50, 5000)]
    [5, 5, 3, 2, 1, 1]
    """
    return max(1, min(MOST_CLIPS, -(-FEW_VIDEOS // max(1, num_videos))))


def choose_val_clips(config: RunConfig, videos: Manifest, *, first: Path | None) -> RunConfig:
    """Set `val_clips` where it is null, and say so where that gives more than one.

    Args:
        config: of the run; in the result `val_clips` is a number.
        videos: of the validation.
        first: checkpoint that the run resumes from, whose number stays; it had 1 before there was the option.

    Raises:
        ValueError: it is not a number of clips, or not 1 although the videos have several labels.
    """
    is_one_label, given = videos.targets.kind == "one", config.val_clips
    if given is not None:
        if isinstance(given, bool) or not isinstance(given, int):
            raise ValueError(f"val_clips ({given}) must be a number of clips per video, such as 5; leave it out.")
        if given != 1 and not is_one_label:
            raise ValueError(f"val_clips ({given}) must be 1 where videos have several labels; leave it out.")
        return config
    num_clips = 1
    if first is not None:
        training = (read_checkpoint(first).description.job or {}).get("training", {})
        num_clips = training.get("val_clips", 1)
    elif is_one_label and config.task.name != "image" and not config.fit_head:
        num_clips = validation_clips(len(videos))
        if num_clips > 1:
            say(
                f"note: {len(videos)} validation videos are few: {num_clips} clips of each are validated, the "
                f"fewest that make {FEW_VIDEOS} clips, at most {MOST_CLIPS}; val_clips=1 validates one"
            )
    return replace(config, val_clips=num_clips)


def best_by(config: RunConfig, *, num_videos: int) -> Monitor:
    """Return what the best checkpoint is best in: the loss where few videos would decide and best_by is not typed."""
    if num_videos >= FEW_VIDEOS or config.is_typed("best_by") or config.fit_head:
        return monitor(config.best_by)
    say(
        f"note: {num_videos} validation videos are few: one of them is {100 / max(1, num_videos):.0f} % of the error, "
        "so best.ckpt is the epoch with the smallest validation loss; best_by=error chooses by the error"
    )
    return monitor("loss")


def announce_best(keep: Keep, *, num_videos: int, num_clips: int) -> None:
    """Print which epoch is tested, and how many videos decided that it is the best one."""
    if keep.best is not None and keep.best_epoch is not None:
        say(
            f"testing {BEST} of epoch {keep.best_epoch + 1}: {keep.by.metric} {keep.best:.4g}, the best of all "
            f"validations ({num_videos:,} videos" + (f" x {num_clips} clips)" if num_clips > 1 else ")")
        )
