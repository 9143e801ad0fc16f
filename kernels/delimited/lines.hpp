// The lines of a text that many threads read: rows of CSV, or JSON objects, to columns.
//
// A line that is not of the usual kind is left as an odd row, which the reference reads.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/coco_json/scanner.hpp"
#include "kernels/names.hpp"
#include "kernels/source.hpp"
#include "kernels/text.hpp"

namespace upmap::delimited {

constexpr ptrdiff_t kMaxCell = 1 << 17;  // bytes
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

enum class Kind : int { kNumber = 0, kText = 1, kBox = 2, kInteger = 3 };  // as contract.KINDS

// A column that is asked for.
struct Request {
    std::string name;
    size_t position;  // of CSV: the place of its cell
    Kind kind;
    size_t array;  // the place of the array that it is of, or is one column of
    size_t place;  // its place in a row of that array
};

struct Format {
    bool is_json;
    char separator;
    size_t cells;                   // of a row of CSV
    std::vector<Request> requests;  // of CSV in the order of their cells
};

// Where a column of some rows is written: the one or the other.
struct Column {
    double* numbers = nullptr;
    size_t stride = 1;  // from a row's number, or its first of four, to the next row's
    int32_t* index = nullptr;
    Names names;
    bool is_whole = false;  // whether the numbers were whole, and are integers of 64 bits now
};

// What is not of the usual kind: the offsets of its line, its line from 1, and its row from 0, both
// counted from the beginning of the part.
struct OddRow {
    int64_t begin, end, line, row;
};

// The rows of a part of the text, for at most `capacity` of which there is room.
struct Part {
    std::vector<Column> columns;
    std::vector<OddRow> odd;
    size_t capacity = 0, rows = 0;
    int64_t lines = 0;

    // Write into the next row.
    void put(Column& column, double number) const { column.numbers[rows * column.stride] = number; }
    void put(Column& column, std::string_view text) const {
        column.index[rows] = column.names.index(text);
    }
    void put_nothing(Column& column, Kind kind) const {
        if (kind == Kind::kText)
            column.index[rows] = -1;
        else
            std::fill_n(column.numbers + rows * column.stride, kind == Kind::kBox ? 4 : 1, kNaN);
    }
};

// The words of contract.NULLS that stand for no number.
inline bool is_null(std::string_view word) {
    static constexpr std::string_view kNulls[] = {"",     "nan", "NaN", "NAN", "null", "NULL",
                                                  "None", "NA",  "N/A", "n/a", "<NA>"};
    for (std::string_view null : kNulls)
        if (word == null) return true;
    return false;
}

// Whether a text is UTF-8 without zero bytes and line ends.
inline bool is_plain_text(std::string_view text) {
    for (size_t i = 0; i < text.size();) {
        const auto byte = static_cast<unsigned char>(text[i]);
        uint32_t code;
        const int length = byte < 0x80 ? byte != 0 : utf8_character(text.data() + i, code);
        if (!length || i + static_cast<size_t>(length) > text.size()) return false;
        i += static_cast<size_t>(length);
    }
    return true;
}

// Reads the cells of one line, which ends in a zero byte, into the columns of a part.
class CsvRow {
  public:
    CsvRow(const Format& format, Part& part) : format_(format), part_(part) {}

    // Writes the next row; false, with some of it written, where the line is odd.
    bool read(const char* begin, const char* end) {
        p_ = begin;
        end_ = end;
        auto request = format_.requests.begin();
        size_t c = 0;
        for (size_t cell = 0; cell < format_.cells; ++cell) {
            const bool is_asked = request != format_.requests.end() && request->position == cell;
            if (!(is_asked ? read_cell(part_.columns[c], request->kind) : skip_cell()))
                return false;
            request += is_asked;
            c += is_asked;
            if (cell + 1 < format_.cells && *p_++ != format_.separator) return false;
        }
        while (p_ != end_ && (*p_ == format_.separator || *p_ == ' ')) ++p_;  // blank cells
        return p_ == end_;
    }

  private:
    const Format& format_;
    Part& part_;
    const char* p_ = nullptr;
    const char* end_ = nullptr;
    std::string spare_;

    bool is_cell_end() const { return p_ == end_ || *p_ == format_.separator; }

    bool read_cell(Column& column, Kind kind) {
        const char* begin = p_;
        double number;
        if (kind != Kind::kText && read_decimal(p_, number) && is_cell_end()) {
            part_.put(column, number);
            return true;
        }
        p_ = begin;
        std::string_view text;
        bool is_quoted;
        return next_cell(text, is_quoted) && push(column, kind, text, is_quoted);
    }

    bool skip_cell() {
        std::string_view text;
        bool is_quoted;
        return next_cell(text, is_quoted);
    }

    // The text of a cell without its quotes; false where it is not of the usual kind.
    bool next_cell(std::string_view& text, bool& is_quoted) {
        is_quoted = p_ != end_ && *p_ == '"';
        const char* begin = p_ + is_quoted;
        if (end_ - begin > kMaxCell) return false;  // Python's csv reads no longer one
        if (is_quoted) {
            p_ = static_cast<const char*>(
                std::memchr(begin, '"', static_cast<size_t>(end_ - begin)));
            if (!p_) return false;  // over the end of the line
            text = {begin, static_cast<size_t>(p_++ - begin)};
            return is_cell_end();  // not before a second quote
        }
        while (!is_cell_end()) {
            if (*p_ == '\r') return false;
            ++p_;
        }
        text = {begin, static_cast<size_t>(p_ - begin)};
        return true;
    }

    bool push(Column& column, Kind kind, std::string_view text, bool is_quoted) {
        if (kind == Kind::kText) {
            if (!is_plain_text(text)) return false;
            if (text.empty())
                part_.put_nothing(column, kind);
            else
                part_.put(column, text);
            return true;
        }
        double number;
        if (!read_number(text, is_quoted, number)) return false;
        part_.put(column, number);
        return true;
    }

    // The cell's text is followed by a separator, a quote or the end, none of which is part of a
    // number; a comma may be the decimal point where it does not separate.
    bool read_number(std::string_view text, bool is_quoted, double& number) {
        while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
            text.remove_prefix(1);
        while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
        const char* p = text.data();
        const char* end = p + text.size();
        if (!text.empty() && read_decimal(p, number) && p == end) return true;
        number = kNaN;
        if (is_null(text)) return true;
        const bool may_be_point = is_quoted || format_.separator != ',';
        if (!may_be_point || text.find('.') != text.npos || text.size() > 64) return false;
        spare_.assign(text);
        const size_t comma = spare_.find(',');
        if (comma == spare_.npos) return false;
        spare_[comma] = '.';
        const char* q = spare_.c_str();
        return read_decimal(q, number) && q == spare_.c_str() + spare_.size();
    }
};

// Reads the object of one line, which ends in a zero byte, into the columns of a part.
class JsonRow {
  public:
    JsonRow(const Format& format, Part& part)
        : format_(format), part_(part), values_(format.requests.size()) {}

    // As CsvRow::read.
    bool read(const char* begin, const char* end) {
        try {
            return read_object(begin, end) && push_values();
        } catch (const json::Malformed&) {
            return false;
        }
    }

  private:
    const Format& format_;
    Part& part_;
    std::vector<json::Value> values_;
    std::deque<std::string> decoded_;

    bool read_object(const char* begin, const char* end) {
        values_.assign(values_.size(), {});
        decoded_.clear();
        json::Cursor cursor(begin, 0);
        cursor.skip_space();
        cursor.open('{');
        cursor.skip_space();
        for (size_t position = 0; *cursor.p != '}'; ++position) {
            if (position && !cursor.accept(',')) return false;
            cursor.skip_space();
            bool has_escape;
            const std::string_view key = cursor.read_string(has_escape);
            if (has_escape) return false;
            cursor.skip_colon();
            if (json::Value* value = find(key, position))
                cursor.read_value(*value, decoded_);
            else
                cursor.skip_value();
            cursor.skip_space();
        }
        cursor.close('}');
        cursor.skip_space();
        return cursor.p == end;
    }

    // The value of a key that is asked for; null of another. Keys mostly stand in one order.
    json::Value* find(std::string_view key, size_t position) {
        const size_t count = format_.requests.size();
        for (size_t i = 0; i < count; ++i) {
            const size_t c = (position + i) % count;
            if (format_.requests[c].name != key) continue;
            values_[c] = {};
            return &values_[c];
        }
        return nullptr;
    }

    bool push_values() {
        for (size_t c = 0; c < values_.size(); ++c)
            if (!push(part_.columns[c], format_.requests[c].kind, values_[c])) return false;
        return true;
    }

    bool push(Column& column, Kind kind, const json::Value& value) const {
        if (value.kind == json::Kind::kNull || value.kind == json::Kind::kMissing) {
            part_.put_nothing(column, kind);
        } else if (kind == Kind::kText) {
            if (value.kind == json::Kind::kInteger)
                part_.put(column, std::to_string(value.integer));
            else if (value.kind == json::Kind::kText && !value.text.empty())
                part_.put(column, value.text);
            else
                return false;
        } else if (kind == Kind::kBox) {
            if (value.kind != json::Kind::kBox) return false;
            std::copy_n(std::begin(value.box), 4, column.numbers + part_.rows * column.stride);
        } else {
            if (!value.is_number()) return false;
            part_.put(column, value.number);
        }
        return true;
    }
};

// Reads the lines that begin in a range of a source.
class LinesReader {
  public:
    LinesReader(const Source& source, const Format& format)
        : source_(source), format_(format), window_(source) {}

    // How many lines begin in a range, which begins with the first line or anywhere; blank ones
    // are among them.
    size_t count_lines(int64_t begin, int64_t end, bool is_first) {
        window_.load(is_first ? begin : begin - 1, end - 1);
        const char* const text = window_.begin();
        return static_cast<size_t>(std::count(text, window_.end(), '\n')) + is_first;
    }

    // Reads the lines that begin in a range, which begins behind a line end or at the first line
    // and ends anywhere. Throws Unreadable where there are more than the part has room for.
    void read(int64_t begin, int64_t end, Part& part) {
        const int64_t last = load(begin, end);
        CsvRow csv(format_, part);
        JsonRow json(format_, part);
        char* p = window_.begin();
        char* const stop = p + (last - begin);
        while (p < stop) {
            auto* line_end =
                static_cast<char*>(std::memchr(p, '\n', static_cast<size_t>(stop - p)));
            char* const next = line_end ? line_end + 1 : stop;
            if (!line_end) line_end = stop;
            if (line_end > p && line_end[-1] == '\r') --line_end;
            *line_end = 0;
            ++part.lines;
            if (!is_blank(p, line_end)) {
                if (part.rows == part.capacity) throw Unreadable{0};  // it changes meanwhile
                if (!(format_.is_json ? json.read(p, line_end) : csv.read(p, line_end)))
                    push_odd(part, begin + (p - window_.begin()),
                             begin + (line_end - window_.begin()));
                ++part.rows;
            }
            p = next;
        }
    }

    // The offset behind the line end at or behind `offset`; the end of the source if there is none.
    int64_t next_line(int64_t offset) {
        for (; offset < source_.end(); offset += kStep) {
            window_.load(offset, offset + kStep);
            const char* begin = window_.begin();
            const auto* line_end = static_cast<const char*>(
                std::memchr(begin, '\n', static_cast<size_t>(window_.end() - begin)));
            if (line_end) return offset + (line_end - begin) + 1;
        }
        return source_.end();
    }

  private:
    static constexpr int64_t kStep = 1 << 16;

    const Source& source_;
    const Format& format_;
    Window window_;

    // Loads the lines that begin before `end`, whole; returns the offset behind them.
    int64_t load(int64_t begin, int64_t end) {
        const int64_t last = end >= source_.end() ? source_.end() : next_line(end - 1);
        window_.load(begin, last);
        return last;
    }

    bool is_blank(const char* p, const char* end) const {
        const bool has_tabs = format_.is_json || format_.separator != '\t';
        while (p < end && (*p == ' ' || (*p == '\t' && has_tabs))) ++p;
        return p == end;
    }

    // Leaves the next row empty.
    void push_odd(Part& part, int64_t begin, int64_t end) const {
        part.odd.push_back({begin, end, part.lines, static_cast<int64_t>(part.rows)});
        for (size_t c = 0; c < part.columns.size(); ++c)
            part.put_nothing(part.columns[c], format_.requests[c].kind);
    }
};

}  // namespace upmap::delimited
