"""A step back to an earlier checkpoint loses nothing."""

from pathlib import Path

import pytest

from lit_ghibli import checkpoints
from lit_ghibli.callbacks import run_owner
from lit_ghibli.callbacks.rewinding import keep_what_is_later
from lit_ghibli.checkpoints import CONFIG_KEY

EPOCHS, BATCHES = 4, 7


def save(path: Path, batches: int) -> None:
    loop = {
        "epoch_progress": {"current": {"processed": batches // BATCHES}},
        "epoch_loop.batch_progress": {"total": {"completed": batches}},
    }
    config = {"method": {"_target_": "lit_ghibli.methods.cut.CUT"}}
    checkpoints.save({"state_dict": {}, "loops": {"fit_loop": loop}, CONFIG_KEY: config}, path)


@pytest.fixture
def run(tmp_path):
    """A run of four epochs, the third the best, stopped within the fifth."""
    folder = tmp_path / "run" / "checkpoints"
    for epoch in range(1, EPOCHS + 1):
        save(folder / f"epoch_{epoch:04d}.ckpt", epoch * BATCHES)
        (tmp_path / "run" / "pictures").mkdir(exist_ok=True)
        (tmp_path / "run" / "pictures" / f"epoch_{epoch:04d}.png").write_text(str(epoch))
    checkpoints.link(folder / "epoch_0003.ckpt", folder / "best.ckpt")
    save(folder / "last.ckpt", EPOCHS * BATCHES + 3)
    for name in ("metrics.csv", "record.json", run_owner.FILE, ".x.partial", "wandb/run_id"):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_text(name)
    return tmp_path / "run"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.iterdir())


def test_all_that_came_later_is_kept_in_a_folder_that_is_a_run(run, caplog):
    before = files(run)
    kept = keep_what_is_later(run / "checkpoints" / "epoch_0002.ckpt", run)
    assert kept == run / "rewound_1"
    left_out = (run_owner.FILE, ".x.partial", "wandb/run_id")
    assert files(kept) == {name: content for name, content in before.items() if name not in left_out}
    assert names(run / "checkpoints") == ["epoch_0001", "epoch_0002", "last"], "the best epoch is a later one"
    assert (run / "checkpoints" / "last.ckpt").samefile(run / "checkpoints" / "epoch_0002.ckpt")
    assert names(run / "pictures") == ["epoch_0001", "epoch_0002"]
    assert f"goes back to the end of epoch 2; all that it did is kept: {kept}" in caplog.text

    (run / "metrics.csv").write_text("gone on")
    assert (kept / "metrics.csv").read_text() == "metrics.csv", "the copy does not follow"
    assert keep_what_is_later(run / "checkpoints" / "last.ckpt", run) is None
    assert keep_what_is_later(run / "checkpoints" / "epoch_0001.ckpt", run) == run / "rewound_2"
    assert not list((run / "rewound_2").glob("rewound_*"))


def test_the_best_of_earlier_epochs_stays(run):
    checkpoints.link(run / "checkpoints" / "epoch_0001.ckpt", run / "checkpoints" / "best.ckpt")
    keep_what_is_later(run / "checkpoints" / "epoch_0003.ckpt", run)
    assert names(run / "checkpoints") == ["best", "epoch_0001", "epoch_0002", "epoch_0003", "last"]


def test_a_damaged_last_checkpoint_is_a_reason_to_go_back(run):
    (run / "checkpoints" / "last.ckpt").write_bytes(b"cut short")
    kept = keep_what_is_later(run / "checkpoints" / "epoch_0004.ckpt", run)
    assert (kept / "checkpoints" / "last.ckpt").read_bytes() == b"cut short"
    assert (run / "checkpoints" / "last.ckpt").samefile(run / "checkpoints" / "epoch_0004.ckpt")
    assert len(names(run / "pictures")) == EPOCHS


def test_where_nothing_came_later_nothing_is_kept(run):
    last = run / "checkpoints" / "last.ckpt"
    checkpoints.link(run / "checkpoints" / "epoch_0004.ckpt", last)
    assert keep_what_is_later(run / "checkpoints" / "epoch_0004.ckpt", run) is None
    last.unlink()
    assert keep_what_is_later(run / "checkpoints" / "epoch_0004.ckpt", run) is None
