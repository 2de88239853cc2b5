"""What a failed batch means for its replica, told from the exception without importing torch."""

# What CUDA says once a context is lost: every later call in the process fails as well.
_POISONED = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "uncorrectable ecc error",
    "illegal instruction",
    "invalid program counter",
    "hardware stack error",
    "operation not supported on global/shared address space",
    "cuda error: misaligned address",
)

# What torch says without an `OutOfMemoryError`: its CPU allocator, CUDA's own calls, cuBLAS.
_NO_MEMORY = (
    "defaultcpuallocator: can't allocate memory",
    "defaultcpuallocator: not enough memory",
    "cuda error: out of memory",
    "cublas_status_alloc_failed",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the batch did not fit: `MemoryError`, torch's `OutOfMemoryError`, or such a text."""
    if isinstance(error, MemoryError):
        return True
    if any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__):
        return True
    return _says(error, _NO_MEMORY)


def is_poisoned(error: BaseException) -> bool:
    """Whether the process can run nothing any more on its device."""
    return _says(error, _POISONED)


def _says(error: BaseException, marks: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(mark in text for mark in marks)
