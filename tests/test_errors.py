"""What is said of names and texts from outside: none breaks a line, and no terminal obeys one."""

import ast
import logging
from pathlib import Path

import pytest

import lit_ghibli
from lit_ghibli.commands._hydra import _Printable
from lit_ghibli.errors import UserError, say
from lit_ghibli.recipes import parse

SOURCES = sorted(Path(lit_ghibli.__file__).parent.rglob("*.py"))
OUTSIDE = "a\nb\x1b[31mc"
ESCAPED = r"a\nb\x1b[31mc"


def test_each_argument_of_an_error_is_a_line_whatever_it_quotes():
    error = UserError(f"{OUTSIDE}: no such file", f"  {OUTSIDE}")
    assert str(error) == f"{ESCAPED}: no such file\n  {ESCAPED}"
    assert UserError(f"mine: {error.lines[0]}", *error.lines[1:]).lines == [
        f"mine: {ESCAPED}: no such file",
        f"  {ESCAPED}",
    ]


def test_words_that_cannot_be_read_are_quoted_on_one_line():
    with pytest.raises(UserError) as error:
        parse(f"{OUTSIDE}=[")
    assert len(error.value.lines) == 2  # what, and what to do
    assert all(ESCAPED in line for line in error.value.lines)


def name_of(node):
    """Of a class that is called or derived from."""
    return getattr(node, "attr", getattr(node, "id", ""))


def test_no_error_is_given_several_lines_in_one():
    """They would be said as one, with the break written out."""
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    classes = [node for node in nodes if isinstance(node, ast.ClassDef)]
    errors = {"UserError"}
    for _ in range(3):  # generations
        errors |= {each.name for each in classes if errors & set(map(name_of, each.bases))}
    calls = [node for node in nodes if isinstance(node, ast.Call) and name_of(node.func) in errors]
    assert {"FolderError", "CheckpointError"} <= errors
    assert len(calls) > 100
    texts = [text for call in calls for text in ast.walk(call) if isinstance(text, ast.Constant)]
    assert not [text.value for text in texts if "\n" in str(text.value)]


def test_what_is_printed_keeps_to_its_lines(capsys):
    say(f"page: {OUTSIDE}", Path(OUTSIDE))
    assert capsys.readouterr().out == f"page: {ESCAPED}\n{ESCAPED}\n"


@pytest.mark.parametrize("ours", ["lit_ghibli.x", "__main__"])
def test_what_is_logged_keeps_to_its_lines(ours):
    said = "%s has %d:\n  \x1b[31m%s", (Path(OUTSIDE), 3, OUTSIDE)
    record = _Printable(ours, logging.WARNING, "x.py", 1, *said, None)
    assert record.getMessage() == f"{ESCAPED} has 3:\n  \\x1b[31m{ESCAPED}"
    theirs = _Printable("lightning", logging.WARNING, "x.py", 1, "%s", ("a table\nof two lines",), None)
    assert theirs.getMessage() == "a table\nof two lines"
    assert logging.getLogRecordFactory() is _Printable
