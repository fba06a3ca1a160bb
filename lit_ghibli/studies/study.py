"""What a study is: a question, the cells whose results answer it, and the metrics that decide."""

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from lit_ghibli.documents import DocumentError, read_yaml
from lit_ghibli.errors import UserError
from lit_ghibli.overrides import spell

FILE = "study.yaml"
SEED = "seed"  # the factor that every study has, besides those of its grid
_OF_SEARCH = {"trials", "space", "sampler", "pruner"}
_MOST_CELLS = 10_000  # which are all made before the first one runs

Grid = dict[str, dict[str, tuple[str, ...]]]  # factor -> label of a level -> its overrides


class _Search(TypedDict, total=False):
    trials: int
    space: dict[str, dict[str, Any]]
    sampler: dict[str, Any] | None
    pruner: dict[str, Any] | None


class _Preset(TypedDict, total=False):
    common: list[str] | None
    grid: dict[str, dict[Any, list[str] | None] | list[Any]] | None
    search: _Search | None
    seeds: list[int]
    trained: list[str] | None
    evaluate: list[str] | None
    metrics: dict[str, Literal["min", "max"]]
    compare: list[str] | None


class _Written(_Preset, total=False):
    question: str
    command: Literal["train", "evaluate", "estimate"]
    presets: dict[Any, _Preset | None] | None
    preset: Any


@dataclass(frozen=True)
class Cell:
    """One run of a study.

    Attributes:
        levels: Label of the level by factor, the seed among them.
        overrides: What `lit-ghibli COMMAND` is given.
    """

    levels: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """What people call it."""
        return ", ".join(f"{factor}={level}" for factor, level in self.levels.items())


@dataclass(frozen=True)
class Study:
    """A study as its file and the preset chosen describe it.

    Attributes:
        name: Of its folder.
        question: What it answers.
        preset: The size or data set chosen; "" where there is no choice.
        command: What a cell runs: ``train``, ``evaluate`` or ``estimate``.
        common: Overrides of all cells.
        grid: Levels of each factor; all combinations are run. Empty in a search.
        search: ``trials``, ``space`` and what else `lit_ghibli.studies.search.Search` takes; None for a grid.
        seeds: Each combination is run with all of these.
        trained: Overrides of a training that comes before all cells, whose folder they name ``{trained}``; or None.
        evaluate: Overrides of the `lit-ghibli evaluate` that follows each training; None for no evaluation.
        metrics: Those that decide, ``min`` or ``max`` by name; the first one is the headline.
        compare: Overrides of the `lit-ghibli compare` that puts the trained cells of the first seed on one page; None
            for no such page.
    """

    name: str
    question: str
    preset: str
    command: str
    common: tuple[str, ...]
    grid: Grid
    search: Mapping[str, Any] | None
    seeds: tuple[int, ...]
    trained: tuple[str, ...] | None
    evaluate: tuple[str, ...] | None
    metrics: Mapping[str, str]
    compare: tuple[str, ...] | None

    def cells(self) -> list[Cell]:
        """All combinations of levels, those of the first seed first."""
        product = list(itertools.product(*(levels.items() for levels in self.grid.values())))
        return [self.cell(dict(zip(self.grid, levels, strict=True)), seed) for seed in self.seeds for levels in product]

    def cell(self, levels: Mapping[str, tuple[str, tuple[str, ...]]], seed: int) -> Cell:
        """The cell of one level, label and overrides, for each factor."""
        own = itertools.chain.from_iterable(overrides for _, overrides in levels.values())
        labels = {factor: label for factor, (label, _) in levels.items()}
        return Cell({**labels, SEED: str(seed)}, (*self.common, *own, override(SEED, seed)))

    def with_overrides(self, overrides: Sequence[str]) -> "Study":
        """The same study with more overrides of what trains: of the training before all cells, else of each cell.

        Raises:
            UserError: The study varies what one of them would set.
        """
        levels = itertools.chain.from_iterable(levels.values() for levels in self.grid.values())
        varied = {_key(word) for word in itertools.chain.from_iterable(levels)}
        varied |= {SEED, *((self.search or {}).get("space", ()))}
        if taken := [word for word in overrides if _key(word) in varied]:
            raise UserError(f"{taken[0]}: the study {self.name} varies '{_key(taken[0])}' itself; see its {FILE}")
        if self.trained is None:
            return replace(self, common=(*self.common, *overrides))
        return replace(self, trained=(*self.trained, *overrides))


def read_study(folder: str | Path, preset: str | None = None) -> Study:
    """Read ``study.yaml`` of a study's folder.

    Args:
        folder: The folder, or the file itself.
        preset: One of the file's ``presets``; None takes the one that the file names.

    Raises:
        UserError: There is no such file or preset, or the file holds what a study cannot.
    """
    path = Path(folder)
    path = path if path.is_file() else path / FILE
    if not path.is_file():
        raise UserError(f"{folder}: no study here, since there is no {path}")
    try:
        return _study(path, read_yaml(path, _Written), preset)
    except DocumentError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def override(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar, for a value of YAML."""
    return f"{key}={spell(value)}"


def _study(path: Path, written: _Written, preset: str | None) -> Study:
    """Fill in what is not given.

    Raises:
        ValueError: Saying what is wrong.
    """
    presets = written.get("presets") or {}
    chosen = written.get("preset") if preset is None else preset
    if chosen is not None and chosen not in presets:
        raise ValueError(f"no preset '{chosen}'; there are {sorted(map(str, presets))}")
    if chosen is not None and not re.fullmatch(r"[\w-][\w. -]*", str(chosen)):  # it names a folder
        raise ValueError(f"preset '{chosen}' must be called by letters, digits, '_', '-', '.' and spaces alone")
    values = _merge(written, (presets[chosen] or {}) if chosen is not None else {})
    command, metrics = values.get("command", "train"), values.get("metrics")
    if not metrics:
        raise ValueError("metrics must name at least one metric with min or max, such as {swd: min}")
    grid, search = values.get("grid") or {}, values.get("search")
    if bool(grid) == bool(search):
        raise ValueError("a study has either a grid or a search")
    seeds = tuple(values.get("seeds", [0]))
    if not seeds or (search and len(seeds) > 1):
        raise ValueError(f"seeds must list at least one seed, and one alone for a search; got {list(seeds)}")
    if search and not {"trials", "space"} <= search.keys() <= _OF_SEARCH:
        raise ValueError(f"a search has trials and space, and may have {sorted(_OF_SEARCH)}; got {sorted(search)}")
    if (cells := math.prod(map(len, grid.values())) * len(seeds)) > _MOST_CELLS:
        raise ValueError(f"the grid has {cells:,} cells, and may have {_MOST_CELLS:,}; search: tries some of so many")
    _check_acts(values, command)
    names = shortest_names(list(grid))
    if SEED in names.values():
        raise ValueError(f"grid: '{SEED}' is no factor; list seeds as seeds: [0, 1]")
    return Study(
        name=path.resolve().parent.name,
        question=" ".join(str(values.get("question", "")).split()),
        preset="" if chosen is None else str(chosen),
        command=command,
        common=_overrides(values, "common") or (),
        grid={names[factor]: _levels(factor, levels) for factor, levels in grid.items()},
        search=search,
        seeds=seeds,
        trained=_overrides(values, "trained"),
        evaluate=_overrides(values, "evaluate"),
        metrics=metrics,
        compare=_overrides(values, "compare"),
    )


def _check_acts(values: Mapping[str, Any], command: str) -> None:
    """Refuse what would do nothing, or something else than a study does.

    Raises:
        ValueError: Saying what, and why.
    """
    levels = [words for levels in (values.get("grid") or {}).values() for words in _written_out(levels)]
    of_cells = [*(values.get("common") or ()), *levels]
    trained, evaluate = values.get("trained"), values.get("evaluate")
    if command == "train" and trained is not None:
        raise ValueError("trained is for cells that evaluate or estimate; what trains does so in its cells")
    if command != "train" and (
        key := next((key for key in ("evaluate", "compare") if values.get(key) is not None), "")
    ):
        raise ValueError(f"{key} follows trainings, and cells of this study {command}")
    if (trained is not None) != any("{trained}" in word for word in of_cells):
        raise ValueError("trained says what to train before all cells, whose words name its folder as {trained}")
    for word in (*of_cells, *(trained or ())):
        if _key(word).split(".")[0] == "launcher":
            raise ValueError(f"{word}: a launcher is typed, as in lit-ghibli sweep STUDY launcher=slurm")
    for word in evaluate or ():
        if _key(word) in ("checkpoint", "style", "out"):
            raise ValueError(f"evaluate: {word}: each cell's own checkpoint is evaluated, into its own folder")


def _written_out(levels: Mapping[Any, Sequence[str] | None] | Sequence[Any]) -> Iterator[str]:
    """Overrides of a factor's levels that the file writes out."""
    if isinstance(levels, Mapping):
        yield from itertools.chain.from_iterable(words or () for words in levels.values())


def _merge(written: _Written, preset: _Preset) -> dict[str, Any]:
    """A study's values with those of a preset: overrides are added, all else is replaced."""
    values = {**written, **preset}
    for key in ("common", "trained"):
        if key in preset and written.get(key) is not None:
            values[key] = [*written[key], *(preset[key] or [])]
    return values


def _overrides(values: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    """A list of overrides; None where none is given."""
    return None if values.get(key) is None else tuple(values[key])


def _levels(factor: str, levels: dict[Any, list[str] | None] | list[Any]) -> dict[str, tuple[str, ...]]:
    """Levels of a factor: values of a key, or labels with the overrides that they stand for."""
    if not levels:
        raise ValueError(f"grid: {factor} must list values, or map labels to lists of overrides; got {levels!r}")
    if isinstance(levels, dict):
        return {str(name): tuple(overrides or ()) for name, overrides in levels.items()}
    named = {str(value): (override(factor, value),) for value in levels}
    if len(named) < len(levels):
        raise ValueError(f"grid: {factor} lists a value twice; got {levels!r}")
    return named


def shortest_names(keys: Sequence[str]) -> dict[str, str]:
    """For each key of a configuration, as many of its last parts as tell it from the others."""
    parts = {key: re.split(r"[./]", key) for key in keys}
    names = {}
    for key, own in parts.items():
        others = [other for other_key, other in parts.items() if other_key != key]
        length = next((n for n in range(1, len(own)) if all(other[-n:] != own[-n:] for other in others)), len(own))
        names[key] = ".".join(own[-length:])
    return names


def _key(word: str) -> str:
    """What an override sets."""
    return word.split("=")[0].lstrip("+~")


def summarize(cells: Iterable[Cell]) -> str:
    """How many cells, of what factors."""
    cells = list(cells)
    factors = {factor: {cell.levels[factor] for cell in cells} for factor in cells[0].levels}
    return f"{len(cells)} cells: " + " x ".join(f"{len(levels)} {factor}" for factor, levels in factors.items())
