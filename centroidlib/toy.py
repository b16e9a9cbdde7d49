"""The whole idea in two dimensions: a GAN on seven clusters of points, and the ball of Eq. 1 and 2 around their centre."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import torch
from IPython.display import DisplayHandle
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import PercentFormatter
from torch import Tensor, nn

from centroidlib._files import track, watched
from centroidlib.adversarial import adversarial_loss, discriminator_loss
from centroidlib.plots import REAL, arm_colour, put_caption, show_again
from centroidlib.streams import random_stream

# Five clusters around the middle, where none is, and two far out: of faces, what is unusual lies far from the centre.
CLUSTERS = torch.tensor([(0.9, 0.5), (-0.8, 0.7), (-0.9, -0.6), (0.7, -0.9), (0.0, 1.4), (3.2, 0.4), (-0.6, -3.1)])
SPREAD = 0.12  # standard deviation of a cluster
NEAR = 0.4  # a point nearer than this to a cluster's centre belongs to it
LATENT, WIDTH, BATCH = 4, 64, 128
WIDE, HIGH = (-3.6, 4.4), (-4.2, 2.6)  # what of the plane is drawn


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
    optimisers = [torch.optim.Adam(network.parameters(), 1e-3, (0.5, 0.9), fused=True) for network in (generator, discriminator)]
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


def blind_spots(real: Tensor, centre: Tensor, reference: float, seed: int = 0) -> dict[str, Tensor]:
    """Real points, and as many that Eq. 3 finds no fault with, by what is wrong with them: each (1000, 2)."""
    rng, count = random_stream(seed, "blind spots"), 1000
    nearest = CLUSTERS[(CLUSTERS - centre).norm(dim=1).argmin()]
    angles, areas = 2 * torch.pi * torch.rand(count, generator=rng), torch.rand(count, generator=rng)
    disc = torch.stack([angles.cos(), angles.sin()], 1) * areas.sqrt()[:, None]
    return {
        "real points": real[:count],
        "all at the centre": centre + 0.5 * SPREAD * torch.randn(count, 2, generator=rng),
        "all at one cluster": nearest + SPREAD * torch.randn(count, 2, generator=rng),
        "anywhere in the ball": centre + reference * disc,
    }


def live_view(arm: str, real: Tensor, centre: Tensor, reference: float) -> Callable[[Mapping[int, Tensor]], None] | None:
    """What `train_toy` shows while it runs: in JupyterLab the points so far; None where nobody watches."""
    if not watched():
        return None
    handles: list[DisplayHandle] = []
    return lambda kept: show_again(handles, figure_toy({arm: kept}, real, centre, reference))


def figure_ball(real: Tensor, centre: Tensor, reference: float) -> Figure:
    """The points, their centre, the ball of radius d_ref, and what Eq. 3 costs at every place, in units of d_ref."""
    figure, axes = plt.subplots(figsize=(7, 5.6))
    filled = _costs(axes, centre, reference)
    figure.colorbar(filled, ax=axes, label="Eq. 3 at this place, in units of d_ref", ticks=[0, 0.5, 1, 1.5, 2])
    _draw(axes, real[:1000], REAL, centre, reference)
    axes.set(title="White costs nothing", xlabel="1st coordinate", ylabel="2nd coordinate")
    told = (
        f"{len(real):,} real points, of which 1,000 are drawn; the cross is their mean c, the dashed circle has the radius d_ref,"
    )
    put_caption(figure, f"{told} {reference:.2f}.")
    return figure


def figure_blind(clouds: Mapping[str, Tensor], prices: Mapping[str, float], centre: Tensor, reference: float) -> Figure:
    """Sets of points side by side on what Eq. 3 costs at every place, each with what it pays on average."""
    figure, row = plt.subplots(1, len(clouds), figsize=(2.6 * len(clouds), 3.4), sharey=True)
    for axes, (name, points) in zip(row, clouds.items(), strict=True):
        _costs(axes, centre, reference)
        _draw(axes, points, REAL, centre, reference)
        axes.set_title(f"{name} pay {prices[name]:.3f}", fontsize="small")
        axes.set(xlabel="1st coordinate", ylabel="2nd coordinate" if axes is row[0] else "")
    counts = f"{len(next(iter(clouds.values()))):,} points each"
    put_caption(figure, f"{counts}; their price is Eq. 3, in units of d_ref. Shading, cross and circle as in the figure before.")
    return figure


def figure_toy(
    runs: Mapping[str, Mapping[int, Tensor]], real: Tensor, centre: Tensor, reference: float, caption: str = ""
) -> Figure:
    """Where each arm's points are, step after step: one row an arm; `caption` says how they were trained."""
    steps = sorted({step for kept in runs.values() for step in kept})
    size = (2.15 * len(steps), 2.1 * len(runs) + 0.9)
    figure, grid = plt.subplots(len(runs), len(steps), figsize=size, squeeze=False, sharex=True, sharey=True)
    for row, (arm, kept) in zip(grid, runs.items(), strict=True):
        for axes, step in zip(row, steps, strict=True):
            axes.scatter(real[:300, 0], real[:300, 1], s=2, c=REAL, alpha=0.25, linewidths=0)
            if step in kept:
                _draw(axes, kept[step], arm_colour(arm), centre, reference)
            axes.set_title(f"{arm}, step {step:,}" if axes is row[0] else f"{step:,}", fontsize="small")
    figure.supylabel("2nd coordinate", fontsize="medium")
    for axes in grid[-1]:
        axes.set(xlabel="1st coordinate")
    told = "1,000 generated points in colour, 300 real ones in grey; cross and circle: the real points' mean c and d_ref."
    put_caption(figure, f"{told} {caption}".strip())
    return figure


def figure_shares(shares: pd.DataFrame, caption: str = "") -> Figure:
    """The shares of `shares_table` as bars, a group a cluster; dashed what each would hold were all alike."""
    figure, axes = plt.subplots(figsize=(9, 3.2))
    width = 0.8 / len(shares)
    for place, (name, row) in enumerate(shares.iterrows()):
        colour, hatch = (REAL, "") if name == "real" else (arm_colour(str(name)), "//" if place > 1 else "")
        middles = np.arange(len(row)) + (place - (len(shares) - 1) / 2) * width
        axes.bar(middles, row, width, color=colour, hatch=hatch, edgecolor="white", linewidth=0, label=str(name))
    axes.axhline(1 / len(CLUSTERS), color="black", lw=1, ls="--")
    axes.set(xticks=range(shares.shape[1]), xticklabels=list(shares), ylabel="share of points", xlabel="cluster, from c outwards")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend()
    put_caption(figure, caption)
    return figure


def answer(shares: pd.DataFrame, prices: Mapping[str, float], count: int = 1000) -> str:
    """What training without and with the pull made, and what Eq. 3 does not see, in sentences.

    Args:
        shares: of `shares_table`, with the rows `real`, `baseline` and `centroid`.
        prices: what sets of points pay, `real points` among them.
        count: points of each arm; what is within twice its standard error is not called a difference.
    """
    far, near = (shares[[name for name in map(str, shares) if name.startswith(kind)]].sum(axis=1) for kind in ("far", "near"))
    none, free = shares["none"], [name for name, price in prices.items() if price < 1e-3]
    like_real = {"less": "more", "more": "less", "about as much": "about as much"}[_compare(none, count)]
    less = "are no longer made" if far["centroid"] < 0.005 else "are made less often"
    often = {"less": less, "more": "are made more often", "about as much": "are made about as often as without it"}
    return (
        f"Of what the plain GAN makes {near['baseline']:.0%} lie at the five near clusters and {far['baseline']:.0%} at the two "
        f"far ones; with the pull {near['centroid']:.0%} and {far['centroid']:.0%} (in the data {near['real']:.0%} and "
        f"{far['real']:.0%}); at none lie {none['baseline']:.0%} and {none['centroid']:.0%} (in the data {none['real']:.1%}). "
        f"With the pull {like_real} of what is made is like something real, and the far clusters "
        f"{often[_compare(far, count)]}. Where in the ball points lie it cannot see: {', '.join(free)}, all this costs nothing, "
        f"while real points pay {prices['real points']:.3f}."
    )


def _compare(values: pd.Series, count: int) -> str:
    """Whether the pull's share is more, less or about as much as the plain GAN's, as far as so many points can tell."""
    plain, pulled = float(values["baseline"]), float(values["centroid"])
    error = ((plain * (1 - plain) + pulled * (1 - pulled)) / count) ** 0.5
    if abs(pulled - plain) <= 2 * error:
        return "about as much"
    return "more" if pulled > plain else "less"


def _costs(axes: Axes, centre: Tensor, reference: float) -> ContourSet:
    x, y = np.meshgrid(np.linspace(*WIDE, 161), np.linspace(*HIGH, 161))
    away = np.hypot(x - float(centre[0]), y - float(centre[1])) / reference
    shades = plt.get_cmap("Greys")(np.linspace(0.15, 0.6, 8))  # white is kept for what costs nothing
    levels = [1e-9, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]
    return axes.contourf(x, y, np.maximum(0, away - 1), levels=levels, colors=shades, extend="max")


def _draw(axes: Axes, points: Tensor, colour: str, centre: Tensor, reference: float) -> None:
    axes.scatter(points[:, 0], points[:, 1], s=3, c=colour, alpha=0.5, linewidths=0)
    axes.add_patch(Circle((float(centre[0]), float(centre[1])), reference, fill=False, linestyle="--", color="black"))
    axes.plot(float(centre[0]), float(centre[1]), "k+")
    axes.set(xlim=WIDE, ylim=HIGH, aspect="equal")


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
