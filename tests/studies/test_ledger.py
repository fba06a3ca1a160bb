import json
from dataclasses import asdict

import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.studies.ledger import Entry, Ledger


def new_entry() -> Entry:
    return Entry("cycle=5", {"cycle": "5"}, ["method.weights.cycle=5"], "cells/a")


def test_changes_are_on_disk_at_once_and_read_again(tmp_path):
    with Ledger(tmp_path) as ledger:
        ledger.entries["abc"] = new_entry()
        with ledger.change("abc") as entry:
            entry.state, entry.metrics, entry.seconds = "done", {"swd": 1.5}, {"train": 2.0}
        assert json.loads(ledger.path.read_text())["cells"]["abc"]["metrics"] == {"swd": 1.5}
    with Ledger(tmp_path) as again:
        assert again.entries == {"abc": entry}


def test_one_program_at_a_time_also_after_a_kill(tmp_path):
    lock = tmp_path / "sweep.lock"
    with Ledger(tmp_path):
        with pytest.raises(UserError, match=r"another `lit-ghibli sweep` is at work here, process \d+ .* --status, or"):
            Ledger(tmp_path)
        said = lock.read_text()
    lock.write_text(json.dumps({**json.loads(said), "began": "1"}))  # of a process that is gone
    with Ledger(tmp_path) as ledger:
        lock.write_text(said.replace('"process": ', '"process": 1'))
        with pytest.raises(UserError, match="taken over by process 1"):
            ledger.save()


def with_cell(**changes) -> str:
    return json.dumps({"cells": {"a": {**asdict(new_entry()), **changes}}, "forecasts": {}})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "no JSON"),
        ("{}", "lacks 'cells'"),
        ("[" * 5000, "nested deeper"),
        ('{"cells": null, "forecasts": {}}', "cells must be a mapping; got null"),
        ('{"cells": {"a": {"color": 1}}, "forecasts": {}}', "cells.a has an unknown key 'color'"),
        ('{"cells": {}, "forecasts": {"a": {"total_seconds": null}}}', "forecasts.a lacks"),
        (with_cell(levels=None), "cells.a.levels must be a mapping; got null"),
        (with_cell(overrides=[1]), r"cells.a.overrides\[0\] must be text"),
        (with_cell(state="finished"), "cells.a.state must be one of waiting"),
        (with_cell(metrics={"swd": "low"}), "cells.a.metrics.swd must be a number or null"),
        (with_cell(folder="../elsewhere"), "'../elsewhere' is no place in the study's folder"),
        (with_cell(folder="/tmp/elsewhere"), "'/tmp/elsewhere' is no place in the study's folder"),
        (with_cell(checkpoint="cells/../../last.ckpt"), "is no place in the study's folder"),
        (with_cell(folder=""), "'' is no place in the study's folder"),
        (with_cell(folder="./."), "'./.' is no place in the study's folder"),
        (with_cell(checkpoint=""), "'' is no place in the study's folder"),
        (with_cell(seconds={"train": 1e300}), r"seconds must be 0 \.\.\. 1e\+10"),
        (with_cell(seconds={"train": float("nan")}), r"seconds must be 0 \.\.\. 1e\+10"),
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path, text, why):
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(UserError, match=rf"ledger\.json: .*{why}.*: no ledger of this version; move it away"):
        Ledger(tmp_path)
