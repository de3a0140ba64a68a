import re

import pytest

from tests.examples import needs, run


@pytest.mark.parametrize(("loss", "prefetcher"), [("soft", "--prefetcher"), ("bce", "--no-prefetcher")])
def test_timm_recipe(loss, prefetcher):
    """Both losses fall, and mixing stops at its epoch in two live persistent workers."""
    needs("timm")
    arguments = ["--epochs", "5", "--off", "3", "--loss", loss, prefetcher, "--workers", "2", "--device", "cpu"]
    out = run("timm_recipe.py", *arguments, torchvision=True)
    epochs = [list(map(float, re.findall(r"[\d.]+", line.partition(":")[2]))) for line in out.splitlines()]
    losses, mixed, test = zip(*epochs, strict=True)
    assert len(losses) == 5
    assert losses[0] > losses[1] > losses[2] > losses[3] > losses[4] > 0
    assert losses[2] < (1.6 if loss == "soft" else 0.25)
    assert min(mixed[:3]) > 0.7
    assert max(mixed[3:]) == 0
    assert max(test[2:]) > 0.6
