#define ROWS rows_avx2
#define NAME "avx2"
#include "kernels/upsample_ce/rows.inc"
