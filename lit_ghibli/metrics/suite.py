"""The metrics of a run, fed together: those of image pairs, and those of two sets of images."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torchmetrics import MeanAbsoluteError, MeanMetric, MeanSquaredError, Metric
from torchmetrics.functional.image import peak_signal_noise_ratio
from torchmetrics.image import StructuralSimilarityIndexMeasure

from lit_ghibli.images import to_unit
from lit_ghibli.metrics.sliced_wasserstein import SlicedWassersteinDistance

SSIM_WINDOW = 11  # pixels: the Gaussian of sigma 1.5, cut at 3.5 sigma


class MeanPSNR(MeanMetric):
    """Mean over images of each image's peak signal-to-noise ratio, in dB, for images in ``[0, 1]``."""

    def update(self, output: Tensor, target: Tensor) -> None:
        """Add outputs and targets, ``(N, 3, H, W)``."""
        super().update(peak_signal_noise_ratio(output, target, data_range=1.0, reduction="none", dim=(1, 2, 3)))


# update(output, target), both in [0, 1]
PAIR_METRICS: dict[str, Callable[[], Metric]] = {
    "ssim": lambda: StructuralSimilarityIndexMeasure(data_range=1.0),
    "psnr": MeanPSNR,
    "mse": MeanSquaredError,
    "l1": MeanAbsoluteError,
}
# update(images, real=...), in [0, 1]; made from the seed
SET_METRICS: dict[str, Callable[[int], Metric]] = {
    "swd": lambda seed: SlicedWassersteinDistance(seed=seed),
}

_RANGE_SLACK = 1e-3  # rounding of half precision around -1 and 1


class MetricSuite(nn.Module):
    """Metrics by name; inputs are images ``(N, 3, H, W)`` in ``[-1, 1]``, measured in ``[0, 1]``.

    Of pairs (an output and its ground truth):

    - ``ssim``: structural similarity (Wang et al. 2004), Gaussian window, mean over images.
    - ``psnr``: peak signal-to-noise ratio in dB, the mean over images of each image's own; infinite as
      soon as one output equals its target.
    - ``mse``: mean squared error over all values of all images.
    - ``l1``: mean absolute error over all values of all images.

    Of sets (outputs, and real images of the style):

    - ``swd``: `SlicedWassersteinDistance`.

    As an attribute of a module it moves between devices with it and puts nothing into its checkpoints. In
    distributed runs `compute` gathers all processes' images, so all of them must call it.

    Args:
        metrics: names from `PAIR_METRICS` and `SET_METRICS`.
        seed: of the metrics that sample.

    Raises:
        ValueError: an unknown name.
    """

    def __init__(self, metrics: Iterable[str] = ("ssim", "psnr", "mse", "l1", "swd"), seed: int = 0) -> None:
        super().__init__()
        self.names = tuple(metrics)
        unknown = [name for name in self.names if name not in PAIR_METRICS | SET_METRICS]
        if unknown:
            raise ValueError(f"unknown metrics {unknown}; known: {[*PAIR_METRICS, *SET_METRICS]}")
        self.pair_metrics = nn.ModuleDict({n: PAIR_METRICS[n]() for n in self.names if n in PAIR_METRICS})
        self.set_metrics = nn.ModuleDict({n: SET_METRICS[n](seed) for n in self.names if n in SET_METRICS})
        self.seen = _Seen()

    def update_pair(self, output: Tensor, target: Tensor) -> None:
        """Add outputs and their ground truth, of equal shape.

        Raises:
            TypeError: the images are not floating point.
            ValueError: wrong or unequal shapes, values outside [-1, 1], or too small for SSIM.
        """
        output, target = _unit(output, "output"), _unit(target, "target")
        if output.shape != target.shape:
            raise ValueError(f"output {tuple(output.shape)} and target {tuple(target.shape)} must have equal shapes")
        if "ssim" in self.pair_metrics and min(output.shape[-2:]) < SSIM_WINDOW:
            raise ValueError(
                f"ssim needs images of at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got "
                f"{tuple(output.shape[-2:])}: use larger images or leave ssim out of the metrics"
            )
        with torch.autocast(output.device.type, enabled=False):  # SSIM subtracts nearly equal numbers
            for metric in self.pair_metrics.values():
                metric.update(output, target)
        self.seen.update(pairs=len(output))

    def update_fake(self, images: Tensor) -> None:
        """Add outputs to the generated set."""
        self._update_set(images, real=False)
        self.seen.update(fake=len(images))

    def update_real(self, images: Tensor) -> None:
        """Add images of the style to the real set."""
        self._update_set(images, real=True)
        self.seen.update(real=len(images))

    def compute(self) -> dict[str, float]:
        """Return the metrics that have data, in the order of their names.

        Pair metrics are left out without a pair, set metrics where a set is empty.
        """
        self.seen.update()  # counts nothing: torchmetrics warns of a compute before any update
        pairs, fake, real = self.seen.compute().tolist()
        ready: dict[str, Metric] = {}
        if pairs:
            ready.update(self.pair_metrics.items())
        if fake and real:
            ready.update(self.set_metrics.items())
        return {name: float(ready[name].compute()) for name in self.names if name in ready}

    def reset(self) -> None:
        """Forget all images."""
        for metric in (self.seen, *self.pair_metrics.values(), *self.set_metrics.values()):
            metric.reset()

    def _update_set(self, images: Tensor, real: bool) -> None:
        images = _unit(images, "images")
        for metric in self.set_metrics.values():
            metric.update(images, real=real)


class _Seen(Metric):
    """Counts of images, summed over processes, so that all processes agree on what to compute."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("counts", default=torch.zeros(3, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, pairs: int = 0, fake: int = 0, real: int = 0) -> None:
        self.counts = self.counts + self.counts.new_tensor([pairs, fake, real])

    def compute(self) -> Tensor:
        return self.counts


def _unit(images: Tensor, what: str) -> Tensor:
    """Check images in [-1, 1] and convert them to [0, 1]."""
    if not images.is_floating_point():
        raise TypeError(f"{what} must be floating point in [-1, 1], got {images.dtype}")
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise ValueError(f"{what} must have shape (N, 3, H, W) with N > 0, got {tuple(images.shape)}")
    low, high = (float(extreme) for extreme in images.detach().aminmax())
    if not (low >= -1.0 - _RANGE_SLACK and high <= 1.0 + _RANGE_SLACK):  # also true of NaN
        raise ValueError(f"{what} must lie in [-1, 1], got [{low:g}, {high:g}]")
    return to_unit(images.detach()).contiguous()  # torchmetrics views some tensors
