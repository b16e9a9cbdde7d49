"""From records to tables: one tidy row a run, Table 1 beside the paper's, and what the runs say of the arms."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from centroidlib._files import write_text
from centroidlib.runs import read_record

PAPER = {
    "paper: DCGAN": {"fid": 32.1361, "lpips_alex": 0.2918},
    "paper: DCGAN + centroid loss": {"fid": 30.9519, "lpips_alex": 0.2981},
}
ARROWS = {"lower": "lower is better", "higher": "higher is better", "floor": "nearer to real images is better"}


def evaluated_runs(batch: Path) -> list[str]:
    """Names of the batch's run folders that hold metrics.json, the baseline's first."""
    names = sorted(path.parent.name for path in batch.glob("*/metrics.json"))
    if not names:
        raise FileNotFoundError(f"No run in results/{batch.name}/ has been evaluated yet: run 03_evaluate.ipynb first.")
    return sorted(names, key=lambda name: not name.startswith("baseline"))


def collect(folders: Sequence[Path]) -> pd.DataFrame:
    """One row a run: its parameters, then the metrics, each with `_low`, `_high`, `_floor` and `_seen_by_loss`.

    Raises:
        ValueError: the runs were measured under different protocols.
    """
    rows, protocols = [], {}
    for folder in folders:
        record = read_record(folder)
        measured = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        protocols[folder.name] = measured["fingerprint"]
        row: dict[str, Any] = {"arm": record["parameters"]["arm"], "seed": record["parameters"]["seed"]}
        for stage in record["stages"].values():
            row |= {k: v for k, v in stage["parameters"].items() if k not in row}
        for name, entry in measured["metrics"].items():
            row[name] = entry["value"]
            row |= {f"{name}_{part}": entry[part] for part in ("low", "high", "floor", "seen_by_loss")}
        rows.append(row | {"n_real": measured["protocol"]["n_real"], "n_fake": measured["protocol"]["n_fake"]})
    if len(set(protocols.values())) > 1:
        listed = ", ".join(f"{name}: {digest}" for name, digest in protocols.items())
        raise ValueError(
            f"These runs were measured under different protocols ({listed}), so they do not belong in one table: evaluate them "
            "again with the same images and metric parameters."
        )
    return pd.DataFrame(rows)


def better_of(metrics: Path) -> dict[str, str]:
    """Name → `lower`, `higher` or `floor`, of all metrics in a metrics.json."""
    entries = json.loads(metrics.read_text(encoding="utf-8"))["metrics"]
    return {name: entry["better"] for name, entry in entries.items()}


def write(table: pd.DataFrame | str, path: Path) -> None:
    """Write a table as CSV, or text as it is."""
    write_text(path, table if isinstance(table, str) else table.to_csv(index=False))


def histories(batch: Path, names: Sequence[str]) -> pd.DataFrame:
    """The training histories of runs, one below the other, with columns `arm` and `seed`."""
    parts = []
    for name in names:
        known = read_record(batch / name)["parameters"]
        parts.append(pd.read_csv(batch / name / "history.csv").assign(arm=known["arm"], seed=known["seed"]))
    return pd.concat(parts, ignore_index=True)


def metrics_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The entries of metrics.json as a Markdown table."""
    rows = [["metric", "value", "real images", "at the floor's N", "N generated / real", "", "seen by the loss"]]
    for name, entry in measured.items():
        value = _number(entry["value"])
        if entry["low"] is not None:
            value += f" ({_number(entry['low'])} to {_number(entry['high'])}, {entry['interval']})"
        counts = f"{entry['n_fake']:,} / {entry['n_real']:,}"
        seen = "yes" if entry["seen_by_loss"] else "no"
        floor = _number(entry["floor"])
        rows.append([f"`{name}`", value, floor, _number(entry["value_at_floor_n"]), counts, ARROWS[entry["better"]], seen])
    return markdown(rows)


def table1(rows: pd.DataFrame, better: Mapping[str, str]) -> str:
    """Table 1 of the paper with our arms, and all our metrics, as Markdown; mean ± standard deviation over seeds.

    The paper's rows are FID at 2,048 dimensions over 50,000 images of all of CelebA: a column that our runs did
    not measure so stays empty.
    """
    arms = list(dict.fromkeys(rows["arm"]))
    first = rows.iloc[0]
    head = [["", "FID (2048)", "LPIPS (alex)", "seeds"]]
    head += [[name, f"{v['fid']:.4f}", f"{v['lpips_alex']:.4f}", "not given"] for name, v in PAPER.items()]
    for arm in arms:
        mine = rows[rows["arm"] == arm]
        head.append([f"ours: {arm}", _spread(mine, "fid"), _spread(mine, "lpips_alex"), str(len(mine))])
    head.append(["real images", *(_number(first.get(f"{name}_floor")) for name in ("fid", "lpips_alex")), ""])

    body = [["metric", *arms, "real images", ""]]
    for name, way in better.items():
        values = [_spread(rows[rows["arm"] == arm], name) for arm in arms]
        seen = "; seen by the loss" if first[f"{name}_seen_by_loss"] else ""
        body.append([f"`{name}`", *values, _number(first[f"{name}_floor"]), ARROWS[way] + seen])
    strengths = "; ".join(f"{a}: λ = {float(rows.loc[rows['arm'] == a, 'lambda_'].iloc[0]):g}" for a in arms)
    unit = "distances in units of d_ref" if first["unit"] == "d_ref" else "raw distances"
    samples, noise = first.get("centroid_samples", 0), first.get("instance_noise", 0)
    extras = f"; Eq. 3 over {samples} of the {first['batch_size']} images" if samples else ""
    extras += f"; instance noise {noise:g} on what D sees, which the paper has not" if noise else ""
    caption = (
        f"Measured with {first['n_fake']:,} generated and {first['n_real']:,} real images of `{first['source']}`, after "
        f"{first['steps']:,} steps at batch {first['batch_size']}, width {first['width']}; Φ: VGG-16 layer {first['layer']}, "
        f"weights {first['weights']}. {strengths}, on {unit}{extras}. "
        "“Real images” is the value of the real data against themselves."
    )
    if "fid" not in better:
        space = next(iter(better))
        caption += f" FID proper was not measured here; `{space}` is another distance, not comparable with the paper's FID."
    return f"{markdown(head)}\n\n{markdown(body)}\n\n{caption}\n"


def paired_differences(rows: pd.DataFrame, metrics: Sequence[str], baseline: str = "baseline") -> pd.DataFrame:
    """Arm minus baseline, seed by seed: mean and 95 % t interval (NaN for one seed), a row an arm and metric."""
    wide = rows.set_index(["seed", "arm"])
    found = []
    for arm in dict.fromkeys(rows["arm"]):
        for metric in metrics if arm != baseline else ():
            table = wide[metric].unstack("arm")
            gap = (table[arm] - table[baseline]).dropna()
            half = stdtrit(len(gap) - 1, 0.975) * gap.std() / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
            mean = gap.mean()
            found.append(
                {"arm": arm, "metric": metric, "difference": mean, "low": mean - half, "high": mean + half, "seeds": len(gap)}
            )
    return pd.DataFrame(found)


def verdict(rows: pd.DataFrame, better: Mapping[str, str], baseline: str = "baseline") -> str:
    """What the runs say of each arm against the baseline, in Markdown sentences computed from the numbers.

    For metrics whose target is the real images' own value, the distance to it is compared.
    """
    arms = list(dict.fromkeys(rows["arm"]))
    if baseline not in arms or len(arms) < 2:
        return "**Answer.** There is only one arm here, so nothing is compared: run the other (λ = 0, arm `baseline`) as well."
    away = rows.copy()
    for name in (n for n, way in better.items() if way == "floor"):
        away[name] = (away[name] - away[f"{name}_floor"]).abs()
    lines = []
    for _, gap in paired_differences(away, list(better), baseline).iterrows():
        sign = -1 if better[gap["metric"]] == "higher" else 1
        what = "distance to the real images' value" if better[gap["metric"]] == "floor" else "value"
        seen = " (seen by the loss)" if rows[f"{gap['metric']}_seen_by_loss"].any() else ""
        text = f"- **{gap['arm']}**, `{gap['metric']}`{seen}: {what} {gap['difference']:+.4g} against the baseline"
        if gap["seeds"] < 2:
            word = (
                "no difference" if gap["difference"] == 0 else "in its favour" if sign * gap["difference"] < 0 else "against it"
            )
            text += f", {word}."
        else:
            clear = gap["low"] > 0 or gap["high"] < 0
            word = ("improved" if sign * gap["difference"] < 0 else "worse") if clear else "not distinguishable"
            text += f" (95 % interval {gap['low']:+.4g} to {gap['high']:+.4g}, {gap['seeds']} seeds): {word}."
        lines.append(text)
    seeds = rows["seed"].nunique()
    opening = (
        "**Answer.** One seed an arm shows what a difference looks like, not whether it is real: neighbouring seeds of one arm "
        "differ as well. No verdict follows from these:"
        if seeds < 2
        else f"**Answer.** Paired differences over {seeds} seeds; each line stands alone, not corrected for their number:"
    )
    return "\n".join([opening, "", *lines])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _spread(rows: pd.DataFrame, name: str) -> str:
    if name not in rows or rows[name].isna().all():
        return "–"
    mean = _number(rows[name].mean())
    return mean if len(rows) == 1 else f"{mean} ± {rows[name].std():.2g}"


def _number(value: float | None) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.4g}"
