"""The centroid c (Eq. 1) and the reference distance d_ref (Eq. 2), computed in a stream."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

from centroidlib._files import cache_folder, track
from centroidlib._tensors import write_tensors
from centroidlib.features import device_of, fingerprint, in_batches
from centroidlib.images import images_digest
from centroidlib.streams import random_stream

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
CENTRES = ("mean", "shuffled", "random")


@dataclass(frozen=True)
class CentroidStats:
    """What Eq. 3 needs of the real images, and what real images themselves would score.

    Attributes:
        centroid: c of Eq. 1, float32 (d,).
        reference_distance: d_ref of Eq. 2, in the units of Φ.
        count: N, the number of images they are taken of.
        floor: the real images' own centroid loss, half their mean absolute deviation from d_ref.
        outside: share of real images further than d_ref from c, 0 to 1.
        halves_offset: distance between the centroids of two halves (even and odd images) over d_ref, about
            what a generator of the same distribution would show.
        quantiles: the distances at `QUANTILES`, float64 (7,).
        fingerprint: which Φ this was computed with.
        images: which images, as `images_digest` tells them apart.
    """

    centroid: Tensor
    reference_distance: float
    count: int
    floor: float
    outside: float
    halves_offset: float
    quantiles: Tensor
    fingerprint: str
    images: str

    def to(self, device: torch.device | str) -> "CentroidStats":
        """The same statistics with the centroid on `device`."""
        return replace(self, centroid=self.centroid.to(device))

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file: tensors `centroid` and `quantiles`, the numbers as metadata."""
        numbers = {
            "reference_distance": self.reference_distance,
            "count": self.count,
            "floor": self.floor,
            "outside": self.outside,
            "halves_offset": self.halves_offset,
            "quantile_levels": QUANTILES,
        }
        metadata = {"fingerprint": self.fingerprint, "images": self.images, "numbers": json.dumps(numbers)}
        write_tensors(path, {"centroid": self.centroid, "quantiles": self.quantiles}, metadata)

    @classmethod
    def load(cls, path: str | Path, phi: nn.Module | None = None, images: Tensor | None = None) -> "CentroidStats":
        """Read what `save` wrote.

        Args:
            path: the safetensors file.
            phi: the Φ about to be used with it; None skips the check (to plot, never to train).
            images: the images about to be used with it, uint8; None skips the check.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or its centroid was made with another Φ or of other images.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no centroid at {path}: compute it first (01_centroid.ipynb does).")
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                numbers = json.loads(metadata["numbers"])
                stats = cls(
                    centroid=file.get_tensor("centroid"),
                    reference_distance=float(numbers["reference_distance"]),
                    count=int(numbers["count"]),
                    floor=float(numbers["floor"]),
                    outside=float(numbers["outside"]),
                    halves_offset=float(numbers["halves_offset"]),
                    quantiles=file.get_tensor("quantiles"),
                    fingerprint=metadata["fingerprint"],
                    images=metadata["images"],
                )
        except (safetensors.SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no centroid of this library, or damaged: compute it again.") from error
        if phi is not None and (found := fingerprint(phi)) != stats.fingerprint:
            raise ValueError(
                f"The centroid in {path} was made with another Φ (fingerprint {stats.fingerprint}) than the one in "
                f"use ({found}: {phi.extra_repr()}): compute the centroid again with this Φ, or use that one."
            )
        if images is not None and images_digest(images) != stats.images:
            raise ValueError(
                f"The centroid in {path} was made of {stats.count:,} other images than the {len(images):,} in use: compute it "
                "again of these, or give the source, count, crop and resize that it was made with."
            )
        return stats


def compute_centroid(
    images: Tensor, phi: nn.Module, batch_size: int = 64, *, count: int = 0, centre: str = "mean", radius: float = 0.0
) -> CentroidStats:
    """Centroid and reference distance of the images in Φ's feature space (Eq. 1 and 2), or another ball, to compare with it.

    Sums run in float64. d_ref needs c first: the features of one forward pass wait on disk where they take at most half
    of what is free there (on a GPU at most 4 GiB: a second pass is faster), else Φ is applied twice. Progress says
    which. Memory: one batch, and 8 bytes an image.

    Args:
        images: uint8 (N, 3, H, W).
        phi: images (B, 3, H, W) in [-1, 1] → features (B, d).
        batch_size: images a forward pass.
        count: images to take them of, always the same ones at random; 0 for all.
        centre: `mean` is Eq. 1. `shuffled` is its numbers in random order, `random` as many of the same mean and standard
            deviation from a normal distribution: neither knows where the images lie.
        radius: 0 is Eq. 2, the mean distance to the centre; else the quantile of the distances, between 0 and 1.

    Raises:
        ValueError: fewer than two images, features that are not (B, d), not finite, or features all equal; another centre
            or radius.
    """
    if centre not in CENTRES:
        raise ValueError(f"centre is one of {', '.join(CENTRES)}, not {centre!r}.")
    if not 0 <= radius < 1:
        raise ValueError(f"radius is 0 (the mean distance) or a quantile of the distances below 1, not {radius}.")
    if not 0 <= count <= len(images):
        raise ValueError(f"centroid_count is 0 to the {len(images):,} images there are, not {count:,}.")
    of_all = images_digest(images)
    if count:
        images = images[torch.randperm(len(images), generator=random_stream(0, "centroid"))[:count]]
    if len(images) < 2:
        raise ValueError(f"A centroid needs at least two images, not {len(images)}.")
    device = device_of(phi)

    def features(label: str) -> Iterator[Tensor]:
        batches = in_batches(images, phi, batch_size)
        yield from track(batches, label, -(-len(images) // batch_size))

    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="centroid-", dir=cache_folder()) as folder:
        spool: np.memmap | None = None
        seen = 0
        even, odd = (torch.zeros((), dtype=torch.float64, device=device) for _ in range(2))
        for batch in features("centroid"):
            if batch.ndim != 2:
                raise ValueError(
                    f"Φ must map images (B, 3, H, W) to features (B, d), not to {tuple(batch.shape)}: flatten or pool."
                )
            if seen == 0:
                spool = _spool(Path(folder), len(images), batch.shape[1], device)
            even = even + batch[seen % 2 :: 2].double().sum(0)
            odd = odd + batch[1 - seen % 2 :: 2].double().sum(0)
            if not torch.isfinite(even + odd).all():
                raise ValueError(
                    f"Φ gives NaN or infinite features for an image among {seen} to {seen + len(batch) - 1}: "
                    "check its weights and its precision."
                )
            if spool is not None:
                spool[seen : seen + len(batch)] = batch.cpu().numpy()
            seen += len(batch)
        centroid = _moved((even + odd) / seen, centre)

        if spool is None:
            again = features("reference distance, in a second pass: the features are too many to keep")
        else:
            starts = track(range(0, seen, batch_size), "reference distance, of features kept on disk")
            again = (torch.from_numpy(spool[i : i + batch_size]).to(device) for i in starts)
        distances = torch.cat([exact_distances(batch, centroid).cpu() for batch in again])

    reference_distance = float(torch.quantile(distances[: 1 << 24], radius) if radius else distances.mean())
    if reference_distance == 0.0:
        raise ValueError("All images have the same features, so d_ref is 0: are they all the same picture?")
    apart = torch.linalg.vector_norm(even / (seen - seen // 2) - odd / (seen // 2))
    excess = (distances - reference_distance).clamp(min=0)
    return CentroidStats(
        centroid=centroid.float().cpu(),
        reference_distance=reference_distance,
        count=seen,
        floor=float(excess.mean()),
        outside=float((distances > reference_distance).double().mean()),
        halves_offset=float(apart) / reference_distance,
        quantiles=torch.quantile(distances[: 1 << 24], torch.tensor(QUANTILES, dtype=torch.float64)),
        fingerprint=fingerprint(phi),
        images=of_all,
    )


def _moved(centroid: Tensor, centre: str) -> Tensor:
    """The centroid, or what an ablation puts in its place."""
    rng = random_stream(0, "centre")
    if centre == "shuffled":
        return centroid[torch.randperm(len(centroid), generator=rng).to(centroid.device)]
    if centre == "random":
        drawn = torch.randn(len(centroid), generator=rng, dtype=torch.float64).to(centroid.device)
        return centroid.mean() + centroid.std() * drawn
    return centroid


def exact_distances(features: Tensor, centroid: Tensor) -> Tensor:
    """Distances of features (N, d) to a centroid (d,) in float64, (N,)."""
    # Few at a time, which stay in a processor's caches.
    return torch.cat([torch.linalg.vector_norm(part.double() - centroid, dim=1) for part in features.split(4)])


def _spool(folder: Path, rows: int, columns: int, device: torch.device) -> np.memmap | None:
    """A file for float32 features (rows, columns), or None where a second pass through Φ is the better bargain."""
    limit = shutil.disk_usage(folder).free // 2
    if rows * columns * 4 > (limit if device.type == "cpu" else min(limit, 4 << 30)):
        return None
    return np.memmap(folder / "features", np.float32, "w+", shape=(rows, columns))
