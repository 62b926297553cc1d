"""pytorchvideo's builders, imported without the warnings that its own imports cause."""

import warnings

with warnings.catch_warnings():
    # fvcore, which pytorchvideo imports, scripts a loss it does not use here; torch 2.15 calls that outdated.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    from pytorchvideo.models.csn import create_csn
    from pytorchvideo.models.r2plus1d import create_r2plus1d
    from pytorchvideo.models.resnet import BottleneckBlock, create_resnet
    from pytorchvideo.models.slowfast import create_slowfast
    from pytorchvideo.models.x3d import create_x3d

__all__ = ["BottleneckBlock", "create_csn", "create_r2plus1d", "create_resnet", "create_slowfast", "create_x3d"]
