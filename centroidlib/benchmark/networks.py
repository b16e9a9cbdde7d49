"""The networks and distances that measure, ours beside the packages' own, with the same weights and on the same data."""

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from pytorch_fid import inception
from torch import nn

from centroidlib._files import replacing
from centroidlib.benchmark.folders import temporary_folder
from centroidlib.evaluation import InceptionFeatures, features_of, load_lpips
from centroidlib.evaluation.networks import LpipsDistance
from centroidlib.images import load_images
from centroidlib.metrics import fit_gaussian, frechet_distance

WEIGHTS = ("published", "seeded")


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


def choose_weights(asked: str, load: Callable[[], object]) -> str:
    """`published`, or `seeded` where that is asked for or `load` finds the published file not whole or not here.

    Raises:
        ValueError: something else is asked for.
    """
    if asked not in WEIGHTS:
        raise ValueError(f"The networks' weights are {' or '.join(WEIGHTS)}, not {asked!r}.")
    if asked == "published":
        try:
            load()
        except (ValueError, FileNotFoundError):
            return "seeded"
    return asked


@contextmanager
def loading(weights: str) -> Iterator[None]:
    """Inside, or in a function that it decorates, pytorch-fid's network is loaded with `published` or `seeded` weights."""
    if weights == "published":
        yield
    else:
        with seeded_inception(_seeded_home()):
            yield


@cache
def _seeded_home() -> Path:
    return temporary_folder()


def both_inceptions(
    dims: int, weights: str, precision: str = "float32", device: torch.device | str = "cpu"
) -> tuple[InceptionFeatures, inception.InceptionV3]:
    """Our Inception network and pytorch-fid's own class, with the same weights, `published` or `seeded`."""
    with loading(weights):
        ours = InceptionFeatures(dims, precision=precision)
        theirs = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[dims]])
    return ours.to(device), theirs.eval().to(device)


def both_lpips(net: str, weights: str, device: torch.device | str = "cpu") -> tuple[LpipsDistance, nn.Module]:
    """Our LPIPS and lpips' own class, with the same weights; `seeded` are those below LPIPS's own layers."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # lpips still passes torchvision's deprecated `pretrained=`
        torch.manual_seed(0)
        theirs = lpips.LPIPS(net=net, pnet_rand=weights == "seeded", verbose=False)
    ours = load_lpips(net, device) if weights == "published" else LpipsDistance(copy.deepcopy(theirs)).to(device)
    return ours, theirs.requires_grad_(False).to(device)


def draw_gaussians(dims: int, variances: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two Gaussians, each fitted to five times as many float32 vectors as dimensions, as `fit_gaussian` returns them.

    Args:
        dims: dimensions.
        variances: how many times the largest variance is the smallest.
    """
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(dims, dims)))[0]
    mix = np.geomspace(1, variances**-0.5, dims)[:, None] * axes
    return [fit_gaussian(torch.from_numpy(rng.normal(size=(5 * dims, dims)) @ mix).float()) for _ in range(2)]


def distance_of_files(folders: Sequence[str | Path], network: nn.Module) -> float:
    """The Fréchet distance between two folders of images, decoded anew into a cache that is thrown away."""
    with TemporaryDirectory() as empty, patch.dict(os.environ, {"CENTROIDLIB_CACHE": empty}):
        return frechet_distance(*(features_of(load_images(folder, size=None), network, "images") for folder in folders))
