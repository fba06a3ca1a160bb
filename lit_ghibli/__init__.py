"""Photographs into Studio Ghibli and anime pictures, with PyTorch Lightning and Hydra: see `load` and `train`."""

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["load", "train"]  # whose types are in __init__.pyi

try:
    __version__ = version("lit-ghibli")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0.0.0"

# Read by torch at its first large allocation. Memory of 32 MiB and more is handed out anew for each tensor: in pages of
# 2 MiB that costs a quarter of what it does in pages of 4 KiB, which is more than many layers compute for.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_PLACES = {"load": ("inference.load", "load"), "train": ("commands.train", "train_here")}


def __getattr__(name: str) -> Any:
    """The public functions, imported when first asked for: torch takes seconds, and `--help` needs none of it."""
    if name not in _PLACES:
        raise AttributeError(f"module 'lit_ghibli' has no attribute '{name}'")
    module, attribute = _PLACES[name]
    return globals().setdefault(name, getattr(import_module(f"lit_ghibli.{module}"), attribute))
