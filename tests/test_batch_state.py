"""Tests of what a batch holds for done, and why: records, inputs, sources, what is not committed, other code."""

import json
import re
import shutil
import zipfile

import pytest
from small_projects import BODIES, make_project, write_batch, write_notebook

from centroidlib import runs
from centroidlib._locks import holding
from centroidlib.batch import BatchError, plan, state
from centroidlib.batch.__main__ import main
from centroidlib.batch.state import check_paths, look_again, state_of, what_runs
from centroidlib.runs import Run, folder_name, read_record, write_record

LABELS = ["01_first", "baseline_seed0/02_run", "centroid_seed0/02_run", "03_last"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project in which the whole batch was run: here the notebooks' parts, without their kernels."""
    root = make_project(tmp_path).resolve()
    source, *cells = BODIES["01_first"]
    cells[0] += "\nrun.path(source)"
    write_notebook(root / "notebooks" / "01_first.ipynb", source, *cells)
    with zipfile.ZipFile(root / "faces.zip", "w") as archive:
        archive.writestr("a.png", b"a face")
    write_batch(root)
    run_all(root, monkeypatch)
    return root


def planned(root, settings=None):
    look_again()
    return plan(root / "notebooks" / "small.yml", {"source": "./faces.zip"} | (settings or {}))


def run_all(root, monkeypatch, settings=None):
    monkeypatch.chdir(root)
    for stage in planned(root, settings):
        run_one(stage)


def run_one(stage):
    run = Run(stage.name, stage.all_parameters)
    if "source" in stage.parameters and stage.name == "01_first":
        run.path(stage.parameters["source"])
    made = {"01_first": "first.txt", "02_run": "run.txt", "03_last": "table.md"}[stage.name]
    runs_ = stage.parameters.get("runs", "").split()
    reads = {"01_first": [], "02_run": ["01_first/first.txt"], "03_last": [f"{name}/run.txt" for name in runs_]}
    for name in reads[stage.name]:
        run.input(name)
    (run.folder / made).write_text(" ".join(str(v) for v in stage.parameters.values() if v != "small"))
    run.finish(made)
    (run.folder / f"{stage.name}.ipynb").write_text("executed")
    record = read_record(run.folder)
    record["stages"][stage.name]["notebook"] = stage.notebook.digest
    write_record(run.folder, record)


def words(root, settings=None):
    return [state_of(stage).word for stage in planned(root, settings)]


def why(root, number, settings=None):
    return state_of(planned(root, settings)[number]).why


def running(root, settings=None, rerun_stale=False):
    states = what_runs(planned(root, settings), rerun_stale)
    return [label for label, (found, _) in states.items() if found.runs(rerun_stale)]


def test_everything_is_done(project):
    assert words(project) == ["done"] * 4
    assert running(project) == []


def test_a_stage_that_never_ran_is_missing(project):
    shutil.rmtree(project / "results" / "small" / "baseline_seed0")
    assert words(project) == ["done", "missing", "done", "done"]
    assert why(project, 1) == "never ran"


def test_a_stage_that_failed_says_so_until_it_is_done(project):
    (project / "results" / "small" / "01_first" / "01_first.failed.ipynb").write_text("")
    assert words(project) == ["done"] * 4
    assert words(project, {"rate": 0.3})[0] == "failed"


def test_a_comparison_runs_again_when_a_run_is_there_that_it_did_not_know(project):
    last = project / "results" / "small" / "03_last"
    record = read_record(last)
    inputs = record["stages"]["03_last"]["inputs"]
    record["stages"]["03_last"]["inputs"] = {name: digest for name, digest in inputs.items() if "centroid_seed0" not in name}
    write_record(last, record)
    assert why(project, 3) == "centroid_seed0 was not there then"


def test_a_comparison_of_all_that_there_is_runs_again_when_there_is_more(project):
    last = project / "results" / "small" / "03_last"
    record = read_record(last)
    record["stages"]["03_last"]["parameters"]["runs"] = ""
    inputs = record["stages"]["03_last"]["inputs"]
    record["stages"]["03_last"]["inputs"] = {name: digest for name, digest in inputs.items() if "centroid_seed0" not in name}
    write_record(last, record)
    write_batch(project, {"notebooks": ["03_last"]})
    stage = plan(project / "notebooks" / "small.yml", {})[0]
    assert state_of(stage).word == "done"  # centroid_seed0 is not evaluated
    (last.parent / "centroid_seed0" / "metrics.json").write_text("{}")
    assert state_of(stage).why == "centroid_seed0 was not there then"


def test_a_comparison_runs_again_when_one_of_its_runs_has_failed_since(project):
    run = project / "results" / "small" / "centroid_seed0"
    write_record(run, read_record(run) | {"failed": {"02_run": "it broke"}})
    assert why(project, 3) == "centroid_seed0 has failed since"


def test_a_changed_parameter_says_what_it_was(project):
    assert why(project, 1, {"steps": 11, "flip": True}) == "steps was 10, is 11; flip was False, is True"
    assert words(project, {"steps": 11}) == ["done", "changed", "changed", "done"]


def test_a_parameter_that_is_new_or_gone_is_a_change(project):
    source, *cells = BODIES["02_run"]
    write_notebook(project / "notebooks" / "02_run.ipynb", source.replace("flip = False", "mirror = False"), *cells)
    assert why(project, 1) == "mirror was 'not there', is False; flip was False, is 'not there'"


def test_changed_code_is_a_change_and_changed_words_are_none(project):
    path = project / "notebooks" / "02_run.ipynb"
    notebook = json.loads(path.read_text())
    words_ = {"cell_type": "markdown", "metadata": {}, "source": "Read this.", "id": "a"}
    notebook["cells"].insert(0, words_)
    notebook["cells"][1]["source"][4] = "steps = 10  # generator steps\n"
    notebook["cells"][2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "run by hand"}]
    path.write_text(json.dumps(notebook))
    assert words(project) == ["done"] * 4
    notebook["cells"][2]["source"].append("\npass")
    path.write_text(json.dumps(notebook))
    assert words(project) == ["done", "changed", "changed", "done"]
    assert why(project, 1) == "the notebook's code changed"


def test_a_changed_output_is_its_makers_change_and_its_users(project):
    (project / "results" / "small" / "01_first" / "first.txt").write_text("other")
    assert words(project) == ["changed"] * 3 + ["done"]
    assert why(project, 0) == "first.txt changed"
    assert why(project, 1) == "01_first/first.txt changed"


def test_a_record_whose_stage_did_not_come_to_its_end_is_not_done(project):
    folder = project / "results" / "small" / "01_first"
    for mark in ("absent", None):
        record = read_record(folder)
        record["stages"]["01_first"].pop("notebook") if mark == "absent" else record["stages"]["01_first"].update(notebook=mark)
        write_record(folder, record)
        assert (words(project)[0], why(project, 0)) == ("missing", "its notebook was stopped, or run by hand")


# Sources of images.


def test_other_images_under_the_same_name_are_a_change(project):
    with zipfile.ZipFile(project / "faces.zip", "w") as archive:
        archive.writestr("a.png", b"b face")
    assert words(project) == ["changed", "done", "done", "done"]
    assert why(project, 0) == "./faces.zip holds other images"


def test_the_same_images_elsewhere_are_the_same(project):
    shutil.copy(project / "faces.zip", project / "copy.zip")
    assert words(project, {"source": "./copy.zip"})[0] == "done"
    (project / "folder").mkdir()
    (project / "folder" / "a.png").write_bytes(b"a face")
    assert words(project, {"source": "./folder"})[0] == "changed"


def test_images_that_are_not_here_are_no_change(project):
    (project / "faces.zip").unlink()
    assert words(project) == ["done"] * 4
    assert words(project, {"source": "data/faces.zip"})[0] == "done"
    assert words(project, {"source": "synthetic"})[0] == "changed"


def test_a_path_that_does_not_exist_is_refused_where_it_was_set(project):
    (project / "faces.zip").unlink()
    with pytest.raises(BatchError, match=r"^--set: source is './faces.zip', and there is no such file or folder\.$"):
        check_paths(planned(project))
    file = write_batch(project, "notebooks: [01_first]\nparameters:\n  source: no/where\n")
    with pytest.raises(BatchError, match=r"^small.yml, line 3: source is 'no/where', and there is no such"):
        check_paths(plan(file, {}))
    check_paths(planned(project, {"source": "synthetic"}))


def test_only_what_runs_needs_its_paths(project, capsys):
    (project / "faces.zip").unlink()
    file = str(project / "notebooks" / "small.yml")
    assert main([file, "--set", "source=./faces.zip"]) == 0
    assert "Nothing is left to do." in capsys.readouterr().out
    assert main([file, "--set", "source=./faces.zip", "steps=3"]) == 2
    assert capsys.readouterr().err == "--set: source is './faces.zip', and there is no such file or folder.\n"


# What is not committed, and what needs it all the same.


def test_an_output_that_is_not_here_is_missed_by_nobody_unless_something_runs_that_names_it(project):
    for name in ("01_first/first.txt", "centroid_seed0/run.txt"):
        (project / "results" / "small" / name).unlink()
    assert running(project) == []
    assert running(project, {"flip": True}) == LABELS[:3]  # 02_run names first.txt
    states = what_runs(planned(project, {"flip": True}), False)
    assert states["01_first"][0].why == "first.txt is not here, and what comes after needs it"
    assert states["01_first"][1] == ("first.txt",)


def test_what_comes_last_does_not_make_everything_again(project):
    """The last notebook's code names run.txt, and neither first.txt nor weights."""
    shutil.rmtree(project / "results" / "small" / "03_last")
    (project / "results" / "small" / "01_first" / "first.txt").unlink()
    assert running(project) == ["03_last"]
    (project / "results" / "small" / "baseline_seed0" / "run.txt").unlink()
    assert running(project) == ["01_first", "baseline_seed0/02_run", "03_last"]


# The library's own code.


def test_what_other_code_made_is_stale_and_kept(project, monkeypatch):
    monkeypatch.setattr(state, "library_digest", lambda: "other")
    assert words(project) == ["stale"] * 4
    assert running(project) == []
    assert running(project, rerun_stale=True) == LABELS
    assert running(project, {"steps": 3}) == LABELS[1:3]


def test_the_code_that_runs_batches_makes_nothing_stale(tmp_path, monkeypatch):
    library = tmp_path / "centroidlib"
    (library / "batch").mkdir(parents=True)
    for name in ("losses.py", "batch/report.py"):
        (library / name).write_text("1")
    monkeypatch.setattr(runs, "__file__", str(library / "runs.py"))
    found = []
    for name in ("", "batch/report.py", "losses.py"):
        if name:
            (library / name).write_text("2")
        found.append(runs.library_digest())
    assert found[0] == found[1] != found[2]


def test_the_status_is_a_table_and_runs_nothing(project, capsys):
    shutil.rmtree(project / "results" / "small" / "baseline_seed0")
    files = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert main([str(project / "notebooks" / "small.yml"), "--set", "source=./faces.zip", "--status"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        *(["stage", "state"], ["01_first", "done"], ["baseline_seed0/02_run", "missing"]),
        *(["centroid_seed0/02_run", "done"], ["03_last", "done"]),
    ]
    assert lines[2].endswith("never ran")
    assert {path: path.stat().st_mtime_ns for path in project.rglob("*")} == files


def test_a_shared_stage_may_work_in_a_folder_of_its_own():
    assert folder_name("01_centroid", {"batch": "b", "centroid": "01_centroid-layer9"}) == "01_centroid-layer9"
    assert folder_name("02_train", {"arm": "a", "seed": 0, "centroid": "01_centroid-layer9"}) == "a_seed0"


@pytest.mark.parametrize("entry", ["3", "{}", '{"notebook": "x"}', '{"notebook": "x", "parameters": 3}', "null"])
def test_a_stage_whose_record_is_damaged_is_refused_in_a_sentence(project, entry, capsys):
    (project / "results" / "small" / "01_first" / "run.json").write_text(f'{{"stages": {{"01_first": {entry}}}}}')
    code = main([str(project / "notebooks" / "small.yml"), "--set", "source=./faces.zip", "--status"])
    if entry == "{}":  # as if it had never run
        assert code == 0
    else:
        assert code == 1
        assert capsys.readouterr().err == "01_first/run.json is no record of this library: delete it to run that folder again.\n"


def test_the_status_says_who_works_in_a_folder(project, capsys):
    shutil.rmtree(project / "results" / "small" / "baseline_seed0")
    with holding(project / "results" / "small" / "baseline_seed0"):
        assert main([str(project / "notebooks" / "small.yml"), "--set", "source=./faces.zip", "--status"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"^baseline_seed0/02_run +missing +never ran; process \d+ on .* works in its folder$", said, re.M)


def test_stale_seeds_are_compared_all_the_same(project, monkeypatch):
    monkeypatch.setattr(state, "library_digest", lambda: "other")
    file = project / "notebooks" / "small.yml"
    look_again()
    stages = plan(file, {"source": "./faces.zip", "seed": 1}, lambda stage: state_of(stage).word)
    assert stages[-1].parameters["runs"].split() == ["baseline_seed0", "centroid_seed0", "baseline_seed1", "centroid_seed1"]
