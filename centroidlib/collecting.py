"""From run folders to tidy tables: one row a run, learning curves, histories of training."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from centroidlib.runs import read_record

PARTS = ("standard_error", "low", "high", "floor", "floor_heldout", "value_at_floor_n")  # of a metric, beside its value


def sort_out(batch: Path, runs: str = "") -> tuple[list[str], dict[str, str], list[str]]:
    """Runs of a batch that are evaluated, the baseline's first; those that failed, with the sentence; those that are not there.

    Args:
        batch: its folder.
        runs: names of run folders, separated by spaces; empty for all that are there.

    Raises:
        FileNotFoundError: none has been evaluated.
    """
    there = (path.parent.name for pattern in ("*_seed*/run.json", "*_seed*/metrics.json") for path in batch.glob(pattern))
    names = runs.split() or sorted(set(there), key=lambda name: (not name.startswith("baseline"), _in_order(name)))
    sentences = {name: "; ".join(read_record(batch / name).get("failed", {}).values()) for name in names}
    failed = {name: sentence for name, sentence in sentences.items() if sentence}
    evaluated = [name for name in names if name not in failed and (batch / name / "metrics.json").is_file()]
    if not evaluated:
        why = " ".join(f"{sentence}." for sentence in failed.values())
        raise FileNotFoundError(f"No run in results/{batch.name}/ has been evaluated: run 03_evaluate.ipynb first. {why}".strip())
    return evaluated, failed, [name for name in names if name not in failed and name not in evaluated]


def _in_order(name: str) -> list[tuple[bool, float, str]]:
    """To sort names by the numbers in them: λ = 4 before λ = 40, seed 9 before seed 10."""
    return [(part[0].isdigit(), float(part) if part[0].isdigit() else 0.0, part) for part in re.findall(r"\d+|\D+", name)]


def collect(folders: Sequence[Path], label_protocols: bool = False) -> pd.DataFrame:
    """One row a run: its parameters, then the metrics, each with `_low`, `_high`, `_floor`, `_floor_heldout` and `_seen_by_loss`.

    Args:
        folders: of evaluated runs.
        label_protocols: take runs that were measured under different protocols; the column `protocol` then says in what
            each differs, and every table is made once a protocol.

    Raises:
        ValueError: there are no runs, or they were measured under different protocols and `label_protocols` is not set.
    """
    if not folders:
        raise ValueError("None of these runs has been evaluated, so there is nothing to compare: run 03_evaluate.ipynb first.")
    rows, protocols = [], {}
    for folder in folders:
        record = read_record(folder)
        measured = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        protocols[folder.name] = measured["protocol"] | {"fingerprint": measured["fingerprint"]}
        row: dict[str, Any] = {"arm": record["parameters"]["arm"], "seed": record["parameters"]["seed"], "protocol": ""}
        stages = list(record["stages"].values())
        if trained := _averaged_from(record):
            stages += read_record(folder.parent / f"{trained}_seed{row['seed']}").get("stages", {}).values()
        for stage in stages:
            row |= {k: v for k, v in stage["parameters"].items() if k not in row}
            if "precision" in (made_with := stage.get("made_with", {})):  # of the stage that trained
                row |= {"device": made_with.get("device"), "trained_in": made_with["precision"]}
        for name, entry in measured["metrics"].items():
            row[name] = entry["value"]
            row |= {f"{name}_{part}": entry.get(part) for part in (*PARTS, "seen_by_loss")}
        rows.append(row | {name: measured["protocol"].get(name) for name in ("real_images", "n_real", "n_fake")})
    differing = _differences(protocols)
    if differing and not label_protocols:
        listed = "; ".join(f"{name}: {text}" for name, text in differing.items())
        raise ValueError(
            f"These runs were measured under different protocols ({listed}), so they do not belong in one table: evaluate them "
            "again with the same images and metric parameters, or set label_protocols = True to show them apart."
        )
    return pd.DataFrame([row | {"protocol": differing.get(folder.name, "")} for row, folder in zip(rows, folders, strict=True)])


def _averaged_from(record: Mapping[str, Any]) -> str:
    """The arm whose averaged generator this run evaluates, empty for a run that trained its own."""
    arms = (stage["parameters"].get("generator_of", "") for stage in record["stages"].values())
    return next(filter(None, arms), "")


def _differences(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """By run, the values of what differs between the runs' protocols; nothing where they are all the same."""
    first, *others = protocols.values()
    keys = dict.fromkeys(key for other in others for key in {**first, **other} if first.get(key) != other.get(key))
    told = [key for key in keys if key != "fingerprint"] or list(keys)
    return {name: ", ".join(f"{key} = {_brief(entry.get(key))}" for key in told) for name, entry in protocols.items() if keys}


def _brief(value: object) -> str:
    return " ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def better_of(files: Sequence[Path]) -> dict[str, str]:
    """Name → `lower`, `higher` or `floor`, of all metrics in several metrics.json."""
    entries = [json.loads(file.read_text(encoding="utf-8"))["metrics"] for file in files]
    return {name: entry["better"] for metrics in entries for name, entry in metrics.items()}


def curves(batch: Path, names: Sequence[str]) -> pd.DataFrame:
    """The learning curves of the runs that have one, one below the other, with columns `arm` and `seed`; empty where none has.

    Raises:
        ValueError: they were measured with different numbers of images.
    """
    stages = {name: read_record(batch / name).get("stages", {}).values() for name in names}
    having = [name for name in names if any("curve.csv" in stage.get("outputs", {}) for stage in stages[name])]
    found = _below_each_other(batch, having, "curve.csv")
    if len(found) and found["n_fake"].nunique() > 1:
        counts = ", ".join(map(str, sorted(found["n_fake"].unique())))
        raise ValueError(f"The learning curves are of {counts} images: evaluate these runs with one curve_samples.")
    return found


def histories(batch: Path, names: Sequence[str]) -> pd.DataFrame:
    """The training histories of the runs that were trained, one below the other, with columns `arm` and `seed`."""
    having = [name for name in names if (batch / name / "history.csv").is_file()]
    return _below_each_other(batch, [name for name in having if not _averaged_from(read_record(batch / name))], "history.csv")


def activity(histories: pd.DataFrame) -> pd.DataFrame:
    """Of each arm, a row: in what share of its batches Eq. 3, or what stands in its place, had anything to act on.

    Args:
        histories: as `histories` returns them.

    Returns:
        `active`, the share of batches looked at in which the term pulled at an image, or at λ = 0 would have; `from_step`,
        the first of them, the median over seeds, infinite if in half of them none did; `outside`, the share of images
        outside d_ref over the last quarter; `gradient_ratio`, the median of the term's gradient at the images ÷ the
        adversarial one's where it acted, 0 without the term.
    """
    histories = histories if "gradient_ratio" in histories else histories.assign(gradient_ratio=np.nan)  # of baselines alone
    would = histories["loss_centroid"].where(histories["gradient_ratio"].isna(), histories["gradient_ratio"]) > 0
    pays, runs = histories[would], histories.groupby(["arm", "seed"]).size().index
    late = histories[histories["step"] > 0.75 * histories.groupby(["arm", "seed"])["step"].transform("max")]
    first = pays.groupby(["arm", "seed"])["step"].min().reindex(runs).fillna(np.inf).groupby("arm").median()
    found = {
        "active": would.groupby(histories["arm"]).mean(),
        "from_step": first,
        "outside": late.groupby("arm")["outside"].mean(),
        "gradient_ratio": pays.groupby("arm")["gradient_ratio"].median(),
    }
    table = pd.DataFrame(found).reindex(list(dict.fromkeys(histories["arm"])))
    return table.fillna({"gradient_ratio": 0.0})


def _below_each_other(batch: Path, names: Sequence[str], file: str) -> pd.DataFrame:
    known = {name: read_record(batch / name)["parameters"] for name in names}
    parts = [pd.read_csv(batch / name / file).assign(arm=own["arm"], seed=own["seed"]) for name, own in known.items()]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
