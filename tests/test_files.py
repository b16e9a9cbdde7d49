"""Tests of writing files whole or not at all, and of progress."""

import errno
import hashlib
import os
from pathlib import Path

import pytest
import safetensors
import torch

from centroidlib._files import cache_folder, replacing, sha256, track, write_text
from centroidlib._tensors import write_tensors


def test_replacing_makes_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "record.json"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the n")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("place", ["write", "rename"])
def test_a_full_disk_is_told_in_a_sentence(tmp_path, monkeypatch, place):
    path = tmp_path / "record.json"
    write_text(path, "old")
    if place == "write":
        monkeypatch.setattr(Path, "write_text", _full)
    else:
        monkeypatch.setattr(os, "replace", _full)
    with pytest.raises(OSError, match=r"The disk is full: record\.json could not be written.*nothing that was there") as caught:
        write_text(path, "new")
    monkeypatch.undo()
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_errors_of_the_system_pass_unchanged(tmp_path):
    error = PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(PermissionError) as caught, replacing(tmp_path / "a"):
        raise error
    assert caught.value is error


def test_tensors_are_written_as_safetensors_reads_them(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3).T, "a": torch.tensor([1.5], dtype=torch.float64), "c": torch.zeros(0)}
    write_tensors(tmp_path / "t.safetensors", tensors, {"z": "1", "ä": "2"})
    with safetensors.safe_open(tmp_path / "t.safetensors", framework="pt") as file:
        assert file.metadata() == {"z": "1", "ä": "2"}
        assert set(file.keys()) == set(tensors)
        assert all(torch.equal(file.get_tensor(name), tensor) for name, tensor in tensors.items())
        assert file.get_tensor("a").dtype == torch.float64


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    metadata = {letter: letter for letter in "abcdefgh"}
    for i in range(8):
        write_tensors(tmp_path / f"{i}", {"c": torch.ones(3), "a": torch.zeros(2)}, metadata)
    assert len({sha256(path) for path in tmp_path.iterdir()}) == 1


def test_sha256_is_the_files(tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("CENTROIDLIB_CACHE", "/somewhere/else")
    assert cache_folder() == Path("/somewhere/else")
    monkeypatch.delenv("CENTROIDLIB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/centroidlib")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "centroidlib"


def _slowly(items, seconds, monkeypatch):
    """The items, while the clock that tqdm reads goes on by some seconds for each."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])

    def advance():
        for item in items:
            now[0] += seconds
            yield item

    return advance()


@pytest.mark.parametrize("seconds", [0.0, 1.0, 60.0])
def test_progress_outside_jupyter_is_a_few_lines(monkeypatch, capsys, seconds):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    items = _slowly(range(500), seconds, monkeypatch)
    assert list(track(items, "decoding", 500)) == list(range(500))
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert "\r" not in printed.out
    assert printed.err == ""
    assert len(lines) <= 22
    assert all(line.startswith("decoding: ") for line in lines)
    assert len(lines) >= (10 if seconds else 0)
    if seconds:
        assert lines[-1].startswith("decoding: 500 of 500, ")


def test_progress_lines_are_far_apart_in_time(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    list(track(_slowly(range(100), 0.5, monkeypatch), "steps", 100))
    assert 1 <= len(capsys.readouterr().out.splitlines()) <= 4  # in 50 seconds


def test_progress_counts_what_has_a_length(monkeypatch, capsys):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    now = iter(range(0, 10_000, 30))
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(now)))
    list(track([1, 2, 3], "steps"))
    assert "steps: 3 of 3, " in capsys.readouterr().out


def test_progress_in_jupyter_is_a_bar(monkeypatch, capsys):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    assert list(track(range(5), "steps")) == list(range(5))
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "\rsteps: " in printed.err
