"""Tests of what the README tells those who carry on: its steps, followed word for word in a copy, and the hooks of a commit."""

import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import nbformat
import pytest
import yaml

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
STEPS = dict(re.findall(r"^<!-- the tests follow these lines: (\w+) -->\n```text\n(.*?)^```$", README, re.M | re.S))
STEPS["notebook"] = STEPS["notebook"].replace("NN", f"{len([*(ROOT / 'notebooks').glob('*.ipynb')]):02}")
PLACES = "at the end|in [A-Z]+|in place of its .+|below the last row .+?"
WHERE = re.compile(rf"(.*?)  # ([\w./]+), ({PLACES})( \(.*\))?")
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]}
MEMBER, EXTRACTOR, METRIC = (re.findall(r'^"(\w+)": ', STEPS[kind], re.M)[0] for kind in ("loss", "extractor", "metric"))
USED = f"""
import json
import torch
import centroidlib as cl
from centroidlib import inputs, tables
from centroidlib.evaluation import Observed, Space

features = torch.randn(8, 6, requires_grad=True)
constraint, optimiser = cl.constraint_of("{MEMBER}", torch.randn(60, 6), "none", 8), torch.optim.Adam([features], 0.1)
losses = []
for _ in range(2):
    loss = constraint(features)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
losses.append(constraint(features).item())

images = cl.draw_faces(12, size=32)[0]
phi = inputs.extractor_of("{EXTRACTOR}")
stats = cl.compute_centroid(images, phi)
x = cl.to_float(images).requires_grad_()
cl.centroid_loss(phi(x), stats).backward()

sets = [Observed(n, {{"fd_own": torch.randn(n, 3)}}) for n in (60, 40)]
spaces = [Space("fd_own", torch.nn.Identity(), False)]
floors = cl.measure_real(sets[0], spaces, None, 40)
entries = cl.measure(sets[1], sets[0], spaces, None, floors)
means = float((sets[0].features["fd_own"].double().mean(0) - sets[1].features["fd_own"].double().mean(0)).norm())
found = {{"losses": losses, "d": len(stats.centroid), "d_ref": stats.reference_distance, "moved": float(x.grad.abs().sum())}}
found |= {{"entry": entries.get("{METRIC}_own"), "means": means, "groups": tables.by_space(entries)}}
print(json.dumps(found))
"""


class Clone:
    """A copy of the project in a repository of its own, whose .venv is this Python."""

    def __init__(self, root):
        self.root = root
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        try:
            listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this is no git checkout")
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, root / name)
        (root / ".venv").symlink_to(sys.prefix, target_is_directory=True)
        caches = {"CENTROIDLIB_CACHE": "cache", "PRE_COMMIT_HOME": "pre-commit", "TORCH_HOME": "no weights"}
        self.environment = os.environ | {name: str(root.with_name(folder)) for name, folder in caches.items()}
        self.environment |= {"PYTHONPATH": str(root)}
        self.run("git init -q")
        (root / ".git" / "info" / "exclude").write_text(".venv\n")
        who = "-c user.name=nobody -c user.email=nobody@localhost -c commit.gpgsign=false"
        self.run(f"git add -A && git {who} commit -q --no-verify -m all")

    def run(self, command, status=0):
        done = subprocess.run(command, shell=True, cwd=self.root, env=self.environment, capture_output=True, text=True)
        assert done.returncode == status, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def follow(self, kind):
        """Do what the README's lines say: one with a place goes there, with the indented ones below it; others are commands."""
        for step in re.findall(r"^\S.*\n(?:[ ].*\n)*", STEPS[kind], re.M):
            first, rest = step.split("\n", 1)
            if not (told := WHERE.fullmatch(first)):
                self.run(first)
                continue
            line, path, where, _ = told.groups()
            before = (self.root / path).read_text(encoding="utf-8")
            after = put(before, f"{line}\n{rest}", where)
            assert after != before, f"{path} has no place for: {first}"
            (self.root / path).write_text(after, encoding="utf-8")


def put(text, added, where):
    """A file's text with what is added to it in its place."""
    kind, *_, name = where.split(" ")
    if where == "at the end":
        return f"{text}\n\n{added}"
    if kind == "below":
        return re.sub(r"(^\| \[`\d\d_\w+`\].*\n)(?!\|)", lambda row: row[0] + added, text, count=1, flags=re.M)
    if where.startswith("in place of its "):
        notebook = nbformat.reads(text, as_version=4)
        for cell in notebook.cells:
            old = re.escape(where.removeprefix("in place of its "))
            cell.source = re.sub(rf"^{old}.*$", lambda _: added.strip(), cell.source, flags=re.M)
        return nbformat.writes(notebook) + "\n"
    return re.sub(rf"^{name}\b.* = \{{\n(?:.+\n)*?(?=\}})", lambda begun: f"{begun[0]}    {added}", text, count=1, flags=re.M)


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    return Clone(tmp_path_factory.mktemp("contributing") / "clone")


def test_each_way_to_add_something_is_told_in_at_most_five_lines():
    assert list(STEPS) == ["loss", "extractor", "metric", "notebook"]
    for text in STEPS.values():
        assert len(text.splitlines()) <= 5
        assert max(map(len, text.splitlines())) <= 130


# The hooks of a commit, before anything is added.


def test_hooks_are_the_tools_that_pyproject_pins():
    (extra,) = re.findall(r"^test = \[\n(.*?)^\]$", (ROOT / "pyproject.toml").read_text(), re.M | re.S)
    wanted = dict(re.findall(r'^    "([\w-]+)((?:[=<>].*)?)",$', extra, re.M))
    assert {"pre-commit", "nbstripout", "ruff", "mypy"} <= set(wanted)
    for name in ("ruff", "mypy"):
        assert wanted[name] == f"=={metadata.version(name)}"
    assert {hook["entry"].split()[2] for hook in HOOKS.values()} == {"nbstripout", "ruff", "mypy"}
    for hook in HOOKS.values():
        assert hook["entry"].startswith(".venv/bin/python -m ")
        assert hook["language"] == "system"
        assert not {"additional_dependencies", "language_version"} & set(hook)


@pytest.fixture
def hooks(clone):
    pytest.importorskip("pre_commit", reason="pre-commit is not installed (make test installs it)")
    pytest.importorskip("nbstripout", reason="nbstripout is not installed (make test installs it)")
    yield lambda status: clone.run(".venv/bin/python -m pre_commit run --all-files", status)
    clone.run("git checkout -q . && git clean -qfd")


def test_hooks_leave_what_is_committed_as_it_is(clone, hooks):
    assert hooks(0).count("Passed") == len(HOOKS)
    assert clone.run("git status --porcelain") == ""


def test_hooks_strip_notebooks_and_put_code_into_form_and_find_wrong_types(clone, hooks):
    source = clone.root / "notebooks" / "examples" / "evaluate_a_folder.ipynb"
    committed = source.read_bytes()
    notebook = nbformat.read(source, as_version=4)
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.update(execution_count=number, outputs=[nbformat.v4.new_output("stream", text="/home/me\n")])
    notebook.metadata["language_info"] |= {"version": "3.11.7", "file_extension": ".py"}
    notebook.metadata["papermill"] = {"duration": 1.0}
    nbformat.write(notebook, source)
    module = clone.root / "centroidlib" / "losses.py"
    module.write_text(module.read_text().replace("import torch\n", "import torch\nimport math\n") + "\n\nWRONG:int = math.pi\n")
    said = hooks(1)
    assert said.count("Failed") == 4
    assert "losses.py" in said.split("types (mypy)")[1]
    assert source.read_bytes() == committed
    assert module.read_text().index("import math") < module.read_text().index("import torch")
    assert module.read_text().endswith("\nWRONG: int = math.pi\n")


# The steps.


@pytest.fixture(scope="module")
def used(clone):
    """What came of a loss, an extractor and a metric that were added as the README says and put into form by the hooks."""
    for kind in ("loss", "extractor", "metric"):
        clone.follow(kind)
    for name in ("ruff-check", "ruff-format"):
        clone.run(HOOKS[name]["entry"] + " centroidlib")
    return json.loads(clone.run(f"{sys.executable} -W error - <<'END'{USED}END").splitlines()[-1])


def test_a_loss_is_added_as_the_readme_says(used):
    assert used["losses"][0] > used["losses"][1] > used["losses"][2] > 0


def test_an_extractor_is_added_as_the_readme_says(used):
    assert used["d"] == 48
    assert used["d_ref"] > 0
    assert used["moved"] > 0


def test_a_metric_is_added_as_the_readme_says(used):
    entry = used["entry"]
    assert entry["value"] == pytest.approx(used["means"], rel=1e-6)
    assert entry["low"] < entry["value"] < entry["high"]
    assert entry["interval"] == "jackknife 95 %"
    assert entry["better"] == "lower"
    assert 0 < entry["floor"] != entry["value"]
    assert (entry["floor_n"], entry["n_real"], entry["n_fake"]) == (30, 60, 40)
    assert list(used["groups"]) == ["fd_own"]  # beside the other metrics of its space
    assert f"{METRIC}_own" in used["groups"]["fd_own"]


def test_a_notebook_is_added_as_the_readme_says_and_all_checks_pass(clone, used):
    """The last command is that of the project's checks: they see what the steps before have added, too."""
    (name,) = re.findall(r"^cp \S+ notebooks/(\w+)\.ipynb$", STEPS["notebook"], re.M)
    clone.follow("notebook")
    *_, last = nbformat.read(clone.root / "out.ipynb", as_version=4).cells
    assert "**Answer.**" in last.outputs[-1].data["text/markdown"]
    assert (clone.root / "results" / "manual" / name / "run.json").is_file()
    assert clone.run("git status --porcelain --untracked-files=all").splitlines()[-1] == f"?? notebooks/{name}.ipynb"
