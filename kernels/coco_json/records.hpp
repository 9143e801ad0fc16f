// Arrays of JSON objects into columns: which keys each kind of record has, and what they must hold.
//
// An array is read in pieces, by several threads at once. Where a piece begins is a guess (the next
// "}, {"), which the piece before it confirms by arriving there, or refutes by stepping over it; what
// a refuted guess led to is thrown away. So the result does not depend on the guesses. A thread reads
// a piece into small columns of its own, and once the pieces before are known, moves them to their
// place in the whole: the large memory is touched once.
#pragma once
#include <array>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/buffer.hpp"
#include "kernels/coco_json/scanner.hpp"
#include "kernels/parallel.hpp"

namespace upmap::json {

#if !defined(UPMAP_JSON_PIECE)
#define UPMAP_JSON_PIECE (1 << 19)  // a test may cut finer
#endif
constexpr int64_t PIECE = UPMAP_JSON_PIECE;  // bytes: a millisecond of work, whose columns stay in the cache
constexpr double LARGEST_EXACT = 9007199254740992.0;  // 2^53: up to here a float is a whole number

// The bytes that are read, and what to do once a range of them is done with.
struct Text {
    const char* begin;
    const char* end;  // followed by PADDING zero bytes
    void (*expected)(const char* begin, const char* end) = nullptr;  // will be read
    void (*done)(const char* begin, const char* end) = nullptr;      // was read
};

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

inline bool push_flag(std::vector<uint8_t>& column, const Value& value) {
    column.push_back(value.kind == Kind::TRUE || (value.is_number() && value.number != 0));
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
        const bool has_ids = id.push(v[0], false) & image_id.push(v[1], true) &
                             category_id.push(v[2], false);
        const bool has_box = push_box(box, size, v[3]);
        const double none = std::numeric_limits<double>::quiet_NaN();
        const bool has_area = push_number(area, v[4].kind == Kind::NONE ? Value{} : v[4], none);
        const bool has_flags = push_flag(crowd, v[5]) & push_flag(difficult, v[6]);
        return has_ids && has_box && has_area && has_flags;
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
    static constexpr std::array<std::string_view, 4> KEYS{"image_id", "category_id", "bbox", "score"};
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
    const char* stop = nullptr;  // where the next record begins, or behind the array's "]"
    int64_t records = 0;
    bool is_last = false, is_malformed = false, is_right = true;
    Columns columns;

    bool is_end() const { return is_last || is_malformed; }
    void clear() {
        stop = nullptr;
        records = 0;
        is_last = is_malformed = false;
        is_right = true;
        columns.each([](const char*, auto& column, size_t) { column.clear(); });
        columns.each_text([](const char*, auto& column) { column.clear(); });
    }
};

template <class Columns>
class PieceReader {
  public:
    explicit PieceReader(int depth) : depth_(depth), cursor_(nullptr, depth) {}

    // Reads records from `begin` on until one begins at `limit` or beyond, the array ends, or
    // `is_wanted` says no.
    template <class IsWanted>
    void read(Piece<Columns>& piece, const char* begin, const char* limit, const IsWanted& is_wanted) {
        piece.clear();
        cursor_ = Cursor(begin, depth_);
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
                if (cursor_.p >= limit) break;
            }
        } catch (const Malformed&) {
            piece.is_malformed = true;
        }
        piece.stop = cursor_.p;
    }

  private:
    int depth_;
    Cursor cursor_;
    KeyReader<Columns> keys_;
    std::array<Value, Columns::KEYS.size()> values_;
    std::deque<std::string> decoded_;

    void record(Piece<Columns>& piece) {
        ++piece.records;
        if (*cursor_.p != '{') {
            cursor_.skip();
            piece.is_right = false;
            return;
        }
        for (Value& value : values_) value.kind = Kind::MISSING, value.text = {};
        fields();
        if (!piece.columns.push(values_)) piece.is_right = false;
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

// Where a record seems to begin, behind "}," at `from` or later; `end` if nowhere near.
inline const char* guessed_start(const char* from, const char* end) {
    while (from < end) {
        const void* found = std::memchr(from, '}', static_cast<size_t>(end - from));
        if (!found) return end;
        Cursor cursor(static_cast<const char*>(found) + 1, 0);
        from = cursor.p;
        cursor.space();
        if (!cursor.accept(',')) continue;
        cursor.space();
        if (*cursor.p == '{' && cursor.p < end) return cursor.p;
    }
    return end;
}

// An array of records. Of many, the columns of numbers lie in memory of their own, in the order of
// `each`; the texts, and all columns of few, are in `columns`.
template <class Columns>
struct Section {
    static constexpr bool HAS_MANY = Columns::SHORTEST > 0;
    bool is_there = false, is_right = false, has_numbers = false;
    size_t records = 0;
    std::vector<Buffer<char>> numbers;
    Columns columns;

    bool has_texts() const { return !columns.image_ids().texts.empty(); }
};

template <class Columns>
class SectionReader {
  public:
    SectionReader(const Text& text, int depth, int threads)
        : text_(text), depth_(depth), threads_(threads) {}

    // Reads the array that begins at `cursor`, and moves the cursor behind it.
    void read(Cursor& cursor, Section<Columns>& section) {
        section = {};
        section.is_there = true;
        if (*cursor.p != '[') return cursor.skip();
        cursor.open('[');
        cursor.space();
        section.is_right = true;
        if constexpr (Section<Columns>::HAS_MANY)
            make_room(section, *cursor.p == ']' ? 0 : text_.end - cursor.p);
        if (*cursor.p == ']') return cursor.close(']');
        cut(cursor.p);
        read_pieces(section);
        if (is_malformed_) throw Malformed{};
        cursor.p = next_;
        --cursor.depth;
    }

  private:
    const Text& text_;
    int depth_, threads_;
    std::vector<const char*> begins_;  // of the pieces, all but the first guessed
    std::atomic<size_t> last_{SIZE_MAX};  // pieces behind this one are not wanted

    std::mutex lock_;  // of all below
    std::condition_variable turned_;
    size_t turn_ = 0;             // the piece that is to be added
    const char* next_ = nullptr;  // where the record behind those added begins
    bool is_over_ = false, is_malformed_ = false;

    // As much as the text could hold of right records: what is not used of it is never touched.
    static void make_room(Section<Columns>& section, int64_t bytes) {
        const auto most = static_cast<size_t>(bytes / Columns::SHORTEST + 1);
        section.columns.each([&](const char*, auto& column, size_t width) {
            section.numbers.emplace_back(most * width * sizeof(column[0]));
        });
    }

    void cut(const char* begin) {
        next_ = begin;
        begins_.push_back(begin);
        while (text_.end - begin > 2 * PIECE) {
            begin = guessed_start(begin + PIECE, text_.end);
            if (begin == text_.end) return;
            begins_.push_back(begin);
        }
    }

    // Where piece i is to stop; the last one goes on until the array ends.
    const char* limit(size_t i) const {
        return i + 1 < begins_.size() ? begins_[i + 1] : text_.end + 1;
    }

    void read_pieces(Section<Columns>& section) {
        upmap::parallel_workers(static_cast<int64_t>(begins_.size()), threads_, [&] {
            auto piece = std::make_unique<Piece<Columns>>();
            return [&, piece = std::move(piece), reader = PieceReader<Columns>(depth_)](int64_t task) mutable {
                try {
                    read_piece(static_cast<size_t>(task), *piece, reader, section);
                } catch (...) {
                    end();
                    throw;
                }
            };
        });
    }

    void end() {
        std::lock_guard<std::mutex> guard(lock_);
        is_over_ = true;
        turned_.notify_all();
    }

    void read_piece(size_t i, Piece<Columns>& piece, PieceReader<Columns>& reader,
                    Section<Columns>& section) {
        piece.clear();
        if (last_ >= i) {
            if (text_.expected) text_.expected(begins_[i], limit(i));
            reader.read(piece, begins_[i], limit(i), [&] { return last_ >= i; });
            if (piece.is_end()) lower_last(i);
        }
        std::unique_lock<std::mutex> guard(lock_);
        turned_.wait(guard, [&] { return turn_ == i || is_over_; });
        if (is_over_) return;
        const bool is_stepped_over = i + 1 < begins_.size() && limit(i) <= next_;
        const size_t first = section.records;
        if (!is_stepped_over) {
            if (begins_[i] != next_ || (piece.stop < limit(i) && !piece.is_end())) {  // guessed wrong
                reader.read(piece, next_, limit(i), [] { return true; });
                last_ = piece.is_end() ? i : SIZE_MAX;
            }
            add(piece, section);
        }
        // There is room for right records only: behind a wrong one nothing is kept.
        const bool is_kept = Section<Columns>::HAS_MANY && !is_stepped_over && section.is_right;
        ++turn_;
        turned_.notify_all();
        guard.unlock();
        if (is_kept) move_numbers(piece, first, section);
        if (text_.done) text_.done(begins_[i], limit(i));
    }

    void lower_last(size_t i) {
        size_t seen = last_;
        while (i < seen && !last_.compare_exchange_weak(seen, i)) {
        }
    }

    // Takes note of a piece, and moves its texts; of few records also the numbers.
    void add(Piece<Columns>& piece, Section<Columns>& section) {
        is_malformed_ = piece.is_malformed;
        is_over_ = piece.is_end();
        section.is_right &= piece.is_right && !piece.is_malformed;
        section.has_numbers |= !piece.columns.image_ids().numbers.empty();
        section.records += static_cast<size_t>(piece.records);
        next_ = piece.stop;
        std::vector<void*> whole;
        auto remember = [&](const char*, auto& column, auto...) { whole.push_back(&column); };
        size_t c = 0;
        auto append = [&](const char*, auto& column, auto...) {
            auto& to = *static_cast<std::decay_t<decltype(column)>*>(whole[c++]);
            to.insert(to.end(), std::make_move_iterator(column.begin()),
                      std::make_move_iterator(column.end()));
        };
        section.columns.each_text(remember);
        if constexpr (!Section<Columns>::HAS_MANY) section.columns.each(remember);
        piece.columns.each_text(append);
        if constexpr (!Section<Columns>::HAS_MANY) piece.columns.each(append);
    }

    static void move_numbers(Piece<Columns>& piece, size_t first, Section<Columns>& section) {
        size_t c = 0;
        piece.columns.each([&](const char*, auto& column, size_t width) {
            char* to = section.numbers[c++].data() + first * width * sizeof(column[0]);
            if (!column.empty()) std::memcpy(to, column.data(), column.size() * sizeof(column[0]));
        });
    }
};

// Whether an array is there, all of its records are right, and image ids are all of one kind.
template <class Columns>
bool is_right(const Section<Columns>& section) {
    return section.is_there && section.is_right && !(section.has_numbers && section.has_texts());
}

struct Instances {
    Section<Images> images;
    Section<Annotations> annotations;
    Section<Categories> categories;
};

// Nothing but white space may follow the one value of a file.
inline void finish(Cursor& cursor, const Text& text) {
    cursor.space();
    if (cursor.p != text.end) throw Malformed{};
}

// The three arrays of an instances file; throws Malformed if the text is not JSON. False if it is not
// such an object.
inline bool read_instances(const Text& text, int threads, Instances& out) {
    Cursor cursor(text.begin, 0);
    cursor.space();
    if (*cursor.p != '{') return false;
    cursor.open('{');
    cursor.space();
    if (*cursor.p == '}') return false;
    for (;;) {
        bool has_escape;
        std::string_view raw = cursor.string(has_escape);
        std::string key(raw);
        if (has_escape && !Cursor::unescape(raw, key)) key.clear();
        cursor.colon();
        if (key == "images")
            SectionReader<Images>(text, 2, threads).read(cursor, out.images);
        else if (key == "annotations")
            SectionReader<Annotations>(text, 2, threads).read(cursor, out.annotations);
        else if (key == "categories")
            SectionReader<Categories>(text, 2, threads).read(cursor, out.categories);
        else
            cursor.skip();
        cursor.space();
        if (!cursor.accept(',')) break;
        cursor.space();
    }
    cursor.close('}');
    finish(cursor, text);
    return is_right(out.images) && is_right(out.annotations) && is_right(out.categories);
}

// The array of a results file; see read_instances.
inline bool read_results(const Text& text, int threads, Section<Results>& out) {
    Cursor cursor(text.begin, 0);
    cursor.space();
    SectionReader<Results>(text, 1, threads).read(cursor, out);
    finish(cursor, text);
    return is_right(out);
}

}  // namespace upmap::json
