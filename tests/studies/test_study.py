from pathlib import Path

import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.studies.study import read_study, shortest_names, summarize

WHOLE = """
question: Which
  weights?
common: [data=scenes]
grid:
  method.weights.cycle: [5, 1.0e-4]
  method/bottleneck: [ode]
  vgg: {without: [], "half, say": [method.weights.vgg=0.5, trainer=cpu]}
seeds: [0, 3]
evaluate: []
metrics: {swd: min, ssim: max}
preset: small
presets:
  small: {common: [data.count=9]}
  full: {seeds: [0], grid: {a.b: [null, true, [1, x]]}, metrics: {kid: min}}
"""


@pytest.fixture
def study(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / "study.yaml").write_text(text)
        return tmp_path / "mine"

    return write


def test_cells_are_all_combinations_of_levels_seed_by_seed(study):
    cells = read_study(study(WHOLE)).cells()
    assert [cell.name for cell in cells] == [
        f"cycle={cycle}, bottleneck=ode, vgg={vgg}, seed={seed}"
        for seed in (0, 3)
        for cycle in ("5", "0.0001")
        for vgg in ("without", "half, say")
    ]
    assert cells[1].overrides == (
        "data=scenes",
        "data.count=9",
        "method.weights.cycle=5",
        "method/bottleneck=ode",
        "method.weights.vgg=0.5",
        "trainer=cpu",
        "seed=0",
    )
    assert summarize(cells) == "8 cells: 2 cycle x 1 bottleneck x 2 vgg x 2 seed"


def test_a_preset_adds_overrides_and_replaces_all_else(study):
    small, full = read_study(study(WHOLE)), read_study(study(WHOLE), "full")
    assert small.preset == "small"
    assert full.metrics == {"kid": "min"}
    assert [cell.overrides for cell in full.cells()] == [
        ("data=scenes", f"a.b={value}", "seed=0") for value in ("null", "true", "[1,x]")
    ]
    assert small.question == "Which weights?"
    assert small.evaluate == ()


def test_overrides_go_to_whatever_trains(study):
    folder = study(WHOLE)
    assert read_study(folder).with_overrides(["data.root=x"]).common[-1] == "data.root=x"
    with_training = "command: evaluate\ncommon: ['checkpoint={trained}']\ntrained: [method=nijigan]\n"
    study(f"{with_training}grid: {{solver: [euler]}}\nmetrics: {{ssim: max}}\n")
    given = read_study(folder).with_overrides(["data.root=x"])
    assert given.trained == ("method=nijigan", "data.root=x")
    assert given.common == ("checkpoint={trained}",)


def test_factors_are_called_by_what_tells_them_apart(study):
    factors = "{method.optimizer_g.lr: [1, 2], method.optimizer_d.lr: [3], method/bottleneck: [ode], a.b: [1], b: [2]}"
    cell = read_study(study(f"grid: {factors}\nmetrics: {{swd: min}}\n")).cells()[0]
    assert cell.name == "optimizer_g.lr=1, optimizer_d.lr=3, bottleneck=ode, a.b=1, b=2, seed=0"
    assert shortest_names(["x.y", "y"]) == {"x.y": "x.y", "y": "y"}


def test_what_a_study_varies_is_not_to_be_typed(study):
    whole = read_study(study(WHOLE))
    for word in ("seed=5", "method.weights.cycle=3", "+trainer=gpu"):
        with pytest.raises(UserError, match="the study mine varies"):
            whole.with_overrides([word])


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("metrics: {swd: min}\ngrid: {seed: [1, 2]}", "list seeds as seeds"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\nseeds: []", "at least one seed"),
        ("metrics: {swd: min}\nsearch: {space: {a: {low: 1, high: 2}}}", "a search has trials and space"),
        ("grid: {a: [1]}", "metrics must name at least one metric"),
        ("metrics: {swd: low}\ngrid: {a: [1]}", "metrics.swd must be one of min, max"),
        ("metrics: {swd: min}", "either a grid or a search"),
        ("metrics: {swd: min}\ngrid: {a: 5}", "grid.a must be a mapping or a list; got 5"),
        ("metrics: {swd: min}\ngrid: {a: []}", "grid: a must list values"),
        ("metrics: {swd: min}\ngrid: {a: {b: [5]}}", "grid.a.b[0] must be text; got 5"),
        ("metrics: {swd: min}\ngrid: {a: null}", "grid.a must be a mapping or a list; got null"),
        ("metrics: {swd: min}\ngrid: {a: [2020-01-01]}", "values are numbers, text"),
        (
            "metrics: {swd: min}\ngrid: {a: [1]}\ncommon: data=scenes",
            "common must be a list or null; got 'data=scenes'",
        ),
        ("metrics: {swd: min}\ngrid: {a: [1]}\nseeds: [null]", "seeds[0] must be a whole number; got null"),
        ("metrics: {swd: min}\nsearch: {trials: 3, space: {a: null}}", "search.space.a must be a mapping; got null"),
        (f"metrics: {{swd: min}}\ngrid: {{a: {[*range(500)]}, b: {[*range(500)]}, c: {[*range(500)]}}}", "125,000,000"),
        (
            "metrics: {swd: min}\ngrid: {a: [1]}\npresets: {../x: }\npreset: ../x",
            "preset '../x' must be called by letters",
        ),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ncommand: stylize", "command must be one of train, evaluate"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\npreset: huge", "no preset 'huge'; there are []"),
        (
            "metrics: {swd: min}\ngrid: {a: [1]}\npresets: {huge: {command: train}}\npreset: huge",
            "unknown key 'command'",
        ),
        ("metrics: {swd: min}\ngrit: {a: [1]}", "unknown key 'grit'"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ntrained: [seed=1]", "trained is for cells that evaluate or estimate"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ncommand: evaluate\ntrained: [seed=1]", "whose words name its folder"),
        (
            "metrics: {swd: min}\ngrid: {a: [1]}\ncommand: evaluate\ncommon: ['x={trained}']",
            "whose words name its folder",
        ),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ncommand: estimate\nevaluate: []", "evaluate follows trainings"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ncommand: evaluate\ncompare: []", "compare follows trainings"),
        ("metrics: {swd: min}\ngrid: {a: {b: [launcher=slurm]}}", "launcher=slurm: a launcher is typed"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\ncommon: [launcher.gpus=2]", "launcher.gpus=2: a launcher is typed"),
        ("metrics: {swd: min}\ngrid: {a: [1]}\nevaluate: [checkpoint=x]", "checkpoint=x: each cell's own checkpoint"),
        ("metrics: {swd: min}\ngrid: {a: [5, 6, '5']}", "grid: a lists a value twice"),
        ("[1, 2]", "must be a mapping; got a list of 2"),
        ("a: [", "no YAML"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(study, text, complaint):
    folder = study(text)
    with pytest.raises(UserError) as error:
        read_study(folder)
    assert complaint in str(error.value)
    assert str(folder / "study.yaml") in str(error.value)


def test_a_folder_without_a_study_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no study here, since there is no .*study\.yaml"):
        read_study(tmp_path)
