"""Figure 1 of the paper: where real and generated images lie around their common centroid."""

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
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
    thumbnails: Tensor | None = None,
    fake_images: Tensor | None = None,
    caption: str = "",
) -> Figure:
    """Figure 1 of the paper: real and generated images around their common centroid, to 2 d_ref or, where some lie there, more.

    Args:
        real: features of real images (N, d); the principal axes are theirs.
        fake: features of generated images (M, d).
        stats: the CentroidStats of Φ.
        arm: name of the run's arm.
        thumbnails: real images to draw at some of their points, uint8, or None to draw points only.
        fake_images: the same of generated images.
        caption: what was trained with what.
    """
    both = torch.cat([real, fake])
    flat, polar = polar_embedding(both, stats.centroid, stats.reference_distance, len(real))
    figure, axes = plt.subplots(1, 2, figsize=(11, 5.4))
    for ax, points, least in zip(axes, (flat, polar), (1.0, 2.0), strict=True):
        for part, colour, label in ((slice(len(real)), REAL, "real"), (slice(len(real), None), arm_colour(arm), arm)):
            ax.scatter(*points[part].T.numpy(), s=9, alpha=0.55, lw=0, color=colour, label=f"{label}, N = {len(points[part]):,}")
        ax.scatter(0, 0, marker="X", s=110, color="black", edgecolor="white", zorder=5, label="centroid c")
        reach = max(least, 1.1 * float(points.norm(dim=1).max()))  # mostly the same in all runs, so that pictures compare
        ax.set(aspect="equal", xlim=(-reach, reach), ylim=(-reach, reach))
        ax.xaxis.set_major_locator(MultipleLocator(0.5))
        ax.yaxis.set_major_locator(MultipleLocator(0.5))
    for pictures, first in ((thumbnails, 0), (fake_images, len(real))):
        for i, image in enumerate(pictures[:12] if pictures is not None else []):
            box = OffsetImage(image.permute(1, 2, 0).numpy(), zoom=0.4)
            axes[1].add_artist(AnnotationBbox(box, (float(polar[first + i, 0]), float(polar[first + i, 1])), frameon=False))
    angles = np.linspace(0, 2 * np.pi, 200)
    axes[1].plot(np.cos(angles), np.sin(angles), color="black", ls="--", lw=1.3, label="d_ref")
    axes[0].set(title="First two principal components", xlabel="1st component / d_ref", ylabel="2nd component / d_ref")
    axes[1].set(title="Same angle, true distance from c as radius", xlabel="units of d_ref", ylabel="units of d_ref")
    axes[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
    put_caption(figure, caption)
    return figure
