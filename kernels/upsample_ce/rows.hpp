// The inner loops, over the classes of a pixel; compiled once for each instruction set.
//
// A pixel's logits are a handful of vectors, so what is upsampled never leaves the first cache.
// Classes are padded to whole vectors: by a score whose exponential is 0.
// Nothing of the standard library is used here: the linker keeps one copy of an inline function,
// which would then be compiled for the newest processor and called on all.
#pragma once
#include <cstdint>

namespace upmap {

// A row of pixels between two rows of features; all features are [features, classes], padded.
struct Row {
    const float* upper;
    const float* lower;
    float share;  // of the lower
    const int32_t* first;
    const int32_t* second;
    const float* right;    // [pixels], share of the second feature
    const int32_t* label;  // [pixels], negative where ignored
    const float* weight;   // [classes], padded by 0
    float weight_sum;
    float smoothing;  // label smoothing
    int32_t pixels, features, classes, padded;
    float* between;  // [features, padded], room for the features of this row
    float* scores;   // [padded], room for a pixel
};

struct Rows {
    void (*forward)(const Row&, float* losses, float* totals);
    // Adds to the gradients of the upper and lower features; `middle` is room for [features, padded].
    void (*backward)(const Row&, const float* gradient, const float* totals, float* middle,
                     float* upper, float* lower);
    void (*argmax)(const Row&, int32_t* found);
    const char* name;
};

extern const Rows rows_baseline;
#ifdef UPMAP_X86
extern const Rows rows_avx2;
extern const Rows rows_avx512;
#endif

}  // namespace upmap
