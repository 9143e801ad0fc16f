import numpy as np
from numpy.typing import NDArray

from upmap.kernels.accumulation import Arrays, Floats, Ranked

def accumulate(
    ranked: Ranked,
    status: NDArray[np.uint8],
    recall_points: Floats,
    max_dets: NDArray[np.int64],
    epsilon: float,
    with_areas: bool,
    with_scores: bool,
    threads: int,
) -> Arrays: ...
def recalls(
    ranked: Ranked, status: NDArray[np.uint8], max_dets: NDArray[np.int64], threads: int
) -> Floats: ...
