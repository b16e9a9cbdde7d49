"""The published networks that measure: Inception, DINOv2, LPIPS."""

import warnings
from collections import OrderedDict

import torch
from pytorch_fid.inception import FID_WEIGHTS_URL, fid_inception_v3
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d

from centroidlib.features import IMAGENET, FeatureExtractor, check_images, finding_weights

INCEPTION_LAYERS = {64: "maxpool1", 192: "maxpool2", 768: "Mixed_6e", 2048: "Mixed_7c"}  # the last in use, by dims
DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth"
LPIPS_FILES = {"alex": "alexnet-owt-7be5be79.pth", "vgg": "vgg16-397923af.pth", "squeeze": "squeezenet1_1-b8a52dc0.pth"}


class _Published(FeatureExtractor):
    """A published network, a few images at a time."""

    network: nn.Module
    pool = True

    def __init__(self, precision: str) -> None:
        super().__init__()
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"precision is 'float32' or 'bfloat16', not {precision!r}.")
        self.precision = precision

    def _hold(self, network: nn.Module, what: str, filename: str, instead: str) -> None:
        for name, weight in network.state_dict().items():
            if not torch.isfinite(weight).all():
                layer = name.split(".")[0]
                raise ValueError(f"The weights of {what} ({filename} in the torch cache) hold NaN in {layer}: {instead}.")
        self.network = network
        self.freeze()

    def prepare(self, images: Tensor) -> Tensor:
        """Images in [-1, 1], in the size and scale that the network was trained on."""
        raise NotImplementedError

    def forward(self, images: Tensor) -> Tensor:
        check_images(images, type(self).__name__)
        # On a CPU a few images a thread stay in its caches from layer to layer (with fewer, threads wait for each other
        # where cores are busy); a GPU takes the batch whole.
        size = 8 * torch.get_num_threads() if images.device.type == "cpu" else max(1, len(images))
        return torch.cat([self._features(part) for part in images.split(size)])

    def _features(self, images: Tensor) -> Tensor:
        x = self.prepare(images).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            x = self.network(x)
        return x.float().mean(dim=(2, 3)) if x.ndim == 4 else x.float()


class InceptionFeatures(_Published):
    """pytorch-fid's Inception network: images (B, 3, H, W) in [-1, 1] → features (B, dims), float32.

    The features are pytorch-fid's to some 1e-6 of their size; its batch norms are folded into the convolutions.

    Args:
        dims: 64, 192, 768 or 2048; FID proper is 2048.
        resizing: how images come to 299×299: `pytorch-fid`, bilinear without antialias as in that package, or
            `clean`, bicubic with antialias, clipped to 0 to 255, as in clean-fid (Parmar et al. 2022).
        precision: `float32`, or `bfloat16` for the network's arithmetic; features are float32 in both.

    Raises:
        ValueError: other dims, resizing or precision, or the weights hold NaN in the layers used.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """

    def __init__(self, dims: int = 2048, resizing: str = "pytorch-fid", precision: str = "float32") -> None:
        super().__init__(precision)
        if dims not in INCEPTION_LAYERS:
            known = ", ".join(map(str, INCEPTION_LAYERS))
            raise ValueError(f"pytorch-fid's Inception has features of {known} dimensions, not {dims}.")
        if resizing not in ("pytorch-fid", "clean"):
            raise ValueError(f"resizing is 'pytorch-fid' or 'clean', not {resizing!r}.")
        self.dims = self.channels = dims
        self.resizing = resizing
        what, filename = "pytorch-fid's Inception", FID_WEIGHTS_URL.rsplit("/", 1)[-1]
        with finding_weights(what, filename, "set fid_dims = 0 to measure in a random network"):
            layers = dict(fid_inception_v3().eval().named_children())
        used = list(layers)[: list(layers).index(INCEPTION_LAYERS[dims]) + 1]
        network = nn.Sequential(OrderedDict((name, layers[name]) for name in used))
        for module in network.modules():
            if isinstance(module, BasicConv2d):
                module.conv = fuse_conv_bn_eval(module.conv, module.bn)
                module.add_module("bn", nn.Identity())
        self._hold(network, what, filename, f"choose fewer dims than {dims}, or a complete file")

    @property
    def name(self) -> str:  # noqa: D102
        return f"inception_{self.dims}"

    def extra_repr(self) -> str:  # noqa: D102
        return f"dims={self.dims}, resizing={self.resizing}, precision={self.precision}"

    def prepare(self, images: Tensor) -> Tensor:  # noqa: D102
        if self.resizing == "pytorch-fid":
            return functional.interpolate(images, (299, 299), mode="bilinear", align_corners=False)
        images = functional.interpolate(images * 127.5 + 127.5, (299, 299), mode="bicubic", antialias=True)
        return (images.clamp(0, 255) - 128) / 128


class Dinov2Features(_Published):
    """DINOv2 ViT-L/14's class token: images (B, 3, H, W) in [-1, 1] → features (B, 1024), float32.

    As in Stein et al. 2023 (dgm-eval): the published file, images bicubic with antialias to 224×224. The network
    itself is timm's, an extra of this package: `pip install centroidlib[dinov2]`.

    Args:
        precision: `float32`, or `bfloat16` for the network's arithmetic; features are float32 in both.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: other precision, or the weights are damaged or hold NaN.
        FileNotFoundError: the weights (1.2 GB) are neither cached nor to be downloaded.
    """

    name = "dinov2"
    channels = 1024

    def __init__(self, precision: str = "float32") -> None:
        super().__init__(precision)
        try:
            import timm
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "DINOv2's network comes from timm, which is not installed: pip install 'centroidlib[dinov2]', "
                "or set dinov2 = False to measure without it."
            ) from error
        what, filename = "DINOv2 ViT-L/14", DINOV2_URL.rsplit("/", 1)[-1]
        with finding_weights(what, filename, "set dinov2 = False to measure without it"):
            state = torch.hub.load_state_dict_from_url(DINOV2_URL, map_location="cpu", progress=False, weights_only=True)
            del state["mask_token"]  # of its training
            state["pos_embed"] = _positions_at(16, state["pos_embed"])
            network = timm.create_model("vit_large_patch14_dinov2", img_size=224, num_classes=0)
            network.load_state_dict(state, assign=True)
        self._hold(network, what, filename, "delete the file and fetch it again, or set dinov2 = False")
        self.normalise_with(*IMAGENET)

    def extra_repr(self) -> str:  # noqa: D102
        return f"precision={self.precision}"

    def prepare(self, images: Tensor) -> Tensor:  # noqa: D102
        images = functional.interpolate(images, (224, 224), mode="bicubic", antialias=True)
        return images.clamp(-1, 1) * self.scale + self.shift


def _positions_at(side: int, embedding: Tensor) -> Tensor:
    """Position embeddings (1, 1 + N², D), of a token and a grid, brought to a grid of side × side."""
    before = round((embedding.shape[1] - 1) ** 0.5)
    grid = embedding[:, 1:].unflatten(1, (before, before)).permute(0, 3, 1, 2)
    # As DINOv2's own code does, 0.1 and no antialias: timm's interpolation gives other features.
    grid = functional.interpolate(grid, scale_factor=(side + 0.1) / before, mode="bicubic")
    return torch.cat([embedding[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


class LpipsDistance(nn.Module):
    """LPIPS v0.1 between image batches in [-1, 1]: (B, 3, H, W) twice → (B,), of at least 32×32 pixels."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval().to(memory_format=torch.channels_last)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:  # noqa: D102
        if min(first.shape[2:]) < 32:
            raise ValueError(f"LPIPS needs images of at least 32×32 pixels, not {first.shape[3]}×{first.shape[2]}: leave it out.")
        distance: Tensor = self.network(first, second)
        return distance.flatten()


def load_lpips(net: str = "alex", device: torch.device | str = "cpu") -> LpipsDistance:
    """LPIPS with one of its networks (`alex`, `vgg`, `squeeze`), on a device.

    Raises:
        ValueError: no such network, or its file is damaged.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """
    if net not in LPIPS_FILES:
        raise ValueError(f"LPIPS has the networks {', '.join(LPIPS_FILES)}, not {net!r}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lpips still passes torchvision's deprecated `pretrained=`
        import lpips

        with finding_weights(f"LPIPS ({net})", LPIPS_FILES[net], "set lpips = '' to leave LPIPS out"):
            network = lpips.LPIPS(net=net, verbose=False)
    return LpipsDistance(network).to(device)
