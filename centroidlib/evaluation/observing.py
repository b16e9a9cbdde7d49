"""One pass over a set of images, generated or stored, that leaves all that is measured of it."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from centroidlib._files import cache_folder, replacing, track
from centroidlib.centroid import CentroidStats
from centroidlib.evaluation.spaces import Space
from centroidlib.features import FeatureExtractor, device_of, fingerprint, to_float, to_uint8
from centroidlib.images import images_digest
from centroidlib.intervals import GROUPS
from centroidlib.losses import centroid_distances
from centroidlib.metrics import Gaussian
from centroidlib.models import AnyGenerator
from centroidlib.streams import draw_latents, random_stream

BATCH = 64
Lpips = Mapping[str, nn.Module]


@dataclass(frozen=True)
class Observed:
    """What a pass leaves of N images.

    Attributes:
        count: N; 0 where only fitted Gaussians are known.
        features: by space, float32 (N, d).
        gaussians: by space, where only the Gaussian fitted to the features is known.
        lpips: by network, LPIPS of disjoint random pairs, float32 (P,).
        distances: to the centroid in Φ, float32 (N,); empty where no Φ was given.
        group_means: of Φ's features over the images with i % GROUPS = 0, 1, …, float64 (GROUPS, d); empty likewise.
        images: the first ones, as many as were to be kept, uint8 (K, 3, H, W) on the CPU.
    """

    count: int
    features: Mapping[str, Tensor] = field(default_factory=dict)
    gaussians: Mapping[str, Gaussian] = field(default_factory=dict)
    lpips: Mapping[str, Tensor] = field(default_factory=dict)
    distances: Tensor = field(default_factory=lambda: torch.empty(0))
    group_means: Tensor = field(default_factory=lambda: torch.empty(0))
    images: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.uint8))


def observe(
    batches: Iterable[Tensor],
    count: int,
    spaces: Sequence[Space] = (),
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
    lpips: Lpips | None = None,
    pairs: int = 0,
    keep: int = 0,
    label: str = "images",
) -> Observed:
    """Apply every network to every batch, once. Memory: the features of `count` images, one batch, the images kept.

    Args:
        batches: uint8 (B, 3, H, W), together `count` images in random order; B even but for the last.
        count: N.
        spaces: feature spaces to collect features in.
        phi: Φ of the loss, to measure distances to the centroid; with `stats`.
        stats: c and d_ref in Φ's space.
        lpips: networks by name, from `load_lpips`.
        pairs: LPIPS is taken of the first so many pairs of neighbouring images.
        keep: of the images, the first so many, to be looked at.
        label: of the progress line.

    Raises:
        ValueError: too few images for the pairs, other images than announced, or features that are not finite.
    """
    lpips = lpips or {}
    if lpips and pairs < 1:
        raise ValueError(f"LPIPS is the mean over pairs of images: give at least one, not {pairs}.")
    if lpips and 2 * pairs > count:
        raise ValueError(f"{pairs:,} disjoint pairs for LPIPS need {2 * pairs:,} images; there are {count:,}.")
    features: dict[str, Tensor] = {}
    parts: dict[str, list[Tensor]] = {name: [] for name in lpips}
    distances, sums = torch.empty(0), torch.empty(0)
    device = device_of(nn.ModuleList([*(space.network for space in spaces), phi or nn.Identity(), *lpips.values()]))
    stats = stats and stats.to(device)
    kept: list[Tensor] = []
    seen = 0
    # TensorFloat-32, which GPUs take for float32 in convolutions unless told otherwise, would be another measurement.
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        for batch in track(batches, label, -(-count // BATCH)):
            here = range(seen, seen := seen + len(batch))
            if seen > count or (len(batch) % 2 and seen < count):
                raise ValueError(
                    f"A batch of {len(batch)} images came after {here.start:,} of {count:,}: all but the last must hold an even "
                    "number, and together they must hold as many as were announced."
                )
            images = to_float(batch.to(device))
            kept.append(batch[: max(0, keep - here.start)].cpu())
            full = torch.empty(0)
            if phi is not None and stats is not None:
                full = _finite(phi(images), phi, "Φ", here)
                if here.start == 0:
                    distances, sums = torch.empty(count), full.new_zeros((GROUPS, full.shape[1]), dtype=torch.float64)
                distances[here.start : seen] = centroid_distances(full, stats).cpu()
                sums.index_add_(0, torch.tensor(here, device=device) % GROUPS, full.double())
            for space in spaces:
                if space.pooled_from_phi and isinstance(phi, FeatureExtractor):
                    found = phi.average(full)
                else:
                    found = _finite(space.network(images), space.network, space.name, here)
                if here.start == 0:
                    features[space.name] = torch.empty(count, found.shape[1])
                features[space.name][here.start : seen] = found.cpu()
            for name, distance in lpips.items():
                wanted = images[: max(0, 2 * pairs - here.start)]
                if len(wanted):
                    parts[name].append(distance(wanted[0::2], wanted[1::2]).cpu())
    if seen < count:
        raise ValueError(f"Only {seen:,} of the {count:,} images that were announced came: give their true number.")
    return Observed(
        count=count,
        features=features,
        lpips={name: torch.cat(found) for name, found in parts.items()},
        distances=distances,
        group_means=sums.cpu() / group_sizes(count)[:, None] if len(sums) else sums,
        images=torch.cat(kept) if kept else torch.empty(0, dtype=torch.uint8),
    )


def observe_images(
    images: Tensor,
    spaces: Sequence[Space],
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
    lpips: Lpips | None = None,
    pairs: int = 0,
    label: str = "real images",
) -> Observed:
    """`observe` for stored images, uint8 (N, 3, H, W), whose features are kept in the cache folder, but for Φ's own.

    LPIPS is of disjoint random pairs, always the same; of as many as there are where `pairs` is more.
    """
    pooled = [space for space in spaces if space.pooled_from_phi and phi is not None]
    features = cached_features(images, [space for space in spaces if space not in pooled], label)
    if phi is None and not lpips:
        return Observed(len(images), features)
    pairs = min(pairs, len(images) // 2)
    count = len(images) if phi is not None else 2 * pairs
    order = torch.randperm(len(images), generator=random_stream(0, "pairs"))[:count]
    rest = observe((images[chosen] for chosen in order.split(BATCH)), count, pooled, phi, stats, lpips, pairs, label=label)
    features |= {name: found[order.argsort()] for name, found in rest.features.items()}
    return replace(rest, count=len(images), features={space.name: features[space.name] for space in spaces})


def generated(generator: AnyGenerator, count: int, seed: int, batch_norm: str = "eval") -> Iterator[Tensor]:
    """A generator's images, quantised as a file would hold them: batches of uint8 (B, 3, 64, 64) on its device.

    Args:
        generator: it is left as it is.
        count: images in all; the last batch may be smaller.
        seed: of the latents.
        batch_norm: `eval` normalises with the running statistics, `train` with those of each batch.

    Raises:
        ValueError: another `batch_norm`.
    """
    if batch_norm not in ("eval", "train"):
        raise ValueError(f"batch_norm is 'eval' or 'train', not {batch_norm!r}.")
    generator = deepcopy(generator).train(batch_norm == "train")
    latents = draw_latents(count, generator.latent, random_stream(seed, "evaluation"))
    with torch.no_grad():
        for z in latents.split(BATCH):
            yield to_uint8(generator(z.to(device_of(generator))))


def generate_images(generator: AnyGenerator, count: int, seed: int) -> Tensor:
    """The first `count` images that are measured, uint8 (count, 3, 64, 64) on the CPU."""
    return torch.cat([batch.cpu() for batch in generated(generator, count, seed)])


def features_of(images: Tensor, network: nn.Module, label: str) -> Tensor:
    """Features of uint8 images (N, 3, H, W), float32 (N, d) on the CPU."""
    return observe(images.split(BATCH), len(images), [Space(label, network, False)], label=label).features[label]


def cached_features(images: Tensor, spaces: Sequence[Space], label: str) -> dict[str, Tensor]:
    """Features of stored images by space, computed in one pass and kept in the cache folder.

    The file's name holds a hash of the images and one of the network with all its weights: what was measured otherwise
    is never taken for it.
    """
    digest = images_digest(images)
    paths = {space.name: cache_folder() / f"features-{digest}-{fingerprint(space.network)}.npy" for space in spaces}
    kept: dict[str, Tensor] = {}
    for name, path in paths.items():
        if path.is_file():
            try:
                kept[name] = torch.from_numpy(np.load(path, mmap_mode="c"))
                if len(kept[name]) != len(images):
                    raise ValueError
            except (OSError, ValueError, EOFError):
                kept.pop(name, None)
                warnings.warn(f"The cached features {path.name} are damaged and are computed again.", stacklevel=2)
    missing = [space for space in spaces if space.name not in kept]
    if missing:
        for name, found in observe(images.split(BATCH), len(images), missing, label=label).features.items():
            with replacing(paths[name]) as temporary:
                np.save(temporary, found.numpy())
            kept[name] = found
    return {space.name: kept[space.name] for space in spaces}


def group_sizes(count: int) -> Tensor:
    """How many of `count` images are in each group of `Observed.group_means`, int64 (GROUPS,)."""
    return torch.arange(count).remainder(GROUPS).bincount(minlength=GROUPS)


def _finite(features: Tensor, network: nn.Module, name: str, here: range) -> Tensor:
    """The features, or a sentence that says whose they are and which weights are to blame."""
    if torch.isfinite(features).all():
        return features
    blame = [key for key, tensor in network.state_dict().items() if not torch.isfinite(tensor).all()]
    why = (
        f"its weights {blame[0]} are not finite: fetch the file again" if blame else "its weights are: use precision = 'float32'"
    )
    raise ValueError(
        f"{name}: the features of an image among {here.start} to {here.stop - 1} are not finite. The network is "
        f"{type(network).__name__}({network.extra_repr()}); {why}, or choose another layer or other weights."
    )
