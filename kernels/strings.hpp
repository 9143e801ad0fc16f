// Python's strings and bytes, seen from C++ as UTF-8.
#pragma once
#include <nanobind/nanobind.h>

#include <cstddef>
#include <string_view>

namespace upmap {

// A Python string of UTF-8, which the readers have checked; a UnicodeDecodeError otherwise.
inline nanobind::object to_str(std::string_view utf8) {
    return nanobind::steal(
        PyUnicode_DecodeUTF8(utf8.data(), static_cast<Py_ssize_t>(utf8.size()), "strict"));
}

// The UTF-8 of a Python string, which must outlive the view; empty where it has none, as a string
// with a surrogate in it.
inline std::string_view utf8_view(nanobind::handle string) {
    Py_ssize_t size = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(string.ptr(), &size);
    if (!utf8) {
        PyErr_Clear();
        return {};
    }
    return {utf8, static_cast<size_t>(size)};
}

// What a bytes object holds, which must outlive the view.
inline std::string_view bytes_view(const nanobind::bytes& bytes) {
    return {bytes.c_str(), bytes.size()};
}

}  // namespace upmap
