// What matching says of a detection; kernels/matching/__init__.py has the same numbers.
#pragma once
#include <cstdint>

namespace upmap {

enum Status : uint8_t { kFalsePositive = 0, kTruePositive = 1, kIgnored = 2 };

}  // namespace upmap
