"""Tests of reading a batch file and of the stages it makes: what runs, where, with which parameters, and what is refused."""

import re

import nbformat
import pytest
from small_projects import BATCH, BODIES, FIRST, make_project, write_batch, write_notebook

from centroidlib.batch import BatchError, declared_parameters, plan
from centroidlib.batch.__main__ import main


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
    assert stages[-1].parameters["runs"] == "baseline_seed1 centroid_seed1 baseline_seed3 centroid_seed3"


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
    with pytest.raises(BatchError, match=r"small.yml, line 6: steps must be of type int like its default 10, not 5\.0"):
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


# Lists are grids, and what arms share is made once for all that agree on its parameters.


def test_a_list_in_an_arm_makes_an_arm_of_each_of_its_values(project):
    stages = planned(
        project, notebooks=["02_run"], arms={"baseline": {"lambda_": 0}, "centroid": {"lambda_": [1, 2.5], "steps": [3, 4]}}
    )
    assert [stage.folder.name for stage in stages] == [
        "baseline_seed0",
        *(f"centroid-lambda{lambda_}-steps{steps}_seed0" for lambda_ in ("1", "2.5") for steps in (3, 4)),
    ]
    assert [(stage.parameters["lambda_"], stage.parameters.get("steps")) for stage in stages[1:]] == [
        *((1.0, 3), (1.0, 4), (2.5, 3), (2.5, 4)),
    ]
    assert [stage.parameters["arm"] for stage in stages][1] == "centroid-lambda1-steps3"


def test_a_list_among_the_common_parameters_does_so_for_every_arm_that_does_not_set_it(project):
    arms = {"baseline": {"lambda_": 0}, "centroid": {"steps": 7}}
    stages = planned(project, notebooks=["02_run"], parameters={"steps": [3, 4]}, arms=arms)
    assert [(stage.folder.name, stage.parameters["steps"]) for stage in stages] == [
        *(("baseline-steps3_seed0", 3), ("baseline-steps4_seed0", 4), ("centroid_seed0", 7)),
    ]
    set_ = planned(project, {"steps": 5}, notebooks=["02_run"], parameters={"steps": [3, 4]}, arms={"baseline": {}})
    assert [(stage.folder.name, stage.parameters["steps"]) for stage in set_] == [("baseline_seed0", 5)]


def test_values_are_made_fit_for_a_folders_name(project):
    arms = {"a": {"source": ["celeba:train", "synthetic"], "lambda_": [1e-5]}}
    names = [stage.folder.name for stage in planned(project, notebooks=["02_run"], parameters={}, arms=arms)]
    assert names == ["a-sourceceleba-train-lambda1e-05_seed0", "a-sourcesynthetic-lambda1e-05_seed0"]


@pytest.fixture
def spaces(project):
    """A project whose shared notebook may run once for each of its parameters, and says so with one of its own."""
    own = '\nfirst = "01_first"  # folder of 01_first\n'
    for name in ("01_first", "02_run"):
        parameters, *cells = BODIES[name]
        write_notebook(project / "notebooks" / f"{name}.ipynb", parameters + own, *cells)
    return project


def test_what_arms_share_runs_once_for_all_that_agree_on_its_parameters(spaces):
    arms = {"baseline": {"lambda_": 0}, "other": {"source": ["faces", "digits", "cats"]}}
    stages = {stage.label: stage for stage in planned(spaces, arms=arms, seeds=[0, 1])}
    shared = [label for label, stage in stages.items() if stage.name == "01_first"]
    assert shared == ["01_first", "01_first-sourcedigits/01_first", "01_first-sourcecats/01_first"]
    assert [stages[label].parameters["source"] for label in shared] == ["faces", "digits", "cats"]
    order = list(stages)  # what is shared comes when it is needed, so that a sweep that is stopped early leaves whole runs
    assert all(order.index(f"{arm}_seed0/02_run") == order.index(label) + 1 for arm, label in
               zip(("baseline", "other-sourcedigits", "other-sourcecats"), shared, strict=True))  # fmt: skip
    for seed in (0, 1):
        for arm, folder in (("baseline", ""), ("other-sourcefaces", ""), ("other-sourcecats", "-sourcecats")):
            run = stages[f"{arm}_seed{seed}/02_run"]
            assert run.parameters["first"] == f"01_first{folder}"
            assert run.after == (f"01_first{folder}/01_first" if folder else "01_first",)
    assert set(stages["03_last"].after) == {label for label, stage in stages.items() if stage.name == "02_run"}


def test_an_arm_may_differ_in_what_only_the_shared_notebook_has(spaces):
    stages = {stage.label: stage for stage in planned(spaces, arms={"plain": {}, "other": {"rate": 0.5}})}
    assert stages["01_first-rate0.5/01_first"].parameters["rate"] == 0.5
    run = stages["other_seed0/02_run"]
    assert (run.parameters["first"], run.after) == ("01_first-rate0.5", ("01_first-rate0.5/01_first",))
    assert "rate" not in run.parameters
    assert stages["plain_seed0/02_run"].parameters["first"] == "01_first"


def test_an_average_is_evaluated_at_each_point_of_a_grid(project):
    write_notebook(project / "notebooks" / "02_train.ipynb", BODIES["02_run"][0] + "\nema = 0.0  # decay")
    write_notebook(
        project / "notebooks" / "03_evaluate.ipynb", BODIES["02_run"][0].replace("steps", "points") + '\ngenerator_of = ""'
    )
    arms = {"smooth": {"generator_of": "plain"}, "plain": {"ema": 0.9}}
    stages = planned(project, notebooks=["02_train", "03_evaluate"], parameters={"steps": [3, 4]}, arms=arms)
    averaged = [stage for stage in stages if stage.parameters.get("generator_of")]
    assert [(stage.folder.name, stage.parameters["generator_of"]) for stage in averaged] == [
        *(("smooth-steps3_seed0", "plain-steps3"), ("smooth-steps4_seed0", "plain-steps4")),
    ]
    assert [stage.after for stage in averaged] == [("plain-steps3_seed0/02_train",), ("plain-steps4_seed0/02_train",)]


@pytest.mark.parametrize(
    ("done", "failed", "compared"),
    [
        ({3}, "", [0, 3]),
        ({3, 4, 5}, "", [0, 3, 4]),
        ({0}, "", [0]),
        ({3}, "centroid_seed3", [0, 3]),  # a failed run is compared as such
        ({0}, "centroid_seed3", [0]),  # but not where the other arm has never run
    ],
)
def test_seeds_that_are_done_are_compared_with_the_others(project, done, failed, compared):
    for name in ("baseline_seed3", "centroid_seed3", "baseline_seed4", "another_seed5"):
        folder = project / "results" / "small" / name
        folder.mkdir(parents=True)
        (folder / "run.json").write_text("{}")

    def word_of(stage):
        return "failed" if stage.folder.name == failed else "done" if stage.parameters["seed"] in done else "missing"

    stages = plan(write_batch(project), {}, word_of)
    assert stages[-1].parameters["runs"] == " ".join(f"{arm}_seed{seed}" for seed in compared for arm in ("baseline", "centroid"))
    assert {stage.parameters.get("seed", 0) for stage in stages} == {0}


def test_a_stage_waits_for_what_it_may_read(project):
    stages = {stage.label: stage.after for stage in planned(project, notebooks=["01_first", "02_run", "03_last"])}
    assert stages == {
        "01_first": (),
        "baseline_seed0/02_run": ("01_first",),
        "centroid_seed0/02_run": ("01_first",),
        "03_last": ("baseline_seed0/02_run", "centroid_seed0/02_run"),
    }


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("notebooks: [02_run]\nparameters:\n  # steps\n  stepps: 3\n", r"line 4: no notebook .* \(did you mean 'steps'\?\)"),
        ("notebooks: [02_run]\narms:\n  a: {steps: 3,\n    lambda: 2}\n", "line 4, arm a: no notebook"),
        ("notebooks: [02_run]\narms:\n  a: {steps: [3, x]}\n", "line 3: steps must be of type int like its default 10, not 'x'"),
        ("notebooks: [02_run]\nparameters: {steps: [3, x]}\narms: {a: {}}", "line 2: steps must be of type int"),
        ("notebooks: [02_run]\narms:\n  a: {steps: 3}\n  a: {steps: 4}\n", "line 4: 'a' stands in line 3 already"),
        ("notebooks: [02_run]\nparameters:\n  steps: 3\n  steps: 4\n", "line 4: 'steps' stands in line 3 already"),
        ("notebooks: [02_run]\n\nseeds: [0, one]\narms: {a: {}}", "line 3: seed must be of type int"),
        ("notebooks: [02_run]\narms:\n  b: {}\n  a b: {}\n", "line 4: the arm 'a b' names a folder"),
        ("1: 2\nnotebooks: [02_run]\n", "small.yml: unknown key 1"),
    ],
)
def test_errors_name_the_line(project, content, sentence):
    with pytest.raises(BatchError, match=r"^small.yml(, )?" + sentence.removeprefix("small.yml")):
        plan(write_batch(project, content), {})


def test_a_notebook_that_is_edited_later_is_planned_as_it_was(project):
    (stage,) = planned(project, notebooks=["01_first"], arms=None)
    write_notebook(project / "notebooks" / "01_first.ipynb", FIRST, "something_else()")
    assert "something_else" not in stage.notebook.text
    assert planned(project, notebooks=["01_first"], arms=None)[0].notebook.digest != stage.notebook.digest


# What is wrong is said in one sentence before anything runs.


AT = "small.yml, line #: "
UNKNOWN = "no notebook of this batch has a parameter"
ITSELF = "is set by the batch itself, from the file's name, arms and seeds."


@pytest.mark.parametrize(
    ("changes", "settings", "sentence"),
    [
        ({"parameters": {"stepps": 3}}, {}, f"small.yml, line #: {UNKNOWN} 'stepps' (did you mean 'steps'?)."),
        ({"parameters": {"zzz": 3}}, {}, f"small.yml, line #: {UNKNOWN} 'zzz'."),
        (
            {"arms": {"a": {"lambda": 3}}},
            {},
            f"small.yml, line #, arm a: {UNKNOWN} 'lambda' (did you mean 'lambda_'?).",
        ),
        ({}, {"sorce": "x"}, f"--set: {UNKNOWN} 'sorce' (did you mean 'source'?)."),
        ({"arms": {"a": {"rate": 0.5}}}, {}, f"{AT}rate is a parameter of 01_first.ipynb, which arms share. To run it once for"),
        ({"parameters": {"steps": "many"}}, {}, "small.yml, line #: steps must be of type int like its default 10, not 'many'."),
        ({"parameters": {"steps": True}}, {}, "small.yml, line #: steps must be of type int like its default 10, not True."),
        ({"parameters": {"rate": True}}, {}, "small.yml, line #: rate must be of type float like its default 0.1, not True."),
        ({"parameters": {"flip": 1}}, {}, "small.yml, line #: flip must be of type bool like its default False, not 1."),
        ({"parameters": {"source": 3}}, {}, "small.yml, line #: source must be of type str like its default 'synthetic', not 3."),
        ({"parameters": {"source": {"a": 1}}}, {}, f"{AT}source must be of type str like its default 'synthetic', not"),
        ({"parameters": {"source": [["a"]]}}, {}, f"{AT}source must be of type str like its default 'synthetic', not"),
        ({"parameters": {"source": []}}, {}, f"{AT}source is an empty list; a list makes an arm of each of its values."),
        ({"arms": {"a": {"steps": []}}}, {}, f"{AT}steps is an empty list; a list makes an arm of each of its values."),
        ({"parameters": {"source": ["a", "a"]}}, {}, f"{AT}a second arm is called baseline-sourcea, and the two would"),
        ({"arms": {"a": {}, "A": {}}}, {}, "small.yml, line #: a second arm is called A, and the two would share a folder."),
        ({"seeds": [0, 1, 0]}, {}, "small.yml, line #: 0 stands in seeds twice, and the two would share a folder."),
        ({"notebooks": ["01_first", "01_first"]}, {}, "small.yml, line #: '01_first' stands in notebooks twice"),
        ({"notebooks": ["01_first"], "arms": None, "parameters": {"rate": [1, 2]}}, {}, f"{AT}a list makes an arm of each"),
        ({"arms": {"a": {"source": "other"}}}, {}, f"{AT}source is a parameter of 01_first.ipynb, which arms share."),
        ({"parameters": {"rate": float("nan")}}, {}, f"{AT}rate must be of type float like its default 0.1, not nan."),
        ({"arms": {"a": {"lambda_": "big"}}}, {}, f"{AT}lambda_ must be of type float like its default 1.0, not 'big'."),
        ({}, {"steps": "many"}, "--set: steps must be of type int like its default 10, not 'many'."),
        ({"seeds": ["one"]}, {}, "small.yml, line #: seed must be of type int like its default 0, not 'one'."),
        ({"seeds": 3}, {}, "small.yml, line #: seeds must be a list of whole numbers, such as [0, 1, 2]."),
        ({"seeds": []}, {}, "small.yml, line #: seeds must be a list of whole numbers, such as [0, 1, 2]."),
        ({}, {"lambda_": 3.0}, "--set: 'lambda_' is what the arm baseline of small.yml sets; change it there."),
        ({"parameters": {"arm": "a"}}, {}, f"small.yml, line #: 'arm' {ITSELF}"),
        ({"parameters": {"seed": 1}}, {}, f"small.yml, line #: 'seed' {ITSELF}"),
        ({"arms": {"a": {"seed": 1}}}, {}, f"small.yml, line #, arm a: 'seed' {ITSELF}"),
        ({}, {"batch": "x"}, f"--set: 'batch' {ITSELF}"),
        ({}, {"runs": "x"}, f"--set: 'runs' {ITSELF}"),
        ({"arms": {"a/b": {}}}, {}, "small.yml, line #: the arm 'a/b' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"..": {}}}, {}, "small.yml, line #: the arm '..' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"a_seed1": {}}}, {}, f"{AT}the arm 'a_seed1' names a folder; use letters, digits, dots and hyphens."),
        ({"arms": {"a": 3}}, {}, "small.yml, line #: the arm a must be {name: value, ...}, not 3."),
        ({"arms": ["a", "b"]}, {}, "small.yml, line #: arms must be lines `name: value`, not ['a', 'b']."),
        ({"parameters": ["a"]}, {}, "small.yml, line #: parameters must be lines `name: value`, not ['a']."),
        ({"arms": None}, {}, "small.yml: 02_run.ipynb runs once for each arm, and there are none: add some under `arms`."),
        ({"notebook": 3}, {}, "small.yml, line #: unknown key 'notebook' (did you mean 'notebooks'?); known are"),
        ({"notebooks": None}, {}, "small.yml needs a list `notebooks` of names such as 01_centroid."),
        ({"notebooks": []}, {}, "small.yml needs a list `notebooks` of names such as 01_centroid."),
        ({"notebooks": ["04_none"]}, {}, f"{AT}there is no notebook 04_none.ipynb in notebooks/."),
        ({"notebooks": ["01_frist"]}, {}, f"{AT}there is no notebook 01_frist.ipynb in notebooks/ (did you mean '01_first'?)."),
        ({"notebooks": ["../notebooks/01_first"]}, {}, f"{AT}there is no notebook ../notebooks/01_first.ipynb in notebooks/"),
        ({"arms": {True: {}}}, {}, f"{AT}True under arms is no name to YAML: put it in quotes."),
        ({"parameters": {1: 3}}, {}, f"{AT}1 under parameters is no name to YAML: put it in quotes."),
        ({"arms": {"a": {None: 3}}}, {}, "small.yml, line #: None under a is no name to YAML: put it in quotes."),
        ({"arms": {"a" * 201: {}}}, {}, f"{AT}the arm {'a' * 40}… names a folder, and is too long for one."),
        ({"parameters": {"rate": 10**400}}, {}, f"{AT}rate must be of type float like its default 0.1, not"),
        ({"notebooks": ["01_first"], "arms": None, "seeds": [0, "one"]}, {}, f"{AT}seed must be of type int"),
        ({"notebooks": ["01_first"], "arms": None, "seeds": [[1]]}, {}, f"{AT}seed must be of type int"),
        ({"arms": {"a": {"generator_of": 3}}}, {}, f"{AT[:-2]}, arm a: no notebook of this batch has a parameter 'generator_of'"),
        ({"notebooks": ["01_first"], "arms": None}, {"seed": 1}, f"--set: {UNKNOWN} 'seed'."),
    ],
)  # fmt: skip
def test_a_wrong_batch_is_refused_in_a_sentence(project, changes, settings, sentence):
    with pytest.raises(BatchError, match="^" + re.escape(sentence).replace(r"line\ \#", r"line \d+")) as caught:
        planned(project, settings, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("notebooks: [01_first\n", "small.yml is not YAML: "),
        ("- a\n- b\n", "small.yml needs a list"),
        ("", "small.yml needs a list"),
        ("? [a]\n: 3\nnotebooks: [01_first]\n", "small.yml is not YAML: "),
        ("notebooks: [01_first]\nparameters: &x {rate: *x}\n", "small.yml"),
        ("notebooks: [01_first]\nparameters: {rate: 2024-13-45}\n", "small.yml is not YAML: month must be"),
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
        ("x = {[]: 1}", "parameters", "line 1: only lines like name = scalar"),
        ("a = b = 1", "parameters", "line 1: only lines like name = scalar"),
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


def test_a_dry_run_lists_everything_and_runs_nothing(project, capsys):
    assert main([str(write_batch(project)), "--dry-run", "--set", "steps=4", "seed=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["01_first", "baseline_seed2/02_run", "centroid_seed2/02_run", "03_last"]
    assert lines[1].split("  ")[1:] == [
        *("batch=small", "arm=baseline", "seed=2", "source=faces", "steps=4", "lambda_=0.0", "flip=False"),
    ]
    assert not (project / "results").exists()
