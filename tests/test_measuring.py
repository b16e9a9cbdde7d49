"""Tests of what is measured: every metric with its floor and interval, in the form that DESIGN.md writes."""

import warnings

import pytest
import torch
from torch import nn

import centroidlib as cl
from centroidlib.evaluation import Observed, Space, measuring

ENTRY = {"value", "standard_error", "low", "high", "interval", "floor", "floor_heldout", "floor_n", "value_at_floor_n"}
ENTRY |= {"n_real", "n_fake", "seen_by_loss", "better"}
METRICS = ("kid", "precision", "recall", "density", "coverage", "nearest")


class Apart(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, a, b):
        return (a - b).abs().mean(dim=(1, 2, 3))


class Colours(nn.Module):
    """Mean colours of the upper and lower half, d = 6."""

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, (2, 1)).flatten(1)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Drawn faces in two small spaces; other drawn faces, blurred, stand in for a generator's images."""
    real, held_out = cl.draw_faces(240, seed=2)[0], cl.draw_faces(70, seed=4)[0]
    fake = cl.to_uint8(nn.functional.avg_pool2d(cl.to_float(cl.draw_faces(130, seed=3)[0]), 5, 1, 2) * 0.9)
    phi = cl.VGG16Features(2, "random")
    stats = cl.compute_centroid(real, phi)
    pooled = cl.VGG16Features(2, "random", pool=True)
    spaces = [Space("fd_colours", Colours(), False), Space(f"fd_{phi.name}", nn.Sequential(pooled, nn.Linear(64, 8)), True)]
    spaces[1].network.requires_grad_(False)
    networks = {"alex": Apart()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CENTROIDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        seen = cl.observe_images(real, spaces, lpips=networks, pairs=50)
        others = cl.observe_images(held_out, spaces, phi, stats, networks, 30)
        made = cl.observe(fake.split(64), 130, spaces, phi, stats, networks, 65)
    floors = cl.measure_real(seen, spaces, stats, 100, others)
    return seen, others, made, spaces, stats, floors, cl.measure(made, seen, spaces, stats, floors)


def names_in(space):
    return {space.name, f"{space.name}_inf"} | {space.named(metric) for metric in METRICS}


def test_entries_are_those_of_the_design(setting):
    *_, spaces, _, floors, entries = setting
    assert (
        set(entries) == set(floors) == names_in(spaces[0]) | names_in(spaces[1]) | {"lpips_alex", "inside_d_ref", "centre_offset"}
    )
    assert all(set(entry) == ENTRY for entry in entries.values())
    assert {n for n, e in entries.items() if e["better"] == "lower"} == {
        *(n for s in spaces for n in (s.name, f"{s.name}_inf", s.named("kid"))),
        "centre_offset",
    }
    assert {n for n, e in entries.items() if e["better"] == "higher"} == {
        s.named(m) for s in spaces for m in ("precision", "recall", "coverage")
    }
    seen = names_in(spaces[1]) | {"inside_d_ref", "centre_offset"}
    assert {n for n, e in entries.items() if e["seen_by_loss"]} == seen
    for name, entry in entries.items():
        assert (entry["floor"], entry["floor_heldout"]) == (floors[name]["floor"], floors[name]["floor_heldout"])
        assert entry["floor"] is not None
        assert entry["floor_heldout"] is not None


def test_values_are_those_of_the_metrics(setting):
    real, _, fake, (space, _), stats, _, entries = setting
    a, b = real.features["fd_colours"], fake.features["fd_colours"]
    assert entries["fd_colours"]["value"] == pytest.approx(cl.frechet_distance(a, b), rel=1e-9)
    assert (entries["fd_colours"]["n_real"], entries["fd_colours"]["n_fake"]) == (240, 130)
    assert entries["kid_colours"]["value"] == pytest.approx(cl.kernel_distance(a, b), rel=1e-9)
    precision, recall = cl.precision_recall(a, b)
    density, coverage = cl.density_coverage(a, b)
    found = [entries[space.named(m)]["value"] for m in METRICS[1:5]]
    assert found == pytest.approx([precision, recall, density, coverage])
    assert (entries["recall_colours"]["n_real"], entries["recall_colours"]["n_fake"]) == (240, 130)
    nearest = torch.cdist(b.double(), a.double()).min(1).values.mean()
    assert entries["nearest_colours"]["value"] == pytest.approx(float(nearest), rel=1e-6)
    inside = (fake.distances <= stats.reference_distance).double().mean()
    assert entries["inside_d_ref"]["value"] == float(inside)
    offset = (fake.group_means.mean(0) - stats.centroid.double()).norm() / stats.reference_distance
    assert entries["centre_offset"]["value"] == pytest.approx(float(offset), rel=1e-6)
    assert entries["lpips_alex"]["value"] == pytest.approx(float(fake.lpips["alex"].double().mean()))


def test_every_value_lies_in_its_interval(setting):
    *_, entries = setting
    for name, entry in entries.items():
        assert entry["interval"] is not None, name
        assert entry["low"] <= entry["value"] <= entry["high"], name
        assert entry["standard_error"] > 0
    methods = {n: e["interval"] for n, e in entries.items()}
    assert methods["fd_colours"] == methods["recall_colours"] == methods["centre_offset"] == "jackknife 95 %"
    assert methods["lpips_alex"] == methods["nearest_colours"] == "t 95 %"
    assert methods["inside_d_ref"] == "Wilson 95 %"


def test_floors_and_the_arms_value_are_measured_at_one_n(setting):
    real, others, fake, _, _, floors, entries = setting
    order = measuring.shuffled(real.features["fd_colours"])
    first, second = order[:70], order[120:190]
    other, made = (measuring.shuffled(seen.features["fd_colours"])[:70] for seen in (others, fake))
    measures = {"fd": cl.frechet_distance, "kid": cl.kernel_distance, "recall": lambda a, b: cl.precision_recall(a, b)[1]}
    measures["coverage"] = lambda a, b: cl.density_coverage(a, b)[1]
    for metric, found in measures.items():
        floor, entry = floors[f"{metric}_colours"], entries[f"{metric}_colours"]
        assert floor["n"] == entry["floor_n"] == 70  # no more are held out
        assert floor["floor"] == pytest.approx(found(first, second), rel=1e-9)
        assert floor["floor_heldout"] == pytest.approx(found(first, other), rel=1e-9)
        assert entry["value_at_floor_n"] == pytest.approx(found(first, made), rel=1e-9)
    for name in ("fd_colours_inf", "nearest_colours", "lpips_alex", "inside_d_ref"):
        assert entries[name]["value_at_floor_n"] is entries[name]["floor_n"] is None


@pytest.mark.parametrize(("samples", "n"), [(50, 50), (1000, 120)])
def test_floors_are_of_no_more_images_than_there_are_or_will_be(setting, samples, n):
    real, _, _, spaces, stats, *_ = setting
    assert cl.measure_real(real, spaces, stats, samples)["fd_colours"]["n"] == n
    assert cl.measure_real(real, spaces, stats, samples)["fd_colours"]["floor_heldout"] is None


def test_a_floor_of_more_images_than_were_generated_has_no_partner(setting):
    real, _, fake, spaces, stats, *_ = setting
    floors = cl.measure_real(real, spaces, stats, 120)
    few = Observed(100, {name: values[:100] for name, values in fake.features.items()})
    entries = cl.measure(few, real, spaces, None, floors)
    assert entries["fd_colours"]["value_at_floor_n"] is None
    assert entries["coverage_colours"]["value_at_floor_n"] is None
    assert "inside_d_ref" not in entries


def test_pairwise_metrics_are_of_a_bounded_number_of_images(setting, monkeypatch):
    real, _, fake, spaces, _, *_ = setting
    monkeypatch.setattr(measuring, "PAIRWISE_AT_MOST", 50)
    floors = cl.measure_real(real, spaces, None, 100)
    entries = cl.measure(fake, real, spaces, None, floors)
    for metric in ("kid", "precision", "recall", "density", "coverage"):
        entry = entries[f"{metric}_colours"]
        assert (entry["n_real"], entry["n_fake"], entry["floor_n"]) == (50, 50, 50)
    assert (entries["fd_colours"]["n_fake"], entries["fd_colours"]["floor_n"]) == (130, 100)
    order = measuring.shuffled(real.features["fd_colours"])
    assert floors["recall_colours"]["floor"] == pytest.approx(cl.precision_recall(order[:50], order[120:170])[1])
    made = measuring.shuffled(fake.features["fd_colours"])[:50]
    assert entries["recall_colours"]["value"] == pytest.approx(cl.precision_recall(order[:50], made)[1])


@pytest.mark.parametrize("few", ["real", "held_out", "fake"])
def test_fewer_images_than_neighbours_leave_out_what_needs_neighbours(setting, few):
    real, others, fake, spaces, *_ = setting
    sets = {"real": real, "held_out": others, "fake": fake}
    sets[few] = Observed(5, {"fd_colours": sets[few].features["fd_colours"][:5]})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "(2|4|5) .* images for 6 dimensions")
        floors = cl.measure_real(sets["real"], spaces[:1], None, 100, sets["held_out"])
        entries = cl.measure(sets["fake"], sets["real"], spaces[:1], None, floors)
    assert {"fd_colours", "kid_colours", "nearest_colours"} <= set(entries)
    assert ("recall_colours" in entries) == (few == "held_out")
    assert "recall_colours" not in floors or few == "fake"


def test_what_no_loss_has_seen_is_not_marked_as_seen(setting):
    real, _, fake, spaces, stats, floors, _ = setting
    entries = cl.measure(fake, real, spaces[:1], stats, floors, trained_in="")
    assert not any(entry["seen_by_loss"] for entry in entries.values())


def test_real_images_measured_as_generated_are_at_their_floors(setting):
    real, _, _, spaces, stats, floors, _ = setting
    entries = cl.measure(real, real, spaces, None, floors)
    assert abs(entries["fd_colours"]["value"]) < 1e-6 < floors["fd_colours"]["floor"]
    assert entries["nearest_colours"]["value"] < 1e-6 < floors["nearest_colours"]["floor"]
    assert entries["recall_colours"]["value"] == entries["coverage_colours"]["value"] == 1.0
    assert floors["inside_d_ref"]["floor"] == pytest.approx(1 - stats.outside)


def test_copies_of_training_images_are_nearer_than_held_out_ones(setting):
    real, _, _, spaces, _, floors, entries = setting
    copies = Observed(100, {name: values[:100] for name, values in real.features.items()})
    copied = cl.measure(copies, real, spaces, None, floors)["nearest_colours"]
    assert copied["high"] < 0.1 * floors["nearest_colours"]["floor_heldout"]
    assert entries["nearest_colours"]["value"] > 0.5 * floors["nearest_colours"]["floor_heldout"]


def test_statistics_alone_give_the_frechet_distance_alone(setting):
    real, _, fake, spaces, *_ = setting
    gaussians = {name: cl.fit_gaussian(values) for name, values in real.features.items()}
    entries = cl.measure(fake, Observed(0, gaussians=gaussians), spaces, None, {})
    assert {name for name in entries if not name.endswith("_inf")} == {space.name for space in spaces} | {"lpips_alex"}
    wanted = cl.frechet_distance(real.features["fd_colours"], fake.features["fd_colours"])
    assert entries["fd_colours"]["value"] == pytest.approx(wanted, rel=1e-9)
    assert entries["fd_colours"]["floor"] is entries["fd_colours"]["n_real"] is None


def test_equal_real_images_are_refused(setting):
    _, _, _, spaces, *_ = setting
    same = Observed(20, {space.name: torch.ones(20, 3) for space in spaces})
    with pytest.raises(
        ValueError, match=r"All 20 real images have the same features \(fd_colours\): are they all the same picture"
    ):
        cl.measure_real(same, spaces, None, 10)


def test_a_collapsed_generator_is_measured_and_named(setting):
    real, _, fake, spaces, _, floors, entries = setting
    same = Observed(130, {name: values[:1].repeat(130, 1) for name, values in fake.features.items()})
    with pytest.warns(UserWarning, match=r"All 130 generated images have the same features \(fd_colours\): .* collapsed"):
        found = cl.measure(same, real, spaces[:1], None, floors)
    assert found["recall_colours"]["value"] < 0.1
    assert found["fd_colours"]["value"] > entries["fd_colours"]["value"]


def test_of_images_sorted_by_kind_no_kind_is_left_out(setting, monkeypatch):
    real, _, fake, spaces, _, floors, _ = setting
    monkeypatch.setattr(measuring, "PAIRWISE_AT_MOST", 60)
    values = fake.features["fd_colours"]
    by_brightness = values[values[:, 0].argsort()]
    found = cl.measure(Observed(130, {"fd_colours": by_brightness}), real, spaces[:1], None, floors)["kid_colours"]
    half = measuring.shuffled(real.features["fd_colours"])[:60]  # of all real images
    darkest, every = (cl.kernel_distance(half, rows) for rows in (by_brightness[:60], values))
    assert abs(found["value"] - every) < 0.3 * abs(darkest - every)
