"""What a step of Algorithm 1 is timed on, and what its seconds say."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from centroidlib.algorithm import TrainingState
from centroidlib.benchmark.rows import LESS, row
from centroidlib.centroid import CentroidStats
from centroidlib.config import TrainingConfig
from centroidlib.losses import centroid_distances
from centroidlib.streams import draw_batch, draw_latents, random_stream
from centroidlib.tables import markdown

CELEBA = 202_599  # images


def batch_of(images: Tensor, config: TrainingConfig, step: int = 0) -> tuple[Tensor, Tensor]:
    """The real images (B, 3, 64, 64) and the latents (B, latent) of a step, as `train` draws them, where the images are."""
    real = draw_batch(images, step, config.batch_size, config.seed, config.flip, images.device)
    latents = draw_latents(config.batch_size, config.latent, random_stream(config.seed, "latents", step))
    return real, latents.to(images.device)


@torch.no_grad()
def balls_for(state: TrainingState, latents: Tensor, phi: nn.Module, stats: CentroidStats) -> dict[str, CentroidStats]:
    """Balls around the centroid that have all, one in sixteen and none of a generated batch outside, by these words."""
    distances = centroid_distances(phi(state.generator(latents)), stats).sort().values
    few = max(1, len(distances) // 16)
    between = distances[-1 - few :][:2].mean()
    radii = {"all outside": 0.5 * distances[0], "1 in 16 outside": between, "none outside": 2.0 * distances[-1]}
    return {share: replace(stats, reference_distance=float(radius)) for share, radius in radii.items()}


def step_rows(turns: Mapping[tuple[str, ...], np.ndarray], images: int) -> list[dict[str, Any]]:
    """Rows of a step, and of what the loss adds to it.

    Args:
        turns: seconds in every turn, of `("literal", "no loss")`, `("literal", "loss")`, and for each precision of ours of
            `(precision, "no loss")`, `(precision, share)` and `(precision, share, LESS)`, the share being that outside d_ref.
        images: of a step.
    """
    reference, literal = "literal Algorithm 1", {what: seconds for (who, what, *_), seconds in turns.items() if who == "literal"}
    rows = []
    for precision in dict.fromkeys(who for who, *_ in turns if who != "literal"):
        ours = {", ".join(what): seconds for (who, *what), seconds in turns.items() if who == precision}
        for what, seconds in ours.items():
            if not what.endswith(LESS):
                own, other = map(_median, (seconds, literal.get(what, literal["loss"])))
                rows.append(row(f"step of {images} images, {what}", own, other, reference, precision))
        for what, seconds in ours.items():
            if what != "no loss":
                # Differences of turns, not of medians: a slow spell is in both.
                own, other = map(_median, (seconds - ours["no loss"], literal["loss"] - literal["no loss"]))
                rows.append(row(f"what the loss adds, {what}", max(own, 1e-6), max(other, 1e-6), reference, precision))
    return rows


def _median(seconds: np.ndarray) -> float:
    return float(np.median(seconds))


def pace(rows: Sequence[Mapping[str, Any]], images: int) -> str:
    """How many images a second the rows of `step_rows` come to with the loss, and how long all of CelebA takes."""
    found = [own for own in rows if own["work"] == f"step of {images} images, 1 in 16 outside"]
    best, literal = (min(own[name] for own in found) for name in ("ours_seconds", "reference_seconds"))
    return (
        f"Literally {images / literal:,.0f} images a second with the loss, ours {images / best:,.0f} with one in sixteen "
        f"outside: {CELEBA / images * best:,.0f} s for all of CelebA."
    )


def losses_table(found: Mapping[str, Tensor], wanted: Mapping[str, float]) -> str:
    """What `train_step` and `literal_step` return of one step, side by side, as a Markdown table."""
    body = [["", "ours", "literal", "relative difference"]]
    for term, value in wanted.items():
        ours = float(found[term])
        body.append([term, f"{ours:.6g}", f"{value:.6g}", f"{abs(ours / value - 1):.1e}" if value else "–"])
    return markdown(body)
