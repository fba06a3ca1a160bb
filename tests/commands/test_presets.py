"""What experiments and presets choose together."""

import pytest
from hydra import compose, initialize_config_dir

from lit_ghibli.recipes import config_dir


@pytest.mark.parametrize(
    ("words", "published"),
    [([], True), (["preset=cpu"], False), (["metrics=weight_free"], False), (["preset=cpu", "metrics=publish"], True)],
)
def test_published_recipes_measure_as_papers_do_unless_told_otherwise(words, published):
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", ["experiment=cyclegan_ghibli", "name=x", "run_dir=x", *words])
    assert ({"fid", "kid", "lpips"} <= set(config.metrics.metrics)) is published
