"""Tests of the ranking of the family's members, on made-up tables."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from scipy import stats

from centroidlib import ranking
from centroidlib.evaluation.comparisons import figure_pareto, figure_strength
from centroidlib.plots import ARMS, use_style

BETTER = {"fid": "lower", "fd_vgg16_random": "lower", "recall": "higher", "lpips_alex": "floor"}
FLOORS = {"fid": 0.1, "fd_vgg16_random": 0.01, "recall": 0.9, "lpips_alex": 0.29}


def table(arms):
    """Rows of runs.csv, of values by arm, metric and seed; intervals of ±0.01."""
    rows = []
    for arm, metrics in arms.items():
        for seed in range(len(metrics["fid"])):
            row = {"arm": arm, "seed": seed, "lambda_": 0.0 if arm == "baseline" else 1.0, "steps": 100}
            for name, values in metrics.items():
                row |= {name: values[seed], f"{name}_low": values[seed] - 0.01, f"{name}_high": values[seed] + 0.01}
                row |= {f"{name}_floor": FLOORS[name], f"{name}_seen_by_loss": False}
            rows.append(row)
    return pd.DataFrame(rows)


def metrics(fid, other, recall=(0.5, 0.5, 0.5), lpips=(0.3, 0.3, 0.3)):
    return {"fid": fid, "fd_vgg16_random": other, "recall": recall, "lpips_alex": lpips}


@pytest.fixture
def rows():
    return table(
        {
            "baseline": metrics((2.0, 2.2, 2.4), (0.5, 0.6, 0.7)),
            "centroid": metrics((1.0, 2.3, 1.2), (0.4, 0.7, 0.6)),
            "energy": metrics((1.5, 1.6, 1.8), (0.3, 0.4, 0.5), (0.6, 0.6, 0.6)),
            "sliced": metrics((1.0, 1.1, 1.2), (0.3, 0.4, 0.5), (0.3, 0.35, 0.3)),
        }
    )


def test_arms_are_ranked_by_their_mean_change(rows):
    ranked = ranking.rank_arms(rows, BETTER).set_index("arm")
    assert list(ranked.index) == ["sliced", "centroid", "energy"]
    assert ranked.loc["centroid", "change"] == pytest.approx((1.0 / 2.0 + 2.3 / 2.2 + 1.2 / 2.4) / 3 - 1)
    assert ranked.loc["centroid", "worst"] == pytest.approx(2.3 / 2.2 - 1)
    assert ranked.loc["energy", "best"] == pytest.approx(1.6 / 2.2 - 1)
    assert ranked["seeds"].tolist() == [3, 3, 3]
    low, high = stats.t.interval(0.95, 2, -1.7 / 3, stats.sem([-0.5, -0.6, -0.6]))
    assert ranked.loc["energy", ["difference", "low", "high"]].tolist() == pytest.approx([-1.7 / 3, low, high])
    assert ranked.loc["energy", "word"] == "improved"


def test_what_no_loss_saw_and_what_became_worse_decide(rows):
    ranked = ranking.rank_arms(rows, BETTER).set_index("arm")
    assert ranked["unseen"].to_dict() == {"sliced": 2, "centroid": 0, "energy": 2}
    assert ranked.loc["sliced", "worse"] == "recall"  # on every seed by more than the intervals
    assert ranked.loc["energy", "worse"] == ""
    assert ranked["reached"].to_dict() == {"sliced": False, "centroid": False, "energy": True}
    seen = rows.assign(fd_vgg16_random_seen_by_loss=True)
    assert ranking.rank_arms(seen, BETTER).set_index("arm")["of"].unique().tolist() == [1]


def test_a_difference_within_the_intervals_is_not_worse(rows):
    near = rows.copy()
    near.loc[near["arm"] == "sliced", "recall"] = 0.49
    near.loc[near["arm"] == "sliced", ["recall_low", "recall_high"]] = (0.2, 0.8)
    near.loc[near["arm"] == "sliced", "recall"] += [0.0, 0.02, 0.0]
    assert ranking.rank_arms(near, BETTER).set_index("arm").loc["sliced", "worse"] == ""


def test_a_control_is_never_the_member_to_use_and_has_to_be_beaten(rows):
    longer = rows[rows["arm"] == "baseline"].assign(arm="baseline-longer", steps=300, fid=[1.1, 1.0, 1.3], recall=0.9)
    times = {"baseline": 10.0, "baseline-longer": 30.0, "energy": 25.0}
    histories = pd.DataFrame(
        [
            {"arm": arm, "seed": seed, "step": step, "seconds": time * (seed + 1) * step + (500 if step > 20 else 0)}
            for arm, time in times.items()
            for seed in range(3)
            for step in (10, 20, 30, 40)  # something else ran beside steps 20 to 30
        ]
    )
    ranked = ranking.rank_arms(pd.concat([rows, longer]), BETTER, histories).set_index("arm")
    assert ranked["control"].to_dict() == {"sliced": False, "centroid": False, "baseline-longer": True, "energy": False}
    assert not ranked["reached"].drop("baseline-longer").any()  # though `energy` is 20 % below the baseline
    assert ranked["beaten"].to_dict() == {"sliced": "", "centroid": "", "baseline-longer": "energy", "energy": ""}
    assert ranked.loc["energy", "time"] == pytest.approx(2.5)
    assert pd.isna(ranked.loc["sliced", "time"])
    told = ranking.which_to_use(ranked.reset_index(), "fid", "")
    assert "None of them is to be recommended by these runs, for none reaches the aim" in told
    assert "`baseline-longer`, without a loss, changes it by -48% in 3.0 times the baseline's time;" in told
    assert "below it on every seed: no member, above it: `energy`." in told
    assert "2.5 ×" in ranking.ranking_table(ranked.reset_index(), "fid")
    slower = longer.assign(fid=[1.6, 1.7, 1.9])
    ranked = ranking.rank_arms(pd.concat([rows, slower]), BETTER, histories).set_index("arm")
    assert ranked["beaten"].to_dict() == {
        "sliced": "baseline-longer",
        "centroid": "",
        "energy": "baseline-longer",
        "baseline-longer": "",
    }
    told = ranking.which_to_use(ranked.reset_index(), "fid", "")
    assert "Use `energy`" in told
    assert "below it on every seed: `sliced`, `energy`, above it: no member." in told
    told = ranking.which_to_use(ranking.rank_arms(pd.concat([rows, longer.assign(fid=0.9)]), BETTER), "fid", "")
    assert "below it on every seed: no member, above it: every member. So with time for it, train without any of them." in told
    nearer = longer.assign(fid=0.9, lpips_alex=[0.4, 0.31, 0.4])  # of the members one is no nearer on one seed
    uneven = rows.assign(lpips_alex=rows["lpips_alex"].where((rows["arm"] != "sliced") | (rows["seed"] != 1), 0.32))
    told = ranking.which_to_use(ranking.rank_arms(pd.concat([uneven, nearer]), BETTER), "fid", "")
    assert "above it: every member. In LPIPS nearer to real images' than it on every seed: `centroid`, `energy`." in told
    assert "So with time for it, train longer rather than with any of them." in told
    alone = ranking.rank_arms(pd.concat([rows[rows["arm"] == "baseline"], slower]), BETTER)
    assert "without a loss of its own, so nothing is compared" in ranking.which_to_use(alone, "fid", "")


def test_an_arm_of_more_steps_is_compared_with_the_baseline_of_as_many(rows):
    longer = rows[rows["arm"] == "baseline"].assign(arm="baseline-longer", steps=300, fid=[1.0, 1.0, 1.0])
    energy = rows[rows["arm"] == "energy"].assign(arm="energy-longer", steps=300, fid=[0.9, 0.8, 0.95])
    odd = energy.assign(arm="odd", steps=200)
    ranked = ranking.rank_arms(pd.concat([energy, rows, longer, odd]), BETTER).set_index("arm")
    assert ranked["against"].drop("energy-longer").unique().tolist() == ["baseline"]
    assert ranked.loc["energy-longer", "against"] == "baseline-longer"
    assert ranked.loc["energy-longer", ["change", "worst"]].tolist() == pytest.approx([-0.35 / 3, -0.05])
    assert ranked.loc["energy-longer", "difference"] == pytest.approx(-0.35 / 3)
    assert ranked.loc["baseline-longer", "beaten"] == "energy"  # it is the other's own baseline
    assert ranked.loc["odd", "beaten"] == "baseline-longer"
    assert "| energy-longer (against baseline-longer) | -12%" in ranking.ranking_table(ranked.reset_index(), "fid")
    told = ranking.which_to_use(ranked.reset_index(), "fid", "")
    assert "Against it `energy-longer`, of as many steps, changes it by -12% (-5% at worst)." in told


def test_the_answer_names_the_member_or_none(rows):
    told = ranking.which_to_use(ranking.rank_arms(rows, BETTER), "fid", "Made up.")
    assert told.startswith("**Answer.** Use `energy`: the aim (`fid` at least 20% below its baseline's on every seed")
    assert " Over 3 seeds that is a difference of -0.567 (-0.71 to -0.423): improved, corrected for the number of arms." in told
    assert "distinguishable: `sliced` in `fid` (improved); `energy` in `fid` (improved)." in told
    assert "The paper's loss changes it by -32%" in told
    assert told.endswith("Made up.")
    fewer = rows[rows["arm"] != "energy"]
    told = ranking.which_to_use(ranking.rank_arms(fewer, BETTER), "fid", "")
    assert "None of them is to be recommended by these runs, for none reaches the aim" in told
    assert "Nearest comes `sliced`: -50% on average, -50% on its worst seed, lower on every seed in 2 of 2 spaces" in told
    assert "that no loss saw, worse in recall." in told
    uneven = rows.copy()  # the best mean is above the baseline on a seed, another arm on none
    uneven.loc[uneven["arm"] == "energy", "recall"] = 0.1
    uneven.loc[uneven["arm"] == "sliced", "fid"] = [0.1, 0.1, 2.5]
    assert "Nearest comes `energy`" in ranking.which_to_use(ranking.rank_arms(uneven, BETTER), "fid", "")
    unsure = rows.copy()
    unsure.loc[unsure["arm"] == "energy", "fid"] = [0.1, 1.6, 1.9]
    assert "On more seeds try `energy`" in ranking.which_to_use(ranking.rank_arms(unsure, BETTER), "fid", "")
    elsewhere = rows.copy()
    elsewhere.loc[elsewhere["arm"] == "energy", "fd_vgg16_random"] = [0.3, 0.4, 0.71]
    assert not ranking.rank_arms(elsewhere, BETTER)["reached"].any()
    bad = rows[rows["arm"].isin(["baseline", "centroid"])]
    assert "None helps: no arm's `fid` is below its baseline's on every seed" in ranking.which_to_use(
        ranking.rank_arms(bad, BETTER), "fid", ""
    )
    one = rows[rows["seed"] == 0]
    told = ranking.which_to_use(ranking.rank_arms(one, BETTER), "fid", "")
    assert told.startswith("**Answer.** On more seeds try `centroid`: the aim")
    assert "corrected for the number of arms" not in told
    assert "distinguishable" not in told
    assert "proves nothing" in told
    ranked = ranking.rank_arms(rows, BETTER)
    best = ranked[ranked["arm"] == "energy"]
    many = pd.concat([best.assign(arm=f"arm {i}") for i in range(6)], ignore_index=True)
    assert "`arm 3` (-26%) and 2 more." in ranking.which_to_use(many, "fid", "")
    assert "so nothing is compared" in ranking.which_to_use(ranking.rank_arms(rows[:3], BETTER), "fid", "")


def test_the_table_has_a_row_an_arm(rows):
    lines = ranking.ranking_table(ranking.rank_arms(rows, BETTER), "fid").splitlines()
    assert len(lines) == 5
    assert "| sliced   | -50%" in lines[2]
    assert "recall" in lines[2]


def test_what_goes_unpunished_is_told_picture_by_picture():
    pictures = ("flat grey", "the mean image", "one face repeated")
    rows = [
        {"constraint": name, "pictures": of, "above": 1 - free, "free": free}
        for name, free in (("hinge", 1.0), ("squared", 0.625), ("energy", 0.0))
        for of in pictures
    ]
    told = ranking.unpunished(pd.DataFrame(rows))
    assert "- flat grey pays no more than real images do under `hinge`, `squared` (62% of the faces)." in told
    none = ranking.unpunished(pd.DataFrame(rows).assign(free=0.0))
    assert "- one face repeated pays more than real images do under all of them." in none


def test_strengths_are_told_or_that_there_are_none():
    assert "| energy" in ranking.strengths_table({"Eq. 3": 40.0, "energy": 2.5})
    assert "No run is named whose generator" in ranking.strengths_table({})


def test_counted_diversity_stands_beside_what_drawn_faces_score(rows):
    assert "so nothing is counted" in ranking.counted_table(rows)
    values = {"recognised": (0.5, 0.9), "kinds": (0.7, 1.0), "divergence": (0.3, 0.01)}
    counted = rows.assign(
        **{f"factors_{name}": [value] * len(rows) for name, (value, _) in values.items()},
        **{f"factors_{name}_floor": floor for name, (_, floor) in values.items()},
        factors_kinds_floor_heldout=0.99,
    )
    counted.loc[counted["arm"] == "energy", "factors_kinds"] = [0.1, 0.2, 0.3]
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ranking.counted_table(counted).splitlines()]
    assert table[2] == ["real images", "90.0%", "100%", "0.01"]
    assert {line[0]: line[2] for line in table[3:]} == {"baseline": "70%", "centroid": "70%", "energy": "20%", "sliced": "70%"}


def test_fidelity_and_diversity_are_the_first_distance_and_lpips_or_recall():
    assert ranking.fidelity_and_diversity(BETTER) == ("fid", "lpips_alex")
    assert ranking.fidelity_and_diversity({"fd_a": "lower", "recall_a": "higher"}) == ("fd_a", "recall_a")


def test_the_pareto_picture_has_every_arm_and_the_real_images(rows):
    ax = figure_pareto(rows, "fid", "lpips_alex", BETTER, "made up").axes[0]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["baseline, 3 seeds", "centroid, 3 seeds", "energy, 3 seeds", "sliced, 3 seeds", "real images"]
    assert ax.get_ylabel() == "lpips_alex, distance to real images: lower is better"
    star = ax.lines[-1]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (pytest.approx(0.1), 0.0)
    plt.close("all")


def test_the_pareto_picture_tells_many_arms_apart_without_writing_names_over_each_other(rows):
    alike = rows[rows["arm"] == "energy"]
    many = pd.concat([rows, *[alike.assign(arm=arm) for arm in (*ARMS[2][5:], *ARMS[3][:3], *ARMS[4][1:7])]])
    assert len(figure_pareto(rows, "fid", "lpips_alex", BETTER).axes[0].texts) == 4
    ax = figure_pareto(many, "fid", "lpips_alex", BETTER).axes[0]
    assert not ax.texts
    looks = [(line.get_color(), line.get_marker()) for line in ax.lines if line.get_label()[0] != "_"]
    assert len(looks) == len(set(looks)) == 17
    plt.close("all")


def test_the_strength_is_drawn_of_arms_that_pull_and_lambda_where_it_moves():
    use_style()
    step = [10, 20, 30]
    plain = pd.DataFrame({"arm": "baseline", "seed": 0, "step": step, "gradient_ratio": 0.0, "above_floor": float("nan")})
    fixed = plain.assign(arm="sliced", gradient_ratio=[0.1, 0.2, 0.3], above_floor=5.0, **{"lambda": 5.0})
    moving = fixed.assign(arm="energy-adaptive", **{"lambda": [1.0, 2.0, 3.0]})
    figure = figure_strength(pd.concat([plain, fixed, moving, moving.assign(seed=1, gradient_ratio=0.5)]), window=1)
    names = [[line.get_label() for line in ax.lines] for ax in figure.axes]
    assert names == [["sliced", "energy-adaptive"], ["sliced", "energy-adaptive"], ["energy-adaptive"]]
    assert figure.axes[0].lines[1].get_ydata().tolist() == pytest.approx([0.3, 0.35, 0.4])
    alone = figure_strength(fixed.drop(columns=["above_floor", "lambda"]))
    assert [ax.get_title("left") for ax in alone.axes] == ["the term's gradient at the images\n÷ the adversarial one's"]
    assert len(figure_strength(plain).axes) == 1
    plt.close("all")
