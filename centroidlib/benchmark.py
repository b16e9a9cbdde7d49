"""Comparing our time with a reference's: interleaved in one run, as ratios; and the references that no package holds."""

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import nbformat
import numpy as np
import torch
from pytorch_fid import inception
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Adam
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from centroidlib._files import replacing
from centroidlib.algorithm import TrainingState, start
from centroidlib.centroid import CentroidStats
from centroidlib.config import TrainingConfig
from centroidlib.features import VGG16Features


def interleaved(*works: Callable[[], object], repeats: int = 5) -> np.ndarray:
    """Seconds of each in every turn, (repeats, works), after one unmeasured turn: so a slow spell hits all alike."""
    times: list[list[float]] = [[] for _ in works]
    for repeat in range(repeats + 1):
        for work, found in zip(works, times, strict=True):
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                found.append(time.perf_counter() - began)
    return np.array(times).T


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


@contextmanager
def seeded_inception(torch_home: Path, seed: int = 0) -> Iterator[None]:
    """Inside, pytorch-fid's file is one of random weights in its form, in a torch cache at `torch_home`.

    Times do not depend on the weights, and the published file is not on every machine.
    """
    path = torch_home / "hub" / "checkpoints" / inception.FID_WEIGHTS_URL.rsplit("/", 1)[-1]
    if not path.is_file():
        with patch.object(inception, "load_state_dict_from_url"), patch.object(nn.Module, "load_state_dict"):
            network = inception.fid_inception_v3()
        rng = torch.Generator().manual_seed(seed)
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                nn.init.kaiming_normal_(tensor, generator=rng)
            elif name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=rng)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.2, generator=rng)
        with replacing(path) as temporary:
            torch.save(network.state_dict(), temporary)
    with patch.dict(os.environ, {"TORCH_HOME": str(torch_home)}):
        yield


TRIVIAL = (
    'batch = "manual"  # folder in results/\narm = "a"  # of the batch\nseed = 0  # of nothing',
    'from centroidlib.runs import Run\n\nrun = Run("01_trivial", globals())',
    '(run.folder / "seed.txt").write_text(str(seed))\nrun.finish("seed.txt")',
)
BARE = """from sys import argv
from papermill import execute_notebook
for seed in range(int(argv[1])):
    parameters = {"batch": "bare", "seed": seed}
    execute_notebook("notebooks/01_trivial.ipynb", "out.ipynb", parameters, kernel_name="python3", progress_bar=False)
"""


def trivial_project(folder: Path) -> None:
    """A project whose one notebook does nothing but note that it ran; bare.py runs it so many times through papermill alone."""
    (folder / "notebooks").mkdir(parents=True)
    (folder / "pyproject.toml").touch()
    (folder / "bare.py").write_text(BARE)
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in TRIVIAL]
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, folder / "notebooks" / "01_trivial.ipynb")


def seconds_of(*arguments: object, cwd: Path) -> float:
    """Wall-clock seconds of `python ARGUMENTS`, its start and its imports included.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(map(str, arguments))} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began
