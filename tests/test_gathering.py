"""Tests of gathering: what a batch's runs say, what the record notes of it, and sentences for what is missing."""

import dataclasses
import json

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from small_runs import note_curve, write_run

from centroidlib import gathering, paired, plots, tables
from centroidlib.checkpoints import save_generator
from centroidlib.models import Generator, initialise
from centroidlib.runs import Run, read_record, write_record
from centroidlib.walking import latent_of

CURVE = "step,n_fake,fid,fid_floor\n" + "".join(f"{step},5,{40 - step / 10 + step % 3},1.0\n" for step in (10, 20, 30, 40))


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """A project whose batch has two arms of two seeds, and a place to work in."""
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path)
    plots.use_style()
    folder = tmp_path.resolve() / "results" / "test"
    for arm, values in {"baseline": [30.0, 33.0], "centroid": [28.0, 30.0]}.items():
        for seed, value in enumerate(values):
            write_run(folder / f"{arm}_seed{seed}", arm, seed, value)
            path = folder / f"{arm}_seed{seed}" / "history.csv"
            known = {"step": [1, 2], "outside": [0.1, 0.2], "hinge_over_floor": [0.2, 0.4]}
            pays = {"loss_centroid": [0.0, 0.2], "gradient_ratio": [0.0, 0.5 * (arm == "centroid")]}
            pd.DataFrame(known | pays).to_csv(path, index=False)
    yield folder
    plt.close("all")


@pytest.fixture
def run(batch):
    return Run("05_compare", {"batch": "test", "runs": ""})


def stage_of(run):
    return read_record(run.folder)["stages"]["05_compare"]


def test_all_that_the_runs_say_is_there_and_its_files_are_inputs(batch, run):
    note_curve(batch / "baseline_seed1", CURVE)
    found = gathering.gather(run)
    names = ["baseline_seed0", "baseline_seed1", "centroid_seed0", "centroid_seed1"]
    assert list(found.rows["arm"]) == ["baseline", "baseline", "centroid", "centroid"]
    assert (set(found.curves["arm"]), len(found.histories)) == ({"baseline"}, 8)
    assert found.better == {"fid": "lower", "lpips_alex": "floor", "recall": "higher", "between_checkpoints_fid": "lower"}
    assert found.rows["between_checkpoints_fid"].notna().tolist() == [False, True, False, False]
    assert found.conditions == tables.conditions(found.rows, found.better)
    run.finish()
    files = {f"{name}/{file}" for name in names for file in ("metrics.json", "history.csv")}
    assert set(stage_of(run)["inputs"]) == files | {"baseline_seed1/curve.csv"}


def test_an_ablation_takes_no_learning_curves(batch, run):
    note_curve(batch / "baseline_seed1", CURVE)
    found = gathering.gather(run, on_the_way=False)
    assert (len(found.curves), len(found.histories)) == (0, 8)
    assert "between_checkpoints_fid" not in found.rows
    run.finish()
    assert all(name.endswith(("/metrics.json", "/history.csv")) for name in stage_of(run)["inputs"])


def test_arms_are_told_by_what_was_changed(run):
    found = gathering.gather(run)
    rows = found.rows.assign(pool=False, crop=1.0, centroid=["01_centroid", "01_centroid", "other", "other"])
    table = gathering.arms(dataclasses.replace(found, rows=rows))
    assert list(table.index) == ["baseline", "centroid"]
    assert table.loc["centroid"].tolist() == [40.0, "other", 2, 0.5, 2, 0.2, 0.5]
    silent = found.histories.assign(loss_centroid=0.0, gradient_ratio=0.0)
    assert gathering.arms(dataclasses.replace(found, histories=silent))["from_step"].tolist() == ["never", "never"]
    assert "active" not in gathering.arms(dataclasses.replace(found, rows=rows, histories=pd.DataFrame()))


def test_what_failed_and_what_is_not_there_is_kept_and_said(batch, run):
    record = read_record(batch / "centroid_seed0") | {"failed": {"02_train": "It broke."}}
    write_record(batch / "centroid_seed0", record)
    found = gathering.gather(run, "baseline_seed0 baseline_seed1 centroid_seed0 centroid_seed9")
    assert (found.failed, found.not_run) == ({"centroid_seed0": "It broke."}, ["centroid_seed9"])
    assert gathering.missing(found) == "Failed: It broke. Asked for and not there: centroid_seed9."
    assert gathering.missing(gathering.gather(run, "baseline_seed0")) == "Failed: none. Asked for and not there: none."


def test_learning_curves_are_written_drawn_and_counted(batch, run):
    note_curve(batch / "baseline_seed0", CURVE)
    note_curve(batch / "centroid_seed0", CURVE)
    said = gathering.draw_curves(run, gathering.gather(run))
    assert said == "2 of 4 runs have a learning curve, of 4 generators kept from step 10 to 40."
    assert len(pd.read_csv(run.folder / "curves.csv")) == 8
    run.finish()
    assert set(stage_of(run)["outputs"]) == {"curves.csv", "curves.png"}


def test_without_learning_curves_nothing_is_drawn_and_it_is_said(run):
    said = gathering.draw_curves(run, gathering.gather(run))
    assert said.startswith("No run has a learning curve")
    assert "`generators_every`" in said
    assert not list(run.folder.glob("curves.*"))
    assert plt.get_fignums() == []
    run.finish()
    assert stage_of(run)["outputs"] == {}


def test_differences_are_of_one_protocol(batch, run):
    found = gathering.gather(run)
    pd.testing.assert_frame_equal(gathering.differences(found), paired.paired_differences(found.rows, found.better))
    path = batch / "centroid_seed1" / "metrics.json"
    other = json.loads(path.read_text())
    path.write_text(json.dumps(other | {"fingerprint": "xyz", "protocol": other["protocol"] | {"resize": "lanczos"}}))
    with pytest.raises(ValueError, match="different protocols"):
        gathering.gather(run)
    none = gathering.differences(gathering.gather(run, label_protocols=True))
    assert (len(none), list(none)) == (0, paired.COLUMNS)


def test_faces_are_of_the_same_latents_and_of_the_generators_that_are_here(batch, run):
    found = gathering.gather(run)
    assert gathering.faces(run, found) == {}
    made = {}
    for arm in ("baseline", "centroid"):
        made[arm] = Generator(latent=8, width=4).eval()
        initialise(made[arm], torch.Generator().manual_seed(len(arm)))
        save_generator(made[arm], batch / f"{arm}_seed0" / "generator.safetensors")
    faces = gathering.faces(run, found, count=2)
    latents = torch.cat([latent_of(seed, 8) for seed in range(2)])
    assert list(faces) == ["baseline", "centroid"]
    assert torch.allclose(faces["centroid"], made["centroid"](latents), atol=1e-6)
    (batch / "baseline_seed0" / "generator.safetensors").unlink()
    assert list(gathering.faces(run, found)) == ["centroid"]
    run.finish()
    assert "centroid_seed0/generator.safetensors" in stage_of(run)["inputs"]
