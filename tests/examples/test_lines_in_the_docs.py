"""What docs/integrations.md shows for maps, depth, clips, numbers and several partners, run as it stands."""

import re

import albumentations as A
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import miamix_cpu
from benchmarks.torchvision_wheel import import_torchvision
from tests.examples import ROOT, needs

PAGE = (ROOT / "docs" / "integrations.md").read_text()
CROP = A.Compose([A.RandomCrop(16, 16), A.HorizontalFlip()])


def codes(section):
    """The blocks of code below a heading."""
    text = re.split(rf"^##+ {re.escape(section)}$", PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^##+ ", text, flags=re.MULTILINE)[0]
    return [
        code.replace("num_workers=4", "num_workers=0")
        for code in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    ]


def after(section, names):
    """The names, after the section's first block was executed: what it makes of the last batch."""
    names = {
        **{name: getattr(miamix_cpu, name) for name in miamix_cpu.__all__},
        "A": A, "F": F, "DataLoader": DataLoader, "transform": CROP, **names,
    }  # fmt: skip
    exec(codes(section)[0], names)
    names["loss"].backward()
    return names


def pictures(n, shape=(24, 24, 3)):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def maps(n, side=24):
    return np.random.default_rng(1).integers(0, 3, (n, side, side), dtype=np.uint8)


def test_maps():
    names = after("Segmentation, and other dense targets", {
        "dataset": list(zip(pictures(32), maps(32), strict=True)), "classes": 3, "model": nn.Conv2d(3, 3, 1),
    })  # fmt: skip
    assert names["targets"].shape == (16, 3, 16, 16)
    assert torch.allclose(names["targets"].sum(1), torch.ones(16, 16, 16))


def test_pixels_to_ignore_count_by_what_is_seen():
    """The loss of half a pixel to ignore is that of the other half; of no such pixel it is the cross-entropy."""
    *_, code = codes("Segmentation, and other dense targets")
    logits = torch.randn(1, 2, 1, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[1.0, 0], [0, 0.5], [0, 0.5]]).reshape(1, 3, 1, 2)
    names = {"F": F, "images": logits, "model": nn.Identity(), "targets": targets}
    exec(code, names)
    logs = -logits.log_softmax(1)
    assert torch.allclose(names["loss"], (logs[0, 0, 0, 0] + 0.5 * logs[0, 1, 0, 1]) / 1.5)


def test_maps_of_hugging_face():
    needs("datasets", "transformers")
    import_torchvision()
    import datasets
    import PIL.Image
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    torch.manual_seed(0)
    config = SegformerConfig(
        num_labels=3, hidden_sizes=[4, 4, 8, 8], decoder_hidden_size=8, num_attention_heads=[1, 1, 1, 1],
        depths=[1, 1, 1, 1],
    )  # fmt: skip
    names = after("Maps in Hugging Face's datasets", {
        **{name: getattr(datasets, name) for name in ("Dataset", "Features", "Image")},
        "images": [PIL.Image.fromarray(picture) for picture in pictures(8, (40, 40, 3))],
        "maps": [PIL.Image.fromarray(classes) for classes in maps(8, 40)],
        "transform": A.RandomCrop(32, 32), "model": SegformerForSemanticSegmentation(config),
    })  # fmt: skip
    batch = names["batch"]
    assert batch["pixel_values"].shape == (4, 3, 32, 32)
    assert batch["labels"].shape == (4, 32, 32)
    assert set(batch["labels"].unique().tolist()) == {0, 1, 2}


@pytest.mark.parametrize("kind", ["tensor", "MetaTensor"])
def test_maps_of_monai(kind):
    needs("monai")
    from monai.data import CacheDataset, DataLoader, MetaTensor
    from monai.transforms import Compose, RandFlipd, RandSpatialCropd

    made = MetaTensor if kind == "MetaTensor" else torch.as_tensor
    items = [
        {"image": made(picture[None].astype(np.float32) / 255), "label": made(classes[None])}
        for picture, classes in zip(pictures(8, (100, 100)), maps(8, 100), strict=True)
    ]
    names = {
        "Compose": Compose, "RandFlipd": RandFlipd, "RandSpatialCropd": RandSpatialCropd, "DataLoader": DataLoader,
        "CacheDataset": lambda items, fixed: CacheDataset(items, fixed, progress=False),
        "items": items, "fixed": Compose([]), "classes": 3, "model": nn.Conv2d(1, 3, 1),
    }  # fmt: skip
    batch = after("Maps in MONAI's dicts", names)["batch"]
    assert batch["image"].shape == (4, 1, 96, 96)
    assert batch["label"].shape == (4, 3, 96, 96)
    assert torch.allclose(batch["label"].sum(1), torch.ones(4, 96, 96))


def test_depth():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.classes, self.depth = nn.Linear(3, 10), nn.Conv2d(3, 1, 1)

        def forward(self, images):
            return self.classes(images.mean((2, 3))), self.depth(images)[:, 0]

    dataset = [
        {"image": picture, "depth": picture[..., 0] / np.float32(255), "label": 3}
        for picture in pictures(32, (80, 80, 3))
    ]
    batch = after("Depth, further images", {"dataset": dataset, "model": Model()})["batch"]
    assert batch["depth"].shape == (32, 64, 64)
    assert torch.allclose(batch["depth"], batch["image"][:, 0], atol=1e-5)


def test_clips():
    dataset = list(zip(pictures(8, (4, 120, 120, 3)), range(8), strict=True))
    model = nn.Sequential(nn.Conv3d(3, 2, 4, 4), nn.Flatten(), nn.LazyLinear(8))
    names = after("Clips", {"dataset": dataset, "classes": 8, "model": model})
    assert names["clips"].shape == (8, 3, 4, 112, 112)


def test_numbers():
    dataset = [(picture, np.float32([i, -i])) for i, picture in enumerate(pictures(32))]
    names = after("Numbers as labels", {"dataset": dataset, "model": nn.Sequential(nn.Flatten(), nn.LazyLinear(2))})
    assert names["targets"].shape == (32, 2)
    assert torch.allclose(names["targets"].sum(1), torch.zeros(32), atol=1e-5)


def test_several_partners():
    dataset = [(picture, i % 10) for i, picture in enumerate(pictures(128))]
    names = after("Several partners", {"dataset": dataset, "model": nn.Sequential(nn.Flatten(), nn.LazyLinear(10))})
    labels, weights = names["labels"], names["weights"]
    assert labels.shape == weights.shape == (128, 3)
    assert torch.allclose(weights.sum(1), torch.ones(128), atol=1e-5)
    assert (weights[:, 2] == 0).any()
    assert ((labels[:, 2] == labels[:, 0]) | (weights[:, 2] > 0)).all()
