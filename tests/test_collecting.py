"""Tests of collecting: runs sorted out, one row a run, learning curves and histories."""

import json

import numpy as np
import pandas as pd
import pytest
from small_runs import note_curve, write_run

from centroidlib import collecting
from centroidlib.runs import write_record


def test_runs_are_found_with_the_baseline_first(folders, tmp_path):
    names, failed, not_run = collecting.sort_out(tmp_path)
    assert names[:3] == ["baseline_seed0", "baseline_seed1", "baseline_seed2"]
    assert (len(names), failed, not_run) == (6, {}, [])


def test_runs_are_in_the_order_of_the_numbers_in_their_names(tmp_path):
    asked = [f"centroid-lambda{strength}_seed{seed}" for strength in (4, 40) for seed in (2, 10)]
    for name in reversed(asked):
        write_run(tmp_path / name, *name.split("_seed"), 1.0)
    assert collecting.sort_out(tmp_path)[0] == asked


def test_a_batch_without_evaluated_runs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run 03_evaluate\.ipynb first"):
        collecting.sort_out(tmp_path)


def test_runs_that_failed_and_runs_that_are_not_there_are_sorted_out(folders, tmp_path):
    sentence = "centroid_seed0/02_train failed. Step 3: not finite."
    record = json.loads((folders[3] / "run.json").read_text()) | {"failed": {"02_train": sentence}}
    (folders[3] / "run.json").write_text(json.dumps(record))  # its metrics.json is of a run before
    (folders[4] / "metrics.json").unlink()
    names, failed, not_run = collecting.sort_out(tmp_path)
    assert failed == {"centroid_seed0": sentence}
    assert not_run == ["centroid_seed1"]
    assert names == [folder.name for folder in (*folders[:3], folders[5])]
    asked = "baseline_seed0 centroid_seed0 centroid_seed9"
    assert collecting.sort_out(tmp_path, asked) == (["baseline_seed0"], {"centroid_seed0": sentence}, ["centroid_seed9"])
    with pytest.raises(FileNotFoundError, match=r"No run in .* has been evaluated.* Step 3: not finite"):
        collecting.sort_out(tmp_path, "centroid_seed0")


def test_an_arm_of_anothers_average_has_its_training_parameters_and_no_history(folders, tmp_path):
    write_run(tmp_path / "smooth_seed1", "smooth", 1, 27.0)
    (tmp_path / "smooth_seed1" / "history.csv").unlink()
    parameters = {"arm": "smooth", "seed": 1, "generator_of": "centroid", "samples": 9}
    write_record(tmp_path / "smooth_seed1", {"parameters": parameters, "stages": {"03_evaluate": {"parameters": parameters}}})
    rows = collecting.collect([*folders, tmp_path / "smooth_seed1"])
    last = rows.iloc[-1]
    assert (last["arm"], last["seed"], last["lambda_"], last["steps"], last["samples"]) == ("smooth", 1, 40.0, 5, 9)
    histories = collecting.histories(tmp_path, [*(folder.name for folder in folders), "smooth_seed1"])
    assert set(histories["arm"]) == {"baseline", "centroid"}


def test_a_row_holds_arm_seed_parameters_metrics_and_floors(folders):
    rows = collecting.collect(folders)
    assert len(rows) == 6
    first = rows.iloc[0]
    assert (first["arm"], first["seed"], first["lambda_"], first["steps"]) == ("baseline", 0, 0.0, 5)
    assert (first["fid"], first["fid_floor"], first["n_fake"]) == (30.0, 1.0, 7)
    assert (first["fid_low"], first["fid_high"], first["fid_floor_heldout"]) == (29.0, 31.0, 1.5)
    assert pd.isna(first["recall_low"])
    assert first["protocol"] == ""


def test_two_protocols_in_one_table_are_refused(two_protocols):
    with pytest.raises(ValueError, match=r"different protocols .*centroid_seed9: resize = lanczos.*label_protocols = True"):
        collecting.collect(two_protocols)


def test_protocols_that_differ_in_unnamed_ways_are_told_by_their_fingerprints(folders, tmp_path):
    other = write_run(tmp_path / "other_seed0", "other", 0, 3.0, fingerprint="xyz")
    with pytest.raises(ValueError, match=r"baseline_seed0: fingerprint = abc; .*other_seed0: fingerprint = xyz"):
        collecting.collect([*folders, other])


def test_nothing_evaluated_is_said(tmp_path):
    with pytest.raises(ValueError, match="None of these runs has been evaluated, so there is nothing to compare"):
        collecting.collect([])


def test_learning_curves_are_those_of_the_runs_that_have_one(folders, tmp_path):
    note_curve(folders[1], "step,n_fake,fid\n10,5,3.0\n20,5,2.0\n")
    (folders[2] / "curve.csv").write_text("of an evaluation before")
    found = collecting.curves(tmp_path, [folder.name for folder in folders])
    assert found[["step", "fid", "arm", "seed"]].to_numpy().tolist() == [[10, 3.0, "baseline", 1], [20, 2.0, "baseline", 1]]
    assert collecting.curves(tmp_path, [folders[0].name]).empty
    note_curve(folders[2], "step,n_fake,fid\n10,9,3.0\n")
    with pytest.raises(ValueError, match="The learning curves are of 5, 9 images"):
        collecting.curves(tmp_path, [folder.name for folder in folders])


def test_histories_carry_arm_and_seed(folders, tmp_path):
    found = collecting.histories(tmp_path, ["baseline_seed1", "centroid_seed0"])
    assert list(found["arm"]) == ["baseline"] * 2 + ["centroid"] * 2
    assert list(found["seed"]) == [1, 1, 0, 0]


def test_arms_without_the_term_have_acted_with_no_gradient():
    history = pd.DataFrame({"step": [1, 2, 3, 4], "loss_centroid": [0.0, 0.0, 1.0, 1.0], "outside": [0.0, 0.0, 0.25, 0.5]})
    table = collecting.activity(history.assign(arm="plain", seed=0))
    assert table.loc["plain"].to_dict() == {"active": 0.5, "from_step": 3, "outside": 0.5, "gradient_ratio": 0.0}


def test_a_term_without_bias_acts_though_it_is_negative_and_silent_seeds_count():
    step = np.arange(1, 5)
    always = pd.DataFrame({"step": step, "loss_centroid": [-1.0, 1, -1, 1], "outside": 0.0, "gradient_ratio": 0.5})
    never = always.assign(loss_centroid=0.0, gradient_ratio=0.0)
    runs = [always.assign(arm="energy", seed=0), *(never.assign(arm="rare", seed=seed) for seed in (0, 1))]
    runs.append(never.assign(arm="rare", seed=2, loss_centroid=[0, 0, 0, 1.0], gradient_ratio=[0, 0, 0, 0.5]))
    table = collecting.activity(pd.concat(runs))
    assert table.loc["energy", "active"] == 1
    assert table.loc["rare", "from_step"] == np.inf
    assert table.loc["rare", "active"] == pytest.approx(1 / 12)
