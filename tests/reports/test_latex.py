import re

from lit_ghibli.reports.latex import escape, latex_table


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
