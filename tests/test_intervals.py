"""Tests of the intervals: against plain transcriptions, and by how often they cover what is known to be true."""

import numpy as np
import pytest
import scipy.stats
import torch

from centroidlib.intervals import (
    GROUPS,
    Estimate,
    frechet_interval,
    jackknife_interval,
    kernel_interval,
    mean_interval,
    neighbour_intervals,
    offset_interval,
    share_interval,
)
from centroidlib.metrics import (
    Gaussian,
    density_coverage,
    fit_gaussian,
    frechet_distance,
    gaussian_distance,
    kernel_distance,
    precision_recall,
)


def draws(seed):
    return torch.Generator().manual_seed(seed)


def gaussian(dimensions, scale=1.0, shift=0.0):
    """A population: independent features, the later the less they vary."""
    return Gaussian(np.full(dimensions, shift), np.diag((scale * np.linspace(1.0, 0.3, dimensions)) ** 2))


def sample(population, rows, rng):
    """Features float32 (rows, d) from a gaussian of independent features."""
    deviations = torch.from_numpy(np.sqrt(np.diag(population.covariance)))
    return (torch.randn(rows, len(deviations), generator=rng) * deviations + torch.from_numpy(population.mean)).float()


# --- What the jackknife computes -----------------------------------------------------------------------------------


def transcribed(measure, *sides, fixed=()):
    """(value, low, high, and what each side adds to the value in the limit), a set without each group measured anew."""
    value, variances, limit = measure(*sides), [], 0.0
    for number, side in enumerate(sides):
        if number in fixed:
            continue
        rest = [side[torch.arange(len(side)) % 10 != group] for group in range(10)]
        values = [measure(*sides[:number], rows, *sides[number + 1 :]) for rows in rest]
        variances.append(9 / 10 * sum((v - np.mean(values)) ** 2 for v in values))
        limit += 9 * (value - np.mean(values))
    freedom = sum(variances) ** 2 / sum(variance**2 / 9 for variance in variances)
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(sum(variances))
    return value, half, limit


def check(estimate, value, half, limits=(-np.inf, np.inf)):
    assert estimate.method == "jackknife 95 %"
    assert estimate.value == pytest.approx(value, rel=1e-8)
    assert estimate.low == pytest.approx(max(limits[0], value - half), rel=1e-6, abs=1e-12)
    assert estimate.high == pytest.approx(min(limits[1], value + half), rel=1e-6)


# 47 and 33 are no multiples of ten: the groups differ in size.
REAL, FAKE = sample(gaussian(4), 47, draws(0)), sample(gaussian(4, 0.9, 0.3), 33, draws(1))


def test_frechet_interval_is_the_jackknifes():
    value, half, limit = transcribed(frechet_distance, REAL, FAKE)
    at_these, limiting = frechet_interval(REAL, FAKE)
    assert at_these.value == frechet_distance(REAL, FAKE)
    check(at_these, value, half, (0.0, np.inf))
    check(limiting, value + limit, half)


@pytest.mark.parametrize("exact", [0, 1])
def test_a_gaussian_side_is_exact_and_adds_nothing(exact):
    sides = [REAL, FAKE]
    sides[exact] = fit_gaussian(sides[exact])
    value, half, limit = transcribed(frechet_distance, *sides, fixed=(exact,))
    at_these, limiting = frechet_interval(*sides)
    check(at_these, value, half, (0.0, np.inf))
    check(limiting, value + limit, half)
    assert half < transcribed(frechet_distance, REAL, FAKE)[1]


def test_two_gaussians_have_a_distance_and_no_interval():
    sides = fit_gaussian(REAL), fit_gaussian(FAKE)
    assert frechet_interval(*sides) == (Estimate(gaussian_distance(*sides)), None)


def test_kernel_interval_is_the_jackknifes():
    check(kernel_interval(REAL, FAKE), *transcribed(kernel_distance, REAL, FAKE)[:2])
    assert kernel_interval(REAL, FAKE).value == pytest.approx(kernel_distance(REAL, FAKE), rel=1e-12)


def test_any_measure_has_the_jackknifes_interval():
    def between_means(real, fake):
        return float((real.double().mean(0) - fake.double().mean(0)).norm())

    check(jackknife_interval(between_means, REAL, FAKE), *transcribed(between_means, REAL, FAKE)[:2])
    shorter, long = kernel_interval(REAL, FAKE), jackknife_interval(kernel_distance, REAL, FAKE)
    assert (long.low, long.high) == pytest.approx((shorter.low, shorter.high), rel=1e-9)


@pytest.mark.parametrize("rows", [1024, 20])
def test_neighbour_intervals_are_the_jackknifes(rows, monkeypatch):
    monkeypatch.setattr("centroidlib.metrics.ROWS", rows)
    found = neighbour_intervals(REAL, FAKE)
    pairs = {("precision", "recall"): precision_recall, ("density", "coverage"): density_coverage}
    for names, measure in pairs.items():
        for number, name in enumerate(names):
            value, half, _ = transcribed(lambda *sides, n=number, of=measure: of(*sides)[n], REAL, FAKE)
            check(found[name], value, half, (0.0, np.inf if name == "density" else 1.0))
    assert list(found) == ["precision", "recall", "density", "coverage"]
    assert 0 < min(estimate.value for estimate in found.values()) < 1


def test_offset_interval_is_the_jackknifes():
    centre = torch.tensor([0.1, 0.2, 0.3, 0.4])
    means, sizes = torch.stack([FAKE[j::10].double().mean(0) for j in range(10)]), torch.tensor([4, 4, 4] + 7 * [3])

    def offset(rows):
        return float(torch.linalg.vector_norm(rows.double().mean(0) - centre.double())) / 2.5

    check(offset_interval(means, sizes, centre, 2.5), *transcribed(offset, FAKE)[:2], (0.0, np.inf))


def test_few_images_have_a_value_and_no_interval():
    real, fake = REAL[: 2 * GROUPS - 1], FAKE[: 2 * GROUPS]
    for sides in ((real, fake), (fake, real)):
        assert frechet_interval(*sides) == (Estimate(frechet_distance(*sides)), None)
        assert kernel_interval(*sides) == jackknife_interval(kernel_distance, *sides) == Estimate(kernel_distance(*sides))
        wanted = dict(
            zip(("precision", "recall", "density", "coverage"), precision_recall(*sides) + density_coverage(*sides), strict=True)
        )
        assert neighbour_intervals(*sides) == {name: Estimate(value) for name, value in wanted.items()}
    assert frechet_interval(fake, fake + 1)[0].low is not None
    assert kernel_interval(fake, fake + 1).low is not None
    few = FAKE[:8].double()
    means = torch.cat([few, torch.full((2, 4), torch.nan)])  # a group of no images has no mean
    found = offset_interval(means, torch.tensor(8 * [1] + 2 * [0]), torch.zeros(4), 1.0)
    assert found == Estimate(pytest.approx(float(torch.linalg.vector_norm(few.mean(0)))))
    assert mean_interval(torch.tensor([0.5])) == Estimate(0.5)


def test_constant_features_show_no_variation_and_have_no_interval():
    grey = torch.full((40, 3), 0.1)
    assert frechet_interval(grey, grey) == (Estimate(0.0), Estimate(0.0))
    assert neighbour_intervals(grey, grey)["precision"] == Estimate(1.0)


def test_nothing_is_extrapolated_from_less_than_two_images_a_dimension():
    features = sample(gaussian(10), 20, draws(0))
    assert frechet_interval(features, features + 1)[1] is not None
    narrow = sample(gaussian(11), 20, draws(0))
    at_these, limiting = frechet_interval(narrow, narrow + 1)
    assert at_these.low is not None
    assert limiting is None


@pytest.mark.filterwarnings("ignore:.*the covariance is singular")
def test_fewer_images_than_dimensions_have_an_interval():
    real, fake = sample(gaussian(40), 30, draws(0)), sample(gaussian(40, 1.5), 25, draws(1))
    check(frechet_interval(real, fake)[0], *transcribed(frechet_distance, real, fake)[:2])


@pytest.mark.parametrize("measure", [frechet_interval, kernel_interval, neighbour_intervals])
def test_features_that_are_not_finite_are_refused(measure):
    bad = REAL.clone()
    bad[30, 2] = torch.nan
    for sides, name in (((bad, FAKE), "real"), ((FAKE, bad), "fake")):
        with pytest.raises(ValueError, match=f"The {name} features are not finite"):
            measure(*sides)


# --- How often the intervals cover -----------------------------------------------------------------------------------
# The seeds are fixed, so nothing here fails by chance. 300 repetitions know a share of 0.95 to 0.013: sound intervals
# cover 0.90 to 0.99 of the time, and only 0.68 to 0.8 at half their length.

REPETITIONS = 300
FAR = gaussian(6), gaussian(6, 1.3, 0.4)
SAME = gaussian(6), gaussian(6)


def coverage(estimates, truth, width=1.0):
    """How often intervals, `width` times as long to each side of the value, hold the truth; none at all is a miss."""
    there = [e for e in estimates if e.method]
    held = [e.value - width * (e.value - e.low) <= truth <= e.value + width * (e.high - e.value) for e in there]
    return sum(held) / len(estimates)


def assert_sound(estimates, truth):
    assert 0.90 <= coverage(estimates, truth) <= 0.99
    assert coverage(estimates, truth, 0.5) < 0.85


def assert_conservative(estimates, truth):
    """Of what is not a sum over images, but over pairs or neighbours, the jackknife overstates the variance."""
    assert coverage(estimates, truth) >= 0.95
    assert coverage(estimates, truth, 0.5) < 0.95


def repeated(measure, populations, rows, repetitions=REPETITIONS):
    rng = draws(0)
    return [measure(*(sample(population, rows, rng) for population in populations)) for _ in range(repetitions)]


def expectation(estimates):
    return np.mean([estimate.value for estimate in estimates])


@pytest.mark.parametrize("rows", [20, 30, 60])
def test_frechet_intervals_cover_the_distance_at_this_number_of_images_and_at_infinitely_many(rows):
    at_these, limiting = zip(*repeated(frechet_interval, FAR, rows), strict=True)
    truth = gaussian_distance(*FAR)
    assert_sound(at_these, expectation(at_these))
    assert_sound(limiting, truth)
    assert expectation(at_these) > 1.2 * truth  # 1.77, 1.57, 1.27
    assert expectation(limiting) == pytest.approx(truth, rel=0.05)


def test_frechet_interval_covers_the_populations_distance_where_images_are_many():
    at_these, limiting = zip(*repeated(frechet_interval, FAR, 1000), strict=True)
    assert_sound(at_these, gaussian_distance(*FAR))
    assert_sound(limiting, gaussian_distance(*FAR))


def test_frechet_interval_to_exact_statistics_covers():
    at_these, limiting = zip(*repeated(lambda fake: frechet_interval(FAR[0], fake), FAR[1:], 60), strict=True)
    assert_sound(at_these, expectation(at_these))
    assert_sound(limiting, gaussian_distance(*FAR))


def test_frechet_interval_of_equal_populations_is_conservative():
    at_these, limiting = zip(*repeated(frechet_interval, SAME, 60), strict=True)
    assert_conservative(at_these, expectation(at_these))
    assert_conservative(limiting, 0.0)
    assert coverage(at_these, 0.0) < 0.7  # the bias, which no interval around the value at these numbers removes


def test_a_bootstrap_of_the_frechet_distance_misses_even_the_value_itself():
    populations = gaussian(32), gaussian(32, 1.3, 0.4)
    values = [frechet_distance(*(sample(p, 100, draws(10 * seed + i)) for i, p in enumerate(populations))) for seed in range(20)]
    real, fake = (sample(p, 100, draws(i)) for i, p in enumerate(populations))
    rng = draws(99)
    again = [frechet_distance(*(x[torch.randint(100, (100,), generator=rng)] for x in (real, fake))) for _ in range(100)]
    low = np.quantile(again, 0.025)
    at_these, limiting = frechet_interval(real, fake)
    assert low > at_these.value > gaussian_distance(*populations)
    assert low > max(values)
    assert at_these.low < np.mean(values) < at_these.high
    assert limiting.low < gaussian_distance(*populations) < limiting.high


def population_kernel_distance(first, second):
    """MMD² of two Gaussians from their first three moments: E(x·y/d + 1)³ = Σ binomial(3, n)·⟨E x⊗ⁿ, E y⊗ⁿ⟩/dⁿ."""
    moments = []
    for mean, covariance in (first, second):
        second_ = covariance + np.outer(mean, mean)
        cross = np.einsum("i,jk->ijk", mean, covariance)
        third = np.einsum("i,j,k->ijk", mean, mean, mean) + cross + cross.transpose(1, 0, 2) + cross.transpose(2, 1, 0)
        moments.append((np.ones(1), mean, second_, third))

    def expected(a, b):
        return sum(w * (x * y).sum() / len(first.mean) ** n for n, (w, x, y) in enumerate(zip((1, 3, 3, 1), a, b, strict=True)))

    (a, b) = moments
    return expected(a, a) + expected(b, b) - 2 * expected(a, b)


def test_kernel_interval_covers_the_populations_kernel_distance():
    estimates = repeated(kernel_interval, FAR, 60)
    truth = population_kernel_distance(*FAR)
    assert expectation(estimates) == pytest.approx(truth, rel=0.05)
    assert_sound(estimates, truth)


def test_kernel_interval_of_equal_populations_is_conservative():
    estimates = repeated(kernel_interval, SAME, 60)
    assert_conservative(estimates, 0.0)
    assert min(estimate.low for estimate in estimates) < 0


@pytest.mark.parametrize("populations", [FAR, SAME])
def test_neighbour_intervals_are_conservative(populations):
    found = repeated(neighbour_intervals, populations, 100, 150)
    for name in found[0]:
        estimates = [estimates[name] for estimates in found]
        assert_conservative(estimates, expectation(estimates))


def test_mean_interval_is_students_and_covers():
    values = torch.randn(12, generator=draws(0))
    found = mean_interval(values)
    wanted = scipy.stats.ttest_1samp(values.double().numpy(), 0.0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((float(values.double().mean()), *wanted))
    assert found.method == "t 95 %"
    rng = draws(1)
    assert_sound([mean_interval(torch.randn(5, generator=rng) + 3) for _ in range(4000)], 3.0)
    with pytest.raises(ValueError, match="no mean of no values"):
        mean_interval(torch.empty(0))


def test_share_interval_is_wilsons_and_covers():
    for hits, count in ((0, 7), (3, 7), (7, 7), (480, 1000)):
        wanted = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
        found = share_interval(hits, count)
        assert (found.value, found.low, found.high) == pytest.approx((hits / count, *wanted), abs=1e-12)
        assert found.method == "Wilson 95 %"
    for share in (0.5, 0.1):
        counted = np.random.default_rng(0).binomial(50, share, 1000)
        assert_sound([share_interval(int(hits), 50) for hits in counted], share)
    for hits, count in ((1, 0), (0, 0), (3, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"{hits} of {count} is no share"):
            share_interval(hits, count)


def offset_repetitions(shift):
    def measure(rows):
        means = torch.stack([rows[group::10].double().mean(0) for group in range(10)])
        return offset_interval(means, torch.full((10,), 10), torch.zeros(rows.shape[1]), 2.0)

    return repeated(measure, [gaussian(6, shift=shift)], 100)


def test_offset_interval_covers():
    estimates = offset_repetitions(0.3)
    assert_sound(estimates, expectation(estimates))


def test_offset_interval_of_a_centred_set_is_conservative():
    estimates = offset_repetitions(0.0)
    assert_conservative(estimates, expectation(estimates))
    assert min(estimate.low for estimate in estimates) >= 0
