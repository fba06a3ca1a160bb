import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent
SCENES = ["data.count=7", "data.test_count=2", "data.size=32"]
SMALL = ["callbacks.image_grid.num_images=1", "callbacks.progress_bar.refresh_rate=0", "trainer=cpu"]
PATCHGAN = ["method.discriminator.base_channels=4", "method.discriminator.num_layers=2"]
# What makes a run of each method take a second. A method without an entry fails the integration tests.
TINY = {
    "cyclegan": [
        "data=scenes",
        "data.crop_size=28",
        "method.generator.base_channels=4",
        "method.generator.num_blocks=1",
        "method.pool_size=3",
        *PATCHGAN,
    ],
    "pix2pix": [
        "data=scene_pairs",
        "data.crop_size=24",
        "method.generator.base_channels=4",
        "method.generator.depth=3",
        "method.generator.test_dropout=true",
        *PATCHGAN,
    ],
}
METHODS = sorted(path.stem for path in (TESTS.parent / "conf" / "method").glob("*.yaml"))


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["LIT_GHIBLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring


def tiny_run(method: str) -> list[str]:
    return [f"method={method}", *TINY[method], *SCENES, *SMALL]


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Overrides that make a run of CycleGAN take a second."""
    return tiny_run("cyclegan")


@pytest.fixture(scope="module", params=METHODS)
def any_method(request: pytest.FixtureRequest) -> str:
    """Each method that has a file in conf/method, one after the other."""
    return request.param


@pytest.fixture(scope="module")
def tiny_of_any_method(any_method: str) -> list[str]:
    """Overrides that make a run of any_method take a second."""
    return tiny_run(any_method)


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
