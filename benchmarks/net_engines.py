"""Other programs that run the same net on a CPU, for `net.py --engines`: those that are installed."""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[Tensor], Tensor]


def engines(net: nn.Module, clip: Tensor, *, threads: int) -> dict[str, Run]:
    """Give what runs `net` on clips of that shape: ONNX Runtime in float32, OpenVINO in float32 and bfloat16."""
    found: dict[str, Run] = {}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        found["ONNX Runtime, float32"] = _onnx_runtime(net, clip, threads)
    if importlib.util.find_spec("openvino"):
        import openvino

        model = openvino.convert_model(net, example_input=clip, input=[tuple(clip.shape)])
        for name, precision in (("float32", "f32"), ("bfloat16", "bf16")):
            words = {
                "INFERENCE_PRECISION_HINT": precision,
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            request = openvino.Core().compile_model(model, "CPU", words).create_infer_request()
            found[f"OpenVINO, {name}"] = _openvino_run(request)
    return found


def _onnx_runtime(net: nn.Module, clip: Tensor, threads: int) -> Run:
    import onnxruntime

    program: Any = torch.onnx.export(net, (clip,), input_names=["clips"], dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), options)
    return lambda x: torch.from_numpy(session.run(None, {"clips": x.numpy()})[0])


def _openvino_run(request: Any) -> Run:
    return lambda x: torch.from_numpy(request.infer([x.numpy()])[0].copy())
