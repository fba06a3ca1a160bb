import math

import pytest
import torch
import torchdiffeq
from torch import nn

from lit_ghibli.errors import UserError
from lit_ghibli.networks import ode
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.ode import OdeBlock, OdeGenerator, SolverError
from lit_ghibli.networks.resnet import TAPS, ResnetGenerator

STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}
ORDERS = {"euler": 1, "midpoint": 2, "rk4": 4}


class Linear(nn.Module):
    """dx/dt = A x over channels."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, x):
        return torch.einsum("ij,njhw->nihw", self.matrix, x)


def linear_block(matrix, **arguments) -> OdeBlock:
    block = OdeBlock(2, **arguments)
    block.branch = Linear(matrix)
    return block


def small(**arguments) -> OdeGenerator:
    torch.manual_seed(0)
    return OdeGenerator(**{"base_channels": 4, "num_blocks": 2} | arguments)


def photographs(size: int = 16, count: int = 1, **options) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1), **options) * 2 - 1


def field_calls(network: nn.Module) -> list[int]:
    """One entry for every evaluation of a vector field from now on."""
    calls: list[int] = []
    for number, block in enumerate(network.bottleneck):
        block.branch.register_forward_hook(lambda *_, number=number: calls.append(number))
    return calls


def test_parameter_counts():
    with torch.device("meta"):
        networks = OdeGenerator(), ResnetGenerator(num_blocks=9)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks]
    assert counts == [5_477_379, 11_378_179]


@pytest.mark.parametrize("solver", STAGES)
def test_error_falls_with_the_order_of_the_solver(solver):
    matrix = torch.tensor([[-1.0, 2.0], [-2.0, -0.5]], dtype=torch.float64)
    start = torch.randn(1, 2, 3, 3, dtype=torch.float64)
    exact = torch.einsum("ij,njhw->nihw", torch.matrix_exp(matrix), start)
    ends = [linear_block(matrix, solver=solver, steps=steps)(start).detach() for steps in (64, 128)]
    errors = [(end - exact).abs().max().item() for end in ends]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(ORDERS[solver], abs=0.15)


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_decay_ends_at_one_over_e(solver):
    block = linear_block(-torch.eye(2, dtype=torch.float64), solver=solver, steps=20, rtol=1e-8, atol=1e-8)
    end = block(torch.ones(1, 2, 1, 1, dtype=torch.float64))
    torch.testing.assert_close(end, torch.full_like(end, math.exp(-1)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("solver", STAGES)
@pytest.mark.parametrize("steps", [1, 3])
def test_fixed_steps_are_those_of_torchdiffeq(solver, steps):
    torch.manual_seed(0)
    block = OdeBlock(4, solver=solver, steps=steps).double()
    start = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    times = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    expected = torchdiffeq.odeint(lambda t, h: block.branch(h), start, times, method=solver)[-1]
    torch.testing.assert_close(block(start), expected, rtol=1e-9, atol=1e-9)


def test_one_euler_step_is_the_residual_network():
    network = small(solver="euler")
    residual = ResnetGenerator(base_channels=4, num_blocks=2)
    residual.load_state_dict(network.state_dict())
    assert torch.equal(network(photographs()), residual(photographs()))


@pytest.mark.parametrize("solver", ["rk4", "dopri5"])
def test_adjoint_and_direct_gradients_agree(solver):
    arguments = {"solver": solver, "steps": 40, "rtol": 1e-9, "atol": 1e-9}
    torch.manual_seed(0)
    direct = linear_block(torch.randn(2, 2, dtype=torch.float64), **arguments)
    by_adjoint = linear_block(direct.branch.matrix.detach().clone(), adjoint=True, **arguments)
    start = torch.randn(1, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for block in (direct, by_adjoint):
        end, gap = block(start, gap=True)
        loss = end.sin().sum() + gap.square().sum()
        gradients.append(torch.autograd.grad(loss, (start, block.branch.matrix)))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


def test_adjoint_evaluations_backwards_do_not_count():
    network = small(solver="midpoint", steps=3, adjoint=True)
    calls = field_calls(network)
    picture = network(photographs())
    assert network.nfe == len(calls) == 2 * 2 * 3
    picture.sum().backward()
    assert len(calls) > network.nfe == 12
    assert network.bottleneck[0].branch[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("solver", STAGES)
@pytest.mark.parametrize("steps", [1, 3])
def test_evaluations_of_fixed_steps(solver, steps):
    network = small(solver=solver, steps=steps)
    calls = field_calls(network)
    for _ in range(2):
        calls.clear()
        network(photographs())
        assert network.nfe == len(calls) == 2 * STAGES[solver] * steps


def test_evaluations_of_dopri5_follow_its_tolerance():
    network = small(solver="dopri5")
    calls = field_calls(network)
    network(photographs(), gaps=True)
    loose = network.nfe
    assert loose == len(calls)
    for block in network.bottleneck:
        assert (block.nfe - 2) % 6 == 0  # two for the first step's length, six a step
        block.rtol = block.atol = 1e-5
    network(photographs())
    assert network.nfe > loose


def test_evaluations_are_those_of_the_last_pass_though_it_ended_early():
    network = small(num_blocks=3, solver="midpoint")
    network(photographs())
    assert network.nfe == 6
    assert network(photographs(), picture=False, features=True).picture is None
    assert network.nfe == 4, "the middle is after the second of three"
    assert not hasattr(ResnetGenerator(base_channels=4, num_blocks=1), "nfe")


@pytest.mark.parametrize("solver", [*STAGES, "dopri5"])
def test_gaps_are_what_one_euler_step_misses(solver):
    network = small(solver=solver)
    calls = field_calls(network)
    picture, features, gaps = network(photographs(), features=True, gaps=True)
    assert network.nfe == len(calls), "the solver's own first slope is used"
    assert features.keys() == set(TAPS)
    assert torch.equal(picture, network(photographs()))
    first = network.bottleneck[0]
    start, end = features["bottleneck_in"], features["bottleneck_middle"]  # after the first of two blocks
    assert len(gaps) == 2
    torch.testing.assert_close(gaps[0], end - start - first.branch(start), rtol=0, atol=1e-5)
    if solver == "euler":
        assert not any(gap.any() for gap in gaps)
    else:
        assert gaps[0].square().mean() > 1e-3


@pytest.mark.parametrize("adjoint", [False, True])
def test_gaps_teach_the_vector_field(adjoint):
    # The adjoint gives the gradient of the exact path: it takes many steps for ours to be the same.
    network = small(**{"adjoint": True, "solver": "rk4", "steps": 16} if adjoint else {}).double()
    photo, weight = photographs(dtype=torch.float64), network.bottleneck[0].branch[0].weight
    gradient = torch.autograd.grad(network(photo, picture=False, gaps=True).gaps[0].square().mean(), weight)[0]
    weights, step = weight.detach().clone(), 1e-4 * gradient / gradient.norm()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            weight.copy_(weights + sign * step)
            values.append(network(photo, picture=False, gaps=True).gaps[0].square().mean().item())
    slope = (values[0] - values[1]) / 2e-4
    assert slope == pytest.approx(gradient.norm().item(), rel=0.02 if adjoint else 1e-3)


def test_solver_of_a_built_network():
    network = small()
    before = network(photographs())
    assert (network.solver, network.steps, network.context) == ("midpoint", 1, 16 + 8 * 2 * 2)
    network.set_solver("rk4", 3)
    assert (network.solver, network.steps, network.context) == ("rk4", 3, 16 + 8 * 2 * 12)
    assert not torch.equal(network(photographs()), before)
    assert network.nfe == 2 * 12
    network.set_solver("euler")
    assert (network.steps, network.context) == (3, 16 + 8 * 2 * 3)
    network.set_solver("midpoint", 1)
    assert torch.equal(network(photographs()), before)


def test_options_that_cannot_be():
    for make in (lambda: small(solver="heun"), lambda: small().set_solver("heun")):
        with pytest.raises(UserError, match="solver is 'heun'; it must be one of dopri5, euler, midpoint, rk4"):
            make()
    with pytest.raises(UserError, match="steps is 0; a block needs at least 1"):
        small().set_solver("euler", 0)
    with pytest.raises(UserError, match=r"rtol is 0 and atol is 0\.001"):
        small(rtol=0)
    with pytest.raises(UserError, match="OdeGenerator received images of 30x30"):
        small()(photographs(30))


class Explosion(nn.Module):
    def forward(self, x):
        return 1e3 * x.square()


@pytest.mark.parametrize("failure", ["blow-up", "not a number", "too many steps"])
def test_a_solver_that_cannot_go_on_says_where_and_what_to_do(failure, monkeypatch):
    network = small(solver="dopri5", rtol=1e-4)
    if failure == "blow-up":
        network.bottleneck[1].branch = Explosion()
    elif failure == "not a number":
        nn.init.constant_(network.bottleneck[1].branch[3].bias, math.nan)
    else:
        monkeypatch.setattr(ode, "_MAXIMUM_STEPS", 2)
        network.bottleneck[0].rtol = network.bottleneck[0].atol = 10
        network.bottleneck[1].rtol = 1e-7
    with pytest.raises(SolverError, match=r"bottleneck\.1: dopri5 with rtol=.*atol=0\.001 .*solver=midpoint") as error:
        network(photographs())
    reason = {"too many steps": "max_num_steps exceeded", "not a number": "underflow in dt|non-finite"}
    error.match(reason.get(failure, "underflow in dt|max_num_steps|non-finite"))


@pytest.mark.parametrize("solver", ["midpoint", "dopri5"])
def test_the_solve_is_float32_under_autocast(solver):
    torch.manual_seed(0)
    block = OdeBlock(8, solver=solver)
    features = torch.randn(1, 8, 12, 12).bfloat16()
    expected, expected_gap = block(features.float(), gap=True)
    nfe = block.nfe
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result, gap = block(features, gap=True)
    assert block.nfe == nfe
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, expected.bfloat16())
    assert torch.equal(gap, expected_gap)


def test_the_adjoint_is_float32_in_a_backward_pass_under_autocast():
    torch.manual_seed(0)
    block = OdeBlock(8, solver="rk4", adjoint=True)
    features, weight = torch.randn(1, 8, 12, 12), block.branch[0].weight
    grad = torch.randn_like(features)
    expected = torch.autograd.grad(block(features), weight, grad)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gradient = torch.autograd.grad(block(features), weight, grad)[0]
    torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_picture_under_autocast_is_close_to_that_in_float32():
    network = small()
    expected = network(photographs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        picture = network(photographs())
    torch.testing.assert_close(picture.float(), expected, rtol=0, atol=0.05)
    assert network.nfe == 4


def test_shapes_and_evaluations_are_known_without_computing():
    with torch.device("meta"):
        network = small(solver="rk4", steps=2)
        assert network(torch.empty(1, 3, 32, 24)).shape == (1, 3, 32, 24)
    assert network.nfe == 2 * 8


def test_half_precision_weights_are_used_as_they_are():
    network = small().bfloat16()
    assert network(photographs().bfloat16()).dtype == torch.bfloat16


@pytest.fixture
def _fresh_compiler():
    """What one test made the compiler give up must not reach the next."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.usefixtures("_fresh_compiler")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch's own, after a graph break
@pytest.mark.parametrize("solver", ["midpoint", "dopri5"])
def test_compiled_with_one_graph_where_steps_are_fixed(solver):
    network = small(solver=solver)
    expected, nfe = network(photographs(), features=True, gaps=True), network.nfe
    network.compile(fullgraph=solver == "midpoint", backend="eager")
    detailed = network(photographs(), features=True, gaps=True)
    torch.testing.assert_close(detailed, expected)
    assert network.nfe == nfe
    detailed.picture.sum().backward()
    assert network.bottleneck[0].branch[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize(("solver", "steps"), [("euler", 2), ("midpoint", 1), ("rk4", 1)])
def test_context_bounds_what_an_output_pixel_depends_on(solver, steps):
    torch.manual_seed(0)
    network = OdeGenerator(base_channels=2, num_blocks=1, solver=solver, steps=steps).double()
    photo = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    with record_statistics(network) as statistics:
        network(photo)
    seen = []
    for position in (60, 61, 62, 63):  # all phases of the two strides
        with frozen_statistics(network, statistics):
            gradient = torch.autograd.grad(network(photo)[0, :, position, position].sum(), photo)[0]
        rows = gradient.abs().sum((0, 1, 3)).nonzero()
        seen += [position - rows.min().item(), rows.max().item() - position]
    assert network.context - 4 <= max(seen) <= network.context


@pytest.mark.parametrize("solver", [*STAGES, "dopri5"])
def test_a_pass_with_its_own_statistics_given_is_the_same_pass(solver):
    network = small(solver=solver, steps=2)
    with record_statistics(network) as statistics:
        expected = network(photographs())
    assert len(statistics["bottleneck.0.branch.1"]) == network.bottleneck[0].nfe > 1
    with frozen_statistics(network, statistics):
        for _ in range(2):
            torch.testing.assert_close(network(photographs()), expected, rtol=0, atol=1e-5)


def test_seeds_give_the_draws_of_the_residual_network():
    network = small(num_blocks=3)
    torch.manual_seed(0)
    residual = ResnetGenerator(base_channels=4, num_blocks=3)
    ours, theirs = network.state_dict(), residual.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
