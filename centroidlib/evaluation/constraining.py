"""What constraints punish before any training, and how strong each must be to pull as hard as another."""

from collections.abc import Mapping

import pandas as pd
import torch
from torch import Tensor

from centroidlib._files import track
from centroidlib.algorithm import constraint_gradient
from centroidlib.centroid import CentroidStats
from centroidlib.constraints import CONSTRAINTS, Constraint, constraint_of, equation_3
from centroidlib.evaluation.calibration import calibration_pictures
from centroidlib.evaluation.observing import cached_features, generated
from centroidlib.evaluation.spaces import Space
from centroidlib.features import FeatureExtractor, device_of, in_batches, to_float
from centroidlib.models import AnyGenerator

FACES = 16  # each of which is shown to the constraints alone, repeated: some lie inside a ball, where that costs nothing


def family(
    images: Tensor, phi: FeatureExtractor, stats: CentroidStats, batch_size: int, whiten: str = "full"
) -> dict[str, Constraint]:
    """Eq. 3 and every other member by name, of these images' features; those in whitened features have it in their names.

    Args:
        images: the training images, uint8.
        phi: Φ.
        stats: c and d_ref in Φ.
        batch_size: generated images that they will be given at a time.
        whiten: of all members but Eq. 3, which are of features averaged over positions.
    """
    real = cached_features(images, [Space("real", phi.pooled(), True)], "real images")["real"].to(device_of(phi))
    pool = None if phi.pool else phi.average
    found = {"Eq. 3": equation_3(stats, "d_ref")}
    for name in track(CONSTRAINTS, "the family, member by member"):
        found[name] = constraint_of(name, real, whiten, batch_size, pool)
    return found


def punished_pictures(images: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Batches of pictures, each uint8 (batch_size, 3, H, W): real, made of real ones; and, of sixteen faces, each repeated.

    Args:
        images: real images that took no part in what the constraints are made of, or the same ones.
        batch_size: images each.
    """
    made = calibration_pictures(images[:batch_size], images[:2000].float().mean(0))
    batches = {name: pictures.repeat(-(-batch_size // len(pictures)), 1, 1, 1)[:batch_size] for name, pictures in made.items()}
    return batches | {"one face repeated": images[:FACES].repeat_interleave(batch_size, 0)}


def punish(
    constraints: Mapping[str, Constraint], pictures: Mapping[str, Tensor], phi: FeatureExtractor, batch_size: int
) -> pd.DataFrame:
    """What each constraint says of each kind of pictures, on average over their batches.

    Returns:
        A row a constraint and kind: `constraint`, `pictures`, `value`, and `above`: how far it is above what batches of real
        images pay on average, in standard deviations of what they pay; of Eq. 3, which is no batch's statistic, in
        multiples of that average; and `free`, the share of batches that pay no more than that average.
    """
    rows = []
    with torch.no_grad():
        for name, shown in pictures.items():
            features = torch.cat([*in_batches(shown, phi)]).split(batch_size)
            for member, constraint in constraints.items():
                paid = torch.stack([constraint(batch) for batch in features]).double()
                above = ((paid - constraint.floor) / constraint.scatter).mean().item()
                free = (paid <= constraint.floor).double().mean().item()
                rows.append({"constraint": member, "pictures": name, "value": paid.mean().item(), "above": above, "free": free})
    return pd.DataFrame(rows)


def equal_strengths(
    constraints: Mapping[str, Constraint],
    generator: AnyGenerator,
    phi: FeatureExtractor,
    batch_size: int,
    reference: str = "Eq. 3",
    lambda_: float = 40.0,
) -> dict[str, float]:
    """The λ with which each constraint pulls at a generator's images as hard as the reference does with its own.

    The pull is the norm of λ times the gradient at a batch of images.

    Args:
        constraints: by name, the reference among them.
        generator: whose images are pulled at.
        phi: Φ.
        batch_size: images.
        reference: one of the constraints.
        lambda_: its strength.

    Raises:
        ValueError: the reference does not pull at these images, as Eq. 3 does not where all are inside the ball.
    """
    fake = to_float(next(iter(generated(generator, batch_size, seed=0)))).to(device_of(phi))
    pulls = {name: float(constraint_gradient(fake, phi, member)[0].norm()) for name, member in constraints.items()}
    if pulls[reference] == 0:
        raise ValueError(
            f"{reference} does not pull at these images: all of them are where it costs nothing. Take another generator, or "
            "another reference."
        )
    return {name: lambda_ * pulls[reference] / pull if pull else float("inf") for name, pull in pulls.items()}
