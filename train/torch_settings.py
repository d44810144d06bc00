"""What torch is set to during a run: precision, determinism, threads; and the memory it took."""

import contextlib
import resource
from collections.abc import Iterator

import torch


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """auto: bf16 autocast on GPUs that have it.

    On CPUs it is slower than float32 where there is no AMX.
    """
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def peak_memory_mb(device: torch.device) -> float:
    """Most memory so far: of the GPU's allocator, or of this process."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


@contextlib.contextmanager
def reproducible(device: torch.device, threads: int) -> Iterator[None]:
    """Leave torch's global generator, thread count and determinism switch as they were found.

    On CPU, deterministic kernels are asked for: the gradient of fancy indexing is otherwise summed
    in the order threads come by.
    """
    was = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    was_threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cpu":
            torch.use_deterministic_algorithms(True, warn_only=True)
        if threads:
            torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(was[0], warn_only=was[1])
            torch.set_num_threads(was_threads)
