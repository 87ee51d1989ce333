"""What holds for every test."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Run every test with the number of threads that agents use by default."""
    torch.set_num_threads(1)
