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
constexpr int64_t PIECE =
    UPMAP_JSON_PIECE;  // bytes: a millisecond of work, whose columns stay in the cache

// The offset where a record seems to begin, behind "}," at `from` or later; the source's end if nowhere
// near. What is too long for the window, such as white space without end, is no beginning.
inline int64_t guessed_start(const Source& source, Window& window, int64_t from) {
    constexpr int64_t LENGTH = 1 << 13;  // bytes
    while (from < source.end()) {
        window.load(from, from + LENGTH);
        const char* p = window.begin();
        for (;;) {
            const void* brace = std::memchr(p, '}', static_cast<size_t>(window.end() - p));
            if (!brace) break;
            p = static_cast<const char*>(brace);
            Cursor cursor(++p, 0);
            cursor.space();
            if (!cursor.accept(',')) continue;
            cursor.space();
            if (*cursor.p == '{') return window.offset(cursor.p);
        }
        from = window.offset(window.end());
    }
    return source.end();
}

// What a text was refused for, and where, by offsets in the file; kernels/coco_json/explanation.py makes a
// sentence of it.
struct Refusal {
    const char* kind;    // "malformed", "whole", "section", "record" or "ids"
    const char* within;  // the key of the section; of malformed text, the brackets that enclose it
    int64_t record;      // its number in the section
    int64_t begin,
        end;  // of the wrong value, -1 if missing; of malformed text, what was begun and where
              // it went wrong
};

// What stands outside of the arrays of records, read step by step.
class Outline {
  public:
    int64_t position;  // the offset where the next step begins
    int depth = 0;

    explicit Outline(const Source& text) : position(text.begin()), source(text), window_(text) {}

    // Calls `read` with a cursor at `position`, and moves on to where it leaves the cursor; may call it
    // again with more of the text. Throws a Refusal that names what encloses the step.
    template <class Read>
    void step(const char* within, const Read& read) {
        for (int64_t length = 1 << 16;; length *= 2) {
            window_.load(position, position + length);
            Cursor cursor(window_.begin(), depth);
            bool is_malformed = false;
            try {
                read(cursor);
            } catch (const Malformed&) {
                is_malformed = true;
            }
            if (window_.cut_off(cursor.p)) continue;
            const int64_t stop = window_.offset(cursor.p);
            if (is_malformed) throw Refusal{"malformed", within, 0, position, stop};
            position = stop;
            depth = cursor.depth;
            return;
        }
    }

    // Nothing but white space may follow the one value of a file.
    void finish() {
        step("", [&](Cursor& cursor) {
            cursor.space();
            if (window_.offset(cursor.p) != source.end()) throw Malformed{};
        });
    }

    const Source& source;

  private:
    Window window_;
};

// An array of records. Of many, the columns of numbers lie in memory of their own, in the order of
// `each`; the texts, and all columns of few, are in `columns`.
template <class Columns>
struct Section {
    static constexpr bool HAS_MANY = Columns::SHORTEST > 0;
    bool is_array = false, is_right = false, has_numbers = false;
    int64_t begin = -1, end = -1;  // the offsets of the value, if it is no array
    int64_t wrong = -1, wrong_begin = 0, wrong_end = 0;  // the first wrong record: number, offsets
    size_t records = 0;
    std::vector<Buffer<char>> numbers;
    Columns columns;

    bool has_texts() const { return !columns.image_ids().texts.empty(); }
};

template <class Columns>
class SectionReader {
  public:
    // `within`: the brackets that enclose the records.
    SectionReader(const Source& source, const char* within, int threads)
        : source_(source),
          within_(within),
          depth_(static_cast<int>(std::strlen(within))),
          threads_(threads) {}

    // Reads the array that begins where the outline is, and moves the outline behind it.
    void read(Outline& outline, Section<Columns>& section) {
        section = {};
        section.begin = outline.position;
        bool is_empty = false;
        outline.step(depth_ == 1 ? "" : "{", [&](Cursor& cursor) {
            section.is_array = *cursor.p == '[';
            if (!section.is_array) return cursor.skip();
            cursor.open('[');
            cursor.space();
            is_empty = *cursor.p == ']';
            if (is_empty) cursor.close(']');
        });
        section.end = outline.position;
        section.is_right = section.is_array;
        if (!section.is_array) return;
        if constexpr (Section<Columns>::HAS_MANY)
            make_room(section, is_empty ? 0 : source_.end() - outline.position);
        if (is_empty) return;
        cut(outline.position);
        read_pieces(section);
        if (is_malformed_) throw Refusal{"malformed", within_, 0, malformed_begin_, next_};
        outline.position = next_;
        --outline.depth;
    }

  private:
    const Source& source_;
    const char* within_;
    int depth_, threads_;
    std::vector<int64_t> begins_;         // of the pieces, offsets, all but the first guessed
    std::atomic<size_t> last_{SIZE_MAX};  // pieces behind this one are not wanted

    std::mutex lock_;  // of all below
    std::condition_variable turned_;
    size_t turn_ = 0;   // the piece that is to be added
    int64_t next_ = 0;  // the offset where the record behind those added begins
    int64_t malformed_begin_ = 0;
    bool is_over_ = false, is_malformed_ = false;

    // As much as the text could hold of right records: what is not used of it is never touched.
    static void make_room(Section<Columns>& section, int64_t bytes) {
        const auto most = static_cast<size_t>(bytes / Columns::SHORTEST + 1);
        section.columns.each([&](const char*, auto& column, size_t width) {
            section.numbers.emplace_back(most * width * sizeof(column[0]));
        });
    }

    void cut(int64_t begin) {
        Window window(source_);
        next_ = begin;
        begins_.push_back(begin);
        while (source_.end() - begin > 2 * PIECE) {
            begin = guessed_start(source_, window, begin + PIECE);
            if (begin == source_.end()) return;
            begins_.push_back(begin);
        }
    }

    // Where piece i is to stop; the last one goes on until the array ends.
    int64_t limit(size_t i) const {
        return i + 1 < begins_.size() ? begins_[i + 1] : source_.end() + 1;
    }

    void read_pieces(Section<Columns>& section) {
        upmap::parallel_workers(static_cast<int64_t>(begins_.size()), threads_, [&] {
            auto piece = std::make_unique<Piece<Columns>>();
            return [&, piece = std::move(piece),
                    reader = PieceReader<Columns>(source_, depth_)](int64_t task) mutable {
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
            reader.read(piece, begins_[i], limit(i), [&] { return last_ >= i; });
            if (piece.is_end()) lower_last(i);
        }
        std::unique_lock<std::mutex> guard(lock_);
        turned_.wait(guard, [&] { return turn_ == i || is_over_; });
        if (is_over_) return;
        const bool is_stepped_over = i + 1 < begins_.size() && limit(i) <= next_;
        const size_t first = section.records;
        if (!is_stepped_over) {
            if (begins_[i] != next_ ||
                (piece.stop < limit(i) && !piece.is_end())) {  // guessed wrong
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
    }

    void lower_last(size_t i) {
        size_t seen = last_;
        while (i < seen && !last_.compare_exchange_weak(seen, i)) {
        }
    }

    // Takes note of a piece, and moves its texts; of few records also the numbers.
    void add(Piece<Columns>& piece, Section<Columns>& section) {
        is_malformed_ = piece.is_malformed;
        malformed_begin_ = piece.last_begin;
        is_over_ = piece.is_end();
        if (section.wrong < 0 && piece.wrong >= 0) {
            section.wrong = static_cast<int64_t>(section.records) + piece.wrong;
            section.wrong_begin = piece.wrong_begin;
            section.wrong_end = piece.wrong_end;
        }
        section.is_right &= piece.is_right();
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

// Throws a Refusal unless the section is an array.
template <class Columns>
void require_array(const Section<Columns>& section, const char* key) {
    if (!section.is_array) throw Refusal{"section", key, -1, section.begin, section.end};
}

// Throws a Refusal unless all records are right, and image ids are all of one kind.
template <class Columns>
void require_right(const Section<Columns>& section, const char* key) {
    if (section.wrong >= 0)
        throw Refusal{"record", key, section.wrong, section.wrong_begin, section.wrong_end};
    if (section.has_numbers && section.has_texts()) throw Refusal{"ids", key, -1, 0, 0};
}

struct Instances {
    Section<Images> images;
    Section<Annotations> annotations;
    Section<Categories> categories;
};

// Moves over the one value of a file, where it is no such value as it should be, and refuses it.
[[noreturn]] inline void refuse_whole(Outline& outline) {
    const int64_t begin = outline.position;
    outline.step("", [](Cursor& cursor) { cursor.skip(); });
    const int64_t end = outline.position;
    outline.finish();
    throw Refusal{"whole", "", -1, begin, end};
}

// Reads the value of a key, and moves the outline behind it.
inline void read_value(Outline& outline, const std::string& key, int threads, Instances& out) {
    constexpr const char* WITHIN = "{[";
    if (key == "images")
        SectionReader<Images>(outline.source, WITHIN, threads).read(outline, out.images);
    else if (key == "annotations")
        SectionReader<Annotations>(outline.source, WITHIN, threads).read(outline, out.annotations);
    else if (key == "categories")
        SectionReader<Categories>(outline.source, WITHIN, threads).read(outline, out.categories);
    else
        outline.step("{", [](Cursor& cursor) { cursor.skip(); });
}

// The values of all keys of the object where the outline is.
inline void read_object(Outline& outline, int threads, Instances& out) {
    bool is_over = false;
    outline.step("", [&](Cursor& cursor) {
        cursor.open('{');
        cursor.space();
        is_over = *cursor.p == '}';
    });
    while (!is_over) {
        std::string key;
        outline.step("{", [&](Cursor& cursor) {
            bool has_escape;
            const std::string_view raw = cursor.string(has_escape);
            key = raw;
            if (has_escape && !Cursor::unescape(raw, key)) key.clear();
            cursor.colon();
        });
        read_value(outline, key, threads, out);
        outline.step("{", [&](Cursor& cursor) {
            cursor.space();
            is_over = !cursor.accept(',');
            if (!is_over) cursor.space();
        });
    }
    outline.step("{", [](Cursor& cursor) { cursor.close('}'); });
}

// The three arrays of an instances file. Throws a Refusal if it is no such file.
inline void read_instances(const Source& source, int threads, Instances& out) {
    Outline outline(source);
    bool is_object = false;
    outline.step("", [&](Cursor& cursor) {
        cursor.space();
        is_object = *cursor.p == '{';
    });
    if (!is_object) refuse_whole(outline);
    read_object(outline, threads, out);
    outline.finish();
    require_array(out.images, "images");
    require_array(out.annotations, "annotations");
    require_array(out.categories, "categories");
    require_right(out.images, "images");
    require_right(out.annotations, "annotations");
    require_right(out.categories, "categories");
}

// The array of a results file; see read_instances.
inline void read_results(const Source& source, int threads, Section<Results>& out) {
    Outline outline(source);
    bool is_array = false;
    outline.step("", [&](Cursor& cursor) {
        cursor.space();
        is_array = *cursor.p == '[';
    });
    if (!is_array) refuse_whole(outline);
    SectionReader<Results>(source, "[", threads).read(outline, out);
    outline.finish();
    require_right(out, "");
}

}  // namespace upmap::json
