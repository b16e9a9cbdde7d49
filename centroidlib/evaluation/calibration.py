"""What the centroid loss can see: where pictures that are no samples of the data lie around the centre of those that are."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from centroidlib._files import track
from centroidlib.centroid import exact_distances
from centroidlib.evaluation.observing import generate_images, generated
from centroidlib.features import FeatureExtractor, device_of, in_batches
from centroidlib.metrics import effective_rank, mean_of
from centroidlib.models import AnyGenerator, Generator, initialise
from centroidlib.streams import random_stream
from centroidlib.vgg import VGG16Features

PATCH = 16  # pixels
BLUR = 2.0  # pixels, standard deviation


def calibration_pictures(images: Tensor, mean: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """Real images and what can be made of them, by name, each uint8 (N, 3, H, W).

    The names say how: mirrored, blurred, with less and more contrast around their own mean, with their patches of 16 × 16
    pixels in random order; the mean of all images, a flat grey and uniform noise.

    Args:
        images: real images, uint8.
        mean: of all real images, float (3, H, W), 0 to 255.
        seed: of the patches' order and the noise.

    Raises:
        ValueError: the sides of the images are no multiples of 16 pixels.
    """
    if images.shape[2] % PATCH or images.shape[3] % PATCH:
        raise ValueError(f"Patches of {PATCH} pixels do not fill images of {images.shape[3]}×{images.shape[2]} pixels.")
    rng = random_stream(seed, "calibration")
    x = images.float()
    middle = x.mean((1, 2, 3), keepdim=True)
    made = {
        "real images": x,
        "mirrored": x.flip(3),
        f"blurred, σ {BLUR:g} pixels": gaussian_blur(x, [13, 13], [BLUR, BLUR]),
        "half the contrast": middle + 0.5 * (x - middle),
        "1.5 × the contrast": middle + 1.5 * (x - middle),
        "patches shuffled": torch.stack([_patches_shuffled(image, rng) for image in x]),
        "the mean image": mean[None],
        "flat grey": torch.full_like(x[:1], 128.0),
        "uniform noise": torch.randint(0, 256, x.shape, generator=rng).float(),
    }
    return {name: pictures.round().clamp(0, 255).to(torch.uint8) for name, pictures in made.items()}


def calibration_sets(
    images: Tensor, others: Tensor | None, count: int, trained: AnyGenerator | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Real images to take centres of, and sets of pictures by name to see where they lie.

    Args:
        images: real images, uint8 (N, 3, 64, 64).
        others: real images that were never trained on, if there are any.
        count: images of the centre; a fifth as many of each kind of picture, made of other images.
        trained: a generator, to see where its images lie, beside an untrained DCGAN's.
    """
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(1))
    few = max(2, min(count // 5, len(images) // 6))
    pictures = calibration_pictures(images[order[:few]], images[:2000].float().mean(0))
    if others is not None:
        pictures["held-out images"] = others[:few]
    untrained = Generator()
    initialise(untrained, torch.Generator().manual_seed(0))
    pictures["an untrained DCGAN"] = torch.cat(list(generated(untrained, few, 0, batch_norm="train")))
    if trained is not None:
        pictures["a trained generator"] = generate_images(trained, few, 0)
    return images[order[few:][:count]], pictures


def calibration_networks(phi: FeatureExtractor) -> list[FeatureExtractor]:
    """Φ with flattened features, and VGG-16 at several depths beside it, of Φ's weights where they are VGG-16's and random."""
    kind, layer = (phi.weights, phi.layer) if isinstance(phi, VGG16Features) else ("random", 16)
    depths = sorted({depth for depth in (4, 9, 16, layer) if depth <= min(layer, 31)})
    networks: list[FeatureExtractor] = [
        VGG16Features(depth, weights) for weights in dict.fromkeys([kind, "random"]) for depth in depths
    ]
    if not isinstance(phi, VGG16Features):
        networks.append(phi.pooled(False))
    return [network.to(device_of(phi)) for network in networks]


def calibrate(
    reference: Tensor, pictures: Mapping[str, Tensor], networks: Sequence[FeatureExtractor]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Where pictures lie relative to c and d_ref of reference images, in each network's features, flattened and pooled.

    Memory: the flattened features of the reference images, or of the largest set of pictures, 4 bytes a number.

    Args:
        reference: real images, uint8 (N, 3, H, W), of which c and d_ref are taken.
        pictures: sets of pictures by name, uint8; real images that are none of the reference among them.
        networks: not pooled.

    Returns:
        Two tables. One row a space: `space`, `dimensions`, `reference_distance`, `floor` (Eq. 3 of the reference images, in
        d_ref), `outside` (share of them), `effective_rank`, `halves` (the two d_ref of their halves, apart, in d_ref). And one
        row a space and set of pictures: `space`, `pictures`, `count`, `distance` and `spread` (mean and standard deviation,
        in d_ref), `outside` and `loss` (mean of Eq. 3, in d_ref).
    """
    if min(len(reference), *map(len, pictures.values())) < 1 or len(reference) < 4:
        raise ValueError(f"A calibration needs four images or more for the centre, and some of each kind; not {len(reference)}.")
    spaces, lies = [], []
    for network in track(networks, "calibration, network by network"):
        ways = {f"{network.name}, flattened": False, f"{network.name}, pooled": True}
        balls = {}
        whole = _features(reference, network)
        for space, pooled in ways.items():
            own = network.average(whole) if pooled else whole
            centre = mean_of(own)
            distances = exact_distances(own, centre)
            d_ref = float(distances.mean())
            balls[space] = pooled, centre, d_ref
            halves = [float(exact_distances(half, mean_of(half)).mean()) for half in (own[0::2], own[1::2])]
            spaces.append(
                {
                    **{"space": space, "dimensions": own.shape[1], "reference_distance": d_ref},
                    "floor": float((distances / d_ref - 1).clamp(min=0).mean()),
                    "outside": float((distances > d_ref).double().mean()),
                    "effective_rank": effective_rank(own),
                    "halves": abs(halves[0] - halves[1]) / d_ref,
                }
            )
        for name, made in pictures.items():
            features = _features(made, network)
            for space, (pooled, centre, d_ref) in balls.items():
                seen = network.average(features) if pooled else features
                away = (exact_distances(seen, centre) / d_ref).numpy()
                lies.append(
                    {
                        **{"space": space, "pictures": name, "count": len(away), "distance": away.mean()},
                        "spread": away.std(ddof=1) if len(away) > 1 else np.nan,
                        "outside": (away > 1).mean(),
                        "loss": np.maximum(away - 1, 0).mean(),
                    }
                )
    return pd.DataFrame(spaces), pd.DataFrame(lies)


def _features(images: Tensor, network: FeatureExtractor) -> Tensor:
    return torch.cat([batch.cpu() for batch in in_batches(images, network)])


def _patches_shuffled(image: Tensor, rng: torch.Generator) -> Tensor:
    patches = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(1, 2)  # (3, n, 16, 16)
    patches = patches[:, torch.randperm(patches.shape[1], generator=rng)]
    rows = patches.unflatten(1, (image.shape[1] // PATCH, -1))
    return rows.permute(0, 1, 3, 2, 4).reshape(image.shape)
