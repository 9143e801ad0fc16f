// What readers of text share: a decimal number, and a character beyond ASCII in UTF-8.
//
// The text must end in a zero byte, which is no part of either.
#pragma once
#include <charconv>
#include <cstdint>
#include <system_error>

namespace upmap {

inline bool is_digit(char c) { return static_cast<unsigned char>(c - '0') < 10; }

// Reads [-]digits[.digits][e[+-]digits], moves p behind it, and gives the nearest double, as Python's
// float() does. False for any other spelling, and for what a double cannot hold.
inline bool read_decimal(const char*& p, double& number) {
    static constexpr double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                        1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};
    const char* begin = p;
    uint64_t mantissa = 0;
    auto digits = [&] {
        const char* first = p;
        for (; is_digit(*p); ++p) mantissa = mantissa * 10 + static_cast<uint64_t>(*p - '0');
        return p - first;
    };
    const bool negative = *p == '-';
    p += negative;
    const auto whole = digits();
    if (!whole) return false;
    const bool has_point = *p == '.';
    p += has_point;
    const auto fraction = has_point ? digits() : 0;
    if (has_point && !fraction) return false;
    // Clinger's fast path: a mantissa and a power of ten that are exact are rounded once.
    const bool is_exact = whole + fraction <= 19 && mantissa <= uint64_t{1} << 53;
    if ((*p | 0x20) != 'e' && is_exact) {
        const double size = static_cast<double>(mantissa) / POWERS[fraction];
        number = negative ? -size : size;
        return true;
    }
    if ((*p | 0x20) == 'e') {
        ++p;
        p += *p == '+' || *p == '-';
        if (!digits()) return false;
    }
#if defined(__cpp_lib_to_chars)
    return std::from_chars(begin, p, number).ec == std::errc{};
#else
    (void)begin;
    return false;
#endif
}

// The length of the character at p and its code; 0 if it is not UTF-8's shortest form of a character
// beyond ASCII.
inline int utf8_character(const char* p, uint32_t& code) {
    const auto lead = static_cast<unsigned char>(*p);
    if (lead < 0xC2 || lead > 0xF4) return 0;
    const int tails = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    code = lead & (0x3F >> tails);
    for (int i = 1; i <= tails; ++i) {
        const auto c = static_cast<unsigned char>(p[i]);
        if ((c & 0xC0) != 0x80) return 0;
        code = code << 6 | (c & 0x3F);
    }
    const uint32_t least = tails == 3 ? 0x10000 : tails == 2 ? 0x800 : 0x80;
    const bool is_surrogate = code >= 0xD800 && code < 0xE000;
    return code < least || code > 0x10FFFF || is_surrogate ? 0 : tails + 1;
}

// Whether Python may take the character beyond ASCII at p for white space. Some that it does not take
// for it stand in the same rows of Unicode.
inline bool may_be_space(const char* p) {
    const auto lead = static_cast<unsigned char>(p[0]);
    if (lead < 0xE1) return lead == 0xC2;
    const auto next = static_cast<unsigned char>(p[1]);
    return (lead == 0xE1 && next == 0x9A) || (lead == 0xE2 && (next == 0x80 || next == 0x81)) ||
           (lead == 0xE3 && next == 0x80);
}

}  // namespace upmap
