"""Run an exported net without vidgn and torch: python run_onnx.py MODEL.onnx VIDEO (av, numpy, onnxruntime, pillow)."""

import json
import sys

import av
import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
told = session.get_modelmeta().custom_metadata_map
classes, clip, side = json.loads(told["classes"]), json.loads(told["clip"]), int(told["side"])

with av.open(sys.argv[2]) as container:
    frames = [frame.to_image() for frame in container.decode(video=0)]
start = max(0, (len(frames) - clip["span"]) // 2)
stride = clip["span"] // clip["clip_len"]
chosen = [frames[(start + stride * place) % len(frames)] for place in range(clip["clip_len"])]  # short videos loop

pictures = []
for frame in chosen:
    scale = side / min(frame.size)
    small = frame.resize((round(frame.width * scale), round(frame.height * scale)), Image.Resampling.BILINEAR)
    left, top = (small.width - side) // 2, (small.height - side) // 2
    pictures.append(np.asarray(small.crop((left, top, left + side, top + side))))
clips = np.stack(pictures).transpose(3, 0, 1, 2)[None]  # (1, 3, T, S, S) uint8, RGB

(scores,) = session.run(["scores"], {"clips": clips})
for label in np.argsort(-scores[0])[:5]:
    print(f"{scores[0, label]:8.2%}  {classes[label]}")
