"""A search for the best values of a configuration, which goes on where a killed program left it.

Optuna proposes; whoever trains asks for trials and tells what came of them. Of Hydra it knows the grammar alone.
"""

import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from lit_ghibli.errors import UserError
from lit_ghibli.overrides import spell
from lit_ghibli.seeding import derive_seed
from lit_ghibli.studies.journal import PLAN, PRUNED, make, make_pruner, open_journal

JOURNAL = "search.journal"  # in the folder of a study or a sweep
DIRECTIONS = {"min": "minimize", "max": "maximize"}
SAMPLERS = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}

_STATES = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
_WHY = "why"  # attribute of a trial that failed


class Trial(NamedTuple):
    """What one trial is to try.

    Attributes:
        number: Counted from 0.
        overrides: What its training is given: the values to try and, in a search that prunes, where to report.
        parameters: The values to try, by key.
        again: Whether an earlier program left it under way.
    """

    number: int
    overrides: list[str]
    parameters: dict[str, Any]
    again: bool


class Search:
    """Proposes trials and remembers what came of them.

    What a trial tries depends on the seed, its number, and the trials before it: a search whose trials end in the
    order in which they began is the same with and without interruptions. One program at a time asks and tells;
    the trials report to the same journal from wherever they are.

    Args:
        journal: File; made where there is none.
        name: Of the search in the journal.
        space: By key of the configuration ``{choices: [...]}``, or ``{low, high}``, both included, with ``step``,
            ``log: true`` or ``int: true``.
        directions: ``min`` or ``max`` by name of each metric.
        trials: How many to try in all, whatever becomes of them; may grow from one program to the next.
        seed: Of all that is random here.
        sampler: ``name``, one of `SAMPLERS`, and what else that takes; None for TPE (Bergstra et al. 2011).
        pruner: ``name``, one of `journal.PRUNERS`, what else that takes, and ``monitor``, the metric to report where
            it is not the one to optimise; None prunes nothing.

    Raises:
        UserError: Something given is impossible, or is not what the journal was begun with.
    """

    def __init__(
        self,
        journal: str | Path,
        name: str,
        space: Mapping[str, Mapping[str, Any]],
        directions: Mapping[str, str],
        trials: int,
        seed: int,
        sampler: Mapping[str, Any] | None = None,
        pruner: Mapping[str, Any] | None = None,
    ) -> None:
        self.journal, self.name = Path(journal).absolute(), name
        self.directions, self.trials, self.seed = dict(directions), trials, seed
        self.sampler, self.pruner = sampler or {"name": "tpe"}, pruner
        self._check()
        if not space:
            raise UserError("a search needs at least one key with several values to try")
        self._distributions = {key: _distribution(key, given) for key, given in space.items()}
        # Optuna knows choices by how they are written, since it takes no lists.
        self._choices = {key: {spell(v): v for v in given.get("choices", ())} for key, given in space.items()}
        self._storage = open_journal(self.journal)
        self._study = optuna.create_study(
            storage=self._storage,
            study_name=name,
            sampler=self._sampler(0),
            pruner=make_pruner(self.pruner),
            directions=[DIRECTIONS[direction] for direction in self.directions.values()],
            load_if_exists=True,
        )
        self._compare_plans()
        self._cut_off = []
        for trial in self._frozen(TrialState.RUNNING):
            if PRUNED in trial.user_attrs:
                self.prune(trial.number)
            else:
                self._cut_off.append(trial.number)

    def ask(self) -> Trial | None:
        """The next trial: those that an earlier program left under way, then new ones; None where none is left."""
        if self._cut_off:
            return self._propose(self._cut_off.pop(0), again=True)
        number = len(self._frozen())
        if number >= self.trials:
            return None
        self._study.ask()
        return self._propose(number, again=False)

    def take(self, count: int) -> list[Trial]:
        """The next trials, at most ``count``."""
        trials: list[Trial] = []
        while len(trials) < count and (trial := self.ask()):
            trials.append(trial)
        return trials

    def tell(self, number: int, values: Mapping[str, float]) -> None:
        """Record a trial's metrics, by name; more than those in ``directions`` may be given.

        A trial that its own validations stopped is recorded as pruned, and one with a metric that is absent or not
        finite as failed.
        """
        if self.was_pruned(number):
            self.prune(number)
        elif missing := [name for name in self.directions if name not in values]:
            self.fail(number, f"no metric {missing[0]}; there are {sorted(values)}")
        elif broken := [name for name in self.directions if not math.isfinite(values[name])]:
            self.fail(number, f"{broken[0]} is {values[broken[0]]}")
        else:
            self._study.tell(number, [float(values[name]) for name in self.directions])

    def fail(self, number: int, why: str) -> None:
        """Record that nothing came of a trial."""
        self._storage.set_trial_user_attr(self._id(number), _WHY, why)
        self._study.tell(number, state=TrialState.FAIL)

    def prune(self, number: int) -> None:
        """Record that a trial was stopped early."""
        self._study.tell(number, state=TrialState.PRUNED)

    def was_pruned(self, number: int) -> bool:
        """Whether a trial's validations stopped it."""
        return PRUNED in self._frozen()[number].user_attrs

    def rows(self) -> list[dict[str, Any]]:
        """One row for each trial that ended, by number.

        ``number``, ``state`` (done, pruned or failed), ``parameters`` and ``values`` by name, ``on_front`` (no other
        trial is better in one metric without being worse in another) and ``why`` (it failed, else None). The value of
        a pruned trial is the last that it reported.
        """
        front = {trial.number for trial in self._study.best_trials}
        return [
            {
                "number": trial.number,
                "state": _STATES[trial.state],
                "parameters": self._parameters(trial),
                "values": dict(zip(self.directions, trial.values or (), strict=False)),
                "on_front": trial.number in front,
                "why": trial.user_attrs.get(_WHY),
            }
            for trial in self._frozen(*_STATES)
        ]

    def front(self) -> list[dict[str, Any]]:
        """The rows that no other one beats; with one metric, the best."""
        return [row for row in self.rows() if row["on_front"]]

    def best(self) -> dict[str, Any] | None:
        """The first row that is best in the first metric; None as long as none is done."""
        name, direction = next(iter(self.directions.items()))
        sign = 1 if direction == "min" else -1
        return min(self.front(), key=lambda row: sign * row["values"][name], default=None)

    def _check(self) -> None:
        if not self.directions or any(direction not in DIRECTIONS for direction in self.directions.values()):
            raise UserError(f"directions must give min or max for each metric; got {self.directions}")
        if self.trials < 1:
            raise UserError(f"trials must be at least 1; got {self.trials}")
        if self.pruner is not None and len(self.directions) > 1:
            raise UserError(
                f"Optuna prunes searches of one metric only, and this one has {list(self.directions)}: leave out the "
                "pruner, or all metrics but one"
            )
        self._sampler(0)
        make_pruner(self.pruner)

    def _compare_plans(self) -> None:
        """Note what the search is begun with, or check that it goes on with the same."""
        space = {key: [type(given).__name__, given._asdict()] for key, given in self._distributions.items()}
        plan = {"space": space, "directions": list(self.directions.items()), "seed": self.seed}
        plan = json.loads(json.dumps({**plan, "sampler": self.sampler, "pruner": self.pruner}))
        begun = self._study.user_attrs.get(PLAN)
        if begun is None:
            self._study.set_user_attr(PLAN, plan)
        elif changed := [key for key in plan if plan[key] != begun[key]]:
            raise UserError(
                f"{self.journal}: this search was begun with another {changed[0]}, {begun[changed[0]]} instead of "
                f"{plan[changed[0]]}; give the same again, or another folder"
            )

    def _sampler(self, number: int, key: str = "") -> optuna.samplers.BaseSampler:
        """A fresh sampler: what was drawn before, by which program, changes nothing."""
        seed = derive_seed(self.seed, number, zlib.crc32(key.encode())) % 2**32
        return make(SAMPLERS, "sampler", self.sampler, seed=seed)

    def _propose(self, number: int, again: bool) -> Trial:
        """Draw what a trial lacks: all values of a new one, those not written yet of one that was cut off."""
        self._study.sampler = self._sampler(number)
        trial = optuna.trial.Trial(self._study, self._id(number))
        _ = trial.relative_params  # TPE draws most of them together
        for key, distribution in self._distributions.items():
            self._study.sampler = self._sampler(number, key)
            _suggest(trial, key, distribution)
        parameters = self._parameters(self._frozen()[number])
        overrides = [f"{key}={spell(value)}" for key, value in parameters.items()]
        return Trial(number, overrides + self._reporting(number), parameters, again)

    def _reporting(self, number: int) -> list[str]:
        """Where the training of a trial reports its validations."""
        if self.pruner is None:
            return []
        monitor = self.pruner.get("monitor", next(iter(self.directions)))
        where = {"journal": str(self.journal), "study": self.name, "trial": number, "monitor": monitor}
        return ["pruning=validation", *(f"callbacks.pruning.{key}={spell(value)}" for key, value in where.items())]

    def _parameters(self, trial: FrozenTrial) -> dict[str, Any]:
        return {
            key: self._choices[key][trial.params[key]] if self._choices[key] else trial.params[key]
            for key in self._distributions
            if key in trial.params
        }

    def _frozen(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials as the journal has them now, by number."""
        return self._study.get_trials(deepcopy=False, states=states or None)

    def _id(self, number: int) -> int:
        study = self._storage.get_study_id_from_name(self.name)
        return self._storage.get_trial_id_from_study_id_trial_number(study, number)


def _distribution(key: str, given: Mapping[str, Any]) -> BaseDistribution:
    """What Optuna calls an entry of a space.

    Raises:
        UserError: Naming the key and what is wrong with its entry.
    """
    expected = "{choices: [...]} or {low, high} with step, log or int"
    if not isinstance(given, Mapping) or not (given.keys() == {"choices"} or {"low", "high"} <= given.keys()):
        raise UserError(f"search space: {key} must be {expected}; got {given}")
    if unknown := given.keys() - {"choices", "low", "high", "step", "log", "int"}:
        raise UserError(f"search space: {key} has an unknown '{sorted(unknown)[0]}'; it must be {expected}")
    try:
        if "choices" in given:
            return CategoricalDistribution([spell(value) for value in given["choices"]])
        low, high, step, log = given["low"], given["high"], given.get("step"), bool(given.get("log", False))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("low and high must be finite numbers.")
        if given.get("int", False):
            return IntDistribution(low, high, log=log, step=1 if step is None else step)
        return FloatDistribution(low, high, log=log, step=step)
    except (TypeError, ValueError) as error:
        raise UserError(f"search space: {key}: {error} Got {dict(given)}") from error


def _suggest(trial: optuna.trial.Trial, key: str, distribution: BaseDistribution) -> None:
    """Have a trial draw a value, unless it has one."""
    if isinstance(distribution, CategoricalDistribution):
        trial.suggest_categorical(key, distribution.choices)
        return
    suggest = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    suggest(key, distribution.low, distribution.high, step=distribution.step, log=distribution.log)
