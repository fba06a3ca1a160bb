import errno
import itertools
import math
import os
import re
import sys

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from lit_ghibli.reports import figures
from lit_ghibli.reports.figure_look import Scale, as_numbers, level_places, level_texts, metric_name, shorten
from lit_ghibli.reports.figures import effects_figure, pairwise_figure

CYCLE, IDENTITY = (1, 5, 25), (0.0, 0.5, 1.0)


def grid(seeds=1):
    return [
        {
            "cycle": c,
            "identity": i,
            "seed": s,
            "swd": 0.1 + 0.01 * abs(c - 5) + 0.02 * i + 0.001 * s,
            "ssim": 0.5 + i / 9,
        }
        for c, i in itertools.product(CYCLE, IDENTITY)
        for s in range(seeds)
    ]


@pytest.fixture
def drawn(monkeypatch):
    """What a call draws instead of what it writes."""
    monkeypatch.setattr(figures, "save", lambda figure, stem: figure)
    return lambda draw, *args, **kwargs: draw(*args, "nowhere", **kwargs)


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def legend(figure):
    return [text.get_text() for shown in figure.legends for text in shown.get_texts()]


def marks(axes, name):
    """Places of the marks of one kind."""
    found = [each for each in axes.findobj(PathCollection) if each.get_label() == name]
    return [tuple(map(float, spot)) for each in found for spot in each.get_offsets()]


def touching(figure):
    """Pairs of texts that lie upon each other, or a text outside the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = canvas.get_width_height()
    beyond = {
        id(tick.label1)
        for axis in itertools.chain.from_iterable((axes.xaxis, axes.yaxis) for axes in figure.axes)
        for tick in axis.get_major_ticks()
        if not min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
    }  # ticks that matplotlib keeps and does not draw
    shown = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    shown = [text for text in shown if id(text) not in beyond]
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in shown]
    outside = [name for name, box in boxes if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1]
    return outside + [(a, b) for (a, one), (b, two) in itertools.combinations(boxes, 2) if one.overlaps(two)]


def test_the_same_rows_give_the_same_bytes_without_pyplot(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    for name in ("a", "b"):
        effects_figure(grid(2), ["cycle", "identity"], ["swd"], tmp_path / name / "one", untouched={"swd": 0.2})
        pairwise_figure(grid(), ["cycle", "identity"], "swd", tmp_path / name / "two")
    for file in ("one.png", "one.svg", "two.png", "two.svg"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert ("matplotlib.pyplot" in sys.modules) == before
    svg = (tmp_path / "a" / "one.svg").read_text()
    assert not re.search(r"<dc:(date|creator)>", svg)
    with Image.open(tmp_path / "a" / "one.png") as image:
        assert image.width <= 1800
        assert "Software" not in image.info
        assert image.getpixel((0, 0))[:3] == (255, 255, 255)


def test_a_figure_that_a_full_disk_does_not_take_is_named(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*one\.png'$"):
        effects_figure(grid(2), ["cycle", "identity"], ["swd"], tmp_path / "one")
    assert list(tmp_path.iterdir()) == []


def test_one_way_means_and_runs_lie_where_they_should(drawn):
    figure = drawn(effects_figure, grid(3), ["cycle", "identity"], ["swd", "ssim"], untouched={"swd": 0.25})
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "SWD\N{NO-BREAK SPACE}\u2193",
        "",
        "SSIM\N{NO-BREAK SPACE}\u2191",
        "",
    ]
    assert [axes.get_xlabel() for axes in figure.axes][2:] == ["cycle", "identity"]
    by_cycle, by_identity = figure.axes[:2]
    expected = [
        (math.log10(c), sum(row["swd"] for row in grid(3) if row["cycle"] == c) / 9) for c in CYCLE
    ]  # 25 times is more than 20
    assert marks(by_cycle, "mean") == [pytest.approx(spot) for spot in expected]
    assert [place for place, _ in marks(by_identity, "mean")] == pytest.approx([0.0, 0.5, 1.0])
    assert sorted(value for _, value in marks(by_identity, "single run")) == pytest.approx(
        sorted(row["swd"] for row in grid(3))
    )
    bars = [line for line in by_cycle.lines if "standard error" in str(line.get_label())]
    spread = math.sqrt(3 * 1e-6 / 3) / 3  # three cells with the variance of 0, 1 and 2 thousandths over three seeds
    assert [float(bar.get_ydata()[1] - bar.get_ydata()[0]) for bar in bars] == pytest.approx([2 * spread] * 3)
    assert legend(figure) == ["single run", "\u00b11 standard error over seeds", "mean", "untouched input"]
    assert not touching(figure)


def test_one_seed_has_no_bars_and_gaps_are_told(drawn):
    rows = [row for row in grid() if (row["cycle"], row["identity"]) != (25, 1.0)]
    figure = drawn(effects_figure, rows, ["cycle", "identity"], ["swd"])
    assert legend(figure) == ["single run", "mean, adjusted for missing combinations"]


def test_named_cells_are_a_plot_of_rows_in_their_order(drawn):
    names = ["VGG 0.15", "no VGG", "ResNet for ODE", "full"]
    rows = [{"cell": name, "val/swd": 0.1 - 0.01 * place} for place, name in enumerate(names)]
    figure = drawn(effects_figure, rows, ["cell"], ["val/swd"], untouched={"val/swd": 9.0})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == names
    assert marks(axes, "mean") == [pytest.approx((0.1 - 0.01 * place, place)) for place in range(4)]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first is on top"
    assert axes.get_xlabel() == "SWD\N{NO-BREAK SPACE}\u2193\n(untouched: 9)", "too far away to be drawn"
    assert [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] == ["0.07"]
    assert not touching(figure)


def test_what_diverged_and_what_lies_far_off_is_shown(drawn):
    rows = grid(3)
    rows[0]["swd"], rows[1]["swd"], rows[12]["swd"] = math.nan, math.inf, 9.5
    figure = drawn(effects_figure, rows, ["cycle", "identity"], ["swd"])
    by_cycle = figure.axes[0]
    _, high = by_cycle.get_ylim()
    assert high < 1, "one outlier does not flatten the rest"
    assert marks(by_cycle, "beyond the axis") == [pytest.approx((math.log10(5), high))]
    assert any(text.startswith("9.5\nmean ") for text in texts(figure))
    crosses = [line for line in by_cycle.lines if line.get_label() == "diverged"]
    assert [line.get_xdata()[0] for line in crosses] == pytest.approx([0.0])
    assert "2" in [text.get_text() for text in by_cycle.texts]


def test_nothing_finite_is_still_a_figure(tmp_path):
    for path in effects_figure(
        [{"cell": "a", "swd": math.nan}, {"cell": "b"}], ["cell"], ["swd", "ssim"], tmp_path / "n"
    ):
        assert path.stat().st_size > 0
    for path in pairwise_figure([{"a": 0, "b": "x", "swd": math.nan}], ["a", "b"], "swd", tmp_path / "p"):
        assert path.stat().st_size > 0


def squares(axes):
    return {
        patch.get_xy(): patch
        for patch in axes.findobj(Rectangle)
        if patch is not axes.patch and patch.get_label() != "best"
    }


@pytest.mark.parametrize(("metric", "best"), [("swd", (0, 1)), ("ssim", None)])
def test_heat_maps_mark_the_best_and_darken_towards_it(drawn, metric, best):
    rows = [row for row in grid(2) if (row["cycle"], row["identity"]) != (25, 0.5)]
    rows = [{**row, "swd": math.nan} if (row["cycle"], row["identity"]) == (1, 1.0) else row for row in rows]
    figure = drawn(pairwise_figure, rows[::-1], ["cycle", "identity"], metric)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["1", "5", "25"], "numbers in their order"
    cells = squares(axes)
    assert cells[1, 2].get_hatch() == "////"
    assert cells[2, 0].get_hatch() == ("////" if metric == "swd" else None)
    frames = [patch.get_xy() for patch in axes.findobj(Rectangle) if patch.get_label() == "best"]
    assert frames == [best] if best else frames == [(2, 0), (2, 1), (2, 2)], "several are equally good"
    lightness = [sum(cells[across, 1].get_facecolor()[:3]) for across in range(3)]  # the row of cycle 5
    assert lightness == sorted(lightness, reverse=metric == "ssim")
    assert any("darker is better" in text for text in texts(figure))
    shown = {text.get_text() for text in axes.texts}
    assert ("0.1" in shown or "0.101" in shown) == (metric == "swd")


def test_every_pair_has_a_map_and_six_factors_do_not_collide(drawn):
    levels = {
        "method.generator": ["resnet_generator_9_blocks", "unet_generator_depth_8"],
        "perceptual_backbone": ["vgg19_conv4_1_random", "vgg19_conv4_1_imagenet"],
        "lr": ["1.0e-05", "0.0001", "0.0002", "0.001"],
        "pool_size": [0, 50],
        "schedule": ["constant", "linear"],
        "cycle": [1, 10],
    }
    rows = [
        dict(zip(levels, combination, strict=True)) | {"swd": 0.05 + 0.01 * (place % 7), "frechet_random_resnet50": 1.0}
        for place, combination in enumerate(itertools.product(*levels.values()))
    ]
    one_way = drawn(effects_figure, rows, list(levels), ["frechet_random_resnet50"])
    assert len(one_way.axes) == 6
    assert [label.get_text() for label in one_way.axes[2].get_xticklabels()] == ["1e-5", "0.0001", "0.001"]
    assert not touching(one_way)
    pairs = drawn(pairwise_figure, rows, list(levels)[:4], "swd")
    shown = [axes for axes in pairs.axes if axes.get_ylabel()]
    assert len(shown) == 6
    assert not touching(pairs)


def test_axes_are_logarithmic_where_values_span_much_and_crowd_below():
    assert Scale.around([1, 2, 4, 8, 16, 32, 64]).logarithmic
    assert not Scale.around([1, 2, 4, 8, 16]).logarithmic
    assert not Scale.around([0.001, 0.2, 0.4, 0.6, 0.8, 1.0]).logarithmic, "evenly spread down to almost nothing"
    assert not Scale.around([-1.0, 2, 4, 8, 16, 32, 64]).logarithmic


def test_axes_hold_everything_but_a_few_outliers():
    values = [0.5 + 0.01 * step for step in range(9)]
    assert not any(map(Scale.around(values).hides, values))
    with_one = Scale.around([*values, 40.0])
    assert with_one.hides(40.0)
    assert not any(map(with_one.hides, values))
    two_kinds = [*values, *[value + 40 for value in values[:4]]]
    assert not any(map(Scale.around(two_kinds).hides, two_kinds)), "a third of all is no outlier"
    equal = Scale.around([3.7] * 4, [3.7 + 1e-15])
    assert equal.high - equal.low > 1, "rounding is not a difference"
    assert not Scale.around(values, reference=0.65).hides(0.65)
    assert Scale.around(values, reference=5.0).hides(5.0)


def test_levels_that_spell_numbers_are_numbers():
    assert as_numbers(["2", 5, "1.0e+1"]) == [2.0, 5.0, 10.0]
    assert [as_numbers(names) for names in (["2", "off"], [True, 2], ["nan", "1"], [5], [None, 1])] == [None] * 5
    assert level_places([1, 2, 20]) == ([1.0, 2.0, 20.0], True), "20 times is not more than 20"
    assert level_places(["1", "100"]) == ([0.0, 2.0], True)
    assert level_places([0, 100]) == ([0.0, 100.0], True)
    assert level_places(["a", "b"]) == ([0.0, 1.0], False)
    assert level_texts(["10000.0", "1e-05", "0.5"]) == ["10000", "1e-5", "0.5"]
    assert level_texts([None, "1e-05", "x"]) == ["-", "1e-05", "x"]


def test_long_names_keep_both_ends():
    assert shorten("vgg19_conv4_1_imagenet", 11) == "vgg19\u2026genet"
    assert shorten("short", 5) == "short"
    assert metric_name("val/images") == "Images"
    assert metric_name("frechet_random_resnet50", 22) == "Frechet\n(random_resnet50)\N{NO-BREAK SPACE}\u2193"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: effects_figure([], ["a"], ["swd"], "x"), "row.*factor.*0 and 1"),
        (lambda: effects_figure([{"a": 1}], ["a"], [], "x"), "metric"),
        (lambda: effects_figure([{"a": 1, "c": 2}], ["b"], ["swd"], "x"), "'b'.*a, c"),
        (lambda: pairwise_figure([{"a": 1}], ["a"], "swd", "x"), r"two factors.*\['a'\]"),
    ],
)
def test_what_cannot_be_drawn_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_numbers_of_many_narrow_panels_stand_apart(drawn):
    values = {
        "swd": (33.72, 48.47, 32.75),
        "ssim": (0.8456, 0.8177, 0.8849),
        "psnr": (22.27, 27.95, 21.12),
        "flat": (0.3158, 0.004223, 0.2794),
        "contours": (0.9812, 0.9983, 0.9671),
        "seconds": (239.1, 78.17, 286.4),
    }
    rows = [
        {"method": name, "seed": seed} | {metric: own[place] * (1 + 0.01 * seed) for metric, own in values.items()}
        for place, name in enumerate(("CycleGAN", "pix2pix", "Scenimefy"))
        for seed in range(3)
    ]
    untouched = {"swd": 55.1, "ssim": 0.753, "psnr": 21.5, "flat": 0.0, "contours": 1.0}
    figure = drawn(effects_figure, rows, ["method"], list(values), untouched=untouched)
    assert not touching(figure)
    for axes in figure.axes:
        low, high = axes.get_xlim()
        labels = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high]
        boxes = [label.get_window_extent() for label in labels]
        assert boxes
        letter = boxes[0].width / len(labels[0].get_text())
        assert all(b.x0 - a.x1 > letter / 2 for a, b in itertools.pairwise(boxes))
