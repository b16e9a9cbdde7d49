"""What an ablation says, in sentences computed from the numbers."""

from collections.abc import Mapping

import pandas as pd

from centroidlib.collecting import activity
from centroidlib.verdict import compared_in

CLEAR = ("improved", "worse")  # the words of a difference that can be told from none


SILENT = 0.1  # share of batches with anything to act on, below which an arm's loss is called silent


def answer(
    rows: pd.DataFrame, gaps: pd.DataFrame, better: Mapping[str, str], histories: pd.DataFrame, loss: str = "centroid"
) -> str:
    """What an ablation says: how far its arms lie from λ = 0, and which can be told from it and from the loss as it is.

    Args:
        rows: of runs.csv.
        gaps: of `ablation_differences`.
        better: `lower`, `higher` or `floor` by metric.
        histories: of the runs' training.
        loss: the arm of the loss as it is.
    """
    primary = gaps[gaps["primary"].eq(True)]
    if primary.empty:
        there = ", ".join(dict.fromkeys(rows["arm"]))
        return (
            "**Answer.** No arm shares a seed, the real images and a primary outcome with one of λ = 0, so nothing is compared; "
            f"there are runs of {there}."
        )
    plain = rows.loc[rows["lambda_"] == 0, "arm"].unique()
    several = primary["seeds"].max() > 1
    opening = (
        f"**Answer.** After {_span(rows['steps'])} steps, paired over {_span(primary['seeds'])} seed{'s' if several else ''}"
    )
    lines = [opening + (", corrected for the number of arms:" if several else ", which distinguishes nothing:"), ""]
    for metric, own in primary.groupby("metric", sort=False):
        to_plain, to_loss = (own[own["baseline"].isin(plain) == there].sort_values("difference") for there in (True, False))
        line = f"- {compared_in(str(metric), better)}: "
        if len(to_plain):
            ends = [f"{gap['difference']:+.3g} (`{gap['arm']}`)" for _, gap in to_plain.iloc[[0, -1]].iterrows()]
            line += f"less their baselines the arms are {' to '.join(dict.fromkeys(ends))}; {_clear(to_plain)}."
        if len(to_loss):
            line += f" Beside the loss as it is, `{loss}`: {_clear(to_loss)}."
        lines.append(line)
    told = "That two arms cannot be told apart does not show that they are alike."
    if not primary.loc[~primary["baseline"].isin(plain), "word"].isin(CLEAR).any():  # no change of the loss changes anything
        told = f"So which part of the loss matters cannot be said from these runs. {told}"
    active = activity(histories)["active"] if len(histories) else pd.Series(dtype=float)
    clear = set(primary.loc[primary["word"].isin(CLEAR), "arm"])
    silent = [arm for arm in dict.fromkeys(primary["arm"]) if active.get(arm, 1.0) < SILENT and arm not in clear]
    if silent:
        told += (
            f" In {', '.join(f'`{arm}`' for arm in silent)} the loss had anything to act on in fewer than {SILENT:.0%} of the "
            "batches: that it is like its baseline shows nothing of what was changed."
        )
    return "\n".join([*lines, "", told])


def _span(values: pd.Series) -> str:
    low, high = f"{values.min():,.0f}", f"{values.max():,.0f}"
    return low if low == high else f"{low} to {high}"


def _clear(gaps: pd.DataFrame) -> str:
    """Which arms can be told from what they are compared with, and how."""
    clear = gaps[gaps["word"].isin(CLEAR)]
    names = ", ".join(f"`{gap['arm']}` ({gap['word']})" for _, gap in clear.iterrows()) or "none"
    return f"distinguishable of {len(gaps)}: {names}"
