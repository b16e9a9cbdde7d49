"""Writing files whole or not at all, and showing progress."""

import errno
import hashlib
import json
import os
import re
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")
_LEFTOVER = re.compile(r"\..+\.[a-z0-9_]{8}\.part(\.\w+)?")  # the names that `replacing` writes to


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place once the block has ended well.

    A failure inside the block leaves what stood at `path` untouched.

    Raises:
        OSError: the disk is full; the sentence names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=f".part{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC,
            f"The disk is full: {path.name} could not be written, and nothing that was there has changed. "
            "Free some space and run again; finished work is kept.",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """What processes that were killed inside `replacing` left in a folder; nothing where there is no folder."""
    return [path for path in folder.glob(".*") if _LEFTOVER.fullmatch(path.name)]


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path` through a temporary file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def source_digest(path: Path) -> str:
    """What tells a source of images from another: of a folder names and sizes, of a zip names, sizes and checksums."""
    if path.is_dir():
        files = ((file.relative_to(path).as_posix(), file.stat().st_size) for file in path.rglob("*") if file.is_file())
        return _digest_of(sorted(files))
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return _digest_of(sorted((entry.filename, entry.file_size, entry.CRC) for entry in archive.infolist()))
    return sha256(path)


def _digest_of(entries: list[tuple[str | int, ...]]) -> str:
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


def cache_folder() -> Path:
    """Where decoded images and features of real data are kept: $CENTROIDLIB_CACHE, or the user's cache."""
    chosen = os.environ.get("CENTROIDLIB_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "centroidlib"


class _Lines:
    """A stream for tqdm outside JupyterLab and terminals: each redrawn bar becomes a line of its own."""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line:
            sys.stdout.write(line + "\n")

    def flush(self) -> None:
        sys.stdout.flush()


def watched() -> bool:
    """Whether a person watches this notebook: the Jupyter server sets JPY_SESSION_NAME for its kernels, papermill does not."""
    return "JPY_SESSION_NAME" in os.environ


def track(items: Iterable[T], label: str, total: int | None = None, done: int = 0) -> "tqdm[T]":
    """Iterate with progress: a bar in JupyterLab or a terminal, else at most some twenty lines, 20 s apart or more.

    Args:
        items: what is still to do.
        label: what is being done.
        total: how many there are in all, where `items` cannot tell.
        done: how many were done before, in an earlier process.
    """
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    if watched() or sys.stderr.isatty():
        from tqdm.auto import tqdm as bar

        return bar(items, desc=label, total=total, initial=done, leave=False)
    lines: dict[str, Any] = {"file": _Lines(), "mininterval": 20.0, "maxinterval": float("inf"), "delay": 1e-9}
    lines |= {"disable": total == done, "miniters": max(1, (total or 0) // 20)}
    shape = "{desc}: {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} left{postfix}"
    return tqdm(items, desc=label, total=total, initial=done, bar_format=shape, **lines)
