"""Tests of the residual networks."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrize import is_parametrized

from centroidlib.models import ARCHITECTURES, build
from centroidlib.resnet import ResNetDiscriminator, ResNetGenerator, initialise_resnet


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_shapes_and_sides():
    generator, discriminator = build("resnet", 7, 2, rng(), rng(1))
    assert isinstance(generator, ResNetGenerator)
    assert isinstance(discriminator, ResNetDiscriminator)
    seen = []
    for block in (*generator.blocks, *discriminator.blocks):
        block.register_forward_hook(lambda module, inputs, output: seen.append(tuple(output.shape[1:3])))
    images = generator(torch.randn(5, 7, generator=rng()))
    assert images.shape == (5, 3, 64, 64)
    assert images.abs().max() <= 1
    assert discriminator(images).shape == (5,)
    assert seen == [(16, 8), (8, 16), (4, 32), (2, 64), (2, 32), (4, 16), (8, 8), (16, 4)]


def test_every_layer_of_the_discriminator_has_spectral_norm_1():
    discriminator = ResNetDiscriminator(8)
    initialise_resnet(discriminator, rng())
    layers = [module for module in discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 13
    for layer in layers:
        assert is_parametrized(layer, "weight")
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(1, abs=0.05)


def test_the_size_of_the_weights_does_not_matter():
    """For each layer is divided by its spectral norm."""
    discriminator = build("resnet", 7, 4, rng(), rng(1))[1].eval()
    images = torch.rand(4, 3, 64, 64, generator=rng(2)) * 2 - 1
    before = discriminator(images)
    for name, weight in discriminator.named_parameters():
        if name.endswith("original"):
            weight.data *= 10
    torch.testing.assert_close(discriminator(images), before)


def test_only_the_first_block_sees_images():
    assert [block.sees_images for block in ResNetDiscriminator(3).blocks] == [True, False, False, False]


def test_the_way_beside_may_be_taken_before_enlarging():
    x, convolution = torch.randn(2, 5, 4, 4, generator=rng()), nn.Conv2d(5, 3, 1)
    wanted = convolution(functional.interpolate(x, scale_factor=2))
    torch.testing.assert_close(functional.interpolate(convolution(x), scale_factor=2), wanted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_seed_decides_every_number(architecture):
    torch.manual_seed(1)
    first = build(architecture, 7, 4, rng(), rng(1))
    torch.manual_seed(2)
    second = build(architecture, 7, 4, rng(), rng(1))
    other = build(architecture, 7, 4, rng(2), rng(3))
    for a, b, c in zip(first, second, other, strict=True):
        states = [network.state_dict() for network in (a, b, c)]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
        drawn = [name for name, weight in states[0].items() if weight.is_floating_point() and weight.unique().numel() > 1]
        assert drawn
        assert not any(torch.equal(states[0][name], states[2][name]) for name in drawn)


def test_gradients_reach_every_weight():
    generator, discriminator = build("resnet", 7, 2, rng(), rng(1))
    discriminator(generator(torch.randn(4, 7, generator=rng()))).sum().backward()
    for network in (generator, discriminator):
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())
