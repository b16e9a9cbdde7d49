"""Batches of notebooks over papermill: read a batch file, check it, execute what is not done.

python -m centroidlib.batch FILE.yml [--set name=value ...] [--dry-run]
"""

import argparse
import ast
import difflib
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from jupyter_client.kernelspec import NoSuchKernel
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from centroidlib._files import replacing, sha256
from centroidlib.runs import folder_name, project_root, read_record, write_record

Scalar = bool | int | float | str
KEYS = ("notebooks", "parameters", "arms", "seeds")


class BatchError(ValueError):
    """A batch that cannot run as it is written; its text is a sentence for whoever wrote it."""


@dataclass(frozen=True)
class Stage:
    """One notebook to execute: which, in which folder, with which parameters beside its defaults."""

    notebook: Path
    folder: Path
    parameters: dict[str, Scalar]

    @property
    def name(self) -> str:
        """The notebook's name without its ending."""
        return self.notebook.stem

    @property
    def label(self) -> str:
        """Folder and name, as messages show it."""
        return self.name if self.folder.name == self.name else f"{self.folder.name}/{self.name}"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that also reads 2e-4 as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def declared_parameters(notebook: Path) -> dict[str, Scalar]:
    """Names and defaults from the notebook's cell tagged `parameters`.

    Raises:
        BatchError: there is no such notebook or cell, or the cell holds more than scalars.
    """
    if not notebook.is_file():
        raise BatchError(f"There is no notebook {notebook.name} in {notebook.parent.name}/.")
    try:
        cells = nbformat.read(notebook, as_version=4).cells
    except Exception as error:  # nbformat raises many kinds on a damaged file
        raise BatchError(f"{notebook.name} is not a notebook, or damaged: {str(error).strip().splitlines()[0]}") from error
    tagged = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise BatchError(f"{notebook.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one.")
    try:
        lines = ast.parse(tagged[0]).body
    except SyntaxError as error:
        raise BatchError(f"{notebook.name}, cell 'parameters', line {error.lineno}: {error.msg}.") from error
    found: dict[str, Scalar] = {}
    for line in lines:
        try:
            if not isinstance(line, ast.Assign) or not isinstance(line.targets[0], ast.Name):
                raise ValueError
            value = ast.literal_eval(line.value)
            if not isinstance(value, Scalar):
                raise ValueError
        except ValueError:
            raise BatchError(
                f"{notebook.name}, cell 'parameters', line {line.lineno}: only lines like name = scalar may stand there."
            ) from None
        found[line.targets[0].id] = value
    return found


def plan(file: Path, settings: Mapping[str, Scalar]) -> list[Stage]:
    """The stages of a batch file in the order they run, checked before anything runs.

    A notebook that declares `arm` runs once for each arm and seed, every other once for all: before the arms if
    listed before such a notebook, after them if listed after.

    Args:
        file: the YAML batch file.
        settings: from --set; they win over the file, and `seed` replaces its seeds.

    Raises:
        BatchError: what is wrong in the file or the settings, and where.
    """
    batch = _read(file)
    root = project_root(file.parent)
    notebooks = [root / "notebooks" / f"{name}.ipynb" for name in batch["notebooks"]]
    declared = {notebook: declared_parameters(notebook) for notebook in notebooks}
    per_arm = {notebook: own for notebook, own in declared.items() if "arm" in own}
    settings = dict(settings)
    if "seed" in settings and not per_arm:
        raise BatchError("--set: no notebook of this batch has a parameter 'seed'.")
    seeds = [settings.pop("seed")] if "seed" in settings else batch["seeds"]
    common = batch["parameters"] | settings
    arms: dict[str, dict[str, Scalar]] = batch["arms"]
    wheres = {name: "--set" if name in settings else file.name for name in common}
    for name, where in wheres.items():
        _check_known(name, where, declared)
    for arm, own in arms.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", arm):
            raise BatchError(f"{file.name}: the arm {arm!r} names a folder; use letters, digits, dots and hyphens.")
        for name in own:
            _check_known(name, f"{file.name}, arm {arm}", per_arm)
            if name in settings:
                raise BatchError(f"--set: {name!r} is what the arm {arm} of {file.name} sets; change it there.")

    for notebook, own in per_arm.items():
        if not arms:
            raise BatchError(f"{file.name}: {notebook.name} runs once for each arm, and there are none: add some under `arms`.")
        if "seed" not in own:
            raise BatchError(f"{notebook.name} has a parameter 'arm' and needs one 'seed' as well.")

    def stage(notebook: Path, arm: str | None = None, seed: Scalar = 0) -> Stage:
        own: dict[str, Scalar] = {"batch": file.stem}
        if "runs" in declared[notebook]:
            own["runs"] = " ".join(f"{arm}_seed{seed}" for seed in seeds for arm in arms)
        wanted = common | (arms[arm] | {"arm": arm, "seed": seed} if arm is not None else {})
        for name, value in wanted.items():
            if name in declared[notebook]:
                own[name] = _typed(name, value, declared[notebook][name], wheres.get(name, file.name))
        return Stage(notebook, root / "results" / file.stem / folder_name(notebook.stem, own), own)

    first = notebooks.index(next(iter(per_arm))) if per_arm else len(notebooks)
    before = [stage(notebook) for notebook in notebooks[:first]]
    runs = [stage(notebook, arm, seed) for seed in seeds for arm in arms for notebook in per_arm]
    after = [stage(notebook) for notebook in notebooks[first:] if notebook not in per_arm]
    return before + runs + after


def execute(stage: Stage) -> None:
    """Run one stage through papermill; the executed notebook lies in the stage's folder.

    Raises:
        BatchError: a cell failed (its notebook is kept beside the last good one, as `<name>.failed.ipynb`), the
            kernel died, or the notebook noted no result.
    """
    target, root, source = stage.folder / stage.notebook.name, project_root(stage.notebook.parent), sha256(stage.notebook)
    failed = target.with_suffix(".failed.ipynb")
    try:
        with replacing(target) as temporary:
            try:
                # A kernel in a batch must not take itself for one that a person watches.
                os.environ.pop("JPY_SESSION_NAME", None)
                execute_notebook(
                    str(stage.notebook).replace("{", "{{").replace("}", "}}"),
                    str(temporary).replace("{", "{{").replace("}", "}}"),
                    stage.parameters,
                    kernel_name="python3",
                    cwd=str(root),
                    progress_bar=False,
                    log_output=False,
                    # A busy kernel logs as an error that its own shutdown interrupts it.
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                )
            except PapermillExecutionError:
                _clean(temporary, root)
                os.replace(temporary, failed)
                raise
            _clean(temporary, root)
    except PapermillExecutionError as error:
        sentence = _without_machine_paths(f"{error.ename}: {error.evalue}", root)
        raise BatchError(
            f"{stage.label} failed, and the batch has stopped.\n{sentence}\nThe traceback stands in "
            f"{failed.relative_to(root)}; finished stages are kept and are not run again."
        ) from error
    except (RuntimeError, NoSuchKernel) as error:
        raise BatchError(
            f"{stage.label} failed, and the batch has stopped: its kernel died or did not start ({error}). Was there too little "
            "memory? Finished stages are kept and are not run again."
        ) from error
    failed.unlink(missing_ok=True)
    record = read_record(stage.folder)
    if stage.name not in record.get("stages", {}):
        raise BatchError(f"{stage.label} ran to its end but left no record: its last cell must call run.finish(...).")
    record["stages"][stage.name]["notebook"] = source
    write_record(stage.folder, record)


def is_done(stage: Stage) -> bool:
    """Whether the record says that this notebook ran to its end, with these parameters and today's inputs and outputs."""
    record = read_record(stage.folder).get("stages", {}).get(stage.name, {})
    wanted = declared_parameters(stage.notebook) | stage.parameters
    return (
        bool(record)
        and record.get("notebook") == sha256(stage.notebook)
        and record["parameters"] == wanted
        and (stage.folder / stage.notebook.name).is_file()
        and all(_same(stage.folder / name, digest) for name, digest in record["outputs"].items())
        and all(_same(stage.folder.parent / name, digest) for name, digest in record["inputs"].items())
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line: 0 when every stage is done, 1 when one failed, 2 when the batch is wrong."""
    parser = argparse.ArgumentParser(prog="python -m centroidlib.batch", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, metavar="FILE.yml", help="the batch file")
    parser.add_argument("--set", nargs="+", default=[], action="extend", metavar="name=value", dest="settings",
                        help="parameters that win over the file's; seed=N replaces its seeds")  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="list the notebooks and parameters, run nothing")
    chosen = parser.parse_args(arguments)
    try:
        stages = plan(chosen.file, _settings(chosen.settings))
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    if chosen.dry_run:
        for stage in stages:
            parameters = declared_parameters(stage.notebook) | stage.parameters
            print(stage.label, *(f"{name}={value}" for name, value in parameters.items()), sep="  ")
        return 0
    root, results = project_root(chosen.file.parent), stages[0].folder.parent
    for number, stage in enumerate(stages, 1):
        head = f"[{number}/{len(stages)}] {stage.label}"
        began = time.perf_counter()
        try:
            if is_done(stage):
                print(f"{head}: done before, skipped", flush=True)
                continue
            print(f"{head} …", flush=True)
            execute(stage)
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{head}: {time.perf_counter() - began:.0f} s", flush=True)
    _show(results, root)
    return 0


def _show(results: Path, root: Path) -> None:
    """The comparison, where there is one, and where the notebooks and figures lie."""
    for table in sorted(results.glob("*/table.md")):
        print("\n" + table.read_text(encoding="utf-8").strip())
    print(f"\nExecuted notebooks and figures, in {results.relative_to(root)}/:")
    for folder in sorted(p for p in results.iterdir() if p.is_dir()):
        names = sorted(p.name for p in folder.iterdir() if p.suffix in (".ipynb", ".png"))
        print(f"  {folder.name}/  {'  '.join(names)}")


def _read(file: Path) -> dict[str, Any]:
    try:
        batch = yaml.load(file.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise BatchError(f"The batch file {file} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BatchError(f"{file.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(batch, dict) or not isinstance(batch.get("notebooks"), list) or not batch["notebooks"]:
        raise BatchError(f"{file.name} needs a list `notebooks` of names such as 01_centroid.")
    for key in batch:
        if key not in KEYS:
            raise BatchError(f"{file.name}: unknown key {key!r}{_nearest(str(key), KEYS)}; known are {', '.join(KEYS)}.")
    batch = {"parameters": {}, "arms": {}, "seeds": [0]} | {k: v for k, v in batch.items() if v is not None}
    if not isinstance(batch["seeds"], list) or not batch["seeds"]:
        raise BatchError(f"{file.name}: seeds must be a list of whole numbers, such as [0, 1, 2].")
    for key in ("parameters", "arms"):
        if not isinstance(batch[key], dict):
            raise BatchError(f"{file.name}: {key} must be lines `name: value`, not {batch[key]!r}.")
    batch["arms"] = {str(arm): own or {} for arm, own in batch["arms"].items()}
    for arm, own in batch["arms"].items():
        if not isinstance(own, dict):
            raise BatchError(f"{file.name}: the arm {arm} must be {{name: value, ...}}, not {own!r}.")
    return batch


def _settings(pairs: list[str]) -> dict[str, Scalar]:
    settings = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise BatchError(f"--set takes name=value, not {pair!r}.")
        try:
            value = yaml.load(text, _Loader)
        except yaml.YAMLError:
            value = text
        settings[name] = value if isinstance(value, Scalar) else text
    return settings


def _check_known(name: str, where: str, declared: Mapping[Path, Mapping[str, Scalar]]) -> None:
    names = sorted({n for parameters in declared.values() for n in parameters})
    if name not in names:
        raise BatchError(f"{where}: no notebook of this batch has a parameter {name!r}{_nearest(name, names)}.")
    if name in ("batch", "arm", "seed", "runs"):
        raise BatchError(f"{where}: {name!r} is set by the batch itself, from the file's name, arms and seeds.")


def _typed(name: str, value: Any, default: Scalar, where: str) -> Scalar:
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not wanted or (isinstance(value, float) and math.isnan(value)):
        raise BatchError(f"{where}: {name} must be of type {wanted.__name__} like its default {default!r}, not {value!r}.")
    return wanted(value)


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _clean(path: Path, root: Path) -> None:
    """Take machine paths out of an executed notebook."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    path.write_text(_without_machine_paths(nbformat.writes(notebook), root), encoding="utf-8")


def _without_machine_paths(text: str, root: Path) -> str:
    """Text, or a notebook's JSON, in which paths count from the project's root, the environment's or the home folder."""
    folders = {str(root), sys.prefix, str(Path.home()), tempfile.gettempdir()} - {os.sep}
    for folder in sorted(folders, key=len, reverse=True):
        for written in {folder, json.dumps(folder, ensure_ascii=False)[1:-1]}:
            text = re.sub(re.escape(written) + r"(/|(?![\w.-]))", lambda match: "" if match[1] else ".", text)
    return text


if __name__ == "__main__":
    sys.exit(main())
