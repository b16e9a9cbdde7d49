"""The rows of ratios.csv: one of them, all as a frame or a table to read, and what they say."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from centroidlib import machine
from centroidlib.tables import markdown, number

COLUMNS = ["work", "ours_seconds", "reference_seconds", "ratio", "reference", "machine", "precision"]
LESS = "a quarter of the samples"  # ends the name of a work that does less than its reference


def row(
    work: str,
    ours_seconds: float,
    reference_seconds: float,
    reference: str,
    precision: str = "float32",
    apart: float | None = None,
) -> dict[str, Any]:
    """A work's row; its ratio is the reference's seconds ÷ ours, above 1 where ours is faster.

    Args:
        work: what is done.
        ours_seconds: that our way of doing it takes.
        reference_seconds: that the reference's takes.
        reference: whose way that is.
        precision: of ours.
        apart: relative difference of what both give, where they give numbers.
    """
    return {
        "work": work,
        "ours_seconds": ours_seconds,
        "reference_seconds": reference_seconds,
        "ratio": reference_seconds / ours_seconds,
        "reference": reference,
        "machine": machine.describe(),
        "precision": precision,
        "apart": apart,
    }


def ratios(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Rows in the columns of ratios.csv."""
    return pd.DataFrame(list(rows), columns=COLUMNS)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    body = [["work", "precision", "ours, s", "reference, s", "reference", "ratio", "relative difference"]]
    for own in rows:
        seconds = [number(own[name]) for name in ("ours_seconds", "reference_seconds")]
        apart = "–" if own["apart"] is None else f"{own['apart']:.1e}"
        body.append([own["work"], own["precision"], *seconds, own["reference"], f"{own['ratio']:.2f}", apart])
    return markdown(body)


def answer(found: pd.DataFrame) -> str:
    """What ratios.csv says: how many times as fast ours is beside each reference, where most, and where it is slower.

    Works that do less than their reference are not counted.
    """
    same = found[~found["work"].str.endswith(LESS)]
    told = [_told(own) for _, own in same.sort_values("ratio").iterrows()]
    slower = told[: int((same["ratio"] < 1).sum())]
    lines = [
        f"**Answer.** On this machine ({same['machine'].iloc[0]}) ours takes less time than the reference in "
        f"{len(told) - len(slower)} of {len(told)} works. How many times as fast it is beside each:",
        "",
    ]
    for reference, group in same.groupby("reference", sort=False)["ratio"]:
        ends = dict.fromkeys(f"{end:.2f}" for end in (group.min(), group.max()))
        lines.append(f"- {reference}: {' to '.join(ends)}")
    lines += ["", f"Fastest is {told[-1]}."]
    if slower:
        lines.append(f"Slower than the reference, the slowest first: {'; '.join(slower)}.")
    else:
        lines.append(f"Slowest is {told[0]}: nowhere is ours slower than the reference.")
    if len(same) < len(found):
        lines.append(f"Works of {LESS} do less than the reference and are not counted.")
    return "\n".join(lines)


def _told(own: "pd.Series[Any]") -> str:
    precision = " in bfloat16" if own["precision"] == "bfloat16" else ""
    return f"`{own['work']}`{precision}, {own['ratio']:.2f} times as fast as {own['reference']}"
