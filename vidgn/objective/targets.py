"""What the outputs of a net stand for: one class, any number of classes, or one class of each of several heads.

    kind    a video has            outputs                              probabilities
    one     exactly one class      one per class                        softmax over all
    many    any number of them     one per class                        sigmoid of each
    heads   one of each head       those of the heads side by side      softmax within each head

The classes of a video are a row of class indices (M,), filled up with -1. What is computed with them is in
`vidgn.objective.target_tensors`: this module is read without torch.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["one", "many", "heads"]


@dataclass(frozen=True)
class Targets:
    """What the Q outputs of a net stand for.

    Attributes:
        kind: one, many or heads.
        heads: of heads, the name and the number of classes of each, in the order of the outputs.
        separator: of many, what stands between the classes of a video in a table.

    >>> Targets("heads", (("verb", 2), ("noun", 3))).slices
    (slice(0, 2, None), slice(2, 5, None))
    """

    kind: Kind = "one"
    heads: tuple[tuple[str, int], ...] = ()
    separator: str = ";"

    @property
    def slices(self) -> tuple[slice, ...]:
        """The outputs of each head; those of all classes where there are no heads."""
        if not self.heads:
            return (slice(None),)
        ends = [sum(count for _, count in self.heads[: position + 1]) for position in range(len(self.heads))]
        return tuple(slice(end - count, end) for end, (_, count) in zip(ends, self.heads, strict=True))


ONE = Targets()
