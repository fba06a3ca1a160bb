"""Which cells of a study were measured otherwise than the others, so that their numbers cannot stand beside these."""

from collections.abc import Sequence
from pathlib import Path

from lit_ghibli.errors import UserError
from lit_ghibli.metrics.protocol import measured_apart
from lit_ghibli.studies.ledger import Entry
from lit_ghibli.studies.steps import read_rows
from lit_ghibli.studies.study import Study


def cells_apart(study: Study, entries: Sequence[Entry], out: Path) -> dict[str, str]:
    """Of the cells that are done, those whose numbers must not stand beside the others', by name, and why.

    Args:
        study: Whose cells these are; those that only train are measured by their own training, and never apart.
        entries: All of them.
        out: The study's folder.
    """
    if study.evaluate is None and study.command != "evaluate":
        return {}
    apart, rows = {}, {}
    for entry in entries:
        if entry.state == "done":
            try:
                rows[entry.name] = read_rows(out / entry.folder, study.command, evaluated=True)[0]
            except UserError as error:
                apart[entry.name] = str(error)
    names = list(rows)
    return apart | {names[number]: why for number, why in measured_apart(list(rows.values())).items()}
