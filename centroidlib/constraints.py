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
from torch import Tensor
from torch.nn import functional

from centroidlib.centroid import CentroidStats
from centroidlib.losses import centroid_loss
from centroidlib.metrics import MAX_DIMENSIONS
from centroidlib.streams import random_stream

Loss = Callable[[Tensor], Tensor]
WHITENINGS = ("none", "diagonal", "full")
DIRECTIONS = 512  # that a distribution is looked at along
CLUSTERS = 10  # centroids where there are several
LEVELS = 16_384  # quantiles that a distribution of more values is kept as


@dataclass(frozen=True)
class Constraint:
    """A term to add to a generator's loss: called with features (B, d) of generated images it gives a scalar.

    Attributes:
        name: which one, with its whitening.
        loss: features (B, d) → scalar.
        floor: what batches of real images pay themselves on average; about 0 for what is estimated without bias.
        scatter: how far such batches differ in it: a unit to tell how far above the floor something is.
        batch_size: images of such a batch, 0 where it does not matter.
    """

    name: str
    loss: Loss
    floor: float | Tensor
    scatter: float | Tensor
    batch_size: int = 0

    def __call__(self, features: Tensor) -> Tensor:  # noqa: D102
        return self.loss(features)


def equation_3(stats: CentroidStats, unit: str = "raw") -> Constraint:
    """The paper's own, with distances in the `unit` that `hinge` says."""
    floor = stats.floor / (stats.reference_distance if unit == "d_ref" else 1.0)
    return Constraint(f"Eq. 3, {unit}", partial(centroid_loss, stats=stats, unit=unit), floor, scatter=floor)


def hinge_ball(real: Tensor, radius: float = 0.0) -> Loss:
    """Eq. 3 in units of the radius: mean of max(0, d/radius − 1). It is d_ref, or the given quantile of the real distances."""
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


def several_balls(real: Tensor, soft: bool = False) -> Loss:
    """Eq. 3 with ten centroids (k-means), each with the mean distance of its own images as its radius.

    An image answers to the ball it is nearest to in units of that ball's radius; with `soft` to all, weighted by the
    softmax of −(d/d_ref)²/2. A centroid of a single picture has no radius and no ball.
    """
    if len(real) < 2 * CLUSTERS:
        raise ValueError(f"{CLUSTERS} centroids take at least {2 * CLUSTERS} images, not {len(real):,}.")
    _check_size(real, "k-means")
    first = real[torch.randperm(len(real), generator=random_stream(0, "centroids"))[:CLUSTERS]]
    try:
        _, nearest = kmeans2(real.double().cpu().numpy(), first.double().cpu().numpy(), iter=50, minit="matrix", missing="raise")
    except ClusterError as error:
        raise ValueError(f"k-means left one of {CLUSTERS} centroids without an image: too few pictures differ.") from error
    groups = [real[torch.from_numpy(nearest == k).to(real.device)] for k in range(CLUSTERS)]
    balls = [_ball(group) for group in groups if not torch.equal(group[:1].expand_as(group), group)]
    if not balls:
        raise ValueError(f"Around {CLUSTERS} centroids all pictures of a cluster are the same: too few pictures differ.")

    def constraint(features: Tensor) -> Tensor:
        away = torch.stack([_distances(features, centre) / reference for centre, reference in balls], 1)
        if soft:
            return (functional.relu(away - 1) * torch.softmax(-away.square() / 2, 1)).sum(1).mean()
        return functional.relu(away.min(1).values - 1).mean()

    return constraint


def distance_wasserstein(real: Tensor) -> Loss:
    """Wasserstein-1 between the distances to c of the batch and of all real images, in units of d_ref.

    Of a small batch it is biased, as `sliced_wasserstein` is.
    """
    centre, reference = _ball(real)
    ordered = _thinned((_distances(real, centre) / reference)[:, None])
    targets = lru_cache(maxsize=2)(partial(_shares, ordered))
    return lambda features: (
        ((_distances(features, centre) / reference).sort().values[:, None] - targets(len(features))).abs().mean()
    )


def sliced_wasserstein(real: Tensor) -> Loss:
    """Squared Wasserstein-2 along 512 fixed random directions (Rabin et al. 2011), in units of the features' mean variance.

    The batch meets all real images: its i-th in a direction the mean of the i-th of B equal shares of theirs, which is the
    optimal transport between both, up to a constant. Biased: its mean over batches is least for features that vary a little
    less than the real ones, by some 3 % in standard deviation with 64 images, 15 % with 8. `sliced_energy` is not.
    """
    directions = _directions(real)
    ordered = _thinned(real @ directions.T)
    variance = _variance(real)
    targets = lru_cache(maxsize=2)(partial(_shares, ordered))

    def constraint(features: Tensor) -> Tensor:
        along = (features @ directions.T).sort(0).values
        return (along - targets(len(features))).square().mean() / variance

    return constraint


def sliced_energy(real: Tensor) -> Loss:
    """Energy distance along the same directions, 2 E|x − y| − E|x − x′| − E|y − y′|, in units of the real images' E|y − y′|.

    Without bias: x and x′ are different images of the batch, y all real ones (Székely and Rizzo 2013).
    """
    directions = _directions(real)
    ordered = _thinned(real @ directions.T).T.contiguous()  # (R, N)
    count = ordered.shape[1]
    sums = functional.pad(ordered.double().cumsum(1), (1, 0))
    ranks = 2 * torch.arange(count, device=real.device, dtype=torch.float64) - count + 1
    own = 2 * (ordered.double() * ranks).sum(1) / (count * (count - 1))  # E|y − y′|
    scale = own.mean()

    def loss(features: Tensor) -> Tensor:
        _check_batch(features, 2)
        along = (features @ directions.T).T.sort(1).values  # (R, B)
        b = along.shape[1]
        below = torch.searchsorted(ordered, along.detach().contiguous())
        under = sums.gather(1, below).to(along)
        across = (along * (2 * below - count) - 2 * under + sums[:, -1:].to(along)) / count
        weights = 2 * torch.arange(b, device=along.device, dtype=along.dtype) - b + 1
        within = 2 * (along * weights).sum(1) / (b * (b - 1))
        return (2 * across.mean(1) - within - own.to(along)).mean() / scale.to(along)

    return loss


def mean_matching(real: Tensor) -> Loss:
    """‖E f̂ − c‖² over the mean of ‖f − c‖²: feature matching (Salimans et al. 2016), with Φ's features.

    Without bias, from pairs of different images of the batch: ‖mean f̂ − c‖² itself would shrink to c what is generated.
    """
    centre, total = real.mean(0), _variance(real) * real.shape[1]

    def loss(features: Tensor) -> Tensor:
        _check_batch(features, 2)
        offsets, b = features - centre, len(features)
        return (offsets.sum(0).square().sum() - offsets.square().sum()) / (b * (b - 1)) / total

    return loss


def moment_matching(real: Tensor) -> Loss:
    """`mean_matching`, and the same of the covariance: ‖C_f̂ − C‖² over ‖C‖² (both Frobenius; after Santos et al. 2019).

    Without bias, as the product of what two halves of the batch differ by.
    """
    covariance = _covariance(real)
    match, total = mean_matching(real), covariance.square().sum()

    def loss(features: Tensor) -> Tensor:
        _check_batch(features, 4)
        first, second = (half.T.cov() - covariance for half in (features[0::2], features[1::2]))
        return match(features) + (first * second).sum() / total

    return loss


CONSTRAINTS: dict[str, Callable[[Tensor], Loss]] = {
    "hinge": hinge_ball,
    "hinge90": partial(hinge_ball, radius=0.9),
    "squared": squared_ball,
    "band": band,
    "nearest": several_balls,
    "soft": partial(several_balls, soft=True),
    "distances": distance_wasserstein,
    "sliced": sliced_wasserstein,
    "energy": sliced_energy,
    "mean": mean_matching,
    "moments": moment_matching,
}


def constraint_of(
    name: str, real: Tensor, whiten: str, batch_size: int, pool: Callable[[Tensor], Tensor] | None = None
) -> Constraint:
    """The constraint of `CONSTRAINTS` with that name, in whitened features where that is asked for.

    Args:
        name: of the member.
        real: features of real images, float (N, d), on the device where the constraint will be used.
        whiten: `none`; `diagonal`: each feature with unit variance; `full`: all directions with unit variance (Mahalanobis).
        batch_size: generated images that it will be given at a time: floor and scatter are of a hundred random batches of as
            many real ones.
        pool: what its features pass through first, such as `VGG16Features.average`, where a step has flattened features and
            `real` are averaged over positions.

    Raises:
        ValueError: no such member or whitening; features that are no matrix, not finite or all equal; too few images, or
            more dimensions than the member takes.
    """
    if name not in CONSTRAINTS:
        raise ValueError(f"There is no constraint {name!r}; choose one of {', '.join(CONSTRAINTS)}.")
    if real.ndim != 2 or len(real) < max(2, batch_size):
        raise ValueError(
            f"A constraint is made of features (N, d) of at least as many real images as a batch has, {max(2, batch_size)}, "
            f"not {tuple(real.shape)}."
        )
    if not real.isfinite().all():
        raise ValueError("Features of real images are NaN or infinite: check Φ's weights and its precision.")
    if bool((real == real[0]).all()):
        raise ValueError("All real images have the same features: are they all the same picture?")
    real = _exact(real)
    white = whitening(real, whiten)
    member, d, device = CONSTRAINTS[name](white(real)), real.shape[1], real.device

    def loss(features: Tensor) -> Tensor:
        if pool is not None:
            features = pool(features)
        if features.ndim != 2 or features.shape[1] != d:
            raise ValueError(
                f"The features have shape {tuple(features.shape)}, those of the real images d = {d}: Φ must be the same, "
                "on images of the same size."
            )
        if features.device != device:
            raise ValueError(
                f"The features are on {features.device}, the constraint on {device}: make it of real.to('{features.device}')."
            )
        with torch.autocast(features.device.type, enabled=False):
            return member(white(_exact(features)))

    rng = random_stream(0, "floor")
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        chosen = (torch.randperm(len(real), generator=rng)[:batch_size].to(device) for _ in range(100))
        paid = torch.stack([member(white(real[batch])) for batch in chosen])
    name = f"{name}, whitening {whiten}{', pooled' if pool else ''}"
    return Constraint(name, loss, float(paid.mean()), float(paid.std()), batch_size)


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
    _check_size(real, "A covariance")
    return real.T.cov()


def _check_size(real: Tensor, what: str) -> None:
    if real.shape[1] > MAX_DIMENSIONS:
        raise ValueError(f"{what} of {real.shape[1]:,} dimensions is too large (at most {MAX_DIMENSIONS:,}): pool the features.")


def _check_batch(features: Tensor, least: int) -> None:
    if len(features) < least:
        raise ValueError(
            f"This constraint compares images of a batch with each other: give it at least {least}, not {len(features)}."
        )


def _directions(real: Tensor) -> Tensor:
    """512 random directions, unit vectors (R, d), always the same."""
    drawn = torch.randn(DIRECTIONS, real.shape[1], generator=random_stream(0, "directions"), dtype=torch.float64)
    return functional.normalize(drawn, dim=1).to(real)


def _thinned(values: Tensor) -> Tensor:
    """Values (N, R) in order, each column for itself; of more than 16,384 as many means of equal shares, (levels, R)."""
    columns = (column.sort(0).values for column in values.split(64, 1))
    return torch.cat([_shares(column, LEVELS) if len(column) > LEVELS else column for column in columns], 1)


def _shares(ordered: Tensor, count: int) -> Tensor:
    """The means of `count` equal shares of ordered values (N, R), one below the other: (count, R)."""
    sums = functional.pad(ordered.double().cumsum(0), (0, 0, 1, 0))
    ends = torch.linspace(0, len(ordered), count + 1, dtype=torch.float64, device=ordered.device)
    whole = ends.floor().long().clamp(max=len(ordered) - 1)
    upto = sums[whole] + (ends - whole)[:, None] * ordered.double()[whole]
    return (upto.diff(dim=0) * count / len(ordered)).to(ordered)
