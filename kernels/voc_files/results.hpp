// VOC results: on each line `image_id score xmin ymin xmax ymax`, in ASCII but for the ids.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/file.hpp"
#include "kernels/text.hpp"
#include "kernels/voc_files/annotation.hpp"

namespace upmap::voc {

// The indices of the images in their catalog. Names that Python would split into words are left
// out.
class ImageIndices {
  public:
    void add(std::string_view name, int32_t index) {
        for (const char& c : name)
            if (static_cast<unsigned char>(c) <= ' ' || may_be_space(&c)) return;
        if (name.empty()) return;
        names_.emplace_back(name);
        indices_.emplace(names_.back(), index);
    }

    // -1 where there is no such image.
    int32_t operator[](std::string_view name) const {
        const auto entry = indices_.find(name);
        return entry == indices_.end() ? -1 : entry->second;
    }

  private:
    std::deque<std::string> names_;  // of which the keys are views: a deque moves none
    std::unordered_map<std::string_view, int32_t> indices_;
};

struct Results {
    std::vector<int32_t> image;
    std::vector<double> score, box;
};

class ResultsReader {
  public:
    ResultsReader(const ImageIndices& images, Results& results)
        : images_(images), results_(results) {}

    // Whether all lines were read; if not, the file is for Python to judge, and `results`
    // worthless.
    bool read(const Text& text) {
        p_ = text.begin;
        for (;;) {
            skip_empty_lines();
            if (p_ == text.end) return true;
            if (!read_line()) return false;
            skip_blanks();
            if (p_ != text.end && *p_ != '\n') return false;
        }
    }

  private:
    const ImageIndices& images_;
    Results& results_;
    const char* p_;

    void skip_empty_lines() {
        for (skip_blanks(); *p_ == '\n'; skip_blanks()) ++p_;
    }

    // Whether there was any.
    bool skip_blanks() {
        const char* first = p_;
        while (*p_ == ' ' || *p_ == '\t' || *p_ == '\r') ++p_;
        return p_ != first;
    }

    // The fields of a line, up to the last one's end.
    bool read_line() {
        const char* first = p_;
        while (static_cast<unsigned char>(*p_) > ' ') ++p_;
        const int32_t image = images_[{first, static_cast<size_t>(p_ - first)}];
        double numbers[5];
        for (double& number : numbers) {
            if (!skip_blanks() || !read_decimal(p_, number)) return false;
            if (std::abs(number) > kMaxCoordinate) return false;
        }
        results_.image.push_back(image);
        results_.score.push_back(numbers[0]);
        results_.box.insert(results_.box.end(), numbers + 1, numbers + 5);
        return image >= 0;
    }
};

}  // namespace upmap::voc
