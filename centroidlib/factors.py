"""Diversity that is counted: which of the drawn faces' known factors generated images show, by a classifier trained here."""

import math
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.functional import gaussian_blur

from centroidlib._files import track
from centroidlib._tensors import write_tensors
from centroidlib.faces import FACTORS, draw_faces
from centroidlib.features import check_images, in_batches, to_float
from centroidlib.streams import batch_indices, random_stream

LEVELS = [len(names) for names in FACTORS.values()]
SURE = 0.9  # probability from which on a factor counts as recognised


class FactorClassifier(nn.Module):
    """Images (B, 3, 64, 64) in [-1, 1] to logits (B, 27): the levels of every factor, one after the other as in `FACTORS`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, sum(LEVELS)))

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        check_images(images, "The factor classifier")
        logits: Tensor = self.layers(images)
        return logits


def train_factor_classifier(
    seed: int = 0, count: int = 6000, steps: int = 400, device: torch.device | str = "cpu"
) -> FactorClassifier:
    """A classifier of the factors, trained on drawn faces in under a minute on one CPU core.

    It sees faces with noise, and every second time moved by a few pixels and blurred, so that what a generator does not draw
    quite as sharply is still recognised. `factor_accuracy` says how well it does. What is no face at all gets a level of every
    factor as well.

    Args:
        seed: of the faces, the initial weights and what is done to the faces.
        count: faces to learn from.
        steps: of Adam, 64 faces each.
        device: where to train; the classifier stays there.
    """
    images, factors = draw_faces(count, seed=seed)
    classifier = FactorClassifier()
    rng = random_stream(seed, "factors")
    for module in classifier.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=rng)
            nn.init.zeros_(module.get_parameter("bias"))
    classifier.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(classifier.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, steps)
    for step in track(range(steps), "factor classifier"):
        chosen = batch_indices(step, 64, count, seed)
        shown = to_float(images[chosen])
        down, right = torch.randint(-2, 3, (2,), generator=rng).tolist()
        sigma = 1.5 * float(torch.rand((), generator=rng))
        shown = gaussian_blur(shown.roll((down, right), (2, 3)), [7, 7], [sigma, sigma]) if step % 2 else shown
        shown = shown + 0.1 * torch.randn(shown.shape, generator=rng)
        logits = classifier(shown.to(device)).split(LEVELS, 1)
        wanted = factors[chosen].to(device)
        loss = torch.stack([functional.cross_entropy(found, wanted[:, i]) for i, found in enumerate(logits)]).sum()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def save_factor_classifier(classifier: FactorClassifier, path: str | Path) -> None:
    """Write the classifier's weights as safetensors."""
    write_tensors(path, classifier.state_dict(), {"kind": "factor classifier"})


def load_factor_classifier(path: str | Path, device: torch.device | str = "cpu") -> FactorClassifier:
    """The classifier that `save_factor_classifier` wrote, ready to use.

    Raises:
        ValueError: the file is damaged or holds something else.
    """
    classifier = FactorClassifier()
    try:
        classifier.load_state_dict(load_file(path))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(f"{Path(path).name} is no factor classifier of this library, or damaged: run 01 again.") from error
    return classifier.to(device=device, memory_format=torch.channels_last).eval().requires_grad_(False)  # type: ignore[call-overload]


def count_factors(images: Tensor, classifier: FactorClassifier) -> dict[str, float]:
    """What uint8 images (N, 3, 64, 64) show of the known factors.

    Returns:
        `recognised`: how many of them show every factor so that it is recognised for sure; and, of those images only,
        what `factor_diversity` says. Where there are none, no kinds, and the divergence of a single face.
    """
    levels, probabilities = recognise_factors(images, classifier)
    sure = (probabilities >= SURE).all(1)
    if not sure.any():
        return {"recognised": 0, "kinds": 0, "kinds_share": 0.0, "divergence": sum(map(math.log2, LEVELS))}
    return {"recognised": int(sure.sum())} | factor_diversity(levels[sure])


def recognise_factors(images: Tensor, classifier: FactorClassifier) -> tuple[Tensor, Tensor]:
    """The level of every factor in uint8 images (N, 3, 64, 64), int64 (N, 7), and the probability it is given, (N, 7)."""
    probabilities = [
        torch.softmax(part, 1).max(1) for part in torch.cat([*in_batches(images, classifier)]).cpu().split(LEVELS, 1)
    ]
    return torch.stack([found.indices for found in probabilities], 1), torch.stack([found.values for found in probabilities], 1)


def factor_accuracy(classifier: FactorClassifier, count: int = 1000, seed: int = 1_000_000) -> dict[str, float]:
    """The share of drawn faces whose level is recognised, by factor; hair colour counts where there is hair.

    Args:
        classifier: to be tried.
        count: faces.
        seed: of the faces: another than the classifier's, or it has seen them.
    """
    images, factors = draw_faces(count, seed=seed)
    right = (recognise_factors(images, classifier)[0] == factors).double()
    right[_bald(factors), list(FACTORS).index("hair_colour")] = torch.nan
    return dict(zip(FACTORS, right.nanmean(0).tolist(), strict=True))


def factor_diversity(levels: Tensor) -> dict[str, float]:
    """How many kinds of faces there are, and how evenly.

    Args:
        levels: of every factor, int64 (N, 7).

    Returns:
        `kinds`: distinct combinations of all factors; `kinds_expected`: as many as N drawn faces have on average;
        `kinds_share`: the one over the other; and for each factor `divergence_…`, the Kullback-Leibler divergence of its
        histogram from the drawn faces', which is uniform, in bits (0: as varied; log₂ of its levels: one level only), with
        their sum `divergence`. Bald faces are of one hair colour, which is none.

    Raises:
        ValueError: levels that are no int64 (N, 7), or out of range.
    """
    if levels.ndim != 2 or levels.shape[1] != len(FACTORS) or len(levels) == 0 or levels.dtype != torch.int64:
        raise ValueError(f"The factors' levels are int64 (N, {len(FACTORS)}), not {levels.dtype} {tuple(levels.shape)}.")
    if (levels < 0).any() or (levels >= torch.tensor(LEVELS)).any():
        raise ValueError(f"The factors have {', '.join(map(str, LEVELS))} levels, counted from 0: a level is out of range.")
    colour, style = list(FACTORS).index("hair_colour"), list(FACTORS).index("hair_style")
    bald = _bald(levels)
    levels = levels.clone()
    levels[bald, colour] = 0
    kinds = len(torch.unique(levels, dim=0))
    rest = math.prod(LEVELS) // LEVELS[colour] // LEVELS[style]  # combinations of the other factors
    with_hair, without = rest * LEVELS[colour] * (LEVELS[style] - 1), rest
    chances = [(with_hair, 1 / math.prod(LEVELS)), (without, LEVELS[colour] / math.prod(LEVELS))]
    expected = sum(number * (1 - (1 - chance) ** len(levels)) for number, chance in chances)
    found = {"kinds": float(kinds), "kinds_expected": expected, "kinds_share": kinds / expected}
    divergences = {}
    for i, (name, number) in enumerate(zip(FACTORS, LEVELS, strict=True)):
        shown = levels[~bald, i] if i == colour else levels[:, i]
        shares = torch.bincount(shown, minlength=number).double() / max(1, len(shown))
        divergences[f"divergence_{name}"] = float(torch.special.xlogy(shares, shares * number).sum() / math.log(2))
    return found | divergences | {"divergence": sum(divergences.values())}


def _bald(levels: Tensor) -> Tensor:
    style = list(FACTORS).index("hair_style")
    return levels[:, style] == FACTORS["hair_style"].index("bald")
