"""What a batch knows of a notebook: its parameters and its code."""

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Scalar = bool | int | float | str
PROGRESS = re.compile(r"(.+): [\d,]+ of [\d,]+, [\d:]+ gone, ")  # a line of centroidlib._files.track


class BatchError(ValueError):
    """A batch that cannot run as it is written; its text is a sentence for whoever wrote it."""


@dataclass(frozen=True)
class Notebook:
    """A notebook as it stood when the batch was planned: what is edited later waits for the next batch.

    Attributes:
        path: where its source lies.
        text: the file.
        defaults: names and values of the cell tagged `parameters`.
    """

    path: Path
    text: str
    defaults: dict[str, Scalar]

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @cached_property
    def code(self) -> str:
        """The code cells but for the parameters: what a run depends on, however the text around it reads."""
        return "\n\n".join(source for source, tags in _code_cells(json.loads(self.text)) if "parameters" not in tags)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of `code`."""
        return hashlib.sha256(self.code.encode()).hexdigest()


def read_notebook(path: Path) -> Notebook:
    """The notebook at `path` with its parameters.

    Raises:
        BatchError: there is no such notebook or cell, or the cell holds more than scalars.
    """
    if not path.is_file():
        raise BatchError(f"There is no notebook {path.name} in {path.parent.name}/.")
    try:
        text = path.read_text(encoding="utf-8")
        cells = _code_cells(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BatchError(f"{path.name} is not a notebook, or damaged: {type(error).__name__}, {error}.") from error
    tagged = [source for source, tags in cells if "parameters" in tags]
    if len(tagged) != 1:
        raise BatchError(f"{path.name} has {len(tagged)} cells tagged 'parameters'; it needs exactly one.")
    return Notebook(path, text, _scalars(tagged[0], f"{path.name}, cell 'parameters', line"))


def declared_parameters(path: Path) -> dict[str, Scalar]:
    """Names and defaults from the notebook's cell tagged `parameters`; raises what `read_notebook` does."""
    return read_notebook(path).defaults


def without_progress(outputs: list[Any]) -> list[Any]:
    """A cell's outputs with only the last line of each progress bar: they are read between a cell and its picture."""
    ended: set[str] = set()
    for output in reversed(outputs):
        if output["output_type"] == "stream":
            lines = []
            for line in reversed(output["text"].splitlines(keepends=True)):
                bar = PROGRESS.match(line)
                if not bar or bar[1] not in ended:
                    lines.append(line)
                ended |= {bar[1]} if bar else set()
            output["text"] = "".join(reversed(lines))
    return [output for output in outputs if output["output_type"] != "stream" or output["text"]]


def _code_cells(notebook: Any) -> list[tuple[str, list[str]]]:
    """Source and tags of each code cell. nbformat would check the file as well, and takes two seconds to import."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return [("".join(cell["source"]), cell["metadata"].get("tags") or []) for cell in cells]


def _scalars(source: str, where: str) -> dict[str, Scalar]:
    try:
        lines = ast.parse(source).body
    except SyntaxError as error:
        raise BatchError(f"{where} {error.lineno}: {error.msg}.") from error
    found: dict[str, Scalar] = {}
    for line in lines:
        try:
            if not isinstance(line, ast.Assign) or len(line.targets) != 1 or not isinstance(line.targets[0], ast.Name):
                raise ValueError
            value = ast.literal_eval(line.value)
            if not isinstance(value, Scalar):
                raise ValueError
        except (ValueError, TypeError):
            raise BatchError(f"{where} {line.lineno}: only lines like name = scalar may stand there.") from None
        found[line.targets[0].id] = value
    return found
