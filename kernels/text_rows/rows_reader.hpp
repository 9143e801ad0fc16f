// Rows of white-space separated words, numbers but for a name; ASCII but for the names.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/file.hpp"
#include "kernels/names.hpp"
#include "kernels/text.hpp"

namespace upmap::text_rows {

// What the words of a row are; see RowLayout in contract.py.
struct Layout {
    int64_t name_column = -1;  // none if negative
    std::vector<std::pair<std::string, double>> keywords;
    std::vector<std::string> skipped_prefixes;

    const double* keyword(std::string_view word) const {
        for (const auto& [text, number] : keywords)
            if (word == text) return &number;
        return nullptr;
    }

    bool skips(std::string_view word) const {
        for (const std::string& prefix : skipped_prefixes)
            if (word.substr(0, prefix.size()) == prefix) return true;
        return false;
    }
};

// The rows of some files that follow on one another.
struct Rows {
    Names names;
    std::vector<int32_t> file, line, name, unread;
    std::vector<int64_t> width;
    std::vector<double> value;
};

class RowsReader {
  public:
    RowsReader(const Layout& layout, Rows& rows) : layout_(layout), rows_(rows) {}

    // Appends the rows of a text to `rows`, but for the column `file`. False, with `rows` as it was
    // but for new names, where the reference is to judge.
    bool read(const Text& text) {
        const size_t lines = rows_.line.size(), numbers = rows_.value.size();
        if (read_lines(text)) return true;
        rows_.line.resize(lines);
        rows_.width.resize(lines);
        rows_.value.resize(numbers);
        if (layout_.name_column >= 0) rows_.name.resize(lines);
        return false;
    }

  private:
    const Layout& layout_;
    Rows& rows_;
    const char* p_ = nullptr;
    const char* end_ = nullptr;

    bool read_lines(const Text& text) {
        p_ = text.begin;
        end_ = text.end;
        for (int32_t line = 1; p_ != end_; ++line) {
            if (line == INT32_MAX || !read_line(line)) return false;
            if (p_ != end_ && *p_ == '\r')
                ++p_;  // of "\r\n", or a line end by itself
            else if (p_ != end_ && *p_ == '\n') {
                ++p_;
                continue;
            } else if (p_ != end_)
                return false;
            if (p_ != end_ && p_[-1] == '\r' && *p_ == '\n') ++p_;
        }
        return true;
    }

    // The words of a line, up to its end.
    bool read_line(int32_t line) {
        skip_blanks();
        if (is_line_end()) return true;
        if (!layout_.skipped_prefixes.empty() && layout_.skips(peek_word())) {
            while (!is_line_end()) ++p_;
            return true;
        }
        const size_t first = rows_.value.size();
        int64_t column = 0;
        for (; !is_line_end(); ++column) {
            if (column == layout_.name_column ? !read_name() : !read_number()) return false;
            if (!is_line_end() && !skip_blanks()) return false;
        }
        if (column <= layout_.name_column) return false;
        rows_.line.push_back(line);
        rows_.width.push_back(static_cast<int64_t>(rows_.value.size() - first));
        return true;
    }

    bool is_line_end() const { return p_ == end_ || *p_ == '\n' || *p_ == '\r'; }

    // Whether there was any: what Python splits ASCII text at, but for line ends.
    bool skip_blanks() {
        const char* first = p_;
        while (*p_ == ' ' || *p_ == '\t' || *p_ == '\v' || *p_ == '\f') ++p_;
        return p_ != first;
    }

    // The characters up to white space or to any other control character, which no word has.
    std::string_view peek_word() const {
        const char* last = p_;
        while (static_cast<unsigned char>(*last) > ' ') ++last;
        return {p_, static_cast<size_t>(last - p_)};
    }

    bool read_name() {
        const std::string_view word = peek_word();
        for (size_t i = 0; i < word.size();) {
            uint32_t code;
            const bool is_ascii = static_cast<unsigned char>(word[i]) < 0x80;
            const int length = is_ascii ? 1 : utf8_character(word.data() + i, code);
            if (!length) return false;
            i += static_cast<size_t>(length);
        }
        if (word.empty()) return false;
        rows_.name.push_back(rows_.names.index(word));
        p_ += word.size();
        return true;
    }

    bool read_number() {
        const char* first = p_;
        double number;
        if (!read_decimal(p_, number) || static_cast<unsigned char>(*p_) > ' ') {
            p_ = first;
            const std::string_view word = peek_word();
            const double* keyword = layout_.keyword(word);
            if (!keyword) return false;
            number = *keyword;
            p_ += word.size();
        }
        rows_.value.push_back(number);
        return true;
    }
};

}  // namespace upmap::text_rows
