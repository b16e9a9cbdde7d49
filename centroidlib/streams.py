"""Everything random in a run, from its seed: streams by purpose, latents and the order of the data."""

import hashlib
from functools import lru_cache

import torch
from torch import Tensor

from centroidlib.features import to_float


def random_stream(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A random stream of its own for each seed, purpose and step.

    Nothing drawn for one purpose moves another, so arms with one seed share initial networks, latents and data
    order, and a run continues from any step without stored random states.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def draw_latents(count: int, latent: int, rng: torch.Generator) -> Tensor:
    """Latents from N(0, 1), float32 (count, latent)."""
    return torch.randn(count, latent, generator=rng)


def batch_indices(step: int, batch_size: int, count: int, seed: int) -> Tensor:
    """Which of `count` images make batch `step`: permutation follows permutation, no image is dropped."""
    first = step * batch_size
    epochs = range(first // count, (first + batch_size - 1) // count + 1)
    order = torch.cat([_permutation(count, seed, epoch) for epoch in epochs])
    offset = first - epochs[0] * count
    return order[offset : offset + batch_size]


@lru_cache(maxsize=2)
def _permutation(count: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(count, generator=random_stream(seed, "data", epoch))


def draw_batch(images: Tensor, step: int, batch_size: int, seed: int, flip: bool, device: torch.device) -> Tensor:
    """The real images of a step, float32 (B, 3, H, W) in [-1, 1] on the device; with `flip` half of them mirrored."""
    chosen = batch_indices(step, batch_size, len(images), seed)
    real = to_float(to_device(images[to_device(chosen, images.device)], device))
    if flip:
        mirrored = torch.rand(len(real), generator=random_stream(seed, "flip", step)) < 0.5
        real = torch.where(to_device(mirrored, device)[:, None, None, None], real.flip(3), real)
    return real


def at_random(images: Tensor, count: int) -> Tensor:
    """So many of the images, always the same ones; all of them, in random order, where there are no more."""
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:count]]


def to_device(drawn: Tensor, device: torch.device) -> Tensor:
    """What was drawn on the CPU, on the device; a GPU gets it in passing, nobody waits."""
    if device.type == "cuda" and not drawn.is_cuda:
        return drawn.pin_memory().to(device, non_blocking=True)
    return drawn.to(device)
