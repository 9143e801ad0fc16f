// What readers of text share: decimal numbers, and characters beyond ASCII in UTF-8.
//
// The text must end in a zero byte, which is no part of either.
#pragma once
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <system_error>

#if !defined(__cpp_lib_to_chars)
#include <locale.h>

#include <cstdlib>
#if defined(__APPLE__)
#include <xlocale.h>
#endif
#endif

namespace upmap {

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// The parts of -digits.digits e exponent.
struct Decimal {
    const char* begin;
    const char* end;
    uint64_t mantissa = 0;  // all digits before the exponent, exact if there are at most 19
    int64_t digits = 0;     // how many those are, leading zeros too
    int64_t exponent = 0;   // of ten, by which the mantissa is multiplied
    bool is_negative = false, is_integer = true;  // an integer has neither point nor exponent
};

// Reads digits of an exponent, without overflow: beyond 1e9 the number is 0 or infinite anyway.
// False, with p where it stood, if there are none.
inline bool scan_exponent(const char*& p, int64_t& exponent) {
    constexpr int64_t kLarge = 1'000'000'000;
    const bool is_negative = *p == '-';
    if (*p == '+' || *p == '-') ++p;
    if (!is_digit(*p)) return false;
    int64_t size = 0;
    for (; is_digit(*p); ++p)
        if (size < kLarge) size = size * 10 + (*p - '0');
    exponent += is_negative ? -size : size;
    return true;
}

// Reads [-]digits[.digits][e[+-]digits] and moves p behind it; for any other text false, with p at
// the character that is wrong. With `OneZero`, a leading zero is a number's only digit before the
// point, as JSON has it: p stops behind it.
template <bool OneZero>
bool scan_decimal(const char*& p, Decimal& decimal) {
    decimal = {};
    decimal.begin = p;
    auto scan_digits = [&] {
        const char* first = p;
        for (; is_digit(*p); ++p)
            decimal.mantissa = decimal.mantissa * 10 + static_cast<uint64_t>(*p - '0');
        decimal.digits += p - first;
        return p - first;
    };
    if (*p == '-') {
        decimal.is_negative = true;
        ++p;
    }
    if (OneZero && *p == '0') {
        ++p;
        ++decimal.digits;
    } else if (!scan_digits()) {
        return false;
    }
    if (*p == '.') {
        ++p;
        const int64_t fraction = scan_digits();
        if (!fraction) return false;
        decimal.exponent = -fraction;
        decimal.is_integer = false;
    }
    if ((*p | 0x20) == 'e') {
        ++p;
        if (!scan_exponent(p, decimal.exponent)) return false;
        decimal.is_integer = false;
    }
    decimal.end = p;
    return true;
}

// The nearest double by the standard library, for what the fast path leaves.
inline double nearest_double_slow(const Decimal& decimal) {
#if defined(__cpp_lib_to_chars)
    double nearest = 0;
    if (std::from_chars(decimal.begin, decimal.end, nearest).ec != std::errc::result_out_of_range)
        return nearest;
    // Too large and too small are one error there. The number is less than 10^magnitude.
    int64_t magnitude = decimal.digits + decimal.exponent;
    for (const char* c = decimal.begin; *c == '-' || *c == '.' || *c == '0'; ++c)
        magnitude -= *c == '0';
    const double size = magnitude > 0 ? std::numeric_limits<double>::infinity() : 0.0;
    return decimal.is_negative ? -size : size;
#else
    // In the C locale: the program's own may have another decimal point.
    static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(std::string(decimal.begin, decimal.end).c_str(), nullptr, c_locale);
#endif
}

// The nearest double, as Python's float() gives it: infinite above the largest, 0 below the
// smallest.
inline double nearest_double(const Decimal& decimal) {
    static constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                         1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                         1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    constexpr int64_t kMaxPower = 22;  // 10^22 is the largest power of ten that is a double
    // Clinger's fast path: a mantissa and a power of ten that are exact are rounded once.
    if (decimal.digits > 19 || decimal.mantissa > uint64_t{1} << 53 ||
        decimal.exponent < -kMaxPower || decimal.exponent > kMaxPower)
        return nearest_double_slow(decimal);
    const auto whole = static_cast<double>(decimal.mantissa);
    const double size = decimal.exponent < 0 ? whole / kPowers[-decimal.exponent]
                                             : whole * kPowers[decimal.exponent];
    return decimal.is_negative ? -size : size;
}

// Reads [-]digits[.digits][e[+-]digits], moves p behind it, and gives the nearest double. False for
// any other spelling.
inline bool read_decimal(const char*& p, double& number) {
    Decimal decimal;
    if (!scan_decimal<false>(p, decimal)) return false;
    number = nearest_double(decimal);
    return true;
}

// The length of the character at p, and its code; 0 if it is not UTF-8's shortest form of a
// character beyond ASCII.
inline int utf8_character(const char* p, uint32_t& code) {
    const auto lead = static_cast<unsigned char>(*p);
    if (lead < 0xC2 || lead > 0xF4) return 0;
    const int tails = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    code = lead & (0x3Fu >> tails);
    for (int i = 1; i <= tails; ++i) {
        const auto c = static_cast<unsigned char>(p[i]);
        if ((c & 0xC0) != 0x80) return 0;
        code = code << 6 | (c & 0x3F);
    }
    // A longer form than needed could hide a character from whoever looks for its bytes.
    const uint32_t min_code = tails == 3 ? 0x10000 : tails == 2 ? 0x800 : 0x80;
    const bool is_surrogate = code >= 0xD800 && code < 0xE000;
    return code < min_code || code > 0x10FFFF || is_surrogate ? 0 : tails + 1;
}

// Whether Python may take the character beyond ASCII at p for white space. Some that it does not
// take for it stand in the same rows of Unicode.
inline bool may_be_space(const char* p) {
    const auto lead = static_cast<unsigned char>(p[0]);
    if (lead < 0xE1) return lead == 0xC2;
    const auto next = static_cast<unsigned char>(p[1]);
    return (lead == 0xE1 && next == 0x9A) || (lead == 0xE2 && (next == 0x80 || next == 0x81)) ||
           (lead == 0xE3 && next == 0x80);
}

}  // namespace upmap
