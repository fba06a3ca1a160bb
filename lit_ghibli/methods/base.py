"""What every method shares around its algorithm: counting, exact resume, optimisers, validation."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from lightning import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from lit_ghibli import checkpoints
from lit_ghibli.errors import UserError
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.sizes import translate
from lit_ghibli.training import rank_state, resumed
from lit_ghibli.training.passes import check_joinable, joined
from lit_ghibli.training.schedules import linear_decay
from lit_ghibli.training.weight_average import WeightAverage
from lit_ghibli.trust import instantiate_trusted

GanAdam = partial(Adam, lr=2e-4, betas=(0.5, 0.999), fused=True)

_SERVED_BY = {
    ("photo", "anime"): "data=unpaired, painted or scenes",
    ("input", "target"): "data=two_folders, side_by_side, derived, scene_pairs or painted_pairs",
    ("pair_a", "pair_b", "photo", "anime"): "data=pseudo_paired, painted_semi or semi_scenes",
}


class Method(LightningModule):
    """A LightningModule whose ``training_step`` ends with :meth:`report`, and which resumes bit by bit.

    Attributes:
        iteration: Training steps done.
        levels: Parts of the training whose iterations differ in cost, in order, each with its number of iterations;
            none where all cost the same.
        started_from: File and checksum of the weights that a generator started from; None where all start afresh.
        average: Of the weights of the networks that translate, where a training keeps one.
        joinable: Names of the networks of which a step makes several passes that could be one.
        joining: Whether they are one.
    """

    iteration = 0
    levels: Sequence[tuple[Any, int]] = ()
    started_from: Mapping[str, str] | None = None
    average: WeightAverage | None = None
    joinable: tuple[str, ...] = ()
    joining = False

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | PathLike[str], **options: Any) -> "Method":
        """The method of a run as it was when this file, or the last one of a run's folder, was written.

        Args:
            checkpoint_path: The configuration is in it, so that nothing else is needed.
            options: Of Lightning's; none is taken.

        Raises:
            UserError: The file cannot be used, is of another method, or options are given.
        """
        path = checkpoints.find(checkpoint_path)
        checkpoint = checkpoints.load(path)
        method = instantiate_trusted(checkpoint[checkpoints.CONFIG_KEY]["method"])
        if options or not isinstance(method, cls):
            given = f"takes no {', '.join(options)}" if options else f"is a run of {type(method).__name__}"
            raise UserError(f"{path}: {cls.__name__}.load_from_checkpoint {given}; lit_ghibli.load takes any run")
        method.on_load_checkpoint(checkpoint)
        method.load_state_dict(_without_metrics(checkpoint["state_dict"]))
        return method

    def report(self, losses: dict[str, Tensor], **pictures: Tensor) -> dict[str, Any]:
        """Log the losses of a step, count it, and return what callbacks look at: detached losses, and pictures."""
        losses = {name: loss.detach() for name, loss in losses.items()}
        self.log_dict({f"train/{name}": loss for name, loss in losses.items()}, prog_bar=True)
        self.iteration += 1
        return {"losses": losses, **pictures}

    def skip_to(self, iteration: int) -> None:
        """Let the next training step be this one, counted from 0, as a forecast does to try each of the levels."""
        self.iteration = iteration

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the networks that translate have their :attr:`average`, where there is one: so they are judged."""
        return nullcontext() if self.average is None else self.average.applied()

    def join_passes(self) -> None:
        """From now on let :meth:`passes` of one network be one pass: quicker on a GPU, and more memory.

        Raises:
            UserError: There are none, or what is learned would change.
        """
        if not self.joinable:
            raise UserError(f"runtime.batch_passes=true: {type(self).__name__} has no passes that could be one")
        for name in self.joinable:
            if (network := getattr(self, name)) is not None:
                check_joinable(name, network)
        self.joining = True

    def passes(self, network: nn.Module, *pictures: Tensor) -> tuple[Tensor, ...]:
        """What a network makes of each of several batches of pictures of one size."""
        return joined(network, *pictures) if self.joining else tuple(map(network, pictures))

    def inputs(self) -> dict[str, list[Path]]:
        """The picture files that the method is told itself, by what they are for, rather than given by data."""
        return {}

    def networks(self) -> dict[str, nn.Module]:
        """The sub-modules that have parameters, by name."""
        return {name: module for name, module in self.named_children() if any(True for _ in module.parameters())}

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Refuse data that this method cannot train on, before they are read.

        Raises:
            UserError: Always of such data.
        """
        raise NotImplementedError

    def setup(self, stage: str) -> None:
        rank_state.seed_pools(self)  # a resumed run overwrites their states afterwards

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["ranks"] = rank_state.collect(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.iteration = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["total"]["ready"]
        self._rank_states = checkpoint["ranks"]  # kept until everything else that draws random numbers is set up
        resumed.check_weights(_without_metrics(self.state_dict()), _without_metrics(checkpoint["state_dict"]))
        self._checkpoint = checkpoint

    def on_fit_start(self) -> None:
        """Before the states of optimisers and schedules are loaded, let the settings of this run count."""
        if (checkpoint := self.__dict__.pop("_checkpoint", None)) is not None:
            schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
            resumed.fit_states(checkpoint, self.trainer.optimizers, schedules)

    def on_train_start(self) -> None:
        if (states := self.__dict__.pop("_rank_states", None)) is not None:
            rank_state.restore(self, states)

    def on_train_epoch_end(self) -> None:
        with warnings.catch_warnings():
            # While some networks learn alone, the others' rate has its schedule, too, though their optimiser rests.
            warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
            for config in self.trainer.lr_scheduler_configs:
                config.scheduler.step()


class Translation(Method):
    """A method that learns to translate photographs and is judged on held-out ones.

    It names its :attr:`batch_keys`, implements :meth:`translator`, may extend :meth:`picture_columns` and
    :meth:`validation_metrics`, and sets :attr:`metrics`, which judges held-out photographs and may be None.
    """

    batch_keys: tuple[str, ...]  # those of a training batch that the method reads
    metrics: MetricSuite | None  # no value here: it would hide the sub-module of this name
    optimizer_g: Callable[..., Optimizer]
    optimizer_d: Callable[..., Optimizer]
    epochs: int
    decay_epochs: int
    extra_metrics: tuple[str, ...] = ()  # that validations log besides
    initialization_epochs: int = 0  # the first, of those methods in which the generator then learns by itself

    @property
    def initialization_steps(self) -> float:
        """Iterations of the initialisation."""
        return self.initialization_epochs and self.initialization_epochs * self.trainer.num_training_batches

    @property
    def levels(self) -> Sequence[tuple[Any, int]]:
        """The initialisation and the rest of the training, where there are both."""
        if not self.initialization_epochs:
            return []
        total = self.trainer.num_training_batches * self.trainer.max_epochs
        initial = min(self.initialization_steps, total)
        return [("initialisation", initial), ("all networks", total - initial)] if initial < total else []

    def translator(self) -> nn.Module:
        """The network that turns a photograph into a picture, the only one that inference needs."""
        raise NotImplementedError

    def gan_optimizers(
        self, generating: Iterable[nn.Module | None], judging: Iterable[nn.Module | None]
    ) -> tuple[list[Optimizer], list[LRScheduler]]:
        """One optimiser for all networks that generate, one for all that judge, each with its schedule."""
        optimizers = [
            make([weight for network in networks if network is not None for weight in network.parameters()])
            for make, networks in ((self.optimizer_g, generating), (self.optimizer_d, judging))
        ]
        return optimizers, [
            linear_decay(optimizer, epochs=self.epochs, decay_epochs=self.decay_epochs) for optimizer in optimizers
        ]

    def check_data(self, datamodule: LightningDataModule) -> None:
        """Refuse data that this method cannot train on, before they are read.

        Raises:
            UserError: Batches lack something, or crops have a size that the translator does not take.
        """
        served = getattr(datamodule, "batch_keys", ())
        if not set(self.batch_keys) <= set(served):
            raise UserError(
                f"the method trains on batches of {', '.join(self.batch_keys)}; {type(datamodule).__name__} "
                f"serves {', '.join(served) or 'none'}: choose {_SERVED_BY.get(self.batch_keys, 'other data')}"
            )
        self.translator().check_size(datamodule.crop_size, datamodule.crop_size)

    def picture_columns(self, input: Tensor, target: Tensor | None = None) -> dict[str, Tensor]:
        """Columns of the sample grid by title, each ``(N, 3, H, W)`` in ``[-1, 1]``."""
        columns = {"input": input, "output": translate(self.translator(), input)}
        return columns if target is None else {**columns, "target": target}

    def validation_step(self, batch: dict[str, Any], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Feed the metrics: loader 0 gives held-out inputs, loader 1 pictures of the target domain."""
        if self.metrics is None:
            return
        if dataloader_idx == 1:
            self.metrics.update_real(batch["target"])
            return
        fake = translate(self.translator(), batch["input"])
        self.metrics.update_fake(fake)
        self.metrics.update_photo(fake, batch["input"])
        if "target" in batch:
            self.metrics.update_pair(fake, batch["target"])

    def validation_metrics(self) -> dict[str, float]:
        """Metrics of the whole held-out set, by name."""
        return self.metrics.compute()

    def on_validation_epoch_end(self) -> None:
        if self.metrics is None:
            return
        if not self.trainer.sanity_checking:
            self.log_dict({f"val/{name}": value for name, value in self.validation_metrics().items()})
        self.metrics.reset()


def _without_metrics(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith("metrics.")}
