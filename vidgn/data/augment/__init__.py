"""Augmentation of training clips beyond crop and mirror; all of it is off by default."""

from vidgn.data.augment.clip import augment_clip, augmented_indices, augmented_view
from vidgn.data.augment.mixing import mix_pairs
from vidgn.data.augment.spec import AUGMENT_DRAWS, AugmentSpec, reversal_changes

__all__ = [
    "AUGMENT_DRAWS",
    "AugmentSpec",
    "augment_clip",
    "augmented_indices",
    "augmented_view",
    "mix_pairs",
    "reversal_changes",
]
