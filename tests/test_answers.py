"""Tests of the sentences in notebooks 01 to 04: each number comes from where it says."""

import dataclasses

import pandas as pd
import pytest
import torch

import centroidlib as cl
from centroidlib import answers
from centroidlib.constraints import Constraint
from centroidlib.runs import Run, write_record


@pytest.fixture
def history():
    """Eight rows; the last quarter has half of the images outside."""
    table = pd.DataFrame({"step": range(8), "outside": [0.0] * 6 + [0.4, 0.6], "loss_centroid": [0.0] * 6 + [1.0, 3.0]})
    table["gradient_ratio"] = [0.0] * 6 + [0.2, 0.4]
    table["seconds"] = [15.0 * i for i in range(1, 9)]
    table.attrs["precision"] = "float32"
    return table.assign(hinge_over_floor=table["loss_centroid"] / 2)


def test_the_table_of_the_centroid_is_its_numbers(stats):
    table = answers.centroid_table(stats)
    for number in (f"{stats.count:,}", f"{stats.reference_distance:,.2f}", f"{stats.outside:.1%}", "(Eq. 2), around c (Eq. 1)"):
        assert number in table
    other = answers.centroid_table(stats, "random", 0.9)
    assert "here the 0.9 quantile), around a random centre" in other
    assert "own centroid | – |" in other


def test_what_is_inside_the_ball_is_told(stats, phi, images):
    pictures = dict.fromkeys(answers.BLANKS, images[:2])
    wide = dataclasses.replace(stats, reference_distance=1e9)
    assert "contains flat grey and the mean image and uniform noise" in answers.of_the_centroid(wide, phi, pictures)
    assert f"they pay {stats.floor / 1e9:.4f} d_ref on average" in answers.of_the_centroid(wide, phi, pictures)
    narrow = dataclasses.replace(stats, reference_distance=1e-9)
    assert "None of the three blank pictures is inside" in answers.of_the_centroid(narrow, phi, pictures)


def test_what_the_loss_sees_is_what_pays_more_than_real_images(phi):
    space = f"{phi.name}, pooled"
    balls = pd.DataFrame({"space": [space], "floor": [0.1]})
    lies = pd.DataFrame({"space": [space] * 2, "pictures": ["grey", "noise"], "count": 5, "loss": [0.05, 0.3]})
    told = answers.what_it_sees(balls, lies, phi)
    assert "**at most as much** pay grey (0.50); **more** pay noise (3.00)" in told


def test_the_answer_of_training_is_of_its_last_quarter(history, stats):
    told = answers.of_training(history, stats, None, 40.0)
    assert "50% of the generated images lie outside" in told
    assert "is 1.00 times that of real images. No image was outside in 75% of the batches" in told
    assert "is 0.3 times the adversarial one" in told
    assert "gradient" not in answers.of_training(history, stats, None, 0.0)
    assert answers.after_training(history, {"steps": 8, "batch_size": 5}, torch.zeros(20)) == (
        "8 steps of 5 images in 2.0 minutes, in float32, 2.0 passes over the data"
    )


def test_another_constraint_is_told_beside_what_real_batches_pay(history, stats):
    history["above_floor"], history["lambda"] = 1.0, 0.7
    told = answers.of_training(history, stats, Constraint("energy", lambda x: x, 0.25, 0.125), 40.0)
    assert "the constraint (energy) is 2, where batches of real images pay 0.25 ± 0.12" in told
    assert "times that of real images" not in told
    assert told.endswith("λ ended at 0.7.")


def test_what_an_arm_is_trained_with_is_said(images, phi, stats):
    asked = {"arm": "a", "seed": 1, "lambda_": 4.0, "unit": "d_ref", "constraint": "eq3", "space": "phi"}
    assert "λ = 4, Eq. 3 on distances in units of d_ref, seed 1" in answers.before_training(images, phi, stats, asked)
    assert "λ = 4, `energy`, seed" in answers.before_training(images, phi, stats, asked | {"constraint": "energy"})
    own = answers.before_training(images, phi, stats, asked | {"space": "discriminator"})
    assert "in the discriminator's own features" in own


def test_the_answer_of_the_evaluation_names_value_floor_and_what_was_counted():
    entry = {"value": 2.0, "low": 1.5, "high": 2.5, "floor": 0.1, "floor_n": 50, "value_at_floor_n": 2.2}
    measured = {"fid": entry, "inside_d_ref": entry | {"value": 0.9, "floor": 0.5}}
    measured |= {"lpips_alex": entry | {"value": 0.28, "floor": 0.29}, "recall": entry | {"value": 0.5, "floor": 0.75}}
    told = answers.of_the_evaluation(measured, "fid", 100, 200, "abc")
    assert "`fid` is 2 (1.5 to 2.5, 100 generated against 200 real images)" in told
    assert (
        "0.1 apart, of 50 images each, where it is 2.2. How varied they are: LPIPS of two of them 0.28 (real: 0.29); `recall` "
        "0.5 (real: 0.75). 90% of the generated images lie inside d_ref, of the real ones 50%." in told
    )
    counted = measured | {"factors_recognised": entry | {"value": 0.25, "floor": 1.0}, "factors_kinds": entry | {"value": 0.5}}
    assert "In 25% of them every factor" in answers.of_the_evaluation(counted, "fid", 100, 200, "abc")


def test_a_raw_strength_is_told_in_units_of_d_ref(stats):
    stats = dataclasses.replace(stats, reference_distance=500.0)
    along = torch.nn.functional.normalize(torch.ones_like(stats.centroid), dim=0)
    away = {"real": torch.tensor([500.0, 1000.0]), "a": torch.tensor([250.0, -250.0])}
    features = {name: stats.centroid + distances[:, None] * along for name, distances in away.items()}
    told = answers.of_the_pictures(features, stats, "a", {"lambda_": 0.1, "unit": "raw"})
    assert "at 0.50 ± 0.00 d_ref" in told
    assert "real ones at 1.50" in told
    assert "100% lie inside d_ref, of the real ones 50%. Two generated images are 1.00 d_ref apart on average, two real" in told
    assert "two real ones 1.00: no less varied, to Φ" in told
    assert told.endswith("λ = 0.1 on raw distances is 50 in units of d_ref here, where we estimate the paper's at 40.")
    strong = answers.of_the_pictures(features, stats, "a", {"lambda_": 4.0, "unit": "raw"})
    assert strong.endswith("is 2,000 in units of d_ref here, where we estimate the paper's at 40: far above it.")
    assert "λ" not in answers.of_the_pictures(features, stats, "a", {"lambda_": 40.0, "unit": "d_ref"})


def test_a_picture_says_what_its_generator_was_trained_with(images, phi, stats, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    stats = dataclasses.replace(stats, reference_distance=500.0)
    run = Run("03_evaluate", {"batch": "b", "arm": "a", "seed": 3, "source": "data/faces.zip"})
    told = answers.trained_caption(run, images, phi, stats)  # of another arm's average nothing is known
    assert told == f"Arm a, seed 3; {len(images):,} real images of `faces.zip`; Φ = {phi.name}, pooled."
    trained = {"arm": "a", "lambda_": 4.0, "unit": "raw", "steps": 1500, "batch_size": 64, "width": 32}
    write_record(run.folder, {"stages": {"02_train": {"parameters": trained}}})
    told = answers.trained_caption(run, images, phi, stats)
    beginning = (
        f"Arm a, seed 3, λ = 4, 1,500 steps, batch size 64, network width 32; {len(images):,} real images of `faces.zip`; "
        f"Φ = {phi.name}, pooled."
    )
    assert told.startswith(beginning)
    assert told.endswith("far above it.")
    trained |= {"constraint": "energy", "whiten": "full", "space": "phi", "unit": "d_ref"}
    write_record(run.folder, {"stages": {"02_train": {"parameters": trained}}})
    told = answers.trained_caption(run, images, phi, stats)
    assert "width 32, `energy` in the place of Eq. 3, whitened: full; " in told
    assert told.endswith("pooled. λ is of distances in units of d_ref.")
    write_record(run.folder, {"stages": {"02_train": {"parameters": trained | {"lambda_": 0.0}}}})
    assert "λ = 0, 1,500 steps, batch size 64, network width 32; " in answers.trained_caption(run, images, phi, stats)


def test_the_beginning_names_images_and_spaces(images, phi):
    told = answers.beginning(images, phi, cl.metric_spaces(phi, 0))
    assert (
        f"`{tuple(images.shape)}` torch.uint8 · Φ = `{phi.name}`, pooled · measured in `fd_vgg16_random`, `fd_{phi.name}`" == told
    )
