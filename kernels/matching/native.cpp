// Matching, fast: the status of every detection at every IoU threshold and area range, in one pass.
//
// Does what kernels/matching/reference.py says, to the last bit: the IoU is computed in the order of
// operations of the VOC kits and of pycocotools (which agree), and must be compiled without
// contraction. One task is one class; a class is sorted once by score, then walked image by image.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/parallel.hpp"

namespace nb = nanobind;

namespace {

template <class T, size_t Dimensions>
using Input = nb::ndarray<const T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;

enum Status : uint8_t { FALSE_POSITIVE = 0, TRUE_POSITIVE = 1, IGNORED = 2 };
enum Kind : uint8_t { CLAIMABLE = 0, NEVER_CLAIMED = 1, CROWD = 2 };

struct Boxes {
    Input<int32_t, 1> image, label;
    Input<double, 2> box;
    Input<double, 1> box_area, area, score;
    Input<int64_t, 1> row;
    Input<uint8_t, 1> kind;

    explicit Boxes(nb::handle columns)
        : image(nb::cast<Input<int32_t, 1>>(columns.attr("image"))),
          label(nb::cast<Input<int32_t, 1>>(columns.attr("label"))),
          box(nb::cast<Input<double, 2>>(columns.attr("box"))),
          box_area(nb::cast<Input<double, 1>>(columns.attr("box_area"))),
          area(nb::cast<Input<double, 1>>(columns.attr("area"))),
          score(nb::cast<Input<double, 1>>(columns.attr("score"))),
          row(nb::cast<Input<int64_t, 1>>(columns.attr("row"))),
          kind(nb::cast<Input<uint8_t, 1>>(columns.attr("kind"))) {
        for (size_t length : {image.size(), box.shape(0), box_area.size(), area.size()})
            if (length != label.size()) throw nb::value_error("columns must have equal lengths");
        if (label.size() && box.shape(1) != 4) throw nb::value_error("box must be [N, 4]");
        if (label.size() > INT32_MAX) throw nb::value_error("more than 2^31 - 1 boxes");
    }
    int64_t size() const { return static_cast<int64_t>(label.size()); }
};

struct Rules {
    Input<double, 1> iou_thresholds;
    Input<double, 2> area_ranges;
    double side_offset;
    bool strict, best_only, last_of_equals, ties_by_image;
    int64_t max_dets;

    explicit Rules(nb::handle rules)
        : iou_thresholds(nb::cast<Input<double, 1>>(rules.attr("iou_thresholds"))),
          area_ranges(nb::cast<Input<double, 2>>(rules.attr("area_ranges"))),
          side_offset(nb::cast<double>(rules.attr("side_offset"))),
          strict(nb::cast<bool>(rules.attr("strict"))),
          best_only(nb::cast<bool>(rules.attr("best_only"))),
          last_of_equals(nb::cast<bool>(rules.attr("last_of_equals"))),
          ties_by_image(nb::cast<bool>(rules.attr("ties_by_image"))),
          max_dets(nb::cast<int64_t>(rules.attr("max_dets"))) {
        if (iou_thresholds.size() == 0 || iou_thresholds.size() > 64)
            throw nb::value_error("expected 1 to 64 IoU thresholds");
        if (area_ranges.shape(1) != 2) throw nb::value_error("area_ranges must be [A, 2]");
    }
    int64_t T() const { return static_cast<int64_t>(iou_thresholds.size()); }
    int64_t A() const { return static_cast<int64_t>(area_ranges.shape(0)); }
    bool passes(double iou, double threshold) const {
        return strict ? iou > threshold : iou >= threshold;
    }
    bool beats(double iou, double best) const { return last_of_equals ? iou >= best : iou > best; }
    bool inside(double area, int64_t a) const {
        return area_ranges(a, 0) <= area && area <= area_ranges(a, 1);
    }
};

struct Output {
    std::vector<int64_t> order;
    std::vector<int32_t> rank;
    std::vector<uint8_t> status;     // [A, T, N]
    std::vector<int64_t> positives;  // [K, A]
};

// Rows bucketed by class, in input order within a class.
struct Buckets {
    std::vector<int64_t> start;
    std::vector<int32_t> rows;

    Buckets(const Input<int32_t, 1>& label, int64_t classes)
        : start(classes + 1, 0), rows(label.size()) {
        for (size_t i = 0; i < label.size(); ++i) {
            if (label(i) < 0 || label(i) >= classes) throw nb::value_error("label out of range");
            ++start[label(i) + 1];
        }
        std::partial_sum(start.begin(), start.end(), start.begin());
        std::vector<int64_t> next(start.begin(), start.end() - 1);
        for (size_t i = 0; i < label.size(); ++i) rows[next[label(i)]++] = static_cast<int32_t>(i);
    }
};

// One class: sorted by score, then matched image by image. Buffers live as long as the task.
class ClassMatcher {
  public:
    ClassMatcher(const Boxes& detections, const Boxes& truths, const Rules& rules, Output& out)
        : detections_(detections), truths_(truths), rules_(rules), out_(out) {
        lowest_ = *std::min_element(rules.iou_thresholds.data(),
                                    rules.iou_thresholds.data() + rules.T());
    }

    // Matches the detections `rows`, whose places in curve order begin at `place`.
    void match(const int32_t* rows, int64_t count, int64_t place, const int32_t* truths,
               int64_t truth_count, int64_t label) {
        count_positives(truths, truth_count, label);
        sort_by_score(rows, count, place);
        auto by_image = packed(detections_.image, out_.order.data() + place, count);
        auto truth_by_image = packed(truths_.image, truths, truth_count);
        size_t g = 0;
        for (size_t d = 0; d < by_image.size();) {
            uint64_t image = by_image[d] >> 32;
            places_.clear();
            for (; d < by_image.size() && by_image[d] >> 32 == image; ++d)
                places_.push_back(place + static_cast<int64_t>(by_image[d] & UINT32_MAX));
            while (g < truth_by_image.size() && truth_by_image[g] >> 32 < image) ++g;
            here_.clear();
            for (; g < truth_by_image.size() && truth_by_image[g] >> 32 == image; ++g)
                here_.push_back(truths[truth_by_image[g] & UINT32_MAX]);
            match_image();
        }
    }

  private:
    struct Candidate {
        int32_t truth;
        double iou;
    };

    const Boxes& detections_;
    const Boxes& truths_;
    const Rules& rules_;
    Output& out_;
    double lowest_;
    std::vector<int64_t> places_;        // this image's detections, best first
    std::vector<int32_t> here_;          // this image's ground truths, input order
    std::vector<Candidate> candidates_;  // pairs that pass the lowest threshold
    std::vector<size_t> first_candidate_;
    std::vector<uint8_t> ignored_;
    std::vector<uint64_t> claimed_;  // a bit per threshold

    void count_positives(const int32_t* truths, int64_t count, int64_t label) {
        for (int64_t a = 0; a < rules_.A(); ++a) {
            int64_t positives = 0;
            for (int64_t i = 0; i < count; ++i)
                positives += truths_.kind(truths[i]) == CLAIMABLE &&
                             rules_.inside(truths_.area(truths[i]), a);
            out_.positives[label * rules_.A() + a] = positives;
        }
    }

    void sort_by_score(const int32_t* rows, int64_t count, int64_t place) {
        struct Key {
            double score;
            int64_t row;
            int32_t image, index;
        };
        std::vector<Key> keys(count);
        for (int64_t i = 0; i < count; ++i) {
            int32_t image = rules_.ties_by_image ? detections_.image(rows[i]) : 0;
            keys[i] = {detections_.score(rows[i]), detections_.row(rows[i]), image, rows[i]};
        }
        std::sort(keys.begin(), keys.end(), [](const Key& x, const Key& y) {
            if (x.score != y.score) return x.score > y.score;
            if (x.image != y.image) return x.image < y.image;
            return x.row != y.row ? x.row < y.row : x.index < y.index;
        });
        for (int64_t i = 0; i < count; ++i) out_.order[place + i] = keys[i].index;
    }

    // (image << 32 | index) of each item, sorted: grouped by image, in the given order within.
    template <class Row>
    static std::vector<uint64_t> packed(const Input<int32_t, 1>& image, const Row* rows,
                                        int64_t count) {
        std::vector<uint64_t> keys(count);
        for (int64_t i = 0; i < count; ++i)
            keys[i] = static_cast<uint64_t>(static_cast<uint32_t>(image(rows[i]))) << 32 |
                      static_cast<uint64_t>(i);
        std::sort(keys.begin(), keys.end());
        return keys;
    }

    void match_image() {
        for (size_t i = 0; i < places_.size(); ++i)
            out_.rank[places_[i]] = static_cast<int32_t>(i);
        if (static_cast<int64_t>(places_.size()) > rules_.max_dets) places_.resize(rules_.max_dets);
        find_candidates();
        for (int64_t a = 0; a < rules_.A(); ++a) match_area_range(a);
    }

    void find_candidates() {
        candidates_.clear();
        first_candidate_.assign(1, 0);
        for (int64_t place : places_) {
            int64_t d = out_.order[place];
            const double* p = detections_.box.data() + 4 * d;
            for (size_t j = 0; j < here_.size(); ++j) {
                const double* q = truths_.box.data() + 4 * static_cast<int64_t>(here_[j]);
                double width = std::min(p[2], q[2]) - std::max(p[0], q[0]) + rules_.side_offset;
                if (!(width > 0)) continue;
                double height = std::min(p[3], q[3]) - std::max(p[1], q[1]) + rules_.side_offset;
                if (!(height > 0)) continue;
                double common = width * height, area = detections_.box_area(d);
                if (truths_.kind(here_[j]) != CROWD)
                    area = area + truths_.box_area(here_[j]) - common;
                double iou = common / area;
                if (iou > 0 && iou >= lowest_) candidates_.push_back({static_cast<int32_t>(j), iou});
            }
            first_candidate_.push_back(candidates_.size());
        }
    }

    void match_area_range(int64_t a) {
        ignored_.resize(here_.size());
        for (size_t j = 0; j < here_.size(); ++j)
            ignored_[j] = truths_.kind(here_[j]) != CLAIMABLE ||
                          !rules_.inside(truths_.area(here_[j]), a);
        claimed_.assign(here_.size(), 0);
        const int64_t T = rules_.T(), N = detections_.size();
        for (size_t i = 0; i < places_.size(); ++i) {
            bool inside = rules_.inside(detections_.area(out_.order[places_[i]]), a);
            const Candidate* begin = candidates_.data() + first_candidate_[i];
            const Candidate* end = candidates_.data() + first_candidate_[i + 1];
            uint8_t* status = out_.status.data() + a * T * N + places_[i];
            for (int64_t t = 0; t < T; ++t) {
                Status state = begin == end ? FALSE_POSITIVE : outcome(begin, end, t);
                status[t * N] = state == FALSE_POSITIVE && !inside ? IGNORED : state;
            }
        }
    }

    Status outcome(const Candidate* begin, const Candidate* end, int64_t t) {
        const Candidate* found;
        if (rules_.best_only) {
            found = best(begin, end, t, [](const Candidate&) { return true; });
        } else {
            auto free = [&](const Candidate& c) {
                return truths_.kind(here_[c.truth]) != CLAIMABLE || !(claimed_[c.truth] >> t & 1);
            };
            found = best(begin, end, t,
                         [&](const Candidate& c) { return !ignored_[c.truth] && free(c); });
            if (!found)
                found = best(begin, end, t,
                             [&](const Candidate& c) { return ignored_[c.truth] && free(c); });
        }
        if (!found) return FALSE_POSITIVE;
        bool taken = claimed_[found->truth] >> t & 1;
        claimed_[found->truth] |= uint64_t{1} << t;
        if (ignored_[found->truth]) return IGNORED;
        return taken ? FALSE_POSITIVE : TRUE_POSITIVE;
    }

    // The candidate of largest IoU among the eligible, if it passes threshold t.
    template <class Eligible>
    const Candidate* best(const Candidate* begin, const Candidate* end, int64_t t,
                          const Eligible& eligible) const {
        const Candidate* found = nullptr;
        for (const Candidate* c = begin; c != end; ++c)
            if (eligible(*c) && (!found || rules_.beats(c->iou, found->iou))) found = c;
        return found && rules_.passes(found->iou, rules_.iou_thresholds(t)) ? found : nullptr;
    }
};

Output match_all(const Boxes& detections, const Boxes& truths, const Rules& rules, int64_t classes,
                 int threads) {
    Buckets by_class(detections.label, classes), truth_by_class(truths.label, classes);
    Output out;
    out.order.resize(detections.size());
    out.rank.resize(detections.size());
    out.status.assign(rules.A() * rules.T() * detections.size(), IGNORED);
    out.positives.resize(classes * rules.A());
    auto count = [&](int64_t k) { return by_class.start[k + 1] - by_class.start[k]; };
    std::vector<int64_t> largest_first(classes);
    std::iota(largest_first.begin(), largest_first.end(), 0);
    std::stable_sort(largest_first.begin(), largest_first.end(),
                     [&](int64_t x, int64_t y) { return count(x) > count(y); });
    upmap::parallel_for(classes, threads, [&](int64_t task) {
        int64_t k = largest_first[task], first = truth_by_class.start[k];
        ClassMatcher(detections, truths, rules, out)
            .match(by_class.rows.data() + by_class.start[k], count(k), by_class.start[k],
                   truth_by_class.rows.data() + first, truth_by_class.start[k + 1] - first, k);
    });
    return out;
}

template <class T>
nb::object owned(std::vector<T>&& values, std::initializer_list<size_t> shape) {
    auto kept = std::make_unique<std::vector<T>>(std::move(values));
    T* data = kept->data();
    nb::capsule owner(kept.release(),
                      [](void* pointer) noexcept { delete static_cast<std::vector<T>*>(pointer); });
    return nb::cast(nb::ndarray<nb::numpy, T>(data, shape, owner));
}

nb::tuple match(nb::handle detection_columns, nb::handle truth_columns, nb::handle rule_values,
                int64_t classes, int threads) {
    Boxes detections(detection_columns), truths(truth_columns);
    if (detections.score.size() != detections.label.size() ||
        detections.row.size() != detections.label.size() ||
        truths.kind.size() != truths.label.size())
        throw nb::value_error("columns must have equal lengths");
    Rules rules(rule_values);
    Output out;
    {
        nb::gil_scoped_release release;
        out = match_all(detections, truths, rules, classes, threads);
    }
    size_t N = detections.label.size(), A = rules.A(), T = rules.T(), K = classes;
    return nb::make_tuple(owned(std::move(out.order), {N}), owned(std::move(out.rank), {N}),
                          owned(std::move(out.status), {A, T, N}),
                          owned(std::move(out.positives), {K, A}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("match", &match, nb::arg("detections"), nb::arg("ground_truth"), nb::arg("rules"),
               nb::arg("classes"), nb::arg("threads"),
               "See kernels.matching.match; returns (order, rank, status, positives).");
}
