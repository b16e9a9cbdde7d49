"""The explorer: the arms' faces of one latent, where they lie around the centroid, and the widgets that move it."""

import base64
import html
import io
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from centroidlib.centroid import QUANTILES, CentroidStats
from centroidlib.features import FeatureExtractor, to_uint8
from centroidlib.inputs import extractor_of
from centroidlib.models import AnyGenerator
from centroidlib.plots import REAL, arm_colour, put_caption
from centroidlib.runs import read_record
from centroidlib.walking import Generators, latent_of, look, push, walk

FACE, MARGIN, LANE = 240, 16, 18  # of a frame: sides of a face, of its margins and of an arm's bar, pixels
FARTHEST = 1.6  # where a frame's scale ends, in units of d_ref
SHADES = (((0.05, 0.95), "#e4e4e4"), ((0.25, 0.75), "#c8c8c8"))  # of where real images lie, between two quantiles


def load_ball(path: str | Path) -> tuple[FeatureExtractor | None, CentroidStats, str]:
    """Φ, the centroid with d_ref, and a sentence that says what they are; Φ is None where its weights cannot be had.

    Which Φ it is stands in the record that 01_centroid.ipynb left beside the centroid.

    Raises:
        FileNotFoundError: there is no centroid.
        ValueError: it is damaged or was made with another Φ than its record says, or it has no record.
    """
    stats, folder = CentroidStats.load(path), Path(path).parent
    made = read_record(folder).get("stages", {}).get("01_centroid", {}).get("parameters")
    if made is None:
        raise ValueError(f"{folder.name}/run.json does not say with which Φ the centroid was made: run 01_centroid.ipynb again.")
    try:
        phi = extractor_of(made.get("extractor", "vgg16"), made["layer"], made["weights"], made["pool"])
    except FileNotFoundError as error:
        return None, stats, f"Faces only, no distances. {error} Random weights take a centroid of their own (01_centroid.ipynb)."
    told = f"Φ is {phi.name}. Of the {stats.count:,} real images nine in ten lie in the grey band, half in its darker part."
    return phi, CentroidStats.load(path, phi=phi), told


def beginning(files: Mapping[str, str], ball: str, stats: CentroidStats, note: str) -> str:
    """What is explored, as a Markdown list: the arms' generators, the centroid, and what `load_ball` said of it."""
    arms = [f"- **{arm}**: `{file}`" for arm, file in files.items()]
    return "\n".join(
        [*arms, f"- **c** and d_ref = {stats.reference_distance:,.1f}, of {stats.count:,} real images: `{ball}`", "", note]
    )


def answer(distances: Mapping[str, Tensor], pushed: Mapping[str, Tensor], stats: CentroidStats) -> str:
    """The answer of 09: where the arms' faces lie on the walk, and where pushes of its middle lead; without Φ that there is none.

    Args:
        distances: on the walk, by arm, in units of d_ref, (N,).
        pushed: of the middle of the walk, by arm, from four pushes towards c to four away from it, (9,).
        stats: of the real images.
    """
    low, high = (stats.quantiles[[0, -1]] / stats.reference_distance).tolist()
    told = [
        f"`{arm}` lies between {found.min():.2f} and {found.max():.2f} d_ref on this walk; its middle, at "
        f"{pushed[arm][4]:.2f}, comes to {pushed[arm][0]:.2f} by four pushes towards c and to {pushed[arm][-1]:.2f} by four away."
        for arm, found in distances.items()
    ]
    beside = f"Of real images 98 % lie between {low:.2f} and {high:.2f}. One walk is an example: `04` draws many."
    return "**Answer.** " + (" ".join([*told, beside]) if told else "Faces only: see the sentence above.")


def frame(
    latent: Tensor,
    generators: Generators,
    phi: nn.Module | None,
    stats: CentroidStats,
    before: Mapping[str, float] | None = None,
) -> tuple[Image.Image, dict[str, float]]:
    """One picture of what the arms make of a latent (1, latent), and their distances to the centroid in units of d_ref.

    Under the faces a bar an arm reaches from c to its distance, over the distances of real images; a notch is where it
    was `before`. Without Φ there are faces only. It is drawn in pixels: a figure would take longer than the networks.
    """
    images, measured = look(latent, generators, phi, stats)
    distances = {arm: float(distance.detach()) for arm, distance in measured.items()}
    column = max(FACE, *(math.ceil(_font(15).getlength(arm)) for arm in images)) + MARGIN
    width, scale = MARGIN + column * len(images), MARGIN + 2 * 24 + FACE
    picture = Image.new("RGB", (width, scale + (LANE * len(images) + 40 if distances else 0)), "white")
    canvas = ImageDraw.Draw(picture)
    for place, (arm, image) in enumerate(images.items()):
        face = Image.fromarray(to_uint8(image[0]).permute(1, 2, 0).cpu().numpy())
        left = MARGIN + column * place
        canvas.text((left, MARGIN // 2), arm, arm_colour(arm), _font(15))
        picture.paste(face.resize((FACE, FACE), Image.Resampling.BICUBIC), (left, MARGIN // 2 + 24))
        if arm in distances:
            side = "inside" if distances[arm] <= 1 else "outside"
            canvas.text((left, scale - 22), f"{distances[arm]:.2f} d_ref, {side}", REAL, _font(15))
    if distances:
        _draw_scale(canvas, scale + 6, width, distances, before or {}, stats)
    return picture, distances


def _draw_scale(
    canvas: ImageDraw.ImageDraw,
    top: int,
    width: int,
    distances: Mapping[str, float],
    before: Mapping[str, float],
    stats: CentroidStats,
) -> None:
    def across(distance: float) -> int:
        return MARGIN + round(min(distance, FARTHEST) / FARTHEST * (width - 2 * MARGIN))

    bottom = top + LANE * len(distances)
    quantiles = _quantiles(stats)
    for (low, high), shade in SHADES:
        canvas.rectangle((across(quantiles[low]), top, across(quantiles[high]), bottom), shade)
    for lane, (arm, distance) in enumerate(distances.items()):
        middle = top + LANE * lane + LANE // 2
        canvas.rectangle((across(0), middle - 4, across(distance), middle + 4), arm_colour(arm))
        if arm in before:
            canvas.rectangle((across(before[arm]) - 1, middle - 7, across(before[arm]) + 1, middle + 7), REAL)
    for distance, name in ((0.0, "c"), (0.5, "0.5"), (1.0, "d_ref"), (1.5, "1.5")):
        canvas.line((across(distance), top, across(distance), bottom + 4), "black", 2 if distance in (0, 1) else 1)
        canvas.text((across(distance), bottom + 6), name, "black", _font(13), anchor="ma")


def _quantiles(stats: CentroidStats) -> dict[float, float]:
    """Of real images' distances in units of d_ref, by level."""
    return dict(zip(QUANTILES, (stats.quantiles / stats.reference_distance).tolist(), strict=True))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont("DejaVu Sans"), size)  # comes with matplotlib


def figure_latents(
    images: Mapping[str, Tensor],
    distances: Mapping[str, Tensor],
    stats: CentroidStats | None,
    positions: Tensor,
    xlabel: str,
    caption: str = "",
) -> Figure:
    """A row of nine faces an arm, and below where all of its faces lie around the centroid; without distances faces only.

    Args:
        images: by arm, in [-1, 1], (N, 3, H, W).
        distances: by arm, in units of d_ref, (N,), or none.
        stats: of the real images, where there are distances.
        positions: of the latents, evenly spaced, (N,).
        xlabel: what the positions are.
        caption: whose images they are.
    """
    drawn = torch.linspace(0, len(positions) - 1, min(9, len(positions))).round().long()
    half = float(positions[-1] - positions[0]) / (len(drawn) - 1) / 2
    edges = float(positions[0]) - half, float(positions[-1]) + half
    rows = [1.0] * len(images) + [2.2] * bool(distances)
    height = sum(rows) + 0.25 * len(images) + 0.9 * bool(distances)  # a face is as high as it is wide: about an inch
    figure, axes = plt.subplots(
        len(rows), 1, figsize=(9.6 if distances else 8.8, height), sharex=True, squeeze=False, height_ratios=rows
    )
    for ax, (arm, made) in zip(axes[:, 0], images.items(), strict=False):
        strip = torch.cat(list(to_uint8(made[drawn])), dim=2).permute(1, 2, 0).numpy()
        ax.imshow(strip, extent=(*edges, 0, 1), aspect="auto", interpolation="lanczos")
        ax.set_title(arm, color=arm_colour(arm))
        ax.set_axis_off()
    if distances and stats:
        ax = axes[-1, 0]
        quantiles = _quantiles(stats)
        for ((low, high), shade), label in zip(SHADES, ("nine real images in ten", "half of them"), strict=True):
            ax.axhspan(quantiles[low], quantiles[high], color=shade, lw=0, label=label)
        ax.axhline(1.0, color="black", lw=1.3, ls="--", label="d_ref")
        for arm, found in distances.items():
            ax.plot(positions, found, color=arm_colour(arm), lw=2, label=arm)
        ax.set(xlim=edges, ylabel="distance to c / d_ref", xlabel=xlabel)
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=5, fontsize="small", borderpad=0)
    put_caption(figure, caption)
    return figure


def explore(
    generators: Generators, phi: nn.Module | None, stats: CentroidStats, note: str, seeds: tuple[int, int] = (0, 1)
) -> widgets.VBox:
    """The explorer: the seeds of two latents, a slider from one to the other, pushes of where it stands, and the arms to show.

    The note stands under the picture. Whoever moves the slider, or takes another way, leaves pushes behind.
    """
    size = next(iter(generators.values())).latent
    narrow = widgets.Layout(width="170px")
    start, end = (
        widgets.BoundedIntText(value=seed, min=0, max=10**9, description=text, layout=narrow)
        for seed, text in zip(seeds, ("from seed", "to seed"), strict=True)
    )
    position = widgets.FloatSlider(value=0.0, min=0.0, max=1.0, step=0.02, description="position")
    arms = widgets.SelectMultiple(options=list(generators), value=list(generators), rows=len(generators), description="arms")
    inwards, outwards, back = (widgets.Button(description=text) for text in ("push towards c", "push away", "reset"))
    as_drawn = widgets.Layout(align_self="flex-start", max_width="100%")  # a box stretches what it holds
    picture, said = widgets.Image(format="jpeg", layout=as_drawn), widgets.HTML()
    pushed: list[Tensor] = []
    before: dict[str, float] = {}

    def here() -> Tensor:
        return walk(latent_of(start.value, size), latent_of(end.value, size), position.value)

    def shown() -> dict[str, AnyGenerator]:
        return {arm: generators[arm] for arm in arms.value}

    def draw(_: object = None) -> None:
        if not arms.value:
            said.value = "Choose an arm."
            return
        image, distances = frame(pushed[-1] if pushed else here(), shown(), phi, stats, before if pushed else None)
        if not pushed:
            before.clear()
            before.update(distances)
        data = io.BytesIO()
        image.save(data, "JPEG", quality=90, subsampling=0)  # a PNG of it takes nine times as long, and the space of five
        picture.value, said.value = data.getvalue(), html.escape(note)

    def leave(_: object) -> None:
        pushed.clear()
        draw()

    def push_on(button: widgets.Button) -> None:
        if phi is not None and arms.value:
            pushed.append(push(pushed[-1] if pushed else here(), shown(), phi, stats, button is inwards))
            draw()

    for control in (start, end, position):
        control.observe(leave, "value")
    arms.observe(draw, "value")
    for button in (inwards, outwards):
        button.on_click(push_on)
        button.disabled = phi is None
    back.on_click(leave)
    draw()
    return widgets.VBox([widgets.HBox([start, position, end]), widgets.HBox([inwards, outwards, back, arms]), picture, said])


def show(explorer: widgets.VBox) -> None:
    """Display the explorer, with its picture as it is now for whoever reads without widgets, as on a code host."""
    shown = dict(explorer._repr_mimebundle_())
    shown |= {"image/jpeg": base64.b64encode(explorer.children[2].value).decode(), "text/plain": "The explorer."}
    display(shown, raw=True)
