// Pairs, fast: the ground truths of its image that each detection overlaps.
//
// Does what kernels/pairs/reference.py says, to the last bit, and must be compiled without
// contraction. Ground truths are brought together by image once; a task is a run of detections,
// whose pairs go into a list of its own, and the lists are put one behind the other at the end.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/buffer.hpp"
#include "kernels/matching/tables.hpp"
#include "kernels/parallel.hpp"

namespace nb = nanobind;
using upmap::matching::DetectionColumns;
using upmap::matching::kCrowd;
using upmap::matching::TruthColumns;

namespace {

constexpr size_t kRunLength = 1 << 13;  // detections of a task

// What a pair asks of a ground truth.
struct Truth {
    double box[4], area;
    int32_t index;
    bool is_crowd;
};

// Ground truths by image, those of an image in input order. Images may have any number, so they are
// looked up, and a table of them takes no more memory than the ground truths.
class TruthsByImage {
  public:
    explicit TruthsByImage(const TruthColumns& columns) : truths_(columns.rows) {
        const int32_t* image = columns.image.data();
        std::vector<size_t> order(columns.rows);
        std::iota(order.begin(), order.end(), size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t x, size_t y) { return image[x] < image[y]; });
        for (size_t place = 0; place < order.size(); ++place) {
            const size_t g = order[place];
            const double* b = columns.box.data() + 4 * g;
            truths_[place] = {{b[0], b[1], b[2], b[3]},
                              columns.box_area.data()[g],
                              static_cast<int32_t>(g),
                              columns.kind.data()[g] == kCrowd};
            if (images_.empty() || images_.back() != image[g]) {
                images_.push_back(image[g]);
                start_.push_back(place);
            }
        }
        start_.push_back(order.size());
    }

    // Empty for an image that has none.
    std::pair<const Truth*, const Truth*> of(int32_t image) const {
        const auto entry = std::lower_bound(images_.begin(), images_.end(), image);
        if (entry == images_.end() || *entry != image) return {nullptr, nullptr};
        const auto i = static_cast<size_t>(entry - images_.begin());
        return {truths_.data() + start_[i], truths_.data() + start_[i + 1]};
    }

  private:
    std::vector<Truth> truths_;
    std::vector<int32_t> images_;  // ascending
    std::vector<size_t> start_;    // [images + 1]
};

// The pairs of a run of detections.
struct Run {
    std::vector<int32_t> truth;
    std::vector<double> iou;
};

// The IoU of a detection, whose corners are `p`, and a ground truth; 0 or less, or NaN, where they
// do not overlap. The order of operations is that of matching, whose last bit it must have.
double overlap(const double* p, double area, const Truth& truth, double side_offset) {
    const double* q = truth.box;
    const double width = std::min(p[2], q[2]) - std::max(p[0], q[0]) + side_offset;
    if (!(width > 0)) return 0;
    const double height = std::min(p[3], q[3]) - std::max(p[1], q[1]) + side_offset;
    if (!(height > 0)) return 0;
    const double intersection = width * height;
    if (!truth.is_crowd) area = area + truth.area - intersection;
    return intersection / area;
}

// Appends the pairs of the detections first .. last - 1 to `run`, and writes how many each has.
void find_run(const DetectionColumns& detections, const TruthsByImage& truths, double side_offset,
              double min_iou, size_t first, size_t last, int64_t* counts, Run& run) {
    for (size_t d = first; d < last; ++d) {
        const size_t before = run.truth.size();
        const double* p = detections.box.data() + 4 * d;
        const auto [begin, end] = truths.of(detections.image.data()[d]);
        for (const Truth* truth = begin; truth != end; ++truth) {
            const double iou = overlap(p, detections.box_area.data()[d], *truth, side_offset);
            if (iou > 0 && iou >= min_iou) {
                run.truth.push_back(truth->index);
                run.iou.push_back(iou);
            }
        }
        counts[d] = static_cast<int64_t>(run.truth.size() - before);
    }
}

struct Pairs {
    upmap::Buffer<int64_t> start;
    upmap::Buffer<int32_t> truth;
    upmap::Buffer<double> iou;
};

Pairs find_all(const DetectionColumns& detections, const TruthColumns& truth_columns,
               double side_offset, double min_iou, int threads) {
    const size_t N = detections.rows;
    const TruthsByImage truths(truth_columns);
    std::vector<Run> runs((N + kRunLength - 1) / kRunLength);
    Pairs pairs;
    pairs.start = upmap::Buffer<int64_t>(N + 1);
    pairs.start[0] = 0;
    upmap::parallel_for(runs.size(), threads, [&](size_t task) {
        const size_t first = task * kRunLength;
        find_run(detections, truths, side_offset, min_iou, first, std::min(first + kRunLength, N),
                 pairs.start.data() + 1, runs[task]);
    });
    for (size_t d = 0; d < N; ++d) pairs.start[d + 1] += pairs.start[d];
    const auto total = static_cast<size_t>(pairs.start[N]);
    pairs.truth = upmap::Buffer<int32_t>(total);
    pairs.iou = upmap::Buffer<double>(total);
    size_t place = 0;
    for (const Run& run : runs) {
        std::copy(run.truth.begin(), run.truth.end(), pairs.truth.data() + place);
        std::copy(run.iou.begin(), run.iou.end(), pairs.iou.data() + place);
        place += run.truth.size();
    }
    return pairs;
}

nb::tuple find_pairs(nb::handle detection_columns, nb::handle truth_columns, double side_offset,
                     double min_iou, int threads) {
    const DetectionColumns detections(detection_columns);
    const TruthColumns truths(truth_columns);
    Pairs pairs = [&] {
        nb::gil_scoped_release release;
        return find_all(detections, truths, side_offset, min_iou, threads);
    }();
    const size_t N = detections.rows, E = pairs.truth.size();
    return nb::make_tuple(upmap::to_numpy(std::move(pairs.start), {N + 1}),
                          upmap::to_numpy(std::move(pairs.truth), {E}),
                          upmap::to_numpy(std::move(pairs.iou), {E}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("find_pairs", &find_pairs, nb::arg("detections"), nb::arg("ground_truth"),
               nb::arg("side_offset"), nb::arg("min_iou"), nb::arg("threads"),
               "See kernels.pairs.find_pairs; returns the columns of PairList.");
}
