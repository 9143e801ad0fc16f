#define UPMAP_ROW_KERNELS rows_baseline
#define UPMAP_ISA "baseline"
#include "kernels/upsample_ce/rows.inc"
