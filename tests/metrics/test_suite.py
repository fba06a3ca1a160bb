import json
import logging
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from skimage import metrics as skimage_metrics
from torchmetrics.image import MultiScaleStructuralSimilarityIndexMeasure
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

import lit_ghibli
from lit_ghibli.errors import UserError
from lit_ghibli.images import to_uint8
from lit_ghibli.metrics import features as features_module
from lit_ghibli.metrics import suite as suite_module
from lit_ghibli.metrics.features import FeatureExtractor, load_extractor
from lit_ghibli.metrics.frechet import frechet_of_features
from lit_ghibli.metrics.painted import contours_kept, flat_area_gained
from lit_ghibli.metrics.perceptual import PerceptualDistance
from lit_ghibli.metrics.sliced_wasserstein import SlicedWassersteinDistance
from lit_ghibli.metrics.suite import NAMES, MetricSuite
from lit_ghibli.networks.mobilenet import MobileNetFeatures


def images(count: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def in_unit_range(batch: torch.Tensor) -> np.ndarray:
    return (batch.double().numpy() + 1) / 2


def skimage_ssim(output: torch.Tensor, target: torch.Tensor) -> float:
    """SSIM of each image by skimage; padded, because skimage leaves out a border of 5 pixels."""
    values = []
    for pair in zip(in_unit_range(output), in_unit_range(target), strict=True):
        padded = [np.pad(image, ((0, 0), (5, 5), (5, 5)), mode="reflect") for image in pair]
        values.append(
            skimage_metrics.structural_similarity(
                *padded,
                channel_axis=0,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
    return float(np.mean(values))


def test_pair_metrics_match_skimage_over_batches_of_different_sizes():
    batches = [(3, 40, 32), (1, 24, 50)]
    suite = MetricSuite(("mse", "ssim", "psnr"))
    ssim, psnr, squares = [], [], []
    for seed, (count, *size) in enumerate(batches):
        target = images(count, *size, seed=seed)
        output = (target + 0.2 * (seed + 1) * images(count, *size, seed=9)).clamp(-1, 1)
        suite.update_pair(output, target)
        ssim += [skimage_ssim(output[i : i + 1], target[i : i + 1]) for i in range(count)]
        for pair in zip(in_unit_range(output), in_unit_range(target), strict=True):
            psnr.append(skimage_metrics.peak_signal_noise_ratio(*pair, data_range=1.0))
            squares.append((pair[0] - pair[1]).ravel() ** 2)
    values = suite.compute()
    assert list(values) == ["mse", "ssim", "psnr"]
    assert all(type(value) is float for value in values.values())
    assert values["ssim"] == pytest.approx(np.mean(ssim), abs=1e-5)
    assert values["psnr"] == pytest.approx(np.mean(psnr), rel=1e-5)
    assert values["mse"] == pytest.approx(np.concatenate(squares).mean(), rel=1e-5)


def test_psnr_is_the_mean_over_images_in_closed_form():
    target = torch.zeros(2, 3, 16, 16)
    output = torch.stack([torch.full((3, 16, 16), 0.2), torch.full((3, 16, 16), 0.02)])
    suite = MetricSuite(("psnr", "mse", "l1"))
    suite.update_pair(output, target)
    # errors of 0.1 and 0.01 on [0, 1]: 20 and 40 dB, where the PSNR of the mean error were 23 dB
    assert suite.compute() == pytest.approx({"psnr": 30.0, "mse": (0.01 + 0.0001) / 2, "l1": 0.055}, rel=1e-4)


def test_perfect_outputs():
    suite = MetricSuite(("ssim", "psnr", "mse"))
    suite.update_pair(images(1, 16, 16), images(1, 16, 16))
    assert suite.compute() == {"ssim": pytest.approx(1.0), "psnr": math.inf, "mse": 0.0}


def test_sets_are_measured_in_the_unit_range_with_the_seed():
    fake, real = images(2, 32, 32), images(3, 32, 32, seed=1)
    suite, metric = MetricSuite(("swd",), seed=4), SlicedWassersteinDistance(seed=4)
    suite.update_fake(fake)
    suite.update_real(real)
    metric.update((fake + 1) / 2, real=False)
    metric.update((real + 1) / 2, real=True)
    assert suite.compute() == {"swd": pytest.approx(float(metric.compute()))}


def test_only_metrics_with_data_are_returned():
    suite = MetricSuite()
    assert suite.compute() == {}
    suite.update_fake(images(1, 16, 16))
    assert suite.compute() == {}
    suite.update_real(images(1, 16, 16))
    assert list(suite.compute()) == ["swd"]
    suite.update_pair(images(1, 16, 16), images(1, 16, 16, seed=1))
    assert list(suite.compute()) == ["ssim", "psnr", "mse", "l1", "swd"]
    suite.update_photo(images(1, 16, 16), images(1, 16, 16, seed=1))
    of_photos = ["flat", "contours", "content_mse", "content_psnr"]
    assert list(suite.compute()) == ["ssim", "psnr", "mse", "l1", *of_photos, "swd"]
    suite.reset()
    assert suite.compute() == {}


def test_content_is_mse_and_psnr_against_the_photograph_not_the_target():
    output, photo, target = (images(3, 16, 20, seed=seed) for seed in range(3))
    suite = MetricSuite(("mse", "psnr", "content_mse", "content_psnr"))
    for part in (slice(0, 1), slice(1, 3)):
        suite.update_pair(output[part], target[part])
        suite.update_photo(output[part], photo[part])
    expected = {}
    for prefix, other in (("", target), ("content_", photo)):
        squares = [np.square(in_unit_range(output[i]) - in_unit_range(other[i])).mean() for i in range(3)]
        expected[f"{prefix}mse"] = np.mean(squares)
        expected[f"{prefix}psnr"] = np.mean([-10 * math.log10(square) for square in squares])
    assert suite.compute() == pytest.approx(expected, rel=1e-5)


def test_photographs_are_what_flat_and_contours_compare_with():
    photos = images(3, 24, 32)
    pictures = torch.nn.functional.avg_pool2d(photos, 5, stride=1, padding=2)
    suite = MetricSuite(("contours", "flat"))
    for number in range(3):
        suite.update_photo(pictures[number : number + 1], photos[number : number + 1])
    unit = ((pictures + 1) / 2, (photos + 1) / 2)
    expected = {"contours": contours_kept(*unit), "flat": flat_area_gained(*unit)}
    assert suite.compute() == pytest.approx({name: values.mean().item() for name, values in expected.items()}, rel=1e-5)
    assert suite.intervals().keys() == expected.keys()
    stamp = suite.protocol()
    suite.reset()
    suite.update_photo(photos, photos)
    assert suite.protocol() == stamp, "other pictures of the same photographs are other numbers alone"
    assert suite.compute() == pytest.approx({"contours": 1, "flat": 0})
    suite.update_photo(photos, pictures)
    assert suite.protocol()["photo_set"] != stamp["photo_set"]
    plain = MetricSuite(("mse",))
    plain.update_photo(pictures, photos)
    assert "photo_set" not in plain.protocol(), "no metric looks at them"
    with pytest.raises(ValueError, match="equal shapes"):
        suite.update_photo(pictures, photos[..., :-1])


def test_nothing_enters_a_checkpoint_and_a_parent_module_moves_it():
    parent = torch.nn.ModuleDict({"metrics": MetricSuite()})
    for _ in range(2):
        assert parent.state_dict() == {}
        assert list(parent.parameters()) == []
        parent["metrics"].update_pair(images(1, 16, 16), images(1, 16, 16, seed=1))
        parent["metrics"].update_fake(images(1, 16, 16))
    parent.to("meta")
    moved = parent["metrics"].set_metrics["swd"].fake_patches[0]
    assert moved.device.type == "meta"


def test_autocast_and_gradients_do_not_reach_the_metrics():
    output, target = images(1, 32, 32), images(1, 32, 32, seed=1)
    plain, mixed = MetricSuite(), MetricSuite()
    for suite, enabled in ((plain, False), (mixed, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            suite.update_pair(output.clone().requires_grad_(), target)
            suite.update_fake(output.clone().requires_grad_())
            suite.update_real(target)
            values = suite.compute()
        assert values == pytest.approx(plain.compute(), rel=1e-6)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), TypeError, "output must be floating point"),
        (torch.zeros(3, 16, 16), ValueError, r"output must have shape .* got \(3, 16, 16\)"),
        (torch.full((1, 3, 16, 16), 255.0), ValueError, r"\[-1, 1\], got \[255, 255\]"),
        (torch.full((1, 3, 16, 16), torch.nan), ValueError, "nan"),
        (torch.zeros(2, 3, 16, 16), ValueError, "must have equal shapes"),
    ],
)
def test_wrong_pairs_are_named(output, error, message):
    with pytest.raises(error, match=message):
        MetricSuite().update_pair(output, torch.zeros(1, 3, 16, 16))


def test_too_small_for_ssim_is_named():
    small = torch.zeros(1, 3, 10, 64)
    with pytest.raises(ValueError, match=r"ssim needs images of at least 11 x 11 pixels, got \(10, 64\)"):
        MetricSuite().update_pair(small, small)
    MetricSuite(("mse",)).update_pair(small, small)
    MetricSuite(("ssim",)).update_pair(torch.zeros(1, 3, 11, 11), torch.zeros(1, 3, 11, 11))
    with pytest.raises(ValueError, match=r"ms_ssim needs images of at least 176 x 176 pixels"):
        MetricSuite(("ms_ssim",)).update_pair(images(1, 175, 200), images(1, 175, 200))


def test_unknown_metric_is_named_with_the_known_ones():
    with pytest.raises(
        ValueError, match=r"\['fog'\]; known: \['ssim', 'ms_ssim', .*'lpips', 'flat', .*'swd', 'fid', 'kid'\]"
    ):
        MetricSuite(("ssim", "fog"))
    assert MetricSuite(metrics=[]).compute() == {}
    assert len(set(NAMES)) == len(NAMES)


# --- metrics of features --------------------------------------------------------


def fed(metrics, fake, real, **arguments) -> MetricSuite:
    suite = MetricSuite(metrics, **arguments)
    for part in fake.split(3):
        suite.update_fake(part)
    for part in real.split(2):
        suite.update_real(part)
    return suite


def as_inception(monkeypatch) -> FeatureExtractor:
    """Make a small random network pass for Inception; its features are scaled as Inception's are, around 1."""
    random = load_extractor("random")
    extractor = FeatureExtractor(random.network, "small", "none", "none", is_inception=True)
    monkeypatch.setattr(suite_module, "load_extractor", lambda features: extractor)
    return extractor


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_fid_and_kid_are_torchmetrics_of_rounded_pictures(tmp_path, monkeypatch):
    extractor = as_inception(monkeypatch)
    fake, real = images(7, 32, 32), images(7, 32, 40, seed=1) * 0.7
    values = fed(("kid", "fid"), fake, real, cache_dir=tmp_path).compute()
    assert list(values) == ["kid", "kid_std", "fid"]
    monkeypatch.setattr(extractor.network, "num_features", 64, raising=False)
    frechet = FrechetInceptionDistance(feature=extractor.network)
    kernel = KernelInceptionDistance(feature=extractor.network, subsets=1, subset_size=7)
    for metric in (frechet, kernel):
        metric.update(to_uint8(fake), real=False)
        metric.update(to_uint8(real), real=True)
    assert values["fid"] == pytest.approx(float(frechet.compute()), rel=1e-3)
    assert values["kid"] == pytest.approx(float(kernel.compute()[0]), rel=1e-3)
    assert 0 < values["kid_std"] < values["kid"]


def test_fid_is_computed_here_since_torchmetrics_loses_small_distances_and_cannot_cut(tmp_path, monkeypatch):
    """A shift of all features by 0.001 is a distance of D times its square, whatever the features."""
    shift, features = 1e-3, torch.rand(8, 256, generator=torch.Generator().manual_seed(0))
    assert float(frechet_of_features(features, features + shift)) == pytest.approx(256 * shift**2, rel=1e-3)
    network = torch.nn.Module()
    network.num_features = 256
    metric = FrechetInceptionDistance(feature=network)
    for real, each in ((True, features), (False, features + shift)):
        network.forward = lambda images, each=each: each
        metric.update(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), real=real)
    assert abs(float(metric.compute()) / (256 * shift**2) - 1) > 0.01

    as_inception(monkeypatch)
    fake, real = images(5, 32, 32), images(3, 32, 40, seed=1)
    values = [
        fed(("fid", "kid"), fake[:made], real[:given], cache_dir=tmp_path).compute()
        for made, given in ((5, 3), (3, 3), (2, 3), (2, 2))
    ]
    assert values[0] == values[1]
    assert values[2] == values[3]


def test_other_features_are_never_called_fid_kid_or_lpips(tmp_path):
    suite = fed(("fid", "lpips", "kid"), images(2, 32, 32), images(3, 32, 32, seed=1), features="random",
                lpips_weights="random", cache_dir=tmp_path)  # fmt: skip
    suite.update_pair(images(2, 32, 32), images(2, 32, 32, seed=1))
    values = suite.compute()
    assert list(values) == ["frechet_random", "perceptual_random", "kernel_random", "kernel_random_std"]
    expected = PerceptualDistance("alex", "random")(*((images(2, 32, 32, seed=seed) + 1) / 2 for seed in (0, 1)))
    assert values["perceptual_random"] == pytest.approx(float(expected.mean()), rel=1e-5)


def test_distances_of_mobilenet_are_those_of_its_mean_features_in_closed_form(tmp_path, monkeypatch):
    """Of two pictures each: covariances of rank one, and three kinds of kernel values."""
    network = MobileNetFeatures(["block_16"], weights="random")
    torch.manual_seed(0)
    for layer in network.trunk.modules():  # so that features differ by more than float32 rounds
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
    monkeypatch.setattr(features_module, "MobileNetFeatures", lambda taps: network)
    monkeypatch.setattr(features_module, "_MOBILENET_SIDE", 64)
    load_extractor.cache_clear()
    real, fake = images(2, 64, 64) * torch.tensor([1.0, 0.2]).view(2, 1, 1, 1), images(2, 64, 64, seed=1).sign() / 2
    values = fed(("fid", "kid"), fake, real, features="mobilenet", cache_dir=tmp_path).compute()
    load_extractor.cache_clear()
    assert list(values) == ["frechet_mobilenet", "kernel_mobilenet", "kernel_mobilenet_std"]
    (x, x2), (y, y2) = (
        network(to_uint8(each).float() / 127.5 - 1)["block_16"].double().mean(dim=(2, 3)).numpy()
        for each in (real, fake)
    )
    means, spreads = (x + x2) / 2 - (y + y2) / 2, (x - x2, y - y2)
    rank_one = spreads[0] @ spreads[0] / 2 + spreads[1] @ spreads[1] / 2 - abs(spreads[0] @ spreads[1])
    assert values["frechet_mobilenet"] == pytest.approx(means @ means + rank_one, rel=1e-4)

    def kernel(a, b):
        return (a @ b / len(a) + 1) ** 3

    crossed = kernel(x, y) + kernel(x, y2) + kernel(x2, y) + kernel(x2, y2)
    assert values["kernel_mobilenet"] == pytest.approx(kernel(x, x2) + kernel(y, y2) - crossed / 2, rel=1e-3)


def test_missing_weights_are_told_when_the_suite_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("offline")))
    for name in ("fid", "kid", "lpips"):
        with pytest.raises(UserError, match="offline"):
            MetricSuite((name,))


def test_features_need_two_images_of_each_set(tmp_path):
    arguments = {"metrics": ("fid", "kid", "swd"), "features": "random", "cache_dir": tmp_path}
    assert list(fed(fake=images(1, 32, 32), real=images(2, 32, 32), **arguments).compute()) == ["swd"]
    suite = fed(fake=images(2, 32, 32), real=images(2, 32, 32), **arguments)
    assert suite.compute()["frechet_random"] == pytest.approx(0.0, abs=1e-9)
    suite.reset()
    assert suite.compute() == {}


def test_weights_are_no_part_of_the_module_that_holds_the_suite(tmp_path):
    parent = torch.nn.ModuleDict({"metrics": MetricSuite(NAMES, 0, "random", "alex", "random", tmp_path)})
    for _ in range(2):
        assert parent.state_dict() == {}
        assert list(parent.parameters()) == list(parent.buffers()) == []
        parent["metrics"].update_fake(images(2, 32, 32))
        parent["metrics"].update_real(images(2, 32, 32))


def test_a_biased_fid_is_warned_of_once_and_flagged(tmp_path, monkeypatch, caplog):
    as_inception(monkeypatch)
    suite = fed(("fid",), images(3, 32, 32), images(2, 32, 32, seed=1), cache_dir=tmp_path)
    with caplog.at_level(logging.WARNING):
        suite.compute()
        suite.compute()
    assert caplog.text.count("fid of 3 outputs and 2 real images is biased upwards: below 2048") == 1
    assert suite.protocol()["fid_biased"] is True
    monkeypatch.setattr(suite_module, "UNBIASED_FROM", 2)
    assert suite.protocol()["fid_biased"] is False


def test_ms_ssim_is_torchmetrics_mean_over_batches():
    output, target = images(3, 176, 180), images(3, 176, 180, seed=1)
    output = (0.5 * output + 0.5 * target).clamp(-1, 1)
    suite, metric = MetricSuite(("ms_ssim",)), MultiScaleStructuralSimilarityIndexMeasure(data_range=1.0)
    for part in (slice(0, 2), slice(2, 3)):
        suite.update_pair(output[part], target[part])
    metric.update((output + 1) / 2, (target + 1) / 2)
    assert suite.compute()["ms_ssim"] == pytest.approx(float(metric.compute()), rel=1e-5)


# --- intervals and protocol -----------------------------------------------------


def test_intervals_are_those_of_the_mean_over_pictures(tmp_path):
    suite = MetricSuite(("mse", "psnr", "kid", "swd"), features="random", cache_dir=tmp_path)
    noise = torch.linspace(0.05, 0.5, 40)
    targets = torch.zeros(40, 3, 16, 16)
    outputs = noise.view(-1, 1, 1, 1).expand_as(targets).contiguous()
    suite.update_pair(outputs, targets)
    suite.update_fake(outputs)
    suite.update_real(targets + images(40, 16, 16) * 0.1)
    values, intervals = suite.compute(), suite.intervals()
    assert list(intervals) == ["mse", "psnr", "kernel_random"]
    for name, scores in (("mse", (noise / 2) ** 2), ("psnr", -20 * torch.log10(noise / 2))):
        error = float(scores.double().std(correction=0)) / 40**0.5
        assert intervals[name][0] == pytest.approx(values[name] - 1.96 * error, abs=0.3 * error)
        assert intervals[name][1] == pytest.approx(values[name] + 1.96 * error, abs=0.3 * error)
    low, high = intervals["kernel_random"]
    assert low < values["kernel_random"] < high
    assert suite.intervals() == intervals


def test_what_cannot_vary_or_is_infinite_has_no_interval():
    suite = MetricSuite(("psnr", "mse"))
    suite.update_pair(images(1, 16, 16), images(1, 16, 16, seed=1))
    assert suite.intervals() == {}
    suite.update_pair(images(1, 16, 16), images(1, 16, 16))
    assert list(suite.intervals()) == ["mse"]


def test_the_protocol_tells_sets_sizes_and_networks(tmp_path):
    arguments = {"metrics": ("fid", "lpips"), "features": "random", "lpips_weights": "random", "cache_dir": tmp_path}
    suite = fed(fake=images(3, 32, 40), real=images(4, 32, 32), seed=5, **arguments)
    stamp = suite.protocol()
    assert json.loads(json.dumps(stamp)) == stamp
    expected = {"n_real": 4, "n_fake": 3, "n_pairs": 0, "image_size": "32-40", "metric_seed": 5, "fid_biased": True}
    expected |= {"extractor": "random", "extractor_weights": "seed 0", "extractor_resize": "64 bilinear antialias"}
    expected |= {"lpips_backbone": "alex", "lpips_weights": "random", "suite_version": lit_ghibli.__version__}
    assert {**stamp, **expected} == stamp
    assert "target_set" not in stamp
    plain = MetricSuite(("mse",))
    plain.update_pair(images(1, 32, 32), images(1, 32, 32, seed=1))
    assert not {"extractor", "lpips_backbone", "fid_biased", "real_set", "image_size"} & plain.protocol().keys()


def test_sets_are_told_apart_by_content_in_any_order():
    def identity(real: torch.Tensor) -> str:
        return fed(("mse",), images(1, 16, 16), real).protocol()["real_set"]

    real = images(5, 16, 16)
    assert identity(real) == identity(real.flip(0))
    changed = real.clone()
    changed[2, 0, 3, 3] += 0.1 if changed[2, 0, 3, 3] < 0 else -0.1
    assert len({identity(real), identity(changed), identity(real[:4]), identity(real.view(5, 3, 8, 32))}) == 4


PROCESS = """
import json, sys
import torch
from lit_ghibli.metrics.suite import MetricSuite

torch.set_num_threads(1)
rank, store = int(sys.argv[1]), sys.argv[2]
torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
draw = lambda seed: torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
output, target = draw(0), draw(1)
metrics = ("ssim", "psnr", "mse", "l1", "lpips", "flat", "contours", "swd", "fid", "kid")
suite, values = MetricSuite(metrics, 0, "random", "alex", "random", sys.argv[3]), []
for first, step in ((rank, 2), (4 * rank, 1)):  # dealt out in turn, then nothing at all for the second process
    part = slice(first, None, step)
    if len(output[part]):
        suite.update_pair(output[part], target[part])
        suite.update_photo(output[part], target[part])
        suite.update_fake(output[part])
        suite.update_real(target[part])
    values.append([suite.compute(), suite.intervals(), suite.protocol()])
    suite.reset()
print(json.dumps(values))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_agree_with_one(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", PROCESS]
    arguments = [[*command, str(rank), str(tmp_path / "store"), str(tmp_path)] for rank in range(2)]
    processes = [subprocess.Popen(line, stdout=subprocess.PIPE, text=True) for line in arguments]
    results = [json.loads(process.communicate(timeout=120)[0].splitlines()[-1]) for process in processes]
    assert results[0] == results[1]

    metrics = ("ssim", "psnr", "mse", "l1", "lpips", "flat", "contours", "swd", "fid", "kid")
    suite = MetricSuite(metrics, 0, "random", "alex", "random", tmp_path)
    output, target = images(4, 32, 32), images(4, 32, 32, seed=1)
    suite.update_pair(output, target)
    suite.update_photo(output, target)
    suite.update_fake(output)
    suite.update_real(target)
    single = suite.compute()
    (in_turn, *in_turn_more), (one_sided, *one_sided_more) = results[0]
    assert in_turn == pytest.approx(single, rel=1e-5)
    assert one_sided.pop("swd") == pytest.approx(single.pop("swd"), rel=0.3)  # other patch positions
    assert one_sided == pytest.approx(single, rel=1e-5)
    for intervals, protocol in (in_turn_more, one_sided_more):
        assert protocol == suite.protocol()
        expected = suite.intervals()
        assert intervals.keys() == expected.keys()
        for name, bounds in intervals.items():
            assert bounds == pytest.approx(expected[name], rel=1e-5)
