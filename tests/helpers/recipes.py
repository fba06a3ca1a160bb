"""A translating method's defaults and its recipe in conf/method are the same numbers."""

import inspect
from typing import Any

from hydra import compose, initialize_config_dir
from lightning import LightningModule
from omegaconf import OmegaConf

from lit_ghibli.recipes import build, config_dir
from lit_ghibli.training.image_pool import ImagePool

PLAIN = ("context", "size_multiple", "minimum_size")  # attributes of a generator that its repr lacks


def read_recipe(name: str, *overrides: str) -> dict[str, Any]:
    """What ``method=name`` composes with these overrides, resolved."""
    with initialize_config_dir(config_dir(), version_base="1.3"):
        config = compose("train", [f"method={name}", "name=any", "run_dir=any", *overrides])
    return OmegaConf.to_container(config, resolve=True)["method"]


def assert_defaults_are_those_of_the_recipe(ours: LightningModule, name: str) -> LightningModule:
    """Compare a method built without arguments with what ``method=name`` composes, which is returned."""
    recipe = read_recipe(name)
    assert set(recipe) - {"_target_"} == set(inspect.signature(type(ours)).parameters) - {"metrics"}
    theirs = build(recipe)
    assert ours.networks().keys() == theirs.networks().keys()
    for key, network in ours.networks().items():
        assert repr(network) == repr(theirs.networks()[key])
    for attribute in PLAIN:
        assert getattr(ours.translator(), attribute) == getattr(theirs.translator(), attribute)
    for attribute in ("weights", "epochs", "decay_epochs", "metrics"):
        assert getattr(ours, attribute) == getattr(theirs, attribute)
    sizes = [{key: pool.size for key, pool in vars(m).items() if isinstance(pool, ImagePool)} for m in (ours, theirs)]
    assert sizes[0] == sizes[1]
    for pair in zip(ours.configure_optimizers()[0], theirs.configure_optimizers()[0], strict=True):
        assert type(pair[0]) is type(pair[1])
        groups = [dict(optimizer.param_groups[0]) for optimizer in pair]
        for group in groups:
            group["params"], group["betas"] = len(group["params"]), tuple(group["betas"])
        assert groups[0] == groups[1]
    return theirs
