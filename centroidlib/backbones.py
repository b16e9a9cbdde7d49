"""Φ from any of torchvision's classification networks."""

import warnings

import torch
import torchvision
from torch import Tensor
from torchvision.models import get_model, get_model_weights, list_models  # type: ignore[attr-defined]
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from centroidlib.features import IMAGENET, FeatureExtractor, finding_weights


class TorchvisionFeatures(FeatureExtractor):
    """A network of `torchvision.models` up to a layer, frozen: image batch in [-1, 1] → feature batch.

    Like `VGG16Features`, which it equals with published weights for `network="vgg16"`, `layer="features.15"`: in eval mode,
    without a gradient for its weights, while gradients flow to the images.

    Args:
        network: its name in torchvision, such as `resnet50`, `convnext_tiny`, `swin_t`.
        layer: a node of its graph, such as `layer3` or `features.5`; a module's name stands for its last node.
        weights: a name among the network's weights in torchvision, such as `IMAGENET1K_V2`, or `random` (drawn from `seed`).
        pool: average over positions, so that d is the number of channels; else features are flattened.
        resize: side in pixels that images are resized to first (bilinear, antialiased), 0 for none: `vit_b_16` takes 224 only.
        seed: of the random weights.

    Raises:
        ValueError: no such network, layer or weights; weights that do not load or hold NaN; a network that does not take images
            of 64×64 pixels, or of `resize`.
        FileNotFoundError: the weights are neither cached nor to be downloaded.
    """

    def __init__(
        self, network: str, layer: str, weights: str = "DEFAULT", pool: bool = True, resize: int = 0, seed: int = 0
    ) -> None:
        super().__init__()
        if network not in (known := list_models(module=torchvision.models)):
            raise ValueError(f"torchvision has no classification network {network!r}; it has {', '.join(known)}.")
        choices = [*get_model_weights(network).__members__]
        if weights not in (*choices, "random"):
            raise ValueError(f"{network} has no weights {weights!r}; choose one of {', '.join(choices)}, random.")
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of two networks, whose initial weights will be others one day
            torch.default_generator.manual_seed(seed)
            whole = get_model(network, weights=None)
        mean, std = IMAGENET
        if weights != "random":
            chosen = get_model_weights(network)[weights]
            weights = chosen.name  # DEFAULT is one of the others
            with finding_weights(
                f"{network} {weights}", chosen.url.rsplit("/", 1)[-1], "choose weights = 'random', which need no file"
            ):
                whole.load_state_dict(chosen.get_state_dict(progress=False, check_hash=True, weights_only=True))
            preset = chosen.transforms()
            mean, std = preset.mean, preset.std
        nodes = get_graph_node_names(whole, suppress_diff_warning=True)[1]
        if not any(node == layer or node.startswith(f"{layer}.") for node in nodes):
            raise ValueError(f"{network} has no layer {layer!r}; it has {', '.join(nodes)}.")
        self.network, self.layer, self.weights, self.pool, self.resize, self.seed = network, layer, weights, pool, resize, seed
        self.layers = create_feature_extractor(whole.eval(), {layer: "features"}, suppress_diff_warning=True)
        for name, weight in self.layers.state_dict().items():
            if not weight.isfinite().all():
                raise ValueError(
                    f"The weights {weights} of {network} hold NaN in {name}: choose other weights, or a complete file."
                )
        self.normalise_with(mean, std)
        self.freeze()
        shape = self._maps(torch.zeros(1, 3, 64, 64)).shape
        # (1, d, side, side), but of transformers (1, positions, d) and (1, side, side, d).
        self.channels_last = len(shape) == 3 or (len(shape) == 4 and shape[1] == shape[2] != shape[3])
        self.channels = shape[-1] if self.channels_last else shape[1]

    @property
    def name(self) -> str:
        """Short name of the feature space, as it stands in tables: `resnet50_imagenet1k_v2_layer3`, `resnet50_random_layer3`."""
        return f"{self.network}_{self.weights.lower()}_{self.layer}"

    def extra_repr(self) -> str:  # noqa: D102
        return f"network={self.network}, layer={self.layer}, pool={self.pool}, resize={self.resize}"

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        maps = self._maps(images)
        if self.pool and maps.ndim > 2:
            return maps.mean(tuple(range(1, maps.ndim - 1)) if self.channels_last else tuple(range(2, maps.ndim)))
        return maps.flatten(1)

    def _maps(self, images: Tensor) -> Tensor:
        try:
            return self.layers(self.normalised(images, self.resize))["features"].float()
        except (RuntimeError, AssertionError) as error:
            side = self.resize or images.shape[-1]
            raise ValueError(
                f"{self.network} does not take images of {side}×{side} pixels ({error}): set resize to what it was trained on."
            ) from error
