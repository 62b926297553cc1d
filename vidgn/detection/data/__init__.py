"""Images with boxes and masks: COCO's format, and drawn shapes."""

from vidgn.detection.data.coco import CocoImages
from vidgn.detection.data.images import Annotated, AnnotatedImages
from vidgn.detection.data.shapes import DrawnShapes

__all__ = ["Annotated", "AnnotatedImages", "CocoImages", "DrawnShapes"]
