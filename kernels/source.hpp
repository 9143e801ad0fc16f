// The bytes of a file or of memory, and a window on some of them.
//
// Nothing is parsed but a window's own copy: a file that another process changes, cuts short or
// takes away meanwhile is at worst refused.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "kernels/buffer.hpp"
#include "kernels/file.hpp"

namespace upmap {

// Bytes in memory or of an open file, which must outlive it. Offsets count from the beginning.
class Source {
  public:
    explicit Source(std::string_view bytes)
        : bytes_(bytes.data()), end_(static_cast<int64_t>(bytes.size())) {
        skip_byte_order_mark();
    }
    explicit Source(const File& file) : file_(&file), end_(static_cast<int64_t>(file.size())) {
        skip_byte_order_mark();
    }

    int64_t begin() const { return begin_; }  // behind a byte order mark
    int64_t end() const { return end_; }

    // Copies `count` bytes from `offset` on, which must lie within the source; throws Unreadable.
    // May be called by many threads.
    void copy(int64_t offset, char* to, size_t count) const {
        auto from = static_cast<size_t>(offset);
        if (!file_) {
            std::memcpy(to, bytes_ + from, count);
            return;
        }
        while (count > 0) {
            const size_t n = file_->read_some(from, to, count);
            if (n == 0) throw Unreadable{0};
            from += n;
            to += n;
            count -= n;
        }
    }

  private:
    const char* bytes_ = nullptr;
    const File* file_ = nullptr;
    int64_t begin_ = 0, end_ = 0;

    void skip_byte_order_mark() {
        char first[kByteOrderMark.size()];
        if (static_cast<size_t>(end_) < sizeof first) return;
        copy(0, first, sizeof first);
        if (std::string_view(first, sizeof first) == kByteOrderMark) begin_ = sizeof first;
    }
};

// A copy of a range of a source, followed by zeros: what the range cuts off reads as malformed
// there.
class Window {
  public:
    explicit Window(const Source& source) : source_(source) {}

    // Copies the range from `begin` on, as far as the source goes, into memory that is used again.
    void load(int64_t begin, int64_t end) {
        length_ = static_cast<size_t>(std::max<int64_t>(std::min(end, source_.end()) - begin, 0));
        const size_t size = length_ + kPadding;
        if (bytes_.size() < size) {
            bytes_ = Buffer<char>();  // freed before more is taken
            bytes_ = Buffer<char>(size + size / 8);
        }
        source_.copy(begin, bytes_.data(), length_);
        std::memset(bytes_.data() + length_, 0, kPadding);
        begin_ = begin;
    }

    char* begin() { return bytes_.data(); }
    const char* begin() const { return bytes_.data(); }
    const char* end() const { return bytes_.data() + length_; }

    // The offset in the source of a pointer into the window.
    int64_t offset(const char* p) const { return begin_ + (p - bytes_.data()); }

    // Whether a cursor that stopped at `p` may have been stopped by the end of the window, and not
    // by the end of the source: it stops at most an escape before.
    bool may_cut_off(const char* p) const {
        return end() - p < kMaxToken && offset(end()) < source_.end();
    }

  private:
    static constexpr int64_t kMaxToken = 8;  // bytes: more than of an escape or a character

    const Source& source_;
    Buffer<char> bytes_;
    int64_t begin_ = 0;
    size_t length_ = 0;
};

}  // namespace upmap
