"""The feature spaces to measure in: published ones, and VGG-16 slices that the loss did or did not see."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from centroidlib.evaluation.networks import Dinov2Features, InceptionFeatures
from centroidlib.features import FeatureExtractor, device_of
from centroidlib.metrics import MAX_DIMENSIONS, named
from centroidlib.vgg import VGG16Features

METRIC_SEED = 1000  # of the random network that measures; the loss's is another


@dataclass(frozen=True)
class Space:
    """A feature space to measure in.

    Attributes:
        name: of its Fréchet distance: `fid`, `fid_768`, `fd_vgg16_random`.
        network: images (B, 3, H, W) in [-1, 1] → features (B, d).
        seen_by_loss: whether the loss trains in it.
        pooled_from_phi: its features are those of the loss's Φ, averaged over positions.
    """

    name: str
    network: nn.Module
    seen_by_loss: bool
    pooled_from_phi: bool = False

    def named(self, metric: str) -> str:
        """`precision` in this space: bare in the Inception's 2048 features, elsewhere with the space as suffix."""
        return named(self.name, metric)


def published_networks(
    fid_dims: int = 2048, *, clean: bool = False, dinov2: bool = False, precision: str = "float32"
) -> dict[str, Callable[[], nn.Module]]:
    """The published networks to measure in, each loaded by a call, by the name of its Fréchet distance.

    Args:
        fid_dims: of pytorch-fid's Inception: `fid` for 2048, else `fid_768`; 0 for none.
        clean: the same with clean-fid's resizing, `fid_clean` or `fid_clean_768`.
        dinov2: DINOv2 ViT-L/14, `fd_dinov2`.
        precision: of their arithmetic.

    Raises:
        ValueError: `clean` without `fid_dims`.
    """
    if clean and not fid_dims:
        raise ValueError("clean resizes images for the Inception network, and fid_dims = 0 has none: set one of the two.")
    suffix = "" if fid_dims == 2048 else f"_{fid_dims}"
    found: dict[str, Callable[[], nn.Module]] = {}
    if fid_dims:
        found[f"fid{suffix}"] = lambda: InceptionFeatures(fid_dims, precision=precision)
    if clean:
        found[f"fid_clean{suffix}"] = lambda: InceptionFeatures(fid_dims, "clean", precision)
    if dinov2:
        found["fd_dinov2"] = lambda: Dinov2Features(precision)
    return found


def metric_spaces(
    phi: FeatureExtractor, fid_dims: int = 2048, *, clean: bool = False, dinov2: bool = False, precision: str = "float32"
) -> list[Space]:
    """The spaces to measure in, on Φ's device.

    First the published networks that are asked for, then always a VGG-16 slice with random weights, which no loss sees
    and which needs no file (`fd_vgg16_random`), and last Φ's own features, pooled (`fd_vgg16_relu3_3`); not where those have
    more than 2,048 dimensions, as of VGG-16's fully connected layers.

    Args:
        phi: the loss's Φ.
        fid_dims: as `published_networks` takes it.
        clean: likewise.
        dinov2: likewise.
        precision: of the published networks; VGG-16 measures in float32.

    Raises:
        ValueError: `clean` without `fid_dims`, or what the networks raise.
        FileNotFoundError: weights are neither cached nor to be downloaded.
        ModuleNotFoundError: `dinov2` without timm.
    """
    published = published_networks(fid_dims, clean=clean, dinov2=dinov2, precision=precision)
    spaces = [Space(name, load(), name == f"fd_{phi.name}") for name, load in published.items()]
    random = VGG16Features(16, "random", pool=True, seed=METRIC_SEED)
    same = isinstance(phi, VGG16Features) and phi.weights == "random" and phi.seed == METRIC_SEED
    spaces.append(Space("fd_vgg16_random", random, same))
    if phi.channels <= MAX_DIMENSIONS and not any(space.seen_by_loss for space in spaces[:-1]):
        spaces.append(Space(f"fd_{phi.name}", phi.pooled(), True, pooled_from_phi=True))
    for space in spaces:
        space.network.to(device_of(phi))
    return spaces
