import copy
from collections import Counter
from functools import partial

import pytest
import torch
from helpers.by_hand import connect, spy_on_gradients
from helpers.recipes import assert_defaults_are_those_of_the_recipe
from lightning import Callback, Trainer
from torch.nn import functional as F
from torch.utils.data import DataLoader

from lit_ghibli.errors import UserError
from lit_ghibli.methods import distill
from lit_ghibli.methods.distill import Distill, edges_loss
from lit_ghibli.metrics.suite import MetricSuite
from lit_ghibli.networks.painting import PaintingNetwork

TINY = [
    "data=scene_pairs",
    "data.crop_size=24",
    "method.generator.channels=4",
    "method.generator.deep_channels=4",
    "method.generator.dilations=[1]",
]
SMALL = {"generator": partial(PaintingNetwork, channels=4, deep_channels=6, dilations=(1,))}


def ready(**arguments) -> Distill:
    """A method whose training_step can be called by hand, with a tiny network unless another is given."""
    torch.manual_seed(0)
    return connect(Distill(**SMALL | arguments))


def pairs(count: int = 2, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(count, 3, 24, 32, generator=generator, dtype=dtype) * 2 - 1 for name in ("input", "target")
    }


def looped_l1(picture: torch.Tensor, target: torch.Tensor) -> float:
    values, wanted = picture.detach().flatten().tolist(), target.flatten().tolist()
    return sum(abs(one - other) for one, other in zip(values, wanted, strict=True)) / len(wanted)


def looped_edges(picture: torch.Tensor, target: torch.Tensor) -> float:
    """Mean error of the changes to the right, and of those below, one neighbour after the other."""
    sums, counts = [0.0, 0.0], [0, 0]
    for plane, wanted in zip(
        picture.detach().flatten(0, 1).tolist(), target.detach().flatten(0, 1).tolist(), strict=True
    ):
        height, width = len(plane), len(plane[0])
        for y in range(height):
            for x in range(width):
                for axis, (row, column) in enumerate(((y, x + 1), (y + 1, x))):
                    if row < height and column < width:
                        change = plane[row][column] - plane[y][x]
                        sums[axis] += abs(change - (wanted[row][column] - wanted[y][x]))
                        counts[axis] += 1
    return sums[0] / counts[0] + sums[1] / counts[1]


def test_defaults_are_those_of_the_recipe():
    assert_defaults_are_those_of_the_recipe(Distill(), "distill")


def test_edges_are_the_differences_between_neighbours():
    picture, target = pairs().values()
    assert edges_loss(picture, target).item() == pytest.approx(looped_edges(picture, target), rel=1e-10)
    assert edges_loss(picture + 0.3, picture).item() == pytest.approx(0, abs=1e-12), "where all is lighter, none differ"
    ramp = torch.arange(6, dtype=torch.float64).expand(1, 1, 5, 6)
    assert edges_loss(0.5 * ramp, torch.zeros_like(ramp)).item() == 0.5


def test_a_step_has_the_losses_and_gradients_of_the_formulas():
    method = ready(weights={"l1": 0.7, "edges": 3.0}).double()
    batch = pairs()
    with torch.no_grad():  # from elsewhere than the photograph itself
        method.generator.last.weight.normal_(std=0.1)
    network = copy.deepcopy(method.generator)
    steps = spy_on_gradients(method)
    outputs = method.training_step(batch, 0)
    picture, target = network(batch["input"]), batch["target"]
    assert outputs["losses"]["l1"].item() == pytest.approx(looped_l1(picture, target), rel=1e-10)
    assert outputs["losses"]["edges"].item() == pytest.approx(looped_edges(picture, target), rel=1e-10)
    assert not any(loss.requires_grad for loss in outputs["losses"].values())
    error = picture - target
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    expected = 0.7 * error.abs().mean() + 3.0 * (across.abs().mean() + down.abs().mean())
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(expected, parameters)
    assert max(gradient.abs().max() for gradient in gradients) > 1e-3
    assert len(steps) == method.iteration == 1
    assert list(steps[0]) == ["generator"]
    assert set(steps[0]["generator"]) == set(names)
    for name, gradient in zip(names, gradients, strict=True):
        torch.testing.assert_close(steps[0]["generator"][name], gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("zero", "terms"), [("", {"l1", "edges"}), ("l1", {"edges"}), ("edges", {"l1"})])
def test_a_weight_of_zero_removes_the_computation(monkeypatch, zero, terms):
    calls = Counter()

    def counted(name, function, *arguments):
        calls.update([name])
        return function(*arguments)

    for place, name in ((distill.F, "l1_loss"), (distill, "edges_loss")):
        monkeypatch.setattr(place, name, partial(counted, name, getattr(place, name)))
    method = ready(weights={name: 0.0 if name == zero else 1.0 for name in ("l1", "edges")})
    outputs = method.training_step(pairs(1, torch.float32), 0)
    assert set(outputs["losses"]) == terms
    assert {name.removesuffix("_loss") for name in calls} == terms


def test_weights_of_other_names_are_refused():
    with pytest.raises(UserError, match=r"this method has \['edges', 'l1'\]"):
        Distill(**SMALL, weights={"l1": 1.0, "gan": 1.0})
    with pytest.raises(UserError, match="all 0"):
        Distill(**SMALL, weights={"l1": 0.0, "edges": 0.0})


def test_one_step_lowers_the_loss():
    method = ready()
    batch = pairs(2, torch.float32)
    before, after = (method.training_step(batch, step)["losses"] for step in range(2))
    assert after["l1"] + 4 * after["edges"] < before["l1"] + 4 * before["edges"]


def test_the_rate_falls_linearly_at_the_end():
    method = ready(optimizer=partial(torch.optim.SGD, lr=1.0), epochs=4, decay_epochs=2)
    (optimizer,), (schedule,) = method.configure_optimizers()
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1, 1, 2 / 3, 1 / 3])
    with pytest.raises(UserError, match=r"method\.decay_epochs must lie in 0 \.\.\. method\.epochs = 4; got 5"):
        ready(epochs=4, decay_epochs=5)


class Rates(Callback):
    """Learning rates of all steps."""

    def __init__(self) -> None:
        self.rates = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")
def test_a_fit_takes_one_step_of_the_schedule_per_epoch():
    method = Distill(**SMALL, optimizer=partial(torch.optim.SGD, lr=1e-4), epochs=3, decay_epochs=3)
    images, targets = pairs(2, torch.float32).values()
    loader = DataLoader([{"input": image, "target": target} for image, target in zip(images, targets, strict=True)])
    seen = Rates()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1}
    Trainer(accelerator="cpu", max_epochs=3, callbacks=[seen], **quiet).fit(method, loader, loader)
    assert method.iteration == 6
    assert seen.rates == pytest.approx([1e-4 * share for share in (3 / 4, 3 / 4, 1 / 2, 1 / 2, 1 / 4, 1 / 4)])


def test_held_out_pairs_are_measured():
    method = ready(metrics=MetricSuite(("l1",))).eval()
    batch = pairs(2, torch.float32)
    method.validation_step(batch, 0)
    expected = looped_l1(method.generator(batch["input"]), batch["target"]) / 2
    assert method.validation_metrics()["l1"] == pytest.approx(expected, rel=1e-5)


def test_strips_are_input_output_target_at_any_size():
    method = ready().eval()
    with torch.no_grad():
        method.generator.last.weight.normal_(std=0.1)
    image, target = torch.rand(2, 1, 3, 13, 18) * 2 - 1
    columns = method.picture_columns(image, target)
    assert list(columns) == ["input", "output", "target"]
    padded = F.pad(image, (0, 2, 0, 3), mode="reflect")
    assert torch.equal(columns["output"], method.generator(padded)[..., :13, :18].clamp(-1, 1))
    assert list(method.picture_columns(image)) == ["input", "output"]
    assert method.translator() is method.generator


def test_it_overfits_two_pairs():
    wider = partial(PaintingNetwork, channels=8, deep_channels=16, dilations=(1, 2))
    method = ready(generator=wider, optimizer=partial(torch.optim.Adam, lr=5e-3))
    y, x = torch.meshgrid(torch.linspace(-1, 1, 24), torch.linspace(-1, 1, 24), indexing="ij")
    images = torch.stack([torch.stack([x, y, x * y]), torch.stack([y, -x, x * x - 0.5])])
    batch = {"input": images, "target": torch.stack([-images[0], images[1].flip(0)])}
    losses = [method.training_step(batch, step)["losses"]["l1"].item() for step in range(100)]
    assert losses[-1] < 0.15 * losses[0]
