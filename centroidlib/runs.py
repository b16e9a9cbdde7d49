"""A run's folder: where it lies, its record and what it was made with."""

import hashlib
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from centroidlib._files import replacing, sha256, source_digest, write_text
from centroidlib._locks import lock, unlock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "papermill", "distributed", "lpips", "pytorch-fid", "safetensors")


def project_root(start: str | Path = ".") -> Path:
    """The folder that holds notebooks/ and pyproject.toml: `start`, or the nearest above it."""
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        if (folder / "pyproject.toml").is_file() and (folder / "notebooks").is_dir():
            return folder
    return here


def folder_name(stage: str, parameters: Mapping[str, Any]) -> str:
    """Name of the folder a stage works in: the arm's and seed's, or where arms share the stage, what its own parameter says.

    That parameter bears the stage's name without its number, `centroid` for `01_centroid`; a stage without it works in
    a folder of its own name.
    """
    if "arm" in parameters:
        return f"{parameters['arm']}_seed{parameters['seed']}"
    return str(parameters.get(own_parameter(stage), stage))


def own_parameter(stage: str) -> str:
    """The parameter that names a shared stage's folder, to itself and to the stages that read there."""
    return stage.partition("_")[2]


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
        lock(self.folder)
        self._made_with = versions()  # now: the code may change while the kernel runs
        # Whether the stage was finished here before, and is now replaced; a damaged record is known before any work.
        self.finished_before = stage in read_record(self.folder).get("stages", {})
        self._inputs: dict[str, str] = {}
        self._outputs: list[str] = []
        self._sources: dict[str, str] = {}
        self._began = time.perf_counter()

    def path(self, source: str) -> str:
        """A source as `load_images` wants it, noted in the record: a relative path counts from the project's root."""
        path = source_path(source, self.root)
        if path is None:
            return source
        self._sources[source] = source_digest(path)
        return str(path)

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

    def output(self, name: str) -> Path:
        """Where a file of this name goes in the run's folder, noted in the record as an output."""
        self._outputs.append(name)
        return self.folder / name

    def save(self, figure: "Figure", name: str) -> None:
        """Write a figure to `<name>.png` in the run's folder, an output."""
        with replacing(self.output(f"{name}.png")) as temporary:
            figure.savefig(temporary, format="png")

    def finish(self, *outputs: str, **made_with: object) -> None:
        """Note in `run.json` that the stage is done, with what, and the hashes of the files it made.

        Args:
            outputs: names of files in the run's folder, beside those that `output` and `save` have noted.
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
            "sources": self._sources,
            "inputs": self._inputs,
            "outputs": {name: sha256(self.folder / name) for name in dict.fromkeys((*outputs, *self._outputs))},
        }
        write_record(self.folder, record)
        unlock(self.folder)


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


def source_path(source: str, root: Path) -> Path | None:
    """Where a source lies that is a file or folder, counted from the project's root; None for the name of a data set."""
    path = root / source
    return path if source and path.exists() else None


def versions() -> dict[str, Any]:
    """What a stage is made with: code, packages, device, threads."""
    return {
        "code": code_version(),
        "library": library_digest(),
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "device": _device(),
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None,
    }


def library_digest() -> str:
    """Sixteen digits that tell this code of the library from another; what runs batches does not matter to a run."""
    home = Path(__file__).parent
    files = sorted(file for file in home.rglob("*.py") if "batch" not in file.relative_to(home).parts)
    return hashlib.sha256("".join(f"{file.relative_to(home)} {sha256(file)}" for file in files).encode()).hexdigest()[:16]


def peak_memory() -> float:
    """The most memory this process has held so far, in GiB: of the GPU where it uses one, else of the machine."""
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_initialized():
        return sys.modules["torch"].cuda.max_memory_allocated() / (1 << 30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform != "darwin" else 1 << 30)


def _device() -> str:
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        return sys.modules["torch"].cuda.get_device_name()
    return platform.machine()


def package_version(package: str) -> str | None:
    """The version that is installed, None where it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def code_version() -> str | None:
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
