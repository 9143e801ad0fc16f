// The fields of a Python dataclass: its columns, which are arrays of equal length, and its scalars.
//
// Python has validated them; what is checked here again keeps a kernel called directly within
// bounds.
#pragma once
#include <nanobind/nanobind.h>

#include <cstddef>
#include <string>

#include "kernels/arrays.hpp"

namespace upmap {

// The attribute as a value of exactly this type, without conversion; anything else is a TypeError.
template <class T>
T attribute(nanobind::handle owner, const char* name) {
    T value{};
    if (!nanobind::try_cast(nanobind::object(owner.attr(name)), value, false))
        throw nanobind::type_error((std::string(name) + " has the wrong type").c_str());
    return value;
}

// The attribute as a column of `rows` values, [rows]; another length is a ValueError.
template <class T>
Input<T, 1> column(nanobind::handle owner, const char* name, size_t rows) {
    const auto values = attribute<Input<T, 1>>(owner, name);
    if (values.shape(0) != rows)
        throw nanobind::value_error(
            (std::string(name) + " must have length " + std::to_string(rows)).c_str());
    return values;
}

// The attribute as a table, [rows, width]; any other shape is a ValueError.
template <class T>
Input<T, 2> table(nanobind::handle owner, const char* name, size_t rows, size_t width) {
    const auto values = attribute<Input<T, 2>>(owner, name);
    if (values.shape(0) != rows || values.shape(1) != width)
        throw nanobind::value_error((std::string(name) + " must be [" + std::to_string(rows) +
                                     ", " + std::to_string(width) + "]")
                                        .c_str());
    return values;
}

}  // namespace upmap
