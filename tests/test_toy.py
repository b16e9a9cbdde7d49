"""Tests of the toy GAN in the plane."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from centroidlib import constraint_of, plots, toy


@pytest.fixture(autouse=True)
def closed_figures():
    plots.use_style()
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def real():
    return toy.draw_points(4000)


def test_the_points_are_of_seven_clusters_alike(real):
    shares, none = toy.cluster_shares(real)
    assert len(shares) == 7
    assert shares == pytest.approx([1 / 7] * 7, abs=0.03)
    assert none < 0.02
    assert torch.equal(real, toy.draw_points(4000))
    assert not torch.equal(real, toy.draw_points(4000, seed=1))


def test_shares_are_of_the_points_at_each_cluster():
    points = toy.CLUSTERS[[0, 0, 5, 6]]
    shares, none = toy.cluster_shares(torch.cat([points, torch.zeros(4, 2)]))
    assert shares == [0.25, 0, 0, 0, 0, 0.125, 0.125]
    assert none == 0.5
    table = toy.shares_table({"these": points}, torch.zeros(2))
    assert list(table) == ["near 1", "near 2", "near 3", "near 4", "near 5", "far 6", "far 7", "none"]
    assert table.loc["these"].tolist() == [0.5, 0, 0, 0, 0, 0.25, 0.25, 0]  # from the nearest to the centre outwards


def test_a_run_is_from_its_seed_and_arms_share_their_beginning(real):
    loss = constraint_of("band", real, "none", toy.BATCH)  # Eq. 3 itself costs nothing where generators begin
    plain, again, pulled = (toy.train_toy(real, *given, steps=4, shots=2) for given in ((), (), (loss, 5.0)))
    assert list(plain) == [0, 2, 4]
    assert all(torch.equal(plain[step], again[step]) for step in plain)
    assert torch.equal(plain[0], pulled[0])
    assert not torch.equal(plain[2], pulled[2])
    assert not torch.equal(plain[0], toy.train_toy(real, steps=1, seed=1)[0])


def test_snapshots_are_spread_evenly(real):
    assert list(toy.train_toy(real, steps=7, shots=4)) == [0, 2, 4, 5, 7]


def test_a_strong_pull_keeps_all_points_inside_the_ball(real):
    loss = constraint_of("hinge", real, "none", toy.BATCH)
    seen = []
    kept = toy.train_toy(real, loss, 50.0, steps=150, shots=3, show=lambda so_far: seen.append(list(so_far)))
    assert seen == [[0, 50], [0, 50, 100], [0, 50, 100, 150]]
    assert loss(kept[150]).item() < 0.01
    assert toy.cluster_shares(kept[150])[0][5:] == [0, 0]


def test_what_the_loss_does_not_see_costs_nothing(real):
    centre, reference = real.mean(0), float((real - real.mean(0)).norm(dim=1).mean())
    loss = constraint_of("hinge", real, "none", toy.BATCH)
    clouds = toy.blind_spots(real, centre, reference)
    prices = {name: loss(points).item() for name, points in clouds.items()}
    assert {len(points) for points in clouds.values()} == {1000}
    assert prices.pop("real points") > 0.1
    assert list(prices.values()) == pytest.approx([0, 0, 0], abs=1e-6)
    assert (clouds["all at the centre"] - centre).norm(dim=1).max() < 0.3  # where no real point is
    assert (real - centre).norm(dim=1).min() > 0.4
    assert max(toy.cluster_shares(clouds["all at one cluster"])[0]) > 0.98
    assert 0.9 < ((clouds["anywhere in the ball"] - centre).norm(dim=1) / reference).max() <= 1 + 1e-5
    figure = toy.figure_blind(clouds, prices | {"real points": 0.2}, centre, reference)
    assert [axes.get_title(loc="left") for axes in figure.axes][:2] == ["real points pay 0.200", "all at the centre pay 0.000"]


@pytest.mark.parametrize(
    ("far", "none", "words"),
    [
        ((0.3, 0.0), (0.4, 0.1), ["With the pull more of what is made is like", "the far clusters are no longer made."]),
        ((0.3, 0.1), (0.1, 0.4), ["With the pull less of what is made is like", "the far clusters are made less often."]),
        ((0.1, 0.3), (0.3, 0.32), ["With the pull about as much of what is made", "the far clusters are made more often."]),
        ((0.2, 0.22), (0.3, 0.3), ["made about as often as without it."]),
    ],
)
def test_the_answer_follows_from_the_shares(far, none, words):
    table = pd.DataFrame({"far 6": [0.28, *far], "none": [0.005, *none]}, ["real", "baseline", "centroid"])
    table.insert(0, "near 1", 1 - table.sum(axis=1))
    said = toy.answer(table, {"real points": 0.21, "all at the centre": 0.0, "far out": 0.5})
    assert all(word in said for word in words), said
    assert f"at none lie {none[0]:.0%} and {none[1]:.0%} (in the data 0.5%)" in said
    assert said.endswith("it cannot see: all at the centre, all this costs nothing, while real points pay 0.210.")


def test_figures_show_every_arm_at_every_step(real):
    runs = {"baseline": toy.train_toy(real, steps=4, shots=2), "centroid": toy.train_toy(real, steps=4, shots=2, seed=1)}
    figure = toy.figure_toy(runs, real, real.mean(0), 1.7)
    assert [axes.get_title("left") or axes.get_title() for axes in figure.axes] == [
        "baseline, step 0",
        "2",
        "4",
        "centroid, step 0",
        "2",
        "4",
    ]
    assert len(toy.figure_ball(real, real.mean(0), 1.7).axes) == 2
    shares = toy.shares_table({"real": real} | {arm: kept[4] for arm, kept in runs.items()}, real.mean(0))
    (axes,) = toy.figure_shares(shares, "Seed 0.").axes
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(shares.to_numpy().ravel().tolist())
    colours = {text.get_text() for text in axes.get_legend().get_texts()}
    assert colours == {"real", "baseline", "centroid"}
    assert all(figure.get_supxlabel() for figure in map(plt.figure, plt.get_fignums()))  # captions
    assert toy.live_view("baseline", real, real.mean(0), 1.7) is None  # nobody watches
