"""Constraints on a generated batch's features beyond the paper's: one family, each made of the real images' features.

Every member is called once with the features of real images (N, d) and gives a constraint: features of generated images
(B, d) → a scalar with a gradient, without unit. It goes where Eq. 3 stands in Eq. 4, with any generator and any Φ;
`constraint_of` makes one by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from scipy.cluster.vq import ClusterError, kmeans2
from torch import Tensor, nn
from torch.nn import functional

from centroidlib.centroid import CentroidStats
from centroidlib.features import pool_positions
from centroidlib.losses import centroid_loss
from centroidlib.streams import random_stream

Loss = Callable[[Tensor], Tensor]
WHITENINGS = ("none", "diagonal", "full")
DIRECTIONS = 512  # that a distribution is looked at along
LARGEST = 2048  # dimensions that have a covariance


@dataclass(frozen=True)
class Constraint:
    """A term to add to a generator's loss: called with features (B, d) of generated images it gives a scalar.

    Attributes:
        name: which one, with its whitening.
        loss: features (B, d) → scalar.
        floor: what real images pay themselves, in the same units.
    """

    name: str
    loss: Loss
    floor: float | Tensor

    def __call__(self, features: Tensor) -> Tensor:  # noqa: D102
        return self.loss(features)


def equation_3(stats: CentroidStats, unit: str = "raw") -> Constraint:
    """The paper's own, with distances in the `unit` that `hinge` says."""
    floor = stats.floor / (stats.reference_distance if unit == "d_ref" else 1.0)
    return Constraint(f"Eq. 3, {unit}", partial(centroid_loss, stats=stats, unit=unit), floor)


def hinge_ball(real: Tensor, radius: float = 0.0) -> Loss:
    """Eq. 3 in units of d_ref: mean of max(0, d/d_ref − 1). `radius` 0 is Eq. 2, else the quantile of the real distances."""
    centre, reference = _ball(real, radius)
    return lambda features: functional.relu(_distances(features, centre) / reference - 1).mean()


def squared_ball(real: Tensor) -> Loss:
    """Mean of max(0, d/d_ref − 1)²: who lies far outside is pulled harder, who lies at the edge hardly."""
    centre, reference = _ball(real)
    return lambda features: functional.relu(_distances(features, centre) / reference - 1).square().mean()


def band(real: Tensor) -> Loss:
    """Mean of |d/d_ref − 1|: both sides, so that the centre itself (a mean image, flat grey) costs as well."""
    centre, reference = _ball(real)
    return lambda features: (_distances(features, centre) / reference - 1).abs().mean()


def several_balls(real: Tensor, count: int = 10, soft: bool = False) -> Loss:
    """Eq. 3 with several centroids (k-means), each with the mean distance of its own images as its radius.

    An image answers to the ball it is nearest to in units of that ball's radius; with `soft` to all, weighted by the
    softmax of −(d/d_ref)²/2. A centroid of a single picture has no radius and no ball.
    """
    if not 2 <= count <= len(real) // 2:
        raise ValueError(f"k-means takes 2 to {len(real) // 2} centroids of {len(real):,} images, not {count}.")
    first = real[torch.randperm(len(real), generator=random_stream(0, "centroids"))[:count]]
    try:
        _, nearest = kmeans2(real.double().cpu().numpy(), first.double().cpu().numpy(), iter=50, minit="matrix", missing="raise")
    except ClusterError as error:
        raise ValueError(f"k-means left one of {count} centroids without an image: take fewer, or other features.") from error
    groups = [real[torch.from_numpy(nearest == k).to(real.device)] for k in range(count)]
    balls = [_ball(group) for group in groups if not torch.equal(group[:1].expand_as(group), group)]

    def constraint(features: Tensor) -> Tensor:
        away = torch.stack([_distances(features, centre) / reference for centre, reference in balls], 1)
        if soft:
            return (functional.relu(away - 1) * torch.softmax(-away.square() / 2, 1)).sum(1).mean()
        return functional.relu(away.min(1).values - 1).mean()

    return constraint


def distance_wasserstein(real: Tensor) -> Loss:
    """Wasserstein-1 between the distances to c of the batch and of all real images, in units of d_ref."""
    centre, reference = _ball(real)
    ordered = (_distances(real, centre) / reference).sort().values[:, None]
    targets = lru_cache(maxsize=2)(partial(_shares, ordered))
    return lambda features: (
        ((_distances(features, centre) / reference).sort().values[:, None] - targets(len(features))).abs().mean()
    )


def sliced_wasserstein(real: Tensor) -> Loss:
    """The same along 512 fixed random directions, squared (Rabin et al. 2011), in units of the features' mean variance.

    The batch meets all real images: its i-th in a direction the mean of the i-th of B equal shares of theirs, which is the
    optimal transport between both, up to a constant.
    """
    directions = functional.normalize(
        torch.randn(DIRECTIONS, real.shape[1], generator=random_stream(0, "directions"), dtype=torch.float64), dim=1
    ).to(real)
    ordered = (real @ directions.T).sort(0).values
    variance = _variance(real)
    targets = lru_cache(maxsize=2)(partial(_shares, ordered))

    def constraint(features: Tensor) -> Tensor:
        along = (features @ directions.T).sort(0).values
        return (along - targets(len(features))).square().mean() / variance

    return constraint


def mean_matching(real: Tensor) -> Loss:
    """‖mean f̂ − c‖² over the mean of ‖f − c‖²: feature matching (Salimans et al. 2016), with Φ's features."""
    centre, total = real.mean(0), _variance(real) * real.shape[1]
    return lambda features: (features.mean(0) - centre).square().sum() / total


def moment_matching(real: Tensor) -> Loss:
    """`mean_matching`, and the same of the covariance: ‖Ĉ − C‖² over ‖C‖² (both Frobenius; after Santos et al. 2019)."""
    covariance = _covariance(real)
    match, total = mean_matching(real), covariance.square().sum()
    return lambda features: match(features) + (features.T.cov() - covariance).square().sum() / total


CONSTRAINTS: dict[str, Callable[[Tensor], Loss]] = {
    "hinge": hinge_ball,
    "hinge90": partial(hinge_ball, radius=0.9),
    "squared": squared_ball,
    "band": band,
    "nearest": several_balls,
    "soft": partial(several_balls, soft=True),
    "distances": distance_wasserstein,
    "sliced": sliced_wasserstein,
    "mean": mean_matching,
    "moments": moment_matching,
}


class MovingBall(nn.Module):
    """Eq. 3 in units of d_ref for features that change: c, d_ref and floor are moving averages over batches of real images.

    Args:
        dimensions: d of the features.
        decay: of the averages; the first batches count equally.
    """

    centre: Tensor
    reference: Tensor
    floor: Tensor
    seen: Tensor

    def __init__(self, dimensions: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("centre", torch.zeros(dimensions))
        for name in ("reference", "floor", "seen"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, real: Tensor) -> None:
        """Move towards a batch of real images' features (B, d)."""
        real = _exact(real)
        self.seen += 1
        share = torch.clamp(1 / self.seen, min=1 - self.decay)
        self.centre.lerp_(real.mean(0), share)
        distances = _distances(real, self.centre)
        self.reference.lerp_(distances.mean(), share)
        self.floor.lerp_(functional.relu(distances / self.reference - 1).mean(), share)

    def forward(self, features: Tensor) -> Tensor:  # noqa: D102
        return functional.relu(_distances(_exact(features), self.centre) / self.reference - 1).mean()


def constraint_of(name: str, real: Tensor, whiten: str = "none", batch_size: int = 64, flattened: bool = False) -> Constraint:
    """The constraint of `CONSTRAINTS` with that name, in whitened features where that is asked for.

    Args:
        name: of the member.
        real: features of real images, float (N, d).
        whiten: `none`; `diagonal`: each feature with unit variance; `full`: all directions with unit variance (Mahalanobis).
        batch_size: generated images that it will be given at a time, for its floor: the mean over a hundred random batches of
            real ones.
        flattened: the features it will be given are flattened ones (B, d · positions), while `real` are averaged over positions:
            so are they then. A step can thus constrain pooled features, and look at the distances of flattened ones.

    Raises:
        ValueError: no such member or whitening; features that are no matrix, not finite or all equal; more dimensions
            than a covariance is taken of.
    """
    if name not in CONSTRAINTS:
        raise ValueError(f"There is no constraint {name!r}; choose one of {', '.join(CONSTRAINTS)}.")
    if real.ndim != 2 or len(real) < 2 or not real.isfinite().all():
        raise ValueError(f"A constraint is made of finite features (N, d) of two real images or more, not {tuple(real.shape)}.")
    real = _exact(real)
    white = whitening(real, whiten)
    member = CONSTRAINTS[name](white(real))

    def loss(features: Tensor) -> Tensor:
        if flattened and features.ndim == 2 and features.shape[1] % real.shape[1] == 0:
            features = pool_positions(features, real.shape[1])
        if features.ndim != 2 or features.shape[1] != real.shape[1]:
            raise ValueError(
                f"The features have shape {tuple(features.shape)}, those of the real images d = {real.shape[1]}: "
                "Φ must be the same, on images of the same size."
            )
        with torch.autocast(features.device.type, enabled=False):
            return member(white(_exact(features)))

    rng = random_stream(0, "floor")
    batches = [real[torch.randperm(len(real), generator=rng)[:batch_size].to(real.device)] for _ in range(100)]
    name = f"{name}, whitening {whiten}{', pooled' * flattened}"
    return Constraint(name, loss, float(torch.stack([loss(batch) for batch in batches]).mean()))


def whitening(real: Tensor, kind: str) -> Loss:
    """What brings features (B, d) to where real ones have mean 0 and unit variance, in each feature or in every direction.

    Variances are raised by a thousandth of their mean: a direction in which real images do not vary would count without end.
    """
    if kind not in WHITENINGS:
        raise ValueError(f"whiten is one of {', '.join(WHITENINGS)}, not {kind!r}.")
    if kind == "none":
        return lambda features: features
    centre = real.mean(0)
    if kind == "diagonal":
        variances = real.var(0)
        scales = (variances + 1e-3 * variances.mean()).rsqrt()
        return lambda features: (features - centre) * scales
    values, vectors = torch.linalg.eigh(_covariance(real).double())
    matrix = ((vectors / (values.clamp(min=0) + 1e-3 * values.mean()).sqrt()) @ vectors.T).to(real)
    return lambda features: (features - centre) @ matrix


def _exact(features: Tensor) -> Tensor:
    """In float32 or better."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _distances(features: Tensor, centre: Tensor) -> Tensor:
    return torch.linalg.vector_norm(features - centre, dim=1)


def _ball(real: Tensor, radius: float = 0.0) -> tuple[Tensor, float]:
    centre = real.mean(0)
    distances = _distances(real, centre)
    reference = float(torch.quantile(distances, radius) if radius else distances.mean())
    if not reference > 0:
        raise ValueError("All real images have the same features, so d_ref is 0: are they all the same picture?")
    return centre, reference


def _variance(real: Tensor) -> float:
    """The mean variance of a feature."""
    return float(real.var(0).mean())


def _covariance(real: Tensor) -> Tensor:
    if real.shape[1] > LARGEST:
        raise ValueError(f"A covariance of {real.shape[1]:,} dimensions is too large (at most {LARGEST:,}): pool the features.")
    return real.T.cov()


def _shares(ordered: Tensor, count: int) -> Tensor:
    """The means of `count` equal shares of ordered values (N, R), one below the other: (count, R)."""
    sums = functional.pad(ordered.double().cumsum(0), (0, 0, 1, 0))
    ends = torch.linspace(0, len(ordered), count + 1, dtype=torch.float64, device=ordered.device)
    whole = ends.floor().long().clamp(max=len(ordered) - 1)
    upto = sums[whole] + (ends - whole)[:, None] * ordered.double()[whole]
    return (upto.diff(dim=0) * count / len(ordered)).to(ordered)
