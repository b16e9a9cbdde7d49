"""Reading a batch file: its YAML, where in it each name stands, and the arms that its lists make."""

import difflib
import itertools
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from centroidlib.batch.notebooks import BatchError, Scalar

KEYS = ("notebooks", "parameters", "arms", "seeds")


@dataclass(frozen=True)
class BatchFile:
    """A batch as its file says it, with the settings of the command line.

    Attributes:
        name: the file's name.
        notebooks: their names, in the order in which they are listed.
        common: parameters of every run.
        grids: parameters whose common values stand in a list, which makes arms.
        arms: what differs between them, a list of values already made an arm each.
        seeds: each arm runs once for each.
        lines: where a name stands, `small.yml, line 3`, by its place in the file.
        settings: names that the command line set.
    """

    name: str
    notebooks: list[str]
    common: dict[str, Any]
    grids: set[str]
    arms: dict[str, dict[str, Any]]
    seeds: list[Any]
    lines: Mapping[tuple[Any, ...], str]
    settings: set[str]

    def where(self, *place: Any) -> str:
        """File and line of a name in the file, or of the nearest thing around it; `--set` for what was set there."""
        if place[0] == "parameters" and place[-1] in self.settings:
            return "--set"
        return next((self.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in self.lines), self.name)


class _Loader(yaml.SafeLoader):
    """YAML's safe loader that also reads 2e-4 as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def read_batch(file: Path, settings: Mapping[str, Scalar]) -> BatchFile:
    """The batch that a file describes.

    Args:
        file: the YAML file.
        settings: from --set; they win over the file's common parameters, and `seed` replaces its seeds.

    Raises:
        BatchError: the file cannot be read or has another form.
    """
    content, lines = _read(file)
    seeds = [settings["seed"]] if "seed" in settings else content["seeds"]
    common = content["parameters"] | {name: value for name, value in settings.items() if name != "seed"}
    grids = {name: values for name, values in common.items() if isinstance(values, list)}
    common = {name: value for name, value in common.items() if name not in grids}
    found = BatchFile(file.name, content["notebooks"], common, set(grids), {}, seeds, lines, set(settings))
    for arm, own in content["arms"].items():
        for name in (name for name in own if name in settings):
            raise BatchError(f"--set: {name!r} is what the arm {arm} of {file.name} sets; change it there.")
        for suffix, values in _points(grids | own, shared=grids.keys() - own.keys()):
            made = f"{arm}{suffix}"
            lines["arms", made] = found.where("arms", arm)
            lines.update({("arms", made, name): found.where("arms", arm, name) for name in own})
            lines.update({("arms", made, name): found.where("parameters", name) for name in grids.keys() - own.keys()})
            if made.casefold() in (known.casefold() for known in found.arms):
                raise BatchError(f"{found.where('arms', arm)}: a second arm is called {made}, and the two would share a folder.")
            found.arms[made] = values
    if grids and not found.arms:
        name = next(iter(grids))
        raise BatchError(f"{found.where('parameters', name)}: a list makes an arm of each of its values, and there are no arms.")
    return found


def _points(own: Mapping[str, Any], shared: Iterable[str]) -> Iterable[tuple[str, dict[str, Any]]]:
    """Each combination of the values that stand in lists, behind what it adds to the arm's name."""
    grids = {name: values for name, values in own.items() if isinstance(values, list)}
    for point in itertools.product(*grids.values()):
        values = dict(zip(grids, point, strict=True))
        made = {**own, **values}
        if isinstance(made.get("generator_of"), str):  # of the arm at the same point of what both share
            made["generator_of"] += in_folder_name({name: value for name, value in values.items() if name in shared})
        yield in_folder_name(values), made


def in_folder_name(values: Mapping[str, Any]) -> str:
    """What parameters add to the name of an arm or a folder: `-lambda10-layer9`."""
    parts = (f"{name}{value:g}" if isinstance(value, float) else f"{name}{value}" for name, value in values.items())
    return "".join(f"-{re.sub('[^A-Za-z0-9.]+', '-', part.replace('_', '')).strip('-')}" for part in parts)


def _read(file: Path) -> tuple[dict[str, Any], dict[tuple[Any, ...], str]]:
    try:
        loader = _Loader(file.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        lines = dict(_lines(node, file.name)) if isinstance(node, yaml.MappingNode) else {}
        batch = loader.construct_document(node) if node else None
    except OSError as error:
        raise BatchError(f"The batch file {file} cannot be read: {error.strerror}.") from error
    except BatchError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise BatchError(f"{file.name} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(batch, dict) or not isinstance(batch.get("notebooks"), list) or not batch["notebooks"]:
        raise BatchError(f"{file.name} needs a list `notebooks` of names such as 01_centroid.")
    for key in batch:
        if key not in KEYS:
            where = lines.get((key,), file.name)
            raise BatchError(f"{where}: unknown key {key!r}{nearest(str(key), KEYS)}; known are {', '.join(KEYS)}.")
    batch = {"parameters": {}, "arms": {}, "seeds": [0]} | {k: v for k, v in batch.items() if v is not None}
    if not isinstance(batch["seeds"], list) or not batch["seeds"]:
        raise BatchError(f"{lines['seeds',]}: seeds must be a list of whole numbers, such as [0, 1, 2].")
    for key in ("notebooks", "seeds"):
        twice = [value for i, value in enumerate(batch[key]) if value in batch[key][:i]]
        if twice:
            raise BatchError(f"{lines[key,]}: {twice[0]!r} stands in {key} twice, and the two would share a folder.")
    for key in ("parameters", "arms"):
        if not isinstance(batch[key], dict):
            raise BatchError(f"{lines[key,]}: {key} must be lines `name: value`, not {batch[key]!r}.")
    batch["arms"] = {arm: {} if own is None else own for arm, own in batch["arms"].items()}
    for place in [("parameters",), ("arms",), *(("arms", arm) for arm in batch["arms"])]:
        own = batch[place[0]] if len(place) == 1 else batch["arms"][place[1]]
        where = lines.get(place) or lines.get(place[:1], file.name)
        if not isinstance(own, dict):
            raise BatchError(f"{where}: the arm {place[1]} must be {{name: value, ...}}, not {own!r}.")
        for name, value in own.items():
            if not isinstance(name, str):
                raise BatchError(f"{where}: {name!r} under {place[-1]} is no name to YAML: put it in quotes.")
            if value == []:
                at = lines.get((*place, name), where)
                raise BatchError(f"{at}: {name} is an empty list; a list makes an arm of each of its values.")
    return batch, lines


def _lines(node: yaml.MappingNode, name: str, above: tuple[str, ...] = ()) -> Iterable[tuple[tuple[str, ...], str]]:
    """File and line of every name, by the names above it; a name that stands twice is an error, not the last one's value."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            raise BatchError(f"{name}, line {line}: {key.value!r} stands in line {seen[key.value]} already.")
        seen[key.value] = line
        yield (*above, key.value), f"{name}, line {line}"
        if isinstance(value, yaml.MappingNode):
            yield from _lines(value, name, (*above, key.value))


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


def typed(name: str, value: Any, default: Scalar, where: str) -> Scalar:
    """The value as the type of the parameter's default: a whole number may stand for a fraction, nothing else for another.

    Raises:
        BatchError: it is of another type, or not a number.
    """
    wanted = type(default)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.nan
    if type(value) is not wanted or (isinstance(value, float) and math.isnan(value)):
        raise BatchError(f"{where}: {name} must be of type {wanted.__name__} like its default {default!r}, not {value!r}.")
    return wanted(value)


def nearest(name: str, names: Iterable[str]) -> str:
    """A question after the nearest of the known names, empty where none is near."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""
