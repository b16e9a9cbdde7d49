"""Tests of the tables: Table 1, a run's metrics, and what was measured with what."""

import json

import numpy as np
from scipy import stats

from centroidlib import collecting, tables, verdict


def test_an_ablation_of_the_protocol_is_shown_labelled(two_protocols):
    rows = collecting.collect(two_protocols, label_protocols=True)
    better = collecting.better_of([folder / "metrics.json" for folder in two_protocols])
    assert list(rows["protocol"].unique()) == ["resize = None", "resize = lanczos"]
    table, words = tables.table1(rows, better), verdict.verdict(rows, better)
    for text in (table, words):
        assert text.index("#### resize = None") < text.index("#### resize = lanczos")
    assert "| ours: baseline               | 31.33 (27.54 to 35.13)" in table
    assert "| ours: baseline               | 3 (2 to 4)" in table
    assert "3 seeds" in words.split("lanczos")[0]
    assert "No verdict follows" in words.split("lanczos")[1]


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
    better = collecting.better_of([folders[0] / "metrics.json"])
    text = tables.table1(collecting.collect(folders), better)
    assert "32.1361" in text
    assert "0.2981" in text
    assert "31.33 (27.54 to 35.13)" in text
    assert "not measured here" not in text
    assert "9 drawn faces" in text
    assert "In brackets: 95 % t intervals over seeds; of a single seed" in text


def test_table1_holds_the_arms_at_the_floors_n_where_it_is_another(folders):
    rows = collecting.collect(folders).assign(fid_value_at_floor_n=[40.0, 41.0, 42.0, 30.0, 31.0, 32.0])
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
    text = tables.table1(collecting.collect([folders[0], folders[3]]), {"fid": "lower", "recall": "higher"})
    assert "30 (29 to 31)" in text
    assert "of a single seed, its interval within the run, which says nothing of others" in text


def test_what_differs_between_arms_is_told_arm_by_arm(folders):
    rows = collecting.collect(folders).assign(layer=[16, 16, 16, 9, 9, 9])
    words = tables.conditions(rows, {"fid": "lower"})
    assert "7 generated images and 9 drawn faces. All arms: 5 steps, batch size 4, network width 8, weights random." in words
    assert "baseline: λ = 0, Φ's layer 16; centroid: λ = 40, Φ's layer 9." in words
    assert words.endswith("So this neither confirms nor refutes the paper's Table 1.")
    papers = rows.assign(weights="IMAGENET1K_V1", n_real=202_599, width=64)
    assert "refutes" not in tables.conditions(papers, {"fid": "lower"})
    assert "refutes" in tables.conditions(papers, {"fid_768": "lower"})


def test_what_is_as_in_the_paper_goes_without_saying(folders):
    rows = collecting.collect(folders[:3]).assign(arm=list("abc"), lambda_=40.0, pool=[False, False, True], crop=1.0)
    words = tables.conditions(rows, {"fid": "lower"})
    assert "crop" not in words
    assert " a: nothing else; b: nothing else; c: pooled features. Φ" in words
    assert "crop 0.8" in tables.conditions(rows.assign(crop=0.8), {"fid": "lower"})


def test_of_many_arms_a_caption_names_only_what_they_differ_in(folders):
    rows = collecting.collect(folders).assign(arm=list("abcdef"), lambda_=range(6), adapt=[0.0] * 5 + [0.02], pool=False)
    assert tables.differing(rows) == ["lambda_", "adapt"]
    words = tables.conditions(rows, {"fid": "lower"})
    assert "What they differ in stands in the table of arms: λ, adapt. Φ" in words
    assert "λ = " not in words


def test_runs_of_one_arm_that_were_made_in_several_ways_are_told_so(folders):
    alike = collecting.collect(folders).assign(trained_in=["float32", "float32", "bfloat16"] * 2, source="../data/faces.zip")
    words = tables.conditions(alike, {"fid": "lower"})
    assert "weights random, in float32 and bfloat16." in words
    assert "of `faces.zip`" in words
    apart = tables.conditions(alike.assign(trained_in=["float32"] * 5 + ["bfloat16"]), {"fid": "lower"})
    assert "baseline: λ = 0, in float32; centroid: λ = 40, in float32 and bfloat16." in apart


def test_an_interval_is_of_the_values_that_are_known(folders):
    rows = collecting.collect(folders[:3])
    rows.loc[2, "fid"] = np.nan
    low, high = stats.t.interval(0.95, 1, 31.5, stats.sem([30.0, 33.0]))
    assert tables._spread(rows, "fid") == f"31.5 ({low:.4g} to {high:.4g})"


def test_markdown_columns_are_aligned():
    lines = tables.markdown([["a", "long head"], ["cell", "b"]]).split("\n")
    assert lines == ["| a    | long head |", "|------|-----------|", "| cell | b         |"]
