"""Tests of the family of constraints: each against a transcription in NumPy, and what pictures it punishes."""

import numpy as np
import pytest
import torch

from centroidlib import VGG16Features, calibration_pictures, compute_centroid, draw_faces, features_of, to_float
from centroidlib.balls import CLUSTERS
from centroidlib.constraints import CONSTRAINTS, WHITENINGS, constraint_of, equation_3
from centroidlib.distributions import DIRECTIONS
from centroidlib.moving import DECAY, MovingBall
from centroidlib.streams import random_stream

N, B, D = 200, 12, 6
NAMES = list(CONSTRAINTS)


def drawn(count, seed, dtype=torch.float64):
    """Features whose variances differ and which are correlated."""
    rng = torch.Generator().manual_seed(seed)
    mixing = torch.randn(D, D, generator=torch.Generator().manual_seed(9), dtype=dtype)
    return torch.randn(count, D, generator=rng, dtype=dtype) @ mixing + 3


@pytest.fixture
def real():
    return drawn(N, 0)


@pytest.fixture
def fake():
    """Some inside, some outside of whatever ball."""
    return 1.4 * drawn(B, 1) - 1


def ball(real, radius=0.0):
    centre = real.mean(0)
    distances = np.linalg.norm(real - centre, axis=1)
    return centre, np.quantile(distances, radius) if radius else distances.mean()


def away(features, centre, reference):
    return np.linalg.norm(features - centre, axis=1) / reference


def clusters(real, count=CLUSTERS):
    """Lloyd's algorithm from the images that the library begins with."""
    centres = real[torch.randperm(len(real), generator=random_stream(0, "centroids"))[:count].numpy()]
    for _ in range(50):
        nearest = np.linalg.norm(real[:, None] - centres, axis=2).argmin(1)
        centres = np.stack([real[nearest == k].mean(0) for k in range(count)])
    return [ball(real[nearest == k]) for k in range(count) if (nearest == k).sum() > 1]


def sorted_shares(values, count):
    """Means of `count` equal shares of sorted values, each value taken `count` times."""
    return np.repeat(np.sort(values), count).reshape(count, -1).mean(1)


def numpys(name, real, fake):
    """The constraint as the docstrings say it, in NumPy."""
    centre, reference = ball(real)
    d = away(fake, centre, reference)
    if name == "hinge":
        return np.maximum(0, d - 1).mean()
    if name == "hinge90":
        return np.maximum(0, away(fake, *ball(real, 0.9)) - 1).mean()
    if name == "squared":
        return (np.maximum(0, d - 1) ** 2).mean()
    if name == "band":
        return np.abs(d - 1).mean()
    if name in ("nearest", "soft"):
        all_away = np.stack([away(fake, *one) for one in clusters(real)], 1)
        if name == "nearest":
            return np.maximum(0, all_away.min(1) - 1).mean()
        weights = np.exp(-(all_away**2) / 2)
        return (np.maximum(0, all_away - 1) * weights / weights.sum(1, keepdims=True)).sum(1).mean()
    if name == "distances":
        return np.abs(np.sort(d) - sorted_shares(away(real, centre, reference), len(fake))).mean()
    if name == "sliced":
        directions = torch.randn(DIRECTIONS, D, generator=random_stream(0, "directions"), dtype=torch.float64).numpy()
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        apart = [np.sort(fake @ v) - sorted_shares(real @ v, len(fake)) for v in directions]
        return (np.array(apart) ** 2).mean() / real.var(0, ddof=1).mean()
    if name == "energy":
        directions = torch.randn(DIRECTIONS, D, generator=random_stream(0, "directions"), dtype=torch.float64).numpy()
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        x, y = fake @ directions.T, real @ directions.T
        across = np.mean([np.abs(one - y).mean(0) for one in x], 0)
        within, own = (np.abs(v[:, None] - v).sum((0, 1)) / (len(v) * (len(v) - 1)) for v in (x, y))
        return (2 * across - within - own).mean() / own.mean()
    offsets = fake - centre
    pairs = offsets @ offsets.T
    matching = (pairs.sum() - np.trace(pairs)) / (len(fake) * (len(fake) - 1)) / real.var(0, ddof=1).sum()
    if name == "mean":
        return matching
    covariance = np.cov(real.T)
    first, second = (np.cov(half.T) - covariance for half in (fake[0::2], fake[1::2]))
    return matching + (first * second).sum() / (covariance**2).sum()


def whitened(real, features, kind):
    centred = features - real.mean(0)
    if kind == "diagonal":
        variances = real.var(0, ddof=1)
        return centred / np.sqrt(variances + 1e-3 * variances.mean())
    values, vectors = np.linalg.eigh(np.cov(real.T))
    return centred @ vectors @ np.diag(1 / np.sqrt(values + 1e-3 * values.mean())) @ vectors.T


@pytest.mark.parametrize("whiten", WHITENINGS)
@pytest.mark.parametrize("name", NAMES)
def test_value_and_gradient_are_numpys(name, whiten, real, fake):
    constraint = constraint_of(name, real, whiten, B)

    def expected(features):
        if whiten == "none":
            return numpys(name, real.numpy(), features)
        return numpys(name, *(whitened(real.numpy(), f, whiten) for f in (real.numpy(), features)))

    leaf = fake.clone().requires_grad_()
    value = constraint(leaf)
    value.backward()
    assert value.item() != 0
    np.testing.assert_allclose(value.item(), expected(fake.numpy()), rtol=1e-9)
    directions = torch.randn(3, *fake.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for direction in directions.numpy():
        slope = (expected(fake.numpy() + 1e-6 * direction) - expected(fake.numpy() - 1e-6 * direction)) / 2e-6
        np.testing.assert_allclose((leaf.grad.numpy() * direction).sum(), slope, rtol=2e-4, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_float32_and_autocast_give_what_float64_gives(name, real, fake):
    exact = constraint_of(name, real, "diagonal", B)(fake).item()
    constraint = constraint_of(name, real.float(), "diagonal", B)
    with torch.autocast("cpu", torch.bfloat16):
        found = constraint(fake.float())
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_place_of_the_feature_space_do_not_matter(name, real, fake):
    expected = constraint_of(name, real, "none", B)(fake).item()
    assert constraint_of(name, 100 * real - 50, "none", B)(100 * fake - 50).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_constraint_takes_batches_of_any_size_one_after_the_other(name, real, fake):
    constraint = constraint_of(name, real, "none", B)
    small = constraint(fake[:5]).item()
    assert constraint(fake).item() != small
    assert constraint(fake[:5]).item() == small == constraint_of(name, real, "none", B)(fake[:5]).item()


@pytest.mark.parametrize("name", NAMES)
def test_the_floor_is_the_mean_over_random_real_batches(name, real):
    constraint = constraint_of(name, real, "none", B)
    batches = torch.stack([real[torch.randperm(N, generator=torch.Generator().manual_seed(s))[:B]] for s in range(400)])
    values = torch.stack([constraint(batch) for batch in batches])
    error = values.std().item() / 10  # of 100 batches
    assert constraint.floor == pytest.approx(values.mean().item(), abs=4 * error)
    assert constraint.scatter == pytest.approx(values.std().item(), rel=0.3)
    assert constraint.floor == constraint_of(name, real, "none", B).floor


@pytest.mark.parametrize("unit", ["raw", "d_ref"])
def test_the_papers_own_is_a_member(unit, faces, toy_phi):
    features = features_of(faces, toy_phi, "toy")
    constraint = equation_3(compute_centroid(faces, toy_phi), unit)
    assert constraint(features).item() == pytest.approx(constraint.floor, rel=1e-5)
    if unit == "d_ref":
        assert constraint(features).item() == pytest.approx(
            constraint_of("hinge", features, "none", 4)(features).item(), rel=1e-5
        )


@pytest.mark.parametrize("name", ["energy", "mean", "moments"])
def test_what_says_it_is_without_bias_is_0_for_real_images_and_above_for_less_varied_ones(name):
    """On average over batches; of as many features as a batch has images, or more."""
    real = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    constraint = constraint_of(name, real, "full", 16)
    for spread, sign in ((1.0, 0), (0.8, 1), (0.0, 1)):
        batches = spread * torch.randn(3000, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        paid = torch.stack([constraint(batch) for batch in batches])
        error = paid.std().item() / 3000**0.5
        if sign and name != "mean":
            assert paid.mean().item() > 5 * error
        elif spread:
            assert abs(paid.mean().item()) < 4 * error + 0.003  # the real images themselves are a sample


def test_the_slices_are_met_exactly_by_all_real_images_themselves(real):
    assert constraint_of("sliced", real, "none", B)(real).item() == pytest.approx(0, abs=1e-20)
    assert constraint_of("distances", real, "none", B)(real).item() == pytest.approx(0, abs=1e-12)


def test_a_moving_ball_begins_as_a_mean_and_goes_on_as_a_moving_average():
    """Of features that drift, against NumPy."""
    moving = MovingBall(D).double()
    centre, reference, floor = np.zeros(D), 0.0, 0.0
    for step in range(150):
        batch = drawn(B, step) + step
        moving.update(batch)
        share = max(1 / (step + 1), 1 - DECAY)
        centre += share * (batch.numpy().mean(0) - centre)
        distances = np.linalg.norm(batch.numpy() - centre, axis=1)
        reference += share * (distances.mean() - reference)
        floor += share * (np.maximum(0, distances / reference - 1).mean() - floor)
    np.testing.assert_allclose(moving.centre.numpy(), centre, rtol=1e-9)
    np.testing.assert_allclose([moving.reference.item(), moving.floor.item()], [reference, floor], rtol=1e-7)
    wanted = np.maximum(0, away(batch.numpy(), centre, reference) - 1).mean()
    assert moving(batch).item() == pytest.approx(wanted, rel=1e-7)


@pytest.fixture(scope="module")
def pictures():
    """Features of drawn faces and of what is none, pooled over positions in a random VGG-16."""
    phi = VGG16Features(layer=9, weights="random", pool=True)
    faces, _ = draw_faces(400)
    made = calibration_pictures(faces[:64], faces.float().mean(0))
    shown = {"grey": made["flat grey"], "mean": made["the mean image"], "noise": made["uniform noise"], "collapsed": faces[:1]}
    return phi(to_float(faces)), {name: phi(to_float(images)).expand(64, -1) for name, images in shown.items()}


@pytest.mark.parametrize("whiten", ["none", "diagonal", "full"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_punished(name, whiten, pictures):
    """A batch of the picture pays more than real faces do, by ten times what batches of those differ in."""
    real, shown = pictures
    constraint = constraint_of(name, real, whiten, 64)
    paid = {picture: (constraint(features).item() - constraint.floor) / constraint.scatter for picture, features in shown.items()}
    punished = {picture for picture, value in paid.items() if value > 10}
    expected = {"grey", "noise"}
    if whiten == "full" or name in ("nearest", "soft", "distances", "sliced", "energy", "mean", "moments"):
        expected |= {"mean"}  # a ball of unwhitened features holds the mean face
    if name in ("distances", "sliced", "energy", "mean", "moments"):
        expected |= {"collapsed"}  # what looks at each image for itself does not see that all are the same
    assert punished == expected


def test_all_directions_count_in_whitened_features_only(real):
    """Real features stretched along the direction in which they vary least: a distance hardly sees it, Mahalanobis does."""
    direction = torch.linalg.eigh(real.T.cov()).eigenvectors[:, 0]
    along = (real - real.mean(0)) @ direction
    moved = real + 2 * along[:, None] * direction
    for whiten, seen in (("none", False), ("full", True)):
        constraint = constraint_of("hinge", real, whiten, B)
        assert (constraint(moved).item() > 1.5 * constraint(real).item()) == seen


@pytest.mark.parametrize(
    ("name", "features", "whiten", "message"),
    [
        ("spring", drawn(9, 0), "none", "There is no constraint 'spring'; choose one of hinge, hinge90, squared, band"),
        ("hinge", drawn(9, 0), "zca", "whiten is one of none, diagonal, full, not 'zca'"),
        ("hinge", drawn(9, 0)[:, :, None], "none", r"of more real images than a batch has, 2, .* not \(9, 6, 1\)"),
        ("hinge", drawn(2, 0), "none", r"of more real images than a batch has, 2, .* not \(2, 6\)"),
        (
            "hinge",
            drawn(9, 0) * torch.tensor(torch.nan),
            "none",
            "Features of real images are NaN or infinite: check Φ's weights",
        ),
        *[(name, torch.ones(30, D), "full", "the same features: are they all the same picture") for name in NAMES],
        ("nearest", drawn(19, 0), "none", "10 centroids take at least 20 images, not 19"),
        (
            "nearest",
            drawn(5, 0).repeat_interleave(8, 0),
            "none",
            "left one of 10 centroids without an image: too few pictures differ",
        ),
        ("nearest", torch.eye(D).repeat(20, 1) + 10 * torch.arange(20).repeat_interleave(D)[:, None] % 20, "none", "centroids"),
        ("nearest", torch.rand(30, 2049), "none", "k-means of 2,049 dimensions is too large"),
        ("moments", torch.rand(3, 2049), "none", "A covariance of 2,049 dimensions is too large .at most 2,048.: pool"),
        ("hinge", torch.rand(3, 2049), "full", "A covariance of 2,049 dimensions is too large"),
    ],
)
def test_what_cannot_be_a_constraint_is_refused_in_a_sentence(name, features, whiten, message):
    with pytest.raises(ValueError, match=message):
        constraint_of(name, features, whiten, 2)


def test_batches_that_all_pay_the_same_and_empty_ones_are_refused():
    with pytest.raises(
        ValueError, match="All batches of real images pay 0 under 'band', and what they pay is its unit: take another"
    ):
        constraint_of("band", torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), "none", 1)
    with pytest.raises(ValueError, match="the number of generated images in a batch, at least 1, not 0"):
        constraint_of("hinge", drawn(9, 0), "none", 0)


def test_pooled_features_are_constrained_where_flattened_ones_come(faces):
    images = to_float(faces[:5])
    pooled, flattened = (VGG16Features(4, "random", pool)(images) for pool in (True, False))
    real = features_of(faces, VGG16Features(4, "random", True), "real")
    phi = VGG16Features(4, "random")
    constraint = constraint_of("sliced", real, "full", 5, phi.average)
    wanted = constraint_of("sliced", real, "full", 5)
    assert constraint.name == "sliced, whitening full, pooled"
    assert constraint.floor == wanted.floor
    torch.testing.assert_close(constraint(flattened), wanted(pooled))
    with pytest.raises(ValueError, match="Φ must be the same"):
        wanted(flattened)


@pytest.mark.parametrize("shape", [(4, D + 1), (D,), (4, D, 2)])
def test_features_of_another_d_are_refused(real, shape):
    with pytest.raises(ValueError, match="those of the real images d = 6: Φ must be the same"):
        constraint_of("hinge", real, "none", B)(torch.zeros(shape))
