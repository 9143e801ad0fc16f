// Delimited text and JSON lines to columns, fast: a file is read by pieces, on many threads.
//
// Does what kernels/delimited/reference.py says for the rows of the usual kind. It says which rows
// it did not read, and the reference reads those.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/delimited/lines.hpp"
#include "kernels/file.hpp"
#include "kernels/parallel.hpp"
#include "kernels/parts.hpp"
#include "kernels/source.hpp"
#include "kernels/strings.hpp"

namespace nb = nanobind;
using namespace upmap::delimited;

namespace {

constexpr int64_t kPiece = 1 << 20;               // bytes, some milliseconds of work
constexpr double kMaxInteger = 9007199254740992;  // 2^53, as contract.MAX_INTEGER

// An array of the result: numbers, [rows] or [rows, width], or places of texts.
struct Array {
    Kind kind;
    size_t width;
    upmap::Buffer<double> numbers;
    upmap::Buffer<int32_t> index;
};

std::vector<Array> arrays_of(const Format& format) {
    std::vector<Array> arrays;
    for (const Request& request : format.requests) {
        if (arrays.size() <= request.array) arrays.resize(request.array + 1);
        Array& array = arrays[request.array];
        array.kind = request.kind;
        array.width = request.kind == Kind::kBox ? 4 : std::max(array.width, request.place + 1);
    }
    return arrays;
}

// The rows of a text, and the parts that they were read in.
struct Table {
    std::vector<Array> arrays;
    std::vector<Part> parts;
    size_t rows = 0;
};

void make_room(Table& table, const Format& format) {
    size_t capacity = 0;
    for (const Part& part : table.parts) capacity += part.capacity;
    for (Array& array : table.arrays) {
        if (array.kind == Kind::kText)
            array.index = upmap::Buffer<int32_t>(capacity);
        else
            array.numbers = upmap::Buffer<double>(capacity * array.width);
    }
    size_t row = 0;
    for (Part& part : table.parts) {
        for (const Request& request : format.requests) {
            Array& array = table.arrays[request.array];
            Column column;
            column.stride = array.width;
            if (array.kind == Kind::kText)
                column.index = array.index.data() + row;
            else
                column.numbers = array.numbers.data() + row * array.width + request.place;
            part.columns.push_back(std::move(column));
        }
        row += part.capacity;
    }
}

// Moves the rows of all parts together, between which blank lines left room.
void close_gaps(Table& table) {
    size_t from = 0;
    for (const Part& part : table.parts) {
        for (Array& array : table.arrays) {
            if (from == table.rows) break;  // no gap so far
            if (array.kind == Kind::kText)
                std::copy_n(array.index.data() + from, part.rows, array.index.data() + table.rows);
            else
                std::copy_n(array.numbers.data() + from * array.width, part.rows * array.width,
                            array.numbers.data() + table.rows * array.width);
        }
        from += part.capacity;
        table.rows += part.rows;
    }
}

// Puts integers of 64 bits in the place of the numbers of a part, if all are whole.
void to_integers(Part& part, size_t c) {
    Column& column = part.columns[c];
    double* const values = column.numbers;
    column.is_whole = std::all_of(values, values + part.rows, [](double value) {
        return std::abs(value) <= kMaxInteger && value == std::trunc(value);
    });
    if (!column.is_whole) return;
    for (size_t i = 0; i < part.rows; ++i) {
        const auto value = static_cast<int64_t>(values[i]);
        std::memcpy(values + i, &value, sizeof value);
    }
}

// The reverse.
void to_numbers(double* values, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        int64_t value;
        std::memcpy(&value, values + i, sizeof value);
        values[i] = static_cast<double>(value);
    }
}

// The rows of the lines from `offset` on. Lines are counted first, so that what is read stands in
// its place at once: a large result is not in memory twice.
Table read_table(const upmap::Source& source, const Format& format, int64_t offset, int threads) {
    const int64_t begin = std::min(std::max(offset, source.begin()), source.end());
    const auto count = static_cast<size_t>((source.end() - begin + kPiece - 1) / kPiece);
    const auto range = [&](size_t task) {
        const int64_t from = begin + static_cast<int64_t>(task) * kPiece;
        return std::make_pair(from, std::min(from + kPiece, source.end()));
    };
    Table table{arrays_of(format), std::vector<Part>(count)};
    upmap::parallel_workers(count, threads, [&] {
        return [&, reader = LinesReader(source, format)](size_t task) mutable {
            const auto [from, to] = range(task);
            table.parts[task].capacity = reader.count_lines(from, to, task == 0);
        };
    });
    make_room(table, format);
    upmap::parallel_workers(count, threads, [&] {
        return [&, reader = LinesReader(source, format)](size_t task) mutable {
            const auto [from, to] = range(task);
            // A line belongs to the piece in which it begins.
            const int64_t first = task ? reader.next_line(from - 1) : from;
            if (first < to) reader.read(first, to, table.parts[task]);
            for (size_t c = 0; c < format.requests.size(); ++c)
                if (format.requests[c].kind == Kind::kInteger) to_integers(table.parts[task], c);
        };
    });
    close_gaps(table);
    return table;
}

nb::object numbers(Array& array, size_t rows) {
    if (array.width == 1) return upmap::to_numpy(std::move(array.numbers), {rows});
    return upmap::to_numpy(std::move(array.numbers), {rows, array.width});
}

// The array as integers, if those of all parts are; else as numbers.
nb::object integers(Table& table, size_t c, Array& array) {
    const auto is_whole = [c](const Part& part) { return part.columns[c].is_whole; };
    if (std::all_of(table.parts.begin(), table.parts.end(), is_whole))
        return upmap::to_numpy(upmap::reinterpret_buffer<int64_t>(std::move(array.numbers)),
                               {table.rows});
    double* values = array.numbers.data();
    for (const Part& part : table.parts) {
        if (is_whole(part)) to_numbers(values, part.rows);
        values += part.rows;
    }
    return numbers(array, table.rows);
}

// (index, names), of the request `c`; parts stand in the order of the text, so the threads change
// nothing.
nb::tuple texts(Table& table, size_t c, Array& array) {
    upmap::Names all;
    int32_t* index = array.index.data();
    for (const Part& part : table.parts) {
        std::vector<int32_t> places;
        for (const std::string& text : part.columns[c].names.texts)
            places.push_back(all.index(text));
        for (int32_t* end = index + part.rows; index < end; ++index)
            if (*index >= 0) *index = places[static_cast<size_t>(*index)];
    }
    nb::list names;
    for (const std::string& text : all.texts) names.append(upmap::to_str(text));
    return nb::make_tuple(upmap::to_numpy(std::move(array.index), {table.rows}), names);
}

// The odd rows of all parts, int64 [., 4]: begin, end, line, row.
nb::object odd_rows(const std::vector<Part>& parts, int64_t first_line) {
    size_t count = 0;
    for (const Part& part : parts) count += part.odd.size();
    upmap::Buffer<int64_t> values(4 * count);
    int64_t* next = values.data();
    int64_t lines = first_line - 1, rows = 0;
    for (const Part& part : parts) {
        for (const OddRow& odd : part.odd)
            for (int64_t value : {odd.begin, odd.end, lines + odd.line, rows + odd.row})
                *next++ = value;
        lines += part.lines;
        rows += static_cast<int64_t>(part.rows);
    }
    return upmap::to_numpy(std::move(values), {count, 4});
}

[[noreturn]] void raise(const upmap::Unreadable& unreadable) {
    if (unreadable.error) {
        errno = unreadable.error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        PyErr_SetString(PyExc_OSError, "could not be read whole: it changed while it was read");
    }
    throw nb::python_error();
}

Format format_of(bool is_json, const std::string& separator, size_t cells,
                 const nb::list& requests) {
    Format format{is_json, separator.empty() ? ',' : separator[0], cells, {}};
    for (nb::handle request : requests) {
        const auto [name, position, kind, array, place] =
            nb::cast<std::tuple<std::string, size_t, int, size_t, size_t>>(request);
        format.requests.push_back({name, position, static_cast<Kind>(kind), array, place});
    }
    return format;
}

nb::list columns_of(Table& table, const Format& format) {
    nb::list columns;
    for (size_t a = 0; a < table.arrays.size(); ++a) {
        Array& array = table.arrays[a];
        size_t c = 0;
        while (format.requests[c].array != a) ++c;
        if (array.kind == Kind::kText)
            columns.append(texts(table, c, array));
        else if (array.kind == Kind::kInteger)
            columns.append(integers(table, c, array));
        else
            columns.append(numbers(array, table.rows));
    }
    return columns;
}

// The arrays, and the odd rows; None for no regular file.
nb::object read_columns(const nb::bytes& path, const std::optional<nb::bytes>& data, bool is_json,
                        const std::string& separator, size_t cells, const nb::list& requests,
                        int64_t offset, int64_t first_line, int threads) {
    const Format format = format_of(is_json, separator, cells, requests);
    const std::string file_path(upmap::bytes_view(path));
    const std::string_view bytes = data ? upmap::bytes_view(*data) : std::string_view();
    Table table;
    std::optional<upmap::Unreadable> unreadable;
    bool is_file = true;
    {
        nb::gil_scoped_release release;
        try {
            if (data) {
                table = read_table(upmap::Source(bytes), format, offset, threads);
            } else {
                is_file = upmap::is_regular_file(file_path);
                const upmap::File file(is_file ? file_path : "");
                is_file = is_file && file.is_open();
                if (is_file) {
                    table = read_table(upmap::Source(file), format, offset, threads);
                    file.check_unchanged();
                }
            }
        } catch (const upmap::Unreadable& reason) {
            unreadable = reason;
        }
    }
    if (unreadable) raise(*unreadable);
    if (!is_file) return nb::none();
    return nb::make_tuple(columns_of(table, format), odd_rows(table.parts, first_line));
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "read_columns", &read_columns, nb::arg("path"), nb::arg("data").none(), nb::arg("is_json"),
        nb::arg("separator"), nb::arg("cells"), nb::arg("requests"), nb::arg("offset"),
        nb::arg("first_line"), nb::arg("threads"),
        "The arrays of the requests (name, position, kind, array, place in its rows) and the "
        "rows that were not read: their offsets, line and row; None for no regular file.");
}
