// Many small text files to columns, fast: rows of words, read by many threads.
//
// Does what kernels/text_rows/reference.py says for the files of the usual kind. It says which
// files it did not read, and the reference reads those.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"
#include "kernels/text_rows/rows_reader.hpp"

namespace nb = nanobind;
using namespace upmap::text_rows;

namespace {

constexpr size_t kFilesPerTask = 64;  // about a millisecond of work

// A file by its path, or by its bytes, which the caller keeps alive.
struct Source {
    std::string path;
    std::string_view bytes;
    bool has_bytes = false;
};

std::string_view bytes_view(nb::handle object) {
    const auto bytes = nb::cast<nb::bytes>(object);
    return {bytes.c_str(), bytes.size()};
}

// A column of all parts, end to end.
template <class T>
nb::object concatenate(const std::vector<Rows>& parts, std::vector<T> Rows::* column) {
    size_t count = 0;
    for (const Rows& part : parts) count += (part.*column).size();
    upmap::Buffer<T> values(count);
    T* next = values.data();
    for (const Rows& part : parts)
        next = std::copy((part.*column).begin(), (part.*column).end(), next);
#if __has_include("kernels/columns.hpp")
    return upmap::to_numpy(std::move(values), {count});
#else
    return upmap::owned(std::move(values), {count});
#endif
}

// The names of all parts, by which the columns `name` then count.
nb::list unite_names(std::vector<Rows>& parts) {
    Names names;
    for (Rows& part : parts) {
        std::vector<int32_t> indices;
        for (const std::string& text : part.names.texts) indices.push_back(names.index(text));
        for (int32_t& name : part.name) name = indices[static_cast<size_t>(name)];
    }
    nb::list texts;
    for (const std::string& text : names.texts) texts.append(nb::str(text.data(), text.size()));
    return texts;
}

Rows read_files(const std::vector<Source>& sources, size_t first, size_t last,
                const Layout& layout) {
    Rows rows;
    RowsReader reader(layout, rows);
    TextBuffer buffer;
    for (size_t i = first; i < last; ++i) {
        const Source& source = sources[i];
        const auto file = static_cast<int32_t>(i);
        if (source.has_bytes) buffer.copy(source.bytes);
        if (!(source.has_bytes || buffer.read(source.path)) || !reader.read(buffer.text()))
            rows.unread.push_back(file);
        rows.file.resize(rows.line.size(), file);
    }
    return rows;
}

Layout layout_of(int64_t name_column, const nb::dict& keywords, const nb::list& prefixes) {
    Layout layout;
    layout.name_column = name_column;
    for (auto [word, number] : keywords)
        layout.keywords.emplace_back(std::string(bytes_view(word)), nb::cast<double>(number));
    for (nb::handle prefix : prefixes) layout.skipped_prefixes.emplace_back(bytes_view(prefix));
    return layout;
}

std::vector<Source> sources_of(const nb::list& paths, const nb::dict& data) {
    std::vector<Source> sources;
    sources.reserve(paths.size());
    for (nb::handle path : paths) sources.push_back({std::string(bytes_view(path)), {}});
    for (auto [place, bytes] : data) {
        Source& source = sources.at(nb::cast<size_t>(place));
        source.bytes = bytes_view(bytes);
        source.has_bytes = true;
    }
    return sources;
}

nb::dict read_rows(nb::list paths, int64_t name_column, nb::dict keywords, nb::list prefixes,
                   int threads, nb::dict data) {
    const Layout layout = layout_of(name_column, keywords, prefixes);
    const std::vector<Source> sources = sources_of(paths, data);
    std::vector<Rows> parts((sources.size() + kFilesPerTask - 1) / kFilesPerTask);
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(static_cast<int64_t>(parts.size()), threads, [&](int64_t task) {
            const size_t first = static_cast<size_t>(task) * kFilesPerTask;
            parts[static_cast<size_t>(task)] =
                read_files(sources, first, std::min(first + kFilesPerTask, sources.size()), layout);
        });
    }
    nb::dict columns;
    columns["names"] = unite_names(parts);
    columns["file"] = concatenate(parts, &Rows::file);
    columns["line"] = concatenate(parts, &Rows::line);
    columns["name"] = concatenate(parts, &Rows::name);
    columns["width"] = concatenate(parts, &Rows::width);
    columns["value"] = concatenate(parts, &Rows::value);
    columns["unread"] = concatenate(parts, &Rows::unread);
    return columns;
}

}  // namespace

NB_MODULE(native, module) {
    module.def("read_rows", &read_rows, nb::arg("paths"), nb::arg("name_column"),
               nb::arg("keywords"), nb::arg("skipped_prefixes"), nb::arg("threads"),
               nb::arg("data"),
               "The columns of TextRows (width in place of start), and the files not read.");
}
