"""Mask R-CNN as Detectron has it, of torchvision's parts, with a norm for each part."""

from vidgn.detection.network.build import build_detector
from vidgn.detection.network.detector import Detector
from vidgn.detection.network.spec import DETECTORS, DetectorSpec

__all__ = ["DETECTORS", "Detector", "DetectorSpec", "build_detector"]
