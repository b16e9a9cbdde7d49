"""Every metric of what was observed: real images against each other once, then generated ones against the real."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from centroidlib import metrics
from centroidlib.centroid import CentroidStats
from centroidlib.evaluation.observing import Observed, group_sizes, observe_images
from centroidlib.evaluation.spaces import Space
from centroidlib.intervals import (
    Estimate,
    frechet_interval,
    jackknife_interval,
    kernel_interval,
    mean_interval,
    neighbour_intervals,
    offset_interval,
    share_interval,
)
from centroidlib.metrics import Gaussian
from centroidlib.streams import random_stream

PAIRWISE_AT_MOST = 5_000  # images a side where all distances between two sets are held: memory grows with the square
# What compares two sets of features, (real, fake) → value, by its name in a space; its interval is the jackknife's.
PAIRWISE: dict[str, Callable[[Tensor, Tensor], float]] = {
    "kid": metrics.kernel_distance,
}
INTERVALS = {"kid": kernel_interval}  # of those with a shorter way to it
SPACE_METRICS = (*PAIRWISE, "precision", "recall", "density", "coverage", "nearest")
# By the name's beginning; else lower. `floor`: the nearer to real images' own value the better.
BETTER = {
    **dict.fromkeys(("precision", "recall", "coverage"), "higher"),
    **dict.fromkeys(("density", "nearest", "lpips", "inside_d_ref", "factors_recognised", "factors_kinds"), "floor"),
}
LPIPS_KINDS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}  # what its networks are called as Φ
NEIGHBOURS = 5  # k of density and coverage: fewer images have no such neighbour
Floors = Mapping[str, Mapping[str, Any]]


def measure_real(
    real: Observed, spaces: Sequence[Space], stats: CentroidStats | None, samples: int, held_out: Observed | None = None
) -> dict[str, dict[str, Any]]:
    """What real images score against each other: the floor of every metric.

    Args:
        real: the training images.
        spaces: where to measure.
        stats: the training images' centroid; None to leave out what needs Φ.
        samples: generated images that will be measured: no more are taken on a side here.
        held_out: real images that were never trained on, if there are any.

    Returns:
        name → `floor` between disjoint random halves of the training images (LPIPS: of their disjoint pairs; `nearest`:
        from each to the nearest other one), `floor_heldout` between training and held-out images (None where there
        are none), and `n`: images a side of both, where the metric's expectation depends on it, else None.
    """
    floors: dict[str, dict[str, Any]] = {}

    def note(name: str, n: int | None, floor: float | None, held_out: float | None) -> None:
        floors[name] = {"floor": floor, "floor_heldout": held_out, "n": n}

    n = min(samples, real.count // 2, held_out.count if held_out else samples)
    for space in spaces:
        features = shuffled(real.features[space.name])
        if not _varied(features):
            raise ValueError(
                f"All {real.count:,} real images have the same features ({space.name}): are they all the same picture?"
            )
        other = shuffled(held_out.features[space.name]) if held_out else None
        among = _compared(space, features[:n], features[real.count // 2 :][:n])
        beside = _compared(space, features[:n], other[:n]) if other is not None else {}
        sizes = {space.name: n, f"{space.name}_inf": None}
        for name, value in among.items():
            note(name, sizes.get(name, min(n, PAIRWISE_AT_MOST)), value, beside.get(name))
        to_training = _nearest(other, features).value if other is not None else None
        note(space.named("nearest"), None, _nearest(features, features, own=True).value, to_training)
    for net, values in real.lpips.items():
        other = held_out.lpips.get(net) if held_out else None
        note(f"lpips_{net}", None, float(values.double().mean()), None if other is None else float(other.double().mean()))
    if stats:
        known = held_out if held_out and len(held_out.distances) else None
        note("inside_d_ref", None, 1 - stats.outside, inside(known, stats).value if known else None)
        note("centre_offset", None, stats.halves_offset, _offset(known, stats).value if known else None)
    return floors


def measure(
    fake: Observed,
    real: Observed,
    spaces: Sequence[Space],
    stats: CentroidStats | None,
    floors: Floors,
    trained_in: str = "vgg16",
) -> dict[str, dict[str, Any]]:
    """Every metric of generated images, with its interval and beside its floor.

    Args:
        fake: the generated images.
        real: the training images, or what is known of them.
        spaces: where to measure.
        stats: the training images' centroid; None to leave out what needs Φ.
        floors: from `measure_real`; may be empty.
        trained_in: name of the Φ that a loss saw: then distances to c, and LPIPS in the same kind of network, are marked as
            seen; empty where no loss saw any.

    Returns:
        Entries of metrics.json: name → value, standard_error, low, high, interval, floor, floor_heldout, floor_n,
        value_at_floor_n, n_real, n_fake, seen_by_loss, better (`lower`, `higher` or `floor`: the nearer to real images' own
        value); None where not known, and `floor_n` where the expectation does not depend on the number of images. KID,
        precision, recall, density and coverage are of at most 5,000 images a side.
    """
    entries: dict[str, dict[str, Any]] = {}

    def note(name: str, found: Estimate, n_fake: int, n_real: int | None, seen: bool, at_floor: float | None = None) -> None:
        entries[name] = entry(name, found, floors, n_fake, n_real, seen, at_floor)

    for space in spaces:
        features, seen = shuffled(fake.features[space.name]), space.seen_by_loss
        if not _varied(features):
            warnings.warn(
                f"All {fake.count:,} generated images have the same features ({space.name}): the generator has collapsed, "
                "and its diversity is none.",
                stacklevel=2,
            )
        reference: Tensor | Gaussian = real.gaussians.get(space.name) or shuffled(real.features[space.name])
        n = floors.get(space.name, {}).get("n", 0)
        at_floor = None
        if isinstance(reference, Tensor) and 2 <= n <= fake.count:
            at_floor = metrics.frechet_distance(reference[:n], features[:n])
        for name, found in zip((space.name, f"{space.name}_inf"), frechet_interval(reference, features), strict=True):
            if found:
                note(name, found, fake.count, real.count or None, seen, at_floor if name == space.name else None)
        if not isinstance(reference, Tensor):
            continue
        near, sample = reference[:PAIRWISE_AT_MOST], features[:PAIRWISE_AT_MOST]
        ways = {name: INTERVALS.get(name, partial(jackknife_interval, compare)) for name, compare in PAIRWISE.items()}
        pairwise = {name: interval(near, sample) for name, interval in ways.items()}
        if min(len(near), len(sample)) > NEIGHBOURS:
            pairwise |= neighbour_intervals(near, sample)
        pairwise_at_floor = {}
        if at_floor is not None:
            same = n >= max(len(near), len(sample))
            pairwise_at_floor = {m: e.value for m, e in pairwise.items()} if same else _pairwise(near[:n], sample[:n])
        for metric, found in pairwise.items():
            note(space.named(metric), found, len(sample), len(near), seen, pairwise_at_floor.get(metric))
        note(space.named("nearest"), _nearest(features, reference), len(sample), real.count, seen)
    for net, values in fake.lpips.items():
        n_real = 2 * len(real.lpips[net]) if net in real.lpips else None
        note(
            f"lpips_{net}",
            mean_interval(values),
            2 * len(values),
            n_real,
            bool(trained_in) and trained_in.startswith(LPIPS_KINDS[net]),
        )
    if stats and len(fake.distances):
        note("inside_d_ref", inside(fake, stats), fake.count, stats.count, bool(trained_in))
        note("centre_offset", _offset(fake, stats), fake.count, stats.count, bool(trained_in))
    return entries


def nearest_training(
    fake: Observed, real: Observed, held_out: Tensor | None, space: Space
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """How near generated images come to training images, and how near other images do.

    Args:
        fake: the generated images.
        real: the training images.
        held_out: real images that were never trained on, uint8, if there are any.
        space: to measure in.

    Returns:
        For each generated image that was kept (K,) the distance to the nearest training image, which one that is, and by
        name the distances of at most 5,000 other images.
    """
    training = real.features[space.name]
    distances, nearest = metrics.nearest_distances(fake.features[space.name][: len(fake.images)], training)
    among = metrics.nearest_distances(training[:PAIRWISE_AT_MOST], training, skip_self=True)[0]
    beside = {"training images, to another one": among}
    if held_out is not None:
        own = observe_images(held_out, [space]).features[space.name]
        beside["held-out images"] = metrics.nearest_distances(own[:PAIRWISE_AT_MOST], training)[0]
    return distances, nearest, beside


def entry(
    name: str, found: Estimate, floors: Floors, n_fake: int, n_real: int | None, seen: bool, at_floor: float | None = None
) -> dict[str, Any]:
    """A metric's entry in metrics.json."""
    floor = floors.get(name, {})
    return {
        **{"value": found.value, "standard_error": found.error, "low": found.low, "high": found.high},
        **{"interval": found.method, "floor": floor.get("floor"), "floor_heldout": floor.get("floor_heldout")},
        **{"floor_n": floor.get("n"), "value_at_floor_n": at_floor, "n_real": n_real, "n_fake": n_fake},
        **{"seen_by_loss": seen, "better": _better(name)},
    }


def _compared(space: Space, real: Tensor, other: Tensor) -> dict[str, float]:
    """What compares two sets of real images' features, by the metrics' names and without intervals."""
    distance, limit = frechet_interval(real, other, names=("real", "other real"))
    pairwise = _pairwise(real[:PAIRWISE_AT_MOST], other[:PAIRWISE_AT_MOST])
    found = {space.name: distance.value} | {space.named(metric): value for metric, value in pairwise.items()}
    return found | ({f"{space.name}_inf": limit.value} if limit else {})


def _pairwise(near: Tensor, sample: Tensor) -> dict[str, float]:
    """What takes all distances between two sets of features, without intervals."""
    found = {name: compare(near, sample) for name, compare in PAIRWISE.items()}
    if min(len(near), len(sample)) > NEIGHBOURS:
        found["precision"], found["recall"] = metrics.precision_recall(near, sample)
        found["density"], found["coverage"] = metrics.density_coverage(near, sample)
    return found


def _nearest(queries: Tensor, references: Tensor, own: bool = False) -> Estimate:
    """Mean distance of images to the nearest training image; of training images (`own`) to the nearest other one."""
    return mean_interval(metrics.nearest_distances(queries[:PAIRWISE_AT_MOST], references, skip_self=own)[0])


def inside(observed: Observed, stats: CentroidStats) -> Estimate:
    """Share of images inside d_ref."""
    return share_interval(int((observed.distances <= stats.reference_distance).sum()), observed.count)


def _offset(observed: Observed, stats: CentroidStats) -> Estimate:
    """‖mean f − c‖ ÷ d_ref."""
    return offset_interval(observed.group_means, group_sizes(observed.count), stats.centroid.double(), stats.reference_distance)


def _better(name: str) -> str:
    return next((way for start, way in BETTER.items() if name.startswith(start)), "lower")


def _varied(features: Tensor) -> bool:
    return any(bool((batch != features[0]).any()) for batch in features.split(1024))


def shuffled(features: Tensor) -> Tensor:
    """Rows in a random order that is always the same: those of a folder come sorted, and what is measured takes the first."""
    return features[torch.randperm(len(features), generator=random_stream(0, "halves"))]
