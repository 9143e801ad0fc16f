// The text of one small file after another, in memory that is used again.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/file.hpp"

namespace upmap {

class TextBuffer {
  public:
    // Reads a file. False for what is no regular file, cannot be read, or grows meanwhile.
    bool read(const std::string& path) {
        length_ = 0;
        const File file(path);
        if (!file.is_open()) return false;
        try {
            read_all(file);
        } catch (const Unreadable&) {
            return false;
        }
        pad();
        return length_ <= file.size();
    }

    // Takes a copy of these bytes, as if they were a file's.
    void copy(std::string_view bytes) {
        length_ = 0;
        reserve(bytes.size());
        std::copy(bytes.begin(), bytes.end(), bytes_.begin());
        length_ = bytes.size();
        pad();
    }

    // What was read or copied last, without a byte order mark; valid until the next is.
    Text text() const {
        const std::string_view all(bytes_.data(), length_);
        const bool has_mark = all.substr(0, kByteOrderMark.size()) == kByteOrderMark;
        return {all.data() + (has_mark ? kByteOrderMark.size() : 0), all.data() + length_};
    }

  private:
    std::vector<char> bytes_;
    size_t length_ = 0;

    // Room for `count` bytes behind those that there are, and for the padding.
    void reserve(size_t count) {
        const size_t size = length_ + count + kPadding;
        if (bytes_.size() < size) bytes_.resize(size);
    }

    void pad() { std::memset(bytes_.data() + length_, 0, kPadding); }

    // One byte more is asked for than there should be, so that one call shows that there is no
    // more.
    void read_all(const File& file) {
        const size_t capacity = file.size() + 1;
        reserve(capacity);
        size_t count;
        do {
            count = file.read_some(length_, bytes_.data() + length_, capacity - length_);
            length_ += count;
        } while (count > 0 && length_ < file.size());
    }
};

}  // namespace upmap
