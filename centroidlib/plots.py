"""The figures: plain arrays and tables in, a matplotlib figure out, one style."""

import textwrap
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML, DisplayHandle, display
from IPython.display import Image as Picture
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image
from torch import Tensor

from centroidlib._files import replacing, watched

REAL = "#4d4d4d"
# Okabe and Ito's colours: told apart by colour-blind readers, and of different lightness in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")  # the same arm's, where colours are not seen
LINES = ("-", "--", ":", "-.")  # of arms of one colour
# The arms of the project's batches, a line a colour: blue is without a loss, vermilion Eq. 3. Colour and marker name an arm.
ARMS = (
    ("baseline", "crop80-baseline", "baseline-longer"),
    ("centroid", "crop80", "literal"),
    ("centroid-lambda4", "hinge90", "radius90", "random-weights", "energy", "band", "soft", "layer9"),
    ("centroid-lambda100", "nearest", "shuffled-centre", "squared", "distances", "of-100-images", "pooled", "own-features"),
    (
        "centroid-lambda10",
        "energy-adaptive",
        "random-centre",
        "lambda400",
        "energy-lambda20",
        "mean",
        "hinge",
        "energy-adaptive-longer",
    ),
    ("centroid-lambda1", "sliced", "energy-strong", "radius25", "moments", "sliced-lambda0.9", "hinge90-strong"),
)
_SAME = {"centroid-lambda40": "centroid", "lambda4": "centroid-lambda4", "sliced-lambda5": "sliced", "energy-lambda3.6": "energy"}


def use_style() -> None:
    """Set the look of every figure that follows; notebooks hold them as JPEG, of which a grid of images takes a tenth.

    In a notebook warnings become sentences, too: without the file and the line that they came from.
    """
    if InteractiveShell.initialized():
        set_matplotlib_formats("jpeg", pil_kwargs={"quality": 80})
        warnings.formatwarning = lambda message, *_, **__: f"Note: {message}\n"
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update(
        {"figure.dpi": 80, "savefig.dpi": 120, "savefig.bbox": "tight", "axes.titlesize": "medium", "axes.titlelocation": "left",
         "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "figure.constrained_layout.use": True}
    )  # fmt: skip


def arm_colour(arm: str) -> str:
    """The same colour for the same arm, in every figure and notebook."""
    return COLOURS[_place(arm)[0]]


def arm_marker(arm: str) -> str:
    """The same marker for the same arm; of arms of one colour, another."""
    return MARKERS[sum(_place(arm)) % len(MARKERS)]


def arm_line(arm: str) -> dict[str, Any]:
    """How the same arm's curves look: its colour and marker, solid for the first arm of a colour, else dashed."""
    return {"color": arm_colour(arm), "marker": arm_marker(arm), "ls": LINES[_place(arm)[1] % len(LINES)], "ms": 4}


def _place(arm: str) -> tuple[int, int]:
    """An arm's line in ARMS and its place there; others have a line of their own name's making, behind the first two."""
    arm = _SAME.get(arm, arm)
    known = [(line, names.index(arm)) for line, names in enumerate(ARMS) if arm in names]
    return known[0] if known else divmod(16 + sum(arm.encode()) % 32, len(MARKERS))


def put_caption(figure: Figure, text: str) -> None:
    """Write under a figure, in lines of its width, what was measured with what; the figure grows by as much."""
    if text:
        lines = textwrap.fill(text.replace("`", ""), int(13.5 * figure.get_figwidth()), break_on_hyphens=False)
        label = figure.supxlabel(lines, x=0.01, ha="left", fontsize="small", color=REAL)
        figure.set_figheight(figure.get_figheight() + label.get_window_extent().height / figure.dpi)


def figure_images(images: Tensor, title: str, columns: int = 8, caption: str = "") -> Figure:
    """A grid of uint8 images (N, 3, H, W), with what was trained with what below it."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(0.68 * columns, 0.68 * rows + 0.4), squeeze=False)
    figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
    for ax, image in zip(axes.flat, images, strict=False):
        ax.imshow(image.permute(1, 2, 0).numpy(), interpolation="lanczos")
    for ax in axes.flat:
        ax.set_axis_off()
    figure.suptitle(title, x=0.0, ha="left", fontsize="medium")
    put_caption(figure, caption)
    return figure


def figure_film_strip(folder: Path, frames: int = 6, side: int = 4, caption: str = "") -> Figure:
    """The same latents over training: the first `side`² of the grids in `samples/step_*.png`, and what was trained with what."""
    paths = _sample_grids(folder)
    chosen = [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, frames).round().astype(int))]
    figure, axes = plt.subplots(1, len(chosen), figsize=(2.0 * len(chosen), 2.3), squeeze=False)
    for ax, path in zip(axes.flat, chosen, strict=True):
        grid = np.asarray(Image.open(path))
        ax.imshow(grid[: 66 * side + 2, : 66 * side + 2], interpolation="lanczos")
        ax.set_title(f"step {int(path.stem.split('_')[1]):,}", fontsize="small")
        ax.set_axis_off()
    put_caption(figure, caption)
    return figure


def write_film(folder: Path, path: Path, seconds: float = 6.0) -> None:
    """The grids in `samples/step_*.png` one after the other, as an animated WebP of so many seconds that repeats."""
    first, *others = [Image.open(grid).convert("RGB") for grid in _sample_grids(folder)]
    with replacing(path) as temporary:
        duration = int(1000 * seconds / (1 + len(others)))
        first.save(temporary, "WEBP", save_all=True, append_images=others, duration=duration, loop=0, quality=80)


def _sample_grids(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("step_*.png"))
    if not paths:
        raise ValueError(f"There are no sample grids in {folder.name}/: train first.")
    return paths


def figure_distances(
    distances: Mapping[str, Tensor], reference_distance: float, floor: float | None = None, caption: str = ""
) -> Figure:
    """Histogram of distances to the centroid, `real` and arms by name, in units of d_ref, and below it what was measured."""
    figure, ax = plt.subplots(figsize=(8, 3.2))
    scaled = {name: values.double().numpy() / reference_distance for name, values in distances.items()}
    low, high = (f([f(v) for v in scaled.values()]) for f in (min, max))
    bins = np.linspace(low, min(high, 3.0), 60).tolist()
    for name, values in scaled.items():
        colour = REAL if name == "real" else arm_colour(name)
        label = f"{name}: {np.mean(values > 1):.0%} outside, N = {len(values):,}"
        sns.histplot(x=values, bins=bins, stat="density", element="step", alpha=0.25, color=colour, label=label, ax=ax)
    ax.axvline(1.0, color="black", lw=1.5, ls="--")
    ax.annotate("d_ref", (1.0, 1.0), (4, -2), xycoords=("data", "axes fraction"), textcoords="offset points", va="top")
    ax.set(xlabel="distance to the centroid, in units of d_ref", ylabel="density")
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    if floor is not None:
        ax.set_title(f"Real images' own centroid loss: {floor / reference_distance:.4f} d_ref")
    put_caption(figure, caption)
    return figure


def figure_training(history: pd.DataFrame, arm: str, caption: str = "", window: int = 10) -> Figure:
    """Losses, the share outside d_ref, the constraint beside real images' value and D's outputs over the steps of a run.

    Where λ moves, it is drawn beside the constraint. The caption is what was trained with what.
    """
    smooth = running_mean(history, window)
    figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex=True)
    colour = arm_colour(arm)

    def curve(ax: Axes, column: str, label: str, line: str = colour) -> None:
        if column in history:
            ax.plot(history["step"], history[column], color=line, lw=0.8, alpha=0.25)
            ax.plot(smooth.index, smooth[column], color=line, lw=1.8, label=label)

    curve(axes[0, 0], "loss_d", "discriminator", REAL)
    curve(axes[0, 0], "loss_adversarial", "generator, adversarial")
    axes[0, 0].set(ylabel="loss", title="Adversarial losses")
    curve(axes[0, 1], "d_real", "real images", REAL)
    curve(axes[0, 1], "d_fake", "generated images")
    axes[0, 1].set(ylabel="mean D", title="What the discriminator says", ylim=(0, 1))
    curve(axes[1, 0], "outside", "generated images")
    axes[1, 0].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1, 0].set(ylabel="share of the batch", title="Outside d_ref", xlabel="step", ylim=(0, None))
    if "above_floor" in history:
        curve(axes[1, 1], "above_floor", "generated images")
        axes[1, 1].axhline(0.0, color=REAL, lw=1, ls="--", label="real images")
        axes[1, 1].set(ylabel="above real batches, in their std", yscale="asinh", title="Constraint", xlabel="step")
    else:
        curve(axes[1, 1], "hinge_over_floor", "generated images")
        axes[1, 1].axhline(1.0, color=REAL, lw=1, ls="--", label="real images")
        axes[1, 1].set(ylabel="Eq. 3 ÷ real images' value", title="Centroid loss", xlabel="step")
        later = history.loc[history["step"] > 1].get("hinge_over_floor", pd.Series(dtype=float)).max()
        axes[1, 1].set_ylim(-0.05, 1.15 * np.nanmax([1.0, later]))  # an untrained generator's first step may lie far above
    if "lambda" in history:
        axes[1, 1].plot([], [], color=COLOURS[2], label="λ (right)")
        beside = axes[1, 1].twinx()
        beside.plot(history["step"], history["lambda"], color=COLOURS[2], lw=1.5)
        beside.set(ylabel="λ", ylim=(0, None))
        beside.spines["right"].set_visible(True)
    for ax in axes.flat:
        if ax.lines:
            ax.legend(fontsize="small")
    means = f"Pale each batch looked at, bold the running mean of {window} behind the first, which may leave the picture."
    put_caption(figure, f"{means} {caption}" if caption else "")
    return figure


def running_mean(history: pd.DataFrame, window: int) -> pd.DataFrame:
    """Means of the numbers of so many rows of a history, by step; without the first step, which an untrained generator made."""
    later = history[history["step"] > 1]
    rows = later if len(later) else history
    return rows.set_index("step").rolling(window, min_periods=1).mean(numeric_only=True)


def live_view(arm: str, steps: int) -> Callable[[pd.DataFrame, Path], None] | None:
    """What `train` shows while it runs: in JupyterLab the curves so far and the latest sample grid; None where nobody watches.

    After the last step, `steps`, both are gone: the notebook shows them below, for good.
    """
    if not watched():
        return None
    handles: list[DisplayHandle] = []

    def show(history: pd.DataFrame, grid: Path) -> None:
        if history["step"].iloc[-1] < steps:
            show_again(handles, figure_training(history, arm), Picture(filename=grid))
        else:
            for handle in handles:
                handle.update(HTML(""))

    return show


def show_again(handles: list[DisplayHandle], figure: Figure, *pictures: Picture) -> None:
    """A figure, and pictures below it, in the places where the handles' stood; an empty list is filled with new ones."""
    plt.close(figure)
    for place, shown in enumerate((figure, *pictures)):
        if place < len(handles):
            handles[place].update(shown)
        else:
            handles.append(display(shown, display_id=True))


def figure_arms(histories: pd.DataFrame, caption: str = "", window: int = 10) -> Figure:
    """Eq. 3 over that of real images and the share outside d_ref, over training, a line a run coloured by its arm.

    Args:
        histories: history.csv of several runs, with columns arm and seed; empty where no run was trained.
        caption: what was trained with what.
        window: rows of a history that a point is the mean of.
    """
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    runs = list(histories.groupby(["arm", "seed"], sort=False)) if len(histories) else []
    for (arm, _), run in runs:
        smooth = running_mean(run, window)
        for ax, column in zip(axes, ("hinge_over_floor", "outside"), strict=True):
            line = smooth[column].dropna() if column in smooth else pd.Series(dtype=float)  # not Eq. 3 but another
            if len(line):
                ax.plot(line.index, line, label=str(arm), markevery=0.15, **arm_line(str(arm)))
    axes[0].axhline(1.0, color=REAL, lw=1, ls="--", label="real images")
    axes[0].set(ylabel="Eq. 3 ÷ real images' value", xlabel="step", title="Centroid loss of a batch")
    axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
    axes[1].set(ylabel="share of the batch", xlabel="step", title="Generated images outside d_ref", ylim=(0, None))
    drawn = [ax.get_legend_handles_labels() for ax in reversed(axes)]
    handles = {label: handle for found in drawn for handle, label in zip(*found, strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper left", ncols=4)
    told = (
        f"A line a run, {len(runs)} runs, each the running mean of {window} batches behind the first."
        if runs
        else "No run was trained."
    )
    put_caption(figure, f"{told} The runs: {caption}" if caption else told)
    return figure
