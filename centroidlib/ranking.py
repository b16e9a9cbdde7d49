"""Which member of the family to use: every arm against the baseline, seed by seed, and what that says in words."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from centroidlib.paired import distance_to_target, like_with_like, primary_outcomes
from centroidlib.tables import markdown

NAMED = 4  # arms that the answer names of those that reach it
AIM = -0.2  # the first Fréchet distance against the baseline's, on every seed


def rank_arms(
    rows: pd.DataFrame, better: Mapping[str, str], histories: pd.DataFrame | None = None, baseline: str = "baseline"
) -> pd.DataFrame:
    """Arms by how much lower than their baseline's their first Fréchet distance is, the best first.

    An arm's baseline is that of as many steps (`like_with_like`). Another arm without a loss of its own (λ = 0) is a control,
    such as a baseline that trains for as long as the others take.

    Args:
        rows: of runs.csv.
        better: `lower`, `higher` or `floor` by metric.
        histories: of training, as `collecting.histories` returns them; their times are compared.
        baseline: the arm that those are compared with which have no other of as many steps.

    Returns:
        A row an arm: `arm`; `against`, its baseline; `seeds` that it shares with it; `change`, the mean over them of the relative
        change of the first Fréchet distance, with `best` and `worst` seed; `difference`, the mean of its paired differences with
        their 95 % t interval (`low`, `high`) and, corrected for the number of arms, its `word`; `clear`, which primary outcomes
        are improved or worse, so corrected; `unseen`, how many of the Fréchet distances in spaces that no loss saw are lower on
        every seed, of `of`; `worse`: metrics that are worse on every seed by more than their interval within the run, or over
        seeds distinguishably; `reached`: 20 % lower on every seed, lower in all unseen spaces, nothing worse, every control
        beaten; `control`; `beaten`: controls that it is below on every seed, of a control the members that it is no baseline of;
        `beaten_second`: the same in the second primary outcome; `time` of training at its median speed, times its baseline's, if
        histories are given.
    """
    wide = distance_to_target(rows, better).set_index(["seed", "arm"])
    first, *second = primary_outcomes(better)
    distances = [name for name in better if name.startswith(("fid", "fd_")) and not name.endswith("_inf")]
    unseen = [name for name in distances if not rows[f"{name}_seen_by_loss"].any()]
    gaps = like_with_like(rows, better, baseline)
    lambdas = rows.groupby("arm")["lambda_"].agg(lambda values: values.astype(float).abs().max())
    controls = [arm for arm in lambdas.index[lambdas == 0] if arm != baseline]
    against = {str(arm): str(own) for arm, own in gaps[["arm", "baseline"]].drop_duplicates().to_numpy()}
    seconds = _seconds(histories)
    found = []
    for arm, own in against.items():
        table = {name: wide[name].unstack("arm")[[own, arm]].dropna() for name in better if not rows[name].isna().all()}
        change = table[first][arm] / table[first][own] - 1
        lower = [name for name in unseen if (table[name][arm] < table[name][own]).all()]
        mine = gaps[gaps["arm"] == arm].set_index("metric")
        judged = [name for name in table if name in mine.index and mine.loc[name, "judged"]]
        worse = [name for name in judged if _worse(rows, mine.loc[[name]].iloc[0], table[name], better[name])]
        row = {"arm": arm, "against": own, "seeds": len(change)}
        row |= {"change": change.mean(), "best": change.min(), "worst": change.max()}
        row |= {name: mine.loc[first, name] for name in ("difference", "low", "high", "word")}
        told = mine[mine["primary"].eq(True) & mine["word"].isin(["improved", "worse"])]
        row |= {"clear": ", ".join(f"`{name}` ({word})" for name, word in told["word"].items())}
        row |= {"unseen": len(lower), "of": len(unseen), "worse": ", ".join(worse)}
        control = arm in controls
        rivals = [other for other in against if (other in controls) != control and other != own and against[other] != arm]
        beaten = [[rival for rival in rivals if _below(wide[name].unstack("arm"), arm, rival)] for name in (first, *second)]
        everywhere = not control and len(lower) == len(unseen) and len(beaten[0]) == len(rivals)
        row |= {"reached": bool(change.max() <= AIM and not worse and everywhere), "control": control}
        row |= {"beaten": ", ".join(beaten[0]), "beaten_second": ", ".join(beaten[-1] if second else [])}
        row["time"] = (seconds[arm] / seconds[own]).mean() if {arm, own} <= set(seconds) else float("nan")
        found.append(row)
    return pd.DataFrame(found).sort_values("change", ignore_index=True) if found else pd.DataFrame()


def _seconds(histories: pd.DataFrame | None) -> pd.DataFrame:
    """Seconds of training, a row a seed and a column an arm: the median step's times all steps, whatever ran beside some."""
    if histories is None or histories.empty:
        return pd.DataFrame()
    runs = histories.groupby(["seed", "arm"])
    of_a_step = runs["seconds"].diff() / runs["step"].diff()
    medians = of_a_step.groupby([histories["seed"], histories["arm"]]).median()
    return (medians * runs["step"].max()).unstack("arm")


def _below(table: pd.DataFrame, arm: str, rival: str) -> bool:
    both = table[[arm, rival]].dropna()
    return bool(len(both) and (both[arm] < both[rival]).all())


def _worse(rows: pd.DataFrame, gap: pd.Series, table: pd.DataFrame, way: str) -> bool:
    """Distinguishably over seeds, or on every seed by more than both runs' intervals allow."""
    name, arm, baseline = gap.name, gap["arm"], gap["baseline"]
    if gap["word"] == "worse":
        return True
    both = rows[rows["arm"].isin([arm, baseline])].set_index(["seed", "arm"])
    half = ((both[f"{name}_high"] - both[f"{name}_low"]).astype(float) / 2).unstack("arm").reindex(table.index)
    difference = (table[arm] - table[baseline]) * (-1 if way == "higher" else 1)
    return bool((difference > np.hypot(half[arm], half[baseline])).all())


def ranking_table(ranked: pd.DataFrame, first: str) -> str:
    """The ranking as a Markdown table; `first` is the first Fréchet distance's name."""
    names = [
        f"`{first}` against its baseline's",
        "on its best and worst seed",
        "seeds",
        "time",
        "unseen spaces lower",
        "worse in",
    ]
    rows = [["arm", *names]]
    for _, row in ranked.iterrows():
        time = "–" if pd.isna(row["time"]) else f"{row['time']:.1f} ×"
        numbers = [f"{row['change']:+.0%}", f"{row['best']:+.0%}, {row['worst']:+.0%}", str(row["seeds"]), time]
        arm = row["arm"] if row["against"] == "baseline" else f"{row['arm']} (against {row['against']})"
        rows.append([arm, *numbers, f"{row['unseen']} of {row['of']}", row["worse"] or "nothing"])
    return markdown(rows)


def counted_table(rows: pd.DataFrame) -> str:
    """The counted diversity of drawn faces as a Markdown table, means over seeds; of other images, that there is none."""
    if "factors_kinds" not in rows:
        return "Factors are known of drawn faces only, so nothing is counted of these."
    table = [["arm", "all factors recognised", "distinct combinations", "divergence of their levels"]]
    floors = rows.filter(regex="^factors_.*_floor$").mean().rename(lambda name: name.removesuffix("_floor"))
    means = rows.groupby("arm", sort=False)[[*floors.index]].mean()
    for arm, mine in [("real images", floors), *means.iterrows()]:
        shares = f"{mine['factors_recognised']:.1%}", f"{mine['factors_kinds']:.0%}"
        table.append([str(arm), *shares, f"{mine['factors_divergence']:.2f}"])
    return markdown(table)


def which_to_use(ranked: pd.DataFrame, first: str, told: str) -> str:
    """The answer of 08: which member reaches the aim, which come nearest, or that none helps; `told` are the conditions."""
    if ranked.empty:
        return "**Answer.** No arm and the baseline share a seed, so nothing is compared."
    seeds = int(ranked["seeds"].min())
    aim = f"`{first}` at least {-AIM:.0%} below its baseline's on every seed, all that no loss saw lower too, no metric worse"
    controls, members = ranked[ranked["control"]], ranked[~ranked["control"]]
    if members.empty:
        return "**Answer.** Every arm is without a loss of its own, so nothing is compared."
    reached = members[members["reached"]]
    lower = members[members["worst"] < 0]
    if len(reached):
        names = ", ".join(f"`{row['arm']}` ({row['change']:+.0%})" for _, row in reached.head(NAMED).iterrows())
        more = f" and {len(reached) - NAMED} more" if len(reached) > NAMED else ""
        use = "Use" if reached["word"].iloc[0] == "improved" else "On more seeds try"
        said = f"{use} `{reached['arm'].iloc[0]}`: the aim ({aim}) is reached by {names}{more}.{_over_seeds(reached.iloc[0])}"
    elif len(lower):
        best = lower.iloc[0]
        said = (
            f"None of them is to be recommended by these runs, for none reaches the aim ({aim}). Nearest comes `{best['arm']}`: "
            f"{best['change']:+.0%} on average, "
            f"{best['worst']:+.0%} on its worst seed, lower on every seed in {best['unseen']} of {best['of']} spaces that no "
            f"loss saw, worse in {best['worse'] or 'nothing'}.{_over_seeds(best)}"
        )
    else:
        said = f"None helps: no arm's `{first}` is below its baseline's on every seed."
    said += "".join(_beside(control, members) for _, control in controls.iterrows())
    clear = "; ".join(f"`{row['arm']}` in {row['clear']}" for _, row in ranked.iterrows() if row["clear"])
    if seeds > 1:
        said += f" In the outcomes that decide, after correction for the number of arms, distinguishable: {clear or 'none'}."
    paper = ranked[ranked["arm"] == "centroid"]
    if len(paper):
        said += f" The paper's loss changes it by {paper['change'].iloc[0]:+.0%}."
    one = " One seed chooses what is worth more of them, and proves nothing." if seeds < 2 else ""
    return f"**Answer.** {said}{one} {told}"


def _beside(control: pd.Series, members: pd.DataFrame) -> str:
    """What a control says of the members, in the first outcome and in the second; and of those that trained on top of it."""
    arm, shorter = control["arm"], members[members["against"] != control["arm"]]
    below, nearer = (
        [f"`{row['arm']}`" for _, row in shorter.iterrows() if arm in row[column].split(", ")]
        for column in ("beaten", "beaten_second")
    )
    above = [f"`{name}`" for name in shorter["arm"] if name in control["beaten"].split(", ")]
    every = bool(len(above)) and len(above) == len(shorter)
    said = f" `{arm}`, without a loss, changes it by {control['change']:+.0%}"
    said += "" if pd.isna(control["time"]) else f" in {control['time']:.1f} times the baseline's time"
    said += f"; below it on every seed: {', '.join(below) or 'no member'}, above it: "
    said += "every member." if every else f"{', '.join(above) or 'no member'}."
    said += f" In LPIPS nearer to real images' than it on every seed: {', '.join(nearer)}." if nearer else ""
    if every:
        said += " So with time for it, train " + ("longer rather than with any of them." if nearer else "without any of them.")
    for _, row in members[members["against"] == arm].iterrows():
        said += (
            f" Against it `{row['arm']}`, of as many steps, changes it by {row['change']:+.0%} ({row['worst']:+.0%} at worst)."
        )
    return said


def _over_seeds(row: pd.Series) -> str:
    """What a t test says of an arm's differences, which are few: the same way on every seed is not yet distinguishable."""
    if np.isnan(row["low"]):
        return ""
    return (
        f" Over {row['seeds']} seeds that is a difference of {row['difference']:+.3g} ({row['low']:+.3g} to {row['high']:+.3g}): "
        f"{row['word']}, corrected for the number of arms."
    )


def fidelity_and_diversity(better: Mapping[str, str]) -> tuple[str, str]:
    """The two metrics of the Pareto picture: the first Fréchet distance, and LPIPS, or where it was not measured recall there."""
    first = primary_outcomes(better)[0]
    lpips = next((name for name in better if name.startswith("lpips")), None)
    return first, lpips or next(name for name in better if name.startswith("recall"))


def unpunished(punished: pd.DataFrame) -> str:
    """Which members let pass what is no batch of faces, in a sentence a picture; `punished` is from `constraining.punish`."""
    lines = []
    for pictures in ("flat grey", "the mean image", "one face repeated"):
        own = punished[punished["pictures"] == pictures]
        free = own[own["free"] > 0]
        names = [
            f"`{name}`" + ("" if share == 1 else f" ({share:.0%} of the faces)")
            for name, share in free[["constraint", "free"]].values
        ]
        pays = f"no more than real images do under {', '.join(names)}" if names else "more than real images do under all of them"
        lines.append(f"- {pictures} pays {pays}.")
    return "\n".join(["Here", "", *lines])


def strengths_table(strengths: Mapping[str, float]) -> str:
    """The strengths of equal pull as a Markdown table, or that there is no generator to pull at."""
    if not strengths:
        return "No run is named whose generator's images they could pull at (`pulled`), so this is left out."
    return markdown([["member", "λ of equal pull"], *([name, f"{strength:.3g}"] for name, strength in strengths.items())])
