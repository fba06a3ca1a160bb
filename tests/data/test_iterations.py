import pytest

from lit_ghibli.data.iterations import IterationsDataModule
from lit_ghibli.errors import UserError


def test_all_levels_together_make_the_epochs():
    loader = IterationsDataModule([(0.5, 4), (1.0, 8)], epochs=3, seed=0).train_dataloader()
    assert len(loader) == len(list(loader)) == 4


def test_a_resumed_epoch_has_the_rest_of_its_iterations():
    data = IterationsDataModule([(1.0, 6)], epochs=1, seed=0)
    first = iter(data.train_dataloader())
    loader = data.train_dataloader()
    iterations = iter(loader)
    whole = [batch.index for batch in first]
    begun = [next(iterations).index for _ in range(4)]
    state, again = loader.state_dict(), data.train_dataloader()
    again.load_state_dict(state)
    assert [int(index) for index in begun + [batch.index for batch in again]] == [int(index) for index in whole]


@pytest.mark.parametrize("epochs", [0, 5, 13])
def test_parts_of_unequal_length_are_refused(epochs):
    with pytest.raises(UserError, match=f"12 iterations .* method.epochs = {epochs} equal parts"):
        IterationsDataModule([(0.5, 4), (1.0, 8)], epochs=epochs, seed=0)
