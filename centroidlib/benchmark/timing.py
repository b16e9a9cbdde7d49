"""Two works in turns: the median of each, their ratio, and how far apart what they give is."""

import contextlib
import io
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from centroidlib import machine
from centroidlib.benchmark.rows import row

K = TypeVar("K", bound=Hashable)


def compare(
    work: str,
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    reference: str,
    precision: str = "float32",
    *,
    repeats: int = 5,
    count: int = 1,
    apart: Callable[[Any, Any], float] | None = None,
) -> dict[str, Any]:
    """A row of ratios.csv: our seconds and the reference's, in turns.

    Args:
        work: what is done.
        ours: our way of doing it.
        theirs: the reference's.
        reference: its name.
        precision: of ours.
        repeats: timed turns of each.
        count: how often a turn does the work.
        apart: how far what ours gives is from what theirs gives, such as `relative_difference`.
    """
    seconds, given = interleaved({"ours": ours, "theirs": theirs}, repeats)
    own, other = (float(np.median(seconds[name])) / count for name in ("ours", "theirs"))
    return row(work, own, other, reference, precision, None if apart is None else apart(given["ours"], given["theirs"]))


def interleaved(works: Mapping[K, Callable[[], Any]], repeats: int = 5) -> tuple[dict[K, np.ndarray], dict[K, Any]]:
    """Time works one after the other, and again: so a slow spell of the machine hits all alike.

    What they print and warn of is not shown. On a GPU float32 is float32 in all of them.

    Args:
        works: by name.
        repeats: timed turns of each.

    Returns:
        Seconds of each in every turn (repeats,), and what each gave in a first turn that is not timed.
    """
    times: dict[K, list[float]] = {name: [] for name in works}
    given: dict[K, Any] = {}
    with _silence(), machine.arithmetic(torch.get_num_threads(), deterministic=False):
        for repeat in range(repeats + 1):
            for name, work in works.items():
                began = time.perf_counter()
                found = work()
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                if repeat:
                    times[name].append(time.perf_counter() - began)
                else:
                    given[name] = found
    return {name: np.array(seconds) for name, seconds in times.items()}, given


@contextmanager
def _silence() -> Iterator[None]:
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def relative_difference(found: Any, wanted: Any) -> float:
    """‖found − wanted‖ ÷ ‖wanted‖ of two numbers, tensors or sequences of tensors, which may be split at other places."""
    found, wanted = _flat(found), _flat(wanted)
    return float((found - wanted).norm() / wanted.norm())


def _flat(values: Any) -> torch.Tensor:
    parts = values if isinstance(values, list | tuple) else [values]
    return torch.cat([torch.as_tensor(part).detach().double().flatten() for part in parts])


def seconds_of(*arguments: object, cwd: Path, afresh: bool = False) -> float:
    """Wall-clock seconds of `python ARGUMENTS`, its start and its imports included.

    Args:
        arguments: of the interpreter.
        cwd: the folder it works in.
        afresh: remove the folder's results/ first.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    began = time.perf_counter()
    if afresh:
        shutil.rmtree(cwd / "results", ignore_errors=True)
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"python {' '.join(map(str, arguments))} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return time.perf_counter() - began
