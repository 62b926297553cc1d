"""What the tests of experiments share."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _lightning_level() -> Iterator[None]:
    """Put back the level of Lightning's logger, which the trainer of the experiments raises for its process."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    yield
    logger.setLevel(level)
