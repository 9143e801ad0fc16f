// VOC results: on each line `image_id score xmin ymin xmax ymax`, in ASCII but for the ids.
#pragma once
#include <cmath>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kernels/text.hpp"
#include "kernels/voc_files/annotation.hpp"
#include "kernels/voc_files/file.hpp"

namespace upmap::voc {

// The places of the images in their catalog. Names that Python would split into words are not found.
class ImagePlaces {
  public:
    void add(std::string_view name, int32_t place) {
        for (const char& c : name)
            if (static_cast<unsigned char>(c) <= ' ' || may_be_space(&c)) return;
        if (name.empty()) return;
        names_.emplace_back(name);
        places_.emplace(names_.back(), place);
    }

    int32_t operator[](std::string_view name) const {
        const auto found = places_.find(name);
        return found == places_.end() ? -1 : found->second;
    }

  private:
    std::deque<std::string> names_;
    std::unordered_map<std::string_view, int32_t> places_;
};

struct Results {
    std::vector<int32_t> image;
    std::vector<double> score, box;
};

class ResultsReader {
  public:
    ResultsReader(const ImagePlaces& places, Results& results)
        : places_(places), results_(results) {}

    // Whether all lines were read; if not, the file is for Python to judge, and `results` worthless.
    bool read(const Text& text) {
        p_ = text.begin;
        for (;;) {
            while (blanks(), *p_ == '\n') ++p_;
            if (p_ == text.end) return true;
            if (!line()) return false;
            blanks();
            if (p_ != text.end && *p_ != '\n') return false;
        }
    }

  private:
    const ImagePlaces& places_;
    Results& results_;
    const char* p_;

    bool blanks() {
        const char* first = p_;
        while (*p_ == ' ' || *p_ == '\t' || *p_ == '\r') ++p_;
        return p_ != first;
    }

    bool line() {
        const char* first = p_;
        while (static_cast<unsigned char>(*p_) > ' ') ++p_;
        const int32_t image = places_[{first, static_cast<size_t>(p_ - first)}];
        double numbers[5];
        for (double& number : numbers)
            if (!blanks() || !read_decimal(p_, number) || std::abs(number) > LARGEST) return false;
        results_.image.push_back(image);
        results_.score.push_back(numbers[0]);
        results_.box.insert(results_.box.end(), numbers + 1, numbers + 5);
        return image >= 0;
    }
};

}  // namespace upmap::voc
