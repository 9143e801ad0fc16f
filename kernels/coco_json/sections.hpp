// Arrays of records, read in pieces by several threads at once.
//
// Where a piece begins is a guess (the next "}, {"), which the piece before it confirms by arriving
// there, or refutes by stepping over it; what a refuted guess led to is thrown away. So the result
// does not depend on the guesses. A thread reads a piece into small columns of its own, and once
// the pieces before are known, moves them to their place in the whole: the large memory is touched
// once.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kernels/buffer.hpp"
#include "kernels/coco_json/records.hpp"
#include "kernels/parallel.hpp"

namespace upmap::json {

#if !defined(UPMAP_JSON_PIECE)
#define UPMAP_JSON_PIECE (1 << 19)  // a test may cut finer
#endif
// Bytes of a piece: a millisecond of work, whose columns stay in the cache.
constexpr int64_t kPieceBytes = UPMAP_JSON_PIECE;

// The offset where a record seems to begin, behind "}," at `from` or later; the source's end if
// nowhere near. What is too long for the window, as white space without end, is no beginning.
inline int64_t guess_start(const Source& source, Window& window, int64_t from) {
    constexpr int64_t kLength = 1 << 13;  // bytes
    while (from < source.end()) {
        window.load(from, from + kLength);
        const char* p = window.begin();
        for (;;) {
            const void* brace = std::memchr(p, '}', static_cast<size_t>(window.end() - p));
            if (!brace) break;
            p = static_cast<const char*>(brace) + 1;
            Cursor cursor(p, 0);
            cursor.skip_space();
            if (!cursor.accept(',')) continue;
            cursor.skip_space();
            if (*cursor.p == '{') return window.offset(cursor.p);
        }
        from = window.offset(window.end());
    }
    return source.end();
}

// What a text was refused for, and where, by offsets in the file: thrown, and made a sentence by
// kernels/coco_json/explanation.py.
struct Refusal {
    const char* kind;    // "malformed", "whole", "section", "record" or "ids"
    const char* within;  // the key of the section; of malformed text, the brackets that enclose it
    int64_t record;      // its index in the section
    // Of the wrong value, begin -1 if it is missing; of malformed text, what was begun and where it
    // went wrong.
    int64_t begin, end;
};

// What stands outside of the arrays of records, read step by step.
class Outline {
  public:
    const Source& source;
    int64_t position;  // the offset where the next step begins
    int depth = 0;

    explicit Outline(const Source& text) : source(text), position(text.begin()), window_(text) {}

    // Calls `read` with a cursor at `position`, and moves on to where it leaves the cursor; may
    // call it again with more of the text. Throws a Refusal that names what encloses the step.
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
            if (window_.may_cut_off(cursor.p)) continue;
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
            cursor.skip_space();
            if (window_.offset(cursor.p) != source.end()) throw Malformed{};
        });
    }

  private:
    Window window_;
};

// An array of records. Of many, the columns of numbers lie in memory of their own, in the order of
// `each`; the texts, and all columns of few, are in `columns`.
template <class Columns>
struct Section {
    static constexpr bool kHasMany = Columns::kMinBytes > 0;
    bool is_array = false, is_right = false, has_numbers = false;
    int64_t begin = -1, end = -1;                        // the offsets of the value
    int64_t wrong = -1, wrong_begin = 0, wrong_end = 0;  // the first wrong record: index, offsets
    size_t records = 0;
    std::vector<Buffer<char>> numbers;
    Columns columns;

    bool has_texts() const { return !columns.image_ids().texts.empty(); }
};

// Reads one section; for another, make another reader.
template <class Columns>
class SectionReader {
  public:
    // `within`: the brackets that enclose the records.
    SectionReader(const Source& source, const char* within, int threads)
        : source_(source),
          within_(within),
          depth_(static_cast<int>(std::strlen(within))),
          threads_(threads) {}

    // Reads the array that begins where the outline is, and moves the outline behind it. A value
    // that is no array is stepped over, and left for require_array to refuse.
    void read(Outline& outline, Section<Columns>& section) {
        section = {};
        section.begin = outline.position;
        const bool is_empty = open_array(outline, section);
        section.end = outline.position;
        section.is_right = section.is_array;
        if (!section.is_array) return;
        if constexpr (Section<Columns>::kHasMany)
            reserve(section, is_empty ? 0 : source_.end() - outline.position);
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
    std::atomic<size_t> last_{SIZE_MAX};  // pieces behind this one need not be read

    std::mutex lock_;  // of all below
    std::condition_variable turn_changed_;
    size_t turn_ = 0;   // the piece that is to be added
    int64_t next_ = 0;  // the offset where the record behind those added begins
    int64_t malformed_begin_ = 0;
    bool is_over_ = false, is_malformed_ = false;

    // Whether the array is empty, and so closed again.
    bool open_array(Outline& outline, Section<Columns>& section) const {
        bool is_empty = false;
        outline.step(depth_ == 1 ? "" : "{", [&](Cursor& cursor) {
            section.is_array = *cursor.p == '[';
            if (!section.is_array) {
                cursor.skip_value();
                return;
            }
            cursor.open('[');
            cursor.skip_space();
            is_empty = *cursor.p == ']';
            if (is_empty) cursor.close(']');
        });
        return is_empty;
    }

    // As much as the text could hold of right records: what is not used of it is never touched, and
    // so costs no memory.
    static void reserve(Section<Columns>& section, int64_t bytes) {
        const auto max_records = static_cast<size_t>(bytes / Columns::kMinBytes + 1);
        section.columns.each([&](const char*, auto& column, size_t width) {
            section.numbers.emplace_back(max_records * width * sizeof(column[0]));
        });
    }

    // Guesses where the pieces of the array begin, the first at `begin`.
    void cut(int64_t begin) {
        Window window(source_);
        next_ = begin;
        begins_.push_back(begin);
        while (source_.end() - begin > 2 * kPieceBytes) {
            begin = guess_start(source_, window, begin + kPieceBytes);
            if (begin == source_.end()) return;
            begins_.push_back(begin);
        }
    }

    // Where piece i is to stop; the last one goes on until the array ends.
    int64_t limit(size_t i) const {
        return i + 1 < begins_.size() ? begins_[i + 1] : source_.end() + 1;
    }

    // Each piece waits for those before it, which other threads have taken: tasks ascend.
    void read_pieces(Section<Columns>& section) {
        upmap::parallel_workers(begins_.size(), threads_, [&] {
            auto piece = std::make_unique<Piece<Columns>>();
            return [&, piece = std::move(piece),
                    reader = PieceReader<Columns>(source_, depth_)](size_t i) mutable {
                try {
                    read_piece(i, *piece, reader, section);
                } catch (...) {
                    stop_waiting();  // for a turn that would never come
                    throw;
                }
            };
        });
    }

    void stop_waiting() {
        std::lock_guard<std::mutex> guard(lock_);
        is_over_ = true;
        turn_changed_.notify_all();
    }

    // Reads piece i by its guess, waits for its turn, and reads it again if the guess was wrong.
    void read_piece(size_t i, Piece<Columns>& piece, PieceReader<Columns>& reader,
                    Section<Columns>& section) {
        piece.clear();
        if (last_ >= i) {
            reader.read(piece, begins_[i], limit(i), [&] { return last_ >= i; });
            if (piece.is_end()) lower_last(i);
        }
        std::unique_lock<std::mutex> guard(lock_);
        turn_changed_.wait(guard, [&] { return turn_ == i || is_over_; });
        if (is_over_) return;
        const bool is_stepped_over = i + 1 < begins_.size() && limit(i) <= next_;
        const size_t first = section.records;
        if (!is_stepped_over) {
            const bool is_cut_short = piece.stop < limit(i) && !piece.is_end();
            if (begins_[i] != next_ || is_cut_short) {  // the guess, or that of an end, was wrong
                reader.read(piece, next_, limit(i), [] { return true; });
                last_ = piece.is_end() ? i : SIZE_MAX;
            }
            add(piece, section);
        }
        // There is room for right records only: behind a wrong one nothing is kept.
        const bool is_kept = Section<Columns>::kHasMany && !is_stepped_over && section.is_right;
        ++turn_;
        turn_changed_.notify_all();
        guard.unlock();
        if (is_kept) move_numbers(piece, first, section);
    }

    // To the first piece that ended the array, whichever thread comes first.
    void lower_last(size_t i) {
        size_t last = last_;
        while (i < last && !last_.compare_exchange_weak(last, i)) {
        }
    }

    // Takes note of a piece, and moves its texts; of few records also the numbers. Needs the lock.
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
        append_columns(piece.columns, section.columns);
    }

    // Visits the columns of both in the same order, first to note where they go, then to move them.
    static void append_columns(Columns& from, Columns& to) {
        std::vector<void*> targets;
        auto note = [&](const char*, auto& column, auto...) { targets.push_back(&column); };
        size_t c = 0;
        auto append = [&](const char*, auto& column, auto...) {
            auto& target = *static_cast<std::decay_t<decltype(column)>*>(targets[c++]);
            target.insert(target.end(), std::make_move_iterator(column.begin()),
                          std::make_move_iterator(column.end()));
        };
        to.each_text(note);
        if constexpr (!Section<Columns>::kHasMany) to.each(note);
        from.each_text(append);
        if constexpr (!Section<Columns>::kHasMany) from.each(append);
    }

    // To the rows from `first` on, which are this piece's alone: so without the lock.
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

// Refuses the one value of a file, which is of the wrong kind; as malformed if it is that, too.
[[noreturn]] inline void refuse_whole(Outline& outline) {
    const int64_t begin = outline.position;
    outline.step("", [](Cursor& cursor) { cursor.skip_value(); });
    const int64_t end = outline.position;
    outline.finish();
    throw Refusal{"whole", "", -1, begin, end};
}

// Reads the value of a key, and moves the outline behind it.
inline void read_value(Outline& outline, std::string_view key, int threads, Instances& out) {
    constexpr const char* kWithin = "{[";
    if (key == "images")
        SectionReader<Images>(outline.source, kWithin, threads).read(outline, out.images);
    else if (key == "annotations")
        SectionReader<Annotations>(outline.source, kWithin, threads).read(outline, out.annotations);
    else if (key == "categories")
        SectionReader<Categories>(outline.source, kWithin, threads).read(outline, out.categories);
    else
        outline.step("{", [](Cursor& cursor) { cursor.skip_value(); });
}

// Reads a key and its colon.
inline std::string read_key(Outline& outline) {
    std::string key;
    outline.step("{", [&](Cursor& cursor) {
        bool has_escape;
        const std::string_view raw = cursor.read_string(has_escape);
        key = raw;
        if (has_escape && !Cursor::unescape(raw, key)) key.clear();
        cursor.skip_colon();
    });
    return key;
}

// Reads the values of all keys of the object where the outline is.
inline void read_object(Outline& outline, int threads, Instances& out) {
    bool is_over = false;
    outline.step("", [&](Cursor& cursor) {
        cursor.open('{');
        cursor.skip_space();
        is_over = *cursor.p == '}';
    });
    while (!is_over) {
        const std::string key = read_key(outline);
        read_value(outline, key, threads, out);
        outline.step("{", [&](Cursor& cursor) {
            cursor.skip_space();
            is_over = !cursor.accept(',');
            if (!is_over) cursor.skip_space();
        });
    }
    outline.step("{", [](Cursor& cursor) { cursor.close('}'); });
}

// Moves to the one value of a file. Returns the character with which it begins.
inline char find_value(Outline& outline) {
    char first = 0;
    outline.step("", [&](Cursor& cursor) {
        cursor.skip_space();
        first = *cursor.p;
    });
    return first;
}

// The three arrays of an instances file. Throws a Refusal if it is no such file.
inline void read_instances(const Source& source, int threads, Instances& out) {
    Outline outline(source);
    if (find_value(outline) != '{') refuse_whole(outline);
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
    if (find_value(outline) != '[') refuse_whole(outline);
    SectionReader<Results>(source, "[", threads).read(outline, out);
    outline.finish();
    require_right(out, "");
}

}  // namespace upmap::json
