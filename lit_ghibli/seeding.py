"""Seeds made from several numbers, and the global random states as plain values."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive_seed(*numbers: int) -> int:
    """A 63-bit seed from several whole numbers, well mixed: ``(1, 2)``, ``(2, 1)`` and ``(1, 2, 0)`` share nothing."""
    digest = hashlib.blake2b(repr([int(number) for number in numbers]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@contextmanager
def seeded(*numbers: int) -> Iterator[None]:
    """Seed torch's CPU generator from ``numbers`` inside, and leave it as it was outside."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(*numbers))  # torch.manual_seed would seed the GPUs too
        yield


def get_random_state() -> dict[str, Any]:
    """States of Python's, NumPy's and torch's generators in types that a weights-only load accepts."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore what :func:`get_random_state` gave; a CUDA state is left out where there is no GPU."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
