"""What a measurement leaves on disk: metrics.json with its protocol, and pytorch-fid's statistics of real images."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from centroidlib._files import replacing, write_text
from centroidlib.evaluation.measuring import PAIRWISE_AT_MOST
from centroidlib.evaluation.networks import Space
from centroidlib.features import VGG16Features, fingerprint
from centroidlib.images import images_digest
from centroidlib.metrics import Gaussian


def protocol_of(
    real: Tensor | None,
    held_out: Tensor | None,
    spaces: Sequence[Space],
    phi: VGG16Features | None,
    *,
    samples: int,
    lpips: Sequence[str] = (),
    pairs: int = 0,
    crop: float = 1.0,
    resize: str = "bilinear",
    batch_norm: str = "eval",
) -> dict[str, Any]:
    """What decides the meaning of a measurement; its hash is the fingerprint.

    Args:
        real: the training images, uint8; None where only their statistics are known.
        held_out: real images never trained on.
        spaces: where it is measured: their networks count with all weights.
        phi: Φ of the loss, if there is one.
        samples: generated images.
        lpips: its networks.
        pairs: of LPIPS.
        crop: of the real images, fraction of the width.
        resize: filter of the real images.
        batch_norm: mode in which the generator sampled.
    """
    return {
        "real_images": None if real is None else images_digest(real),
        "n_real": None if real is None else len(real),
        "held_out_images": None if held_out is None else images_digest(held_out),
        "n_fake": samples,
        "crop": crop,
        "resize": resize,
        "quantiser": "uint8, rounded",
        "batch_norm": batch_norm,
        "spaces": {space.name: fingerprint(space.network) for space in spaces},
        "pairwise": f"at most {PAIRWISE_AT_MOST} images a side; k = 3 (precision, recall), 5 (density, coverage)",
        "phi": phi and {"name": phi.name, "pool": phi.pool, "fingerprint": fingerprint(phi)},
        "lpips": {net: f"lpips {metadata.version('lpips')}, {pairs} pairs" for net in lpips},
    }


def write_metrics(
    path: str | Path,
    measured: Mapping[str, Mapping[str, Any]],
    protocol: Mapping[str, Any],
    made_with: Mapping[str, Any] | None = None,
) -> str:
    """Write metrics.json and return the protocol's fingerprint, twelve hexadecimal digits.

    Args:
        path: the file.
        measured: from `measure`.
        protocol: from `protocol_of`.
        made_with: versions and device, which no fingerprint holds; where a run.json records them, nothing.

    Raises:
        ValueError: a metric is not finite; what stood at `path` is left.
    """
    digest = hashlib.sha256(json.dumps(protocol, sort_keys=True).encode()).hexdigest()[:12]
    whole = {"fingerprint": digest, "protocol": protocol, "metrics": measured}
    whole |= {"made_with": made_with} if made_with else {}
    write_text(path, json.dumps(whole, indent=1, allow_nan=False) + "\n")
    return digest


def save_statistics(path: str | Path, statistics: Gaussian) -> None:
    """Write mean and covariance as pytorch-fid does: an .npz with `mu` (d,) and `sigma` (d, d)."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=statistics.mean, sigma=statistics.covariance)


def load_statistics(path: str | Path) -> Gaussian:
    """Read such a file, pytorch-fid's own or ours.

    Raises:
        ValueError: it is damaged, or holds no `mu` (d,) and `sigma` (d, d) of finite numbers.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            mean, covariance = (np.asarray(saved[name], dtype=np.float64) for name in ("mu", "sigma"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no statistics (arrays mu and sigma in an .npz), or is damaged: make it again.") from error
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(
            f"{path}: mu {mean.shape} and sigma {covariance.shape} must be (d,) and (d, d) of finite numbers: make the file again."
        )
    return Gaussian(mean, covariance)
