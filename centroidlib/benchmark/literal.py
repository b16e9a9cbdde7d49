"""What a step of training is timed against: Algorithm 1 word for word, and pytorch/examples' DCGAN."""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from centroidlib.algorithm import TrainingState, start
from centroidlib.centroid import CentroidStats
from centroidlib.config import TrainingConfig
from centroidlib.vgg import VGG16Features


def literal_start(config: TrainingConfig, device: torch.device | str = "cpu") -> TrainingState:
    """The networks that `start` draws, as PyTorch lays them out in memory, and its default Adam."""
    state = start(config, device)
    for network in (state.generator, state.discriminator):
        network.to(memory_format=torch.contiguous_format)
    betas = (config.beta1, config.beta2)
    state.generator_optimiser = Adam(state.generator.parameters(), config.learning_rate, betas)
    state.discriminator_optimiser = Adam(state.discriminator.parameters(), config.learning_rate, betas)
    return state


def literal_phi(phi: VGG16Features) -> nn.Module:
    """The same slice of VGG-16 as torchvision lays it out, behind torchvision's normalisation."""
    normalise = transforms.Normalize((-phi.shift / phi.scale).flatten().tolist(), (1 / phi.scale).flatten().tolist())
    layers = copy.deepcopy(phi.layers).to(memory_format=torch.contiguous_format)
    return nn.Sequential(normalise, layers, nn.Flatten())


def literal_step(
    state: TrainingState,
    config: TrainingConfig,
    real: Tensor,
    latents: Tensor,
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
) -> dict[str, float]:
    """Algorithm 1 word for word, with autograd alone: what `train_step` must equal, and is timed against.

    Takes what `train_step` takes; returns the losses, and with Φ Eq. 3 and the share outside d_ref.
    """
    fake = state.generator(latents)
    real_logits, fake_logits = state.discriminator(real), state.discriminator(fake.detach())
    loss_d = -functional.logsigmoid(real_logits).mean() - functional.logsigmoid(-fake_logits).mean()
    state.discriminator_optimiser.zero_grad()
    loss_d.backward()
    state.discriminator_optimiser.step()

    loss_g = loss_adversarial = -functional.logsigmoid(state.discriminator(fake)).mean()
    seen = {}
    if phi is not None and stats is not None:
        features = phi(fake[: config.centroid_samples or None])
        distances = ((features - stats.centroid.to(features)) ** 2).sum(1).sqrt()
        loss_centroid = torch.maximum(torch.zeros_like(distances), distances - stats.reference_distance).mean()
        if config.unit == "d_ref":
            loss_centroid = loss_centroid / stats.reference_distance
        loss_g = loss_adversarial + config.lambda_ * loss_centroid
        seen = {"loss_centroid": loss_centroid.item(), "outside": (distances > stats.reference_distance).float().mean().item()}
    state.generator_optimiser.zero_grad()
    loss_g.backward()
    state.generator_optimiser.step()
    return {"loss_d": loss_d.item(), "loss_adversarial": loss_adversarial.item()} | seen


def examples_dcgan(folder: Path, config: TrainingConfig, device: torch.device | str = "cpu") -> Callable[[], None]:
    """A function that trains one epoch of pytorch/examples' DCGAN, data loading included, as its documentation describes it.

    Images are read from a folder of folders by two workers, decoded and resized in every epoch; the losses
    are binary cross-entropy of a sigmoid, and five numbers are fetched from the device in every step. The networks are ours,
    which are the same, laid out as PyTorch does.
    """
    transform = transforms.Compose(
        [transforms.Resize(64), transforms.CenterCrop(64), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    )
    data = DataLoader(
        datasets.ImageFolder(str(folder), transform), config.batch_size, shuffle=True, num_workers=2, drop_last=True
    )

    judge, state = nn.BCELoss(), literal_start(config, device)
    generator, discriminator = state.generator, state.discriminator

    def step(real: Tensor) -> None:
        discriminator.zero_grad()
        ones, zeros = torch.ones(len(real), device=device), torch.zeros(len(real), device=device)
        output = discriminator(real).sigmoid()
        loss_real = judge(output, ones)
        loss_real.backward()
        output.mean().item()
        fake = generator(torch.randn(len(real), config.latent, device=device))
        output = discriminator(fake.detach()).sigmoid()
        loss_fake = judge(output, zeros)
        loss_fake.backward()
        output.mean().item()
        state.discriminator_optimiser.step()
        generator.zero_grad()
        output = discriminator(fake).sigmoid()
        loss_g = judge(output, ones)
        loss_g.backward()
        output.mean().item()
        state.generator_optimiser.step()
        (loss_real + loss_fake).item(), loss_g.item()

    def epoch() -> None:
        for real, _ in data:
            step(real.to(device))

    return epoch
