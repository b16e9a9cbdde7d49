"""Tests of the verdict: intervals and corrections against SciPy, and words that follow from the numbers."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centroidlib import verdict
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
    gaps = verdict.paired_differences(rows, BETTER).set_index("metric")
    known = np.array(GAPS["fid_768"])
    assert gaps.loc["fid_768", "difference"] == pytest.approx(known.mean())
    low, high = stats.t.interval(0.95, 3, known.mean(), stats.sem(known))
    assert (gaps.loc["fid_768", "low"], gaps.loc["fid_768", "high"]) == pytest.approx((low, high))
    assert gaps.loc["fid_768", "p"] == pytest.approx(stats.ttest_1samp(known, 0).pvalue)
    assert gaps.loc["fid_768", "seeds"] == 4
    away = np.abs(0.31 + np.array(GAPS["lpips_alex"]) - 0.29) - 0.02  # of |LPIPS − real pairs'|
    assert gaps.loc["lpips_alex", "difference"] == pytest.approx(away.mean())


def test_the_primary_outcomes_stand_for_themselves_and_all_others_are_corrected(rows):
    gaps = verdict.paired_differences(rows, BETTER).set_index("metric")
    assert list(gaps.index[gaps["primary"]]) == ["fid_768", "lpips_alex"] == verdict.primary_outcomes(BETTER)
    assert gaps.loc["fid_768", "p_holm"] == gaps.loc["fid_768", "p"]
    p = gaps.loc[["fd_vgg16_random", "recall_768", "centre_offset"], "p"].to_numpy()
    assert list(np.argsort(p)) == [0, 1, 2]
    assert gaps.loc[["fd_vgg16_random", "recall_768", "centre_offset"], "p_holm"].tolist() == pytest.approx(
        [3 * p[0], min(1, 2 * p[1]), 1.0]
    )


def test_holms_values_never_fall_with_p_and_nan_stays():
    found = verdict._holm(np.array([0.04, 0.01, np.nan, 0.03, 0.5]))
    np.testing.assert_allclose(found, [0.09, 0.04, np.nan, 0.09, 0.5])


def test_words_follow_from_the_numbers(rows):
    gaps = verdict.paired_differences(rows, BETTER).set_index("metric")
    assert gaps["word"].to_dict() == {
        "fid_768": "improved",
        "recall_768": "not distinguishable",
        "fd_vgg16_random": "worse",
        "lpips_alex": "improved",
        "centre_offset": "not distinguishable",
    }


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0, 8.0])
def test_the_seeds_needed_have_the_power_and_one_less_has_not(ratio):
    def power(seeds):
        bound = stats.t.ppf(0.975, seeds - 1)
        return stats.nct.sf(bound, seeds - 1, ratio * np.sqrt(seeds))

    needed = verdict.seeds_needed(1.0, ratio)
    assert power(needed) >= 0.8
    assert needed == 2 or power(needed - 1) < 0.8


def test_a_difference_too_small_for_a_thousand_seeds_is_said_so():
    assert verdict.seeds_needed(1.0, 1e-3) is None
    assert verdict.seeds_needed(0.0, 1.0) == 2


def test_the_papers_differences_are_in_our_units(rows):
    sizes = verdict.paper_sizes(rows[rows["arm"] == "baseline"], ["fid_768", "lpips_alex"])
    assert sizes["lpips_alex"] == pytest.approx(0.0063)
    assert sizes["fid_768"] == pytest.approx(1.1842 / 32.1361 * rows.loc[rows["arm"] == "baseline", "fid_768"].mean())


def test_the_verdict_says_it_in_sentences(rows):
    words = verdict.verdict(rows, BETTER, {"centroid_seed4": "centroid_seed4/02_train failed. Step 3: not finite."})
    assert "Paired differences against the baseline over 4 seeds." in words
    assert (
        "**centroid**, `fid_768`: value -0.2375 against the baseline (95 % interval -0.3137 to -0.1613, 4 seeds): **improved**."
        in words
    )
    needed = verdict.paired_differences(rows, BETTER).set_index("metric").loc["fid_768", "needed"]
    assert f"A difference of the paper's size would be seen four times in five with {needed:.0f} seeds." in words
    assert "- **quality**, centroid: improved: `fid_768` (-0.238); worse: `fd_vgg16_random` (+0.011)." in words
    assert "- **diversity**, centroid: improved: `lpips_alex` (-0.015); not distinguishable: `recall_768` (+0.0025)." in words
    assert "- **alignment**, centroid: not distinguishable: `centre_offset` (+0)." in words  # though the loss has seen it
    assert "- **alignment**: `centre_offset` is 0.4875 (baseline), 0.4875 (centroid); of real images –." in words
    assert words.endswith("So this neither confirms nor refutes the paper's Table 1.")
    assert "5,000 generated and 10,000 real images of `faces.zip`, after 1,500 steps at batch 64, width 32" in words
    assert "seeds that failed: baseline: 0 of 4; centroid: 1 of 5. centroid_seed4/02_train failed. Step 3: not finite." in words


def test_one_seed_gives_no_verdict(rows):
    words = verdict.verdict(rows[rows["seed"] == 0], BETTER)
    assert "No verdict follows" in words
    assert "`fid_768`: value -0.2 against the baseline, in its favour." in words
    assert "improved" not in words


def test_one_arm_alone_is_said_so(rows):
    assert "only one arm" in verdict.verdict(rows[rows["arm"] == "baseline"], BETTER)


def test_a_seed_that_only_one_arm_has_is_no_pair(rows):
    gaps = verdict.paired_differences(rows.drop(index=7), BETTER)
    assert set(gaps["seeds"]) == {3}


def test_protocols_are_judged_apart(rows):
    both = pd.concat([rows.assign(protocol="crop = 1"), rows.assign(protocol="crop = 0.8")])
    words = verdict.verdict(both, BETTER)
    assert words.count("**Answer.**") == 2
    assert "#### crop = 0.8" in words


def test_the_table_holds_every_difference(rows):
    table = verdict.differences_table(verdict.paired_differences(rows, BETTER), BETTER, "Measured so.")
    assert len(table.splitlines()) == 2 + len(BETTER) + 2
    assert table.endswith("\n\nMeasured so.")
    assert "`fid_768` (primary)" in table
    assert "`lpips_alex`, distance to real images' (primary)" in table
    assert "`centre_offset` (seen by the loss)" in table
    single = verdict.differences_table(verdict.paired_differences(rows[rows["seed"] == 0], BETTER), BETTER, "")
    assert "| –" in single


def curves_of(shift):
    """Learning curves of four seeds; `shift` by step is what the arm adds."""
    rng = np.random.default_rng(1)
    found = []
    for seed in range(4):
        for step, added in shift.items():
            base = 5.0 - step / 10 + 0.01 * rng.normal()
            found.append({"arm": "baseline", "seed": seed, "step": step, "fid_768": base})
            found.append({"arm": "centroid", "seed": seed, "step": step, "fid_768": base + added + 0.01 * rng.normal()})
    return pd.DataFrame(found)


@pytest.mark.parametrize(
    ("shift", "word"),
    [
        ({10: 0.0, 20: 0.0, 30: 0.0}, "noise, as far as these seeds tell"),
        ({10: -1.0, 20: -1.0, 30: -1.0}, "a shift: distinguishable at 3 of 3 steps looked at, the last among them"),
        ({10: -1.0, 20: 0.0, 30: 0.0}, "passing, as a speed-up would: distinguishable at step 10, not at the end"),
    ],
)
def test_the_course_is_a_shift_a_speed_up_or_noise(shift, word):
    assert word in verdict.course(curves_of(shift), "fid_768", "centroid")


def test_a_single_pair_has_no_course():
    curves = curves_of({10: 0.0, 20: 0.0})
    assert "a single pair of runs" in verdict.course(curves[curves["seed"] == 0], "fid_768", "centroid")


def test_the_spread_between_the_last_checkpoints_is_a_metric_of_its_own(rows):
    curves = curves_of({10: 0.0, 20: 0.0, 30: 0.0, 40: 0.0})
    found, better = verdict.with_checkpoint_spread(rows, curves, "fid_768")
    name = "between_checkpoints_fid_768"
    assert better == {name: "lower"}
    mine = curves[(curves["arm"] == "centroid") & (curves["seed"] == 2) & (curves["step"] > 10)]
    assert found.loc[(found["arm"] == "centroid") & (found["seed"] == 2), name].item() == pytest.approx(mine["fid_768"].std())
    words = verdict.verdict(found, BETTER | better)
    assert f"- **stability**, centroid: not distinguishable: `{name}`" in words


@pytest.fixture
def ablation(rows):
    """Two sets of real images with a baseline each; one metric that only some arms have."""
    rows = rows.assign(real_images="whole", fd_own=1.0)
    rows = rows.assign(fd_own_floor=0.0, fd_own_seen_by_loss=True)
    arms = {"baseline": "crop-baseline", "centroid": "crop"}
    other = rows.assign(arm=rows["arm"].map(arms), real_images="cropped", fd_own=np.nan, fid_768=rows["fid_768"] * 2)
    return pd.concat([rows, other], ignore_index=True)


def test_an_ablation_compares_each_arm_with_the_baseline_of_its_own_images(ablation):
    gaps = verdict.ablation_differences(ablation, BETTER | {"fd_own": "lower"})
    assert dict(zip(gaps["arm"], gaps["baseline"], strict=True)) == {"centroid": "baseline", "crop": "crop-baseline"}
    wide = gaps.pivot(index="metric", columns="arm", values="difference")
    assert wide.loc["fid_768", "crop"] == pytest.approx(2 * wide.loc["fid_768", "centroid"])
    assert set(wide.index) == set(BETTER) - {"centre_offset"}  # nor what a loss saw, nor what only some have


def test_arms_without_a_baseline_on_their_images_are_refused(ablation):
    with pytest.raises(ValueError, match=r"The arms crop saw the same images and need one baseline, an arm with λ = 0"):
        verdict.ablation_differences(ablation[ablation["arm"] != "crop-baseline"], BETTER)


def test_the_ablations_figure_has_a_row_an_arm_and_a_dot_a_seed(ablation):
    gaps = verdict.ablation_differences(ablation, BETTER)
    figure = figure_ablation(ablation, gaps, ["fid_768", "lpips_alex"])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["centroid", "crop"]
    dots = next(line for line in left.lines if len(line.get_xdata()) == 4)
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(GAPS["fid_768"]))
    assert left.get_xlim()[1] == pytest.approx(1.6 * 0.6)
    assert "distance to real pairs'" in right.get_xlabel()
