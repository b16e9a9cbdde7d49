"""Tests of the toy GAN in the plane."""

import pytest
import torch

from centroidlib import constraint_of, toy


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
    assert toy.live_view("baseline", real, real.mean(0), 1.7) is None  # nobody watches
