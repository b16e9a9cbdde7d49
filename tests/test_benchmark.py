"""Tests of what our time is compared with: turns and their ratios, steps, what the rows say."""

import dataclasses
import sys
import time
import warnings

import numpy as np
import pytest
import torch
from conftest import TINY, latents_of

from centroidlib import benchmark, centroid_distances, machine
from centroidlib.algorithm import start, train_step
from centroidlib.benchmark.rows import COLUMNS
from centroidlib.streams import draw_batch, draw_latents, random_stream


def row(work, ratio, reference="other", precision="float32"):
    return benchmark.row(work, 1.0, ratio, reference, precision)


# Turns.


def test_works_are_timed_in_turns_after_one_that_is_not():
    calls = []
    seconds, given = benchmark.interleaved({name: lambda name=name: calls.append(name) or name.upper() for name in "ab"}, 2)
    assert calls == list("ab" * 3)
    assert given == {"a": "A", "b": "B"}
    assert {name: times.shape for name, times in seconds.items()} == {"a": (2,), "b": (2,)}


def test_seconds_are_a_works_own():
    seconds, _ = benchmark.interleaved({"slow": lambda: time.sleep(0.3), "fast": lambda: None}, 1)
    assert seconds["slow"][0] >= 0.3
    assert seconds["fast"][0] < seconds["slow"][0]


def test_what_a_work_prints_and_warns_of_is_not_shown(capsys):
    def loud():
        print("out")
        print("err", file=sys.stderr)
        warnings.warn("careful", stacklevel=1)  # an error in the tests, were it not silenced

    benchmark.interleaved({"loud": loud}, 1)
    assert capsys.readouterr() == ("", "")


def test_a_comparison_is_a_row_with_medians_and_the_difference_of_what_both_give(monkeypatch):
    seconds = {"ours": np.array([2.0, 4.0, 90.0]), "theirs": np.array([12.0, 8.0, 1.0])}
    monkeypatch.setattr("centroidlib.benchmark.timing.interleaved", lambda works, repeats: (seconds, {"ours": 3, "theirs": 4}))
    found = benchmark.compare("work", int, int, "other", "bfloat16", count=2, apart=lambda ours, theirs: theirs - ours)
    wanted = {"work": "work", "ours_seconds": 2.0, "reference_seconds": 4.0, "ratio": 2.0, "reference": "other"}
    assert found == wanted | {"machine": machine.describe(), "precision": "bfloat16", "apart": 1}
    assert benchmark.compare("work", int, int, "other")["apart"] is None


def test_relative_differences_are_of_numbers_and_of_tensors_however_split():
    assert benchmark.relative_difference(3.0, np.float64(4.0)) == 0.25
    whole = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]])
    assert benchmark.relative_difference([whole[:1], whole[1:]], whole.split(2)) == 0.0
    assert benchmark.relative_difference([whole + torch.tensor([0.0, 1.0])], [whole]) == pytest.approx(3**0.5 / 5)


def test_a_command_is_timed_from_its_start_to_its_end_and_a_failed_one_says_why(tmp_path):
    (tmp_path / "results").mkdir()
    assert benchmark.seconds_of("-c", "import time; time.sleep(0.2)", cwd=tmp_path) > 0.2
    assert (tmp_path / "results").is_dir()
    benchmark.seconds_of("-c", "import os; assert not os.path.exists('results')", cwd=tmp_path, afresh=True)
    with pytest.raises(RuntimeError, match=r"(?s)^python -c 1/0 failed: .*ZeroDivisionError"):
        benchmark.seconds_of("-c", "1/0", cwd=tmp_path)


# Rows.


def test_rows_become_ratios_csv_and_a_table():
    rows = [row("a", 2.0) | {"apart": 1.25e-7}, row("b", 0.5)]
    ratios = benchmark.ratios(rows)
    assert list(ratios) == COLUMNS
    assert list(ratios["ratio"]) == [2.0, 0.5]
    _, _, *lines = benchmark.table(rows).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines] == [
        ["a", "float32", "1", "2", "other", "2.00", "1.2e-07"],
        ["b", "float32", "1", "0.5", "other", "0.50", "–"],
    ]


def test_the_answer_counts_and_names_what_is_slower():
    rows = [row("a", 2.0), row("b", 0.5, "third"), row("c", 0.8), row("d", 4.0, precision="bfloat16")]
    told = benchmark.answer(benchmark.ratios([*rows, row(f"what the loss adds, {benchmark.LESS}", 16.0)]))
    assert told.startswith(
        f"**Answer.** On this machine ({machine.describe()}) ours takes less time than the reference in 2 of 4 "
    )
    assert "\n- other: 0.80 to 4.00\n- third: 0.50\n" in told
    assert "Fastest is `d` in bfloat16, 4.00 times as fast as other.\n" in told
    slower = "`b`, 0.50 times as fast as third; `c`, 0.80 times as fast as other."
    assert f"Slower than the reference, the slowest first: {slower}\n" in told
    assert told.endswith("Works of a quarter of the samples do less than the reference and are not counted.")


def test_the_answer_says_where_nothing_is_slower():
    told = benchmark.answer(benchmark.ratios([row("a", 2.0), row("b", 1.5)]))
    assert " in 2 of 2 works." in told
    assert told.endswith("Slowest is `b`, 1.50 times as fast as other: nowhere is ours slower than the reference.")


# Steps.


def test_a_batch_is_that_of_training(faces):
    config = dataclasses.replace(TINY, flip=True, seed=3)
    real, latents = benchmark.batch_of(faces, config, 2)
    assert (real.shape, latents.shape) == ((4, 3, 64, 64), (4, 8))
    assert torch.equal(real, draw_batch(faces, 2, 4, 3, True, torch.device("cpu")))
    assert torch.equal(latents, draw_latents(4, 8, random_stream(3, "latents", 2)))
    assert not torch.equal(real, benchmark.batch_of(faces, config)[0])


def test_balls_have_all_one_in_sixteen_and_none_outside(faces, toy_phi, toy_stats):
    config = dataclasses.replace(TINY, batch_size=32)
    state, latents = start(config), latents_of(0).repeat(8, 1) + torch.linspace(-1, 1, 32)[:, None]
    balls = benchmark.balls_for(state, latents, toy_phi, toy_stats)
    distances = centroid_distances(toy_phi(state.generator(latents).detach()), toy_stats)
    outside = {share: int((distances > ball.reference_distance).sum()) for share, ball in balls.items()}
    assert outside == {"all outside": 32, "1 in 16 outside": 2, "none outside": 0}
    assert {id(ball.centroid) for ball in balls.values()} == {id(toy_stats.centroid)}


def test_a_steps_rows_are_medians_and_what_the_loss_adds_the_median_of_differences():
    less = benchmark.LESS
    turns = {
        ("literal", "no loss"): np.array([4.0, 5.0, 6.0]),
        ("literal", "loss"): np.array([9.0, 8.0, 16.0]),
        ("float32", "no loss"): np.array([2.0, 3.0, 4.0]),
        ("float32", "all outside"): np.array([5.0, 4.0, 3.0]),
        ("float32", "all outside", less): np.array([2.5, 3.5, 4.5]),
        ("float32", "none outside"): np.array([1.0, 2.0, 3.0]),
    }
    found = benchmark.ratios(benchmark.step_rows(turns, 64))
    assert set(found["reference"]) == {"literal Algorithm 1"}
    assert found[["work", "ours_seconds", "reference_seconds"]].to_numpy().tolist() == [
        ["step of 64 images, no loss", 3.0, 5.0],
        ["step of 64 images, all outside", 4.0, 9.0],
        ["step of 64 images, none outside", 2.0, 9.0],
        ["what the loss adds, all outside", 1.0, 5.0],
        [f"what the loss adds, all outside, {less}", 0.5, 5.0],
        ["what the loss adds, none outside", 1e-6, 5.0],  # less than nothing
    ]


def test_the_works_of_a_step_keep_their_names():
    shares = ("all outside", "1 in 16 outside", "none outside")
    turns = {("literal", "no loss"): np.ones(1), ("literal", "loss"): np.full(1, 2.0), ("float32", "no loss"): np.ones(1)}
    turns |= {("float32", share, *less): np.full(1, 1.5) for share in shares for less in ((), (benchmark.LESS,))}
    assert [row["work"] for row in benchmark.step_rows(turns, 64)] == [
        "step of 64 images, no loss",
        "step of 64 images, all outside",
        "step of 64 images, 1 in 16 outside",
        "step of 64 images, none outside",
        "what the loss adds, all outside",
        "what the loss adds, all outside, a quarter of the samples",
        "what the loss adds, 1 in 16 outside",
        "what the loss adds, 1 in 16 outside, a quarter of the samples",
        "what the loss adds, none outside",
        "what the loss adds, none outside, a quarter of the samples",
    ]


def test_the_pace_is_that_of_the_fastest_precision():
    works = {"1 in 16 outside": (3.2, 2.0), "none outside": (1.0,)}
    rows = [benchmark.row(f"step of 64 images, {share}", own, 4.0, "") for share, times in works.items() for own in times]
    told = benchmark.pace(rows, 64)
    assert told.startswith("Literally 16 images a second with the loss, ours 32 with one in sixteen outside: 6,331 s ")


def test_losses_stand_side_by_side():
    table = benchmark.losses_table({"loss_d": torch.tensor(1.5), "outside": torch.tensor(0.0)}, {"loss_d": 1.0, "outside": 0.0})
    _, _, *lines = table.splitlines()
    assert [line.replace(" ", "") for line in lines] == ["|loss_d|1.5|1|5.0e-01|", "|outside|0|0|–|"]


def test_the_literal_step_names_what_ours_does(faces, toy_phi, toy_stats):
    given = benchmark.batch_of(faces, TINY)
    found = train_step(start(TINY), TINY, *given, toy_phi, toy_stats)
    wanted = benchmark.literal_step(benchmark.literal_start(TINY), TINY, *given, toy_phi, toy_stats)
    assert len(benchmark.losses_table(found, wanted).splitlines()) == 2 + len(wanted) == 6


def test_an_epoch_of_the_examples_dcgan_trains_both_networks(faces, monkeypatch):
    config, states = dataclasses.replace(TINY, latent=100, width=2), []

    def remembered(*args):
        states.append(benchmark.literal_start(*args))
        return states[-1]

    monkeypatch.setattr("centroidlib.benchmark.literal.literal_start", remembered)
    epoch = benchmark.examples_dcgan(benchmark.as_files(faces[:9]).parent, config)
    before = [weight.clone() for weight in states[0].generator.parameters()]
    epoch()
    steps = [int(state["step"]) for state in states[0].discriminator_optimiser.state.values()]
    assert set(steps) == {2}  # nine images are two batches of four
    assert not any(torch.equal(a, b) for a, b in zip(before, states[0].generator.parameters(), strict=True))
