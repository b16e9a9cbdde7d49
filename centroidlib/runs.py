"""A run's folder: where it lies, its lock, its record and what it was made with."""

import fcntl
import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from centroidlib._files import leftovers, replacing, sha256, write_text
from centroidlib.machine import peak_memory

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "papermill", "lpips", "pytorch-fid", "safetensors")


def project_root(start: str | Path = ".") -> Path:
    """The folder that holds notebooks/ and pyproject.toml: `start`, or the nearest above it."""
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def folder_name(stage: str, parameters: Mapping[str, Any]) -> str:
    """Name of the folder a stage works in: the arm's and seed's, or the stage's own where all arms share it."""
    if "arm" in parameters:
        return f"{parameters['arm']}_seed{parameters['seed']}"
    return stage


class Run:
    """The folder results/<batch>/<run>/ that a notebook works in, locked until the stage is finished or its kernel ends.

    Args:
        stage: the notebook's name without its ending, `02_train`.
        namespace: the notebook's `globals()` right after the cell tagged `parameters`: its scalars are
            the run's parameters, `batch` (and `arm` and `seed`) among them.

    Raises:
        RuntimeError: another process works in the folder.
        ValueError: the folder's record is damaged.
    """

    def __init__(self, stage: str, namespace: Mapping[str, Any]) -> None:
        scalars = bool | int | float | str
        self.stage = stage
        self.parameters: dict[str, Any] = {k: v for k, v in namespace.items() if isinstance(v, scalars) and not k.startswith("_")}
        self.root = project_root()
        self.batch = self.root / "results" / str(self.parameters["batch"])
        self.folder = self.batch / folder_name(stage, self.parameters)
        self.folder.mkdir(parents=True, exist_ok=True)
        _lock(self.folder)
        self._made_with = versions()  # now: the code may change while the kernel runs
        read_record(self.folder)  # a damaged one is known before any work
        self._inputs: dict[str, str] = {}
        self._began = time.perf_counter()

    def path(self, source: str) -> str:
        """A source as `load_images` wants it: a relative path counts from the project's root."""
        inside = self.root / source
        return str(inside) if inside.exists() else source

    def input(self, name: str) -> Path:
        """A file that an earlier stage made, noted in the record as an input.

        Args:
            name: of a file in this run's folder, or `<folder>/<name>` of one elsewhere in the batch.

        Raises:
            FileNotFoundError: it is not there yet.
        """
        path = (self.batch if "/" in name else self.folder) / name
        if not path.is_file():
            raise FileNotFoundError(
                f"{path.relative_to(self.root)} is not there yet: run the notebooks before {self.stage} first, "
                "with the same batch, arm and seed."
            )
        self._inputs[path.relative_to(self.batch).as_posix()] = sha256(path)
        return path

    def save(self, figure: Figure, name: str) -> None:
        """Write a figure to `<name>.png` in the run's folder."""
        with replacing(self.folder / f"{name}.png") as temporary:
            figure.savefig(temporary, format="png")

    def finish(self, *outputs: str, **made_with: object) -> None:
        """Note in `run.json` that the stage is done, with what, and the hashes of the files it made.

        Args:
            outputs: names of files in the run's folder.
            made_with: what the stage knows of how it was made beyond `versions`, such as the precision it chose.
        """
        record = read_record(self.folder)
        scalars = {k: v for k, v in self.parameters.items() if k in ("arm", "seed", "lambda_", "unit")}
        record["parameters"] = record.get("parameters", {}) | scalars
        record.setdefault("stages", {})[self.stage] = {
            "parameters": self.parameters,
            "made_with": self._made_with | made_with,
            "seconds": round(time.perf_counter() - self._began, 1),
            "peak_memory_gb": round(peak_memory(), 2),
            "inputs": self._inputs,
            "outputs": {name: sha256(self.folder / name) for name in outputs},
        }
        write_record(self.folder, record)
        _unlock(self.folder)


def read_record(folder: Path) -> dict[str, Any]:
    """The folder's `run.json`, empty where there is none.

    Raises:
        ValueError: the file is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder.name}/run.json is not JSON: delete it to run that folder again.") from error
    if not isinstance(record, dict) or not isinstance(record.get("stages", {}), dict):
        raise ValueError(f"{folder.name}/run.json is no record of this library: delete it to run that folder again.")
    return record


def write_record(folder: Path, record: Mapping[str, Any]) -> None:
    """Write `run.json`."""
    write_text(folder / "run.json", json.dumps(record, indent=1) + "\n")


def versions() -> dict[str, Any]:
    """What a stage was made with: code, packages, device, threads."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {
        "code": _commit(),
        "python": platform.python_version(),
        "packages": found,
        "device": device,
        "threads": torch.get_num_threads(),
    }


def _commit() -> str | None:
    """The commit of the library in use, `+changes` behind it where the tree differs."""
    home = Path(__file__).parent
    try:
        head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], cwd=home, capture_output=True, text=True)
        dirty = subprocess.run(["git", "status", "--porcelain", "--", str(home)], cwd=home, capture_output=True, text=True)
    except OSError:
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")


_held: dict[Path, int] = {}  # this process's locks: a cell may be run again


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Inside, no other process works in `folder`; one that this process's `Run` holds stays held.

    Raises:
        RuntimeError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = _lock(folder)
    try:
        yield
    finally:
        if taken:
            _unlock(folder)


def _lock(folder: Path) -> bool:
    """Take the folder's lock, and clear what a killed process left half written; False where this process holds it."""
    folder = folder.resolve()
    path = folder / ".lock"
    if folder in _held:
        if path.exists() and os.path.samestat(path.stat(), os.fstat(_held[folder])):
            return False
        _unlock(folder)  # the folder was removed and made again
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise RuntimeError(
            f"Another process works in {folder.parent.name}/{folder.name}: wait for it, or shut its kernel down."
        ) from error
    _held[folder] = handle
    for leftover in leftovers(folder) + leftovers(folder / "samples"):
        if leftover.suffix != ".ipynb":  # the notebook that is being executed belongs to another process
            leftover.unlink()
    return True


def _unlock(folder: Path) -> None:
    if folder.resolve() in _held:
        os.close(_held.pop(folder.resolve()))
