import pytest

from vidgn.runs.trainer import check_precision


@pytest.mark.parametrize("precision", [None, 32, "32-true", "bf16-mixed", "bf16", "16-mixed", 16])
def test_precisions_that_keep_weights_in_float32_are_allowed(precision):
    check_precision(precision)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true", 64, "transformer-engine", "half"])
def test_another_precision_is_refused_by_name(precision):
    with pytest.raises(ValueError, match=rf"trainer\.precision \({precision}\) must be one of 32-true, bf16-mixed, 16"):
        check_precision(precision)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_eval_refuses_it_in_one_sentence(run, trained, tmp_path, precision):
    outcome = run("eval", f"ckpt={trained}/checkpoints/best.ckpt", f"trainer.precision={precision}",
                  f"hydra.run.dir={tmp_path}")  # fmt: skip
    assert outcome.status == 2
    assert f"error: trainer.precision ({precision}) must be one of 32-true" in outcome.err
