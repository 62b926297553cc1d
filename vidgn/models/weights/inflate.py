"""2-D kernels to 3-D: repeat in time and divide."""

from torch import Tensor


def inflate(weight2d: Tensor, kernel_t: int) -> Tensor:
    """Turn a picture kernel (O, I, kh, kw) into a video kernel (O, I, kernel_t, kh, kw).

    Each of the T planes is the 2-D kernel divided by T, so a clip that repeats one picture gives what the
    picture gives, away from the zero padding at the clip's first and last frames.
    Source: "Non-local Neural Networks" (arXiv 1711.07971) sec. 4.1; video-nonlocal-net
    lib/utils/checkpoints.py:237-241.

    Raises:
        ValueError: `weight2d` is not 4-D, or `kernel_t` is below 1.
    """
    if weight2d.dim() != 4:
        raise ValueError(f"weight2d has shape {tuple(weight2d.shape)}; give a 2-D kernel (O, I, kh, kw).")
    if kernel_t < 1:
        raise ValueError(f"kernel_t ({kernel_t}) must be at least 1 frame; give the depth of the 3-D kernel.")
    return weight2d.unsqueeze(2).repeat(1, 1, kernel_t, 1, 1) / kernel_t  # (O, I, T, kh, kw)
