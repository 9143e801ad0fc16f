#define UPMAP_ROW_KERNELS rows_avx512
#define UPMAP_ISA "avx512"
#include "kernels/upsample_ce/rows.inc"
