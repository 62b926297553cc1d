import logging

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from vidgn.callbacks.precise_bn import PreciseBN

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),  # none on purpose
    pytest.mark.filterwarnings("ignore:.*does not have many workers which may be a bottleneck"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),  # fewer than the logging interval
    pytest.mark.filterwarnings("ignore:.*treespec.*LeafSpec.*:FutureWarning"),  # lightning's own use of torch
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),  # a resumed run
]


@pytest.mark.slow
@pytest.mark.parametrize(("num_batches", "epochs"), [(2, [[0], [1]]), (7, [[0, 1, 2], [1, 2, 3]])])
def test_validation_sees_the_statistics_of_its_weights_over_training_batches(num_batches, epochs, tmp_path, lab):
    module = lab.Module()
    module.net[2].p = 0.0  # the oracle has no dropout
    lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=num_batches)])
    assert len(module.validated) == 3  # the first is the sanity check, with the statistics of a fresh net
    assert torch.equal(module.validated[0]["net.1.running_mean"], torch.zeros(4))
    for state, wanted in zip(module.validated[1:], epochs, strict=True):
        reference = lab.Module()
        reference.load_state_dict(state)
        for place, (mean, var) in lab.expected_statistics(reference, epochs=wanted, num_batches=num_batches).items():
            found = state[f"net.{place}.running_mean"], state[f"net.{place}.running_var"]
            torch.testing.assert_close(found[0].double(), mean, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found[1].double(), var, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["bn", "sync_bn", "sub_bn"])
def test_training_goes_on_exactly_as_without(norm, tmp_path, lab):
    runs = []
    for callbacks in ([], [PreciseBN(num_batches=4)]):
        module, keep = lab.Module(norm), lab.Averages()
        lab.fit(module, tmp_path, callbacks=[*callbacks, keep], val_check_interval=2, max_epochs=3)
        runs.append((module, keep))
    (plain, plain_averages), (precise, precise_averages) = runs
    assert len(plain.losses) == 9
    assert plain.losses == precise.losses  # bit for bit, and the random numbers too
    assert lab.same(dict(plain.named_parameters()), dict(precise.named_parameters()))
    assert len(plain_averages.states) == 9
    assert all(map(lab.same, plain_averages.states, precise_averages.states))
    assert not lab.same(plain.validated[1], precise.validated[1])


@pytest.mark.slow
def test_layers_that_training_freezes_keep_their_statistics(tmp_path, lab):
    class Frozen(lab.Module):
        def on_train_epoch_start(self):
            self.net[1].eval()

    module = Frozen()
    lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=2)])
    assert torch.equal(module.validated[-1]["net.1.running_mean"], torch.zeros(4))
    assert not torch.equal(module.validated[-1]["net.4.running_mean"], torch.zeros(4))


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["gn", "frozen_bn", "batch_renorm", "none"])
def test_norms_without_running_averages_to_replace_are_left_alone_and_it_is_said_once(norm, tmp_path, caplog, lab):
    options = {"num_groups": 2} if norm == "gn" else {}
    module, plain = lab.Module(norm, **options), lab.Module(norm, **options)
    data = lab.loader()
    with caplog.at_level(logging.INFO, logger="lightning.pytorch.utilities.rank_zero"):
        lab.fit(module, tmp_path, callbacks=[PreciseBN()], data=data)
    lab.fit(plain, tmp_path)
    said = [record.message for record in caplog.records if "precise_bn" in record.message]
    assert said == ["precise_bn: no norm of this net has running averages to replace; nothing to recompute."]
    assert module.losses == plain.losses
    assert lab.same(module.state_dict(), plain.state_dict())


@pytest.mark.slow
def test_a_shuffling_loader_of_torch_keeps_its_order(tmp_path, lab):
    def shuffled():
        clips = TensorDataset(torch.randn(12, 1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(1)))
        return DataLoader(
            clips, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(2),
            collate_fn=lambda samples: lab.Batch(torch.stack([clip for clip, in samples]), torch.tensor([0, 1, 0, 1])),
        )  # fmt: skip

    module, plain = lab.Module(), lab.Module()
    lab.fit(module, tmp_path, callbacks=[PreciseBN(num_batches=5)], data=shuffled())
    lab.fit(plain, tmp_path, data=shuffled())
    assert module.losses == plain.losses
    assert not lab.same(module.validated[-1], plain.validated[-1])


@pytest.mark.slow
def test_data_that_cannot_be_read_twice_is_refused(tmp_path, lab):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([lab.Batch(torch.randn(4, 1, 3, 2, 4, 4), torch.tensor([0, 1, 0, 1]))])

    stream = DataLoader(Stream(), batch_size=None)
    with pytest.raises(TypeError, match="The training data is a DataLoader without a batch sampler, and precise_bn"):
        lab.fit(lab.Module(), tmp_path, callbacks=[PreciseBN()], data=stream)


def test_num_batches_below_one_is_refused(lab):
    with pytest.raises(ValueError, match=r"num_batches \(0\) must be at least 1; video-nonlocal-net has 200"):
        PreciseBN(num_batches=0)
