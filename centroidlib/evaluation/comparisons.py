"""The figures that set arms beside each other, seed by seed."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from centroidlib.evaluation.figures import axis_label, with_interval
from centroidlib.intervals import mean_interval
from centroidlib.paired import distance_to_target
from centroidlib.plots import REAL, arm_colour, arm_line, arm_marker, put_caption, running_mean

ACROSS = 4  # panels beside each other: as many as a page's width can show
SENSE = {"lower": "lower is better", "higher": "higher is better", "floor": "nearer to dashed"}


def figure_metrics(
    rows: pd.DataFrame, groups: Mapping[str, Sequence[str]], better: Mapping[str, str], caption: str = ""
) -> Figure:
    """Each metric by arm, a dot a run with its interval, a line from arm to arm a seed; a feature space begins a row.

    Dashed is the value of real halves, a cross that of held-out images.

    Args:
        rows: runs.csv: columns arm, seed, protocol and the metrics with their `_low`, `_high`, `_floor`, and, where there
            are any, `_floor_heldout` and `_seen_by_loss`.
        groups: columns to draw, by feature space.
        better: `lower`, `higher` or `floor` (the nearer the better) by metric.
        caption: what was measured with what.
    """
    arms = list(dict.fromkeys(zip(rows["protocol"], rows["arm"], strict=True)))
    names = [f"{arm}\n{protocol}".strip() for protocol, arm in arms]
    columns = min(ACROSS, max(map(len, groups.values())))
    panels = [[*metrics, *[""] * (-len(metrics) % columns)] for metrics in groups.values()]
    cells = [metric for group in panels for metric in group]
    size = (max(4.0, 2.5 * columns), 1.75 * len(cells) / columns + 1.6)
    figure, axes = plt.subplots(len(cells) // columns, columns, figsize=size, squeeze=False)
    for place, (ax, metric) in enumerate(zip(axes.flat, cells, strict=True)):
        if not metric:
            ax.remove()
            continue
        _runs_of(ax, rows, arms, metric)
        seen = " (seen)" if rows.get(f"{metric}_seen_by_loss", pd.Series([False])).any() else ""
        ax.set_title(metric.replace("between_checkpoints_", "between checkpoints:\n"), fontsize="small", x=-0.25)
        ax.set_xlabel(SENSE[better[metric]] + seen, fontsize="small")
        ax.set_ylabel(axis_label(metric), fontsize="small")
        ax.tick_params(labelsize="small")
        ax.set(xticks=range(len(arms)), xlim=(-0.6, len(arms) - 0.4))
        lowest = not any(cells[place + columns :: columns])  # its names serve for all panels above it
        ax.set_xticklabels(names if lowest else [""] * len(arms))
        if len(arms) > 2:
            plt.setp(ax.get_xticklabels(), rotation=25, ha="right", rotation_mode="anchor")
    marks = [
        Line2D([], [], ls="", marker=arm_marker(arm), color=arm_colour(arm), label=arm) for arm in dict.fromkeys(rows["arm"])
    ]
    marks.append(Line2D([], [], ls="--", color=REAL, label="real images"))
    if any(rows.get(f"{metric}_floor_heldout", pd.Series(dtype=float)).notna().any() for metric in cells):
        marks.append(Line2D([], [], ls="", marker="x", color=REAL, label="held-out images"))
    figure.legend(handles=marks, loc="outside upper left", ncols=5)
    seeds = ", ".join(f"{len(part)} {arm}" for arm, part in rows.groupby("arm", sort=False))
    put_caption(figure, f"A dot a run with its 95 % interval within the run, a line a seed. Runs: {seeds}. {caption}")
    return figure


def _runs_of(ax: Axes, rows: pd.DataFrame, arms: Sequence[tuple[str, str]], metric: str) -> None:
    """The runs' values of one metric, arm by arm, joined seed by seed, beside those of real images."""
    pairs: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for i, (protocol, arm) in enumerate(arms):
        mine = rows[(rows["arm"] == arm) & (rows["protocol"] == protocol)]
        spread = np.linspace(-0.2, 0.2, len(mine)) if len(mine) > 1 else [0.0]
        for x, (_, row) in zip(spread, mine.iterrows(), strict=True):
            estimate = {part: row[f"{metric}_{part}"] for part in ("low", "high")} | {"value": row[metric]}
            with_interval(ax, i + x, estimate, arm_colour(arm), arm_marker(arm))
            pairs.setdefault((protocol, row["seed"]), []).append((i + x, row[metric]))
        ax.plot([i - 0.5, i + 0.5], [mine[f"{metric}_floor"].mean()] * 2, color=REAL, ls="--", lw=1.2)
        held_out = mine.get(f"{metric}_floor_heldout", pd.Series(dtype=float)).dropna()
        if len(held_out):
            ax.plot(i + 0.4, held_out.iloc[0], "x", color=REAL, ms=6)
    for points in pairs.values():
        ax.plot(*zip(*points, strict=True), color=REAL, lw=0.7, alpha=0.5, zorder=1)


def figure_ablation(
    rows: pd.DataFrame, gaps: pd.DataFrame, metrics: Sequence[str], better: Mapping[str, str], caption: str = ""
) -> Figure:
    """A panel a metric: each arm less its baseline of λ = 0, a small dot a seed, a large one their mean with its 95 % t interval.

    The axis is that of the dots: an interval of few seeds may leave it.

    Args:
        rows: runs.csv.
        gaps: from `paired.ablation_differences`.
        metrics: to draw.
        better: `lower`, `higher` or `floor` (the nearer the better) by metric.
        caption: what was measured with what.
    """
    gaps = gaps[gaps["baseline"].isin(rows.loc[rows["lambda_"] == 0, "arm"])]
    arms = list(dict.fromkeys(gaps["arm"]))
    away = distance_to_target(rows, better)
    size = (2.0 + 2.8 * len(metrics), 2.4 + 0.32 * len(arms))
    figure, axes = plt.subplots(1, len(metrics), figsize=size, sharey=True, squeeze=False)
    for ax, metric in zip(axes.flat, metrics, strict=True):
        farthest = 0.0
        wide = away.pivot(index="seed", columns="arm", values=metric)
        for _, gap in gaps[gaps["metric"] == metric].iterrows():
            y = arms.index(gap["arm"])
            each = (wide[gap["arm"]] - wide[gap["baseline"]]).dropna()
            farthest = max(farthest, float(each.abs().max()))
            ax.plot([gap["low"], gap["high"]], [y, y], color=arm_colour(gap["arm"]), lw=1.5)
            ax.plot(gap["difference"], y, arm_marker(gap["arm"]), color=arm_colour(gap["arm"]), ms=9)
            ax.plot(each, [y] * len(each), "o", color="black", ms=3)
        ax.axvline(0, color="black", lw=1, ls="--")
        to_target = "of distance to real images'" if better[metric] == "floor" else f"of {axis_label(metric)}"
        ax.set(title=metric, xlabel=f"arm less its baseline,\n{to_target}", ylim=(max(1, len(arms)) - 0.5, -0.5))
        if farthest:
            ax.set_xlim(-1.6 * farthest, 1.6 * farthest)
    axes[0, 0].set_yticks(range(len(arms)), arms)
    seeds = " to ".join(dict.fromkeys(f"{gaps['seeds'].agg(end):.0f}" for end in ("min", "max"))) if len(gaps) else "no"
    told = f"Each arm with {seeds} seeds that its baseline has too, black dots; bars may leave the picture."
    put_caption(figure, f"{told} {caption}")
    return figure


def figure_punished(table: pd.DataFrame, caption: str = "") -> Figure:
    """How far above real batches each constraint puts each batch of pictures: rows pictures, columns constraints.

    Args:
        table: from `constraining.punish`.
        caption: what was measured with what.
    """
    wide = table.pivot(index="pictures", columns="constraint", values="above")
    wide = wide.loc[table["pictures"].unique(), table["constraint"].unique()]
    names = [str(name) for name in wide.columns]
    figure, ax = plt.subplots(figsize=(2.6 + 0.75 * wide.shape[1], 1.2 + 0.34 * wide.shape[0]))
    colours = ax.imshow(np.arcsinh(wide / 3), cmap="RdBu_r", vmin=-6, vmax=6, aspect="auto")  # white: as real batches
    bar = figure.colorbar(colours, ax=ax, label="above what real batches pay, in their std\n(Eq. 3: in multiples of it)")
    ticks = [-300, -30, -3, 0, 3, 30, 300]
    bar.set_ticks([float(np.arcsinh(tick / 3)) for tick in ticks], labels=[f"{tick:,}" for tick in ticks])
    for (i, k), value in np.ndenumerate(wide.to_numpy()):
        told = f"{value:,.1f}" if abs(value) < 9.95 else f"{value:,.0f}" if abs(value) < 9999 else f"{value:.0e}"
        light = abs(np.arcsinh(value / 3)) > 3.5
        ax.text(k, i, told, ha="center", va="center", size="x-small", color="white" if light else "black")
    ax.set_yticks(range(len(wide)), wide.index)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.spines[:].set_visible(False)
    put_caption(figure, caption)
    return figure


def figure_pareto(rows: pd.DataFrame, across: str, up: str, better: Mapping[str, str], caption: str = "") -> Figure:
    """Fidelity against diversity, an arm a point: the mean over seeds with 95 % t intervals of both, small dots the seeds.

    Args:
        rows: runs.csv.
        across: metric on the horizontal axis.
        up: metric on the vertical axis.
        better: `lower`, `higher` or `floor` by metric; of `floor` the distance to real images' own value is drawn.
        caption: what was measured with what.
    """
    away = distance_to_target(rows, better)
    figure, ax = plt.subplots(figsize=(9, 5))
    arms = away["arm"].nunique()
    for arm, mine in away.groupby("arm", sort=False):
        colour, marker = arm_colour(str(arm)), arm_marker(str(arm))
        ax.plot(mine[across], mine[up], marker, color=colour, ms=3, alpha=0.5)
        ends = {name: mean_interval(torch.tensor(mine[name].to_numpy(float))) for name in (across, up)}
        x, y = (ends[name].value for name in (across, up))
        for name, place in ((across, [y, y]), (up, [x, x])):
            low, high = ends[name].low, ends[name].high
            if low is not None and high is not None:
                bar = ([low, high], place) if name == across else (place, [low, high])
                ax.plot(*bar, color=colour, lw=1, alpha=0.6)
        ax.plot(x, y, marker, color=colour, ms=8, label=f"{arm}, {len(mine)} seed{'s' if len(mine) > 1 else ''}")
        if arms <= 8:  # of more, names would cover each other
            ax.annotate(str(arm), (x, y), (6, 5), textcoords="offset points", fontsize="x-small")
    floors = [float(rows[f"{name}_floor"].mean()) if better[name] != "floor" else 0.0 for name in (across, up)]
    ax.plot(*floors, "*", color=REAL, ms=14, label="real images")
    told = {
        name: f"{name}, {'distance to real images: lower' if way == 'floor' else way} is better" for name, way in better.items()
    }
    ax.set(xlabel=told[across], ylabel=told[up])
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    marks = "Large: an arm's mean over its seeds, with 95 % t intervals; small: its seeds; star: what real images score."
    put_caption(figure, f"{marks} {caption}")
    return figure


def figure_strength(histories: pd.DataFrame, caption: str = "", window: int = 10) -> Figure:
    """How hard each arm's constraint pulled, how far its batches were above real ones, and λ: means over seeds, by step.

    Args:
        histories: history.csv of several runs, with columns arm and seed.
        caption: what was trained with what.
        window: rows of a history that a point is the mean of.
    """
    panels = {
        "gradient_ratio": "the term's gradient at the images ÷ the adversarial one's",
        "above_floor": "above what real batches pay, in their std",
        "lambda": "λ, where it moves",
    }
    lines: dict[str, dict[str, pd.Series]] = {column: {} for column in panels}
    for arm, own in histories.groupby("arm", sort=False):
        means = own.groupby("step", as_index=False)[[name for name in panels if name in own]].mean()
        for column, line in running_mean(means, window).items():
            if line.fillna(0).any() and (column != "lambda" or line.nunique() > 1):
                lines[str(column)][str(arm)] = line
    drawn = [column for column in panels if lines[column]] or ["gradient_ratio"]
    figure, axes = plt.subplots(1, len(drawn), figsize=(1 + 3.4 * len(drawn), 3.4), squeeze=False)
    for ax, column in zip(axes.flat, drawn, strict=True):
        for arm, line in lines[column].items():
            ax.plot(line.index, line, label=arm, markevery=0.15, **arm_line(arm))
        ax.set_xlabel("step")
        if column == "above_floor":
            ax.set_yscale("symlog", linthresh=1)
        ax.set_title(textwrap.fill(panels[column], 34), fontsize="small")
    legends = [ax.get_legend_handles_labels() for ax in axes.flat]
    handles = {label: handle for found in legends for handle, label in zip(*found, strict=True)}
    if handles:
        figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=5)
    put_caption(figure, f"A line an arm, the mean over its seeds and over {window} batches. {caption}")
    return figure
