"""Properties of sharing videos out: nothing twice, nothing left out, whatever the ranks and the place."""

from hypothesis import given, settings
from hypothesis import strategies as st

from vidgn.data.loading.sampler import EpochSampler, ShardSampler

sizes = st.integers(1, 60)
ranks = st.integers(1, 5)


@settings(max_examples=200, deadline=None)
@given(num_items=sizes, world_size=ranks, done=st.sets(st.integers(0, 59)))
def test_every_video_that_is_left_is_scored_once(num_items, world_size, done):
    shares = [list(ShardSampler(num_items, rank=r, world_size=world_size, done=done)) for r in range(world_size)]
    assert sorted(video for share in shares for video in share) == [v for v in range(num_items) if v not in done]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@settings(max_examples=100, deadline=None)
@given(num_items=sizes, world_size=ranks, done=st.sets(st.integers(0, 59)), pieces=st.integers(1, 4))
def test_all_pieces_of_a_video_go_to_one_rank_in_order(num_items, world_size, done, pieces):
    whole = [ShardSampler(num_items, rank=r, world_size=world_size, done=done) for r in range(world_size)]
    cut = [ShardSampler(num_items, rank=r, world_size=world_size, done=done, pieces=pieces) for r in range(world_size)]
    for videos, items in zip(whole, cut, strict=True):
        assert [divmod(item, pieces) for item in items] == [
            (video, piece) for video in videos for piece in range(pieces)
        ]
        assert len(items) == pieces * len(videos)


@settings(max_examples=100, deadline=None)
@given(num_items=sizes, world_size=ranks, begun=st.dictionaries(st.integers(0, 59), st.integers(0, 2)))
def test_pieces_that_are_done_are_left_out(num_items, world_size, begun):
    whole = [ShardSampler(num_items, rank=r, world_size=world_size, pieces=3) for r in range(world_size)]
    left = [ShardSampler(num_items, rank=r, world_size=world_size, pieces=3, begun=begun) for r in range(world_size)]
    for items, rest in zip(whole, left, strict=True):
        assert list(rest) == [item for item in items if item % 3 >= begun.get(item // 3, 0)]
        assert len(rest) == len(list(rest))


@settings(max_examples=200, deadline=None)
@given(num_items=sizes, batch=st.integers(1, 8), world_size=ranks, steps=st.integers(0, 60), epoch=st.integers(0, 3))
def test_an_epoch_goes_on_as_if_it_had_not_stopped(num_items, batch, world_size, steps, epoch):
    if num_items < world_size:
        return
    for rank in range(world_size):
        whole, again = (
            EpochSampler(num_items, batch=batch, seed=1, shuffle=True, rank=rank, world_size=world_size)
            for _ in range(2)
        )
        whole.set_epoch(epoch)
        again.load_state_dict(
            {**again.state_dict(), "epoch": epoch, "start": min(steps * whole.global_batch, num_items)}
        )
        assert list(again) == list(whole)[steps:]


@settings(max_examples=100, deadline=None)
@given(num_items=st.integers(8, 60), first=st.integers(0, 7))
def test_another_number_of_ranks_keeps_the_order(num_items, first):
    def order(world_size):
        samplers = [
            EpochSampler(num_items, batch=2, seed=0, shuffle=True, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        for sampler in samplers:
            sampler.load_state_dict({**sampler.state_dict(), "start": first})
        steps = zip(*map(list, samplers), strict=False)
        return [item for step in steps for group in zip(*step, strict=False) for item in group]

    one, two = order(1), order(2)
    assert one[: len(two)] == two
