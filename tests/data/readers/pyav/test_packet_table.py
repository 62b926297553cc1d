from types import SimpleNamespace

import numpy as np
import pytest

from vidgn.data.readers.pyav.packet_table import PacketFacts, PacketTable, column

FACTS = [
    PacketFacts(-7, 0, True, True),
    PacketFacts(None, 1, False, True),
    PacketFacts(2**62, 2**31 - 1, True, False),  # the largest packet that FFmpeg knows
    PacketFacts(-(2**63) + 1, 5, False, False),  # the earliest time
]


def described(facts):
    return SimpleNamespace(
        pts=facts.time, dts=None, size=facts.size, is_keyframe=facts.is_key, is_discard=not facts.shown
    )


@pytest.fixture
def table():
    table = PacketTable()
    table.extend([described(facts) for facts in FACTS[:3]])
    table.extend([described(FACTS[3])])
    return table


def test_a_table_gives_back_the_facts_of_each_packet(table):
    assert [table[number] for number in range(len(table))] == FACTS


def test_keys_and_shown_packets_are_known_by_number(table):
    assert list(table.keys) == [0, 2]
    assert table.shown().tolist() == [0, 1]


def test_keys_can_be_marked_anew_and_nothing_else_changes(table):
    table.mark_keys(np.array([False, True, True, False]))
    assert [facts.is_key for facts in table] == [False, True, True, False]
    assert list(table.keys) == [1, 2]
    assert [facts._replace(is_key=False) for facts in table] == [facts._replace(is_key=False) for facts in FACTS]


def test_a_missing_time_is_seen(table):
    assert not table.has_all_times()
    whole = PacketTable()
    whole.extend([described(FACTS[3])])
    assert whole.has_all_times()


def test_the_items_of_a_column_are_plain_integers():
    assert [type(number) for number in column(np.array([3, 1]))] == [int, int]
