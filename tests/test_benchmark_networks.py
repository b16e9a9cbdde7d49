"""Tests of what the evaluation and batches are timed on: both networks with one weights, Gaussians, files, projects."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from pytorch_fid.inception import fid_inception_v3

from centroidlib import VGG16Features, benchmark, features_of, frechet_distance, gaussian_distance, load_images, to_float
from centroidlib.batch import plan

ROOT = Path(__file__).parents[1]


# Networks.


def test_weights_that_do_not_load_are_seeded():
    def failing(error):
        raise error("no such weights")

    assert benchmark.choose_weights("published", lambda: None) == "published"
    assert benchmark.choose_weights("seeded", lambda: None) == "seeded"
    for error in (ValueError, FileNotFoundError):
        assert benchmark.choose_weights("published", partial(failing, error)) == "seeded"
    with pytest.raises(MemoryError):
        benchmark.choose_weights("published", partial(failing, MemoryError))
    with pytest.raises(ValueError, match="are published or seeded, not 'random'"):
        benchmark.choose_weights("random", lambda: None)


def test_seeded_weights_are_loaded_inside_and_in_what_is_decorated(torch_home):
    load = partial(fid_inception_v3)
    seeded = benchmark.loading("seeded")(load)
    first, second = (seeded().Conv2d_1a_3x3.conv.weight for _ in range(2))
    assert torch.equal(first, second)
    for weights in (benchmark.loading("published")(load), load):  # this machine has none, and no network
        with pytest.raises(OSError, match="no network in this test"):
            weights()


def test_both_inceptions_give_the_same_features(torch_home, faces):
    ours, theirs = benchmark.both_inceptions(64, "seeded")
    with torch.no_grad():
        wanted = theirs(faces[:2].float() / 255)[0].mean(dim=(2, 3))
        assert benchmark.relative_difference(ours(to_float(faces[:2])), wanted) < 1e-5
    assert benchmark.both_inceptions(64, "seeded", "bfloat16")[0].precision == "bfloat16"


def test_both_lpips_give_the_same_distances_in_two_layouts(torch_home, faces):
    ours, theirs = benchmark.both_lpips("alex", "seeded")
    pair = to_float(faces[:2]), to_float(faces[2:4])
    found, wanted = ours(*pair), theirs(*(part.contiguous() for part in pair))
    assert benchmark.relative_difference(found, wanted) < 1e-5
    assert not found.requires_grad
    assert not wanted.requires_grad
    kernels = [weight for weight in theirs.parameters() if weight.ndim == 4 and weight.shape[2] > 1]
    assert all(weight.is_contiguous() for weight in kernels)
    assert not any(weight.is_contiguous() for weight in ours.parameters() if weight.ndim == 4 and weight.shape[2] > 1)


def test_both_lpips_have_the_published_weights(real_weights, faces):
    ours, theirs = benchmark.both_lpips("alex", "published")
    random, _ = benchmark.both_lpips("alex", "seeded")
    pair = to_float(faces[:2]), to_float(faces[2:4])
    assert benchmark.relative_difference(ours(*pair), theirs(*pair)) < 1e-5
    assert benchmark.relative_difference(random(*pair), theirs(*pair)) > 1e-2


# Distances.


def test_gaussians_have_the_variances_asked_for():
    (mean, covariance), (other, _) = benchmark.draw_gaussians(16, 1e4)
    assert mean.shape == (16,)
    assert covariance.shape == (16, 16)
    assert not np.array_equal(mean, other)
    values = np.linalg.eigvalsh(covariance)
    assert 1e3 < values[-1] / values[0] < 1e5
    assert gaussian_distance(*benchmark.draw_gaussians(16, 1e4)) == gaussian_distance(*benchmark.draw_gaussians(16, 1e4))


@pytest.mark.filterwarnings("ignore:.*covariance is singular")
def test_the_distance_of_files_is_that_of_their_images_decoded_anew(faces, cache):
    folders = [benchmark.as_files(part) for part in faces.split(11)]
    phi = VGG16Features(2, "random", pool=True)
    wanted = frechet_distance(*(features_of(part, phi, "faces") for part in faces.split(11)))
    assert benchmark.distance_of_files(folders, phi) == pytest.approx(wanted, rel=1e-9)
    assert list(cache.iterdir()) == []


# Folders.


def test_images_become_files_of_a_folder_in_a_folder(faces):
    folder = benchmark.as_files(faces[:3])
    assert [path.name for path in sorted(folder.iterdir())] == ["00000.png", "00001.png", "00002.png"]
    assert list(folder.parent.iterdir()) == [folder]
    assert torch.equal(load_images(folder, size=None), faces[:3])


def test_temporary_folders_are_gone_with_the_process(monkeypatch):
    at_exit = []
    monkeypatch.setattr("atexit.register", lambda *args, **kwargs: at_exit.append(partial(*args, **kwargs)))
    folders = [benchmark.temporary_folder() for _ in range(2)]
    (folders[0] / "file").touch()
    assert folders[1].is_dir()
    assert folders[0] != folders[1]
    for call in at_exit:
        call()
    assert not any(folder.exists() for folder in folders)


def test_a_trivial_project_runs_its_notebook_once_or_many_times():
    project = benchmark.trivial_project(3)
    for name, runs in (("one", 1), ("many", 3)):
        stages = plan(project / "notebooks" / f"{name}.yml", {})
        assert [stage.label for stage in stages] == [f"a_seed{seed}/01_trivial" for seed in range(runs)]
    compile((project / "bare.py").read_text(), "bare.py", "exec")


def test_the_sweep_is_of_twenty_notebooks_and_leaves_the_projects_own_as_they_are():
    project = benchmark.sweep_project(ROOT)
    stages = plan(project / "notebooks" / "sweep.yml", {})
    assert len(stages) == 20
    assert {stage.parameters["seed"] for stage in stages if "seed" in stage.parameters} == {0, 1, 2}
    assert not (ROOT / "notebooks" / "sweep.yml").exists()
    assert {stage.folder.parents[2] for stage in stages} == {project.resolve()}
