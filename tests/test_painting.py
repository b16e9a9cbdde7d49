"""Tests of what is painted: where, how much of it, and nothing beside."""

import pytest
import torch

from centroidlib.painting import Scene, paint_ellipse, paint_stroke

SIZE = 64
WHITE = torch.full((3, 1), 255.0)


@pytest.fixture
def scene():
    """A black canvas of one image, whose head neither moves nor turns."""
    axis = (torch.arange(SIZE, dtype=torch.float32) + 0.5) * (2.0 / SIZE) - 1.0
    v, u = (grid[..., None].contiguous() for grid in torch.meshgrid(axis, axis, indexing="ij"))
    still = dict.fromkeys(("x", "y", "scale", "tilt", "turn"), 0.0)
    return Scene(torch.zeros(3, SIZE, SIZE, 1), u, v, u, {}, {}, still)


def test_an_ellipse_covers_its_area_at_its_place(scene):
    paint_ellipse(scene, (0.0, 0.25, 0.5, 0.3), WHITE)
    cover = scene.canvas[0, :, :, 0] / 255.0
    assert cover.sum() * (2.0 / SIZE) ** 2 == pytest.approx(torch.pi * 0.5 * 0.3, rel=0.02)
    assert (cover * scene.v[..., 0]).sum() / cover.sum() == pytest.approx(0.25, abs=0.01)
    assert (cover * scene.u[..., 0]).sum() / cover.sum() == pytest.approx(0.0, abs=0.01)
    assert cover[SIZE // 2, 0] == 0.0
    assert 0 < ((cover > 0) & (cover < 1)).sum() < 0.2 * (cover > 0).sum()  # a soft edge


def test_an_ellipse_beside_the_middle_comes_with_its_mirror_image(scene):
    paint_ellipse(scene, (0.4, 0.0, 0.2, 0.2), WHITE)
    assert torch.equal(scene.canvas, scene.canvas.flip(2))
    assert scene.canvas[0, SIZE // 2, SIZE // 2] == 0.0


def test_opacity_blends_with_what_is_there(scene):
    scene.canvas.fill_(100.0)
    paint_ellipse(scene, (0.0, 0.0, 0.5, 0.5), WHITE, opacity=0.5)
    assert scene.canvas[0, SIZE // 2, SIZE // 2].item() == pytest.approx(177.5)


def test_a_stroke_stays_inside_its_box_and_bends(scene):
    paint_stroke(scene, (0.0, 0.0, 0.4, 0.03, 1.0), (0.0, -0.08, 0.45, 0.15), WHITE)
    drawn = scene.canvas[0, :, :, 0] > 128
    middle, end = (drawn[:, SIZE // 2].nonzero().float().mean(), drawn[:, int(SIZE * 0.68)].nonzero().float().mean())
    assert end < middle  # a positive bend lifts the ends, and y points down
    assert not drawn[:, : SIZE // 5].any()
