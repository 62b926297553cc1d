"""Networks built by pytorchvideo, as data: I3D and its kin, SlowFast, R(2+1)D, CSN and X3D.

This folder is the one door to pytorchvideo.
"""

from vidgn.models.builders.i3d import STEMS, I3DSpec, build_i3d
from vidgn.models.net import VideoNet, zero_last_gammas

__all__ = ["STEMS", "I3DSpec", "VideoNet", "build_i3d", "zero_last_gammas"]
