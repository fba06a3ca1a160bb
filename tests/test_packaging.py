"""The built wheel is the whole program: it trains outside the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def train_a_step(python: str | Path, cwd: Path, tiny: list[str], **environment: str) -> str:
    program = "import lit_ghibli, sys; sys.argv[0] = 'lit-ghibli'; from lit_ghibli.cli import main; main()"
    where = [python, "-c", "import lit_ghibli.recipes as r; print(r.config_dir())"]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    train = [python, "-c", program, "train", *tiny, "method.epochs=1", "data.count=2", "hydra.run.dir=run"]
    result = subprocess.run(train, cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert (cwd / "run/checkpoints/last.ckpt").is_file()
    return subprocess.run(where, cwd=cwd, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def test_wheel_holds_every_configuration_and_template(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    configurations = {name for name in inside if name.startswith("lit_ghibli/conf/")}
    assert configurations == {f"lit_ghibli/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "lit_ghibli").glob("*/templates/*")}
    assert len(templates) == 6
    assert templates <= inside


@pytest.mark.slow
def test_wheel_trains_in_an_empty_environment(wheel, tmp_path, tiny):
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv/bin/python"
    install = [*uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*install, str(wheel)], check=True)
    conf = train_a_step(python, tmp_path, tiny, PYTHONPATH="")
    assert Path(conf).is_relative_to(tmp_path / "venv")
    assert (tmp_path / "venv/bin/lit-ghibli").is_file()
