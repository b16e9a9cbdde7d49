"""Executing one stage through papermill: its lock, its kernel, its executed notebook, its place in the record."""

import json
import logging
import os
import re
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_core.utils import ensure_event_loop
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from centroidlib._files import replacing
from centroidlib._locks import INHERITED_LOCK
from centroidlib.batch.notebooks import BatchError, without_progress
from centroidlib.batch.planning import Stage
from centroidlib.runs import read_record, write_record

KERNEL_STARTS = 3  # kernels that start at the same moment may race for a port
_silent = logging.getLogger("centroidlib.batch.silent")  # what goes wrong is said once, in a sentence
_silent.disabled = True
_clients: dict[str, list["_Client"]] = {}  # that run here, by batch
_stopped: set[str] = set()  # batches that start nothing more here


class StageError(BatchError):
    """A stage that failed.

    Attributes:
        label: of which stage.
        stopped: it did not fail, but was told to stop.
    """

    def __init__(self, label: str, sentence: str, stopped: bool = False) -> None:
        super().__init__(label, sentence, stopped)
        self.label, self.stopped = label, stopped

    def __str__(self) -> str:
        return str(self.args[1])


def execute(stage: Stage, environment: Mapping[str, str], batch: str, handle: int) -> None:
    """Run a stage's notebook as it was planned; the executed notebook lies in the stage's folder.

    Args:
        stage: what to run.
        environment: of its kernel, beside this process's own.
        batch: under which `stop` knows it.
        handle: the open file that holds the folder's lock; the kernel inherits it, and so holds the lock for as long as
            it lives, whatever becomes of this process.

    Raises:
        StageError: a cell failed or the kernel died (its notebook is kept beside the last good one, as
            `<name>.failed.ipynb`), or the notebook noted no result.
    """
    record = read_record(stage.folder)
    if stage.name in record.get("stages", {}):  # not done any more, from the first file that this run replaces
        record["stages"][stage.name]["notebook"] = None
        write_record(stage.folder, record)
    target = stage.folder / f"{stage.name}.ipynb"
    failed = target.with_suffix(".failed.ipynb")
    start = {"cwd": str(stage.root), "env": _environment(environment, handle), "pass_fds": (handle,)}
    try:
        with replacing(target) as temporary:
            try:
                for attempt in range(1, KERNEL_STARTS + 1):
                    try:
                        _through_papermill(stage, temporary, start, batch)
                        break
                    except _NotStartedError:
                        if attempt == KERNEL_STARTS or batch in _stopped:
                            raise
            except (PapermillExecutionError, RuntimeError, NoSuchKernel):
                if temporary.stat().st_size and batch not in _stopped:
                    _clean(temporary, stage.root)
                    temporary.chmod(0o644)
                    os.replace(temporary, failed)
                raise
            _clean(temporary, stage.root)
    except (PapermillExecutionError, RuntimeError, NoSuchKernel) as error:
        if batch in _stopped:
            raise StageError(stage.label, f"{stage.label} was stopped.", stopped=True) from None
        sentence = _sentence(stage, error, failed)
        record = read_record(stage.folder)
        record.setdefault("failed", {})[stage.name] = sentence.splitlines()[0]
        write_record(stage.folder, record)
        raise StageError(stage.label, sentence) from None
    failed.unlink(missing_ok=True)
    record = read_record(stage.folder)
    if record.get("failed", {}).pop(stage.name, None) and not record["failed"]:
        del record["failed"]
    noted = record.get("stages", {}).get(stage.name, {"notebook": None})
    if "notebook" in noted:
        sentence = f"{stage.label} ran to its end but left no record: its last cell must call run.finish(...)."
        raise StageError(stage.label, sentence)
    noted["notebook"] = stage.notebook.digest
    write_record(stage.folder, record)


def stop(batch: str) -> None:
    """Interrupt this process's kernels of a batch, as the stop button does, and start no more of its stages."""
    _stopped.add(batch)
    for client in list(_clients.get(batch, [])):
        client.interrupt()


def is_stopped(batch: str) -> bool:
    """Whether `stop` was called for a batch in this process."""
    return batch in _stopped


class _NotStartedError(RuntimeError):
    """A kernel was not there before its first cell, so that nothing is lost by starting another."""


class _Client(PapermillNotebookClient):
    """papermill's own, whose kernel another thread may interrupt: a kernel that is between two cells would not notice."""

    def __init__(self, nb_man: Any, batch: str, **options: Any) -> None:
        super().__init__(nb_man, on_cell_start=self.go_on, **options)
        self.batch, self.began, self.computes, self.told = batch, False, False, Lock()

    def go_on(self, **_: object) -> None:
        """Begin no further cell of a batch that was stopped."""
        self.began, self.computes = True, False
        if self.batch in _stopped:
            raise RuntimeError("stopped")

    def process_message(self, msg: Any, *rest: Any) -> Any:
        """Take note that the kernel has begun to compute what the cell says."""
        if msg["msg_type"] == "execute_input":
            self.computes = True
            if self.batch in _stopped:
                self.interrupt()
        return super().process_message(msg, *rest)

    def interrupt(self) -> None:
        """Interrupt the kernel if it computes, once: the second time, training would not save."""
        if self.computes and self.told.acquire(blocking=False):
            kernel: Any = self.km
            with suppress(ProcessLookupError):
                os.killpg(kernel.provisioner.pid, signal.SIGINT)


class _Engine(NBClientEngine):
    """papermill's own, with what its kernel is started with: papermill itself would change this process's folder."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:  # type: ignore[override]
        start, batch = options["start"], options["batch"]
        client = _Client(
            nb_man,
            batch,
            kernel_name=kernel_name,
            log=_silent,
            startup_timeout=options["start_timeout"],
            extra_arguments=options["extra_arguments"],
            iopub_timeout=600,
        )
        loop = ensure_event_loop()  # of this task: jupyter_core makes one for each, and leaves it open
        clients = _clients.setdefault(batch, [])
        clients.append(client)
        try:
            client.execute(**start)
        except RuntimeError as error:
            if client.began:
                raise
            raise _NotStartedError(str(error)) from error
        finally:
            clients.remove(client)
            loop.close()


papermill_engines.register("centroidlib", _Engine)


def _through_papermill(stage: Stage, target: Path, start: Mapping[str, Any], batch: str) -> None:
    execute_notebook(
        nbformat.reads(stage.notebook.text, as_version=4),
        str(target).replace("{", "{{").replace("}", "}}"),
        stage.parameters,
        engine_name="centroidlib",
        kernel_name="python3",
        progress_bar=False,
        # A busy kernel logs as an error that its own shutdown interrupts it. One whose parent is gone before it began to
        # watch it would never know.
        extra_arguments=[
            "--IPKernelApp.log_level=CRITICAL",
            f"--IPKernelApp.exec_lines=__import__('os').getppid() == {os.getpid()} or __import__('os')._exit(1)",
        ],
        start=start,
        batch=batch,
    )


def _environment(more: Mapping[str, str], handle: int) -> dict[str, str]:
    """A kernel's: it holds its folder's lock, and must not take itself for one that a person watches."""
    own = {name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"}
    return own | dict(more) | {INHERITED_LOCK: str(handle)}


def _sentence(stage: Stage, error: Exception, failed: Path) -> str:
    """What went wrong, and where to look."""
    where = f"\nIts executed notebook: {failed.relative_to(stage.root)}" if failed.is_file() else ""
    if isinstance(error, PapermillExecutionError):
        return f"{stage.label} failed. {_without_machine_paths(f'{error.ename}: {error.evalue}', stage.root)}{where}"
    return f"{stage.label} failed: its kernel died or did not start ({error}). Was there too little memory?{where}"


def _clean(path: Path, root: Path) -> None:
    """Take machine paths and the lines of bars that went on out of an executed notebook, and leave its pictures alone."""
    notebook = nbformat.read(path, as_version=4)
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = without_progress(cell.outputs)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    pictures = [{mime: data.pop(mime) for mime in list(data) if mime.startswith("image/")} for data in shown]
    notebook = nbformat.reads(_without_machine_paths(nbformat.writes(notebook), root), as_version=4)
    shown = [output.data for cell in notebook.cells for output in cell.get("outputs", []) if "data" in output]
    for data, taken in zip(shown, pictures, strict=True):
        data.update(taken)
    path.write_text(nbformat.writes(notebook), encoding="utf-8")


def _without_machine_paths(text: str, root: Path) -> str:
    """Text, or a notebook's JSON, in which paths count from the project's root, the environment's or the home folder."""
    folders = {str(root), sys.prefix, str(Path.home()), tempfile.gettempdir()} - {os.sep}
    begins = r"(?:(?<![\w./-])|(?<=\dm)|(?<=://))"  # also behind what colours a traceback, and in file:///
    for folder in sorted(folders, key=len, reverse=True):
        for written in {folder, json.dumps(folder, ensure_ascii=False)[1:-1]}:
            text = re.sub(begins + re.escape(written) + r"(/|(?![\w.-]))", lambda match: "" if match[1] else ".", text)
    return text
