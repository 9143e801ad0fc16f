#define ROWS rows_baseline
#define NAME "baseline"
#include "kernels/upsample_ce/rows.inc"
