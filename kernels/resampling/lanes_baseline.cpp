#define LANE_FUNCTIONS lanes_baseline
#define NAME "baseline"
#include "kernels/resampling/lanes.inc"
