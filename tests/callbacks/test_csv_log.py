import csv
from pathlib import Path

import pytest

from lit_ghibli.callbacks.csv_log import ContinuedCSVLogger
from lit_ghibli.callbacks.image_grid import continue_csv


def write(folder: Path, *rows: tuple[int, dict[str, float]]) -> None:
    """One process's log, written as Lightning does: saved after every row."""
    logger = ContinuedCSVLogger(str(folder))
    for step, metrics in rows:
        logger.log_metrics(metrics, step)
        logger.save()


def read(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_resumed_run_continues_the_file_and_replaces_the_steps_done_again(tmp_path):
    write(tmp_path, *((step, {"loss": float(step)}) for step in range(0, 50, 10)))
    write(tmp_path, *((step, {"loss": step + 0.5}) for step in range(30, 60, 10)))
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [
        ("0", "0.0"),
        ("10", "10.0"),
        ("20", "20.0"),
        ("30", "30.5"),
        ("40", "40.5"),
        ("50", "50.5"),
    ]


def test_new_columns_of_a_resumed_run_leave_the_old_rows_as_they_were(tmp_path):
    write(tmp_path, (0, {"loss": 1.0}), (1, {"val": 2.0}))
    write(tmp_path, (2, {"loss": 3.0}), (3, {"other": 4.0}))
    rows = [{key: value for key, value in row.items() if value} for row in read(tmp_path)]
    assert rows == [
        {"step": "0", "loss": "1.0"},
        {"step": "1", "val": "2.0"},
        {"step": "2", "loss": "3.0"},
        {"step": "3", "other": "4.0"},
    ]


def test_a_process_that_logs_nothing_leaves_the_file_alone(tmp_path):
    write(tmp_path, (0, {"loss": 1.0}))
    before = (tmp_path / "metrics.csv").read_bytes()
    ContinuedCSVLogger(str(tmp_path)).save()
    assert (tmp_path / "metrics.csv").read_bytes() == before


def test_a_file_cut_short_by_a_crash_is_continued(tmp_path):
    write(tmp_path, *((step, {"a": 1.0, "z": 2.0}) for step in range(3)))
    content = (tmp_path / "metrics.csv").read_text()
    for cut in ("", content[:4], content.rstrip()[: -len("2,2.0")], content + "1."):
        (tmp_path / "metrics.csv").write_text(cut)
        write(tmp_path, (2, {"a": 5.0, "z": 6.0}))
        last = read(tmp_path)[-1]
        assert (last["step"], last["a"], last["z"]) == ("2", "5.0", "6.0")


@pytest.mark.parametrize(
    ("edit", "kept"),
    [
        (lambda text: text.replace(",", ";"), []),
        (lambda text: "sep=,\n" + text, []),
        (lambda text: text.replace("1,0.5", '"1,0",0.5'), [0, 2]),
        (lambda text: text.replace("1,0.5", "1,0.5,a note"), [0, 2]),
        (lambda text: text.encode("utf-16"), []),
        (lambda text: b"\xff" + text.encode(), []),
        (lambda text: text.encode("utf-8-sig"), [0, 1, 2]),
        (lambda text: text.replace("\n", "\n\n"), [0, 1, 2]),
        (lambda text: text[:-5], [0, 1]),  # cut short within its last row, which the run does again
    ],
)
def test_rows_that_cannot_be_read_are_kept_in_another_file(tmp_path, caplog, edit, kept):
    """What people's programs make of a table, in both tables of a run: nothing of it is lost."""
    for name, column, go_on in (
        ("metrics", "step", lambda: write(tmp_path, (3, {"z": 9.0}))),
        ("pictures", "epoch", lambda: continue_csv(tmp_path / "pictures.csv", 3, [{"z": 9.0}])),
    ):
        path = tmp_path / f"{name}.csv"
        edited = edit(f"{column},z\n0,0.5\n1,0.5\n2,0.5\n")
        edited = edited.encode() if isinstance(edited, str) else edited
        for _ in range(2):  # a second time, too
            path.write_bytes(edited)
            go_on()
            with open(path, newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["z"]]
            assert [int(row[column]) for row in rows] == [*kept, 3]
        aside = [tmp_path / f"{name}_set_aside_{number}.csv" for number in (1, 2)]
        lost = 1 not in kept
        assert [copy.is_file() for copy in aside] == [lost, lost]
        if lost:
            assert aside[0].read_bytes() == aside[1].read_bytes() == edited
            assert f"the file is kept as {name}_set_aside_1.csv" in caplog.text
