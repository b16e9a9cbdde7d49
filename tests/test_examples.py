"""The examples to be copied from: their sources, and each of them executed at a tiny size, far from the project's folder."""

import ast
import base64
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from PIL import Image

import centroidlib as cl
from centroidlib.evaluation.__main__ import main

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "notebooks" / "examples").glob("*.ipynb"))
TINY = {
    "evaluate_a_folder": {"count": 24},
    "loss_in_your_gan": {"count": 150, "steps": 3, "batch_size": 4, "width": 4, "samples": 70},
    "your_feature_extractor": {"count": 20, "others": 4},
}
FIGURES = {"evaluate_a_folder": 2, "loss_in_your_gan": 4, "your_feature_extractor": 2}
each = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


def code_of(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def execute(name, folder, parameters):
    """The executed notebook, run by papermill in an empty folder on a machine without weights."""
    settings = [word for setting in parameters.items() for word in ("-p", *map(str, setting))]
    environment = os.environ | {"CENTROIDLIB_CACHE": str(folder / "cache"), "TORCH_HOME": str(folder / "no weights")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "papermill", ROOT / "notebooks" / "examples" / f"{name}.ipynb", "out.ipynb", *settings]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return nbformat.read(folder / "out.ipynb", as_version=4)


def outputs_of(notebook):
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def markdown_of(notebook):
    return [output.data["text/markdown"] for output in outputs_of(notebook) if "text/markdown" in output.get("data", {})]


# Their sources.


def test_all_examples_are_tried():
    assert {path.stem for path in EXAMPLES} == set(TINY) == set(FIGURES)


@each
def test_sources_are_short_and_committed_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    for cell in code_of(path):
        assert not cell.outputs
        assert cell.execution_count is None
        lines = cell.source.splitlines()
        assert len(lines) <= 16, cell.id
        assert max(map(len, lines)) <= 98, cell.id


@each
def test_sources_ask_and_answer_and_explain_their_parameters(path):
    cells = nbformat.read(path, as_version=4).cells
    assert "**Question.**" in cells[0].source
    assert "**Answer.**" in cells[-1].source
    (cell,) = [cell for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    assert [line for line in cell.source.splitlines() if not re.fullmatch(r"\w+ = \S.*  # \S.*", line)] == []


@each
def test_sources_define_nothing_but_somebodys_gan(path):
    code = ast.parse("\n".join(cell.source for cell in code_of(path)))
    methods = {node for of in ast.walk(code) if isinstance(of, ast.ClassDef) for node in of.body}
    functions = {node for node in ast.walk(code) if isinstance(node, ast.FunctionDef)}
    assert {node.name for node in functions - methods} <= {"hinge", "descend"}
    bases = [ast.unparse(base) for node in ast.walk(code) if isinstance(node, ast.ClassDef) for base in node.bases]
    assert all(base.startswith(("nn.", "torch.nn.")) for base in bases)


def test_the_loss_is_two_lines_of_somebodys_loop():
    (loop,) = [cell.source for cell in code_of(ROOT / "notebooks/examples/loss_in_your_gan.ipynb") if "# added" in cell.source]
    added = [line for line in loop.splitlines() if line.endswith("# added")]
    assert len(added) == 2
    rest = [line for line in loop.splitlines() if line not in added and "history" not in line]
    assert not re.search(r"phi|stats|constraint|centroid_|weight \*", "\n".join(rest))


# Executed.


@pytest.fixture(scope="module", params=EXAMPLES, ids=lambda path: path.stem)
def executed(request, tmp_path_factory):
    name = request.param.stem
    return name, execute(name, tmp_path_factory.mktemp(name), TINY[name])


def test_examples_run_to_their_answer(executed):
    _, notebook = executed
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code" and cell.source)
    answer = markdown_of(notebook)[-1]
    assert answer.startswith("**Answer.**")
    assert "nan" not in answer
    assert notebook.cells[-1].outputs[-1].data["text/markdown"] == answer


def test_examples_draw_their_figures(executed):
    name, notebook = executed
    figures = [output.data["image/jpeg"] for output in outputs_of(notebook) if "image/jpeg" in output.get("data", {})]
    assert len(figures) == FIGURES[name]
    for figure in figures:
        with Image.open(io.BytesIO(base64.b64decode(figure))) as picture:
            assert np.asarray(picture.convert("L")).std() > 5


def test_examples_warn_of_nothing_but_too_few_images_and_name_no_path_of_the_machine(executed):
    _, notebook = executed
    for output in outputs_of(notebook):
        if output.get("name") == "stderr":
            warnings = [line for line in output.text.splitlines() if line and not line.startswith(" ")]
            assert all("the covariance is singular" in line for line in warnings), output.text
        else:
            text = str(output.get("text")) + str([data for kind, data in output.get("data", {}).items() if "image" not in kind])
            assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|mnt|opt|var)/", text), text


def test_of_ones_own_folders_the_example_says_what_the_command_does(tmp_path, torch_home, capsys):
    for folder, seed in (("real", 0), ("fake", 1)):
        (tmp_path / folder).mkdir()
        for i, face in enumerate(cl.draw_faces(26, size=32, seed=seed)[0]):
            Image.fromarray(face.permute(1, 2, 0).numpy()).save(tmp_path / folder / f"{i}.png")
    notebook = execute("evaluate_a_folder", tmp_path, {"real": "real", "fake": "fake"})
    options = ["--real", str(tmp_path / "real"), "--fake", str(tmp_path / "fake"), "--vgg", "random", "--lpips"]
    assert main(options) == 0
    table, left_out = capsys.readouterr().out.split("\n\n", 1)
    assert table.count("\n") > 8
    assert markdown_of(notebook)[0] == table
    assert left_out.startswith("`fid` was left out.")
