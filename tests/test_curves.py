"""Tests of the learning curve: each kept generator is measured alike, the last without being applied again."""

import dataclasses

import pandas as pd
import pytest
import torch
from conftest import TINY
from test_measuring import Apart, Colours

import centroidlib as cl
from centroidlib.evaluation import Space
from centroidlib.evaluation.figures import figure_curves


@pytest.fixture(scope="module")
def trained(faces, toy_phi, toy_stats, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    cl.train(faces, dataclasses.replace(TINY, steps=5), folder, toy_phi, toy_stats, generators_every=2)
    generator = cl.load_generator(folder / "generator.safetensors")
    spaces = [Space("fd_colours", Colours(), False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CENTROIDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        real = cl.observe_images(faces, spaces)
    fake = cl.observe(cl.generated(generator, 20, 3), 20, spaces, toy_phi, toy_stats, {"alex": Apart()}, 10)
    floors = {"lpips_alex": {"floor": 0.25}, "inside_d_ref": {"floor": 0.5}}
    return sorted((folder / "generators").iterdir()), fake, real, spaces, toy_phi, toy_stats, floors, {"alex": Apart()}


def test_every_kept_generator_has_a_row(trained):
    paths, _, real, spaces, phi, stats, _, lpips = trained
    curve = cl.learning_curve(*trained, samples=10, seed=3)
    assert list(curve["step"]) == [2, 4, 5]
    assert set(curve["n_fake"]) == {10}
    for path, (_, row) in zip(paths, curve.iterrows(), strict=True):
        seen = cl.observe(cl.generated(cl.load_generator(path), 10, 3), 10, spaces, phi, stats, lpips, 5)
        assert row["fd_colours"] == pytest.approx(cl.frechet_distance(real.features["fd_colours"], seen.features["fd_colours"]))
        assert row["lpips_alex"] == pytest.approx(float(seen.lpips["alex"].mean()), rel=1e-5)
        assert row["inside_d_ref"] == (seen.distances <= stats.reference_distance).double().mean()
        assert (row["lpips_alex_floor"], row["inside_d_ref_floor"]) == (0.25, 0.5)
        assert 0 < row["fd_colours_floor"] < row["fd_colours"]


def test_the_last_is_not_applied_again(trained, monkeypatch):
    loaded = []
    load = cl.load_generator
    monkeypatch.setattr("centroidlib.evaluation.curves.load_generator", lambda path: loaded.append(path.stem) or load(path))
    cl.learning_curve(*trained, samples=10, seed=3)
    assert loaded == ["step_000002", "step_000004"]


@pytest.mark.parametrize("samples", [1, 12, 21])
def test_more_samples_than_there_are_are_refused(trained, samples):
    with pytest.raises(ValueError, match=f"curve_samples must be 2 to 11: .*; not {samples}"):
        cl.learning_curve(*trained, samples=samples, seed=3)


def test_no_kept_generators_are_refused(trained):
    with pytest.raises(ValueError, match="No generators were kept on the way: train with generators_every above 0"):
        cl.learning_curve([], *trained[1:], samples=10, seed=3)


def test_curves_of_several_seeds_have_a_band(trained):
    curve = cl.learning_curve(*trained, samples=10, seed=3)
    runs = [
        curve.assign(arm=arm, seed=seed, lpips_alex=curve["lpips_alex"] + seed) for arm in ("baseline", "x") for seed in (0, 1)
    ]
    figure = figure_curves(pd.concat(runs), ["fd_colours", "lpips_alex"])
    left, right = figure.axes
    assert len(right.lines) == 2 * 3 + 1  # two arms of two runs and a mean; real images
    band = right.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() - band.min() > 12.7 * 0.7  # t of one degree of freedom
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["baseline, 2 seeds", "x, 2 seeds", "real images"]
    assert torch.tensor(left.get_ylim())[0] == 0
