"""What runs over several seeds say, in sentences computed from the numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from centroidlib.collecting import activity
from centroidlib.paired import (
    AT_MOST,
    CLAIMS,
    WORDS,
    distance_to_target,
    holm,
    paired_differences,
    primary_outcomes,
    t_interval,
)
from centroidlib.tables import PAPER, conditions, each_protocol, markdown, number


def verdict(
    rows: pd.DataFrame,
    better: Mapping[str, str],
    failed: Mapping[str, str] | None = None,
    not_run: Sequence[str] = (),
    histories: pd.DataFrame | None = None,
    baseline: str = "baseline",
) -> str:
    """What the runs say of each arm and of the paper's four claims, in Markdown sentences computed from the numbers.

    Args:
        rows: of runs.csv. Those of several protocols are compared one protocol at a time.
        better: `lower`, `higher` or `floor` by metric.
        failed: runs that did not come to an end, and why.
        not_run: runs that are asked for and not there.
        histories: of the runs that were trained, to say when the loss acted at all.
        baseline: the arm that the others are compared with.
    """
    failed = failed or {}
    if rows["protocol"].nunique() > 1:
        lines = ["\n\n".join(each_protocol(rows, lambda part: "\n".join(_judgement(part, better, baseline)))), ""]
    else:
        lines = [*_judgement(rows, better, baseline), ""]
    ran = [f"{arm}_seed{seed}" for arm, seed in zip(rows["arm"], rows["seed"], strict=True)]
    if histories is not None and len(histories):
        lines += [acting(histories), ""]
    counts = []
    for arm in dict.fromkeys(name.rpartition("_seed")[0] for name in [*ran, *failed]):
        ends = [sum(name.rpartition("_seed")[0] == arm for name in names) for names in (failed, ran)]
        counts.append(f"{arm}: {ends[0]} of {sum(ends)}")
    lines.append(f"Runs that failed, of those that were begun: {'; '.join(counts)}.")
    lines += [f"- {why}" for why in failed.values()]
    if not_run:
        lines.append(f"\nAsked for and not there: {', '.join(not_run)}.")
    return "\n".join(lines)


def _judgement(rows: pd.DataFrame, better: Mapping[str, str], baseline: str) -> list[str]:
    """The lines of one protocol's runs."""
    gaps = paired_differences(rows, better, baseline)
    if gaps.empty:
        return [f"**Answer.** {why_nothing(rows, baseline)}"]
    least, most = int(gaps["seeds"].min()), int(gaps["seeds"].max())
    if most < 2:
        opening = (
            "**Answer.** One seed an arm shows what a difference looks like, not whether it is real: neighbouring seeds of one "
            "arm differ as well. No verdict follows from these:"
        )
    else:
        seeds = f"{most}" if least == most else f"{least} to {most}"
        opening = f"**Answer.** {_in_one_sentence(gaps[gaps['primary'].eq(True)], seeds)} The paired differences in these:"
    lines = [opening, ""]
    lines += [_primary_line(gap, better[gap["metric"]]) for _, gap in gaps[gaps["primary"]].iterrows()]
    if "lpips_alex" in primary_outcomes(better):
        lines.append(_papers_lpips(rows))
    corrected = ", corrected for their number" if most > 1 else ""
    lines += [
        "",
        f"The paper's four claims, and mode collapse, in metrics that the loss has not seen (but for alignment){corrected}. "
        "Where the target is the real images' value, it is the distance to it that is compared:",
        "",
    ]
    for claim in CLAIMS:
        lines += [line for arm in dict.fromkeys(gaps["arm"]) for line in _claim_line(claim, arm, gaps, better)]
    aligned = [name for name in better if name.startswith(CLAIMS["alignment"]) and rows[name].notna().any()]
    lines += [_values_line(rows, name, gaps[gaps["metric"] == name], better[name]) for name in aligned]
    return [*lines, "", conditions(rows, better)]


def _in_one_sentence(primary: pd.DataFrame, seeds: str) -> str:
    """Which arms are better or worse than the baseline in the outcomes that were named before any run."""
    words = {"improved": "better", "worse": "worse"}
    clear = primary[primary["word"].isin(words)]
    if clear.empty:
        return (
            f"Over {seeds} seeds no arm can be told apart from the baseline in the outcomes that were named before any run, so "
            "that the loss makes images better or more varied cannot be seen here."
        )
    told = [
        f"{arm} is {words[str(word)]} in {' and '.join(f'`{name}`' for name in group['metric'])}"
        for (arm, word), group in clear.groupby(["arm", "word"], sort=False)
    ]
    rest = "" if len(clear) == len(primary) else "; nothing else can be told apart from it"
    return f"Over {seeds} seeds, against the baseline, {', '.join(told)}{rest}."


def compared_in(metric: str, better: Mapping[str, str]) -> str:
    """A metric's name, and what of it is compared where that is not its value."""
    return f"`{metric}`" + (", distance to real images'" if better[metric] == "floor" else "")


def why_nothing(rows: pd.DataFrame, baseline: str = "baseline") -> str:
    """Why these runs have no paired differences, in a sentence."""
    if (protocols := rows["protocol"].nunique()) > 1:
        return f"These runs were measured under {protocols} protocols: the verdict takes them one protocol at a time."
    there = ", ".join(dict.fromkeys(rows["arm"]))
    return f"No arm and the baseline (λ = 0, arm `{baseline}`) share a seed, so nothing is compared; there are runs of {there}."


def differences_table(gaps: pd.DataFrame, better: Mapping[str, str], told: str) -> str:
    """All paired differences as a Markdown table, and below it what is `told` of how they were measured."""
    rows = [["arm less", "", "metric", "difference", "95 % interval", "p, corrected", "seeds", "what it says"]]
    for _, gap in gaps.iterrows():
        what = compared_in(gap["metric"], better)
        what += " (primary)" if gap["primary"] else " (seen by the loss)" if gap["seen_by_loss"] else ""
        interval = "–" if np.isnan(gap["low"]) else f"{gap['low']:+.4g} to {gap['high']:+.4g}"
        numbers = [f"{gap['difference']:+.4g}", interval, number(gap["p_holm"]), str(gap["seeds"])]
        rows.append([gap["arm"], gap["baseline"], what, *numbers, gap["word"]])
    return f"{markdown(rows)}\n\nIntervals are not corrected for their number. {told}"


def courses(curves: pd.DataFrame, gaps: pd.DataFrame, better: Mapping[str, str], baseline: str = "baseline") -> str:
    """`course` of every arm in the primary outcomes, a line each; or that it cannot be told, and what it would take.

    Args:
        curves: columns arm, seed, step and the metrics with their `_floor`; empty where no run has a curve.
        gaps: of `paired_differences`; empty where nothing is compared.
        better: `lower`, `higher` or `floor` by metric.
        baseline: the arm that the others are compared with.
    """
    if curves.empty or gaps.empty:
        return "That cannot be told: it takes learning curves of an arm and of the baseline, with seeds that both have."
    arms = [arm for arm in dict.fromkeys(curves["arm"]) if arm != baseline]
    return "\n".join(course(curves, name, arm, better[name], baseline) for name in primary_outcomes(better) for arm in arms)


def course(curves: pd.DataFrame, metric: str, arm: str, way: str, baseline: str = "baseline") -> str:
    """What an arm's effect on a learning curve is: noise, passing, or there at the end; and how many steps it is ahead.

    Args:
        curves: columns arm, seed, step, the metric and its `_floor`.
        metric: whose curve; where its target is the real images' value, its distance to that.
        arm: compared with the baseline.
        way: `lower`, `higher` or `floor`, what is better.
        baseline: the other arm.
    """
    what = f"distance of `{metric}` to the real images'" if way == "floor" else f"`{metric}`"
    away = distance_to_target(curves, {metric: way})
    wide = away[away["arm"].isin([arm, baseline])].pivot(index="step", columns=["arm", "seed"], values=metric)
    columns: Any = wide.columns
    runs: list[tuple[str, int]] = list(columns)
    seeds = [seed for name, seed in runs if name == arm and (baseline, seed) in runs]
    mine, other = (wide[[(name, seed) for seed in seeds]].to_numpy(float) for name in (arm, baseline))
    known = ~np.isnan(mine + other).any(1)
    steps, mine, other = wide.index.to_numpy()[known], mine[known], other[known]
    if len(seeds) < 2 or len(steps) < 2:
        return f"- **{arm}**, {what}: fewer than two pairs of runs, of which no course follows."
    found = [t_interval(gap) for gap in mine - other]
    corrected = holm(np.array([gap["p"] for gap in found]))
    clear = [f"{step:,}" for step, p in zip(steps, corrected, strict=True) if p < 0.05]
    told = ", ".join(f"{gap['difference']:+.3g} at {step:,}" for step, gap in zip(steps, found, strict=True))
    if not clear:
        word = "noise, as far as these seeds tell: at no step is the difference distinguishable"
    elif f"{steps[-1]:,}" not in clear:
        word = f"passing: distinguishable at step {', '.join(clear)}, not at the end"
    else:
        word = f"there at the end: distinguishable at {len(clear)} of {len(steps)} steps looked at"
        sign = -1 if way == "higher" else 1
        ahead = t_interval(np.array([_steps_ahead(steps, sign * mine[:, i], sign * other[:, i]) for i in range(len(seeds))]))
        word += f"; by its last value {arm} is {ahead['difference']:+,.0f} steps ahead of the baseline"
        word += f" ({ahead['low']:+,.0f} to {ahead['high']:+,.0f})" if not np.isnan(ahead["low"]) else ""
        moving = t_interval(other[-1] - other[-2])
        if moving["low"] > 0 or moving["high"] < 0:
            word += ". The baseline itself still moves, so a lasting shift and a change of speed cannot be told apart"
    return f"- **{arm}**, {what}: {word} ({told}; {len(seeds)} seeds, corrected for the number of steps)."


def _steps_ahead(steps: np.ndarray, mine: np.ndarray, other: np.ndarray) -> float:
    """How many steps before the end one falling curve had reached the other's last value: above 0 where `mine` was first."""
    if mine[-1] <= other[-1]:
        return float(steps[-1] - _reached(steps, mine, other[-1]))
    return -float(steps[-1] - _reached(steps, other, mine[-1]))


def _reached(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    """The first step, between those looked at, at which a curve is down at a level that its last value is not above."""
    first = int(np.argmax(values <= level))
    if first == 0:
        return float(steps[0])
    share = (values[first - 1] - level) / (values[first - 1] - values[first])
    return float(steps[first - 1] + share * (steps[first] - steps[first - 1]))


def _primary_line(gap: pd.Series, way: str) -> str:
    what = "distance to the real images' value" if way == "floor" else "value"
    line = f"- **{gap['arm']}**, `{gap['metric']}`: {what} {gap['difference']:+.4g} against the baseline"
    if gap["seeds"] < 2:
        return f"{line}, {gap['word']}."
    line += f" (95 % interval {gap['low']:+.4g} to {gap['high']:+.4g}, {gap['seeds']} seeds): **{gap['word']}**"
    if way == "floor":
        line += f"; the value itself {gap['of_values']:+.4g} ({gap['of_values_low']:+.4g} to {gap['of_values_high']:+.4g})"
    if np.isnan(gap["needed"]):
        return f"{line}."
    needed, low, high = (
        f"{gap[name]:.0f}" if np.isfinite(gap[name]) else f"more than {AT_MOST:,}"
        for name in ("needed", "needed_low", "needed_high")
    )
    size = f"{gap['size']:.3g}"
    if not gap["metric"].startswith("lpips"):
        size += ", as much of the baseline's value as the paper's of its FID"
    return (
        f"{line}. At the spread seen here, a difference of the paper's size ({size}) would be seen four times in five with "
        f"{needed} seeds ({low} to {high}, for the spread is known from {gap['seeds']} only)."
    )


def _papers_lpips(rows: pd.DataFrame) -> str:
    """Where the paper's two values of LPIPS lie beside what pairs of real images score here."""
    real, values = float(rows["lpips_alex_floor"].mean()), [arm["lpips_alex"] for arm in PAPER.values()]
    if np.isnan(real):
        return "- What pairs of real images score in `lpips_alex` was not measured."
    held_out = rows["lpips_alex_floor_heldout"].mean() if "lpips_alex_floor_heldout" in rows else np.nan
    told = f"- Pairs of real images score {number(real)} in `lpips_alex`"
    told += f", of held-out ones {number(held_out)}" if np.isfinite(held_out) else ""
    away = [abs(value - real) for value in values]
    return (
        f"{told}. The paper's step from {values[0]} to {values[1]}, if its LPIPS is measured as ours, leads "
        f"{'away from' if away[1] > away[0] else 'towards'} that."
    )


def acting(histories: pd.DataFrame) -> str:
    """In how much of training the loss had anything to act on, and how hard it pulled, in a sentence an arm."""
    lines = ["How much of training the loss had anything to act on, of the batches looked at:", ""]
    for arm, row in activity(histories).iterrows():
        if row["active"] == 0:
            lines.append(f"- {arm}: none.")
            continue
        first = f"at first at step {row['from_step']:,.0f}" if np.isfinite(row["from_step"]) else "in half of the seeds none"
        told = (
            f"- {arm}: {row['active']:.0%}, {first}; over the last quarter {row['outside']:.0%} of the images were outside d_ref"
        )
        ratio = row["gradient_ratio"]
        told += f"; where it acted, its gradient was {ratio:.2g} times the adversarial one" if ratio > 0 else ""
        lines.append(f"{told}.")
    return "\n".join(lines)


def _claim_line(claim: str, arm: str, gaps: pd.DataFrame, better: Mapping[str, str]) -> list[str]:
    """What an arm's metrics say of a claim, by their words; nothing where none was measured."""
    own = gaps[(gaps["arm"] == arm) & gaps["metric"].str.startswith(CLAIMS[claim]) & gaps["judged"].eq(True)]
    if own.empty:
        return []
    told = []
    idle = own["difference"].eq(0) & own["deviation"].eq(0)  # such as a recall of 0 in every run
    for word, group in sorted(own[~idle].groupby("word"), key=lambda pair: WORDS.index(str(pair[0]))):
        told.append(f"{word}: {', '.join(_told(gap, better[gap['metric']]) for _, gap in group.iterrows())}")
    if idle.any():
        told.append(f"equal in all pairs, which says nothing: {', '.join(f'`{name}`' for name in own.loc[idle, 'metric'])}")
    return [f"- **{claim}**, {arm}: {'; '.join(told)}."]


def _told(gap: pd.Series, way: str) -> str:
    own = f"{gap['of_values']:+.3g}"
    away = f"distance to real images' {gap['difference']:+.3g}, value "
    return f"`{gap['metric']}` ({away if way == 'floor' else ''}{own})"


def _values_line(rows: pd.DataFrame, metric: str, gaps: pd.DataFrame, way: str) -> str:
    """A metric's mean in every arm, beside real images'; where the distance to these is judged, the values' differences too."""
    means = ", ".join(f"{number(mean)} ({arm})" for arm, mean in rows.groupby("arm", sort=False)[metric].mean().items())
    told = f"- **alignment**: `{metric}` is {means}; of real images {number(rows[f'{metric}_floor'].mean())}."
    own = gaps.dropna(subset=["of_values_low"])
    if own.empty or way != "floor":
        return told
    each = ", ".join(
        f"{gap['of_values']:+.3g} ({gap['of_values_low']:+.3g} to {gap['of_values_high']:+.3g}, {gap['arm']})"
        for _, gap in own.iterrows()
    )
    return f"{told} The value itself less the baseline's, with an interval that is not corrected: {each}."
