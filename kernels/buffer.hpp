// Memory for columns.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace upmap {

// Memory that is not written before it is filled: a large array costs no pass over zeros, and where
// the system can, few page faults.
template <class T>
class Buffer {
  public:
    Buffer() = default;
    explicit Buffer(size_t count)
        : data_(static_cast<T*>(allocated(count, sizeof(T)))), count_(count) {}
    // The same memory as values of another type.
    template <class U>
    explicit Buffer(Buffer<U>&& other) : count_(other.size() * sizeof(U) / sizeof(T)) {
        data_.reset(reinterpret_cast<T*>(other.release()));
    }
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

    static void* allocated(size_t count, size_t size) {
        if (count > PTRDIFF_MAX / size) throw std::bad_alloc();
        const size_t bytes = count * size;
        void* memory = nullptr;
#if defined(MADV_HUGEPAGE)
        constexpr size_t kHugePage = 2 << 20;
        if (bytes >= 2 * kHugePage) {
            if (posix_memalign(&memory, kHugePage, bytes)) throw std::bad_alloc();
            madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
            return memory;
        }
#endif
        memory = std::malloc(bytes ? bytes : 1);
        if (!memory) throw std::bad_alloc();
        return memory;
    }
};

}  // namespace upmap
