"""Tests of a measurement's figures: what they draw, from plain tables."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from centroidlib import plots
from centroidlib.evaluation import comparisons, figures


@pytest.fixture(autouse=True)
def closed_figures():
    plots.use_style()
    yield
    plt.close("all")


def entry(value, **more):
    known = {"value": value, "low": value - 0.1, "high": value + 0.1, "floor": 0.5, "floor_heldout": None, "floor_n": 100}
    return known | {"value_at_floor_n": value + 0.2, "n_real": 200, "n_fake": 200, "seen_by_loss": False} | more


def measured(**more):
    names = ("precision", "recall", "density", "coverage")
    found = {"fid": entry(3.0, **more), "fid_inf": entry(2.8, value_at_floor_n=None, floor=0.0)}
    return found | {name: entry(0.5, **more) for name in names}


def heights(ax):
    points = [line for line in ax.lines if line.get_marker() != "None"]
    return sorted(float(y) for line in points if len(line.get_ydata()) == 1 for y in line.get_ydata())


def test_a_measurement_is_drawn_at_its_n_at_the_floors_n_and_extrapolated():
    left, right = figures.figure_measured(measured(), ["fid"], "centroid").axes
    points = {(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in left.lines if len(line.get_xdata()) == 1}
    assert points == {(1 / 200, 3.0), (0.0, 2.8), (1 / 100, 3.2), (1 / 100, 0.5)}
    intervals = [line for line in left.lines if len(line.get_xdata()) == 2 and len(set(line.get_xdata())) == 1]
    assert [tuple(line.get_ydata()) for line in intervals] == [pytest.approx((2.7, 2.9)), pytest.approx((2.9, 3.1))]
    assert left.get_title(loc="left") == "fid"
    assert heights(right) == [0.5] * 4


def test_held_out_images_and_the_losss_own_space_are_marked():
    left, right = figures.figure_measured(measured(floor_heldout=0.6, seen_by_loss=True), ["fid"], "centroid").axes
    assert left.get_title(loc="left") == "fid (seen by the loss)"
    assert 0.6 in heights(left)
    assert heights(right).count(0.6) == 4


def test_what_was_not_measured_is_not_drawn():
    bare = entry(3.0, low=None, high=None, floor=None, floor_n=None, value_at_floor_n=None, n_real=None)
    left, right = figures.figure_measured({"fid": bare}, ["fid"], "centroid").axes
    assert heights(left) == [3.0]
    assert heights(right) == []


def test_every_run_and_its_interval_is_drawn():
    rows = pd.DataFrame({"arm": ["baseline", "baseline", "centroid"], "seed": [0, 1, 0], "fid": [3.0, 3.5, 2.0], "recall": 0.5})
    rows["protocol"] = ""
    for name in ("fid", "recall"):
        rows = rows.assign(**{f"{name}_floor": 1.0, f"{name}_low": [2.5, np.nan, 1.5], f"{name}_high": [3.2, np.nan, 2.5]})
    ax, other = comparisons.figure_metrics(rows, {"fid": ["fid", "recall"]}, {"fid": "lower", "recall": "higher"}).axes
    assert heights(ax) == [2.0, 3.0, 3.5]
    assert [3.0, 2.0] in [list(line.get_ydata()) for line in ax.lines]  # a line from arm to arm for the seed that both have
    bars = [tuple(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2 and line.get_linewidth() > 1]
    assert bars == [(2.5, 3.2), (1.0, 1.0), (1.5, 2.5), (1.0, 1.0)]
    assert (ax.get_title(loc="left"), other.get_xlabel()) == ("fid", "higher is better")


def test_held_out_images_and_what_the_loss_has_seen_are_marked_beside_the_arms():
    rows = pd.DataFrame({"arm": ["baseline", "centroid"], "seed": 0, "protocol": "", "fid": [3.0, 2.0]})
    rows = rows.assign(fid_floor=1.0, fid_low=np.nan, fid_high=np.nan, fid_floor_heldout=1.2, fid_seen_by_loss=True)
    (ax,) = comparisons.figure_metrics(rows, {"fid": ["fid"]}, {"fid": "lower"}).axes
    assert heights(ax) == [1.2, 1.2, 2.0, 3.0]
    assert (ax.get_title(loc="left"), ax.get_xlabel()) == ("fid", "lower is better (seen)")


def test_many_metrics_are_drawn_no_wider_than_a_page_with_the_arms_names_below_each_column():
    names = ["fid_768", "kid_768", "precision_768", "recall_768", "density_768", "lpips_alex"]
    rows = pd.DataFrame({"arm": ["baseline", "centroid"], "seed": 0, "protocol": ""}).assign(**dict.fromkeys(names, 0.5))
    rows = rows.assign(**{f"{name}_{part}": np.nan for name in names for part in ("low", "high", "floor")})
    groups, better = {"fid_768": names[:5], "images": names[5:]}, dict.fromkeys(names, "lower")
    figure = comparisons.figure_metrics(rows, groups, better, "Measured so.")
    assert figure.get_figwidth() * plt.rcParams["figure.dpi"] <= 900
    assert [ax.get_title(loc="left") for ax in figure.axes] == names
    named = [any(label.get_text() for label in ax.get_xticklabels()) for ax in figure.axes]
    assert named == [False, True, True, True, False, True]
    labels = ["Fréchet distance", "MMD²", "share of images", "share of images", "ratio", "distance of pairs"]
    assert [ax.get_ylabel() for ax in figure.axes] == labels
    caption = figure.get_supxlabel().replace("\n", " ")
    assert caption.endswith("a line a seed. Runs: 1 baseline, 1 centroid. Measured so.")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "centroid", "real images"]


@pytest.mark.parametrize("drawn", [True, False])
def test_neighbours_are_drawn_only_where_they_may_be(drawn):
    fake = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    figure = figures.figure_neighbours(fake, fake if drawn else None, torch.rand(20), {"training": torch.rand(20)}, "centroid")
    assert sum(bool(ax.images) for ax in figure.axes) == (6 if drawn else 3)


def test_ratios_are_bars_to_either_side_of_1():
    ratios = pd.DataFrame({"work": ["step", "a batch"], "precision": ["float32", "–"], "ratio": [0.5, 8.0], "machine": "CPU"})
    figure = figures.figure_ratios(ratios, 3)
    (ax,) = figure.axes
    assert "CPU. Ratios of medians of 3 timed turns" in figure.get_supxlabel().replace("\n", " ")
    assert [(bar.get_x(), bar.get_width()) for bar in ax.patches] == [(1.0, -0.5), (1.0, 7.0)]
    assert [text.get_text() for text in ax.texts] == ["0.50×", "8.00×"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["step, float32", "a batch"]
    assert ax.get_xlim()[0] < 0.5 < 8.0 < ax.get_xlim()[1]


def test_protocols_are_drawn_apart_each_beside_its_floor():
    rows = pd.DataFrame({"arm": "baseline", "seed": 0, "fid": [3.0, 9.0], "fid_low": np.nan, "fid_high": np.nan})
    rows = rows.assign(protocol=["resize = bilinear", "resize = lanczos"], fid_floor=[1.0, 4.0])
    (ax,) = comparisons.figure_metrics(rows, {"fid": ["fid"]}, {"fid": "lower"}).axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["baseline\nresize = bilinear", "baseline\nresize = lanczos"]
    assert [tuple(line.get_ydata()) for line in ax.lines if len(line.get_ydata()) == 2] == [(1.0, 1.0), (4.0, 4.0)]


def test_a_ratio_below_0_is_drawn_at_the_end_of_the_scale():
    ratios = pd.DataFrame({"work": ["what the loss adds", "step"], "ratio": [-0.5, 2.0]})
    ratios = ratios.assign(precision="float32", machine="CPU")
    figure = figures.figure_ratios(ratios, 3)
    figure.canvas.draw()
    assert figure.axes[0].get_xlim()[0] > 0
    assert [text.get_text() for text in figure.axes[0].texts] == ["-0.50×", "2.00×"]
