"""`lit-ghibli profile`: measure time, memory, parameters and operations of methods' forward passes."""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command
from lit_ghibli.commands._idle import refuse_idle
from lit_ghibli.commands._output import output_folder
from lit_ghibli.errors import UserError, say
from lit_ghibli.recipes import build, compose
from lit_ghibli.reports.tables import markdown_table, write_table
from lit_ghibli.trust import is_trusting, trusted_class

_MEASURE = "--measure"  # makes this module the process that measures one network


@command("profile")
def profile(config: DictConfig) -> None:
    """Write ``profile.csv``, ``.json`` and ``.md`` with a row for each of ``methods`` and ``checkpoints``."""
    # Here, so that --help answers at once.
    from lit_ghibli.inference.load import choose_device, find_checkpoint, is_style

    check_settings(config)
    out = output_folder(config.out)
    settings = {key: config[key] for key in ("size", "batch_size", "warm_up", "threads")}
    settings |= {"repeats": list(config.repeats), "device": str(choose_device(config.device))}
    with TemporaryDirectory(prefix="lit_ghibli_") as folder:
        measured = [(word, word if is_style(word) else find_checkpoint(word)) for word in config.checkpoints]
        measured += [(name, _fresh(name, config, Path(folder) / f"{name}.ckpt")) for name in config.methods]
        rows = [measure_apart({"name": name, "checkpoint": str(path), **settings}) for name, path in measured]
    write_table(rows, out, "profile")
    print(markdown_table(rows))
    say(f"tables: {out}")


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """The row of one checkpoint; its peak of memory is right in a process that does nothing else."""
    import torch

    from lit_ghibli.inference.load import load
    from lit_ghibli.inference.profiling import machine, profile, scenes

    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    translator = load(settings["checkpoint"], device=settings["device"], tile=0, trust=settings["trust"])
    photos = scenes(settings["batch_size"], settings["size"]).to(translator.device)
    numbers = profile(translator.network, photos, warm_up=settings["warm_up"], repeats=settings["repeats"])
    translator.translate(photos)  # refuses weights that are not finite; not before, for that takes memory, too
    conditions = {key: settings[key] for key in ("size", "batch_size")}
    return {"method": settings["name"], **numbers, **conditions, **machine(translator.device)}


def measure_apart(settings: dict[str, Any]) -> dict[str, Any]:
    """`measure` in a process of its own, which shows its progress and its errors itself.

    Raises:
        UserError: It failed.
    """
    say(f"measuring {settings['name']}")
    command = [sys.executable, "-m", "lit_ghibli.commands.profile", _MEASURE]
    command.append(json.dumps({**settings, "trust": is_trusting()}))
    # In a group of its own: Ctrl-C is for this process, which ends that one.
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, process_group=0)
    if done.returncode:
        died = f"was killed by signal {-done.returncode}, as happens when memory runs out" * (done.returncode < 0)
        raise UserError(f"{settings['name']}: the process that measured it {died or 'failed; its message is above'}")
    return json.loads(done.stdout.splitlines()[-1])


def _fresh(name: str, config: DictConfig, path: Path) -> Path:
    """Write a checkpoint of a method's translator as a training would start with it.

    Raises:
        UserError: There is no such method or value, or the method has no translator.
    """
    from lightning import seed_everything

    from lit_ghibli import checkpoints

    try:
        composed = compose("train", [f"method={name}", f"seed={config.seed}", *config.overrides])
    except UserError as error:
        of = "" if str(error).startswith(f"method={name}:") else f"method={name}: "
        raise UserError(f"{of}{error.lines[0]}", *error.lines[1:]) from error
    method_config = OmegaConf.to_container(composed.method, resolve=True)
    method_class = trusted_class(method_config)
    if not hasattr(method_class, "translator"):
        raise UserError(
            f"method={name}: {method_class.__name__} paints one picture and has no network that translates others, so "
            "that there is no forward pass to measure: leave it out"
        )
    seed_everything(config.seed, verbose=False)
    method = build(method_config)
    prefix = next(prefix for prefix, module in method.named_children() if module is method.translator())
    weights = {f"{prefix}.{key}": value for key, value in method.translator().state_dict().items()}
    checkpoints.save({"state_dict": weights, checkpoints.CONFIG_KEY: {"method": method_config}}, path)
    return path


def check_settings(config: DictConfig) -> None:
    """Refuse what cannot be measured.

    Raises:
        UserError: Nothing is given, or a number of passes is none.
    """
    if not config.methods and not config.checkpoints:
        raise UserError("what is to be measured? Give method=cyclegan,pix2pix (names in conf/method) or checkpoint=RUN")
    if config.overrides and not config.methods:
        raise UserError(f"{config.overrides[0]}: values are of methods; a checkpoint has its own, give method=NAME")
    if not config.methods:
        refuse_idle("profile", config, ["seed"], "methods, whose weights it draws")
    if not config.repeats:
        raise UserError("repeats is empty: give numbers of passes, such as repeats=[5,50]")
    for count in config.repeats:
        if not isinstance(count, int) or count < 1:
            raise UserError(f"repeats must be a whole number of at least 1; got {count!r}")


if __name__ == "__main__":
    if sys.argv[1:2] == [_MEASURE]:
        try:
            print(json.dumps(measure(json.loads(sys.argv[2]))))
        except UserError as error:
            raise SystemExit(f"lit-ghibli profile: {error}") from error
    else:
        profile()
