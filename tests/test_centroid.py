"""Tests of Eq. 1 and 2 and of what is kept beside them, against NumPy in float64."""

import dataclasses
import shutil
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from centroidlib import CentroidStats, VGG16Features, centroid, centroid_loss, compute_centroid, fingerprint, to_float
from centroidlib.centroid import QUANTILES
from centroidlib.features import in_batches

BATCH = 4  # 13 images: the last batch holds one


class Far(nn.Module):
    """Features far from the origin and close to each other: sums in float32 lose their differences."""

    def forward(self, images):
        return images.flatten(1)[:, :50] + 3000.0


def numpys(images, phi):
    features = torch.cat(list(in_batches(images, phi, BATCH))).numpy().astype(np.float64)
    c = features.sum(0) / len(features)
    distances = np.sqrt(((features - c) ** 2).sum(1))
    return features, c, distances


@pytest.fixture(params=["spool", "two passes"])
def way(request, monkeypatch):
    if request.param == "two passes":
        monkeypatch.setattr(centroid, "_spool", lambda *args: None)
    return request.param


@pytest.mark.parametrize(
    "network",
    [nn.Flatten(), Far(), VGG16Features(2, "random"), VGG16Features(9, "random", pool=True)],
    ids=["pixels", "far", "relu1_1", "pooled relu2_2"],
)
def test_equations_1_and_2_are_numpys(images, way, network):
    features, c, distances = numpys(images, network)
    stats = compute_centroid(images, network, BATCH)
    assert stats.count == 13
    assert stats.centroid.dtype == torch.float32
    assert np.linalg.norm(stats.centroid.numpy() - c) < 1e-6 * np.linalg.norm(c)
    assert stats.reference_distance == pytest.approx(distances.mean(), rel=1e-9)
    assert stats.floor == pytest.approx(np.maximum(0.0, distances - distances.mean()).mean(), rel=1e-9)
    assert stats.floor == pytest.approx(0.5 * np.abs(distances - distances.mean()).mean(), rel=1e-9)
    assert stats.outside == (distances > distances.mean()).mean()
    halves = np.linalg.norm(features[0::2].mean(0) - features[1::2].mean(0))
    assert stats.halves_offset == pytest.approx(halves / distances.mean(), rel=1e-9)
    np.testing.assert_allclose(stats.quantiles.numpy(), np.quantile(distances, QUANTILES), rtol=1e-9)
    assert stats.quantiles.dtype == torch.float64
    assert stats.fingerprint == fingerprint(network)


@pytest.mark.parametrize("batch_size", [1, 3, 4, 13, 64])
def test_batch_size_changes_nothing(images, way, batch_size):
    _, c, distances = numpys(images, nn.Flatten())
    stats = compute_centroid(images, nn.Flatten(), batch_size)
    np.testing.assert_allclose(stats.centroid.numpy(), c, rtol=1e-6, atol=1e-7)
    assert stats.reference_distance == pytest.approx(distances.mean(), rel=1e-12)
    odd, even = (to_float(images).double().flatten(1)[i::2].mean(0) for i in (1, 0))
    assert stats.halves_offset == pytest.approx(((odd - even).norm() / distances.mean()).item(), rel=1e-9)


def test_an_even_number_of_images(images):
    _, c, distances = numpys(images[:8], nn.Flatten())
    stats = compute_centroid(images[:8], nn.Flatten(), BATCH)
    np.testing.assert_allclose(stats.centroid.numpy(), c, rtol=1e-6, atol=1e-7)
    assert stats.reference_distance == pytest.approx(distances.mean(), rel=1e-9)


def test_the_floor_is_the_loss_of_the_real_images(images, phi):
    stats = compute_centroid(images, phi, BATCH)
    loss = centroid_loss(phi(to_float(images)), stats)
    assert stats.floor > 0
    assert loss.item() == pytest.approx(stats.floor, rel=1e-4)


def test_phi_is_applied_once_with_a_spool_and_twice_without(images, way, capsys):
    seen = []
    network = nn.Flatten()
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    compute_centroid(images, network, BATCH)
    assert seen == [4, 4, 4, 1] * (1 if way == "spool" else 2)
    said = {
        "spool": "reference distance, of features kept on disk: 4 of 4",
        "two passes": "in a second pass: the features are too",
    }
    assert said[way] in capsys.readouterr().out


def test_the_spool_takes_at_most_half_of_the_free_disk_and_4_gib_on_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=2 * 10 * 6 * 4))
    assert centroid._spool(tmp_path, 10, 6, torch.device("cpu")).shape == (10, 6)
    assert centroid._spool(tmp_path, 11, 6, torch.device("cpu")) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=100 << 30))
    monkeypatch.setattr(np, "memmap", lambda path, dtype, mode, shape: shape)
    assert centroid._spool(tmp_path, 1 << 20, 1025, torch.device("cpu")) == (1 << 20, 1025)
    assert centroid._spool(tmp_path, 1 << 20, 1024, torch.device("cuda")) == (1 << 20, 1024)
    assert centroid._spool(tmp_path, 1 << 20, 1025, torch.device("cuda")) is None


def test_nothing_is_left_in_the_temporary_folder(images, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    compute_centroid(images, nn.Flatten(), BATCH)
    assert list(tmp_path.iterdir()) == []


def test_wrong_images_are_refused(images):
    with pytest.raises(ValueError, match="at least two images, not 1"):
        compute_centroid(images[:1], nn.Flatten())
    with pytest.raises(ValueError, match="d_ref is 0: are they all the same picture"):
        compute_centroid(images[:1].repeat(4, 1, 1, 1), nn.Flatten())


class NaNOfOne(nn.Module):
    def forward(self, images):
        features = images.flatten(1).clone()
        features[images[:, 0, 0, 0] == -1.0, 3] = torch.nan
        return features


def test_features_that_are_nan_are_refused_and_located(images):
    images = images.clamp(min=1)
    images[9, 0, 0, 0] = 0
    with pytest.raises(ValueError, match="Φ gives NaN or infinite features for an image among 8 to 11"):
        compute_centroid(images, NaNOfOne(), BATCH)


# Other balls, to compare with


def test_a_quantile_may_be_the_radius(images):
    _, c, distances = numpys(images, nn.Flatten())
    stats = compute_centroid(images, nn.Flatten(), BATCH, radius=0.9)
    assert stats.reference_distance == pytest.approx(np.quantile(distances, 0.9), rel=1e-9)
    assert stats.outside == (distances > np.quantile(distances, 0.9)).mean()
    assert stats.floor == pytest.approx(np.maximum(0, distances - np.quantile(distances, 0.9)).mean(), rel=1e-9)
    np.testing.assert_allclose(stats.centroid.numpy(), c, rtol=1e-6, atol=1e-7)


def test_a_shuffled_centre_has_the_centroids_numbers_and_its_own_distances(images):
    features, c, _ = numpys(images, nn.Flatten())
    stats = compute_centroid(images, nn.Flatten(), BATCH, centre="shuffled")
    moved = stats.centroid.numpy().astype(np.float64)
    np.testing.assert_allclose(np.sort(moved), np.sort(c), rtol=1e-6, atol=1e-7)
    assert not np.allclose(moved, c)
    assert stats.reference_distance == pytest.approx(np.linalg.norm(features - moved, axis=1).mean(), rel=1e-6)


def test_a_random_centre_has_the_centroids_mean_and_deviation(images):
    _, c, _ = numpys(images, nn.Flatten())
    first, second = (compute_centroid(images, nn.Flatten(), BATCH, centre="random") for _ in range(2))
    assert torch.equal(first.centroid, second.centroid)
    assert first.centroid.mean() == pytest.approx(c.mean(), abs=4 * c.std() / len(c) ** 0.5)
    assert first.centroid.std() == pytest.approx(c.std(), rel=0.15)
    assert abs(np.corrcoef(first.centroid, c)[0, 1]) < 0.15


def test_fewer_images_for_the_centroid_are_some_of_those_it_is_used_with(images, tmp_path):
    stats = compute_centroid(images, nn.Flatten(), BATCH, count=5)
    assert stats.count == 5
    assert not np.allclose(stats.centroid, numpys(images, nn.Flatten())[1])
    stats.save(tmp_path / "c.safetensors")
    assert CentroidStats.load(tmp_path / "c.safetensors", nn.Flatten(), images).count == 5


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"centre": "middle"}, "centre is one of mean, shuffled, random, not 'middle'"),
        ({"radius": 1.0}, "radius is 0 .the mean distance. or a quantile of the distances below 1, not 1.0"),
        ({"radius": -0.1}, "a quantile of the distances below 1, not -0.1"),
        ({"count": 1}, "at least two images, not 1"),
        ({"count": 14}, "centroid_count is 0 to the 13 images there are, not 14"),
    ],
)
def test_other_balls_are_refused(images, wrong, sentence):
    with pytest.raises(ValueError, match=sentence):
        compute_centroid(images, nn.Flatten(), **wrong)


# The file


def test_what_is_saved_is_loaded(stats, phi, tmp_path):
    path = tmp_path / "run" / "centroid.safetensors"
    stats.save(path)
    found = CentroidStats.load(path, phi=phi)
    for field in dataclasses.fields(stats):
        kept, read = getattr(stats, field.name), getattr(found, field.name)
        assert torch.equal(kept, read) if isinstance(kept, torch.Tensor) else kept == read
        assert type(kept) is type(read)
    assert found.centroid.dtype == torch.float32
    assert found.quantiles.dtype == torch.float64


def test_a_centroid_of_another_phi_is_refused(stats, tmp_path):
    path = tmp_path / "centroid.safetensors"
    stats.save(path)
    other = VGG16Features(4, "random", pool=True)
    message = rf"made with another Φ \(fingerprint {stats.fingerprint}\) than the one in use \({fingerprint(other)}: layer=4"
    with pytest.raises(ValueError, match=message):
        CentroidStats.load(path, phi=other)
    with pytest.raises(ValueError, match="another Φ"):
        CentroidStats.load(path, phi=VGG16Features(2, "random", pool=True, seed=1))
    assert CentroidStats.load(path).fingerprint == stats.fingerprint


def test_a_missing_file_is_told_in_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no centroid at .*c\.safetensors: compute it first"):
        CentroidStats.load(tmp_path / "c.safetensors")


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "another"])
def test_a_damaged_file_is_refused(stats, tmp_path, damage):
    path = tmp_path / "centroid.safetensors"
    stats.save(path)
    whole = path.read_bytes()
    if damage == "another":
        save_file({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "text": b"not a file of tensors"}[damage])
    with pytest.raises(ValueError, match=r"centroid\.safetensors is no centroid of this library, or damaged"):
        CentroidStats.load(path)


def test_a_failed_save_leaves_the_old_file(stats, phi, tmp_path, monkeypatch):
    path = tmp_path / "centroid.safetensors"
    stats.save(path)

    def fail(path, data):
        path.write_text("half of the file")
        raise RuntimeError("power cut")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        dataclasses.replace(stats, reference_distance=1.0).save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert CentroidStats.load(path, phi=phi).reference_distance == stats.reference_distance


def test_to_moves_the_centroid_alone(stats):
    moved = stats.to("meta")
    assert moved.centroid.device.type == "meta"
    assert moved.reference_distance == stats.reference_distance
    assert stats.centroid.device.type == "cpu"


def test_features_that_are_not_vectors_are_refused():
    images = torch.zeros(3, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"must map images \(B, 3, H, W\) to features \(B, d\)"):
        compute_centroid(images, nn.Identity())


def test_a_centroid_of_other_images_is_refused(tmp_path):
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    phi = nn.Flatten()
    compute_centroid(images, phi).save(tmp_path / "c.safetensors")
    assert CentroidStats.load(tmp_path / "c.safetensors", phi=phi, images=images).count == 6
    with pytest.raises(ValueError, match="made of 6 other images than the 5 in use"):
        CentroidStats.load(tmp_path / "c.safetensors", phi=phi, images=images[:5])
