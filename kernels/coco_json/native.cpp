// COCO JSON to columns, fast: no object is made for a record, and what no column needs is stepped
// over.
//
// Does what kernels/coco_json/reference.py says. What it refuses it does not explain: it says
// where, and explanation.py puts that into words.
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <exception>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "kernels/arrays.hpp"
#include "kernels/coco_json/sections.hpp"
#include "kernels/file.hpp"
#include "kernels/parallel.hpp"
#include "kernels/source.hpp"
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

// What a reading came to: the sections, or why there are none.
template <class Sections>
struct Outcome {
    Sections sections;
    bool is_file = true;
    std::optional<Refusal> refusal;
    std::optional<upmap::Unreadable> unreadable;
};

void read_sections(const upmap::Source& source, int threads, Instances& sections) {
    read_instances(source, threads, sections);
}

void read_sections(const upmap::Source& source, int threads, Section<Results>& section) {
    read_results(source, threads, section);
}

void add_sections(nb::dict& columns, Instances& sections) {
    add_columns(columns, sections.images);
    add_columns(columns, sections.categories);
    add_columns(columns, sections.annotations);
}

void add_sections(nb::dict& columns, Section<Results>& section) { add_columns(columns, section); }

// Reads a file, on which it may wait. Needs no GIL, and throws nothing but std::bad_alloc.
template <class Sections>
void read_file(const std::string& path, int threads, Outcome<Sections>& outcome) {
    try {
        outcome.is_file = upmap::is_regular_file(path);
        if (!outcome.is_file) return;
        const upmap::File file(path);
        outcome.is_file = file.is_open();
        if (!outcome.is_file) return;
        read_sections(upmap::Source(file), threads, outcome.sections);
        file.check_unchanged();
    } catch (const Refusal& refusal) {
        outcome.refusal = refusal;
    } catch (const upmap::Unreadable& unreadable) {
        outcome.unreadable = unreadable;
    }
}

template <class Sections>
void read_bytes(std::string_view bytes, int threads, Outcome<Sections>& outcome) {
    try {
        read_sections(upmap::Source(bytes), threads, outcome.sections);
    } catch (const Refusal& refusal) {
        outcome.refusal = refusal;
    }
}

// The columns of an outcome, whose memory it takes; a tuple that says why the text is refused; or
// None for what is no regular file.
template <class Sections>
nb::object to_columns(Outcome<Sections>& outcome) {
    if (outcome.unreadable) raise(*outcome.unreadable);
    if (!outcome.is_file) return nb::none();
    if (const auto& refusal = outcome.refusal)
        return nb::make_tuple(refusal->kind, refusal->within, refusal->record, refusal->begin,
                              refusal->end);
    nb::dict columns;
    add_sections(columns, outcome.sections);
    return columns;
}

template <class Sections>
nb::object read_columns(const nb::bytes& path, int threads, const std::optional<nb::bytes>& data) {
    const std::string file_path(upmap::bytes_view(path));
    const std::string_view bytes = data ? upmap::bytes_view(*data) : std::string_view();
    Outcome<Sections> outcome;
    {
        nb::gil_scoped_release release;
        if (data)
            read_bytes(bytes, threads, outcome);
        else
            read_file(file_path, threads, outcome);
    }
    return to_columns(outcome);
}

// A file that is read in the background from the construction on: a program imports meanwhile.
template <class Sections>
class Reading {
  public:
    Reading(const nb::bytes& path, int threads)
        : path_(upmap::bytes_view(path)), thread_count_(threads), work_([this] { read(); }) {
        thread_.emplace(1, work_);
    }

    // Waits for the end of the reading. It hands the memory on, so another call reads again.
    nb::object columns() {
        {
            nb::gil_scoped_release release;
            thread_.reset();
            if (!is_done_) read_file(path_, thread_count_, outcome_);
        }
        if (failure_) std::rethrow_exception(failure_);
        is_done_ = false;
        Outcome<Sections> outcome = std::exchange(outcome_, {});
        return to_columns(outcome);
    }

  private:
    std::string path_;
    int thread_count_;
    Outcome<Sections> outcome_;
    std::exception_ptr failure_;
    bool is_done_ = false;  // also if no thread could be started
    std::function<void()> work_;
    std::optional<upmap::HelperThreads> thread_;  // joined before anything above is destroyed

    void read() {
        try {
            read_file(path_, thread_count_, outcome_);
        } catch (...) {
            failure_ = std::current_exception();
        }
        is_done_ = true;
    }
};

template <class Sections>
void add_reading(nb::module_& module, const char* name) {
    nb::class_<Reading<Sections>>(module, name)
        .def(nb::init<const nb::bytes&, int>(), nb::arg("path"), nb::arg("threads"))
        .def("columns", &Reading<Sections>::columns);
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "instances", &read_columns<Instances>, nb::arg("path"), nb::arg("threads"),
        nb::arg("data") = nb::none(),
        "The columns of kernels.coco_json.Instances by name, of a file or of `data`; a tuple "
        "(kind, within, record, begin, end) for text that is refused; None for no regular file.");
    module.def("results", &read_columns<Section<Results>>, nb::arg("path"), nb::arg("threads"),
               nb::arg("data") = nb::none(),
               "The columns of kernels.coco_json.Results by name; see instances.");
    add_reading<Instances>(module, "InstancesReading");
    add_reading<Section<Results>>(module, "ResultsReading");
}
