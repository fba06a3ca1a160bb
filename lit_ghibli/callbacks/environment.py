"""Versions of packages, code and machine, on which a run's numbers depend besides its configuration and data."""

import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import lit_ghibli
from lit_ghibli.checksums import sha256_of
from lit_ghibli.data.fingerprint import combine
from lit_ghibli.inference.profiling import machine as device_and_threads

_PACKAGE = Path(lit_ghibli.__file__).parent
_PATIENCE = 10  # seconds for git


def versions() -> dict[str, str | None]:
    """Versions of Python, of CUDA and cuDNN, and of every package that the suite requires; None of absent ones."""
    cudnn = torch.backends.cudnn.version()
    base = {"python": platform.python_version(), "cuda": torch.version.cuda, "cudnn": cudnn and str(cudnn)}
    try:
        lines = metadata.requires("lit-ghibli") or []
    except metadata.PackageNotFoundError:  # imported from a folder that nobody installed
        lines = []
    required = sorted(re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line)
    return {**base, **{name: _version(name) for name in required}, "torch": str(torch.__version__)}


def code() -> dict[str, Any]:
    """The suite itself: ``version``, ``sha256`` of its modules, and git's ``revision`` and whether that is all of it.

    ``dirty`` is True where the package or the configurations of the checkout differ from the revision; both are None
    of an installed package, and where git does not answer.
    """
    modules = sorted(path.relative_to(_PACKAGE).as_posix() for path in _PACKAGE.rglob("*.py"))
    checksum = combine((name, sha256_of(_PACKAGE / name)) for name in modules)
    return {"version": lit_ghibli.__version__, "sha256": checksum, **_revision(_PACKAGE.parent)}


def machine(device: torch.device, processes: int) -> dict[str, Any]:
    """What computes: ``device``, ``threads`` of each process on a CPU, and the number of ``processes``."""
    found = device_and_threads(device)
    return {"device": found["device"], "threads": found["threads"], "processes": processes}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _revision(checkout: Path) -> dict[str, Any]:
    # Looked for here only: an installed package may lie in some other project's checkout.
    if not (checkout / ".git").exists():
        return {"revision": None, "dirty": None}
    revision = _git(checkout, "rev-parse", "HEAD")
    changed = _git(checkout, "status", "--porcelain", "--", "lit_ghibli", "conf")
    return {"revision": revision, "dirty": None if changed is None else bool(changed)}


def _git(checkout: Path, *words: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(checkout), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
