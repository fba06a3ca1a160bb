import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lit_ghibli.reports.page import NearestPair, Page, embed, picture_side, render_page

VOID = {"meta", "link", "img", "input", "br"}
AWKWARD = '<b>"R&D" </script>'


def picture(seed, size=(40, 30)):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def example(**changes):
    rows = [
        {"name": "untouched input", "ssim": 0.9, "swd": 3.0, "seconds_5": None, "parameters_m": None},
        {
            "name": "ours",
            "ssim": 0.5,
            "ssim_low": 0.4,
            "ssim_high": 0.6,
            "swd": 2.0,
            "seconds_5": 0.5,
            "parameters_m": 9,
        },
        {"name": AWKWARD, "ssim": 0.25, "swd": 1.0, "seconds_5": 0.25, "parameters_m": 11},
    ]
    titles = ["input", "ours", AWKWARD, "target"]
    fields = {
        "title": f"Title {AWKWARD}",
        "lede": "Said of it.",
        "rows": rows,
        "metrics": ["ssim", "swd"],
        "costs": ["seconds_5", "parameters_m"],
        "plotted": ["seconds_5", "parameters_m"],
        "besides": {0},
        "notes": [f"A note {AWKWARD}"],
        "conditions": ["On a machine."],
        "protocol": {"n_real": 4, "split": AWKWARD},
        "gallery": {name: {title: picture(len(title)) for title in titles} for name in ("one", AWKWARD)},
        "nearest": [NearestPair("ours", "one", "t_1", 3, True, (picture(1), picture(2)))],
        "verdict": ("1 repeats what ours was trained on", True),
        "footer": "The end.",
    }
    return render_page(Page(**fields | changes))


class Tree(HTMLParser):
    """Checks that tags are closed in order, and keeps attributes and text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes), f"{tag} has an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag, **wanted):
        return [given for name, given in self.tags if name == tag and wanted.items() <= given.items()]


def test_the_page_is_well_formed_and_its_identities_are_unique():
    tree = Tree(example())
    identities = [given["id"] for _, given in tree.tags if "id" in given]
    assert len(identities) == len(set(identities)) > 10
    targets = {given["href"].removeprefix("#") for given in tree.all("a")}
    assert targets == {"numbers", "costs", "pictures", "training"} <= set(identities)


def test_nothing_of_the_page_lies_elsewhere():
    text = example()
    assert not re.search(r"(https?:)?//[a-z]|@import|url\(|file:", re.sub(r"base64,[^\"]*", "", text))
    for tag, given in Tree(text).tags:
        for attribute in ("src", "href", "srcset", "data", "poster", "action"):
            assert given.get(attribute, "#").startswith(("#", "data:")), (tag, given)
    assert "default-src 'none'" in text


def test_names_are_text_wherever_they_stand():
    text = example()
    assert AWKWARD not in text
    assert "<b>&quot;" not in text
    tree = Tree(text)
    assert sum(AWKWARD in piece for piece in tree.text) >= 8, "table, notes, protocol, plots, choices and gallery"
    assert text.count("</script>") == 1


def test_numbers_are_in_the_cells_and_the_best_of_those_that_compete_are_marked():
    tree = Tree(example())
    assert {given["data-value"] for given in tree.all("td", **{"class": "best"})} == {"0.5", "1.0", "0.25", "9"}
    assert {given["data-value"] for given in tree.all("td")} >= {"0.9", "0.5", "0.25", "3.0", "2.0", "11"}
    assert len(tree.all("tr", **{"class": "reference"})) == 1
    assert "0.4 \u2013 0.6" in tree.text, "the interval"
    assert [given["data-direction"] for given in tree.all("th", scope="col")] == ["0", "1", "-1", "0", "-1", "-1"]


def test_what_is_not_known_has_no_section():
    text = example(costs=[], plotted=[], gallery={}, nearest=[], verdict=None, protocol={}, notes=[], conditions=[])
    tree = Tree(text)
    assert [given["id"] for given in tree.all("section")] == ["numbers"]
    assert not tree.all("svg")
    assert not tree.all("img")


def test_a_plot_for_each_metric_and_cost_of_which_one_metric_is_seen():
    tree = Tree(example())
    groups = tree.all("div", **{"class": "plots"})
    assert [(given["data-metric"], "hidden" in given) for given in groups] == [("ssim", False), ("swd", True)]
    assert len(tree.all("svg")) == 4


@pytest.mark.parametrize("limit", [1_000_000, 4_000])
def test_a_picture_keeps_its_content_within_its_limit(limit):
    smooth = Image.radial_gradient("L").convert("RGB")  # 256 x 256
    address = embed(smooth, 128, limit)
    data = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    assert len(data) <= limit
    decoded = Image.open(io.BytesIO(data))
    assert decoded.size == (128, 128)
    difference = np.asarray(decoded, float) - np.asarray(smooth.resize((128, 128), Image.Resampling.LANCZOS), float)
    assert np.abs(difference).mean() < 3
    assert smooth.size == (256, 256), "the picture itself is left as it is"


def test_a_small_picture_is_not_enlarged():
    data = base64.b64decode(embed(picture(0), 512, 100_000).partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (40, 30)


def test_64_pictures_of_6_methods_stay_below_20_megabytes():
    count = 64 * 8  # with inputs and targets
    side = picture_side(count)
    assert side >= 200, "pictures that one can look at"
    noise = picture(0, (side, side))  # no picture takes more bytes
    gallery = {str(row): {str(column): noise for column in range(8)} for row in range(4)}
    embedded = len(embed(noise, side, 12_000_000 // count))
    page = len(example(gallery=gallery)) - 32 * len(embed(noise, picture_side(32), 12_000_000 // 32))
    assert page + count * (embedded + 250) < 20_000_000


def test_few_pictures_are_shown_larger_up_to_a_bound():
    assert picture_side(0) == picture_side(4) == 512
    assert picture_side(10**6) == 96
    assert picture_side(100) > picture_side(400) > picture_side(1600)
