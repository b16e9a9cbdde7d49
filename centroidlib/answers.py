"""What notebooks 01 to 04 say in words and small tables, computed from the numbers; Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from torch import Tensor
from torch.nn.functional import pdist

from centroidlib.centroid import CentroidStats
from centroidlib.constraints import Constraint
from centroidlib.evaluation.observing import features_of
from centroidlib.evaluation.spaces import Space
from centroidlib.features import FeatureExtractor
from centroidlib.losses import centroid_distances
from centroidlib.runs import Run, read_record
from centroidlib.tables import CONDITIONS, in_words, real_images

BLANKS = ("flat grey", "the mean image", "uniform noise")  # of the calibration pictures: no face at all


def beginning(images: Tensor, phi: FeatureExtractor, spaces: Sequence[Space] = ()) -> str:
    """The images, Φ, and where it will be measured."""
    measured = f" · measured in {', '.join(f'`{space.name}`' for space in spaces)}" if spaces else ""
    return f"`{tuple(images.shape)}` {images.dtype} · Φ = `{phi.name}`, {'pooled' if phi.pool else 'flattened'}{measured}"


def centroid_table(stats: CentroidStats, centre: str = "mean", radius: float = 0.0) -> str:
    """Eq. 1 and 2, and what real images themselves pay under Eq. 3."""
    of_the_paper = (centre, radius) == ("mean", 0)
    left_out = f"{stats.reference_distance * stats.count / (stats.count - 1):,.2f}" if of_the_paper else "–"
    what = "Eq. 2" if radius == 0 else f"here the {radius:g} quantile"
    around = "c (Eq. 1)" if centre == "mean" else f"a {centre} centre"
    return f"""
| | |
|---|---|
| N images | {stats.count:,} |
| d dimensions | {len(stats.centroid):,} |
| reference distance d_ref ({what}), around {around} | {stats.reference_distance:,.2f} |
| the same, each image left out of its own centroid | {left_out} |
| real images outside d_ref | {stats.outside:.1%} |
| real images' own centroid loss (Eq. 3) | {stats.floor:,.3f} = {stats.floor / stats.reference_distance:.4f} d_ref |
| centres of two halves apart | {stats.halves_offset:.4f} d_ref |
"""


def calibration_caption(source: str, images: Tensor, reference: Tensor, pictures: Mapping[str, Tensor]) -> str:
    """What the calibration was made of."""
    return (
        f"Means of {len(pictures['real images']):,} pictures a kind (held-out, DCGAN as many); c and d_ref of {len(reference):,} "
        f"of {real_images(len(images), source)}."
    )


def what_it_sees(balls: pd.DataFrame, lies: pd.DataFrame, phi: FeatureExtractor) -> str:
    """Which pictures pay more than real images under Eq. 3 in Φ, and which do not."""
    here = f"{phi.name}, {'pooled' if phi.pool else 'flattened'}"
    space = here if here in set(lies["space"]) else lies["space"].iloc[0]
    own = lies[lies["space"] == space].set_index("pictures")
    cost = own["loss"] / float(balls.loc[balls["space"] == space, "floor"].iloc[0])
    unseen = [f"{name} ({value:.2f})" for name, value in cost.items() if value <= 1]
    seen = [f"{name} ({value:.2f})" for name, value in cost.items() if value > 1]
    return (
        f"In `{space}`, {own['count'].max():,} of each kind of picture, Eq. 3 as a multiple of what the images of the centre pay "
        f"themselves: **at most as much** pay {', '.join(unseen) or 'none'}; **more** pay {', '.join(seen) or 'none'}."
    )


def of_the_centroid(stats: CentroidStats, phi: FeatureExtractor, pictures: Mapping[str, Tensor]) -> str:
    """The answer of 01: the ball's size, and which blank pictures are inside."""
    distances = {name: centroid_distances(features_of(pictures[name], phi, name), stats) for name in BLANKS}
    inside = [name for name, away in distances.items() if (away <= stats.reference_distance).all()]
    told = (
        f"The ball also contains {' and '.join(inside)}: being inside it does not make a picture a sample of the data."
        if inside
        else "None of the three blank pictures is inside the ball."
    )
    return (
        f"**Answer.** Around the centre of these {stats.count:,} images d_ref is {stats.reference_distance:,.1f}, and the "
        f"centres of two halves lie {stats.halves_offset:.1%} of it apart; {stats.outside:.0%} of the real images lie outside, "
        f"and under the centroid loss they pay {stats.floor / stats.reference_distance:.4f} d_ref on average: the floor, below "
        f"which no generator should come. {told}"
    )


def before_training(images: Tensor, phi: FeatureExtractor, stats: CentroidStats, asked: Mapping[str, Any]) -> str:
    """What an arm is about to be trained with; `asked` are the run's parameters."""
    unit = "in units of d_ref" if asked["unit"] == "d_ref" else "in Φ's raw units"
    what = "Eq. 3 on distances " + unit if asked["constraint"] == "eq3" else f"`{asked['constraint']}`"
    if asked["space"] == "discriminator":
        what = "Eq. 3 in the discriminator's own features"
    return (
        f"{len(images):,} images · Φ = `{phi.name}` · d_ref = {stats.reference_distance:,.2f} · arm **{asked['arm']}**: "
        f"λ = {asked['lambda_']:g}, {what}, seed {asked['seed']}"
    )


def after_training(history: pd.DataFrame, asked: Mapping[str, Any], images: Tensor) -> str:
    """How long it took, and in what."""
    passes = asked["steps"] * asked["batch_size"] / len(images)
    return (
        f"{asked['steps']:,} steps of {asked['batch_size']} images in {history['seconds'].iloc[-1] / 60:.1f} minutes, in "
        f"{history.attrs['precision']}, {passes:.1f} passes over the data"
    )


def of_training(history: pd.DataFrame, stats: CentroidStats, constraint: Constraint | None, lambda_: float) -> str:
    """The answer of 02: what became of the constraint over the run, above all over its last quarter."""
    late = history.tail(max(1, len(history) // 4))
    told = (
        f"**Answer.** Over the last quarter of the run {late['outside'].mean():.0%} of the generated images lie outside d_ref "
        f"(of the real ones {stats.outside:.0%})"
    )
    if "above_floor" in history and constraint is not None:
        told += (
            f", and the constraint ({constraint.name}) is {late['loss_centroid'].mean():.3g}, where batches of real images pay "
            f"{constraint.floor:.3g} ± {constraint.scatter:.2g}."
        )
    else:
        silent = (history["outside"] == 0).mean()
        told += f", and the centroid loss is {late['hinge_over_floor'].mean():.2f} times that of real images."
        told += f" No image was outside in {silent:.0%} of the batches looked at."
    active = history[history["loss_centroid"] > 0]
    if lambda_ > 0 and len(active):
        told += (
            " Where the term is active, its gradient at the images is "
            f"{active['gradient_ratio'].median():.2g} times the adversarial one (median)."
        )
    if "lambda" in history:
        told += f" λ ended at {history['lambda'].iloc[-1]:.3g}."
    return told


def of_the_evaluation(measured: Mapping[str, Mapping[str, Any]], space: str, samples: int, count: int, fingerprint: str) -> str:
    """The answer of 03: the first distance with its interval, variety and the share inside d_ref, beside real images' own."""
    main, inside = measured[space], measured["inside_d_ref"]
    bounds = f"{main['low']:.3g} to {main['high']:.3g}, " if main["low"] is not None else ""
    at_floor = f", where it is {main['value_at_floor_n']:.3g}" if main["value_at_floor_n"] is not None else ""
    counted = ""
    if "factors_kinds" in measured:
        counted = (
            f" In {measured['factors_recognised']['value']:.0%} of them every factor of the drawn faces is recognised (of drawn "
            f"faces {measured['factors_recognised']['floor']:.0%}), and these show {measured['factors_kinds']['value']:.0%} of "
            "the kinds that as many drawn faces have."
        )
    varied = [name for name in measured if name.startswith(("lpips", "recall"))]
    kinds = {name: ("LPIPS of two of them" if name.startswith("lpips") else f"`{name}`") for name in varied}
    told = "; ".join(f"{kinds[name]} {measured[name]['value']:.3g} (real: {measured[name]['floor']:.3g})" for name in varied)
    return (
        f"**Answer.** `{space}` is {main['value']:.3g} ({bounds}{samples:,} generated against {count:,} real images); halves of "
        f"the real images are {main['floor']:.2g} apart, of {main['floor_n']:,} images each{at_floor}. How varied "
        f"they are: {told}. {inside['value']:.0%} of the generated images lie inside d_ref, of the real ones "
        f"{inside['floor']:.0%}.{counted} Protocol `{fingerprint}`."
    )


def trained_caption(run: Run, images: Tensor, phi: FeatureExtractor, stats: CentroidStats) -> str:
    """What a picture's generator was trained with, as far as the run's record knows: another arm's average was not here."""
    asked = read_record(run.folder).get("stages", {}).get("02_train", {}).get("parameters", {}) | run.parameters
    told = [f"Arm {asked['arm']}", f"seed {asked['seed']}"]
    of_the_loss = () if asked.get("lambda_") else ("constraint", "whiten", "space", "centroid_samples", "warmup", "adapt")
    other = ("layer", "weights", "pool", "centroid", "crop", *of_the_loss)
    told += [words for name in CONDITIONS if name in asked and name not in other and (words := in_words(name, asked[name]))]
    unit = " λ is of distances in units of d_ref." if asked.get("lambda_") and asked.get("unit") == "d_ref" else ""
    return (
        f"{', '.join(told)}; {real_images(len(images), asked['source'])}; "
        f"Φ = {phi.name}, {'pooled' if phi.pool else 'flattened'}.{unit}{_raw_strength(asked, stats)}"
    )


def of_the_pictures(features: Mapping[str, Tensor], stats: CentroidStats, arm: str, trained: Mapping[str, Any]) -> str:
    """The answer of 04: where both sets' features (N, d) lie, how far apart two of one set are, and what a raw λ is in d_ref.

    `trained` are the parameters of 02.
    """
    d_ref = stats.reference_distance
    made, real = (centroid_distances(features[name], stats).double() / d_ref for name in (arm, "real"))
    apart, really = (pdist(features[name].float()).mean().item() / d_ref for name in (arm, "real"))
    told = (
        f"**Answer.** Generated images lie at {made.mean():.2f} ± {made.std():.2f} d_ref from the centroid (mean ± standard "
        f"deviation, N = {len(made):,}), real ones at {real.mean():.2f} ± {real.std():.2f}. The upper twentieth begins at "
        f"{made.quantile(0.95):.2f} against {real.quantile(0.95):.2f}; {made.le(1).double().mean():.0%} lie inside d_ref, of the "
        f"real ones {real.le(1).double().mean():.0%}. Two generated images are {apart:.2f} d_ref apart on average, two real ones "
        f"{really:.2f}: {'less' if apart < really else 'no less'} varied, to Φ."
    )
    return told + _raw_strength(trained, stats)


def _raw_strength(asked: Mapping[str, Any], stats: CentroidStats) -> str:
    """What a λ on raw distances is in units of d_ref, and beside the paper's; nothing of a λ in these units."""
    strength = asked.get("lambda_", 0) * stats.reference_distance
    if not strength or asked["unit"] != "raw":
        return ""
    told = (
        f" λ = {asked['lambda_']:g} on raw distances is {strength:,.0f} in units of d_ref here, where we estimate the paper's at "
    )
    return told + ("40: far above it." if strength > 1000 else "40.")
