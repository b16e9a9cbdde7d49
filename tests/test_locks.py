"""Tests of the lock of a run's folder: who holds it, who inherits it, who waits for it."""

import os
import subprocess
import sys
import threading
import time

import pytest

from centroidlib._locks import INHERITED_LOCK, holding, lock, lock_holder, locked, take_lock, unlock

HOLDER = """
import sys, time
from pathlib import Path
from centroidlib._locks import lock
try:
    lock(Path(sys.argv[1]))
    print("held", flush=True)
except RuntimeError as error:
    print(error, flush=True)
sys.stdin.read()
"""


def in_another_process(folder, **options):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    )
    return process, process.stdout.readline().strip()


def is_free(folder):
    handle = take_lock(folder)
    if handle is not None:
        os.close(handle)
    return handle is not None


def test_who_holds_a_lock_is_told(tmp_path):
    process, answer = in_another_process(tmp_path)
    try:
        assert answer == "held"
        assert lock_holder(tmp_path) == f"process {process.pid} on {os.uname().nodename}"
        with pytest.raises(RuntimeError, match=rf"Another process works in .*\(process {process.pid} on .*\): wait for it"):
            lock(tmp_path)
    finally:
        process.communicate()
    assert is_free(tmp_path)


def test_a_process_that_inherits_the_lock_holds_it_until_it_ends_whatever_becomes_of_the_first(tmp_path):
    handle = take_lock(tmp_path)
    process, answer = in_another_process(tmp_path, env=os.environ | {INHERITED_LOCK: str(handle)}, pass_fds=(handle,))
    try:
        assert answer == "held"
        os.close(handle)
        assert not is_free(tmp_path)
    finally:
        process.communicate()
    assert is_free(tmp_path)


def test_a_process_that_only_hears_of_the_lock_does_not_hold_it(tmp_path):
    handle = take_lock(tmp_path)
    process, answer = in_another_process(tmp_path, env=os.environ | {INHERITED_LOCK: str(handle)})
    process.communicate()
    os.close(handle)
    assert answer.startswith("Another process works in")


def test_leaving_an_inherited_lock_leaves_it_to_whom_it_came_from(tmp_path, monkeypatch):
    handle = take_lock(tmp_path)
    monkeypatch.setenv(INHERITED_LOCK, str(handle))
    for _ in range(2):
        with locked(tmp_path):
            assert not lock(tmp_path)
        assert not is_free(tmp_path)
    unlock(tmp_path)
    os.close(handle)
    assert is_free(tmp_path)


def test_waiting_ends_when_the_lock_is_free(tmp_path):
    first, told, order = take_lock(tmp_path), [], []

    def leave():
        time.sleep(0.3)
        order.append("left")
        os.close(first)

    thread = threading.Thread(target=leave)
    thread.start()
    with holding(tmp_path, waits=told.append):
        order.append("held")
        assert not is_free(tmp_path)
    thread.join()
    assert order == ["left", "held"]
    assert told == [f"process {os.getpid()} on {os.uname().nodename}"]
    assert is_free(tmp_path)


def test_waiting_ends_when_it_is_stopped(tmp_path):
    handle = take_lock(tmp_path)
    with pytest.raises(InterruptedError), holding(tmp_path, stopped=lambda: True):
        raise AssertionError("nobody let it in")
    os.close(handle)


def test_one_that_waits_for_nobody_makes_the_folder(tmp_path):
    with holding(tmp_path / "new"):
        assert (tmp_path / "new" / ".lock").is_file()


def test_taking_the_lock_clears_what_a_killed_process_left(tmp_path):
    killed = "from centroidlib._files import *; import os, sys; kept = replacing(sys.argv[1]); kept.__enter__(); os._exit(1)"
    for name in ("samples/a.png", "b.ipynb"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
    assert len(list(tmp_path.rglob("*.part.*"))) == 2
    os.close(take_lock(tmp_path))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]
