from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vidgn.data.readers.pyav.frame_index import (
    DecodeRun,
    FrameIndex,
    index_by_output,
    index_by_time,
    reorder_depth,
    starts_amid,
)
from vidgn.data.readers.pyav.packet_table import PacketTable


def packets(times, *, keys=(0,), hidden=()):
    table = PacketTable()
    table.extend(
        [
            SimpleNamespace(pts=time, dts=number, size=100, is_keyframe=number in keys, is_discard=number in hidden)
            for number, time in enumerate(times)
        ]
    )
    return table


# Packets: I0 P3 B1 B2 | I4 P7 B5 B6; closed groups.
CLOSED = packets([0, 3, 1, 2, 4, 7, 5, 6], keys=(0, 4))
# I0 P2 B1 | I5 B3 B4 P6: frames 3 and 4 are decoded after the second I and shown before it.
OPEN = packets([0, 2, 1, 5, 3, 4, 6], keys=(0, 3))


def test_frames_are_ordered_by_time():
    index = index_by_time(CLOSED)
    assert index is not None
    assert list(index.order) == [0, 2, 3, 1, 4, 6, 7, 5]


def test_a_frame_starts_at_the_key_before_it():
    index = index_by_time(CLOSED)
    assert [index.start(frame) for frame in range(8)] == [0, 0, 0, 0, 4, 4, 4, 4]


def test_a_frame_shown_before_a_key_starts_at_the_key_before_that():
    index = index_by_time(OPEN)
    assert list(index.order) == [0, 2, 1, 4, 5, 3, 6]
    assert [index.start(frame) for frame in range(7)] == [0, 0, 0, 0, 0, 3, 3]


@pytest.mark.parametrize(("facts", "is_open"), [(CLOSED, False), (OPEN, True)])
def test_open_groups_are_seen(facts, is_open):
    assert index_by_time(facts).has_open_groups() is is_open


def test_hidden_packets_are_no_frames_but_may_be_starts():
    # An edit list hides the first key and what follows it: the frames begin at time 2.
    index = index_by_time(packets([0, 1, 2, 3, 4], hidden=(0, 1)))
    assert list(index.order) == [2, 3, 4]
    assert index.start(0) == 0


@pytest.mark.parametrize(
    "facts",
    [
        packets([0, None, 1]),  # a time is missing
        packets([0, 1, 1]),  # a time occurs twice
        packets([2, 0, 1]),  # shown before the first key packet
        packets([0, 1, 2], keys=(1,)),  # begins in the middle of a group
        packets([0, 2, 1, 3], keys=(0, 2)),  # a key is shown before what precedes it in the file
        packets([0, 4, 5, 1, 6], keys=(0, 2)),  # what follows a key is shown before what precedes it
        packets([]),
    ],
)
def test_times_that_cannot_be_trusted_give_no_index(facts):
    assert index_by_time(facts) is None


def test_an_index_by_time_takes_less_than_25_bytes_a_frame():
    # Times that go beyond what a 32-bit number holds, one B-frame in three.
    table = packets([2**40 + 512 * (k + (0, 1, -1)[k % 3]) for k in range(3000)], keys=range(0, 3000, 12))
    index = index_by_time(table)
    columns = (index.order, index.rank, index.keys, table.times, table.sizes)
    different = {id(column): column for column in columns}.values()
    assert sum(len(column) * column.itemsize for column in different) / 3000 < 25 - 1  # and a byte of flags
    assert list(index.order[:6]) == [0, 2, 1, 3, 5, 4]
    assert list(index.keys[:3]) == [0, 12, 24]


def test_an_index_by_output_keeps_the_order_of_output():
    # Packet 1 gave no picture; packets 3 and 2 came out the other way round.
    index = index_by_output([0, 3, 2], num_packets=4, keys=[0, 1, 2])
    assert list(index.order) == [0, 3, 2]
    # Packet 1, never shown, is no start; packet 2 is one only for itself.
    assert [index.start(frame) for frame in range(3)] == [0, 0, 2]


def test_one_run_reads_neighbouring_frames():
    assert index_by_time(CLOSED).runs([1, 2, 3]) == [DecodeRun(start=0, last=3, frames=[1, 2, 3])]


def test_a_run_ends_with_the_last_wanted_packet():
    # Frame 1 is packet 2: packet 3 is not needed; packet 1 is, as B-frames refer to it.
    assert index_by_time(CLOSED).runs([1]) == [DecodeRun(0, 2, [1])]


def test_a_new_run_begins_where_that_saves_packets():
    assert index_by_time(CLOSED).runs([0, 5]) == [DecodeRun(0, 0, [0]), DecodeRun(4, 6, [5])]


def test_a_run_goes_on_where_a_new_one_would_save_nothing():
    assert index_by_time(CLOSED).runs([2, 5]) == [DecodeRun(0, 6, [2, 5])]


def test_a_later_frame_in_an_earlier_packet_moves_the_start_back():
    # Packet 2 is a key shown before packet 1, which is a key as well.
    index = FrameIndex(order=[0, 2, 1], rank=[0, 2, 1], keys=[0, 1, 2])
    assert index.runs([1, 2]) == [DecodeRun(1, 2, [1, 2])]


def test_no_frames_need_no_runs():
    assert index_by_time(CLOSED).runs([]) == []


@pytest.mark.parametrize(("start", "earlier"), [(8, [4, 0]), (4, [0]), (0, [])])
def test_a_failed_start_is_tried_again_from_the_key_before_and_from_the_first_packet(start, earlier):
    index = FrameIndex(order=range(12), rank=range(12), keys=[0, 4, 8])
    assert index.earlier_starts(start) == earlier


@given(st.permutations(range(12)), st.sets(st.integers(1, 11)), st.sets(st.integers(0, 11), min_size=1))
def test_runs_go_forward_and_hold_every_wanted_frame_once(ranks, keys, wanted):
    order = sorted(range(12), key=ranks.__getitem__)
    index = FrameIndex(order=order, rank=ranks, keys=sorted({0} | keys))
    runs = index.runs(sorted(wanted))
    assert [frame for run in runs for frame in run.frames] == sorted(wanted)
    for run in runs:
        assert all(run.start <= order[frame] <= run.last for frame in run.frames)
    assert all(before.last < after.start for before, after in pairwise(runs))


@pytest.mark.parametrize(
    ("times", "depth"),
    [
        ([0, 1, 2, 3], 0),
        ([0, 3, 1, 2, 4], 1),  # P B B
        ([0, 4, 2, 1, 3, 8, 6, 5, 7], 2),  # a B that others refer to
        ([0, 9, 5, 3, 2, 1, 4, 8], 4),
        ([], 0),
    ],
)
def test_a_decoder_holds_back_as_many_pictures_as_come_before_one_that_is_shown_first(times, depth):
    assert reorder_depth(np.array(times, np.int64)) == depth


@given(st.lists(st.integers(0, 40), max_size=60))
def test_the_depth_is_how_many_stand_before_and_come_after(times):
    before = [sum(earlier > time for earlier in times[:place]) for place, time in enumerate(times)]
    assert reorder_depth(np.array(times, np.int64)) == min(16, max(before, default=0))


def test_packets_that_are_left_out_are_no_frames_and_may_fail():
    # B1 P2 | I5 B3 B4 P6: what precedes the key refers to missing frames, and so do the frames shown before it.
    table = packets([1, 2, 5, 3, 4, 6], keys=(2,))
    assert starts_amid(table)
    index = index_by_time(table, left_out={0, 1, 3, 4})
    assert list(index.order) == [2, 5]
    assert [packet for packet in range(6) if index.may_fail(packet, start=2)] == [0, 1, 3, 4]


def test_a_packet_shown_before_the_key_at_which_a_run_begins_may_fail():
    index = index_by_time(OPEN)  # I0 P2 B1 | I5 B3 B4 P6
    assert [packet for packet in range(3, 7) if index.may_fail(packet, start=3)] == [4, 5]
    assert not any(index.may_fail(packet, start=0) for packet in range(7))


@pytest.mark.parametrize(
    ("facts", "is_amid"),
    [
        (CLOSED, False),
        (OPEN, False),
        (packets([2, 0, 1]), True),
        (packets([0, 1], keys=(1,)), True),
        (packets([]), False),
    ],
)
def test_a_stream_starts_amid_a_group_where_packets_precede_its_first_key(facts, is_amid):
    assert starts_amid(facts) is is_amid
