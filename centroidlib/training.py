"""A training run: Algorithm 1 step after step, what is seen of it, and what it leaves on disk to continue from."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from centroidlib._files import replacing, track
from centroidlib._locks import locked
from centroidlib.algorithm import TrainingState, start, train_step
from centroidlib.centroid import CentroidStats
from centroidlib.checkpoints import History, load_checkpoint, save_checkpoint, save_generator
from centroidlib.config import TrainingConfig
from centroidlib.constraints import Constraint, equation_3
from centroidlib.features import to_uint8
from centroidlib.images import images_digest
from centroidlib.machine import arithmetic, choose_precision
from centroidlib.runs import library_digest, peak_memory
from centroidlib.streams import draw_batch, draw_latents, random_stream, to_device

SAVE_EVERY = 600.0  # seconds at most between two checkpoints, however rarely samples are drawn
TERMS = ("loss_d", "gradient_d", "loss_adversarial", "loss_centroid", "gradient_g")  # what must be finite, in a step's order


def train(
    images: Tensor,
    config: TrainingConfig,
    folder: str | Path,
    phi: nn.Module | None = None,
    stats: CentroidStats | None = None,
    constraint: Constraint | None = None,
    *,
    history_every: int = 10,
    samples_every: int = 100,
    generators_every: int = 0,
    device: torch.device | str = "cpu",
    begin_again: bool = False,
    show: Callable[[pd.DataFrame, Path], None] | None = None,
) -> pd.DataFrame:
    """Train for `config.steps` steps, continuing from the folder's checkpoint where there is one.

    Writes to `folder`: `history.csv`, `samples/step_*.png` (64 fixed latents), `checkpoint.pt` whenever samples are drawn
    and at least every ten minutes, and at the end `generator.safetensors`, with `ema` also `generator_ema.safetensors`;
    with `generators_every` the generators on the way as well, `generators/step_*.safetensors`. A continued run keeps the
    precision and number of threads it began with: on the same CPU it ends with the same bits as
    one never stopped, on the same GPU with `deterministic`.

    Args:
        images: real images, uint8 (N, 3, 64, 64).
        config: what to train.
        folder: of this run; no other process may train in it at the same time.
        phi: Φ. Needed where λ > 0; where λ = 0 it is only measured with.
        stats: c and d_ref in Φ's space.
        constraint: what takes the place of Eq. 3.
        history_every: steps between two rows of the history; the first step has one as well.
        samples_every: steps between two sample grids and checkpoints.
        generators_every: steps between two generators that are kept, to measure how training went; 0 keeps the last only.
        device: where to train.
        begin_again: this run takes the place of a finished one: a checkpoint of other parameters, or by other code of the
            library, is set aside as `checkpoint.before.pt`.
        show: called with the history so far and the latest sample grid whenever one is drawn.

    Returns:
        The history, a row of the first step and of every `history_every`th; its `attrs` hold precision, threads and library
        as the run began.

    Raises:
        ValueError: images of another shape, or the checkpoint is of other parameters (without `begin_again`).
        RuntimeError: another process trains in the folder.
        FloatingPointError: a loss or gradient is not finite; the last good checkpoint stays.
        KeyboardInterrupt: stopped by hand; the step under way was finished and saved.
    """
    if images.dtype != torch.uint8 or images.shape[1:] != (3, 64, 64):
        raise ValueError(f"Training takes uint8 images (N, 3, 64, 64), not {images.dtype} {tuple(images.shape)}.")
    given = config.centroid_samples or config.batch_size
    if constraint is not None and constraint.batch_size not in (0, given):
        raise ValueError(
            f"{constraint.name} is made for batches of {constraint.batch_size} images, and training gives it {given}: its floor "
            "would be another. Make it with that batch_size."
        )
    if min(history_every, samples_every) < 1 or generators_every < 0:
        raise ValueError(
            "history_every and samples_every are steps, at least 1, and generators_every at least 0, not "
            f"{history_every}, {samples_every} and {generators_every}."
        )
    folder, device = Path(folder), torch.device(device)
    with locked(folder):
        asked = {k: v for k, v in asdict(config).items() if k != "steps" and v != "auto"} | {"images": images_digest(images)}
        if config.lambda_ > 0 and stats is not None:
            asked |= {"phi": stats.fingerprint, "reference_distance": stats.reference_distance}
            asked |= {"constraint": constraint.name if constraint else "Eq. 3"}
        state, history, found = _continued(folder / "checkpoint.pt", config, device, asked, begin_again)
        _check_kept(folder, state.step, generators_every)
        here = {"precision": choose_precision(config.precision, device), "threads": torch.get_num_threads()}
        here |= {"library": library_digest()}
        made_with = {name: found.get(name, value) for name, value in here.items()}
        config = replace(config, precision=made_with["precision"])
        stats = stats.to(device) if stats is not None else None
        paid = (constraint or equation_3(stats, config.unit)) if stats is not None else None
        images = _resident(images, device)
        fixed = draw_latents(64, config.latent, random_stream(config.seed, "samples")).to(device)
        first_bad = torch.full((len(TERMS),), -1, device=device)
        latest = state.step, time.perf_counter()
        saved_at = time.monotonic()
        began = latest[1] - (history[-1]["seconds"] if history else 0.0)

        with arithmetic(made_with["threads"], config.deterministic), _noting_interrupts() as interrupted:
            if state.step == 0:
                for stale in (*folder.glob("samples/step_*.png"), *folder.glob("generators/step_*.safetensors")):
                    stale.unlink()
                _write_samples(state, fixed, folder)
            for step in (bar := track(range(state.step, config.steps), "training", done=state.step)):
                last = step + 1 == config.steps
                looking = last or step == 0 or (step + 1) % history_every == 0
                drawing = last or (step + 1) % samples_every == 0
                keeping = generators_every > 0 and (last or (step + 1) % generators_every == 0)
                real = draw_batch(images, step, config.batch_size, config.seed, config.flip, device)
                latents = draw_latents(config.batch_size, config.latent, random_stream(config.seed, "latents", step))
                chosen = phi if looking or (config.lambda_ > 0 and config.space == "phi") else None
                seen = train_step(state, config, real, to_device(latents, device), chosen, stats, constraint)
                first_bad = _note_bad(first_bad, seen, state.step)
                stopping = bool(interrupted)  # once: it may come at any moment
                saving = drawing or stopping or time.monotonic() - saved_at > SAVE_EVERY
                if looking or saving or keeping:
                    _check_finite(first_bad, state, folder)
                if looking:
                    before, latest = latest, (state.step, time.perf_counter())
                    speed = (latest[0] - before[0]) * config.batch_size / (latest[1] - before[1])
                    history.append(_row(seen, state.step, _beside_real(seen, state, paid), speed, latest[1] - began))
                    bar.set_postfix_str(_said(history[-1]), refresh=False)
                if keeping:
                    save_generator(state.generator, folder / "generators" / f"step_{state.step:06d}.safetensors")
                if saving:
                    grid = _write_samples(state, fixed, folder) if drawing else None
                    with replacing(folder / "history.csv") as temporary:
                        pd.DataFrame(history).to_csv(temporary, index=False)
                    save_checkpoint(folder / "checkpoint.pt", state.parts(), state.step, asked | made_with, history)
                    saved_at = time.monotonic()
                    if grid and history and show:
                        show(pd.DataFrame(history), grid)
                if stopping:
                    break
        if state.step == config.steps:
            save_generator(state.generator, folder / "generator.safetensors")
            if state.averaged is not None:
                save_generator(state.averaged, folder / "generator_ema.safetensors")
    if interrupted:
        raise KeyboardInterrupt(f"Stopped after step {state.step:,} of {config.steps:,}, which is saved: run again to continue.")
    table = pd.DataFrame(history)
    table.attrs.update(made_with)
    return table


def _resident(images: Tensor, device: torch.device) -> Tensor:
    """The images on the GPU, as long as they leave half of its free memory; else where they are."""
    if device.type == "cuda" and images.nbytes < torch.cuda.mem_get_info(device)[0] // 2:
        return images.to(device)
    return images


def _continued(
    path: Path, config: TrainingConfig, device: torch.device, asked: dict[str, Any], begin_again: bool
) -> tuple[TrainingState, History, dict[str, Any]]:
    """State, history and parameters of the checkpoint at `path`, or of a new run."""
    state = start(config, device)
    try:
        state.step, history, found = load_checkpoint(path, state.parts(), config.steps, asked)
        if not (begin_again and state.step and found.get("library") != library_digest()):
            return state, history, found
    except ValueError:
        if not begin_again:
            raise
    path.replace(path.with_name("checkpoint.before.pt"))
    return start(config, device), [], {}


def _check_kept(folder: Path, step: int, every: int) -> None:
    """Refuse to go on from a checkpoint whose generators on the way were not all kept: the learning curve would lack them."""
    wanted = range(every, step + 1, every) if every else ()
    if not all((folder / "generators" / f"step_{kept:06d}.safetensors").is_file() for kept in wanted):
        raise ValueError(
            f"The checkpoint in {folder.name} is at step {step:,}, and on the way there not every {every:,} steps a generator "
            "was kept: set generators_every as it was, or delete the checkpoint to begin again."
        )


def _beside_real(seen: Mapping[str, Tensor], state: TrainingState, constraint: Constraint | None) -> dict[str, float]:
    """The constraint beside what real images pay: Eq. 3 as a multiple; others, whose floor may be 0, above it in its scatter."""
    if "loss_centroid" not in seen:
        return {}
    value = float(seen["loss_centroid"])
    if state.moving is not None or constraint is None or constraint.name.startswith("Eq. 3"):
        floor = float(state.moving.floor if state.moving is not None else constraint.floor if constraint else 0.0)
        return {"hinge_over_floor": value / floor if floor > 0 else float("nan")}
    return {"above_floor": (value - float(constraint.floor)) / float(constraint.scatter)}


def _row(
    seen: Mapping[str, Tensor], step: int, beside_real: Mapping[str, float], speed: float, seconds: float
) -> dict[str, float]:
    """A row of the history, at so many images per second, `seconds` after training began."""
    row = {"step": step} | {name: float(value) for name, value in seen.items()} | dict(beside_real)
    row |= {"images_per_second": round(speed, 1), "peak_memory_gb": round(peak_memory(), 2)}
    return row | {"seconds": round(seconds, 2)}


def _said(row: Mapping[str, float]) -> str:
    """What a line of progress says of the latest row."""
    said = f"L_D {row['loss_d']:.2f}, L_adv {row['loss_adversarial']:.2f}"
    if "outside" in row:
        said += f", L_centroid {row['loss_centroid']:.3g}, outside {row['outside']:.0%}"
    return f"{said}, {row['images_per_second']:.0f} images/s"


def _write_samples(state: TrainingState, latents: Tensor, folder: Path) -> Path:
    state.generator.eval()
    with torch.no_grad():
        grid = torchvision.utils.make_grid(to_uint8(state.generator(latents)).cpu(), nrow=8, padding=2, pad_value=255)
    state.generator.train()
    path = folder / "samples" / f"step_{state.step:06d}.png"
    with replacing(path) as temporary:
        Image.fromarray(grid.permute(1, 2, 0).numpy()).save(temporary, "PNG")
    return path


def _note_bad(first_bad: Tensor, seen: Mapping[str, Tensor], step: int) -> Tensor:
    """For each of `TERMS` the first step in which it was not finite, -1 for none: on the device, nobody waits for it."""
    nothing = torch.zeros((), device=first_bad.device)
    finite = torch.stack([seen.get(name, nothing).isfinite() for name in TERMS])
    return torch.where((first_bad < 0) & ~finite, step, first_bad)


def _check_finite(first_bad: Tensor, state: TrainingState, folder: Path) -> None:
    """Stop at what was not finite, or at weights that no longer are."""
    bad = {name: int(step) for name, step in zip(TERMS, first_bad.tolist(), strict=True) if step >= 0}
    if not bad:
        for name, network in (("generator", state.generator), ("discriminator", state.discriminator)):
            if not get_total_norm([w for w in network.state_dict().values() if w.is_floating_point()]).isfinite():
                bad[f"the {name}'s weights"] = state.step
    if bad:
        first = min(bad.values())
        kept = f"The last good checkpoint in {folder.name} is kept. " if (folder / "checkpoint.pt").is_file() else ""
        raise FloatingPointError(
            f"Step {first}: not finite: {', '.join(name for name, step in bad.items() if step == first)}. Training has stopped. "
            f"{kept}Try a smaller lambda_ or learning_rate."
        )


@contextmanager
def _noting_interrupts() -> Iterator[list[int]]:
    """Inside, the first Ctrl-C or press of the notebook's stop button is only noted, in the list; a second one interrupts."""
    noted: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals reach the main thread only
        yield noted
        return

    def note(signum: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(signum)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
