"""Which transforms have a program, what says so, and that the program follows the transform."""

import pickle
import re
from itertools import count
from pathlib import Path

import numpy as np
import pytest

A = pytest.importorskip("albumentations", reason="Albumentations is not installed")

from miamix_cpu import MiAMixBatch, MiAMixCollator, MiAMixConfig, TwoViews  # noqa: E402
from miamix_cpu.compiled_views import program as program_module  # noqa: E402
from miamix_cpu.compiled_views.program import NotKnown, Program  # noqa: E402
from miamix_cpu.compiled_views.step import STEPS  # noqa: E402

SAMPLES = [(np.random.default_rng(i).integers(0, 256, (8, 8, 3), np.uint8), i % 3) for i in range(8)]


class Own(A.HorizontalFlip):
    """The caller's subclass."""


def patched():
    flip = A.HorizontalFlip()
    flip.apply = lambda img, **params: img
    return flip


UNKNOWN = {
    "a transform": (lambda: A.GaussianBlur(), "GaussianBlur is not known"),
    "a subclass": (lambda: Own(), "Own, a class of the caller's own, is not known"),
    "code of the caller's": (lambda: A.Lambda(image=function), "Lambda is not known"),
    "an own method": (patched, "HorizontalFlip with other attributes than expected: apply is not known"),
    "a fill by name": (lambda: A.CoarseDropout(fill="random"), "CoarseDropout with fill='random' is not known"),
    "an option": (lambda: A.ToGray(method="max"), "ToGray with method='max' is not known"),
    "a size by the turn": (lambda: A.Affine(rotate=9, fit_output=True), "Affine with fit_output=True is not known"),
    "a part of a group": (lambda: A.OneOf([A.HorizontalFlip(), A.Blur()]), "Blur is not known"),
    "tensors, then more": (lambda: A.Compose([A.pytorch.ToTensorV2(), A.HorizontalFlip()]), "ToTensorV2 before other"),
    "targets": (lambda: A.Compose([A.HorizontalFlip()], additional_targets={"depth": "image"}), "additional_targets"),
    "boxes": (lambda: A.Compose([A.HorizontalFlip()], bbox_params=A.BboxParams(format="coco")), "Compose with boxes"),
    "replay": (lambda: A.ReplayCompose([A.HorizontalFlip()]), "ReplayCompose is not known"),
    "sometimes normalised": (lambda: A.Normalize(p=0.5), "Normalize with p=0.5 is not known"),
}


@pytest.fixture(autouse=True)
def with_tensors():
    import albumentations.pytorch  # noqa: F401


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_not_known_is_left_to_albumentations(case):
    make, why = UNKNOWN[case]
    collate = MiAMixCollator(3, transform=make(), seed=0)
    assert collate.views.startswith("made by Albumentations, one by one: ")
    assert why in collate.views
    assert why in repr(collate)
    with pytest.raises(ValueError, match="compiled_views=True, but views can't be compiled: ") as raised:
        MiAMixCollator(3, transform=make(), seed=0, compiled_views=True)
    assert why in str(raised.value)


def test_ways():
    flip = A.HorizontalFlip()
    assert MiAMixCollator(3, transform=flip, seed=0).views == "compiled"
    assert MiAMixCollator(3, transform=flip, seed=0, compiled_views=True).views == "compiled"
    off = MiAMixCollator(3, transform=flip, seed=0, compiled_views=False)
    assert off.views == "made by Albumentations, one by one: compiled_views=False"
    assert MiAMixCollator(3, transform=lambda image: image, seed=0).views.endswith(
        "<lambda> is not from Albumentations"
    )
    assert MiAMixCollator(3, seed=0).views == "made by the dataset"
    assert TwoViews(SAMPLES, flip).views == MiAMixBatch(3, transform=flip).views == "compiled"
    with pytest.raises(ValueError, match="compiled_views must be 'auto', True or False, got 'yes'"):
        MiAMixCollator(3, transform=flip, seed=0, compiled_views="yes")
    with pytest.raises(ValueError, match="compiled_views=True, but views can't be compiled: function is not from"):
        TwoViews(SAMPLES, function, compiled_views=True)


def function(image, **_):
    return image


@pytest.mark.parametrize("version", ["1.4.24", "2.1.0", "3.0"])
def test_other_versions_are_not_known(monkeypatch, version):
    monkeypatch.setattr(A, "__version__", version)
    with pytest.raises(NotKnown, match=f"Albumentations {version}"):
        Program(A.HorizontalFlip())


def test_a_program_follows_its_transform():
    """Options, parts and groups that the caller changes between epochs."""
    transform = A.Compose([A.HorizontalFlip(p=0), A.NoOp()])
    collate = MiAMixCollator(3, MiAMixConfig(second_view="shared"), transform=transform, seed=0, return_batch=True)

    epochs = count()

    def flipped():
        collate.set_epoch(next(epochs))
        batch = collate(SAMPLES)
        assert bool(batch.plan.views) == (collate.views == "compiled")
        return sum(len(step.views) for step in batch.plan.views[0].steps if step.name == "HorizontalFlip")

    assert flipped() == 0
    transform.transforms[0].p = 1
    assert flipped() == 8
    transform.transforms[1] = A.HorizontalFlip(p=1)
    assert flipped() == 16
    transform.transforms.pop()
    assert flipped() == 8
    transform.p = 0
    assert flipped() == 0
    transform.transforms.append(A.Blur())
    assert "Blur" in collate.views
    collate.set_epoch(next(epochs))
    assert not collate(SAMPLES).plan.views
    transform.transforms.pop()
    assert collate.views == "compiled"


def test_using_the_transform_elsewhere_changes_no_program(monkeypatch):
    """Albumentations keeps the last parameters, and generators, in its transforms."""
    transform = A.Compose([A.RandomCrop(6, 6), A.HorizontalFlip()])
    collate = MiAMixCollator(3, transform=transform, seed=0)
    collate(SAMPLES)
    made = []
    monkeypatch.setattr(program_module.Program, "__init__", lambda self, transform: made.append(transform))
    transform(image=SAMPLES[0][0])
    transform.set_random_seed(3)
    collate.set_epoch(1)
    collate(SAMPLES)
    assert not made


def test_a_collator_with_a_program_can_be_pickled():
    collate = MiAMixCollator(3, transform=A.Compose([A.RandomCrop(6, 6)]), seed=0)
    copy = pickle.loads(pickle.dumps(collate))
    assert copy.views == "compiled"
    images, _ = collate(SAMPLES)
    again, _ = copy(SAMPLES)
    np.testing.assert_array_equal(images.numpy(), again.numpy())


@pytest.mark.parametrize(("dtype", "why"), [
    (np.float64, "images of float64 are not known"), (np.uint16, "images of uint16 are not known"),
])  # fmt: skip
def test_images_that_no_program_takes(dtype, why):
    samples = [(np.zeros((8, 8, 3), dtype), 0)] * 4
    with pytest.raises(ValueError, match=why):
        MiAMixCollator(3, transform=A.HorizontalFlip(), seed=0, compiled_views=True)(samples)
    if dtype == np.float64:
        assert MiAMixCollator(3, transform=A.HorizontalFlip(), seed=0)(samples)[0].shape == (4, 3, 8, 8)


def test_a_view_that_cannot_be_made_names_its_sample():
    samples = [*SAMPLES[:3], (np.zeros((5, 8, 3), np.uint8), 0)]
    collate = MiAMixCollator(3, transform=A.Compose([A.HorizontalFlip(), A.RandomCrop(6, 6)]), seed=0)
    with pytest.raises(
        ValueError, match=r"RandomCrop: 6 x 6 pixels exceed the image's 5 x 8, for the first view of sample 3"
    ):
        collate(samples)


def test_views_of_different_sizes_name_the_sample():
    samples = [*SAMPLES[:3], (np.zeros((9, 8, 3), np.uint8), 0)]
    with pytest.raises(ValueError, match=r"the transform's first view of sample 3 has shape \(9, 8, 3\)"):
        MiAMixCollator(3, transform=A.HorizontalFlip(), seed=0)(samples)


def test_the_documentation_says_what_is_printed(capsys):
    """docs/views.md: its examples, and the transforms that its table names."""
    page, names = (Path(__file__).parents[2] / "docs" / "views.md").read_text(), {}
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/views.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == re.findall(r"print\(.*\)  # (.*)", page)
    known = {
        name for row in re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert known == {*STEPS, *program_module._GROUPS}
