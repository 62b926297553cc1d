"""Score a video with a trained model.

python examples/predict_video.py runs/NAME clip.mp4
"""

import sys

import vidgn


def main(run: str, video: str) -> list[tuple[str, float]]:
    """Return the three best classes with their scores."""
    model = vidgn.load(run, device="cpu")
    best = model.predict(video, top=3)
    for name, score in best:
        print(f"{score:6.1%}  {name}")
    for segment in model.timeline(video):
        print(f"frames {segment.start}..{segment.end - 1}: {segment.name} ({segment.score:.1%})")
    return [(name, score) for name, score in best]


if __name__ == "__main__":
    main(*sys.argv[1:3])
