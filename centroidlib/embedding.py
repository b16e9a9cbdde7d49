"""Figure 1 of the paper: where real and generated images lie around their common centroid."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from torch import Tensor

from centroidlib.centroid import CentroidStats
from centroidlib.plots import REAL, arm_colour, put_caption


def polar_embedding(features: Tensor, centroid: Tensor, reference_distance: float, axes_from: int) -> tuple[Tensor, Tensor]:
    """Two embeddings of features (N, d) around the centroid, each (N, 2).

    The first holds the first two principal components of rows 0 to `axes_from`; the second keeps their angle and
    sets the radius to the true distance in units of d_ref, so that the reference ball is the unit circle.
    """
    offsets = features.float() - centroid
    gram = offsets[:axes_from] @ offsets[:axes_from].T
    values, vectors = torch.linalg.eigh(gram.double())
    basis = offsets[:axes_from].T @ (vectors[:, -2:] / values[-2:].clamp(min=1e-30).sqrt()).float()
    flat = (offsets @ basis).flip(1) / reference_distance
    radius = torch.linalg.vector_norm(offsets, dim=1, keepdim=True) / reference_distance
    return flat, flat / torch.linalg.vector_norm(flat, dim=1, keepdim=True) * radius


def figure_embedding(
    real: Tensor,
    fake: Tensor,
    stats: CentroidStats,
    arm: str,
    real_images: Tensor | None = None,
    fake_images: Tensor | None = None,
    caption: str = "",
) -> Figure:
    """Figure 1 of the paper: real and generated images around their common centroid, to 2 d_ref or, where some lie there, more.

    Below them some of the images themselves, from the nearest to the furthest from c.

    Args:
        real: features of real images (N, d); the principal axes are theirs.
        fake: features of generated images (M, d).
        stats: the CentroidStats of Φ.
        arm: name of the run's arm.
        real_images: the real images, uint8 (N, 3, H, W), or None to draw their points only.
        fake_images: the generated images, likewise.
        caption: what was trained with what.
    """
    both = torch.cat([real, fake])
    flat, polar = polar_embedding(both, stats.centroid, stats.reference_distance, len(real))
    rows = {"real": (real_images, polar[: len(real)]), arm: (fake_images, polar[len(real) :])}
    shown = {name: (images, points.norm(dim=1)) for name, (images, points) in rows.items() if images is not None}
    figure = plt.figure(figsize=(11, 5.0 + 1.3 * len(shown)))
    grid = figure.add_gridspec(1 + len(shown), 2, height_ratios=[5.0] + [1.3] * len(shown))
    axes = [figure.add_subplot(grid[0, place]) for place in (0, 1)]
    for ax, points, least in zip(axes, (flat, polar), (1.0, 2.0), strict=True):
        for part, colour, label in ((slice(len(real)), REAL, "real"), (slice(len(real), None), arm_colour(arm), arm)):
            x, y = points[part].T.numpy()
            ax.scatter(x, y, s=9, alpha=0.55, lw=0, color=colour, label=f"{label}, N = {len(points[part]):,}")
        ax.scatter(0, 0, marker="X", s=60, color="black", edgecolor="white", zorder=5, label="centroid c")
        reach = max(least, 1.1 * float(points.norm(dim=1).max()))  # mostly the same in all runs, so that pictures compare
        ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        ax.xaxis.set_major_locator(MultipleLocator(0.5))
        ax.yaxis.set_major_locator(MultipleLocator(0.5))
    for row, (name, (images, distances)) in enumerate(shown.items(), 1):
        _draw_by_distance(figure.add_subplot(grid[row, :]), images, distances, name)
    angles = np.linspace(0, 2 * np.pi, 200)
    axes[1].plot(np.cos(angles), np.sin(angles), color="black", ls="--", lw=1.3, label="d_ref")
    axes[0].set(title="First two principal components", xlabel="1st component / d_ref", ylabel="2nd component / d_ref")
    axes[1].set(title="Same angle, true distance from c as radius", xlabel="units of d_ref", ylabel="units of d_ref")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small", markerscale=1.8)
    put_caption(figure, caption)
    return figure


def _draw_by_distance(ax: Axes, images: Tensor, distances: Tensor, name: str, count: int = 12) -> None:
    """Images at equal ranks of their distance from c, from the nearest to the furthest, each above its distance in d_ref."""
    chosen = distances.argsort()[torch.linspace(0, len(distances) - 1, min(count, len(distances))).round().long()]
    ax.imshow(torch.cat(list(images[chosen]), dim=2).permute(1, 2, 0).numpy(), interpolation="lanczos")
    ax.set_xticks([images.shape[3] * (i + 0.5) for i in range(len(chosen))], [f"{distances[i]:.2f}" for i in chosen])
    ax.set(yticks=[], title=f"{name}: the nearest to c, …, the furthest, each with its distance in d_ref")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
