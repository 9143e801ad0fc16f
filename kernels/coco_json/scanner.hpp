// A cursor over JSON text, as strict as Python's json module, that reads the values asked for and
// steps over the others without making anything of them.
//
// The text must be followed by PADDING zero bytes: a zero is no part of any value, so the end needs no
// test of its own, and words of eight bytes may be read anywhere. Source: RFC 8259.
#pragma once
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <string_view>

#include "kernels/text.hpp"

namespace upmap::json {

constexpr size_t PADDING = 64;  // bytes
constexpr int MAX_DEPTH = 512;  // of nested objects and arrays
constexpr uint64_t ONES = 0x0101010101010101, HIGH = 0x8080808080808080;

struct Malformed {};

enum class Kind : uint8_t {
    MISSING,
    INTEGER,
    FLOAT,
    LARGE_INTEGER,
    TEXT,
    TRUE,
    FALSE,
    NONE,
    BOX,
    OTHER
};

// What a kept key holds; `number` for every kind of number, `box` for an array of four of them.
struct Value {
    Kind kind = Kind::MISSING;
    int64_t integer = 0;
    double number = 0;
    double box[4] = {};
    std::string_view text;

    bool is_number() const {
        return kind == Kind::INTEGER || kind == Kind::FLOAT || kind == Kind::LARGE_INTEGER;
    }
};

inline uint64_t word(const char* p) {
    uint64_t bytes;
    std::memcpy(&bytes, p, 8);
    return bytes;
}

constexpr uint64_t is_zero(uint64_t x) { return (x - ONES) & ~x & HIGH; }

// The number of bytes before the first whose top bit is set in `mask`, exact for the lowest.
inline int before_first(uint64_t mask) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the native JSON reader expects a little-endian machine"
#endif
    return mask ? __builtin_ctzll(mask) >> 3 : 8;
}

// How many of the next eight bytes are digits.
inline int digit_run(const char* p) {
    const uint64_t x = word(p) ^ (ONES * '0');
    return before_first((((x & ~HIGH) + ONES * 0x76) | x) & HIGH);
}

class Cursor {
  public:
    const char* p;
    int depth;  // of what encloses the cursor

    Cursor(const char* begin, int depth_there) : p(begin), depth(depth_there) {}

    void space() {
        while (static_cast<unsigned char>(*p) <= ' ' && is_space(*p)) ++p;
    }

    void expect(char c) {
        if (*p != c) throw Malformed{};
        ++p;
    }

    bool accept(char c) {
        if (*p != c) return false;
        ++p;
        return true;
    }

    void open(char c) {
        expect(c);
        if (++depth > MAX_DEPTH) throw Malformed{};
    }

    void close(char c) {
        expect(c);
        --depth;
    }

    // After a key: the colon, and on to the value.
    void colon() {
        space();
        expect(':');
        space();
    }

    // Reads a string from its opening quote on. Returns what stands between the quotes.
    std::string_view string(bool& has_escape) {
        expect('"');
        const char* begin = p;
        has_escape = false;
        for (;;) {
            const uint64_t x = word(p);
            const uint64_t special = is_zero(x ^ (ONES * '"')) | is_zero(x ^ (ONES * '\\')) |
                                     ((x - ONES * 0x20) & ~x & HIGH) | (x & HIGH);
            const int plain = before_first(special);
            p += plain;
            if (plain == 8) continue;
            if (*p == '"') return {begin, static_cast<size_t>(p++ - begin)};
            if (*p == '\\') {
                has_escape = true;
                escape();
            } else if (static_cast<signed char>(*p) < 0) {
                utf8();
            } else {
                throw Malformed{};  // a control character, or the end
            }
        }
    }

    // Steps over a value of any kind, checking all of its grammar.
    void skip() {
        uint64_t objects[MAX_DEPTH / 64 + 1] = {};  // a bit per depth: an object, or an array
        const int outside = depth;
        auto in_object = [&] { return objects[depth / 64] >> depth % 64 & 1; };
        for (;;) {
            if (*p == '{') {
                open('{');
                objects[depth / 64] |= uint64_t{1} << depth % 64;
                space();
                if (*p != '}') {
                    key_and_colon();
                    continue;
                }
                close('}');
            } else if (*p == '[') {
                open('[');
                objects[depth / 64] &= ~(uint64_t{1} << depth % 64);
                space();
                if (*p != ']') continue;
                close(']');
            } else {
                scalar();
            }
            for (;;) {
                if (depth == outside) return;
                space();
                if (accept(',')) break;
                close(in_object() ? '}' : ']');
            }
            space();
            if (in_object()) key_and_colon();
        }
    }

    // Reads a value that is wanted. Text with escapes is kept in `decoded`, which must outlive it.
    void value(Value& found, std::deque<std::string>& decoded) {
        switch (*p) {
            case '"': return text(found, decoded);
            case '[': return box(found);
            case '{': found.kind = Kind::OTHER; return skip();
            case 't': found.kind = Kind::TRUE; return literal("true");
            case 'f': found.kind = Kind::FALSE; return literal("false");
            case 'n': found.kind = Kind::NONE; return literal("null");
            default: return number(found);
        }
    }

    // What the text between quotes means; false if a surrogate in it has no partner.
    static bool unescape(std::string_view raw, std::string& out) {
        out.clear();
        for (size_t i = 0; i < raw.size();) {
            if (raw[i] != '\\') {
                out += raw[i++];
                continue;
            }
            const char c = raw[i + 1];
            i += 2;
            if (c != 'u') {
                out += plain_escape(c);
                continue;
            }
            uint32_t code = hex4(raw.data() + i);
            i += 4;
            if (code >= 0xD800 && code < 0xDC00 && raw.substr(i, 2) == "\\u") {
                const uint32_t low = hex4(raw.data() + i + 2);
                if (low >= 0xDC00 && low < 0xE000) {
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    i += 6;
                }
            }
            if (code >= 0xD800 && code < 0xE000) return false;
            append_utf8(out, code);
        }
        return true;
    }

  private:
    static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

    static int hex(char c) {
        if (is_digit(c)) return c - '0';
        const char lower = static_cast<char>(c | 0x20);
        return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    }

    static uint32_t hex4(const char* digits) {
        uint32_t code = 0;
        for (int i = 0; i < 4; ++i) code = code << 4 | static_cast<uint32_t>(hex(digits[i]));
        return code;
    }

    static char plain_escape(char c) {
        switch (c) {
            case 'b': return '\b';
            case 'f': return '\f';
            case 'n': return '\n';
            case 'r': return '\r';
            case 't': return '\t';
            default: return c;
        }
    }

    static void append_utf8(std::string& out, uint32_t code) {
        auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
        if (code < 0x80) {
            out += static_cast<char>(code);
        } else if (code < 0x800) {
            out += static_cast<char>(0xC0 | code >> 6);
            tail(0);
        } else if (code < 0x10000) {
            out += static_cast<char>(0xE0 | code >> 12);
            tail(6), tail(0);
        } else {
            out += static_cast<char>(0xF0 | code >> 18);
            tail(12), tail(6), tail(0);
        }
    }

    void escape() {
        ++p;
        if (*p == 'u') {
            for (int i = 1; i <= 4; ++i)
                if (hex(p[i]) < 0) throw Malformed{};
            p += 5;
        } else if (*p && std::strchr("\"\\/bfnrt", *p)) {
            ++p;
        } else {
            throw Malformed{};
        }
    }

    void utf8() {
        uint32_t code;
        const int length = utf8_character(p, code);
        if (!length) throw Malformed{};
        p += length;
    }

    void key_and_colon() {
        bool has_escape;
        string(has_escape);
        colon();
    }

    void scalar() {
        bool has_escape;
        switch (*p) {
            case '"': string(has_escape); return;
            case 't': return literal("true");
            case 'f': return literal("false");
            case 'n': return literal("null");
            default: return skip_number();
        }
    }

    void literal(const char* name) {
        for (; *name; ++name) expect(*name);
    }

    void digits() {
        int run = digit_run(p);
        if (!run) throw Malformed{};
        for (; run == 8; run = digit_run(p)) p += 8;
        p += run;
    }

    void skip_number() {
        accept('-');
        if (!accept('0')) digits();
        if (accept('.')) digits();
        if ((*p | 0x20) == 'e') {
            ++p;
            if (*p == '+' || *p == '-') ++p;
            digits();
        }
    }

    void number(Value& found) {
        const char* begin = p;
        const bool negative = accept('-');
        const char* first = p;
        uint64_t mantissa = 0;
        auto take_digits = [&] {
            if (!is_digit(*p)) throw Malformed{};
            for (; is_digit(*p); ++p) mantissa = mantissa * 10 + static_cast<uint64_t>(*p - '0');
        };
        if (!accept('0')) take_digits();
        int64_t count = p - first, exponent = 0;
        bool is_integer = true;
        if (accept('.')) {
            const char* fraction = p;
            take_digits();
            exponent = fraction - p;
            count -= exponent;
            is_integer = false;
        }
        if ((*p | 0x20) == 'e') {
            ++p;
            exponent += read_exponent();
            is_integer = false;
        }
        if (is_integer) return integer(found, begin, mantissa, count, negative);
        found.kind = Kind::FLOAT;
        found.number = real(begin, mantissa, count, exponent, negative);
    }

    int64_t read_exponent() {
        const bool negative = *p == '-';
        if (*p == '+' || *p == '-') ++p;
        if (!is_digit(*p)) throw Malformed{};
        int64_t exponent = 0;
        for (; is_digit(*p); ++p)
            if (exponent < 1'000'000'000) exponent = exponent * 10 + (*p - '0');
        return negative ? -exponent : exponent;
    }

    void integer(Value& found, const char* begin, uint64_t magnitude, int64_t count,
                 bool negative) {
        const uint64_t most = static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + negative;
        if (count > 19 || magnitude > most) {
            found.kind = Kind::LARGE_INTEGER;
            found.number = exact(begin, count);
            return;
        }
        found.kind = Kind::INTEGER;
        found.integer = static_cast<int64_t>(negative ? 0 - magnitude : magnitude);
        found.number = static_cast<double>(found.integer);
    }

    // Clinger's fast path: a mantissa and a power of ten that are exact are rounded once.
    double real(const char* begin, uint64_t mantissa, int64_t count, int64_t exponent,
                bool negative) {
        static constexpr double POWERS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                            1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                            1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
        if (count > 19 || mantissa > uint64_t{1} << 53 || exponent < -22 || exponent > 22)
            return exact(begin, count + exponent);
        const auto whole = static_cast<double>(mantissa);
        const double size = exponent < 0 ? whole / POWERS[-exponent] : whole * POWERS[exponent];
        return negative ? -size : size;
    }

    // The nearest double to the text from `begin` on, which is less than 10^magnitude.
    double exact(const char* begin, int64_t magnitude) const {
        double nearest = 0;
#if defined(__cpp_lib_to_chars)
        if (std::from_chars(begin, p, nearest).ec != std::errc::result_out_of_range) return nearest;
        for (const char* c = begin; *c == '-' || *c == '.' || *c == '0'; ++c)
            magnitude -= *c == '0';
        const double beyond = std::numeric_limits<double>::infinity();
        return std::copysign(magnitude > 0 ? beyond : 0.0, *begin == '-' ? -1.0 : 1.0);
#else
        (void)magnitude;
        nearest = std::strtod(std::string(begin, p).c_str(), nullptr);
        return nearest;
#endif
    }

    void text(Value& found, std::deque<std::string>& decoded) {
        bool has_escape;
        found.kind = Kind::TEXT;
        found.text = string(has_escape);
        if (!has_escape) return;
        decoded.emplace_back();
        if (!unescape(found.text, decoded.back())) found.kind = Kind::OTHER;
        found.text = decoded.back();
    }

    // Four numbers, or any other array.
    void box(Value& found) {
        const char* begin = p;
        const int outside = depth;
        open('[');
        Value part;
        found.kind = Kind::BOX;
        for (int i = 0; i < 4; ++i) {
            space();
            if (!is_digit(*p) && *p != '-') break;
            number(part);
            found.box[i] = part.number;
            space();
            if (i == 3 && *p == ']') return close(']');
            if (!accept(',')) break;
        }
        p = begin;
        depth = outside;
        found.kind = Kind::OTHER;
        skip();
    }
};

}  // namespace upmap::json
