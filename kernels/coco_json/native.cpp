// COCO JSON to columns, fast: no object is made for a record, and what is not wanted is stepped over.
//
// Does what kernels/coco_json/reference.py says. What it refuses it does not explain: it says where, and
// explanation.py puts that into words.
#include <nanobind/stl/optional.h>

#include <cerrno>
#include <optional>

#include "kernels/arrays.hpp"
#include "kernels/coco_json/file.hpp"
#include "kernels/coco_json/sections.hpp"

namespace nb = nanobind;
using namespace upmap::json;

namespace {

nb::object text(const std::string& bytes) {
    return nb::steal(
        PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "strict"));
}

// The columns of a section by name: lists of text, arrays of numbers; ids are the one or the other.
template <class Columns>
void add_columns(nb::dict& columns, Section<Columns>& section) {
    section.columns.each_text([&](const char* name, auto& column) {
        nb::list all;
        for (const std::string& bytes : column) all.append(text(bytes));
        columns[name] = all;
    });
    size_t c = 0;
    section.columns.each([&](const char* name, auto& column, size_t width) {
        using Number = typename std::decay_t<decltype(column)>::value_type;
        const size_t place = c++;
        if (columns.contains(name) && nb::len(nb::object(columns[name]))) return;  // text
        upmap::Buffer<Number> numbers(column.size());
        if constexpr (Section<Columns>::HAS_MANY)
            numbers = upmap::Buffer<Number>(std::move(section.numbers[place]));
        else
            std::copy(column.begin(), column.end(), numbers.data());
        if (width == 1)
            columns[name] = upmap::owned(std::move(numbers), {section.records});
        else
            columns[name] = upmap::owned(std::move(numbers), {section.records, width});
    });
}

// An OSError in words that name no file: the caller knows it.
[[noreturn]] void raise(const Unreadable& unreadable) {
    if (unreadable.error) {
        errno = unreadable.error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        PyErr_SetString(PyExc_OSError, "could not be read whole: it changed while it was read");
    }
    throw nb::python_error();
}

using Refusals = std::optional<Refusal>;

// Calls read(source) with the bytes, or with those of a file, on which it may wait. False if it is none.
template <class Read>
bool read_source(const std::string& path, const std::optional<nb::bytes>& data, const Read& read) {
    const auto size = static_cast<int64_t>(data ? data->size() : 0);
    const Source bytes(data ? data->c_str() : "", size);
    std::optional<Unreadable> unreadable;
    {
        nb::gil_scoped_release release;
        try {
            if (data) {
                read(bytes);
                return true;
            }
            const File file(path);
            if (!file.is_open()) return false;
            read(file.source());
            file.refuse_changed();
        } catch (const Unreadable& caught) {
            unreadable = caught;
        }
    }
    if (unreadable) raise(*unreadable);
    return true;
}

// The columns that `add` makes of what `read` found; a tuple that says why the text is refused; or None
// for what is no regular file.
template <class Read, class Add>
nb::object columns_of(const nb::bytes& path, const std::optional<nb::bytes>& data, const Read& read,
                      const Add& add) {
    Refusals refused;
    const bool is_file = read_source({path.c_str(), path.size()}, data, [&](const Source& source) {
        try {
            read(source);
        } catch (const Refusal& refusal) {
            refused = refusal;
        }
    });
    if (!is_file) return nb::none();
    if (refused)
        return nb::make_tuple(refused->kind, refused->within, refused->record, refused->begin,
                              refused->end);
    nb::dict columns;
    add(columns);
    return columns;
}

nb::object instances(nb::bytes path, int threads, std::optional<nb::bytes> data) {
    Instances found;
    return columns_of(
        path, data, [&](const Source& source) { read_instances(source, threads, found); },
        [&](nb::dict& columns) {
            add_columns(columns, found.images);
            add_columns(columns, found.categories);
            add_columns(columns, found.annotations);
        });
}

nb::object results(nb::bytes path, int threads, std::optional<nb::bytes> data) {
    Section<Results> found;
    return columns_of(
        path, data, [&](const Source& source) { read_results(source, threads, found); },
        [&](nb::dict& columns) { add_columns(columns, found); });
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
