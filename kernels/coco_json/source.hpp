// The bytes of a file, and a window on some of them.
//
// Nothing is parsed but a window's own copy: a file that another process changes, cuts short or takes
// away meanwhile is at worst refused.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/buffer.hpp"
#include "kernels/coco_json/scanner.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>

#include <cerrno>
#define UPMAP_HAS_PREAD
#endif

namespace upmap::json {

// Bytes of a file that could not be read: the system's error number, or 0 if the file changed.
struct Unreadable {
    int error;
};

// Bytes in memory, which must outlive it, or of an open file. Offsets count from the file's beginning.
class Source {
  public:
    Source(const char* bytes, int64_t size) : bytes_(bytes), end_(size) { skip_mark(); }
#if defined(UPMAP_HAS_PREAD)
    Source(int file, int64_t size) : file_(file), end_(size) { skip_mark(); }
#endif

    int64_t begin() const { return begin_; }  // behind a UTF-8 byte order mark
    int64_t end() const { return end_; }

    // Copies `count` bytes from offset `from` on; throws Unreadable. May be called by many threads.
    void copy(int64_t from, char* to, int64_t count) const {
        if (bytes_)
            std::memcpy(to, bytes_ + from, static_cast<size_t>(count));
        else
            read(from, to, count);
    }

  private:
    const char* bytes_ = nullptr;
    int file_ = -1;
    int64_t begin_ = 0, end_ = 0;

    void skip_mark() {
        char first[3];
        if (end_ < 3) return;
        copy(0, first, 3);
        if (!std::memcmp(first, "\xEF\xBB\xBF", 3)) begin_ = 3;
    }

    void read(int64_t from, char* to, int64_t count) const {
#if defined(UPMAP_HAS_PREAD)
        while (count > 0) {
            const ssize_t n =
                pread(file_, to, static_cast<size_t>(count), static_cast<off_t>(from));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) throw Unreadable{errno};
            if (n == 0) throw Unreadable{0};
            from += n, to += n, count -= n;
        }
#else
        (void)from, (void)to, (void)count;
        throw Unreadable{0};
#endif
    }
};

// A copy of a range of a source, followed by zeros: what the range cuts off reads as malformed there.
class Window {
  public:
    explicit Window(const Source& source) : source_(source) {}

    // Copies the range from `begin` on, as far as the source goes, into memory that is used again.
    void load(int64_t begin, int64_t end) {
        end = std::min(end, source_.end());
        length_ = std::max<int64_t>(end - begin, 0);
        const auto room = static_cast<size_t>(length_) + PADDING;
        if (bytes_.size() < room) {
            bytes_ = Buffer<char>();
            bytes_ = Buffer<char>(room + room / 8);
        }
        source_.copy(begin, bytes_.data(), length_);
        std::memset(bytes_.data() + length_, 0, PADDING);
        first_ = begin;
    }

    const char* begin() const { return bytes_.data(); }
    const char* end() const { return bytes_.data() + length_; }
    int64_t offset(const char* p) const { return first_ + (p - bytes_.data()); }

    // Whether a cursor that stopped at `p` may have been stopped by the end of the window, and not by
    // the end of the source: it stops at most an escape before.
    bool cut_off(const char* p) const {
        return end() - p < LONGEST && offset(end()) < source_.end();
    }

    static constexpr int64_t LONGEST = 8;  // bytes: more than of an escape or a character

  private:
    const Source& source_;
    Buffer<char> bytes_;
    int64_t first_ = 0, length_ = 0;
};

}  // namespace upmap::json
