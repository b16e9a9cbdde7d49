"""A residual GAN at 64×64 with a spectrally normalised discriminator, after Miyato et al. 2018 (arXiv 1802.05957)."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm


class ResNetGenerator(nn.Module):
    """Latents (B, latent) to images (B, 3, 64, 64) in [-1, 1].

    A dense layer to 4×4, four residual blocks that double the side, batch norm, ReLU, a convolution and tanh. Their
    widths are 16, 8, 4, 2 and 1 times `width`: 1024 to 64 by default.
    """

    def __init__(self, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.latent, self.width = latent, width
        widths = [16 * width, 8 * width, 4 * width, 2 * width, width]
        self.first = nn.Linear(latent, widths[0] * 16)
        self.blocks = nn.Sequential(*(_Up(wide, narrow) for wide, narrow in pairwise(widths)))
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.Conv2d(width, 3, 3, padding=1), nn.Tanh())

    def forward(self, latents: Tensor) -> Tensor:  # noqa: D102
        images: Tensor = self.last(self.blocks(self.first(latents).unflatten(1, (-1, 4, 4))))
        return images


class ResNetDiscriminator(nn.Module):
    """Images (B, 3, 64, 64) in [-1, 1] to logits (B,).

    Four residual blocks that halve the side, a sum over positions and a dense layer; widths 1, 2, 4 and 8 times `width`.
    The spectral norm of every layer is 1, by one step of power iteration whenever it is used in training.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(*(_Down(narrow, wide, i == 0) for i, (narrow, wide) in enumerate(pairwise(widths))))
        self.last = spectral_norm(nn.Linear(widths[-1], 1))
        self.dimensions = widths[-1]

    def features(self, images: Tensor) -> Tensor:
        """What the last layer sees: (B, dimensions)."""
        return functional.relu(self.blocks(images)).sum((2, 3))

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        logits: Tensor = self.last(self.features(images))
        return logits.flatten()


class _Up(nn.Module):
    """Batch norm, ReLU and a convolution, twice, between them twice the side; beside them a 1×1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(before), nn.BatchNorm2d(after)])
        self.convolutions = nn.ModuleList([nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 3, padding=1)])
        self.beside = nn.Conv2d(before, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions[0](_twice(functional.relu(self.norms[0](x))))
        y = self.convolutions[1](functional.relu(self.norms[1](y)))
        # A 1×1 convolution before enlarging gives the same as after it, at a quarter of the cost.
        return y + _twice(self.beside(x))


class _Down(nn.Module):
    """ReLU and a convolution, twice, then half the side; beside them a 1×1 convolution. The first block sees images: no ReLU."""

    def __init__(self, before: int, after: int, sees_images: bool) -> None:
        super().__init__()
        self.sees_images = sees_images
        middle = after if sees_images else before
        self.convolutions = nn.ModuleList(
            [spectral_norm(nn.Conv2d(before, middle, 3, padding=1)), spectral_norm(nn.Conv2d(middle, after, 3, padding=1))]
        )
        self.beside = spectral_norm(nn.Conv2d(before, after, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolutions[0](x if self.sees_images else functional.relu(x))
        y = functional.avg_pool2d(self.convolutions[1](functional.relu(y)), 2)
        return y + self.beside(functional.avg_pool2d(x, 2))


def initialise_resnet(network: nn.Module, rng: torch.Generator) -> None:
    """Draw the weights, uniform after Glorot and Bengio (gain √2, but 1 beside); biases are 0, spectral norms settled."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            gain = 2**0.5 if "convolutions" in name or "last" in name else 1.0
            parametrised = hasattr(module, "parametrizations")
            weight = module.get_parameter("parametrizations.weight.original" if parametrised else "weight")
            nn.init.xavier_uniform_(weight, gain, generator=rng)
            nn.init.zeros_(module.get_parameter("bias"))
            if parametrised:
                _settle(module, rng)


@torch.no_grad()
def _settle(module: nn.Module, rng: torch.Generator) -> None:
    """Draw where the power iteration begins from the seed as well, and let it find the norm of the weights drawn."""
    norm = module.get_submodule("parametrizations.weight.0")
    for name in ("_u", "_v"):
        vector = norm.get_buffer(name)
        vector.copy_(functional.normalize(torch.randn(vector.shape, generator=rng), dim=0))
    for _ in range(15):
        norm(module.get_parameter("parametrizations.weight.original"))


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
