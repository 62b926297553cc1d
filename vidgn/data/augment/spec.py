"""Which augmentations a run has."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields

AUGMENT_DRAWS = 160  # numbers in [0, 1) per clip; each augmentation has a range of its own, so none shifts another


@dataclass(frozen=True)
class AugmentSpec:
    """The augmentations of training clips, as the options of the same names say them; 0 is off.

    Attributes:
        mixup: alpha of Beta(alpha, alpha), which mixes two clips and their labels ("mixup", arXiv 1710.09412).
        cutmix: alpha; a rectangle of all frames comes from another clip ("CutMix", arXiv 1905.04899).
        videomix: alpha; a cuboid of space and time does ("VideoMix", arXiv 2012.03457).
        randaugment: magnitude, 0 to 10, of two random operations ("RandAugment", arXiv 1909.13719).
        trivialaugment: one random operation of random strength ("TrivialAugment", arXiv 2103.10158).
        color_jitter: how much brightness, contrast and saturation change, 0 to 1.
        grayscale: probability of a clip without colours.
        lighting: deviation along the principal components of ImageNet's colours; AlexNet's is 0.1.
        erasing: probability that a cuboid of space and time becomes noise ("Random Erasing", arXiv 1708.04896).
        resized_crop: smallest share of the frame that a training crop shows, with sides 3/4 to 4/3.
        speed_jitter: a clip covers 1 - x to 1 + x of `span`.
        reverse: probability that a clip runs backwards.

    Raises:
        ValueError: a value out of its range.
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    videomix: float = 0.0
    randaugment: float = 0.0
    trivialaugment: bool = False
    color_jitter: float = 0.0
    grayscale: float = 0.0
    lighting: float = 0.0
    erasing: float = 0.0
    resized_crop: float = 0.0
    speed_jitter: float = 0.0
    reverse: float = 0.0

    def __post_init__(self) -> None:
        for name, most in _RANGES.items():
            value = getattr(self, name)
            if not 0 <= value <= most:
                raise ValueError(f"{name} ({value}) must be in 0..{most:g}; 0 is off, {_USUAL[name]} is usual.")
        if self.randaugment and self.trivialaugment:
            raise ValueError(f"randaugment ({self.randaugment}) and trivialaugment are both on; leave one out.")
        if self.speed_jitter == 1:
            raise ValueError("speed_jitter (1) must be below 1: a clip needs a length; 0.25 is usual.")

    @property
    def mixes(self) -> bool:
        """Whether clips are mixed in pairs."""
        return bool(self.mixup or self.cutmix or self.videomix)

    @property
    def is_on(self) -> bool:
        """Whether there is any augmentation."""
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def changes_pixels(self) -> bool:
        """Whether single clips change after they are cut."""
        names = ("randaugment", "trivialaugment", "color_jitter", "grayscale", "lighting", "erasing")
        return any(getattr(self, name) for name in names)


_RANGES = {
    "mixup": 1.0, "cutmix": 1.0, "videomix": 1.0, "randaugment": 10.0, "color_jitter": 1.0, "grayscale": 1.0,
    "lighting": 1.0, "erasing": 1.0, "resized_crop": 1.0, "speed_jitter": 1.0, "reverse": 1.0,
}  # fmt: skip
_USUAL = {
    "mixup": 0.8, "cutmix": 1, "videomix": 1, "randaugment": 9, "color_jitter": 0.4, "grayscale": 0.2,
    "lighting": 0.1, "erasing": 0.25, "resized_crop": 0.08, "speed_jitter": 0.25, "reverse": 0.5,
}  # fmt: skip


def reversal_changes(classes: Sequence[str]) -> list[str]:
    """Return the classes whose names say that the reversed video is another class.

    >>> reversal_changes(["jump", "opening door", "MoveUp", "spin_clockwise", "supper"])
    ['opening door', 'MoveUp', 'spin_clockwise']
    """
    return [name for name in classes if any(word.lower() in _DIRECTIONS for word in _WORD.findall(name))]


_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_DIRECTIONS = frozenset(
    {
        *("left", "right", "leftward", "rightward", "leftwards", "rightwards", "cw", "ccw"),
        *("clockwise", "counterclockwise", "anticlockwise", "up", "down", "upward", "downward", "upwards", "downwards"),
        *("in", "out", "into", "inside", "onto", "off", "on", "away", "from", "to", "towards", "toward"),
        *("forward", "backward", "forwards", "backwards", "open", "opening", "close", "closing", "push", "pushing"),
        *("pull", "pulling", "lift", "lifting", "lower", "lowering", "drop", "dropping", "pick", "picking", "put"),
        *("putting", "take", "taking", "throw", "throwing", "catch", "catching", "rise", "rising", "fall", "falling"),
        *("enter", "entering", "exit", "exiting", "leave", "leaving", "approach", "approaching", "fold", "folding"),
        *("unfold", "unfolding", "grow", "growing", "shrink", "shrinking", "appear", "appearing", "disappear"),
        *("disappearing", "fill", "filling", "pour", "pouring", "empty", "emptying", "plug", "plugging", "unplug"),
        *("unplugging", "cover", "covering", "uncover", "uncovering", "start", "starting", "stop", "stopping"),
        *("sit", "sitting", "stand", "standing"),
    }
)
