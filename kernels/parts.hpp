// What several tasks read, put end to end: each has a part of the columns.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/names.hpp"
#include "kernels/strings.hpp"

namespace upmap {

// A column of all parts: [rows], or [rows, width] where a width is named.
template <class T, class Part>
nanobind::object concatenate(const std::vector<Part>& parts, std::vector<T> Part::* column,
                             size_t width = 0) {
    size_t count = 0;
    for (const Part& part : parts) count += (part.*column).size();
    Buffer<T> values(count);
    T* next = values.data();
    for (const Part& part : parts)
        next = std::copy((part.*column).begin(), (part.*column).end(), next);
    if (!width) return to_numpy(std::move(values), {count});
    return to_numpy(std::move(values), {count / width, width});
}

// The names of all parts, to which their indices then refer. Parts stand in the order of the files,
// so the result does not depend on the threads.
template <class Part>
nanobind::list merge_names(std::vector<Part>& parts, Names Part::* names,
                           std::vector<int32_t> Part::* column) {
    Names all;
    for (Part& part : parts) {
        std::vector<int32_t> indices;
        for (const std::string& text : (part.*names).texts) indices.push_back(all.index(text));
        for (int32_t& index : part.*column) index = indices[static_cast<size_t>(index)];
    }
    nanobind::list texts;
    for (const std::string& text : all.texts) texts.append(to_str(text));
    return texts;
}

}  // namespace upmap
