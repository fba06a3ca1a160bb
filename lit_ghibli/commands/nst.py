"""`lit-ghibli nst`: paint the content of pictures in the style of others, one run for each picture."""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import DictConfig, OmegaConf
from PIL import Image

from lit_ghibli.commands._hydra import command, job_overrides, typed_command
from lit_ghibli.commands._output import output_folder
from lit_ghibli.commands._trainer import check_trainer, device_numbers
from lit_ghibli.commands.train import begin, make_trainer, plain_and_links
from lit_ghibli.data.image_files import FolderError, open_image
from lit_ghibli.data.image_folders import list_images
from lit_ghibli.errors import UserError
from lit_ghibli.files import write_picture
from lit_ghibli.recipes import build
from lit_ghibli.reports.grids import Cell, labelled_grid


class Job(NamedTuple):
    """One picture to paint."""

    content: Path
    styles: tuple[Path, ...]
    beta: float
    name: str


def split_betas(arguments: list[str]) -> list[str]:
    """Let ``beta=1e3,1e4`` be a list.

    A sweep of beta in Hydra's words, ``-m method.weights.style=1e3,1e4``, means the same: as separate jobs its
    pictures would share one name, and no sheet could show them side by side.

    Raises:
        UserError: Something else than beta is to be swept.
    """
    expanded, swept = [], False
    for word in arguments:
        key, _, value = word.partition("=")
        if key == "method.weights.style" and "," in value:
            key, swept = "beta", True
        expanded.append(f"beta=[{value}]" if key == "beta" and "[" not in value else word)
    rest = [word for word in expanded if word not in ("-m", "--multirun")]
    if len(rest) < len(expanded) and not swept:
        raise UserError(
            "nst sweeps beta only, as in beta=1e4,1e6, since all pictures go into one folder; sweep other values with "
            "lit-ghibli train -m experiment=nst_ghibli method.content=... method.style=..."
        )
    return rest


@command("nst", split_betas)
def nst(config: DictConfig) -> None:
    """Paint every content in every style, with every beta, into the folder ``out``; then the sheet of all.

    Of several devices each paints a share of the pictures, in a process of its own that knows of no others.
    """
    out = output_folder(config.out)
    betas = [float(beta) for beta in (config.beta if OmegaConf.is_list(config.beta) else [config.beta])]
    jobs = plan(list(config.inputs), out, betas)
    trainer = OmegaConf.to_container(config.trainer, resolve=True)
    check_trainer(trainer)
    devices = device_numbers(trainer)[: len(jobs)]
    first, step = config.share
    painter = _painter(config)
    for job in jobs[first::step]:  # what can be wrong with any of them, before the first takes its minutes
        painter(job)
    if len(devices) > 1:
        _share_out(devices, trainer)
    else:
        for number in range(first, len(jobs), step):
            job = jobs[number]
            path = out / f"{job.name}.png"
            print(f"{number + 1}/{len(jobs)} {path}", end="", flush=True)
            if path.exists() and not config.overwrite:
                print(" is there already; overwrite=true paints it again")
                continue
            print(flush=True)
            _paint(config, job, painter, out / "runs" / job.name, path)
    if len(jobs) > 1 and step == 1:
        sheet = labelled_grid(sheet_rows(jobs, out), max_side=config.sheet_side)
        write_picture(sheet, out / "sheet.png")
        print(f"sheet: {out / 'sheet.png'}")


def _share_out(devices: Sequence[int], trainer: Mapping[str, Any]) -> None:
    """Run this very command once for each device, on its share of the pictures.

    Raises:
        UserError: One has failed, which has said why; the others have painted theirs.
    """
    on_cpu = trainer.get("accelerator") == "cpu" or not _has_gpu()
    threads = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(devices)))}
    command = [sys.executable, "-m", "lit_ghibli.commands.nst", *sys.argv[1:], "trainer.strategy=auto"]
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


def plan(inputs: Sequence[str], out: Path, betas: Sequence[float]) -> list[Job]:
    """What to paint: the first input is the content, the others are styles; files are blended, a folder's are not.

    Raises:
        UserError: An input is missing, a style folder stands beside other styles, or two pictures would have one name.
    """
    if len(inputs) < 2:
        raise UserError("give a content and a style: lit-ghibli nst photo.jpg painting.jpg --out out/")
    paths = [Path(path) for path in inputs]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise FolderError(f"no such file or folder: {', '.join(missing)}")
    first, *rest = paths
    if any(path.is_dir() for path in rest) and len(rest) > 1:
        raise UserError(f"styles are one folder or files, which are blended; got {' '.join(map(str, rest))}")
    styles = [(style,) for style in _files(rest[0], out)] if rest[0].is_dir() else [tuple(rest)]
    jobs = [
        Job(content, blend, beta, _name(content, blend) + (f"_beta{beta:g}" if len(betas) > 1 else ""))
        for content in (_files(first, out) if first.is_dir() else [first])
        for blend in styles
        for beta in betas
    ]
    if not jobs:
        raise UserError(f"{' '.join(inputs)}: no pictures but those in --out {out}, where what is painted goes")
    names = [job.name for job in jobs]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"several pictures would be written to {out / twins[0]}.png: rename files or values given twice"
        )
    return jobs


def sheet_rows(jobs: Sequence[Job], out: Path) -> list[list[Cell]]:
    """Rows of the contact sheet: contents by styles, or, of several betas, pairs by betas."""
    rows: dict[Any, list[Cell]] = {}
    sweeping = len({job.beta for job in jobs}) > 1
    if not sweeping:
        styles = [(_title(blend), _read(*blend)) for blend in dict.fromkeys(job.styles for job in jobs)]
        rows["styles"] = [("content", np.full_like(styles[0][1], 255)), *styles]
    for job in jobs:
        painted = _read(out / f"{job.name}.png")
        if sweeping:
            row = rows.setdefault(job[:2], [("content", _read(job.content)), ("style", _read(*job.styles))])
            row.append((f"beta {job.beta:g}", painted))
        else:
            row = rows.setdefault(job.content, [("content", _read(job.content))])
            row.append((_title(job.styles), painted))
    return list(rows.values())


def _painter(config: DictConfig) -> Callable[..., Any]:
    """Makes the method for one picture; the network and the styles' Gram matrices are made once for all."""
    recipe = OmegaConf.to_container(config.method, resolve=True)
    vgg = functools.cache(build(recipe.pop("vgg")))
    make = build(recipe, _partial_=True)
    memory: dict = {}

    def paint(job: Job) -> Any:
        weights = {**recipe["weights"], "style": job.beta}
        method = make(content=job.content, style=list(job.styles), weights=weights, vgg=vgg)
        method.gram_memory = memory
        return method

    return paint


def _paint(config: DictConfig, job: Job, painter: Callable[..., Any], run: Path, path: Path) -> None:
    """Run one picture to its end, which writes ``path``, from where an interrupted call has left it."""
    from lit_ghibli import checkpoints  # here, so that --help answers at once
    from lit_ghibli.callbacks import run_owner
    from lit_ghibli.callbacks.run_record import RunRecord

    config = config.copy()
    config.update({"run_dir": str(run), "beta": job.beta, "inputs": [str(file) for file in (job.content, *job.styles)]})
    config.method.weights.style = job.beta
    config.callbacks.frames.result = str(path)
    resolved, links = plain_and_links(config)
    with run_owner.owning(run):
        last = run / "checkpoints" / "last.ckpt"
        if last.is_file() and checkpoints.load(last, mmap=True)[checkpoints.CONFIG_KEY] != resolved:
            for part in ("checkpoints", "frames"):  # of a call with other settings
                shutil.rmtree(run / part, ignore_errors=True)
        begin(config.seed)
        method = painter(job)
        record = RunRecord(run, resolved, links, typed_command("nst"), job_overrides())
        trainer = make_trainer(config, resolved, record)
        trainer.fit(method, build(config.data), ckpt_path=last if last.is_file() else None)
        if method.iteration < sum(iterations for _, iterations in method.levels):
            raise UserError(f"{path}: stopped before its end; the same command goes on with it")
        shutil.rmtree(run / "checkpoints")


def _files(folder: Path, out: Path) -> list[Path]:
    """The pictures of a folder, those of earlier calls excepted."""
    return [path for path in list_images(folder) if out.resolve() not in path.resolve().parents]


def _title(styles: Sequence[Path]) -> str:
    return "+".join(style.stem for style in styles)


def _name(content: Path, styles: Sequence[Path]) -> str:
    return f"{content.stem}_{_title(styles)}"


def _read(*paths: Path) -> np.ndarray:
    """A picture, or several of one height side by side."""
    pictures = [open_image(path) for path in paths]
    height = min(picture.height for picture in pictures)
    sizes = [(max(1, round(picture.width * height / picture.height)), height) for picture in pictures]
    resized = [picture.resize(size, Image.Resampling.LANCZOS) for picture, size in zip(pictures, sizes, strict=True)]
    return np.hstack([np.asarray(picture) for picture in resized])


if __name__ == "__main__":
    nst()
