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

#include "kernels/parallel.hpp"
#include "kernels/parts.hpp"
#include "kernels/strings.hpp"
#include "kernels/text_buffer.hpp"
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

std::string_view view(nb::handle bytes) { return upmap::bytes_view(nb::cast<nb::bytes>(bytes)); }

Rows read_files(const std::vector<Source>& sources, size_t first, size_t last,
                const Layout& layout) {
    Rows rows;
    RowsReader reader(layout, rows);
    upmap::TextBuffer buffer;
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
        layout.keywords.emplace_back(std::string(view(word)), nb::cast<double>(number));
    for (nb::handle prefix : prefixes) layout.skipped_prefixes.emplace_back(view(prefix));
    return layout;
}

std::vector<Source> sources_of(const nb::list& paths, const nb::dict& data) {
    std::vector<Source> sources;
    sources.reserve(paths.size());
    for (nb::handle path : paths) sources.push_back({std::string(view(path)), {}});
    for (auto [place, bytes] : data) {
        Source& source = sources.at(nb::cast<size_t>(place));
        source.bytes = view(bytes);
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
        upmap::parallel_for(parts.size(), threads, [&](size_t task) {
            const size_t first = task * kFilesPerTask;
            parts[task] =
                read_files(sources, first, std::min(first + kFilesPerTask, sources.size()), layout);
        });
    }
    nb::dict columns;
    columns["names"] = upmap::merge_names(parts, &Rows::names, &Rows::name);
    columns["file"] = upmap::concatenate(parts, &Rows::file);
    columns["line"] = upmap::concatenate(parts, &Rows::line);
    columns["name"] = upmap::concatenate(parts, &Rows::name);
    columns["width"] = upmap::concatenate(parts, &Rows::width);
    columns["value"] = upmap::concatenate(parts, &Rows::value);
    columns["unread"] = upmap::concatenate(parts, &Rows::unread);
    return columns;
}

}  // namespace

NB_MODULE(native, module) {
    module.def("read_rows", &read_rows, nb::arg("paths"), nb::arg("name_column"),
               nb::arg("keywords"), nb::arg("skipped_prefixes"), nb::arg("threads"),
               nb::arg("data"),
               "The columns of TextRows (width in place of start), and the files not read.");
}
