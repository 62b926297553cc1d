"""Take a checkpoint to other programs: `vidgn export`, with the numeric difference it makes.

What is exported takes uint8 clips (N, 3, T, S, S) as they come from a decoder and gives scores (N, Q): the
normalization of the pixels is inside.
"""

import json
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidgn.data.video import open_video
from vidgn.files.outputs import check_outputs, replacing
from vidgn.inference.model import ScoringModel, find_checkpoint, find_videos_of, open_model
from vidgn.inference.windows import read_windows, window_starts

Scorer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
_SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "safetensors": ".safetensors"}
_OPSET = 18
_RANDOM_CLIPS = 4


class Exported(nn.Module):
    """From pixels to scores: what is written."""

    def __init__(self, normalize: nn.Module, net: nn.Module) -> None:
        super().__init__()
        self.normalize = normalize
        self.net = net

    def forward(self, clips: Tensor) -> Tensor:
        """Return scores (N, Q) of uint8 clips (N, 3, T, S, S)."""
        scores: Tensor = self.net.scores(self.normalize(clips))  # type: ignore[operator]
        return scores


def run_export(
    *, ckpt: str, to: str, target: str | None, videos: Sequence[str], out: TextIO, as_json: bool = False,
    overwrite: bool = False,
) -> int:  # fmt: skip
    """Write the file, run it again beside the net, and print the difference; return 1 if a top-1 class changed.

    Raises:
        ValueError, OSError, ImportError: what was given cannot be used; one sentence.
    """
    if to not in _SUFFIXES:
        raise ValueError(f"--to {to} is unknown; use one of {', '.join(_SUFFIXES)}.")
    paths = find_videos_of(videos) if videos else []
    checkpoint = find_checkpoint(ckpt)
    file = Path(target) if target is not None else checkpoint.with_suffix(_SUFFIXES[to])
    check_outputs([file], option="--out", inputs=[checkpoint, *paths], overwrite=overwrite)
    model = open_model(ckpt, device="cpu", fused=False)  # written down as other programs know it
    net = Exported(model.classifier.normalize, model.classifier.net).eval()
    with replacing(file) as part:
        scorer = _WRITERS[to](net, model, part)
    clips = _random_clips(model) if not paths else _video_clips(paths, model)
    result = compare_outputs(net, scorer, clips)
    result = {"file": str(file), "bytes": file.stat().st_size, **result, "on": "videos" if paths else "random clips"}
    if as_json:
        print(json.dumps(result, indent=1), file=out)
    else:
        print(
            f"{file}: {result['bytes'] / 1e6:.1f} MB\nlargest difference of a score {result['difference']:.1e}, "
            f"top-1 agrees on {result['agree']} of {result['clips']} {result['on']}", file=out,
        )  # fmt: skip
    return int(result["agree"] != result["clips"])


def compare_outputs(net: nn.Module, scorer: Scorer, clips: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
    """Return the largest difference of scores, and on how many clips the best class is the same.

    Raises:
        RuntimeError: the exported net does not take a batch of two.
    """
    difference, agree = 0.0, 0
    for clip in clips:
        with torch.inference_mode():
            ours = net(torch.from_numpy(clip)).numpy()
        theirs = scorer(clip)
        difference = max(difference, float(np.abs(ours - theirs).max()))
        agree += int((ours.argmax(1) == theirs.argmax(1)).all())
    pair = np.concatenate([clips[0], clips[-1]])
    if scorer(pair).shape[0] != 2:
        raise RuntimeError("the exported net does not take a batch of two clips; please report this")
    return {"difference": difference, "agree": agree, "clips": len(clips)}


def description(model: ScoringModel) -> dict[str, str]:
    """Return what a runner must know, as the texts that the file carries."""
    described = model.description
    return {
        "classes": json.dumps(list(model.classes)),
        "clip": json.dumps({"clip_len": described.clip_len, "span": described.span}),
        "side": str(model.crop.test_side),
        "pixels": "uint8 RGB, short side resized to `side`, square cut; normalization is inside",
        "normalize": json.dumps({"mean": described.mean, "std": described.std}),
        "model": json.dumps(dict(described.model)),
        "norm": json.dumps(dict(described.norm)),
    }


def _write_onnx(net: Exported, model: ScoringModel, file: Path) -> Scorer:
    onnx, runtime = _optional("onnx"), _optional("onnxruntime")
    _optional("onnxscript")
    program: Any = torch.onnx.export(
        net, (_example(model),), input_names=["clips"], output_names=["scores"], opset_version=_OPSET, dynamo=True,
        dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), verbose=False,
    )  # fmt: skip
    proto = program.model_proto
    for key, value in description(model).items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.checker.check_model(proto)
    file.write_bytes(proto.SerializeToString())
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda clips: np.asarray(session.run(["scores"], {"clips": clips})[0], np.float32)


def _write_torch_export(net: Exported, model: ScoringModel, file: Path) -> Scorer:
    program = torch.export.export(net, (_example(model),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with file.open("wb") as handle:
        torch.export.save(program, handle, extra_files=dict(description(model)))
    with file.open("rb") as written:
        loaded = torch.export.load(written).module()

    def score(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(loaded(torch.from_numpy(clips)).numpy(), np.float32)

    return score


def _write_safetensors(net: Exported, model: ScoringModel, file: Path) -> Scorer:
    safetensors = _optional("safetensors.torch")
    state = {name: tensor.contiguous() for name, tensor in model.classifier.net.state_dict().items()}
    safetensors.save_file(state, file, metadata=description(model))
    import copy

    again = copy.deepcopy(net)
    for parameter in again.net.parameters():
        nn.init.zeros_(parameter)
    again.net.load_state_dict(safetensors.load_file(file))

    def score(clips: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(again(torch.from_numpy(clips)).numpy(), np.float32)

    return score


_WRITERS: dict[str, Callable[[Exported, ScoringModel, Path], Scorer]] = {
    "onnx": _write_onnx,
    "torch-export": _write_torch_export,
    "safetensors": _write_safetensors,
}


def _example(model: ScoringModel) -> Tensor:
    side = model.crop.test_side
    return torch.zeros(2, 3, model.clip.clip_len, side, side, dtype=torch.uint8)


def _random_clips(model: ScoringModel) -> list[NDArray[np.uint8]]:
    shape = (1, *_example(model).shape[1:])
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape, np.uint8) for _ in range(_RANDOM_CLIPS)]


def _video_clips(paths: Sequence[str], model: ScoringModel) -> list[NDArray[np.uint8]]:
    """Return the window in the middle of each video."""
    clips = []
    for path in paths:
        with open_video(path, backend=model.description.backend) as reader:
            starts = window_starts(len(reader), span=model.clip.span, stride=model.clip.span)
            middle = [starts[len(starts) // 2]]
            for window in read_windows(reader, clip=model.clip, side=model.crop.test_side, starts=middle):
                clips.append(window.clip[None].numpy())
    return clips


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as err:
        package = name.partition(".")[0]
        raise ImportError(
            f"--to needs the package {package}, which is not installed; pip install 'vidgn[export]'."
        ) from err
