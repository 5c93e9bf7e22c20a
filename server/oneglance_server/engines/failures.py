"""What the engines tell in words only: whether there is no memory now, or a card that fails for good."""

_WANT_OF_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "Failed to allocate memory",
    "Available memory of",
    "out of memory",
    "ALLOC_FAILED",
)
_LOST = ("CUDA failure", "CUDNN failure", "CUDNN_FE failure", "CUBLAS failure", "CUDA error", "cudaError")


def wants_memory(error: Exception) -> bool:
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in _WANT_OF_MEMORY)


def loses_card(error: Exception) -> bool:
    text = str(error)
    return any(words in text for words in _LOST) and not wants_memory(error)
