"""Tests of the distances between sets of features: against other tools, analytic values and plain transcriptions."""

import warnings

import numpy as np
import pytest
import scipy.linalg
import torch

from centroidlib import metrics
from centroidlib.metrics import (
    Gaussian,
    density_coverage,
    distance_to,
    effective_rank,
    fit_gaussian,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    nearest_distances,
    pairwise_distances,
    precision_recall,
)


def cloud(rows, columns, seed, scale=1.0, shift=0.0, decades=0.0):
    """Correlated features with unequal variances, over so many decades, float32 (rows, columns)."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(columns, columns)) * np.linspace(0.2, 2.0, columns) * np.logspace(0, -decades, columns)
    return torch.from_numpy((rng.normal(size=(rows, columns)) @ mix * scale + shift).astype(np.float32))


def with_sqrtm(real, fake):
    """Heusel et al.'s formula, (Σ₁Σ₂)^½ from scipy.linalg.sqrtm."""
    real, fake = real.double().numpy(), fake.double().numpy()
    cov1, cov2 = np.cov(real.T), np.cov(fake.T)
    root = scipy.linalg.sqrtm(cov1 @ cov2)
    return ((real.mean(0) - fake.mean(0)) ** 2).sum() + np.trace(cov1 + cov2 - 2 * root.real)


def with_singular_values(real, fake):
    """The same without a covariance: with X, Y centred and scaled, tr (XᵀX YᵀY)^½ is the sum of XYᵀ's singular values."""
    x, y = ((side - side.mean(0)) / np.sqrt(len(side) - 1) for side in (real.double().numpy(), fake.double().numpy()))
    means = ((real.double().mean(0) - fake.double().mean(0)) ** 2).sum()
    return float(means) + (x**2).sum() + (y**2).sum() - 2 * scipy.linalg.svdvals(x @ y.T).sum()


@pytest.mark.parametrize("decades", [0.0, 3.0])
@pytest.mark.parametrize("columns", [2, 10, 64])
def test_frechet_distance_is_that_of_sqrtm(columns, decades):
    real, fake = (cloud(n, columns, n, scale, shift, decades) for n, scale, shift in ((300, 1.0, 0.0), (200, 1.3, 0.4)))
    assert frechet_distance(real, fake) == pytest.approx(with_sqrtm(real, fake), rel=1e-8)


def test_frechet_distance_is_that_of_pytorch_fid():
    from pytorch_fid.fid_score import calculate_frechet_distance

    first, second = fit_gaussian(cloud(900, 128, 0)), fit_gaussian(cloud(700, 128, 1, scale=1.1, shift=0.2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SciPy, about an argument that pytorch-fid passes
        wanted = calculate_frechet_distance(*first, *second)
    assert gaussian_distance(first, second) == pytest.approx(wanted, rel=1e-8)


@pytest.mark.filterwarnings("ignore:.*the covariance is singular")
@pytest.mark.parametrize(("n", "m"), [(40, 200), (200, 40), (40, 30), (64, 65)])
@pytest.mark.parametrize("decades", [0.0, 4.0])
def test_frechet_distance_of_fewer_images_than_dimensions(n, m, decades):
    real, fake = cloud(n, 64, 0, decades=decades), cloud(m, 64, 1, 1.3, 0.4, decades)
    found = frechet_distance(real, fake)
    assert found == pytest.approx(with_singular_values(real, fake), rel=1e-8)
    assert found == pytest.approx(with_sqrtm(real, fake), rel=1e-5)
    assert frechet_distance(real[:2], fake[:2]) == pytest.approx(with_singular_values(real[:2], fake[:2]), rel=1e-8)


def test_frechet_distance_of_variances_over_many_decades():
    real, fake = cloud(300, 64, 0, decades=6.5), cloud(200, 64, 1, 1.0001, decades=6.5)
    assert frechet_distance(real, fake) == pytest.approx(with_singular_values(real, fake), rel=1e-8)


def test_frechet_distance_to_constant_features_is_the_spread_and_the_distance_of_means():
    real, grey = cloud(100, 8, 0), torch.full((30, 8), 0.1)
    wanted = float(real.double().var(0).sum() + ((real.double().mean(0) - grey[0].double()) ** 2).sum())
    assert frechet_distance(real, grey) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance(grey, real) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance(grey, grey) == 0
    assert not fit_gaussian(grey).covariance.any()


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
    found = gaussian_distance(Gaussian(np.zeros(columns), np.diag(first**2)), Gaussian(mean, np.diag(second**2)))
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


def test_a_side_may_be_a_gaussian_and_serve_many_distances():
    real, fakes = cloud(100, 8, 0), [cloud(90, 8, seed, 1.2) for seed in (1, 2)]
    gaussian = fit_gaussian(real)
    distance = distance_to(gaussian)
    for fake in fakes:
        wanted = frechet_distance(real, fake)
        assert frechet_distance(gaussian, fake) == frechet_distance(gaussian, fit_gaussian(fake)) == wanted
        assert frechet_distance(fake, gaussian) == pytest.approx(wanted, rel=1e-12)
        assert distance(fit_gaussian(fake)) == wanted


@pytest.mark.parametrize("rows", [7, 2500])
def test_a_fitted_gaussian_is_numpys_mean_and_covariance(rows):
    features = cloud(rows, 5, 0, shift=100.0)
    mean, covariance = fit_gaussian(features)
    assert mean == pytest.approx(features.double().numpy().mean(0), rel=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy().T), rtol=1e-10)
    assert (covariance == covariance.T).all()
    assert mean.dtype == covariance.dtype == np.float64


def test_a_gaussian_that_is_not_finite_is_refused():
    good, bad = fit_gaussian(cloud(30, 3, 0)), Gaussian(np.zeros(3), np.full((3, 3), np.nan))
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(ValueError, match="mean or covariance is not finite: fit it"):
            gaussian_distance(*pair)


def test_features_of_a_large_mean_keep_their_covariance():
    real, fake = cloud(200, 5, 0), cloud(200, 5, 1, 2.0)
    far = (real.double() + 1e5, fake.double() + 1e5)
    assert frechet_distance(*far) == pytest.approx(frechet_distance(real, fake), rel=1e-5)


def test_large_features_are_refused_before_any_covariance():
    wide = torch.zeros(3000, 1).expand(3000, 2049)
    with pytest.raises(ValueError, match=r"2,049² numbers \(0\.03 GB\); above d = 2,048 it is refused: pool .* or project"):
        frechet_distance(wide, wide)


def test_few_images_warn_and_one_is_refused():
    real, fake = cloud(20, 20, 0), cloud(60, 20, 1)
    with pytest.warns(UserWarning, match="20 real images for 20 dimensions: the covariance is singular"):
        frechet_distance(real, fake)
    with pytest.warns(UserWarning, match="19 fake images for 20 dimensions"):
        frechet_distance(fake, real[:19])
    with pytest.raises(ValueError, match="At least 2 images are needed a side; there are 1 fake ones"):
        frechet_distance(fake, real[:1])


PAIRS = [frechet_distance, kernel_distance, precision_recall, density_coverage]


@pytest.mark.parametrize("measure", PAIRS)
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(measure, side, value):
    sets = [cloud(30, 3, 0), cloud(30, 3, 1)]
    sets[side][7, 1] = value
    with pytest.raises(ValueError, match=f"The {('real', 'fake')[side]} features are not finite"):
        measure(*sets)


@pytest.mark.parametrize("measure", [*PAIRS, nearest_distances])
def test_unequal_dimensions_are_refused(measure):
    with pytest.raises(ValueError, match="Features of 3 and 4 dimensions cannot be compared"):
        measure(cloud(30, 3, 0), cloud(30, 4, 0))


MEASURES = [
    *PAIRS,
    nearest_distances,
    lambda real, fake: nearest_distances(real[:33], real, skip_self=True),
    lambda real, fake: effective_rank(real),
    lambda real, fake: effective_rank(real[:5]),
]


@pytest.mark.parametrize("measure", MEASURES)
def test_sets_are_read_in_chunks_and_where_they_end_does_not_matter(measure, monkeypatch):
    real, fake = cloud(50, 20, 0), cloud(40, 20, 1, 0.8)
    whole, double, seen = measure(real, fake), torch.Tensor.double, []
    monkeypatch.setattr(metrics, "ROWS", 7)
    monkeypatch.setattr(torch.Tensor, "double", lambda self: seen.append(self) or double(self))
    chunked = measure(real, fake)
    assert max(min(part.shape) for part in seen if part.ndim == 2 and part.dtype == torch.float32) <= 7
    np.testing.assert_allclose(chunked, whole, rtol=1e-12)


def transcribed_kernel_distance(real, fake):
    """Bińkowski et al. 2018, in loops."""
    real, fake = real.double().numpy(), fake.double().numpy()

    def kernel(x, y):
        return (np.dot(x, y) / len(x) + 1) ** 3

    def within(rows):
        return np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])

    return within(real) + within(fake) - 2 * np.mean([kernel(x, y) for x in real for y in fake])


def test_kernel_distance_is_its_transcription():
    real, fake = cloud(30, 4, 0), cloud(20, 4, 1, scale=0.6, shift=0.5)
    assert kernel_distance(real, fake) == pytest.approx(transcribed_kernel_distance(real, fake), rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_kernel_distance_is_that_of_torch_fidelity(shift):
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    real, fake = cloud(300, 16, 0, 0.3).double(), cloud(300, 16, 0, 0.3).double().flip(1) + shift
    found = kid.kid_features_to_metric(real, fake, kid_subsets=1, kid_subset_size=300, verbose=False)
    assert kernel_distance(real, fake) == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-9)


def test_kernel_distance_of_the_same_distribution_may_be_negative():
    rows = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0))
    distances = [kernel_distance(*pair.split(20)) for pair in rows.split(40)]
    assert min(distances) < 0 < max(distances)
    assert abs(np.mean(distances)) < 4 * np.std(distances) / 10


def test_kernel_distance_needs_two_images():
    with pytest.raises(ValueError, match="At least 2 images are needed a side; there are 1 fake ones"):
        kernel_distance(cloud(10, 2, 0), cloud(1, 2, 0))


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
    with pytest.raises(ValueError, match="At least 4 images are needed a side; there are 3 fake ones"):
        precision_recall(cloud(10, 2, 0), cloud(3, 2, 0))
    with pytest.raises(ValueError, match="At least 6 images are needed a side; there are 5 real ones"):
        density_coverage(cloud(5, 2, 0), cloud(10, 2, 0))


@pytest.mark.parametrize("k", [1, 3, 5, 10])
@pytest.mark.parametrize(("scale", "shift"), [(1.3, 0.5), (0.5, 1.0)])
def test_precision_recall_density_and_coverage_are_those_of_prdc(k, scale, shift):
    prdc = pytest.importorskip("prdc")
    real, fake = cloud(550, 6, 0).split([300, 250])
    fake = fake * scale + shift
    wanted = prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), nearest_k=k)
    assert precision_recall(real, fake, k) == pytest.approx((wanted["precision"], wanted["recall"]), abs=1e-12)
    assert density_coverage(real, fake, k) == pytest.approx((wanted["density"], wanted["coverage"]), abs=1e-12)
    assert 0 < min(wanted.values()) < 1


def test_constant_features_are_in_each_others_balls():
    grey = torch.full((20, 5), 0.1)
    assert precision_recall(grey, grey) == (1.0, 1.0)
    assert density_coverage(grey, grey) == (20 / 5, 1.0)
    assert precision_recall(grey, grey + 1) == density_coverage(grey, grey + 1) == (0.0, 0.0)
    assert kernel_distance(grey, grey) == pytest.approx(0, abs=1e-12)


def test_pairwise_distances_are_exact_far_from_the_origin_and_0_between_copies():
    real, fake = cloud(30, 6, 0, shift=1000.0), cloud(20, 6, 1, shift=1000.0)
    fake[3], fake[4] = real[7], real[7]
    found = pairwise_distances(real, fake)
    wanted = torch.linalg.vector_norm(real.double()[:, None] - fake.double(), dim=2)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    assert found[7, 3] == found[7, 4] == 0


def test_nearest_distances_and_where_they_are():
    queries, references = cloud(50, 4, 0), cloud(70, 4, 1)
    everything = torch.linalg.vector_norm(queries.double()[:, None] - references.double(), dim=2)
    distances, indices = nearest_distances(queries, references)
    torch.testing.assert_close(distances, everything.min(1).values)
    assert indices.tolist() == everything.argmin(1).tolist()
    assert distances.dtype == torch.float64
    assert nearest_distances(queries[:1], references[:1])[1].tolist() == [0]


def test_nearest_distances_of_a_set_within_itself():
    features = cloud(50, 4, 0)
    features[11] = features[3]
    distances, indices = nearest_distances(features, features, skip_self=True)
    others = torch.linalg.vector_norm(features.double()[:, None] - features.double(), dim=2).fill_diagonal_(torch.inf)
    torch.testing.assert_close(distances, others.min(1).values)
    assert indices.tolist() == others.argmin(1).tolist()
    assert (distances[3], indices[3], indices[11]) == (0, 11, 3)
    assert nearest_distances(features, features)[0].eq(0).all()
    torch.testing.assert_close(nearest_distances(features[:20], features, skip_self=True), (distances[:20], indices[:20]))


def test_nearest_distances_need_references_and_skip_self_the_same_ones():
    features = cloud(5, 2, 0)
    with pytest.raises(ValueError, match="At least 1 images are needed a side; there are 0 reference ones"):
        nearest_distances(features, features[:0])
    with pytest.raises(ValueError, match="At least 2 images"):
        nearest_distances(features[:1], features[:1], skip_self=True)
    with pytest.raises(ValueError, match="skip_self is for the first of the references; 5 of 4 cannot be"):
        nearest_distances(features, features[:4], skip_self=True)
    features[2, 1] = float("nan")
    with pytest.raises(ValueError, match="The query features are not finite"):
        nearest_distances(features, features[:2])


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


@pytest.mark.parametrize("rows", [10, 40])
def test_effective_rank_of_equal_rows_is_0(rows):
    assert effective_rank(torch.full((rows, 20), 0.1)) == 0
