"""Distances between sets of features: no model, no file."""

import warnings

import numpy as np
import torch
from torch import Tensor

MAX_DIMENSIONS = 2048


def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features (Heusel et al. 2017), in float64.

    Args:
        real: features (N, d), d at most 2,048.
        fake: features (M, d).

    Raises:
        ValueError: fewer than two rows, unequal or too large d, or features that are not finite.
    """
    for name, features in (("real", real), ("fake", fake)):
        if len(features) < 2:
            raise ValueError(f"A covariance needs at least two images; there are {len(features)} {name} ones.")
        if features.shape[1] > MAX_DIMENSIONS:
            raise ValueError(
                f"The Fréchet distance needs a covariance of {features.shape[1]:,}² numbers; above d = "
                f"{MAX_DIMENSIONS:,} it is refused: pool the features over positions."
            )
        if not torch.isfinite(features).all():
            raise ValueError(f"The {name} features are not finite: does the network's file hold NaN in the layers used?")
        if len(features) <= features.shape[1]:
            warnings.warn(
                f"{len(features):,} {name} images for {features.shape[1]:,} dimensions: the covariance is singular and "
                "the Fréchet distance biased upwards; use more images or fewer dimensions.",
                stacklevel=2,
            )
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"Features of {real.shape[1]} and {fake.shape[1]} dimensions cannot be compared.")
    return gaussian_distance(*_moments(real), *_moments(fake))


def gaussian_distance(mean1: np.ndarray, cov1: np.ndarray, mean2: np.ndarray, cov2: np.ndarray) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), the squared Fréchet distance of two Gaussians in float64.

    tr (Σ₁Σ₂)^½ is taken from the eigenvalues of the symmetric Σ₁^½ Σ₂ Σ₁^½, which are real and, but for
    rounding, not negative: no imaginary part arises, and singular covariances need no offset.
    """
    values, vectors = np.linalg.eigh(cov1)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ cov2 @ root).clip(min=0)).sum()
    return float(((mean1 - mean2) ** 2).sum() + np.trace(cov1) + np.trace(cov2) - 2 * trace)


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), each 0 to 1.

    Precision is the share of `fake` (M, d) within the k-th-neighbour ball of some row of `real` (N, d); recall
    the same with the roles exchanged. Exact distances; memory N·M numbers.
    """
    if min(len(real), len(fake)) <= k:
        raise ValueError(f"k = {k} neighbours need more than {k} images on each side, not {len(real)} and {len(fake)}.")
    across = torch.cdist(real.double(), fake.double())
    real_radius = _neighbour_distance(real, k)
    fake_radius = _neighbour_distance(fake, k)
    precision = (across <= real_radius[:, None]).any(0).double().mean()
    recall = (across <= fake_radius[None, :]).any(1).double().mean()
    return float(precision), float(recall)


def effective_rank(features: Tensor) -> float:
    """Participation ratio (Σλ)²/Σλ² of the covariance's eigenvalues λ: 1 to min(N − 1, d). Features (N, d)."""
    centred = features.double() - features.double().mean(0)
    gram = centred @ centred.T if len(features) < features.shape[1] else centred.T @ centred
    return float(gram.trace() ** 2 / (gram**2).sum())


def _moments(features: Tensor) -> tuple[np.ndarray, np.ndarray]:
    array = features.cpu().numpy().astype(np.float64)
    return array.mean(0), np.cov(array, rowvar=False).reshape(array.shape[1], array.shape[1])


def _neighbour_distance(features: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest other row."""
    return torch.cdist(features.double(), features.double()).kthvalue(k + 1, dim=1).values
