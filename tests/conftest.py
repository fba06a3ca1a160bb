import os
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.forks import PATH, TESTS, TIMEOUT, Forks
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class
from omegaconf import OmegaConf
from PIL import Image

from lit_ghibli.recipes import config_dir
from lit_ghibli.scenes.scene import render_pair

SMALL = ["callbacks.progress_bar.refresh_rate=0", "trainer=cpu"]
SCENES = ["data.count=7", "data.test_count=2", "data.size=32", "callbacks.image_grid.num_images=1"]
CONF = TESTS.parent / "conf" / "method"
# Variants, which only set other values of another method's recipe, are tested with that method.
METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if "_target_" in OmegaConf.load(path))
DEFAULT = "cyclegan"  # trains for all of them in the default suite


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What each method is trained for is slow for all but one."""
    for item in items:
        if item.get_closest_marker("trains") and item.callspec.params["any_method"] != DEFAULT:
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def _one_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["LIT_GHIBLI_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring


@pytest.fixture(autouse=True)
def _one_seed() -> None:
    torch.manual_seed(0)  # a test that passes once passes always


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of a rendered photograph, 48x32 (width x height), and of two painted pictures, 40x40 and 32x48."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    for number, size in enumerate([(48, 32), (40, 40), (32, 48)]):
        paths.append(folder / f"{'abc'[number]}.png")
        Image.fromarray(render_pair(0, number, 64)[number > 0]).resize(size).save(paths[-1])
    return paths


def settings_of(method: str) -> dict[str, list[str]]:
    """What the file of a method's tests says for the tests that run every method.

    ``TINY``: overrides that make a training take a second. ``SAME_ON_ALL_RANKS``: overrides that take away what each
    rank has or draws for itself, so that two processes do the same as one; left out where there is nothing such.
    """
    path = TESTS / "methods" / f"test_{method}.py"
    settings = runpy.run_path(str(path)) if path.is_file() else {}
    if "TINY" not in settings:
        pytest.fail(
            f"{path.relative_to(TESTS.parent)} must have TINY, a list of overrides that make a training with "
            f"method={method} take a second: its data=, small networks, and 7 iterations in an epoch (of scenes there "
            "are 7, so batches of one). {pictures[0]} to {pictures[2]} stand for files of pictures",
            pytrace=False,
        )
    return {name: settings.get(name, []) for name in ("TINY", "SAME_ON_ALL_RANKS")}


def tiny_run(method: str, pictures: list[Path]) -> list[str]:
    """Overrides that make a run of a method take a second."""
    settings = [override.format(pictures=pictures) for override in settings_of(method)["TINY"]]
    scenes = [] if "data=iterations" in settings else SCENES
    return [f"method={method}", *settings, *scenes, *SMALL]


@pytest.fixture(scope="session")
def tiny(pictures: list[Path]) -> list[str]:
    """Overrides that make a run of CycleGAN take a second."""
    return tiny_run("cyclegan", pictures)


@pytest.fixture(scope="module", params=METHODS)
def any_method(request: pytest.FixtureRequest) -> str:
    """Each method that has a file in conf/method, one after the other."""
    return request.param


@pytest.fixture(scope="module")
def tiny_of_any_method(any_method: str, pictures: list[Path]) -> list[str]:
    """Overrides that make a run of any_method take a second."""
    return tiny_run(any_method, pictures)


@pytest.fixture(scope="module")
def same_on_all_ranks(any_method: str) -> list[str]:
    """Overrides that take away what each rank has or draws for itself."""
    return settings_of(any_method)["SAME_ON_ALL_RANKS"]


@pytest.fixture(scope="module")
def translates(any_method: str) -> bool:
    """Whether any_method learns a network that translates pictures, rather than making one picture."""
    return hasattr(get_class(OmegaConf.load(CONF / f"{any_method}.yaml")._target_), "translator")


@pytest.fixture(scope="module")
def schedule_of_any_method(any_method: str) -> list[str]:
    """For three epochs of seven batches: an initialisation, falling rates, a head start, where any_method has such."""
    recipe = OmegaConf.load(CONF / f"{any_method}.yaml")
    wanted = {"initialization_epochs": 1, "decay_epochs": 2, "head_start": 9}
    return [f"method.{name}={value}" for name, value in wanted.items() if name in recipe]


@pytest.fixture
def composing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In an empty folder, what `compose` of Hydra reads is the suite's configuration."""
    monkeypatch.chdir(tmp_path)
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir(), version_base="1.3"):
        yield


@pytest.fixture(scope="session")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Runs `python -m lit_ghibli` as a user would, with the tests' helper modules importable."""
    forks = None

    def run(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
        nonlocal forks
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", **environment, "PYTHONPATH": PATH}
        if first := environment.get("PYTHONPATH"):  # which Python reads when it starts
            variables["PYTHONPATH"] = f"{first}{os.pathsep}{PATH}"
            command = [sys.executable, "-m", "lit_ghibli", *words]
            options = {"capture_output": True, "text": True, "timeout": TIMEOUT, "check": False}
            return subprocess.run(command, cwd=cwd, env=variables, **options)
        forks = forks or Forks()
        streams = tmp_path_factory.mktemp("streams")
        status = forks.run(*words, folder=cwd, environment=variables, streams=streams)
        out, err = ((streams / name).read_text(encoding="utf-8") for name in ("out", "err"))
        return subprocess.CompletedProcess(words, status, out, err)

    yield run
    if forks:
        forks.close()


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The suite as a built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(TESTS.parent)]
    subprocess.run(build, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))
