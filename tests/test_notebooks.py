"""The notebooks, executed as quick.yml does at a tiny size, in a copy of the project; and by hand."""

import json
import re
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from celeba_files import write_celeba
from copies import TINY, TINY_BENCHMARK, Copy
from PIL import Image

from centroidlib.batch import plan
from centroidlib.batch.__main__ import main
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
                    warnings = [line for line in output.text.splitlines() if line and not line.startswith(" ")]
                    assert all("the covariance is singular" in line for line in warnings), (path, output.text)


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


def test_a_generators_moving_average_is_an_arm_of_its_own(executed, project):
    """After the quick batch, whose centroid and floors it takes."""
    arms = {"plain": {"lambda_": 0, "ema": 0.5}, "averaged": {"generator_of": "plain"}}
    batch = {"notebooks": ["02_train", "03_evaluate", "05_compare"], "parameters": {"source": "synthetic"}, "arms": arms}
    batch["parameters"]["held_out"] = "synthetic"
    folder = project.root / "results" / "ema"
    shutil.copytree(executed[1] / "01_centroid", folder / "01_centroid")
    (project.root / "notebooks" / "batches" / "ema.yml").write_text(json.dumps(batch))
    settings = [f"{name}={value}" for name, value in TINY.items() if name not in ("points", "factor_steps")]
    done = project.python("centroidlib.batch", "notebooks/batches/ema.yml", "--set", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_csv(folder / "runs.csv").set_index("arm")
    assert list(rows["ema"]) == [0.5, 0.5]
    assert rows.loc["plain", "fd_vgg16_random"] != rows.loc["averaged", "fd_vgg16_random"]
    inputs = read_record(folder / "averaged_seed0")["stages"]["03_evaluate"]["inputs"]
    assert "plain_seed0/generator_ema.safetensors" in inputs
    outputs = read_record(folder / "plain_seed0")["stages"]["02_train"]["outputs"]
    assert {"generator.safetensors", "generator_ema.safetensors", "film.webp"} <= set(outputs)


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


def test_another_arm_trains_with_another_constraint_network_game_and_extractor(project):
    arms = {
        "baseline": {"lambda_": 0},
        "energy": {"constraint": "energy", "whiten": "diagonal", "game": "relativistic", "r1": 0.1, "warmup": 2, "adapt": 0.1},
        "residual": {"constraint": "mean", "architecture": "resnet", "game": "hinge"},
        "own": {"space": "discriminator", "lambda_": 1},
    }
    parameters = {"source": "synthetic", "extractor": "resnet18:layer1", "factor_steps": 0, "held_out": "synthetic"}
    file = project.root / "notebooks" / "batches" / "others.yml"
    notebooks = ["01_centroid", "02_train", "03_evaluate", "05_compare", "08_beyond"]
    file.write_text(json.dumps({"notebooks": notebooks, "parameters": parameters, "arms": arms}))
    tiny = {name: value for name, value in TINY.items() if name not in ("points", "factor_steps")} | {"punished_batch": 24}
    tiny |= {"count": 140, "calibration": 20}
    done = project.python("centroidlib.batch", file, "--set", *(f"{name}={value}" for name, value in tiny.items()))
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.root / "results" / "others"
    rows = pd.read_csv(folder / "runs.csv").set_index("arm")
    assert rows.loc["energy", "constraint"] == "energy"
    assert {"fd_vgg16_random", "fd_resnet18_random_layer1"} <= set(rows)
    assert rows["fd_resnet18_random_layer1_seen_by_loss"].all()
    assert "factors_kinds" not in rows  # without steps for the classifier nothing is counted
    history = pd.read_csv(folder / "energy_seed0" / "history.csv")
    assert {"above_floor", "lambda"} <= set(history)
    assert "Φ: resnet18:layer1" in (folder / "05_compare" / "table.md").read_text()
    assert sorted(pd.read_csv(folder / "08_beyond" / "ranking.csv")["arm"]) == ["energy", "own", "residual"]


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


def test_the_idea_in_two_dimensions_runs_by_hand(project, monkeypatch):
    monkeypatch.setitem(project.environment, "JPY_SESSION_NAME", "00_start_here.ipynb")  # as in JupyterLab: shown live
    done = project.python("papermill", "notebooks/00_start_here.ipynb", "idea.ipynb", "-p", "toy_steps", 40)
    assert done.returncode == 0, done.stderr
    shares = pd.read_csv(project.root / "results" / "manual" / "00_start_here" / "shares.csv", index_col=0)
    assert list(shares.index) == ["real", "baseline", "centroid"]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    cells = nbformat.read(project.root / "idea.ipynb", as_version=4).cells
    assert "**Answer.**" in cells[-1].outputs[-1].data["text/markdown"]
    pictures = [sum("image/jpeg" in output.get("data", {}) for output in cell.get("outputs", [])) for cell in cells]
    assert [count for count in pictures if count] == [1, 1, 1, 1]  # what was shown live is gone


def test_the_papers_experiment_runs_on_files_laid_out_as_celebas_are(project, tmp_path):
    """table1.yml with all its notebooks, but at a tiny size and without published weights, of which no file is here."""
    write_celeba(project.root / "data" / "celeba", [0] * 40 + [1] * 10 + [2] * 10)
    startup = tmp_path / "ipython" / "profile_default" / "startup" / "files.py"  # each kernel executes it
    startup.parent.mkdir(parents=True)
    startup.write_text(
        "import os\nimport torchvision.datasets.celeba\n"
        "torchvision.datasets.celeba.check_integrity = lambda path, md5: os.path.isfile(path)\n"
    )
    project.environment["IPYTHONDIR"] = str(tmp_path / "ipython")
    tiny = {name: value for name, value in TINY.items() if name not in ("count", "held_out_count")}
    tiny |= {
        "seed": 0,
        "weights": "random",
        "fid_dims": 0,
        "lpips": "",
        "generators_every": 2,
        "curve_samples": 20,
        "calibration": 20,
    }
    done = project.python("centroidlib.batch", "notebooks/batches/table1.yml", "--set", *(f"{k}={v}" for k, v in tiny.items()))
    del project.environment["IPYTHONDIR"]
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pd.read_csv(project.root / "results" / "table1" / "runs.csv")
    assert list(rows["arm"]) == ["baseline", "centroid"]
    assert set(rows["n_real"]) == {60}
    assert {"source": "celeba", "unit": "raw", "crop": 1.0}.items() <= rows.iloc[1].to_dict().items()
    curves = pd.read_csv(project.root / "results" / "table1" / "05_compare" / "curves.csv")
    assert list(curves["step"]) == [2, 4] * 2
    assert (project.root / "results" / "table1" / "05_compare" / "curves.png").is_file()


def test_a_notebook_runs_by_hand_through_plain_papermill(project):
    done = project.python(
        *("papermill", "01_centroid.ipynb", "../by_hand.ipynb", "-p", "count", 40, "-p", "layer", 2, "-p", "pool", "True"),
        *("-k", "python3"),
        cwd="notebooks",
    )
    assert done.returncode == 0, done.stderr
    record = read_record(project.root / "results" / "manual" / "01_centroid")
    assert record["stages"]["01_centroid"]["parameters"]["count"] == 40
    assert "Passed unknown parameter" not in done.stderr


def test_the_benchmark_writes_its_ratios(project):
    settings = [f"{name}={value}" for name, value in TINY_BENCHMARK.items()]
    done = project.python("centroidlib.batch", "notebooks/batches/benchmark.yml", "--set", *settings)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = project.root / "results" / "benchmark"
    ratios = pd.read_csv(folder / "ratios.csv")
    assert list(ratios) == ["work", "ours_seconds", "reference_seconds", "ratio", "reference", "machine", "precision"]
    assert list(ratios["work"])[-2:] == ["batch of one trivial notebook", "a run of 2 trivial ones"]
    kinds = {"step", "what", "DCGAN", "centroid", "inception", "distance", "files", "lpips", "batch", "a"}
    assert set(ratios["work"].str.split().str[0]) == kinds
    steps = ratios[ratios["reference"] == "literal Algorithm 1"]
    assert steps["reference_seconds"].nunique() == 3  # without the loss, with it, and what it adds
    assert ratios["ratio"].tolist() == pytest.approx(
        (ratios["reference_seconds"] / ratios["ours_seconds"]).tolist(), rel=0.02, abs=1e-4
    )
    assert (folder / "06_benchmark" / "ratios.png").is_file()
    cells = nbformat.read(folder / "06_benchmark" / "06_benchmark.ipynb", 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert outputs[-1].data["text/markdown"].startswith("**Answer.** On this machine (")


def test_bad_input_ends_the_batch_in_a_sentence_before_any_training(project, cache, capsys):
    file = project.root / "notebooks" / "batches" / "bad.yml"
    shutil.copy(file.with_stem("quick"), file)
    assert main([str(file), "--set", "count=40", "source=no/such/folder"]) == 2
    assert capsys.readouterr().err == "--set: source is 'no/such/folder', and there is no such file or folder.\n"
    assert not (project.root / "results" / "bad").exists()
    assert main([str(file), "--set", "count=40", "source=nowhere"]) == 1
    sentences = capsys.readouterr().err
    assert "\n01_centroid failed. FileNotFoundError: There is no folder or zip nowhere, nor a data set of that name" in sentences
    assert "Traceback (most recent call last)" not in sentences
    files = {path.relative_to(project.root / "results" / "bad").as_posix() for path in project.root.glob("results/bad/*/*")}
    assert files == {f"01_centroid/{name}" for name in ("01_centroid.failed.ipynb", "run.json", ".lock")}
