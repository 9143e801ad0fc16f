// The bytes of a small file, in memory that the next file is read into.
#pragma once
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#define UPMAP_HAS_DESCRIPTORS
#endif

namespace upmap::voc {

constexpr size_t PADDING = 64;  // zero bytes behind the text: more than any word that is looked for

struct Text {
    const char* begin;
    const char* end;  // followed by PADDING zero bytes
};

class File {
  public:
    // False for what is not a file, or cannot be read, or grows meanwhile.
    bool read(const std::string& path) {
        length_ = 0;
        const bool is_path = !path.empty() && path.find('\0') == path.npos;
        if (!is_path || !read_bytes(path.c_str())) return false;
        std::memset(bytes_.data() + length_, 0, PADDING);
        return true;
    }

    // As if these bytes had been read.
    void copy(std::string_view bytes) {
        length_ = 0;
        std::memcpy(room(bytes.size()), bytes.data(), bytes.size());
        length_ = bytes.size();
        std::memset(bytes_.data() + length_, 0, PADDING);
    }

    // What was read, without a UTF-8 byte order mark.
    Text text() const {
        const char* begin = bytes_.data();
        const bool has_mark = length_ >= 3 && !std::memcmp(begin, "\xEF\xBB\xBF", 3);
        return {begin + (has_mark ? 3 : 0), begin + length_};
    }

  private:
    std::vector<char> bytes_;
    size_t length_ = 0;

    char* room(size_t bytes) {
        if (bytes_.size() < length_ + bytes + PADDING) bytes_.resize(length_ + bytes + PADDING);
        return bytes_.data() + length_;
    }

#if defined(UPMAP_HAS_DESCRIPTORS)
    struct Descriptor {
        int number;
        ~Descriptor() {
            if (number >= 0) close(number);
        }
    };

    bool read_bytes(const char* path) {
        const Descriptor file{open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)};
        struct stat about;
        if (file.number < 0 || fstat(file.number, &about) || !S_ISREG(about.st_mode)) return false;
        const auto size = static_cast<size_t>(about.st_size);
        while (length_ <= size) {
            const size_t most = size + 1 - length_;
            const ssize_t count = ::read(file.number, room(most), most);
            if (count == 0) return true;
            if (count > 0) length_ += static_cast<size_t>(count);
            if (length_ == size && count > 0) return true;  // less than was asked for: its end
            if (count < 0 && errno != EINTR) return false;
        }
        return false;
    }
#else
    bool read_bytes(const char* path) {
        std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), &fclose);
        if (!file) return false;
        constexpr size_t BLOCK = 1 << 16;
        for (size_t n; (n = std::fread(room(BLOCK), 1, BLOCK, file.get()));) length_ += n;
        return !std::ferror(file.get());
    }
#endif
};

}  // namespace upmap::voc
