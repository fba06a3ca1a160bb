"""How alike two reduced pictures are in structure, whatever their colors."""

import numpy as np
import torch

from lit_ghibli.images import from_uint8
from lit_ghibli.metrics.structure import structure_consistency

_BATCH = 1024  # pairs compared at once


def likeness(inputs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structure consistency of reduced pictures ``(N, 32, 32)`` and others like them: ``(N,)`` in ``[0, 1]``."""
    values = []
    for first in range(0, len(inputs), _BATCH):
        pair = (
            from_uint8(torch.from_numpy(grids[first : first + _BATCH])).unsqueeze(1).expand(-1, 3, -1, -1)
            for grids in (inputs, others)
        )
        values.append(structure_consistency(*pair).numpy())
    return np.concatenate(values)
