"""What every Φ is, a frozen feature extractor: image batch in [-1, 1] → feature batch."""

import copy
import hashlib
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # mean and standard deviation, of images in [0, 1]
# What torch.load and the libraries raise for a damaged or foreign file.
_UNLOADABLE = (RuntimeError, EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, pickle.UnpicklingError)


class FrozenNetwork(nn.Module):
    """A network that is only used: no gradient for its weights, in eval mode whatever its owner does, channels last in memory."""

    scale: Tensor
    shift: Tensor

    def freeze(self) -> None:
        """To be called at the end of `__init__`."""
        self.requires_grad_(False)
        self.to(memory_format=torch.channels_last)
        super().train(False)

    def train(self, mode: bool = True) -> "FrozenNetwork":  # noqa: D102
        return self

    def normalise_with(self, mean: list[float], std: list[float]) -> None:
        """Hold what brings images from [-1, 1] to [0, 1] and to the weights' mean and standard deviation there."""
        mean_, std_ = torch.tensor(mean).view(1, 3, 1, 1), torch.tensor(std).view(1, 3, 1, 1)
        self.register_buffer("scale", 0.5 / std_)
        self.register_buffer("shift", (0.5 - mean_) / std_)

    def normalised(self, images: Tensor, side: int) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], resized to side × side pixels (0: as they are) and normalised."""
        check_images(images, "Φ")
        if side:
            images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True)
        return (images * self.scale + self.shift).contiguous(memory_format=torch.channels_last)


class FeatureExtractor(FrozenNetwork):
    """Φ: a frozen network from images (B, 3, H, W) in [-1, 1] to features (B, d), in float32 under autocast too.

    Its parameters get no gradient and it stays in eval mode; gradients flow to the images.

    Attributes:
        name: short name of the feature space, as it stands in tables.
        pool: whether features are averaged over positions, so that d is the number of channels; else they are flattened.
        channels: of the maps, d of the pooled features.
        channels_last: whether a map's channels come last, as some transformers have them.
    """

    pool: bool = True
    channels: int
    channels_last = False

    @property
    def name(self) -> str:  # noqa: D102
        return type(self).__name__.lower()

    def average(self, features: Tensor) -> Tensor:
        """This Φ's features (B, d), averaged over positions: (B, channels), the same Φ's with `pool`."""
        if self.pool:
            return features
        if self.channels_last:
            return features.unflatten(1, (-1, self.channels)).mean(1)
        return features.unflatten(1, (self.channels, -1)).mean(2)

    def pooled(self, pool: bool = True) -> "FeatureExtractor":
        """The same network, with features averaged over positions, or flattened."""
        other = copy.copy(self)
        other.pool = pool
        return other


def check_images(images: Tensor, who: str) -> None:
    """Refuse what is no batch of float images (B, 3, H, W), in a sentence that names the network."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            f"{who} takes float images (B, 3, H, W) in [-1, 1], not {images.dtype} {tuple(images.shape)}; "
            "bring uint8 images there with centroidlib.to_float."
        )


def to_float(images: Tensor) -> Tensor:
    """uint8 images in 0 to 255 to float32 in [-1, 1], channels last in memory."""
    return images.float().div(127.5).sub(1.0).contiguous(memory_format=torch.channels_last)


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8, rounded as an image file would hold them."""
    return images.detach().float().add(1.0).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def fingerprint(phi: nn.Module) -> str:
    """Twelve hexadecimal digits that tell one Φ from another: its structure and every weight.

    Raises:
        TypeError: `phi` is no `torch.nn.Module`, so its weights cannot be read.
    """
    if not isinstance(phi, nn.Module):
        raise TypeError(f"Φ must be a torch.nn.Module, not {type(phi).__name__}: wrap a function in a module of three lines.")
    digest = hashlib.sha256(repr(phi).encode())
    for name, tensor in phi.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


@contextmanager
def finding_weights(what: str, filename: str, instead: str) -> Iterator[None]:
    """Turn a failed download inside the block into a sentence: which file, where to put it, what to do instead.

    Inside, torch.load reads tensors only, whatever a library asks of it: no pickled code is executed.
    """
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        yield
    except (URLError, ConnectionError, TimeoutError) as error:
        raise FileNotFoundError(
            f"The weights of {what} are not on this machine and could not be downloaded ({error}). Put the file "
            f"{filename} into the folder hub/checkpoints of the torch cache (TORCH_HOME, by default ~/.cache/torch), "
            f"or {instead}."
        ) from error
    except _UNLOADABLE as error:
        why = [type(error).__name__, *str(error).splitlines()[:1]]
        raise ValueError(
            f"The weights of {what} ({filename} in the torch cache) do not load ({': '.join(why)}): "
            f"delete the file and fetch it again, or {instead}."
        ) from error
    finally:
        if before is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are; the CPU for one without."""
    return next(iter(network.state_dict().values()), torch.empty(0)).device


def in_batches(images: Tensor, network: nn.Module, batch_size: int = 64) -> Iterator[Tensor]:
    """Apply a network to uint8 images (N, 3, H, W), brought to [-1, 1] on its device; the last partial batch counts."""
    device = device_of(network)
    for batch in images.split(batch_size):
        # TensorFloat-32, which GPUs take for float32 in convolutions unless told otherwise, would be another measurement.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            features = network(to_float(batch.to(device)))
        yield features
