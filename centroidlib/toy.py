"""The whole idea in two dimensions: a GAN on seven clusters of points, and the ball of Eq. 1 and 2 around their centre."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from IPython.display import DisplayHandle
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor, nn

from centroidlib._files import track, watched
from centroidlib.adversarial import adversarial_loss, discriminator_loss
from centroidlib.plots import REAL, arm_colour, put_caption, show_again
from centroidlib.streams import random_stream

# Five clusters around the middle, where none is, and two far out: of a whole, what is rare lies far from the centre.
CLUSTERS = torch.tensor([(0.9, 0.5), (-0.8, 0.7), (-0.9, -0.6), (0.7, -0.9), (0.0, 1.4), (3.2, 0.4), (-0.6, -3.1)])
SPREAD = 0.12  # standard deviation of a cluster
NEAR = 0.4  # a point nearer than this to a cluster's centre belongs to it
LATENT, WIDTH, BATCH = 4, 64, 128


def draw_points(count: int, seed: int = 0) -> Tensor:
    """Points of seven clusters, as many of each on average, float32 (count, 2)."""
    rng = random_stream(seed, "points")
    return CLUSTERS[torch.randint(len(CLUSTERS), (count,), generator=rng)] + SPREAD * torch.randn(count, 2, generator=rng)


def train_toy(
    real: Tensor,
    constraint: Callable[[Tensor], Tensor] | None = None,
    lambda_: float = 0.0,
    steps: int = 2000,
    seed: int = 0,
    shots: int = 4,
    show: Callable[[Mapping[int, Tensor]], None] | None = None,
) -> dict[int, Tensor]:
    """Algorithm 1 with two small networks, Φ the identity: D and G take turns, G's loss is L_adv + λ · constraint (Eq. 4).

    Args:
        real: points (N, 2).
        constraint: points (B, 2) → scalar; None for the plain GAN.
        lambda_: λ.
        steps: of both networks.
        seed: of initial networks, latents and order; runs of one seed share them.
        shots: how often the generator's points are kept, evenly over the steps, beside those before the first.
        show: called with all that is kept, whenever something is.

    Returns:
        Points of the same 1,000 latents, (1000, 2), by step.
    """
    generator, discriminator = (
        _network(LATENT, 2, random_stream(seed, "generator")),
        _network(2, 1, random_stream(seed, "discriminator")),
    )
    optimisers = [torch.optim.Adam(network.parameters(), 1e-3, (0.5, 0.9)) for network in (generator, discriminator)]
    order, latents = random_stream(seed, "data"), random_stream(seed, "latents")
    fixed = torch.randn(1000, LATENT, generator=random_stream(seed, "samples"))
    kept = {0: generator(fixed).detach()}
    moments = {round(steps * shot / shots) for shot in range(1, shots + 1)}
    for step in track(range(1, steps + 1), "toy GAN"):
        x = real[torch.randint(len(real), (BATCH,), generator=order)]
        fake = generator(torch.randn(BATCH, LATENT, generator=latents))
        loss = discriminator_loss(discriminator(x)[:, 0], discriminator(fake.detach())[:, 0])
        _step(optimisers[1], loss)
        loss = adversarial_loss(discriminator(fake)[:, 0])
        if constraint is not None:
            loss = loss + lambda_ * constraint(fake)
        _step(optimisers[0], loss)
        if step in moments:
            kept[step] = generator(fixed).detach()
            if show is not None:
                show(kept)
    return kept


def cluster_shares(points: Tensor) -> tuple[list[float], float]:
    """The share of points (N, 2) that belong to each cluster, and of those that belong to none."""
    nearest = torch.cdist(points, CLUSTERS).min(1)
    inside = nearest.values < NEAR
    shares = torch.bincount(nearest.indices[inside], minlength=len(CLUSTERS)).double() / len(points)
    return shares.tolist(), float((~inside).double().mean())


def shares_table(clouds: Mapping[str, Tensor], centre: Tensor) -> pd.DataFrame:
    """`cluster_shares` of several sets of points: a row a set, a column a cluster, from the nearest to the centre outwards."""
    order = (CLUSTERS - centre).norm(dim=1).argsort().tolist()
    names = [f"{'far' if CLUSTERS[k].norm() > 2 else 'near'} {place + 1}" for place, k in enumerate(order)]
    rows = {name: cluster_shares(points) for name, points in clouds.items()}
    return pd.DataFrame({name: [shares[k] for k in order] + [none] for name, (shares, none) in rows.items()}, [*names, "none"]).T


def live_view(arm: str, real: Tensor, centre: Tensor, reference: float) -> Callable[[Mapping[int, Tensor]], None] | None:
    """What `train_toy` shows while it runs: in JupyterLab the points so far; None where nobody watches."""
    if not watched():
        return None
    handles: list[DisplayHandle] = []
    return lambda kept: show_again(handles, figure_toy({arm: kept}, real, centre, reference))


def figure_ball(real: Tensor, centre: Tensor, reference: float) -> Figure:
    """The points, their centre, the ball of radius d_ref, and what Eq. 3 costs at every place, in units of d_ref."""
    figure, axes = plt.subplots(figsize=(5.4, 4.6))
    x, y = np.meshgrid(np.linspace(-3.6, 4.4, 161), np.linspace(-4.2, 2.6, 161))
    away = np.hypot(x - float(centre[0]), y - float(centre[1])) / reference
    levels = [0, 1e-9, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    filled = axes.contourf(x, y, np.maximum(0, away - 1), levels=levels, cmap="Greys", alpha=0.6, extend="max")
    figure.colorbar(
        filled, ax=axes, label="centroid loss (Eq. 3), in units of d_ref", ticks=[0, 0.5, 1, 1.5, 2], spacing="proportional"
    )
    _draw(axes, real[:1000], REAL, centre, reference)
    axes.set_title("White costs nothing")
    put_caption(
        figure, f"{len(real):,} real points, of which 1,000 are drawn; the cross is their mean, the circle has radius d_ref"
    )
    return figure


def figure_toy(runs: Mapping[str, Mapping[int, Tensor]], real: Tensor, centre: Tensor, reference: float) -> Figure:
    """Where each arm's points are, step after step: one row an arm."""
    steps = sorted({step for kept in runs.values() for step in kept})
    figure, grid = plt.subplots(
        len(runs), len(steps), figsize=(2.3 * len(steps), 2.2 * len(runs)), squeeze=False, sharex=True, sharey=True
    )
    for row, (arm, kept) in zip(grid, runs.items(), strict=True):
        for axes, step in zip(row, steps, strict=True):
            axes.scatter(real[:300, 0], real[:300, 1], s=2, c=REAL, alpha=0.25, linewidths=0)
            if step in kept:
                _draw(axes, kept[step], arm_colour(arm), centre, reference)
            axes.set_title(f"{arm}, step {step:,}" if axes is row[0] else f"{step:,}", fontsize="small")
    put_caption(
        figure,
        "1,000 generated points in colour, 300 real ones in grey; cross and circle: the real points' mean and d_ref",
    )
    return figure


def _draw(axes: Axes, points: Tensor, colour: str, centre: Tensor, reference: float) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=3, c=colour, alpha=0.5, linewidths=0)
    axes.add_patch(Circle((float(centre[0]), float(centre[1])), reference, fill=False, linestyle="--", color="black"))
    axes.plot(float(centre[0]), float(centre[1]), "k+")
    axes.set(xlim=(-3.6, 4.4), ylim=(-4.2, 2.6), aspect="equal")


def _network(inputs: int, outputs: int, rng: torch.Generator) -> nn.Sequential:
    layers = [nn.Linear(inputs, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, WIDTH), nn.LeakyReLU(0.2), nn.Linear(WIDTH, outputs)]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, 5**0.5, generator=rng)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
