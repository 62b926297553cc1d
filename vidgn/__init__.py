"""Video classification with normalization that does not need a large batch.

Axis letters, the same everywhere:

    B  videos per step and device      T  frames per clip       G  groups of channels
    K  clips per video                 H  W  pixels             Q  classes
    C  channels                        S  side of the crop

A batch of clips is (B*K, C, T, H, W). Importing this package imports torch and nothing heavier.
"""

from vidgn.norms.convert import convert_norm
from vidgn.norms.layers import GroupNorm3d, make_norm

__all__ = ["GroupNorm3d", "convert_norm", "make_norm"]
