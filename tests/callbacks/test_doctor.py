import logging
from types import SimpleNamespace

import pytest
import torch

from lit_ghibli.callbacks.doctor import Doctor, TrainingDiverged

HEALTHY = {"cycle": torch.tensor(0.5), "discriminator_a": torch.tensor(0.24)}


def doctor(every_n_batches: int = 2, patience: int = 3) -> Doctor:
    return Doctor(
        every_n_batches, patience, identical_below=0.02, inverted_below=-0.3, unopposed_below=1e-3, collapsed_below=0.1
    )


def pictures() -> dict[str, torch.Tensor]:
    """A photograph and a brighter, noisier picture of the same."""
    torch.manual_seed(0)
    photo = torch.rand(2, 3, 16, 16) * 1.6 - 0.8
    return {"input": photo, "output": (0.6 * photo + 0.2 + 0.05 * torch.randn_like(photo)).clamp(-1, 1)}


def step(ours: Doctor, number: int, losses=None, ends=None, **changes) -> None:
    """Let the doctor see the step of this number, counted from 1; the last of an epoch ends with networks."""
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(total_batch_idx=number - 1))
    trainer = SimpleNamespace(fit_loop=loop, is_last_batch=ends is not None)
    outputs = {"losses": HEALTHY | (losses or {}), **pictures(), "codes_in_use": torch.tensor(0.11), **changes}
    ours.on_train_batch_end(trainer, ends, outputs, None, number - 1)


def save(ours: Doctor, **weights) -> None:
    ours.on_save_checkpoint(None, None, {"state_dict": {"steps": torch.tensor(3), "w": torch.ones(2), **weights}})


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_broken_loss_stops_the_run_naming_step_and_loss(value):
    ours = doctor(every_n_batches=4)
    step(ours, 4)
    step(ours, 5)
    step(ours, 6, {"cycle": torch.tensor(float(value))})  # seen at the next look, named as of this step
    step(ours, 7)
    with pytest.raises(TrainingDiverged, match=rf"step 6: the loss 'cycle' is {value}"):
        step(ours, 8)


def test_a_broken_loss_is_found_before_a_checkpoint():
    ours = doctor(every_n_batches=100)
    step(ours, 1)
    save(ours)
    step(ours, 2, {"discriminator_a": torch.tensor(float("nan"))})
    with pytest.raises(TrainingDiverged, match="step 2: the loss 'discriminator_a'"):
        save(ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_broken_weights_refuse_the_checkpoint(dtype):
    broken = torch.ones(3, dtype=dtype)
    broken[1] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"1 weights are not finite, generator\.layer first"):
        save(doctor(), **{"generator.layer": broken})
    save(doctor(), **{"generator.layer": torch.ones(3, dtype=dtype)})


def test_what_is_broken_is_found_before_an_epoch_is_validated():
    network, nan = torch.nn.Linear(1, 1), torch.tensor(float("nan"))
    step(doctor(every_n_batches=100), 1, ends=network)
    with pytest.raises(TrainingDiverged, match="step 1: the loss 'cycle' is nan"):
        step(doctor(every_n_batches=100), 1, {"cycle": nan}, ends=network)
    torch.nn.init.constant_(network.bias, float("nan"))
    with pytest.raises(TrainingDiverged, match="1 weights are not finite, bias first"):
        step(doctor(every_n_batches=100), 1, ends=network)


INVERTED = {"output": -pictures()["input"]}
SYMPTOMS = {
    "outputs equal their photographs": {"output": pictures()["input"] + 0.015},
    "light and dark are exchanged": INVERTED,
    "discriminator_a has won": {"losses": {"discriminator_a": torch.tensor(9e-4)}},
    "9.0 % of the codes are in use": {"codes_in_use": torch.tensor(0.09)},
}


@pytest.mark.parametrize(("message", "symptom"), SYMPTOMS.items())
def test_an_alarm_rings_once_after_its_patience(caplog, message, symptom):
    ours = doctor(every_n_batches=2, patience=3)
    number = 0

    def look(changes) -> int:
        """Let two steps pass, the second of which is looked at; return the number of warnings so far."""
        nonlocal number
        step(ours, number + 1)
        step(ours, number + 2, **changes)
        number += 2
        return sum(message in record.message for record in caplog.records if record.levelno == logging.WARNING)

    counts = [look(changes) for changes in (symptom, symptom, {}, symptom, symptom)]
    assert counts == [0] * 5, "rang before three looks in a row"
    assert look(symptom) == 1
    assert f"step {number}: " in caplog.text
    assert [look(symptom) for _ in range(5)] == [1] * 5
    assert [look(changes) for changes in ({}, *[symptom] * 5)] == [1] * 6, "rang a second time"
    assert len(caplog.records) == 1, "another alarm rang, too"


def test_steps_between_two_looks_do_not_count(caplog):
    ours = doctor(every_n_batches=3, patience=2)
    for number in range(1, 30):
        step(ours, number, **({} if number % 3 == 0 else INVERTED))
    assert not caplog.records


def test_quiet_on_a_healthy_run(caplog):
    ours = doctor(every_n_batches=1, patience=1)
    grey = torch.zeros(2, 3, 16, 16)
    for number in range(1, 40):
        step(ours, number, {"discriminator_a": torch.tensor(2e-3), "cycle": torch.tensor(1e-5)})
        step(ours, number, input=grey, output=grey + 0.1)  # nothing to correlate
    save(ours)
    assert not caplog.records
