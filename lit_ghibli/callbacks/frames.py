"""Frames of a picture that is being optimised, on disk and in the loggers, an animation of them, and the result."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from lit_ghibli.callbacks.loggers import log_image
from lit_ghibli.errors import UserError, one_line
from lit_ghibli.files import write_picture
from lit_ghibli.images import to_picture
from lit_ghibli.inference.clips import write_frames


class Frames(Callback):
    """Writes what a method's ``picture()`` shows, every few iterations and at the end.

    The animation is made of the frames on disk, so that a resumed run's is whole. It is a GIF and, where PyAV is
    installed, an MP4 of the same size.

    Args:
        folder: Where the frames go, as ``NNNNNN.png``.
        result: File of the finished picture; None: a PNG beside the folder, named like the content.
        every_n_iterations: Iterations between two frames; 0 for none. The start is frame 0.
        animation: Write it beside the result.
        frame_seconds: How long the animation shows each frame.
        max_side: Longer sides of the animation are scaled down to this, in pixels.
    """

    def __init__(
        self,
        folder: str | Path,
        result: str | Path | None,
        every_n_iterations: int,
        animation: bool,
        frame_seconds: float,
        max_side: int,
    ) -> None:
        if every_n_iterations < 0:
            raise UserError(f"callbacks.frames.every_n_iterations must be at least 0; got {every_n_iterations}")
        if animation and not every_n_iterations:
            raise UserError("an animation needs frames: raise callbacks.frames.every_n_iterations above 0")
        self.folder, self.result, self.every_n_iterations = Path(folder), result, every_n_iterations
        self.animation, self.frame_seconds, self.max_side = animation, frame_seconds, max_side

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for path in self.folder.glob("*.png"):  # those that a resumed run will write again
            if int(path.stem) > pl_module.iteration:
                path.unlink()
        if self.every_n_iterations and not pl_module.iteration:
            self._show(trainer, pl_module)

    @rank_zero_only
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.every_n_iterations and pl_module.iteration % self.every_n_iterations == 0:
            self._show(trainer, pl_module)

    @rank_zero_only
    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch < trainer.max_epochs:
            return  # the run stops early
        result = Path(self.result or self.folder.parent / f"{pl_module.inputs()['content'][0].stem}.png")
        write_picture(to_picture(pl_module.picture()), result)
        if self.animation:
            self._animate(result)
        trainer.print(one_line(f"picture: {result}"))

    def _show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        frame = to_picture(pl_module.picture())
        write_picture(frame, self.folder / f"{pl_module.iteration:06d}.png")
        log_image(trainer, "train/picture", frame, pl_module.iteration)

    def _animate(self, result: Path) -> None:
        """All frames in the size of the last one, however small the levels were on which they were made."""
        frames = []
        for file in sorted(self.folder.glob("*.png"), reverse=True):
            with Image.open(file) as frame:
                frames.insert(0, frame.convert("RGB"))
        size = frames[-1].copy()
        size.thumbnail((self.max_side, self.max_side))
        first, *others = (frame.resize(size.size, Image.Resampling.BICUBIC) for frame in frames)
        options = {"save_all": True, "append_images": others, "duration": round(1000 * self.frame_seconds), "loop": 0}
        write_picture(first, result.with_suffix(".gif"), **options)
        if find_spec("av"):
            write_frames(result.with_suffix(".mp4"), [first, *others], self.frame_seconds, quality=95)
