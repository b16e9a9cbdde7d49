"""Paired differences between arms over seeds: intervals, tests corrected for their number, seeds that would be needed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import chdtri, nctdtr, stdtr, stdtrit

from centroidlib.collecting import PARTS
from centroidlib.intervals import mean_interval
from centroidlib.tables import PAPER

LAST_CHECKPOINTS = 4  # of a learning curve, whose scatter tells how far a result hangs on when training stopped
AT_MOST = 1000  # seeds that are asked for
WORDS = ("improved", "worse", "not distinguishable", "not judged", "in its favour", "against it", "no difference")
# The paper's claims, and what would go unseen in them, by what the metrics' names begin with.
CLAIMS = {
    "quality": ("fid", "fd_", "kid", "precision", "density", "nearest"),
    "diversity": ("lpips",),
    "mode collapse": ("recall", "coverage"),
    "stability": ("between_checkpoints",),
    "alignment": ("centre_offset", "inside_d_ref"),
}
COLUMNS = ["arm", "baseline", "metric", "primary", "judged", "seen_by_loss", "difference", "low", "high", "deviation", "seeds"]
COLUMNS += ["p", "p_holm", "word", "of_values", "of_values_low", "of_values_high", "size", "needed", "needed_low", "needed_high"]


def primary_outcomes(better: Mapping[str, str]) -> list[str]:
    """The two outcomes that were named before looking: the first Fréchet distance and the distance of LPIPS to real pairs'."""
    kinds = (("fid", "fd_"), ("lpips",))
    found = [next((name for name in better if name.startswith(kind)), None) for kind in kinds]
    return [name for name in found if name]


def distance_to_target(rows: pd.DataFrame, better: Mapping[str, str]) -> pd.DataFrame:
    """The rows with every metric whose target is the real images' own value as its distance to that value."""
    away = {name: (rows[name] - rows[f"{name}_floor"]).abs() for name, way in better.items() if way == "floor" and name in rows}
    return rows.assign(**away)


def paired_differences(rows: pd.DataFrame, better: Mapping[str, str], baseline: str = "baseline") -> pd.DataFrame:
    """Arm minus baseline, seed by seed, of every metric: the mean with its 95 % t interval, and what that says.

    For metrics whose target is the real images' own value, the distance to it is compared. p values are corrected for the
    number of tests (Holm 1979): of the two primary outcomes for the arms, of the others for arms and metrics. What the loss
    has seen (but for the paper's alignment) and the extrapolated distances are not judged. Intervals are not corrected.

    Args:
        rows: of runs.csv.
        better: `lower`, `higher` or `floor` by metric.
        baseline: the arm that the others are compared with.

    Returns:
        A row an arm and metric, none where no seed has both: `arm`, `baseline`, `metric`, `primary`, `judged`,
        `seen_by_loss`, `difference`, `low`, `high`, `deviation` (of the differences), `seeds`, `p` (paired t test; NaN where
        all differences are equal but not 0), `p_holm`, `word` (one of `WORDS`), `of_values` (the difference of the values
        themselves, where that of their distances to a target is compared) with its interval, `size` (the paper's difference
        of values, where it gives one) and `needed`: seeds that would show such a one four times in five, with an interval for
        the spread that it is computed from is itself one of few seeds.
    """
    wide, plain = (table.set_index(["seed", "arm"]) for table in (distance_to_target(rows, better), rows))
    primary = primary_outcomes(better)
    sizes = paper_sizes(rows[rows["arm"] == baseline], primary)
    found: list[dict[str, Any]] = []
    arms = [arm for arm in dict.fromkeys(rows["arm"]) if arm != baseline and baseline in set(rows["arm"])]
    for arm in arms:
        for metric in (name for name in better if not rows[name].isna().all()):
            table = wide[metric].unstack("arm")
            gap = (table[arm] - table[baseline]).dropna()
            if len(gap):
                seen = bool(rows[f"{metric}_seen_by_loss"].any())
                judged = not metric.endswith("_inf") and (not seen or metric.startswith(CLAIMS["alignment"]))
                row = {"arm": arm, "baseline": baseline, "metric": metric, "primary": metric in primary, "judged": judged}
                row |= {"seen_by_loss": seen, "size": sizes.get(metric, np.nan)} | t_interval(gap.to_numpy(float))
                values = plain[metric].unstack("arm")
                of_values = t_interval((values[arm] - values[baseline]).dropna().to_numpy(float))
                row |= {"of_values": of_values["difference"]} | {f"of_values_{end}": of_values[end] for end in ("low", "high")}
                found.append(row | _needed(of_values["deviation"], row["size"], len(gap), len(arms)))
    table = pd.DataFrame(found, columns=COLUMNS)
    table["p_holm"] = np.nan
    families = [table["metric"] == name for name in primary] + [table["judged"].eq(True) & ~table["primary"].eq(True)]
    for family in families:
        table.loc[family, "p_holm"] = holm(table.loc[family, "p"].to_numpy(float))
    table["word"] = [_word(row, better[row["metric"]]) for _, row in table.iterrows()]
    return table


def like_with_like(rows: pd.DataFrame, better: Mapping[str, str], baseline: str = "baseline") -> pd.DataFrame:
    """`paired_differences` of every arm to that without a loss (λ = 0) of as many steps, where there is one, else to `baseline`.

    p values are corrected for each of these baselines apart. Arms without a loss are compared with `baseline`.
    """
    arms = rows.drop_duplicates("arm").set_index("arm")
    without = [baseline, *(arm for arm in arms.index[arms["lambda_"] == 0] if arm != baseline)]
    of_steps = {arms.loc[arm, "steps"]: arm for arm in reversed(without) if arm in arms.index}
    against = {arm: baseline if arm in without else of_steps.get(steps, baseline) for arm, steps in arms["steps"].items()}
    parts = {base: [arm for arm in against if against[arm] == base] for base in dict.fromkeys([baseline, *against.values()])}
    found = [paired_differences(rows[rows["arm"].isin([base, *own])], better, base) for base, own in parts.items()]
    return pd.concat([table for table in found if len(table)] or found[:1], ignore_index=True)


def ablation_differences(rows: pd.DataFrame, better: Mapping[str, str], loss: str = "centroid") -> pd.DataFrame:
    """`paired_differences` of arms that may differ in Φ and in their real images: to λ = 0 and to the loss as it is.

    Each is compared with the arms of λ = 0 and `loss` that saw the same images, where there are; only in metrics that all
    have and no loss saw: distances to c mean another thing in every feature space.
    """
    shared = shared_metrics(rows, better)
    found = []
    for _, part in rows.groupby("real_images", sort=False):
        without = list(dict.fromkeys(part.loc[part["lambda_"] == 0, "arm"]))
        found += [paired_differences(part, shared, arm) for arm in without[:1]]
        if loss in set(part["arm"]):
            found.append(paired_differences(part[part["lambda_"] != 0], shared, loss))
    return pd.concat([table for table in found if len(table)] or [pd.DataFrame(columns=COLUMNS)], ignore_index=True)


def shared_metrics(rows: pd.DataFrame, better: Mapping[str, str]) -> dict[str, str]:
    """The metrics that every run has and no loss saw, but for extrapolated ones, with their sense."""
    unseen = [name for name in better if rows[name].notna().all() and not rows[f"{name}_seen_by_loss"].any()]
    return {name: better[name] for name in unseen if not name.endswith("_inf")}


def paper_sizes(baseline: pd.DataFrame, primary: Sequence[str]) -> dict[str, float]:
    """The paper's differences in the units of the primary outcomes: of a Fréchet distance as much of the baseline's value."""
    without, with_loss = PAPER.values()
    share = abs(with_loss["fid"] - without["fid"]) / without["fid"]
    sizes = {name: share * float(baseline[name].mean()) for name in primary if not name.startswith("lpips")}
    return sizes | ({"lpips_alex": abs(with_loss["lpips_alex"] - without["lpips_alex"])} if "lpips_alex" in primary else {})


def _needed(deviation: float, size: float, seeds: int, tests: int) -> dict[str, float]:
    """`seeds_needed`, and for the ends of the 95 % interval of a deviation that was seen in so many seeds."""
    ends = [np.sqrt((seeds - 1) / chdtri(seeds - 1, tail)) if seeds > 1 else np.nan for tail in (0.025, 0.975)]
    names = ("needed", "needed_low", "needed_high")
    return {name: seeds_needed(deviation * end, size, tests) for name, end in zip(names, (1.0, *ends), strict=True)}


def seeds_needed(deviation: float, size: float, tests: int = 1, power: float = 0.8) -> float:
    """Seeds with which a paired t test at 5 % finds a true difference of `size` with this probability.

    Args:
        deviation: standard deviation of the paired differences.
        size: of the difference.
        tests: that the 5 % are shared by, as by the first step of Holm's correction.
        power: the probability.

    Returns:
        The number, infinity above 1,000, NaN where deviation or size are not known.
    """
    if np.isnan(deviation) or np.isnan(size):
        return np.nan
    for seeds in range(2, AT_MOST + 1):
        bound, shift = stdtrit(seeds - 1, 1 - 0.025 / tests), size * np.sqrt(seeds) / max(deviation, 1e-300)
        if shift > 30 or 1 - nctdtr(seeds - 1, shift, bound) >= power:
            return seeds
    return np.inf


def with_checkpoint_scatter(rows: pd.DataFrame, curves: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Runs with the scatter of a metric over their last kept generators, and the new column's name with its sense.

    It is the standard deviation about a straight line, so that what still gets better is not taken for unsteady; NaN where
    there are fewer than four.
    """
    name = f"between_checkpoints_{metric}"
    runs = curves.sort_values("step").groupby(["arm", "seed"])
    scatter = [(*run, _about_a_line(part["step"], part[metric])) for run, part in runs]
    found = rows.merge(pd.DataFrame(scatter, columns=["arm", "seed", name]), on=["arm", "seed"], how="left")
    unknown = dict.fromkeys((f"{name}_{part}" for part in PARTS), np.nan)
    return found.assign(**unknown | {f"{name}_seen_by_loss": False}), {name: "lower"}


def _about_a_line(steps: pd.Series, values: pd.Series) -> float:
    x, y = (column.to_numpy(float)[-LAST_CHECKPOINTS:] for column in (steps, values))
    if len(x) < LAST_CHECKPOINTS:
        return np.nan
    residuals = y - np.polyval(np.polyfit(x, y, 1), x)
    return float(np.sqrt((residuals**2).sum() / (len(x) - 2)))


def t_interval(gap: np.ndarray) -> dict[str, Any]:
    """Mean, 95 % t interval and t test of differences (seeds,), as `paired_differences` gives them."""
    seeds, found = len(gap), mean_interval(torch.tensor(gap))
    if found.error is None or found.low is None or found.high is None:  # of a single seed
        return {"difference": found.value, "low": np.nan, "high": np.nan, "deviation": np.nan, "seeds": seeds, "p": np.nan}
    p = 2 * float(stdtr(seeds - 1, -abs(found.value) / found.error)) if found.error > 0 else np.nan
    if found.error == 0 and found.value == 0:
        p = 1.0
    ends = {"low": found.low, "high": found.high, "deviation": found.error * np.sqrt(seeds)}
    return {"difference": found.value} | ends | {"seeds": seeds, "p": p}


def holm(p: np.ndarray) -> np.ndarray:
    """P values corrected for their number (Holm 1979); NaN stays NaN and does not count."""
    adjusted = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def _word(gap: pd.Series, way: str) -> str:
    good = (gap["difference"] > 0) == (way == "higher")
    if gap["seeds"] < 2:
        return "no difference" if gap["difference"] == 0 else "in its favour" if good else "against it"
    if np.isnan(gap["p_holm"]):
        return "not judged"
    if gap["p_holm"] >= 0.05:
        return "not distinguishable"
    return "improved" if good else "worse"
