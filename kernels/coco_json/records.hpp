// JSON objects into columns: which keys each kind of record has, and what they must hold.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/coco_json/scanner.hpp"
#include "kernels/source.hpp"

namespace upmap::json {

constexpr double kMaxExact = 9007199254740992.0;  // 2^53: up to here a float is a whole number

// The functions called push take a value into a column, always, and return whether it will do.

// Of an annotation without a usable id, and in place of null; contract.py.
constexpr int64_t kNoId = std::numeric_limits<int64_t>::min();
constexpr double kLargestSide = 2147483648.0;  // px; contract.py

// Whether a value is an integer, or a float without a fraction; `integer` is it then.
inline bool is_whole(const Value& value, int64_t& integer) {
    integer = value.integer;
    if (value.kind == Kind::kInteger) return integer != kNoId;
    if (value.kind != Kind::kFloat || !(std::abs(value.number) <= kMaxExact) ||
        value.number != std::trunc(value.number))
        return false;
    integer = static_cast<int64_t>(value.number);
    return true;
}

// A column of ids: all numbers, or all strings. What else the reference reads is left to it.
struct Ids {
    std::vector<int64_t> numbers;
    std::vector<std::string> texts;

    bool push(const Value& value, bool may_be_text, bool may_be_null) {
        if (value.kind == Kind::kInteger && value.integer != kNoId) {
            numbers.push_back(value.integer);
            return true;
        }
        return push_unusual(value, may_be_text, may_be_null);
    }

    bool push_unusual(const Value& value, bool may_be_text, bool may_be_null) {
        int64_t integer;
        if (is_whole(value, integer)) {
            numbers.push_back(integer);
        } else if (value.kind == Kind::kText && may_be_text) {
            texts.emplace_back(value.text);
        } else if (value.kind == Kind::kNull && may_be_null) {
            numbers.push_back(kNoId);
        } else {
            return false;
        }
        return true;
    }

    // An id that no number depends on.
    void push_any(const Value& value) {
        int64_t integer;
        numbers.push_back(is_whole(value, integer) ? integer : kNoId);
    }
};

// A number that is finite; `otherwise` where there is none.
inline bool push_number(std::vector<double>& column, const Value& value, double otherwise) {
    if (value.kind == Kind::kMissing) {
        column.push_back(otherwise);
        return true;
    }
    column.push_back(value.number);
    return value.is_number() && std::isfinite(value.number);
}

// A side of an image, px; 0 for what is none.
inline void push_side(std::vector<double>& column, const Value& value) {
    const bool is_side = value.is_number() && value.number >= 0 && value.number <= kLargestSide;
    column.push_back(is_side ? value.number : 0.0);
}

// A name: text, the digits of an integer, or nothing for all else.
inline void push_name(std::vector<std::string>& column, const Value& value) {
    if (value.kind == Kind::kText)
        column.emplace_back(value.text);
    else if (value.kind == Kind::kInteger)
        column.push_back(std::to_string(value.integer));
    else
        column.emplace_back();
}

// COCO's x, y, width, height as corners and sides.
inline bool push_box(std::vector<double>& box, std::vector<double>& size, const Value& value) {
    const double* b = value.box;
    box.insert(box.end(), {b[0], b[1], b[2] + b[0], b[3] + b[1]});
    size.insert(size.end(), {b[2], b[3]});
    return value.kind == Kind::kBox && std::isfinite(b[0]) && std::isfinite(b[1]) &&
           std::isfinite(b[2]) && std::isfinite(b[3]);
}

// A mark that is no part of the format: whatever is not true is false, and no error.
inline void push_mark(std::vector<uint8_t>& column, const Value& value) {
    column.push_back(value.kind == Kind::kTrue || (value.is_number() && value.number != 0));
}

// A mark that is part of the format: a number or a boolean, or nothing.
inline bool push_flag(std::vector<uint8_t>& column, const Value& value) {
    push_mark(column, value);
    return value.is_number() || value.kind == Kind::kTrue || value.kind == Kind::kFalse ||
           value.kind == Kind::kMissing || value.kind == Kind::kNull;
}

// Each kind of record has its keys; `push`, which takes their values in that order; the columns of
// numbers by name and width (`each`), and of text (`each_text`); and how many bytes the shortest
// record that will do has, or 0 where there are few records.
struct Images {
    static constexpr std::array<std::string_view, 4> kKeys{"id", "file_name", "width", "height"};
    static constexpr int64_t kMinBytes = 0;
    Ids id;
    std::vector<std::string> file_name;
    std::vector<double> size;

    bool push(const std::array<Value, 4>& v) {
        push_name(file_name, v[1]);
        push_side(size, v[2]);
        push_side(size, v[3]);
        return id.push(v[0], true, false);
    }
    template <class Visit>
    void each(const Visit& visit) {
        visit("image_id", id.numbers, 1);
        visit("image_size", size, 2);
    }
    template <class Visit>
    void each_text(const Visit& visit) {
        visit("image_id", id.texts);
        visit("file_name", file_name);
    }
    // The ids that must be all numbers or all texts.
    const Ids& image_ids() const { return id; }
};

struct Categories {
    static constexpr std::array<std::string_view, 2> kKeys{"id", "name"};
    static constexpr int64_t kMinBytes = 0;
    Ids id;
    std::vector<std::string> name;

    bool push(const std::array<Value, 2>& v) {
        push_name(name, v[1]);
        return id.push(v[0], false, false);
    }
    template <class Visit>
    void each(const Visit& visit) {
        visit("category_id", id.numbers, 1);
    }
    template <class Visit>
    void each_text(const Visit& visit) {
        visit("category_name", name);
    }
    const Ids& image_ids() const { return id; }
};

struct Annotations {
    static constexpr std::array<std::string_view, 7> kKeys{
        "id", "image_id", "category_id", "bbox", "area", "iscrowd", "difficult"};
    static constexpr int64_t kMinBytes = 40;
    Ids id, image_id, category_id;
    std::vector<double> box, size, area;  // area NaN where there is none
    std::vector<uint8_t> crowd, difficult;

    bool push(const std::array<Value, 7>& v) {
        id.push_any(v[0]);
        const bool has_image = image_id.push(v[1], true, true);
        const bool has_category = category_id.push(v[2], false, true);
        const bool has_box = push_box(box, size, v[3]);
        const double no_area = std::numeric_limits<double>::quiet_NaN();
        const bool has_area = push_number(area, v[4].kind == Kind::kNull ? Value{} : v[4], no_area);
        const bool has_flag = push_flag(crowd, v[5]);
        push_mark(difficult, v[6]);
        return has_image && has_category && has_box && has_area && has_flag;
    }
    template <class Visit>
    void each(const Visit& visit) {
        visit("annotation_id", id.numbers, 1);
        visit("annotation_image_id", image_id.numbers, 1);
        visit("annotation_category_id", category_id.numbers, 1);
        visit("box", box, 4);
        visit("size", size, 2);
        visit("area", area, 1);
        visit("crowd", crowd, 1);
        visit("difficult", difficult, 1);
    }
    template <class Visit>
    void each_text(const Visit& visit) {
        visit("annotation_image_id", image_id.texts);
    }
    const Ids& image_ids() const { return image_id; }
};

struct Results {
    static constexpr std::array<std::string_view, 4> kKeys{"image_id", "category_id", "bbox",
                                                           "score"};
    static constexpr int64_t kMinBytes = 50;
    Ids image_id, category_id;
    std::vector<double> box, size, score;

    bool push(const std::array<Value, 4>& v) {
        const bool has_image = image_id.push(v[0], true, true);
        const bool has_category = category_id.push(v[1], false, true);
        const bool has_box = push_box(box, size, v[2]);
        const bool has_score = push_number(score, v[3], 0) && v[3].kind != Kind::kMissing;
        return has_image && has_category && has_box && has_score;
    }
    template <class Visit>
    void each(const Visit& visit) {
        visit("image_id", image_id.numbers, 1);
        visit("category_id", category_id.numbers, 1);
        visit("box", box, 4);
        visit("size", size, 2);
        visit("score", score, 1);
    }
    template <class Visit>
    void each_text(const Visit& visit) {
        visit("image_id", image_id.texts);
    }
    const Ids& image_ids() const { return image_id; }
};

// Reads keys of one kind of record. The next record usually has its keys in the same order, so each
// key is first compared with what stood at its position before.
template <class Columns>
class KeyReader {
  public:
    KeyReader() {
        for (size_t k = 0; k < kCount; ++k) patterns_[k] = Pattern(Columns::kKeys[k]);
    }

    // Reads the key that stands `position`-th in its record: its index, or -1 if it is none of
    // them.
    int read(Cursor& cursor, size_t position) {
        int& guess = guesses_[std::min(position, kMaxPositions - 1)];
        if (guess >= 0 && *cursor.p == '"') {
            const Pattern& pattern = patterns_[static_cast<size_t>(guess)];
            if (pattern.stands_at(cursor.p + 1)) {
                cursor.p += pattern.length;
                return guess;
            }
        }
        guess = search(cursor);
        return guess;
    }

  private:
    // A key and its closing quote as two words, with masks of the bytes that count.
    struct Pattern {
        uint64_t low = 0, high = 0, low_mask = 0, high_mask = 0;
        size_t length = 0;  // with both quotes

        Pattern() = default;
        explicit Pattern(std::string_view key) : length(key.size() + 2) {
            char bytes[16] = {}, mask[16] = {};
            std::memcpy(bytes, key.data(), key.size());
            bytes[key.size()] = '"';
            std::memset(mask, -1, key.size() + 1);
            low = load_word(bytes);
            high = load_word(bytes + 8);
            low_mask = load_word(mask);
            high_mask = load_word(mask + 8);
        }
        bool stands_at(const char* p) const {
            return !(((load_word(p) ^ low) & low_mask) | ((load_word(p + 8) ^ high) & high_mask));
        }
    };
    static constexpr size_t kCount = Columns::kKeys.size();
    static constexpr size_t kMaxPositions = 16;  // all keys behind share the last guess

    Pattern patterns_[kCount];
    int guesses_[kMaxPositions] = {};
    std::string decoded_;

    // Compares with all keys; the name may have escapes.
    int search(Cursor& cursor) {
        bool has_escape;
        std::string_view name = cursor.read_string(has_escape);
        if (has_escape) {
            if (!Cursor::unescape(name, decoded_)) return -1;
            name = decoded_;
        }
        for (size_t k = 0; k < kCount; ++k)
            if (Columns::kKeys[k] == name) return static_cast<int>(k);
        return -1;
    }
};

// Some of an array's records. Whether they are what they should be is judged when all are known: a
// key that stands twice counts as it stands last, so a wrong array may be replaced by a right one.
template <class Columns>
struct Piece {
    int64_t stop = 0;  // the offset where the next record begins, or behind the array's "]"
    int64_t records = 0;
    int64_t last_begin = 0;  // the offset of the last record that was begun
    int64_t wrong = -1, wrong_begin = 0, wrong_end = 0;  // the first wrong record: index, offsets
    bool is_last = false, is_malformed = false;
    Columns columns;

    bool is_end() const { return is_last || is_malformed; }
    bool is_right() const { return wrong < 0 && !is_malformed; }

    // Empties it; the columns keep their memory.
    void clear() {
        stop = records = last_begin = wrong_begin = wrong_end = 0;
        wrong = -1;
        is_last = is_malformed = false;
        columns.each([](const char*, auto& column, size_t) { column.clear(); });
        columns.each_text([](const char*, auto& column) { column.clear(); });
    }
};

// Reads pieces of an array of records, in memory that is used again.
template <class Columns>
class PieceReader {
  public:
    // `depth`: of the brackets that enclose the records.
    PieceReader(const Source& source, int depth)
        : depth_(depth), window_(source), cursor_(nullptr, depth) {}

    // Reads records from offset `begin` on until one begins at `limit` or beyond, the array ends,
    // or `should_go_on` says no. What the end of the window cuts off is read again in a larger one.
    template <class ShouldGoOn>
    void read(Piece<Columns>& piece, int64_t begin, int64_t limit, const ShouldGoOn& should_go_on) {
        for (int64_t length = std::min(limit - begin, kMaxFirstLength) + kMargin;; length *= 2) {
            window_.load(begin, begin + length);
            read_window(piece, limit, should_go_on);
            if (!window_.may_cut_off(cursor_.p)) return;
        }
    }

  private:
    static constexpr int64_t kMaxFirstLength = 1 << 21;  // bytes
    static constexpr int64_t kMargin = 64;               // bytes: a right limit is not cut off

    int depth_;
    Window window_;
    Cursor cursor_;
    KeyReader<Columns> keys_;
    std::array<Value, Columns::kKeys.size()> values_;
    std::deque<std::string> decoded_;  // texts of a record that had escapes

    // Reads records from the window's beginning on. What is malformed ends the piece: it may only
    // be cut off.
    template <class ShouldGoOn>
    void read_window(Piece<Columns>& piece, int64_t limit, const ShouldGoOn& should_go_on) {
        piece.clear();
        cursor_ = Cursor(window_.begin(), depth_);
        try {
            while (should_go_on()) {
                read_record(piece);
                cursor_.skip_space();
                piece.is_last = !cursor_.accept(',');
                if (piece.is_last) {
                    cursor_.close(']');
                    break;
                }
                cursor_.skip_space();
                if (window_.offset(cursor_.p) >= limit) break;
            }
        } catch (const Malformed&) {
            piece.is_malformed = true;
        }
        piece.stop = window_.offset(cursor_.p);
    }

    // What is no object counts as a wrong record.
    void read_record(Piece<Columns>& piece) {
        piece.last_begin = window_.offset(cursor_.p);
        const bool is_object = *cursor_.p == '{';
        for (Value& value : values_) {
            value.kind = Kind::kMissing;
            value.text = {};
        }
        if (is_object)
            read_fields();
        else
            cursor_.skip_value();
        const bool is_right = is_object && piece.columns.push(values_);
        if (!is_right && piece.wrong < 0) {
            piece.wrong = piece.records;
            piece.wrong_begin = piece.last_begin;
            piece.wrong_end = window_.offset(cursor_.p);
        }
        ++piece.records;
        if (!decoded_.empty()) decoded_.clear();
    }

    // Of an object; a key that stands twice counts as it stands last.
    void read_fields() {
        cursor_.open('{');
        cursor_.skip_space();
        if (*cursor_.p != '}') {
            for (size_t position = 0;; ++position) {
                const int key = keys_.read(cursor_, position);
                cursor_.skip_colon();
                if (key < 0)
                    cursor_.skip_value();
                else
                    cursor_.read_value(values_[static_cast<size_t>(key)], decoded_);
                cursor_.skip_space();
                if (!cursor_.accept(',')) break;
                cursor_.skip_space();
            }
        }
        cursor_.close('}');
    }
};

}  // namespace upmap::json
