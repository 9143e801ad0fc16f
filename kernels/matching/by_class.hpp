// The rows of a table class by class: where each class begins, and records brought together.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"

namespace upmap::matching {

// A counting sort of rows by class, stable. The rows are cut into parts that threads count, and
// move, on their own: each part has its own range of every class.
class ByClass {
  public:
    // A label that is not in 0 .. classes - 1 is a ValueError.
    ByClass(const Input<int32_t, 1>& label, size_t classes, int threads)
        : label_(label.data()), rows_(label.size()), threads_(threads) {
        // Few parts where there are many classes: each part has a counter for each class.
        const size_t parts = std::clamp<size_t>(rows_ / (4 * classes + (1 << 16)), 1, 16);
        next_.assign(parts, std::vector<size_t>(classes, 0));
        for_each_row([&](std::vector<size_t>& counts, size_t i) {
            // Negative labels, too, become larger than any number of classes.
            const auto k = static_cast<size_t>(label_[i]);
            if (k >= classes) throw nanobind::value_error("label out of range");
            ++counts[k];
        });
        begin_.push_back(0);
        for (size_t k = 0; k < classes; ++k) {
            size_t next = begin_.back();
            for (auto& part : next_) next += std::exchange(part[k], next);
            begin_.push_back(next);
        }
    }

    // Where each class begins, and where the last one ends, [K + 1].
    size_t begin(size_t k) const { return begin_[k]; }

    // The rows of the classes first .. last - 1.
    size_t count(size_t first, size_t last) const { return begin_[last] - begin_[first]; }

    // Writes make(i) for the rows i of the classes first .. last - 1, class by class, in input
    // order within one. There must be room for count(first, last). To be called once for each
    // class.
    template <class Record, class Make>
    void gather(size_t first, size_t last, Record* records, const Make& make) {
        for_each_row([&](std::vector<size_t>& next, size_t i) {
            const auto k = static_cast<size_t>(label_[i]);
            if (first <= k && k < last) records[next[k]++ - begin_[first]] = make(i);
        });
    }

  private:
    const int32_t* label_;
    size_t rows_;
    int threads_;
    std::vector<size_t> begin_;
    std::vector<std::vector<size_t>> next_;  // for each part and class, where its next row goes

    // Calls body(next_ of the part, row) for all rows.
    template <class Body>
    void for_each_row(const Body& body) {
        const size_t parts = next_.size();
        parallel_for(parts, threads_, [&](size_t part) {
            std::vector<size_t>& next = next_[part];
            for (size_t i = rows_ * part / parts; i < rows_ * (part + 1) / parts; ++i)
                body(next, i);
        });
    }
};

}  // namespace upmap::matching
