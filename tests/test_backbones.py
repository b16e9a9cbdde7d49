"""Tests of Φ from torchvision's networks."""

import pytest
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from centroidlib import VGG16Features, fingerprint, to_float
from centroidlib.backbones import TorchvisionFeatures


@pytest.mark.parametrize(
    ("network", "layer", "resize", "dimensions", "flattened"),
    [
        ("resnet18", "layer2", 0, 128, 128 * 8 * 8),
        ("convnext_tiny", "features.3", 0, 192, 192 * 8 * 8),
        ("swin_t", "features.3", 0, 192, 192 * 8 * 8),
        ("vit_b_16", "encoder.layers.encoder_layer_1", 224, 768, 768 * 197),
        ("alexnet", "classifier.5", 0, 4096, 4096),
    ],
)
def test_any_network_gives_features_pooled_or_flattened(faces, network, layer, resize, dimensions, flattened):
    images = to_float(faces[:2])
    found = TorchvisionFeatures(network, layer, "random", resize=resize)(images)
    whole = TorchvisionFeatures(network, layer, "random", pool=False, resize=resize)(images)
    assert found.shape == (2, dimensions)
    assert whole.shape == (2, flattened)
    positions = whole.unflatten(1, (dimensions, -1)).mean(2) if network in ("resnet18", "convnext_tiny") else None
    if positions is None:  # channels come last
        positions = whole.unflatten(1, (-1, dimensions)).mean(1)
    torch.testing.assert_close(found, positions)


def test_features_are_torchvisions_of_normalised_images(faces):
    torch.manual_seed(3)
    network = torchvision.models.resnet18(weights=None).eval()
    extractor = create_feature_extractor(network, ["layer3"])
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = extractor((faces[:3] / 255 - mean) / std)["layer3"].mean((2, 3))
    torch.testing.assert_close(TorchvisionFeatures("resnet18", "layer3", "random", seed=3)(to_float(faces[:3])), wanted)


def test_of_vgg_it_is_the_papers_phi(faces, real_weights):
    phi, other = VGG16Features(16, "IMAGENET1K_FEATURES", pool=True), None
    other = TorchvisionFeatures("vgg16", "features.15", "IMAGENET1K_FEATURES")
    torch.testing.assert_close(other(to_float(faces[:3])), phi(to_float(faces[:3])))


def test_it_is_frozen_and_gradients_reach_the_images(faces):
    phi = TorchvisionFeatures("resnet18", "layer1", "random").train()
    images = to_float(faces[:2]).requires_grad_()
    phi(images).sum().backward()
    assert images.grad.abs().sum() > 0
    assert not any(module.training for module in phi.modules())
    assert not any(weight.requires_grad for weight in phi.parameters())


def test_names_and_fingerprints_tell_them_apart():
    spaces = [("resnet18", "layer1", True, 0, 0), ("resnet18", "layer2", True, 0, 0), ("resnet18", "layer1", False, 0, 0)]
    spaces += [("resnet18", "layer1", True, 128, 0), ("resnet18", "layer1", True, 0, 1), ("resnet34", "layer1", True, 0, 0)]
    made = [TorchvisionFeatures(network, layer, "random", *more) for network, layer, *more in spaces]
    assert made[0].name == "resnet18_random_layer1"
    assert len({fingerprint(phi) for phi in made}) == len(made)
    assert fingerprint(made[0]) == fingerprint(TorchvisionFeatures("resnet18", "layer1", "random"))


def test_the_global_random_stream_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    TorchvisionFeatures("resnet18", "layer1", "random")
    assert torch.equal(torch.get_rng_state(), before)


def test_published_weights_are_taken_from_the_cache_with_their_own_normalisation(faces, torch_home):
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    torch.manual_seed(5)
    network = torchvision.models.resnet18(weights=None)
    path = torch_home / "hub" / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    torch.save(network.state_dict(), path)
    found = TorchvisionFeatures("resnet18", "layer1", "IMAGENET1K_V1")
    assert found.name == TorchvisionFeatures("resnet18", "layer1").name == "resnet18_imagenet1k_v1_layer1"
    torch.testing.assert_close(
        found(to_float(faces[:2])), TorchvisionFeatures("resnet18", "layer1", "random", seed=5)(to_float(faces[:2]))
    )
    network.layer1[0].conv1.weight.data[0] = torch.nan
    torch.save(network.state_dict(), path)
    with pytest.raises(ValueError, match=r"IMAGENET1K_V1 of resnet18 hold NaN in layer1\.0\.conv1\.weight: choose other"):
        TorchvisionFeatures("resnet18", "layer1", "IMAGENET1K_V1")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"weights of resnet18 IMAGENET1K_V1 \(resnet18-f37072fd.pth in the torch cache\) do not"
    ):
        TorchvisionFeatures("resnet18", "layer1", "IMAGENET1K_V1")


def test_weights_that_are_nowhere_are_named(torch_home):
    with pytest.raises(
        FileNotFoundError, match=r"weights of resnet18 IMAGENET1K_V1 are not on this machine .* choose weights = 'random'"
    ):
        TorchvisionFeatures("resnet18", "layer1")


@pytest.mark.parametrize(
    ("network", "layer", "weights", "message"),
    [
        ("resnet19", "layer1", "random", "no classification network 'resnet19'; it has alexnet, "),
        ("fcn_resnet50", "layer1", "random", "no classification network 'fcn_resnet50'"),
        ("resnet18", "layer9", "random", "resnet18 has no layer 'layer9'; it has x, conv1, bn1"),
        ("resnet18", "lay", "random", "resnet18 has no layer 'lay'"),
        (
            "resnet18",
            "layer1",
            "IMAGENET1K_V2",
            "resnet18 has no weights 'IMAGENET1K_V2'; choose one of IMAGENET1K_V1, DEFAULT, random",
        ),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(network, layer, weights, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionFeatures(network, layer, weights)
