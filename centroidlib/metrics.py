"""Distances between sets of features (N, d), read in chunks of rows, each in float64: no model, no file."""

import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from scipy.linalg import eigvalsh, get_blas_funcs, get_lapack_funcs, svdvals
from torch import Tensor

MAX_DIMENSIONS = 2048
ROWS = 1024  # at a time in float64: 16 MB at d = 2,048

_EPS = float(np.finfo(np.float64).eps)
(_syrk,) = get_blas_funcs(("syrk",), dtype=np.float64)
_potrf, _pstrf, _sygst = get_lapack_funcs(("potrf", "pstrf", "sygst"), dtype=np.float64)


def named(space: str, metric: str) -> str:
    """A metric's name in a feature space that is named as its Fréchet distance: `kid` in `fid`, `kid_768` in `fid_768`."""
    return metric if space == "fid" else f"{metric}_{space.removeprefix('fid_').removeprefix('fd_')}"


class Gaussian(NamedTuple):
    """What the Fréchet distance knows of a set: mean (d,) and covariance (d, d), both float64."""

    mean: np.ndarray
    covariance: np.ndarray


def fit_gaussian(features: Tensor, name: str = "given") -> Gaussian:
    """Mean and unbiased covariance of features (N, d), d at most 2,048, called `name` in messages. Warns where N ≤ d.

    Raises:
        ValueError: fewer than two rows, too large d, or features that are not finite.
    """
    n, d = features.shape
    if d > MAX_DIMENSIONS:
        raise ValueError(
            f"The Fréchet distance needs a covariance of {d:,}² numbers ({8 * d * d / 1e9:,.2f} GB); above d = "
            f"{MAX_DIMENSIONS:,} it is refused: pool the features over positions, or project them."
        )
    check_features(2, **{name: features})
    if n <= d:
        warnings.warn(
            f"{n:,} {name} images for {d:,} dimensions: the covariance is singular and the Fréchet distance biased "
            "upwards; use more images or fewer dimensions.",
            stacklevel=2,
        )
    mean = mean_of(features).numpy()
    return Gaussian(mean, scatter(features, mean)[1] / (n - 1))


def frechet_distance(real: Tensor | Gaussian, fake: Tensor | Gaussian) -> float:
    """Fréchet distance (Heusel et al. 2017) of features (N, d) and (M, d), d at most 2,048, or of Gaussians fitted to them.

    Raises:
        ValueError: fewer than two rows, unequal or too large d, or features that are not finite.
    """
    first = real if isinstance(real, Gaussian) else fit_gaussian(real, "real")
    return gaussian_distance(first, fake if isinstance(fake, Gaussian) else fit_gaussian(fake, "fake"))


def gaussian_distance(first: Gaussian, second: Gaussian) -> float:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2(Σ₁Σ₂)^½), the squared Fréchet distance of two Gaussians, in float64."""
    return distance_to(first)(second)


def distance_to(fixed: Gaussian) -> Callable[[Gaussian], float]:
    """`gaussian_distance` to one Gaussian, whose covariance is factorised once for many calls.

    Raises:
        ValueError: unequal d, or a Gaussian that is not finite.
    """
    factor, triangular = _factor(fixed.covariance)

    def distance(other: Gaussian) -> float:
        _check_dimensions(len(fixed.mean), len(other.mean))
        if not all(np.isfinite(part).all() for part in (*fixed, *other)):
            raise ValueError("A Gaussian's mean or covariance is not finite: fit it to finite features.")
        spread = np.trace(fixed.covariance) + np.trace(other.covariance) - 2 * _root_trace(factor, triangular, other.covariance)
        return max(0.0, float(((fixed.mean - other.mean) ** 2).sum() + spread))

    return distance


def scatter(features: Tensor, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ(x − c), (d,), and Σ(x − c)(x − c)ᵀ, (d, d), over the rows x of features (N, d), in float64."""
    total, lower = np.zeros_like(centre), np.zeros((len(centre), len(centre)), order="F")
    for rows in _chunks(features):
        centred = rows.numpy() - centre
        total += centred.sum(0)
        lower = _syrk(1.0, centred.T, beta=1.0, c=lower, lower=1, overwrite_c=1)
    return total, lower.T + np.tril(lower, -1)


def kernel_distance(real: Tensor, fake: Tensor) -> float:
    """Kernel distance (KID; Bińkowski et al. 2018) of features (N, d) and (M, d): MMD² with the kernel (x·y/d + 1)³.

    The unbiased estimate from all pairs of rows; it may be below 0. Time grows with (N + M)²·d.

    Raises:
        ValueError: fewer than two rows, unequal d, or features that are not finite.
    """
    check_features(2, real=real, fake=fake)
    within = ((kernel_sum(x, x) - kernel_diagonal(x)) / (len(x) * (len(x) - 1)) for x in (real, fake))
    return sum(within) - 2 * kernel_sum(real, fake) / (len(real) * len(fake))


def kernel_sum(first: Tensor, second: Tensor) -> float:
    """Σᵢⱼ (xᵢ·yⱼ/d + 1)³ over the rows of features (N, d) and (M, d)."""
    d = first.shape[1]
    return sum(float((x @ y.T).div_(d).add_(1).pow_(3).sum()) for x in _chunks(first) for y in _chunks(second))


def kernel_diagonal(features: Tensor) -> float:
    """Σᵢ (xᵢ·xᵢ/d + 1)³: the part of a set's `kernel_sum` with itself that an unbiased estimate leaves out."""
    return sum(float(rows.square().mean(1).add(1).pow(3).sum()) for rows in _chunks(features))


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[float, float]:
    """Improved precision and recall (Kynkäänniemi et al. 2019), each 0 to 1, of features (N, d) and (M, d).

    Precision is the share of `fake` within the k-th-neighbour ball of some row of `real`; recall the same with the
    roles exchanged. Exact distances in float64; memory 1,024·max(N, M) numbers.

    Raises:
        ValueError: k rows or fewer, unequal d, or features that are not finite.
    """
    check_features(k + 1, real=real, fake=fake)
    inside, reached = (_balls(*sides, k)[0] > 0 for sides in ((real, fake), (fake, real)))
    return float(inside.double().mean()), float(reached.double().mean())


def density_coverage(real: Tensor, fake: Tensor, k: int = 5) -> tuple[float, float]:
    """Density, 0 to N/k, and coverage, 0 to 1 (Naeem et al. 2020), of features (N, d) and (M, d).

    Density is how many k-th-neighbour balls of `real` a row of `fake` lies in, in the mean and divided by k: about 1
    where the distributions are equal. Coverage is the share of `real` with a row of `fake` in its ball.

    Raises:
        ValueError: k rows or fewer, unequal d, or features that are not finite.
    """
    check_features(k + 1, real=real, fake=fake)
    balls, covered = _balls(real, fake, k)
    return float(balls.double().mean()) / k, float(covered.double().mean())


def nearest_distances(queries: Tensor, references: Tensor, skip_self: bool = False) -> tuple[Tensor, Tensor]:
    """Euclidean distance, float64 (M,), of queries (M, d) to the nearest of references (N, d), and its index, int64 (M,).

    With `skip_self` the queries are the first of the references, and each ignores the one of its own index.

    Raises:
        ValueError: unequal d, features that are not finite, or `skip_self` where M > N or N < 2.
    """
    check_features(1 + skip_self, query=queries, reference=references)
    if skip_self and len(queries) > len(references):
        raise ValueError(f"skip_self is for the first of the references; {len(queries)} of {len(references)} cannot be.")
    nearest, index = torch.full((len(queries),), torch.inf).double(), torch.zeros(len(queries)).long()
    for start in range(0, len(queries), ROWS):
        here = slice(start, start + ROWS)
        for offset in range(0, len(references), ROWS):
            distances = pairwise_distances(queries[here], references[offset : offset + ROWS])
            if skip_self and start == offset:
                distances.fill_diagonal_(torch.inf)
            found, where = distances.min(1)
            index[here] = torch.where(found < nearest[here], where + offset, index[here])
            nearest[here] = torch.minimum(found, nearest[here])
    return nearest, index


def pairwise_distances(first: Tensor, second: Tensor) -> Tensor:
    """Euclidean distances (N, M) between the rows of (N, d) and (M, d), float64; exactly 0 between copies."""
    origin = mean_of(second)  # |x|² + |y|² − 2x·y loses least around the middle
    x, columns = first.cpu().double() - origin, []
    for rows in _chunks(second):
        y = rows - origin
        norms = x.square().sum(1)[:, None] + y.square().sum(1)
        squared = torch.addmm(norms, x, y.T, alpha=-2)
        # What is left of two equal norms is rounding: rows nearer than 1e-7 of their norm are copies of each other.
        columns.append(squared.masked_fill_(squared < 64 * _EPS * norms, 0.0).sqrt_())
    return torch.cat(columns, 1)


def effective_rank(features: Tensor) -> float:
    """Participation ratio (Σλ)²/Σλ² of the covariance's eigenvalues λ of features (N, d): 1 to min(N − 1, d); equal rows: 0."""
    if len(features) < features.shape[1]:
        parts = (columns.cpu().double() - mean_of(columns) for columns in features.split(ROWS, 1))
        gram = np.asarray(sum(part @ part.T for part in parts))
    else:
        gram = scatter(features, mean_of(features).numpy())[1]
    total = np.trace(gram)
    return float(total**2 / (gram**2).sum()) if total else 0.0


def check_features(least: int, **sets: Tensor) -> None:
    """Refuse sets of features, given by name, of fewer than `least` rows, unequal d or not finite, in a sentence."""
    for name, features in sets.items():
        if len(features) < least:
            raise ValueError(f"At least {least} images are needed a side; there are {len(features)} {name} ones.")
        if not all(torch.isfinite(rows).all() for rows in features.split(ROWS)):
            raise ValueError(f"The {name} features are not finite: does the network's file hold NaN in the layers used?")
    _check_dimensions(*(features.shape[1] for features in sets.values()))


def _check_dimensions(*dimensions: int) -> None:
    if len(set(dimensions)) > 1:
        raise ValueError(f"Features of {' and '.join(map(str, dimensions))} dimensions cannot be compared.")


def _factor(covariance: np.ndarray) -> tuple[np.ndarray, bool]:
    """F (d, rank) with FFᵀ = Σ, and whether it is Cholesky's triangle: it is where Σ is regular."""
    noise = len(covariance) * _EPS * covariance.diagonal().max()
    triangle, info = _potrf(covariance.T, lower=1)
    if info == 0 and triangle.diagonal().min() ** 2 > noise:
        return triangle, True
    pivoted, order, rank, _ = _pstrf(covariance.T, lower=1, tol=noise)
    factor = np.empty((len(covariance), rank))
    factor[order - 1] = np.tril(pivoted)[:, :rank]
    return factor, False


def _root_trace(factor: np.ndarray, triangular: bool, covariance: np.ndarray) -> float:
    """Tr (Σ₁Σ₂)^½ for Σ₁ = FFᵀ: the sum of the roots of FᵀΣ₂F's eigenvalues, which are those of Σ₁Σ₂."""
    if triangular:
        product = _sygst(covariance.T, factor, itype=2, lower=1)[0]
        values = eigvalsh(product, check_finite=False)
        if values[0] > len(values) * _EPS * values[-1]:
            return float(np.sqrt(values).sum())
    # An eigenvalue of 0 comes out as 1e-16 of the largest, its root as 1e-8: singular values are the roots themselves.
    between = factor.T @ _factor(covariance)[0]
    return float(svdvals(between).sum()) if between.size else 0.0


def _balls(centres: Tensor, rows: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """In how many k-th-neighbour balls of `centres` (N, d) each row (M, d) lies, (M,), and which balls hold a row, (N,)."""
    near = (pairwise_distances(part, centres).kthvalue(k + 1).values for part in centres.split(ROWS))
    radius, counts, filled = torch.cat(list(near)), [], torch.zeros(len(centres), dtype=torch.bool)
    for part in rows.split(ROWS):
        within = pairwise_distances(part, centres) <= radius
        counts.append(within.sum(1))
        filled |= within.any(0)
    return torch.cat(counts), filled


def mean_of(features: Tensor) -> Tensor:
    """Mean of features (N, d), float64 (d,) on the CPU."""
    origin = features[0].cpu().double()  # around a row the sum loses no digits, and the mean of equal rows is that row
    return origin + sum((rows - origin).sum(0) for rows in _chunks(features)) / len(features)


def _chunks(features: Tensor) -> Iterator[Tensor]:
    return (rows.cpu().double() for rows in features.split(ROWS))
