// The inner loops over the replicates of a block; compiled once for each instruction set.
//
// A block is 64 replicates: the weights of an image in all of them are one cache line. Loops over
// the lanes are plain C++ for the compiler to vectorize; products and sums are rounded on their
// own, so all instruction sets give the same bits.
//
// Nothing of the standard library is used here: the linker keeps one copy of an inline function,
// which would then be compiled for the newest processor and called on all.
#pragma once
#include <cstddef>
#include <cstdint>

namespace upmap {

constexpr int kLanes = 64;

template <class T>
struct alignas(64) Lanes {
    T v[kLanes];
};

// What a detection is, at the thresholds asked for. `counted` has bit a where it is not ignored in
// area range a, at most thresholds; `event` is its place among the events, -1 if it is false at all
// thresholds where it counts, and `counted` says it all.
struct CurveRow {
    uint64_t counted;
    int32_t image;
    int32_t event;
};

// One area range of a detection that is true somewhere or whose counting differs between
// thresholds: sets of thresholds where it is true, where it counts though `counted` has not its
// bit, and where it is ignored though `counted` has it.
struct Event {
    uint64_t is_true, added, removed;
};

// A term of a sum that is linear in the weights: factor * weight of image, added to sum `place`.
struct Term {
    int32_t image, factor, place;
};

// How many recall points are reached by n of P positives.
struct RecallGrid {
    // Points i / steps, i = 0 .. steps: steps > 0. Bit i of `late` is set where the float64 point
    // lies above the float64 quotient i / steps, so that exactly i / steps does not reach it.
    int32_t steps;
    uint32_t late[4];
    // Any ascending points: steps = 0.
    const double* points;
    size_t count;  // of points; 0 for the area under all points
};

// The curves of a class: rows best score first, events [.][A].
struct CurveRows {
    const CurveRow* rows;
    size_t count;
    const Event* events;
    int32_t A, T;
};

// Room for the state of the curves: by area range, or by area range and threshold.
template <class Real>
struct CurveState {
    Lanes<int32_t>* counted;    // [A], rows that count
    Lanes<int32_t>* deviation;  // [A, T], to add to it at a threshold
    Lanes<int32_t>* is_true;    // [A, T], true rows
    Lanes<Real>* highest;       // [A, T], precision: the largest from here on
    Lanes<Real>* reached;       // [A, T], recall points reached
    Lanes<Real>* sum;           // [A, T], in the end average precision, before the division
    Lanes<Real>* positives;     // [A], at least 1
};

// Precondition of all: weights are [images][kLanes], and all indices lie within.
struct LaneFunctions {
    // Adds the terms to `sums`.
    void (*add_terms)(const Term* terms, size_t count, const uint8_t* weights,
                      Lanes<int32_t>* sums);
    // Average precision of all curves, [A, T], for positives [A]; meaningless where these are 0.
    void (*average_float)(const CurveRows&, const uint8_t* weights, const RecallGrid&,
                          const Lanes<int32_t>* positives, const CurveState<float>&,
                          Lanes<double>* average);
    void (*average_double)(const CurveRows&, const uint8_t* weights, const RecallGrid&,
                           const Lanes<int32_t>* positives, const CurveState<double>&,
                           Lanes<double>* average);
    const char* name;
};

extern const LaneFunctions lanes_baseline;
#ifdef UPMAP_X86
extern const LaneFunctions lanes_avx2;
extern const LaneFunctions lanes_avx512;
#endif

}  // namespace upmap
