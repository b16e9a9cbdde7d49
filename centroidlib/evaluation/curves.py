"""Learning curves: what the generators that training kept on its way score, all at one small number of images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from centroidlib.centroid import CentroidStats
from centroidlib.checkpoints import load_generator
from centroidlib.evaluation.measuring import Floors, inside, shuffled
from centroidlib.evaluation.observing import Lpips, Observed, generated, observe
from centroidlib.evaluation.spaces import Space
from centroidlib.features import device_of
from centroidlib.metrics import distance_to, fit_gaussian, gaussian_distance


def learning_curve(
    generators: Sequence[Path],
    last: Observed,
    real: Observed,
    spaces: Sequence[Space],
    phi: nn.Module,
    stats: CentroidStats,
    floors: Floors,
    lpips: Lpips,
    *,
    samples: int,
    seed: int,
    batch_norm: str = "eval",
) -> pd.DataFrame:
    """Distances, LPIPS and the share inside d_ref of the same latents' images, for each generator that was kept.

    Args:
        generators: `generators/step_*.safetensors` of one run, in the order of their steps.
        last: what was observed of the last of them, `samples` images or more: it is not applied again.
        real: the training images.
        spaces: where to measure.
        phi: Φ of the loss.
        stats: the training images' centroid.
        floors: of what does not depend on the number of images.
        lpips: networks by name; of `samples` ÷ 2 pairs.
        samples: images of each generator. A Fréchet distance grows as they get fewer: compare at the same number only.
        seed: of the latents, as `generated` takes it.
        batch_norm: as `generated` takes it.

    Returns:
        A row a generator: `step`, `n_fake`, the Fréchet distance in each space, `lpips_…` and `inside_d_ref`, each with its
        `_floor`: of a distance that of so many real images to the others.

    Raises:
        ValueError: no generator was kept, or `samples` is more than was observed of the last.
    """
    if not generators:
        raise ValueError("No generators were kept on the way: train with generators_every above 0, or set curve_samples = 0.")
    if not 2 <= samples <= min(last.count, real.count // 2):
        most = min(last.count, real.count // 2)
        raise ValueError(f"curve_samples must be 2 to {most:,}: the samples, and half of the real images; not {samples:,}.")
    if any(2 * len(values) < samples - samples % 2 for values in last.lpips.values()):
        raise ValueError(f"curve_samples = {samples:,} takes half as many pairs for LPIPS, and fewer were measured.")
    among = {space.name: shuffled(real.features[space.name]) for space in spaces}
    distances = {name: distance_to(fit_gaussian(features, "real")) for name, features in among.items()}
    alone = {
        f"{name}_floor": gaussian_distance(fit_gaussian(features[:samples], "real"), fit_gaussian(features[samples:], "real"))
        for name, features in among.items()
    }
    alone |= {f"{name}_floor": floors[name]["floor"] for name in (*(f"lpips_{net}" for net in lpips), "inside_d_ref")}

    def row(path: Path, seen: Observed) -> dict[str, Any]:
        found = {name: distance(fit_gaussian(seen.features[name], "generated")) for name, distance in distances.items()}
        found |= {f"lpips_{net}": float(values.double().mean()) for net, values in seen.lpips.items()}
        found["inside_d_ref"] = inside(seen, stats).value
        return {"step": int(path.stem.split("_")[1]), "n_fake": samples} | found | alone

    rows = []
    for path in generators[:-1]:
        images = generated(load_generator(path).to(device_of(phi)), samples, seed, batch_norm)
        label = f"images of {path.stem.replace('_', ' ')}"
        rows.append(row(path, observe(images, samples, spaces, phi, stats, lpips, samples // 2, label=label)))
    return pd.DataFrame([*rows, row(generators[-1], _first(last, samples))])


def _first(observed: Observed, count: int) -> Observed:
    """What was observed of the first `count` images and their pairs."""

    def cut(parts: Mapping[str, Any], size: int) -> dict[str, Any]:
        return {name: part[:size] for name, part in parts.items()}

    return replace(
        observed,
        count=count,
        features=cut(observed.features, count),
        lpips=cut(observed.lpips, count // 2),
        distances=observed.distances[:count],
    )
