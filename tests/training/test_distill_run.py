import pytest
import torch


@pytest.mark.slow
def test_a_run_imitates_another_net_and_its_checkpoint_says_so(run, tiny, trained, tmp_path):
    teacher = trained / "checkpoints" / "best.ckpt"
    words = (*tiny, "test=false", "trainer.max_steps=2", f"hydra.run.dir={tmp_path}", f"distill={teacher}")
    outcome = run("train", *words, "distill.weight=1", "distill.temperature=2")
    assert outcome.status == 0, outcome.err
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    taught = state["vidgn"]["job"]["training"]["distill"]
    assert taught == {"ckpt": str(teacher), "steps": None, "temperature": 2, "weight": 1}
    assert all(name.startswith(("net.", "accuracies.", "val_loss.")) for name in state["state_dict"])
    outcome = run("train", *words, "distill.weight=0.5")  # resumes the folder
    assert outcome.status == 2
    assert "belongs to another job" in outcome.err
