"""Object detection and instance segmentation with any norm: Tables 4 to 7 of "Group Normalization".

A folder of its own beside the video path, which does not know it.
"""
