"""`lit-ghibli mos score`: turn the answers of an opinion study into mean opinion scores."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, one_line, say
from lit_ghibli.files import write_text
from lit_ghibli.opinion.answers import (
    AnswersError,
    Rater,
    Thresholds,
    find_doubles,
    read_answers,
    read_key,
    score_table,
)
from lit_ghibli.opinion.tables import SIGNIFICANT, agreement_rows, pair_rows, score_rows, summary_rows
from lit_ghibli.reports.tables import Row, latex_table, markdown_table, without_bounds, write_table


@command("mos score")
def mos_score(config: DictConfig) -> None:
    """Write the tables ``summary``, ``scores``, ``pairs``, ``agreement`` and ``raters`` to ``out``."""
    key_file = Path(config.key)
    out = output_folder(config.out or key_file.parent / "scores")
    key = read_key(key_file)
    inputs = [config.inputs] if isinstance(config.inputs, str) else config.inputs
    files, others = find_answers([Path(path) for path in inputs], key_file, out)
    raters, listed = select_raters(files, key, Thresholds(**config.unreliable))
    left_out = [one_line(f"  {row['file']}: {row['why_not']}") for row in listed if row["counted"] == "no"]
    if not raters:
        raise UserError(f"none of {len(files)} files can be counted:", *left_out)
    tables = np.stack([score_table(rater, key) for rater in raters])
    scores = score_rows(tables, key)
    results = {"summary": summary_rows(scores, key), "scores": scores, "pairs": pair_rows(tables, key, config.seed)}
    results |= {"agreement": agreement_rows(tables, key), "raters": listed}
    for name, rows in results.items():
        if rows:  # a single method has no pairs
            write_table(rows, out, name)
    write_text(out / "summary.tex", latex_table(list(map(without_bounds, results["summary"]))))
    print(f"{len(raters)} of {len(files)} raters counted{', the others not:' if left_out else ''}", *left_out, sep="\n")
    if others:
        print(f"passed over, {len(others)} files that are not called .json, such as {one_line(str(others[0]))}")
    print(*(f"\n{markdown_table(results[name])}" for name in ("summary", "agreement")), sep="")
    if note := _note_on_power(len(raters), len(key["methods"])):
        print(note)
    say(f"tables, pairs of methods among them: {out}")


def find_answers(inputs: Sequence[Path], key_file: Path, out: Path) -> tuple[list[Path], list[Path]]:
    """The files of answers among ``inputs`` and anywhere in folders of them, each once, and what else is there.

    Mail programs and phones call them ``.JSON`` and ``.json.txt``, too. The key is none, nor is what lies in ``out``.

    Raises:
        UserError: There is none, or an input is missing.
    """
    files: dict[Path, Path] = {}
    others = []
    for path in inputs:
        if not path.exists():
            raise UserError(f"{path}: no such file or folder of answers")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            real = Path(os.path.realpath(file))  # of which links may lead in circles
            known = key_file.resolve() == real or out.resolve() in real.parents
            if known or file.is_dir() or file.name.startswith("."):
                continue
            if path.is_dir() and not file.name.lower().endswith((".json", ".json.txt")):
                others.append(file)
            else:
                files.setdefault(real, file)
    if not files:
        raise UserError(
            f"no answers in {', '.join(map(str, inputs)) or 'nothing'}: lit-ghibli mos score answers/*.json"
        )
    return list(files.values()), others


def select_raters(files: Sequence[Path], key: Mapping[str, Any], limits: Thresholds) -> tuple[list[Rater], list[Row]]:
    """The raters to count, and a row about each file that says why it is counted or not."""
    whole: dict[Path, Rater] = {}
    why_not: dict[Path, str] = {}
    for file in files:
        try:
            whole[file] = read_answers(file, key)
            why_not[file] = "; ".join(whole[file].faults(limits))
        except AnswersError as error:
            why_not[file] = str(error)
    why_not |= find_doubles(list(whole.values()))
    rows = []
    for file in files:
        rows.append({"file": str(file), "counted": "no" if why_not[file] else "yes", "why_not": why_not[file]})
        if rater := whole.get(file):
            failed = len(rater.failed_checks(limits.disagreement))
            rows[-1] |= {"rater": rater.name, "device": rater.device, "seconds": float(np.median(rater.seconds))}
            rows[-1] |= {"failed_checks": failed, "checks": len(rater.checks)}
    return [rater for file, rater in whole.items() if not why_not[file]], rows


def _note_on_power(raters: int, methods: int) -> str:
    """A warning where even unanimous raters are too few for a significant difference."""
    pairs = methods * (methods - 1) // 2
    smallest = pairs * 2 / 2**raters
    if not pairs or smallest <= SIGNIFICANT:
        return ""
    return (
        f"{raters} raters are too few for significant differences: were all of one mind, the p-value of the clearest "
        f"of {pairs} pairs would still be {min(smallest, 1.0):.2g}"
    )


if __name__ == "__main__":
    mos_score()
