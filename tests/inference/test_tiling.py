import pytest
import torch

from lit_ghibli.images import from_uint8
from lit_ghibli.inference.tiling import mosaic, translate_tiled
from lit_ghibli.inference.translator import Translator
from lit_ghibli.networks.normalization import frozen_statistics, record_statistics
from lit_ghibli.networks.ode import OdeGenerator
from lit_ghibli.networks.resnet import ResnetGenerator
from lit_ghibli.networks.sizes import translate
from lit_ghibli.scenes.scene import render_pair


def lively(**options) -> ResnetGenerator:
    """Random weights, larger than a training starts from, so that the blocks matter to the output."""
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=4, num_blocks=2, **options).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.2)
    return network


@pytest.fixture
def network() -> ResnetGenerator:
    return lively()


def scene(height: int = 301, width: int = 270) -> torch.Tensor:
    pixels = render_pair(3, 0, 320)[0]
    return from_uint8(torch.from_numpy(pixels.copy())).permute(2, 0, 1)[None, :, :height, :width].contiguous()


@pytest.mark.parametrize("options", [{}, {"downsample": "blur", "upsample": "bilinear"}], ids=["strided", "blur"])
@pytest.mark.parametrize("size", [(301, 270), (129, 140), (128, 257), (260, 40), (6, 300)])
def test_tiles_equal_the_whole_with_the_same_statistics(options, size):
    network = lively(**options)
    photo = scene(*size)
    bottom, right = -size[0] % 4, -size[1] % 4
    padded = torch.nn.functional.pad(photo, (0, right, 0, bottom), mode="reflect")
    with record_statistics(network) as statistics:
        translate(network, mosaic(padded, 128))
    with frozen_statistics(network, statistics):
        whole = translate(network, photo)
    assert whole.std() > 0.1, "a flat picture would show no seams either"
    torch.testing.assert_close(translate_tiled(network, photo, 128), whole, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("solver", "steps"), [("euler", 1), ("midpoint", 2), ("rk4", 1)])
def test_tiles_of_an_ode_network_equal_the_whole_too(network, solver, steps):
    ode = OdeGenerator(base_channels=4, num_blocks=2, solver=solver, steps=steps).eval()
    ode.load_state_dict(network.state_dict())
    photo = scene(301, 270)
    with record_statistics(ode) as statistics:
        translate(ode, mosaic(torch.nn.functional.pad(photo, (0, 2, 0, 3), mode="reflect"), 128))
    with frozen_statistics(ode, statistics):
        whole = translate(ode, photo)
    assert whole.std() > 0.1
    torch.testing.assert_close(translate_tiled(ode, photo, 128), whole, rtol=0, atol=1e-4)


def test_tiles_of_an_adaptive_solver_stay_close_to_the_whole():
    torch.manual_seed(0)
    ode = OdeGenerator(base_channels=4, num_blocks=1, solver="dopri5").eval()
    photo = scene(256, 256)
    with record_statistics(ode) as statistics:
        translate(ode, mosaic(photo, 128))
    with frozen_statistics(ode, statistics):
        whole = translate(ode, photo)
    assert (translate_tiled(ode, photo, 128) - whole).abs().mean() < 0.02 * whole.std()


def test_without_common_statistics_tiles_would_differ(network):
    photo = scene(256, 256)
    tiles = [[translate(network, tile) for tile in row.split(128, 3)] for row in photo.split(128, 2)]
    naive = torch.cat([torch.cat(row, 3) for row in tiles], 2)
    whole = translate(network, photo)
    assert (naive - whole).abs().mean() > 0.3, "each tile would be painted after its own contents"


def test_tiled_stays_close_to_the_whole_with_its_own_statistics():
    torch.manual_seed(0)
    network = ResnetGenerator(base_channels=8, num_blocks=2).eval()
    photo = scene(320, 320)
    whole, tiled = translate(network, photo), translate_tiled(network, photo, 192)
    assert (tiled - whole).abs().mean() < 0.25 * whole.std(), "measured: 0.19"


def test_mosaic_is_of_evenly_spread_patches():
    rows = torch.arange(1000.0).view(1, 1, 1000, 1).expand(1, 1, 1000, 300)
    photo = torch.cat([rows, torch.arange(300.0).expand(1, 1, 1000, 300)], 1)[..., :120]
    patches = mosaic(photo, 130)
    assert patches.shape == (1, 2, 128, 120), "the width fits as it is"
    starts = [0, 322, 645, 968]  # (1000 - 32) * n / 3
    expected = [start + offset for start in starts for offset in range(32)]
    assert patches[0, 0, :, 0].int().tolist() == expected
    assert patches[0, 1, 0].int().tolist() == list(range(120))


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((200, 200), 256, (200, 200)),
        ((257, 100), 256, (256, 100)),
        ((900, 901), 384, (384, 384)),
        ((150, 150), 128, (128, 128)),
        ((700, 700), 500, (480, 480)),
    ],
)
def test_mosaic_is_no_larger_than_a_tile(size, side, expected):
    assert mosaic(torch.zeros(1, 3, *size), side).shape[-2:] == expected


def test_a_network_leaves_its_statistics_behind(network):
    photo = scene(140, 140)
    before = network(photo)
    translate_tiled(network, photo, 128)
    assert torch.equal(network(photo), before)


def test_only_photographs_larger_than_a_tile_are_tiled(network, monkeypatch):
    tiled = []
    monkeypatch.setattr("lit_ghibli.inference.translator.translate_tiled", lambda _, x, tile: tiled.append(tile) or x)
    for tile, size in ((128, (128, 128)), (128, (64, 256)), (0, (300, 300))):
        Translator(network, tile=tile).translate(scene(*size))
    assert not tiled
    Translator(network, tile=128).translate(scene(128, 129))
    assert len(tiled) == 1


@pytest.mark.parametrize("tile", [-1, 1, 127])
def test_tiles_too_small_to_measure_on_are_refused(network, tile):
    with pytest.raises(ValueError, match=f"at least 128 pixels; got {tile}"):
        Translator(network, tile=tile)
