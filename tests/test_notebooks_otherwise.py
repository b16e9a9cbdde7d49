"""The notebooks with other parameters, data and batch files than quick.yml's, each in a copy of the project."""

import json
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
from celeba_files import write_celeba
from copies import TINY, TINY_BENCHMARK, Copy

from centroidlib.batch.__main__ import main
from centroidlib.runs import read_record


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Copy(tmp_path_factory.mktemp("other notebooks"))


def test_other_arms_train_with_another_constraint_network_game_extractor_and_a_moving_average(project):
    arms = {
        "baseline": {"lambda_": 0, "ema": 0.5},
        "averaged": {"generator_of": "baseline"},
        "energy": {"constraint": "energy", "whiten": "diagonal", "game": "relativistic", "r1": 0.1, "warmup": 2, "adapt": 0.1},
        "own": {"space": "discriminator", "lambda_": 1, "architecture": "resnet", "game": "hinge"},
    }
    parameters = {"source": "synthetic", "extractor": "resnet18:layer1", "factor_steps": 0, "held_out": "synthetic"}
    file = project.root / "notebooks" / "batches" / "others.yml"
    notebooks = ["01_centroid", "02_train", "03_evaluate", "08_beyond"]
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
    cells = nbformat.read(folder / "08_beyond" / "08_beyond.ipynb", 4).cells
    assert "Φ: resnet18:layer1" in cells[-1].outputs[-1].data["text/markdown"]
    assert sorted(pd.read_csv(folder / "08_beyond" / "ranking.csv")["arm"]) == ["averaged", "energy", "own"]

    # The moving average is an arm of its own, of the same training.
    assert list(rows.loc[["baseline", "averaged"], "ema"]) == [0.5, 0.5]
    assert rows.loc["baseline", "fd_vgg16_random"] != rows.loc["averaged", "fd_vgg16_random"]
    inputs = read_record(folder / "averaged_seed0")["stages"]["03_evaluate"]["inputs"]
    assert "baseline_seed0/generator_ema.safetensors" in inputs
    outputs = read_record(folder / "baseline_seed0")["stages"]["02_train"]["outputs"]
    assert {"generator.safetensors", "generator_ema.safetensors", "film.webp"} <= set(outputs)


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
        *("-p", "calibration", 20, "-k", "python3"),
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
