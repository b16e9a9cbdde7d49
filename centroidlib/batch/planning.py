"""Reading a batch file, and checking it before anything runs."""

import ast
import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml

from centroidlib.runs import folder_name, project_root

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
    listed before such a notebook, after them if listed after. An arm with `generator_of` takes another arm's averaged
    generator, so only notebooks that declare that parameter run for it.

    Args:
        file: the YAML batch file.
        settings: from --set; they win over the file, and `seed` replaces its seeds.

    Raises:
        BatchError: what is wrong in the file or the settings, and where.
    """
    batch = _read(file)
    root = project_root(file.parent)
    if not (root / "notebooks").is_dir():
        root = project_root()  # the file lies outside the project, whoever runs it inside
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
        if name == "generator_of":
            raise BatchError(f"{where}: generator_of is what makes an arm another's average: it belongs to one arm.")
    notebooks_of = dict.fromkeys(arms, per_arm)
    for arm, own in arms.items():
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", arm):
            raise BatchError(f"{file.name}: the arm {arm!r} names a folder; use letters, digits, dots and hyphens.")
        if own.get("generator_of"):
            notebooks_of[arm] = {notebook: known for notebook, known in per_arm.items() if "generator_of" in known}
        for name in own:
            _check_known(name, f"{file.name}, arm {arm}", notebooks_of[arm])
            if name in settings:
                raise BatchError(f"--set: {name!r} is what the arm {arm} of {file.name} sets; change it there.")
        source = own.get("generator_of")
        trained = common | arms[source] if source in arms and "generator_of" not in arms[source] else {}
        if source and not trained.get("ema"):
            raise BatchError(
                f"{file.name}, arm {arm}: generator_of must name a trained arm with an `ema` above 0, not {source!r}."
            )

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
    trained_first = sorted(arms, key=lambda arm: bool(arms[arm].get("generator_of")))
    runs = [stage(notebook, arm, seed) for seed in seeds for arm in trained_first for notebook in notebooks_of[arm]]
    after = [stage(notebook) for notebook in notebooks[first:] if notebook not in per_arm]
    return before + runs + after


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


def read_settings(pairs: list[str]) -> dict[str, Scalar]:
    """Values of --set: name=value pairs, each value read as YAML.

    Raises:
        BatchError: a pair without an equals sign.
    """
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


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
