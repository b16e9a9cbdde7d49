"""The adversarial terms: those of Algorithm 1, and two other games that the constraints go with, all on logits."""

import torch
from torch import Tensor
from torch.nn import functional

GAMES = ("bce", "hinge", "relativistic")


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, game: str = "bce") -> Tensor:
    """What D minimises, a scalar.

    Args:
        real_logits: D(x), (B,).
        fake_logits: D(x̂), (B,).
        game: `bce`: BCE(D(x), 1) + BCE(D(x̂), 0) of Algorithm 1; `hinge`: max(0, 1 − D(x)) + max(0, 1 + D(x̂)) (Lim and Ye
            2017, Miyato et al. 2018); `relativistic`: BCE(D(x) − D(x̂), 1), pair by pair (Jolicoeur-Martineau 2019).

    Raises:
        ValueError: no such game.
    """
    if game == "hinge":
        return functional.relu(1 - real_logits).mean() + functional.relu(1 + fake_logits).mean()
    if game == "relativistic":
        return functional.softplus(fake_logits - real_logits).mean()
    _check(game)
    real = functional.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = functional.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
    return real + fake


def adversarial_loss(fake_logits: Tensor, real_logits: Tensor | None = None, game: str = "bce") -> Tensor:
    """What G minimises of the game, a scalar: BCE(D(x̂), 1) of Algorithm 1; −D(x̂); or BCE(D(x̂) − D(x), 1).

    Args:
        fake_logits: D(x̂), (B,).
        real_logits: D(x), (B,), which the relativistic game needs.
        game: as of `discriminator_loss`.

    Raises:
        ValueError: no such game, or no real logits where they are needed.
    """
    if game == "hinge":
        return -fake_logits.mean()
    if game == "relativistic":
        if real_logits is None:
            raise ValueError("In the relativistic game G's loss needs D's logits of real images too: pass real_logits.")
        return functional.softplus(real_logits - fake_logits).mean()
    _check(game)
    return functional.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """Mean of ‖∇ D(x)‖² at the images, a scalar: R1 at real ones, R2 at generated ones (Mescheder et al. 2018; weight γ/2).

    The gradient is that of all logits' sum: with batch norm, as in DCGAN's discriminator, an image's also holds what it does to
    the logits of the others.

    Args:
        logits: D(x), (B,), computed from `images`.
        images: (B, 3, H, W), with gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()


def _check(game: str) -> None:
    if game not in GAMES:
        raise ValueError(f"There is no game {game!r}; choose one of {', '.join(GAMES)}.")
