"""The card of a model: what it is, of what it was made, how good it is and where not, for people and for the hub."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lit_ghibli.reports.tables import Row, markdown_table
from lit_ghibli.reports.templates import render

_TEMPLATE = Path(__file__).parent / "templates" / "model_card.md.j2"
_FOLDERS = re.compile(r"(?:~|\b[A-Za-z]:)?(?:[^\s,=:\[\]{}'\"]*/)+(?=[^\s,=:\[\]{}'\"/])")
# Of those that the hub knows by name; it shows every other one as "other".
_KNOWN = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "gpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense")
_KNOWN += tuple(f"cc-by-{kind}4.0" for kind in ("", "sa-", "nc-", "nd-", "nc-sa-", "nc-nd-"))


@dataclass(frozen=True)
class Figures:
    """A table of what was measured.

    Attributes:
        title: Of what, and by whom.
        rows: The table.
        protocol: How the numbers came to be, by the names of its fields.
    """

    title: str
    rows: Sequence[Row]
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelCard:
    """What is said of a model.

    Attributes:
        name: Its headline.
        description: What its pictures look like, or how it learned to make them.
        source: The word by which `load` takes it.
        key: Of ``lit-ghibli stylize``, which takes the same word: ``checkpoint``, or ``style``.
        facts: By what they are about, such as the data.
        commands: That made it, without the folders of who did.
        figures: What was measured of it.
        versions: Of the programs that it was made with.
        limits: What it is not good at, or is not known of it.
        licence: Of the weights, in its author's words; empty where none is stated.
        tags: By which the hub finds it.
        datasets: Their names on the hub.
    """

    name: str
    description: str
    source: str
    key: str = "checkpoint"
    facts: Mapping[str, str] = field(default_factory=dict)
    commands: Sequence[str] = ()
    figures: Sequence[Figures] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    limits: Sequence[str] = ()
    licence: str = ""
    tags: Sequence[str] = ()
    datasets: Sequence[str] = ()

    @property
    def head(self) -> str:
        """What the hub reads, as YAML."""
        spelled = self.licence.lower()
        of_licence = {"license": spelled}
        if spelled not in _KNOWN:
            of_licence = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", spelled).strip("-")}
        head = of_licence if spelled else {}
        head |= {"library_name": "lit-ghibli", "pipeline_tag": "image-to-image", "tags": list(self.tags)}
        head |= {"datasets": list(self.datasets)} if self.datasets else {}
        return yaml.safe_dump(head, sort_keys=False, allow_unicode=True)


def render_card(card: ModelCard) -> str:
    """The card as Markdown that begins with the head."""
    return str(render(_TEMPLATE, {"table": markdown_table}, card=card))


def without_folders(text: str) -> str:
    """A text in which of every path its last part is left: the others may say who somebody is."""
    return _FOLDERS.sub("", text)
