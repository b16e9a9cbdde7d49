"""Walking between latents, and pushing them towards the centroid and away from it."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from centroidlib.centroid import CentroidStats
from centroidlib.losses import centroid_distances
from centroidlib.models import AnyGenerator
from centroidlib.streams import draw_latents, random_stream

Generators = Mapping[str, AnyGenerator]  # by arm


def latent_of(seed: int, size: int) -> Tensor:
    """The latent of a seed, from N(0, 1), float32 (1, size)."""
    return draw_latents(1, size, random_stream(seed, "explorer"))


def walk(start: Tensor, end: Tensor, position: float) -> Tensor:
    """The latent at a position, 0 to 1, on the way from `start` to `end`, all (1, latent): along the arc, not through its middle.

    Latents of N(0, 1) lie near a shell, whose inside no generator has seen. Directions turn evenly, norms change evenly.
    """
    norms = start.norm(), end.norm()
    first, last = start / norms[0], end / norms[1]
    angle = torch.atan2((first - last).norm(), (first + last).norm()) * 2
    if angle < 1e-4:
        return torch.lerp(start, end, position)
    turned = (torch.sin((1 - position) * angle) * first + torch.sin(position * angle) * last) / torch.sin(angle)
    return turned * torch.lerp(*norms, position)


def look(
    latents: Tensor, generators: Generators, phi: nn.Module | None, stats: CentroidStats
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What each arm makes of the same latents (B, latent), and how far from the centroid that lies.

    Returns:
        By arm, images in [-1, 1], float32 (B, 3, 64, 64), and distances ‖Φ(G(z)) − c‖₂ / d_ref, (B,); none without Φ.
    """
    images = {arm: generator(latents) for arm, generator in generators.items()}
    if phi is None:
        return images, {}
    distances = centroid_distances(phi(torch.cat(list(images.values()))), stats) / stats.reference_distance
    return images, dict(zip(images, distances.split(len(latents)), strict=True))


def push(
    latent: Tensor,
    generators: Generators,
    phi: nn.Module,
    stats: CentroidStats,
    inwards: bool,
    steps: int = 3,
    angle: float = 0.1,
) -> Tensor:
    """A latent (1, latent) pushed towards the centroid, or away from it: gradient steps on the shell of its norm.

    What falls, or rises, is the mean of the arms' distances. A step turns the latent by `angle` radians; one that would
    go too far is not taken, and the next ones turn by half.
    """

    def measured(at: Tensor) -> tuple[float, Tensor]:
        at = at.detach().requires_grad_()
        mean = torch.cat(list(look(at, generators, phi, stats)[1].values())).mean()
        return float(mean.detach()), torch.autograd.grad(mean, at)[0]

    with torch.enable_grad():
        distance, gradient = measured(latent)
        for _ in range(steps):
            tangent = gradient - (gradient * latent).sum() / latent.square().sum() * latent
            way = (-tangent if inwards else tangent) / tangent.norm().clamp(min=1e-30)
            moved = math.cos(angle) * latent + math.sin(angle) * latent.norm() * way
            moved *= latent.norm() / moved.norm()
            there, slope = measured(moved)
            if there < distance if inwards else there > distance:
                latent, distance, gradient = moved, there, slope
            else:
                angle /= 2
    return latent


def pushes(latent: Tensor, generators: Generators, phi: nn.Module, stats: CentroidStats, count: int) -> Tensor:
    """The latent after `count` to 1 pushes towards the centroid, itself, and after 1 to `count` away: (2 · count + 1, latent)."""
    found = [latent]
    for inwards in (True, False):
        for _ in range(count):
            end = found[0 if inwards else -1]
            found.insert(0 if inwards else len(found), push(end, generators, phi, stats, inwards))
    return torch.cat(found)
