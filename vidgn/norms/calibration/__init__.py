"""Parts of the calibration: lines and kernels by least squares, and the passes that feed them."""
