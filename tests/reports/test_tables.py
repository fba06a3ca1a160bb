import csv
import json
import math
import re

import pytest

from lit_ghibli.reports.tables import (
    best_rows,
    direction,
    duration,
    escape,
    label,
    latex_table,
    markdown_table,
    without_bounds,
    write_table,
)

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


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("ssim", 1),
        ("ms_ssim", 1),
        ("psnr", 1),
        ("fid", -1),
        ("kid", -1),
        ("frechet_vgg19", -1),
        ("perceptual_random", -1),
        ("seconds_50", -1),
        ("peak_mib", -1),
        ("kid_std", 0),
        ("kernel_random_std", 0),
        ("ssim_low", 0),
        ("images", 0),
        ("tflop_per_s", 0),
    ],
)
def test_directions(column, expected):
    assert direction(column) == expected


def test_labels_are_for_people():
    names = ("ssim", "ms_ssim", "seconds_5", "frechet_vgg19", "kid_std", "near_duplicates")
    assert [label(name) for name in names] == [
        "SSIM",
        "MS-SSIM",
        "Seconds (mean of 5)",
        "Frechet (vgg19)",
        "KID std",
        "Near-duplicates",
    ]


COMPETING = [
    {"name": "untouched", "ssim": 0.9, "swd": 1.0, "images": 4},
    {"name": "a", "ssim": 0.50001, "swd": math.nan, "images": 4},
    {"name": "b", "ssim": 0.50002, "swd": 3.0, "images": 5},
    {"name": "c", "ssim": 0.4, "swd": 2.0},
    {"name": "d", "ssim": None},
]


def test_the_best_are_equal_in_what_is_printed_and_compete():
    assert best_rows(COMPETING, "ssim", besides={0}) == {1, 2}
    assert best_rows(COMPETING, "ssim") == {0}
    assert best_rows(COMPETING, "swd", besides={0}) == {3}


def test_nobody_is_best_alone_or_where_no_direction_is_known():
    assert best_rows(COMPETING, "images") == set()
    assert best_rows(COMPETING[:1], "ssim") == set()
    assert best_rows(COMPETING, "swd", besides={0, 3}) == set()
    assert best_rows(COMPETING[1:3], "ssim") == set(), "both are equal in print"


def test_only_ends_of_intervals_are_left_out():
    assert without_bounds({"ssim": 1, "ssim_low": 0, "ssim_high": 2, "very_low": 3}) == {"ssim": 1, "very_low": 3}


def test_every_special_character_is_escaped():
    assert escape(r"50% of_a & b #1 $x {y} ~z ^ \ü") == (
        r"50\% of\_a \& b \#1 \$x \{y\} \textasciitilde{}z \textasciicircum{} \textbackslash{}ü"
    )


def test_a_table_by_hand():
    rows = [
        {"name": "input", "ssim": 0.9, "swd": 10.0},
        {"name": "a_b", "ssim": 0.25, "swd": 123456.0},
        {"name": "c", "ssim": 0.5, "swd": None},
        {"name": "d", "ssim": 0.123456, "swd": 20.0},
    ]
    assert latex_table(rows, besides={0}).splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"Method & SSIM $\uparrow$ & SWD $\downarrow$ \\",
        r"\midrule",
        r"input & $0.9$ & $10$ \\",
        r"\midrule",
        r"a\_b & $0.25$ & $1.235 \times 10^{5}$ \\",
        r"c & $\mathbf{0.5}$ & -- \\",
        r"d & $0.1235$ & $\mathbf{20}$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_a_power_of_ten_can_be_the_best():
    text = latex_table([{"name": "a", "tflop": 1e-7}, {"name": "b", "tflop": 2e-7}])
    assert r"$\mathbf{1 \times 10^{-7}}$" in text
    assert r"$2 \times 10^{-7}$" in text
    assert text.count(r"\midrule") == 1, "nothing is set apart"


def test_a_reference_moves_to_the_top_and_every_row_has_all_cells():
    rows = [{"name": "a", "x": 1}, {"name": "b", "y": "t&u"}, {"name": "ref", "x": 3}]
    body = [line for line in latex_table(rows, besides={2}).splitlines() if line.endswith(r"\\")]
    assert [line.split(" &")[0] for line in body] == ["Method", "ref", "a", "b"]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in body} == {2}


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0:00:00"), (93784.0, "1 day, 2:03:04"), (1e13, "3.2e+05 years"), (math.inf, "inf years")],
)
def test_a_time_is_said_however_long_it_is(seconds, said):
    assert duration(seconds) == said
