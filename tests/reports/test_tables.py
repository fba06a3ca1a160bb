import csv
import json

import pytest

from lit_ghibli.reports.tables import markdown_table, write_table

ROWS = [{"name": 'ours, "ü"', "ssim": 0.123456789, "images": 12}, {"name": "a|b", "ssim": 12345.678, "swd": 3.0}]


def test_one_table_in_three_formats(tmp_path):
    write_table(ROWS, tmp_path / "new" / "folder", "metrics")
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.csv", "metrics.json", "metrics.md"]
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [
            {"name": 'ours, "ü"', "ssim": "0.123456789", "images": "12", "swd": ""},
            {"name": "a|b", "ssim": "12345.678", "images": "", "swd": "3.0"},
        ]
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8")) == ROWS
    assert (folder / "metrics.md").read_text(encoding="utf-8") == (
        "| name | ssim | images | swd |\n"
        "|---|--:|--:|--:|\n"
        '| ours, "ü" | 0.1235 | 12 |  |\n'
        "| a\\|b | 1.235e+04 |  | 3 |\n"
    )


def test_every_row_has_as_many_cells_as_there_are_columns():
    lines = markdown_table([{"a": 1}, {"b": "x"}, {"a": 2, "c": 0.5}]).splitlines()
    assert {line.count("|") for line in lines} == {4}


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        write_table([], tmp_path, "metrics")
    assert not list(tmp_path.iterdir())
