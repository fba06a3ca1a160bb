"""Values in Hydra's grammar, read back by Hydra's own parser."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lit_ghibli.overrides import spell

VALUES = [
    *(None, True, False, 0, -3, 10**12, 0.1, 1e-05, 5.0, -2.5e300),
    *("resnet", "cyclegan", "a/b-c.d", "null", "True", "inf", "1", "1e-3", "", " a b ", "a,b", "x=y", "[1]", "{a:1}"),
    *('say "x"', "it's", "back\\", "${seed}", "$HOME", "interval(1,2)", "宮崎", "~x", "a:b", "#x"),
    *([], [1, "1", None], [[0.5, 3], ["a b"]], {}, {"a": 1, "b": [True, "no"]}),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_any_value_survives_hydras_grammar(value):
    override = OverridesParser.create().parse_override(f"key={spell(value)}")
    assert not override.is_sweep_override()
    read = OmegaConf.to_container(OmegaConf.create({"key": override.value()}), resolve=True)["key"]
    assert (type(read), read) == (type(value), value)
