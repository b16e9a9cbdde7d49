"""Algorithm 1: one round of DCGAN's training with the centroid loss in the generator's step, and all it starts from."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Adam
from torch.optim.swa_utils import get_ema_multi_avg_fn

from centroidlib.adversarial import adversarial_loss, discriminator_loss, gradient_penalty
from centroidlib.centroid import CentroidStats
from centroidlib.config import TrainingConfig
from centroidlib.constraints import Constraint, equation_3
from centroidlib.losses import centroid_distances
from centroidlib.machine import choose_precision, computing_in
from centroidlib.models import AnyDiscriminator, AnyGenerator, build
from centroidlib.moving import MovingBall
from centroidlib.streams import random_stream, to_device


@dataclass
class TrainingState:
    """The networks, their optimisers, the steps taken; the generator's average, λ and the centroid where they move along."""

    generator: AnyGenerator
    discriminator: AnyDiscriminator
    generator_optimiser: Adam
    discriminator_optimiser: Adam
    averaged: AnyGenerator | None = None
    multiplier: nn.ParameterList | None = None  # the one λ, a scalar on the device
    moving: MovingBall | None = None  # in the discriminator's own features
    step: int = 0

    def parts(self) -> dict[str, nn.Module | Adam]:
        """Networks and optimisers by name, as a checkpoint holds them."""
        return {name: part for name, part in vars(self).items() if isinstance(part, nn.Module | Adam)}


def start(config: TrainingConfig, device: torch.device | str = "cpu") -> TrainingState:
    """Networks and optimisers before the first step, drawn from the config's seed."""
    rngs = random_stream(config.seed, "generator"), random_stream(config.seed, "discriminator")
    generator, discriminator = build(config.architecture, config.latent, config.width, *rngs)
    for network in (generator, discriminator):
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    betas = (config.beta1, config.beta2)
    return TrainingState(
        generator,
        discriminator,
        Adam(generator.parameters(), config.learning_rate, betas, fused=True),
        Adam(discriminator.parameters(), config.learning_rate, betas, fused=True),
        copy.deepcopy(generator).requires_grad_(False) if config.ema else None,
        nn.ParameterList([nn.Parameter(torch.tensor(float(config.lambda_), device=device), False)]) if config.adapt else None,
        MovingBall(discriminator.dimensions).to(device) if config.space == "discriminator" and config.lambda_ else None,
    )


def constraint_gradient(
    fake: Tensor,
    phi: Callable[[Tensor], Tensor],
    constraint: Callable[[Tensor], Tensor],
    precision: str = "float32",
    chunk: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient of a constraint on the features of a generated batch, at its images, exactly.

    Images inside the ball of Eq. 3 have no gradient, so on a CPU a chunk whose features have none is not walked back
    through Φ; a GPU takes the whole batch at once and never waits for the answer.

    Args:
        fake: generated images (B, 3, H, W).
        phi: Φ.
        constraint: features (B, d) → scalar.
        precision: Φ's arithmetic, `float32` or `bfloat16`.
        chunk: images that Φ takes at a time.

    Returns:
        The gradient (B, 3, H, W), the constraint's value and the features (B, d).
    """
    if chunk is None:
        # Few on a CPU: they stay in its caches, and most are then spared the way back.
        chunk = len(fake) if fake.is_cuda else 2 if precision == "float32" else 8
    images = [part.requires_grad_() for part in fake.detach().split(chunk)]
    with computing_in(precision, fake.device):
        parts = [phi(part) for part in images]
    features = torch.cat([part.detach() for part in parts]).requires_grad_()
    value = constraint(features)
    (pull,) = torch.autograd.grad(value, features)
    gradients = [
        torch.autograd.grad(part, image, share)[0] if fake.is_cuda or share.any() else torch.zeros_like(image)
        for image, part, share in zip(images, parts, pull.split(chunk), strict=True)
    ]
    return torch.cat(gradients), value.detach(), features.detach()


def train_step(
    state: TrainingState,
    config: TrainingConfig,
    real: Tensor,
    latents: Tensor,
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
    constraint: Constraint | None = None,
) -> dict[str, Tensor]:
    """One round of Algorithm 1: D on real and generated images, then G against D and the centroid loss.

    One generated batch serves both. The two terms of Eq. 4 are differentiated at the images and walked
    through G together, which spares D its unused gradients. With `adapt`, λ is the multiplier of the constraint that
    generated images pay no more than real ones: it grows while they pay more, and shrinks to 0 while they pay less.

    Args:
        state: changed in place.
        config: λ, the unit of the distances, the networks' precision.
        real: (B, 3, 64, 64) in [-1, 1].
        latents: (B, latent).
        phi: Φ; where λ = 0 it is only measured with, and may be None.
        stats: c and d_ref in Φ's space.
        constraint: what takes the place of Eq. 3.

    Returns:
        Tensors on the device, for whoever wants to look: both losses, the sigmoid of D's logits of x and x̂, the share of each
        that D told right (in the relativistic game, of pairs), the norms of both networks' gradients, and, with Φ, the
        constraint (`loss_centroid`), the share outside d_ref, the ratio of the norms of λ ∇L_centroid and ∇L_adv at the images,
        and λ where it moves.
    """
    if config.lambda_ > 0 and config.space == "phi" and (phi is None or stats is None):
        raise ValueError("λ is above 0, so the centroid loss needs Φ and its centroid: pass phi and stats.")
    if config.space == "discriminator" and constraint is not None:
        raise ValueError(
            f"{constraint.name} is on Φ's features, and space = 'discriminator' asks for its own: choose one of them."
        )
    if constraint is None and stats is not None:
        constraint = equation_3(stats, config.unit)
    precision = choose_precision(config.precision, latents.device)
    rng = random_stream(config.seed, "noise", state.step)
    with computing_in(precision, latents.device):
        fake = state.generator(latents)
    fake = fake.to(latents.dtype)

    def noisy(images: Tensor) -> Tensor:
        """What D sees of images: they and noise, where the config asks for it (Sønderby et al. 2017)."""
        if config.instance_noise == 0:
            return images
        noise = to_device(torch.randn(images.shape, generator=rng), images.device)
        return images + config.instance_noise * noise.to(images.dtype)

    def judge(images: Tensor) -> Tensor:
        """D's logits."""
        with computing_in(precision, images.device):
            logits: Tensor = state.discriminator(noisy(images))
        return logits.to(images.dtype)

    # Discriminator.
    state.discriminator_optimiser.zero_grad(set_to_none=True)
    shown = real.detach().requires_grad_(config.r1 > 0), fake.detach().requires_grad_(config.r2 > 0)
    real_logits, fake_logits = map(judge, shown)
    loss_d = discriminator_loss(real_logits, fake_logits, config.game)
    for images, logits, gamma in zip(shown, (real_logits, fake_logits), (config.r1, config.r2), strict=True):
        if gamma > 0:
            loss_d = loss_d + gamma / 2 * gradient_penalty(logits, images)
    loss_d.backward()
    seen = {"loss_d": loss_d, "gradient_d": _gradient_norm(state.discriminator)}
    state.discriminator_optimiser.step()

    # Generator.
    state.generator_optimiser.zero_grad(set_to_none=True)
    with torch.no_grad():
        beside = judge(real) if config.game == "relativistic" else None
    loss_adversarial = adversarial_loss(judge(fake), beside, config.game)
    (gradient,) = torch.autograd.grad(loss_adversarial, fake)
    seen["loss_adversarial"] = loss_adversarial
    chosen = fake[: config.centroid_samples or len(fake)]
    if config.lambda_ > 0:
        space, constraint = _constrained(state, real, noisy, phi, constraint)
        chunk = len(chosen) if state.moving is not None else None  # with D's batch norm a chunk would have other features
        pull, value, features = constraint_gradient(chosen, space, constraint, precision, chunk)
        moving = config.lambda_ if state.multiplier is None else state.multiplier[0].clone()
        lambda_ = moving * min(1.0, (state.step + 1) / (config.warmup or 1))
        if config.warmup or state.multiplier is not None:
            seen["lambda"] = torch.ones((), device=fake.device) * lambda_
        seen["gradient_ratio"] = lambda_ * pull.norm() / gradient.norm().clamp(min=1e-30)
        gradient[: len(pull)] += lambda_ * pull
        seen["loss_centroid"] = value
        if state.multiplier is not None and state.step >= config.warmup:
            _adapt(state.multiplier[0], (value - constraint.floor) / constraint.scatter, config)
    if phi is not None and stats is not None and constraint is not None:
        if config.lambda_ == 0 or state.moving is not None:
            with torch.no_grad(), computing_in(precision, fake.device):
                features = phi(chosen)
        if config.lambda_ == 0:
            seen["loss_centroid"] = constraint(features)
        seen["outside"] = (centroid_distances(features, stats) > stats.reference_distance).float().mean()
    fake.backward(gradient)
    seen["gradient_g"] = _gradient_norm(state.generator)
    state.generator_optimiser.step()

    state.step += 1
    if state.averaged is not None:
        _average(state.averaged, state.generator, min(config.ema, (1 + state.step) / (10 + state.step)))
    least, most = (fake_logits, real_logits) if config.game == "relativistic" else (0.0, 0.0)
    for name, logits, right in (("real", real_logits, real_logits > least), ("fake", fake_logits, fake_logits < most)):
        seen |= {f"d_{name}": logits.sigmoid().mean(), f"accuracy_{name}": right.float().mean()}
    return {name: value.detach() for name, value in seen.items()}


def _constrained(
    state: TrainingState, real: Tensor, noisy: Callable[[Tensor], Tensor], phi: nn.Module | None, constraint: Constraint | None
) -> tuple[Callable[[Tensor], Tensor], Constraint]:
    """Whose features are constrained, and how; the ball in D's own moves on with the real images beside the generated ones."""
    if (moving := state.moving) is not None:

        def beside_real(fake: Tensor) -> Tensor:
            # In one batch: D's batch norm would bring generated images alone to where real ones are, and tell both apart.
            features = state.discriminator.features(noisy(torch.cat([real[: len(fake)], fake])))
            moving.update(features[: -len(fake)])
            return features[-len(fake) :]

        return beside_real, Constraint("Eq. 3 in D's features", moving, moving.floor, moving.floor)
    assert phi is not None and constraint is not None  # or the step would not have begun  # noqa: PT018
    return phi, constraint


@torch.no_grad()
def _adapt(lambda_: Tensor, above_floor: Tensor, config: TrainingConfig) -> None:
    """A step of dual ascent; what lies far from the floor, as at the start, counts no more than what lies one scatter away.

    Where the floor is the least that batches pay on average, λ stops only once nothing pulls away from it.
    """
    lambda_.add_(config.adapt * config.lambda_ * above_floor.nan_to_num(0).clamp(-1, 1)).clamp_(min=0)


def _gradient_norm(network: nn.Module) -> Tensor:
    return get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


def _average(averaged: AnyGenerator, generator: AnyGenerator, decay: float) -> None:
    """Move the average towards the generator, BatchNorm's statistics too; an early average forgets faster."""
    pairs = zip(averaged.state_dict().values(), generator.state_dict().values(), strict=True)
    kept, current = zip(*((a, b) for a, b in pairs if a.is_floating_point()), strict=True)
    get_ema_multi_avg_fn(decay)(kept, current, None)
