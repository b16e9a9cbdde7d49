"""What runs over several seeds say: paired differences with intervals, and the sentences that follow from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import nctdtr, stdtr, stdtrit

from centroidlib.tables import PAPER, conditions, each_protocol, markdown, number

LAST_CHECKPOINTS = 3  # of a learning curve, whose spread tells how far a result hangs on when training stopped
AT_MOST = 1000  # seeds that are asked for
WORDS = ("improved", "worse", "not distinguishable", "in its favour", "against it", "no difference")
# The paper's claims, by what the metrics' names begin with.
CLAIMS = {
    "quality": ("fid", "fd_", "kid", "precision", "density", "nearest"),
    "diversity": ("lpips", "recall", "coverage"),
    "stability": ("between_checkpoints",),
    "alignment": ("centre_offset", "inside_d_ref"),
}


def primary_outcomes(better: Mapping[str, str]) -> list[str]:
    """The two outcomes that were named before looking: the first Fréchet distance and the distance of LPIPS to real pairs'."""
    kinds = (("fid", "fd_"), ("lpips",))
    found = [next((name for name in better if name.startswith(kind)), None) for kind in kinds]
    return [name for name in found if name]


def paired_differences(rows: pd.DataFrame, better: Mapping[str, str], baseline: str = "baseline") -> pd.DataFrame:
    """Arm minus baseline, seed by seed, of every metric: the mean with its 95 % t interval, and what that says.

    For metrics whose target is the real images' own value, the distance to it is compared. The two primary outcomes stand
    for themselves; all others are corrected for their number (Holm 1979, over arms and metrics).

    Args:
        rows: of runs.csv.
        better: `lower`, `higher` or `floor` by metric.
        baseline: the arm that the others are compared with.

    Returns:
        A row an arm and metric: `arm`, `baseline`, `metric`, `primary`, `seen_by_loss`, `difference`, `low`, `high`,
        `deviation` (of the differences), `seeds`, `p` (paired t test), `p_holm`, `word` (`improved`, `worse`, `not
        distinguishable`; of one seed `in its favour`, `against it`, `no difference`) and `needed`: seeds that show a
        difference of the paper's size four times in five, where the paper gives one.
    """
    away = rows.copy()
    for name in (name for name, way in better.items() if way == "floor"):
        away[name] = (away[name] - away[f"{name}_floor"]).abs()
    wide = away.set_index(["seed", "arm"])
    primary = primary_outcomes(better)
    sizes = paper_sizes(rows[rows["arm"] == baseline], primary)
    found: list[dict[str, Any]] = []
    for arm in (arm for arm in dict.fromkeys(rows["arm"]) if arm != baseline):
        for metric in (name for name in better if not rows[name].isna().all()):
            table = wide[metric].unstack("arm")
            gap = (table[arm] - table[baseline]).dropna()
            if len(gap):
                seen = bool(rows[f"{metric}_seen_by_loss"].any())
                row = {"arm": arm, "baseline": baseline, "metric": metric, "primary": metric in primary, "seen_by_loss": seen}
                row |= _t_interval(gap.to_numpy(float))
                found.append(row | {"needed": seeds_needed(row["deviation"], sizes[metric]) if metric in sizes else None})
    table = pd.DataFrame(found)
    others = ~table["primary"]
    table["p_holm"] = table["p"].where(table["primary"])
    table.loc[others, "p_holm"] = _holm(table.loc[others, "p"].to_numpy(float))
    table["word"] = [_word(row, better[row["metric"]]) for _, row in table.iterrows()]
    return table


def ablation_differences(rows: pd.DataFrame, better: Mapping[str, str]) -> pd.DataFrame:
    """`paired_differences` of arms that may differ in Φ and in their real images: each against λ = 0 on the same images.

    Only in metrics that all have and no loss saw; distances to c mean another thing in every feature space.

    Raises:
        ValueError: an arm has no baseline on its own images.
    """
    unseen = [name for name in better if rows[name].notna().all() and not rows[f"{name}_seen_by_loss"].any()]
    shared = {name: better[name] for name in unseen if not name.endswith("_inf")}
    found = []
    for _, part in rows.groupby("real_images", sort=False):
        without = part.loc[part["lambda_"] == 0, "arm"].unique()
        if len(without) != 1:
            arms = ", ".join(part["arm"].unique())
            raise ValueError(f"The arms {arms} saw the same images and need one baseline, an arm with λ = 0, among them.")
        found.append(paired_differences(part, shared, without[0]))
    return pd.concat(found, ignore_index=True)


def paper_sizes(baseline: pd.DataFrame, primary: Sequence[str]) -> dict[str, float]:
    """The paper's differences in the units of the primary outcomes: of a Fréchet distance as much of the baseline's value."""
    without, with_loss = PAPER.values()
    share = abs(with_loss["fid"] - without["fid"]) / without["fid"]
    lpips = abs(with_loss["lpips_alex"] - without["lpips_alex"])
    return {name: lpips if name.startswith("lpips") else share * float(baseline[name].mean()) for name in primary}


def seeds_needed(deviation: float, size: float, power: float = 0.8) -> int | None:
    """Seeds with which a paired t test at 5 % finds a true difference of `size` with this probability; None above 1,000.

    Args:
        deviation: standard deviation of the paired differences.
        size: of the difference.
        power: the probability.
    """
    if not np.isfinite(deviation):
        return None
    for seeds in range(2, AT_MOST + 1):
        bound, shift = stdtrit(seeds - 1, 0.975), size * np.sqrt(seeds) / max(deviation, 1e-300)
        if shift > 30 or 1 - nctdtr(seeds - 1, shift, bound) >= power:
            return seeds
    return None


def with_checkpoint_spread(rows: pd.DataFrame, curves: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Runs with the standard deviation of a metric over their last kept generators, and the new column's name with its sense."""
    name = f"between_checkpoints_{metric}"
    last = curves.sort_values("step").groupby(["arm", "seed"])[metric]
    spread = last.apply(lambda values: values.iloc[-LAST_CHECKPOINTS:].std()).rename(name).reset_index()
    found = rows.merge(spread, on=["arm", "seed"], how="left")
    parts = ("standard_error", "low", "high", "floor", "floor_heldout", "value_at_floor_n")
    unknown = {f"{name}_{part}": np.nan for part in parts}
    return found.assign(**unknown, **{f"{name}_seen_by_loss": False}), {name: "lower"}


def verdict(
    rows: pd.DataFrame, better: Mapping[str, str], failed: Mapping[str, str] | None = None, baseline: str = "baseline"
) -> str:
    """What the runs say of each arm and of the paper's four claims, in Markdown sentences computed from the numbers.

    Args:
        rows: of runs.csv. Those of several protocols are compared one protocol at a time.
        better: `lower`, `higher` or `floor` by metric.
        failed: runs that did not come to an end, and why.
        baseline: the arm that the others are compared with.
    """
    if rows["protocol"].nunique() > 1:
        return "\n\n".join(each_protocol(rows, lambda part: verdict(part, better, failed, baseline)))
    arms = list(dict.fromkeys(rows["arm"]))
    if baseline not in arms or len(arms) < 2:
        return "**Answer.** There is only one arm here, so nothing is compared: run the other (λ = 0, arm `baseline`) as well."
    gaps = paired_differences(rows, better, baseline)
    most = int(gaps["seeds"].max())
    lines = [
        "**Answer.** One seed an arm shows what a difference looks like, not whether it is real: neighbouring seeds of one arm "
        "differ as well. No verdict follows from these:"
        if most < 2
        else f"**Answer.** Paired differences against the baseline over {most} seeds. The primary outcomes:",
        "",
    ]
    lines += [_primary_line(row, better[row["metric"]]) for _, row in gaps[gaps["primary"]].iterrows()]
    corrected = ", corrected for their number" if most > 1 else ""
    lines += ["", f"The paper's four claims, in metrics that the loss has not seen (but for alignment){corrected}:", ""]
    for claim in CLAIMS:
        lines += [line for arm in arms if arm != baseline for line in _claim_line(claim, arm, gaps)]
    lines += [_values_line(rows, name) for name in better if name.startswith(CLAIMS["alignment"]) and rows[name].notna().any()]
    counts = {arm: sum(name.startswith(f"{arm}_seed") for name in failed or {}) for arm in arms}
    told = "; ".join(f"{arm}: {counts[arm]} of {counts[arm] + int((rows['arm'] == arm).sum())}" for arm in arms)
    lines.append(f"- **stability**: seeds that failed: {told}." + "".join(f" {why}" for why in (failed or {}).values()))
    return "\n".join([*lines, "", conditions(rows, better)])


def differences_table(gaps: pd.DataFrame, better: Mapping[str, str], told: str) -> str:
    """All paired differences as a Markdown table, and below it what is `told` of how they were measured."""
    rows = [["arm", "metric", "difference", "95 % interval", "p, corrected", "seeds", "what it says"]]
    for _, gap in gaps.iterrows():
        what = f"`{gap['metric']}`" + (", distance to real images'" if better[gap["metric"]] == "floor" else "")
        what += " (primary)" if gap["primary"] else " (seen by the loss)" if gap["seen_by_loss"] else ""
        interval = "–" if np.isnan(gap["low"]) else f"{gap['low']:+.4g} to {gap['high']:+.4g}"
        rows.append(
            [gap["arm"], what, f"{gap['difference']:+.4g}", interval, number(gap["p_holm"]), str(gap["seeds"]), gap["word"]]
        )
    return f"{markdown(rows)}\n\n{told}"


def course(curves: pd.DataFrame, metric: str, arm: str, baseline: str = "baseline") -> str:
    """Whether an arm's effect on a learning curve is a shift, a speed-up or noise: a sentence, by its interval at every step."""
    wide = curves.pivot(index="step", columns=["arm", "seed"], values=metric)
    gaps = pd.DataFrame(wide[arm] - wide[baseline]).dropna(axis=1)
    if gaps.shape[1] < 2:
        return f"- **{arm}**, `{metric}`: a single pair of runs, of which no course follows."
    found = {int(step): _t_interval(gaps.loc[step].to_numpy(float)) for step in gaps.index}
    clear = [step for step, gap in found.items() if gap["low"] > 0 or gap["high"] < 0]
    last = max(found)
    told = ", ".join(f"{gap['difference']:+.3g} at {step:,}" for step, gap in found.items())
    if not clear:
        word = "noise, as far as these seeds tell: at no step is the difference distinguishable"
    elif last in clear:
        word = f"a shift: distinguishable at {len(clear)} of {len(found)} steps looked at, the last among them"
    else:
        word = f"passing, as a speed-up would: distinguishable at step {', '.join(f'{step:,}' for step in clear)}, not at the end"
    return f"- **{arm}**, `{metric}`: {word} ({told}; {gaps.shape[1]} seeds, not corrected for the number of steps)."


def _t_interval(gap: np.ndarray) -> dict[str, Any]:
    seeds, mean = len(gap), float(gap.mean())
    deviation = float(gap.std(ddof=1)) if seeds > 1 else np.nan
    error = deviation / np.sqrt(seeds)
    half = stdtrit(seeds - 1, 0.975) * error if seeds > 1 else np.nan
    p = np.nan
    if seeds > 1:  # differences may all be equal, as those of a share of 0
        p = 2 * float(stdtr(seeds - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return {"difference": mean, "low": mean - half, "high": mean + half, "deviation": deviation, "seeds": seeds, "p": p}


def _holm(p: np.ndarray) -> np.ndarray:
    """Adjusted p values; NaN stays NaN."""
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
    if not gap["p_holm"] < 0.05:
        return "not distinguishable"
    return "improved" if good else "worse"


def _primary_line(gap: pd.Series, way: str) -> str:
    what = "distance to the real images' value" if way == "floor" else "value"
    line = f"- **{gap['arm']}**, `{gap['metric']}`: {what} {gap['difference']:+.4g} against the baseline"
    if gap["seeds"] < 2:
        return f"{line}, {gap['word']}."
    needed = f"{gap['needed']:.0f}" if gap["needed"] and not np.isnan(gap["needed"]) else f"more than {AT_MOST:,}"
    return (
        f"{line} (95 % interval {gap['low']:+.4g} to {gap['high']:+.4g}, {gap['seeds']} seeds): **{gap['word']}**. A difference "
        f"of the paper's size would be seen four times in five with {needed} seeds."
    )


def _claim_line(claim: str, arm: str, gaps: pd.DataFrame) -> list[str]:
    """What an arm's metrics say of a claim, by their words; nothing where none was measured."""
    own = gaps[(gaps["arm"] == arm) & gaps["metric"].str.startswith(CLAIMS[claim]) & ~gaps["metric"].str.endswith("_inf")]
    own = own if claim == "alignment" else own[~own["seen_by_loss"]]
    if own.empty:
        return []
    told = []
    for word, group in sorted(own.groupby("word"), key=lambda pair: WORDS.index(str(pair[0]))):
        names = [f"`{gap['metric']}` ({gap['difference']:+.3g})" for _, gap in group.iterrows()]
        told.append(f"{word}: {', '.join(names)}")
    return [f"- **{claim}**, {arm}: {'; '.join(told)}."]


def _values_line(rows: pd.DataFrame, metric: str) -> str:
    """A metric's mean in every arm, beside what real images score."""
    means = ", ".join(f"{number(mean)} ({arm})" for arm, mean in rows.groupby("arm", sort=False)[metric].mean().items())
    return f"- **alignment**: `{metric}` is {means}; of real images {number(rows[f'{metric}_floor'].mean())}."
