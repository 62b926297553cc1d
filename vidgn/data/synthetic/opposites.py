"""The embedded motions with opposite ways as one class: seven classes instead of twelve.

    class                 the layer
    --------------------  --------------------------------------------
    move_horizontally     slides to the left or to the right
    move_vertically       slides up or down
    orbit                 circles without turning itself, either way
    rotate                turns about a point, either way
    shake_horizontally    swings to and fro, as in the twelve classes
    shake_vertically      swings up and down, as in the twelve classes
    zoom                  grows or shrinks

A clip and its reverse have the same class, so a net that sees the same forwards and backwards, as an inflated one does
at first, can learn them. The two shakes have half as many videos as the others: naming one class of the others always
is right in 1/6.
"""

import dataclasses

import numpy as np

from vidgn.data.manifests.manifest import Manifest

_ONE = {
    "move_down": "move_vertically",
    "move_left": "move_horizontally",
    "move_right": "move_horizontally",
    "move_up": "move_vertically",
    "orbit_clockwise": "orbit",
    "orbit_counterclockwise": "orbit",
    "rotate_clockwise": "rotate",
    "rotate_counterclockwise": "rotate",
    "zoom_in": "zoom",
    "zoom_out": "zoom",
}


def join_opposites(manifest: Manifest) -> Manifest:
    """Return the same videos with opposite motions as one class; classes without an opposite stay.

    Args:
        manifest: of motions.
    """
    names = [_ONE.get(name, name) for name in manifest.classes]
    classes = tuple(sorted(set(names)))
    labels = np.array([classes.index(name) for name in names], np.int64)[manifest.labels]
    return dataclasses.replace(manifest, labels=labels, classes=classes)
