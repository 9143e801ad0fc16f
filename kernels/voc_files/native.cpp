// VOC's files to columns, fast: many files at once, and no object made for a line or an element.
//
// Does what kernels/voc_files/reference.py says for the files of the usual kind. It says which
// files it did not read, and the reference reads those.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/names.hpp"
#include "kernels/parallel.hpp"
#include "kernels/parts.hpp"
#include "kernels/strings.hpp"
#include "kernels/text_buffer.hpp"
#include "kernels/voc_files/annotation.hpp"
#include "kernels/voc_files/results.hpp"

namespace nb = nanobind;
using namespace upmap::voc;

namespace {

constexpr size_t kFilesPerTask = 32;  // some milliseconds of work

// The objects of some images that follow on one another.
struct Annotations {
    upmap::Names classes;
    std::vector<int32_t> image, label, unread;
    std::vector<double> box;
    std::vector<uint8_t> difficult;
    std::vector<int64_t> image_size;

    // What was read of image i; images must ascend.
    void push(const AnnotationReader& reader, int32_t i) {
        for (const Object& object : reader.objects) {
            image.push_back(i);
            label.push_back(classes.index(object.name));
            box.insert(box.end(), object.box, object.box + 4);
            difficult.push_back(object.difficult);
        }
        image_size.insert(image_size.end(), reader.size, reader.size + 2);
    }

    // Image i keeps its row of sizes, which the reference fills.
    void push_unread(int32_t i) {
        image_size.insert(image_size.end(), 2, 0);
        unread.push_back(i);
    }
};

// The files first .. last - 1.
Annotations read_annotations(const std::vector<std::string>& paths, size_t first, size_t last) {
    Annotations part;
    upmap::TextBuffer buffer;
    AnnotationReader reader;
    for (size_t i = first; i < last; ++i) {
        if (buffer.read(paths[i]) && reader.read(buffer.text()))
            part.push(reader, static_cast<int32_t>(i));
        else
            part.push_unread(static_cast<int32_t>(i));
    }
    return part;
}

// The paths of the images' annotations; empty where a name has no UTF-8, which no file is read for.
std::vector<std::string> annotation_paths(std::string_view folder, const nb::list& names) {
    std::vector<std::string> paths;
    for (nb::handle name : names) {
        const std::string_view utf8 = upmap::utf8_view(name);
        paths.push_back(utf8.empty() ? ""
                                     : std::string(folder).append("/").append(utf8).append(".xml"));
    }
    return paths;
}

// A part holds the images of one task.
nb::dict annotations(nb::bytes folder, nb::list names, int threads) {
    const auto paths = annotation_paths(upmap::bytes_view(folder), names);
    std::vector<Annotations> parts((paths.size() + kFilesPerTask - 1) / kFilesPerTask);
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(parts.size(), threads, [&](size_t task) {
            const size_t first = task * kFilesPerTask;
            parts[task] =
                read_annotations(paths, first, std::min(first + kFilesPerTask, paths.size()));
        });
    }
    nb::dict columns;
    columns["class_name"] = upmap::merge_names(parts, &Annotations::classes, &Annotations::label);
    columns["image"] = upmap::concatenate(parts, &Annotations::image);
    columns["label"] = upmap::concatenate(parts, &Annotations::label);
    columns["box"] = upmap::concatenate(parts, &Annotations::box, 4);
    columns["difficult"] = upmap::concatenate(parts, &Annotations::difficult);
    columns["image_size"] = upmap::concatenate(parts, &Annotations::image_size, 2);
    columns["unread"] = upmap::concatenate(parts, &Annotations::unread);
    return columns;
}

struct Detections : Results {
    std::vector<int32_t> file, unread;
};

// The bytes of a results file, or its path.
struct ResultsFile {
    std::string path;
    std::string_view bytes;
    bool has_bytes = false;
};

// The detections of file i; none, and its index in `unread`, where any line is not of the usual
// kind.
Detections read_detections(const ResultsFile& source, int32_t i, const ImageIndices& images) {
    Detections part;
    upmap::TextBuffer buffer;
    if (source.has_bytes) buffer.copy(source.bytes);
    if (!(source.has_bytes || buffer.read(source.path)) ||
        !ResultsReader(images, part).read(buffer.text())) {
        part = {};
        part.unread.push_back(i);
    }
    part.file.assign(part.image.size(), i);
    return part;
}

// `images` maps names to indices, `data` the indices of paths to bytes that stand for the file.
nb::dict results(nb::list paths, nb::dict images, int threads, nb::dict data) {
    ImageIndices indices;
    for (auto [name, index] : images) indices.add(upmap::utf8_view(name), nb::cast<int32_t>(index));
    std::vector<ResultsFile> files;
    for (nb::handle path : paths)
        files.push_back({std::string(upmap::bytes_view(nb::cast<nb::bytes>(path))), {}});
    for (auto [index, bytes] : data) {  // which `data` keeps alive
        ResultsFile& file = files.at(nb::cast<size_t>(index));
        file.bytes = upmap::bytes_view(nb::cast<nb::bytes>(bytes));
        file.has_bytes = true;
    }
    std::vector<Detections> parts(files.size());
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(files.size(), threads, [&](size_t i) {
            parts[i] = read_detections(files[i], static_cast<int32_t>(i), indices);
        });
    }
    nb::dict columns;
    columns["file"] = upmap::concatenate(parts, &Detections::file);
    columns["image"] = upmap::concatenate<int32_t, Detections>(parts, &Detections::image);
    columns["score"] = upmap::concatenate<double, Detections>(parts, &Detections::score);
    columns["box"] = upmap::concatenate<double, Detections>(parts, &Detections::box, 4);
    columns["unread"] = upmap::concatenate(parts, &Detections::unread);
    return columns;
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "annotations", &annotations, nb::arg("folder"), nb::arg("names"), nb::arg("threads"),
        "The columns of kernels.voc_files.Annotations by name, and the files that were not read.");
    module.def(
        "results", &results, nb::arg("paths"), nb::arg("images"), nb::arg("threads"),
        nb::arg("data") = nb::dict(),
        "The columns of kernels.voc_files.Results by name, and the files that were not read.");
}
