// COCO JSON to columns, fast: no object is made for a record, and what is not wanted is stepped over.
//
// Does what kernels/coco_json/reference.py says. What it refuses it does not explain: the caller asks
// the reference why.
#include <nanobind/stl/string.h>

#include "kernels/arrays.hpp"
#include "kernels/coco_json/file.hpp"
#include "kernels/coco_json/sections.hpp"

namespace nb = nanobind;
using namespace upmap::json;

namespace {

nb::object text(const std::string& bytes) {
    return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "strict"));
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

// Whether `read` took the file; false also if it is no file, or no JSON.
template <class Read>
bool was_read(const std::string& path, const Read& read) {
    nb::gil_scoped_release release;
    const File file(path);
    if (!file.is_open()) return false;
    try {
        return read(without_mark(file.text()));
    } catch (const Malformed&) {
        return false;
    }
}

nb::object instances(const std::string& path, int threads) {
    Instances found;
    if (!was_read(path, [&](Text text) { return read_instances(text, threads, found); }))
        return nb::none();
    nb::dict columns;
    add_columns(columns, found.images);
    add_columns(columns, found.categories);
    add_columns(columns, found.annotations);
    return columns;
}

nb::object results(const std::string& path, int threads) {
    Section<Results> found;
    if (!was_read(path, [&](Text text) { return read_results(text, threads, found); }))
        return nb::none();
    nb::dict columns;
    add_columns(columns, found);
    return columns;
}

}  // namespace

NB_MODULE(native, module) {
    module.def("instances", &instances, nb::arg("path"), nb::arg("threads"),
               "The columns of kernels.coco_json.Instances by name; None for a file that is refused.");
    module.def("results", &results, nb::arg("path"), nb::arg("threads"),
               "The columns of kernels.coco_json.Results by name; None for a file that is refused.");
}
