import numpy as np
from numpy.typing import NDArray

from upmap.kernels.accumulation.contract import Caps, Floats
from upmap.kernels.matching.contract import Matches

def accumulate(
    ranked: Matches,
    status: NDArray[np.uint8],
    recall_points: Floats,
    max_dets: Caps,
    epsilon: float,
    with_areas: bool,
    with_scores: bool,
    ties: int,
    threads: int,
) -> tuple[Floats, Floats, Floats | None, Floats | None]: ...
def recalls(ranked: Matches, status: NDArray[np.uint8], max_dets: Caps, threads: int) -> Floats: ...
