from types import SimpleNamespace

import pytest
from lightning.pytorch import loggers

from vidgn.runs.trainer import build_logger, check_numbers, check_precision


@pytest.mark.parametrize("precision", [None, 32, "32-true", "bf16-mixed", "bf16", "16-mixed", 16])
def test_precisions_that_keep_weights_in_float32_are_allowed(precision):
    check_precision(precision)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", 64, "transformer-engine", "half"])
def test_another_precision_is_refused_by_name(precision):
    with pytest.raises(ValueError, match=rf"trainer\.precision \({precision}\) must be one of 32-true, bf16-mixed, 16"):
        check_precision(precision)


NUMBERS = {"log_every_n_steps": 10, "accumulate_grad_batches": 1, "check_val_every_n_epoch": 1, "num_nodes": 1,
           "val_check_interval": None, "gradient_clip_val": None, "max_epochs": 1, "max_steps": -1}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value"),
    [("log_every_n_steps", 0), ("accumulate_grad_batches", 0), ("check_val_every_n_epoch", 0), ("num_nodes", -1),
     ("val_check_interval", 0), ("gradient_clip_val", -1.0), ("gradient_clip_val", float("nan"))],
)  # fmt: skip
def test_a_number_out_of_its_range_is_refused_by_name(name, value):
    check_numbers(SimpleNamespace(**NUMBERS))
    with pytest.raises(ValueError, match=rf"trainer\.{name} \({value}\) must be "):
        check_numbers(SimpleNamespace(**NUMBERS | {name: value}))


@pytest.mark.parametrize("epochs", [-1, -2])
def test_epochs_without_an_end_need_a_number_of_steps(epochs):
    check_numbers(SimpleNamespace(**NUMBERS | {"max_epochs": -1, "max_steps": 5}))
    with pytest.raises(ValueError, match=rf"^epochs \({epochs}\) must be 0 or more, or -1 together with trainer.max"):
        check_numbers(SimpleNamespace(**NUMBERS | {"max_epochs": epochs}))


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_eval_refuses_it_in_one_sentence(run, trained, tmp_path, precision):
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"trainer.precision={precision}",
                  f"hydra.run.dir={tmp_path}")  # fmt: skip
    assert outcome.status == 2
    assert f"error: trainer.precision ({precision}) must be one of 32-true" in outcome.err


def test_mlflow_logs_to_the_server_that_is_named_or_into_the_run_folder(tmp_path, monkeypatch):
    """Lightning's logger is called with what it needs; MLflow itself is not."""
    monkeypatch.setattr(loggers, "MLFlowLogger", lambda **arguments: arguments)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    local = build_logger("mlflow", tmp_path / "run7")
    assert (local["run_name"], local["experiment_name"], local["tracking_uri"]) == ("run7", "vidgn", None)
    assert local["save_dir"] == str(tmp_path / "run7" / "mlruns")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert build_logger("mlflow", tmp_path)["tracking_uri"] == "http://server:5000"


def test_without_mlflow_the_extra_is_named(tmp_path, monkeypatch):
    def missing(**arguments):
        raise ModuleNotFoundError("mlflow")

    monkeypatch.setattr(loggers, "MLFlowLogger", missing)
    with pytest.raises(ImportError, match=r"logger.names \(mlflow\) needs MLflow; pip install 'vidgn\[mlflow\]'"):
        build_logger("mlflow", tmp_path)
