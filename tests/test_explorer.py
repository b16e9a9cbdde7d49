"""Tests of the explorer: the ways that latents take, what a frame measures and draws, what is loaded, and the widgets."""

import io
import json
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image, ImageColor

from centroidlib import Generator, VGG16Features, centroid_distances, compute_centroid, explorer, plots, to_uint8, walking
from centroidlib.checkpoints import generator_files, load_generators, save_generator
from centroidlib.runs import write_record

ROOT = Path(__file__).parents[1]
SIZE = 8  # of the latents


@pytest.fixture(autouse=True)
def closed_figures():
    plots.use_style()
    yield
    plt.close("all")


def drawn_generator(seed, latent=SIZE):
    """A generator whose images differ from latent to latent."""
    generator = Generator(latent, 4).eval().requires_grad_(False)
    rng = torch.Generator().manual_seed(seed)
    for parameter in generator.parameters():
        parameter.data.normal_(0.0, 0.4, generator=rng)
    return generator


@pytest.fixture(scope="module")
def generators():
    return {"baseline": drawn_generator(0), "centroid": drawn_generator(1)}


@pytest.fixture(scope="module")
def latents():
    return [walking.latent_of(seed, SIZE) for seed in (0, 1)]


def lies_at(latent, generator, phi, stats):
    """‖Φ(G(z)) − c‖₂ / d_ref of one latent, one arm alone."""
    return float(centroid_distances(phi(generator(latent)), stats) / stats.reference_distance)


def mean_distance(latent, generators, phi, stats):
    return np.mean([lies_at(latent, generator, phi, stats) for generator in generators.values()])


# The ways


def between(first, second):
    return math.acos(float(torch.cosine_similarity(first.double(), second.double())))


def test_a_walk_leads_from_one_latent_to_the_other_in_even_turns(latents):
    start, end = latents[0], 2.0 * latents[1]
    torch.testing.assert_close(walking.walk(start, end, 0.0), start)
    torch.testing.assert_close(walking.walk(start, end, 1.0), end)
    for position in (0.25, 0.5, 0.9):
        there = walking.walk(start, end, position)
        assert between(start, there) == pytest.approx(position * between(start, end), rel=1e-4)
        assert float(there.norm()) == pytest.approx(float(torch.lerp(start.norm(), end.norm(), position)), rel=1e-5)


def test_a_walk_between_equal_latents_stays_there(latents):
    torch.testing.assert_close(walking.walk(latents[0], latents[0], 0.3), latents[0])
    torch.testing.assert_close(walking.walk(latents[0], 3.0 * latents[0], 0.5), 2.0 * latents[0])


def test_a_seed_has_its_own_latent():
    assert torch.equal(walking.latent_of(3, SIZE), walking.latent_of(3, SIZE))
    assert not torch.equal(walking.latent_of(3, SIZE), walking.latent_of(4, SIZE))
    assert walking.latent_of(3, SIZE).shape == (1, SIZE)


@pytest.mark.parametrize("inwards", [True, False], ids=["towards", "away"])
def test_a_push_changes_the_distance_as_it_should_and_keeps_the_norm(generators, latents, toy_phi, toy_stats, inwards):
    moved = walking.push(latents[0], generators, toy_phi, toy_stats, inwards)
    change = mean_distance(moved, generators, toy_phi, toy_stats) - mean_distance(latents[0], generators, toy_phi, toy_stats)
    assert change < -0.005 if inwards else change > 0.005
    assert float(moved.norm()) == pytest.approx(float(latents[0].norm()), rel=1e-5)
    assert 0.1 < between(latents[0], moved) <= 0.3 + 1e-6
    assert not moved.requires_grad


@pytest.mark.parametrize("inwards", [True, False], ids=["towards", "away"])
def test_a_step_that_goes_too_far_is_not_taken(generators, latents, toy_phi, toy_stats, inwards):
    asked = (latents[0], generators, toy_phi, toy_stats, inwards)
    assert torch.equal(walking.push(*asked, steps=1, angle=2 * math.pi - 0.1), latents[0])
    after = walking.push(*asked, steps=8, angle=2 * math.pi - 0.1)  # the eighth turns by 0.05
    change = mean_distance(after, generators, toy_phi, toy_stats) - mean_distance(latents[0], generators, toy_phi, toy_stats)
    assert change < 0 if inwards else change > 0


def test_pushes_lead_from_the_centroid_outwards_past_the_latent(generators, latents, toy_phi, toy_stats):
    path = walking.pushes(latents[0], generators, toy_phi, toy_stats, 2)
    assert path.shape == (5, SIZE)
    assert torch.equal(path[2:3], latents[0])
    distances = [mean_distance(latent[None], generators, toy_phi, toy_stats) for latent in path]
    assert distances == sorted(distances)
    assert len(set(distances)) == 5


def test_what_is_looked_at_is_each_arms_own(generators, latents, toy_phi, toy_stats):
    images, distances = walking.look(torch.cat(latents), generators, toy_phi, toy_stats)
    for arm, generator in generators.items():
        torch.testing.assert_close(images[arm], generator(torch.cat(latents)))
        alone = [lies_at(latent, generator, toy_phi, toy_stats) for latent in latents]
        assert distances[arm].tolist() == pytest.approx(alone, rel=1e-5)


# A frame


def coloured(picture, colour):
    """Where a picture has exactly this colour, (H, W)."""
    return (np.asarray(picture) == ImageColor.getrgb(colour)).all(axis=2)


def test_a_frame_shows_the_faces_and_a_bar_to_each_distance(generators, latents, toy_phi, toy_stats):
    picture, distances = explorer.frame(latents[0], generators, toy_phi, toy_stats)
    assert list(distances) == ["baseline", "centroid"]
    for place, (arm, generator) in enumerate(generators.items()):
        assert distances[arm] == pytest.approx(lies_at(latents[0], generator, toy_phi, toy_stats), rel=1e-5)
        left, top = explorer.MARGIN + place * (explorer.FACE + explorer.MARGIN), explorer.MARGIN // 2 + 24
        shown = picture.crop((left, top, left + explorer.FACE, top + explorer.FACE)).resize((64, 64), Image.Resampling.BOX)
        face = to_uint8(generator(latents[0])[0]).permute(1, 2, 0).numpy()
        assert np.corrcoef(np.asarray(shown).ravel(), face.ravel())[0, 1] > 0.9  # enlarged, and smaller again
        bar = coloured(picture, plots.arm_colour(arm))[top + explorer.FACE :]
        length = (picture.width - 2 * explorer.MARGIN) / explorer.FARTHEST * min(distances[arm], explorer.FARTHEST)
        assert np.flatnonzero(bar.any(axis=0))[[0, -1]] == pytest.approx([explorer.MARGIN, explorer.MARGIN + length], abs=3)


def test_a_bar_that_is_too_long_ends_with_the_scale_and_a_notch_is_where_it_was(generators, latents, toy_phi, toy_stats):
    one = {"baseline": generators["baseline"]}
    plain, distances = explorer.frame(latents[0], one, toy_phi, toy_stats)
    notched, _ = explorer.frame(latents[0], one, toy_phi, toy_stats, before={"baseline": 0.4})
    changed = np.flatnonzero((np.asarray(plain) != np.asarray(notched)).any(axis=(0, 2)))
    width = plain.width - 2 * explorer.MARGIN
    assert changed.mean() == pytest.approx(explorer.MARGIN + width * 0.4 / explorer.FARTHEST, abs=1)
    far = type(toy_stats)(**vars(toy_stats) | {"reference_distance": toy_stats.reference_distance * distances["baseline"] / 9})
    picture, distances = explorer.frame(latents[0], one, toy_phi, far)
    assert distances["baseline"] == pytest.approx(9)
    assert np.flatnonzero(coloured(picture, plots.arm_colour("baseline")).any(axis=0))[-1] == explorer.MARGIN + width


def test_a_frame_without_phi_has_the_same_faces_and_nothing_else(generators, latents, toy_phi, toy_stats):
    measured, _ = explorer.frame(latents[0], generators, toy_phi, toy_stats)
    picture, distances = explorer.frame(latents[0], generators, None, toy_stats)
    assert distances == {}
    faces = (0, 0, picture.width, explorer.MARGIN // 2 + 24 + explorer.FACE)
    assert picture.height < measured.height
    assert picture.crop(faces).tobytes() == measured.crop(faces).tobytes()


def test_the_figure_has_a_row_and_a_line_an_arm(generators, latents, toy_phi, toy_stats):
    positions = torch.linspace(0, 1, 17)
    way = torch.cat([walking.walk(*latents, float(position)) for position in positions])
    images, distances = walking.look(way, generators, toy_phi, toy_stats)
    *strips, chart = explorer.figure_latents(images, distances, toy_stats, positions, "position").axes
    assert [ax.get_title(loc="left") for ax in strips] == ["baseline", "centroid"]
    assert [ax.images[0].get_array().shape for ax in strips] == [(64, 9 * 64, 3)] * 2
    face = to_uint8(images["centroid"][2]).permute(1, 2, 0).numpy()  # the second of nine out of seventeen
    assert np.array_equal(strips[1].images[0].get_array()[:, 64:128], face)
    lines = {line.get_label(): line for line in chart.lines}
    for arm, found in distances.items():
        np.testing.assert_allclose(lines[arm].get_ydata(), found)
        assert lines[arm].get_color() == plots.arm_colour(arm)
    middle = strips[0].get_xlim()[0] + np.ptp(strips[0].get_xlim()) * 1.5 / 9
    assert middle == pytest.approx(float(positions[2]))  # a face stands above its place on the line
    assert len(explorer.figure_latents(images, {}, toy_stats, positions, "position").axes) == 2


# What is loaded


@pytest.fixture
def project(tmp_path):
    """A project's root with runs of three arms, one of them with two seeds, and one without a generator."""
    (tmp_path / "results" / "mine" / "averaged_seed0").mkdir(parents=True)
    for seed, name in enumerate(("centroid_seed0", "baseline_seed1", "baseline_seed0", "adaptive_seed0")):
        save_generator(drawn_generator(seed), tmp_path / "results" / "mine" / name / "generator.safetensors")
    save_generator(drawn_generator(0).half(), tmp_path / "results" / "mine" / "centroid_seed0" / "generator_half.safetensors")
    return tmp_path


def test_each_arms_first_generator_is_found_whole_before_half(project):
    whole = {arm: f"results/mine/{arm}_seed0/generator.safetensors" for arm in ("baseline", "adaptive", "centroid")}
    assert list(generator_files(project, "mine").items()) == list(whole.items())
    assert generator_files(project, "mine", "baseline_seed1") == {"baseline": "results/mine/baseline_seed1/generator.safetensors"}
    (project / whole["centroid"]).unlink()
    assert generator_files(project, "mine")["centroid"] == "results/mine/centroid_seed0/generator_half.safetensors"


def test_generators_that_are_not_there_are_told_in_a_sentence(project):
    with pytest.raises(FileNotFoundError, match="There is no folder results/yours: give the name of a batch"):
        generator_files(project, "yours")
    with pytest.raises(FileNotFoundError, match="results/mine/averaged_seed0 holds no generator: train it"):
        generator_files(project, "mine", "centroid_seed0 averaged_seed0")
    (project / "results" / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="No run in results/empty holds a generator: train one first"):
        generator_files(project, "empty")


def test_generators_are_loaded_frozen_and_take_one_latent(project):
    files = {arm: project / file for arm, file in generator_files(project, "mine").items()}
    latent = walking.latent_of(0, SIZE)
    loaded = load_generators(files)
    torch.testing.assert_close(loaded["centroid"](latent), drawn_generator(0)(latent))
    assert not loaded["baseline"](latent).requires_grad
    save_generator(drawn_generator(0, latent=SIZE + 1), files["centroid"])
    with pytest.raises(
        ValueError, match=r"different lengths \(baseline: 8, adaptive: 8, centroid: 9\): choose runs of one length"
    ):
        load_generators(files)


@pytest.fixture
def ball(images, tmp_path):
    """A centroid of pooled relu1_1 with random weights, and its record."""
    path = tmp_path / "01_centroid" / "centroid.safetensors"
    compute_centroid(images, VGG16Features(2, "random", pool=True)).save(path)
    record(path, layer=2, weights="random", pool=True)
    return path


def record(path, **parameters):
    write_record(path.parent, {"stages": {"01_centroid": {"parameters": parameters}}})


def test_phi_is_the_one_that_the_centroids_record_names(ball):
    phi, stats, note = explorer.load_ball(ball)
    assert (phi.layer, phi.weights, phi.pool) == (2, "random", True)
    assert stats.count == 13
    assert note == "Φ is vgg16_random_relu1_1. Of the 13 real images nine in ten lie in the grey band, half in its darker part."


def test_another_ball_is_refused(ball):
    record(ball, layer=4, weights="random", pool=True)
    with pytest.raises(ValueError, match="was made with another Φ"):
        explorer.load_ball(ball)
    (ball.parent / "run.json").unlink()
    with pytest.raises(
        ValueError, match=r"01_centroid/run\.json does not say with which Φ the centroid was made: run 01_centroid"
    ):
        explorer.load_ball(ball)
    with pytest.raises(FileNotFoundError, match="There is no centroid at"):
        explorer.load_ball(ball.parent / "other.safetensors")


def test_without_phis_weights_the_sentence_says_faces_only(ball, torch_home, generators):
    record(ball, layer=16, weights="IMAGENET1K_FEATURES", pool=False)
    phi, stats, note = explorer.load_ball(ball)
    assert phi is None
    assert stats.count == 13
    assert note.startswith("Faces only, no distances. The weights of VGG-16 IMAGENET1K_FEATURES are not on this machine")
    assert "vgg16_features-amdegroot-88682ab5.pth" in note
    widget = parts(explorer.explore(generators, phi, stats, note))
    assert widget["said"].value.startswith("Faces only, no distances. ")
    assert "&lt;urlopen error" in widget["said"].value  # shown, not taken for a tag
    assert [widget[name].disabled for name in ("push towards c", "push away", "reset")] == [True, True, False]
    assert seen(widget).size == explorer.frame(walking.latent_of(0, SIZE), generators, None, stats)[0].size


def test_it_works_with_what_results_holds():
    files = {arm: ROOT / file for arm, file in generator_files(ROOT, "verdict").items()}
    assert {"baseline", "centroid-lambda40"} <= set(files)
    loaded = load_generators(files)
    folder = ROOT / "results" / "verdict" / "01_centroid"
    stats = explorer.CentroidStats.load(folder / "centroid.safetensors")
    made = json.loads((folder / "run.json").read_text())["stages"]["01_centroid"]["parameters"]
    assert made["weights"] == "IMAGENET1K_FEATURES"
    picture, _ = explorer.frame(walking.latent_of(0, 100), loaded, None, stats)
    assert np.asarray(picture).std() > 30


def test_what_results_holds_is_measured_with_the_published_weights(real_weights):
    phi, stats, _ = explorer.load_ball(ROOT / "results" / "verdict" / "01_centroid" / "centroid.safetensors")
    loaded = load_generators({arm: ROOT / file for arm, file in generator_files(ROOT, "verdict").items()})
    _, distances = explorer.frame(walking.latent_of(0, 100), loaded, phi, stats)
    assert all(0.5 < distance < 1.5 for distance in distances.values())


# The widgets


def parts(widget):
    """The explorer's widgets by what stands on them; `picture` and `said` by what they are."""
    first, second, picture, said = widget.children
    return {control.description: control for row in (first, second) for control in row.children} | {
        "picture": picture,
        "said": said,
    }


def seen(widget):
    return Image.open(io.BytesIO(widget["picture"].value))


def encoded(picture):
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90, subsampling=0)
    return data.getvalue()


@pytest.fixture
def widget(generators, toy_phi, toy_stats):
    return parts(explorer.explore(generators, toy_phi, toy_stats, "Φ is a toy."))


def test_the_explorer_begins_at_the_first_seeds_latent(widget, generators, latents, toy_phi, toy_stats):
    expected, _ = explorer.frame(latents[0], generators, toy_phi, toy_stats)
    assert widget["picture"].value == encoded(expected)
    assert widget["said"].value == "Φ is a toy."
    other = parts(explorer.explore(generators, toy_phi, toy_stats, "", seeds=(5, 6)))
    assert (other["from seed"].value, other["to seed"].value) == (5, 6)
    assert other["picture"].value != widget["picture"].value


def test_the_slider_walks_and_the_ends_are_the_seeds(widget):
    pictures = [widget["picture"].value]
    for name, value in (("position", 0.5), ("position", 1.0), ("from seed", 7), ("to seed", 0)):
        widget[name].value = value
        pictures.append(widget["picture"].value)
    assert pictures[2] == pictures[3]  # at the end of the way its beginning does not matter
    assert len(set(pictures)) == 3
    assert pictures[4] == pictures[0]


@pytest.mark.parametrize("button", ["push towards c", "push away"])
def test_pushes_change_the_picture_until_something_else_is_asked_for(widget, button, generators, latents, toy_phi, toy_stats):
    at_rest = widget["picture"].value
    widget[button].click()
    others = (generators, toy_phi, toy_stats, button == "push towards c")
    pushed = walking.push(latents[0], *others)
    before = explorer.frame(latents[0], generators, toy_phi, toy_stats)[1]
    expected, _ = explorer.frame(pushed, generators, toy_phi, toy_stats, before)
    assert widget["picture"].value == encoded(expected)
    widget[button].click()
    expected, _ = explorer.frame(walking.push(pushed, *others), generators, toy_phi, toy_stats, before)
    assert widget["picture"].value == encoded(expected)
    widget["reset"].click()
    assert widget["picture"].value == at_rest
    widget[button].click()
    widget["position"].value = 0.5
    widget["position"].value = 0.0
    assert widget["picture"].value == at_rest


def test_arms_are_chosen(widget, caplog):
    both = seen(widget).size
    widget["arms"].value = ("centroid",)
    assert seen(widget).size[0] < both[0]
    assert widget["arms"].rows == 2
    alone = widget["picture"].value
    widget["arms"].value = ()
    assert widget["said"].value == "Choose an arm."
    widget["push away"].click()
    assert widget["picture"].value == alone
    assert caplog.records == []  # a button tells its log what went wrong, and nobody else
    widget["arms"].value = ("baseline", "centroid")
    assert (seen(widget).size, widget["said"].value) == (both, "Φ is a toy.")
