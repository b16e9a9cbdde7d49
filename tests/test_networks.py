"""Tests of the networks that measure: each gives the values of the package that published it."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from centroidlib import constraint_of, draw_faces, features_of, fingerprint, load_images, to_float
from centroidlib.algorithm import constraint_gradient
from centroidlib.benchmark import seeded_inception as seeded_inception_at
from centroidlib.evaluation import networks
from centroidlib.evaluation.networks import (
    Dinov2Features,
    InceptionFeatures,
    load_lpips,
)
from centroidlib.inputs import extractor_of

FACES = Path(__file__).parents[2] / "shared" / "data" / "celeba10k.zip"
INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
DINOV2_FILE = "dinov2_vitl14_pretrain.pth"


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Twenty drawn faces, uint8 (20, 3, 64, 64)."""
    return draw_faces(20, seed=2)[0]


@pytest.fixture
def checkpoints(torch_home):
    """The folder of weights of an empty torch cache, without a network."""
    return torch_home / "hub" / "checkpoints"


# Inception.


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    """Weights of the published network's form, seeded, with batch norms that are no identities."""
    home = tmp_path_factory.mktemp("inception")
    with seeded_inception_at(home):
        return home / "hub" / "checkpoints" / INCEPTION_FILE


@pytest.fixture(scope="module")
def inception_state(inception_file):
    return torch.load(inception_file, weights_only=True)


@pytest.fixture
def seeded_inception(inception_file, checkpoints):
    """A torch cache with seeded weights of pytorch-fid's Inception."""
    (checkpoints / INCEPTION_FILE).symlink_to(inception_file)


def of_pytorch_fid(images, dims, **options):
    """Features of pytorch-fid's network, averaged over positions as its command does; images in [0, 1]."""
    from pytorch_fid.inception import InceptionV3

    blocks = InceptionV3.BLOCK_INDEX_BY_DIM
    with torch.no_grad():
        found = InceptionV3([blocks[d] for d in dims], **options).eval()(images)
    return dict(zip(dims, (functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1) for x in found), strict=True))


def test_inception_features_are_pytorch_fids_own(real_weights, faces):
    wanted = of_pytorch_fid(faces[:4].float() / 255, [768])[768]
    found = InceptionFeatures(768)(to_float(faces[:4]))
    assert found.shape == (4, 768)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_inception_features_are_pytorch_fids_at_all_dimensions(seeded_inception, faces):
    wanted = of_pytorch_fid(faces[:2].float() / 255, [64, 192, 768, 2048])
    for dims in wanted:
        found = InceptionFeatures(dims)(to_float(faces[:2]))
        assert (found.shape, found.dtype) == ((2, dims), torch.float32)
        assert (found - wanted[dims]).norm() < 1e-5 * wanted[dims].norm()
        assert (found[0] - found[1]).norm() > 1e-3 * wanted[dims].norm()


def test_features_are_those_of_each_image_alone(seeded_inception, faces):
    network = InceptionFeatures(64)
    together = network(to_float(faces[:9]))  # more than one thread's share, and a remainder
    alone = torch.cat([network(to_float(face[None])) for face in faces[:9]])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_inception_stays_frozen_within_a_trained_owner(seeded_inception, faces):
    network = InceptionFeatures(192)
    expected = network(to_float(faces[:1]))
    owner = nn.Sequential(network).train()
    assert owner.training
    network.train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(network(to_float(faces[:1])), expected)


def test_a_fingerprint_tells_how_inception_measures(seeded_inception):
    variants = [(64,), (192,), (64, "clean"), (64, "pytorch-fid", "bfloat16")]
    assert len({fingerprint(InceptionFeatures(*variant)) for variant in variants}) == len(variants)
    network = InceptionFeatures(64)
    assert fingerprint(network) == fingerprint(InceptionFeatures(64))
    assert " at 0x" not in repr(network)
    before = fingerprint(network)
    next(network.parameters()).mul_(1.001)
    assert fingerprint(network) != before


def test_bfloat16_changes_inceptions_features_a_little(seeded_inception, faces):
    exact, rounded = (InceptionFeatures(64, precision=p)(to_float(faces[:1])) for p in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.02 * exact.norm()


def test_inception_weights_that_hold_nan_are_refused(real_weights):
    sentence = r"Inception \(pt_inception.*hold NaN in Mixed_7b: choose fewer dims than 2048"
    with pytest.raises(ValueError, match=sentence):
        InceptionFeatures(2048)


@pytest.mark.parametrize("key", ["Conv2d_4a_3x3.conv.weight", "Conv2d_4a_3x3.bn.running_var"])
def test_nan_is_refused_in_the_layers_used_only(inception_state, checkpoints, key):
    damaged = inception_state | {key: torch.full_like(inception_state[key], torch.nan)}
    torch.save(damaged, checkpoints / INCEPTION_FILE)
    with pytest.raises(ValueError, match="hold NaN in Conv2d_4a_3x3: choose fewer dims than 192"):
        InceptionFeatures(192)
    InceptionFeatures(64)


def test_absent_inception_weights_end_in_a_sentence(torch_home):
    sentence = rf"Inception are not on this machine.*{INCEPTION_FILE}.*hub/checkpoints.*fid_dims = 0"
    with pytest.raises(FileNotFoundError, match=sentence):
        InceptionFeatures(768)


def test_damaged_inception_weights_are_named(checkpoints):
    (checkpoints / INCEPTION_FILE).write_bytes(b"half a download")
    with pytest.raises(ValueError, match=rf"Inception \({INCEPTION_FILE} .* do not load .*: delete the file"):
        InceptionFeatures(64)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((100,), "features of 64, 192, 768, 2048 dimensions, not 100"),
        ((64, "bicubic"), "resizing is 'pytorch-fid' or 'clean', not 'bicubic'"),
        ((64, "clean", "float16"), "precision is 'float32' or 'bfloat16', not 'float16'"),
    ],
)
def test_an_inception_that_is_none_is_refused(torch_home, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        InceptionFeatures(*arguments)


def test_images_that_are_not_in_range_by_their_type_are_refused(seeded_inception, faces):
    with pytest.raises(ValueError, match=r"InceptionFeatures takes float images .* not torch.uint8 \(20, 3, 64, 64\)"):
        InceptionFeatures(64)(faces)


# Resizing as clean-fid does.


def resized_by_pil(image, side):
    """clean-fid's recipe: each channel of a uint8 image (3, H, W) as floats, bicubic, clipped to 0 to 255."""
    channels = (Image.fromarray(channel.astype(np.float32)) for channel in image.numpy())
    resized = [np.asarray(channel.resize((side, side), Image.Resampling.BICUBIC)).clip(0, 255) for channel in channels]
    return torch.from_numpy(np.stack(resized))


@pytest.mark.parametrize("size", [(64, 64), (218, 178), (450, 300)])
def test_clean_images_are_pils(seeded_inception, size):
    noise = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = InceptionFeatures(64, "clean").prepare(to_float(noise))
    wanted = torch.stack([resized_by_pil(image, 299) for image in noise])
    assert (wanted == 0).any()
    assert (wanted == 255).any()  # noise overshoots, so clipping shows
    torch.testing.assert_close(found, (wanted - 128) / 128, rtol=0, atol=1e-4)  # a hundredth of a grey level


def test_clean_features_are_pytorch_fids_of_images_that_clean_fid_resized(seeded_inception, faces):
    resize = pytest.importorskip("cleanfid.resize", reason="clean-fid is not installed").build_resizer("clean")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Pillow's, of how clean-fid calls it
        resized = np.stack([resize(face.permute(1, 2, 0).numpy()) for face in faces[:2]])
    normalised = (torch.from_numpy(resized).permute(0, 3, 1, 2) - 128) / 128
    wanted = of_pytorch_fid(normalised, [192], resize_input=False, normalize_input=False)[192]
    found = InceptionFeatures(192, "clean")(to_float(faces[:2]))
    assert (found - wanted).norm() < 1e-5 * wanted.norm()
    assert (found - InceptionFeatures(192)(to_float(faces[:2]))).norm() > 1e-3 * wanted.norm()


# DINOv2.


@pytest.fixture
def small_dinov2(monkeypatch, checkpoints):
    """timm's DINOv2 made narrow and shallow, and a file of its weights in the form that was published."""
    timm = pytest.importorskip("timm", reason="timm is not installed")

    def create(img_size):
        return timm.models.vision_transformer.VisionTransformer(
            img_size=img_size, patch_size=14, embed_dim=32, depth=2, num_heads=2, init_values=0.5, num_classes=0
        )

    def create_model(name, img_size, num_classes):
        assert (name, img_size, num_classes) == ("vit_large_patch14_dinov2", 224, 0)
        return create(img_size)

    monkeypatch.setattr(timm, "create_model", create_model)
    rng = torch.Generator().manual_seed(0)
    published = {
        key: torch.randn(value.shape, generator=rng) * (0.5 if "norm" in key else 0.2)
        for key, value in create(518).state_dict().items()
    }
    torch.save(published | {"mask_token": torch.zeros(1, 32)}, checkpoints / DINOV2_FILE)
    return create(224).eval(), published


def test_dinov2_gives_the_class_token_of_the_published_network(small_dinov2, faces):
    theirs, published = small_dinov2
    token, grid = published["pos_embed"].split([1, 37 * 37], dim=1)
    # dinov2/models/vision_transformer.py, interpolate_pos_encoding
    grid = functional.interpolate(
        grid.reshape(1, 37, 37, 32).permute(0, 3, 1, 2), scale_factor=(16.1 / 37, 16.1 / 37), mode="bicubic"
    )
    grid = grid.permute(0, 2, 3, 1).reshape(1, 256, 32)
    theirs.load_state_dict(published | {"pos_embed": torch.cat([token, grid], dim=1)})
    images = torch.stack([resized_by_pil(face, 224) for face in faces[:3]]) / 255
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        wanted = theirs.forward_features((images - mean) / std)[:, 0]
    network = Dinov2Features()
    found = network(to_float(faces[:3]))
    assert (found.shape, found.dtype) == ((3, 32), torch.float32)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (found[0] - found[1]).norm() > 1e-2 * wanted.norm()
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert not any(module.training for module in network.train().modules())


def test_dinov2_may_be_the_phi_of_a_constraint(small_dinov2, faces):
    """Its gradient reaches the images, and a step along it lowers what they pay."""
    phi = extractor_of("dinov2")
    constraint = constraint_of("energy", features_of(faces, phi, "real"), "full", 4)
    fake = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    gradient, value, features = constraint_gradient(fake, phi, constraint)
    assert (features.shape, value > constraint.floor) == ((4, 32), True)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).norm(dim=1).min() > 0
    assert constraint(phi(fake - 0.1 * gradient / gradient.abs().max())) < value


def test_bfloat16_changes_dinov2s_features_a_little(small_dinov2, faces):
    exact, rounded = (Dinov2Features(precision)(to_float(faces[:2])) for precision in ("float32", "bfloat16"))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - exact).norm() < 0.05 * exact.norm()
    assert fingerprint(Dinov2Features()) == fingerprint(Dinov2Features()) != fingerprint(Dinov2Features("bfloat16"))


def test_timm_has_the_network_that_was_published():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        state = timm.create_model("vit_large_patch14_dinov2", img_size=224, num_classes=0).state_dict()
    assert state["pos_embed"].shape == (1, 1 + 16 * 16, 1024)
    block = ["norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias"]
    block += ["ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias"]
    published = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    published |= {f"blocks.{i}.{key}" for i in range(24) for key in [*block, "ls2.gamma"]}
    assert set(state) == published


def test_absent_dinov2_weights_end_in_a_sentence(torch_home):
    pytest.importorskip("timm", reason="timm is not installed")
    sentence = rf"DINOv2 ViT-L/14 are not on this machine.*{DINOV2_FILE}.*hub/checkpoints.*set dinov2 = False"
    with pytest.raises(FileNotFoundError, match=sentence):
        Dinov2Features()


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_damaged_dinov2_weights_are_named(small_dinov2, checkpoints, damage):
    file = checkpoints / DINOV2_FILE
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1000])
    else:
        torch.save({"weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=rf"DINOv2 ViT-L/14 \({DINOV2_FILE} .* do not load .*: delete the file"):
        Dinov2Features()


def test_dinov2_weights_that_hold_nan_are_refused(small_dinov2, checkpoints):
    _, published = small_dinov2
    published["norm.bias"][3] = torch.nan
    torch.save(published | {"mask_token": torch.zeros(1, 32)}, checkpoints / DINOV2_FILE)
    with pytest.raises(ValueError, match=rf"DINOv2 ViT-L/14 \({DINOV2_FILE} .* hold NaN in norm: delete the file"):
        Dinov2Features()


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModuleNotFoundError, match=r"timm, which is not installed: pip install 'centroidlib\[dinov2\]'"):
        Dinov2Features()


# LPIPS.


@pytest.mark.parametrize("net", list(networks.LPIPS_FILES))
def test_absent_lpips_weights_end_in_a_sentence(torch_home, net):
    sentence = rf"LPIPS \({net}\) are not on this machine.*{networks.LPIPS_FILES[net]}.*set lpips = ''"
    with pytest.raises(FileNotFoundError, match=sentence):
        load_lpips(net)


def test_damaged_lpips_weights_are_named(checkpoints):
    file = networks.LPIPS_FILES["alex"]
    (checkpoints / file).write_bytes(b"half a download")
    with pytest.raises(ValueError, match=rf"LPIPS \(alex\) \({file} .* do not load .*: delete the file"):
        load_lpips("alex")


def test_images_too_small_for_lpips_are_refused(real_weights):
    distance = load_lpips("alex")
    assert distance(torch.zeros(1, 3, 32, 40), torch.zeros(1, 3, 32, 40)).shape == (1,)
    with pytest.raises(ValueError, match="LPIPS needs images of at least 32×32 pixels, not 40×31: leave it out"):
        distance(torch.zeros(1, 3, 31, 40), torch.zeros(1, 3, 31, 40))


def test_an_lpips_network_that_is_none_is_refused():
    with pytest.raises(ValueError, match="LPIPS has the networks alex, vgg, squeeze, not 'inception'"):
        load_lpips("inception")


def lpips_directly(images, net):
    """lpips as its page shows it, of images 0 and 1, 2 and 3, ..., one pair at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lpips

        network = lpips.LPIPS(net=net, version="0.1", verbose=False)
    as_lpips_wants = torch.from_numpy(images.numpy().astype(np.float32)) / 255 * 2 - 1
    with torch.no_grad():
        return torch.stack([network(a, b).squeeze() for a, b in as_lpips_wants.unflatten(0, (-1, 2, 1)).unbind(0)])


@pytest.mark.parametrize("net", ["alex", "squeeze"])
def test_lpips_is_that_of_lpips_called_directly(real_weights, faces, net):
    found = load_lpips(net)(to_float(faces)[0::2], to_float(faces)[1::2])
    assert not found.requires_grad
    torch.testing.assert_close(found, lpips_directly(faces, net), rtol=0, atol=1e-6)
    assert found.std() > 0.01


def test_lpips_computes_where_it_is_placed(real_weights, faces):
    there = to_float(faces[:4]).to("meta")
    found = load_lpips("alex", "meta")(there[:2], there[2:])
    assert (found.device.type, found.shape) == ("meta", (2,))


def test_lpips_of_real_faces_has_the_known_value(real_weights):
    if not FACES.is_file():
        pytest.skip(f"the real faces are not in {FACES.parent.parent.name}/data beside the project")
    images = to_float(load_images(FACES, count=600)[torch.randperm(600, generator=torch.Generator().manual_seed(0))])
    distance = load_lpips("alex")
    distances = torch.cat([distance(a, b) for a, b in zip(images[0::2].split(50), images[1::2].split(50), strict=True)])
    # 0.2895 ± 0.002 was measured over 1,500 pairs; of 300 the mean's standard error is about 0.0045 (0.078 / √300,
    # and the spread is held here too), so 0.012 is 2.5 of both together.
    assert float(distances.mean()) == pytest.approx(0.2895, abs=0.012)
    assert float(distances.std()) == pytest.approx(0.078, abs=0.015)
