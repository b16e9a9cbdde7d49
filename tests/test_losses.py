"""Tests of Eq. 3 and Eq. 4, against NumPy in float64."""

import dataclasses

import numpy as np
import pytest
import torch

from centroidlib import adversarial_loss, centroid_distances, centroid_loss, generator_loss
from centroidlib.losses import hinge

D = 64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def ball(stats):
    """A random centre in 64 dimensions, and d_ref = 8: half of standard normal features around it lie outside."""
    return dataclasses.replace(stats, centroid=normal(D, seed=1), reference_distance=8.0)


@pytest.fixture
def features(ball):
    """Standard normal features around the centre: some inside the ball, some outside."""
    return ball.centroid + normal(12, D, seed=2)


def outside_of(features, ball):
    distances = np.linalg.norm(features.double().numpy() - ball.centroid.double().numpy(), axis=1)
    outside = distances > ball.reference_distance
    assert 0 < outside.sum() < len(outside)
    return distances, torch.from_numpy(outside)


def test_equation_3_is_numpys(features, ball):
    distances, _ = outside_of(features, ball)
    expected = np.maximum(0.0, distances - 8.0)
    np.testing.assert_allclose(centroid_distances(features, ball).numpy(), distances, rtol=1e-6)
    np.testing.assert_allclose(hinge(centroid_distances(features, ball), ball).numpy(), expected, rtol=1e-6, atol=2e-6)
    assert centroid_loss(features, ball).item() == pytest.approx(expected.sum() / 12, rel=1e-5)
    assert centroid_loss(features, ball, "d_ref").item() == pytest.approx(expected.mean() / 8.0, rel=1e-5)


def test_unit_d_ref_is_raw_over_d_ref(features, ball):
    ball = dataclasses.replace(ball, reference_distance=7.3)
    raw = centroid_loss(features, ball, unit="raw")
    assert centroid_loss(features, ball) == raw
    assert centroid_loss(features, ball, unit="d_ref").item() == pytest.approx(raw.item() / 7.3, rel=1e-6)


def test_loss_and_gradient_are_zero_inside_the_ball(ball):
    features = (ball.centroid + 0.1 * normal(12, D)).requires_grad_()
    loss = centroid_loss(features, ball)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(features.grad, torch.zeros(12, D))


def test_gradient_is_a_unit_vector_per_violating_sample(features, ball):
    distances, outside = outside_of(features, ball)
    features.requires_grad_()
    centroid_loss(features, ball).backward()
    expected = (features.detach() - ball.centroid) / torch.from_numpy(distances).float()[:, None] / 12 * outside[:, None]
    torch.testing.assert_close(features.grad, expected)
    torch.testing.assert_close(features.grad.norm(dim=1) * 12, outside.float())


def test_gradient_in_units_of_d_ref_is_the_raw_one_over_d_ref(features, ball):
    gradients = []
    for unit in ("raw", "d_ref"):
        leaf = features.clone().requires_grad_()
        centroid_loss(leaf, ball, unit).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(gradients[1] * 8.0, gradients[0])


@pytest.mark.parametrize("reference_distance", [8.0, 0.0, -1.0])
def test_gradient_at_the_centroid_is_zero(ball, reference_distance):
    ball = dataclasses.replace(ball, reference_distance=reference_distance)
    features = ball.centroid.repeat(3, 1).requires_grad_()
    centroid_loss(features, ball).backward()
    assert torch.equal(features.grad, torch.zeros(3, D))


def test_gradient_agrees_with_finite_differences(features, ball):
    features.requires_grad_()
    centroid_loss(features, ball).backward()
    direction, step = normal(12, D, seed=5), 1e-2
    with torch.no_grad():
        change = centroid_loss(features + step * direction, ball) - centroid_loss(features - step * direction, ball)
    assert (features.grad * direction).sum().item() == pytest.approx(change.item() / (2 * step), rel=2e-2)


def test_distances_are_float32_under_autocast(features, ball):
    with torch.autocast("cpu", torch.bfloat16):
        half = features @ torch.eye(D)
        assert half.dtype == torch.bfloat16
        distances, loss = centroid_distances(half, ball), centroid_loss(half, ball)
    assert distances.dtype == loss.dtype == torch.float32
    expected = np.linalg.norm(half.double().numpy() - ball.centroid.double().numpy(), axis=1)
    np.testing.assert_allclose(distances.numpy(), expected, rtol=1e-6)


def test_half_precision_features_do_not_overflow(ball):
    features = torch.full((2, D), 6e4, dtype=torch.float16)
    ball = dataclasses.replace(ball, centroid=torch.zeros(D, dtype=torch.float16))
    assert centroid_distances(features, ball).numpy() == pytest.approx([np.linalg.norm(features[0].double())] * 2, rel=1e-6)


@pytest.mark.parametrize("shape", [(4, D + 1), (4, D - 1), (D,), (4, D // 4, 2, 2)])
def test_features_of_another_d_are_refused(ball, shape):
    with pytest.raises(ValueError, match=r"shape .* and the centroid d = 64: Φ must be the one"):
        centroid_loss(torch.zeros(shape), ball)


def test_an_unknown_unit_is_refused(features, ball):
    with pytest.raises(ValueError, match="unit is 'raw' or 'd_ref', not 'metres'"):
        centroid_loss(features, ball, unit="metres")


def _bce(logits, label):
    p = 1.0 / (1.0 + np.exp(-logits.double().numpy()))
    return -np.mean(label * np.log(p) + (1 - label) * np.log(1.0 - p))


def test_the_generators_loss_stays_finite_at_large_logits():
    assert generator_loss(torch.tensor([-200.0]), torch.tensor(1.0), 2.0).item() == 202.0


def test_equation_4_adds_lambda_times_the_centroid_loss(features, ball):
    logits = normal(12, seed=6)
    term = centroid_loss(features, ball)
    assert generator_loss(logits, term, 2.5).item() == pytest.approx(_bce(logits, 1) + 2.5 * term.item(), rel=1e-6)
    assert generator_loss(logits, term).item() == pytest.approx(_bce(logits, 1) + 0.1 * term.item(), rel=1e-6)
    assert torch.equal(generator_loss(logits, term, 0.0), adversarial_loss(logits))
