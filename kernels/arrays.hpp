// Columns that come from numpy, and results that numpy comes to own.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <utility>

namespace upmap {

template <class T, size_t Dimensions>
using Input = nanobind::ndarray<const T, nanobind::ndim<Dimensions>, nanobind::c_contig,
                                nanobind::device::cpu>;

// Memory that is not written before it is filled: a large array costs no pass over zeros.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t count) : data_(new T[count]), count_(count) {}
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* release() { return data_.release(); }

  private:
    std::unique_ptr<T[]> data_;
    size_t count_ = 0;
};

// A numpy array that owns the buffer; `strides` (in elements) where it is not in C order.
template <class T>
nanobind::object owned(Buffer<T>&& buffer, std::initializer_list<size_t> shape,
                       std::initializer_list<int64_t> strides = {}) {
    T* data = buffer.release();
    nanobind::capsule owner(data, [](void* pointer) noexcept { delete[] static_cast<T*>(pointer); });
    if (strides.size())
        return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner, strides));
    return nanobind::cast(nanobind::ndarray<nanobind::numpy, T>(data, shape, owner));
}

}  // namespace upmap
