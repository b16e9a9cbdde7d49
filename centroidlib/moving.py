"""A centroid of features that change while they are used: a discriminator's own."""

import torch
from torch import Tensor, nn

from centroidlib.balls import distances_in, excess

DECAY = 0.99  # of the averages; the first batches count equally


class MovingBall(nn.Module):
    """Eq. 3 in units of d_ref, where c, d_ref and the floor are moving averages over batches of real images' features (B, d)."""

    centre: Tensor
    reference: Tensor
    floor: Tensor
    seen: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dimensions))
        for name in ("reference", "floor", "seen"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, real: Tensor) -> None:
        """Move towards a batch of real images' features (B, d)."""
        real = real.to(self.centre.dtype)
        self.seen += 1
        share = torch.clamp(1 / self.seen, min=1 - DECAY)
        self.centre.lerp_(real.mean(0), share)
        distances = distances_in(self.centre, 1.0, real)
        self.reference.lerp_(distances.mean(), share)
        self.floor.lerp_(excess(distances / self.reference).mean(), share)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102
        return excess(distances_in(self.centre, self.reference, features.to(self.centre.dtype))).mean()
