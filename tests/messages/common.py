"""What people give by mistake, and what they are told: the remedy, and never a wall of numbers."""

import numpy as np
import pytest

from miamix_cpu import MiAMixConfig

PLAIN = MiAMixConfig.plain("mixup")
IMAGE = np.zeros((8, 8, 3), np.uint8)


def told(function, *arguments, **options):
    """The error's type and words."""
    with pytest.raises(Exception, match=r".") as caught:
        function(*arguments, **options)
    words = str(caught.value)
    assert len(words) < 600, words
    return type(caught.value), words
