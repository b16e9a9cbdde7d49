"""Tests of the adversarial terms and the gradient penalty, against NumPy in float64."""

import numpy as np
import pytest
import torch

from centroidlib import adversarial_loss, discriminator_loss
from centroidlib.adversarial import GAMES, gradient_penalty


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _bce(logits, label):
    p = 1.0 / (1.0 + np.exp(-logits))
    return -np.mean(label * np.log(p) + (1 - label) * np.log(1.0 - p))


def numpys(game, real, fake):
    """What D and G minimise."""
    if game == "bce":
        return _bce(real, 1) + _bce(fake, 0), _bce(fake, 1)
    if game == "hinge":
        return np.maximum(0, 1 - real).mean() + np.maximum(0, 1 + fake).mean(), -fake.mean()
    return _bce(real - fake, 1), _bce(fake - real, 1)


@pytest.mark.parametrize("game", GAMES)
def test_both_terms_are_numpys(game):
    real, fake = 3.0 * normal(9, seed=3), 3.0 * normal(9, seed=4)
    wanted = numpys(game, real.numpy(), fake.numpy())
    assert discriminator_loss(real, fake, game).item() == pytest.approx(wanted[0], rel=1e-12)
    assert adversarial_loss(fake, real, game).item() == pytest.approx(wanted[1], rel=1e-12)


def test_the_game_is_dcgans_unless_another_is_asked_for():
    real, fake = normal(9, seed=3), normal(7, seed=4)
    assert discriminator_loss(real, fake) == discriminator_loss(real, fake, "bce")
    assert adversarial_loss(fake) == adversarial_loss(fake, real, "bce")


def test_they_stay_finite_at_large_logits():
    assert adversarial_loss(torch.tensor([-200.0])).item() == 200.0
    assert discriminator_loss(torch.tensor([-300.0]), torch.tensor([100.0])).item() == 400.0
    assert adversarial_loss(torch.tensor([-200.0]), torch.tensor([100.0]), "relativistic").item() == 300.0


def test_the_penalty_is_the_mean_squared_norm_of_the_gradient_and_has_a_gradient_itself():
    """D(x) = a·x + b‖x‖²/2 has the gradient a + b x."""
    images, a = normal(5, 3, 4, 4, seed=1).requires_grad_(), normal(3, 4, 4, seed=2)
    b = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty((a * images).flatten(1).sum(1) + b * images.square().flatten(1).sum(1) / 2, images)
    gradient = a.numpy() + 0.7 * images.detach().numpy()
    assert penalty.item() == pytest.approx((gradient**2).sum((1, 2, 3)).mean(), rel=1e-12)
    penalty.backward()
    assert b.grad.item() == pytest.approx((2 * gradient * images.detach().numpy()).sum((1, 2, 3)).mean(), rel=1e-12)


def test_what_is_no_game_is_refused():
    with pytest.raises(ValueError, match="There is no game 'chess'; choose one of bce, hinge, relativistic"):
        discriminator_loss(normal(3), normal(3), "chess")
    with pytest.raises(ValueError, match="There is no game 'chess'"):
        adversarial_loss(normal(3), None, "chess")
    with pytest.raises(ValueError, match="In the relativistic game G's loss needs D's logits of real images too"):
        adversarial_loss(normal(3), game="relativistic")
