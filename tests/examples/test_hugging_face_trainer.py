import re

from tests.examples import needs, run


def test_hugging_face_trainer(tmp_path):
    """Mixed in training, not in evaluation, nor by schedule in the last epoch; resumed in mid-epoch it ends the same."""
    needs("transformers", "datasets", "accelerate")

    def train(folder, *more):
        arguments = ["--epochs", "3", "--folder", tmp_path / folder, *more]
        out = run("hugging_face_trainer.py", *arguments, folder=tmp_path, torchvision=True).splitlines()
        lines = [line for line in out if line.startswith("epoch")]
        numbers = r"epoch \d: loss (.+), mixed (.+), shown (\w+); evaluation: loss (.+), mixed (.+), accuracy (.+)"
        return list(zip(*(re.fullmatch(numbers, line).groups() for line in lines), strict=True)), lines

    (losses, mixed, shown, test_losses, test_mixed, accuracy), whole = train("whole", "--workers", "2")
    assert len(whole) == len(set(shown)) == 3
    assert 2.3 > float(losses[0]) > float(losses[1]) > float(losses[2]) > 0
    assert float(losses[1]) > 0.7  # soft labels have an entropy; a binary loss would be below
    assert float(test_losses[2]) < 0.6
    assert min(map(float, mixed[:2])) > 0.7
    assert float(mixed[2]) == 0  # the epoch reached the persistent workers, and before their first batch
    assert set(map(float, test_mixed)) == {0}
    assert float(accuracy[2]) > 0.8

    # Step 30 is in the middle of the second epoch, of 21 steps.
    _, rest = train("resumed", "--workers", "0", "--resume", tmp_path / "whole" / "checkpoint-30")
    assert rest[0].partition(";")[2] == whole[1].partition(";")[2]
    assert rest[1] == whole[2]
