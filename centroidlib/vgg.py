"""The paper's Φ: VGG-16 to its 16th layer, or to another."""

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from centroidlib.features import IMAGENET, FeatureExtractor, finding_weights

VGG16_WEIGHTS = ("IMAGENET1K_V1", "IMAGENET1K_FEATURES", "random")
_LAYERS = 38


class VGG16Features(FeatureExtractor):
    """torchvision's VGG-16 to a given layer, frozen: the paper's Φ.

    With the defaults at 64×64, d = 256·16·16 = 65,536 (relu3_3).

    Args:
        layer: how many layers to keep, 1 to 38. 1 to 31 count torchvision's `vgg16().features` (16 is
            relu3_3, 17 pool3); 32 to 38 its classifier, for which images are resized to 224.
        weights: `IMAGENET1K_V1` (torchvision's training), `IMAGENET1K_FEATURES` (the original Oxford weights)
            or `random` (drawn from `seed`). Each has its own input normalisation.
        pool: average over positions, so that d is the number of channels. The paper flattens.
        resize: resize images to 224×224 first (bilinear, antialiased).
        seed: of the random weights.

    Raises:
        ValueError: no such layer or weights, or the weights hold NaN in the layers used.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """

    def __init__(
        self,
        layer: int = 16,
        weights: str = "IMAGENET1K_V1",
        pool: bool = False,
        resize: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= layer <= _LAYERS:
            raise ValueError(
                f"VGG-16 has layers 1 to {_LAYERS}, not {layer}: 16 is relu3_3, the paper's; 17 is pool3; "
                "32 to 38 are the fully connected ones."
            )
        if weights not in VGG16_WEIGHTS:
            raise ValueError(f"VGG-16 has no weights {weights!r}; choose one of {', '.join(VGG16_WEIGHTS)}.")
        self.layer, self.weights, self.pool = layer, weights, pool
        self.resize = resize or layer > 31
        self.seed = seed
        self.layers = _slice(layer)
        mean, std = IMAGENET
        if weights == "random":
            _draw_weights(self.layers, torch.Generator().manual_seed(seed))
        else:
            mean, std = _load_weights(self.layers, VGG16_Weights[weights])
        self.normalise_with(mean, std)
        widths = [layer.out_channels for layer in self.layers if isinstance(layer, nn.Conv2d)]
        widths += [layer.out_features for layer in self.layers.modules() if isinstance(layer, nn.Linear)]
        self.channels = widths[-1]
        self.freeze()

    @property
    def name(self) -> str:
        """Short name of the feature space, as it stands in tables: `vgg16_relu3_3`, `vgg16_random_relu3_3`."""
        source = {"IMAGENET1K_V1": "vgg16", "IMAGENET1K_FEATURES": "vgg16_oxford", "random": "vgg16_random"}
        return f"{source[self.weights]}_{layer_name(self.layer)}"

    def extra_repr(self) -> str:  # noqa: D102
        return f"layer={self.layer}, pool={self.pool}, resize={self.resize}"

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        x = self.layers(self.normalised(images, 224 if self.resize else 0)).float()
        if self.pool and x.ndim == 4:
            return x.mean(dim=(2, 3))
        return x.flatten(1)


def layer_name(layer: int) -> str:
    """The literature's name of VGG-16's layer: 16 → `relu3_3`, 17 → `pool3`, 33 → `relu6`."""
    if layer > 31:
        return ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8"][layer - 32]
    block, convolution, name = 1, 0, ""
    for module in _slice(layer):
        if isinstance(module, nn.Conv2d):
            convolution += 1
            name = f"conv{block}_{convolution}"
        elif isinstance(module, nn.ReLU):
            name = f"relu{block}_{convolution}"
        else:
            name = f"pool{block}"
            block, convolution = block + 1, 0
    return name


def _slice(layer: int) -> nn.Sequential:
    """The first `layer` layers of VGG-16, on the meta device: no memory, no random initialisation."""
    with torch.device("meta"):
        vgg = torchvision.models.vgg16(weights=None, init_weights=False)
    layers = list(vgg.features)
    if layer > 31:
        first, *rest = vgg.classifier
        layers += [nn.Sequential(vgg.avgpool, nn.Flatten(), first), *rest]
    return nn.Sequential(*layers[:layer])


def _draw_weights(layers: nn.Sequential, rng: torch.Generator) -> None:
    layers.to_empty(device="cpu")
    for module in layers.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=rng)
            module.get_parameter("bias").data.zero_()


def _load_weights(layers: nn.Sequential, weights: VGG16_Weights) -> tuple[list[float], list[float]]:
    filename = weights.url.rsplit("/", 1)[-1]
    with finding_weights(f"VGG-16 {weights.name}", filename, "choose weights = 'random', which need no file"):
        state = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        published = {_place(key): value for key, value in state.items()}
        used = {key: published[key] for key in layers.state_dict()}
        layers.load_state_dict(used, assign=True)
    for key, value in used.items():
        if not torch.isfinite(value).all():
            index = int(key.split(".")[0])
            raise ValueError(
                f"The weights {weights.name} ({filename}) hold NaN in {layer_name(index + 1)}, layer {index + 1} of "
                f"the {len(layers)} in use: choose an earlier layer, other weights, or a complete file."
            )
    preset = weights.transforms()
    return preset.mean, preset.std


def _place(key: str) -> str:
    """Where torchvision's `features.7.bias` or `classifier.3.bias` stands in a slice: `7.bias`, `34.bias`."""
    group, number, kind = key.split(".")
    if group == "features":
        return f"{number}.{kind}"
    return f"{31 + int(number)}.{'2.' if number == '0' else ''}{kind}"
