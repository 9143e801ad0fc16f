// Columns that come from numpy, and results that numpy comes to own.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>

#include "kernels/buffer.hpp"

namespace upmap {

template <class T, size_t Dimensions>
using Input = nanobind::ndarray<const T, nanobind::ndim<Dimensions>, nanobind::c_contig,
                                nanobind::device::cpu>;

// An attribute of a Python object that the caller has validated: of exactly this type, nothing is
// converted. Another one is a TypeError.
template <class T>
T attribute(nanobind::handle owner, const char* name) {
    T value{};
    if (!nanobind::try_cast(nanobind::object(owner.attr(name)), value, false))
        throw nanobind::type_error((std::string(name) + " has the wrong type").c_str());
    return value;
}

// Brings what lies at an address nearer, where the compiler can say so.
inline void prefetch(const void* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address);
#else
    (void)address;
#endif
}

// A numpy array that owns the buffer; `strides` (in elements) where it is not in C order.
template <class T>
nanobind::object owned(Buffer<T>&& buffer, std::initializer_list<size_t> shape,
                       std::initializer_list<int64_t> strides = {}) {
    T* data = buffer.release();
    nanobind::capsule owner(data, [](void* pointer) noexcept { std::free(pointer); });
    if (strides.size())
        return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner, strides));
    return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner));
}

}  // namespace upmap
