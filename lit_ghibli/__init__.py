"""Photographs into Studio Ghibli and anime pictures, with PyTorch Lightning and Hydra."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lit-ghibli")
except PackageNotFoundError:  # running from a source tree that is not installed
    __version__ = "0.0.0"
