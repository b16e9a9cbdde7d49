"""Constraints on a generated batch's features beyond the paper's: one family, each made of the real images' features.

Every member is called once with the features of real images (N, d) and gives a constraint: features of generated images
(B, d) → a scalar with a gradient, without unit. It goes where Eq. 3 stands in Eq. 4, with any generator and any Φ;
`constraint_of` makes one by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from centroidlib import balls, distributions
from centroidlib.balls import Loss
from centroidlib.centroid import CentroidStats
from centroidlib.losses import centroid_loss, in_float32
from centroidlib.streams import random_stream

WHITENINGS = ("none", "diagonal", "full")


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


CONSTRAINTS: dict[str, Callable[[Tensor], Loss]] = {
    "hinge": balls.hinge_ball,
    "hinge90": partial(balls.hinge_ball, radius=0.9),
    "squared": balls.squared_ball,
    "band": balls.band,
    "nearest": balls.several_balls,
    "soft": partial(balls.several_balls, soft=True),
    "distances": distributions.distance_wasserstein,
    "sliced": distributions.sliced_wasserstein,
    "energy": distributions.sliced_energy,
    "mean": distributions.mean_matching,
    "moments": distributions.moment_matching,
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
    if batch_size < 1:
        raise ValueError(f"batch_size is the number of generated images in a batch, at least 1, not {batch_size}.")
    if real.ndim != 2 or len(real) <= batch_size:
        raise ValueError(
            f"A constraint is made of features (N, d) of more real images than a batch has, {batch_size}, for what different "
            f"batches of them pay is its unit; not {tuple(real.shape)}."
        )
    if not real.isfinite().all():
        raise ValueError("Features of real images are NaN or infinite: check Φ's weights and its precision.")
    if bool((real == real[0]).all()):
        raise ValueError("All real images have the same features: are they all the same picture?")
    real = in_float32(real)
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
            return member(white(in_float32(features)))

    rng = random_stream(0, "floor")
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        chosen = (torch.randperm(len(real), generator=rng)[:batch_size].to(device) for _ in range(100))
        paid = torch.stack([member(white(real[batch])) for batch in chosen])
    floor, scatter = float(paid.mean()), float(paid.std())
    if not scatter > 1e-6 * abs(floor):
        raise ValueError(
            f"All batches of real images pay {floor:.3g} under {name!r}, and what they pay is its unit: take another constraint."
        )
    name = f"{name}, whitening {whiten}{', pooled' if pool else ''}"
    return Constraint(name, loss, floor, scatter, batch_size)


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
    values, vectors = torch.linalg.eigh(distributions.covariance_of(real).double())
    matrix = ((vectors / (values.clamp(min=0) + 1e-3 * values.mean()).sqrt()) @ vectors.T).to(real)
    return lambda features: (features - centre) @ matrix
