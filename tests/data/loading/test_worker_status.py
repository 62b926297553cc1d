import os
import pickle

from torch.utils.data import DataLoader, Dataset

from vidgn.data.loading.worker_status import Board


class Reading(Dataset):
    """Says what the board says while it reads, and after."""

    def __init__(self):
        self.board = Board()

    def __len__(self):
        return 1

    def __getitem__(self, index):
        with self.board.reading("a\nb\udcff.mp4"):
            during = self.board.last(os.getpid())
        return os.getpid(), [*during], [*self.board.last(os.getpid())]


def test_the_main_process_sees_what_a_worker_reads():
    data = Reading()
    ((pid, during, after),) = DataLoader(data, num_workers=1, batch_size=None)
    assert (during[1:], after[1:]) == (["a\nb\udcff.mp4", True], ["a\nb\udcff.mp4", False])
    assert during[0] <= after[0]
    assert data.board.last(pid) == tuple(after)
    assert data.board.last(pid + 1) is None


def test_the_main_process_has_no_place_on_the_board():
    board = Board()
    with board.reading("x.mp4"):
        assert board.last(os.getpid()) is None
    assert pickle.loads(pickle.dumps(board)).note(1) is None
