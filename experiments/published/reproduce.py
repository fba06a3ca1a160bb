"""Measure published weights on published data, and print what comes out beside what others have published.

python experiments/published/reproduce.py [--dry-run] [NAME ...]   # names of figures.yaml; all without any
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from lit_ghibli.reports.tables import markdown_table

FIGURES = Path(__file__).with_name("figures.yaml")


def commands(name: str, figure: dict[str, Any]) -> list[list[str]]:
    """What is typed for a figure, without the program's name: the data, the weights, the measurement."""
    (file,) = figure["weights"]
    folder = f"imported/published/{name}"
    return [
        ["data", "fetch", figure["data"]],
        ["import", f"weights/{file}", *figure["import"], "overwrite=true", "--out", folder],
        [
            *("evaluate", f"checkpoint={folder}", *figure["evaluate"], f"data.root=datasets/{figure['data']}"),
            *("metrics=publish", "metrics.metrics=[fid,kid]", "--out", measured(name).parent.as_posix()),
        ],
    ]


def measured(name: str) -> Path:
    """Where the table of a figure is."""
    return Path("outputs/published", name, "metrics.json")


def row(name: str, figure: dict[str, Any]) -> dict[str, Any]:
    """A line of the table: what was measured, as far as it was, and what was to be expected."""
    found = json.loads(measured(name).read_text())[0] if measured(name).is_file() else {}
    said = {"FID measured": found.get("fid"), "pictures": found.get("images"), "protocol": found.get("protocol")}
    return {"figure": name, "FID published": figure["fid"], **said, "source": figure["source"]}


def main(arguments: list[str]) -> None:
    """Run, or with --dry-run print, the commands of the figures that are named."""
    figures = yaml.safe_load(FIGURES.read_text(encoding="utf-8"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dry-run", action="store_true", help="print the commands, and what is not at hand")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(figures))
    args = parser.parse_args(arguments)
    if unknown := [name for name in args.names if name not in figures]:
        parser.error(f"there is no figure {unknown[0]}, only {', '.join(figures)}")
    chosen = {name: figures[name] for name in args.names or figures}
    for name, figure in chosen.items():
        ((file, address),) = figure["weights"].items()
        missing = not Path("weights", file).is_file()
        if missing:
            print(f"# {name}: weights/{file} is missing: {address}")
        for words in commands(name, figure):
            if args.dry_run:
                print("lit-ghibli", shlex.join(words))
            elif not missing:
                subprocess.run([sys.executable, "-m", "lit_ghibli", *words], check=True)
    print(f"\n{markdown_table([row(name, figure) for name, figure in chosen.items()])}", end="")


if __name__ == "__main__":
    main(sys.argv[1:])
