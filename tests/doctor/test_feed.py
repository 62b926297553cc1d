"""`vidgn bench --data`: which readers feed the device, from measured and stated numbers."""

import io
import json
from functools import partial

import av
import numpy as np
import pytest
import torch

from vidgn.cli.models import bench
from vidgn.curation.encode import PrepareSpec, prepare_file
from vidgn.doctor import feed
from vidgn.doctor.feed import Feed, cores_for, feed_advice, feed_record, feed_table, run_feed

PREPARE = partial(prepare_file, spec=PrepareSpec(short_side=48))
FEED = Feed(demand=400.0, raw=40.0, prepared=100.0, cores=16, side=224, step="stated: 8 clips in 20 ms", videos=4)


@pytest.fixture
def videos(tmp_path):
    """Return a folder of two videos and a file that is none."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(66):
                image = np.full((48, 64, 3), 2 * index, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode())
    (folder / "c.mp4").write_bytes(b"no video")
    return folder


@pytest.mark.parametrize(("rate", "demand", "cores"), [(40.0, 400.0, 10), (40.0, 401.0, 11), (40.0, 1.0, 1)])
def test_cores_are_rounded_up(rate, demand, cores):
    assert cores_for(rate, demand) == cores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "data.num_workers=10 feeds the net from the videos as they are"),
        ({"cores": 4}, "prepare the videos (vidgn prepare DIR DST); then data.num_workers=4 feeds the net"),
        ({"cores": 2}, "reading limits: 2 cores read 50% of what the net takes from videos prepared; add cores"),
        (
            {"cores": 2, "prepared": None},
            "reading limits: 2 cores read 20% of what the net takes from videos as they are; add cores",
        ),
    ],
)
def test_the_advice_is_the_least_that_feeds_the_net(changes, expected):
    assert feed_advice(FEED._replace(**changes)) == expected


@pytest.mark.slow
def test_the_table_states_demand_rates_and_cores():
    assert feed_table(FEED).splitlines() == [
        "clips of 32 frames over 64, 224 px, from 4 videos; 16 usable cores",
        "  the net takes       400.0 clips/s (stated: 8 clips in 20 ms)",
        "  as they are          40.0 clips/s per core, 10 cores feed the net",
        "  prepared            100.0 clips/s per core, 4 cores feed the net",
        "data.num_workers=10 feeds the net from the videos as they are",
    ]
    assert feed_record(FEED)["cores_prepared"] == 4


@pytest.mark.slow
def test_a_stated_step_is_compared_with_reading_here(videos):
    out = io.StringIO()
    assert run_feed(str(videos), step_ms=8.0, batch=4, prepare=PREPARE, out=out, as_json=True) == 0
    told = json.loads(out.getvalue())
    assert (told["demand"], told["side"], told["videos"], told["step"]) == (500.0, 224, 2, "stated: 4 clips in 8 ms")
    assert told["raw"] > 0
    assert told["prepared"] > 0
    assert told["cores_raw"] == cores_for(told["raw"], 500.0)


@pytest.mark.slow
def test_a_step_that_is_not_stated_is_measured(videos, monkeypatch):
    rates = {("float32", torch.contiguous_format): 2.0, ("bfloat16", torch.channels_last_3d): 5.0}
    monkeypatch.setattr(feed, "training_rates", lambda job: rates)
    out = io.StringIO()
    run_feed(str(videos), step_ms=None, batch=1, prepare=PREPARE, out=out, as_json=True)
    told = json.loads(out.getvalue())
    assert told["demand"] == 5.0
    assert told["step"].endswith("clips, bfloat16")


@pytest.mark.slow
def test_a_large_video_is_read_and_not_prepared(videos, monkeypatch):
    monkeypatch.setattr(feed, "_MOST_BYTES", 0)
    out = io.StringIO()
    run_feed(str(videos), step_ms=8.0, batch=4, prepare=PREPARE, out=out)
    assert "as they are" in out.getvalue()
    assert "  prepared " not in out.getvalue()


@pytest.mark.slow
def test_the_number_of_threads_is_what_it_was(videos):
    before = torch.get_num_threads()
    run_feed(str(videos), step_ms=8.0, batch=4, prepare=PREPARE, out=io.StringIO())
    assert torch.get_num_threads() == before


@pytest.mark.slow
def test_impossible_requests_are_refused(videos, tmp_path):
    read = partial(run_feed, batch=1, prepare=PREPARE, out=io.StringIO())
    with pytest.raises(ValueError, match=r"--step-ms 0 must be above 0"):
        read(str(videos), step_ms=0.0)
    with pytest.raises(ValueError, match=r"--data s3://bucket/videos is an address"):
        read("s3://bucket/videos", step_ms=8.0)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"--data .*empty holds no videos"):
        read(str(tmp_path / "empty"), step_ms=8.0)
    for name in ("a.mp4", "b.mp4"):
        (videos / name).unlink()
    with pytest.raises(ValueError, match=r"none of the 1 videos tried can be read"):
        read(str(videos), step_ms=8.0)


def test_a_stated_step_without_a_folder_is_refused():
    with pytest.raises(ValueError, match=r"--step-ms 8 belongs to --data DIR"):
        bench(step_ms=8.0)
