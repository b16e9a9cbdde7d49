"""Tests of DCGAN's two networks."""

import pytest
import torch
from torch import nn

from centroidlib import Discriminator, Generator
from centroidlib.models import initialise


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def parameters_of(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolutions(network):
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]


def test_parameter_counts_are_dcgans():
    assert parameters_of(Generator()) == 3_576_704
    assert parameters_of(Discriminator()) == 2_765_568


def test_widths_are_dcgans():
    assert [c.out_channels for c in convolutions(Generator())] == [512, 256, 128, 64, 3]
    assert [c.out_channels for c in convolutions(Discriminator())] == [64, 128, 256, 512, 1]
    assert convolutions(Generator())[0].in_channels == 100


def test_layers_are_dcgans():
    kinds = [type(layer).__name__ for layer in Generator(width=2).layers]
    assert kinds == [*["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 4, "ConvTranspose2d", "Tanh"]
    kinds = [type(layer).__name__ for layer in Discriminator(width=2).layers]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3, "Conv2d"]
    slopes = {layer.negative_slope for layer in Discriminator(width=2).layers if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}


@pytest.mark.parametrize(("latent", "width", "channels"), [(100, 8, 3), (7, 2, 1)])
def test_shapes(latent, width, channels):
    generator, discriminator = Generator(latent, width, channels), Discriminator(width, channels)
    sizes = []
    for convolution in convolutions(generator):
        convolution.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-1]))
    images = generator(torch.randn(5, latent, generator=rng()))
    assert generator.latent == latent
    assert sizes == [4, 8, 16, 32, 64]
    assert images.shape == (5, channels, 64, 64)
    assert discriminator(images).shape == (5,)
    assert discriminator.eval()(images[:1]).shape == (1,)


def test_images_lie_within_tanh_and_logits_are_unbounded():
    generator, discriminator = Generator(4, 2), Discriminator(2)
    for convolution in convolutions(generator) + convolutions(discriminator):
        nn.init.normal_(convolution.weight, 0.0, 5.0, generator=rng())
    images = generator(torch.randn(8, 4, generator=rng()))
    assert images.min() < -0.99
    assert images.max() > 0.99
    assert images.abs().max() <= 1.0
    assert discriminator(images).abs().max() > 10.0


@pytest.mark.parametrize("make", [Generator, Discriminator])
def test_initial_weights_are_dcgans(make):
    network = make()
    initialise(network, rng())
    for convolution in convolutions(network):
        weight = convolution.weight
        assert weight.mean().item() == pytest.approx(0.0, abs=0.02 * 5 / weight.numel() ** 0.5)
        assert weight.std().item() == pytest.approx(0.02, rel=5 / (2 * weight.numel()) ** 0.5)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    gains = torch.cat([norm.weight for norm in norms])
    assert gains.mean().item() == pytest.approx(1.0, abs=0.005)
    assert gains.std().item() == pytest.approx(0.02, rel=0.2)
    assert all(torch.equal(norm.bias, torch.zeros_like(norm.bias)) for norm in norms)


def test_initial_weights_come_from_the_seed_alone():
    networks = [Generator(8, 2) for _ in range(3)]
    for network, seed in zip(networks, (1, 1, 2), strict=True):
        torch.rand(3)
        initialise(network, rng(seed))
    first, same, other = (nn.utils.parameters_to_vector(network.parameters()) for network in networks)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
