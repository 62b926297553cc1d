import pytest
import torch

from vidgn.data.augment import AugmentSpec
from vidgn.data.augmented import AugmentedClips
from vidgn.data.clips import ClipSpec
from vidgn.data.dataset import ClipDataset
from vidgn.data.manifests.manifest import Manifest
from vidgn.data.synthetic.motions import MotionsSpec, prepare_motions
from vidgn.data.transforms import CropSpec

OPTIONS = {"clip": ClipSpec(8, 16), "crop": CropSpec(32), "seed": 0, "flip": False, "stream": "train"}
ALL = AugmentSpec(randaugment=9, color_jitter=0.4, erasing=0.5, resized_crop=0.3, speed_jitter=0.3, mixup=0.8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = prepare_motions(tmp_path_factory.mktemp("motions"), spec=MotionsSpec(train=1, val=1, test=1))
    return Manifest.from_folder(folder, split="train")


@pytest.mark.slow
def test_clips_are_a_function_of_seed_epoch_video_and_view(manifest):
    first, second = (AugmentedClips(manifest, augment=ALL, clips_per_video=2, **OPTIONS) for _ in range(2))
    second[0, 3]
    assert torch.equal(first[1, 2].clips, second[1, 2].clips)
    assert torch.equal(first[1, 2].draws, second[1, 2].draws)
    one, other = first[1, 2].clips  # more than one augmented clip of one opening
    assert not torch.equal(one, other)
    assert not torch.equal(first[1, 2].clips, first[2, 2].clips)
    turned = first[1, 2, 1].clips
    assert not torch.equal(first[1, 2].clips, turned)


@pytest.mark.slow
def test_without_augmentation_they_are_those_of_the_plain_data_set(manifest):
    plain = ClipDataset(manifest, **OPTIONS)[1, 2]
    off = AugmentedClips(manifest, augment=AugmentSpec(), **OPTIONS)[1, 2]
    assert torch.equal(plain.clips, off.clips)
    assert off.draws is None
    changed = AugmentedClips(manifest, augment=AugmentSpec(color_jitter=0.4), **OPTIONS)[1, 2]
    assert not torch.equal(plain.clips, changed.clips)


def test_clips_do_not_run_backwards_where_class_names_have_a_direction(manifest):
    with pytest.raises(ValueError, match=r"reverse \(0.5\) would change the class of move_down"):
        AugmentedClips(manifest, augment=AugmentSpec(reverse=0.5), **OPTIONS)
