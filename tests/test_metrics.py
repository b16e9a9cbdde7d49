"""Tests of the distances between sets of features: against SciPy, analytic values and a plain transcription."""

import numpy as np
import pytest
import scipy.linalg
import torch

from centroidlib.metrics import effective_rank, frechet_distance, gaussian_distance, precision_recall


def cloud(rows, columns, seed, scale=1.0, shift=0.0):
    """Correlated features with unequal variances, float32 (rows, columns)."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(columns, columns)) * np.linspace(0.2, 2.0, columns)
    return torch.from_numpy((rng.normal(size=(rows, columns)) @ mix * scale + shift).astype(np.float32))


def with_sqrtm(real, fake):
    """Heusel et al.'s formula, (Σ₁Σ₂)^½ from scipy.linalg.sqrtm."""
    real, fake = real.double().numpy(), fake.double().numpy()
    cov1, cov2 = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(cov1 @ cov2)
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root.real)


@pytest.mark.parametrize("columns", [2, 10, 64])
def test_frechet_distance_is_that_of_sqrtm(columns):
    real, fake = cloud(300, columns, 0), cloud(200, columns, 1, scale=1.3, shift=0.4)
    assert frechet_distance(real, fake) == pytest.approx(with_sqrtm(real, fake), rel=1e-8)


def test_frechet_distance_of_singular_covariances_needs_no_offset():
    basis = np.random.default_rng(3).normal(size=(6, 30)).astype(np.float32)
    real, fake = (cloud(200, 6, seed, scale) @ torch.from_numpy(basis) for seed, scale in ((0, 1.0), (1, 1.5)))
    # In the six dimensions that the features fill the covariances are regular, and distances are the same there.
    axes = torch.from_numpy(scipy.linalg.orth(basis.T.astype(np.float64)))
    wanted = with_sqrtm(real.double() @ axes, fake.double() @ axes)
    assert frechet_distance(real, fake) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("columns", [1, 3])
def test_frechet_distance_of_known_gaussians(columns):
    mean, first, second = np.arange(columns, dtype=float), np.arange(1.0, columns + 1), np.arange(columns, 0.0, -1) * 3
    wanted = (mean**2).sum() + ((first - second) ** 2).sum()
    found = gaussian_distance(np.zeros(columns), np.diag(first**2), mean, np.diag(second**2))
    assert found == pytest.approx(wanted, rel=1e-12)


def test_frechet_distance_of_a_shift_is_its_square_and_of_a_scale_that_of_the_deviations():
    real = cloud(500, 4, 0).double()
    assert frechet_distance(real, real + 2.0) == pytest.approx(4 * 2.0**2, rel=1e-9)
    spread = real.var(0).sum().item()
    assert frechet_distance(real, 3.0 * (real - real.mean(0)) + real.mean(0)) == pytest.approx(4.0 * spread, rel=1e-9)


def test_frechet_distance_of_equal_sets_is_0_and_sides_may_be_exchanged():
    real, fake = cloud(100, 8, 0), cloud(100, 8, 1)
    scale = float(real.var(0).sum())
    assert abs(frechet_distance(real, real.flip(0))) < 1e-9 * scale
    assert frechet_distance(real, fake) == pytest.approx(frechet_distance(fake, real), rel=1e-9)


def test_features_of_a_large_mean_keep_their_covariance():
    real, fake = cloud(200, 5, 0), cloud(200, 5, 1, 2.0)
    far = (real.double() + 1e5, fake.double() + 1e5)
    assert frechet_distance(*far) == pytest.approx(frechet_distance(real, fake), rel=1e-5)


def test_large_features_are_refused_before_any_covariance():
    wide = torch.zeros(3000, 1).expand(3000, 2049)
    with pytest.raises(ValueError, match=r"covariance of 2,049² numbers; above d = 2,048 it is refused: pool"):
        frechet_distance(wide, wide)


def test_few_images_warn_and_one_is_refused():
    real, fake = cloud(20, 20, 0), cloud(60, 20, 1)
    with pytest.warns(UserWarning, match="20 real images for 20 dimensions: the covariance is singular"):
        frechet_distance(real, fake)
    with pytest.warns(UserWarning, match="19 fake images for 20 dimensions"):
        frechet_distance(fake, real[:19])
    with pytest.raises(ValueError, match="at least two images; there are 1 fake ones"):
        frechet_distance(fake, real[:1])


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(side, value):
    sets = [cloud(30, 3, 0), cloud(30, 3, 1)]
    sets[side][7, 1] = value
    with pytest.raises(ValueError, match=f"The {('real', 'fake')[side]} features are not finite"):
        frechet_distance(*sets)


def test_unequal_dimensions_are_refused():
    with pytest.raises(ValueError, match="Features of 3 and 4 dimensions cannot be compared"):
        frechet_distance(cloud(30, 3, 0), cloud(30, 4, 0))


def transcribed_precision(real, fake, k):
    """Kynkäänniemi et al. 2019, Eq. 1, in loops."""
    radii = [np.sort(np.sqrt(((row - real) ** 2).sum(1)))[k] for row in real]  # the 0th is the row itself
    inside = [any(np.sqrt(((f - r) ** 2).sum()) <= radius for r, radius in zip(real, radii, strict=True)) for f in fake]
    return sum(inside) / len(fake)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_precision_and_recall_are_their_transcription(k, shift):
    real, fake = cloud(40, 4, 0), cloud(30, 4, 1, scale=0.6, shift=shift)
    a, b = real.double().numpy(), fake.double().numpy()
    wanted = transcribed_precision(a, b, k), transcribed_precision(b, a, k)
    assert precision_recall(real, fake, k) == wanted
    assert 0 < sum(wanted) < 2


def test_precision_and_recall_tell_a_collapse_from_noise():
    real = cloud(200, 4, 0)
    assert precision_recall(real, real) == (1.0, 1.0)
    precision, recall = precision_recall(real, real[:1] + 1e-4 * cloud(200, 4, 1))
    assert precision == 1.0
    assert recall < 0.05
    precision, recall = precision_recall(real, 100 * cloud(200, 4, 1))
    assert precision < 0.05


def test_precision_needs_more_images_than_neighbours():
    with pytest.raises(ValueError, match="k = 3 neighbours need more than 3 images on each side, not 10 and 3"):
        precision_recall(cloud(10, 2, 0), cloud(3, 2, 0))


@pytest.mark.parametrize("rows", [12, 80])
def test_effective_rank_is_the_participation_ratio_of_the_covariance(rows):
    features = cloud(rows, 30, 0, shift=5.0)
    values = np.linalg.eigvalsh(np.cov(features.double().numpy().T))
    assert effective_rank(features) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-9)


def test_effective_rank_of_known_covariances():
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(corners) == pytest.approx(5.0)
    assert effective_rank(corners * torch.tensor([1.0, 0, 0, 0, 0])) == pytest.approx(1.0)
    assert effective_rank(corners * torch.tensor([2.0, 1.0, 0, 0, 0])) == pytest.approx((4 + 1) ** 2 / (16 + 1))
    assert effective_rank(torch.arange(4.0)[:, None] * torch.ones(1, 100)) == pytest.approx(1.0)
