"""`lit-ghibli card`: write the card of a model, of what its training, its measurements and its author say."""

import inspect
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._output import check_writable
from lit_ghibli.documents import read_json
from lit_ghibli.errors import UserError, printable, say
from lit_ghibli.files import write_text
from lit_ghibli.reports.model_card import Figures, ModelCard, render_card, without_folders
from lit_ghibli.reports.tables import last_values

_TAGS = ("anime", "style-transfer", "image-to-image-translation", "lit-ghibli")
_VERSIONS = ("python", "torch", "lightning")
_PROTOCOL = "protocol"  # column of a table of measures


@command("card")
def card(config: DictConfig) -> None:
    """Print the card, or write it to ``out``."""
    out = None if config.out is None else Path(config.out).expanduser()
    if out is not None:
        check_writable(out.parent)
        if out.exists() and not config.overwrite:
            raise UserError(f"{out} exists already: overwrite=true replaces it")
    text = render_card(card_of(str(config.model), config))
    if out is None:
        print(printable(text), end="")
    else:
        write_text(out, text)
        say(f"card: {out}")


def weights_of(word: str) -> Path:
    """The file of a style's or a run's weights.

    Raises:
        UserError: There is none, or it is made for other programs.
    """
    from lit_ghibli.inference.load import find_checkpoint, is_style
    from lit_ghibli.inference.styles import find_styles

    if is_style(word):
        if word not in (styles := find_styles()):
            raise UserError(f"{word}: has no weights of its own: give a run, a checkpoint or a style with a name")
        return styles[word]
    path = find_checkpoint(word)
    if path.suffix == ".onnx":
        raise UserError(f"{path}: an exported model, whose card lies beside it as .json: give what it was made of")
    return path


def card_of(word: str, config: DictConfig, source: str | None = None) -> ModelCard:
    """The card of a model.

    Args:
        word: A style, a run or a checkpoint.
        config: What its author adds: ``name``, ``licence``, ``datasets`` and ``limits``.
        source: By which it is to be loaded, where that is another word.

    Raises:
        UserError: There is no such model, or its files cannot be read.
    """
    from lit_ghibli.inference.load import is_style
    from lit_ghibli.inference.styles import holds_style

    path = weights_of(word)
    known = _of_style(path) if holds_style(path) else _of_checkpoint(path)
    return ModelCard(
        **known
        | {
            "name": config.name or known["name"],
            "source": source or without_folders(word),
            "key": "style" if source is None and is_style(word) else "checkpoint",
            "limits": [*known["limits"], *([config.limits] if config.limits else [])],
            "licence": config.licence or known["licence"],
            "datasets": list(config.datasets),
        }
    )


def _of_style(path: Path) -> dict[str, Any]:
    """What a style's own card says."""
    from lit_ghibli.inference.styles import read_card

    said = read_card(path)
    facts = {"Network": _network(said.network, "PaintingNetwork"), "Pictures": said.data}
    facts |= {"Paints at": f"{said.pixels:,} pixels, whatever the photograph has"}
    return {
        "name": path.stem,
        "description": f"A style: {said.description}.",
        "facts": {name: value for name, value in facts.items() if value},
        "commands": [without_folders(said.recipe)] if said.recipe else [],
        "figures": _validated(said.figures, "On pictures that were held out of its training"),
        "limits": [said.limits] if said.limits else [],
        "licence": said.licence,
        "tags": _TAGS,
    }


def _of_checkpoint(path: Path) -> dict[str, Any]:
    """What a checkpoint, its run's record and the tables of its measures say."""
    from lit_ghibli import checkpoints
    from lit_ghibli.callbacks.record_file import FILE, read_record
    from lit_ghibli.checksums import sha256_of
    from lit_ghibli.inference.importing import PROVENANCE, describe
    from lit_ghibli.trust import trusted_class

    config, sha256 = checkpoints.load(path, mmap=True)[checkpoints.CONFIG_KEY], sha256_of(path)
    run = path.parents[1] if path.parent.name == "checkpoints" else path.parent
    method = trusted_class(config["method"])
    about = (inspect.getmodule(method).__doc__ or method.__name__).split("\n\n")
    paper = re.search(r"arXiv:(\d{4}\.\d{4,5})", " ".join(about[:2]))
    generator = config["method"].get("generator", {})
    facts = {"Network": _network(generator, str(generator.get("_target_", "")).rpartition(".")[2])}
    facts |= {"Checkpoint": f"{path.name}, SHA-256 {sha256[:16]}"}
    known: dict[str, Any] = {
        "name": run.name,
        "description": about[0] + (f" [arXiv:{paper[1]}](https://arxiv.org/abs/{paper[1]})" if paper else ""),
        "facts": facts,
        "figures": list(_figures(run, sha256)),
        "limits": [],
        "licence": "",
        "tags": [*_TAGS, method.__name__.lower()],
    }
    if provenance := config.get(PROVENANCE):
        known |= {"description": f"Weights that others have published: {describe(provenance)}."}
        known |= {"licence": provenance["licence"]}
        facts["Published file"] = f"{provenance['file']}, SHA-256 {provenance['sha256'][:16]}"
    if not known["figures"]:
        known["limits"].append("It has not been measured by `lit-ghibli evaluate`.")
        if path.name == "last.ckpt" and (run / "metrics.csv").is_file():
            title = "On its training's own held-out pictures, after the last epoch"
            known["figures"] = _validated(last_values(run / "metrics.csv"), title)
    return _with_record(known, read_record(run)) if (run / FILE).is_file() else known


def _validated(values: Mapping[str, float], title: str) -> list[Figures]:
    """What a validation has found among other values; nothing where there was none."""
    found = {name.removeprefix("val/"): value for name, value in values.items() if name.startswith("val/")}
    rows = [{"figure": name, "value": value} for name, value in found.items()]
    return [Figures(title, rows)] if rows else []


def _with_record(known: dict[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what a run's record adds."""
    from lit_ghibli.callbacks.record_file import PLACE

    attempts, data = record["attempts"], record["config"].get("data", {})
    last, limits = attempts[-1], list(known["limits"])
    facts = known["facts"] | {"Pictures": _pictures(data, last.get("data") or {})}
    if weights := last.get("weights"):
        facts["Started from"] = f"{Path(weights['file']).name}, SHA-256 {weights['sha256'][:16]}"
    if "batches" in last:
        machine, hours = last["machine"], sum(attempt.get("seconds", 0) for attempt in attempts) / 3600
        facts["Training"] = (
            f"epochs: {last['epochs']}, batches: {last['batches']:,}, hours: {hours:.2g}, on {machine['device']} in "
            f"processes: {machine['processes']}, seed: {record['seed']}"
        )
    if side := data.get("crop_size"):
        limits.append(f"It was trained on crops of {side} pixels: much larger or smaller forms it has not seen.")
    if last.get("state") != "finished":
        limits.append(f"Its training has not finished: it is {last.get('state')}.")
    if len(attempts) > 1:
        limits.append(
            f"Its training was resumed, {len(attempts)} attempts in all; the command is that of the last one."
        )
    code = last["code"]
    revision = f"{code['version']}, revision {code['revision'][:12]}" if code.get("revision") else str(code["version"])
    versions = {"lit_ghibli": revision + " with changes" * bool(code.get("dirty"))}
    versions |= {name: last["versions"][name] for name in _VERSIONS if last["versions"].get(name)}
    words = [without_folders(word) for word in last["overrides"] if not word.startswith((*PLACE, "hydra."))]
    command = shlex.join(["lit-ghibli", "train", *words])
    return {**known, "facts": facts, "limits": limits, "versions": versions, "commands": [command]}


def _pictures(config: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a training was shown, in words."""
    if scenes := found.get("scenes"):
        return f"{scenes['count']} rendered scenes of {scenes['size']} pixels, seed {scenes['scene_seed']}"
    root = Path(str(config.get("root") or "")).name
    parts = [
        f"{name}: {each['images']}, SHA-256 {each['sha256'][:12]}" for name, each in found.items() if "images" in each
    ]
    return "; ".join([root, *parts] if root else parts)


def _network(arguments: Mapping[str, Any], name: str) -> str:
    values = [
        f"{key}={json.dumps(value)}"
        for key, value in arguments.items()
        if key not in ("_target_", "_partial_", "weights")
    ]
    return f"{name}: {', '.join(values)}" if values else name


def _figures(run: Path, sha256: str) -> Iterator[Figures]:
    """What `lit-ghibli evaluate` has measured of the file with this checksum, beside the untouched photographs."""
    from lit_ghibli.inference.measure import shorten
    from lit_ghibli.inference.subjects import UNTOUCHED
    from lit_ghibli.metrics.protocol import COMPARED

    for path in sorted(run.glob("evaluation/*/metrics.json")):
        table = read_json(path, list[dict[str, Any]])
        own = [row for row in table if row.get("checkpoint_sha256") == sha256[:16]]
        rows = [row for row in own if row.get("pictures") != UNTOUCHED]
        if rows:
            rows += [row for row in table if row.get("pictures") == UNTOUCHED]
            short = [{key: value for key, value in shorten(row).items() if key != "checkpoint"} for row in rows]
            stamp = {name: rows[0][name] for name in (_PROTOCOL, *COMPARED) if rows[0].get(name) is not None}
            yield Figures(f"`lit-ghibli evaluate`, {path.parent.name}, with 95 % intervals", short, stamp)


if __name__ == "__main__":
    card()
