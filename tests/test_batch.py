"""Tests of batches of notebooks, on throw-away projects whose notebooks need no library: kernels start in a second."""

import contextlib
import io
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from centroidlib._files import sha256
from centroidlib.batch import BatchError, declared_parameters, execution, is_done, plan
from centroidlib.batch import __main__ as command
from centroidlib.batch.__main__ import main
from centroidlib.runs import read_record

# What a notebook does of centroidlib.runs.Run, without importing torch.
STUB = """
import hashlib, json, pathlib

def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()

class Run:
    def __init__(self, stage, names):
        self.stage, self.inputs = stage, {}
        self.parameters = {k: v for k, v in names.items() if isinstance(v, (bool, int, float, str)) and k[0] != "_"}
        self.batch = pathlib.Path("results").resolve() / names["batch"]
        self.folder = self.batch / (f"{names['arm']}_seed{names['seed']}" if "arm" in names else stage)
        self.folder.mkdir(parents=True, exist_ok=True)

    def input(self, name):
        self.inputs[name] = digest(self.batch / name)
        return self.batch / name

    def finish(self, *outputs):
        path = self.folder / "run.json"
        record = json.loads(path.read_text()) if path.is_file() else {"stages": {}}
        made = {name: digest(self.folder / name) for name in outputs}
        record["stages"][self.stage] = {"parameters": self.parameters, "inputs": self.inputs, "outputs": made}
        path.write_text(json.dumps(record))
"""
FIRST = """batch = "manual"  # folder in results/
source = "synthetic"  # where from
rate = 0.1  # a fraction
broken = ""  # how this notebook fails"""
PER_ARM = """batch = "manual"  # folder in results/
arm = "centroid"  # what is compared
seed = 0  # of everything
source = "synthetic"  # where from
steps = 10  # steps
lambda_ = 1.0  # weight
flip = False  # or not"""
LAST = """batch = "manual"  # folder in results/
runs = ""  # run folders"""
BODIES = {
    "01_first": (
        FIRST,
        'from stub import Run\nrun = Run("01_first", globals())',
        "import os, pathlib\n"
        'print(os.getcwd(), os.getcwd() + "/results/x.txt", repr(os.getcwd()), pathlib.Path.home() / "cache")\n'
        'if broken == "kernel":\n    os._exit(1)\n'
        'if broken == "cell":\n    raise ValueError(f"The folder {os.getcwd()}/data is empty.")',
        '(run.folder / "first.txt").write_text(f"{source} {rate!r} JPY_SESSION_NAME={os.environ.get(\'JPY_SESSION_NAME\')}")',
        'if broken != "silent":\n    run.finish("first.txt")',
    ),
    "02_run": (
        PER_ARM,
        'from stub import Run\nrun = Run("02_run", globals())\nrun.input("01_first/first.txt")',
        '(run.folder / "run.txt").write_text(f"{arm} {seed} {lambda_!r} {steps}")\nrun.finish("run.txt")',
    ),
    "03_last": (
        LAST,
        'from stub import Run\nrun = Run("03_last", globals())\n[run.input(f"{name}/run.txt") for name in runs.split()]',
        '(run.folder / "table.md").write_text(f"| the table of {runs} |")\nrun.finish("table.md")',
    ),
}
BATCH = {
    "notebooks": ["01_first", "02_run", "03_last"],
    "parameters": {"source": "faces"},
    "arms": {"baseline": {"lambda_": 0}, "centroid": {"lambda_": 40}},
    "seeds": [0],
}


def write_notebook(path, parameters, *cells, tag="parameters"):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    notebook.cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": [tag]})]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)


def make_project(root):
    (root / "notebooks").mkdir(parents=True)
    (root / "pyproject.toml").touch()
    (root / "stub.py").write_text(STUB)
    for name, cells in BODIES.items():
        write_notebook(root / "notebooks" / f"{name}.ipynb", *cells)
    return root


def write_batch(root, content=None, name="small.yml"):
    path = root / "notebooks" / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content or BATCH, sort_keys=False), encoding="utf-8")
    return path


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


def planned(project, settings=None, **changes):
    return plan(write_batch(project, BATCH | changes), settings or {})


# What runs, where, and with which parameters.


def test_stages_run_in_the_order_of_their_dependencies(project):
    stages = planned(project, seeds=[3, 1])
    assert [stage.label for stage in stages] == [
        "01_first",
        *("baseline_seed3/02_run", "centroid_seed3/02_run", "baseline_seed1/02_run", "centroid_seed1/02_run"),
        "03_last",
    ]
    results = project.resolve() / "results" / "small"
    assert stages[0].folder == results / "01_first"
    assert stages[1].folder == results / "baseline_seed3"
    assert {stage.parameters["batch"] for stage in stages} == {"small"}
    assert stages[-1].parameters["runs"] == "baseline_seed3 centroid_seed3 baseline_seed1 centroid_seed1"


def test_a_shared_notebook_listed_after_the_arms_runs_after_them(project):
    labels = [stage.label for stage in planned(project, notebooks=["02_run", "01_first"])]
    assert labels == ["baseline_seed0/02_run", "centroid_seed0/02_run", "01_first"]


def test_common_parameters_reach_every_notebook_that_declares_them_and_no_other(project):
    first, baseline, centroid, last = planned(project, parameters={"source": "faces", "steps": 20, "rate": 0.5})
    assert first.parameters == {"batch": "small", "source": "faces", "rate": 0.5}
    shared = {"batch": "small", "source": "faces", "steps": 20, "seed": 0}
    assert baseline.parameters == shared | {"arm": "baseline", "lambda_": 0.0}
    assert centroid.parameters == shared | {"arm": "centroid", "lambda_": 40.0}
    assert set(last.parameters) == {"batch", "runs"}


def test_an_arm_wins_over_the_common_parameters_and_set_over_the_file(project):
    arms = {"short": {"steps": 5}, "plain": None}
    _, short, plain, _ = planned(project, {"source": "other"}, parameters={"steps": 20, "source": "faces"}, arms=arms)
    assert (short.parameters["steps"], plain.parameters["steps"]) == (5, 20)
    assert short.parameters["source"] == plain.parameters["source"] == "other"


def test_ctrl_c_ends_the_batch_in_a_sentence(project, monkeypatch, capsys):
    def stopped(stage):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "execute", stopped)
    assert main([str(write_batch(project))]) == 130
    assert (
        "Stopped in 01_first: finished stages are kept, and training continues when the batch is run again."
        in capsys.readouterr().out
    )


AVERAGE = BODIES["02_run"][0] + '\ngenerator_of = ""  # whose average\nema = 0.0  # decay'


def test_an_arm_of_anothers_average_is_only_evaluated_and_after_it(project):
    write_notebook(project / "notebooks" / "02_train.ipynb", BODIES["02_run"][0] + "\nema = 0.0  # decay")
    write_notebook(project / "notebooks" / "03_evaluate.ipynb", AVERAGE)
    notebooks = ["02_train", "03_evaluate"]
    for more in ({"arms": {"smooth": {"generator_of": "plain"}, "plain": {"ema": 0.9}}},
                 {"arms": {"smooth": {"generator_of": "plain"}, "plain": {}}, "parameters": {"ema": 0.9}}):  # fmt: skip
        stages = planned(project, notebooks=notebooks, **{"parameters": {}} | more)
        assert [stage.label for stage in stages] == [
            "plain_seed0/02_train",
            "plain_seed0/03_evaluate",
            "smooth_seed0/03_evaluate",
        ]
        assert stages[2].parameters["generator_of"] == "plain"
        assert "generator_of" not in stages[0].parameters


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"arms": {"smooth": {"generator_of": "plain"}, "plain": {}}},
            "arm smooth: generator_of must name a trained arm with an `ema`",
        ),
        ({"arms": {"smooth": {"generator_of": "plain", "rate": 1}, "plain": {"ema": 0.9}}}, "arm smooth: no notebook .* 'rate'"),
        ({"arms": {"smooth": {"generator_of": "gone"}}, "parameters": {"ema": 0.9}}, "generator_of must name .* not 'gone'"),
        ({"arms": {"smooth": {"generator_of": "smooth", "ema": 0.9}}}, "generator_of must name .* not 'smooth'"),
        ({"arms": {"plain": {"ema": 0.9}}, "parameters": {"generator_of": "plain"}}, "it belongs to one arm"),
    ],
)
def test_an_average_that_nobody_keeps_is_refused(project, more, message):
    write_notebook(project / "notebooks" / "03_evaluate.ipynb", AVERAGE)
    with pytest.raises(BatchError, match=message):
        planned(project, notebooks=["03_evaluate"], **{"parameters": {}} | more)


def test_a_seed_that_is_set_replaces_the_files(project):
    stages = planned(project, {"seed": 7}, seeds=[0, 1, 2])
    assert [stage.folder.name for stage in stages] == ["01_first", "baseline_seed7", "centroid_seed7", "03_last"]
    assert stages[1].parameters["seed"] == 7


def test_a_whole_number_is_taken_for_a_fraction_but_not_the_other_way(project):
    value = planned(project, parameters={"rate": 1})[0].parameters["rate"]
    assert value == 1.0
    assert type(value) is float
    with pytest.raises(BatchError, match=r"small.yml: steps must be of type int like its default 10, not 5\.0"):
        planned(project, parameters={"steps": 5.0})


@pytest.mark.parametrize("text", ["2e-4", "2E-4", "2.0e-4", "0.0002", "+2e-4"])
def test_powers_of_ten_are_numbers(project, text, capsys):
    stages = plan(write_batch(project, f"notebooks: [01_first]\nparameters: {{rate: {text}}}\n"), {})
    assert stages[0].parameters["rate"] == 2e-4
    file = write_batch(project, "notebooks: [01_first]\n")
    assert main([str(file), "--set", f"rate={text}", "--dry-run"]) == 0
    assert "rate=0.0002" in capsys.readouterr().out


def test_names_that_look_like_powers_stay_names(project):
    stages = plan(write_batch(project, "notebooks: [01_first]\nparameters: {source: '2e4'}\n"), {})
    assert stages[0].parameters["source"] == "2e4"


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("flip=true", "flip", True),
        ("source=", "source", ""),
        ("source=a=b", "source", "a=b"),
        ("source=~/x: y", "source", "~/x: y"),
    ],
)
def test_settings_are_read_as_the_file_is(project, text, name, value, capsys):
    assert main([str(write_batch(project)), "--set", text, "steps=4", "--dry-run"]) == 0
    assert f"  {name}={value}" in capsys.readouterr().out.splitlines()[1]


# What is wrong is said in one sentence before anything runs.


UNKNOWN = "no notebook of this batch has a parameter"
ITSELF = "is set by the batch itself, from the file's name, arms and seeds."


@pytest.mark.parametrize(
    ("changes", "settings", "sentence"),
    [
        ({"parameters": {"stepps": 3}}, {}, f"small.yml: {UNKNOWN} 'stepps' (did you mean 'steps'?)."),
        ({"parameters": {"zzz": 3}}, {}, f"small.yml: {UNKNOWN} 'zzz'."),
        (
            {"arms": {"a": {"lambda": 3}}},
            {},
            f"small.yml, arm a: {UNKNOWN} 'lambda' (did you mean 'lambda_'?).",
        ),
        ({}, {"sorce": "x"}, f"--set: {UNKNOWN} 'sorce' (did you mean 'source'?)."),
        ({"arms": {"a": {"rate": 0.5}}}, {}, f"small.yml, arm a: {UNKNOWN} 'rate'."),
        ({"parameters": {"steps": "many"}}, {}, "small.yml: steps must be of type int like its default 10, not 'many'."),
        ({"parameters": {"steps": True}}, {}, "small.yml: steps must be of type int like its default 10, not True."),
        ({"parameters": {"rate": True}}, {}, "small.yml: rate must be of type float like its default 0.1, not True."),
        ({"parameters": {"flip": 1}}, {}, "small.yml: flip must be of type bool like its default False, not 1."),
        ({"parameters": {"source": 3}}, {}, "small.yml: source must be of type str like its default 'synthetic', not 3."),
        ({"parameters": {"source": ["a"]}}, {}, "small.yml: source must be of type str like its default 'synthetic', not ['a']."),
        ({"parameters": {"rate": float("nan")}}, {}, "small.yml: rate must be of type float like its default 0.1, not nan."),
        ({"arms": {"a": {"lambda_": "big"}}}, {}, "small.yml: lambda_ must be of type float like its default 1.0, not 'big'."),
        ({}, {"steps": "many"}, "--set: steps must be of type int like its default 10, not 'many'."),
        ({"seeds": ["one"]}, {}, "small.yml: seed must be of type int like its default 0, not 'one'."),
        ({"seeds": 3}, {}, "small.yml: seeds must be a list of whole numbers, such as [0, 1, 2]."),
        ({"seeds": []}, {}, "small.yml: seeds must be a list of whole numbers, such as [0, 1, 2]."),
        ({}, {"lambda_": 3.0}, "--set: 'lambda_' is what the arm baseline of small.yml sets; change it there."),
        ({"parameters": {"arm": "a"}}, {}, f"small.yml: 'arm' {ITSELF}"),
        ({"parameters": {"seed": 1}}, {}, f"small.yml: 'seed' {ITSELF}"),
        ({"arms": {"a": {"seed": 1}}}, {}, f"small.yml, arm a: 'seed' {ITSELF}"),
        ({}, {"batch": "x"}, f"--set: 'batch' {ITSELF}"),
        ({}, {"runs": "x"}, f"--set: 'runs' {ITSELF}"),
        ({"arms": {"a/b": {}}}, {}, "small.yml: the arm 'a/b' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"..": {}}}, {}, "small.yml: the arm '..' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"a_seed1": {}}}, {}, "small.yml: the arm 'a_seed1' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"a": 3}}, {}, "small.yml: the arm a must be {name: value, ...}, not 3."),
        ({"arms": ["a", "b"]}, {}, "small.yml: arms must be lines `name: value`, not ['a', 'b']."),
        ({"parameters": ["a"]}, {}, "small.yml: parameters must be lines `name: value`, not ['a']."),
        ({"arms": None}, {}, "small.yml: 02_run.ipynb runs once for each arm, and there are none: add some under `arms`."),
        ({"notebook": 3}, {}, "small.yml: unknown key 'notebook' (did you mean 'notebooks'?); known are"),
        ({"notebooks": None}, {}, "small.yml needs a list `notebooks` of names such as 01_centroid."),
        ({"notebooks": []}, {}, "small.yml needs a list `notebooks` of names such as 01_centroid."),
        ({"notebooks": ["04_none"]}, {}, "There is no notebook 04_none.ipynb in notebooks/."),
        ({"notebooks": ["01_first"], "arms": None}, {"seed": 1}, f"--set: {UNKNOWN} 'seed'."),
    ],
)  # fmt: skip
def test_a_wrong_batch_is_refused_in_a_sentence(project, changes, settings, sentence):
    with pytest.raises(BatchError, match="^" + re.escape(sentence)) as caught:
        planned(project, settings, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("notebooks: [01_first\n", "small.yml is not YAML: "),
        ("- a\n- b\n", "small.yml needs a list"),
        ("", "small.yml needs a list"),
    ],
)
def test_a_file_that_is_no_batch_is_refused(project, content, sentence):
    with pytest.raises(BatchError, match=sentence):
        plan(write_batch(project, content), {})


def test_a_binary_file_is_no_batch(project):
    path = write_batch(project)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BatchError, match=r"small.yml is not YAML"):
        plan(path, {})


def test_a_missing_file_is_named(project):
    with pytest.raises(BatchError, match=r"The batch file .*none.yml cannot be read: No such file"):
        plan(project / "notebooks" / "none.yml", {})


@pytest.mark.parametrize(
    ("source", "tag", "sentence"),
    [
        ("steps = 3", "other", "has 0 cells tagged 'parameters'; it needs exactly one"),
        ("steps = [3]", "parameters", "line 1: only lines like name = scalar may stand there"),
        ("steps = 3\nprint(steps)", "parameters", "line 2: only lines like name = scalar"),
        ("steps = 3\nwidth = 2 * steps", "parameters", "line 2: only lines like name = scalar"),
        ("steps = = 3", "parameters", "cell 'parameters', line 1: invalid syntax"),
        ("arm = 'a'", "parameters", "has a parameter 'arm' and needs one 'seed' as well"),
    ],
)
def test_a_notebook_without_plain_parameters_is_refused(project, source, tag, sentence):
    write_notebook(project / "notebooks" / "01_first.ipynb", source, tag=tag)
    with pytest.raises(BatchError, match="^" + re.escape("01_first.ipynb") + ".*" + re.escape(sentence)):
        planned(project, parameters={}, notebooks=["01_first"], arms={"a": {}})


def test_two_cells_of_parameters_are_refused(project):
    path = project / "notebooks" / "01_first.ipynb"
    notebook = nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("steps = 4", metadata={"tags": ["parameters"]}))
    nbformat.write(notebook, path)
    with pytest.raises(BatchError, match="has 2 cells tagged 'parameters'"):
        declared_parameters(path)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", "no notebook"])
def test_a_damaged_notebook_is_named(project, content):
    (project / "notebooks" / "01_first.ipynb").write_text(content)
    with pytest.raises(BatchError, match=r"01_first.ipynb (is not a notebook, or damaged|has 0 cells)"):
        planned(project)


def test_negative_numbers_and_strings_are_parameters(project):
    write_notebook(project / "notebooks" / "01_first.ipynb", 'a = -1  # one\nb = -2e-4\nc = "x # y"  # text\nd = True')
    assert declared_parameters(project / "notebooks" / "01_first.ipynb") == {"a": -1, "b": -2e-4, "c": "x # y", "d": True}


def test_a_wrong_batch_ends_with_2_and_nothing_written(project, capsys):
    assert main([str(write_batch(project)), "--set", "stepps=3"]) == 2
    streams = capsys.readouterr()
    assert streams.err == "--set: no notebook of this batch has a parameter 'stepps' (did you mean 'steps'?).\n"
    assert streams.out == ""
    assert not (project / "results").exists()


def test_a_setting_without_a_value_is_refused(project, capsys):
    assert main([str(write_batch(project)), "--set", "steps"]) == 2
    assert capsys.readouterr().err == "--set takes name=value, not 'steps'.\n"


def test_a_dry_run_lists_everything_and_runs_nothing(project, capsys, monkeypatch):
    monkeypatch.setattr(command, "execute", None)
    assert main([str(write_batch(project)), "--dry-run", "--set", "steps=4", "seed=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["01_first", "baseline_seed2/02_run", "centroid_seed2/02_run", "03_last"]
    assert lines[1].split("  ")[1:] == [
        *("batch=small", "arm=baseline", "seed=2", "source=faces", "steps=4", "lambda_=0.0", "flip=False"),
    ]
    assert not (project / "results").exists()


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
    return [stage.label for stage in stages if is_done(stage)]


EVERYTHING = ["01_first", "baseline_seed0/02_run", "centroid_seed0/02_run", "03_last"]


def test_the_batch_was_executed_with_its_parameters(executed):
    root, code, _ = executed
    results = root / "results" / "small"
    assert code == 0
    assert (results / "01_first" / "first.txt").read_text() == "faces 0.1 JPY_SESSION_NAME=None"
    assert (results / "baseline_seed0" / "run.txt").read_text() == "baseline 0 0.0 10"
    assert (results / "centroid_seed0" / "run.txt").read_text() == "centroid 0 40.0 10"
    assert (results / "03_last" / "table.md").read_text() == "| the table of baseline_seed0 centroid_seed0 |"
    names = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    assert names == {
        *("01_first/01_first.ipynb", "01_first/first.txt", "01_first/run.json"),
        *(f"{arm}_seed0/{name}" for arm in ("baseline", "centroid") for name in ("02_run.ipynb", "run.txt", "run.json")),
        *("03_last/03_last.ipynb", "03_last/table.md", "03_last/run.json"),
    }


def test_the_batch_said_what_it_did(executed):
    out = executed[2]
    steps = re.findall(r"^\[(\d)/4\] (\S+): \d+ s$", out, re.M)
    assert steps == [(str(number), label) for number, label in enumerate(EVERYTHING, 1)]
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
    assert record["stages"]["01_first"]["notebook"] == sha256(executed[0] / "notebooks" / "01_first.ipynb")


def test_a_second_run_skips_what_is_done(done, capsys, monkeypatch):
    monkeypatch.setattr(command, "execute", None)
    assert main([str(done / "notebooks" / "small.yml")]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"(\S+): done before, skipped", out) == EVERYTHING
    assert "| the table of" in out


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


@pytest.mark.parametrize("change", ["other", None])
def test_a_changed_or_missing_file_runs_its_maker_and_its_users_again(done, change):
    path = done / "results" / "small" / "centroid_seed0" / "run.txt"
    path.unlink() if change is None else path.write_text(change)
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


def test_a_failing_cell_stops_the_batch_and_keeps_the_last_good_notebook(done, capsys):
    file, folder = write_batch(done, {"notebooks": ["01_first", "03_last"]}), done / "results" / "small" / "01_first"
    good = (folder / "01_first.ipynb").read_bytes()
    assert main([str(file), "--set", "broken=cell"]) == 1
    streams = capsys.readouterr()
    assert streams.err.splitlines()[:2] == [
        "01_first failed, and the batch has stopped.",
        "ValueError: The folder data is empty.",
    ]
    assert "results/small/01_first/01_first.failed.ipynb" in streams.err
    assert "[2/2]" not in streams.out
    assert (folder / "01_first.ipynb").read_bytes() == good
    failed = nbformat.read(folder / "01_first.failed.ipynb", 4)
    errors = [output for cell in failed.cells for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors[0].evalue == "The folder data is empty."
    assert any("raise ValueError" in re.sub("\x1b\\[[0-9;]*m", "", line) for line in errors[0].traceback)
    assert str(done) not in (folder / "01_first.failed.ipynb").read_text()
    assert {path.name for path in folder.iterdir()} == {"01_first.ipynb", "01_first.failed.ipynb", "first.txt", "run.json"}

    # Once it works, the failed one goes.
    assert main([str(write_batch(done, {"notebooks": ["01_first"]})), "--set", "rate=0.3"]) == 0
    assert not (folder / "01_first.failed.ipynb").exists()
    assert (folder / "first.txt").read_text().startswith("synthetic 0.3 ")


def test_a_dead_kernel_stops_the_batch_in_a_sentence(done, capsys):
    good = (done / "results" / "small" / "01_first" / "01_first.ipynb").read_bytes()
    assert main([str(done / "notebooks" / "small.yml"), "--set", "broken=kernel"]) == 1
    assert re.search(r"01_first failed, and the batch has stopped: its kernel died", capsys.readouterr().err)
    assert (done / "results" / "small" / "01_first" / "01_first.ipynb").read_bytes() == good


def test_a_notebook_that_notes_no_result_is_not_taken_for_done(project, capsys):
    file = write_batch(project, {"notebooks": ["01_first"], "parameters": {"broken": "silent"}})
    assert main([str(file)]) == 1
    assert "01_first ran to its end but left no record: its last cell must call run.finish" in capsys.readouterr().err


def test_a_notebook_edited_while_it_ran_runs_again(project, monkeypatch):
    file = write_batch(project, {"notebooks": ["01_first"]})

    def execute_and_edit(source, *rest, **options):
        run = {"parameters": {}, "inputs": {}, "outputs": {}}
        folder = project / "results" / "small" / "01_first"
        (folder / "run.json").write_text(json.dumps({"stages": {"01_first": run}}))
        Path(rest[0]).write_text(Path(source).read_text())
        write_notebook(Path(source), FIRST + "\nnew = 1")

    monkeypatch.setattr(execution, "execute_notebook", execute_and_edit)
    (stage,) = plan(file, {})
    before = sha256(stage.notebook)
    execution.execute(stage)
    assert read_record(stage.folder)["stages"]["01_first"]["notebook"] == before
    assert not is_done(stage)


def test_a_batch_runs_from_any_folder(done, monkeypatch, capsys):
    monkeypatch.chdir(done / "results")
    assert main([os.path.join("..", "notebooks", "small.yml")]) == 0
    assert capsys.readouterr().out.count("done before, skipped") == 4
