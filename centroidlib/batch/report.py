"""What a batch says of itself: its state as a table, its progress, its manifest, and at its end what failed and where."""

import json
import platform
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tqdm import tqdm

from centroidlib._files import sha256, write_text
from centroidlib._locks import holding, is_held, lock_holder
from centroidlib.batch.planning import Stage
from centroidlib.batch.state import State
from centroidlib.runs import PACKAGES, code_version, library_digest, package_version

DONE = ("ran", "done", "stale")


def status(stages: Iterable[Stage], states: Mapping[str, tuple[State, tuple[str, ...]]]) -> str:
    """A line a stage: what it is, what it took, why it will run or not."""
    rows = [["stage", "state", "seconds", "why"]]
    for stage in stages:
        state = states[stage.label][0]
        why = state.why
        if state.word not in DONE and is_held(stage.folder):
            why += f"; {lock_holder(stage.folder)} works in its folder"
        rows.append([stage.label, state.word, "" if state.seconds is None else f"{state.seconds:.0f}", why])
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return "\n".join("  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]).rstrip() for row in rows)


class Progress:
    """A bar over the stages that run, with the time left, and a line for what becomes of each; on no terminal, lines only.

    Args:
        total: stages that will run, as far as is known.
    """

    def __init__(self, total: int) -> None:
        terminal = sys.stderr.isatty()
        self._bar = tqdm(total=total, unit="stage", disable=not terminal, leave=False, dynamic_ncols=True)
        self._began = time.monotonic()
        self._total, self._done = total, 0
        self.outcomes: dict[str, dict[str, Any]] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take note of a stage that begins or waits (no `state`), or of its end."""
        label, word, why = event["label"], event.get("state"), event["why"]
        if label in self.outcomes:  # told late that it began
            return
        if word is None:
            self._say(f"{label} {why}" if why.startswith("waits") else f"{label} runs: {why}")
            return
        self.outcomes[label] = dict(event)
        if word in ("done", "stale"):
            self._say(f"{label}: {why}" if word == "stale" else f"{label}: done before, skipped")
        elif word == "ran":
            self._done += 1
            self._total = max(self._total, self._done)
            self._bar.total = self._total
            self._bar.update()
            self._say(f"[{self._done}/{self._total}] {label}: {event['seconds']:.0f} s{self._left()}")
        else:
            self._say(f"{label}: {word}" + (f", {why}" if word == "blocked" else ""))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()

    def _left(self) -> str:
        seconds = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        return f", {tqdm.format_interval(seconds)} left" if self._done < self._total else ""

    def _say(self, line: str) -> None:
        self._bar.write(line, file=sys.stdout)
        sys.stdout.flush()


def manifest_of(file: Path, settings: list[str], resources: str, root: Path) -> dict[str, Any]:
    """What a batch is run with, as `manifest.json` says it."""
    file = file.resolve()
    return {
        "file": {"name": file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name, "sha256": sha256(file)},
        "settings": settings,
        "began": _now(),
        "ended": _now(),
        "resources": resources,
        "machine": platform.machine(),
        "code": code_version(),
        "library": library_digest(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
    }


def write_manifest(
    manifest: Mapping[str, Any], stages: Iterable[Stage], outcomes: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
    """Write `manifest.json` into the batch's folder: what it is run with, and what became of every stage so far.

    What is known of a stage that is not run, or of other seeds, stays in it.

    Raises:
        ValueError: the file that is there is damaged.
    """
    path = folder / "manifest.json"
    with holding(folder, sweep=False):
        try:
            there = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else manifest
            known, name = dict(there.get("stages", {})), there["file"]["name"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{folder.name}/manifest.json is damaged: delete it, it is made anew.") from error
        if name != manifest["file"]["name"]:
            raise ValueError(
                f"results/{folder.name} holds the runs of {name}, and {manifest['file']['name']} would write there too: give it "
                f"another name. If it is the same batch, moved, delete results/{folder.name}/manifest.json, which is made anew."
            )
        for stage in stages:
            found = outcomes.get(stage.label, {"state": "not run yet"})
            if stage.label in known and found["state"] in ("done", "stale", "not run yet"):
                continue
            executed = (stage.folder / f"{stage.name}.ipynb").relative_to(stage.root).as_posix()
            known[stage.label] = {k: v for k, v in found.items() if k != "label"} | {"notebook": executed}
        write_text(path, json.dumps({**manifest, "ended": _now(), "stages": known}, indent=1) + "\n")


def summary(stages: list[Stage]) -> str:
    """The comparison where there is one, and where executed notebooks and figures lie."""
    results = stages[0].folder.parent
    folders = dict.fromkeys(stage.folder for stage in stages)
    tables = [folder / "table.md" for folder in folders]
    lines = ["\n" + table.read_text(encoding="utf-8").strip() for table in tables if table.is_file()]
    lines.append(f"\nExecuted notebooks and figures, in {results.relative_to(stages[0].root)}/:")
    for folder in folders:
        names = sorted(path.name for path in folder.glob("[!.]*") if path.suffix in (".ipynb", ".png"))
        lines.append(f"  {folder.name}/  {'  '.join(names)}")
    return "\n".join(lines)


def failures(stages: list[Stage], outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """What failed, where to look, and what was not run because of it; empty where nothing failed."""
    failed = [event["why"] for event in outcomes.values() if event["state"] == "failed"]
    blocked = [stage.label for stage in stages if outcomes.get(stage.label, {}).get("state") == "blocked"]
    if not failed and not blocked:
        return ""
    done = sum(event["state"] in DONE for event in outcomes.values())
    lines = ["", *failed, f"{len(failed)} of {len(stages)} stages failed; {done} are done, and are kept."]
    lines += [f"Not run because of it: {', '.join(blocked)}."] if blocked else []
    return "\n".join(lines) + "\n"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
