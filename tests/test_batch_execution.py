"""Tests of executing batches: what is left on disk, what is skipped, and how failures end."""

import contextlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from small_projects import BODIES, make_project, write_batch

from centroidlib.batch import plan
from centroidlib.batch.__main__ import main
from centroidlib.batch.execution import _clean
from centroidlib.batch.notebooks import read_notebook
from centroidlib.batch.state import state_of
from centroidlib.runs import read_record

# Execution. One batch is executed, in a folder with every kind of odd letter, and most tests look at what it left.


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    root = make_project(tmp_path_factory.mktemp("tmp") / "mein {Projekt} {0} für %s é").resolve()
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setenv("JPY_SESSION_NAME", "a batch started from a notebook")
        code = main([str(write_batch(root))])
    return root, code, out.getvalue()


@pytest.fixture
def done(executed, tmp_path):
    """A copy of the executed project that a test may change."""
    root = tmp_path / "copy"
    shutil.copytree(executed[0], root)
    return root


def skipped(root, settings=None):
    stages = plan(root / "notebooks" / "small.yml", settings or {})
    return [stage.label for stage in stages if state_of(stage).word == "done"]


EVERYTHING = ["01_first", "baseline_seed0/02_run", "centroid_seed0/02_run", "03_last"]


def test_the_batch_was_executed_with_its_parameters(executed):
    root, code, _ = executed
    results = root / "results" / "small"
    assert code == 0
    assert (results / "01_first" / "first.txt").read_text() == "faces 0.1 JPY_SESSION_NAME=None"
    assert (results / "baseline_seed0" / "run.txt").read_text() == "baseline 0 0.0 10"
    assert (results / "centroid_seed0" / "run.txt").read_text() == "centroid 0 40.0 10"
    assert (results / "03_last" / "table.md").read_text() == "| the table of baseline_seed0 centroid_seed0 |"
    names = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file() and path.name != ".lock"}
    assert names == {
        *("01_first/01_first.ipynb", "01_first/first.txt", "01_first/run.json"),
        *(f"{arm}_seed0/{name}" for arm in ("baseline", "centroid") for name in ("02_run.ipynb", "run.txt", "run.json")),
        *("03_last/03_last.ipynb", "03_last/table.md", "03_last/run.json"),
        "manifest.json",
    }


def test_the_batch_said_what_it_did(executed):
    out = executed[2]
    steps = re.findall(r"^\[(\d)/4\] (\S+): \d+ s(?:, [\d:]+ left)?$", out, re.M)
    assert [number for number, _ in steps] == ["1", "2", "3", "4"]
    assert sorted(label for _, label in steps) == sorted(EVERYTHING)
    assert sorted(re.findall(r"^(\S+) runs: never ran$", out, re.M)) == sorted(EVERYTHING)
    assert re.match(r"small: 4 stages, 4 to run; \d+ notebooks? at a time, \d+ threads? each \(.*independent runs\)$", out, re.M)
    assert "| the table of baseline_seed0 centroid_seed0 |" in out
    assert "results/small/:" in out
    assert re.search(r"^  centroid_seed0/  02_run.ipynb$", out, re.M)


def test_the_executed_notebook_is_the_log_without_machine_paths(executed):
    root = executed[0]
    path = root / "results" / "small" / "01_first" / "01_first.ipynb"
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    (printed,) = notebook.cells[3].outputs
    assert printed.text.split() == [".", "results/x.txt", "'.'", "cache"]
    assert [c.metadata.tags for c in notebook.cells[:2]] == [["parameters"], ["injected-parameters"]]
    assert 'source = "faces"' in notebook.cells[1].source
    assert not {"input_path", "output_path"} & set(notebook.metadata.papermill)
    for path in root.glob("results/**/*.*"):
        text = path.read_text()
        assert root.name not in text
        assert str(root.parent) not in text
        assert str(Path.home()) not in text


def test_the_sources_are_as_they_were(executed):
    notebook = nbformat.read(executed[0] / "notebooks" / "01_first.ipynb", 4)
    assert [cell.source for cell in notebook.cells] == list(BODIES["01_first"])
    assert not any(cell.outputs for cell in notebook.cells)
    record = read_record(executed[0] / "results" / "small" / "01_first")
    assert record["stages"]["01_first"]["notebook"] == read_notebook(executed[0] / "notebooks" / "01_first.ipynb").digest


def test_a_second_run_skips_what_is_done(done, capsys, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()}
    assert main([str(done / "notebooks" / "small.yml")]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"^(\S+) +done +\d+ +done before$", out, re.M) == EVERYTHING
    assert "Nothing is left to do." in out
    assert "| the table of" in out
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.is_file()} == before


def test_a_changed_parameter_runs_the_notebooks_that_have_it(done):
    assert skipped(done) == EVERYTHING
    assert skipped(done, {"steps": 11}) == ["01_first", "03_last"]
    assert skipped(done, {"rate": 0.1}) == EVERYTHING
    assert skipped(done, {"seed": 1}) == ["01_first"]


def test_a_changed_source_runs_again(done):
    path = done / "notebooks" / "02_run.ipynb"
    path.write_text(path.read_text().replace('finish(\\"run.txt\\")', 'finish(\\"run.txt\\") '))
    assert skipped(done) == ["01_first", "03_last"]


def test_a_changed_default_runs_again(done):
    path = done / "notebooks" / "02_run.ipynb"
    path.write_text(path.read_text().replace("steps = 10", "steps = 20"))
    assert skipped(done) == ["01_first", "03_last"]


def test_a_changed_file_runs_its_maker_and_its_users_again(done):
    (done / "results" / "small" / "centroid_seed0" / "run.txt").write_text("other")
    assert skipped(done) == ["01_first", "baseline_seed0/02_run"]


def test_a_missing_executed_notebook_runs_again(done):
    (done / "results" / "small" / "baseline_seed0" / "02_run.ipynb").unlink()
    assert skipped(done) == ["01_first", "centroid_seed0/02_run", "03_last"]


def test_a_record_without_its_notebook_is_not_done(done):
    """A notebook that noted its results and failed after that, or that was run by hand."""
    path = done / "results" / "small" / "baseline_seed0" / "run.json"
    record = json.loads(path.read_text())
    del record["stages"]["02_run"]["notebook"]
    path.write_text(json.dumps(record))
    assert skipped(done) == ["01_first", "centroid_seed0/02_run", "03_last"]


def test_a_damaged_record_stops_the_batch_in_a_sentence(done, capsys):
    (done / "results" / "small" / "baseline_seed0" / "run.json").write_text("{")
    assert main([str(done / "notebooks" / "small.yml")]) == 1
    assert capsys.readouterr().err == "baseline_seed0/run.json is not JSON: delete it to run that folder again.\n"


def test_a_failing_cell_ends_in_a_sentence_and_keeps_the_last_good_notebook(done, capsys):
    file, folder = write_batch(done, {"notebooks": ["01_first", "03_last"]}), done / "results" / "small" / "01_first"
    good = (folder / "01_first.ipynb").read_bytes()
    assert main([str(file), "--set", "broken=cell"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "",
        "01_first failed. ValueError: The folder data is empty.",
        "Its executed notebook: results/small/01_first/01_first.failed.ipynb",
        "1 of 2 stages failed; 0 are done, and are kept.",
        "Not run because of it: 03_last.",
    ]
    assert (folder / "01_first.ipynb").read_bytes() == good
    failed = nbformat.read(folder / "01_first.failed.ipynb", 4)
    errors = [output for cell in failed.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors[0].evalue == "The folder data is empty."
    assert any("raise ValueError" in re.sub("\x1b\\[[0-9;]*m", "", line) for line in errors[0].traceback)
    assert str(done) not in (folder / "01_first.failed.ipynb").read_text()
    assert {path.name for path in folder.iterdir()} == {
        "01_first.ipynb",
        "01_first.failed.ipynb",
        "first.txt",
        "run.json",
        ".lock",
    }

    # Once it works, the failed one goes.
    assert main([str(write_batch(done, {"notebooks": ["01_first"]})), "--set", "rate=0.3"]) == 0
    assert not (folder / "01_first.failed.ipynb").exists()
    assert (folder / "first.txt").read_text().startswith("synthetic 0.3 ")


def test_a_dead_kernel_stops_the_batch_in_a_sentence(done, capsys):
    good = (done / "results" / "small" / "01_first" / "01_first.ipynb").read_bytes()
    assert main([str(done / "notebooks" / "small.yml"), "--set", "broken=kernel"]) == 1
    said = capsys.readouterr().err
    assert re.match(
        r"\n01_first failed: its kernel died or did not start \(Kernel died\)\. Was there too little memory\?\nIts exec", said
    )
    assert (done / "results" / "small" / "01_first" / "01_first.failed.ipynb").is_file()
    assert (done / "results" / "small" / "01_first" / "01_first.ipynb").read_bytes() == good


@pytest.mark.parametrize("before", [True, False])
def test_a_notebook_that_notes_no_result_is_not_taken_for_done(done, before, capsys):
    file = write_batch(done, {"notebooks": ["01_first"], "parameters": {"broken": "silent"}})
    if not before:
        shutil.rmtree(done / "results")
    assert main([str(file)]) == 1
    assert [state_of(stage).word for stage in plan(file, {})] == ["missing"]
    assert "01_first ran to its end but left no record: its last cell must call run.finish" in capsys.readouterr().err


def test_a_batch_runs_from_any_folder(done, monkeypatch, capsys):
    monkeypatch.chdir(done / "results")
    assert main([os.path.join("..", "notebooks", "small.yml")]) == 0
    assert "Nothing is left to do." in capsys.readouterr().out


def test_of_a_progress_bar_the_last_line_is_kept(tmp_path):
    texts = ["real images: 5 of 10, 00:23 gone, 00:23 left\n", "made\nreal images: 10 of 10, 00:41 gone, 00:00 left\n"]
    texts += [
        "steps: 1,000 of 2,000, 01:00 gone, 01:00 left, loss 2\nsteps: 2,000 of 2,000, 02:00 gone, 00:00 left\n",
        "5 of 10\n",
    ]
    outputs = [nbformat.v4.new_output("stream", text=text) for text in texts]
    outputs.insert(1, nbformat.v4.new_output("display_data", {"text/plain": "shown"}))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=outputs)])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    _clean(tmp_path / "n.ipynb", tmp_path / "project")
    found = nbformat.read(tmp_path / "n.ipynb", 4).cells[0].outputs
    assert [output.get("text") for output in found] == [None, texts[1], texts[2].split("\n")[1] + "\n", texts[3]]


def test_pictures_and_other_peoples_paths_stay_as_they_are(tmp_path):
    root = tmp_path / "project"
    said = f"{root}/a.txt {root} \x1b[32m{root}/b.py\x1b[0m file://{root}/c /data{root}/d https://host{root}/e x{root}"
    output = nbformat.v4.new_output("display_data", {"image/png": f"iVBORw0K{root}/AAAA", "text/plain": said})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    _clean(tmp_path / "n.ipynb", root)
    data = nbformat.read(tmp_path / "n.ipynb", 4).cells[0].outputs[0].data
    assert data["image/png"] == f"iVBORw0K{root}/AAAA"
    assert data["text/plain"] == f"a.txt . \x1b[32mb.py\x1b[0m file://c /data{root}/d https://host{root}/e x{root}"
