#define ROWS rows_avx512
#define NAME "avx512"
#include "kernels/upsample_ce/rows.inc"
