"""Tests of what surrounds the library: style, types, dependencies, notebooks' sources, and what is committed."""

import ast
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from centroidlib.batch import declared_parameters, plan

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BATCHES = sorted((ROOT / "notebooks" / "batches").glob("*.yml"))
PYPROJECT = (ROOT / "pyproject.toml").read_text()
MACHINE_PATH = re.compile(r"(?<![\w.])/(home|root|tmp|work|Users|mnt|opt)/[\w.{-]+")


def each(paths):
    return pytest.mark.parametrize("path", paths, ids=lambda path: path.stem)


def cells_of(path):
    return nbformat.read(path, as_version=4).cells


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy"])
def test_style_and_types(command):
    done = subprocess.run([sys.executable, "-m", *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


# One source of truth for what is installed.


def test_conda_users_install_what_pyproject_says():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (python,) = re.findall(r'^requires-python = "(.+)"$', PYPROJECT, re.M)
    assert set(environment) == {"name", "channels", "dependencies"}
    assert environment["dependencies"] == [f"python {python}", "pip", {"pip": ["-e ."]}]


def test_make_refuses_the_pythons_that_pyproject_does():
    first, last = re.findall(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', PYPROJECT, re.M)[0]
    assert f"(3, {first}) <= sys.version_info[:2] <= (3, {int(last) - 1})" in (ROOT / "Makefile").read_text()


def test_versions_and_licences_agree():
    (version,) = re.findall(r'^version = "(.+)"$', PYPROJECT, re.M)
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == version
    assert citation["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_continuous_integration_runs_the_tests():
    assert re.search(r"^(exec )?make test$", (ROOT / ".ci" / "run").read_text(), re.M)


# The README.


def prose():
    """The README but for its blocks of code."""
    return re.sub(r"^```.*?^```$", "", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.M | re.S)


def test_the_readmes_training_loop_runs(tmp_path, monkeypatch):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block, *more = re.findall(r"^<!-- this block is run by the tests -->\n```python\n(.*?)^```$", readme, re.M | re.S)
    assert len(more) == 1
    monkeypatch.chdir(tmp_path)
    assert "count=500" in block
    names: dict = {}
    exec(block.replace("count=500", "count=40"), names)
    assert math.isfinite(names["loss"].item())
    assert (tmp_path / "centroid.safetensors").is_file()
    assert names["stats"].centroid.shape == (65_536,)
    exec(more[0], names)
    assert math.isfinite(names["loss"].item())


def test_the_readmes_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", prose())
    assert len(links) >= 6
    assert [link for link in links if not (ROOT / link).exists()] == []


# The notebooks' sources.


def test_the_notebooks_are_numbered_without_a_gap_and_stand_in_the_readme():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{number:02}" for number in range(len(NOTEBOOKS))]
    rows = re.findall(r"^\| \[`(\w+)`\]\(notebooks/(\w+)\.ipynb\) \| .*\?", prose(), re.M)
    assert rows == [(path.stem, path.stem) for path in NOTEBOOKS]


@each(NOTEBOOKS)
def test_sources_are_committed_without_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    code = [cell for cell in cells_of(path) if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count is not None for cell in code)
    assert "papermill" not in nbformat.read(path, as_version=4).metadata


@each(NOTEBOOKS)
def test_one_cell_of_parameters_explains_each(path):
    (cell,) = [cell for cell in cells_of(path) if "parameters" in cell.metadata.get("tags", [])]
    assert [line for line in cell.source.splitlines() if not re.fullmatch(r"|# \S.*|\w+ = \S.*  # \S.*", line)] == []
    assert declared_parameters(path)["batch"] == "manual"


@each(NOTEBOOKS)
def test_notebooks_begin_with_their_question_and_define_no_class(path):
    cells = cells_of(path)
    assert cells[0].cell_type == "markdown"
    assert "**Question.**" in cells[0].source
    code = ast.parse("\n".join(cell.source for cell in cells if cell.cell_type == "code"))
    assert not any(isinstance(node, ast.ClassDef | ast.FunctionDef) for node in ast.walk(code))


@each([*NOTEBOOKS, *sorted((ROOT / "notebooks" / "examples").glob("*.ipynb"))])
def test_cells_are_read_at_a_glance(path):
    code = [cell for cell in cells_of(path) if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])]
    lines = [cell.source.splitlines() for cell in code]
    assert [cell[0] for cell in lines if len(cell) > 12 and not cell[0].startswith("import")] == []
    assert [line for cell in lines for line in cell if len(line) > 98] == []


def test_shared_parameters_have_one_default():
    defaults: dict[str, set] = {}
    for path in NOTEBOOKS:
        for name, value in declared_parameters(path).items():
            defaults.setdefault(name, set()).add((type(value), value))
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


@each(BATCHES)
def test_batch_files_fit_the_notebooks(path):
    stages = plan(path, {})
    names = [stage.name for stage in stages]
    if path.stem == "benchmark":
        assert names == ["06_benchmark"]
        return
    if path.stem == "reading":  # these two are for themselves
        assert (names.pop(0), names.pop(0)) == ("00_start_here", "09_explore")
    assert names[:1] == ["01_centroid"]
    arms = {stage.parameters["arm"]: stage.parameters for stage in stages if stage.name == "02_train"}
    if path.stem == "calibration":
        assert len(stages) == 1
        return
    if path.stem == "literal":  # one run, to be looked at beside the verdict's
        assert {arm: (own["lambda_"], own["unit"]) for arm, own in arms.items()} == {"literal": (0.1, "raw")}
        return
    assert arms["baseline"]["lambda_"] == 0.0
    assert len(arms) > 1


def test_the_verdict_is_of_the_arms_and_seeds_that_were_fixed_beforehand():
    stages = plan(ROOT / "notebooks" / "batches" / "verdict.yml", {})
    runs = {(stage.parameters["lambda_"], stage.parameters["seed"]) for stage in stages if stage.name == "02_train"}
    assert runs == {(lambda_, seed) for lambda_ in (0.0, 4.0, 40.0) for seed in range(5)}


def test_the_papers_experiment_is_the_papers():
    stages = plan(ROOT / "notebooks" / "batches" / "table1.yml", {})
    (centroid, *_) = [stage.parameters for stage in stages if stage.folder.name == "centroid_seed0"]
    wanted = {"source": "celeba", "count": 0, "layer": 16, "weights": "IMAGENET1K_V1", "lambda_": 0.1, "unit": "raw"}
    assert wanted.items() <= centroid.items()
    (measured,) = [stage.parameters for stage in stages if stage.label == "centroid_seed0/03_evaluate"]
    assert {"fid_dims": 2048, "lpips": "alex", "samples": 50_000, "pairs": 5_000}.items() <= measured.items()
    assert len({stage.parameters["seed"] for stage in stages if "seed" in stage.parameters}) == 5


# The library.


@each(sorted((ROOT / "centroidlib").rglob("*.py")))
def test_modules_neither_print_nor_read_the_command_line(path):
    names = {node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Name)}
    assert "sys.argv" not in path.read_text(encoding="utf-8")
    assert "print" not in names or path.stem == "__main__"


# What is committed.


@pytest.fixture(scope="module")
def committed():
    """Files that are in the repository, or would be with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [path for path in (ROOT / name for name in listed.split("\0") if name) if path.is_file()]


def machine_path(text):
    """The first absolute path of somebody's machine in a text, or in a notebook's JSON but for its figures' base64."""
    found = MACHINE_PATH.search(re.sub(r'"image/\w+": "[^"]*"', "", text).replace("\\n", "\n"))
    return found and found.group()


def test_what_is_committed_holds_no_machine_paths(committed):
    inside = [path for path in committed if path.relative_to(ROOT).parts[0] in ("notebooks", "results")]
    found = {path.relative_to(ROOT).as_posix(): machine_path(path.read_bytes().decode("utf-8", "ignore")) for path in inside}
    assert {name: path for name, path in found.items() if path} == {}
    assert inside


def test_machine_paths_would_be_found():
    for text in ("see /home/me/x", '"/tmp/ipykernel_12/3.py:4"', "(/root/.cache/a)", "\\n/opt/project/results"):
        assert machine_path(text)
    for text in ("results/tmp/x", "https://host/root/x", "and/or"):
        assert not machine_path(text)


def test_what_is_committed_is_small_and_holds_no_weights_but_the_verdicts(committed):
    results = [path for path in committed if path.relative_to(ROOT).parts[0] == "results"]
    assert sum(path.stat().st_size for path in results) < 30_000_000
    assert [path.name for path in results if path.suffix in (".pt", ".pth", ".npy", ".zip", ".jpg", ".jpeg")] == []


def test_no_committed_notebook_was_executed_with_photographs(committed):
    for path in committed:
        if path.name == "run.json":
            for stage in json.loads(path.read_text())["stages"].values():
                drawn = stage["parameters"].get("source", "synthetic") == "synthetic"
                assert drawn or not stage["parameters"].get("show_real_images", False), path
