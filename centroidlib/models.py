"""DCGAN at 64×64, as Radford, Metz and Chintala describe it (arXiv 1511.06434), and which networks there are."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from centroidlib.resnet import ResNetDiscriminator, ResNetGenerator, initialise_resnet


class Generator(nn.Module):
    """Latents (B, latent) to images (B, channels, 64, 64) in [-1, 1].

    Four fractionally strided convolutions with batch norm and ReLU follow the projection of the latent to
    4×4; tanh closes. The layers' widths are 8, 4, 2 and 1 times `width`: 512 to 64 by default.
    """

    def __init__(self, latent: int = 100, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.latent, self.width = latent, width
        widths = [8 * width, 4 * width, 2 * width, width]
        layers: list[nn.Module] = [nn.ConvTranspose2d(latent, widths[0], 4, 1, 0, bias=False)]
        for wide, narrow in pairwise(widths):
            layers += [nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False)]
        layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:  # noqa: D102
        return self.layers(latents[:, :, None, None])


class Discriminator(nn.Module):
    """Images (B, channels, 64, 64) in [-1, 1] to logits (B,): positive means real.

    Four strided convolutions with leaky ReLU (slope 0.2), batch norm on all but the first, and a last
    convolution over the remaining 4×4. The sigmoid is left to the loss, which is stable on logits.
    """

    def __init__(self, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1, bias=False)]
        layers += [nn.LeakyReLU(0.2, inplace=True)]
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, 2, 1, bias=False), nn.BatchNorm2d(wide)]
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        layers += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False)]
        self.layers = nn.Sequential(*layers)
        self.dimensions = 16 * widths[-1]

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees, flattened: (B, dimensions)."""
        features: Tensor = self.layers[:-1](images)
        return features.flatten(1)

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return self.layers(images).flatten()


def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Draw a network's weights as DCGAN does: convolutions from N(0, 0.02), batch-norm gains from N(1, 0.02)."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02, generator=rng)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02, generator=rng)
            nn.init.zeros_(module.bias)


AnyGenerator = Generator | ResNetGenerator
AnyDiscriminator = Discriminator | ResNetDiscriminator
ARCHITECTURES = {
    "dcgan": (Generator, Discriminator, initialise),
    "resnet": (ResNetGenerator, ResNetDiscriminator, initialise_resnet),
}


def build(
    architecture: str, latent: int, width: int, generators_rng: torch.Generator, discriminators_rng: torch.Generator
) -> tuple[AnyGenerator, AnyDiscriminator]:
    """Generator and discriminator of one of `ARCHITECTURES`, freshly drawn."""
    make_generator, make_discriminator, draw = ARCHITECTURES[architecture]
    generator, discriminator = make_generator(latent, width), make_discriminator(width)
    draw(generator, generators_rng)
    draw(discriminator, discriminators_rng)
    return generator, discriminator
