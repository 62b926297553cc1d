"""The names of published weight files, as tables of rules that turn them into vidgn's.

Ours are pytorchvideo's names of an I3D: block 0 is the stem, 1 3 4 5 are res2 to res5, 2 is pool2, 6 the head.
A rule's right side is a template for `re.Match.expand`, a function of the match, or None for a tensor that is
no part of the net. A name no rule matches is unexpected.
"""

import re
from collections.abc import Callable, Sequence

Rule = tuple[str, str | Callable[[re.Match[str]], str] | None]

HEAD = "blocks.6.proj."  # the classifier: the one part a loader may leave out


def rename(key: str, table: Sequence[Rule]) -> str | None:
    """Translate one name; None where a rule drops it.

    Raises:
        KeyError: no rule matches.
    """
    for pattern, target in table:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return target(match) if callable(target) else target and match.expand(target)
    raise KeyError(key)


_STAGE = {1: 1, 2: 3, 3: 4, 4: 5}  # stage, counted from 1 (res2), to our block
_CONV = {"1": "a", "2": "b", "3": "c"}
_AFFINE = {"s": "weight", "b": "bias", "rm": "running_mean", "riv": "running_var"}  # riv holds the variance
_GAMMA = {"gamma": "weight", "beta": "bias"}


def _block(stage: int, block: str) -> str:
    return f"blocks.{_STAGE[stage]}.res_blocks.{block}"


def _nonlocal(stage: str, block: str) -> str:
    return f"blocks.{stage}.nonlocal_blocks.{block}"  # res3 and res4 are our blocks 3 and 4


# torchvision's ResNet; timm's resnet50_gn and GroupNorm-reproduce's PyTorch nets have the same names.
TORCHVISION: Sequence[Rule] = (
    (r"conv1\.weight", r"blocks.0.conv.weight"),
    (r"bn1\.(.+)", r"blocks.0.norm.\1"),
    (
        r"layer([1-4])\.(\d+)\.conv([123])\.weight",
        lambda m: f"{_block(int(m[1]), m[2])}.branch2.conv_{_CONV[m[3]]}.weight",
    ),
    (
        r"layer([1-4])\.(\d+)\.bn([123])\.(.+)",
        lambda m: f"{_block(int(m[1]), m[2])}.branch2.norm_{_CONV[m[3]]}.{m[4]}",
    ),
    (r"layer([1-4])\.(\d+)\.downsample\.0\.weight", lambda m: f"{_block(int(m[1]), m[2])}.branch1_conv.weight"),
    (r"layer([1-4])\.(\d+)\.downsample\.1\.(.+)", lambda m: f"{_block(int(m[1]), m[2])}.branch1_norm.{m[3]}"),
    (r"fc\.(weight|bias)", HEAD + r"\1"),
)
# BiT, as timm names its layers (resnetv2.py).
BIT: Sequence[Rule] = (
    (r"stem\.conv\.weight", r"blocks.0.conv.weight"),
    (
        r"stages\.([0-3])\.blocks\.(\d+)\.((?:norm|conv)[123]\..+)",
        lambda m: f"{_block(int(m[1]) + 1, m[2])}.{m[3]}",
    ),
    (
        r"stages\.([0-3])\.blocks\.(\d+)\.downsample\.conv\.weight",
        lambda m: f"{_block(int(m[1]) + 1, m[2])}.downsample.weight",
    ),
    (r"norm\.(.+)", r"blocks.6.norm.\1"),
    (r"head\.fc\.(weight|bias)", HEAD + r"\1"),
)
# Caffe2, as Detectron, video-nonlocal-net and PySlowFast's *.pkl write it.
CAFFE2: Sequence[Rule] = (
    (r".*_momentum|lr|model_iter|epoch|weight_decay.*|ONE", None),  # what the optimizer keeps
    (r"conv1_w", r"blocks.0.conv.weight"),
    (r"(?:res_conv1_bn|conv1_gn)_(s|b|rm|riv)", lambda m: f"blocks.0.norm.{_AFFINE[m[1]]}"),
    (
        r"res([2-5])_(\d+)_branch2([abc])_w",
        lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch2.conv_{m[3]}.weight",
    ),
    (
        r"res([2-5])_(\d+)_branch2([abc])_(?:bn|gn)_(s|b|rm|riv)",
        lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch2.norm_{m[3]}.{_AFFINE[m[4]]}",
    ),
    (r"res([2-5])_(\d+)_branch1_w", lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch1_conv.weight"),
    (
        r"res([2-5])_(\d+)_branch1_(?:bn|gn)_(s|b|rm|riv)",
        lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch1_norm.{_AFFINE[m[3]]}",
    ),
    (
        r"nonlocal_conv([34])_(\d+)_(theta|phi|g|out)_([wb])",
        lambda m: f"{_nonlocal(m[1], m[2])}.conv_{m[3]}.{'weight' if m[4] == 'w' else 'bias'}",
    ),
    (
        r"nonlocal_conv([34])_(\d+)_bn_(s|b|rm|riv)",
        lambda m: f"{_nonlocal(m[1], m[2])}.norm_out.{_AFFINE[m[3]]}",
    ),
    (r"pred_w", HEAD + "weight"),
    (r"pred_b", HEAD + "bias"),
)
# tensorpack, as GroupNorm-reproduce's TensorFlow nets are saved.
TENSORPACK: Sequence[Rule] = (
    (r"learning_rate|global_step|.*/Momentum|EMA.*", None),
    (r"conv0/W", r"blocks.0.conv.weight"),
    (r"conv0/gn/(gamma|beta)", lambda m: f"blocks.0.norm.{_GAMMA[m[1]]}"),
    (
        r"group([0-3])/block(\d+)/conv([123])/W",
        lambda m: f"{_block(int(m[1]) + 1, m[2])}.branch2.conv_{_CONV[m[3]]}.weight",
    ),
    (
        r"group([0-3])/block(\d+)/conv([123])/gn/(gamma|beta)",
        lambda m: f"{_block(int(m[1]) + 1, m[2])}.branch2.norm_{_CONV[m[3]]}.{_GAMMA[m[4]]}",
    ),
    (r"group([0-3])/block(\d+)/convshortcut/W", lambda m: f"{_block(int(m[1]) + 1, m[2])}.branch1_conv.weight"),
    (
        r"group([0-3])/block(\d+)/convshortcut/gn/(gamma|beta)",
        lambda m: f"{_block(int(m[1]) + 1, m[2])}.branch1_norm.{_GAMMA[m[3]]}",
    ),
    (r"linear/W", HEAD + "weight"),
    (r"linear/b", HEAD + "bias"),
)
SLOWFAST: Sequence[Rule] = (
    (r"s1\.pathway0_stem\.conv\.weight", r"blocks.0.conv.weight"),
    (r"s1\.pathway0_stem\.bn\.(.+)", r"blocks.0.norm.\1"),
    (r"s([2-5])\.pathway0_res(\d+)\.branch1\.weight", lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch1_conv.weight"),
    (r"s([2-5])\.pathway0_res(\d+)\.branch1_bn\.(.+)", lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch1_norm.{m[3]}"),
    (
        r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])\.weight",
        lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch2.conv_{m[3]}.weight",
    ),
    (
        r"s([2-5])\.pathway0_res(\d+)\.branch2\.([abc])_bn\.(.+)",
        lambda m: f"{_block(int(m[1]) - 1, m[2])}.branch2.norm_{m[3]}.{m[4]}",
    ),
    (r"head\.projection\.(weight|bias)", HEAD + r"\1"),
)
MMACTION: Sequence[Rule] = (
    (r"data_preprocessor\..*", None),
    (r"backbone\.conv1\.conv\.weight", r"blocks.0.conv.weight"),
    (r"backbone\.conv1\.(?:bn|gn)\.(.+)", r"blocks.0.norm.\1"),
    (
        r"backbone\.layer([1-4])\.(\d+)\.conv([123])\.conv\.weight",
        lambda m: f"{_block(int(m[1]), m[2])}.branch2.conv_{_CONV[m[3]]}.weight",
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.conv([123])\.(?:bn|gn)\.(.+)",
        lambda m: f"{_block(int(m[1]), m[2])}.branch2.norm_{_CONV[m[3]]}.{m[4]}",
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.downsample\.conv\.weight",
        lambda m: f"{_block(int(m[1]), m[2])}.branch1_conv.weight",
    ),
    (
        r"backbone\.layer([1-4])\.(\d+)\.downsample\.(?:bn|gn)\.(.+)",
        lambda m: f"{_block(int(m[1]), m[2])}.branch1_norm.{m[3]}",
    ),
    (r"cls_head\.fc_cls\.(weight|bias)", HEAD + r"\1"),
)
GLUON: Sequence[Rule] = (
    (r"head\.1\.(weight|bias)", None),  # fc under a second name
    (r"first_stage\.0\.weight", r"blocks.0.conv.weight"),
    (r"first_stage\.1\.(.+)", r"blocks.0.norm.\1"),
    (r"res_layers\.([0-3])\.(.+)", lambda m: rename(f"layer{int(m[1]) + 1}.{m[2]}", TORCHVISION) or ""),
    (r"(fc\.(?:weight|bias))", lambda m: rename(m[1], TORCHVISION) or ""),
)
# torchvision's MViT: attention blocks counted through, ours by stage.
_ATTENTION_STAGES = (range(1), range(1, 3), range(3, 14), range(14, 16))


def _attention_block(match: re.Match[str]) -> str:
    number = int(match[1])
    for stage, members in enumerate(_ATTENTION_STAGES, start=1):
        if number in members:
            return f"blocks.{stage}.{number - members.start}.{match[2]}"
    raise KeyError(match[0])


TORCHVISION_MVIT: Sequence[Rule] = (
    (r"((?:conv_proj|pos_encoding)\..+)", r"blocks.0.\1"),
    (r"blocks\.(\d+)\.(.+)", _attention_block),
    (r"(norm\..+)", r"blocks.5.\1"),
    (r"head\.1\.(weight|bias)", r"blocks.5.proj.\1"),
)
VIDGN: Sequence[Rule] = (
    (r"net\.(blocks\..+)", r"\1"),
    (r"(?!net\.).+", None),  # what a checkpoint keeps beside the net
)
PYTORCHVIDEO: Sequence[Rule] = ((r"(blocks\..+)", r"\1"),)
