import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
TINY = [
    "trainer=cpu",
    "data=scenes",
    "data.count=7",
    "data.test_count=2",
    "data.size=32",
    "data.crop_size=28",
    "method.generator.base_channels=4",
    "method.generator.num_blocks=1",
    "method.discriminator.base_channels=4",
    "method.discriminator.num_layers=2",
    "callbacks.image_grid.num_images=1",
    "callbacks.progress_bar.refresh_rate=0",
]


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["LIT_GHIBLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make a run take a second."""
    return list(TINY)


def run_cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run `python -m lit_ghibli` as a user would, with the tests' helper modules importable."""
    variables = {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **environment}
    return subprocess.run(
        [sys.executable, "-m", "lit_ghibli", *arguments],
        cwd=cwd,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="session")
def cli():
    return run_cli
