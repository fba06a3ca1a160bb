import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from lit_ghibli.errors import UserError
from lit_ghibli.studies.ledger import Entry, Ledger

HOLD = """
import sys
from pathlib import Path
from lit_ghibli.studies.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


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
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another `lit-ghibli sweep` is at work here"):
            Ledger(tmp_path)
        holder.kill()
    with Ledger(tmp_path) as ledger:
        assert ledger.entries == {}


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
    ],
)
def test_what_is_no_ledger_is_refused(tmp_path, text, why):
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(UserError, match=rf"ledger\.json: .*{why}.*: no ledger of this version; move it away"):
        Ledger(tmp_path)
