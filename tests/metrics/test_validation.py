"""Metrics of features while a method trains: logged, free to choose the best epoch by, and in no checkpoint."""

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from lit_ghibli import checkpoints
from lit_ghibli.callbacks.checkpointing import RunCheckpoints
from lit_ghibli.methods.base import Translation
from lit_ghibli.metrics.suite import MetricSuite


class Shift(nn.Module):
    """Adds one number to all pixels."""

    size_multiple = minimum_size = 1

    def __init__(self):
        super().__init__()
        self.amount = nn.Parameter(torch.tensor(0.8))

    def forward(self, images):
        return images + self.amount


class Approach(Translation):
    """Comes nearer to the target domain in the first two epochs and leaves it again in the third."""

    amounts = (0.4, 0.05, 0.6)

    def __init__(self, metrics):
        super().__init__()
        self.automatic_optimization = False
        self.network, self.metrics = Shift(), metrics

    def translator(self):
        return self.network

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)

    def training_step(self, batch, batch_idx):
        self.optimizers().step()
        self.network.amount.data.fill_(self.amounts[self.current_epoch])


@pytest.mark.filterwarnings("ignore::UserWarning:lightning")
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*bottleneck")
def test_the_best_epoch_is_chosen_by_a_distance_of_features(tmp_path):
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(4, 3, 16, 16, generator=generator) - 0.5
    suite = MetricSuite(("fid", "kid"), features="random", cache_dir=tmp_path / "cache")
    method = Approach(suite)
    best = RunCheckpoints(tmp_path, every_n_batches=9, keep_epochs=-1, monitor="val/kernel_random")
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[best],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        plugins=[checkpoints.RunCheckpointIO({"method": {"_target_": "x"}})],
    )
    loaders = [
        DataLoader([{"input": picture} for picture in pictures], batch_size=2),
        DataLoader([{"target": picture} for picture in pictures], batch_size=2),
    ]
    trainer.fit(method, DataLoader(pictures, batch_size=4), loaders)
    values = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert values.keys() == {"val/frechet_random", "val/kernel_random", "val/kernel_random_std"}
    assert 0 < best.best < values["val/kernel_random"]
    state = checkpoints.load(tmp_path / "best.ckpt")["state_dict"]
    assert state.keys() == {"network.amount"}
    assert float(state["network.amount"]) == pytest.approx(0.05)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 4, "real pictures are extracted in the first epoch only"
