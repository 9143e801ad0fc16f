// What matching reads and writes: columns of boxes, the rules, and the columns of matches.
//
// A column has one entry for each box of all classes; a record has all that is asked of one box in
// a cache line.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/columns.hpp"

namespace upmap::matching {

// Of a ground truth; kernels/matching/__init__.py has the same numbers.
enum Kind : uint8_t { kClaimable = 0, kNeverClaimed = 1, kCrowd = 2 };

struct Detection {
    double box[4], area, score;
    int64_t row;
    int32_t image, index;
};

struct Truth {
    double box[4], box_area, area;
    int32_t image;
    Kind kind;
};

// The columns that detections and ground truths have alike.
struct BoxColumns {
    Input<int32_t, 1> label;
    size_t rows;
    Input<int32_t, 1> image;
    Input<double, 2> box;
    Input<double, 1> box_area;

    explicit BoxColumns(nanobind::handle columns)
        : label(attribute<Input<int32_t, 1>>(columns, "label")),
          rows(label.size()),
          image(column<int32_t>(columns, "image", rows)),
          box(table<double>(columns, "box", rows, 4)),
          box_area(column<double>(columns, "box_area", rows)) {
        if (rows > INT32_MAX) throw nanobind::value_error("more than 2^31 - 1 boxes");
    }
};

struct DetectionColumns : BoxColumns {
    Input<double, 1> score;
    Input<int64_t, 1> row;
    const double* range_area = nullptr;  // in place of box_area for the area ranges; null if it is

    explicit DetectionColumns(nanobind::handle columns)
        : BoxColumns(columns),
          score(column<double>(columns, "score", rows)),
          row(column<int64_t>(columns, "row", rows)) {
        if (!nanobind::object(columns.attr("area")).is_none())
            range_area = column<double>(columns, "area", rows).data();
    }

    Detection record(size_t i) const {
        const double* b = box.data() + 4 * i;
        return {{b[0], b[1], b[2], b[3]}, box_area.data()[i],     score.data()[i], row.data()[i],
                image.data()[i],          static_cast<int32_t>(i)};
    }
};

struct TruthColumns : BoxColumns {
    Input<double, 1> area;
    Input<uint8_t, 1> kind;

    explicit TruthColumns(nanobind::handle columns)
        : BoxColumns(columns),
          area(column<double>(columns, "area", rows)),
          kind(column<uint8_t>(columns, "kind", rows)) {}

    Truth record(size_t i) const {
        const double* b = box.data() + 4 * i;
        return {{b[0], b[1], b[2], b[3]},
                box_area.data()[i],
                area.data()[i],
                image.data()[i],
                static_cast<Kind>(kind.data()[i])};
    }
};

struct AreaRange {
    double low, high;  // px^2, both inclusive
    bool contains(double area) const { return low <= area && area <= high; }
};

// See kernels.matching.Rules.
struct Rules {
    static constexpr size_t kMaxThresholds = 64;  // a bit each

    std::vector<double> iou_thresholds;  // [T]
    std::vector<AreaRange> area_ranges;  // [A]
    size_t T, A;
    double side_offset;
    bool strict, best_only, last_of_equals, ties_by_image;
    int64_t max_dets;

    explicit Rules(nanobind::handle rules)
        : side_offset(attribute<double>(rules, "side_offset")),
          strict(attribute<bool>(rules, "strict")),
          best_only(attribute<bool>(rules, "best_only")),
          last_of_equals(attribute<bool>(rules, "last_of_equals")),
          ties_by_image(attribute<bool>(rules, "ties_by_image")),
          max_dets(attribute<int64_t>(rules, "max_dets")) {
        const auto thresholds = attribute<Input<double, 1>>(rules, "iou_thresholds");
        const auto ranges = attribute<Input<double, 2>>(rules, "area_ranges");
        T = thresholds.size();
        A = ranges.shape(0);
        if (T == 0 || T > kMaxThresholds)
            throw nanobind::value_error("expected 1 to 64 IoU thresholds");
        if (ranges.shape(1) != 2) throw nanobind::value_error("area_ranges must be [A, 2]");
        iou_thresholds.assign(thresholds.data(), thresholds.data() + T);
        for (size_t a = 0; a < A; ++a) area_ranges.push_back({ranges(a, 0), ranges(a, 1)});
    }

    bool passes(double iou, double threshold) const {
        return strict ? iou > threshold : iou >= threshold;
    }
    // Whether a later ground truth is taken instead of the best so far.
    bool beats(double iou, double best) const { return last_of_equals ? iou >= best : iou > best; }
};

// N detections in curve order, and K classes; see kernels.matching.Matches.
struct MatchColumns {
    Buffer<int32_t> image, label;
    Buffer<double> score;
    Buffer<int64_t> row;
    Buffer<int32_t> rank;
    Buffer<uint8_t> status;     // [N, A, T]
    Buffer<int64_t> positives;  // [K, A]

    MatchColumns(size_t N, size_t K, const Rules& rules)
        : image(N),
          label(N),
          score(N),
          row(N),
          rank(N),
          status(N * rules.A * rules.T),
          positives(K * rules.A) {}
};

}  // namespace upmap::matching
