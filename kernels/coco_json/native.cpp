// COCO JSON to columns, fast: no object is made for a record, and what is not wanted is stepped over.
//
// Does what kernels/coco_json/reference.py says. What it refuses it does not explain: the caller asks
// the reference why.
#include <nanobind/stl/string.h>

#include "kernels/arrays.hpp"
#include "kernels/coco_json/file.hpp"
#include "kernels/coco_json/records.hpp"

namespace nb = nanobind;
using namespace upmap::json;

namespace {

// One column of all pieces, end to end; the pieces' own are given back one by one.
template <class T, class Columns, class Column>
upmap::Buffer<T> joined(std::vector<Piece<Columns>>& pieces, const Column& column) {
    size_t count = 0;
    for (auto& piece : pieces) count += column(piece.columns).size();
    upmap::Buffer<T> all(count);
    T* next = all.data();
    for (auto& piece : pieces) {
        auto& part = column(piece.columns);
        if (!part.empty()) std::memcpy(next, part.data(), part.size() * sizeof(T));
        next += part.size();
        part = {};
    }
    return all;
}

template <class T, class Columns>
nb::object array(Section<Columns>& section, std::vector<T> Columns::* column, size_t width = 0) {
    auto all = joined<T>(section.pieces, [&](Columns& c) -> auto& { return c.*column; });
    const size_t count = all.size();
    if (!width) return upmap::owned(std::move(all), {count});
    return upmap::owned(std::move(all), {count / width, width});
}

nb::object text(const std::string& bytes) {
    return nb::steal(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "strict"));
}

template <class Columns, class Column>
nb::list texts(Section<Columns>& section, const Column& column) {
    nb::list all;
    for (auto& piece : section.pieces)
        for (const std::string& bytes : column(piece.columns)) all.append(text(bytes));
    return all;
}

template <class Columns>
nb::object ids(Section<Columns>& section, Ids Columns::* column) {
    nb::list found = texts(section, [&](Columns& c) -> auto& { return (c.*column).texts; });
    if (found.size()) return found;
    auto all = joined<int64_t>(section.pieces,
                               [&](Columns& c) -> auto& { return (c.*column).numbers; });
    const size_t count = all.size();
    return upmap::owned(std::move(all), {count});
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
    columns["image_id"] = ids(found.images, &Images::id);
    columns["file_name"] = texts(found.images, [](Images& c) -> auto& { return c.file_name; });
    columns["image_size"] = array(found.images, &Images::size, 2);
    columns["category_id"] = ids(found.categories, &Categories::id);
    columns["category_name"] = texts(found.categories, [](Categories& c) -> auto& { return c.name; });
    columns["annotation_id"] = ids(found.annotations, &Annotations::id);
    columns["annotation_image_id"] = ids(found.annotations, &Annotations::image_id);
    columns["annotation_category_id"] = ids(found.annotations, &Annotations::category_id);
    columns["box"] = array(found.annotations, &Annotations::box, 4);
    columns["size"] = array(found.annotations, &Annotations::size, 2);
    columns["area"] = array(found.annotations, &Annotations::area);
    columns["crowd"] = array(found.annotations, &Annotations::crowd);
    columns["difficult"] = array(found.annotations, &Annotations::difficult);
    return columns;
}

nb::object results(const std::string& path, int threads) {
    Section<Results> found;
    if (!was_read(path, [&](Text text) { return read_results(text, threads, found); }))
        return nb::none();
    nb::dict columns;
    columns["image_id"] = ids(found, &Results::image_id);
    columns["category_id"] = ids(found, &Results::category_id);
    columns["box"] = array(found, &Results::box, 4);
    columns["size"] = array(found, &Results::size, 2);
    columns["score"] = array(found, &Results::score);
    return columns;
}

}  // namespace

NB_MODULE(native, module) {
    module.def("instances", &instances, nb::arg("path"), nb::arg("threads"),
               "The columns of kernels.coco_json.Instances by name; None for a file that is refused.");
    module.def("results", &results, nb::arg("path"), nb::arg("threads"),
               "The columns of kernels.coco_json.Results by name; None for a file that is refused.");
}
