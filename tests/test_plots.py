"""Tests of the figures: what they draw, from plain arrays."""

from itertools import chain
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import centroidlib as cl
from centroidlib import embedding, plots
from centroidlib.batch.reading import read_batch

BATCHES = Path(__file__).parents[1] / "notebooks" / "batches"


@pytest.fixture(autouse=True)
def closed_figures():
    plots.use_style()
    yield
    plt.close("all")


def test_an_arm_has_one_colour_everywhere():
    assert plots.arm_colour("baseline") != plots.arm_colour("centroid")
    assert plots.arm_colour("lambda4") == plots.arm_colour("lambda4")
    arms = ("baseline", "centroid", "centroid-lambda4", "centroid-lambda10", "centroid-lambda1", "centroid-lambda100")
    assert len({plots.arm_marker(arm) for arm in arms}) == len({plots.arm_colour(arm) for arm in arms}) == 6


def test_every_arm_of_the_batches_looks_like_no_other():
    known = [arm for path in BATCHES.glob("*.yml") for arm in read_batch(path, {}).arms]
    assert len(known) > 30
    looks = {tuple(plots.arm_line(arm).values()): plots._SAME.get(arm, arm) for arm in known}
    assert [plots.arm_line(arm)["ls"] for arm in ("baseline", "centroid-lambda40", "baseline-longer")] == ["-", "-", ":"]
    assert set(looks.values()) == {plots._SAME.get(arm, arm) for arm in known} <= set(chain(*plots.ARMS))
    assert {plots.arm_colour(f"of mine {i}") for i in range(9)} <= set(plots.COLOURS[2:])


def test_a_long_caption_takes_no_room_from_the_picture():
    heights = []
    for caption in ("", "What was measured with what. " * 20 + "`code`"):
        figure, ax = plt.subplots(figsize=(4, 1.8))
        plots.put_caption(figure, caption)
        figure.canvas.draw()  # warns where the axes have no room left
        heights.append(ax.get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.1)
    assert "`" not in figure.get_supxlabel()


def test_the_first_step_stands_alone():
    history = pd.DataFrame({"step": [1, 10, 20, 30], "outside": [1.0, 0.0, 0.5, 0.1], "arm": "a"})
    assert plots.running_mean(history, 2)["outside"].to_dict() == {10: 0.0, 20: 0.25, 30: 0.3}
    assert plots.running_mean(history[:1], 2)["outside"].to_dict() == {1: 1.0}


def test_figure_1_shows_images_from_the_nearest_to_the_furthest(faces, toy_phi, toy_stats):
    features = toy_phi(cl.to_float(faces))
    distances = cl.centroid_distances(features, toy_stats)
    figure = embedding.figure_embedding(features, features, toy_stats, "a", None, faces, "Measured so.")
    *_, strip = figure.axes
    assert len(figure.axes) == 3  # no real images, no strip of them
    width = faces.shape[3]
    drawn = strip.images[0].get_array()
    for place, image in ((0, faces[distances.argmin()]), (-1, faces[distances.argmax()])):
        assert np.array_equal(drawn[:, place * width :][:, :width], image.permute(1, 2, 0))
    labels = [float(label.get_text()) for label in strip.get_xticklabels()]
    assert labels == sorted(labels)
    assert labels[-1] == pytest.approx(float(distances.max()) / toy_stats.reference_distance, abs=0.006)


def test_the_polar_embedding_keeps_true_distances_and_the_flat_one_principal_components():
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(40, 12)) * np.arange(12, 0, -1)).float()
    centroid = features[:30].mean(0)
    flat, polar = embedding.polar_embedding(features, centroid, 2.0, axes_from=30)
    distances = torch.linalg.vector_norm(features - centroid, dim=1) / 2.0
    assert torch.allclose(torch.linalg.vector_norm(polar, dim=1), distances, rtol=1e-4)
    _, _, axes = np.linalg.svd((features[:30] - centroid).numpy(), full_matrices=False)
    expected = (features - centroid).numpy() @ axes[:2].T / 2.0
    assert np.allclose(np.abs(flat.numpy()), np.abs(expected), atol=1e-3)


def test_the_histogram_marks_d_ref_and_counts_what_lies_outside():
    figure = plots.figure_distances({"real": torch.tensor([1.0, 3.0]), "baseline": torch.tensor([1.0, 1.5])}, 2.0, floor=0.5)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["real: 50% outside, N = 2", "baseline: 0% outside, N = 2"]
    assert "0.2500 d_ref" in figure.axes[0].get_title(loc="left")


def test_the_film_strip_shows_first_and_last_grid(tmp_path):
    for step in range(0, 100, 10):
        Image.new("RGB", (530, 530)).save(tmp_path / f"step_{step:06d}.png")
    figure = plots.figure_film_strip(tmp_path, frames=4)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == ["step 0", "step 30", "step 60", "step 90"]


def test_a_film_strip_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no sample grids"):
        plots.figure_film_strip(tmp_path)


def test_the_film_holds_every_grid_once(tmp_path):
    for step, grey in ((0, 0), (10, 100), (20, 200)):
        Image.new("RGB", (530, 530), (grey,) * 3).save(tmp_path / f"step_{step:06d}.png")
    plots.write_film(tmp_path, tmp_path / "film.webp", seconds=3.0)
    with Image.open(tmp_path / "film.webp") as film:
        assert (film.n_frames, film.size) == (3, (530, 530))
        for place, grey in enumerate((0, 100, 200)):
            film.seek(place)
            assert abs(np.asarray(film.convert("RGB")).mean() - grey) < 3
            assert film.info["duration"] == 1000


HISTORY = pd.DataFrame({"step": [1, 2], "loss_d": [1.0, 2.0], "loss_adversarial": [1.0, 2.0], "d_real": 0.5, "d_fake": 0.5})


def test_where_nobody_watches_nothing_is_shown_live(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    assert plots.live_view("baseline", 3) is None


def test_in_jupyterlab_the_same_two_pictures_are_drawn_again(monkeypatch, tmp_path):
    class Handle:
        def __init__(self, picture):
            self.pictures = [picture]

        def update(self, picture):
            self.pictures.append(picture)

    handles = []

    def display(picture, display_id):
        handles.append(Handle(picture))
        return handles[-1]

    monkeypatch.setenv("JPY_SESSION_NAME", "02_train.ipynb")
    monkeypatch.setattr(plots, "display", display)
    show = plots.live_view("baseline", steps=3)
    for step in (1, 2, 3):
        grid = tmp_path / f"step_{step:06d}.png"
        Image.new("RGB", (step, 5)).save(grid)
        show(HISTORY, grid)
    curves, samples = (handle.pictures.copy() for handle in handles)
    assert [picture.data for picture in samples] == [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len(curves) == 3
    assert all(len(figure.axes) == 4 for figure in curves)
    assert plt.get_fignums() == []
    show(HISTORY.assign(step=[2, 3]), grid)
    assert [handle.pictures[-1].data for handle in handles] == ["", ""]  # they stand below, for good


def test_an_image_grid_shows_every_image():
    figure = plots.figure_images(torch.zeros(10, 3, 4, 4, dtype=torch.uint8), "ten", columns=4)
    assert sum(bool(ax.images) for ax in figure.axes) == 10


def test_an_image_grid_is_the_same_when_it_is_saved_and_then_shown(tmp_path):
    """Saving a figure without a layout engine gives it the style's."""
    plots.use_style()
    figure = plots.figure_images(torch.zeros(10, 3, 4, 4, dtype=torch.uint8), "ten", columns=4)
    for name in ("saved.png", "shown.png"):
        figure.savefig(tmp_path / name)
    assert (tmp_path / "saved.png").read_bytes() == (tmp_path / "shown.png").read_bytes()
    top = max(ax.get_tightbbox().y1 for ax in figure.axes)
    (title,) = figure.texts
    assert title.get_window_extent().y0 >= top


def test_arms_are_drawn_for_every_run():
    history = pd.DataFrame({"step": [1, 2], "outside": [0.1, 0.2], "hinge_over_floor": [0.5, 0.6], "arm": "baseline", "seed": 0})
    both = pd.concat([history, history.assign(arm="centroid")])
    figure = plots.figure_arms(both, "Measured so.")
    assert len(figure.axes[1].lines) == 2
    assert {line.get_marker() for line in figure.axes[1].lines} == {"o", "s"}
    caption = figure.get_supxlabel().replace("\n", " ")
    assert caption == "A line a run, 2 runs, each the running mean of 10 batches behind the first. The runs: Measured so."
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "centroid", "real images"]


def test_an_arm_without_eq_3_is_drawn_where_it_has_values():
    history = pd.DataFrame({"step": [1, 2], "outside": [0.1, 0.2], "hinge_over_floor": [0.5, 0.6], "arm": "baseline", "seed": 0})
    other = history.assign(arm="energy", hinge_over_floor=np.nan)
    figure = plots.figure_arms(pd.concat([history, other]))
    figure.canvas.draw()
    assert [len(ax.lines) for ax in figure.axes] == [2, 2]  # the baseline and real images; both arms
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["baseline", "energy", "real images"]


def test_where_no_run_was_trained_it_is_said():
    figure = plots.figure_arms(pd.DataFrame())
    assert figure.get_supxlabel() == "No run was trained."


def test_a_moving_strength_and_another_constraint_have_their_own_axes():
    columns = ("loss_d", "loss_adversarial", "d_real", "d_fake", "outside", "hinge_over_floor")
    history = pd.DataFrame({"step": [1, 2]} | dict.fromkeys(columns, 0.5))
    plain = plots.figure_training(history, "a")
    moving = plots.figure_training(history.assign(**{"lambda": 2.0}), "a")
    assert [len(figure.axes) for figure in (plain, moving)] == [4, 5]
    assert moving.axes[-1].get_ylabel() == "λ"
    other = plots.figure_training(history.assign(above_floor=3.0).drop(columns="hinge_over_floor"), "a")
    assert other.axes[3].get_ylabel() == "above real batches, in their std"
