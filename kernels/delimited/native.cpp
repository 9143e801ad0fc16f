// Delimited text and JSON lines to columns, fast: a file is read by pieces, on many threads.
//
// Does what kernels/delimited/reference.py says for the rows of the usual kind. It says which rows
// it did not read, and the reference reads those.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
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

constexpr int64_t kPiece = 1 << 20;  // bytes, some milliseconds of work

// The parts of a text, whose lines begin at `offset`.
std::vector<Part> read_parts(const upmap::Source& source, const Format& format, int64_t offset,
                             int threads) {
    const int64_t begin = std::min(std::max(offset, source.begin()), source.end());
    const auto count = static_cast<size_t>((source.end() - begin + kPiece - 1) / kPiece);
    std::vector<Part> parts(count);
    upmap::parallel_workers(count, threads, [&] {
        return [&, reader = LinesReader(source, format)](size_t task) mutable {
            const int64_t from = begin + static_cast<int64_t>(task) * kPiece;
            const int64_t to = std::min(from + kPiece, source.end());
            // A line belongs to the piece in which it begins.
            const int64_t first = task ? reader.next_line(from - 1) : from;
            if (first < to) parts[task] = reader.read(first, to);
        };
    });
    parts.erase(std::remove_if(parts.begin(), parts.end(),
                               [](const Part& part) { return part.columns.empty(); }),
                parts.end());
    return parts;
}

nb::object numbers(std::vector<Part>& parts, size_t c, size_t width) {
    size_t count = 0;
    for (const Part& part : parts) count += part.columns[c].numbers.size();
    upmap::Buffer<double> values(count);
    double* next = values.data();
    for (Part& part : parts) {
        std::vector<double>& column = part.columns[c].numbers;
        next = std::copy(column.begin(), column.end(), next);
        std::vector<double>().swap(column);  // not both whole at a time
    }
    if (width == 1) return upmap::to_numpy(std::move(values), {count});
    return upmap::to_numpy(std::move(values), {count / width, width});
}

// (index, names); parts stand in the order of the text, so the threads change nothing.
nb::tuple texts(std::vector<Part>& parts, size_t c) {
    upmap::Names all;
    size_t count = 0;
    for (const Part& part : parts) count += part.columns[c].index.size();
    upmap::Buffer<int32_t> index(count);
    int32_t* next = index.data();
    for (Part& part : parts) {
        Column& column = part.columns[c];
        std::vector<int32_t> places;
        for (const std::string& text : column.names.texts) places.push_back(all.index(text));
        for (int32_t place : column.index)
            *next++ = place < 0 ? place : places[static_cast<size_t>(place)];
        std::vector<int32_t>().swap(column.index);
    }
    nb::list names;
    for (const std::string& text : all.texts) names.append(upmap::to_str(text));
    return nb::make_tuple(upmap::to_numpy(std::move(index), {count}), names);
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
        rows += part.rows;
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
        const auto [name, position, kind] = nb::cast<std::tuple<std::string, size_t, int>>(request);
        format.requests.push_back({name, position, static_cast<Kind>(kind)});
    }
    return format;
}

// The columns in the order of the requests, and the odd rows; None for no regular file.
nb::object read_columns(const nb::bytes& path, const std::optional<nb::bytes>& data, bool is_json,
                        const std::string& separator, size_t cells, const nb::list& requests,
                        int64_t offset, int64_t first_line, int threads) {
    const Format format = format_of(is_json, separator, cells, requests);
    const std::string file_path(upmap::bytes_view(path));
    const std::string_view bytes = data ? upmap::bytes_view(*data) : std::string_view();
    std::vector<Part> parts;
    std::optional<upmap::Unreadable> unreadable;
    bool is_file = true;
    {
        nb::gil_scoped_release release;
        try {
            if (data) {
                parts = read_parts(upmap::Source(bytes), format, offset, threads);
            } else {
                is_file = upmap::is_regular_file(file_path);
                const upmap::File file(is_file ? file_path : "");
                is_file = is_file && file.is_open();
                if (is_file) {
                    parts = read_parts(upmap::Source(file), format, offset, threads);
                    file.check_unchanged();
                }
            }
        } catch (const upmap::Unreadable& reason) {
            unreadable = reason;
        }
    }
    if (unreadable) raise(*unreadable);
    if (!is_file) return nb::none();
    nb::list columns;
    for (size_t c = 0; c < format.requests.size(); ++c) {
        const Kind kind = format.requests[c].kind;
        if (kind == Kind::kText)
            columns.append(texts(parts, c));
        else
            columns.append(numbers(parts, c, kind == Kind::kBox ? 4 : 1));
    }
    return nb::make_tuple(columns, odd_rows(parts, first_line));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("read_columns", &read_columns, nb::arg("path"), nb::arg("data").none(),
               nb::arg("is_json"), nb::arg("separator"), nb::arg("cells"), nb::arg("requests"),
               nb::arg("offset"), nb::arg("first_line"), nb::arg("threads"),
               "The columns of the requests (name, position, kind) and the rows that were not "
               "read: their offsets, line and row; None for no regular file.");
}
