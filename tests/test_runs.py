"""Tests of a run's folder: where it lies, who may work in it, and what its record says."""

import shutil
import subprocess
import sys

import matplotlib.pyplot as plt
import pytest

from centroidlib import runs
from centroidlib._files import sha256
from centroidlib.runs import Run, folder_name, project_root, read_record, write_record

PARAMETERS = {"batch": "test", "arm": "centroid", "seed": 3, "steps": 5, "rate": 2e-4, "flip": False, "lambda_": 0.1}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's root, from a folder inside it as JupyterLab starts kernels."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks" / "deeper").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks")
    return tmp_path.resolve()


def in_another_process(code, *arguments):
    """Run Python code that shares nothing with this process, to its end or to its first line of output."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


LOCK = """
import fcntl, sys
file = open(sys.argv[1], "w")
try:
    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    print("locked", flush=True)
except BlockingIOError:
    print("refused", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("start", [".", "notebooks", "notebooks/deeper"])
def test_the_root_is_found_from_any_folder_inside(project, start):
    assert project_root(project / start) == project


def test_a_folder_without_a_project_is_its_own_root(tmp_path):
    assert project_root(tmp_path) == tmp_path.resolve()


def test_folders_are_the_arms_and_seeds_or_the_stages_own():
    assert folder_name("02_train", PARAMETERS) == "centroid_seed3"
    assert folder_name("01_centroid", {"batch": "test"}) == "01_centroid"


def test_a_run_takes_the_scalars_that_stand_there(project):
    namespace = PARAMETERS | {"_hidden": 1, "Path": sys, "list_": [1], "nothing": None, "__name__": "__main__"}
    run = Run("02_train", namespace)
    assert run.parameters == PARAMETERS
    assert run.folder == project / "results" / "test" / "centroid_seed3"
    assert run.folder.is_dir()


def test_a_source_counts_from_the_projects_root(project):
    run = Run("02_train", PARAMETERS)
    (project / "data").mkdir()
    assert run.path("data") == str(project / "data")
    assert run.path("synthetic") == "synthetic"
    assert run.path(str(project / "data")) == str(project / "data")


def test_the_record_says_what_was_made_from_what(project):
    before = Run("01_centroid", {"batch": "test"})
    (before.folder / "centroid.bin").write_bytes(b"c")
    run = Run("02_train", PARAMETERS)
    (run.folder / "own.bin").write_bytes(b"own")
    assert run.input("01_centroid/centroid.bin").read_bytes() == b"c"
    run.input("own.bin")
    (run.folder / "history.csv").write_text("1")
    run.finish("history.csv")

    record = read_record(run.folder)
    assert record["parameters"] == {"arm": "centroid", "seed": 3, "lambda_": 0.1}
    stage = record["stages"]["02_train"]
    assert stage["parameters"] == PARAMETERS
    assert stage["outputs"] == {"history.csv": sha256(run.folder / "history.csv")}
    assert stage["inputs"] == {
        "01_centroid/centroid.bin": sha256(before.folder / "centroid.bin"),
        "centroid_seed3/own.bin": sha256(run.folder / "own.bin"),
    }
    made_with = stage["made_with"]
    assert set(made_with) == {"code", "library", "python", "packages", "device", "threads"}
    assert made_with["python"] == "{}.{}.{}".format(*sys.version_info)
    assert all(made_with["packages"].values())
    assert stage["seconds"] >= 0
    assert stage["peak_memory_gb"] > 0
    assert str(project) not in (run.folder / "run.json").read_text()


def test_outputs_are_noted_where_they_are_named_saved_or_finished_with(project):
    run = Run("02_train", PARAMETERS)
    run.output("table.md").write_text("|")
    run.save(plt.figure(), "curve")
    run.save(plt.figure(), "curve")  # a cell that is run again
    plt.close("all")
    (run.folder / "history.csv").write_text("1")
    run.finish("history.csv", "curve.png")
    outputs = read_record(run.folder)["stages"]["02_train"]["outputs"]
    assert outputs == {name: sha256(run.folder / name) for name in ("history.csv", "curve.png", "table.md")}


def test_a_stage_adds_what_it_was_made_with(project):
    run = Run("02_train", PARAMETERS)
    run.finish(precision="bfloat16", threads=7)
    made_with = read_record(run.folder)["stages"]["02_train"]["made_with"]
    assert (made_with["precision"], made_with["threads"]) == ("bfloat16", 7)
    assert "packages" in made_with


def test_a_run_knows_whether_its_stage_was_finished_before(project):
    assert not Run("02_train", PARAMETERS).finished_before
    Run("02_train", PARAMETERS).finish()
    assert Run("02_train", PARAMETERS | {"steps": 9}).finished_before
    assert not Run("03_evaluate", PARAMETERS).finished_before


def test_stages_of_one_folder_share_its_record(project):
    for name in ("02_train", "03_evaluate"):
        Run(name, PARAMETERS).finish()
    assert list(read_record(project / "results" / "test" / "centroid_seed3")["stages"]) == ["02_train", "03_evaluate"]


def test_a_missing_input_says_what_to_run(project):
    with pytest.raises(FileNotFoundError, match=r"^results/test/01_centroid/c.bin is not there yet: run .* before 02_train"):
        Run("02_train", PARAMETERS).input("01_centroid/c.bin")


def test_finishing_needs_the_outputs_to_be_there(project):
    run = Run("02_train", PARAMETERS)
    with pytest.raises(FileNotFoundError):
        run.finish("history.csv")
    assert read_record(run.folder) == {}


def test_a_figure_is_written_as_png(project):
    run = Run("02_train", PARAMETERS)
    figure, _ = plt.subplots()
    run.save(figure, "curve")
    plt.close(figure)
    assert (run.folder / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert {p.name for p in run.folder.iterdir()} == {".lock", "curve.png"}


def test_a_folder_that_another_process_works_in_is_refused(project):
    folder = project / "results" / "test" / "centroid_seed3"
    folder.mkdir(parents=True)
    process, answer = in_another_process(LOCK, folder / ".lock")
    try:
        assert answer == "locked"
        with pytest.raises(RuntimeError, match=r"Another process works in test/centroid_seed3 \(.*\): wait for it"):
            Run("02_train", PARAMETERS)
        Run("02_train", PARAMETERS | {"seed": 4})
    finally:
        process.communicate()
    Run("02_train", PARAMETERS)


def test_a_runs_folder_is_locked_against_others_but_not_against_itself(project):
    first = Run("02_train", PARAMETERS)
    assert Run("02_train", PARAMETERS).folder == first.folder
    process, answer = in_another_process(LOCK, first.folder / ".lock")
    process.communicate()
    assert answer == "refused"


def test_a_folder_that_was_removed_and_made_again_is_locked_again(project):
    shutil.rmtree(Run("02_train", PARAMETERS).folder)
    again = Run("02_train", PARAMETERS)
    process, answer = in_another_process(LOCK, again.folder / ".lock")
    process.communicate()
    assert answer == "refused"


def test_a_finished_stage_leaves_the_folder_to_other_kernels(project):
    run = Run("02_train", PARAMETERS)
    run.finish()
    process, answer = in_another_process(LOCK, run.folder / ".lock")
    process.communicate()
    assert answer == "locked"


def test_a_damaged_record_is_known_before_any_work(project):
    folder = project / "results" / "test" / "centroid_seed3"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"parameters": {')
    with pytest.raises(ValueError, match=r"centroid_seed3/run.json is not JSON: delete it to run that folder again"):
        Run("02_train", PARAMETERS)


@pytest.mark.parametrize("text", ["", "[1]", '"text"', '{"stages": 3}'])
def test_a_record_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json is .*: delete it to run that folder again"):
        read_record(tmp_path)


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_record(tmp_path, {"stages": {}})
    with pytest.raises(TypeError):
        write_record(tmp_path, {"stages": object()})
    assert read_record(tmp_path) == {"stages": {}}
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_machine_without_git_has_no_commit(monkeypatch):
    def absent(*args, **kwargs):
        raise FileNotFoundError("git")

    monkeypatch.setattr(runs.subprocess, "run", absent)
    assert runs.versions()["code"] is None
