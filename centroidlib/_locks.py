"""A run's folder belongs to one process at a time, and to the processes it starts."""

import fcntl
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from centroidlib._files import leftovers

INHERITED_LOCK = "CENTROIDLIB_LOCK"  # the number of the open file that holds the folder's lock, for the process that inherits it
_held: dict[Path, int] = {}  # this process's locks: a cell may be run again


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other process works in `folder`; one that this process's `Run` holds stays held.

    Raises:
        RuntimeError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = lock(folder)
    try:
        yield
    finally:
        if taken:
            unlock(folder)


@contextmanager
def holding(
    folder: Path,
    waits: Callable[[str], None] = lambda who: None,
    stopped: Callable[[], bool] = lambda: False,
    sweep: bool = True,
) -> Iterator[int]:
    """Inside, the folder's lock is held, waited for as long as another process works there; yields the open file.

    Args:
        folder: of a run.
        waits: told once, in words, for whom.
        stopped: whether to wait no more.
        sweep: clear what a killed process left half written in the folder.

    Raises:
        InterruptedError: stopped while it waited.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = False
    while (handle := take_lock(folder, sweep)) is None:
        if stopped():
            raise InterruptedError
        if not told:
            waits(lock_holder(folder))
            told = True
        time.sleep(0.2)
    try:
        yield handle
    finally:
        os.close(handle)


def take_lock(folder: Path, sweep: bool = True) -> int | None:
    """The open file that holds a folder's lock until it is closed, here and in processes that inherit it; None where it is held.

    What a killed process left half written in the folder is cleared, with `sweep`.
    """
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    try:
        os.truncate(handle, 0)
        os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        for leftover in leftovers(folder) + leftovers(folder / "samples") if sweep else ():
            leftover.unlink(missing_ok=True)
    except BaseException:
        os.close(handle)
        raise
    return handle


def is_held(folder: Path) -> bool:
    """Whether a process works in a folder, found without taking its lock."""
    try:
        with (folder / ".lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def lock_holder(folder: Path) -> str:
    """Who holds a folder's lock, in words."""
    return (folder / ".lock").read_text(encoding="utf-8") or "a process"


def lock(folder: Path) -> bool:
    """Take the folder's lock for this process; False where it holds it already."""
    folder = folder.resolve()
    path = folder / ".lock"
    if folder in _held:
        if _is_open_as(_held[folder], path):
            return False
        unlock(folder)  # the folder was removed and made again
    inherited = _inherited()
    handle = inherited if inherited is not None and _is_open_as(inherited, path) else take_lock(folder)
    if handle is None:
        raise RuntimeError(
            f"Another process works in {folder.parent.name}/{folder.name} ({lock_holder(folder)}): wait for it, or shut its "
            "kernel down."
        )
    _held[folder] = handle
    return True


def _is_open_as(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except OSError:
        return False


def unlock(folder: Path) -> None:
    """Leave the folder to others; a lock that was inherited stays with the process that it came from."""
    handle = _held.pop(folder.resolve(), None)
    if handle is not None and handle != _inherited():
        os.close(handle)


def _inherited() -> int | None:
    number = os.environ.get(INHERITED_LOCK, "")
    return int(number) if number.isdigit() else None
