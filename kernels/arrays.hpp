// Arrays that numpy lends to a kernel, and arrays that a kernel hands over to numpy.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <utility>

#include "kernels/buffer.hpp"

namespace upmap {

// An array that a kernel reads: in C order, of exactly this type; nanobind refuses any other.
template <class T, size_t Dimensions>
using Input = nanobind::ndarray<const T, nanobind::ndim<Dimensions>, nanobind::c_contig,
                                nanobind::device::cpu>;

// An array of the caller's that a kernel writes to.
template <class T, size_t Dimensions>
using Output =
    nanobind::ndarray<T, nanobind::ndim<Dimensions>, nanobind::c_contig, nanobind::device::cpu>;

// A numpy array that owns the buffer; `strides` (in elements) where it is not in C order. It may be
// shorter than the buffer.
template <class T>
nanobind::object to_numpy(Buffer<T>&& buffer, std::initializer_list<size_t> shape,
                          std::initializer_list<int64_t> strides = {}) {
    T* data = buffer.release();
    nanobind::capsule owner(data, [](void* memory) noexcept { std::free(memory); });
    if (strides.size())
        return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner, strides));
    return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner));
}

}  // namespace upmap
