// The inner loops, over the classes of a pixel; compiled once for each instruction set.
//
// A pixel's logits are a handful of vectors, so what is upsampled never leaves the first cache.
// Classes are padded to whole vectors: by a logit whose exponential is 0.
// Nothing of the standard library is used here: the linker keeps one copy of an inline function,
// which would then be compiled for the newest processor and called on all.
#pragma once
#include <cstdint>

namespace upmap {

constexpr float kPaddingLogit = -1e30f;  // of no effect on a maximum or a sum of exponentials

// A row of pixels of the upsampled map, between two rows of source pixels. Source rows are
// [source_pixels, padded_classes]; padded_classes is 4, 8 or a multiple of 16.
struct PixelRow {
    const float* upper;
    const float* lower;
    float lower_weight;          // in the interpolation, in [0, 1]; the upper has 1 minus it
    const int32_t* first;        // [pixels], the left source pixel
    const int32_t* second;       // [pixels], the right one
    const float* second_weight;  // [pixels]
    const int32_t* label;        // [pixels], negative where ignored
    const float* class_weight;   // [classes], padded by 0
    float class_weight_sum;
    float smoothing;  // label smoothing
    int32_t pixels, source_pixels, classes, padded_classes;
    float* interpolated;  // [source_pixels, padded_classes], scratch for the source at this row
    float* logits;        // [padded_classes], scratch for a pixel
};

// The loops for one instruction set. Losses, log-sum-exps and gradients are [pixels].
struct RowKernels {
    // Writes the loss and the log of the sum of the exponentials; 0 and infinity where ignored.
    void (*forward)(const PixelRow&, float* losses, float* logsumexps);
    // Adds to the gradients of the upper and the lower source row; `middle` is scratch of their
    // size.
    void (*backward)(const PixelRow&, const float* gradient, const float* logsumexps, float* middle,
                     float* upper, float* lower);
    // Writes the first class with the largest logit.
    void (*argmax)(const PixelRow&, int32_t* labels);
    const char* name;
};

extern const RowKernels rows_baseline;
#ifdef UPMAP_X86
extern const RowKernels rows_avx2;
extern const RowKernels rows_avx512;
#endif

}  // namespace upmap
