"""Images, decoded once: whatever the source, one uint8 tensor."""

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from centroidlib._files import cache_folder, replacing, track, write_text
from centroidlib.faces import draw_faces
from centroidlib.sources import UNREADABLE, Source, as_rgb, find_source

FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


def load_images(
    source: str | Path,
    size: int | None = 64,
    *,
    count: int | None = None,
    crop: float = 1.0,
    resize: str = "bilinear",
    upscale: bool = False,
    on_corrupt: str = "stop",
    seed: int = 0,
    root: str | Path = "data",
) -> Tensor:
    """Images as uint8 (N, 3, size, size) in 0 to 255, or (N, 3, H, W) as they are with `size` None.

    A centre square is cut from every image and resized with antialiasing; grey images get three equal
    channels. What was decoded once is kept in the cache folder ($CENTROIDLIB_CACHE, by default
    ~/.cache/centroidlib) and memory-mapped from then on.

    Args:
        source: a folder (searched with its subfolders) or a zip of jpg, png and webp images; `synthetic`
            (drawn faces); `celeba` or `celeba:train`, `cifar10`, `fashion-mnist` (through torchvision).
        size: pixels a side; None to take images whole and unchanged, which must then all be of one size.
        count: the first so many images, in order of their names; None for all (`synthetic`: 10,000).
        crop: side of the square as a fraction of the image's width (of its height where that is shorter).
        resize: filter, `bilinear`, `bicubic` or `lanczos`.
        upscale: allow squares smaller than `size` to be enlarged.
        on_corrupt: `stop`, or `skip` files that are not readable images (with a warning that counts them).
        seed: of the drawn faces.
        root: where torchvision keeps or puts its data sets.

    Raises:
        FileNotFoundError: no such folder, zip or data set.
        ValueError: a wrong argument, an empty source, an unreadable or too small image, unequal sizes with `size` None.
    """
    if resize not in FILTERS:
        raise ValueError(f"resize is one of {', '.join(FILTERS)}, not {resize!r}.")
    if not 0.0 < crop <= 1.0:
        raise ValueError(f"crop is a fraction of the width, above 0 and at most 1, not {crop}.")
    if on_corrupt not in ("stop", "skip"):
        raise ValueError(f"on_corrupt is 'stop' or 'skip', not {on_corrupt!r}.")
    if count is not None and count < 1:
        raise ValueError(f"count is the number of images to take, at least 1 (or None for all), not {count}.")
    if size is not None and size < 1:
        raise ValueError(f"size is the number of pixels a side, at least 1, not {size}; None takes images as they are.")
    if size is None and crop < 1.0:
        raise ValueError(f"With size None images are taken whole: leave crop at 1, or give a size (crop is {crop}).")
    if source == "synthetic":
        return draw_faces(count or 10_000, size=size or 64, seed=seed)[0]

    found = find_source(source, Path(root))
    if count is not None and count > len(found.names):
        raise ValueError(f"{found.label} holds {len(found.names):,} images, fewer than the {count:,} asked for.")
    chosen = range(count or len(found.names))
    options = [size, crop, resize, upscale, on_corrupt, len(chosen)]
    key = hashlib.sha256(json.dumps([found.identity, options]).encode()).hexdigest()[:16]
    path = cache_folder() / f"images-{key}.npy"
    if not path.is_file() or not _readable(path):
        _decode_all(found, chosen, path, size, crop, FILTERS[resize], upscale, on_corrupt)
    skipped: list[str] = json.loads(path.with_suffix(".json").read_text())["skipped"]
    if skipped:
        warnings.warn(_unreadable(found, skipped, len(chosen)) + " They were left out.", stacklevel=2)
    # Copy-on-write: torch wants a writable array, and the file must never change.
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def images_digest(images: Tensor) -> str:
    """Sixteen hexadecimal digits that tell one set of uint8 images from another."""
    return hashlib.sha256(np.ascontiguousarray(images.numpy()).data).hexdigest()[:16]


def _decode_all(
    found: Source,
    chosen: range,
    path: Path,
    size: int | None,
    crop: float,
    filter_: Image.Resampling,
    upscale: bool,
    on_corrupt: str,
) -> None:
    """Decode the chosen images in threads, straight into the memory-mapped file at `path`."""
    with replacing(path) as temporary:
        width, height = (size, size) if size else _first_size(found)
        shape = (len(chosen), 3, height, width)
        if math.prod(shape) > shutil.disk_usage(temporary.parent).free:  # else a write into the map would kill the process
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        out = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)

        def decode(i: int) -> bool:
            try:
                image = as_rgb(found.open(i))
            except UNREADABLE:
                return False
            if size is None:
                if image.size != (width, height):
                    raise ValueError(
                        f"{found.label}: {found.names[i]} is {image.width}×{image.height} pixels, an image before it "
                        f"{width}×{height}: give images of one size, or a size to bring them all to."
                    )
                out[i] = np.asarray(image).transpose(2, 0, 1)
                return True
            side = round(crop * min(image.size))
            if side < size and not upscale:
                raise ValueError(
                    f"{found.label}: the square cut from {found.names[i]} is {side}×{side} pixels, smaller than the "
                    f"{size}×{size} asked for; choose a smaller size or larger crop, or set upscale=True to enlarge it."
                )
            left, top = round((image.width - side) / 2), round((image.height - side) / 2)
            square = image.crop((left, top, left + side, top + side)).resize((size, size), filter_)
            out[i] = np.asarray(square).transpose(2, 0, 1)
            return True

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            try:
                good = np.array(list(track(pool.map(decode, chosen), "decoding", len(chosen))))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        skipped = [found.names[i] for i in chosen if not good[i]]
        if skipped and (on_corrupt == "stop" or len(skipped) == len(chosen)):
            raise ValueError(_unreadable(found, skipped, len(chosen)) + " Repair or remove them, or set on_corrupt='skip'.")
        out.flush()
        if skipped:
            with replacing(temporary) as gapless:
                kept = np.lib.format.open_memmap(gapless, "w+", np.uint8, (int(good.sum()), *shape[1:]))
                for new, old in enumerate(np.flatnonzero(good)):
                    kept[new] = out[old]
                kept.flush()
        write_text(path.with_suffix(".json"), json.dumps({"source": found.label, "skipped": skipped}, indent=1))


def _first_size(found: Source) -> tuple[int, int]:
    """Width and height of the first image that opens; 1×1 where none does, which decoding will then say."""
    for i in range(len(found.names)):
        with contextlib.suppress(*UNREADABLE), found.open(i) as image:
            return image.size
    return 1, 1


def _readable(path: Path) -> bool:
    try:
        np.load(path, mmap_mode="r")
        json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError, EOFError):
        warnings.warn(f"The cached images {path.name} are damaged and are decoded again.", stacklevel=3)
        return False
    return True


def _unreadable(found: Source, skipped: list[str], total: int) -> str:
    shown = ", ".join(skipped[:5]) + (", …" if len(skipped) > 5 else "")
    return f"{found.label}: {len(skipped):,} of {total:,} files are not readable images: {shown}."
