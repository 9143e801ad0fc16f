import numpy as np
from numpy.typing import NDArray

from upmap.kernels.resampling.contract import (
    Floats,
    InfluenceArrays,
    InfluenceSumArrays,
    Outcomes,
    Quantities,
    Weights,
)

def resample(
    outcomes: Outcomes,
    status: NDArray[np.uint8],
    weights: Weights,
    quantities: Quantities,
    recall_points: Floats | None,
    threads: int,
    instructions: str,
) -> Floats: ...
def influence(
    outcomes: Outcomes, status: NDArray[np.uint8], quantities: Quantities, threads: int
) -> InfluenceArrays: ...
def sum_influence(
    outcomes: Outcomes, status: NDArray[np.uint8], quantities: Quantities, threads: int
) -> InfluenceSumArrays: ...
