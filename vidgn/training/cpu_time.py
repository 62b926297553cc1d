"""A rough estimate of how long a job takes on a CPU, for a note before it starts; `trainer=dry` measures it."""

RATE = 2e10  # multiply-adds per second and thread: a third of what AVX-512 processors reach in large convolutions
FULL_SIZE = (64, 32, 224)  # channels of the stem, frames, pixels of the I3D ...
FULL_SIZE_MACS = 32.83e9  # ... whose clip takes so many multiply-adds (`vidgn model --summary`)
LONG_HOURS = 3.0  # from here on a person wants to know


def training_hours(
    *, num_videos: int, epochs: int, width: int, clip_len: int, crop: int, num_threads: int, frozen: bool = False
) -> float:
    """Estimate the hours that training takes, from the size of the net and of its clips alone.

    Args:
        num_videos: training videos.
        epochs: passes over them.
        width: channels of the stem.
        clip_len: frames of a clip.
        crop: side of the crop in pixels.
        num_threads: threads that compute.
        frozen: only the classifier is trained, so that there is no backward pass through the net.

    >>> round(training_hours(num_videos=647, epochs=100, width=64, clip_len=32, crop=224, num_threads=2))
    44
    >>> round(training_hours(num_videos=1440, epochs=4, width=16, clip_len=32, crop=64, num_threads=2), 2)
    0.02
    """
    wide, frames, side = FULL_SIZE
    macs = FULL_SIZE_MACS * (width / wide) ** 2 * clip_len / frames * (crop / side) ** 2
    passes = 1 if frozen else 3  # the backward pass is two of the forward pass
    return num_videos * epochs * passes * macs / (RATE * num_threads) / 3600


def long_job_note(hours: float) -> str | None:
    """Return a note with ways out for a job of many hours, or None.

    >>> long_job_note(1.0)
    """
    if hours < LONG_HOURS:
        return None
    length = f"{hours / 24:,.0f} days" if hours >= 48 else f"{hours:,.0f} hours"
    return (
        f"note: this training takes roughly {length} on this CPU (trainer=dry measures it); smaller: model.width=16 "
        "crop=112, fewer epochs, or init=FILE train_only=head; vidgn probe ckpt=FILE answers in minutes"
    )
