import math

import pytest

from lit_ghibli.reports.columns import best_rows, direction, label, without_bounds


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


ROWS = [
    {"name": "untouched", "ssim": 0.9, "swd": 1.0, "images": 4},
    {"name": "a", "ssim": 0.50001, "swd": math.nan, "images": 4},
    {"name": "b", "ssim": 0.50002, "swd": 3.0, "images": 5},
    {"name": "c", "ssim": 0.4, "swd": 2.0},
    {"name": "d", "ssim": None},
]


def test_the_best_are_equal_in_what_is_printed_and_compete():
    assert best_rows(ROWS, "ssim", besides={0}) == {1, 2}
    assert best_rows(ROWS, "ssim") == {0}
    assert best_rows(ROWS, "swd", besides={0}) == {3}


def test_nobody_is_best_alone_or_where_no_direction_is_known():
    assert best_rows(ROWS, "images") == set()
    assert best_rows(ROWS[:1], "ssim") == set()
    assert best_rows(ROWS, "swd", besides={0, 3}) == set()
    assert best_rows(ROWS[1:3], "ssim") == set(), "both are equal in print"


def test_only_ends_of_intervals_are_left_out():
    assert without_bounds({"ssim": 1, "ssim_low": 0, "ssim_high": 2, "very_low": 3}) == {"ssim": 1, "very_low": 3}
