// Regular files, opened and read at offsets; and text in memory, padded for the readers.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace upmap {

// Zero bytes behind a text: more than any word that a reader compares or loads without looking for
// the end first. A zero is no part of any token, so a reader stops there by itself.
constexpr size_t kPadding = 64;

// Text in memory: end[0] .. end[kPadding - 1] are zero bytes.
struct Text {
    const char* begin;
    const char* end;
};

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";  // of UTF-8

// Bytes of a file that could not be read: the system's error number, or 0 if the file changed.
struct Unreadable {
    int error;
};

// Whether there is a regular file. To open a pipe, even for a moment, could break its writer, so
// who is handed any path asks this before.
inline bool is_regular_file(const std::string& path) {
    struct stat status;
    return !stat(path.c_str(), &status) && S_ISREG(status.st_mode);
}

// A regular file, open for reading; closed at the end of its scope.
class File {
  public:
    // Not open afterwards if there is no such file, or it is not regular. Never waits for a pipe.
    explicit File(const std::string& path) {
        if (path.find('\0') != path.npos) return;
        descriptor_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (descriptor_ >= 0 && (fstat(descriptor_, &status_) || !S_ISREG(status_.st_mode))) {
            close(descriptor_);
            descriptor_ = -1;
        }
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (descriptor_ >= 0) close(descriptor_);
    }

    bool is_open() const { return descriptor_ >= 0; }

    // Bytes, when it was opened. It must be open, here and below.
    size_t size() const { return static_cast<size_t>(status_.st_size); }

    // Reads up to `count` bytes from `offset` on and returns how many: 0 at the end of the file.
    // Throws Unreadable. May be called by many threads.
    size_t read_some(size_t offset, char* to, size_t count) const {
        for (;;) {
            const ssize_t n = pread(descriptor_, to, count, static_cast<off_t>(offset));
            if (n >= 0) return static_cast<size_t>(n);
            if (errno != EINTR) throw Unreadable{errno};
        }
    }

    // Throws Unreadable if the file was written to since it was opened, as far as its size and its
    // time of modification tell.
    void check_unchanged() const {
        struct stat now;
        if (fstat(descriptor_, &now)) throw Unreadable{errno};
        const bool is_same = now.st_size == status_.st_size && now.st_mtime == status_.st_mtime;
        if (!is_same || nanoseconds(now) != nanoseconds(status_)) throw Unreadable{0};
    }

  private:
    int descriptor_ = -1;
    struct stat status_{};

    static long nanoseconds(const struct stat& status) {
#if defined(__APPLE__)
        return status.st_mtimespec.tv_nsec;
#else
        return status.st_mtim.tv_nsec;
#endif
    }
};

}  // namespace upmap
