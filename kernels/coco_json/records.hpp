// JSON objects into columns: which keys each kind of record has, and what they must hold.
#pragma once
#include <array>
#include <cmath>
#include <vector>

#include "kernels/coco_json/source.hpp"

namespace upmap::json {

constexpr double LARGEST_EXACT = 9007199254740992.0;  // 2^53: up to here a float is a whole number

// A column of ids: all numbers, or all strings.
struct Ids {
    std::vector<int64_t> numbers;
    std::vector<std::string> texts;

    bool push(const Value& value, bool may_be_text) {
        if (value.kind == Kind::INTEGER) {
            numbers.push_back(value.integer);
        } else if (value.kind == Kind::FLOAT && std::abs(value.number) <= LARGEST_EXACT &&
                   value.number == std::trunc(value.number)) {
            numbers.push_back(static_cast<int64_t>(value.number));
        } else if (value.kind == Kind::TEXT && may_be_text) {
            texts.emplace_back(value.text);
        } else {
            return false;
        }
        return true;
    }
};

inline bool push_number(std::vector<double>& column, const Value& value, double otherwise) {
    if (value.kind == Kind::MISSING) {
        column.push_back(otherwise);
        return true;
    }
    column.push_back(value.number);
    return value.is_number() && std::isfinite(value.number);
}

inline bool push_text(std::vector<std::string>& column, const Value& value) {
    column.emplace_back(value.text);
    return value.kind == Kind::TEXT || value.kind == Kind::MISSING;
}

// COCO's x, y, width, height as corners and sides.
inline bool push_box(std::vector<double>& box, std::vector<double>& size, const Value& value) {
    const double* b = value.box;
    box.insert(box.end(), {b[0], b[1], b[2] + b[0], b[3] + b[1]});
    size.insert(size.end(), {b[2], b[3]});
    return value.kind == Kind::BOX && std::isfinite(b[0]) && std::isfinite(b[1]) &&
           std::isfinite(b[2]) && std::isfinite(b[3]);
}

// A flag that is no part of the format: whatever is no true value is no mark, and no error.
inline void push_mark(std::vector<uint8_t>& column, const Value& value) {
    column.push_back(value.kind == Kind::TRUE || (value.is_number() && value.number != 0));
}

inline bool push_flag(std::vector<uint8_t>& column, const Value& value) {
    push_mark(column, value);
    return value.is_number() || value.kind == Kind::TRUE || value.kind == Kind::FALSE ||
           value.kind == Kind::MISSING;
}

// Each kind of record: its keys; `push`, which takes their values and says whether they will do; the
// columns of numbers by name and width, and of text; and how short a record may be that will do, bytes,
// or 0 where there are few.
struct Images {
    static constexpr std::array<std::string_view, 4> KEYS{"id", "file_name", "width", "height"};
    static constexpr int64_t SHORTEST = 0;
    Ids id;
    std::vector<std::string> file_name;
    std::vector<double> size;

    bool push(const std::array<Value, 4>& v) {
        const bool has_id = id.push(v[0], true), has_name = push_text(file_name, v[1]);
        const bool has_width = push_number(size, v[2], 0), has_height = push_number(size, v[3], 0);
        return has_id && has_name && has_width && has_height;
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
    const Ids& image_ids() const { return id; }
};

struct Categories {
    static constexpr std::array<std::string_view, 2> KEYS{"id", "name"};
    static constexpr int64_t SHORTEST = 0;
    Ids id;
    std::vector<std::string> name;

    bool push(const std::array<Value, 2>& v) {
        const bool has_id = id.push(v[0], false), has_name = push_text(name, v[1]);
        return has_id && has_name;
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
    static constexpr std::array<std::string_view, 7> KEYS{"id",   "image_id", "category_id", "bbox",
                                                          "area", "iscrowd",  "difficult"};
    static constexpr int64_t SHORTEST = 50;
    Ids id, image_id, category_id;
    std::vector<double> box, size, area;  // area NaN where there is none
    std::vector<uint8_t> crowd, difficult;

    bool push(const std::array<Value, 7>& v) {
        const bool has_ids =
            id.push(v[0], false) & image_id.push(v[1], true) & category_id.push(v[2], false);
        const bool has_box = push_box(box, size, v[3]);
        const double none = std::numeric_limits<double>::quiet_NaN();
        const bool has_area = push_number(area, v[4].kind == Kind::NONE ? Value{} : v[4], none);
        const bool has_flag = push_flag(crowd, v[5]);
        push_mark(difficult, v[6]);
        return has_ids && has_box && has_area && has_flag;
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
    static constexpr std::array<std::string_view, 4> KEYS{"image_id", "category_id", "bbox",
                                                          "score"};
    static constexpr int64_t SHORTEST = 50;
    Ids image_id, category_id;
    std::vector<double> box, size, score;

    bool push(const std::array<Value, 4>& v) {
        const bool has_ids = image_id.push(v[0], true) & category_id.push(v[1], false);
        const bool has_box = push_box(box, size, v[2]);
        const bool has_score = push_number(score, v[3], 0) && v[3].kind != Kind::MISSING;
        return has_ids && has_box && has_score;
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

// The keys of one kind of record, found where they were found in the record before.
template <class Columns>
class KeyReader {
  public:
    static constexpr int COUNT = static_cast<int>(Columns::KEYS.size()), MOST = 16;

    KeyReader() {
        for (int k = 0; k < COUNT; ++k) {
            char quoted[16] = {}, used[16] = {};
            const std::string_view name = Columns::KEYS[static_cast<size_t>(k)];
            std::memcpy(quoted, name.data(), name.size());
            quoted[name.size()] = '"';
            std::memset(used, -1, name.size() + 1);
            patterns_[k] = {word(quoted), word(quoted + 8), word(used), word(used + 8),
                            static_cast<int>(name.size()) + 2};
        }
    }

    // Reads the key that stands `place`-th in its record: its number, or -1 if it is not wanted.
    int read(Cursor& cursor, int place) {
        int& guess = guesses_[place < MOST ? place : MOST - 1];
        if (guess >= 0 && *cursor.p == '"' && patterns_[guess].stands_at(cursor.p + 1)) {
            cursor.p += patterns_[guess].length;
            return guess;
        }
        return guess = searched(cursor);
    }

  private:
    struct Pattern {
        uint64_t low, high, low_used, high_used;
        int length;
        bool stands_at(const char* p) const {
            return !(((word(p) ^ low) & low_used) | ((word(p + 8) ^ high) & high_used));
        }
    };
    Pattern patterns_[COUNT];
    int guesses_[MOST] = {};
    std::string decoded_;

    int searched(Cursor& cursor) {
        bool has_escape;
        std::string_view name = cursor.string(has_escape);
        if (has_escape) {
            if (!Cursor::unescape(name, decoded_)) return -1;
            name = decoded_;
        }
        for (int k = 0; k < COUNT; ++k)
            if (Columns::KEYS[static_cast<size_t>(k)] == name) return k;
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
    int64_t wrong = -1, wrong_begin = 0, wrong_end = 0;  // the first wrong record: number, offsets
    bool is_last = false, is_malformed = false;
    Columns columns;

    bool is_end() const { return is_last || is_malformed; }
    bool is_right() const { return wrong < 0 && !is_malformed; }
    void clear() {
        stop = records = last_begin = wrong_begin = wrong_end = 0;
        wrong = -1;
        is_last = is_malformed = false;
        columns.each([](const char*, auto& column, size_t) { column.clear(); });
        columns.each_text([](const char*, auto& column) { column.clear(); });
    }
};

template <class Columns>
class PieceReader {
  public:
    PieceReader(const Source& source, int depth)
        : depth_(depth), window_(source), cursor_(nullptr, depth) {}

    // Reads records from offset `begin` on until one begins at `limit` or beyond, the array ends, or
    // `is_wanted` says no. What is cut off by the end of the window is read again in a larger one.
    template <class IsWanted>
    void read(Piece<Columns>& piece, int64_t begin, int64_t limit, const IsWanted& is_wanted) {
        for (int64_t length = std::min(limit - begin, LONGEST) + BEYOND;; length *= 2) {
            window_.load(begin, begin + length);
            read_window(piece, limit, is_wanted);
            if (!window_.cut_off(cursor_.p)) return;
        }
    }

  private:
    static constexpr int64_t LONGEST = 1 << 21;  // bytes to begin with
    static constexpr int64_t BEYOND = 64;        // bytes: a right limit is not cut off

    int depth_;
    Window window_;
    Cursor cursor_;
    KeyReader<Columns> keys_;
    std::array<Value, Columns::KEYS.size()> values_;
    std::deque<std::string> decoded_;

    template <class IsWanted>
    void read_window(Piece<Columns>& piece, int64_t limit, const IsWanted& is_wanted) {
        piece.clear();
        cursor_ = Cursor(window_.begin(), depth_);
        try {
            while (is_wanted()) {
                record(piece);
                cursor_.space();
                piece.is_last = !cursor_.accept(',');
                if (piece.is_last) {
                    cursor_.close(']');
                    break;
                }
                cursor_.space();
                if (window_.offset(cursor_.p) >= limit) break;
            }
        } catch (const Malformed&) {
            piece.is_malformed = true;
        }
        piece.stop = window_.offset(cursor_.p);
    }

    void record(Piece<Columns>& piece) {
        piece.last_begin = window_.offset(cursor_.p);
        const bool is_object = *cursor_.p == '{';
        for (Value& value : values_) value.kind = Kind::MISSING, value.text = {};
        is_object ? fields() : cursor_.skip();
        const bool is_right = is_object && piece.columns.push(values_);
        if (!is_right && piece.wrong < 0) {
            piece.wrong = piece.records;
            piece.wrong_begin = piece.last_begin;
            piece.wrong_end = window_.offset(cursor_.p);
        }
        ++piece.records;
        if (!decoded_.empty()) decoded_.clear();
    }

    void fields() {
        cursor_.open('{');
        cursor_.space();
        if (*cursor_.p == '}') return cursor_.close('}');
        for (int place = 0;; ++place) {
            const int key = keys_.read(cursor_, place);
            cursor_.colon();
            if (key < 0)
                cursor_.skip();
            else
                cursor_.value(values_[static_cast<size_t>(key)], decoded_);
            cursor_.space();
            if (!cursor_.accept(',')) return cursor_.close('}');
            cursor_.space();
        }
    }
};

}  // namespace upmap::json
