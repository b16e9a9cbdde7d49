"""Tests of the spaces to measure in: their names, their order, and which of them the loss has seen."""

import pytest
import torch
from torch import nn

from centroidlib import VGG16Features, metric_spaces, to_float
from centroidlib.evaluation import Space
from centroidlib.evaluation import spaces as module


def test_the_spaces_of_the_embedded_default(faces):
    phi = VGG16Features(16, "random")
    unseen, seen = metric_spaces(phi, 0)
    assert (unseen.name, unseen.named("precision")) == ("fd_vgg16_random", "precision_vgg16_random")
    assert not unseen.seen_by_loss
    assert not unseen.pooled_from_phi
    assert (seen.name, seen.seen_by_loss, seen.pooled_from_phi) == ("fd_vgg16_random_relu3_3", True, True)
    images = to_float(faces[:2])
    assert unseen.network(images).shape == seen.network(images).shape == (2, 256)
    assert not torch.allclose(unseen.network(images), seen.network(images))


@pytest.mark.parametrize("options", [{"layer": 16}, {"layer": 17}, {"layer": 4, "pool": True}])
def test_pooled_positions_of_phi_are_the_pooled_space(faces, options):
    phi = VGG16Features(weights="random", seed=3, **options)
    seen = metric_spaces(phi, 0)[-1]
    images = to_float(faces[:2])
    wanted = seen.network(images)
    torch.testing.assert_close(phi.average(phi(images)), wanted, rtol=1e-5, atol=1e-5)


def test_spaces_stand_in_order_and_on_phis_device(monkeypatch):
    made = []

    class Made(nn.Linear):
        def __init__(self, *arguments, **options):
            super().__init__(1, 1)
            made.append((*arguments, *options.values()))

    monkeypatch.setattr(module, "InceptionFeatures", Made)
    monkeypatch.setattr(module, "Dinov2Features", Made)
    phi = VGG16Features(5, "random").to("meta")
    spaces = metric_spaces(phi, 768, clean=True, dinov2=True, precision="bfloat16")
    names = ["fid_768", "fid_clean_768", "fd_dinov2", "fd_vgg16_random", "fd_vgg16_random_pool1"]
    assert [space.name for space in spaces] == names
    assert [space.seen_by_loss for space in spaces] == [False] * 4 + [True]
    assert {tensor.device.type for space in spaces for tensor in space.network.state_dict().values()} == {"meta"}
    assert made == [(768, "bfloat16"), (768, "clean", "bfloat16"), ("bfloat16",)]
    suffixes = ["768", "clean_768", "dinov2", "vgg16_random", "vgg16_random_pool1"]
    assert [space.named("kid") for space in spaces] == [f"kid_{suffix}" for suffix in suffixes]
    proper, clean = metric_spaces(phi, clean=True)[:2]
    assert (proper.name, proper.named("recall"), clean.name, clean.named("recall")) == (
        "fid",
        "recall",
        "fid_clean",
        "recall_clean",
    )


def test_the_spaces_with_inception(real_weights, faces):
    fid, clean, random, seen = metric_spaces(VGG16Features(9, "IMAGENET1K_V1"), 768, clean=True)
    assert [s.name for s in (fid, clean, random, seen)] == ["fid_768", "fid_clean_768", "fd_vgg16_random", "fd_vgg16_relu2_2"]
    images = to_float(faces[:1])
    assert not torch.allclose(fid.network(images), clean.network(images), rtol=1e-3)


def test_clean_without_inception_is_refused():
    with pytest.raises(ValueError, match="clean resizes images for the Inception network, and fid_dims = 0 has none"):
        metric_spaces(VGG16Features(2, "random"), 0, clean=True)


def test_a_phi_of_too_many_dimensions_is_no_space_to_measure_in():
    phi = VGG16Features(2, "random")
    phi.channels = 4096  # as of the fully connected layers
    assert [space.name for space in metric_spaces(phi, 0)] == ["fd_vgg16_random"]


def test_the_random_space_is_unseen_only_by_a_loss_of_other_weights():
    assert metric_spaces(VGG16Features(2, "random", seed=module.METRIC_SEED), 0)[0].seen_by_loss
    assert not metric_spaces(VGG16Features(2, "random", seed=1), 0)[0].seen_by_loss


def test_a_space_names_its_metrics():
    spaces = {"fid": "kid", "fid_768": "kid_768", "fid_clean": "kid_clean", "fd_vgg16_relu3_3": "kid_vgg16_relu3_3"}
    assert {name: Space(name, nn.Identity(), False).named("kid") for name in spaces} == spaces
