// Matching, fast: the status of every detection at every IoU threshold and area range, in one pass.
//
// Does what kernels/matching/reference.py says, to the last bit, and must be compiled without
// contraction. One task is one class. Memory decides the time: the boxes of a class lie all over
// the columns, so they are first brought together, a box with all that is asked of it in one cache
// line; and a detection's status at all thresholds and area ranges is written at once.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/matching/by_class.hpp"
#include "kernels/matching/curve_order.hpp"
#include "kernels/matching/image_matcher.hpp"
#include "kernels/matching/tables.hpp"
#include "kernels/parallel.hpp"
#include "kernels/status.hpp"

namespace nb = nanobind;
using namespace upmap::matching;

namespace {

constexpr size_t kPrefetchDistance = 8;     // detections, fetched before they are matched
constexpr size_t kMaxBatchBoxes = 1 << 20;  // 64 MB of records

// Matches one class after another, in memory that is used again.
class ClassMatcher {
  public:
    ClassMatcher(const Rules& rules, const double* range_area, MatchColumns& matches)
        : rules_(rules), matches_(matches), order_(rules), image_matcher_(rules, range_area) {}

    // Matches class k, whose detections and ground truths are in input order, and writes its rows
    // of the matches, which begin at `first_row`. Sorts the detections.
    void match(size_t k, size_t first_row, Detection* detections, size_t detection_count,
               const Truth* truths, size_t truth_count) {
        count_positives(k, truths, truth_count);
        order_.sort(detections, detection_count);
        write_columns(static_cast<int32_t>(k), first_row, detections);
        sort_by_image(truths, truth_count, truths_by_image_, spare_);
        match_images(first_row, detections, truths);
    }

  private:
    const Rules& rules_;
    MatchColumns& matches_;
    CurveOrder order_;
    ImageMatcher image_matcher_;
    std::vector<SortItem> truths_by_image_, spare_;

    // What counts towards recall, whether it is detected or not.
    void count_positives(size_t k, const Truth* truths, size_t count) {
        for (size_t a = 0; a < rules_.A; ++a)
            matches_.positives[k * rules_.A + a] =
                std::count_if(truths, truths + count, [&](const Truth& truth) {
                    return truth.kind == kClaimable && rules_.area_ranges[a].contains(truth.area);
                });
    }

    // The columns that matching does not change, in curve order.
    void write_columns(int32_t label, size_t row, const Detection* detections) {
        for (const SortItem& item : order_.by_score()) {
            const Detection& detection = detections[item.index];
            matches_.image[row] = detection.image;
            matches_.label[row] = label;
            matches_.score[row] = detection.score;
            matches_.row[row] = detection.row;
            ++row;
        }
    }

    // Both lists ascend by image, so one walk finds the ground truths of each image.
    void match_images(size_t first_row, const Detection* detections, const Truth* truths) {
        const std::vector<SortItem>& by_image = order_.by_image();
        const SortItem* truth = truths_by_image_.data();
        const SortItem* last = truth + truths_by_image_.size();
        for (size_t begin = 0, end; begin < by_image.size(); begin = end) {
            end = end_of_image(by_image, begin);
            const int32_t image = by_image[begin].image;
            while (truth < last && truth->image < image) ++truth;
            const SortItem* first = truth;
            while (truth < last && truth->image == image) ++truth;
            image_matcher_.begin_image(truths, first, truth);
            match_image(first_row, detections, begin, end);
        }
    }

    // The detections by_image()[begin .. end - 1], which are those of an image, best first.
    void match_image(size_t first_row, const Detection* detections, size_t begin, size_t end) {
        const std::vector<SortItem>& by_image = order_.by_image();
        const size_t width = rules_.A * rules_.T;
        for (size_t d = begin; d < end; ++d) {
            const size_t later = std::min(d + kPrefetchDistance, by_image.size() - 1);
            __builtin_prefetch(detections + by_image[later].index);
            const size_t row = first_row + order_.place(d);
            const auto rank = static_cast<int32_t>(d - begin);
            matches_.rank[row] = rank;
            uint8_t* status = matches_.status.data() + row * width;
            if (rank < rules_.max_dets)
                image_matcher_.match(detections[by_image[d].index], status);
            else
                std::memset(status, upmap::kIgnored, width);
        }
    }
};

// The end of the batch of classes that begins with `first`: as many as keep within kMaxBatchBoxes,
// at least one.
size_t end_of_batch(const ByClass& detections, const ByClass& truths, size_t first,
                    size_t classes) {
    size_t last = first + 1;
    while (last < classes &&
           detections.count(first, last + 1) + truths.count(first, last + 1) <= kMaxBatchBoxes)
        ++last;
    return last;
}

// The classes first .. last - 1, those with most detections first: no thread is left with a large
// one at the end.
std::vector<size_t> largest_first(const ByClass& detections, size_t first, size_t last) {
    std::vector<size_t> classes(last - first);
    std::iota(classes.begin(), classes.end(), first);
    std::stable_sort(classes.begin(), classes.end(), [&](size_t x, size_t y) {
        return detections.count(x, x + 1) > detections.count(y, y + 1);
    });
    return classes;
}

// Matches the classes of all boxes, 0 .. classes - 1.
MatchColumns match_all(const DetectionColumns& detections, const TruthColumns& truths,
                       const Rules& rules, size_t classes, int threads) {
    MatchColumns matches(detections.rows, classes, rules);
    ByClass detection_rows(detections.label, classes, threads);
    ByClass truth_rows(truths.label, classes, threads);
    for (size_t first = 0, last; first < classes; first = last) {
        last = end_of_batch(detection_rows, truth_rows, first, classes);
        upmap::Buffer<Detection> detection_records(detection_rows.count(first, last));
        upmap::Buffer<Truth> truth_records(truth_rows.count(first, last));
        detection_rows.gather(first, last, detection_records.data(),
                              [&](size_t i) { return detections.record(i); });
        truth_rows.gather(first, last, truth_records.data(),
                          [&](size_t i) { return truths.record(i); });
        const std::vector<size_t> order = largest_first(detection_rows, first, last);
        upmap::parallel_workers(last - first, threads, [&] {
            return [&, matcher = ClassMatcher(rules, detections.range_area, matches)](
                       size_t task) mutable {
                const size_t k = order[task];
                matcher.match(k, detection_rows.begin(k),
                              detection_records.data() + detection_rows.count(first, k),
                              detection_rows.count(k, k + 1),
                              truth_records.data() + truth_rows.count(first, k),
                              truth_rows.count(k, k + 1));
            };
        });
    }
    return matches;
}

nb::tuple match(nb::handle detection_columns, nb::handle truth_columns, nb::handle rule_values,
                size_t classes, int threads) {
    const DetectionColumns detections(detection_columns);
    const TruthColumns truths(truth_columns);
    const Rules rules(rule_values);
    MatchColumns matches = [&] {
        nb::gil_scoped_release release;
        return match_all(detections, truths, rules, classes, threads);
    }();
    const size_t N = detections.rows, A = rules.A, T = rules.T;
    // In memory [N, A, T], as accumulation reads it; seen as [A, T, N].
    const auto a = static_cast<int64_t>(A), t = static_cast<int64_t>(T);
    return nb::make_tuple(upmap::to_numpy(std::move(matches.image), {N}),
                          upmap::to_numpy(std::move(matches.label), {N}),
                          upmap::to_numpy(std::move(matches.score), {N}),
                          upmap::to_numpy(std::move(matches.row), {N}),
                          upmap::to_numpy(std::move(matches.rank), {N}),
                          upmap::to_numpy(std::move(matches.status), {A, T, N}, {t, 1, a * t}),
                          upmap::to_numpy(std::move(matches.positives), {classes, A}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("match", &match, nb::arg("detections"), nb::arg("ground_truth"), nb::arg("rules"),
               nb::arg("classes"), nb::arg("threads"),
               "See kernels.matching.match; returns the columns of Matches.");
}
