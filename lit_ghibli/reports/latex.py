"""A table of results for a paper."""

import re
from collections.abc import Collection, Sequence
from typing import Any

from lit_ghibli.reports.columns import best_rows, direction, is_number, label
from lit_ghibli.reports.tables import Row, columns, format_value

_ESCAPED = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def escape(text: str) -> str:
    """``text`` as LaTeX prints it, whatever characters it holds."""
    return "".join(_ESCAPED.get(character, character) for character in text)


def latex_table(rows: Sequence[Row], besides: Collection[int] = ()) -> str:
    r"""Rows as a ``tabular`` of the package booktabs, the best value of every column in bold.

    Args:
        rows: The first column is text, the others are numbers with four significant digits; what is absent or None
            is a dash.
        besides: Indices of rows that are set apart by a rule and do not compete, such as the untouched inputs'.

    Returns:
        Lines from ``\begin{tabular}`` to ``\end{tabular}``.
    """
    names = columns(rows)
    best = {name: best_rows(rows, name, besides) for name in names}
    lines = [
        f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}\n\\toprule",
        " & ".join(escape(label(name)) + _ARROWS[direction(name)] for name in names) + r" \\",
        r"\midrule",
    ]
    order = sorted(range(len(rows)), key=lambda index: index not in besides)  # stable: the reference first
    for place, index in enumerate(order):
        cells = [_cell(rows[index].get(name), index in best[name]) for name in names]
        rule = place + 1 == len(besides) < len(rows)
        lines.append(" & ".join(cells) + r" \\" + "\n\\midrule" * rule)
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _cell(value: Any, best: bool) -> str:
    if value is None:
        return "--"
    text = format_value(value)
    if not is_number(value):
        return escape(text)
    power = re.fullmatch(r"(.+)e([+-]\d+)", text)
    text = rf"{power[1]} \times 10^{{{int(power[2])}}}" if power else text
    return rf"$\mathbf{{{text}}}$" if best else f"${text}$"
