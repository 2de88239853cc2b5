"""Exceptions of torch and CUDA are told apart by what they say."""

import pytest
import torch

from services.replica.failures import is_out_of_memory, is_poisoned


def test_torchs_cpu_allocator_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)  # a petabyte: more than any address space gives
    assert is_out_of_memory(caught.value)
    assert not is_poisoned(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_want_of_memory_leaves_the_device_sound(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_poisoned(error)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: device-side assert triggered",
        "CUDA error: unspecified launch failure",
        "CUDA error: an illegal instruction was encountered",
        "CUDA error: misaligned address",
    ],
)
def test_a_lost_context_poisons_the_process(text: str) -> None:
    assert is_poisoned(RuntimeError(text))
    assert is_poisoned(torch.AcceleratorError(text))
    assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("the phrase “illegal memory access” came from a caller"),
    ],
)
def test_other_faults_are_neither(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert not is_poisoned(error)
