// Arrays of records, read in pieces by several threads at once.
//
// Where a piece begins is a guess (the next "}, {"), which the piece before it confirms by arriving
// there, or refutes by stepping over it; what a refuted guess led to is thrown away. So the result does
// not depend on the guesses. A thread reads a piece into small columns of its own, and once the pieces
// before are known, moves them to their place in the whole: the large memory is touched once.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <vector>

#include "kernels/buffer.hpp"
#include "kernels/coco_json/records.hpp"
#include "kernels/parallel.hpp"

namespace upmap::json {

#if !defined(UPMAP_JSON_PIECE)
#define UPMAP_JSON_PIECE (1 << 19)  // a test may cut finer
#endif
constexpr int64_t PIECE = UPMAP_JSON_PIECE;  // bytes: a millisecond of work, whose columns stay in the cache

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
