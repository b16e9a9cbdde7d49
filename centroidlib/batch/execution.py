"""Executing what is not done, one notebook after the other, through papermill."""

import json
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from papermill.exceptions import PapermillExecutionError
from papermill.execute import execute_notebook

from centroidlib._files import replacing, sha256
from centroidlib.batch.planning import BatchError, Stage, declared_parameters
from centroidlib.runs import project_root, read_record, write_record


def execute(stage: Stage) -> None:
    """Run one stage through papermill; the executed notebook lies in the stage's folder.

    Raises:
        BatchError: a cell failed (its notebook is kept beside the last good one, as `<name>.failed.ipynb`), the
            kernel died, or the notebook noted no result.
    """
    target, root, source = stage.folder / stage.notebook.name, project_root(stage.notebook.parent), sha256(stage.notebook)
    failed = target.with_suffix(".failed.ipynb")
    try:
        with replacing(target) as temporary:
            try:
                # A kernel in a batch must not take itself for one that a person watches.
                os.environ.pop("JPY_SESSION_NAME", None)
                execute_notebook(
                    str(stage.notebook).replace("{", "{{").replace("}", "}}"),
                    str(temporary).replace("{", "{{").replace("}", "}}"),
                    stage.parameters,
                    kernel_name="python3",
                    cwd=str(root),
                    progress_bar=False,
                    log_output=False,
                    # A busy kernel logs as an error that its own shutdown interrupts it.
                    extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
                )
            except PapermillExecutionError:
                _clean(temporary, root)
                os.replace(temporary, failed)
                raise
            _clean(temporary, root)
    except PapermillExecutionError as error:
        sentence = _without_machine_paths(f"{error.ename}: {error.evalue}", root)
        raise BatchError(
            f"{stage.label} failed, and the batch has stopped.\n{sentence}\nThe traceback stands in "
            f"{failed.relative_to(root)}; finished stages are kept and are not run again."
        ) from error
    except (RuntimeError, NoSuchKernel) as error:
        raise BatchError(
            f"{stage.label} failed, and the batch has stopped: its kernel died or did not start ({error}). Was there too little "
            "memory? Finished stages are kept and are not run again."
        ) from error
    failed.unlink(missing_ok=True)
    record = read_record(stage.folder)
    if stage.name not in record.get("stages", {}):
        raise BatchError(f"{stage.label} ran to its end but left no record: its last cell must call run.finish(...).")
    record["stages"][stage.name]["notebook"] = source
    write_record(stage.folder, record)


def is_done(stage: Stage) -> bool:
    """Whether the record says that this notebook ran to its end, with these parameters and today's inputs and outputs."""
    record = read_record(stage.folder).get("stages", {}).get(stage.name, {})
    wanted = declared_parameters(stage.notebook) | stage.parameters
    return (
        bool(record)
        and record.get("notebook") == sha256(stage.notebook)
        and record["parameters"] == wanted
        and (stage.folder / stage.notebook.name).is_file()
        and all(_same(stage.folder / name, digest) for name, digest in record["outputs"].items())
        and all(_same(stage.folder.parent / name, digest) for name, digest in record["inputs"].items())
    )


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest


def _clean(path: Path, root: Path) -> None:
    """Take machine paths out of an executed notebook."""
    notebook = nbformat.read(path, as_version=4)
    for key in ("input_path", "output_path"):
        notebook.metadata.get("papermill", {}).pop(key, None)
    path.write_text(_without_machine_paths(nbformat.writes(notebook), root), encoding="utf-8")


def _without_machine_paths(text: str, root: Path) -> str:
    """Text, or a notebook's JSON, in which paths count from the project's root, the environment's or the home folder."""
    folders = {str(root), sys.prefix, str(Path.home()), tempfile.gettempdir()} - {os.sep}
    for folder in sorted(folders, key=len, reverse=True):
        for written in {folder, json.dumps(folder, ensure_ascii=False)[1:-1]}:
            text = re.sub(re.escape(written) + r"(/|(?![\w.-]))", lambda match: "" if match[1] else ".", text)
    return text
