"""Tests of what is measured: the published networks used as published, and entries as DESIGN.md writes them."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import centroidlib as cl
from centroidlib import evaluation
from centroidlib.checkpoints import save_generator
from centroidlib.evaluation import InceptionFeatures, cached_features, load_lpips
from centroidlib.images import images_digest
from centroidlib.training import TrainingConfig, start

FACES = Path(__file__).parents[2] / "shared" / "data" / "celeba10k.zip"
ENTRY = {"value", "low", "high", "interval", "floor", "value_at_floor_n", "n_real", "n_fake", "seen_by_loss", "better"}
SMALL = TrainingConfig(latent=8, width=2)


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    return cl.draw_faces(40, seed=2)[0]


@pytest.fixture
def generator() -> cl.Generator:
    return start(SMALL).generator


class Counted(nn.Module):
    """Mean colours, and how often they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        return images.mean(dim=(2, 3))


# The published networks.


def test_inception_features_are_pytorch_fids_own(real_weights, faces):
    from pytorch_fid.inception import InceptionV3

    theirs = InceptionV3([InceptionV3.BLOCK_INDEX_BY_DIM[768]]).eval()
    with torch.no_grad():
        wanted = theirs(faces[:4].float() / 255)[0].mean(dim=(2, 3))
        found = InceptionFeatures(768)(cl.to_float(faces[:4]))
    assert found.shape == (4, 768)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_inception_is_frozen_and_in_eval_mode(real_weights):
    network = InceptionFeatures(64)
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_inception_weights_that_hold_nan_are_refused(real_weights):
    with pytest.raises(ValueError, match=r"pt_inception.*hold NaN in the layers that dims = 2048 uses: choose fewer"):
        InceptionFeatures(2048)


def test_inception_of_other_dimensions_is_refused():
    with pytest.raises(ValueError, match="features of 64, 192, 768, 2048 dimensions, not 100"):
        InceptionFeatures(100)


def test_absent_inception_weights_end_in_a_sentence(torch_home):
    sentence = r"Inception are not on this machine.*pt_inception-2015-12-05-6726825d.pth.*hub/checkpoints.*fid_dims = 0"
    with pytest.raises(FileNotFoundError, match=sentence):
        InceptionFeatures(768)


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_absent_lpips_weights_end_in_a_sentence(torch_home, net):
    sentence = rf"LPIPS \({net}\) are not on this machine.*{evaluation.LPIPS_FILES[net]}.*set lpips = ''"
    with pytest.raises(FileNotFoundError, match=sentence):
        load_lpips(net)


def test_damaged_lpips_weights_are_named(torch_home):
    file = evaluation.LPIPS_FILES["alex"]
    (torch_home / "hub" / "checkpoints" / file).write_bytes(b"half a download")
    with pytest.raises(ValueError, match=rf"LPIPS \(alex\) \({file} .* do not load .*: delete the file"):
        load_lpips("alex")


def test_an_lpips_network_that_is_none_is_refused():
    with pytest.raises(ValueError, match="LPIPS has the networks alex, vgg, squeeze, not 'inception'"):
        load_lpips("inception")


def lpips_directly(images, pairs, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips

        network = lpips.LPIPS(net=net, version="0.1", verbose=False)
    as_lpips_wants = torch.from_numpy(images.numpy().astype(np.float32)) / 255 * 2 - 1
    with torch.no_grad():
        return torch.stack([network(as_lpips_wants[i : i + 1], as_lpips_wants[j : j + 1]).squeeze() for i, j in pairs.tolist()])


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_is_that_of_lpips_called_directly(real_weights, faces, net):
    pairs = cl.disjoint_pairs(len(faces), 7)
    found = cl.lpips_of_pairs(faces, pairs, net, batch_size=3)
    torch.testing.assert_close(found, lpips_directly(faces, pairs, net), rtol=0, atol=1e-6)
    assert found.std() > 0.01


def test_lpips_of_real_faces_has_the_known_value(real_weights):
    if not FACES.is_file():
        pytest.skip(f"the real faces are not in {FACES.parent.parent.name}/data beside the project")
    images = cl.load_images(FACES, count=600)
    distances = cl.lpips_of_pairs(images, cl.disjoint_pairs(600, 300), "alex")
    # 0.2895 ± 0.002 was measured over 1,500 pairs; of 300 the mean's standard error is about 0.0045 (0.078 / √300,
    # and the spread is held here too), so 0.012 is 2.5 of both together.
    assert float(distances.mean()) == pytest.approx(0.2895, abs=0.012)
    assert float(distances.std()) == pytest.approx(0.078, abs=0.015)


# Pairs, samples, generators.


def test_pairs_are_disjoint_and_repeatable():
    pairs = cl.disjoint_pairs(1001, 500, seed=3)
    assert pairs.shape == (500, 2)
    assert len(pairs.unique()) == 1000
    assert 0 <= pairs.min() <= pairs.max() < 1001
    assert torch.equal(pairs, cl.disjoint_pairs(1001, 500, seed=3))
    assert not torch.equal(pairs, cl.disjoint_pairs(1001, 500, seed=4))
    assert cl.disjoint_pairs(10, 5).shape == (5, 2)


def test_more_pairs_than_images_allow_are_refused():
    with pytest.raises(ValueError, match="501 disjoint pairs need 1,002 images; there are 1,001"):
        cl.disjoint_pairs(1001, 501)


def test_generated_images_repeat_whatever_the_batch_size(generator):
    images = cl.generate_images(generator, 21, seed=0, batch_size=8)
    assert images.shape == (21, 3, 64, 64)
    assert images.dtype == torch.uint8
    assert len(images.flatten(1).unique(dim=0)) == 21
    assert torch.equal(images, cl.generate_images(generator, 21, seed=0, batch_size=8))
    difference = images.int() - cl.generate_images(generator, 21, seed=0, batch_size=21).int()
    assert difference.abs().max() <= 1  # sums in another order
    assert not torch.equal(images, cl.generate_images(generator, 21, seed=1, batch_size=8))


@pytest.mark.parametrize("mode", [True, False])
def test_sampling_is_in_eval_mode_and_leaves_the_generator_as_it_was(generator, mode):
    generator.train(mode)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    modes = []
    generator.layers[1].register_forward_hook(lambda layer, *_: modes.append(layer.training))
    cl.generate_images(generator, 4, seed=0)
    assert modes == [False]
    assert generator.training is generator.layers[1].training is mode
    assert all(torch.equal(before[name], tensor) for name, tensor in generator.state_dict().items())


def test_a_generator_is_read_as_it_was_written(generator, tmp_path):
    save_generator(generator, tmp_path / "generator.safetensors")
    found = cl.load_generator(tmp_path / "generator.safetensors")
    assert not found.training
    assert found.latent == 8
    assert torch.equal(cl.generate_images(found, 5, seed=0), cl.generate_images(generator, 5, seed=0))


@pytest.mark.parametrize("content", ["cut", "text", "empty", "centroid"])
def test_a_damaged_generator_is_named(generator, tmp_path, content, stats):
    path = tmp_path / "generator.safetensors"
    save_generator(generator, path)
    if content == "centroid":
        stats.save(path)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-100], "text": b"no tensors in here", "empty": b""}[content])
    with pytest.raises(ValueError, match=r"generator.safetensors is no generator of this library, or damaged: train it again"):
        cl.load_generator(path)


# Features of real images are computed once.


def test_features_count_the_last_batch(faces):
    features = cl.features_of(faces[:23], Counted(), "test", batch_size=5)
    torch.testing.assert_close(features, faces[:23].float().mean(dim=(2, 3)) / 127.5 - 1, rtol=0, atol=1e-5)


def test_cached_features_are_read_the_second_time(faces, cache):
    network = Counted()
    first = cached_features(faces, network, "test")
    assert network.calls == 1
    second = cached_features(faces, network, "test")
    assert network.calls == 1
    assert torch.equal(first, second)
    cached_features(faces.flip(0), network, "test")
    assert network.calls == 2
    assert len(list(cache.glob("features-*.npy"))) == 2


@pytest.mark.parametrize("content", [b"", b"no array", "cut"])
def test_damaged_cached_features_are_computed_again(faces, cache, content):
    network = Counted()
    wanted = cached_features(faces, network, "test").clone()
    (path,) = cache.glob("features-*.npy")
    path.write_bytes(path.read_bytes()[:-40] if content == "cut" else content)
    with pytest.warns(UserWarning, match="cached features features-.*npy are damaged and are computed again"):
        found = cached_features(faces, network, "test")
    assert torch.equal(found, wanted)
    assert network.calls == 2
    assert torch.equal(cached_features(faces, network, "test"), wanted)
    assert network.calls == 2


def test_writing_to_cached_features_never_changes_the_cache(faces):
    wanted = cached_features(faces, Counted(), "test").clone()
    cached_features(faces, Counted(), "test").zero_()
    assert torch.equal(cached_features(faces, Counted(), "test"), wanted)


def test_the_digest_tells_images_apart(faces):
    other = faces.clone()
    other[3, 1, 5, 5] ^= 1
    assert len({images_digest(x) for x in (faces, other, faces[:-1], faces.flip(0))}) == 4
    assert images_digest(faces) == images_digest(faces.clone())
    assert images_digest(faces[::2]) == images_digest(faces[::2].contiguous())


# A measurement.


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Twenty-odd drawn faces in two small spaces; a generator stands in whose images are other drawn faces."""
    real, fake = cl.draw_faces(60, seed=2)[0], cl.draw_faces(30, seed=3)[0]
    phi = cl.VGG16Features(2, "random")
    stats = cl.compute_centroid(real, phi)
    spaces = [
        evaluation.Space("fd_colours", Counted(), False),
        evaluation.Space(f"fd_{phi.name}", nn.Sequential(nn.AvgPool2d(32), nn.Flatten()), True),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CENTROIDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        floors = cl.measure_real(real, stats, spaces, 20)
        entries = cl.measure_generated(fake, real, phi, stats, spaces, floors, 24)
    return real, fake, phi, stats, spaces, floors, entries


def test_entries_are_those_of_the_design(measured):
    *_, floors, entries = measured
    name = "vgg16_random_relu1_1"
    names = {"fd_colours", "precision_colours", "recall_colours", f"fd_{name}", f"precision_{name}", f"recall_{name}"}
    assert set(entries) == set(floors) == names | {"inside_d_ref", "centre_offset"}
    assert all(set(entry) == ENTRY for entry in entries.values())
    assert all(set(floor) == {"floor", "n"} for floor in floors.values())
    assert {e["better"] for n, e in entries.items() if n.startswith("fd_")} == {"lower"}
    assert {e["better"] for n, e in entries.items() if n.startswith(("precision", "recall"))} == {"higher"}
    assert entries["centre_offset"]["better"] == entries["inside_d_ref"]["better"] == "floor"
    assert [n for n, e in entries.items() if not e["seen_by_loss"]] == ["fd_colours", "precision_colours", "recall_colours"]
    assert all(entry["floor"] == floors[n]["floor"] for n, entry in entries.items())


def test_values_are_those_of_the_metrics(measured):
    real, fake, phi, stats, _, floors, entries = measured
    colours = Counted()
    a, b = (cl.features_of(x, colours, "") for x in (real, fake[:24]))
    assert entries["fd_colours"]["value"] == pytest.approx(cl.frechet_distance(a, b), rel=1e-6)
    assert (entries["fd_colours"]["n_real"], entries["fd_colours"]["n_fake"]) == (60, 24)
    assert entries["precision_colours"]["n_real"] == floors["precision_colours"]["n"] == 20
    features = phi(cl.to_float(fake[:24])).double()
    distances = (features - stats.centroid.double()).norm(dim=1)
    assert entries["inside_d_ref"]["value"] == float((distances <= stats.reference_distance).double().mean())
    offset = float((features.mean(0) - stats.centroid.double()).norm() / stats.reference_distance)
    assert entries["centre_offset"]["value"] == pytest.approx(offset, rel=1e-6)


def test_the_floors_value_is_measured_at_the_floors_n(measured):
    real, fake, phi, stats, spaces, floors, entries = measured
    half = evaluation._halves(cl.features_of(real, Counted(), ""))[0][:20]
    expected = cl.frechet_distance(half, cl.features_of(fake[:20], Counted(), ""))
    assert entries["fd_colours"]["value_at_floor_n"] == pytest.approx(expected, rel=1e-6)
    assert floors["fd_colours"]["n"] == 20
    fewer = cl.measure_generated(fake, real, phi, stats, spaces, floors, 19)["fd_colours"]
    assert fewer["value_at_floor_n"] is None


def test_real_images_measured_as_generated_are_at_their_floors(measured):
    real, _, phi, stats, spaces, floors, _ = measured
    entries = cl.measure_generated(real, real, phi, stats, spaces, floors, len(real))
    assert abs(entries["fd_colours"]["value"]) < 1e-6 < floors["fd_colours"]["floor"]
    assert entries["precision_colours"]["value"] > 0.8
    assert entries["recall_colours"]["value"] == 1.0
    assert entries["inside_d_ref"]["value"] == floors["inside_d_ref"]["floor"] == pytest.approx(1 - stats.outside)
    assert entries["centre_offset"]["value"] < 1e-5 < floors["centre_offset"]["floor"]


def test_more_samples_than_generated_images_are_not_claimed(measured):
    real, fake, phi, stats, spaces, floors, _ = measured
    entries = cl.measure_generated(fake, real, phi, stats, spaces, floors, 1000)
    assert {entry["n_fake"] for entry in entries.values()} == {30}


def test_lpips_stands_beside_that_of_real_pairs(real_weights, measured):
    real, fake, phi, stats, *_ = measured
    floors = cl.measure_real(real, stats, [], 20, "alex", pairs=5000)
    assert floors["lpips_alex"]["n"] == 30  # as many pairs as there are
    entry = cl.measure_generated(fake, real, phi, stats, [], floors, 5, "alex", pairs=12)["lpips_alex"]
    distances = cl.lpips_of_pairs(fake, cl.disjoint_pairs(30, 12), "alex")
    assert entry["value"] == pytest.approx(float(distances.mean()), rel=1e-6)
    half = 1.96 * float(distances.std()) / 12**0.5
    assert (entry["low"], entry["high"]) == pytest.approx((entry["value"] - half, entry["value"] + half), rel=1e-5)
    assert (entry["n_fake"], entry["n_real"], entry["better"], entry["seen_by_loss"]) == (24, 60, "floor", False)
    assert set(entry) == ENTRY


def test_the_spaces_of_the_embedded_default():
    phi = cl.VGG16Features(16, "random")
    unseen, seen = cl.metric_spaces(phi, 0)
    assert (unseen.name, unseen.seen_by_loss, unseen.named("precision")) == ("fd_vgg16_random", False, "precision_vgg16_random")
    assert (seen.name, seen.seen_by_loss) == ("fd_vgg16_random_relu3_3", True)
    probe = cl.to_float(cl.draw_faces(2)[0])
    assert unseen.network(probe).shape == seen.network(probe).shape == (2, 256)
    torch.testing.assert_close(seen.network(probe), phi(probe).view(2, 256, 256).mean(2))
    assert not torch.allclose(unseen.network(probe), seen.network(probe))


def test_the_spaces_with_inception(real_weights):
    unseen, _ = cl.metric_spaces(cl.VGG16Features(9, "IMAGENET1K_V1"), 768)
    assert (unseen.name, unseen.named("recall"), unseen.seen_by_loss) == ("fid_768", "recall_768", False)
    assert evaluation.Space("fid", unseen.network, False).named("recall") == "recall"


def test_the_file_has_one_form_and_a_fingerprint_of_the_protocol(measured, tmp_path):
    real, _, phi, _, spaces, _, entries = measured
    settings = {"crop": 1.0, "resize": "bilinear", "samples": 24, "lpips": "alex", "pairs": 100}

    def written(**changes):
        protocol = cl.protocol_of(changes.pop("real", real), changes.pop("spaces", spaces), phi, **(settings | changes))
        return cl.write_metrics(tmp_path / "metrics.json", entries, protocol)

    first = written()
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert set(content) == {"fingerprint", "protocol", "metrics"}
    assert content["fingerprint"] == first == written()
    assert content["metrics"] == entries
    changes = [{"crop": 0.9}, {"resize": "lanczos"}, {"samples": 25}, {"lpips": ""}, {"lpips": "vgg"}, {"pairs": 99}]
    changes += [{"real": real[:-1]}, {"spaces": spaces[:1]}]
    assert len({first, *(written(**change) for change in changes)}) == 1 + len(changes)


def test_a_metric_that_is_not_finite_never_reaches_the_file(measured, tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text("what was there")
    with pytest.raises(ValueError, match="JSON"):
        cl.write_metrics(path, {"fid": {"value": float("nan")}}, {})
    assert path.read_text() == "what was there"
