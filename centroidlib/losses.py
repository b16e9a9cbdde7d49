"""The centroid loss (Eq. 3) and the generator's loss (Eq. 4)."""

import torch
from torch import Tensor
from torch.nn import functional

from centroidlib.adversarial import adversarial_loss
from centroidlib.centroid import CentroidStats

UNITS = ("raw", "d_ref")


def centroid_distances(features: Tensor, stats: CentroidStats) -> Tensor:
    """Distances ‖f_j − c‖₂ in float32 or better, (B, d) → (B,); the gradient at f = c is zero.

    Raises:
        ValueError: the features' d is not the centroid's.
    """
    if features.ndim != 2 or features.shape[1] != len(stats.centroid):
        raise ValueError(
            f"The features have shape {tuple(features.shape)} and the centroid d = {len(stats.centroid)}: "
            "Φ must be the one the centroid was computed with, on images of the same size."
        )
    with torch.autocast(features.device.type, enabled=False):
        offsets = in_float32(features) - stats.centroid.to(features.device)
        return torch.linalg.vector_norm(offsets, dim=1)


def in_float32(features: Tensor) -> Tensor:
    """In float32 or better: sums over thousands of dimensions need it."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def hinge(distances: Tensor, stats: CentroidStats, unit: str = "raw") -> Tensor:
    """Each image's share of Eq. 3, max(0, ‖f̂_j − c‖₂ − d_ref), (B,) → (B,).

    Args:
        distances: to the centroid, in Φ's units.
        stats: holds d_ref.
        unit: `raw` distances, as the paper writes, or `d_ref`: divided by it, so that λ means the same in
            every feature space.
    """
    if unit not in UNITS:
        raise ValueError(f"unit is 'raw' or 'd_ref', not {unit!r}.")
    excess = functional.relu(distances - stats.reference_distance)
    return excess / stats.reference_distance if unit == "d_ref" else excess


def centroid_loss(features: Tensor, stats: CentroidStats, unit: str = "raw") -> Tensor:
    """Eq. 3: the mean of max(0, ‖f̂_j − c‖₂ − d_ref) over the batch, a scalar. See `hinge` for `unit`."""
    return hinge(centroid_distances(features, stats), stats, unit).mean()


def generator_loss(fake_logits: Tensor, centroid_term: Tensor, lambda_: float = 0.1) -> Tensor:
    """Eq. 4: L_G = L_adv + λ · L_centroid, a scalar."""
    return adversarial_loss(fake_logits) + lambda_ * centroid_term
