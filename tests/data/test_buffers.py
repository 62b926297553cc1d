"""Memory that is used again, and pixels that are scaled into it."""

import threading

import numpy as np
import pytest
import torch

from vidgn.data import buffers
from vidgn.data.buffers import Buffers, resize_into
from vidgn.data.clip_pixels import ClipCut
from vidgn.data.readers.gather import ArrayPicture
from vidgn.data.transforms import Box, TrainView, apply_train_view, resize


def place(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_that_nobody_holds_is_used_again():
    pool = Buffers()
    first = pool.empty((2, 3, 5))
    where = place(first)
    assert first.shape == (2, 3, 5)
    assert first.dtype == np.uint8
    del first
    assert place(pool.empty((7, 4))) == where


def test_memory_that_a_view_or_a_tensor_still_shows_is_left_alone():
    pool = Buffers()
    whole = pool.empty((4, 4))
    shown = torch.from_numpy(whole)[1:].permute(1, 0)
    del whole
    shown.fill_(7)
    pool.empty((4, 4)).fill(0)
    assert shown.unique().tolist() == [7]


def test_memory_that_is_too_small_is_replaced():
    pool = Buffers()
    pool.empty((3,)).fill(1)
    large = pool.empty((9 << 20,))
    large.fill(1)  # all of it is there
    assert large.nbytes == 9 << 20


def test_however_many_are_held_no_two_share_memory():
    pool = Buffers()
    held = [pool.empty((1000,)) for _ in range(9)]
    for number, array in enumerate(held):
        array.fill(number)
    assert [set(array.tolist()) for array in held] == [{number} for number in range(9)]


@pytest.mark.slow
def test_each_thread_has_memory_of_its_own():
    pool, places = Buffers(), []
    places.append(place(pool.empty((8,))))
    thread = threading.Thread(target=lambda: places.append(place(pool.empty((8,)))))
    thread.start()
    thread.join()
    assert places[0] != places[1]


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("size", [(20, 30), (24, 17), (9, 11)])  # as it is, larger one way, smaller
def test_scaling_into_memory_gives_the_bits_of_resize(monkeypatch, native, size):
    if native and not buffers._IS_NATIVE:
        pytest.skip("this processor has no AVX2")
    monkeypatch.setattr(buffers, "_IS_NATIVE", native)
    frames = np.random.default_rng(0).integers(0, 256, (5, 20, 30, 3), np.uint8)
    out = torch.empty((5, *size, 3), dtype=torch.uint8)
    resize_into(frames, out)
    assert torch.equal(out.permute(3, 0, 1, 2), resize(frames, size=size))


@pytest.mark.parametrize("flip", [False, True])
def test_a_clip_that_is_gathered_is_the_view_of_whole_frames_and_lasts(flip):
    frames = np.random.default_rng(1).integers(0, 256, (6, 60, 80, 3), np.uint8)
    view = TrainView((72, 96), Box(5, 9, 48, 48), flip)
    wanted = np.array([0, 2, 4, 0])  # a short video loops

    def gathered(pictures: np.ndarray) -> torch.Tensor:
        cut = ClipCut(view, (60, 80), wanted)
        for index, frame in enumerate(pictures):
            cut.take(index, ArrayPicture(frame))
        return cut.resized()

    clip = gathered(frames)
    others = [gathered(255 - frames) for _ in range(3)]  # must not take its memory
    assert torch.equal(clip, apply_train_view(frames[wanted], view))
    assert all(torch.equal(other, apply_train_view(255 - frames[wanted], view)) for other in others)
