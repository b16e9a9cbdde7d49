"""Tests of the data sets that have a name: CelebA, CIFAR-10, Fashion-MNIST."""

import os
import pickle

import numpy as np
import pytest
import torch
from celeba_files import write_celeba
from torchvision.datasets import CIFAR10, CelebA

from centroidlib import load_images


@pytest.fixture
def celeba(tmp_path, monkeypatch):
    """Six images laid out as torchvision keeps CelebA: 1 to 3 train, 4 valid, 5 and 6 test."""
    write_celeba(tmp_path / "data" / "celeba", [0, 0, 0, 1, 2, 2])
    monkeypatch.setattr("torchvision.datasets.celeba.check_integrity", lambda path, md5: os.path.isfile(path))
    return tmp_path / "data"


def test_celeba_as_torchvision_keeps_it(celeba):
    folder = celeba / "celeba" / "img_align_celeba"
    everything = load_images("celeba", 64, root=celeba)
    assert torch.equal(everything, load_images(folder, 64))
    assert torch.equal(load_images("celeba:train", 64, root=celeba), everything[:3])
    assert torch.equal(load_images("celeba:test", 64, root=str(celeba)), everything[4:])
    assert torch.equal(load_images("celeba", 64, count=2, root=celeba), everything[:2])
    with pytest.raises(ValueError, match="CelebA has the splits all, train, valid and test, not 'trian'"):
        load_images("celeba:trian", root=celeba)


FAILED_DOWNLOAD = (
    r"CelebA is not complete in data/ and torchvision could not download it \(.*\): fetch img_align_celeba\.zip from "
    r"https://mmlab.* by hand and give its path, or that of the unpacked folder, as the source; or use the source 'synthetic'"
)


def test_an_incomplete_celeba_is_told_in_a_sentence(celeba, monkeypatch):
    monkeypatch.setattr(CelebA, "download", lambda self: None)
    (celeba / "celeba" / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=FAILED_DOWNLOAD):
        load_images("celeba", root=celeba)
    (celeba / "celeba" / "list_attr_celeba.txt").unlink()
    with pytest.raises(FileNotFoundError, match=FAILED_DOWNLOAD):
        load_images("celeba", root=celeba)


def test_a_failed_download_of_celeba_says_how_to_fetch_it(tmp_path, monkeypatch, capsys):
    def quota(*args, **kwargs):
        print("Downloading...")
        raise RuntimeError("Too many users have viewed or downloaded this file recently\nTry again later.")

    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", quota)
    with pytest.raises(FileNotFoundError, match=FAILED_DOWNLOAD) as caught:
        load_images("celeba", root=tmp_path / "data")
    assert "Too many users" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


@pytest.fixture
def cifar10(tmp_path, monkeypatch):
    """Two images in each of CIFAR-10's files."""
    base = tmp_path / "data" / "cifar-10-batches-py"
    base.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
    for i in range(5):
        entry = {"data": data[2 * i : 2 * i + 2].reshape(2, -1), "labels": [0, 1]}
        (base / f"data_batch_{i + 1}").write_bytes(pickle.dumps(entry))
    (base / "test_batch").write_bytes(pickle.dumps({}))
    (base / "batches.meta").write_bytes(pickle.dumps({"label_names": ["a", "b"]}))
    for files in ("train_list", "test_list"):
        monkeypatch.setattr(CIFAR10, files, [[name, None] for name, _ in getattr(CIFAR10, files)])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": None})
    return tmp_path / "data", torch.from_numpy(data)


def test_cifar10_through_torchvision(cifar10):
    root, expected = cifar10
    assert torch.equal(load_images("cifar10", 32, root=root), expected)
    with pytest.raises(ValueError, match=r"CIFAR-10: the square cut from image 0 is 32×32 .*upscale=True"):
        load_images("cifar10", root=root)
    assert load_images("cifar10", upscale=True, count=4, root=root).shape == (4, 3, 64, 64)


@pytest.fixture
def fashion(tmp_path):
    """Four images in files of Fashion-MNIST's form."""
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    data = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)

    def write(name, numbers):
        header = bytes([0, 0, 8, numbers.ndim]) + b"".join(n.to_bytes(4, "big") for n in numbers.shape)
        (raw / name).write_bytes(header + numbers.tobytes())

    for part in ("train", "t10k"):
        write(f"{part}-images-idx3-ubyte", data if part == "train" else data[:1])
        write(f"{part}-labels-idx1-ubyte", np.zeros(4 if part == "train" else 1, np.uint8))
    return tmp_path / "data", torch.from_numpy(data)


def test_fashion_mnist_through_torchvision(fashion):
    root, expected = fashion
    found = load_images("fashion-mnist", 28, root=root)
    assert torch.equal(found, expected[:, None].expand(4, 3, 28, 28))
    with pytest.raises(ValueError, match=r"Fashion-MNIST: the square cut from image 0 is 28×28 .*upscale=True"):
        load_images("fashion-mnist", root=root)
    assert load_images("fashion-mnist", upscale=True, root=root).shape == (4, 3, 64, 64)


@pytest.mark.parametrize(("source", "name"), [("cifar10", "CIFAR-10"), ("fashion-mnist", "Fashion-MNIST")])
def test_a_failed_download_is_told_in_a_sentence(tmp_path, offline, capsys, source, name):
    with pytest.raises(FileNotFoundError, match=rf"{name} is not complete in data/ and torchvision could not download it"):
        load_images(source, root=tmp_path / "data")
    assert capsys.readouterr().out == ""
