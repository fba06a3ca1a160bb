"""Where the processor time of one training step goes, on one thread, by kinds of operations.

Gradients of a convolution to its input and to its weight are computed one after the other, to be timed apart.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lit_ghibli.networks.kernels import winograd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "gpu"))
from methods import configure, pictures
from plan import METHODS
from timings import FLOAT32, stand_in

FORWARD, TO_INPUT, TO_WEIGHT = "convolutions forward", "their gradients to the input", "to the weight"
KINDS = (FORWARD, TO_INPUT, TO_WEIGHT, "other products", "norm", "padding", "optimiser", "all else")
PRODUCTS = ("mm", "addmm", "bmm", "baddbmm")
NORMS = ("native_batch_norm", "native_group_norm", "native_layer_norm", "var_mean", "_batch_norm", "cudnn_batch_norm")


class Shares(TorchDispatchMode):
    """Seconds of processor time by kind of operation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.inside: str | None = None

    def __torch_dispatch__(self, operation: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Run and time an operation."""
        name = operation.overloadpacket.__name__
        if self.inside is None and name == "convolution_backward":
            to_input, *to_parameters = args[-1]
            first = self._timed(TO_INPUT, operation, *args[:-1], [True, False, False])[0] if to_input else None
            if not any(to_parameters):
                return first, None, None
            rest = self._timed(TO_WEIGHT, operation, *args[:-1], [False, *to_parameters])
            return first, *rest[1:]
        return self._timed(self.inside or kind_of(name), operation, *args, **(kwargs or {}))

    def _timed(self, kind: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
        begun = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            self.seconds[kind] += time.thread_time() - begun

    @contextmanager
    def all_as(self, kind: str) -> Iterator[None]:
        """Whatever is computed inside is of one kind."""
        self.inside, before = kind, self.inside
        try:
            yield
        finally:
            self.inside = before


def kind_of(name: str) -> str:
    """Of an operation by itself."""
    if name == "convolution":
        return FORWARD
    if name.rstrip("_") in PRODUCTS:
        return "other products"
    if name.removesuffix("_backward") in NORMS:
        return "norm"
    if "pad" in name:
        return "padding"
    return "optimiser" if "adam" in name or name.startswith("_foreach") else "all else"


def watch_winograd(shares: Shares) -> None:
    """Let Winograd's passes, which consist of many operations, count as the convolutions that they are."""
    forward, backward = winograd._forward, winograd._backward

    def watched_forward(*args: Any) -> torch.Tensor:
        with shares.all_as(FORWARD):
            return forward(*args)

    def watched_backward(*args: Any) -> tuple[torch.Tensor | None, ...]:
        *tensors, (to_input, to_weight) = args
        found: list[torch.Tensor | None] = [None, None]
        for place, (needed, kind) in enumerate(((to_input, TO_INPUT), (to_weight, TO_WEIGHT))):
            if needed:
                with shares.all_as(kind):
                    found[place] = backward(*tensors, (place == 0, place == 1))[place]
        return tuple(found)

    winograd._forward, winograd._backward = watched_forward, watched_backward


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("methods", nargs="*", default=[name for name in METHODS if name != "vqi2i"])
    parser.add_argument("--tiny", action="store_true")
    args = argparse.Namespace(**vars(parser.parse_args()), device="cpu")
    torch.set_num_threads(1)
    shares = Shares()
    watch_winograd(shares)
    print("| method | s |", " | ".join(KINDS), "| between operations |", flush=True)
    print("|---|--:|", "--:|" * (len(KINDS) + 1), sep="")
    for name in args.methods:
        config = configure(name, args)
        step = partial(stand_in(config, FLOAT32, args).training_step, pictures(config, 1, "cpu"), 0)
        step()  # which also makes the states of optimisers
        shares.seconds.clear()
        begun = time.thread_time()
        with shares:
            step()
        whole = time.thread_time() - begun
        parts = [shares.seconds[kind] for kind in KINDS]
        cells = [f"{100 * part / whole:.0f} %" for part in (*parts, whole - sum(parts))]
        print(f"| {name} | {whole:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
