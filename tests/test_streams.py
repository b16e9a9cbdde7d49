"""Tests of the random streams and of the order of the data."""

import pytest
import torch

from centroidlib import to_float
from centroidlib.streams import batch_indices, draw_batch, draw_latents, random_stream

CPU = torch.device("cpu")


def test_purposes_have_streams_of_their_own():
    seeds = {random_stream(0, purpose, step).initial_seed() for purpose in ("data", "latents", "flip") for step in range(5)}
    assert len(seeds) == 15


@pytest.mark.parametrize(("batch_size", "count"), [(4, 10), (3, 7), (5, 5), (8, 3), (1, 6)])
def test_every_image_is_seen_once_an_epoch(batch_size, count):
    order = torch.cat([batch_indices(step, batch_size, count, seed=3) for step in range(4 * count)])
    assert len(order) == batch_size * 4 * count
    epochs = order.view(-1, count)
    assert torch.equal(epochs.sort(1).values, torch.arange(count).expand(len(epochs), count))
    assert len(epochs.unique(dim=0)) > 1


def test_another_seed_draws_others():
    assert not torch.equal(batch_indices(0, 8, 100, seed=0), batch_indices(0, 8, 100, seed=1))
    assert not torch.equal(*(draw_latents(4, 8, random_stream(seed, "latents", 0)) for seed in (0, 1)))


def test_a_batch_is_its_images_brought_to_the_networks_range(faces):
    chosen = batch_indices(3, 8, len(faces), seed=1)
    assert torch.equal(draw_batch(faces, 3, 8, 1, False, CPU), to_float(faces[chosen]))


def test_flip_mirrors_some_images_and_only_mirrors(faces):
    plain, flipped = (torch.cat([draw_batch(faces, step, 8, 0, flip, CPU) for step in range(3)]) for flip in (False, True))
    assert not torch.equal(*((flipped[i * 8 : i * 8 + 8] == plain[i * 8 : i * 8 + 8]).flatten(1).all(1) for i in (0, 1)))
    kept = (flipped == plain).flatten(1).all(1)
    mirrored = (flipped == plain.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 4 < mirrored.sum() < 20
