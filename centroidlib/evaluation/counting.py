"""Diversity that is counted, on drawn faces, whose factors are known: entries of metrics.json."""

from typing import Any

from torch import Tensor

from centroidlib.evaluation.measuring import Floors, entry
from centroidlib.factors import FactorClassifier, count_factors
from centroidlib.intervals import Estimate, share_interval


def factor_floors(images: Tensor, others: Tensor | None, classifier: FactorClassifier, samples: int) -> dict[str, dict[str, Any]]:
    """What drawn faces themselves show: the floor of every counted metric.

    Args:
        images: the training images, uint8 (N, 3, 64, 64), drawn.
        others: drawn faces that are never trained on, if there are any.
        classifier: of the factors.
        samples: generated images that will be counted: no more are taken here.
    """
    n = min(samples, len(images), len(others) if others is not None else samples)
    own = _counted(images[:n], classifier)
    beside = {} if others is None else _counted(others[:n], classifier)
    return {
        name: {"floor": found.value, "floor_heldout": beside[name].value if beside else None, "n": n}
        for name, found in own.items()
    }


def factor_entries(images: Tensor, classifier: FactorClassifier, floors: Floors) -> dict[str, dict[str, Any]]:
    """What generated images, uint8 (N, 3, 64, 64), show of the factors, beside what drawn faces do.

    `factors_recognised` is the share of images of which every factor is recognised for sure; of those, `factors_kinds`
    counts the distinct combinations, over as many as that many drawn faces have on average, and `factors_divergence` is
    how uneven they come, in bits (Kullback-Leibler, summed over the factors' histograms).
    """
    n = floors["factors_kinds"]["n"]
    at_floor = _counted(images[:n], classifier) if n <= len(images) else {}
    return {
        name: entry(name, found, floors, len(images), None, False, at_floor[name].value if at_floor else None)
        for name, found in _counted(images, classifier).items()
    }


def _counted(images: Tensor, classifier: FactorClassifier) -> dict[str, Estimate]:
    found = count_factors(images, classifier)
    return {
        "factors_recognised": share_interval(int(found["recognised"]), len(images)),
        "factors_kinds": Estimate(found["kinds_share"]),
        "factors_divergence": Estimate(found["divergence"]),
    }
