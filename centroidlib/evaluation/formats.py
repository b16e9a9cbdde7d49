"""What a measurement leaves on disk: metrics.json with its protocol, and pytorch-fid's statistics of real images."""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from centroidlib._files import replacing, write_text
from centroidlib.evaluation.measuring import PAIRWISE_AT_MOST, Floors
from centroidlib.evaluation.spaces import Space
from centroidlib.features import FeatureExtractor, fingerprint
from centroidlib.images import images_digest
from centroidlib.metrics import Gaussian


def protocol_of(
    real: Tensor | None,
    held_out: Tensor | None,
    spaces: Sequence[Space],
    phi: FeatureExtractor | None,
    *,
    samples: int,
    lpips: Mapping[str, nn.Module] | None = None,
    pairs: int = 0,
    crop: float = 1.0,
    resize: str = "bilinear",
    batch_norm: str = "eval",
    classifier: nn.Module | None = None,
) -> dict[str, Any]:
    """What decides the meaning of a measurement; its hash is the fingerprint.

    Args:
        real: the training images, uint8; None where only their statistics are known.
        held_out: real images never trained on.
        spaces: where it is measured: their networks count with all weights.
        phi: Φ of the loss, if there is one.
        samples: generated images.
        lpips: its networks by name.
        pairs: of LPIPS.
        crop: of the real images, fraction of the width.
        resize: filter of the real images.
        batch_norm: mode in which the generator sampled.
        classifier: of the drawn faces' factors, where they are counted.
    """
    counted = {"factors": fingerprint(classifier)} if classifier is not None else {}
    return counted | {
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
        "lpips": {name: fingerprint(network) for name, network in (lpips or {}).items()},
        "lpips_pairs": pairs if lpips else 0,
    }


def write_floors(path: str | Path, floors: Floors, protocol: Mapping[str, Any]) -> None:
    """Write what `measure_real` found, with the protocol it was found under."""
    write_text(path, json.dumps({"protocol": protocol, "floors": floors}, indent=1, allow_nan=False) + "\n")


def read_floors(path: str | Path, protocol: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Read it again.

    Raises:
        ValueError: the file is damaged, or its floors were measured under another protocol.
    """
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
        found, floors = saved["protocol"], saved["floors"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{Path(path).name} holds no floors of this library, or is damaged: run 01_centroid again.") from error
    # How a generator samples does not matter to real images.
    differ = [key for key in protocol if key != "batch_norm" and found.get(key) != protocol[key]]
    if differ:
        told = "; ".join(f"{key} = {found.get(key)} there, {protocol[key]} here" for key in differ)
        raise ValueError(
            f"The floors in {Path(path).name} were measured under another protocol ({told}): run 01_centroid again with the "
            "parameters given here, or give those that it was run with."
        )
    return dict(floors)


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
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or holds no `mu` (d,) and `sigma` (d, d) of finite numbers.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {path}: --save-stats writes one of real images.")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as saved:
            mean, covariance = (np.asarray(saved[name], dtype=np.float64) for name in ("mu", "sigma"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} holds no statistics (arrays mu and sigma in an .npz), or is damaged: make it again.") from error
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape or not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise ValueError(
            f"{path}: mu {mean.shape} and sigma {covariance.shape} must be (d,) and (d, d) and finite: make the file again."
        )
    return Gaussian(mean, covariance)
