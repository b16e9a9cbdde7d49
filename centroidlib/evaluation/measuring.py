"""Every metric of what was observed: real images against each other once, then generated ones against the real."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from centroidlib.centroid import CentroidStats
from centroidlib.evaluation.networks import Space
from centroidlib.evaluation.observing import Observed, group_sizes
from centroidlib.intervals import (
    Estimate,
    frechet_interval,
    kernel_interval,
    mean_interval,
    neighbour_intervals,
    offset_interval,
    share_interval,
)
from centroidlib.metrics import Gaussian, frechet_distance, nearest_distances
from centroidlib.training import random_stream

PAIRWISE_AT_MOST = 5_000  # images a side where all distances between two sets are held: memory grows with the square
# By the name's beginning; else lower. `floor`: the nearer to real images' own value the better.
BETTER = {"precision": "higher", "recall": "higher", "coverage": "higher", "density": "floor", "nearest": "floor"}
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
        name → `floor` between disjoint random halves of the training images (LPIPS: of their disjoint pairs),
        `floor_heldout` between training and held-out images (None where there are none), and `n`, the images a side.
    """
    floors: dict[str, dict[str, Any]] = {}

    def note(name: str, n: int, floor: Estimate | float, held_out: Estimate | float | None) -> None:
        values = [x.value if isinstance(x, Estimate) else x for x in (floor, held_out)]
        floors[name] = {"floor": values[0], "floor_heldout": values[1], "n": n}

    n = min(samples, real.count // 2, held_out.count if held_out else samples)
    for space in spaces:
        features = real.features[space.name]
        if not _varied(features):
            raise ValueError(
                f"All {real.count:,} real images have the same features ({space.name}): are they all the same picture?"
            )
        first, second = _halves(features)
        other = _shuffled(held_out.features[space.name]) if held_out else None
        among = _compare(space, first[:n], second[:n], first[:n])
        beside = _compare(space, first[:n], other[:n], first[:n]) if other is not None else {}
        for name, found in among.items():
            note(name, n if name.startswith(space.name) else min(n, PAIRWISE_AT_MOST), found, beside.get(name))
        own = _nearest(features, features, own=True)
        note(space.named("nearest"), n, own, _nearest(other, features) if other is not None else None)
    for net, values in real.lpips.items():
        note(f"lpips_{net}", 2 * len(values), mean_interval(values), mean_interval(held_out.lpips[net]) if held_out else None)
    if stats:
        known = held_out if held_out and len(held_out.distances) else None
        note("inside_d_ref", stats.count, 1 - stats.outside, _inside(known, stats) if known else None)
        note("centre_offset", stats.count // 2, stats.halves_offset, _offset(known, stats) if known else None)
    return floors


def measure(
    fake: Observed, real: Observed, spaces: Sequence[Space], stats: CentroidStats | None, floors: Floors
) -> dict[str, dict[str, Any]]:
    """Every metric of generated images, with its interval and beside its floor.

    Args:
        fake: the generated images.
        real: the training images, or what is known of them.
        spaces: where to measure.
        stats: the training images' centroid; None to leave out what needs Φ.
        floors: from `measure_real`; may be empty.

    Returns:
        Entries of metrics.json: name → value, low, high, interval, floor, floor_heldout, floor_n, value_at_floor_n, n_real,
        n_fake, seen_by_loss, better (`lower`, `higher` or `floor`: the nearer to real images' own value); None where
        not known. KID, precision, recall, density and coverage are of at most 5,000 images a side.
    """
    entries: dict[str, dict[str, Any]] = {}

    def note(
        name: str, found: Estimate, better: str, n_fake: int, n_real: int | None, seen: bool, at_floor: float | None
    ) -> None:
        floor = floors.get(name, {})
        entries[name] = {
            **{"value": found.value, "low": found.low, "high": found.high, "interval": found.method},
            **{"floor": floor.get("floor"), "floor_heldout": floor.get("floor_heldout"), "floor_n": floor.get("n")},
            **{"value_at_floor_n": at_floor, "n_real": n_real, "n_fake": n_fake, "seen_by_loss": seen, "better": better},
        }

    for space in spaces:
        features, seen = _shuffled(fake.features[space.name]), space.seen_by_loss
        if not _varied(features):
            warnings.warn(
                f"All {fake.count:,} generated images have the same features ({space.name}): the generator has collapsed, "
                "and its diversity is none.",
                stacklevel=2,
            )
        if space.name in real.gaussians:
            for name, found in _frechet(space, real.gaussians[space.name], features).items():
                note(name, found, "lower", fake.count, real.count or None, seen, None)
            continue
        reference = _shuffled(real.features[space.name])
        half = reference[: real.count // 2]
        n = floors.get(space.name, {}).get("n", len(half))
        most_fake, most_real = min(fake.count, PAIRWISE_AT_MOST), min(n, PAIRWISE_AT_MOST)
        for name, found in _compare(space, reference, features, half[:n]).items():
            if name.startswith(space.name):
                at_floor = frechet_distance(half[:n], features[:n]) if name == space.name and n <= fake.count else None
                note(name, found, "lower", fake.count, real.count, seen, at_floor)
            else:
                at_floor = found.value if most_fake >= most_real else None
                note(name, found, _better(name), most_fake, most_real, seen, at_floor)
        found = _nearest(features, reference)
        note(space.named("nearest"), found, "floor", most_fake, real.count, seen, found.value)
    for net, values in fake.lpips.items():
        found, n_real = mean_interval(values), floors.get(f"lpips_{net}", {}).get("n")
        note(f"lpips_{net}", found, "floor", 2 * len(values), n_real, net == "vgg", found.value)
    if stats and len(fake.distances):
        inside = _inside(fake, stats)
        note("inside_d_ref", inside, "floor", fake.count, stats.count, True, inside.value)
        note("centre_offset", _offset(fake, stats), "floor", fake.count, stats.count, True, None)
    return entries


def _compare(space: Space, real: Tensor, fake: Tensor, near: Tensor) -> dict[str, Estimate]:
    """Everything between two sets of features; where all pairs are held, of `near` in place of `real`."""
    near, sample = near[:PAIRWISE_AT_MOST], fake[:PAIRWISE_AT_MOST]
    pairwise = {"kid": kernel_interval(near, sample)} | neighbour_intervals(near, sample)
    return _frechet(space, real, fake) | {space.named(metric): found for metric, found in pairwise.items()}


def _frechet(space: Space, real: Tensor | Gaussian, fake: Tensor) -> dict[str, Estimate]:
    at_n, extrapolated = frechet_interval(real, fake)
    return {space.name: at_n} | ({f"{space.name}_inf": extrapolated} if extrapolated else {})


def _nearest(queries: Tensor, references: Tensor, own: bool = False) -> Estimate:
    """Mean distance of images to the nearest training image; of training images (`own`) to the nearest other one."""
    return mean_interval(nearest_distances(queries[:PAIRWISE_AT_MOST], references, skip_self=own)[0])


def _inside(observed: Observed, stats: CentroidStats) -> Estimate:
    return share_interval(int((observed.distances <= stats.reference_distance).sum()), observed.count)


def _offset(observed: Observed, stats: CentroidStats) -> Estimate:
    """‖mean f − c‖ ÷ d_ref."""
    return offset_interval(observed.group_means, group_sizes(observed.count), stats.centroid.double(), stats.reference_distance)


def _better(name: str) -> str:
    return next((way for start, way in BETTER.items() if name.startswith(start)), "lower")


def _varied(features: Tensor) -> bool:
    return any(bool((batch != features[0]).any()) for batch in features.split(1024))


def _shuffled(features: Tensor) -> Tensor:
    """Rows in a random order that is always the same: those of a folder come sorted, and what is measured takes the first."""
    return features[torch.randperm(len(features), generator=random_stream(0, "halves"))]


def _halves(features: Tensor) -> tuple[Tensor, Tensor]:
    order = _shuffled(features)
    return order[: len(order) // 2], order[len(order) // 2 :]
