"""What is measured: real images against each other once, then each generator's images against the real ones."""

import hashlib
import json
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_fid.inception import FID_WEIGHTS_URL, InceptionV3
from torch import Tensor, nn

from centroidlib._files import cache_folder, replacing, track, write_text
from centroidlib.centroid import CentroidStats
from centroidlib.features import VGG16Features, device_of, finding_weights, fingerprint, in_batches, to_float, to_uint8
from centroidlib.images import images_digest
from centroidlib.losses import centroid_distances
from centroidlib.metrics import frechet_distance, precision_recall
from centroidlib.models import Generator
from centroidlib.training import draw_latents, random_stream

METRIC_SEED = 1000  # of the random network that measures; the loss's is another
NEIGHBOURS_AT_MOST = 5_000  # images a side for precision and recall: their memory grows with the square
LPIPS_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


class InceptionFeatures(nn.Module):
    """pytorch-fid's Inception network: images (B, 3, H, W) in [-1, 1] → features (B, dims), float32.

    Args:
        dims: 64, 192, 768 or 2048; FID proper is 2048.

    Raises:
        ValueError: other dims, or the weights hold NaN in the layers used.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """

    def __init__(self, dims: int = 2048) -> None:
        super().__init__()
        blocks = InceptionV3.BLOCK_INDEX_BY_DIM
        if dims not in blocks:
            raise ValueError(f"pytorch-fid's Inception has features of {', '.join(map(str, blocks))} dimensions, not {dims}.")
        filename = FID_WEIGHTS_URL.rsplit("/", 1)[-1]
        with finding_weights("pytorch-fid's Inception", filename, "set fid_dims = 0 to measure in a random network"):
            self.network = InceptionV3([blocks[dims]])
        if not all(torch.isfinite(p).all() for p in self.network.parameters()):
            raise ValueError(f"The Inception weights ({filename}) hold NaN in the layers that dims = {dims} uses: choose fewer.")
        self.network.to(memory_format=torch.channels_last)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        features: Tensor = self.network(images * 0.5 + 0.5)[0]
        return features.mean(dim=(2, 3))


@dataclass(frozen=True)
class Space:
    """A feature space to measure in: its metric's name, its network, and whether the loss saw it."""

    name: str
    network: nn.Module
    seen_by_loss: bool

    def named(self, metric: str) -> str:
        """`precision` in this space: bare in the Inception's 2048 features, elsewhere with the space as suffix."""
        suffix = self.name.removeprefix("fid_").removeprefix("fd_")
        return metric if self.name == "fid" else f"{metric}_{suffix}"


def metric_spaces(phi: VGG16Features, fid_dims: int = 2048) -> list[Space]:
    """The spaces to measure in, on Φ's device: one that the loss did not see, and Φ's own, pooled (to d ≤ 2,048).

    The unseen one is pytorch-fid's Inception (`fid`, or `fid_768` for other dims) or, with `fid_dims` 0, a VGG-16
    slice with random weights of another seed (`fd_vgg16_random`), which needs no file.
    """
    device = device_of(phi)
    if fid_dims:
        unseen = Space("fid" if fid_dims == 2048 else f"fid_{fid_dims}", InceptionFeatures(fid_dims).to(device), False)
    else:
        unseen = Space("fd_vgg16_random", VGG16Features(16, "random", pool=True, seed=METRIC_SEED).to(device), False)
    if phi.layer > 31:
        return [unseen]
    pooled = VGG16Features(phi.layer, phi.weights, pool=True, precision=phi.precision, resize=phi.resize, seed=phi.seed)
    return [unseen, Space(f"fd_{phi.name}", pooled.to(device), True)]


def load_lpips(net: str = "alex") -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS v0.1 between image batches in [-1, 1]: (B, 3, H, W) twice → (B,)."""
    if net not in LPIPS_FILES:
        raise ValueError(f"LPIPS has the networks {', '.join(LPIPS_FILES)}, not {net!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips still passes torchvision's deprecated `pretrained=`
        import lpips

        with finding_weights(f"LPIPS ({net})", LPIPS_FILES[net], "set lpips = '' to leave LPIPS out"):
            network = lpips.LPIPS(net=net, verbose=False)
    network.requires_grad_(False).eval()
    return lambda a, b: network(a, b).flatten()


def generate_images(generator: Generator, count: int, seed: int, batch_size: int = 64) -> Tensor:
    """Images of a generator in eval mode, quantised as a file would be: uint8 (count, 3, 64, 64)."""
    was_training, device = generator.training, next(generator.parameters()).device
    generator.eval()
    latents = draw_latents(count, generator.latent, random_stream(seed, "evaluation"))
    with torch.no_grad():
        images = torch.cat([to_uint8(generator(z.to(device))).cpu() for z in latents.split(batch_size)])
    generator.train(was_training)
    return images


def features_of(images: Tensor, network: nn.Module, label: str, batch_size: int = 64) -> Tensor:
    """Features of uint8 images (N, 3, H, W), float32 (N, d)."""
    batches = track(in_batches(images, network, batch_size), label, -(-len(images) // batch_size))
    return torch.cat([batch.cpu() for batch in batches])


def cached_features(images: Tensor, network: nn.Module, label: str) -> Tensor:
    """`features_of`, computed once for these images and this network and kept in the cache folder."""
    path = cache_folder() / f"features-{images_digest(images)}-{fingerprint(network)}.npy"
    if path.is_file():
        try:
            return torch.from_numpy(np.load(path, mmap_mode="c"))
        except (OSError, ValueError, EOFError):
            warnings.warn(f"The cached features {path.name} are damaged and are computed again.", stacklevel=2)
    features = features_of(images, network, label)
    with replacing(path) as temporary:
        np.save(temporary, features.numpy())
    return features


def disjoint_pairs(count: int, pairs: int, seed: int = 0) -> Tensor:
    """Random pairs of indices below `count` in which no index stands twice, int64 (pairs, 2)."""
    if 2 * pairs > count:
        raise ValueError(f"{pairs:,} disjoint pairs need {2 * pairs:,} images; there are {count:,}.")
    return torch.randperm(count, generator=random_stream(seed, "pairs"))[: 2 * pairs].view(pairs, 2)


def lpips_of_pairs(images: Tensor, pairs: Tensor, net: str, batch_size: int = 64) -> Tensor:
    """LPIPS of pairs (P, 2) of uint8 images, at their own resolution: float32 (P,)."""
    distance = load_lpips(net)
    batches = track(pairs.split(batch_size), f"LPIPS ({net})", -(-len(pairs) // batch_size))
    with torch.no_grad():
        return torch.cat([distance(to_float(images[b[:, 0]]), to_float(images[b[:, 1]])) for b in batches])


def measure_real(
    real: Tensor, stats: CentroidStats, spaces: list[Space], samples: int, lpips: str = "", pairs: int = 5_000
) -> dict[str, dict[str, float]]:
    """What real images (uint8, N) score against each other: the floor of every metric.

    Fréchet distance, precision and recall between disjoint random halves, of at most `samples` images each; LPIPS of
    disjoint pairs; the share inside d_ref; the centre's offset between halves. Each with `floor` and the `n` it was
    measured at. The features stay in the cache for `measure_generated`.
    """
    floors: dict[str, dict[str, float]] = {}
    for space in spaces:
        halves = _halves(cached_features(real, space.network, f"real images, {space.name}"))
        first, second = (half[: min(samples, len(real) // 2)] for half in halves)
        floors[space.name] = {"floor": frechet_distance(first, second), "n": len(first)}
        near = (first[:NEIGHBOURS_AT_MOST], second[:NEIGHBOURS_AT_MOST])
        precision, recall = precision_recall(*near)
        floors[space.named("precision")] = {"floor": precision, "n": len(near[0])}
        floors[space.named("recall")] = {"floor": recall, "n": len(near[0])}
    if lpips:
        pairs = min(pairs, len(real) // 2)
        distances = lpips_of_pairs(real, disjoint_pairs(len(real), pairs), lpips)
        floors[f"lpips_{lpips}"] = {"floor": float(distances.double().mean()), "n": pairs}
    floors["inside_d_ref"] = {"floor": 1 - stats.outside, "n": stats.count}
    floors["centre_offset"] = {"floor": stats.halves_offset, "n": stats.count // 2}
    return floors


def measure_generated(
    fake: Tensor,
    real: Tensor,
    phi: VGG16Features,
    stats: CentroidStats,
    spaces: list[Space],
    floors: dict[str, dict[str, float]],
    samples: int,
    lpips: str = "",
    pairs: int = 5_000,
) -> dict[str, dict[str, Any]]:
    """Every metric of generated images, beside its floor.

    Args:
        fake: uint8 (M, 3, H, W); the first `samples` are measured, all are there for the pairs.
        real: uint8 (N, 3, H, W).
        phi: the Φ of the loss.
        stats: c and d_ref in Φ's space.
        spaces: where to measure.
        floors: from `measure_real`.
        samples: generated images for everything but LPIPS.
        lpips: LPIPS's network, or empty.
        pairs: disjoint pairs for LPIPS.

    Returns:
        Entries of metrics.json: name → value, low, high, interval, floor, value_at_floor_n, n_real, n_fake,
        seen_by_loss and better (`lower`, `higher` or `floor`: the nearer to real images' own value).
    """
    measured: dict[str, dict[str, Any]] = {}

    def note(name: str, value: float, better: str, n_fake: int, n_real: int, seen: bool, **more: Any) -> None:
        entry: dict[str, Any] = {"value": value, "low": None, "high": None, "interval": None, "floor": floors[name]["floor"]}
        entry |= {"value_at_floor_n": None, "n_real": n_real, "n_fake": n_fake, "seen_by_loss": seen, "better": better}
        measured[name] = entry | more

    chosen = fake[:samples]
    for space in spaces:
        real_features = cached_features(real, space.network, f"real images, {space.name}")
        features = features_of(chosen, space.network, f"generated images, {space.name}")
        n = int(floors[space.name]["n"])
        half = _halves(real_features)[0][:n]
        at_floor = frechet_distance(half, features[:n]) if n <= len(features) else None
        value = frechet_distance(real_features, features)
        note(space.name, value, "lower", len(chosen), len(real), space.seen_by_loss, value_at_floor_n=at_floor)
        near = (half[:NEIGHBOURS_AT_MOST], features[:NEIGHBOURS_AT_MOST])
        for metric, share in zip(("precision", "recall"), precision_recall(*near), strict=True):
            note(space.named(metric), share, "higher", len(near[1]), len(near[0]), space.seen_by_loss)
    if lpips:
        distances = lpips_of_pairs(fake, disjoint_pairs(len(fake), pairs), lpips).double()
        mean, error = float(distances.mean()), float(distances.std() / math.sqrt(pairs))
        interval: dict[str, Any] = {"low": mean - 1.96 * error, "high": mean + 1.96 * error, "interval": "normal 95 % over pairs"}
        note(f"lpips_{lpips}", mean, "floor", 2 * pairs, 2 * int(floors[f"lpips_{lpips}"]["n"]), lpips == "vgg", **interval)

    batches = track(in_batches(chosen, phi), "generated images, distances to c", -(-len(chosen) // 64))
    total, inside = torch.zeros((), dtype=torch.float64), 0
    for batch in (batch.cpu() for batch in batches):
        total = total + batch.double().sum(0)
        inside += int((centroid_distances(batch, stats) <= stats.reference_distance).sum())
    offset = float(torch.linalg.vector_norm(total / len(chosen) - stats.centroid.double()) / stats.reference_distance)
    note("inside_d_ref", inside / len(chosen), "floor", len(chosen), stats.count, True)
    note("centre_offset", offset, "floor", len(chosen), stats.count, True)
    return measured


def write_metrics(path: str | Path, measured: dict[str, dict[str, Any]], protocol: dict[str, Any]) -> str:
    """Write metrics.json and return the protocol's fingerprint: a hash of all that decides what the numbers mean."""
    digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]
    whole = {"fingerprint": digest, "protocol": protocol, "metrics": measured}
    write_text(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    return digest


def protocol_of(
    real: Tensor, spaces: list[Space], phi: VGG16Features, *, crop: float, resize: str, samples: int, lpips: str, pairs: int
) -> dict[str, Any]:
    """What decides the meaning of a measurement: its hash is the fingerprint."""
    return {
        "real_images": images_digest(real),
        "n_real": len(real),
        "n_fake": samples,
        "crop": crop,
        "resize": resize,
        "quantiser": "uint8, rounded",
        "batch_norm": "eval",
        "spaces": {space.name: fingerprint(space.network) for space in spaces},
        "phi": {"name": phi.name, "pool": phi.pool, "fingerprint": fingerprint(phi)},
        "lpips": f"{lpips}, lpips {metadata.version('lpips')}, {pairs} pairs" if lpips else None,
    }


def _halves(features: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(features), generator=random_stream(0, "halves"))
    return features[order[: len(order) // 2]], features[order[len(order) // 2 :]]
