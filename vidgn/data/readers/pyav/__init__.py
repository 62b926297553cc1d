"""The default reader: packets and decoder of PyAV, an index of the frames, conversion to RGB."""
