// Memory for the columns of a table, which numpy may come to own.
#pragma once
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace upmap {

// An array of T that is not initialized: a large one costs no pass over zeros, and where the system
// has huge pages, few page faults. T must be trivially copyable, for no constructor runs.
template <class T>
class Buffer {
  public:
    Buffer() = default;

    // Throws std::bad_alloc where there is no memory for `count` elements.
    explicit Buffer(size_t count)
        : data_(static_cast<T*>(allocate(count, sizeof(T)))), count_(count) {}

    T* data() { return data_.get(); }
    const T* data() const { return data_.get(); }
    size_t size() const { return count_; }
    T& operator[](size_t i) { return data_.get()[i]; }
    const T& operator[](size_t i) const { return data_.get()[i]; }

    // Hands the memory to the caller, who frees it by std::free.
    T* release() {
        count_ = 0;
        return data_.release();
    }

    template <class To, class From>
    friend Buffer<To> reinterpret_buffer(Buffer<From>&& buffer);

  private:
    struct Free {
        void operator()(void* memory) const noexcept { std::free(memory); }
    };
    std::unique_ptr<T, Free> data_;
    size_t count_ = 0;

    // Takes over memory of std::malloc.
    Buffer(T* memory, size_t count) : data_(memory), count_(count) {}

    static void* allocate(size_t count, size_t size) {
        if (count > PTRDIFF_MAX / size) throw std::bad_alloc();
        const size_t bytes = count * size;
        void* memory = nullptr;
#if defined(MADV_HUGEPAGE)
        // Below two huge pages, rounding up to them would waste more than the page faults cost.
        constexpr size_t kHugePage = 2 << 20;
        if (bytes >= 2 * kHugePage) {
            if (posix_memalign(&memory, kHugePage, bytes)) throw std::bad_alloc();
            madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
            return memory;
        }
#endif
        // malloc(0) may return a null pointer, which would look like a failure.
        memory = std::malloc(bytes ? bytes : 1);
        if (!memory) throw std::bad_alloc();
        return memory;
    }
};

// The same memory as values of another type. Its size must be a multiple of that type's, and its
// bytes must have been copied from values of that type.
template <class To, class From>
Buffer<To> reinterpret_buffer(Buffer<From>&& buffer) {
    const size_t bytes = buffer.size() * sizeof(From);
    assert(bytes % sizeof(To) == 0);
    return Buffer<To>(reinterpret_cast<To*>(buffer.release()), bytes / sizeof(To));
}

}  // namespace upmap
