"""An end that the system asks for, on real processes: the step is finished, the state saved, the status 143."""

import pytest

from vidgn.callbacks.preemption import Stop
from vidgn.checkpoints.checkpoint import read_checkpoint


def scontrol(folder, *, status=0):
    """Make a `scontrol` that writes down what it is asked."""
    folder.mkdir()
    path = folder / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked.txt\necho "no such job" >&2\nexit {status}\n')
    path.chmod(0o755)
    return folder


def slurm(folder, **more):
    job = {"SLURM_JOB_ID": "77", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}
    job |= {"SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_NTASKS_PER_NODE": "1", "SLURM_NODELIST": "localhost"}
    return {**job, "PATH": f"{folder}:/usr/bin:/bin", **more}


def asked(folder):
    path = folder / "asked.txt"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, ["requeue 77"]),
        ({"SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, ["requeue 70_3"]),
        ({"SLURM_JOB_NAME": "interactive"}, []),  # somebody sits before it
    ],
)
def test_preemption_saves_and_requeues_the_job(ranks, tmp_path, more, says):
    tools = scontrol(tmp_path / "bin")
    environment = slurm(tools, **more)
    run = ranks(1, tmp_path / "run", "batch=8", at_step={0: (1, "SIGUSR1")}, environment=environment)
    assert run.statuses == [143], run.says
    assert asked(tools) == says
    assert len(run.steps[0]) == 2  # the step was finished
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").step == 2


@pytest.mark.slow
def test_preemption_of_two_tasks_of_srun_requeues_once(ranks, tmp_path):
    tools = scontrol(tmp_path / "bin")
    both = dict.fromkeys(range(2), (0, "SIGUSR1"))
    run = ranks(2, tmp_path / "run", "batch=4", at_step=both, environment=slurm(tools))
    assert run.statuses == [143, 143], run.says
    assert asked(tools) == ["requeue 77"]
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").step == 1


@pytest.mark.slow
def test_a_job_that_cannot_be_requeued_is_saved_all_the_same(ranks, tmp_path):
    tools = scontrol(tmp_path / "bin", status=1)
    run = ranks(1, tmp_path / "run", "batch=8", at_step={0: (0, "SIGUSR1")}, environment=slurm(tools))
    assert run.statuses == [143], run.says
    assert "scontrol requeue 77: failed (status 1: no such job); submit the same command again" in run.says[0]
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt").step == 1
    (tools / "scontrol").unlink()
    run = ranks(1, tmp_path / "run", "batch=8", at_step={0: (1, "SIGUSR1")}, environment=slurm(tools))
    assert run.statuses == [143], run.says
    assert "scontrol requeue 77: failed ([Errno 2] No such file or directory: 'scontrol')" in run.says[0]


@pytest.mark.slow
def test_sigterm_under_slurm_is_no_reason_to_requeue(ranks, tmp_path):
    """SLURM itself puts back what it preempts with SIGTERM; scancel sends it too."""
    tools = scontrol(tmp_path / "bin")
    run = ranks(1, tmp_path / "run", "batch=8", at_step={0: (0, "SIGTERM")}, environment=slurm(tools))
    assert run.statuses == [143], run.says
    assert asked(tools) == []


@pytest.mark.slow
def test_a_second_signal_ends_at_once(ranks, tmp_path):
    run = ranks(1, tmp_path, "batch=8", at_step={0: (1, "SIGTERM wait SIGTERM")})
    assert run.statuses == [143], run.says
    assert "finishing the step; once more ends at once" in run.says[0]
    assert "stopped by request" not in run.says[0]
    assert len(run.steps[0]) == 1  # the step was not finished
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 1


def test_the_echo_of_a_signal_is_no_second_one(monkeypatch):
    """GNU timeout signals its child and then the child's group; torchrun passes on what its group got anyway."""
    clock, left = [100.0], []
    monkeypatch.setattr("vidgn.callbacks.preemption.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("vidgn.callbacks.preemption.os._exit", left.append)
    stop = Stop()
    stop._in_steps = True
    stop._hear(15, None)
    clock[0] += 0.5
    stop._hear(15, None)
    assert (stop.asked, left) == (15, [])
    clock[0] += 0.6
    stop._hear(15, None)
    assert left == [143]


@pytest.mark.slow
def test_two_ranks_stop_together_where_only_one_is_asked(ranks, tmp_path):
    run = ranks(2, tmp_path, "batch=4", at_step={1: (0, "SIGTERM")})
    assert run.statuses == [143, 143], run.says
    assert [len(rank) for rank in run.steps] == [1, 1]
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt").step == 1


@pytest.mark.slow
def test_a_full_disk_ends_the_run_with_a_sentence_and_the_next_start_goes_on(ranks, tmp_path):
    """The second save has no room: the first stands, nothing is left beside it, and with room again all goes on."""
    run = ranks(1, tmp_path, "batch=8", at_step={0: (1, "full")})
    assert run.statuses == [2], run.says
    assert "last.ckpt could not be written (File too large); the file of that name before it" in run.says[0]
    assert "Traceback" not in run.says[0]
    kept = tmp_path / "checkpoints"
    assert read_checkpoint(kept / "last.ckpt").step == 1
    assert not list(kept.glob("*.part"))
    again = ranks(1, tmp_path, "batch=8")
    assert again.statuses == [0], again.says
    assert (len(run.steps[0]), len(again.steps[0])) == (2, 2)  # the second step twice, with the same outcome
    assert run.steps[0][1] == again.steps[0][0]
