"""The NeuralODE generator of NijiGAN: blocks whose depth is an integration time."""

from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from lit_ghibli.errors import UserError
from lit_ghibli.networks.blur_pool import Downsample
from lit_ghibli.networks.initialization import Initialization
from lit_ghibli.networks.outputs import Output
from lit_ghibli.networks.resnet import BottleneckGenerator, Detailed, Upsample, two_convolutions

Solver = Literal["dopri5", "midpoint", "rk4", "euler"]

# Explicit Runge-Kutta steps, a row per evaluation and one for the result: each is the start plus dt times so much of
# the slopes so far. rk4 is Kutta's 3/8 rule, which is torchdiffeq's too.
_TABLEAUS = {
    "euler": ((), (1.0,)),
    "midpoint": ((), (1 / 2,), (0.0, 1.0)),
    "rk4": ((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0), (1 / 8, 3 / 8, 3 / 8, 1 / 8)),
}

# Steps of dopri5, of six evaluations each, after which a block gives up: trained blocks take a few.
_MAXIMUM_STEPS = 200

# Evaluations inside each other that dopri5's range is taken for: two steps of six, and the slope at the end.
_ADAPTIVE_STAGES = 13


class SolverError(UserError):
    """An adaptive solver cannot go on: its steps vanish, are too many, or the state is no longer finite."""


def _check_solver(solver: str, steps: int) -> None:
    if solver not in (*_TABLEAUS, "dopri5"):
        raise UserError(f"solver is {solver!r}; it must be one of {', '.join(('dopri5', *_TABLEAUS))}")
    if steps < 1:
        raise UserError(f"steps is {steps}; a block needs at least 1")


def _add(start: Tensor, slopes: list[Tensor], shares: tuple[float, ...], length: float) -> Tensor:
    for slope, share in zip(slopes, shares, strict=True):
        if share:
            start = torch.add(start, slope, alpha=share * length)
    return start


class OdeBlock(nn.Module):
    """Integrates ``dh/dt = f(h)`` from t = 0 to 1, where f is the branch of a residual block.

    One Euler step is the residual block itself. The state and all of the solver's arithmetic are float32 under
    autocast: in bfloat16 rounding exceeds dopri5's tolerances, and its steps shrink to nothing.

    Args:
        channels: of input and output.
        solver: ``dopri5`` (Dormand-Prince, adaptive), ``midpoint``, ``rk4`` (3/8 rule) or ``euler``.
        steps: of the solvers with fixed steps.
        rtol: relative error that dopri5 allows in a step.
        atol: absolute error that dopri5 allows in a step.
        adjoint: whether gradients come from solving the adjoint ODE backwards in time, which keeps none of the
            evaluations but repeats them, rather than from backpropagation through the solver's steps. They are
            those of the exact path: far from the gradients of what is computed when steps are few and long.

    Attributes:
        nfe: number of evaluations of f in the last forward pass; those that the adjoint makes backwards do not count.
        name: what errors call this block.

    Raises:
        UserError: on an unknown solver, or numbers that are not positive.

    Source: Chen et al. 2018, "Neural Ordinary Differential Equations".
    """

    nfe = 0
    name = "an ODE block"

    def __init__(
        self,
        channels: int,
        solver: Solver = "midpoint",
        steps: int = 1,
        rtol: float = 1e-3,
        atol: float = 1e-3,
        adjoint: bool = False,
    ) -> None:
        super().__init__()
        _check_solver(solver, steps)
        if min(rtol, atol) <= 0:
            raise UserError(f"rtol is {rtol} and atol is {atol}; both must be positive")
        self.solver, self.steps, self.rtol, self.atol, self.adjoint = solver, steps, rtol, atol, adjoint
        self.branch = two_convolutions(channels)

    def forward(self, features: Tensor, gap: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Transform ``(N, C, H, W)`` to the same shape and type.

        Args:
            features: h(0).
            gap: whether to give ``h(1) - h(0) - f(h(0))`` too, float32 under autocast.

        Raises:
            SolverError: dopri5 cannot go on.
        """
        device = features.device.type
        if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                end, missed = self._integrate(features.to(torch.promote_types(features.dtype, torch.float32)), gap)
        else:  # the state has the type of the weights
            end, missed = self._integrate(features, gap)
        end = end.to(features.dtype)
        return (end, missed) if gap else end

    def _integrate(self, start: Tensor, gap: bool) -> tuple[Tensor, Tensor | None]:
        """h(1) and, if asked for, the gap."""
        adjoint = self.adjoint and torch.is_grad_enabled()
        if self.solver in _TABLEAUS and not adjoint:
            end, slope = self._step_through(start)
        else:
            end, slope = self._solve(start, adjoint, gap)
        return end, end - (start + slope) if gap else None

    def _step_through(self, start: Tensor) -> tuple[Tensor, Tensor]:
        """h(1) and f(h(0)) by fixed steps.

        torchdiffeq's own take a tenth more of a block's time, and cannot be compiled into one graph.
        """
        *stages, weights = _TABLEAUS[self.solver]
        end, first = start, None
        for _ in range(self.steps):
            slopes: list[Tensor] = []
            for shares in stages:
                slopes.append(self.branch(_add(end, slopes, shares, 1 / self.steps)))
            first = slopes[0] if first is None else first
            end = _add(end, slopes, weights, 1 / self.steps)
        self.nfe = self.steps * len(stages)
        return end, first

    @torch.compiler.disable  # its control flow depends on values: every step would break the graph
    def _solve(self, start: Tensor, adjoint: bool, gap: bool) -> tuple[Tensor, Tensor]:
        """h(1) and f(h(0)) by torchdiffeq, the latter with a graph if ``gap`` says that it matters."""
        first, count = None, 0

        def derivative(time: Tensor, state: Tensor) -> Tensor:
            nonlocal first, count
            with torch.autocast(state.device.type, enabled=False):  # for the adjoint, which comes back later
                slope, count = self.branch(state), count + 1
            first = slope if first is None else first  # all four solvers begin with f(h(0))
            return slope

        solve = partial(odeint_adjoint, adjoint_params=tuple(self.parameters())) if adjoint else odeint
        times = torch.tensor([0.0, 1.0], dtype=start.dtype, device=start.device)
        tolerances = {"rtol": self.rtol, "atol": self.atol}
        try:
            end = solve(derivative, start, times, **tolerances, method=self.solver, options=self._options())[-1]
        except AssertionError as error:
            raise SolverError(self._explanation(error)) from error
        if adjoint and gap:  # which keeps no graph of its own evaluations
            first, count = self.branch(start), count + 1
        self.nfe = count
        return end, first

    def _options(self) -> dict[str, Any]:
        if self.solver == "dopri5":
            return {"max_num_steps": _MAXIMUM_STEPS}
        # torchdiffeq's step_size would round to one step too many for some numbers of steps.
        return {"grid_constructor": lambda _, state, ends: torch.linspace(*ends.tolist(), self.steps + 1).to(ends)}

    def _explanation(self, error: AssertionError) -> str:
        reason = str(error).split(":")[0]  # without the tensor that may follow
        return (
            f"{self.name}: {self.solver} with rtol={self.rtol} and atol={self.atol} cannot go on ({reason}): use a "
            "solver with fixed steps (method.generator.solver=midpoint), or larger method.generator.rtol and atol; if "
            "a training diverged before, lower its learning rate"
        )


class DetailedOde(NamedTuple):
    """What an ODE generator gives when gaps are asked for; what else is not asked for is None or empty."""

    picture: Tensor | None  # (N, out_channels, H, W)
    features: dict[str, Tensor]  # tap -> (N, C, h, w)
    gaps: list[Tensor]  # of the blocks, each (N, C, h, w)


class OdeGenerator(BottleneckGenerator):
    """``BottleneckGenerator`` of ODE blocks.

    5,477,379 parameters with four blocks: half of those of a ``ResnetGenerator`` with nine, into whose time two
    evaluations per block fit.

    Args:
        in_channels: channels of the photograph.
        out_channels: channels of the picture.
        base_channels: channels at full resolution; the bottleneck has four times as many.
        num_blocks: ODE blocks.
        output: ``tanh``, ``residual`` or ``luminance``; see ``Generator``, as for the next three.
        smoothing: of what is painted over the photograph, in pixels.
        outlines: that it may draw, their width in pixels.
        flatten: of photographs before they are translated.
        upsample: ``transposed``, ``resize`` or ``bilinear``.
        downsample: ``stride`` or ``blur``.
        initialization: ``normal`` or ``xavier``.
        solver: ``dopri5``, ``midpoint``, ``rk4`` or ``euler``.
        steps: per block, of the solvers with fixed steps.
        rtol: relative error that dopri5 allows in a step.
        atol: absolute error that dopri5 allows in a step.
        adjoint: whether gradients come from the adjoint ODE: less memory, more time; for many steps, or dopri5.
        attention: whether ``GatedAttention`` follows the middle block.

    Raises:
        UserError: on an unknown solver, or numbers that are not positive.

    Source: Santoso et al. 2024 (NijiGAN); Chen et al. 2018.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 3,
        base_channels: int = 64,
        num_blocks: int = 4,
        output: Output = "tanh",
        smoothing: int = 0,
        outlines: float = 0,
        flatten: float = 0,
        upsample: Upsample = "transposed",
        downsample: Downsample = "stride",
        initialization: Initialization = "normal",
        solver: Solver = "midpoint",
        steps: int = 1,
        rtol: float = 1e-3,
        atol: float = 1e-3,
        adjoint: bool = False,
        attention: bool = False,
    ) -> None:
        block = partial(OdeBlock, solver=solver, steps=steps, rtol=rtol, atol=atol, adjoint=adjoint)
        super().__init__(
            block,
            num_blocks,
            in_channels,
            out_channels,
            base_channels,
            output,
            smoothing,
            outlines,
            flatten,
            upsample,
            downsample,
            initialization,
            attention,
        )
        self.solver, self.steps = solver, steps
        for number, block in enumerate(self.bottleneck):
            block.name = f"bottleneck.{number}"

    def forward(
        self, photos: Tensor, *, picture: bool = True, features: bool = False, gaps: bool = False
    ) -> Tensor | Detailed | DetailedOde:
        """Translate photographs; see ``BottleneckGenerator.forward``.

        Args:
            photos: ``(N, in_channels, H, W)`` in ``[-1, 1]``; H and W multiples of 4, at least 8.
            picture: whether to make the picture.
            features: whether to give the features at all taps.
            gaps: whether to give what one Euler step through each block misses, as ``DetailedOde``. The pass then
                goes through all blocks, also without a picture.

        Raises:
            SolverError: dopri5 cannot go on.
        """
        for block in self.bottleneck:
            block.nfe = 0  # also of those that a pass without a picture does not reach
        if not gaps:
            return super().forward(photos, picture=picture, features=features)
        missed: list[Tensor] = []

        def through(block: OdeBlock, hidden: Tensor) -> Tensor:
            hidden, gap = block(hidden, gap=True)
            missed.append(gap)
            return hidden

        blocks = [partial(through, block) for block in self.bottleneck]
        return DetailedOde(*self._run(photos, blocks, picture, features), missed)

    @property
    def nfe(self) -> int:
        """Number of evaluations of f in the last forward pass, of all blocks together."""
        return sum(block.nfe for block in self.bottleneck)

    @property
    def context(self) -> int:
        """How far an output pixel looks, in pixels; each evaluation inside another looks 8 pixels farther.

        With dopri5 there is no bound: the error over the whole picture decides on the number and lengths of steps. Two
        steps per block are assumed. Tiles of a huge photograph then differ a little from the whole, while with fixed
        steps they are the same: prefer those for translating in tiles.
        """
        fixed = self.solver in _TABLEAUS
        nested = self.steps * (len(_TABLEAUS[self.solver]) - 1) if fixed else _ADAPTIVE_STAGES
        return self._ends_context + 8 * nested * len(self.bottleneck)

    def set_solver(self, solver: Solver, steps: int | None = None) -> None:
        """Change how all blocks are solved from now on, which needs no other weights.

        Args:
            solver: ``dopri5``, ``midpoint``, ``rk4`` or ``euler``.
            steps: per block, of the solvers with fixed steps; None leaves them as they are.

        Raises:
            UserError: on an unknown solver or less than one step.
        """
        steps = self.steps if steps is None else steps
        _check_solver(solver, steps)
        for part in (self, *self.bottleneck):
            part.solver, part.steps = solver, steps
