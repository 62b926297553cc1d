import json
import subprocess
import sys

import pytest

from vidgn.tools.cli import main


@pytest.fixture
def vidgn(capsys):
    """Run `vidgn WORDS`; return (exit status, stdout, stderr)."""

    def run(*words):
        with pytest.raises(SystemExit, match=r"^\d+$") as stop:
            main([str(word) for word in words])
        return stop.value.code, *capsys.readouterr()

    return run


# Output (C, T, H, W) of each block: the layer table of video-nonlocal-net at 32 x 224 x 224.
I3D_AT_32_FRAMES = [
    ("blocks.0", [64, 8, 55, 55]),
    ("blocks.1", [256, 8, 55, 55]),
    ("blocks.2", [256, 4, 55, 55]),
    ("blocks.3", [512, 4, 28, 28]),
    ("blocks.4", [1024, 4, 14, 14]),
    ("blocks.5", [2048, 4, 7, 7]),
    ("blocks.6", [1, 400]),
]


def test_the_papers_net_has_the_published_numbers(vidgn):
    status, out, _ = vidgn("model", "--summary", "--json")
    told = json.loads(out)
    assert status == 0
    assert [(stage["name"], stage["output"]) for stage in told["stages"]] == I3D_AT_32_FRAMES
    assert told["parameters"] == told["published"]["parameters"] == 28_043_472
    assert round(told["macs"] / 1e9, 2) == 32.83
    # conv1: 64 x 16 x 112 x 112 positions of 3 x 5 x 7 x 7 weights
    assert told["stages"][0]["macs"] == 64 * 16 * 112 * 112 * 3 * 5 * 7 * 7


@pytest.mark.parametrize(("norm", "frames", "macs"), [("bn", "64", 65.66), ("gn", "64", 65.66), ("ln", "32", 32.83)])
def test_norm_and_clip_length_are_counted(vidgn, norm, frames, macs):
    _, out, _ = vidgn("model", "--norm", norm, "--clip-len", frames, "--json")
    told = json.loads(out)
    assert told["parameters"] == 28_043_472
    assert round(told["macs"] / 1e9, 2) == macs


def test_the_table_is_for_people(vidgn):
    status, out, _ = vidgn("model", "--summary", "--width", "16", "--crop", "64", "--num-classes", "12")
    assert status == 0
    lines = out.splitlines()
    assert lines[0] == "i3d_r50, norm gn, 12 classes, one clip of 32 frames at 64 px"
    assert lines[1].split() == ["block", "kind", "output", "parameters", "G", "mul-add", "MB", "float32"]
    assert not any(line.startswith("published") for line in lines)


def test_a_standard_net_stands_beside_the_published_numbers(vidgn):
    _, out, _ = vidgn("model")
    row = next(line for line in out.splitlines() if line.startswith("published"))
    assert row.split() == ["published", "28,043,472", "32.83"]


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_s", "c2d_r50"])
def test_other_nets_are_counted_too(vidgn, name):
    status, out, _ = vidgn("model", "--model", name, "--json")
    assert status == 0
    assert json.loads(out)["macs"] > 1e9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "resnet"], "--model resnet is unknown; use one of i3d_r50"),
        (["--norm", "batch"], "--norm batch is unknown; use one of gn"),
        (["--clip-len", "9"], "A clip of 9 frames must have a multiple of 8"),
        (["--crop", "16"], "must be at least 32x32"),
    ],
)
def test_a_mistake_is_one_sentence(vidgn, words, said):
    status, _, err = vidgn("model", *words)
    assert status == 2
    assert said in err


def test_it_takes_seconds_and_little_memory():
    """Shapes alone are computed: a 64-frame clip needs no gigabytes."""
    script = (
        "import resource, sys\nfrom vidgn.tools.cli import main\n"
        "try:\n    main(['model', '--clip-len', '64'])\nexcept SystemExit:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stderr.split()[-1]) < 2_500_000  # KiB, mostly torch; activations would be 3.3 GB
