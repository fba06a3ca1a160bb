"""The commands, and the one grammar of their words: what is typed becomes overrides of Hydra's here."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lit_ghibli.errors import UserError, did_you_mean
from lit_ghibli.overrides import expand_home, literal, quote


class Command(NamedTuple):
    """What one command takes besides ``key=value``, ``--key value``, ``--out`` or ``-o FOLDER`` and Hydra's options.

    Attributes:
        summary: What it does, for the overview of all commands.
        words: The key of words that stand without one; None where every word has its key.
        single: Whether there is one such word, rather than a list of them.
        flags: Options without a value, and the overrides that they stand for.
        renamed: Other keys for keys: for those that Hydra would take for its own groups, and ``style`` for the one that
            takes runs, too.
        lists: Keys of several names, separated by commas, and the lists that these go to: they are no sweeps.
        passed_on: A pattern of keys that go to inner trainings, as words of the list ``overrides``.
        added: Beginnings of keys that another configuration has, such as a checkpoint's.
        multirun: Whether values can be swept with ``-m``.
        goes_on: Whether the same command, typed again, goes on where it was stopped.
    """

    summary: str
    words: str | None = None
    single: bool = False
    flags: Mapping[str, str] = {}
    renamed: Mapping[str, str] = {}
    lists: Mapping[str, str] = {}
    passed_on: str = r"(?!)"
    added: tuple[str, ...] = ()
    multirun: bool = True
    goes_on: bool = False


_OF_SWEEP = "study|study_preset|preset|overrides|out|jobs|retry|trust|dry_run|status|forecast_steps|num_images"

COMMANDS = {
    "train": Command("train a method, or go on with a run", renamed={"out": "hydra.{run}.dir"}),
    "rerun": Command(
        "repeat a run from its record, and compare the metrics",
        words="run",
        single=True,
        renamed={"out": "hydra.run.dir"},
        passed_on=r"(?!(run|overrides|trust|resume)$)",
        multirun=False,
    ),
    "estimate": Command("try a few steps of a training, and forecast its time and memory"),
    "stylize": Command(
        "turn photographs and clips into a style, or into that of a trained run", words="inputs", goes_on=True
    ),
    "app": Command("paint photographs on a page in the browser", multirun=False),
    "style": Command(
        "make a style of your own from a folder of paintings",
        words="paintings",
        single=True,
        passed_on=r"(?!(paintings|name|photos|held_out|start|steps|out|overwrite|overrides|painter)\b)",
    ),
    "import": Command(
        "make a checkpoint of weights that others have published", words="file", single=True, added=("generator.",)
    ),
    "export": Command("write a network as an ONNX model, for other programs", words="model", single=True),
    "card": Command("write the card of a model: data, recipe, figures, limits", words="model", single=True),
    "push": Command("write a model and its card to the Hugging Face Hub", words="words"),
    "nst": Command("paint a picture's content in the style of others, by optimisation", words="inputs", goes_on=True),
    "evaluate": Command(
        "measure a checkpoint or a style on held-out pictures", renamed={"style": "checkpoint"}, added=("data.",)
    ),
    "compare": Command(
        "put runs, styles and folders of pictures side by side, on one page",
        words="subjects",
        added=("data.", "profile."),
    ),
    "sweep": Command(
        "run a study: a grid or a search of trainings, with tables, plots and pictures at its end",
        words="study",
        single=True,
        flags={"--dry-run": "dry_run=true", "--retry": "retry=true", "--status": "status=true"},
        renamed={"preset": "study_preset"},
        passed_on=rf"(?!({_OF_SWEEP})$)",
    ),
    "wandb-trial": Command("train with the values that the agent of a Weights & Biases sweep asks for"),
    "profile": Command(
        "measure time, memory and operations of a forward pass",
        lists={"method": "methods", "checkpoint": "checkpoints", "style": "checkpoints"},
        passed_on=r"method[./@]",
    ),
    "mos build": Command(
        "make a page on which people rate the pictures of several methods, blind", words="comparison", single=True
    ),
    "mos plan": Command("say how many people and pictures such a study needs"),
    "mos score": Command("turn such people's answers into mean opinion scores", words="inputs"),
    "pseudo-pair": Command(
        "pair photographs with what a run or a style makes of them, and keep the good pairs",
        renamed={"style": "teacher"},
        goes_on=True,
    ),
    "scenes": Command("write rendered landscapes as files, to try things with"),
    "data fetch": Command("download a published data set", words="name", single=True, goes_on=True),
    "data check": Command("look for bad, doubled, leaked and unequal pictures in the folders of a training"),
    "completion": Command("print what makes bash or zsh complete these words"),
}

STDIO = "-"  # stands for standard input as a word, and for standard output as a file

# Hydra's own options.
_WITH_VALUE = ("--cfg", "-c", "--package", "-p", "--config-dir", "-cd", "--config-path", "-cp", "--config-name", "-cn")
_WITH_VALUE += ("--experimental-rerun",)
_ALONE = ("--help", "-h", "--hydra-help", "--version", "--resolve", "--run", "-r", "--multirun", "-m")
_ALONE += ("--shell-completion", "-sc", "--info", "-i")
_EXCLUSIVE = {"-c": "--cfg", "-m": "--multirun", "-i": "--info", "-r": "--run", "-sc": "--shell-completion"}
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
_OVERRIDE = re.compile(r"[+~]{0,2}[A-Za-z_][\w./@\[\]-]*=|~(?!/|$)")

# Keys whose values are paths, and those whose values are paths or other text, in which no character has a meaning of
# Hydra's.
_PATHS = r"""checkpoints?|teacher|start|model|photo|run|resume|study|file|key|mos|inputs|pairs|subjects|methods
    |paintings|comparison|photos|targets|out|outputs|url|style|(content|style)_mask|calibration|card|words
    |run_dir|hydra\.(run|sweep)\.dir
    |(.*\.)?(root|cache_dir|train|test|(train|test)_(photo|anime|input|target)|pair_(input|target|style)|photos
    |(generator|vgg|transformer)\.weights|lpips_weights|features|segmentation|folder|result|save_dir|default_root_dir)
    |method\.(content|styles)|(.*\.)?pruning\.(journal|study)"""
TEXTS = re.compile(
    _PATHS
    + r"""
    |(.*\.)?(name|title|project|group|tags|labels|partition|account|licence|limits|message)|(texts|aspects)\.\w+""",
    re.VERBOSE,
)


def module_of(name: str) -> str:
    """The module, and the file in ``conf/``, of a command: ``data_fetch`` of ``data fetch``."""
    return re.sub("[ -]", "_", name)


@contextlib.contextmanager
def interrupt_told(name: str) -> Iterator[None]:
    """Make Ctrl-C a line, whenever it comes in the block: the imports of a command take seconds."""
    try:
        yield
    except KeyboardInterrupt:
        again = "; the same command goes on" * COMMANDS[name].goes_on
        raise SystemExit(f"\nstopped{again}") from None


def split_options(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's options, with their values, and all other words.

    Raises:
        UserError: An option lacks its value.
    """
    options: list[str] = []
    others: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name.startswith("--") and name in _WITH_VALUE and equals:
            options += [name, value]
        elif word in _WITH_VALUE or (word in ("--info", "-i") and words[:1] and words[0] in _INFO):
            if not words:
                raise UserError(f"{word} needs a value")
            options += [word, words.pop(0)]
        elif word in _ALONE or name == "--info":
            options.append(word)
        else:
            others.append(word)
    return options, others


def to_overrides(command: str, words: Sequence[str]) -> list[str]:
    """Turn what was typed after a command into options and overrides of Hydra's; these stay as they are.

    Raises:
        UserError: A word cannot be meant as any of these.
    """
    grammar = COMMANDS[command]
    options, rest = split_options(words)
    several = bool({"-m", "--multirun"} & set(options))
    if several and not grammar.multirun:
        raise UserError(f"{command} takes one value for each key, and no -m: start it once for each value")
    given = list(dict.fromkeys(_EXCLUSIVE.get(option, option) for option in options))
    given = [option for option in given if option in _EXCLUSIVE.values()]
    if len(given) > 1:
        raise UserError(f"{given[0]} and {given[1]} cannot be had at once: leave one of them out")
    plain: list[str] = []
    lists: dict[str, list[str]] = {}
    result: list[str] = []
    rest = list(rest)
    while rest:
        word = rest.pop(0)
        if not word:
            raise UserError("one word is empty: a variable of the shell that is not set?")
        if word in grammar.flags:
            result.append(grammar.flags[word])
            continue
        option = word.startswith("-") and word != STDIO and not Path(word).exists()
        if option:
            word = _option(word, rest, grammar)
        elif grammar.words and not grammar.single and not word.startswith("out=") and _exists(word):
            plain.append(word)
            continue
        if not option and not _OVERRIDE.match(word):
            if not grammar.words:
                raise UserError(f"'{word}' is no key=value, and {command} takes nothing else; see --help")
            plain.append(word)
            continue
        key, equals, value = word.partition("=")
        name = key.lstrip("+~")
        if name in grammar.lists:
            value = value.strip("\"'")
            from lit_ghibli.inference.style_pictures import is_mixture  # here, so that --help answers at once

            names = [value] if Path(value).exists() or is_mixture(value) else value.split(",")
            lists.setdefault(grammar.lists[name], []).extend(map(expand_home, names))
            continue
        if equals and value in ("", '""', "''") and re.fullmatch(_PATHS, name, re.VERBOSE):
            raise UserError(f"{name} is empty: a variable of the shell that is not set? Give a value, or no such word")
        if equals and TEXTS.fullmatch(name):
            value = literal(value, several or any(re.match(r"launcher=|hydra\.mode=", each) for each in words))
            word = f"{key}={value}"
        if name.startswith(("hydra.", "hydra/")):
            result.append(word)
        elif name in grammar.renamed:
            result.append(f"{grammar.renamed[name].format(run='sweep' if several else 'run')}={value}")
        elif re.match(grammar.passed_on, name):
            lists.setdefault("overrides", []).append(word)
        else:
            result.append(f"++{word}" if key.startswith(grammar.added or "=") else word)
    if plain and grammar.single:
        if len(plain) > 1:
            raise UserError(f"{command} takes one {grammar.words} at a time; got {', '.join(plain)}")
        result.append(f"{grammar.words}={quote(expand_home(plain[0]))}")
    lists = {key: list(dict.fromkeys(names)) for key, names in lists.items()}
    if plain and not grammar.single:
        lists[grammar.words] = list(map(expand_home, plain))
    listed = [f"{key}=[{','.join(map(quote, names))}]" for key, names in lists.items()]
    return [*options, *result, *listed]


def _option(word: str, rest: list[str], grammar: Command) -> str:
    """``key=value`` of ``--key=value``, or of ``--key`` and the first word of ``rest``, which is taken from it.

    Raises:
        UserError: It is no option, or an abbreviated one, or lacks its value.
    """
    known = [option for option in (*_WITH_VALUE, *_ALONE, *grammar.flags, "--out") if option.startswith("--")]
    name, equals, value = word.partition("=")
    if name == "-o":
        name = "--out"
    if not name.startswith("--") or len(name) < 4:
        raise UserError(f"there is no option {word}; values are given as key=value or --key value")
    key = name[2:].replace("-", "_")
    if not equals:
        if name != "--out" and any(option.startswith(name) for option in known):
            raise UserError(f"there is no option {word}{did_you_mean(word, known)}; options are not abbreviated")
        if not rest or (name != "--out" and (re.match(r"-\D|-$", rest[0]) or _OVERRIDE.match(rest[0]))):
            raise UserError(f"{word} needs {'a folder' if name == '--out' else 'a value: ' + key + '=VALUE'}")
        value = rest.pop(0)
    return f"{key}={quote(expand_home(value)) if name == '--out' else value}"


def _exists(word: str) -> bool:
    """Whether a word is a path, with a name and a colon before it or without; an equals sign is of the path only."""
    name, _, path = word.partition(":")
    return any(map(os.path.exists, (word, os.path.expanduser(word)))) or (
        "=" not in name and path != "" and os.path.exists(os.path.expanduser(path))
    )
