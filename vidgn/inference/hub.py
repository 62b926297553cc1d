"""Share a checkpoint that describes itself: `vidgn push` and `vidgn pull`.

model.safetensors   the net's tensors
vidgn.json          what a checkpoint says of itself, without paths of the machine that trained it
metrics.json        of its test, where there is one
README.md           the model card, made from the two
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

import torch

from vidgn.checkpoints.checkpoint import Checkpoint, read_checkpoint
from vidgn.checkpoints.description import KEY, Description
from vidgn.files.outputs import check_outputs
from vidgn.files.temporary import temporary_folder
from vidgn.files.whole_files import write_whole
from vidgn.inference.model import find_checkpoint
from vidgn.inference.model_card import model_card

WEIGHTS, ABOUT, METRICS, CARD = "model.safetensors", "vidgn.json", "metrics.json", "README.md"
_KEPT_METRICS = (
    "video_top1", "video_top5", "clip_top1", "clip_top5", "videos_expected", "videos_scored", "videos_failed",
    "protocol", "classes", "device", "versions", "trained_on",
)  # fmt: skip


def run_push(
    repo: str, *, ckpt: str, folder: str | None, private: bool, out: TextIO, as_json: bool = False,
    overwrite: bool = False,
) -> int:  # fmt: skip
    """Write the files of a checkpoint to a folder, or to a repository of the Hugging Face hub.

    Raises:
        ValueError, OSError, ImportError: what was given cannot be used; one sentence.
    """
    checkpoint = read_checkpoint(find_checkpoint(ckpt))
    _check_repo(repo)
    if folder is not None:
        files = [Path(folder) / name for name in (WEIGHTS, ABOUT, METRICS, CARD)]
        inputs = [checkpoint.path, *_run_files(checkpoint.path)]
        check_outputs(files, option=f"--folder {folder}", inputs=inputs, overwrite=overwrite)
        made_folder = write_shared(Path(folder), checkpoint, name=repo)
        result = {"folder": str(made_folder), "files": sorted(file.name for file in made_folder.iterdir())}
    else:
        with temporary_folder() as made:
            made_folder = write_shared(made / "model", checkpoint, name=repo)
            result = {"address": _upload(repo, made_folder, private=private), "files": sorted(os.listdir(made_folder))}
    print(json.dumps(result, indent=1) if as_json else "\n".join(_lines(result)), file=out)
    return 0


def run_pull(
    source: str, *, target: str, revision: str | None, out: TextIO, as_json: bool = False, overwrite: bool = False
) -> int:
    """Make a run folder of what was pushed: TARGET/checkpoints/best.ckpt, metrics.json and README.md.

    Raises:
        ValueError, OSError, ImportError: what was given cannot be used; one sentence.
    """
    files = [Path(target) / name for name in ("checkpoints/best.ckpt", METRICS, CARD)]
    inputs = [Path(source).expanduser() / name for name in (WEIGHTS, ABOUT, METRICS, CARD)]
    check_outputs(files, option=f"--out {target}", inputs=inputs, overwrite=overwrite)
    path = fetch_run(source, Path(target), revision=revision)
    result = {"checkpoint": str(path), "use": f"vidgn predict VIDEO --ckpt {target}"}
    print(json.dumps(result, indent=1) if as_json else "\n".join(_lines(result)), file=out)
    return 0


def fetch_run(source: str, target: Path, *, revision: str | None = None) -> Path:
    """Make a run folder of a pushed folder or of a repository USER/NAME of the hub; return its checkpoint.

    Raises:
        ValueError, OSError, ImportError: there is none, or it is damaged; one sentence.
    """
    if Path(source).expanduser().is_dir():
        return read_shared(Path(source).expanduser(), target)
    _check_repo(source)
    with temporary_folder() as made:
        return read_shared(_download(source, made, revision=revision), target)


def write_shared(folder: Path, checkpoint: Checkpoint, *, name: str) -> Path:
    """Write the four files.

    Raises:
        ImportError: safetensors is not installed.
        ValueError: the folder holds something else.
    """
    if folder.exists() and {file.name for file in folder.iterdir()} - {WEIGHTS, ABOUT, METRICS, CARD}:
        raise ValueError(f"--folder {folder} holds other files; give a new or empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    description = checkpoint.description.shared()
    about = {**description.to_plain(), "step": checkpoint.step, "epoch": checkpoint.epoch}
    metrics = find_metrics(checkpoint.path)
    tensors = {key: value.contiguous() for key, value in checkpoint.net.items()}
    _optional("safetensors.torch").save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / ABOUT).write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if metrics is not None:
        (folder / METRICS).write_text(json.dumps(metrics, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    parameters = sum(value.numel() for value in tensors.values())
    (folder / CARD).write_text(model_card(name, description, metrics, parameters=parameters), encoding="utf-8")
    return folder


def read_shared(folder: Path, target: Path) -> Path:
    """Make a run folder of the files; return its checkpoint.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or of a later vidgn.
    """
    for name in (WEIGHTS, ABOUT):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{name} is missing; give what vidgn push wrote, a folder or USER/NAME.")
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        tensors = _optional("safetensors.torch").load_file(folder / WEIGHTS)
    except (ValueError, UnicodeDecodeError, _optional("safetensors").SafetensorError) as err:
        raise ValueError(f"{folder.name} is damaged ({str(err).splitlines()[0]}); fetch it again.") from err
    try:
        description = Description.from_plain(about)
    except ValueError as err:
        raise ValueError(f"{ABOUT} {err}; take another one.") from err
    state = {
        KEY: description.shared().to_plain(), "state_dict": {f"net.{key}": value for key, value in tensors.items()},
        "global_step": about.get("step", 0), "epoch": about.get("epoch", 0),
    }  # fmt: skip
    path = target / "checkpoints" / "best.ckpt"
    write_whole(path, lambda file: torch.save(state, file))
    for name in (METRICS, CARD):
        if (folder / name).is_file():
            shutil.copyfile(folder / name, target / name)
    return path


def find_metrics(checkpoint: Path) -> dict[str, Any] | None:
    """Return the metrics of a checkpoint's own test, from the run folder around it; None where there are none."""
    file = checkpoint.absolute().parent.parent / METRICS
    if not file.is_file():
        return None
    metrics = json.loads(file.read_text("utf-8"))
    of_this = Path(metrics.get("checkpoint") or "best.ckpt").name == checkpoint.name  # pulled ones do not name it
    return {key: metrics[key] for key in _KEPT_METRICS if key in metrics} if of_this else None


def _run_files(checkpoint: Path) -> list[Path]:
    """Return the files of the run folder around a checkpoint that are read."""
    return [checkpoint.absolute().parent.parent / METRICS]


def _upload(repo: str, folder: Path, *, private: bool) -> str:
    with _hub_errors(repo):
        api = _api()
        api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message="vidgn push")
    return f"{api.endpoint}/{repo}"


def _download(repo: str, folder: Path, *, revision: str | None) -> Path:
    with _hub_errors(repo):
        names = [WEIGHTS, ABOUT, METRICS, CARD]
        return Path(_api().snapshot_download(repo, revision=revision, allow_patterns=names, local_dir=folder / "model"))


def _api() -> Any:
    return _optional("huggingface_hub").HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="vidgn")


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    errors = _optional("huggingface_hub.errors")
    network = errors.HfHubHTTPError.__bases__[0]  # of the HTTP library of that release
    try:
        yield
    except errors.RepositoryNotFoundError as err:
        raise OSError(f"{repo} is not on the hub, or not for you; check the name, or run hf auth login.") from err
    except errors.LocalTokenNotFoundError as err:
        raise OSError(f"{repo} needs a login; run hf auth login, or set HF_TOKEN.") from err
    except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, network) as err:
        why = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise OSError(f"{repo}: the hub did not answer as hoped ({why}); try again later.") from err


def _check_repo(repo: str) -> None:
    user, _, name = repo.partition("/")
    allowed = all(part and part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in (user, name))
    if not allowed or not repo.isascii() or repo.count("/") != 1:
        raise ValueError(f"{repo} is neither a repository nor a folder; use USER/NAME, such as me/i3d-gn.")


def _optional(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as err:
        raise ImportError(f"push and pull need {name.partition('.')[0]}; pip install 'vidgn[hub]'.") from err


def _lines(result: Mapping[str, Any]) -> list[str]:
    return [f"{key}: {', '.join(value) if isinstance(value, list) else value}" for key, value in result.items()]
