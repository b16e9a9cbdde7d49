"""What of a batch is done, and why a stage runs or not: decided from the records, which are committed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from centroidlib._files import sha256, source_digest
from centroidlib.batch.notebooks import BatchError, Scalar
from centroidlib.batch.planning import Stage
from centroidlib.runs import library_digest, read_record, source_path


@dataclass(frozen=True)
class State:
    """Whether a stage needs a run.

    Attributes:
        word: `done`; `stale`, done by other code of the library; or `missing`, `failed`, `changed`, which run.
        why: a sentence's worth of reason.
        seconds: what it took when it ran, None where it has not.
    """

    word: str
    why: str
    seconds: float | None = None

    def runs(self, rerun_stale: bool) -> bool:
        """Whether the batch runs it."""
        return self.word not in ("done", "stale") or (rerun_stale and self.word == "stale")


def state_of(stage: Stage, needed: Iterable[str] = ()) -> State:
    """Whether a stage is done, by its folder's record and what of its inputs and outputs is here.

    Weights and films are not committed: an output that is not here is no reason to run, unless it is `needed`. Nor
    is a source of images that is not here, nor one of the same images elsewhere.

    Raises:
        ValueError: the record is damaged.
    """
    record = read_record(stage.folder).get("stages", {}).get(stage.name, {})
    try:
        return _judged(stage, record, needed)
    except (KeyError, TypeError, AttributeError) as error:
        sentence = f"{stage.folder.name}/run.json is no record of this library: delete it to run that folder again."
        raise ValueError(sentence) from error


def _judged(stage: Stage, record: Mapping[str, Any], needed: Iterable[str]) -> State:
    seconds = record.get("seconds")
    lacking = [name for name in needed if not (stage.folder / name).is_file()]
    if not record:
        found = State("missing", "never ran")
    elif record.get("notebook") is None:
        found = State("missing", "its notebook was stopped, or run by hand", seconds)
    elif lacking:
        found = State("missing", f"{lacking[0]} is not here, and what comes after needs it", seconds)
    elif changes := _changes(stage, record):
        found = State("changed", "; ".join(changes[:3]) + ("; …" if len(changes) > 3 else ""), seconds)
    elif record["made_with"].get("library") != _digest_of_library():
        return State("stale", "made by other code of the library; kept (--rerun-stale runs it again)", seconds)
    else:
        return State("done", "done before", seconds)
    return State("failed", "failed before", seconds) if (stage.folder / f"{stage.name}.failed.ipynb").is_file() else found


def _changes(stage: Stage, record: Mapping[str, Any]) -> list[str]:
    """What is not as it was when the stage ran."""
    found = []
    sources = record.get("sources", {})
    before, now = record["parameters"], stage.all_parameters
    for name in dict.fromkeys([*now, *before]):
        if before.get(name) != now.get(name) and not _same_source(stage, sources.get(before.get(name)), now.get(name)):
            found.append(f"{name} was {before.get(name, 'not there')!r}, is {now.get(name, 'not there')!r}")
    for source, digest in sources.items():
        path = source_path(source, stage.root)
        if path and source in now.values() and _digest_of_source(path) != digest:
            found.append(f"{source} holds other images")
    if record["notebook"] != stage.notebook.digest:
        found.append("the notebook's code changed")
    for kind, folder in (("outputs", stage.folder), ("inputs", stage.folder.parent)):
        for name, digest in record[kind].items():
            if (folder / name).is_file() and _digest(folder / name) != digest:
                found.append(f"{name} changed")
    there = (path.parent.name for path in sorted(stage.folder.parent.glob("*_seed*/metrics.json")))  # no names mean these
    for name in str(now["runs"]).split() or there if "runs" in now else ():
        run = read_record(stage.folder.parent / name)
        failed, compared = bool(run.get("failed")), any(path.startswith(f"{name}/") for path in record["inputs"])
        if run.get("stages") and compared == failed:
            found.append(f"{name} " + ("has failed since" if failed else "was not there then"))
    if not (stage.folder / f"{stage.name}.ipynb").is_file():
        found.append("its executed notebook is not here")
    return found


def _same_source(stage: Stage, digest: str | None, value: Scalar | None) -> bool:
    """Whether a value is a path of what the stage read under another, or of what cannot be looked at here."""
    if digest is None or not isinstance(value, str):
        return False
    path = source_path(value, stage.root)
    return _digest_of_source(path) == digest if path else "/" in value


def what_runs(stages: list[Stage], rerun_stale: bool) -> dict[str, tuple[State, tuple[str, ...]]]:
    """By label, each stage's state and the outputs that others will need of it, as far as can be known before.

    What runs reads files that its code names, so a stage that made them runs again where they are not here. Whether a
    stage runs because another does is known only when that one has made other files than before.
    """
    by_label = {stage.label: stage for stage in stages}
    needed: dict[str, set[str]] = {label: set() for label in by_label}
    states: dict[str, State] = {}
    for stage in reversed(by_label.values()):
        states[stage.label] = state_of(stage, sorted(needed[stage.label]))
        if states[stage.label].runs(rerun_stale):
            for other in _all_before(stage, by_label):
                made = read_record(other.folder).get("stages", {}).get(other.name, {}).get("outputs", {})
                needed[other.label] |= {name for name in made if name.split("/")[0] in stage.notebook.code}
    return {label: (states[label], tuple(sorted(needed[label]))) for label in by_label}


def _all_before(stage: Stage, stages: Mapping[str, Stage]) -> list[Stage]:
    found: dict[str, Stage] = {}
    waiting = list(stage.after)
    while waiting:
        label = waiting.pop()
        if label not in found:
            found[label] = stages[label]
            waiting += stages[label].after
    return list(found.values())


def check_paths(stages: Iterable[Stage]) -> None:
    """Refuse a path that does not exist: a parameter with a slash in it is one, counted from the project's root.

    Raises:
        BatchError: which, and where it was set.
    """
    for stage in stages:
        for name, value in stage.parameters.items():
            if isinstance(value, str) and "/" in value and source_path(value, stage.root) is None:
                raise BatchError(f"{stage.origins[name]}: {name} is {value!r}, and there is no such file or folder.")


_digest_of_source = cache(source_digest)
_digest = cache(sha256)
_digest_of_library = cache(lambda: library_digest())


def look_again() -> None:
    """Forget the hashes of files that this process has read: they may have changed since."""
    _digest_of_source.cache_clear()
    _digest.cache_clear()
    _digest_of_library.cache_clear()
