"""Tests of the verdict: intervals and corrections against SciPy, and words that follow from the numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centroidlib import ablation, paired, verdict
from centroidlib.evaluation.comparisons import figure_ablation

BETTER = {"fid_768": "lower", "recall_768": "higher", "fd_vgg16_random": "lower", "lpips_alex": "floor", "centre_offset": "lower"}
GAPS = {  # arm minus baseline, by seed
    "fid_768": [-0.2, -0.3, -0.25, -0.2],
    "recall_768": [0.01, -0.02, 0.03, -0.01],
    "fd_vgg16_random": [0.010, 0.011, 0.012, 0.011],
    "lpips_alex": [-0.02, -0.01, -0.02, -0.03],
    "centre_offset": [0.0, 0.0, 0.0, 0.0],
}
FLOORS = {"lpips_alex": 0.29}


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    found = []
    for seed in range(4):
        base = {"fid_768": 2.5, "recall_768": 0.3, "fd_vgg16_random": 0.04, "lpips_alex": 0.31, "centre_offset": 0.5}
        noise = {name: value * (1 + 0.05 * rng.normal()) for name, value in base.items()} | {"lpips_alex": 0.31}
        for arm in ("baseline", "centroid"):
            row = {name: noise[name] + (GAPS[name][seed] if arm == "centroid" else 0.0) for name in BETTER}
            row |= {f"{name}_floor": FLOORS.get(name, np.nan) for name in BETTER}
            row |= {f"{name}_seen_by_loss": name == "centre_offset" for name in BETTER}
            row |= {
                "lambda_": 40.0 * (arm == "centroid"),
                "unit": "d_ref",
                "source": "faces.zip",
                "steps": 1500,
                "batch_size": 64,
            }
            row |= {"width": 32, "layer": 16, "weights": "IMAGENET1K_FEATURES", "n_real": 10_000, "n_fake": 5000}
            found.append({"arm": arm, "seed": seed, "protocol": ""} | row)
    return pd.DataFrame(found)


def test_differences_are_those_of_a_paired_t_test(rows):
    gaps = paired.paired_differences(rows, BETTER).set_index("metric")
    known = np.array(GAPS["fid_768"])
    assert gaps.loc["fid_768", "difference"] == pytest.approx(known.mean())
    low, high = stats.t.interval(0.95, 3, known.mean(), stats.sem(known))
    assert (gaps.loc["fid_768", "low"], gaps.loc["fid_768", "high"]) == pytest.approx((low, high))
    assert gaps.loc["fid_768", "p"] == pytest.approx(stats.ttest_1samp(known, 0).pvalue)
    assert gaps.loc["fid_768", "seeds"] == 4
    away = np.abs(0.31 + np.array(GAPS["lpips_alex"]) - 0.29) - 0.02  # of |LPIPS − real pairs'|
    assert gaps.loc["lpips_alex", "difference"] == pytest.approx(away.mean())


def test_the_primary_outcomes_stand_for_themselves_and_all_others_are_corrected(rows):
    gaps = paired.paired_differences(rows, BETTER).set_index("metric")
    assert list(gaps.index[gaps["primary"]]) == ["fid_768", "lpips_alex"] == paired.primary_outcomes(BETTER)
    assert gaps.loc["fid_768", "p_holm"] == gaps.loc["fid_768", "p"]
    p = gaps.loc[["fd_vgg16_random", "recall_768", "centre_offset"], "p"].to_numpy()
    assert list(np.argsort(p)) == [0, 1, 2]
    assert gaps.loc[["fd_vgg16_random", "recall_768", "centre_offset"], "p_holm"].tolist() == pytest.approx(
        [3 * p[0], min(1, 2 * p[1]), 1.0]
    )


def test_holms_values_never_fall_with_p_and_nan_stays():
    found = paired.holm(np.array([0.04, 0.01, np.nan, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.09, 0.04, np.nan, 0.09, 0.5])


def test_words_follow_from_the_numbers(rows):
    gaps = paired.paired_differences(rows, BETTER).set_index("metric")
    assert gaps["word"].to_dict() == {
        "fid_768": "improved",
        "recall_768": "not distinguishable",
        "fd_vgg16_random": "worse",
        "lpips_alex": "improved",
        "centre_offset": "not distinguishable",
    }


@pytest.mark.parametrize("tests", [1, 2])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 8.0])
def test_the_seeds_needed_have_the_power_and_one_less_has_not(ratio, tests):
    def power(seeds):
        bound = stats.t.ppf(1 - 0.025 / tests, seeds - 1)
        return stats.nct.sf(bound, seeds - 1, ratio * np.sqrt(seeds))

    needed = paired.seeds_needed(1.0, ratio, tests)
    assert power(needed) >= 0.8
    assert needed == 2 or power(needed - 1) < 0.8


def test_a_difference_too_small_for_a_thousand_seeds_is_said_so():
    assert paired.seeds_needed(1.0, 1e-3) == np.inf
    assert np.isnan(paired.seeds_needed(np.nan, 1.0))
    assert paired.seeds_needed(0.0, 1.0) == 2


def test_the_seeds_needed_are_as_uncertain_as_the_spread(rows):
    gap = paired.paired_differences(rows, BETTER).set_index("metric").loc["lpips_alex"]
    spread = np.std(GAPS["lpips_alex"], ddof=1)  # of the values, for the paper's difference is one of values
    ends = spread * np.sqrt(3 / stats.chi2.ppf([0.975, 0.025], 3))
    assert gap["needed"] == paired.seeds_needed(spread, 0.0063)
    assert (gap["needed_low"], gap["needed_high"]) == tuple(paired.seeds_needed(end, 0.0063) for end in ends)
    assert gap["needed_low"] < gap["needed"] < gap["needed_high"]
    twice = pd.concat([rows, rows[rows["arm"] == "centroid"].assign(arm="other")])  # two arms share the 5 %
    shared = paired.paired_differences(twice, BETTER).set_index(["arm", "metric"]).loc[("centroid", "lpips_alex"), "needed"]
    assert shared == paired.seeds_needed(spread, 0.0063, tests=2) > gap["needed"]


def test_the_difference_of_values_stands_beside_that_of_distances(rows):
    gaps = paired.paired_differences(rows, BETTER).set_index("metric")
    own = np.array(GAPS["lpips_alex"])
    assert gaps.loc["lpips_alex", "of_values"] == pytest.approx(own.mean())
    ends = stats.t.interval(0.95, 3, own.mean(), stats.sem(own))
    assert tuple(gaps.loc["lpips_alex", ["of_values_low", "of_values_high"]]) == pytest.approx(ends)
    assert gaps.loc["fid_768", "of_values"] == gaps.loc["fid_768", "difference"]


def test_the_papers_differences_are_in_our_units(rows):
    sizes = paired.paper_sizes(rows[rows["arm"] == "baseline"], ["fid_768", "lpips_alex"])
    assert sizes["lpips_alex"] == pytest.approx(0.0063)
    assert "lpips_vgg" not in paired.paper_sizes(rows[rows["arm"] == "baseline"].assign(lpips_vgg=0.3), ["lpips_vgg"])
    assert sizes["fid_768"] == pytest.approx(1.1842 / 32.1361 * rows.loc[rows["arm"] == "baseline", "fid_768"].mean())


def test_the_verdict_says_it_in_sentences(rows):
    words = verdict.verdict(rows, BETTER, {"centroid_seed4": "centroid_seed4/02_train failed. Step 3: not finite."})
    assert words.startswith(
        "**Answer.** Over 4 seeds, against the baseline, centroid is better in `fid_768` and `lpips_alex`. The "
    )
    noise = verdict.verdict(rows.assign(fid_768=rows["seed"] * 1.0, lpips_alex=0.3 + 0.001 * rows["seed"]), BETTER)
    assert "Over 4 seeds no arm can be told apart from the baseline in the outcomes that were named before any run" in noise
    assert (
        "**centroid**, `fid_768`: value -0.2375 against the baseline (95 % interval -0.3137 to -0.1613, 4 seeds): **improved**."
        in words
    )
    gap = paired.paired_differences(rows, BETTER).set_index("metric").loc["fid_768"]
    size = 1.1842 / 32.1361 * rows.loc[rows["arm"] == "baseline", "fid_768"].mean()
    assert f"a difference of the paper's size ({size:.3g}, as much of the baseline's value as the paper's of its FID)" in words
    seeds = (
        f"{gap['needed']:.0f} seeds ({gap['needed_low']:.0f} to {gap['needed_high']:.0f}, for the spread is known from 4 only)."
    )
    assert f"would be seen four times in five with {seeds}" in words
    assert "; the value itself -0.02 (-0.03299 to -0.007008). At the spread" in words
    assert "- Pairs of real images score 0.29 in `lpips_alex`. The paper's step from 0.2918 to 0.2981, " in words
    assert "leads away from that." in words
    assert "leads towards that" in verdict.verdict(rows.assign(lpips_alex_floor=0.3, lpips_alex_floor_heldout=0.31), BETTER)
    assert "(0.0063) would be seen four times in five" in words
    assert "- **quality**, centroid: improved: `fid_768` (-0.238); worse: `fd_vgg16_random` (+0.011)." in words
    assert "- **diversity**, centroid: improved: `lpips_alex` (distance to real images' -0.015, value -0.02)." in words
    assert "- **mode collapse**, centroid: not distinguishable: `recall_768` (+0.0025)." in words
    assert "- **alignment**, centroid: equal in all pairs, which says nothing: `centre_offset`." in words  # though it was seen
    assert "- **alignment**: `centre_offset` is 0.4875 (baseline), 0.4875 (centroid); of real images –." in words
    assert "So this neither confirms nor refutes the paper's Table 1." in words
    assert (
        "Measured with 5,000 generated images and 10,000 real images of `faces.zip`. All arms: 1,500 steps, batch size 64, "
        in words
    )
    assert words.endswith(
        "Runs that failed, of those that were begun: baseline: 0 of 4; centroid: 1 of 5.\n"
        "- centroid_seed4/02_train failed. Step 3: not finite."
    )


def test_the_verdict_says_in_how_much_of_training_the_loss_acted(rows):
    steps = np.arange(1, 9)
    run = pd.DataFrame({"step": steps, "loss_centroid": np.maximum(0, steps - 4.0), "outside": steps / 10})
    runs = [
        run.assign(arm=arm, seed=seed, gradient_ratio=ratio * (steps > 4))
        for seed in (0, 1)
        for arm, ratio in (("baseline", np.nan), ("centroid", 0.25))
    ]
    runs.append(run.assign(arm="silent", seed=0, loss_centroid=0.0, outside=0.0, gradient_ratio=0.0))
    words = verdict.verdict(rows, BETTER, histories=pd.concat(runs))
    assert "- silent: none." in words
    acted = "50%, at first at step 5; over the last quarter 75% of the images were outside d_ref"
    assert f"- baseline: {acted}.\n- centroid: {acted}; where it acted, its gradient was 0.25 times the adversarial one." in words


def test_one_seed_gives_no_verdict(rows):
    words = verdict.verdict(rows[rows["seed"] == 0], BETTER)
    assert "No verdict follows" in words
    assert "`fid_768`: value -0.2 against the baseline, in its favour." in words
    assert "improved" not in words


def test_without_a_pair_nothing_is_compared_and_what_failed_is_told(rows):
    alone = rows[rows["arm"] == "baseline"]
    words = verdict.verdict(alone, BETTER, {"centroid_seed0": "It broke."}, ["centroid_seed1"])
    assert "No arm and the baseline (λ = 0, arm `baseline`) share a seed, so nothing is compared; " in words
    assert "there are runs of baseline." in words
    assert "baseline: 0 of 4; centroid: 1 of 1.\n- It broke." in words
    assert words.endswith("Asked for and not there: centroid_seed1.")
    apart = rows[(rows["arm"] == "baseline") != (rows["seed"] < 2)]
    assert "share a seed, so nothing is compared; there are runs of centroid, baseline" in verdict.verdict(apart, BETTER)
    assert list(paired.paired_differences(apart, BETTER).columns) == paired.COLUMNS


def test_primary_outcomes_are_corrected_for_the_arms(rows):
    other = rows[rows["arm"] == "centroid"].assign(arm="weak")
    other["fid_768"] += np.array([0.2, 0.31, 0.22, 0.21])
    alone = paired.paired_differences(rows, BETTER).set_index("metric")
    gaps = paired.paired_differences(pd.concat([rows, other]), BETTER).set_index(["arm", "metric"])
    assert gaps.loc[("centroid", "fid_768"), "p_holm"] == pytest.approx(2 * alone.loc["fid_768", "p"])
    assert gaps.loc[("weak", "fid_768"), "p_holm"] == gaps.loc[("weak", "fid_768"), "p"]


def test_what_the_loss_saw_and_what_is_extrapolated_is_not_judged(rows):
    more = {"fid_768_inf": "lower", "fd_vgg16": "lower"}
    wide = rows.assign(fid_768_inf=rows["fid_768"], fd_vgg16=rows["fid_768"])
    for name in more:
        wide = wide.assign(**{f"{name}_floor": np.nan, f"{name}_seen_by_loss": name == "fd_vgg16"})
    gaps = paired.paired_differences(wide, BETTER | more).set_index("metric")
    assert set(gaps.index[gaps["word"] == "not judged"]) == set(more)
    alone = paired.paired_differences(rows, BETTER).set_index("metric")
    assert gaps.loc["recall_768", "p_holm"] == alone.loc["recall_768", "p_holm"]
    words = verdict.verdict(wide, BETTER | more)
    assert "`fd_vgg16`" not in words
    assert "`fid_768_inf`" not in words


def test_equal_differences_are_not_taken_for_certainty(rows):
    same = rows.assign(recall_768=0.3 + 0.0005 * (rows["arm"] == "centroid"))
    gap = paired.paired_differences(same, BETTER).set_index("metric").loc["recall_768"]
    assert np.isnan(gap["p"])
    assert gap["word"] == "not judged"


def test_a_seed_that_only_one_arm_has_is_no_pair(rows):
    gaps = paired.paired_differences(rows.drop(index=7), BETTER)
    assert set(gaps["seeds"]) == {3}


def test_protocols_are_judged_apart(rows):
    both = pd.concat([rows.assign(protocol="crop = 1"), rows.assign(protocol="crop = 0.8")])
    words = verdict.verdict(both, BETTER)
    assert words.count("**Answer.**") == 2
    assert "#### crop = 0.8" in words


def test_the_table_holds_every_difference(rows):
    table = verdict.differences_table(paired.paired_differences(rows, BETTER), BETTER, "Measured so.")
    assert len(table.splitlines()) == 2 + len(BETTER) + 2
    assert table.endswith("\n\nIntervals are not corrected for their number. Measured so.")
    assert "`fid_768` (primary)" in table
    assert "`lpips_alex`, distance to real images' (primary)" in table
    assert "`centre_offset` (seen by the loss)" in table
    single = verdict.differences_table(paired.paired_differences(rows[rows["seed"] == 0], BETTER), BETTER, "")
    assert "| –" in single


def test_why_nothing_is_compared_is_said(rows):
    assert "share a seed, so nothing is compared; there are runs of centroid." in verdict.why_nothing(
        rows[rows["arm"] == "centroid"]
    )
    both = pd.concat([rows.assign(protocol="crop = 1"), rows.assign(protocol="crop = 0.8")])
    assert verdict.why_nothing(both).startswith("These runs were measured under 2 protocols")


STEPS = np.arange(250, 1501, 250)


def curves_of(arm, baseline=lambda step: 5.0 - step / 1000, metric="fid_768", **more):
    """Learning curves of four seeds, by functions of the step; each seed has its own level and noise."""
    rng = np.random.default_rng(1)
    found = []
    for seed in range(4):
        level = rng.normal()
        for name, values in (("baseline", baseline(STEPS)), ("centroid", arm(STEPS))):
            own = values + level + 0.001 * rng.normal(size=len(STEPS))
            found.append(pd.DataFrame({"arm": name, "seed": seed, "step": STEPS, "n_fake": 1000, metric: own}))
    return pd.concat(found, ignore_index=True).assign(**{f"{metric}_floor": 0.0} | more)


def falling(step):
    return 5.0 - step / 1000


def levelled(step):
    return 3.0 + 2.0 * (step < 1000)


@pytest.mark.parametrize(
    ("arm", "baseline", "words"),
    [
        (falling, falling, ["noise, as far as these seeds tell: at no step is the difference distinguishable"]),
        (lambda x: levelled(x) - 1.0, levelled, ["there at the end: distinguishable at 6 of 6 steps"]),
        (lambda x: levelled(x) - (x < 500), levelled, ["passing: distinguishable at step 250, not at the end"]),
        (
            lambda x: falling(x + 250),
            falling,
            ["steps ahead of the baseline (+24", "cannot be told apart"],
        ),
        (lambda x: falling(x - 250), falling, ["steps ahead of the baseline (-25", "cannot be told apart"]),
    ],
)
def test_the_course_says_when_and_how_many_steps_ahead(arm, baseline, words):
    said = verdict.course(curves_of(arm, baseline), "fid_768", "centroid", "lower")
    assert all(word in said for word in words), said
    assert ("cannot be told apart" in said) == ("cannot be told apart" in words[-1])


def test_the_course_of_what_has_a_target_is_that_of_its_distance_to_it():
    curves = curves_of(lambda x: 0.2 + 0 * x, lambda x: 0.3 + 0 * x, "lpips_alex", lpips_alex_floor=0.29)
    curves["lpips_alex"] = np.where(curves["arm"] == "centroid", 0.2, 0.3) + 1e-4 * (curves["seed"] + curves["step"] % 7)
    said = verdict.course(curves, "lpips_alex", "centroid", "floor")
    assert "distance of `lpips_alex` to the real images'" in said
    assert "(+0.07" in said  # |0.2 − 0.29| − |0.3 − 0.29|: farther away, though the value is lower


def test_a_course_needs_two_pairs_and_uses_the_steps_that_all_have():
    curves = curves_of(lambda x: falling(x) - 1, falling)
    assert "fewer than two pairs of runs" in verdict.course(curves[curves["seed"] == 0], "fid_768", "centroid", "lower")
    assert "fewer than two pairs of runs" in verdict.course(curves, "fid_768", "absent", "lower")
    lacking = curves[~((curves["arm"] == "centroid") & (curves["seed"] == 2) & (curves["step"] == 750))]
    said = verdict.course(lacking, "fid_768", "centroid", "lower")
    assert "distinguishable at 5 of 5 steps" in said
    assert "4 seeds" in said


def test_the_courses_are_of_every_arm_in_the_primary_outcomes(rows):
    curves = curves_of(lambda x: falling(x) - 1, falling).assign(lpips_alex=0.3, lpips_alex_floor=0.29)
    gaps = paired.paired_differences(rows, BETTER)
    said = verdict.courses(curves, gaps, BETTER).split("\n")
    assert [line.split(":")[0] for line in said] == [
        "- **centroid**, `fid_768`",
        "- **centroid**, distance of `lpips_alex` to the real images'",
    ]
    assert said[0] == verdict.course(curves, "fid_768", "centroid", "lower")
    for missing in ((curves[:0], gaps), (curves, gaps[:0])):
        assert "takes learning curves of an arm and of the baseline" in verdict.courses(*missing, BETTER)


def test_the_scatter_of_the_last_checkpoints_is_about_their_trend(rows):
    curves = curves_of(lambda x: falling(x * 4 / 3), falling)
    found, better = paired.with_checkpoint_scatter(rows, curves, "fid_768")
    name = "between_checkpoints_fid_768"
    assert better == {name: "lower"}
    mine = curves[(curves["arm"] == "centroid") & (curves["seed"] == 2) & (curves["step"] > 500)]
    line = stats.linregress(mine["step"], mine["fid_768"])
    residuals = mine["fid_768"] - line.intercept - line.slope * mine["step"]
    own = found.loc[(found["arm"] == "centroid") & (found["seed"] == 2), name]
    assert own.item() == pytest.approx(np.sqrt((residuals**2).sum() / 2))
    assert f"- **stability**, centroid: not distinguishable: `{name}`" in verdict.verdict(found, BETTER | better)  # though faster
    few, _ = paired.with_checkpoint_scatter(rows, curves[curves["step"] > 750], "fid_768")
    assert few[name].isna().all()


@pytest.fixture
def ablated(rows):
    """Two sets of real images with a baseline each; one metric that only some arms have."""
    rows = rows.assign(real_images="whole", fd_own=1.0)
    rows = rows.assign(fd_own_floor=0.0, fd_own_seen_by_loss=True)
    arms = {"baseline": "crop-baseline", "centroid": "crop"}
    other = rows.assign(arm=rows["arm"].map(arms), real_images="cropped", fd_own=np.nan, fid_768=rows["fid_768"] * 2)
    return pd.concat([rows, other], ignore_index=True)


def test_an_ablation_compares_each_arm_with_the_baseline_of_its_own_images(ablated):
    gaps = paired.ablation_differences(ablated, BETTER | {"fd_own": "lower"})
    assert dict(zip(gaps["arm"], gaps["baseline"], strict=True)) == {"centroid": "baseline", "crop": "crop-baseline"}
    wide = gaps.pivot(index="metric", columns="arm", values="difference")
    assert wide.loc["fid_768", "crop"] == pytest.approx(2 * wide.loc["fid_768", "centroid"])
    assert set(wide.index) == set(BETTER) - {"centre_offset"}  # nor what a loss saw, nor what only some have


def test_an_ablation_compares_with_the_loss_as_it_is_too(ablated):
    shuffled = ablated[ablated["arm"] == "centroid"].assign(arm="shuffled", fid_768=ablated["fid_768"] + 0.1)
    gaps = paired.ablation_differences(pd.concat([ablated, shuffled]), BETTER)
    beside = gaps[gaps["baseline"] == "centroid"]
    assert set(beside["arm"]) == {"shuffled"}
    assert beside.set_index("metric").loc["fid_768", "difference"] == pytest.approx(0.1)


def test_arms_without_a_baseline_on_their_images_are_left_out(ablated):
    gaps = paired.ablation_differences(ablated[ablated["arm"] != "crop-baseline"], BETTER)
    assert set(gaps["arm"]) == {"centroid"}
    assert paired.ablation_differences(ablated[ablated["arm"] == "crop"], BETTER).empty


def test_an_ablation_says_how_far_arms_lie_and_which_can_be_told_apart(ablated):
    shuffled = ablated[ablated["arm"] == "centroid"].assign(arm="shuffled")
    for more, words in (([0.1, 0.11, 0.09, 0.1], "`shuffled` (worse)"), ([0.2, -0.1, 0.15, -0.05], "none")):
        rows = pd.concat([ablated, shuffled.assign(fid_768=shuffled["fid_768"] + more)])
        said = ablation.answer(rows, paired.ablation_differences(rows, BETTER), BETTER, pd.DataFrame())
        assert said.startswith(
            "**Answer.** After 1,500 steps, paired over 4 seeds, corrected for the number of arms:\n\n- `fid_768`"
        )
        assert "-0.475 (`crop`) to -0." in said
        assert "(`shuffled`); distinguishable of 3: `crop` (improved), `centroid` (improved)" in said
        assert f" Beside the loss as it is, `centroid`: distinguishable of 1: {words}." in said
        assert "`lpips_alex`, distance to real images': " in said
        assert ("cannot be said" in said) == (words == "none")
        assert said.endswith("That two arms cannot be told apart does not show that they are alike.")


def test_an_ablation_of_which_nothing_follows_says_so(ablated):
    alone = ablated[ablated["seed"] == 0]
    said = ablation.answer(alone, paired.ablation_differences(alone, BETTER), BETTER, pd.DataFrame())
    assert "paired over 1 seed, which distinguishes nothing:" in said
    assert "; distinguishable of 2: none." in said
    assert "So which part of the loss matters cannot be said from these runs." in said
    lonely = ablated[ablated["arm"] == "crop"]
    said = ablation.answer(lonely, paired.ablation_differences(lonely, BETTER), BETTER, pd.DataFrame())
    assert "nothing is compared; there are runs of crop." in said


def test_an_ablation_names_arms_whose_loss_was_silent(ablated):
    steps = np.arange(1, 21)
    silent = pd.DataFrame({"step": steps, "loss_centroid": 1.0 * (steps > 19), "outside": 0.0, "seed": 0})
    silent["gradient_ratio"] = 0.1 * silent["loss_centroid"]
    histories = pd.concat([silent.assign(arm="crop"), silent.assign(arm="centroid", loss_centroid=1.0, gradient_ratio=0.1)])
    gaps = paired.ablation_differences(ablated, BETTER)
    told = "In `crop` the loss had anything to act on in fewer than 10% of the batches:"
    assert told in ablation.answer(ablated, gaps.assign(word="not distinguishable"), BETTER, histories)
    assert told not in ablation.answer(ablated, gaps.assign(word="improved"), BETTER, histories)


def test_the_ablations_figure_has_a_row_an_arm_and_a_dot_a_seed(ablated):
    gaps = paired.ablation_differences(ablated, BETTER)
    figure = figure_ablation(ablated, gaps, ["fid_768", "lpips_alex"], BETTER, "Measured so.")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["centroid", "crop"]
    dots = next(line for line in left.lines if len(line.get_xdata()) == 4)
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(GAPS["fid_768"]))
    assert left.get_xlim()[1] == pytest.approx(1.6 * 0.6)
    assert "distance to real images'" in right.get_xlabel()
