"""Contrastive terms by the papers' formulas: explicit similarities of features that G's own modules give one by one."""

import torch

from lit_ghibli.networks import patch_mlp
from lit_ghibli.networks.blur_pool import BlurPool
from lit_ghibli.networks.resnet import RELEASED_TAPS, TAPS

HEIGHT, WIDTH = 24, 28  # of the pictures


def fix_locations(monkeypatch) -> dict[str, torch.Tensor]:
    """Let there be the same twelve locations of each layer for whoever asks, and return them."""
    generator = torch.Generator().manual_seed(2)
    sizes = [HEIGHT * WIDTH // factor**2 for factor in (1, 1, 2, 4, 4, 4, 4)]  # of some more, with blur pools
    drawn = {name: torch.randperm(size, generator=generator)[:12] for name, size in zip(TAPS, sizes, strict=True)}
    monkeypatch.setattr(patch_mlp, "draw_locations", lambda features, _: {name: drawn[name] for name in features})
    return drawn


def pictures(*names: str, count: int = 2, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(count, 3, HEIGHT, WIDTH, generator=generator, dtype=dtype) * 2 - 1 for name in names}


def enliven(*heads) -> None:
    """Give projections larger weights: so small ones would else give vectors of length 0."""
    for head in filter(None, heads):
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, 0.0, 0.5)


def features(g, images, head, locations):
    """Unit vectors of each layer, layer by layer through G's own modules: (N, P, D)."""
    taps = {"pixels": images, "padded_pixels": torch.nn.functional.pad(images, [3] * 4, mode="reflect")}
    x = g.encoder.stem(images)
    for name in ("down1", "down2"):
        taps[name] = getattr(g.encoder, name)[0](x)
        x = getattr(g.encoder, name)(x)
    taps["bottleneck_in"] = x
    taps["first_block"] = x = g.bottleneck[0](x)
    taps["bottleneck_middle"] = g.bottleneck[1](x)  # of three
    return {
        name: unit(projection(taps[name].flatten(2)[:, :, locations[name]].transpose(1, 2)))
        for name, projection in head.heads.items()
    }


def unit(vectors):
    return vectors / vectors.norm(dim=-1, keepdim=True)


def over(loss, queries, keys):
    """Mean over layers, images and, inside ``loss``, locations."""
    values = [
        torch.stack([loss(q, k.detach()) for q, k in zip(queries[name], keys[name], strict=True)]).mean()
        for name in queries
    ]
    return sum(values) / len(values)


def nce(q, k, temperature=0.07):
    return -torch.stack([((q @ k.T)[i] / temperature).softmax(0)[i].log() for i in range(len(q))]).mean()


def moved(discriminator, real, fake):
    """The loss of a discriminator, which makes one step of Adam by it."""
    loss = (((discriminator(real) - 1) ** 2).mean() + (discriminator(fake.detach()) ** 2).mean()) / 2
    grads = torch.autograd.grad(loss, list(discriminator.parameters()))
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
    for parameter, gradient in zip(discriminator.parameters(), grads, strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss


def assert_networks_are_the_released_ones(method) -> None:
    """Blur pools, bilinear enlargement, layers 0, 4, 8, 12, 16, and Xavier's start with a gain of 0.02."""
    generator = method.generator
    assert sum(p.numel() for p in generator.parameters()) == 11_378_179
    assert sum(isinstance(layer, BlurPool) for layer in generator.modules()) == 2
    enlargements = [layer for layer in generator.modules() if isinstance(layer, torch.nn.Upsample)]
    assert [layer.mode for layer in enlargements] == ["bilinear"] * 2
    assert tuple(method.projection.heads) == RELEASED_TAPS
    starts = {generator.bottleneck[0].branch[0]: 9 * 2 * 256, method.projection.heads["down2"][0]: 2 * 256}
    for name, network in method.named_children():
        if "discriminator" in name:
            assert sum(isinstance(layer, BlurPool) for layer in network.modules()) == 3
            starts[network.layers[7]] = 16 * (128 + 256)
    for layer, fans in starts.items():
        assert abs(layer.weight.std().item() / (0.02 * (2 / fans) ** 0.5) - 1) < 0.02
