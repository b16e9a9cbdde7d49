"""The notebooks, executed as quick.yml does at a tiny size, in a copy of the project; and by hand."""

import json
import re
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from copies import TINY, Copy
from PIL import Image

from centroidlib.batch import plan
from centroidlib.batch.state import state_of
from centroidlib.runs import read_record

SHARED, RUNS = ["01_centroid", "05_compare"], ["baseline_seed0", "centroid_seed0"]
SPACES = ("vgg16_random", "vgg16_random_relu3_3")
PARTS = ("fd", "kid", "precision", "recall", "density", "coverage", "nearest")
METRICS = {f"{part}_{space}" for part in PARTS for space in SPACES} | {"inside_d_ref", "centre_offset"}
METRICS |= {"factors_recognised", "factors_kinds", "factors_divergence"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("notebooks"))


@pytest.fixture(scope="module")
def executed(project):
    """The batch's answer, and its folder."""
    settings = [f"{name}={value}" for name, value in TINY.items()]
    done = project.python("centroidlib.batch", "notebooks/batches/quick.yml", "--set", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, project.root / "results" / "quick"


def said(done):
    """What a command wrote to stderr, but for what libzmq writes now and then while a kernel that is done closes down."""
    return re.sub(r"^Assertion failed: .* \(src/\w+\.cpp:\d+\)\n", "", done.stderr, flags=re.M)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_the_batch_ends_with_the_table_and_where_things_lie(executed):
    out = executed[0].stdout
    assert len(re.findall(r"^\[\d/8\] \S+: \d+ s(?:, [\d:]+ left)?$", out, re.M)) == 8
    table = out.index("ours: baseline")
    assert out.index("paper: DCGAN") < table < out.index("ours: centroid") < out.index("results/quick/:")
    assert said(executed[0]) == ""


def test_every_notebook_ran_to_its_answer(executed):
    folder = executed[1]
    paths = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.ipynb"))
    per_run = [f"{run}/{name}.ipynb" for run in RUNS for name in ("02_train", "03_evaluate", "04_visualize")]
    assert paths == sorted([f"{name}/{name}.ipynb" for name in SHARED] + per_run)
    for path in paths:
        notebook = nbformat.read(folder / path, 4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output.output_type == "error"]
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
        assert any("**Answer.**" in output.get("data", {}).get("text/markdown", "") for output in outputs), path


def test_nothing_warns_but_of_too_few_images(executed):
    for path in executed[1].rglob("*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                if output.get("name") == "stderr":
                    warnings = [line for line in output.text.splitlines() if line]
                    assert all(re.match("Note: .*the covariance is singular", line) for line in warnings), (path, output.text)


def test_results_hold_no_machine_paths(executed, project):
    texts = [path for path in executed[1].rglob("*") if path.suffix in (".ipynb", ".json", ".csv", ".md")]
    assert len(texts) > 15
    for path in texts:
        text = re.sub(r'"image/\w+": "[^"]*"', "", path.read_text(encoding="utf-8"))
        for folder in (project.root.parent, Path.home(), sys.prefix, "/tmp"):
            assert not re.search(re.escape(str(folder)) + r"\b", text), (path, folder)


def test_measurements_have_the_one_form(executed):
    for run in RUNS:
        measured = metrics_of(executed[1] / run)
        assert set(measured) == {"fingerprint", "protocol", "metrics"}
        assert set(measured["metrics"]) == METRICS
        keys = {"value", "low", "high", "interval", "floor", "value_at_floor_n", "n_real", "n_fake", "seen_by_loss", "better"}
        keys |= {"floor_heldout", "floor_n", "standard_error"}
        assert all(set(entry) == keys for entry in measured["metrics"].values())
        assert measured["metrics"]["fd_vgg16_random"]["n_fake"] == TINY["samples"]
        assert measured["metrics"]["fd_vgg16_random"]["n_real"] == TINY["count"]
        assert measured["metrics"]["fd_vgg16_random"]["floor_n"] == TINY["count"] // 2
        assert all(entry["floor"] is not None and entry["floor_heldout"] is not None for entry in measured["metrics"].values())
    first, second = (metrics_of(executed[1] / run) for run in RUNS)
    assert first["fingerprint"] == second["fingerprint"]


def test_one_row_a_run_with_the_metrics_of_its_file(executed):
    rows = pd.read_csv(executed[1] / "runs.csv")
    assert list(rows["arm"]) == ["baseline", "centroid"]
    assert list(rows["seed"]) == [0, 0]
    assert list(rows["lambda_"]) == [0.0, 40.0]
    assert list(rows["steps"]) == [4, 4]
    for run, (_, row) in zip(RUNS, rows.iterrows(), strict=True):
        for name, entry in metrics_of(executed[1] / run)["metrics"].items():
            assert row[name] == pytest.approx(entry["value"], rel=1e-12)
            assert row[f"{name}_floor"] == pytest.approx(entry["floor"], rel=1e-12)
            assert row[f"{name}_floor_heldout"] == pytest.approx(entry["floor_heldout"], rel=1e-12)


def test_table_1_stands_beside_the_papers(executed):
    table = (executed[1] / "05_compare" / "table.md").read_text()
    for text in ("32.1361", "30.9519", "0.2918", "0.2981", "ours: baseline", "ours: centroid", "λ = 40", "units of d_ref"):
        assert text in table
    assert "FID proper was not measured here" in table
    assert all(f"`{name}`" in table for name in METRICS)


def test_every_figure_was_drawn(executed):
    figures = {path.relative_to(executed[1]).as_posix() for path in executed[1].rglob("*.png") if path.parent.name != "samples"}
    per_run = ("training", "film_strip", "measured", "neighbours", "figure1", "figure2", "distances")
    wanted = {f"{run}/{name}.png" for run in RUNS for name in per_run}
    wanted |= {f"01_centroid/{name}.png" for name in ("distances", "calibration")}
    assert figures == wanted | {f"05_compare/{name}.png" for name in ("metrics", "arms", "outcomes")}
    for name in figures:
        with Image.open(executed[1] / name) as picture:
            assert min(picture.size) > 100, name
            assert np.asarray(picture.convert("L")).std() > 5, name


def test_both_arms_begin_alike_and_share_the_centroid(executed):
    first, second = ((executed[1] / run / "samples" / "step_000000.png").read_bytes() for run in RUNS)
    assert first == second
    inputs = [read_record(executed[1] / run)["stages"]["02_train"]["inputs"] for run in RUNS]
    assert inputs[0] == inputs[1]
    assert list(inputs[0]) == ["01_centroid/centroid.safetensors"]


def test_records_say_what_was_run(executed):
    for run, lambda_ in zip(RUNS, (0.0, 40.0), strict=True):
        record = read_record(executed[1] / run)
        assert record["parameters"] == {"arm": run.split("_")[0], "seed": 0, "lambda_": lambda_, "unit": "d_ref"}
        assert list(record["stages"]) == ["02_train", "03_evaluate", "04_visualize"]
        for stage in record["stages"].values():
            assert stage["outputs"]
            assert set(stage) >= {"parameters", "made_with", "seconds", "peak_memory_gb", "inputs", "notebook"}
        assert record["stages"]["02_train"]["made_with"]["precision"] in ("float32", "bfloat16")
        assert record["stages"]["02_train"]["made_with"]["threads"] >= 1


def test_nothing_is_left_to_do_and_a_changed_parameter_is(executed, project):
    file = project.root / "notebooks" / "batches" / "quick.yml"
    assert {state_of(stage).word for stage in plan(file, TINY)} == {"done"}
    again = [stage.label for stage in plan(file, TINY | {"points": 31}) if state_of(stage).word != "done"]
    assert again == [f"{run}/04_visualize" for run in RUNS]


def test_the_sources_were_not_touched(executed, project):
    assert len(project.sources) >= 8
    assert all(path.read_bytes() == content for path, content in project.sources.items())


def test_the_ablation_reads_the_runs_of_a_batch(executed, project):
    done = project.python("papermill", "notebooks/07_ablation.ipynb", "ablation.ipynb", "-p", "batch", "quick")
    assert done.returncode == 0, done.stderr
    folder = executed[1] / "07_ablation"
    gaps = pd.read_csv(folder / "differences.csv")
    assert set(gaps["arm"]) == {"centroid"}
    assert "fd_vgg16_random" in set(gaps["metric"])  # and nothing that the loss has seen
    assert not set(gaps["metric"]) & {"centre_offset", "fd_vgg16_random_relu3_3"}
    assert (folder / "ablation.png").is_file()


def test_beyond_the_paper_the_family_is_punished_and_ranked(executed, project):
    settings = ("-p", "batch", "quick", "-p", "count", TINY["count"], "-p", "punished_batch", 24)
    done = project.python("papermill", "notebooks/08_beyond.ipynb", "beyond.ipynb", *settings)
    assert done.returncode == 0, done.stderr
    folder = executed[1] / "08_beyond"
    assert {"band", "energy", "Eq. 3"} < set(pd.read_csv(folder / "punished.csv")["constraint"])
    assert list(pd.read_csv(folder / "ranking.csv")["arm"]) == ["centroid"]
    cells = nbformat.read(project.root / "beyond.ipynb", as_version=4).cells
    assert "**Answer.**" in cells[-1].outputs[-1].data["text/markdown"]
    for name in ("punished", "pareto"):
        assert (folder / f"{name}.png").is_file()


def test_the_explorer_takes_the_generators_of_a_batch(executed, project):
    done = project.python("papermill", "notebooks/09_explore.ipynb", "explored.ipynb", "-p", "explored", "quick")
    assert done.returncode == 0, done.stderr
    folder = project.root / "results" / "manual" / "09_explore"
    assert {path.name for path in folder.glob("*.png")} == {"walk.png", "pushes.png"}
    sources = read_record(folder)["stages"]["09_explore"]["sources"]
    files = [*(f"{run}/generator.safetensors" for run in RUNS), "01_centroid/centroid.safetensors"]
    assert list(sources) == [f"results/quick/{file}" for file in files]
    cells = nbformat.read(project.root / "explored.ipynb", as_version=4).cells
    answer = cells[-1].outputs[-1].data["text/markdown"]
    assert all(f"`{arm}` lies between" in answer for arm in ("baseline", "centroid"))
