#define LANE_FUNCTIONS lanes_avx512
#define NAME "avx512"
#include "kernels/resampling/lanes.inc"
