"""A page about detection runs: AP beside the paper's rows, and images with what was found: `vidgn report RUN...`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import yaml
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vidgn.data.images.dataset import read_picture
from vidgn.detection.data.module import images_spec
from vidgn.detection.metric import unpack_masks
from vidgn.detection.results import DETECTIONS
from vidgn.files.bounds import plain_values
from vidgn.files.outputs import check_outputs, replacing
from vidgn.report import theme
from vidgn.report.page import GENERATOR, PageFigure, Section, html_table, page, paragraph

_SHOWN = 6  # images of a run
_LEAST_SCORE = 0.5  # of a detection that is drawn
_MOST_BYTES = 1 << 29  # of a file that is read
# Tables 4 to 6 of "Group Normalization": row, box AP/50/75, mask AP/50/75, COCO val2017.
PAPER_ROWS = (
    ("Table 4, R50 C4, BN*", "37.7/57.9/40.9", "32.8/54.3/34.7"),
    ("Table 4, R50 C4, GN", "38.8/59.2/42.2", "33.6/55.9/35.4"),
    ("Table 6, R50 FPN, BN*", "38.6/59.8/42.1", "34.5/56.4/36.3"),
    ("Table 6, R50 FPN, GN", "40.3/61.0/44.0", "35.7/57.9/37.7"),
    ("Table 6, R101 FPN, BN*", "40.9/61.9/44.8", "36.4/58.5/38.7"),
    ("Table 6, R101 FPN, GN", "41.8/62.5/45.4", "36.8/59.2/39.0"),
    ("Detectron, R50 FPN, BN*, 4conv1fc (not in Table 6)", "38.8/-/-", "34.4/-/-"),
)


def run_detection_report(
    folders: Sequence[str], *, target: str, out: TextIO, as_json: bool, overwrite: bool, images: str | None
) -> int:
    """Write TARGET/index.html and its pictures.

    A run folder may be a stranger's: images are read below `images` alone; drawn ones are drawn again.

    Args:
        folders: of runs.
        target: folder to write.
        out: where to print.
        as_json: print one JSON object.
        overwrite: replace files that no report wrote.
        images: folder of the images of the split, for data=coco.

    Returns:
        The exit status, 0.

    Raises:
        ValueError: a file of a run is damaged.
    """
    runs = [_read(Path(name).expanduser()) for name in dict.fromkeys(folders)]
    files: dict[str, bytes] = {}
    sections = [Section("Average precision", [paragraph(_NOTE), _runs(runs), _paper(runs)])]
    for number, run in enumerate(runs, 1):
        shown = _pictures(run, number, files, root=None if images is None else Path(images).expanduser())
        sections.append(Section(f"{run['folder'].name}: detections above {_LEAST_SCORE:g}", shown))
    folder = Path(target)
    files["index.html"] = page(sections).encode()
    is_ours = (folder / "index.html").is_file() and GENERATOR.encode() in (folder / "index.html").read_bytes()[:4096]
    check_outputs(
        [folder / name for name in files], option=f"--out {target}", overwrite=overwrite,
        inputs=[file for run in runs for file in run["folder"].iterdir()], is_own=lambda file: is_ours,
    )  # fmt: skip
    for name, content in files.items():
        with replacing(folder / name) as part:
            part.write_bytes(content)
    summary = {"page": str(folder / "index.html"), "runs": [{"folder": str(r["folder"]), **r["metrics"]} for r in runs]}
    print(json.dumps(summary, indent=1) if as_json else f"{folder / 'index.html'}: {len(runs)} runs", file=out)
    return 0


_NOTE = "AP over IoU 0.50:0.95, AP50 and AP75 in percent, by COCO's metric on the images of the test."


def _read(folder: Path) -> dict[str, Any]:
    """Read a run folder as plain values."""
    record: dict[str, Any] = {"folder": folder}
    for key, name in (("metrics", "metrics.json"), ("rows", DETECTIONS), ("config", "config.yaml")):
        file = folder / name
        if not file.is_file() or file.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{file} is missing or too large; give a run folder of task=detect with a finished test.")
        try:
            text = file.read_text(encoding="utf-8")
            record[key] = plain_values(yaml.safe_load(text) if name.endswith("yaml") else json.loads(text), name)
        except (ValueError, yaml.YAMLError, RecursionError) as err:
            raise ValueError(f"{file} cannot be read as plain values ({err}); run the test again.") from err
    return record


def _triple(metrics: Mapping[str, Any], kind: str) -> str:
    values = [metrics.get(f"{kind}_{name}") for name in ("ap", "ap50", "ap75")]
    return "/".join("-" if value is None else f"{float(value):.1f}" for value in values)


def _runs(runs: Sequence[Mapping[str, Any]]) -> str:
    head = ("run", "data", "net", "body", "pyramid", "box head", "mask head", "images", "box AP/50/75", "mask AP/50/75")
    rows = []
    for run in runs:
        model, metrics = run["config"]["model"], run["metrics"]
        norms = [model.get(f"{part}_norm", "") for part in ("backbone", "fpn", "box", "mask")]
        precision = (_triple(metrics, "box"), _triple(metrics, "mask"))
        data = run["config"]["data"]["name"]
        rows.append([run["folder"].name, data, model["name"], *norms, metrics["images_scored"], *precision])
    return html_table(head, rows)


def _paper(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the paper's rows; nothing where no run is on COCO."""
    if not any(run["config"]["data"]["name"] == "coco" for run in runs):
        return ""
    return "<h3>The paper, COCO val2017</h3>" + html_table(("row", "box AP/50/75", "mask AP/50/75"), PAPER_ROWS)


def _pictures(
    run: Mapping[str, Any], number: int, files: dict[str, bytes], *, root: Path | None
) -> list[str | PageFigure]:
    shown: list[str | PageFigure] = []
    for name, image in _images(run, root=root):
        rows = [row for row in run["rows"] if row["image"] == name and row["score"] >= _LEAST_SCORE]
        drawn = theme.as_png(draw_detections(image, rows))
        files[f"run{number}-{len(shown) + 1}.png"] = drawn
        shown.append(PageFigure(f"{name}: {len(rows)} objects", drawn, has_frames=True))
    return shown or [paragraph("Images are shown with --videos DIR, the folder of the images of the split.")]


def _images(run: Mapping[str, Any], *, root: Path | None) -> list[tuple[str, Any]]:
    """Return the first images with detections as arrays (H,W,3): drawn again, or below `root` alone."""
    names = list(dict.fromkeys(row["image"] for row in run["rows"]))[:_SHOWN]
    data = run["config"]["data"]
    if data["name"] == "shapes":
        drawn = images_spec(data).open("test")
        index = {drawn.name(row): row for row in range(len(drawn))}
        return [(name, drawn[index[name]].image.permute(1, 2, 0).numpy()) for name in names if name in index]
    if root is None:
        return []
    paths = [(name, root / name) for name in names]
    return [
        (name, read_picture(str(path)))
        for name, path in paths
        if path.is_file() and path.resolve().is_relative_to(root.resolve())
    ]


def draw_detections(image: Any, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw boxes, masks and names over an image (H,W,3).

    Args:
        image: uint8.
        rows: of detections.json.
    """
    figure, (axes,) = theme.new_figure(theme.PANEL)
    axes.imshow(image)
    axes.axis("off")
    for number, row in enumerate(rows):
        colour = theme.MARKS[number % len(theme.MARKS)]
        x, y, width, height = row["bbox"]
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), width, height, fill=False, edgecolor=colour, linewidth=1.5))
        label = f"{row['class']} {row['score']:.2f}"
        axes.text(x, y - 1, label, color=theme.PAPER, fontsize=8, backgroundcolor=colour)
        if "segmentation" in row:
            mask = unpack_masks([row["segmentation"]], tuple(row["segmentation"]["size"]))[0]
            axes.contour(mask.numpy(), levels=[0.5], colors=[colour], linewidths=1)
    return figure
