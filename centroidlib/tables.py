"""Tables in Markdown: a run's metrics, Table 1 beside the paper's, and what was measured with what."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from centroidlib._files import write_text
from centroidlib.evaluation.measuring import SPACE_METRICS
from centroidlib.intervals import mean_interval
from centroidlib.metrics import named

PAPER = {
    "paper: DCGAN": {"fid": 32.1361, "lpips_alex": 0.2918},
    "paper: DCGAN + centroid loss": {"fid": 30.9519, "lpips_alex": 0.2981},
}
CONDITIONS: dict[str, tuple[str, object]] = {  # columns of runs.csv in words, and the paper's value, which goes without saying
    **{"lambda_": ("λ = {}", None), "steps": ("{} steps", None), "batch_size": ("batch size {}", None)},
    **{"width": ("network width {}", None), "layer": ("Φ's layer {}", None), "weights": ("weights {}", None)},
    **{"pool": ("pooled features", False), "crop": ("crop {}", 1.0), "centroid": ("ball of {}", "01_centroid")},
    **{"constraint": ("`{}` in the place of Eq. 3", "eq3"), "whiten": ("whitened: {}", "none")},
    **{"space": ("features of the {}", "phi"), "centroid_samples": ("constraint over {} images of a batch", 0)},
    **{"warmup": ("{} steps of warm-up", 0), "adapt": ("λ moves by {} a step", 0.0)},
    **{"architecture": ("networks: {}", "dcgan"), "game": ("game: {}", "bce"), "r1": ("R1 {}", 0.0), "r2": ("R2 {}", 0.0)},
    **{"instance_noise": ("noise {} on what D sees", 0.0), "device": ("on {}", None), "trained_in": ("in {}", None)},
}
WEIGHTS = {  # of VGG-16, as captions call them
    "IMAGENET1K_FEATURES": "IMAGENET1K_FEATURES (the original Oxford VGG-16's)",
    "IMAGENET1K_V1": "IMAGENET1K_V1 (torchvision's own training)",
}
IN_A_CAPTION = 5  # arms, whose differences a caption can hold
ARROWS = {"lower": "lower", "higher": "higher", "floor": "nearer to real images"}


def by_space(names: Iterable[str]) -> dict[str, list[str]]:
    """Metrics' names by the feature space they are measured in, the others under `images`."""
    names = list(names)
    spaces = [name for name in names if name.startswith(("fid", "fd_")) and not name.endswith("_inf")]
    wanted = {space: [space, f"{space}_inf", *(named(space, metric) for metric in SPACE_METRICS)] for space in spaces}
    found = {space: [name for name in group if name in names] for space, group in wanted.items()}
    rest = [name for name in names if not any(name in group for group in found.values())]
    return found | ({"images": rest} if rest else {})


def write(table: pd.DataFrame | str, path: Path) -> None:
    """Write a table as CSV, or text as it is."""
    write_text(path, table if isinstance(table, str) else table.to_csv(index=False))


def metrics_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The entries of metrics.json as a Markdown table: value, interval, floors, counts."""
    rows = [
        [
            "metric",
            "value",
            "interval",
            "real images",
            "held-out",
            "at the floor's N",
            "N generated / real",
            "better",
            "seen by the loss",
        ]
    ]
    for name, entry in measured.items():
        interval = "–" if entry["low"] is None else f"{number(entry['low'])} to {number(entry['high'])} ({entry['interval']})"
        at_floor = number(entry["value_at_floor_n"])
        at_floor += f" (N = {entry['floor_n']:,})" if entry["value_at_floor_n"] is not None else ""
        unknown = "–" if name.startswith("lpips") else "not known"  # LPIPS is of generated images alone
        counts = f"{entry['n_fake']:,} / " + (f"{entry['n_real']:,}" if entry["n_real"] else unknown)
        numbers = [number(entry["value"]), interval, number(entry["floor"]), number(entry["floor_heldout"]), at_floor]
        rows.append([f"`{name}`", *numbers, counts, ARROWS[entry["better"]], "yes" if entry["seen_by_loss"] else "no"])
    return markdown(rows)


def floors_table(floors: Mapping[str, Mapping[str, Any]]) -> str:
    """What `measure_real` found, as a Markdown table."""
    rows = [["metric", "real against real", "against held-out", "N a side"]]
    rows += [
        [f"`{name}`", number(f["floor"]), number(f["floor_heldout"]), f"{f['n']:,}" if f["n"] else "–"]
        for name, f in floors.items()
    ]
    return markdown(rows)


def table1(rows: pd.DataFrame, better: Mapping[str, str]) -> str:
    """Table 1 of the paper with our arms, and all our metrics, as Markdown.

    Over several seeds: mean and 95 % t interval; of one seed: the value and its interval within the run. The paper's
    rows are FID at 2,048 dimensions over 50,000 images of all of CelebA: a column that our runs did not measure so
    stays empty. Rows of several protocols make a table each, headed by what differs.
    """
    if rows["protocol"].nunique() > 1:
        return "\n".join(each_protocol(rows, lambda part: table1(part, better)))
    arms = list(dict.fromkeys(rows["arm"]))
    first = rows.iloc[0]
    head = [["", "FID (2048)", "LPIPS (alex)", "seeds"]]
    head += [[name, f"{v['fid']:.4f}", f"{v['lpips_alex']:.4f}", "not given"] for name, v in PAPER.items()]
    for arm in arms:
        mine = rows[rows["arm"] == arm]
        head.append([f"ours: {arm}", _spread(mine, "fid"), _spread(mine, "lpips_alex"), str(len(mine))])
    head.append(["real images", *(number(first.get(f"{name}_floor")) for name in ("fid", "lpips_alex")), ""])

    body = [["metric", *arms, "real images", "held-out", "better"]]
    for name, way in better.items():
        if name not in rows or rows[name].isna().all():
            continue
        values = [_spread(rows[rows["arm"] == arm], name) for arm in arms]
        seen = "; seen by the loss" if first[f"{name}_seen_by_loss"] else ""
        floors = [number(first[f"{name}_{f}"]) for f in ("floor", "floor_heldout")]
        body.append([f"`{name}`", *values, *floors, ARROWS[way] + seen])
        at_floor = rows[f"{name}_value_at_floor_n"].astype(float)
        if at_floor.notna().any() and not np.allclose(at_floor, rows[name], rtol=1e-9):
            values = [number(at_floor[rows["arm"] == arm].mean()) for arm in arms]
            body.append([f"`{name}` at the N of real images' value", *values, *floors, ARROWS[way] + seen])
    caption = (
        f"{conditions(rows, better)} “Real images” is the value between halves of the real data (LPIPS: of their pairs), "
        "“held-out” that between them and images never trained on; both of fewer images than the arms where there are no more "
        "(metrics.json says how many), and where that matters, the arms' values at that number stand in a row of their own. "
        "In brackets: 95 % t intervals over seeds; of a single seed, its interval within the run, which says nothing of others."
    )
    return f"{markdown(head)}\n\n{markdown(body)}\n\n{caption}\n"


def conditions(rows: pd.DataFrame, better: Mapping[str, str]) -> str:
    """What the runs were trained and measured with, in sentences: what every table and caption must say."""
    first = rows.iloc[0]
    apart = differing(rows)
    known = [name for name in CONDITIONS if name in rows and rows[name].notna().any() and name not in apart]
    images = f"{first['n_fake']:,} generated images and {real_images(first['n_real'], first['source'])}"
    told = f"Measured with {images}. All arms: {', '.join(_all_of(known, rows))}."
    if apart and rows["arm"].nunique() <= IN_A_CAPTION:
        arms = {str(arm): _all_of(apart, mine) for arm, mine in rows.groupby("arm", sort=False)}
        told += " " + "; ".join(f"{arm}: {', '.join(words) or 'nothing else'}" for arm, words in arms.items()) + "."
    elif apart:
        told += f" What they differ in stands in the table of arms: {', '.join(apart).replace('lambda_', 'λ')}."
    networks = {"VGG-16" if name == "vgg16" else name for name in rows.get("extractor", pd.Series(["vgg16"])).fillna("vgg16")}
    told += f" Φ: {', '.join(sorted(networks))}." + (
        " Distances in Eq. 3 in units of d_ref." if first["unit"] == "d_ref" else " Raw distances in Eq. 3."
    )
    if "fid" not in better:
        space = next(iter(better))
        told += f" FID proper was not measured here; `{space}` is another distance, not comparable with the paper's FID."
    if not ("fid" in better and set(rows["weights"]) == {"IMAGENET1K_V1"} and first["n_real"] > 200_000 and first["width"] == 64):
        told += " So this neither confirms nor refutes the paper's Table 1."
    return told


def real_images(count: int, source: str) -> str:
    """So many real images, and where they are from: a file, a folder, a data set, or the library, which draws faces."""
    return f"{count:,} drawn faces" if source == "synthetic" else f"{count:,} real images of `{Path(source).name}`"


def differing(rows: pd.DataFrame) -> list[str]:
    """The parameters of runs.csv in which arms differ."""
    there = [name for name in CONDITIONS if name in rows]
    arms = [mine for _, mine in rows.groupby("arm")]
    return [name for name in there if len({tuple(mine[name].dropna().unique()) for mine in arms}) > 1]


def in_words(name: str, value: object) -> str:
    """A parameter's value as captions say it; nothing of one that is the paper's."""
    words, papers = CONDITIONS[name]
    return "" if value == papers else words.format(_plain(value))


def _all_of(names: Iterable[str], rows: pd.DataFrame) -> list[str]:
    """What runs have, in words: mostly one value; of those that were trained in several sittings, maybe more."""
    told = []
    for name in names:
        values = list(rows[name].dropna().unique())
        several = CONDITIONS[name][0].format(" and ".join(map(_plain, values)))
        told.append(in_words(name, values[0]) if len(values) == 1 else several if values else "")
    return [words for words in told if words]


def _plain(value: object) -> str:
    value = WEIGHTS.get(value, value) if isinstance(value, str) else value
    return f"{value:,g}" if isinstance(value, int | float | np.number) and not isinstance(value, bool) else str(value)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns; the first row is its head."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def each_protocol(rows: pd.DataFrame, told: Callable[[pd.DataFrame], str]) -> list[str]:
    """What is told of the runs of each protocol, headed by what differs."""
    return [f"#### {label}\n\n{told(part.assign(protocol=''))}" for label, part in rows.groupby("protocol", sort=False)]


def _spread(rows: pd.DataFrame, name: str) -> str:
    if name not in rows or rows[name].isna().all():
        return "–"
    known = rows[name].dropna()
    if len(known) > 1:
        _, low, high, *_ = mean_interval(torch.tensor(known.to_numpy(float)))
    else:
        low, high = rows[f"{name}_low"].iloc[0], rows[f"{name}_high"].iloc[0]
    mean = number(known.mean())
    return mean if pd.isna(low) else f"{mean} ({number(low)} to {number(high)})"


def number(value: float | None) -> str:
    """Four digits, or a dash for what is not known."""
    return "–" if value is None or pd.isna(value) else f"{value:.4g}"
