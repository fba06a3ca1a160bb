"""Whether a method trains on this device as it does in plain float32, goes on exactly, and trains under DDP."""

import argparse
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from methods import EPOCHS, STEPS, compile_networks, configure, plain
from plan import Job

from lit_ghibli import checkpoints
from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.commands.train import prepare
from lit_ghibli.recipes import build

# Of the first step, in bfloat16, which has 8 bits, beside float32: afterwards trainings part anyhow
RELATIVE, ABSOLUTE = 0.05, 0.02  # of each loss
OF_PICTURES = 0.03  # mean absolute difference in [-1, 1]
OF_DDP = 1e-4  # of weights, after five steps
STEADY = 3  # steps after which nothing is compiled or measured any more


class Record(Callback):
    """Losses of every step, the first step's picture, and where steps after the third wait for the GPU."""

    def __init__(self) -> None:
        self.losses: list[dict[str, torch.Tensor]] = []
        self.picture: torch.Tensor | None = None
        self.waits: set[str] = set()
        self.backend = "no process group"
        self._caught = None

    def on_train_start(self, *_: Any) -> None:
        """Draw from here on as every other training, which DDP's beginning disturbs; note what processes talk by."""
        torch.manual_seed(0)  # a resumed training's states are restored after this
        if torch.distributed.is_initialized():
            self.backend = torch.distributed.get_backend()

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Listen to what waits."""
        if trainer.strategy.root_device.type == "cuda" and len(self.losses) >= STEADY:
            self._listening = warnings.catch_warnings(record=True)
            self._caught = self._listening.__enter__()
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, outputs: dict[str, Any], *_: Any) -> None:
        """Note what the step has given."""
        if self._caught is not None:
            torch.cuda.set_sync_debug_mode("default")
            self._listening.__exit__(None, None, None)
            synchronizing = [each for each in self._caught if "synchroniz" in str(each.message)]
            self.waits |= {f"{Path(each.filename).name}:{each.lineno}" for each in synchronizing}
            self._caught = None
        self.losses.append({name: loss.clone() for name, loss in outputs["losses"].items()})
        if self.picture is None and "output" in outputs:
            self.picture = outputs["output"].float().clone()


def train(
    job: Job, args: argparse.Namespace, folder: Path, *words: str, fast: bool = False, resume: Path | None = None
) -> Record:
    """Ten steps, or those after ``resume``; checkpoints are in ``folder``."""
    config = configure(job.what, args, f"run_dir={folder}", *words)
    method, datamodule, *_ = prepare(config)
    for flags in (torch.backends.cuda.matmul, torch.backends.cudnn):
        flags.allow_tf32 = fast
    if fast:
        method.to(memory_format=torch.channels_last)
        compile_networks(method.networks(), args)
    record = Record()
    trainer = build(
        config.trainer,
        callbacks=[record, RunCheckpoints(folder, every_n_batches=1000, keep_epochs=-1)],
        logger=False,
        enable_progress_bar=False,
        plugins=[checkpoints.RunCheckpointIO(plain(config))],
        default_root_dir=str(folder),
    )
    trainer.fit(method, datamodule, ckpt_path=resume)
    return record


def check(job: Job, args: argparse.Namespace, note: Callable[[dict[str, Any]], None]) -> None:
    """Run all checks of a method and note what each finds."""
    import torch._inductor.config as inductor

    inductor.fallback_random = True  # dropout then draws as it does uncompiled
    warnings.filterwarnings("ignore", module="lightning")

    def say(name: str, ok: bool, said: str) -> None:
        note({**job._asdict(), "check": name, "ok": bool(ok), "said": said})

    with tempfile.TemporaryDirectory() as place:
        exact = ["+trainer.deterministic=warn"]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            reference = train(job, args, Path(place, "straight"), *exact)
        unsure = {str(each.message).split(" ")[0] for each in caught if "deterministic" in str(each.message)}
        say("ten steps in float32", len(reference.losses) == EPOCHS * STEPS and _finite(reference), _last(reference))

        train(job, args, Path(place, "resumed"), *exact, resume=Path(place, "straight", "epoch_0001.ckpt"))
        apart = _difference(place, "straight/epoch_0002.ckpt", "resumed/epoch_0002.ckpt")
        why = f"; without a deterministic form: {', '.join(sorted(unsure))}" if unsure else ""
        say("resumed as if never stopped", apart == 0 or (unsure and apart < OF_DDP), f"differs by {apart:g}{why}")

        torch.use_deterministic_algorithms(False)
        fast = train(job, args, Path(place, "fast"), "trainer.precision=bf16-mixed", fast=True)
        say("ten steps in bfloat16, compiled, channels last", len(fast.losses) == 10 and _finite(fast), _last(fast))
        chosen = job.what == "vqi2i"  # rounding chooses other codes, and another code is another picture
        if not chosen:
            say("its first losses are float32's", *_alike(fast, reference))
        if reference.picture is not None and not chosen:
            apart = (fast.picture - reference.picture).abs().mean().item()
            say("its first picture is float32's", apart < OF_PICTURES, f"mean difference {apart:.4f} in [-1, 1]")
        if args.device == "cuda":
            say("no step waits for the GPU", not fast.waits, ", ".join(sorted(fast.waits)) or "none does")

        ddp = ["+trainer.strategy._target_=lit_ghibli.training.exchange.PhasewiseDDP", "trainer.max_epochs=1"]
        together = train(job, args, Path(place, "ddp"), *exact, *ddp)
        apart = _difference(place, "straight/epoch_0001.ckpt", "ddp/epoch_0001.ckpt")
        expected = "nccl" if args.device == "cuda" else "gloo"
        said = f"{together.backend}, differs by {apart:g}"
        say("DDP of one process", apart < OF_DDP and expected in together.backend, said)


def _finite(record: Record) -> bool:
    return all(loss.isfinite().item() for losses in record.losses for loss in losses.values())


def _last(record: Record) -> str:
    return ", ".join(f"{name} {loss.item():.3g}" for name, loss in record.losses[-1].items())


def _alike(fast: Record, reference: Record) -> tuple[bool, str]:
    pairs = {name: (fast.losses[0][name].item(), loss.item()) for name, loss in reference.losses[0].items()}
    worst = max(
        pairs, key=lambda name: abs(pairs[name][0] - pairs[name][1]) / (ABSOLUTE + RELATIVE * abs(pairs[name][1]))
    )
    ours, exact = pairs[worst]
    return abs(ours - exact) <= ABSOLUTE + RELATIVE * abs(
        exact
    ), f"furthest: {worst} {ours:.4g}, in float32 {exact:.4g}"


def _difference(place: str, *files: str) -> float:
    """The largest difference between weights of two checkpoints."""
    one, other = (checkpoints.load(Path(place, file))["state_dict"] for file in files)
    numbers = [name for name, value in one.items() if value.is_floating_point()]
    return max((one[name] - other[name]).abs().max().item() for name in numbers)
