"""What this machine computes in, and how fast it is in bfloat16."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch

PRECISIONS = ("auto", "float32", "bfloat16")


def device_here() -> str:
    """`cuda` where there is a GPU that PyTorch knows, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def fast_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether this kind of device computes in bfloat16; where it does not, bfloat16 is emulated and slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def choose_precision(asked: str, device: torch.device | str = "cpu") -> str:
    """`float32` or `bfloat16`: what was asked for, or with `auto` the faster of them on this device."""
    if asked == "auto":
        return "bfloat16" if fast_bfloat16(device) else "float32"
    return asked


def computing_in(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Inside, networks compute in `precision`; weights, losses and distances stay in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def arithmetic(threads: int, deterministic: bool) -> Iterator[None]:
    """Inside, so many threads compute on the CPU; a GPU gives the same bits twice or its fastest, and float32 is float32."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else PyTorch refuses matrix products on a GPU
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic or before[1])
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=not deterministic, deterministic=deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])


def describe() -> str:
    """What times were taken on: device, threads, and what matters of its instructions."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    bfloat16 = "with" if fast_bfloat16() else "without"
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {bfloat16} bfloat16 instructions"
