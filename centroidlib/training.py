"""Algorithm 1: DCGAN's training with the centroid loss in the generator's step."""

import hashlib
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.optim import Adam

from centroidlib._files import replacing, track
from centroidlib.centroid import CentroidStats
from centroidlib.checkpoints import load_checkpoint, save_checkpoint, save_generator
from centroidlib.features import to_float, to_uint8
from centroidlib.images import images_digest
from centroidlib.losses import UNITS, adversarial_loss, centroid_distances, discriminator_loss, hinge
from centroidlib.models import Discriminator, Generator, initialise


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that decides what is trained; the defaults are the paper's, or DCGAN's where it is silent."""

    steps: int = 10_000
    batch_size: int = 128
    lambda_: float = 0.1  # λ of Eq. 4; 0 is plain DCGAN
    unit: str = "raw"  # of the distances in Eq. 3: raw or d_ref
    centroid_samples: int = 0  # M of Eq. 3, images of the batch it is taken over; 0 for the whole batch
    instance_noise: float = 0.0  # standard deviation of noise on all that D sees, of images in [-1, 1]; the paper has none
    learning_rate: float = 2e-4
    beta1: float = 0.5
    beta2: float = 0.999
    latent: int = 100
    width: int = 64
    flip: bool = False  # show each image mirrored half of the time
    seed: int = 0  # of initial weights, latents and data order, each a stream of its own

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "latent", "width", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}.")
        if self.batch_size < 2:
            raise ValueError("batch_size must be at least 2: batch norm has no variance of a single image.")
        if not 0 <= self.centroid_samples <= self.batch_size:
            raise ValueError(f"centroid_samples must be 0 (the whole batch) to {self.batch_size}, not {self.centroid_samples}.")
        if self.instance_noise < 0:
            raise ValueError(f"instance_noise is a standard deviation, 0 or above, not {self.instance_noise}.")
        if not 0 <= self.lambda_ < float("inf"):
            raise ValueError(f"lambda_ must be 0 (no centroid loss) or above, not {self.lambda_}.")
        if self.unit not in UNITS:
            raise ValueError(f"unit is 'raw' or 'd_ref', not {self.unit!r}.")


@dataclass
class TrainingState:
    """The networks, their optimisers and the number of steps taken."""

    generator: Generator
    discriminator: Discriminator
    generator_optimiser: Adam
    discriminator_optimiser: Adam
    step: int = 0

    def parts(self) -> dict[str, nn.Module | Adam]:
        """Networks and optimisers by name, as a checkpoint holds them."""
        names = ("generator", "discriminator", "generator_optimiser", "discriminator_optimiser")
        return {name: getattr(self, name) for name in names}


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
    order = torch.cat([torch.randperm(count, generator=random_stream(seed, "data", epoch)) for epoch in epochs])
    offset = first - epochs[0] * count
    return order[offset : offset + batch_size]


def start(config: TrainingConfig, device: torch.device | str = "cpu") -> TrainingState:
    """Networks and optimisers before the first step, drawn from the config's seed."""
    generator = Generator(config.latent, config.width)
    discriminator = Discriminator(config.width)
    initialise(generator, random_stream(config.seed, "generator"))
    initialise(discriminator, random_stream(config.seed, "discriminator"))
    for network in (generator, discriminator):
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    betas = (config.beta1, config.beta2)
    return TrainingState(
        generator,
        discriminator,
        Adam(generator.parameters(), config.learning_rate, betas),
        Adam(discriminator.parameters(), config.learning_rate, betas),
    )


def centroid_gradient(
    fake: Tensor, phi: nn.Module, stats: CentroidStats, unit: str, chunk: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 3 of a generated batch and its gradient at the images, exactly.

    Images inside the ball have no gradient, so on a CPU a chunk that lies inside altogether is not walked back
    through Φ; a GPU takes the whole batch at once and never waits for the answer.

    Returns:
        The loss (), its gradient (B, 3, H, W) and the distances (B,).
    """
    gradients, distances = [], []
    for part in fake.detach().split(chunk or _chunk(fake)):
        images = part.requires_grad_()
        distances.append(centroid_distances(phi(images), stats))
        share = hinge(distances[-1], stats, unit).sum() / len(fake)
        if fake.is_cuda or share.item() > 0:
            gradients.append(torch.autograd.grad(share, images)[0])
        else:
            gradients.append(torch.zeros_like(part))
    measured = torch.cat(distances).detach()
    return hinge(measured, stats, unit).mean(), torch.cat(gradients), measured


def train_step(
    state: TrainingState,
    config: TrainingConfig,
    real: Tensor,
    latents: Tensor,
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
) -> dict[str, Tensor]:
    """One round of Algorithm 1: D on real and generated images, then G against D and the centroid loss.

    One generated batch serves both. The two terms of Eq. 4 are differentiated at the images and walked
    through G together, which spares D its unused gradients.

    Args:
        state: changed in place.
        config: λ, the unit of the distances.
        real: (B, 3, 64, 64) in [-1, 1].
        latents: (B, latent).
        phi: Φ; where λ = 0 it is only measured with, and may be None.
        stats: c and d_ref in Φ's space.

    Returns:
        Tensors on the device, for whoever wants to look: both losses, mean D(x) and D(x̂), and, with the
        centroid loss, its value, the share outside d_ref and the ratio of the terms' gradient norms.
    """
    fake = state.generator(latents)
    rng = random_stream(config.seed, "noise", state.step)

    def judge(images: Tensor) -> Tensor:
        """D's logits, of noisy images where the config asks for it (Sønderby et al. 2017)."""
        if config.instance_noise > 0:
            images = images + config.instance_noise * torch.randn(images.shape, generator=rng).to(images)
        logits: Tensor = state.discriminator(images)
        return logits

    # Discriminator.
    state.discriminator_optimiser.zero_grad(set_to_none=True)
    real_logits, fake_logits = judge(real), judge(fake.detach())
    loss_d = discriminator_loss(real_logits, fake_logits)
    loss_d.backward()
    state.discriminator_optimiser.step()

    # Generator.
    state.generator_optimiser.zero_grad(set_to_none=True)
    loss_adversarial = adversarial_loss(judge(fake))
    (gradient,) = torch.autograd.grad(loss_adversarial, fake)
    seen = {
        "loss_d": loss_d.detach(),
        "loss_adversarial": loss_adversarial.detach(),
        "d_real": real_logits.detach().sigmoid().mean(),
        "d_fake": fake_logits.detach().sigmoid().mean(),
    }
    chosen = fake[: config.centroid_samples or len(fake)]
    if config.lambda_ > 0:
        if phi is None or stats is None:
            raise ValueError("λ is above 0, so the centroid loss needs Φ and its centroid: pass phi and stats.")
        loss_centroid, pull, distances = centroid_gradient(chosen, phi, stats, config.unit)
        seen |= {"loss_centroid": loss_centroid, "outside": (distances > stats.reference_distance).float().mean()}
        seen["gradient_ratio"] = config.lambda_ * pull.norm() / gradient.norm().clamp(min=1e-30)
        gradient[: len(pull)] += config.lambda_ * pull
    elif phi is not None and stats is not None:
        with torch.no_grad():
            distances = torch.cat([centroid_distances(phi(part), stats) for part in chosen.split(_chunk(fake))])
        seen["loss_centroid"] = hinge(distances, stats, config.unit).mean()
        seen["outside"] = (distances > stats.reference_distance).float().mean()
    fake.backward(gradient)
    state.generator_optimiser.step()
    state.step += 1
    return seen


def train(
    images: Tensor,
    config: TrainingConfig,
    folder: str | Path,
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
    *,
    history_every: int = 10,
    samples_every: int = 100,
    device: torch.device | str = "cpu",
) -> pd.DataFrame:
    """Train for `config.steps` steps, continuing from the folder's checkpoint where there is one.

    Writes to `folder`: `history.csv`, `samples/step_*.png` (64 fixed latents), `checkpoint.pt` whenever samples are
    drawn, and at the end `generator.safetensors`.

    Args:
        images: real images, uint8 (N, 3, 64, 64).
        config: what to train.
        folder: of this run.
        phi: Φ. Needed where λ > 0; where λ = 0 it is only measured with.
        stats: c and d_ref in Φ's space.
        history_every: steps between two rows of the history.
        samples_every: steps between two sample grids and checkpoints.
        device: where to train.

    Returns:
        The history, one row in `history_every` steps.

    Raises:
        ValueError: images of another shape, or the checkpoint is of other parameters.
        FloatingPointError: a loss is not finite; the last good checkpoint stays.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, 64, 64):
        raise ValueError(f"Training takes uint8 images (N, 3, 64, 64), not {images.dtype} {tuple(images.shape)}.")
    if min(history_every, samples_every) < 1:
        raise ValueError(f"history_every and samples_every are steps, at least 1, not {history_every} and {samples_every}.")
    folder = Path(folder)
    state = start(config, device)
    parameters = {k: v for k, v in asdict(config).items() if k != "steps"} | {"images": images_digest(images)}
    if config.lambda_ > 0 and stats is not None:
        parameters |= {"phi": stats.fingerprint, "reference_distance": stats.reference_distance}
    state.step, history = load_checkpoint(folder / "checkpoint.pt", state.parts(), config.steps, parameters)
    stats = stats.to(device) if stats is not None else None
    fixed = draw_latents(64, config.latent, random_stream(config.seed, "samples")).to(device)
    began = time.perf_counter() - (history[-1]["seconds"] if history else 0.0)

    if state.step == 0:
        _write_samples(state, fixed, folder)
    for step in track(range(state.step, config.steps), "training"):
        chosen = batch_indices(step, config.batch_size, len(images), config.seed)
        real = to_float(images[chosen].to(device))
        if config.flip:
            mirrored = torch.rand(len(real), generator=random_stream(config.seed, "flip", step)) < 0.5
            real = torch.where(mirrored.to(device)[:, None, None, None], real.flip(3), real)
        rng = random_stream(config.seed, "latents", step)
        latents = draw_latents(config.batch_size, config.latent, rng).to(device)
        last = step + 1 == config.steps
        looking = last or (step + 1) % history_every == 0
        seen = train_step(state, config, real, latents, phi if looking or config.lambda_ > 0 else None, stats)

        if looking:
            row = {name: float(value) for name, value in seen.items()}
            _check_finite(row, state.step, folder)
            if stats is not None and "loss_centroid" in row:
                floor = stats.floor / (stats.reference_distance if config.unit == "d_ref" else 1.0)
                row["hinge_over_floor"] = row["loss_centroid"] / floor
            history.append({"step": state.step, **row, "seconds": round(time.perf_counter() - began, 2)})
        if last or state.step % samples_every == 0:
            _check_finite({n: float(v) for n, v in (seen | _weights(state)).items()}, state.step, folder)
            _write_samples(state, fixed, folder)
            save_checkpoint(folder / "checkpoint.pt", state.parts(), state.step, parameters, history)
            with replacing(folder / "history.csv") as temporary:
                pd.DataFrame(history).to_csv(temporary, index=False)
    save_generator(state.generator, folder / "generator.safetensors")
    return pd.DataFrame(history)


def _write_samples(state: TrainingState, latents: Tensor, folder: Path) -> None:
    state.generator.eval()
    with torch.no_grad():
        grid = torchvision.utils.make_grid(to_uint8(state.generator(latents)).cpu(), nrow=8, padding=2, pad_value=255)
    state.generator.train()
    with replacing(folder / "samples" / f"step_{state.step:06d}.png") as temporary:
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(temporary, "PNG")


def _chunk(images: Tensor) -> int:
    """Images that Φ takes at a time: few on a CPU, whose caches they should fit, all on a GPU."""
    return len(images) if images.is_cuda else 4


def _weights(state: TrainingState) -> dict[str, Tensor]:
    """A number for each network that is finite only if all its weights are."""
    networks = {"the generator's weights": state.generator, "the discriminator's weights": state.discriminator}
    return {name: torch.stack([w.detach().abs().sum() for w in n.parameters()]).sum() for name, n in networks.items()}


def _check_finite(row: dict[str, float], step: int, folder: Path) -> None:
    bad = [name for name, value in row.items() if not abs(value) < float("inf")]
    if bad:
        kept = (folder / "checkpoint.pt").is_file()
        raise FloatingPointError(
            f"Step {step}: not finite: {', '.join(bad)}. Training has stopped. "
            + (f"The last good checkpoint in {folder.name} is kept; " if kept else "")
            + "try a smaller lambda_ or learning_rate."
        )
