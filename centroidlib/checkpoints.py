"""What training leaves on disk: checkpoints to continue from, and generators to use."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import safetensors
import torch
from safetensors.torch import load_file

from centroidlib._files import replacing
from centroidlib._tensors import write_tensors
from centroidlib.config import TrainingConfig
from centroidlib.models import ARCHITECTURES, AnyGenerator

History = list[dict[str, float]]


def save_checkpoint(path: Path, parts: Mapping[str, Any], step: int, parameters: Mapping[str, Any], history: History) -> None:
    """Write all that a run needs to continue.

    Args:
        path: the file; what stood there is replaced once the new one is whole.
        parts: networks and optimisers by name.
        step: steps taken.
        parameters: what the run was trained with and on; a run that differs in any is refused when it loads.
        history: the rows so far.
    """
    saved = {name: part.state_dict() for name, part in parts.items()}
    with replacing(path) as temporary:
        torch.save({"parts": saved, "step": step, "parameters": dict(parameters), "history": history}, temporary)


def load_checkpoint(
    path: Path, parts: Mapping[str, Any], steps: int, parameters: Mapping[str, Any]
) -> tuple[int, History, dict[str, Any]]:
    """Bring `parts` to the checkpoint at `path`; returns its step, history and parameters, 0 and nothing where there is none.

    Tensors and plain values only are read: no pickled code is executed.

    Raises:
        ValueError: the checkpoint is damaged, of other parameters, or has taken more than `steps`.
    """
    if not path.is_file():
        return 0, [], {}
    folder = path.parent.name
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, taken, states = dict(saved["parameters"]), int(saved["step"]), dict(saved["parts"])
        history = cast(History, saved["history"])
    except Exception as error:  # torch.load raises a dozen kinds on a damaged file
        raise ValueError(f"The checkpoint {path.name} in {folder} is damaged: delete it to begin again.") from error
    # What a checkpoint of an older version does not name was as it is by default.
    there = {field.name: field.default for field in fields(TrainingConfig)} | {"constraint": "Eq. 3"} | found
    differ = [f"{k} = {there.get(k)!r} there, {v!r} asked for" for k, v in parameters.items() if there.get(k) != v]
    if differ:
        raise ValueError(
            f"The checkpoint in {folder} is of other parameters ({'; '.join(differ)}): give the run another folder, or "
            "delete the checkpoint to begin again."
        )
    if taken > steps:
        raise ValueError(f"The checkpoint in {folder} has {taken} steps, more than the {steps} asked for.")
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return taken, history, found


def save_generator(generator: AnyGenerator, path: str | Path) -> None:
    """Write the generator's weights as safetensors, its architecture and shape in the metadata."""
    architecture = next(name for name, (kind, *_) in ARCHITECTURES.items() if isinstance(generator, kind))
    shape = {"latent": str(generator.latent), "width": str(generator.width)}
    write_tensors(path, generator.state_dict(), {"architecture": architecture} | shape)


def load_generator(path: str | Path) -> AnyGenerator:
    """The generator that `save_generator` wrote, in eval mode on the CPU.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shape = file.metadata()
        kind, *_ = ARCHITECTURES[shape.get("architecture", "dcgan")]
        generator = kind(int(shape["latent"]), int(shape["width"]))
        generator.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (safetensors.SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{Path(path).name} is no generator of this library, or damaged: train it again.") from error
    return generator.eval()


def generator_files(root: Path, explored: str, runs: str = "") -> dict[str, str]:
    """The generator's file of each arm's first run, the baseline's first, as paths that count from the project's root.

    Args:
        root: the project's.
        explored: folder in results/ that holds the runs.
        runs: names of run folders, separated by spaces; empty for all that hold a generator.

    Raises:
        FileNotFoundError: there is no such folder, or a run that was asked for, or all of them, holds no generator.
    """
    folder = root / "results" / explored
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder results/{explored}: give the name of a batch, or manual for runs by hand.")
    found: dict[str, str] = {}
    names = (path.name for path in folder.glob("*_seed*"))
    for name in runs.split() or sorted(names, key=lambda name: (not name.startswith("baseline"), name)):
        files = [folder / name / f"generator{kind}.safetensors" for kind in ("", "_half")]
        here = [file.relative_to(root).as_posix() for file in files if file.is_file()]
        if runs and not here:
            raise FileNotFoundError(f"results/{explored}/{name} holds no generator: train it (02_train.ipynb), or leave it out.")
        if here:
            found.setdefault(name.partition("_seed")[0], here[0])
    if not found:
        raise FileNotFoundError(f"No run in results/{explored} holds a generator: train one first (02_train.ipynb does).")
    return found


def load_generators(files: Mapping[str, str | Path]) -> dict[str, AnyGenerator]:
    """The arms' generators, in eval mode and frozen.

    Raises:
        ValueError: a file is damaged, or the generators take latents of different lengths.
    """
    generators = {arm: load_generator(path).requires_grad_(False) for arm, path in files.items()}
    lengths = {arm: generator.latent for arm, generator in generators.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{arm}: {length}" for arm, length in lengths.items())
        raise ValueError(
            f"One latent cannot go to all arms, for they take different lengths ({told}): choose runs of one length."
        )
    return generators
