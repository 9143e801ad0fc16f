// Sets of area ranges and of IoU thresholds, as the bits of an integer.
//
// Everything here is static: each file compiles its own copy for its own instruction set.
#pragma once
#include <cstdint>

namespace upmap {

// The place of the lowest set bit. Precondition: there is one.
static inline int32_t lowest_bit(uint64_t bits) {
#if defined(__GNUC__)
    return __builtin_ctzll(bits);
#else
    int32_t place = 0;
    for (; !(bits & 1); bits >>= 1) ++place;
    return place;
#endif
}

// In words of 2, 4 and 8 bits: without -mpopcnt, the builtin would call a function.
static inline int32_t count_bits(uint64_t bits) {
    bits -= (bits >> 1) & 0x5555555555555555;
    bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
    bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0f;
    return static_cast<int32_t>((bits * 0x0101010101010101) >> 56);
}

// Calls body(place) for each set bit, ascending.
template <class Body>
static inline void for_each_bit(uint64_t bits, const Body& body) {
    for (; bits; bits &= bits - 1) body(lowest_bit(bits));
}

}  // namespace upmap
