// A file as text in memory, followed by zeros.
//
// Where the system can, it is mapped: pages are brought in for a range that is about to be read, and
// given back after it, so that a file of any size needs little memory. (A file that another process
// cuts short meanwhile ends the program, as with every mapped file.)
#pragma once
#include <cstdio>
#include <memory>
#include <string>

#include "kernels/coco_json/records.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define UPMAP_MAPS_FILES
#endif

namespace upmap::json {

#if defined(UPMAP_MAPS_FILES)

class File {
  public:
    explicit File(const std::string& path) {
        const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (file < 0) return;
        struct stat about;
        if (fstat(file, &about) == 0 && S_ISREG(about.st_mode)) map(file, about.st_size);
        close(file);
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (begin_) munmap(begin_, mapped_);
    }
    bool is_open() const { return begin_ != nullptr; }
    Text text() const { return {begin_, begin_ + size_, &expected, &done}; }

  private:
    char* begin_ = nullptr;
    size_t size_ = 0, mapped_ = 0;

    static uintptr_t page() { return static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)); }

    // Room for the file and a page of zeros, and then the file over the beginning of it.
    void map(int file, off_t size) {
        size_ = static_cast<size_t>(size);
        mapped_ = (size_ + page() - 1) / page() * page() + page();
        const int room_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        void* room = mmap(nullptr, mapped_, PROT_READ, room_flags, -1, 0);
        if (room == MAP_FAILED) return;
        if (size_ && mmap(room, size_, PROT_READ, MAP_PRIVATE | MAP_FIXED, file, 0) == MAP_FAILED) {
            munmap(room, mapped_);
            return;
        }
        begin_ = static_cast<char*>(room);
    }

    static void expected(const char* begin, const char* end) {
#if defined(MADV_POPULATE_READ)
        const uintptr_t first = reinterpret_cast<uintptr_t>(begin) / page() * page();
        madvise(reinterpret_cast<void*>(first), reinterpret_cast<uintptr_t>(end) - first,
                MADV_POPULATE_READ);
#else
        (void)begin, (void)end;
#endif
    }

    static void done(const char* begin, const char* end) {
        const uintptr_t first = (reinterpret_cast<uintptr_t>(begin) + page() - 1) / page() * page();
        const uintptr_t last = reinterpret_cast<uintptr_t>(end) / page() * page();
        if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
    }
};

#else

class File {
  public:
    explicit File(const std::string& path) {
        std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), &fclose);
        if (!file) return;
        char block[1 << 16];
        for (size_t n; (n = std::fread(block, 1, sizeof block, file.get()));) bytes_.append(block, n);
        size_ = bytes_.size();
        bytes_.append(PADDING, '\0');
        is_open_ = !std::ferror(file.get());
    }
    bool is_open() const { return is_open_; }
    Text text() const { return {bytes_.data(), bytes_.data() + size_}; }

  private:
    std::string bytes_;
    size_t size_ = 0;
    bool is_open_ = false;
};

#endif

// The text of a file without a UTF-8 byte order mark.
inline Text without_mark(Text text) {
    if (text.end - text.begin >= 3 && !std::memcmp(text.begin, "\xEF\xBB\xBF", 3)) text.begin += 3;
    return text;
}

}  // namespace upmap::json
