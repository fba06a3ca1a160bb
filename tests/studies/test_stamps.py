import csv
import json

import pytest

from lit_ghibli.commands._study import _measure_again, _report
from lit_ghibli.metrics.protocol import VERSION
from lit_ghibli.studies.cells import GridSource
from lit_ghibli.studies.ledger import Ledger
from lit_ghibli.studies.stamps import cells_apart
from lit_ghibli.studies.study import Study

GRID = {"cycle": {str(cycle): (f"cycle={cycle}",) for cycle in (1, 2, 3)}}
STUDY = Study("mine", "?", "", "train", (), GRID, None, (0,), None, ("metrics=all",), {"swd": "min"}, None)
STAMP = {"protocol_version": VERSION, "split": "test", "target_set": "painted"}


@pytest.fixture
def source(tmp_path):
    """A study of three cells that are done and evaluated; of the second, the targets were others."""
    with Ledger(tmp_path) as ledger:
        source = GridSource(ledger, STUDY, lambda cell: cell.overrides[0], retry=True)
        for number, entry in enumerate(source.entries()):
            entry.state, entry.evaluated_by, entry.finished = "done", ["metrics=all"], ["train", "evaluate"]
            entry.metrics = {"swd": float(number)}
            stamp = {**STAMP, "target_set": "other"} if number == 1 else STAMP
            file = tmp_path / entry.folder / "evaluation" / "metrics.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps([{"swd": number, **stamp}]))
        yield source


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_cell_measured_otherwise_is_left_out_of_the_table_alone(source, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1 of 3 cells left out of the table; --retry measures them again"):
        _report(STUDY, source, tmp_path, num_images=0, stopped=False)
    why = 'cycle=2, seed=0: target_set="other", elsewhere "painted"'
    assert capsys.readouterr().out.count(why) == 1
    report = tmp_path / "report"
    assert (report / "report.md").read_text().count(f"Left out of the table: {why}.") == 1
    assert [row["cycle"] for row in rows(report / "table.csv")] == ["1", "3"]
    assert [(row["swd"], row["left_out"] != "") for row in rows(report / "cells.csv")] == [
        ("0.0", False),
        ("1.0", True),
        ("2.0", False),
    ]


def test_it_is_measured_again_on_request_and_then_stands_beside_the_others(source, tmp_path):
    _measure_again(source.ledger, STUDY, source)
    assert [(entry.state, entry.evaluated_by) for entry in source.entries()] == [
        ("done", ["metrics=all"]),
        ("waiting", None),
        ("done", ["metrics=all"]),
    ]
    assert source.take() == "cycle=2"
    entry = source.entries()[1]
    (tmp_path / entry.folder / "evaluation" / "metrics.json").write_text(json.dumps([{"swd": 1, **STAMP}]))
    entry.state = "done"
    assert cells_apart(STUDY, source.entries(), tmp_path) == {}


@pytest.mark.parametrize("content", [None, "[]", "{", "[{}]"])
def test_a_cell_whose_numbers_cannot_be_read_does_not_take_the_others_with_it(source, tmp_path, content):
    file = tmp_path / source.entries()[1].folder / "evaluation" / "metrics.json"
    file.unlink() if content is None else file.write_text(content)
    assert list(cells_apart(STUDY, source.entries(), tmp_path)) == ["cycle=2, seed=0"]
