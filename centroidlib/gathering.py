"""What a batch's runs say, gathered for the notebooks that compare them, and what is missing of it in sentences."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from centroidlib import collecting, paired, tables
from centroidlib.checkpoints import load_generators
from centroidlib.evaluation.figures import figure_curves
from centroidlib.runs import Run
from centroidlib.walking import latent_of


@dataclass(frozen=True)
class Gathered:
    """What the evaluated runs of a batch say.

    Attributes:
        rows: one row a run, as in runs.csv.
        better: `lower`, `higher` or `floor` by metric.
        curves: the learning curves of the runs that have one, empty where none has.
        histories: the training histories of the runs that were trained.
        failed: runs that did not come to an end, and why.
        not_run: runs that are asked for and not there.
        conditions: what the runs were trained and measured with, in sentences.
    """

    rows: pd.DataFrame
    better: dict[str, str]
    curves: pd.DataFrame
    histories: pd.DataFrame
    failed: dict[str, str]
    not_run: list[str]
    conditions: str


def gather(run: Run, runs: str = "", label_protocols: bool = False, on_the_way: bool = True) -> Gathered:
    """All that the batch's runs say, their files noted in the record as inputs.

    Args:
        run: of the notebook that compares.
        runs: names of run folders, separated by spaces; empty for all of the batch.
        label_protocols: take runs that were measured under different protocols, labelled.
        on_the_way: take learning curves too and, as a metric, the scatter of the first primary outcome between the last
            checkpoints.

    Raises:
        FileNotFoundError: none has been evaluated.
        ValueError: runs of different protocols, without `label_protocols`; learning curves of different numbers of images.
    """
    names, failed, not_run = collecting.sort_out(run.batch, runs)
    measured = [run.input(f"{name}/metrics.json") for name in names]
    rows, better = collecting.collect([path.parent for path in measured], label_protocols), collecting.better_of(measured)
    files = ("history.csv", *["curve.csv"] * on_the_way)
    for name in (f"{name}/{file}" for name in names for file in files):
        if (run.batch / name).is_file():  # an averaged generator has no history of its own
            run.input(name)
    curves, histories = collecting.curves(run.batch, names * on_the_way), collecting.histories(run.batch, names)
    if len(curves):
        rows, scatter = paired.with_checkpoint_scatter(rows, curves, paired.primary_outcomes(better)[0])
        better |= scatter
    return Gathered(rows, better, curves, histories, failed, not_run, tables.conditions(rows, better))


def draw_curves(run: Run, found: Gathered) -> str:
    """Write the learning curves and their figure, where there are any, and say whose they are or what they would take."""
    if found.curves.empty:
        return (
            "No run has a learning curve: `02` keeps generators on the way with `generators_every`, and `03` measures them "
            "with `curve_samples`."
        )
    tables.write(found.curves, run.output("curves.csv"))
    drawn = [name.removesuffix("_floor") for name in map(str, found.curves) if name.endswith("_floor")]
    run.save(figure_curves(found.curves, drawn, found.conditions), "curves")
    having, steps = len(found.curves.groupby(["arm", "seed"])), found.curves["step"]
    return (
        f"{having} of {len(found.rows)} runs have a learning curve, of {steps.nunique()} generators kept from step "
        f"{steps.min():,} to {steps.max():,}."
    )


def differences(found: Gathered) -> pd.DataFrame:
    """Differences of all metrics, `like_with_like`; none of runs of several protocols, which the verdict takes one at a time."""
    alike = found.rows["protocol"].nunique() == 1
    return paired.like_with_like(found.rows if alike else found.rows[:0], found.better)


def arms(found: Gathered) -> pd.DataFrame:
    """What arms differ in, a row an arm, how many seeds each has, and how much its loss had to act on (`activity`)."""
    grouped = found.rows.groupby("arm", sort=False)
    table = grouped[tables.differing(found.rows)].first().assign(seeds=grouped["seed"].count())
    if found.histories.empty:
        return table
    active = collecting.activity(found.histories).round(3)
    return table.join(active.assign(from_step=active["from_step"].astype(object).replace(np.inf, "never")))


def faces(run: Run, found: Gathered, count: int = 9) -> dict[str, Tensor]:
    """What each arm's generator of the first seed makes of the same latents, in [-1, 1], (count, 3, H, W).

    Arms whose generator is not here are left out: it is not committed.

    Raises:
        ValueError: a generator is damaged, or they take latents of different lengths.
    """
    names = {arm: f"{arm}_seed{found.rows['seed'].min()}/generator.safetensors" for arm in dict.fromkeys(found.rows["arm"])}
    generators = load_generators({arm: run.input(name) for arm, name in names.items() if (run.batch / name).is_file()})
    return {
        arm: generator(torch.cat([latent_of(seed, generator.latent) for seed in range(count)]))
        for arm, generator in generators.items()
    }


def missing(found: Gathered) -> str:
    """Which runs failed and which are not there, in a sentence each."""
    failed, not_run = " ".join(found.failed.values()) or "none.", ", ".join(found.not_run) or "none"
    return f"Failed: {failed} Asked for and not there: {not_run}."
