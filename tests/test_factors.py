"""Tests of the factor classifier and of what is counted with it."""

import itertools
import math

import pytest
import torch

from centroidlib import FACTORS, draw_faces
from centroidlib.factors import LEVELS, factor_accuracy, factor_diversity, recognise_factors, train_factor_classifier

HAIR_COLOUR, HAIR_STYLE = list(FACTORS).index("hair_colour"), list(FACTORS).index("hair_style")


@pytest.fixture(scope="module")
def classifier():
    return train_factor_classifier(count=3000, steps=200)


def test_it_recognises_the_factors_of_faces_it_has_not_seen(classifier):
    accuracy = factor_accuracy(classifier, 500)
    assert list(accuracy) == list(FACTORS)
    assert min(accuracy.values()) > 0.9
    assert max(factor_accuracy(train_factor_classifier(count=64, steps=1), 500).values()) < 0.9


def test_it_is_frozen_and_from_its_seed():
    first, again, other = (train_factor_classifier(seed, count=64, steps=2) for seed in (0, 0, 1))
    assert not any(weight.requires_grad for weight in first.parameters())
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_a_collapsed_batch_is_told_from_a_varied_one(classifier):
    faces, _ = draw_faces(300, seed=7)
    levels, sure = recognise_factors(faces, classifier)
    assert levels.shape == sure.shape == (300, len(FACTORS))
    assert (sure >= 0).all()
    assert (sure <= 1).all()
    varied = factor_diversity(levels)
    collapsed = factor_diversity(recognise_factors(faces[:3].repeat(100, 1, 1, 1), classifier)[0])
    assert varied["kinds_share"] > 0.95
    assert varied["divergence"] < 0.3
    assert collapsed["kinds"] == 3
    assert collapsed["divergence"] > 3


def test_the_expected_number_of_kinds_is_that_of_drawn_faces():
    found = [factor_diversity(draw_faces(400, size=16, seed=seed)[1]) for seed in range(30)]
    mean = sum(one["kinds"] for one in found) / 30
    assert mean == pytest.approx(found[0]["kinds_expected"], rel=0.005)


def test_divergences_are_those_from_a_uniform_histogram():
    every = torch.tensor(list(itertools.product(*map(range, LEVELS))))
    found = factor_diversity(every)
    assert found["kinds"] == math.prod(LEVELS) // 20 * 16  # of a bald head every hair colour is the same
    assert found["divergence"] == pytest.approx(0, abs=1e-12)
    one = factor_diversity(every[-1:].repeat(10, 1))
    assert one["kinds"] == 1
    for name, levels in FACTORS.items():
        assert one[f"divergence_{name}"] == pytest.approx(math.log2(len(levels)))
    assert one["divergence"] == pytest.approx(sum(math.log2(number) for number in LEVELS))
    three_quarters = every[:1].repeat(4, 1)
    three_quarters[0, 3] = 1  # glasses in a quarter
    assert factor_diversity(three_quarters)["divergence_glasses"] == pytest.approx(0.75 * math.log2(1.5) + 0.25 * math.log2(0.5))


def test_the_hair_colour_of_bald_heads_does_not_count():
    levels = torch.zeros(10, len(FACTORS), dtype=torch.int64)  # all bald
    levels[:, HAIR_COLOUR] = torch.arange(10) % 5
    found = factor_diversity(levels)
    assert found["kinds"] == 1
    assert found["divergence_hair_colour"] == 0
    levels[:, HAIR_STYLE] = 1
    assert factor_diversity(levels)["kinds"] == 5


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        (torch.zeros(3, 6, dtype=torch.int64), r"levels are int64 \(N, 7\), not torch.int64 \(3, 6\)"),
        (torch.zeros(3, 7), r"levels are int64 \(N, 7\), not torch.float32 \(3, 7\)"),
        (torch.zeros(0, 7, dtype=torch.int64), r"not torch.int64 \(0, 7\)"),
        (torch.full((3, 7), 5), "The factors have 5, 5, 4, 2, 3, 3, 5 levels, counted from 0: a level is out of range"),
    ],
)
def test_levels_of_another_form_are_refused(levels, message):
    with pytest.raises(ValueError, match=message):
        factor_diversity(levels)
