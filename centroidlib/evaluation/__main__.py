"""The command line: python -m centroidlib.evaluation --real SOURCE --fake SOURCE, for images of any model."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from centroidlib import tables
from centroidlib._files import sha256
from centroidlib.centroid import compute_centroid
from centroidlib.evaluation.formats import load_statistics, protocol_of, save_statistics, write_metrics
from centroidlib.evaluation.measuring import measure, measure_real
from centroidlib.evaluation.networks import LPIPS_FILES, InceptionFeatures, load_lpips
from centroidlib.evaluation.observing import Observed, observe_images
from centroidlib.evaluation.spaces import Space, published_networks
from centroidlib.images import load_images
from centroidlib.metrics import Gaussian, fit_gaussian
from centroidlib.runs import versions
from centroidlib.vgg import VGG16_WEIGHTS, VGG16Features

SOURCE = "folder or zip of images, or a data set's name (celeba, celeba:test, cifar10, fashion-mnist, synthetic)"
T = TypeVar("T")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m centroidlib.evaluation",
        description="Measure generated images against real ones, both taken as they are: Fréchet distance, KID, precision, "
        "recall, density, coverage, nearest neighbours, LPIPS, each with its interval and beside what real images score.",
    )
    parser.add_argument("--real", required=True, metavar="SOURCE", help=f"{SOURCE}; or an .npz of pytorch-fid's statistics")
    parser.add_argument("--fake", required=True, metavar="SOURCE", help=SOURCE)
    parser.add_argument("--held-out", metavar="SOURCE", help="real images that the model was not trained on")
    parser.add_argument(
        "--dims", type=int, choices=[64, 192, 768, 2048], default=2048, help="of pytorch-fid's Inception; FID proper is 2048"
    )
    parser.add_argument("--clean", action="store_true", help="also with clean-fid's resizing (fid_clean)")
    parser.add_argument("--dinov2", action="store_true", help="also in DINOv2's features (fd_dinov2)")
    parser.add_argument("--vgg", choices=VGG16_WEIGHTS, help="also in VGG-16's relu3_3 with these weights, with c and d_ref")
    parser.add_argument("--lpips", nargs="*", choices=[*LPIPS_FILES], default=["alex"], metavar="NET", help="or none")
    parser.add_argument("--pairs", type=int, default=5_000, help="disjoint pairs for LPIPS, at most")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32", help="of the Inception and DINOv2")
    parser.add_argument("--json", metavar="FILE", help="write metrics.json there")
    parser.add_argument("--save-stats", metavar="FILE", help="write mu and sigma of the real images there, as pytorch-fid does")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    """Run it: the exit status, 1 with a sentence on stderr where something is wrong."""
    options = arguments(given)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_, **__: print(f"Note: {message}", file=sys.stderr)
        try:
            with contextlib.redirect_stdout(sys.stderr):  # progress, and what the libraries say of their downloads
                table = evaluate(options)
        except (ValueError, OSError, ImportError) as error:
            print(error, file=sys.stderr)
            return 1
    print(table)
    return 0


def evaluate(options: argparse.Namespace) -> str:
    """Measure, write what is asked for, and return the table."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    known = str(options.real).endswith(".npz")
    if known and (options.held_out or options.save_stats):
        raise ValueError(f"--held-out and --save-stats need real images; {options.real} holds their statistics only.")
    if options.pairs < 1:
        raise ValueError(
            f"--pairs is the number of image pairs for LPIPS, at least 1, not {options.pairs}; --lpips alone leaves it out."
        )
    fake = load_images(options.fake, size=None)
    real = None if known else load_images(options.real, size=None)
    held_out = load_images(options.held_out, size=None) if options.held_out else None
    for name, images in (("--real", real), ("--fake", fake), ("--held-out", held_out)):
        if images is not None and len(images) < 2:
            raise ValueError(f"{name} {getattr(options, name[2:].replace('-', '_'))} holds one image; at least two are needed.")
        if images is not None and images.shape[1:] != fake.shape[1:]:
            raise ValueError(
                f"{name} holds images of {_size(images)} pixels and --fake of {_size(fake)}: bring both to one size first, "
                "with one filter, since resizing changes every metric."
            )

    left_out: list[str] = []

    def attempt(name: str, make: Callable[[], T]) -> T | None:
        try:
            return make()
        except (ValueError, FileNotFoundError, ImportError) as error:
            left_out.append(f"`{name}` was left out. {error}")
            return None

    makers = published_networks(options.dims, clean=options.clean, dinov2=options.dinov2, precision=options.precision)
    phi = attempt(f"vgg {options.vgg}", lambda: VGG16Features(16, options.vgg).to(device)) if options.vgg else None
    if phi:
        makers[f"fd_{phi.name}"] = lambda: VGG16Features(16, options.vgg, pool=True)
    networks = {name: network for name, make in makers.items() if (network := attempt(name, make))}
    spaces = [
        Space(name, network.to(device), seen_by_loss=False, pooled_from_phi=isinstance(network, VGG16Features))
        for name, network in networks.items()
    ]
    distances = {net: attempt(f"lpips_{net}", partial(load_lpips, net, device)) for net in options.lpips}
    lpips = {net: distance for net, distance in distances.items() if distance}
    if lpips and min(fake.shape[2:]) < 32:
        lpips = {}
        left_out.append(f"LPIPS was left out: it needs images of at least 32×32 pixels, and these have {_size(fake)}.")
    inceptions = [space.name for space in spaces if isinstance(space.network, InceptionFeatures)]
    if (known or options.save_stats) and not inceptions:
        raise ValueError("\n".join(["pytorch-fid's statistics need its Inception, which is not there.", *left_out]))

    statistics: dict[str, Gaussian] = {}
    if real is None:
        statistics = _statistics(options.real, spaces)
        spaces = [space for space in spaces if space.name in statistics]
        left_out.append(
            f"{options.real} holds mean and covariance only: they were taken as exact, and what needs the real images themselves "
            "was left out."
        )
        phi = None
    if not spaces and not lpips:
        raise ValueError("\n".join(["Nothing is left to measure with; --vgg random needs no file.", *left_out]))

    pairs = min(options.pairs, len(fake) // 2)
    stats, observed = None, Observed(0, gaussians=statistics)
    floors: dict[str, dict[str, Any]] = {}
    if real is not None:
        stats = compute_centroid(real, phi) if phi else None
        observed = observe_images(real, spaces, lpips=lpips, pairs=pairs)
        held = observe_images(held_out, spaces, phi, stats, lpips, pairs, "held-out images") if held_out is not None else None
        floors = measure_real(observed, spaces, stats, len(fake), held)
    made = observe_images(fake, spaces, phi, stats, lpips, pairs, "generated images")
    measured = measure(made, observed, spaces, stats, floors, trained_in="")
    protocol = protocol_of(
        *(real, held_out, spaces, phi), samples=len(fake), lpips=lpips, pairs=pairs, resize="none", batch_norm="none"
    )
    if real is None:
        protocol["real_images"] = sha256(options.real)[:16]
    if options.json:
        write_metrics(options.json, measured, protocol, versions())
    if options.save_stats:
        save_statistics(options.save_stats, fit_gaussian(observed.features[inceptions[0]]))
    return "\n\n".join([tables.metrics_table(measured), *left_out])


def _statistics(path: str, spaces: Sequence[Space]) -> dict[str, Gaussian]:
    """The file's Gaussian, as that of the Inception space of its dimensions."""
    gaussian = load_statistics(path)
    names = [
        space.name
        for space in spaces
        if isinstance(space.network, InceptionFeatures) and space.network.dims == len(gaussian.mean)
    ]
    if not names:
        raise ValueError(
            f"{path} holds statistics of {len(gaussian.mean):,} dimensions, and no Inception of as many is in use: "
            f"give --dims {len(gaussian.mean)}."
        )
    return {names[0]: gaussian}


def _size(images: Tensor) -> str:
    return f"{images.shape[3]}×{images.shape[2]}"


if __name__ == "__main__":
    sys.exit(main())
