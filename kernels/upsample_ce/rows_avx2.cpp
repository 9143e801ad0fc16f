#define UPMAP_ROW_KERNELS rows_avx2
#define UPMAP_ISA "avx2"
#include "kernels/upsample_ce/rows.inc"
