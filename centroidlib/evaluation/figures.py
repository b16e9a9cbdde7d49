"""The figures of a measurement: intervals beside floors, learning curves, nearest neighbours, the calibration, times."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import ScalarFormatter
from torch import Tensor

from centroidlib.intervals import mean_interval
from centroidlib.metrics import named
from centroidlib.plots import REAL, arm_colour, arm_line, put_caption

SLOWER = "#bdbdbd"  # than the reference; no arm has a grey
UNITS = {  # of a metric's values, by what its name begins with
    **dict.fromkeys(("fid", "fd_", "between_checkpoints"), "Fréchet distance"),
    **dict.fromkeys(("precision", "recall", "coverage", "inside_d_ref"), "share of images"),
    **{"kid": "MMD²", "density": "ratio", "nearest": "distance", "lpips": "distance of pairs", "centre_offset": "÷ d_ref"},
}


def figure_measured(measured: Mapping[str, Mapping[str, Any]], spaces: Sequence[str], arm: str, caption: str = "") -> Figure:
    """Of one run, a row a feature space: the Fréchet distance over 1/N, and how the two sets cover each other.

    Args:
        measured: entries of metrics.json.
        spaces: names of the Fréchet distances, `fid_768`.
        arm: name of the run's arm.
        caption: what was trained with what.
    """
    colour = arm_colour(arm)
    size = (10.5, 2.9 * len(spaces))
    figure, axes = plt.subplots(len(spaces), 2, figsize=size, squeeze=False, gridspec_kw={"width_ratios": [1.3, 1]})
    for (left, right), space in zip(axes, spaces, strict=True):
        entry, limit = measured[space], measured.get(f"{space}_inf")
        _over_n(left, entry, limit, arm)
        left.set_title(space + (" (seen by the loss)" if entry["seen_by_loss"] else ""))
        names = ("precision", "recall", "density", "coverage")
        for i, part in enumerate(measured.get(named(space, name)) for name in names):
            if part:
                with_interval(right, i, part, colour, "o")
                right.plot([i - 0.25, i + 0.25], [part["floor"]] * 2, color=REAL, lw=1.5, ls="--")
                if part["floor_heldout"] is not None:
                    right.plot(i, part["floor_heldout"], "x", color=REAL, ms=7)
        right.set(xticks=range(4), xticklabels=names, xlim=(-0.6, 3.6), ylim=(-0.05, None), ylabel="share (density: multiple)")
        right.set_title("How the two sets cover each other")
    looks: dict[str, dict[str, Any]] = {
        "generated": {"color": colour, "marker": "o"},
        "halves of the real images": {"color": REAL, "ls": "--"},
    }
    if any(entry["floor_heldout"] is not None for entry in measured.values()):
        looks["held-out images"] = {"color": REAL, "ls": "", "marker": "x"}
    axes[0, 1].legend(handles=[Line2D([], [], label=name, **look) for name, look in looks.items()], fontsize="small")
    put_caption(figure, caption)
    return figure


def _over_n(ax: Axes, entry: Mapping[str, Any], limit: Mapping[str, Any] | None, arm: str) -> None:
    """The Fréchet distance over 1/N: at all images, at the floor's number, extrapolated; and real images' own."""
    colour = arm_colour(arm)
    here = (1 / (entry["n_real"] or entry["n_fake"]) + 1 / entry["n_fake"]) / 2
    floor_at = 1 / entry["floor_n"] if entry["floor_n"] else here
    if limit:
        end = 1.1 * max(here, floor_at)
        slope = (entry["value"] - limit["value"]) / here
        ax.plot([0, end], [limit["value"], limit["value"] + slope * end], color=colour, lw=1, alpha=0.6)
        with_interval(ax, 0.0, limit, colour, "D", f"{arm}, extrapolated")
    with_interval(ax, here, entry, colour, "o", f"{arm}, all images")
    if entry["value_at_floor_n"] is not None:
        ax.plot(floor_at, entry["value_at_floor_n"], "o", color=colour, mfc="white", ms=8, label=f"{arm}, the floor's N")
    if entry["floor"] is not None:
        ax.plot(floor_at, entry["floor"], "s", color=REAL, ms=6, label="real images, two halves")
    if entry["floor_heldout"] is not None:
        ax.plot(floor_at, entry["floor_heldout"], "x", color=REAL, ms=8, label="real images, held-out")
    counts = "\n".join(f"{n:,}" for n in dict.fromkeys((entry["n_fake"], entry["n_real"] or entry["n_fake"])))
    places = {here: counts, floor_at: f"{1 / floor_at:,.0f}"} | ({0.0: "∞"} if limit else {})
    ax.set(xticks=list(places), xticklabels=list(places.values()), xlabel="images a side (generated, real), spaced as 1 / N")
    ax.set(ylabel="Fréchet distance", ylim=(min(0, ax.get_ylim()[0]), None), xlim=(-0.05 * floor_at, 1.25 * max(here, floor_at)))
    ax.legend(fontsize="x-small")


def axis_label(metric: str) -> str:
    """What an axis of this metric's values shows."""
    return next((label for kind, label in UNITS.items() if metric.startswith(kind)), "")


def figure_curves(curves: pd.DataFrame, metrics: Sequence[str] = (), caption: str = "") -> Figure:
    """Learning curves of runs, a panel a metric: thin a run, thick the mean of an arm's seeds with its 95 % t interval.

    The axis is that of the runs and of real images: an interval of few seeds may leave it.

    Args:
        curves: columns arm, seed, step, n_fake and the metrics with their `_floor`, the value of real images.
        metrics: to draw; all by default.
        caption: what was measured with what.
    """
    metrics = metrics or [str(name).removesuffix("_floor") for name in curves if str(name).endswith("_floor")]
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(max(5.0, 3.4 * columns), 2.6 * lines + 1.0), squeeze=False)
    for ax in axes.flat[len(metrics) :]:
        ax.remove()
    for ax, metric in zip(axes.flat, metrics, strict=False):
        for arm, mine in curves.groupby("arm", sort=False):
            wide = mine.pivot(index="step", columns="seed", values=metric)
            seeds = f"{wide.shape[1]} seed{'s' if wide.shape[1] > 1 else ''}"
            ax.plot(wide.index, wide, color=arm_colour(str(arm)), lw=0.7, alpha=0.35)
            found = [mean_interval(torch.tensor(row.dropna().to_numpy(float))) for _, row in wide.iterrows()]
            mean, low, high = np.array([estimate[:3] for estimate in found], dtype=float).T  # of one seed NaN for the ends
            ax.plot(wide.index, mean, lw=1.8, label=f"{arm}, {seeds}", **arm_line(str(arm)))
            ax.fill_between(wide.index, low, high, color=arm_colour(str(arm)), alpha=0.15, lw=0)
        ax.axhline(curves[f"{metric}_floor"].iloc[0], color=REAL, lw=1, ls="--", label="real images")
        ax.set(title=metric, xlabel="step", ylabel=axis_label(metric))
        shown = curves[[metric, f"{metric}_floor"]].to_numpy(float)
        least, most = float(np.nanmin(shown)), float(np.nanmax(shown))
        margin = 0.08 * (most - least) or 0.1
        ax.set_ylim(0.0 if metric.startswith(("fid", "fd_")) else least - margin, most + margin)
    axes.flat[0].legend(fontsize="small")
    several = curves["seed"].nunique() > 1
    bands = " Bands: 95 % t intervals of the mean over seeds, which may leave the picture." if several else ""
    put_caption(figure, f"Here {curves['n_fake'].iloc[0]:,} generated images a point.{bands} {caption}")
    return figure


def figure_calibration(lies: pd.DataFrame, caption: str = "") -> Figure:
    """Mean distance to c in units of d_ref, a row a set of pictures, a column a feature space; what lies inside is blue."""
    wide = lies.pivot(index="pictures", columns="space", values="distance")
    wide = wide.loc[lies["pictures"].unique(), lies["space"].unique()]
    figure, ax = plt.subplots(figsize=(2.6 + 0.75 * wide.shape[1], 1.6 + 0.34 * wide.shape[0]))
    colours = ax.imshow(wide, cmap="RdBu_r", vmin=0.0, vmax=2.0, aspect="auto")  # white is 1
    figure.colorbar(colours, ax=ax, label="mean distance to c, in d_ref")
    for (i, k), value in np.ndenumerate(wide.to_numpy()):
        ax.text(k, i, f"{value:.2f}", ha="center", va="center", size="small", color="white" if abs(value - 1) > 0.6 else "black")
    ax.set_yticks(range(len(wide)), wide.index)
    names = [str(name).replace(", ", "\n") for name in wide]
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    put_caption(figure, caption)
    return figure


def figure_neighbours(
    fake: Tensor, nearest: Tensor | None, distances: Tensor, others: Mapping[str, Tensor], arm: str, caption: str = ""
) -> Figure:
    """How far generated images are from the nearest training image, and the ones that are nearest.

    Args:
        fake: generated images nearest to a training image, uint8 (K, 3, H, W).
        nearest: those training images, in the same order; None to draw no real image.
        distances: from every generated image to its nearest training image, (M,).
        others: the same for other images, by name.
        arm: name of the run's arm.
        caption: what was trained with what.
    """
    lines = {"generated": fake} if nearest is None else {"generated": fake, "nearest training image": nearest}
    figure = plt.figure(figsize=(12, 3.0))
    grid = figure.add_gridspec(len(lines), 1 + len(fake), width_ratios=[5, *[1] * len(fake)])
    ax = figure.add_subplot(grid[:, 0])
    everything = torch.cat([distances, *others.values()])
    bins = np.linspace(float(everything.min()), float(everything.max()), 50).tolist()
    for (name, values), style in zip({"generated images": distances, **others}.items(), ("-", "--", ":"), strict=False):
        look = {"color": REAL if name in others else arm_colour(arm), "ls": style, "label": name}
        sns.histplot(x=values.numpy(), bins=bins, stat="density", element="step", fill=False, ax=ax, **look)
    ax.set(xlabel="distance to the nearest training image", ylabel="density")
    ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0.0, 1.0))
    for i, (name, images) in enumerate(lines.items()):
        for k, image in enumerate(images):
            cell = figure.add_subplot(grid[i, 1 + k])
            cell.imshow(image.permute(1, 2, 0).numpy(), interpolation="lanczos")
            cell.set_axis_off()
            cell.set_title(name if not k else "", fontsize="small")
    put_caption(figure, caption)
    return figure


def figure_ratios(ratios: pd.DataFrame, turns: int) -> Figure:
    """A bar a work, from 1 to the reference's seconds ÷ ours, so that twice and half as fast are as long.

    Args:
        ratios: rows of ratios.csv.
        turns: timed of each, to be named below it.
    """
    figure, ax = plt.subplots(figsize=(8, 0.3 * len(ratios) + 0.8))
    labels = ratios["work"] + (", " + ratios["precision"]).where(ratios["precision"] != "–", "")
    colours = [REAL if ratio > 1 else SLOWER for ratio in ratios["ratio"]]
    drawn = ratios["ratio"].clip(1 / 64, 64)  # what the loss adds is a difference: of noisy turns its ratio can be below 0
    bars = ax.barh(labels, drawn - 1, left=1, color=colours)
    ax.bar_label(bars, [f"{ratio:.2f}×" for ratio in ratios["ratio"]], padding=3, fontsize="small")
    ax.axvline(1.0, color="black", lw=1, ls="--")
    ax.invert_yaxis()
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.margins(y=0.02)
    ax.set(xlabel="times as fast as the reference", xlim=(0.4 * min(1, drawn.min()), 1.8 * max(1, drawn.max())))
    dark = "Dark: ours takes less time; light: the reference does."
    put_caption(figure, f"{ratios['machine'].iloc[0]}. Ratios of medians of {turns} timed turns of each. {dark}")
    return figure


def with_interval(ax: Axes, x: float, estimate: Mapping[str, Any], colour: str, marker: str, label: str | None = None) -> None:
    """Draw a value and its interval at `x`."""
    ax.plot(x, estimate["value"], marker, color=colour, ms=7, zorder=3, label=label)
    if estimate["low"] is not None and not pd.isna(estimate["low"]):
        ax.plot([x, x], [estimate["low"], estimate["high"]], color=colour, lw=2, zorder=2)
