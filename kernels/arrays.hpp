// Columns that come from numpy, and results that numpy comes to own.
#pragma once
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace upmap {

template <class T, size_t Dimensions>
using Input = nanobind::ndarray<const T, nanobind::ndim<Dimensions>, nanobind::c_contig,
                                nanobind::device::cpu>;

// Brings what lies at an address nearer, where the compiler can say so.
inline void prefetch(const void* address) {
#if defined(__GNUC__)
    __builtin_prefetch(address);
#else
    (void)address;
#endif
}

// Memory that is not written before it is filled: a large array costs no pass over zeros, and where
// the system can, few page faults.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t count) : data_(static_cast<T*>(allocated(count * sizeof(T)))), count_(count) {}
    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_.get()[i]; }
    const T& operator[](size_t i) const { return data_.get()[i]; }
    T* release() { return data_.release(); }

  private:
    struct Free {
        void operator()(void* memory) const noexcept { std::free(memory); }
    };
    std::unique_ptr<T, Free> data_;
    size_t count_ = 0;

    static void* allocated(size_t bytes) {
        void* memory = nullptr;
#if defined(MADV_HUGEPAGE)
        constexpr size_t HUGE = 2 << 20;
        if (bytes >= 2 * HUGE) {
            if (posix_memalign(&memory, HUGE, bytes)) throw std::bad_alloc();
            madvise(memory, bytes / HUGE * HUGE, MADV_HUGEPAGE);
            return memory;
        }
#endif
        memory = std::malloc(bytes ? bytes : 1);
        if (!memory) throw std::bad_alloc();
        return memory;
    }
};

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
