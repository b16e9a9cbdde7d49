"""Where images come from: folders, zips, torchvision's data sets; named images that are opened one at a time."""

import contextlib
import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torchvision
from PIL import Image

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")
DATASETS = ("synthetic", "celeba", "celeba:train", "cifar10", "fashion-mnist")
# What Pillow and zipfile raise for damaged, encrypted and other files.
UNREADABLE = (
    *(OSError, EOFError, SyntaxError, ValueError, RuntimeError, struct.error, zlib.error),
    *(zipfile.BadZipFile, Image.DecompressionBombError),
)


@dataclass(frozen=True)
class Source:
    """Named images to be opened one at a time, and text that changes when any of them does."""

    label: str
    names: Sequence[str]
    open: Callable[[int], Image.Image]
    identity: Sequence[object]


def find_source(source: str | Path, root: Path) -> Source:
    """The images that a folder, a zip or a data set's name stands for; torchvision's data sets lie in `root`, or are fetched.

    Raises:
        FileNotFoundError: no such folder, zip or data set, or one that is neither complete nor to be downloaded.
        ValueError: a file that is no zip, a source without images, or a split that CelebA does not have.
    """
    text = str(source)
    if text.partition(":")[0] == "celeba":
        return _celeba(root, text.partition(":")[2] or "all")
    if text == "cifar10":
        data = _torchvision(lambda: torchvision.datasets.CIFAR10(root, download=True), "CIFAR-10", root).data
        return _from_array("CIFAR-10", np.asarray(data))
    if text == "fashion-mnist":
        digits = _torchvision(lambda: torchvision.datasets.FashionMNIST(root, download=True), "Fashion-MNIST", root).data
        return _from_array("Fashion-MNIST", digits.numpy())
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return _from_zip(path)
    if path.is_file():
        raise ValueError(f"{path} is neither a folder nor a zip of images.")
    raise FileNotFoundError(
        f"There is no folder or zip {path}, nor a data set of that name: give the path of one, or one of {', '.join(DATASETS)}."
    )


def _from_folder(folder: Path, names: Sequence[str] | None = None) -> Source:
    if names is None:
        files = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
        names = sorted(name for name in files if not _hidden(name))
    if not names:
        raise ValueError(f"The folder {folder} holds no images: jpg, png and webp files are looked for.")
    stats = [(name, os.stat(folder / name)) for name in names]
    identity = [(name, s.st_size, s.st_mtime_ns) for name, s in stats]

    def open_(i: int) -> Image.Image:
        return _open(names[i], (folder / names[i]).read_bytes())

    return Source(f"The folder {folder}", names, open_, identity)


def _from_zip(path: Path) -> Source:
    try:
        archive = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not a zip archive, or its end is missing: fetch it again.") from error
    entries = sorted((e for e in archive.infolist() if not e.is_dir() and not _hidden(e.filename)), key=lambda e: e.filename)
    if not entries:
        raise ValueError(f"The zip {path} holds no images: jpg, png and webp files are looked for.")
    names = [e.filename for e in entries]
    identity = [(e.filename, e.file_size, e.CRC) for e in entries]
    return Source(f"The zip {path}", names, lambda i: _open(names[i], archive.read(entries[i])), identity)


def _from_array(label: str, data: np.ndarray) -> Source:
    digest = hashlib.sha256(np.ascontiguousarray(data).data).hexdigest()
    names = [f"image {i}" for i in range(len(data))]
    return Source(label, names, lambda i: Image.fromarray(data[i]), [label, digest])


def _celeba(root: Path, split: str) -> Source:
    if split not in ("all", "train", "valid", "test"):
        raise ValueError(f"CelebA has the splits all, train, valid and test, not {split!r}.")

    def load() -> Source:
        data = torchvision.datasets.CelebA(str(root), split, download=True)
        return _from_folder(root / "celeba" / "img_align_celeba", sorted(data.filename))

    return _torchvision(load, "CelebA", root)


def _torchvision(load: Callable[[], object], name: str, root: Path):  # type: ignore[no-untyped-def]
    """Run a torchvision data set's constructor, its download's chatter and failures turned into one sentence."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return load()
    except Exception as error:  # torchvision and gdown raise whatever their download met
        by_hand = {
            "CelebA": "fetch img_align_celeba.zip from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html by hand and "
            "give its path, or that of the unpacked folder, as the source",
        }.get(name, "fetch its files by hand as torchvision's documentation of the data set says")
        raise FileNotFoundError(
            f"{name} is not complete in {root.resolve().name}/ and torchvision could not download it "
            f"({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}): {by_hand}; or use "
            "the source 'synthetic', which needs no network."
        ) from error


def _hidden(name: str) -> bool:
    """Files that operating systems leave beside images: .DS_Store, Thumbs.db, __MACOSX/…."""
    parts = name.split("/")
    return any(part.startswith((".", "__MACOSX")) for part in parts) or parts[-1] in ("Thumbs.db", "desktop.ini")


def _open(name: str, data: bytes) -> Image.Image:
    if not name.lower().endswith(EXTENSIONS):
        raise ValueError("not a jpg, png or webp file")
    return Image.open(io.BytesIO(data))


def as_rgb(image: Image.Image) -> Image.Image:
    """Three channels of eight bits. Pillow alone clips grey of 16 bits, and warns of palettes with transparency."""
    if image.mode.startswith("I"):
        image = Image.fromarray(np.round(np.asarray(image) / 257).astype(np.uint8))
    return image.convert("RGBA" if image.mode == "P" else "RGB").convert("RGB")
