"""Tests of what the library asks of the machine."""

import pytest
import torch

from centroidlib import machine
from centroidlib.machine import arithmetic, choose_precision, computing_in, describe
from centroidlib.runs import peak_memory


@pytest.mark.parametrize(("fast", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_auto_is_bfloat16_where_the_machine_has_it(monkeypatch, fast, chosen):
    monkeypatch.setattr(machine, "fast_bfloat16", lambda device: fast)
    assert choose_precision("auto") == chosen
    assert [choose_precision(asked) for asked in ("float32", "bfloat16")] == ["float32", "bfloat16"]


@pytest.mark.parametrize(("there", "fast"), [(True, True), (False, False), (None, False)])
def test_the_processor_is_asked(monkeypatch, there, fast):
    if there is None:
        monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    else:
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: there)
    assert machine.fast_bfloat16("cpu") == fast
    assert ("with bfloat16" in describe()) == fast


def test_emulated_bfloat16_of_a_gpu_does_not_count(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert not machine.fast_bfloat16("cuda")


def test_networks_compute_in_what_is_chosen_and_keep_their_weights():
    layer = torch.nn.Linear(4, 4)
    for precision, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with computing_in(precision, torch.device("cpu")):
            assert layer(torch.ones(1, 4)).dtype == dtype
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("deterministic", [True, False])
def test_threads_and_determinism_hold_inside_only(deterministic):
    def settings():
        cudnn = torch.backends.cudnn
        return (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), cudnn.benchmark, cudnn.deterministic,
                cudnn.allow_tf32, cudnn.enabled)  # fmt: skip

    before = settings()
    with arithmetic(2, deterministic):
        assert settings() == (2, deterministic, not deterministic, deterministic, False, True)
    assert settings() == before
    with pytest.raises(RuntimeError, match="inside"), arithmetic(2, deterministic):
        raise RuntimeError("inside")
    assert settings() == before


def test_peak_memory_grows_with_what_is_held():
    before = peak_memory()
    held = torch.ones(1 << 28)  # 1 GiB, touched
    assert 0 < before < peak_memory() < 64
    assert peak_memory() >= held.nbytes / (1 << 30)
