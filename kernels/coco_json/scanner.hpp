// A cursor over JSON text, as strict as Python's json module (which takes NaN and Infinity), that
// reads the values asked for and steps over the others without making anything of them. Source:
// RFC 8259.
//
// The text must be followed by kPadding zero bytes: a zero is no part of any value, so the end
// needs no test of its own, and words of eight bytes may be read anywhere.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <string_view>

#include "kernels/text.hpp"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "the native JSON reader expects a little-endian machine"
#endif

namespace upmap::json {

constexpr int kMaxDepth = 512;  // of nested objects and arrays

// Thrown where the text is not JSON; the cursor stays where it went wrong.
struct Malformed {};

enum class Kind : uint8_t {
    kMissing,
    kInteger,
    kFloat,
    kLargeInteger,  // beyond int64
    kText,
    kTrue,
    kFalse,
    kNull,
    kBox,
    kOther
};

// The value of a key; `number` for every kind of number, `box` for an array of four of them.
struct Value {
    Kind kind = Kind::kMissing;
    int64_t integer = 0;
    double number = 0;
    double box[4] = {};
    std::string_view text;

    bool is_number() const {
        return kind == Kind::kInteger || kind == Kind::kFloat || kind == Kind::kLargeInteger;
    }
};

// Eight bytes at a time. In a mask, the top bit of each byte counts; the lowest that is set is
// exact, those above it may be wrong.
constexpr uint64_t kOnes = 0x0101010101010101, kTopBits = 0x8080808080808080;

inline uint64_t load_word(const char* p) {
    uint64_t bytes;
    std::memcpy(&bytes, p, 8);
    return bytes;
}

constexpr uint64_t zero_bytes(uint64_t word) { return (word - kOnes) & ~word & kTopBits; }

// The number of bytes before the first that is set in a mask.
inline int count_before(uint64_t mask) { return mask ? __builtin_ctzll(mask) >> 3 : 8; }

// How many of the next eight bytes are digits.
inline int count_digits(const char* p) {
    const uint64_t word = load_word(p) ^ (kOnes * '0');
    return count_before((((word & ~kTopBits) + kOnes * 0x76) | word) & kTopBits);
}

// How many of the next eight bytes need no second look within a string: ASCII, but for quotes,
// backslashes and control characters.
inline int count_plain(const char* p) {
    const uint64_t word = load_word(p);
    const uint64_t controls = (word - kOnes * 0x20) & ~word & kTopBits;
    return count_before(zero_bytes(word ^ (kOnes * '"')) | zero_bytes(word ^ (kOnes * '\\')) |
                        controls | (word & kTopBits));
}

class Cursor {
  public:
    const char* p;
    int depth;  // of what encloses the cursor

    Cursor(const char* begin, int depth_of_begin) : p(begin), depth(depth_of_begin) {}

    void skip_space() {
        while (static_cast<unsigned char>(*p) <= ' ' && is_space(*p)) ++p;
    }

    // Throws Malformed where there is another character.
    void expect(char c) {
        if (*p != c) throw Malformed{};
        ++p;
    }

    bool accept(char c) {
        if (*p != c) return false;
        ++p;
        return true;
    }

    // Throws Malformed also where brackets are nested too deep.
    void open(char bracket) {
        expect(bracket);
        if (++depth > kMaxDepth) throw Malformed{};
    }

    void close(char bracket) {
        expect(bracket);
        --depth;
    }

    // After a key: the colon, and on to the value.
    void skip_colon() {
        skip_space();
        expect(':');
        skip_space();
    }

    // Reads a string from its opening quote on. Returns what stands between the quotes.
    std::string_view read_string(bool& has_escape) {
        expect('"');
        const char* begin = p;
        has_escape = false;
        for (;;) {
            const int plain = count_plain(p);
            p += plain;
            if (plain == 8) continue;
            if (*p == '"') {
                const char* end = p++;
                return {begin, static_cast<size_t>(end - begin)};
            }
            if (*p == '\\') {
                has_escape = true;
                skip_escape();
            } else if (static_cast<signed char>(*p) < 0) {
                skip_utf8();
            } else {
                throw Malformed{};  // a control character, or the end
            }
        }
    }

    // Steps over a value of any kind, checking all of its grammar. Not recursive: a hostile file
    // would choose the depth of the stack.
    void skip_value() {
        uint64_t objects[kMaxDepth / 64 + 1] = {};  // a bit per depth: an object, or an array
        const int outside = depth;
        auto in_object = [&] { return objects[depth / 64] >> depth % 64 & 1; };
        for (;;) {
            if (*p == '{') {
                open('{');
                objects[depth / 64] |= uint64_t{1} << depth % 64;
                skip_space();
                if (*p != '}') {
                    skip_key();
                    continue;
                }
                close('}');
            } else if (*p == '[') {
                open('[');
                objects[depth / 64] &= ~(uint64_t{1} << depth % 64);
                skip_space();
                if (*p != ']') continue;
                close(']');
            } else {
                skip_scalar();
            }
            // Behind a value: close what ends here, or go on to the next one.
            for (;;) {
                if (depth == outside) return;
                skip_space();
                if (accept(',')) break;
                close(in_object() ? '}' : ']');
            }
            skip_space();
            if (in_object()) skip_key();
        }
    }

    // Reads a value. Text with escapes is kept in `decoded`, which must outlive the value.
    void read_value(Value& value, std::deque<std::string>& decoded) {
        switch (*p) {
            case '"': read_text(value, decoded); break;
            case '[': read_box(value); break;
            case '{':
                value.kind = Kind::kOther;
                skip_value();
                break;
            case 't':
                value.kind = Kind::kTrue;
                skip_literal("true");
                break;
            case 'f':
                value.kind = Kind::kFalse;
                skip_literal("false");
                break;
            case 'n':
                value.kind = Kind::kNull;
                skip_literal("null");
                break;
            default: read_number(value);
        }
    }

    // Decodes the escapes of what `read_string` returned; false if a surrogate has no partner.
    static bool unescape(std::string_view raw, std::string& out) {
        out.clear();
        for (size_t i = 0; i < raw.size();) {
            if (raw[i] != '\\') {
                out += raw[i++];
            } else if (raw[i + 1] != 'u') {
                out += decode_escape(raw[i + 1]);
                i += 2;
            } else {
                const uint32_t code = decode_unicode_escape(raw, i);
                if (code >= 0xD800 && code < 0xE000) return false;
                append_utf8(out, code);
            }
        }
        return true;
    }

  private:
    static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

    // -1 if it is no hexadecimal digit.
    static int hex_digit(char c) {
        if (is_digit(c)) return c - '0';
        const char lower = static_cast<char>(c | 0x20);
        return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    }

    // Of four hexadecimal digits, which skip_escape has seen.
    static uint32_t parse_hex4(const char* digits) {
        uint32_t code = 0;
        for (int i = 0; i < 4; ++i) code = code << 4 | static_cast<uint32_t>(hex_digit(digits[i]));
        return code;
    }

    // Of an escape of one character, which skip_escape has let through.
    static char decode_escape(char c) {
        switch (c) {
            case 'b': return '\b';
            case 'f': return '\f';
            case 'n': return '\n';
            case 'r': return '\r';
            case 't': return '\t';
            default: return c;
        }
    }

    // The character of an escape \uXXXX, or of two that are a pair of surrogates; moves i behind
    // it.
    static uint32_t decode_unicode_escape(std::string_view raw, size_t& i) {
        const uint32_t high = parse_hex4(raw.data() + i + 2);
        i += 6;
        const bool is_high = high >= 0xD800 && high < 0xDC00;
        if (!is_high || raw.substr(i, 2) != "\\u") return high;
        const uint32_t low = parse_hex4(raw.data() + i + 2);
        if (low < 0xDC00 || low >= 0xE000) return high;
        i += 6;
        return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    }

    // The code must be that of a character: no surrogate, at most 10FFFF.
    static void append_utf8(std::string& out, uint32_t code) {
        auto append = [&](uint32_t byte) { out += static_cast<char>(byte); };
        auto append_tail = [&](int shift) { append(0x80 | (code >> shift & 0x3F)); };
        if (code < 0x80) {
            append(code);
        } else if (code < 0x800) {
            append(0xC0 | code >> 6);
            append_tail(0);
        } else if (code < 0x10000) {
            append(0xE0 | code >> 12);
            append_tail(6);
            append_tail(0);
        } else {
            append(0xF0 | code >> 18);
            append_tail(12);
            append_tail(6);
            append_tail(0);
        }
    }

    // From its backslash on.
    void skip_escape() {
        ++p;
        if (*p == 'u') {
            for (int i = 1; i <= 4; ++i)
                if (hex_digit(p[i]) < 0) throw Malformed{};
            p += 5;
        } else if (*p && std::strchr("\"\\/bfnrt", *p)) {
            ++p;
        } else {
            throw Malformed{};
        }
    }

    // A character beyond ASCII, which json.loads decodes: another form of it is an error there,
    // too.
    void skip_utf8() {
        uint32_t code;
        const int length = utf8_character(p, code);
        if (!length) throw Malformed{};
        p += length;
    }

    // And its colon.
    void skip_key() {
        bool has_escape;
        read_string(has_escape);
        skip_colon();
    }

    // What begins no other value must be a number.
    void skip_scalar() {
        bool has_escape;
        switch (*p) {
            case '"': read_string(has_escape); break;
            case 't': skip_literal("true"); break;
            case 'f': skip_literal("false"); break;
            case 'n': skip_literal("null"); break;
            case 'N': skip_literal("NaN"); break;
            case 'I': skip_literal("Infinity"); break;
            default: skip_number();
        }
    }

    // Stops at the first character that is another.
    void skip_literal(const char* name) {
        for (; *name; ++name) expect(*name);
    }

    // The grammar of scan_decimal, without the value and so eight digits at a time.
    void skip_number() {
        if (accept('-') && *p == 'I') {
            skip_literal("Infinity");
            return;
        }
        if (!accept('0')) skip_digits();
        if (accept('.')) skip_digits();
        if ((*p | 0x20) == 'e') {
            ++p;
            if (*p == '+' || *p == '-') ++p;
            skip_digits();
        }
    }

    // At least one.
    void skip_digits() {
        int count = count_digits(p);
        if (!count) throw Malformed{};
        for (; count == 8; count = count_digits(p)) p += 8;
        p += count;
    }

    // Any number has a double; an integer that int64 holds is kept exactly, too.
    void read_number(Value& value) {
        Decimal decimal;
        if (!scan_decimal<true>(p, decimal)) {
            read_constant(value, decimal);
            return;
        }
        if (decimal.is_integer && fits_int64(decimal)) {
            const uint64_t bits = decimal.is_negative ? 0 - decimal.mantissa : decimal.mantissa;
            value.kind = Kind::kInteger;
            value.integer = static_cast<int64_t>(bits);
            value.number = static_cast<double>(value.integer);
        } else {
            value.kind = decimal.is_integer ? Kind::kLargeInteger : Kind::kFloat;
            value.number = nearest_double(decimal);
        }
    }

    // What is no number of JSON, but written by json.dump and pandas; `decimal` is what was read
    // before, at most a sign. Seldom, so kept out of the way of numbers.
    [[gnu::noinline, gnu::cold]] void read_constant(Value& value, const Decimal& decimal) {
        const bool is_negative = decimal.is_negative;
        if (p != decimal.begin + is_negative) throw Malformed{};
        const double infinity = std::numeric_limits<double>::infinity();
        const bool is_nan = *p == 'N' && !is_negative;
        value.kind = Kind::kFloat;
        value.number = is_nan        ? std::numeric_limits<double>::quiet_NaN()
                       : is_negative ? -infinity
                                     : infinity;
        skip_literal(is_nan ? "NaN" : "Infinity");
    }

    static bool fits_int64(const Decimal& decimal) {
        constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
        return decimal.digits <= 19 && decimal.mantissa <= kMax + decimal.is_negative;
    }

    // From its quote on. With a surrogate that has no partner it is no text: Python could not write
    // it.
    void read_text(Value& value, std::deque<std::string>& decoded) {
        bool has_escape;
        value.kind = Kind::kText;
        value.text = read_string(has_escape);
        if (!has_escape) return;
        decoded.emplace_back();
        if (!unescape(value.text, decoded.back())) value.kind = Kind::kOther;
        value.text = decoded.back();
    }

    // Four numbers, or any other array.
    void read_box(Value& value) {
        const char* begin = p;
        const int outside = depth;
        value.kind = Kind::kBox;
        if (read_four_numbers(value.box)) return;
        p = begin;
        depth = outside;
        value.kind = Kind::kOther;
        skip_value();
    }

    // From its bracket on. False, with the cursor anywhere within it, if the array holds anything
    // else.
    bool read_four_numbers(double* box) {
        Value number;
        open('[');
        for (int i = 0; i < 4; ++i) {
            skip_space();
            if (!is_digit(*p) && *p != '-') return false;
            read_number(number);
            box[i] = number.number;
            skip_space();
            if (i < 3 && !accept(',')) return false;
        }
        if (*p != ']') return false;
        close(']');
        return true;
    }
};

}  // namespace upmap::json
