"""Training steps and translations in several precisions, compiled and not, one of each in turn, beside the peer's."""

import argparse
import sys
import time
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Trainer
from methods import compile_networks, configure, pictures
from plan import KEYS, PEERS, STYLE, Job
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lit_ghibli.errors import UserError
from lit_ghibli.methods.base import Method
from lit_ghibli.recipes import build

MIB = 2**20
LARGE = 1024  # pixels, of photographs that are translated


class Variant(NamedTuple):
    """How one side computes.

    Attributes:
        name: In the table.
        precision: Of Lightning.
        mode: Of ``torch.compile``; ``""`` for its default, None to leave networks as they are.
        joining: One pass of a network in place of several.
    """

    name: str
    precision: str = "32-true"
    mode: str | None = None
    joining: bool = False


FLOAT32 = Variant("float32")
EAGER = [FLOAT32, Variant("bfloat16", "bf16-mixed"), Variant("bfloat16, passes joined", "bf16-mixed", None, True)]
COMPILED = [
    FLOAT32,
    Variant("bfloat16, compiled", "bf16-mixed", ""),
    Variant("bfloat16, CUDA graphs", "bf16-mixed", "reduce-overhead"),
]


class Side:
    """A function that is timed, with its memory.

    Args:
        make: Makes the function, which may then be called again and again.
        args: Of the command line.
    """

    def __init__(self, make: Callable[[], Callable[[], object]], args: argparse.Namespace) -> None:
        self.cuda, self.seconds = args.device == "cuda", []
        self.calls, warm_up = (1, 1) if args.tiny or not self.cuda else (5, 4)  # calls between two looks at the clock
        before = self._allocated()
        self.function = make()
        for _ in range(warm_up):
            self.function()
        resident = self._allocated()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        self.function()
        peak = torch.cuda.max_memory_allocated() if self.cuda else 0
        self.mib = round((resident - before + peak - resident) / MIB)

    def time(self) -> None:
        """Add the seconds of a call."""
        self._allocated()
        start = time.perf_counter()
        for _ in range(self.calls):
            self.function()
        self._allocated()
        self.seconds.append((time.perf_counter() - start) / self.calls)

    def _allocated(self) -> int:
        if not self.cuda:
            return 0
        torch.cuda.synchronize()
        return torch.cuda.memory_allocated()


def measure(job: Job, args: argparse.Namespace, note: Callable[[dict[str, Any]], None]) -> None:
    """Note the timings of a job: all that needs no compiling first."""
    if args.device == "cuda":
        torch.backends.cudnn.benchmark = True
    repeats = 2 if args.tiny else 10
    if job.kind == "machine":
        note({**job._asdict(), **machine(args)})
        return
    workloads = style_workloads(job, args) if job.what == "style" else method_workloads(job, args)
    for name, sides, flop in workloads:
        made: dict[str, Side] = {}
        for variant, make in sides.items():
            try:
                made[variant] = Side(make, args)
            except UserError:  # of passes that cannot be joined
                continue
            except Exception as error:
                said = f"{name}, {variant}: {type(error).__name__}: {str(error)[:200]}"
                note({**job._asdict(), "error": said})
        for _ in range(repeats):
            for side in made.values():
                side.time()
        for variant, side in made.items():
            result = {"workload": name, "variant": variant, "seconds": side.seconds, "mib": side.mib, "flop": flop}
            note({**job._asdict(), **result})


def machine(args: argparse.Namespace) -> dict[str, Any]:
    """Its name, versions, and the operations a second of large products of matrices."""
    side, peaks = (64 if args.tiny else 8192 if args.device == "cuda" else 512), {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        left, right = (torch.randn(side, side, device=args.device, dtype=dtype) for _ in range(2))
        product = Side(lambda left=left, right=right: partial(torch.mm, left, right), args)
        for _ in range(5):
            product.time()
        peaks[name] = 2 * side**3 / min(product.seconds)
    device = torch.cuda.get_device_name() if args.device == "cuda" else "CPU"
    shown = ", ".join(f"{name} {peak / 1e12:.3g}" for name, peak in peaks.items())
    text = f"{device}, torch {torch.__version__}; products of matrices, TFLOP/s: {shown}"
    return {"peaks": peaks, "text": text}


def method_workloads(job: Job, args: argparse.Namespace) -> list[tuple[str, dict[str, Callable], int]]:
    """A method's step and its translation, first what needs no compiling."""
    config = configure(job.what, args)
    batch = pictures(config, job.batch, args.device)
    flop = count(lambda: stand_in(config, FLOAT32, args), batch)
    peer = {"peer, float32": partial(peer_step, job, args, batch)} if peer_folder(job, args) else {}

    def steps(variants: list[Variant]) -> dict[str, Callable]:
        return {each.name: partial(step_of, config, each, args, batch) for each in variants}

    side = config.data.crop_size
    name = f"{job.what}, step, {side} px"
    translation = f"{job.what}, translation, {side} px"
    translator = partial(translator_of, config, args)
    workloads = [
        (name, {**steps(EAGER), **peer}, flop),
        (f"{name}, compiled", steps(COMPILED), flop),
        translation_workload(translation, translator, batch["photo"], args),
    ]
    if job.batch == 1 and not args.tiny:
        large = torch.rand(1, 3, LARGE, LARGE, device=args.device) * 2 - 1
        workloads.append(translation_workload(f"{job.what}, translation, {LARGE} px", translator, large, args))
    return workloads


def style_workloads(job: Job, args: argparse.Namespace) -> list[tuple[str, dict[str, Callable], int]]:
    """The network of the shipped styles at the size that they paint, and a whole photograph with all around it."""
    from lit_ghibli.inference.styles import load_style

    height, width = (32, 48) if args.tiny else (512, 768)
    photo = torch.rand(job.batch, 3, height, width, device=args.device) * 2 - 1
    network = lambda: load_style(STYLE, args.device).network  # noqa: E731
    workloads = [translation_workload(f"style, network, {width}x{height}", lambda: network().paint, photo, args)]
    height, width = (48, 64) if args.tiny else (3000, 4000)
    large = (torch.rand(job.batch, 3, height, width, device=args.device) * 255).to(torch.uint8)
    whole = {"float32": lambda: partial(_without_graph, network(), large, nullcontext())}
    return [*workloads, (f"style, photograph of {width}x{height}", whole, 0)]


def translation_workload(
    name: str, make: Callable[[], nn.Module], photo: torch.Tensor, args: argparse.Namespace
) -> tuple[str, dict[str, Callable], int]:
    """A network's pass in each way."""

    def prepared(variant: Variant) -> Callable[[], object]:
        network = make().eval().to(args.device)
        if variant is not FLOAT32:
            network.to(memory_format=torch.channels_last)
        if variant.mode is not None:
            compile_networks({"network": network}, args, variant.mode or None)
        bits = torch.autocast(args.device, torch.bfloat16, enabled=variant.precision == "bf16-mixed")
        return partial(_without_graph, network, photo, bits)

    network = make().eval().to(args.device)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(photo)
    variants = [*EAGER[:2], *COMPILED[1:]]
    return name, {each.name: partial(prepared, each) for each in variants}, counter.get_total_flops()


def _without_graph(network: nn.Module, photo: torch.Tensor, bits: AbstractContextManager) -> torch.Tensor:
    torch.compiler.cudagraph_mark_step_begin()
    with torch.no_grad(), bits:
        return network(photo)


def stand_in(config: Any, variant: Variant, args: argparse.Namespace) -> Method:
    """A method with what its step asks of a trainer, and no loop around it."""
    method = build(config.method, metrics=None).to(args.device)
    if variant is not FLOAT32:
        method.to(memory_format=torch.channels_last)
    if variant.joining:
        method.join_passes()
    trainer = Trainer(
        accelerator=args.device.replace("cuda", "gpu"), devices=1, precision=variant.precision, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.strategy.connect(method)
    method.trainer = trainer
    method.setup("fit")
    if variant.mode is not None:
        compile_networks(method.networks(), args, variant.mode or None)
    trainer.strategy.setup_optimizers(trainer)
    trainer.fit_loop.max_batches = 1000
    method.log_dict = types.MethodType(lambda *_, **__: None, method)
    return method


def step_of(config: Any, variant: Variant, args: argparse.Namespace, batch: dict[str, Any]) -> Callable[[], object]:
    """A function that makes a training step."""
    method = stand_in(config, variant, args)

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with method.trainer.precision_plugin.train_step_context():
            method.training_step(batch, 0)

    return step


def translator_of(config: Any, args: argparse.Namespace) -> nn.Module:
    """A method's network that translates."""
    return build(config.method, metrics=None).translator()


def count(make: Callable[[], Method], batch: dict[str, Any]) -> int:
    """Operations of a step, those of convolutions and products."""
    method, counter = make(), FlopCounterMode(display=False)
    with counter:
        method.training_step(batch, 0)
    return counter.get_total_flops()


def peer_folder(job: Job, args: argparse.Namespace) -> Path | None:
    """Where the peer's code is, if it was given and this is no try."""
    return None if args.tiny or job.what not in PEERS else getattr(args, PEERS[job.what])


def peer_step(job: Job, args: argparse.Namespace, batch: dict[str, Any]) -> Callable[[], object]:
    """The peer's step on the same pictures; without an option of it, in float32."""
    folder = peer_folder(job, args)
    sys.path[:0] = [str(folder.resolve()), str(Path(__file__).resolve().parents[1] / "throughput")]
    from contests import METHODS as CONTESTS

    peer = CONTESTS[job.what].peer(args)
    shown = [batch[key] for key in KEYS.get(job.what, ("photo", "anime"))]
    return partial(peer.step, *shown)
