"""Constraints that are balls in feature space: Eq. 3 and its relatives, from the features (N, d) of real images.

Each member gives a constraint: features of generated images (B, d) → a scalar with a gradient, without unit.
"""

from collections.abc import Callable
from functools import partial

import torch
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor
from torch.nn import functional

from centroidlib.metrics import MAX_DIMENSIONS
from centroidlib.streams import random_stream

Loss = Callable[[Tensor], Tensor]
CLUSTERS = 10  # centroids where there are several


def distances_in(centre: Tensor, reference: Tensor | float, features: Tensor) -> Tensor:
    """Distances ‖f_j − c‖₂ in units of the ball's radius, (B, d) → (B,)."""
    return torch.linalg.vector_norm(features - centre, dim=1) / reference


def ball_around(real: Tensor, radius: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Features (B, d) → distances to c in units of the radius (B,): d_ref, or the given quantile of the real distances."""
    centre = real.mean(0)
    distances = distances_in(centre, 1.0, real)
    reference = float(torch.quantile(distances, radius) if radius else distances.mean())
    if not reference > 0:
        raise ValueError("All real images have the same features, so d_ref is 0: are they all the same picture?")
    return partial(distances_in, centre, reference)


def excess(distances: Tensor) -> Tensor:
    """max(0, d − 1), of distances in units of the radius."""
    return functional.relu(distances - 1)


def hinge_ball(real: Tensor, radius: float = 0.0) -> Loss:
    """Eq. 3 in units of the radius: mean of max(0, d/radius − 1). It is d_ref, or the given quantile of the real distances."""
    away = ball_around(real, radius)
    return lambda features: excess(away(features)).mean()


def squared_ball(real: Tensor) -> Loss:
    """Mean of max(0, d/d_ref − 1)²: who lies far outside is pulled harder, who lies at the edge hardly."""
    away = ball_around(real)
    return lambda features: excess(away(features)).square().mean()


def band(real: Tensor) -> Loss:
    """Mean of |d/d_ref − 1|: both sides, so that the centre itself (a mean image, flat grey) costs as well."""
    away = ball_around(real)
    return lambda features: (away(features) - 1).abs().mean()


def several_balls(real: Tensor, soft: bool = False) -> Loss:
    """Eq. 3 with ten centroids (k-means), each with the mean distance of its own images as its radius.

    An image answers to the ball it is nearest to in units of that ball's radius; with `soft` to all, weighted by the
    softmax of −(d/d_ref)²/2. A centroid of a single picture has no radius and no ball.
    """
    if len(real) < 2 * CLUSTERS:
        raise ValueError(f"{CLUSTERS} centroids take at least {2 * CLUSTERS} images, not {len(real):,}.")
    check_size(real, "k-means")
    first = real[torch.randperm(len(real), generator=random_stream(0, "centroids"))[:CLUSTERS]]
    try:
        _, nearest = kmeans2(real.double().cpu().numpy(), first.double().cpu().numpy(), iter=50, minit="matrix", missing="raise")
    except ClusterError as error:
        raise ValueError(f"k-means left one of {CLUSTERS} centroids without an image: too few pictures differ.") from error
    groups = [real[torch.from_numpy(nearest == k).to(real.device)] for k in range(CLUSTERS)]
    balls = [ball_around(group) for group in groups if not torch.equal(group[:1].expand_as(group), group)]
    if not balls:
        raise ValueError(f"Around {CLUSTERS} centroids all pictures of a cluster are the same: too few pictures differ.")

    def constraint(features: Tensor) -> Tensor:
        distances = torch.stack([away(features) for away in balls], 1)
        if soft:
            return (excess(distances) * torch.softmax(-distances.square() / 2, 1)).sum(1).mean()
        return excess(distances.min(1).values).mean()

    return constraint


def check_size(real: Tensor, what: str) -> None:
    """Refuse features of more dimensions than a covariance or k-means is made of."""
    if real.shape[1] > MAX_DIMENSIONS:
        raise ValueError(f"{what} of {real.shape[1]:,} dimensions is too large (at most {MAX_DIMENSIONS:,}): pool the features.")
