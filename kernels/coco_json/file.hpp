// A regular file, open for reading.
#pragma once
#include <cstdio>
#include <memory>
#include <string>

#include "kernels/coco_json/source.hpp"

#if defined(UPMAP_HAS_PREAD)
#include <fcntl.h>
#include <sys/stat.h>
#endif

namespace upmap::json {

#if defined(UPMAP_HAS_PREAD)

class File {
  public:
    // Whatever is no regular file is not opened: to open a pipe could wait, or take it from its reader.
    explicit File(const std::string& path) {
        if (path.find('\0') != path.npos) return;
        if (stat(path.c_str(), &about_) || !S_ISREG(about_.st_mode)) return;
        file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        if (file_ >= 0 && (fstat(file_, &about_) || !S_ISREG(about_.st_mode))) {
            close(file_);
            file_ = -1;
        }
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() {
        if (file_ >= 0) close(file_);
    }
    bool is_open() const { return file_ >= 0; }
    Source source() const { return {file_, static_cast<int64_t>(about_.st_size)}; }

    // Throws Unreadable if the file was written to since it was opened.
    void refuse_changed() const {
        struct stat now;
        if (fstat(file_, &now)) throw Unreadable{errno};
        const bool is_same = now.st_size == about_.st_size && now.st_mtime == about_.st_mtime;
        if (!is_same || nanoseconds(now) != nanoseconds(about_)) throw Unreadable{0};
    }

  private:
    int file_ = -1;
    struct stat about_{};

    static long nanoseconds(const struct stat& about) {
#if defined(__APPLE__)
        return about.st_mtimespec.tv_nsec;
#else
        return about.st_mtim.tv_nsec;
#endif
    }
};

#else

class File {
  public:
    explicit File(const std::string& path) {
        std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             &fclose);
        if (!file) return;
        char block[1 << 16];
        for (size_t n; (n = std::fread(block, 1, sizeof block, file.get()));)
            bytes_.append(block, n);
        is_open_ = !std::ferror(file.get());
    }
    bool is_open() const { return is_open_; }
    Source source() const { return {bytes_.data(), static_cast<int64_t>(bytes_.size())}; }
    void refuse_changed() const {}

  private:
    std::string bytes_;
    bool is_open_ = false;
};

#endif

}  // namespace upmap::json
