"""Tests of Algorithm 1's round: against its literal transcription, in every precision."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from conftest import TINY, latents_of
from torch.nn import functional
from torch.optim import Adam

from centroidlib import (
    Discriminator,
    TrainingConfig,
    VGG16Features,
    adversarial_loss,
    centroid_distances,
    centroid_loss,
    discriminator_loss,
    features_of,
    generator_loss,
    to_float,
)
from centroidlib.adversarial import GAMES, gradient_penalty
from centroidlib.algorithm import _adapt, _constrained, constraint_gradient, start, train_step
from centroidlib.benchmark import literal_phi, literal_start, literal_step
from centroidlib.centroid import compute_centroid
from centroidlib.constraints import CONSTRAINTS, constraint_of, equation_3
from centroidlib.models import ARCHITECTURES
from centroidlib.streams import draw_batch, draw_latents, random_stream

CPU = torch.device("cpu")


def doubled(state):
    state.generator.double()
    state.discriminator.double()
    return state


def compare_with_literal(config, faces, phi, stats, dtype, steps):
    """Both ways side by side; yields the largest relative difference of each step, and the share outside."""
    ours, theirs = start(config), literal_start(config)
    if dtype == torch.float64:
        doubled(ours), doubled(theirs)
    for step in range(steps):
        real = draw_batch(faces, step, config.batch_size, 0, False, CPU).to(dtype)
        latents = latents_of(step).to(dtype)
        found = train_step(ours, config, real, latents, phi, stats)
        wanted = literal_step(theirs, config, real, latents, phi, stats)
        apart = [abs(float(found[n]) - v) / max(abs(v), 1e-30) if float(found[n]) != v else 0.0 for n, v in wanted.items()]
        for network in ("generator", "discriminator"):
            pairs = zip(getattr(ours, network).state_dict().values(), getattr(theirs, network).state_dict().values(), strict=True)
            apart += [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b.is_floating_point()]
        yield max(apart), wanted["outside"]


@pytest.mark.parametrize(("unit", "centroid_samples"), [("raw", 0), ("d_ref", 0), ("d_ref", 3)])
def test_it_is_its_literal_transcription_in_float64(faces, toy_phi, toy_stats, unit, centroid_samples):
    config = dataclasses.replace(TINY, unit=unit, centroid_samples=centroid_samples)
    double_phi = copy.deepcopy(toy_phi).double()
    apart, outside = zip(*compare_with_literal(config, faces, double_phi, toy_stats, torch.float64, 20), strict=True)
    assert max(apart) < 1e-10
    assert any(0 < share < 1 for share in outside)


def test_without_lambda_it_is_dcgan_in_float64(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, lambda_=0.0)
    double_phi = copy.deepcopy(toy_phi).double()
    apart, _ = zip(*compare_with_literal(config, faces, double_phi, toy_stats, torch.float64, 20), strict=True)
    assert max(apart) < 1e-10


def test_in_float32_its_first_step_is_the_literal_one(faces, toy_phi, toy_stats):
    apart, outside = zip(*compare_with_literal(TINY, faces, toy_phi, toy_stats, torch.float32, 2), strict=True)
    assert apart[0] < 1e-3
    assert any(0 < share < 1 for share in outside)


def test_with_vgg_its_first_step_is_the_literal_one(faces):
    """At a width at which both layouts take different kernels."""
    phi = VGG16Features(9, "random")
    stats = compute_centroid(faces, phi)
    stats = dataclasses.replace(stats, reference_distance=0.9 * stats.reference_distance)
    config = TrainingConfig(batch_size=8, width=16, lambda_=40.0, unit="d_ref", precision="float32")
    ours, theirs = start(config), literal_start(config)
    real, latents = draw_batch(faces, 0, 8, 0, False, CPU), draw_latents(8, 100, random_stream(0, "test"))
    found, wanted = train_step(ours, config, real, latents, phi, stats), None
    wanted = literal_step(theirs, config, real, latents, literal_phi(phi), stats)
    assert wanted["loss_centroid"] > 0
    for name, value in wanted.items():
        assert float(found[name]) == pytest.approx(value, rel=1e-3), name


def test_in_bfloat16_the_loss_is_within_a_hundredth_and_unbiased(faces):
    phi = VGG16Features(16, "random")
    stats = compute_centroid(faces, phi)
    real = to_float(faces[:8])
    constraint = partial(centroid_loss, stats=stats, unit="d_ref")
    exact_pull, exact_loss, exact_features = constraint_gradient(real, phi, constraint)
    rough_pull, rough_loss, rough_features = constraint_gradient(real, phi, constraint, "bfloat16")
    assert rough_features.dtype == rough_loss.dtype == torch.float32
    assert not torch.equal(exact_features, rough_features)
    assert exact_loss > 0
    assert float(rough_loss) == pytest.approx(float(exact_loss), rel=1e-2)
    error = centroid_distances(rough_features, stats) / centroid_distances(exact_features, stats) - 1
    assert error.abs().max() < 2e-3
    assert error.mean().abs() < 1e-3
    assert functional.cosine_similarity(exact_pull.flatten(), rough_pull.flatten(), dim=0) > 0.9


@pytest.mark.parametrize("lambda_", [0.0, 10.0])
def test_a_step_in_bfloat16_is_near_one_in_float32(faces, toy_phi, toy_stats, lambda_):
    seen = []
    for precision in ("float32", "bfloat16"):
        config = dataclasses.replace(TINY, lambda_=lambda_, precision=precision)
        state = start(config)
        real = draw_batch(faces, 0, config.batch_size, 0, False, CPU)
        seen.append(train_step(state, config, real, latents_of(0), toy_phi, toy_stats))
        assert {w.dtype for n in (state.generator, state.discriminator) for w in n.parameters()} == {torch.float32}
    exact, rough = seen
    assert exact.keys() == rough.keys()
    assert {value.dtype for value in rough.values()} == {torch.float32}
    for name in ("loss_d", "loss_adversarial", "gradient_d", "gradient_g"):
        assert float(rough[name]) != float(exact[name]), name
        assert float(rough[name]) == pytest.approx(float(exact[name]), rel=0.05), name


def test_auto_takes_what_the_machine_is_fast_in(faces, monkeypatch):
    def losses(precision):
        config = dataclasses.replace(TINY, lambda_=0.0, precision=precision)
        return float(train_step(start(config), config, to_float(faces[:4]), latents_of(0))["loss_d"])

    for fast, same in ((False, "float32"), (True, "bfloat16")):
        monkeypatch.setattr("centroidlib.machine.fast_bfloat16", lambda device, fast=fast: fast)
        assert losses("auto") == losses(same)


def test_the_average_follows_the_generator(faces):
    config = dataclasses.replace(TINY, lambda_=0.0, ema=0.75)
    state = start(config)
    wanted = {name: tensor.double() for name, tensor in state.generator.state_dict().items()}
    for step in range(30):
        train_step(state, config, draw_batch(faces, step, 4, 0, False, CPU), latents_of(step))
        decay = min(0.75, (2 + step) / (11 + step))
        wanted = {name: decay * wanted[name] + (1 - decay) * now.double() for name, now in state.generator.state_dict().items()}
    found = state.averaged.state_dict()
    assert decay == 0.75
    for name, tensor in found.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor.double(), wanted[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(found["layers.0.weight"], state.generator.state_dict()["layers.0.weight"])


def test_an_average_changes_nothing_of_the_training(faces):
    ends = []
    for ema in (0.0, 0.9):
        config = dataclasses.replace(TINY, lambda_=0.0, ema=ema)
        state = start(config)
        for step in range(3):
            train_step(state, config, draw_batch(faces, step, 4, 0, False, CPU), latents_of(step))
        ends.append(state.generator.state_dict())
    assert start(TINY).averaged is None
    assert all(torch.equal(a, b) for a, b in zip(*(end.values() for end in ends), strict=True))


def test_a_step_without_phi_is_refused_where_lambda_is_above_0(faces):
    state = start(TINY)
    before = state.discriminator.layers[0].weight.clone()
    with pytest.raises(ValueError, match=r"λ is above 0.*pass phi and stats"):
        train_step(state, TINY, to_float(faces[:4]), latents_of(0))
    assert torch.equal(before, state.discriminator.layers[0].weight)


def test_what_a_step_tells_of_d(faces):
    state = start(TINY)
    answers = iter([torch.tensor([2.0, 1.0, -1.0, 3.0]), torch.tensor([-1.0, 1.0, 2.0, 0.5]), torch.zeros(4)])
    judge = state.discriminator.layers[0]
    state.discriminator.forward = lambda x: judge(x).flatten(1).mean(1) * 0.0 + next(answers)
    seen = train_step(state, dataclasses.replace(TINY, lambda_=0.0), to_float(faces[:4]), latents_of(0))
    assert (float(seen["accuracy_real"]), float(seen["accuracy_fake"])) == (0.75, 0.25)
    assert float(seen["d_real"]) == pytest.approx(torch.tensor([2.0, 1.0, -1.0, 3.0]).sigmoid().mean().item())


def test_the_gradient_norms_are_those_of_all_weights_together(faces):
    config = dataclasses.replace(TINY, lambda_=0.0)
    state = start(config)
    seen = train_step(state, config, to_float(faces[:4]), latents_of(0))
    for name, network in (("gradient_d", state.discriminator), ("gradient_g", state.generator)):
        gradients = [w.grad.flatten() for w in network.parameters()]
        assert float(seen[name]) == pytest.approx(float(torch.cat(gradients).norm()), rel=1e-5)


@pytest.mark.parametrize("lambda_", [3.0, 30.0])
def test_the_ratio_is_of_the_gradients_at_the_images(faces, toy_phi, toy_stats, lambda_):
    config = dataclasses.replace(TINY, lambda_=lambda_)
    seen = train_step(ours := start(config), config, real := to_float(faces[:4]), latents_of(0), toy_phi, toy_stats)
    state = start(config)
    train_step(state, dataclasses.replace(config, lambda_=0.0), real, latents_of(0))  # for its discriminator after the step
    assert torch.equal(state.discriminator.layers[0].weight, ours.discriminator.layers[0].weight)
    fake = start(config).generator(latents_of(0))
    adversarial = functional.softplus(-state.discriminator(fake)).mean()
    norms = [torch.autograd.grad(loss, fake, retain_graph=True)[0].norm() for loss in
             (centroid_loss(toy_phi(fake), toy_stats, "d_ref"), adversarial)]  # fmt: skip
    assert float(seen["gradient_ratio"]) == pytest.approx(float(lambda_ * norms[0] / norms[1]), rel=1e-3)


def test_another_seed_draws_other_networks():
    ours, theirs = start(TINY), start(dataclasses.replace(TINY, seed=1))
    assert not torch.equal(ours.generator.layers[0].weight, theirs.generator.layers[0].weight)
    assert not torch.equal(ours.discriminator.layers[0].weight, theirs.discriminator.layers[0].weight)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 100])
@pytest.mark.parametrize("unit", ["raw", "d_ref"])
def test_the_centroid_gradient_is_that_of_autograd(toy_phi, toy_stats, chunk, unit):
    fake = start(TINY).generator(draw_latents(8, TINY.latent, random_stream(0, "test"))).detach().requires_grad_()
    distances = centroid_distances(toy_phi(fake), toy_stats).detach()
    stats = dataclasses.replace(toy_stats, reference_distance=float(distances.sort().values[5]))
    (wanted,) = torch.autograd.grad(centroid_loss(toy_phi(fake), stats, unit), fake)
    constraint = partial(centroid_loss, stats=stats, unit=unit)
    found, value, features = constraint_gradient(fake, toy_phi, constraint, chunk=chunk)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(centroid_distances(features, stats), distances)
    torch.testing.assert_close(value, constraint(toy_phi(fake)).detach())
    assert (found.flatten(1).norm(dim=1) > 0).sum() == 2


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_a_constraint_takes_the_place_of_equation_3(faces, toy_phi, toy_stats, name):
    """A whole step, against a generator that is given Eq. 4 as one sum."""
    constraint = constraint_of(name, features_of(faces, toy_phi, "toy").double(), "diagonal", 4)
    ours, theirs = doubled(start(TINY)), doubled(start(TINY))
    double_phi = copy.deepcopy(toy_phi).double()
    real, latents = draw_batch(faces, 0, 4, 0, False, CPU).double(), latents_of(0).double()
    seen = train_step(ours, TINY, real, latents, double_phi, toy_stats, constraint)
    train_step(theirs, dataclasses.replace(TINY, lambda_=0.0), real, latents)  # its discriminator's step is the same
    theirs.generator.load_state_dict(doubled(start(TINY)).generator.state_dict())
    optimiser = Adam(theirs.generator.parameters(), TINY.learning_rate, (TINY.beta1, TINY.beta2))
    optimiser.zero_grad()
    fake = theirs.generator(latents)
    term = constraint(double_phi(fake))
    generator_loss(theirs.discriminator(fake), term, TINY.lambda_).backward()
    optimiser.step()
    assert float(seen["loss_centroid"]) == pytest.approx(term.item(), rel=1e-10)
    for found, wanted in zip(ours.generator.parameters(), theirs.generator.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_games_and_architectures_go_with_any_constraint(faces, toy_phi, toy_stats, game, architecture):
    """A whole step with penalties, against autograd of the two losses written down."""
    config = dataclasses.replace(TINY, game=game, architecture=architecture, r1=0.3, r2=0.2)
    constraint = constraint_of("sliced", features_of(faces, toy_phi, "toy").double(), "full", 4)
    ours, theirs = doubled(start(config)), doubled(start(config))
    double_phi = copy.deepcopy(toy_phi).double()
    real, latents = draw_batch(faces, 0, 4, 0, False, CPU).double(), latents_of(0).double()
    train_step(ours, config, real, latents, double_phi, toy_stats, constraint)

    fake = theirs.generator(latents)
    x, y = real.clone().requires_grad_(), fake.detach().requires_grad_()
    real_logits, fake_logits = theirs.discriminator(x), theirs.discriminator(y)
    loss = discriminator_loss(real_logits, fake_logits, game)
    loss = loss + 0.15 * gradient_penalty(real_logits, x) + 0.1 * gradient_penalty(fake_logits, y)
    gradients = torch.autograd.grad(loss, tuple(theirs.discriminator.parameters()))
    for weight, moved in zip(theirs.discriminator.parameters(), ours.discriminator.parameters(), strict=True):
        weight.data.copy_(moved.data)
    real_logits = theirs.discriminator(real).detach() if game == "relativistic" else None
    loss = adversarial_loss(theirs.discriminator(fake), real_logits, game) + 10 * constraint(double_phi(fake))
    gradients += torch.autograd.grad(loss, tuple(theirs.generator.parameters()))
    found = [weight.grad for network in (ours.discriminator, ours.generator) for weight in network.parameters()]
    for ours_, theirs_ in zip(found, gradients, strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_constraint_may_be_on_the_discriminators_own_features(faces, toy_phi, toy_stats, architecture):
    """Around a moving centroid; Φ is then only measured with."""
    config = dataclasses.replace(TINY, space="discriminator", architecture=architecture)
    ours, theirs = doubled(start(config)), doubled(start(config))
    ours.moving.double()
    for state in (ours, theirs):
        [*state.generator.parameters()][-1].data.add_(3)  # far outside
    real, latents = draw_batch(faces, 0, 4, 0, False, CPU).double(), latents_of(0).double()
    seen = train_step(ours, config, real, latents, copy.deepcopy(toy_phi).double(), toy_stats)
    assert 0 <= seen["outside"] <= 1

    fake = theirs.generator(latents)
    for images in (real, fake.detach()):
        theirs.discriminator(images)
    for weight, moved in zip(theirs.discriminator.parameters(), ours.discriminator.parameters(), strict=True):
        weight.data.copy_(moved.data)
    adversarial = adversarial_loss(theirs.discriminator(fake))
    shown, beside = theirs.discriminator.features(torch.cat([real, fake])).split(4)
    shown = shown.detach()
    distances = (shown - shown.mean(0)).norm(dim=1)
    away = (beside - shown.mean(0)).norm(dim=1)
    term = torch.relu(away / distances.mean() - 1).mean()
    assert float(seen["loss_centroid"]) == pytest.approx(term.item(), rel=1e-9)
    assert term.item() > 0
    wanted = torch.autograd.grad(adversarial + 10 * term, tuple(theirs.generator.parameters()))
    for weight, gradient in zip(ours.generator.parameters(), wanted, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-7, atol=1e-10)
    with pytest.raises(ValueError, match="space is one of phi, discriminator, not 'inception'"):
        dataclasses.replace(TINY, space="inception")


def test_lambda_grows_while_generated_images_pay_more_than_real_ones_and_shrinks_to_0_while_less(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, adapt=0.25)
    for floor, wanted in ((1e-6, [10, 12.5, 15, 17.5]), (1e6, [10, 7.5, 5, 2.5, 0, 0])):
        state = start(config)
        for step, lambda_ in enumerate(wanted):
            real = draw_batch(faces, step, 4, 0, False, CPU)
            constraint = dataclasses.replace(equation_3(toy_stats, "d_ref"), floor=floor, scatter=floor)
            seen = train_step(state, config, real, latents_of(step), toy_phi, toy_stats, constraint)
            assert float(seen["lambda"]) == pytest.approx(lambda_, abs=1e-4)


def test_a_lambda_at_which_generated_images_pay_what_real_ones_do_stays(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, adapt=0.25)
    real = to_float(faces[:4])
    value = float(train_step(start(config), config, real, latents_of(0), toy_phi, toy_stats)["loss_centroid"])
    state = start(config)
    constraint = dataclasses.replace(equation_3(toy_stats, "d_ref"), floor=value)
    train_step(state, config, real, latents_of(0), toy_phi, toy_stats, constraint)
    assert float(state.multiplier[0]) == pytest.approx(10)


def test_an_adapting_lambda_stops_where_generated_batches_have_come_to_what_real_ones_pay():
    rng = torch.Generator().manual_seed(0)
    constraint = constraint_of("energy", torch.randn(2000, 4, generator=rng), "none", 32)
    config, lambda_, shift = dataclasses.replace(TINY, lambda_=0.05, adapt=0.02), torch.tensor(0.05), torch.full((4,), 2.0)
    lambdas, above = [], []
    for _ in range(750):  # "generated" features that differ from the real ones in their mean only, and nothing that pulls away
        mean = shift.clone().requires_grad_()
        value = constraint(torch.randn(32, 4, generator=rng) + mean)
        shift -= 0.3 * torch.autograd.grad(lambda_ * value, mean)[0]
        above.append(float((value.detach() - constraint.floor) / constraint.scatter))
        _adapt(lambda_, torch.tensor(above[-1]), config)
        lambdas.append(float(lambda_))
    assert above[0] > 100
    assert abs(sum(above[-250:]) / 250) < 0.5
    assert lambdas[199] > 4 * lambdas[0]
    assert all(abs(late / lambdas[249] - 1) < 0.2 for late in lambdas[250:])


def test_lambda_warms_up_and_is_the_paper_s_from_then_on(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, warmup=4)
    state = start(config)
    seen = [train_step(state, config, to_float(faces[:4]), latents_of(s), toy_phi, toy_stats)["lambda"].item() for s in range(6)]
    assert seen == [2.5, 5, 7.5, 10, 10, 10]


def test_a_lambda_does_not_adapt_while_it_warms_up(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, lambda_=10, warmup=3, adapt=0.25)  # a whole number, as who calls it may write
    state = start(config)
    constraint = dataclasses.replace(equation_3(toy_stats, "d_ref"), floor=-1.0)  # whatever is generated pays more
    for step, lambda_ in enumerate((10, 10, 10, 12.5, 15)):
        train_step(state, config, draw_batch(faces, step, 4, 0, False, CPU), latents_of(step), toy_phi, toy_stats, constraint)
        assert float(state.multiplier[0]) == pytest.approx(lambda_)


def test_a_constraint_on_phi_does_not_go_with_the_discriminators_features(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, space="discriminator")
    with pytest.raises(ValueError, match=r"Eq\. 3, raw is on Φ's features, and space = 'discriminator' asks for its own: choose"):
        train_step(start(config), config, to_float(faces[:4]), latents_of(0), toy_phi, toy_stats, equation_3(toy_stats))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_in_the_discriminators_features_noise_pays_more_than_real_images(faces, architecture):
    """Though its batch norm alone would bring it to where they are."""
    state = start(dataclasses.replace(TINY, space="discriminator", architecture=architecture, width=8))
    real = to_float(faces[:16])
    shown = []
    space, constraint = _constrained(state, real, lambda images: shown.append(images) or images, None, None)
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert constraint(space(noise)) > 2 * constraint(space(to_float(faces[6:22])))
    assert torch.equal(shown[0], torch.cat([real, noise]))  # what D sees of both goes through what makes them noisy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("game", GAMES)
def test_all_of_it_is_finite_in_bfloat16(faces, toy_phi, toy_stats, game, architecture):
    config = dataclasses.replace(TINY, game=game, architecture=architecture, r1=0.3, r2=0.2, precision="bfloat16")
    for space in ("phi", "discriminator"):
        state = start(dataclasses.replace(config, space=space))
        seen = train_step(state, dataclasses.replace(config, space=space), to_float(faces[:4]), latents_of(0), toy_phi, toy_stats)
        assert all(torch.isfinite(value) for value in seen.values())


def test_in_the_relativistic_game_pairs_are_told_right(faces):
    config = dataclasses.replace(TINY, game="relativistic", lambda_=0.0)
    seen = train_step(start(config), config, to_float(faces[:4]), latents_of(0))
    assert seen["accuracy_real"] == seen["accuracy_fake"]


def test_a_generator_that_fools_d_altogether_is_no_failure(faces, toy_phi, toy_stats):
    state = start(TINY)
    judge = state.discriminator.layers[0]  # part of the answer only for the sake of its gradient, which is 0
    state.discriminator.forward = lambda x: judge(x).flatten(1).mean(1) * 0.0 + 200.0
    seen = train_step(state, TINY, to_float(faces[:4]), latents_of(0), toy_phi, toy_stats)
    assert all(torch.isfinite(value) for value in seen.values())


def test_instance_noise_is_on_all_that_d_sees_and_from_the_seed(faces, toy_phi, toy_stats, monkeypatch):
    seen: list[torch.Tensor] = []
    forward = Discriminator.forward
    monkeypatch.setattr(Discriminator, "forward", lambda self, x: seen.append(x.detach()) or forward(self, x))
    real = to_float(faces[:4])
    for level in (0.0, 0.5, 0.5):
        train_step(start(TINY), dataclasses.replace(TINY, instance_noise=level), real, latents_of(0), toy_phi, toy_stats)
    plain, noisy, again = seen[:3], seen[3:6], seen[6:]
    assert torch.equal(plain[0], real)
    for before, after, repeated in zip(plain, noisy, again, strict=True):
        assert (after - before).std().item() == pytest.approx(0.5, rel=0.05)
        assert torch.equal(after, repeated)
    assert not torch.equal(noisy[1] - plain[1], noisy[2] - plain[2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "steps must be above 0, not 0"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": -1e-4}, "learning_rate must be above 0"),
        ({"width": 0}, "width must be above 0"),
        ({"latent": -1}, "latent must be above 0"),
        ({"lambda_": -0.1}, r"lambda_ must be 0 .* or above, not -0.1"),
        ({"centroid_samples": 129}, r"centroid_samples must be 0 \(the whole batch\) to 128, not 129"),
        ({"centroid_samples": -1}, "centroid_samples must be 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, not nan"),
        ({"instance_noise": float("nan")}, "instance_noise must be 0 or above, not nan"),
        ({"r1": -1.0}, "r1 must be 0 or above, not -1.0"),
        ({"game": "chess"}, "game is one of bce, hinge, relativistic, not 'chess'"),
        ({"architecture": "unet"}, "architecture is one of dcgan, resnet, not 'unet'"),
        ({"beta1": float("nan")}, "beta1 must be 0 or above and below 1, not nan"),
        ({"beta2": 1.0}, "beta2 must be 0 or above and below 1, not 1.0"),
        ({"warmup": -1}, "warmup is steps and adapt a share of λ, 0 to 1, not -1 and 0.0"),
        ({"adapt": float("nan")}, "adapt a share of λ, 0 to 1, not 0 and nan"),
        ({"ema": 1.0}, "ema is a decay, 0 .* or above and below 1, not 1.0"),
        ({"ema": -0.5}, "ema is a decay"),
        ({"unit": "pixels"}, "unit is one of raw, d_ref, not 'pixels'"),
        ({"precision": "float16"}, "precision is one of auto, float32, bfloat16, not 'float16'"),
    ],
)
def test_a_wrong_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


def test_the_defaults_are_the_papers_and_dcgans():
    config = TrainingConfig()
    assert (config.lambda_, config.unit, config.batch_size, config.learning_rate) == (0.1, "raw", 128, 2e-4)
    assert (config.beta1, config.beta2, config.latent, config.width) == (0.5, 0.999, 100, 64)
    assert config.ema == 0.0
