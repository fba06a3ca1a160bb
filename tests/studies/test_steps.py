import pytest

from lit_ghibli.studies.ledger import Entry
from lit_ghibli.studies.steps import training


@pytest.mark.parametrize(
    ("finished", "there", "words"),
    [
        ([], [], ["train", "seed=1", "hydra.run.dir"]),
        ([], ["checkpoints/last.ckpt"], ["train", "resume"]),
        (["train"], ["checkpoints/last.ckpt", "metrics.csv"], None),
        (["train"], [], ["train", "seed=1", "hydra.run.dir"]),  # somebody has removed the folder
    ],
)
def test_a_training_is_what_is_left_of_it(tmp_path, finished, there, words):
    for name in there:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entry = Entry("seed=1", {"seed": "1"}, ["seed=1"], "cells/1", finished=finished)
    steps = list(training(False, entry, tmp_path))
    place = f'="{tmp_path}"'
    assert [step.words for step in steps] == ([[*words[:-1], words[-1] + place]] if words else [])
