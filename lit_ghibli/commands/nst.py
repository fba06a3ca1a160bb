"""`lit-ghibli nst`: paint the content of pictures in the style of others, by optimisation, one run for each picture.

With ``checkpoint=`` a network that takes any picture's style paints instead, in one pass.
"""

import functools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lit_ghibli.commands._hydra import command, job_overrides, typed_command
from lit_ghibli.commands._idle import refuse_idle, refuse_idle_words
from lit_ghibli.commands._made_by import made_by, refuse_others
from lit_ghibli.commands._output import output_folder
from lit_ghibli.commands._style_jobs import Job, plan, sheet_rows
from lit_ghibli.commands._trainer import check_trainer, device_numbers
from lit_ghibli.commands.train import begin, make_trainer, plain_and_links
from lit_ghibli.data.image_files import open_image, picture_size
from lit_ghibli.errors import UserError, one_line, say
from lit_ghibli.files import write_picture
from lit_ghibli.inference.picture_metadata import said_of, software_of
from lit_ghibli.recipes import build
from lit_ghibli.reports.grids import labelled_grid

COLUMNS = ("beta", "strength", "size")  # of which several values make columns of the sheet
_MEANT = {"method.weights.style": "beta", "method.size": "size"}
_OF_OPTIMIZATION = "the optimisation, in whose place checkpoint= paints"
_OPTIMIZATION = r"(method\b(?!\.(size|style_weights)=)|experiment|preset|callbacks|logger|data|metrics)\b"


def split_values(arguments: list[str]) -> list[str]:
    """Let ``beta=1e3,1e4`` be a list, and likewise what else makes columns of the sheet.

    A sweep in Hydra's words, ``-m method.weights.style=1e3,1e4``, means the same: as separate jobs its pictures would
    share one name, and no sheet could show them side by side.

    Raises:
        UserError: Something else is to be swept.
    """
    expanded, swept = [], False
    for word in arguments:
        key, _, value = word.partition("=")
        if key in _MEANT and "," in value:
            key, swept = _MEANT[key], True
        expanded.append(f"{key}=[{value}]" if key in COLUMNS and "[" not in value else word)
    rest = [word for word in expanded if word not in ("-m", "--multirun")]
    if len(rest) < len(expanded) and not swept:
        raise UserError(
            "nst sweeps beta, strength and size only, as in beta=1e4,1e6, since all pictures go into one folder; sweep "
            "other values with lit-ghibli train -m experiment=nst_ghibli method.content=... method.style=..."
        )
    return rest


@command("nst", split_values)
def nst(config: DictConfig) -> None:
    """Paint every content in every style, or chosen pairs, into the folder ``out``; then the sheet of all.

    Of several devices each optimises a share of the pictures, in a process of its own that knows of no others.
    """
    out = output_folder(config.out)
    columns = {key: list(config[key]) if OmegaConf.is_list(config[key]) else [config[key]] for key in COLUMNS}
    if config.checkpoint:
        refuse_idle("nst", config, ["beta", "content_mask", "style_mask", "seed"], _OF_OPTIMIZATION)
        refuse_idle_words(_OPTIMIZATION, _OF_OPTIMIZATION)
    else:
        refuse_idle("nst", config, ["strength"], "checkpoint=arbitrary and of runs, and here it is beta")
    jobs = plan(list(config.inputs), config.pairs, out, columns)
    in_sheet = len(jobs) > 1 or bool(config.pairs)
    if not in_sheet:
        refuse_idle("nst", config, ["sheet_side"], "several pictures")
    trainer = OmegaConf.to_container(config.trainer, resolve=True)
    check_trainer(trainer)
    devices = device_numbers(trainer)
    if config.checkpoint and len(devices) > 1:
        raise UserError(f"trainer.devices={trainer['devices']}: that is of {_OF_OPTIMIZATION}: leave it out")
    first, step = config.share
    for job in jobs[first::step]:
        if not config.overwrite and (path := out / f"{job.name}.png").exists():
            refuse_others({path: software_of(path)}, _software(config, job))
    prepare = _network(config) if config.checkpoint else _optimization(config, out)
    for job in jobs[first::step]:  # what can be wrong with any of them, before the first takes its minutes
        prepare(job)
    if len(devices := devices[: len(jobs)]) > 1:
        _share_out(devices, trainer)
    else:
        for number in range(first, len(jobs), step):
            job = jobs[number]
            path = out / f"{job.name}.png"
            print(one_line(f"{number + 1}/{len(jobs)} {path}"), end="", flush=True)
            if path.exists() and not config.overwrite:
                print(" is there already; overwrite=true paints it again")
                continue
            print(_resizing(job), flush=True)
            started = time.perf_counter()
            prepare(job)(path)
            write_picture(open_image(path), path, exif=said_of(_software(config, job)))
            print(f"{one_line(str(path))}: {time.perf_counter() - started:.1f} s", flush=True)
    if in_sheet and step == 1:
        sheet = labelled_grid(sheet_rows(jobs, out, bool(config.pairs)), max_side=config.sheet_side)
        write_picture(sheet, out / "sheet.png")
        say(f"sheet: {out / 'sheet.png'}")


def _software(config: DictConfig, job: Job) -> str:
    """What is noted in a picture of what makes it."""
    from lit_ghibli.inference.load import find_checkpoint, is_style  # here, so that --help answers at once

    recipe = OmegaConf.to_container(config.method, resolve=True)
    if not config.checkpoint:
        words = {key: job.values[key] for key in ("beta", "size")}
        return made_by(words, [job.content, *job.styles], [recipe, config.seed])
    network = [] if is_style(config.checkpoint) else [find_checkpoint(config.checkpoint)]
    words = {"checkpoint": Path(config.checkpoint).name, **{key: job.values[key] for key in ("strength", "size")}}
    return made_by(words, [job.content, *job.styles, *network], recipe["style_weights"])


def _resizing(job: Job) -> str:
    """What is said where the picture has another size than the content."""
    long_side, size = max(picture_size(job.content)), job.values["size"]
    if not size or size == long_side:
        return ""
    return f" ({'reduced' if size < long_side else 'enlarged'} from {long_side} to {size} pixels of the long side)"


def _share_out(devices: Sequence[int], trainer: Mapping[str, Any]) -> None:
    """Run this very command once for each device, on its share of the pictures.

    Raises:
        UserError: One has failed, which has said why; the others have painted theirs.
    """
    on_cpu = trainer.get("accelerator") == "cpu" or not _has_gpu()
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(devices)))}
    command = [sys.executable, "-m", "lit_ghibli.commands.nst", *sys.argv[1:], "~trainer.strategy"]
    processes = []
    try:
        for number, device in enumerate(devices):
            share = [f"share=[{number},{len(devices)}]", f"trainer.devices={1 if on_cpu else [device]}"]
            processes.append(subprocess.Popen([*command, *share], env=threads | os.environ))
        failed = sum(process.wait() != 0 for process in processes)
    finally:
        for process in processes:
            process.terminate()
    if failed:
        raise UserError(f"{failed} of {len(devices)} processes failed, as they say above; the same command goes on")


def _has_gpu() -> bool:
    import torch  # here, so that --help answers at once

    return torch.cuda.is_available()


def _network(config: DictConfig) -> Callable[[Job], Callable[[Path], Any]]:
    """Prepares to paint a picture with a network that takes any picture's style."""
    # Here, so that --help answers at once.
    from lit_ghibli.data.single_pictures import load_pictures, resize, scaled_size
    from lit_ghibli.images import to_picture
    from lit_ghibli.inference.load import open_model

    device = "cpu" if config.trainer.accelerator == "cpu" else "auto"
    translator = open_model(config.checkpoint, device).translator

    def prepare(job: Job) -> Callable[[Path], Any]:
        in_style = translator.with_style(job.styles, config.method.style_weights, strength=job.values["strength"])
        (content,) = load_pictures([job.content])
        resized = resize(content, scaled_size(content, job.values["size"], 1)).clamp(-1, 1)
        return lambda path: write_picture(to_picture(in_style(resized)), path)

    return prepare


def _optimization(config: DictConfig, out: Path) -> Callable[[Job], Callable[[Path], Any]]:
    """Prepares to optimise a picture; the network and the styles' Gram matrices are made once for all."""
    recipe = OmegaConf.to_container(config.method, resolve=True)
    vgg = functools.cache(build(recipe.pop("vgg")))
    make = build(recipe, _partial_=True)
    memory: dict = {}

    def prepare(job: Job) -> Callable[[Path], Any]:
        weights = {**recipe["weights"], "style": float(job.values["beta"])}
        size = job.values["size"]
        begin(config.seed)
        method = make(content=job.content, style=list(job.styles), weights=weights, size=size, vgg=vgg)
        method.gram_memory = memory
        return lambda path: _optimize(config, job, method, out / "runs" / job.name, path)

    return prepare


def _optimize(config: DictConfig, job: Job, method: Any, run: Path, path: Path) -> None:
    """Run one picture to its end, which writes ``path``, from where an interrupted call has left it."""
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.callbacks import run_owner
    from lit_ghibli.callbacks.run_record import RunRecord

    config = config.copy()
    inputs = [str(file) for file in (job.content, *job.styles)]
    config.update({"run_dir": str(run), "inputs": inputs, "pairs": None, **job.values})
    config.method.weights.style, config.method.size = job.values["beta"], job.values["size"]
    config.callbacks.frames.result = str(path)
    resolved, links = plain_and_links(config)
    with run_owner.owning(run):
        last = run / "checkpoints" / "last.ckpt"
        if last.is_file() and checkpoints.load(last, mmap=True)[checkpoints.CONFIG_KEY] != resolved:
            for part in ("checkpoints", "frames"):  # of a call with other settings
                shutil.rmtree(run / part, ignore_errors=True)
        record = RunRecord(run, resolved, links, typed_command("nst"), job_overrides())
        trainer = make_trainer(config, resolved, record)
        trainer.fit(method, build(config.data), ckpt_path=last if last.is_file() else None)
        if method.iteration < sum(iterations for _, iterations in method.levels):
            raise UserError(f"{path}: stopped before its end; the same command goes on with it")
        shutil.rmtree(run / "checkpoints")


if __name__ == "__main__":
    nst()
