from typing import Any

import numpy as np
from numpy.typing import NDArray

Side = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]

def forward(
    logits: NDArray[np.float32],
    target: NDArray[Any],
    weight: NDArray[np.float32],
    rows: Side,
    columns: Side,
    ignore_index: int,
    smoothing: float,
    losses: NDArray[np.float32],
    logsumexp: NDArray[np.float32],
    threads: int,
    isa: str,
) -> None: ...
def backward(
    gradient: NDArray[np.float32],
    logsumexp: NDArray[np.float32],
    logits: NDArray[np.float32],
    target: NDArray[Any],
    weight: NDArray[np.float32],
    rows: Side,
    columns: Side,
    ignore_index: int,
    smoothing: float,
    logits_gradient: NDArray[np.float32],
    threads: int,
    isa: str,
) -> None: ...
def argmax(
    logits: NDArray[np.float32],
    weight: NDArray[np.float32],
    rows: Side,
    columns: Side,
    predictions: NDArray[np.int32],
    threads: int,
    isa: str,
) -> None: ...
def confusion(
    logits: NDArray[np.float32],
    target: NDArray[Any],
    weight: NDArray[np.float32],
    rows: Side,
    columns: Side,
    ignore_index: int,
    counts: NDArray[np.int64],
    threads: int,
    isa: str,
) -> None: ...
def instruction_set(isa: str = "") -> str: ...
