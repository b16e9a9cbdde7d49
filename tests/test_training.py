"""Tests of everything a long run depends on: the same bits, checkpoints, interruptions, failures, what is seen."""

import dataclasses
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY
from PIL import Image
from safetensors.torch import load_file

import centroidlib as cl
from centroidlib import training
from centroidlib._locks import locked
from centroidlib.constraints import constraint_of
from centroidlib.streams import draw_latents, random_stream


def test_arms_of_one_seed_share_networks_latents_and_order(faces, toy_phi, toy_stats, tmp_path, monkeypatch):
    shown: dict[float, list[torch.Tensor]] = {0.0: [], 10.0: []}
    step = training.train_step

    def spy(state, config, real, latents, *rest):
        if state.step == 0:
            shown[config.lambda_] += [w.clone() for n in (state.generator, state.discriminator) for w in n.parameters()]
        shown[config.lambda_] += [real.clone(), latents.clone()]
        return step(state, config, real, latents, *rest)

    monkeypatch.setattr(training, "train_step", spy)
    for lambda_ in shown:
        cl.train(faces, dataclasses.replace(TINY, lambda_=lambda_), tmp_path / str(lambda_), toy_phi, toy_stats)
    assert len(shown[0.0]) == len(shown[10.0]) > 12
    assert all(torch.equal(a, b) for a, b in zip(*shown.values(), strict=True))
    assert not torch.equal(shown[0.0][-1], shown[0.0][-3])  # other latents in every step
    ends = [load_file(tmp_path / str(lambda_) / "generator.safetensors") for lambda_ in shown]
    assert not torch.equal(ends[0]["layers.0.weight"], ends[1]["layers.0.weight"])


def test_one_run_twice_gives_the_same_bits(faces, toy_phi, toy_stats, tmp_path):
    for name in ("first", "second"):
        cl.train(faces, TINY, tmp_path / name, toy_phi, toy_stats)
    first, second = (tmp_path / n / "generator.safetensors" for n in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()


def test_generators_on_the_way_are_kept_for_the_learning_curve(faces, toy_phi, toy_stats, tmp_path):
    (tmp_path / "run" / "generators").mkdir(parents=True)
    (tmp_path / "run" / "generators" / "step_000099.safetensors").write_bytes(b"of a run that was here before")
    cl.train(faces, dataclasses.replace(TINY, steps=5), tmp_path / "run", toy_phi, toy_stats, generators_every=2)
    kept = sorted((tmp_path / "run" / "generators").iterdir())
    assert [path.name for path in kept] == [f"step_00000{step}.safetensors" for step in (2, 4, 5)]
    cl.train(faces, dataclasses.replace(TINY, steps=4), tmp_path / "shorter", toy_phi, toy_stats)
    assert kept[1].read_bytes() == (tmp_path / "shorter" / "generator.safetensors").read_bytes()
    assert kept[2].read_bytes() == (tmp_path / "run" / "generator.safetensors").read_bytes()
    with pytest.raises(ValueError, match="generators_every at least 0"):
        cl.train(faces, TINY, tmp_path / "never", generators_every=-1)


@pytest.mark.parametrize(
    ("lambda_", "more"),
    [
        (0.0, {"ema": 0.9}),
        (10.0, {}),
        (10.0, {"ema": 0.5, "instance_noise": 0.2}),
        (10.0, {"adapt": 0.1, "warmup": 7, "space": "discriminator"}),
        (10.0, {"architecture": "resnet", "game": "relativistic", "r1": 0.1, "ema": 0.9}),
    ],
)
def test_a_continued_run_equals_an_uninterrupted_one_bit_for_bit(faces, toy_phi, toy_stats, tmp_path, lambda_, more):
    short = dataclasses.replace(TINY, lambda_=lambda_, steps=5, flip=True, **more)
    long = dataclasses.replace(short, steps=10)
    cl.train(faces, long, tmp_path / "whole", toy_phi, toy_stats)
    cl.train(faces, short, tmp_path / "parts", toy_phi, toy_stats)
    assert not np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "parts")))
    cl.train(faces, long, tmp_path / "parts", toy_phi, toy_stats)
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "parts")))
    saved = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=True) for n in ("whole", "parts")]
    names = ["generator", "discriminator", "generator_optimiser", "discriminator_optimiser", *["averaged"] * ("ema" in more)]
    names += ["multiplier", "moving"] * ("adapt" in more)
    assert list(saved[0]["parts"]) == names
    for name in names:
        torch.testing.assert_close(saved[0]["parts"][name], saved[1]["parts"][name], rtol=0, atol=0)
    ends = [tmp_path / n / "generator_ema.safetensors" for n in ("whole", "parts")]
    assert [end.exists() for end in ends] == ["ema" in more] * 2
    if "ema" in more:
        assert ends[0].read_bytes() == ends[1].read_bytes()
        average, last = (cl.load_generator(tmp_path / "whole" / f"{n}.safetensors") for n in ("generator_ema", "generator"))
        weights = zip(average.parameters(), last.parameters(), strict=True)
        assert not all(torch.equal(a, b) for a, b in weights)


def generator_bytes(folder):
    return np.frombuffer((folder / "generator.safetensors").read_bytes(), np.uint8)


def interrupting(monkeypatch, at, times=1):
    """Press Ctrl-C in the midst of step `at`."""
    step = training.train_step

    def interrupted(state, *rest):
        if state.step + 1 == at:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)
        return step(state, *rest)

    monkeypatch.setattr(training, "train_step", interrupted)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_continue(faces, toy_phi, toy_stats, tmp_path, monkeypatch, capsys):
    cl.train(faces, TINY, tmp_path / "whole", toy_phi, toy_stats, history_every=2, samples_every=2)
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupting(patch, at=5)
        with pytest.raises(KeyboardInterrupt, match="Stopped after step 5 of 6, which is saved: run again to continue"):
            cl.train(faces, TINY, tmp_path / "cut", toy_phi, toy_stats, history_every=2, samples_every=2)
    assert signal.getsignal(signal.SIGINT) is before
    assert steps_saved(tmp_path / "cut") == 5
    assert not (tmp_path / "cut" / "generator.safetensors").exists()
    cl.train(faces, TINY, tmp_path / "cut", toy_phi, toy_stats, history_every=2, samples_every=2)
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "cut")))
    whole, cut = (pd.read_csv(tmp_path / n / "history.csv") for n in ("whole", "cut"))
    assert "training: 6 of 6, " in capsys.readouterr().out.splitlines()[-1]  # not 1 of 1
    losses = [name for name in whole if name not in ("seconds", "images_per_second", "peak_memory_gb")]
    pd.testing.assert_frame_equal(whole[losses], cut[losses])
    assert [p.name for p in sorted((tmp_path / "cut" / "samples").iterdir())] == [f"step_{s:06d}.png" for s in (0, 2, 4, 6)]


def test_a_second_ctrl_c_does_not_wait(faces, toy_phi, toy_stats, tmp_path, monkeypatch):
    interrupting(monkeypatch, at=3, times=2)
    with pytest.raises(KeyboardInterrupt) as caught:
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    assert str(caught.value) == ""
    assert not (tmp_path / "checkpoint.pt").exists()


def test_ctrl_c_in_the_last_step_still_stops_what_follows(faces, toy_phi, toy_stats, tmp_path, monkeypatch):
    interrupting(monkeypatch, at=6)
    with pytest.raises(KeyboardInterrupt, match="Stopped after step 6 of 6"):
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    assert (tmp_path / "generator.safetensors").exists()


def test_training_in_a_thread_leaves_signals_alone(faces, tmp_path):
    histories = []
    config = dataclasses.replace(TINY, lambda_=0.0)
    thread = threading.Thread(target=lambda: histories.append(cl.train(faces, config, tmp_path)))
    thread.start()
    thread.join()
    assert histories[0]["step"].iloc[-1] == 6


ENDLESS = """
import dataclasses, sys
import torch, centroidlib as cl
from conftest import TINY
torch.set_num_threads(1)
config = dataclasses.replace(TINY, lambda_=0.0, ema=0.5, steps=100_000)
cl.train(cl.draw_faces(22, seed=1)[0], config, sys.argv[1], history_every=1, samples_every=1)
"""


@contextmanager
def training_elsewhere(folder):
    """Inside, another process trains in the folder and saves every step; at the end it is killed."""
    reached = steps_saved(folder)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ENDLESS, str(folder)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while steps_saved(folder) <= reached:
            assert process.poll() is None
            time.sleep(0.01)
        yield
    finally:
        process.kill()
        process.communicate()


def steps_saved(folder):
    path = folder / "checkpoint.pt"
    return torch.load(path, weights_only=True)["step"] if path.exists() else 0


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(faces, tmp_path):
    """Every step writes a checkpoint, so most of the time something is being written when SIGKILL comes."""
    folder, rng, killed_at = tmp_path / "killed", random.Random(0), []
    for _ in range(3):
        with training_elsewhere(folder):
            time.sleep(rng.uniform(0.0, 0.3))
        checkpoint = torch.load(folder / "checkpoint.pt", weights_only=True)
        assert len(checkpoint["history"]) == checkpoint["step"]
        killed_at.append(checkpoint["step"])
    assert killed_at == sorted(set(killed_at))
    config = dataclasses.replace(TINY, lambda_=0.0, ema=0.5, steps=killed_at[-1] + 3)
    cl.train(faces, config, folder, history_every=1, samples_every=1)
    cl.train(faces, config, tmp_path / "whole", history_every=1, samples_every=1000)
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("whole", "killed")))
    assert not list(folder.rglob(".*.part*"))
    assert len(list((folder / "samples").iterdir())) == config.steps + 1
    assert list(pd.read_csv(folder / "history.csv")["step"]) == list(range(1, config.steps + 1))


def test_a_folder_in_which_another_process_trains_is_refused(faces, tmp_path):
    refused = pytest.raises(RuntimeError, match=r"Another process works in .*/busy \(.*\): wait for it, or shut its kernel down")
    with training_elsewhere(tmp_path / "busy"), refused:
        cl.train(faces, TINY, tmp_path / "busy")


def test_training_keeps_the_lock_that_its_run_holds(faces, tmp_path):
    take = f"import fcntl; fcntl.flock(open({str(tmp_path / '.lock')!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    with locked(tmp_path):
        cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path)
        assert subprocess.run([sys.executable, "-c", take], stderr=subprocess.DEVNULL).returncode != 0
    assert subprocess.run([sys.executable, "-c", take]).returncode == 0


def test_what_others_left_in_the_folder_is_not_swept_away(faces, tmp_path):
    (tmp_path / "samples").mkdir()
    kept = [
        tmp_path / name
        for name in (
            ".hidden.partial",
            ".a.20261121.participants",
            "a.part",
            "samples/.x.part1",
        )
    ]
    swept = [tmp_path / name for name in (".checkpoint.pt.abcdefgh.part.pt", "samples/.step_000100.png.a_cd3fgh.part.png")]
    swept.append(tmp_path / ".02_train.ipynb.abcdefgh.part.ipynb")  # of a batch that was killed
    for path in kept + swept:
        path.write_text("")
    cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path)
    assert [path.exists() for path in kept + swept] == [True] * 4 + [False] * 3


def test_a_continued_run_keeps_its_precision_and_threads(faces, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, lambda_=0.0, steps=3, precision="auto")
    seen = []
    step = training.train_step

    def spy(state, config, *rest):
        seen.append((config.precision, torch.get_num_threads()))
        return step(state, config, *rest)

    monkeypatch.setattr(training, "train_step", spy)
    monkeypatch.setattr(training, "choose_precision", lambda asked, device: "bfloat16" if asked == "auto" else asked)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert cl.train(faces, config, tmp_path).attrs.items() >= {"precision": "bfloat16", "threads": 2}.items()
    torch.set_num_threads(before)
    monkeypatch.setattr(training, "choose_precision", lambda asked, device: "float32" if asked == "auto" else asked)
    assert (
        cl.train(faces, dataclasses.replace(config, steps=5), tmp_path).attrs.items()
        >= {"precision": "bfloat16", "threads": 2}.items()
    )
    assert seen == [("bfloat16", 2)] * 5
    assert torch.get_num_threads() == before
    with pytest.raises(ValueError, match=r"other parameters \(precision = 'bfloat16' there, 'float32' asked for\)"):
        cl.train(faces, dataclasses.replace(config, precision="float32", steps=5), tmp_path)
    assert len(cl.train(faces, dataclasses.replace(config, precision="bfloat16", steps=5), tmp_path)) == 3


@pytest.mark.parametrize("term", ["loss_d", "loss_adversarial", "loss_centroid", "gradient_d", "gradient_g"])
def test_the_step_and_the_term_that_failed_are_named_later_too(faces, toy_phi, toy_stats, tmp_path, monkeypatch, term):
    step = training.train_step

    def failing(state, *rest):
        seen = step(state, *rest)
        spoilt = {4: [term], 5: [term, "loss_d", "gradient_g"]}.get(state.step, [])
        return seen | {name: torch.tensor(float("nan")) for name in spoilt}

    monkeypatch.setattr(training, "train_step", failing)
    with pytest.raises(FloatingPointError, match=rf"Step 4: not finite: {term}\. Training has stopped"):
        cl.train(faces, dataclasses.replace(TINY, steps=9), tmp_path, toy_phi, toy_stats, history_every=7, samples_every=3)
    assert steps_saved(tmp_path) == 3


def test_a_failure_is_not_saved_by_ctrl_c_either(faces, tmp_path, monkeypatch):
    step = training.train_step

    def failing(state, *rest):
        seen = step(state, *rest)
        if state.step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            return seen | {"loss_d": torch.tensor(float("inf"))}
        return seen

    monkeypatch.setattr(training, "train_step", failing)
    with pytest.raises(FloatingPointError, match=r"Step 4: not finite: loss_d\. Training has stopped"):
        cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path, samples_every=3)
    assert steps_saved(tmp_path) == 3


def test_progress_says_the_latest_losses(faces, toy_phi, toy_stats, tmp_path, capsys):
    history = cl.train(faces, TINY, tmp_path, toy_phi, toy_stats, history_every=1)
    line = capsys.readouterr().out.strip().splitlines()[-1]
    assert line.startswith("training: 6 of 6, ")
    row = history.iloc[-1]
    assert f"L_D {row['loss_d']:.2f}, L_adv {row['loss_adversarial']:.2f}, L_centroid " in line
    assert f"outside {row['outside']:.0%}, " in line


def test_images_a_second_are_those_since_the_last_row(faces, tmp_path, monkeypatch):
    clock = iter([100.0, 101.0, 102.0, 103.0, 107.0])  # the beginning, then each row
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    history = cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path, history_every=2)
    assert list(history["step"]) == [1, 2, 4, 6]  # the first as well: a loss may act there only
    assert list(history["seconds"]) == [1.0, 2.0, 3.0, 7.0]
    assert list(history["images_per_second"]) == [4.0, 4.0, 8.0, 2.0]


def test_the_first_row_of_a_continued_run_counts_its_own_steps_only(faces, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, lambda_=0.0, steps=5)
    cl.train(faces, config, tmp_path, history_every=4)
    clock = iter([1000.0, 1001.0])
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    history = cl.train(faces, dataclasses.replace(config, steps=8), tmp_path, history_every=4)
    assert history["images_per_second"].iloc[-1] == 3 * 4


def test_a_new_beginning_shows_no_grids_of_an_earlier_one(faces, tmp_path):
    config = dataclasses.replace(TINY, lambda_=0.0)
    cl.train(faces, config, tmp_path, samples_every=2)
    (tmp_path / "checkpoint.pt").unlink()
    cl.train(faces, dataclasses.replace(config, steps=3), tmp_path, samples_every=3)
    assert sorted(path.name for path in (tmp_path / "samples").iterdir()) == ["step_000000.png", "step_000003.png"]


@pytest.mark.parametrize("deterministic", [True, False])
def test_determinism_is_asked_of_torch(faces, tmp_path, monkeypatch, deterministic):
    step, seen = training.train_step, []

    def spy(*rest):
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(*rest)

    monkeypatch.setattr(training, "train_step", spy)
    cl.train(faces, dataclasses.replace(TINY, lambda_=0.0, steps=1, deterministic=deterministic), tmp_path)
    assert seen == [deterministic]


def test_whoever_watches_is_shown_the_history_and_the_grid(faces, tmp_path):
    shown = []
    config = dataclasses.replace(TINY, lambda_=0.0)
    cl.train(faces, config, tmp_path, history_every=1, samples_every=4, show=lambda *what: shown.append(what))
    assert [(len(history), grid.name) for history, grid in shown] == [(4, "step_000004.png"), (6, "step_000006.png")]
    shown.clear()
    cl.train(faces, config, tmp_path / "rare", history_every=4, samples_every=2, show=lambda *what: shown.append(what))
    assert [len(history) for history, _ in shown] == [1, 2, 3]


def test_a_floor_of_zero_has_no_multiple(faces, toy_phi, toy_stats, tmp_path):
    history = cl.train(faces, TINY, tmp_path, toy_phi, dataclasses.replace(toy_stats, floor=0.0))
    assert history["hinge_over_floor"].isna().all()


def test_a_checkpoint_is_written_every_ten_minutes_however_rare_the_grids(faces, tmp_path, monkeypatch):
    clock = iter([0.0, 500.0, 601.0, 601.0, 700.0, 1201.0, 1202.0, 1202.0, 1300.0, 1300.0])  # two readings where one is written
    monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
    saved = []
    save = training.save_checkpoint
    monkeypatch.setattr(training, "save_checkpoint", lambda *what: saved.append(what[2]) or save(*what))
    cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path)
    assert saved == [2, 5, 6]
    assert len(list((tmp_path / "samples").iterdir())) == 2


def test_a_finished_run_is_not_trained_further(faces, toy_phi, toy_stats, tmp_path, monkeypatch, capsys):
    cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    before = generator_bytes(tmp_path).copy()
    monkeypatch.setattr(training, "train_step", None)
    capsys.readouterr()
    assert cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)["step"].iloc[-1] == 6
    assert capsys.readouterr().out == ""
    assert np.array_equal(before, generator_bytes(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lambda_": 3.0}, r"other parameters \(lambda_ = 10.0 there, 3.0 asked for\)"),
        ({"seed": 1, "beta1": 0.9}, r"\(beta1 = 0.5 there, 0.9 asked for; seed = 0 there, 1 asked for\)"),
        (
            {"learning_rate": 1e-3, "flip": True},
            r"\(learning_rate = 0.0002 there, 0.001 asked for; flip = False there, True asked",
        ),
        ({"steps": 4}, "has 6 steps, more than the 4 asked for"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(faces, toy_phi, toy_stats, tmp_path, changes, message):
    cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    before = (tmp_path / "checkpoint.pt").read_bytes()
    with pytest.raises(ValueError, match=message):
        cl.train(faces, dataclasses.replace(TINY, **changes), tmp_path, toy_phi, toy_stats)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_a_checkpoint_of_other_images_or_another_centroid_is_refused(faces, toy_phi, toy_stats, tmp_path):
    cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    with pytest.raises(ValueError, match=r"other parameters \(images = "):
        cl.train(faces[:-1], TINY, tmp_path, toy_phi, toy_stats)
    with pytest.raises(ValueError, match=r"phi = .* there, 'another' asked for; reference_distance = "):
        cl.train(faces, TINY, tmp_path, toy_phi, dataclasses.replace(toy_stats, fingerprint="another", reference_distance=1.0))


def test_a_checkpoint_of_another_constraint_is_refused(faces, toy_phi, toy_stats, tmp_path):
    real = cl.features_of(faces, toy_phi, "toy")
    constraint, other = (constraint_of("sliced", real, whiten, 4) for whiten in ("full", "none"))
    history = cl.train(faces, TINY, tmp_path / "one", toy_phi, toy_stats, constraint)
    above = history["above_floor"] * constraint.scatter + constraint.floor
    np.testing.assert_allclose(above, history["loss_centroid"], rtol=1e-5)
    assert "hinge_over_floor" not in history  # of a floor that may be 0
    with pytest.raises(ValueError, match=r"constraint = 'sliced, whitening full' there, 'sliced, whitening none' asked for"):
        cl.train(faces, TINY, tmp_path / "one", toy_phi, toy_stats, other)
    with pytest.raises(ValueError, match=r"constraint = 'sliced, whitening full' there, 'Eq\. 3' asked for"):
        cl.train(faces, TINY, tmp_path / "one", toy_phi, toy_stats)
    cl.train(faces, TINY, tmp_path / "two", toy_phi, toy_stats)
    with pytest.raises(ValueError, match=r"constraint = 'Eq\. 3' there, 'sliced, whitening full' asked for"):
        cl.train(faces, TINY, tmp_path / "two", toy_phi, toy_stats, constraint)


def test_a_constraint_for_batches_of_another_size_is_refused(faces, toy_phi, toy_stats, tmp_path):
    constraint = constraint_of("sliced", cl.features_of(faces, toy_phi, "toy"), "full", 8)
    with pytest.raises(ValueError, match="is made for batches of 8 images, and training gives it 4: its floor would be another"):
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats, constraint)


def test_a_checkpoint_of_an_older_version_goes_on(faces, toy_phi, toy_stats, tmp_path):
    """It names fewer parameters: those that there were."""
    cl.train(faces, dataclasses.replace(TINY, steps=4), tmp_path, toy_phi, toy_stats)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for name in ("constraint", "game", "architecture", "r1", "warmup"):
        del saved["parameters"][name]
    torch.save(saved, tmp_path / "checkpoint.pt")
    history = cl.train(faces, dataclasses.replace(TINY, steps=6), tmp_path, toy_phi, toy_stats)
    assert history["step"].iloc[-1] == 6


@pytest.mark.parametrize("content", ["cut", "text", "empty", "other"])
def test_a_damaged_checkpoint_is_named(faces, toy_phi, toy_stats, tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    if content == "other":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:5000], "text": b"no checkpoint", "empty": b""}[content])
    with pytest.raises(ValueError, match=r"checkpoint.pt in .* is damaged: delete it to begin again"):
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)


def test_a_diverged_run_stops_in_a_sentence_and_keeps_its_checkpoint(faces, toy_phi, toy_stats, tmp_path, monkeypatch):
    step = training.train_step

    def diverging(state, *rest):
        if state.step == 3:
            state.generator.layers[0].weight.data.fill_(float("nan"))
        return step(state, *rest)

    monkeypatch.setattr(training, "train_step", diverging)
    with pytest.raises(
        FloatingPointError, match=r"Step 4: not finite: loss_d, gradient_d, .*checkpoint in .* is kept. Try a smaller"
    ):
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats, samples_every=2)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 2
    assert all(torch.isfinite(w).all() for w in saved["parts"]["generator"].values())
    assert not (tmp_path / "generator.safetensors").exists()


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_weights_that_are_lost_after_a_finite_loss_are_not_saved(faces, toy_phi, toy_stats, tmp_path, monkeypatch, network):
    step = training.train_step

    def diverging(state, *rest):
        seen = step(state, *rest)
        if state.step == 4:
            getattr(state, network).layers[0].weight.data.fill_(float("nan"))
        return seen

    monkeypatch.setattr(training, "train_step", diverging)
    with pytest.raises(FloatingPointError, match=rf"Step 4: not finite: the {network}'s weights"):
        cl.train(faces, TINY, tmp_path, toy_phi, toy_stats, samples_every=2)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert saved["step"] == 2
    assert all(torch.isfinite(w).all() for w in saved["parts"][network].values())


def test_a_huge_learning_rate_stops_in_a_sentence(faces, toy_phi, toy_stats, tmp_path):
    config = dataclasses.replace(TINY, learning_rate=1e30, steps=40)
    with pytest.raises(FloatingPointError, match=r"Step \d+: not finite: .* Training has stopped"):
        cl.train(faces, config, tmp_path, toy_phi, toy_stats, history_every=1)


@pytest.mark.parametrize("lambda_", [0.0, 10.0])
def test_history_and_samples(faces, toy_phi, toy_stats, tmp_path, lambda_):
    config = dataclasses.replace(TINY, lambda_=lambda_, steps=7)
    history = cl.train(faces, config, tmp_path, toy_phi, toy_stats, history_every=2, samples_every=3)
    columns = [
        "step",
        "loss_d",
        "gradient_d",
        "loss_adversarial",
        *["gradient_ratio"] * (lambda_ > 0),
        "loss_centroid",
        "outside",
    ]
    columns += ["gradient_g", "d_real", "accuracy_real", "d_fake", "accuracy_fake", "hinge_over_floor", "images_per_second"]
    assert list(history.columns) == [*columns, "peak_memory_gb", "seconds"]
    assert (history["images_per_second"] > 0).all()
    assert (history["peak_memory_gb"] > 0).all()
    assert list(history["step"]) == [1, 2, 4, 6, 7]
    np.testing.assert_allclose(
        history["hinge_over_floor"] * toy_stats.floor / toy_stats.reference_distance, history["loss_centroid"], rtol=1e-6
    )
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "history.csv"), history)
    samples = sorted((tmp_path / "samples").iterdir())
    assert [p.name for p in samples] == [f"step_{step:06d}.png" for step in (0, 3, 6, 7)]
    with Image.open(samples[0]) as grid:
        assert (grid.mode, grid.size) == ("RGB", (8 * 66 + 2, 8 * 66 + 2))


def test_the_last_samples_are_those_of_the_saved_generator(faces, toy_phi, toy_stats, tmp_path):
    cl.train(faces, TINY, tmp_path, toy_phi, toy_stats)
    generator = cl.load_generator(tmp_path / "generator.safetensors")
    with torch.no_grad():
        picture = cl.to_uint8(generator(draw_latents(64, TINY.latent, random_stream(TINY.seed, "samples"))))[0]
    with Image.open(tmp_path / "samples" / "step_000006.png") as grid:
        assert np.array_equal(np.asarray(grid)[2:66, 2:66], picture.permute(1, 2, 0).numpy())


def test_measuring_the_baseline_leaves_no_trace(faces, toy_phi, toy_stats, tmp_path):
    config = dataclasses.replace(TINY, lambda_=0.0)
    cl.train(faces, config, tmp_path / "measured", toy_phi, toy_stats, history_every=1)
    cl.train(faces, config, tmp_path / "plain")
    assert np.array_equal(*(generator_bytes(tmp_path / n) for n in ("measured", "plain")))


@pytest.mark.parametrize("faces", [torch.zeros(8, 3, 64, 64), torch.zeros(8, 3, 32, 32, dtype=torch.uint8)])
def test_images_of_another_form_are_refused(faces, tmp_path):
    with pytest.raises(ValueError, match=r"Training takes uint8 images \(N, 3, 64, 64\), not " + re.escape(str(faces.dtype))):
        cl.train(faces, TINY, tmp_path)


def test_intervals_of_no_steps_are_refused(faces, tmp_path):
    for more in ({"history_every": 0}, {"samples_every": 0}):
        with pytest.raises(ValueError, match="are steps, at least 1"):
            cl.train(faces, dataclasses.replace(TINY, lambda_=0.0), tmp_path, **more)


# A run that takes the place of a finished one.

PLAIN = dataclasses.replace(TINY, lambda_=0.0)


@pytest.mark.parametrize("change", ["parameters", "code"])
def test_a_finished_run_is_replaced_and_its_checkpoint_set_aside(tmp_path, faces, monkeypatch, change):
    cl.train(faces, PLAIN, tmp_path)
    old = (tmp_path / "checkpoint.pt").read_bytes()
    config = dataclasses.replace(PLAIN, learning_rate=1e-3) if change == "parameters" else PLAIN
    if change == "code":
        monkeypatch.setattr(training, "library_digest", lambda: "other")
        monkeypatch.setattr(training, "random_stream", lambda seed, *names: random_stream(seed + 7, *names))
    cl.train(faces, config, tmp_path, begin_again=True)
    assert (tmp_path / "checkpoint.before.pt").read_bytes() == old
    cl.train(faces, config, tmp_path / "alone")
    assert np.array_equal(*(generator_bytes(folder) for folder in (tmp_path, tmp_path / "alone")))


def test_a_run_that_replaces_another_continues_from_its_own_checkpoint(tmp_path, faces):
    longer = dataclasses.replace(PLAIN, steps=PLAIN.steps + 2)
    cl.train(faces, PLAIN, tmp_path)
    history = cl.train(faces, longer, tmp_path, history_every=1, begin_again=True)
    assert not (tmp_path / "checkpoint.before.pt").exists()
    assert list(history["step"]) == [1, PLAIN.steps, PLAIN.steps + 1, PLAIN.steps + 2]  # its own rows and what is new


def test_other_code_continues_an_unfinished_run_and_says_what_it_began_with(tmp_path, faces, monkeypatch):
    began = cl.train(faces, dataclasses.replace(PLAIN, steps=3), tmp_path).attrs["library"]
    monkeypatch.setattr(training, "library_digest", lambda: "other")
    assert cl.train(faces, PLAIN, tmp_path).attrs["library"] == began != "other"
