"""Comparing our time with a reference's: interleaved in one run, as ratios."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from pytorch_fid import inception
from torch import nn

from centroidlib._files import replacing


def interleaved(ours: Callable[[], object], reference: Callable[[], object], repeats: int = 5) -> tuple[float, float]:
    """Median seconds of each, run in turns after one unmeasured call of both, so that a slow spell hits both alike."""
    times: dict[Callable[[], object], list[float]] = {ours: [], reference: []}
    for repeat in range(repeats + 1):
        for work, found in times.items():
            began = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if repeat:
                found.append(time.perf_counter() - began)
    return statistics.median(times[ours]), statistics.median(times[reference])


def machine() -> str:
    """What the times were taken on: device, threads, and what matters of its instructions."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    bfloat16 = "with" if fast_bfloat16() else "without"
    return f"CPU, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, {bfloat16} bfloat16 instructions"


def fast_bfloat16() -> bool:
    """Whether this machine computes in bfloat16; where it does not, bfloat16 is emulated and slower than float32."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


@contextmanager
def seeded_inception(torch_home: Path, seed: int = 0) -> Iterator[None]:
    """Inside, pytorch-fid's file is one of random weights in its form, in a torch cache at `torch_home`.

    Times do not depend on the weights, and the published file is not on every machine.
    """
    path = torch_home / "hub" / "checkpoints" / inception.FID_WEIGHTS_URL.rsplit("/", 1)[-1]
    if not path.is_file():
        with patch.object(inception, "load_state_dict_from_url"), patch.object(nn.Module, "load_state_dict"):
            network = inception.fid_inception_v3()
        rng = torch.Generator().manual_seed(seed)
        for name, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                nn.init.kaiming_normal_(tensor, generator=rng)
            elif name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.5, 1.5, generator=rng)
            elif tensor.is_floating_point():
                tensor.normal_(0.0, 0.2, generator=rng)
        with replacing(path) as temporary:
            torch.save(network.state_dict(), temporary)
    with patch.dict(os.environ, {"TORCH_HOME": str(torch_home)}):
        yield
