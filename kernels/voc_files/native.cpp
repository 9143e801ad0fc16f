// VOC's files to columns, fast: many files at once, and no object made for a line or an element.
//
// Does what kernels/voc_files/reference.py says for the files of the usual kind. It says which files it
// did not read, and those the reference judges.
#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"
#include "kernels/voc_files/annotation.hpp"
#include "kernels/voc_files/file.hpp"
#include "kernels/voc_files/results.hpp"

namespace nb = nanobind;
using namespace upmap::voc;

namespace {

constexpr size_t FILES = 32;  // of a task: some milliseconds of work

nb::object text(const std::string& bytes) {
    return nb::steal(
        PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "strict"));
}

// A string's UTF-8; empty if it has none.
std::string_view utf8(nb::handle string) {
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(string.ptr(), &size);
    if (!bytes) PyErr_Clear();
    return {bytes ? bytes : "", static_cast<size_t>(size)};
}

std::string_view view(const nb::bytes& bytes) { return {bytes.c_str(), bytes.size()}; }

// A column of all parts, end to end.
template <class T, class Part>
nb::object array(const std::vector<Part>& parts, std::vector<T> Part::* column, size_t width = 0) {
    size_t count = 0;
    for (const Part& part : parts) count += (part.*column).size();
    upmap::Buffer<T> all(count);
    T* next = all.data();
    for (const Part& part : parts)
        next = std::copy((part.*column).begin(), (part.*column).end(), next);
    if (!width) return upmap::owned(std::move(all), {count});
    return upmap::owned(std::move(all), {count / width, width});
}

class ClassNames {
  public:
    std::vector<std::string> names;

    int32_t place(const std::string& name) {
        const auto [found, is_new] = places_.try_emplace(name, static_cast<int32_t>(names.size()));
        if (is_new) names.push_back(name);
        return found->second;
    }

  private:
    std::unordered_map<std::string, int32_t> places_;
};

// The objects of some images that follow on one another.
struct Annotations {
    ClassNames classes;
    std::vector<int32_t> image, label, unread;
    std::vector<double> box;
    std::vector<uint8_t> difficult;
    std::vector<int64_t> image_size;

    void push(const AnnotationReader& found, int32_t i) {
        for (const Object& object : found.objects) {
            image.push_back(i);
            label.push_back(classes.place(std::string(object.name)));
            box.insert(box.end(), object.box, object.box + 4);
            difficult.push_back(object.difficult);
        }
        image_size.insert(image_size.end(), found.size, found.size + 2);
    }

    void push_unread(int32_t i) {
        image_size.insert(image_size.end(), 2, 0);
        unread.push_back(i);
    }
};

Annotations annotations_of(const std::vector<std::string>& paths, size_t first, size_t last) {
    Annotations part;
    File file;
    AnnotationReader reader;
    for (size_t i = first; i < last; ++i) {
        if (file.read(paths[i]) && reader.read(file.text()))
            part.push(reader, static_cast<int32_t>(i));
        else
            part.push_unread(static_cast<int32_t>(i));
    }
    return part;
}

// The class names of all parts, by which their labels then count.
nb::list common_classes(std::vector<Annotations>& parts) {
    ClassNames all;
    for (Annotations& part : parts) {
        std::vector<int32_t> places;
        for (const std::string& name : part.classes.names) places.push_back(all.place(name));
        for (int32_t& label : part.label) label = places[static_cast<size_t>(label)];
    }
    nb::list names;
    for (const std::string& name : all.names) names.append(text(name));
    return names;
}

std::vector<std::string> paths_of(std::string_view folder, const nb::list& names) {
    std::vector<std::string> paths;
    for (nb::handle name : names) {
        const std::string_view bytes = utf8(name);
        paths.push_back(
            bytes.empty() ? "" : std::string(folder).append("/").append(bytes).append(".xml"));
    }
    return paths;
}

nb::dict annotations(nb::bytes folder, nb::list names, int threads) {
    const auto paths = paths_of(view(folder), names);
    std::vector<Annotations> parts((paths.size() + FILES - 1) / FILES);
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(static_cast<int64_t>(parts.size()), threads, [&](int64_t task) {
            const size_t first = static_cast<size_t>(task) * FILES;
            parts[first / FILES] =
                annotations_of(paths, first, std::min(first + FILES, paths.size()));
        });
    }
    nb::dict columns;
    columns["class_name"] = common_classes(parts);
    columns["image"] = array(parts, &Annotations::image);
    columns["label"] = array(parts, &Annotations::label);
    columns["box"] = array(parts, &Annotations::box, 4);
    columns["difficult"] = array(parts, &Annotations::difficult);
    columns["image_size"] = array(parts, &Annotations::image_size, 2);
    columns["unread"] = array(parts, &Annotations::unread);
    return columns;
}

struct Detections : Results {
    std::vector<int32_t> file, unread;
};

// The bytes of a results file, or where they are.
struct ResultsFile {
    std::string path;
    std::string_view bytes;
    bool has_bytes = false;
};

Detections detections_of(const ResultsFile& source, int32_t i, const ImagePlaces& places) {
    Detections part;
    File file;
    if (source.has_bytes) file.copy(source.bytes);
    if (!(source.has_bytes || file.read(source.path)) ||
        !ResultsReader(places, part).read(file.text())) {
        part = {};
        part.unread.push_back(i);
    }
    part.file.assign(part.image.size(), i);
    return part;
}

nb::dict results(nb::list paths, nb::dict images, int threads, nb::dict data) {
    ImagePlaces places;
    for (auto [name, place] : images) places.add(utf8(name), nb::cast<int32_t>(place));
    std::vector<ResultsFile> files;
    for (nb::handle path : paths)
        files.push_back({std::string(view(nb::cast<nb::bytes>(path))), {}});
    for (auto [place, bytes] : data) {  // which `data` keeps alive
        ResultsFile& file = files.at(nb::cast<size_t>(place));
        file.bytes = view(nb::cast<nb::bytes>(bytes));
        file.has_bytes = true;
    }
    std::vector<Detections> parts(files.size());
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(static_cast<int64_t>(files.size()), threads, [&](int64_t task) {
            const auto i = static_cast<size_t>(task);
            parts[i] = detections_of(files[i], static_cast<int32_t>(task), places);
        });
    }
    nb::dict columns;
    columns["file"] = array(parts, &Detections::file);
    columns["image"] = array<int32_t, Detections>(parts, &Detections::image);
    columns["score"] = array<double, Detections>(parts, &Detections::score);
    columns["box"] = array<double, Detections>(parts, &Detections::box, 4);
    columns["unread"] = array(parts, &Detections::unread);
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
