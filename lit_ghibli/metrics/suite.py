"""The metrics of a run, fed together: those of image pairs, and those of two sets of images."""

import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)

import lit_ghibli
from lit_ghibli.files import default_cache_dir
from lit_ghibli.images import to_unit
from lit_ghibli.metrics import perceptual, protocol
from lit_ghibli.metrics.bootstrap import bootstrap_means, interval
from lit_ghibli.metrics.feature_sets import FeatureSets
from lit_ghibli.metrics.features import load_extractor
from lit_ghibli.metrics.flicker import Flicker
from lit_ghibli.metrics.frechet import UNBIASED_FROM, frechet_of_features
from lit_ghibli.metrics.kernel import bootstrap_kernel_distance, kernel_distance, sample
from lit_ghibli.metrics.painted import contours_kept, flat_area_gained
from lit_ghibli.metrics.perceptual import PerceptualDistance
from lit_ghibli.metrics.picture_scores import PictureScores
from lit_ghibli.metrics.seen import Seen
from lit_ghibli.metrics.sliced_wasserstein import SlicedWassersteinDistance

SSIM_WINDOW = 11  # pixels: the Gaussian of sigma 1.5, cut at 3.5 sigma

_RANGE_SLACK = 1e-3  # rounding of half precision around -1 and 1
_logger = logging.getLogger(__name__)


def _ssim(output: Tensor, target: Tensor) -> Tensor:
    # In float32, equal pictures with flat fills would not reach 1: small variances are differences of large numbers.
    return structural_similarity_index_measure(output.double(), target.double(), data_range=1.0, reduction="none")


def _ms_ssim(output: Tensor, target: Tensor) -> Tensor:
    return multiscale_structural_similarity_index_measure(output, target, data_range=1.0, reduction="none")


def _psnr(output: Tensor, target: Tensor) -> Tensor:
    return peak_signal_noise_ratio(output, target, data_range=1.0, reduction="none", dim=(1, 2, 3))


def _squared_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).square().mean(dim=(1, 2, 3))


def _absolute_error(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean(dim=(1, 2, 3))


# update(output, target), both in [0, 1]
PAIR_METRICS: dict[str, Callable[[], PictureScores]] = {
    "ssim": lambda: PictureScores(_ssim),
    "ms_ssim": lambda: PictureScores(_ms_ssim),
    "psnr": lambda: PictureScores(_psnr),
    "mse": lambda: PictureScores(_squared_error, by_pixel=True),
    "l1": lambda: PictureScores(_absolute_error, by_pixel=True),
}
# update(output, photo), both in [0, 1]
PHOTO_METRICS: dict[str, Callable[[], PictureScores]] = {
    "flat": lambda: PictureScores(flat_area_gained),
    "contours": lambda: PictureScores(contours_kept),
    "content_mse": lambda: PictureScores(_squared_error, by_pixel=True),
    "content_psnr": lambda: PictureScores(_psnr),
    "flicker": Flicker,
}
LPIPS = "lpips"  # of pairs too, with a network that has to be had first
# update(images, real=...), in [0, 1]; made from the seed
SET_METRICS: dict[str, Callable[[int], Metric]] = {
    "swd": lambda seed: SlicedWassersteinDistance(seed=seed),
}
# Of features of the two sets, and what they are called where the features are not Inception's
FEATURE_METRICS = {"fid": "frechet", "kid": "kernel"}
NAMES = (*PAIR_METRICS, LPIPS, *PHOTO_METRICS, *SET_METRICS, *FEATURE_METRICS)
# Pixels on the shorter side that a metric of pairs needs; MS-SSIM: its window, 16 times reduced
SMALLEST = {"ssim": SSIM_WINDOW, "ms_ssim": 176, LPIPS: perceptual.SMALLEST}
_WEIGHT_FREE = ("ssim", "psnr", "mse", "l1", "flat", "contours", "content_mse", "content_psnr", "swd")


class MetricSuite(nn.Module):
    """Metrics by name; inputs are images ``(N, 3, H, W)`` in ``[-1, 1]``, measured in ``[0, 1]``.

    Of pairs (an output and its ground truth), means over images:

    - ``ssim``: structural similarity (Wang et al. 2004), Gaussian window.
    - ``ms_ssim``: the same on five scales (Wang et al. 2003), for sides of at least 176 pixels.
    - ``psnr``: peak signal-to-noise ratio in dB of each image; infinite as soon as one output equals its target.
    - ``mse``: mean squared error over all values of all images.
    - ``l1``: mean absolute error over all values of all images.
    - ``lpips``: `PerceptualDistance`; ``perceptual_vgg19`` and the like where it is no LPIPS.

    Of outputs and the photographs that they were made of, means over images:

    - ``flat``: `flat_area_gained`.
    - ``contours``: `contours_kept`.
    - ``content_mse`` and ``content_psnr``: ``mse`` and ``psnr`` against the photograph, as NijiGAN's test module has
      them: how much was changed, which is no merit in itself.
    - ``flicker``: `warping_error` of successive pictures, where the photographs are the frames of a clip, in order.

    Of sets (outputs, and real images of the style):

    - ``swd``: `SlicedWassersteinDistance`.
    - ``fid``: Fréchet distance of Inception features; biased upwards below 2,048 images, which is warned of.
    - ``kid``: `kernel_distance` of Inception features, the one to look at with few images, and ``kid_std``, the
      standard deviation of its bootstrap.

    For the last two the larger set is cut to as many images as the smaller one has. They are called ``frechet_vgg19``,
    ``kernel_mobilenet`` and the like where the features are not Inception's. Torchmetrics' own classes do not serve:
    the sums that its FID keeps cannot be cut, and it takes eigenvalues of a product of singular matrices, which lasts
    minutes and is off by some per cent of a small distance.

    As an attribute of a module it moves between devices with it and puts nothing into its checkpoints. In
    distributed runs `compute` gathers all processes' images, so all of them must call it.

    Args:
        metrics: names from `NAMES`.
        seed: of the metrics that sample, and of intervals.
        features: of ``fid`` and ``kid``: see `load_extractor`.
        lpips: backbone of ``lpips``: ``alex``, ``vgg``, ``vgg19`` or ``mobilenet``.
        lpips_weights: see `PerceptualDistance`.
        cache_dir: where features of real images are kept; None for the folder of all caches.

    Raises:
        ValueError: An unknown name.
        UserError: Weights of a network that a metric needs cannot be had.
    """

    def __init__(
        self,
        metrics: Iterable[str] = _WEIGHT_FREE,
        seed: int = 0,
        features: str = "inception",
        lpips: str = "alex",
        lpips_weights: str = "imagenet",
        cache_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        self.names, self.seed = tuple(metrics), seed
        if unknown := [name for name in self.names if name not in NAMES]:
            raise ValueError(f"unknown metrics {unknown}; known: {list(NAMES)}")
        self.pair_metrics = nn.ModuleDict({n: PAIR_METRICS[n]() for n in self.names if n in PAIR_METRICS})
        self.photo_metrics = nn.ModuleDict({n: PHOTO_METRICS[n]() for n in self.names if n in PHOTO_METRICS})
        self.set_metrics = nn.ModuleDict({n: SET_METRICS[n](seed) for n in self.names if n in SET_METRICS})
        self.titles = {name: name for name in self.names}
        self.perceptual = PerceptualDistance(lpips, str(lpips_weights)) if LPIPS in self.names else None
        if self.perceptual:
            self.pair_metrics[LPIPS] = PictureScores(self.perceptual)
            self.titles[LPIPS] = self.perceptual.title
        if FEATURE_METRICS.keys() & set(self.names):
            extractor = load_extractor(str(features))
            self.feature_sets = FeatureSets(extractor, Path(cache_dir or default_cache_dir()))
            if not extractor.is_inception:
                self.titles |= {name: f"{other}_{features}" for name, other in FEATURE_METRICS.items()}
        else:
            self.feature_sets = None
        self.seen = Seen()
        self._warned = False

    def update_pair(self, output: Tensor, target: Tensor) -> None:
        """Add outputs and their ground truth, of equal shape.

        Raises:
            TypeError: the images are not floating point.
            ValueError: wrong or unequal shapes, values outside [-1, 1], or too small for a metric.
        """
        unit_output, unit_target = _unit(output, "output"), _unit(target, "target")
        if output.shape != target.shape:
            raise ValueError(f"output {tuple(output.shape)} and target {tuple(target.shape)} must have equal shapes")
        for name in self.pair_metrics:
            if min(output.shape[-2:]) < (side := SMALLEST.get(name, 1)):
                raise ValueError(
                    f"{name} needs images of at least {side} x {side} pixels, got {tuple(output.shape[-2:])}: use "
                    f"larger images or leave {name} out of the metrics"
                )
        with torch.autocast(output.device.type, enabled=False):  # SSIM subtracts nearly equal numbers
            for metric in self.pair_metrics.values():
                metric.update(unit_output, unit_target)
        self.seen.update("pairs", target)

    def update_photo(self, output: Tensor, photo: Tensor) -> None:
        """Add outputs and the photographs that they were made of, of equal shape.

        Raises:
            TypeError: the images are not floating point.
            ValueError: wrong or unequal shapes, or values outside [-1, 1].
        """
        if not self.photo_metrics:
            return
        unit_output, unit_photo = _unit(output, "output"), _unit(photo, "photo")
        with torch.autocast(output.device.type, enabled=False):
            for metric in self.photo_metrics.values():
                metric.update(unit_output, unit_photo)
        self.seen.update("photos", photo)

    def update_fake(self, images: Tensor) -> None:
        """Add outputs to the generated set."""
        self._update_set(images, real=False)
        self.seen.update("fake", images)

    def update_real(self, images: Tensor) -> None:
        """Add images of the style to the real set."""
        self._update_set(images, real=True)
        self.seen.update("real", images)

    def compute(self) -> dict[str, float]:
        """Return the metrics that have data, in the order of their names.

        Metrics of pairs and of photographs are left out without any, set metrics where a set is empty, those of
        features where one has fewer than two images.
        """
        counts = self._counts()
        values: dict[str, float] = {}
        for name in self._ready(counts):
            title = self.titles[name]
            if scored := self._scored(name):
                scores, weights = scored.compute()
                values[title] = float((scores * weights).sum() / weights.sum())
            elif name in self.set_metrics:
                values[title] = float(self.set_metrics[name].compute())
            elif name == "fid":
                values[title] = float(frechet_of_features(*self.feature_sets.compute()))
                self._warn_of_bias(title, counts)
            else:
                values[title] = float(kernel_distance(*self._sampled_features()))
                values[f"{title}_std"] = float(np.nanstd(self._kernel_resamples()))
        return values

    def intervals(self) -> dict[str, tuple[float, float]]:
        """Return 95 % bootstrap intervals, drawn with the seed, of the metrics of `compute` that have one.

        These are the metrics of pairs and of photographs, resampled over pictures, and the kernel distance, resampled
        over both sets. Those with a single picture or an infinite score are left out. A Fréchet distance has none: its
        bias grows with every resampling.
        """
        found = {}
        for name in self._ready(self._counts()):
            if scored := self._scored(name):
                scores, weights = scored.compute()
                if len(scores) > 1 and scores.isfinite().all():
                    found[self.titles[name]] = interval(bootstrap_means(scores, weights, self.seed))
            elif name == "kid":
                found[self.titles[name]] = interval(self._kernel_resamples())
        return {title: bounds for title, bounds in found.items() if bounds}

    def protocol(self) -> dict[str, Any]:
        """Return how the numbers came to be, as a flat dict of JSON scalars: see `lit_ghibli.metrics.protocol`.

        What does not apply is left out. ``real_set``, ``target_set`` and ``photo_set`` tell the pictures from any
        others, by their content and in any order.
        """
        counts = self._counts()
        features = self.feature_sets.extractor if self.feature_sets else None
        stamp = {
            "protocol_version": protocol.VERSION,
            **{key: counts[key] for key in ("n_real", "n_fake", "n_pairs", "image_size")},
            **{key: counts[key] for key in ("real_set", "target_set", "photo_set")},
            "extractor": features and features.name,
            "extractor_weights": features and features.weights,
            "extractor_resize": features and features.resize,
            "lpips_backbone": self.perceptual and self.perceptual.backbone,
            "lpips_weights": self.perceptual and self.perceptual.source,
            "metric_seed": self.seed,
            "suite_version": lit_ghibli.__version__,
        }
        if "fid" in self._ready(counts):
            stamp["fid_biased"] = _too_few(counts)
        return {field: value for field, value in stamp.items() if value is not None}

    def reset(self) -> None:
        """Forget all images."""
        feature_sets = [self.feature_sets] if self.feature_sets else []
        scored = (*self.pair_metrics.values(), *self.photo_metrics.values())
        for metric in (self.seen, *scored, *self.set_metrics.values(), *feature_sets):
            metric.reset()

    def _update_set(self, images: Tensor, real: bool) -> None:
        unit = _unit(images, "images")
        for metric in self.set_metrics.values():
            metric.update(unit, real=real)
        if self.feature_sets:
            self.feature_sets.update(images, real=real)

    def _scored(self, name: str) -> PictureScores | None:
        """The metric of pairs or of photographs of this name."""
        return {**self.pair_metrics, **self.photo_metrics}.get(name)

    def _counts(self) -> dict[str, Any]:
        self.seen.update()  # counts nothing: torchmetrics warns of a compute before any update
        return self.seen.compute()

    def _ready(self, counts: dict[str, Any]) -> list[str]:
        """Names of the metrics that have enough data."""
        smaller = min(counts["n_real"], counts["n_fake"])
        enough = dict.fromkeys(self.pair_metrics, counts["n_pairs"] > 0)
        enough |= dict.fromkeys(self.photo_metrics, counts["n_photos"] > 0)
        enough["flicker"] = counts["n_photos"] > 1
        enough |= dict.fromkeys(self.set_metrics, smaller > 0) | dict.fromkeys(FEATURE_METRICS, smaller > 1)
        return [name for name in self.names if enough[name]]

    def _sampled_features(self) -> tuple[Tensor, Tensor]:
        real, fake = self.feature_sets.compute()
        return sample(real, self.seed), sample(fake, self.seed)

    def _kernel_resamples(self) -> Tensor:
        return bootstrap_kernel_distance(*self._sampled_features(), seed=self.seed)

    def _warn_of_bias(self, title: str, counts: dict[str, Any]) -> None:
        if _too_few(counts) and not self._warned:
            self._warned = True
            _logger.warning(
                "%s of %d outputs and %d real images is biased upwards: below %d, compare it only with values of as "
                "many images, and look at the kernel distance (kid)",
                *(title, counts["n_fake"], counts["n_real"], UNBIASED_FROM),
            )


def _too_few(counts: dict[str, Any]) -> bool:
    return min(counts["n_real"], counts["n_fake"]) < UNBIASED_FROM


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
