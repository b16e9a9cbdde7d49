"""Tests of Algorithm 1: against a literal transcription, and of everything a long run depends on."""

import copy
import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

import centroidlib as cl
from centroidlib import training
from centroidlib.training import TrainingConfig, batch_indices, centroid_gradient, draw_latents, random_stream, start

TINY = TrainingConfig(steps=6, batch_size=4, lambda_=10.0, unit="d_ref", latent=8, width=2)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return cl.draw_faces(22, seed=1)[0]


@pytest.fixture(scope="module")
def phi() -> nn.Module:
    layers = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(192, 12), nn.Tanh())
    rng = torch.Generator().manual_seed(0)
    for parameter in layers.parameters():
        parameter.data.normal_(0.0, 0.3, generator=rng)
    return layers.requires_grad_(False).eval()


@pytest.fixture(scope="module")
def stats(images, phi) -> cl.CentroidStats:
    """The images' centroid, with a ball small enough that generated images lie inside and outside of it."""
    found = cl.compute_centroid(images, phi)
    fake = start(TINY).generator(latents_of(0))
    distances = cl.centroid_distances(phi(fake.detach()), found)
    return dataclasses.replace(found, reference_distance=float(distances.median()))


def latents_of(step: int) -> torch.Tensor:
    return draw_latents(TINY.batch_size, TINY.latent, random_stream(0, "test", step))


def doubled(state: training.TrainingState) -> training.TrainingState:
    state.generator.double()
    state.discriminator.double()
    return state


def literal_step(state, real, latents, config, phi, centroid, reference_distance):
    """Algorithm 1 word for word, with autograd alone. Returns L_D, L_G's terms and the share outside."""
    fake = state.generator(latents)
    real_logits, fake_logits = state.discriminator(real), state.discriminator(fake.detach())
    loss_d = -functional.logsigmoid(real_logits).mean() - functional.logsigmoid(-fake_logits).mean()
    state.discriminator_optimiser.zero_grad()
    loss_d.backward()
    state.discriminator_optimiser.step()

    adversarial = -functional.logsigmoid(state.discriminator(fake)).mean()
    distances = ((phi(fake[: config.centroid_samples or None]) - centroid) ** 2).sum(1).sqrt()
    centroid_term = torch.maximum(torch.zeros_like(distances), distances - reference_distance).mean()
    if config.unit == "d_ref":
        centroid_term = centroid_term / reference_distance
    loss_g = adversarial + config.lambda_ * centroid_term
    state.generator_optimiser.zero_grad()
    loss_g.backward()
    state.generator_optimiser.step()
    return loss_d.item(), adversarial.item(), centroid_term.item(), (distances > reference_distance).double().mean().item()


def compare_with_literal(config, images, phi, stats, dtype, steps):
    """Both ways side by side; yields the largest relative difference of each step, and the share outside."""
    ours, theirs = start(config), start(config)
    centroid = stats.centroid.to(dtype)
    if dtype == torch.float64:
        doubled(ours), doubled(theirs)
    for step in range(steps):
        real = cl.to_float(images[batch_indices(step, config.batch_size, len(images), 0)]).to(dtype)
        latents = latents_of(step).to(dtype)
        seen = training.train_step(ours, config, real, latents, phi, stats)
        *losses, outside = literal_step(theirs, real, latents, config, phi, centroid, stats.reference_distance)
        found = [seen["loss_d"], seen["loss_adversarial"], *([seen["loss_centroid"]] if config.lambda_ else [])]
        apart = [abs(float(a) - b) / max(abs(b), 1e-30) if a != b else 0.0 for a, b in zip(found, losses, strict=False)]
        for network in ("generator", "discriminator"):
            pairs = zip(getattr(ours, network).state_dict().values(), getattr(theirs, network).state_dict().values(), strict=True)
            apart += [float((a - b).abs().max() / b.abs().max()) for a, b in pairs if b.is_floating_point()]
        yield max(apart), outside


@pytest.fixture
def double_distances(monkeypatch):
    """The library measures distances in float32 whatever Φ returns; here the rest is held in float64."""
    monkeypatch.setattr(training, "centroid_distances", lambda f, s: torch.linalg.vector_norm(f - s.centroid.double(), dim=1))


@pytest.mark.parametrize(("unit", "centroid_samples"), [("raw", 0), ("d_ref", 0), ("d_ref", 3)])
def test_algorithm_1_is_its_literal_transcription_in_float64(images, phi, stats, double_distances, unit, centroid_samples):
    config = dataclasses.replace(TINY, unit=unit, centroid_samples=centroid_samples)
    double_phi = copy.deepcopy(phi).double()
    apart, outside = zip(*compare_with_literal(config, images, double_phi, stats, torch.float64, 12), strict=True)
    assert max(apart) < 1e-10
    assert any(0 < share < 1 for share in outside)


def test_without_lambda_it_is_dcgan_in_float64(images, phi, stats):
    config = dataclasses.replace(TINY, lambda_=0.0)
    apart, _ = zip(*compare_with_literal(config, images, copy.deepcopy(phi).double(), stats, torch.float64, 12), strict=True)
    assert max(apart) < 1e-10


def test_algorithm_1_in_the_precision_it_trains_in(images, phi, stats):
    apart, outside = zip(*compare_with_literal(TINY, images, phi, stats, torch.float32, 5), strict=True)
    assert apart[0] < 1e-5
    assert max(apart) < 1e-3
    assert any(0 < share < 1 for share in outside)


@pytest.mark.parametrize("chunk", [1, 3, 4, 8, 100])
@pytest.mark.parametrize("unit", ["raw", "d_ref"])
def test_the_centroid_gradient_is_that_of_autograd(phi, stats, chunk, unit):
    fake = start(TINY).generator(draw_latents(8, TINY.latent, random_stream(0, "test"))).detach().requires_grad_()
    distances = cl.centroid_distances(phi(fake), stats).detach()
    stats = dataclasses.replace(stats, reference_distance=float(distances.sort().values[5]))
    loss = cl.centroid_loss(phi(fake), stats, unit)
    (wanted,) = torch.autograd.grad(loss, fake)
    found_loss, found, found_distances = centroid_gradient(fake, phi, stats, unit, chunk)
    torch.testing.assert_close(found_loss, loss.detach())
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found_distances, distances)
    assert (found.flatten(1).norm(dim=1) > 0).sum() == 2


def test_a_step_without_phi_is_refused_where_lambda_is_above_0(images, tmp_path):
    with pytest.raises(ValueError, match=r"λ is above 0.*pass phi and stats"):
        cl.train(images, TINY, tmp_path)


def test_arms_of_one_seed_share_networks_latents_and_order(images, phi, stats, tmp_path, monkeypatch):
    shown: dict[float, list[torch.Tensor]] = {0.0: [], 10.0: []}
    step = training.train_step

    def spy(state, config, real, latents, *rest):
        if state.step == 0:
            shown[config.lambda_] += [w.clone() for n in (state.generator, state.discriminator) for w in n.parameters()]
        shown[config.lambda_] += [real.clone(), latents.clone()]
        return step(state, config, real, latents, *rest)

    monkeypatch.setattr(training, "train_step", spy)
    for lambda_ in shown:
        cl.train(images, dataclasses.replace(TINY, lambda_=lambda_), tmp_path / str(lambda_), phi, stats)
    assert len(shown[0.0]) == len(shown[10.0]) > 12
    assert all(torch.equal(a, b) for a, b in zip(*shown.values(), strict=True))
    assert not torch.equal(shown[0.0][-1], shown[0.0][-3])  # other latents in every step
    ends = [load_file(tmp_path / str(lambda_) / "generator.safetensors") for lambda_ in shown]
    assert not torch.equal(ends[0]["layers.0.weight"], ends[1]["layers.0.weight"])


def test_another_seed_changes_all_three():
    ours, theirs = start(TINY), start(dataclasses.replace(TINY, seed=1))
    assert not torch.equal(ours.generator.layers[0].weight, theirs.generator.layers[0].weight)
    assert not torch.equal(ours.discriminator.layers[0].weight, theirs.discriminator.layers[0].weight)
    assert not torch.equal(batch_indices(0, 8, 100, seed=0), batch_indices(0, 8, 100, seed=1))
    assert not torch.equal(*(draw_latents(4, 8, random_stream(seed, "latents", 0)) for seed in (0, 1)))


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


def test_one_run_twice_gives_the_same_bits(images, phi, stats, tmp_path):
    for name in ("first", "second"):
        cl.train(images, TINY, tmp_path / name, phi, stats)
    first, second = (tmp_path / n / "generator.safetensors" for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("lambda_", [0.0, 10.0])
def test_a_continued_run_equals_an_uninterrupted_one_bit_for_bit(images, phi, stats, tmp_path, lambda_):
    short = dataclasses.replace(TINY, lambda_=lambda_, steps=5, flip=True)
    long = dataclasses.replace(short, steps=10)
    cl.train(images, long, tmp_path / "whole", phi, stats)
    cl.train(images, short, tmp_path / "parts", phi, stats)
    assert not np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "parts")))
    cl.train(images, long, tmp_path / "parts", phi, stats)
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "parts")))
    saved = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("whole", "parts")]
    for name in ("discriminator", "generator_optimiser", "discriminator_optimiser"):
        torch.testing.assert_close(saved[0]["parts"][name], saved[1]["parts"][name], rtol=0, atol=0)


def generator_bytes(folder):
    return np.frombuffer((folder / "generator.safetensors").read_bytes(), np.uint8)


def test_an_interrupted_run_continues_from_its_last_checkpoint(images, phi, stats, tmp_path, monkeypatch):
    cl.train(images, TINY, tmp_path / "whole", phi, stats, samples_every=2)
    step = training.train_step

    def interrupted(state, *rest):
        if state.step == 5:
            raise KeyboardInterrupt
        return step(state, *rest)

    monkeypatch.setattr(training, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cl.train(images, TINY, tmp_path / "cut", phi, stats, samples_every=2)
    monkeypatch.setattr(training, "train_step", step)
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not (tmp_path / "cut" / "generator.safetensors").exists()
    history = cl.train(images, TINY, tmp_path / "cut", phi, stats, history_every=1, samples_every=2)
    assert history["step"].iloc[-1] == 6
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "cut")))


def test_a_finished_run_is_not_trained_further(images, phi, stats, tmp_path, monkeypatch):
    cl.train(images, TINY, tmp_path, phi, stats)
    before = generator_bytes(tmp_path).copy()
    monkeypatch.setattr(training, "train_step", None)
    assert cl.train(images, TINY, tmp_path, phi, stats)["step"].iloc[-1] == 6
    assert np.array_equal(before, generator_bytes(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambda_": 3.0}, r"other parameters \(lambda_ = 10.0 there, 3.0 asked for\)"),
        ({"seed": 1, "beta1": 0.9}, r"\(beta1 = 0.5 there, 0.9 asked for; seed = 0 there, 1 asked for\)"),
        ({"steps": 4}, "has 6 steps, more than the 4 asked for"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(images, phi, stats, tmp_path, changes, message):
    cl.train(images, TINY, tmp_path, phi, stats)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        cl.train(images, dataclasses.replace(TINY, **changes), tmp_path, phi, stats)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_other_images_or_another_centroid_is_refused(images, phi, stats, tmp_path):
    cl.train(images, TINY, tmp_path, phi, stats)
    with pytest.raises(ValueError, match=r"other parameters \(images = "):
        cl.train(images[:-1], TINY, tmp_path, phi, stats)
    with pytest.raises(ValueError, match=r"phi = .* there, 'another' asked for; reference_distance = "):
        cl.train(images, TINY, tmp_path, phi, dataclasses.replace(stats, fingerprint="another", reference_distance=1.0))


@pytest.mark.parametrize("content", ["cut", "text", "empty", "other"])
def test_a_damaged_checkpoint_is_named(images, phi, stats, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    cl.train(images, TINY, tmp_path, phi, stats)
    if content == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:5000], "text": b"no checkpoint", "empty": b""}[content])
    with pytest.raises(ValueError, match=r"checkpoint.pt in .* is damaged: delete it to begin again"):
        cl.train(images, TINY, tmp_path, phi, stats)


def test_a_diverged_run_stops_in_a_sentence_and_keeps_its_checkpoint(images, phi, stats, tmp_path, monkeypatch):
    step = training.train_step

    def diverging(state, *rest):
        if state.step == 3:
            state.generator.layers[0].weight.data.fill_(float("nan"))
        return step(state, *rest)

    monkeypatch.setattr(training, "train_step", diverging)
    with pytest.raises(FloatingPointError, match=r"Step 4: not finite: loss_d, .*checkpoint in .* is kept; try a smaller"):
        cl.train(images, TINY, tmp_path, phi, stats, samples_every=2)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 2
    assert all(torch.isfinite(w).all() for w in saved["parts"]["generator"].values())
    assert not (tmp_path / "generator.safetensors").exists()


def test_weights_that_are_lost_after_a_finite_loss_are_not_saved(images, phi, stats, tmp_path, monkeypatch):
    step = training.train_step

    def diverging(state, *rest):
        seen = step(state, *rest)
        if state.step == 4:
            state.generator.layers[0].weight.data.fill_(float("nan"))
        return seen

    monkeypatch.setattr(training, "train_step", diverging)
    with pytest.raises(FloatingPointError, match=r"Step [45]: "):
        cl.train(images, TINY, tmp_path, phi, stats, samples_every=2)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(torch.isfinite(w).all() for w in saved["parts"]["generator"].values())


def test_a_huge_learning_rate_stops_in_a_sentence(images, phi, stats, tmp_path):
    config = dataclasses.replace(TINY, learning_rate=1e30, steps=40)
    with pytest.raises(FloatingPointError, match=r"Step \d+: not finite: .* Training has stopped"):
        cl.train(images, config, tmp_path, phi, stats, history_every=1)


def test_a_generator_that_fools_d_altogether_is_no_failure(images, phi, stats):
    state = start(TINY)
    judge = state.discriminator.layers[0]  # part of the answer only for the sake of its gradient, which is 0
    state.discriminator.forward = lambda x: judge(x).flatten(1).mean(1) * 0.0 + 200.0
    seen = training.train_step(state, TINY, cl.to_float(images[:4]), latents_of(0), phi, stats)
    assert all(torch.isfinite(value) for value in seen.values())


@pytest.mark.parametrize("lambda_", [0.0, 10.0])
def test_history_and_samples(images, phi, stats, tmp_path, lambda_):
    config = dataclasses.replace(TINY, lambda_=lambda_, steps=7)
    history = cl.train(images, config, tmp_path, phi, stats, history_every=2, samples_every=3)
    columns = ["step", "loss_d", "loss_adversarial", "d_real", "d_fake", "loss_centroid", "outside"]
    assert list(history.columns) == [*columns, *["gradient_ratio"] * (lambda_ > 0), "hinge_over_floor", "seconds"]
    assert list(history["step"]) == [2, 4, 6, 7]
    np.testing.assert_allclose(
        history["hinge_over_floor"] * stats.floor / stats.reference_distance, history["loss_centroid"], rtol=1e-6
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history)
    samples = sorted((tmp_path / "samples").iterdir())
    assert [p.name for p in samples] == [f"step_{step:06d}.png" for step in (0, 3, 6, 7)]
    with Image.open(samples[0]) as grid:
        assert (grid.mode, grid.size) == ("RGB", (8 * 66 + 2, 8 * 66 + 2))


def test_the_last_samples_are_those_of_the_saved_generator(images, phi, stats, tmp_path):
    cl.train(images, TINY, tmp_path, phi, stats)
    generator = cl.load_generator(tmp_path / "generator.safetensors")
    with torch.no_grad():
        picture = cl.to_uint8(generator(draw_latents(64, TINY.latent, random_stream(TINY.seed, "samples"))))[0]
    with Image.open(tmp_path / "samples" / "step_000006.png") as grid:
        assert np.array_equal(np.asarray(grid)[2:66, 2:66], picture.permute(1, 2, 0).numpy())


def test_measuring_the_baseline_leaves_no_trace(images, phi, stats, tmp_path):
    config = dataclasses.replace(TINY, lambda_=0.0)
    cl.train(images, config, tmp_path / "measured", phi, stats, history_every=1)
    cl.train(images, config, tmp_path / "plain")
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("measured", "plain")))


def test_flip_mirrors_some_images_and_only_mirrors(images, tmp_path, monkeypatch):
    shown: dict[bool, list[torch.Tensor]] = {False: [], True: []}

    def spy(state, config, real, *_):
        shown[config.flip].append(real.clone())
        state.step += 1
        return {"loss_d": torch.zeros(())}

    monkeypatch.setattr(training, "train_step", spy)
    for flip in shown:
        cl.train(images, dataclasses.replace(TINY, lambda_=0.0, flip=flip), tmp_path / str(flip))
    plain, flipped = (torch.cat(batches) for batches in shown.values())
    kept = (flipped == plain).flatten(1).all(1)
    mirrored = (flipped == plain.flip(3)).flatten(1).all(1)
    assert (kept ^ mirrored).all()
    assert 4 < mirrored.sum() < 20


@pytest.mark.parametrize("images", [torch.zeros(8, 3, 64, 64), torch.zeros(8, 3, 32, 32, dtype=torch.uint8)])
def test_images_of_another_form_are_refused(images, tmp_path):
    with pytest.raises(ValueError, match=r"Training takes uint8 images \(N, 3, 64, 64\), not " + re.escape(str(images.dtype))):
        cl.train(images, TINY, tmp_path)


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
        ({"unit": "pixels"}, "unit is 'raw' or 'd_ref', not 'pixels'"),
    ],
)
def test_a_wrong_config_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**changes)


def test_the_defaults_are_the_papers_and_dcgans():
    config = TrainingConfig()
    assert (config.lambda_, config.unit, config.batch_size, config.learning_rate) == (0.1, "raw", 128, 2e-4)
    assert (config.beta1, config.beta2, config.latent, config.width) == (0.5, 0.999, 100, 64)


def test_instance_noise_is_on_all_that_d_sees_and_from_the_seed(images, phi, stats, monkeypatch):
    seen: list[torch.Tensor] = []
    forward = cl.Discriminator.forward
    monkeypatch.setattr(cl.Discriminator, "forward", lambda self, x: seen.append(x.detach()) or forward(self, x))
    real = cl.to_float(images[:4])
    for level in (0.0, 0.5, 0.5):
        cl.train_step(start(TINY), dataclasses.replace(TINY, instance_noise=level), real, latents_of(0), phi, stats)
    plain, noisy, again = seen[:3], seen[3:6], seen[6:]
    assert torch.equal(plain[0], real)
    for before, after, repeated in zip(plain, noisy, again, strict=True):
        assert (after - before).std().item() == pytest.approx(0.5, rel=0.05)
        assert torch.equal(after, repeated)
    assert not torch.equal(noisy[1] - plain[1], noisy[2] - plain[2])


def test_intervals_of_no_steps_are_refused(images, tmp_path):
    for more in ({"history_every": 0}, {"samples_every": 0}):
        with pytest.raises(ValueError, match="are steps, at least 1"):
            cl.train(images, dataclasses.replace(TINY, lambda_=0.0), tmp_path, **more)
