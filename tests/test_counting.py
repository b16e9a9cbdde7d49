"""Tests of the counted metrics of drawn faces, as they stand in metrics.json."""

import math

import pytest
import torch
from torch import nn

from centroidlib import draw_faces
from centroidlib.evaluation.counting import factor_entries, factor_floors
from centroidlib.factors import (
    LEVELS,
    count_factors,
    factor_diversity,
    load_factor_classifier,
    recognise_factors,
    save_factor_classifier,
    train_factor_classifier,
)


class Sees(nn.Module):
    """Says for sure what level of every factor an image has: its first pixel's red, modulo the factor's levels."""

    def __init__(self, sure=True):
        super().__init__()
        self.sure = sure
        self.register_buffer("unused", torch.zeros(1))

    def forward(self, images):
        red = ((images[:, 0, 0, 0] + 1) * 127.5).round().long()
        levels = [nn.functional.one_hot(red % count, count).float() * (50.0 if self.sure else 1.0) for count in LEVELS]
        return torch.cat(levels, 1)


def images_of(reds):
    images = torch.zeros(len(reds), 3, 64, 64, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(reds, dtype=torch.uint8)
    return images


def test_what_is_counted_is_what_is_recognised():
    images = images_of([0, 1, 2, 0])
    found = count_factors(images, Sees())
    assert found["recognised"] == 4
    assert found["kinds"] == 3
    assert found == {"recognised": 4} | factor_diversity(recognise_factors(images, Sees())[0])


def test_images_that_nothing_is_recognised_in_count_as_collapsed():
    found = count_factors(images_of([0, 1, 2]), Sees(sure=False))
    assert found["recognised"] == 0
    assert found["kinds_share"] == 0
    assert found["divergence"] == pytest.approx(sum(math.log2(count) for count in LEVELS))


def test_entries_have_the_one_form_and_stand_beside_drawn_faces():
    real, other, fake = images_of(list(range(40))), images_of(list(range(40, 70))), images_of([7] * 35)
    floors = factor_floors(real, other, Sees(), samples=35)
    assert {name: floor["n"] for name, floor in floors.items()} == dict.fromkeys(floors, 30)
    assert floors["factors_recognised"]["floor"] == 1
    entries = factor_entries(fake, Sees(), floors)
    assert set(entries) == set(floors) == {"factors_recognised", "factors_kinds", "factors_divergence"}
    assert all(entry["floor"] == floors[name]["floor"] for name, entry in entries.items())
    assert [entry["better"] for entry in entries.values()] == ["floor", "floor", "lower"]
    assert entries["factors_kinds"]["value"] == pytest.approx(1 / factor_diversity(torch.zeros(35, 7).long())["kinds_expected"])
    assert entries["factors_kinds"]["value_at_floor_n"] > entries["factors_kinds"]["value"]  # one kind of fewer images
    assert entries["factors_divergence"]["value"] > 3 * floors["factors_divergence"]["floor"]
    assert entries["factors_recognised"]["low"] < 1 == entries["factors_recognised"]["value"]
    assert factor_floors(real, None, Sees(), 100)["factors_kinds"]["floor_heldout"] is None


def test_a_classifier_is_the_same_after_saving(tmp_path):
    classifier = train_factor_classifier(count=64, steps=2)
    save_factor_classifier(classifier, tmp_path / "factors.safetensors")
    again = load_factor_classifier(tmp_path / "factors.safetensors")
    faces = draw_faces(8)[0]
    assert all(
        torch.equal(a, b) for a, b in zip(recognise_factors(faces, classifier), recognise_factors(faces, again), strict=True)
    )
    assert not again.training
    (tmp_path / "factors.safetensors").write_bytes(b"damaged")
    with pytest.raises(
        ValueError, match=r"factors.safetensors is no factor classifier of this library, or damaged: run 01 again"
    ):
        load_factor_classifier(tmp_path / "factors.safetensors")
