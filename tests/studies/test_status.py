import json

import pytest

from lit_ghibli import locks
from lit_ghibli.errors import UserError
from lit_ghibli.studies.ledger import CellLedger, Entry, Ledger
from lit_ghibli.studies.status import print_status

NEWS = "epoch 3/9 in 0:01:00, 0.5 s/it | cycle=1\nwarning\n"


@pytest.fixture
def study(tmp_path):
    """The folder of a study of which each cell has another fate, seen from another machine."""
    with Ledger(tmp_path) as ledger:
        for key, changes in {
            "done": {"state": "done", "seconds": {"train": 60.0, "evaluate": 2.0}},
            "failed": {"state": "failed", "error": ["Traceback", "exit status 1"]},
            "job": {"job": "slurm 4711_2", "attempt": "now"},  # of which the ledger does not know yet that it has begun
            "queued": {"job": "slurm 4711_3", "attempt": "then"},
            "left": {"state": "running"},  # by a program that is gone
        }.items():
            ledger.entries[key] = Entry(key, {}, [], f"cells/{key}", **changes)
            (tmp_path / "cells" / key).mkdir(parents=True)
        ledger.save()
        for key, attempt in (("job", "now"), ("queued", "before")):
            entry = Entry(key, {}, [], f"cells/{key}", state="running", job="slurm 4711_2", attempt=attempt)
            CellLedger(tmp_path, key, entry).save()
        (tmp_path / "cells/job/cell.log").write_text(NEWS)
        lock = {**locks.this_process(), "host": "far", "machine": "far 1"}
        (tmp_path / "cells/job/cell.lock").write_text(json.dumps(lock))
        yield tmp_path


def rows(capsys):
    lines = capsys.readouterr().out.splitlines()
    return [[value.strip() for value in line.strip("|").split("|")] for line in lines[2:7]], lines[8:]


def test_everybody_sees_how_far_a_study_is_and_changes_nothing(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.rglob("*")}
    print_status(study)
    table, rest = rows(capsys)
    assert table == [
        ["done", "done", "", "0:01:02", ""],
        ["failed", "failed", "", "", ""],
        ["job", "running", "slurm 4711_2", "", "epoch 3/9 in 0:01:00, 0.5 s/it"],
        ["queued", "waiting", "slurm 4711_3", "", ""],
        ["left", "interrupted", "", "", ""],
    ]
    assert rest[0].startswith("sweeps here: process ")
    assert rest[1] == "1 of 5 done, 1 failed, 1 running, 1 waiting, 1 interrupted"
    assert rest[2] == f"failed: failed ({study / 'cells/failed/cell.log'}): exit status 1"
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*")} == before


def test_nobody_sweeps_where_the_program_is_gone_and_nothing_is_where_none_began(study, capsys):
    lock = {**locks.this_process(), "began": "1"}
    (study / "sweep.lock").write_text(json.dumps(lock))
    print_status(study)
    assert rows(capsys)[1][0] == "nobody sweeps here now"
    with pytest.raises(UserError, match=r"cells: no ledger.json here, so nothing was begun"):
        print_status(study / "cells")
