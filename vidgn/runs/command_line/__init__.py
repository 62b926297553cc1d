"""The command line: compose the options, check them, and turn a user's mistake into one sentence."""

from vidgn.runs.command_line.check import check_complete, check_run_folder, check_words
from vidgn.runs.command_line.command import command, default_words, full_names, hide_noise
from vidgn.runs.command_line.composed import Composed, as_plain, composed, parse_config
from vidgn.runs.command_line.files import (
    CONFIGS,
    group_choices,
    included_files,
    search_path,
    split_config_dir,
    top_options,
    with_followers,
)

__all__ = [
    "CONFIGS", "Composed", "as_plain", "check_complete", "check_run_folder", "check_words", "command", "composed",
    "default_words", "full_names", "group_choices", "hide_noise", "included_files", "parse_config", "search_path",
    "split_config_dir", "top_options", "with_followers",
]  # fmt: skip
