"""Tests of the tables: collecting runs, Table 1 and the paired differences."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from centroidlib import tables, verdict
from centroidlib.runs import write_record


def write_run(folder, arm, seed, fid, fingerprint="abc", **protocol):
    folder.mkdir(parents=True)
    known = {"arm": arm, "seed": seed, "lambda_": 0.0 if arm == "baseline" else 40.0, "unit": "d_ref"}
    more = {"source": "synthetic", "steps": 5, "batch_size": 4, "width": 8, "layer": 16, "weights": "random"}
    write_record(folder, {"parameters": known, "stages": {"02_train": {"parameters": known | more}}})
    entry = {"low": None, "high": None, "interval": None, "value_at_floor_n": None, "floor_n": None, "floor_heldout": 1.5}
    entry |= {"n_real": 9, "n_fake": 7, "seen_by_loss": False}
    metrics = {
        "fid": entry | {"value": fid, "low": fid - 1, "high": fid + 1, "floor": 1.0, "better": "lower"},
        "lpips_alex": entry | {"value": 0.3 + fid / 100, "floor": 0.29, "better": "floor"},
        "recall": entry | {"value": 0.5, "floor": 0.9, "better": "higher"},
    }
    whole = {"fingerprint": fingerprint, "protocol": {"n_real": 9, "n_fake": 7} | protocol, "metrics": metrics}
    (folder / "metrics.json").write_text(json.dumps(whole))
    pd.DataFrame({"step": [1, 2], "outside": [0.1, 0.2]}).to_csv(folder / "history.csv", index=False)
    return folder


@pytest.fixture
def folders(tmp_path):
    values = {"baseline": [30.0, 33.0, 31.0], "centroid": [28.0, 30.0, 29.5]}
    return [write_run(tmp_path / f"{arm}_seed{s}", arm, s, v) for arm, vs in values.items() for s, v in enumerate(vs)]


def test_runs_are_found_with_the_baseline_first(folders, tmp_path):
    names, failed, not_run = tables.sort_out(tmp_path)
    assert names[:3] == ["baseline_seed0", "baseline_seed1", "baseline_seed2"]
    assert (len(names), failed, not_run) == (6, {}, [])


def test_runs_are_in_the_order_of_the_numbers_in_their_names(tmp_path):
    asked = [f"centroid-lambda{strength}_seed{seed}" for strength in (4, 40) for seed in (2, 10)]
    for name in reversed(asked):
        write_run(tmp_path / name, *name.split("_seed"), 1.0)
    assert tables.sort_out(tmp_path)[0] == asked


def test_a_batch_without_evaluated_runs_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"run 03_evaluate\.ipynb first"):
        tables.sort_out(tmp_path)


def test_runs_that_failed_and_runs_that_are_not_there_are_sorted_out(folders, tmp_path):
    sentence = "centroid_seed0/02_train failed. Step 3: not finite."
    record = json.loads((folders[3] / "run.json").read_text()) | {"failed": {"02_train": sentence}}
    (folders[3] / "run.json").write_text(json.dumps(record))  # its metrics.json is of a run before
    (folders[4] / "metrics.json").unlink()
    names, failed, not_run = tables.sort_out(tmp_path)
    assert failed == {"centroid_seed0": sentence}
    assert not_run == ["centroid_seed1"]
    assert names == [folder.name for folder in (*folders[:3], folders[5])]
    asked = "baseline_seed0 centroid_seed0 centroid_seed9"
    assert tables.sort_out(tmp_path, asked) == (["baseline_seed0"], {"centroid_seed0": sentence}, ["centroid_seed9"])
    with pytest.raises(FileNotFoundError, match=r"No run in .* has been evaluated.* Step 3: not finite"):
        tables.sort_out(tmp_path, "centroid_seed0")


def test_an_arm_of_anothers_average_has_its_training_parameters_and_no_history(folders, tmp_path):
    write_run(tmp_path / "smooth_seed1", "smooth", 1, 27.0)
    (tmp_path / "smooth_seed1" / "history.csv").unlink()
    parameters = {"arm": "smooth", "seed": 1, "generator_of": "centroid", "samples": 9}
    write_record(tmp_path / "smooth_seed1", {"parameters": parameters, "stages": {"03_evaluate": {"parameters": parameters}}})
    rows = tables.collect([*folders, tmp_path / "smooth_seed1"])
    last = rows.iloc[-1]
    assert (last["arm"], last["seed"], last["lambda_"], last["steps"], last["samples"]) == ("smooth", 1, 40.0, 5, 9)
    histories = tables.histories(tmp_path, [*(folder.name for folder in folders), "smooth_seed1"])
    assert set(histories["arm"]) == {"baseline", "centroid"}


def test_a_row_holds_arm_seed_parameters_metrics_and_floors(folders):
    rows = tables.collect(folders)
    assert len(rows) == 6
    first = rows.iloc[0]
    assert (first["arm"], first["seed"], first["lambda_"], first["steps"]) == ("baseline", 0, 0.0, 5)
    assert (first["fid"], first["fid_floor"], first["n_fake"]) == (30.0, 1.0, 7)
    assert (first["fid_low"], first["fid_high"], first["fid_floor_heldout"]) == (29.0, 31.0, 1.5)
    assert pd.isna(first["recall_low"])
    assert first["protocol"] == ""


@pytest.fixture
def two_protocols(folders, tmp_path):
    other = [write_run(tmp_path / f"{arm}_seed9", arm, 9, 3.0, "xyz", resize="lanczos") for arm in ("baseline", "centroid")]
    return [*folders, *other]


def test_two_protocols_in_one_table_are_refused(two_protocols):
    with pytest.raises(ValueError, match=r"different protocols .*centroid_seed9: resize = lanczos.*label_protocols = True"):
        tables.collect(two_protocols)


def test_an_ablation_of_the_protocol_is_shown_labelled(two_protocols):
    rows = tables.collect(two_protocols, label_protocols=True)
    better = tables.better_of([folder / "metrics.json" for folder in two_protocols])
    assert list(rows["protocol"].unique()) == ["resize = None", "resize = lanczos"]
    table, words = tables.table1(rows, better), verdict.verdict(rows, better)
    for text in (table, words):
        assert text.index("#### resize = None") < text.index("#### resize = lanczos")
    assert "| ours: baseline               | 31.33 (27.54 to 35.13)" in table
    assert "| ours: baseline               | 3 (2 to 4)" in table
    assert "3 seeds" in words.split("lanczos")[0]
    assert "No verdict follows" in words.split("lanczos")[1]


def test_protocols_that_differ_in_unnamed_ways_are_told_by_their_fingerprints(folders, tmp_path):
    other = write_run(tmp_path / "other_seed0", "other", 0, 3.0, fingerprint="xyz")
    with pytest.raises(ValueError, match=r"baseline_seed0: fingerprint = abc; .*other_seed0: fingerprint = xyz"):
        tables.collect([*folders, other])


def test_metrics_are_grouped_by_their_space():
    names = ["fid", "fid_inf", "kid", "recall", "fid_768", "kid_768", "fd_vgg16_random", "nearest_vgg16_random", "lpips_alex"]
    assert tables.by_space(names) == {
        "fid": ["fid", "fid_inf", "kid", "recall"],
        "fid_768": ["fid_768", "kid_768"],
        "fd_vgg16_random": ["fd_vgg16_random", "nearest_vgg16_random"],
        "images": ["lpips_alex"],
    }


def test_one_runs_table_holds_value_interval_floors_and_counts(folders):
    measured = json.loads((folders[0] / "metrics.json").read_text())["metrics"]
    measured["fid"] |= {"interval": "jackknife 95 %", "floor_n": 5000, "value_at_floor_n": 31.5}
    measured["recall"]["n_real"] = None
    line, _, recall = [[cell.strip() for cell in row.split("|")[1:-1]] for row in tables.metrics_table(measured).split("\n")[2:]]
    assert line == ["`fid`", "30", "29 to 31 (jackknife 95 %)", "1", "1.5", "31.5 (N = 5,000)", "7 / 9", "lower", "no"]
    assert recall[2:7] == ["–", "0.9", "1.5", "–", "7 / not known"]
    measured["lpips_alex"]["n_real"] = None
    assert "| 7 / –" in tables.metrics_table(measured)


def test_floors_stand_in_a_table_with_their_n():
    text = tables.floors_table({"fid": {"floor": 0.5, "floor_heldout": None, "n": 5000}})
    assert [cell.strip() for cell in text.split("\n")[2].split("|")[1:-1]] == ["`fid`", "0.5", "–", "5,000"]


def test_table1_holds_the_papers_rows_beside_ours(folders):
    better = tables.better_of([folders[0] / "metrics.json"])
    text = tables.table1(tables.collect(folders), better)
    assert "32.1361" in text
    assert "0.2981" in text
    assert "31.33 (27.54 to 35.13)" in text
    assert "not measured here" not in text
    assert "9 real images" in text
    assert "In brackets: 95 % t intervals over seeds; of a single seed" in text


def test_table1_holds_the_arms_at_the_floors_n_where_it_is_another(folders):
    rows = tables.collect(folders).assign(fid_value_at_floor_n=[40.0, 41.0, 42.0, 30.0, 31.0, 32.0])
    rows["recall_value_at_floor_n"] = rows["recall"]
    text = tables.table1(rows, {"fid": "lower", "recall": "higher"})
    (line,) = [row for row in text.split("\n") if "at the N of real images' value" in row]
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "`fid` at the N of real images' value",
        "41",
        "31",
        "1",
        "1.5",
        "lower",
    ]


def test_table1_of_one_seed_holds_its_interval(folders):
    text = tables.table1(tables.collect([folders[0], folders[3]]), {"fid": "lower", "recall": "higher"})
    assert "30 (29 to 31)" in text
    assert "of a single seed, its interval within the run, which says nothing of others" in text


def test_nothing_evaluated_is_said(tmp_path):
    with pytest.raises(ValueError, match="None of these runs has been evaluated, so there is nothing to compare"):
        tables.collect([])


def note_curve(folder, text):
    (folder / "curve.csv").write_text(text)
    record = json.loads((folder / "run.json").read_text())
    record["stages"]["03_evaluate"] = {"parameters": {}, "outputs": {"curve.csv": "hash"}}
    (folder / "run.json").write_text(json.dumps(record))


def test_learning_curves_are_those_of_the_runs_that_have_one(folders, tmp_path):
    note_curve(folders[1], "step,n_fake,fid\n10,5,3.0\n20,5,2.0\n")
    (folders[2] / "curve.csv").write_text("of an evaluation before")
    found = tables.curves(tmp_path, [folder.name for folder in folders])
    assert found[["step", "fid", "arm", "seed"]].to_numpy().tolist() == [[10, 3.0, "baseline", 1], [20, 2.0, "baseline", 1]]
    assert tables.curves(tmp_path, [folders[0].name]).empty
    note_curve(folders[2], "step,n_fake,fid\n10,9,3.0\n")
    with pytest.raises(ValueError, match="The learning curves are of 5, 9 images"):
        tables.curves(tmp_path, [folder.name for folder in folders])


def test_what_differs_between_arms_is_told_arm_by_arm(folders):
    rows = tables.collect(folders).assign(layer=[16, 16, 16, 9, 9, 9])
    words = tables.conditions(rows, {"fid": "lower"})
    assert "7 generated and 9 real images of `synthetic`: steps 5, batch 4, width 8, weights random." in words
    assert "baseline: λ = 0, layer 16; centroid: λ = 40, layer 9." in words
    assert words.endswith("So this neither confirms nor refutes the paper's Table 1.")
    papers = rows.assign(weights="IMAGENET1K_V1", n_real=202_599, width=64)
    assert "refutes" not in tables.conditions(papers, {"fid": "lower"})
    assert "refutes" in tables.conditions(papers, {"fid_768": "lower"})


def test_runs_of_one_arm_that_were_made_in_several_ways_are_told_so(folders):
    alike = tables.collect(folders).assign(trained_in=["float32", "float32", "bfloat16"] * 2, source="../data/faces.zip")
    words = tables.conditions(alike, {"fid": "lower"})
    assert "weights random, in float32 and bfloat16." in words
    assert "of `faces.zip`" in words
    apart = tables.conditions(alike.assign(trained_in=["float32"] * 5 + ["bfloat16"]), {"fid": "lower"})
    assert "baseline: λ = 0, in float32; centroid: λ = 40, in float32 and bfloat16." in apart


def test_an_interval_is_of_the_values_that_are_known(folders):
    rows = tables.collect(folders[:3])
    rows.loc[2, "fid"] = np.nan
    low, high = stats.t.interval(0.95, 1, 31.5, stats.sem([30.0, 33.0]))
    assert tables._spread(rows, "fid") == f"31.5 ({low:.4g} to {high:.4g})"


def test_histories_carry_arm_and_seed(folders, tmp_path):
    found = tables.histories(tmp_path, ["baseline_seed1", "centroid_seed0"])
    assert list(found["arm"]) == ["baseline"] * 2 + ["centroid"] * 2
    assert list(found["seed"]) == [1, 1, 0, 0]


def test_markdown_columns_are_aligned():
    lines = tables.markdown([["a", "long head"], ["cell", "b"]]).split("\n")
    assert lines == ["| a    | long head |", "|------|-----------|", "| cell | b         |"]
