#define LANE_FUNCTIONS lanes_avx2
#define NAME "avx2"
#include "kernels/resampling/lanes.inc"
