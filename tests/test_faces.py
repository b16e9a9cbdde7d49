"""Tests of the parametric faces."""

import itertools

import pytest
import torch

from centroidlib import faces, painting
from centroidlib.faces import FACTORS, draw_faces


@pytest.fixture(scope="module")
def sample() -> tuple[torch.Tensor, torch.Tensor]:
    return draw_faces(5000, size=32, seed=3)


def test_shapes_types_and_ranges():
    images, factors = draw_faces(7, size=48)
    assert images.shape == (7, 3, 48, 48)
    assert images.dtype == torch.uint8
    assert factors.shape == (7, len(FACTORS))
    assert factors.dtype == torch.int64
    assert draw_faces(1)[0].shape == (1, 3, 64, 64)
    assert len(images.unique(dim=0)) == 7


@pytest.mark.parametrize("count", [1, 10, 64, 77])
def test_a_longer_run_begins_with_a_shorter_one(count):
    images, factors = draw_faces(200, seed=5)
    fewer_images, fewer_factors = draw_faces(count, seed=5)
    assert torch.equal(images[:count], fewer_images)
    assert torch.equal(factors[:count], fewer_factors)


def test_bits_do_not_depend_on_threads():
    threads = torch.get_num_threads()
    try:
        runs = []
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            runs.append(draw_faces(100)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(runs[0], runs[1])
    assert torch.equal(runs[0], runs[2])


def test_seeds_give_different_faces():
    first, second = draw_faces(20, seed=0), draw_faces(20, seed=1)
    assert not torch.equal(first[0], second[0])
    assert not torch.equal(first[1], second[1])


def test_size_changes_neither_factors_nor_layout():
    small, factors = draw_faces(20, size=32)
    large, same_factors = draw_faces(20, size=64)
    assert torch.equal(factors, same_factors)
    shrunk = torch.nn.functional.avg_pool2d(large.float(), 2)
    assert (shrunk - small.float()).abs().mean() < 3.0


@pytest.mark.parametrize("size", [16, 64])
def test_windows_crop_no_part(monkeypatch, size):
    images, _ = draw_faces(400, size=size, seed=9)
    for module in (faces, painting):
        monkeypatch.setattr(module, "window_of", lambda box, scene: (slice(0, size), slice(0, size)))
    assert torch.equal(images, draw_faces(400, size=size, seed=9)[0])


def test_factors_are_uniform_and_independent(sample):
    _, factors = sample
    one_hot = [
        torch.nn.functional.one_hot(column, len(names)).double()
        for column, names in zip(factors.T, FACTORS.values(), strict=True)
    ]
    for i, first in enumerate(one_hot):
        levels = first.shape[1]
        assert (first.mean(0) * levels - 1.0).abs().max() < 0.15
        for second in one_hot[i + 1 :]:
            joint = first.T @ second / len(factors)
            assert (joint - first.mean(0)[:, None] * second.mean(0)).abs().max() < 0.015


@pytest.mark.parametrize("column", range(len(FACTORS)), ids=list(FACTORS))
def test_every_level_changes_every_picture(sample, column):
    factors = sample[1][:100].clone()
    noise = 2.0 * torch.rand((100, len(faces._JITTER)), generator=torch.Generator().manual_seed(0)) - 1.0
    pictures = []
    for level in range(len(list(FACTORS.values())[column])):
        factors[:, column] = level
        pictures.append(faces._render(factors, noise, 64).clamp_(0.0, 255.0))
    for first, second in itertools.combinations(pictures, 2):
        changed_pixels = ((first - second).abs().amax(0) > 25.0).sum((0, 1))
        assert changed_pixels.min() >= 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count is 0.*count >= 1"),
        ({"count": 5, "size": 15}, "size is 15.*size >= 16"),
        ({"count": 5, "seed": -1}, "seed is -1.*seed >= 0"),
    ],
)
def test_wrong_arguments_raise(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_faces(**arguments)
