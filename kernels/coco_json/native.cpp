// COCO JSON to columns, fast: no object is made for a record, and what no column needs is stepped
// over.
//
// Does what kernels/coco_json/reference.py says. What it refuses it does not explain: it says
// where, and explanation.py puts that into words.
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kernels/arrays.hpp"
#include "kernels/coco_json/sections.hpp"
#include "kernels/coco_json/source.hpp"
#include "kernels/file.hpp"
#include "kernels/strings.hpp"

namespace nb = nanobind;
using namespace upmap::json;

namespace {

// The columns of a section by name: lists of text, arrays of numbers. Ids are under one name the
// one or the other. Takes the section's memory.
template <class Columns>
void add_columns(nb::dict& columns, Section<Columns>& section) {
    section.columns.each_text([&](const char* name, auto& column) {
        nb::list texts;
        for (const std::string& utf8 : column) texts.append(upmap::to_str(utf8));
        columns[name] = texts;
    });
    size_t c = 0;
    section.columns.each([&](const char* name, auto& column, size_t width) {
        using Number = typename std::decay_t<decltype(column)>::value_type;
        const size_t index = c++;
        if (columns.contains(name) && nb::len(nb::object(columns[name]))) return;  // text
        upmap::Buffer<Number> numbers(column.size());
        if constexpr (Section<Columns>::kHasMany)
            numbers = upmap::reinterpret_buffer<Number>(std::move(section.numbers[index]));
        else
            std::copy(column.begin(), column.end(), numbers.data());
        if (width == 1)
            columns[name] = upmap::to_numpy(std::move(numbers), {section.records});
        else
            columns[name] = upmap::to_numpy(std::move(numbers), {section.records, width});
    });
}

// An OSError in words that name no file: the caller knows it.
[[noreturn]] void raise(const upmap::Unreadable& unreadable) {
    if (unreadable.error) {
        errno = unreadable.error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        PyErr_SetString(PyExc_OSError, "could not be read whole: it changed while it was read");
    }
    throw nb::python_error();
}

// Calls read(source) with the bytes, or with those of a file, without the GIL: a file may be slow.
// False if it is no regular file.
template <class Read>
bool read_source(const std::string& path, const std::optional<nb::bytes>& data, const Read& read) {
    const std::string_view bytes = data ? upmap::bytes_view(*data) : std::string_view();
    std::optional<upmap::Unreadable> unreadable;
    {
        nb::gil_scoped_release release;
        try {
            if (data) {
                read(Source(bytes));
                return true;
            }
            if (!upmap::is_regular_file(path)) return false;
            const upmap::File file(path);
            if (!file.is_open()) return false;
            read(Source(file));
            file.check_unchanged();
        } catch (const upmap::Unreadable& error) {
            unreadable = error;
        }
    }
    if (unreadable) raise(*unreadable);
    return true;
}

// The columns that `add` makes of what `read` read; a tuple that says why the text is refused; or
// None for what is no regular file.
template <class Read, class Add>
nb::object read_columns(const nb::bytes& path, const std::optional<nb::bytes>& data,
                        const Read& read, const Add& add) {
    std::optional<Refusal> refusal;
    const std::string file_path(upmap::bytes_view(path));
    const bool is_file = read_source(file_path, data, [&](const Source& source) {
        try {
            read(source);
        } catch (const Refusal& error) {
            refusal = error;
        }
    });
    if (!is_file) return nb::none();
    if (refusal)
        return nb::make_tuple(refusal->kind, refusal->within, refusal->record, refusal->begin,
                              refusal->end);
    nb::dict columns;
    add(columns);
    return columns;
}

nb::object instances(nb::bytes path, int threads, std::optional<nb::bytes> data) {
    Instances sections;
    return read_columns(
        path, data, [&](const Source& source) { read_instances(source, threads, sections); },
        [&](nb::dict& columns) {
            add_columns(columns, sections.images);
            add_columns(columns, sections.categories);
            add_columns(columns, sections.annotations);
        });
}

nb::object results(nb::bytes path, int threads, std::optional<nb::bytes> data) {
    Section<Results> section;
    return read_columns(
        path, data, [&](const Source& source) { read_results(source, threads, section); },
        [&](nb::dict& columns) { add_columns(columns, section); });
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "instances", &instances, nb::arg("path"), nb::arg("threads"), nb::arg("data") = nb::none(),
        "The columns of kernels.coco_json.Instances by name, of a file or of `data`; a tuple "
        "(kind, within, record, begin, end) for text that is refused; None for no regular file.");
    module.def("results", &results, nb::arg("path"), nb::arg("threads"),
               nb::arg("data") = nb::none(),
               "The columns of kernels.coco_json.Results by name; see instances.");
}
