// Accumulation, fast: one walk over a class's detections per cap, for all its curves at once.
//
// Does what kernels/accumulation/reference.py says, to the last bit. Only true positives need be
// kept: recall changes there alone, and the interpolated precision is the largest from one of them
// on. How many of them reach a recall depends on the positives alone: it is the same at all
// thresholds.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/columns.hpp"
#include "kernels/parallel.hpp"
#include "kernels/status.hpp"

namespace nb = nanobind;
using upmap::Input;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();  // where there are no positives

// Matched detections in curve order; see kernels.accumulation.Ranked.
struct Ranked {
    Input<uint8_t, 3> status;  // [N, A, T]
    size_t N, A, T;
    Input<int32_t, 1> rank;
    Input<double, 1> score;
    Input<int64_t, 2> positives;
    size_t K;
    Input<int64_t, 1> start;

    Ranked(nb::handle columns, Input<uint8_t, 3> status_by_detection)
        : status(status_by_detection),
          N(status.shape(0)),
          A(status.shape(1)),
          T(status.shape(2)),
          rank(upmap::column<int32_t>(columns, "rank", N)),
          score(upmap::column<double>(columns, "score", N)),
          positives(upmap::attribute<Input<int64_t, 2>>(columns, "positives")),
          K(positives.shape(0)),
          start(upmap::column<int64_t>(columns, "start", K + 1)) {
        if (positives.shape(1) != A) throw nb::value_error("positives must be [K, A]");
        if (start(0) != 0 || start(K) != static_cast<int64_t>(N))
            throw nb::value_error("start must begin with 0 and end with the number of detections");
        for (size_t k = 0; k < K; ++k)
            if (start(k) > start(k + 1)) throw nb::value_error("start must not descend");
    }

    size_t begin(size_t k) const { return static_cast<size_t>(start(k)); }
    size_t end(size_t k) const { return static_cast<size_t>(start(k + 1)); }

    // The status of a detection at all area ranges and thresholds, [A, T].
    const uint8_t* status_of(size_t row) const { return status.data() + row * A * T; }
};

// How detections of equal score stand; see kernels.accumulation.contract.TIE_ORDERS.
enum class TieOrder { kKept, kTrueFirst, kFalseFirst };

struct Options {
    Input<double, 1> recall_points;  // [R], ascending
    Input<int64_t, 1> max_dets;      // [M]
    double epsilon;
    bool with_areas, with_scores;
    TieOrder ties;
};

// Where [t, k, a, m] and [t, r, k, a, m] lie in memory: as [A, M, T, K] and [A, M, T, R, K], so
// that the part of which a mean is taken is in one piece.
struct Layout {
    size_t T, R, K, A, M;

    size_t curve(size_t t, size_t k, size_t a, size_t m) const {
        return ((a * M + m) * T + t) * K + k;
    }
    size_t point(size_t t, size_t r, size_t k, size_t a, size_t m) const {
        return (((a * M + m) * T + t) * R + r) * K + k;
    }
    size_t curves() const { return T * K * A * M; }
    size_t points() const { return curves() * R; }

    // A value for each curve as [T, K, A, M].
    nb::object curves_to_numpy(upmap::Buffer<double>&& values) const {
        const auto t = static_cast<int64_t>(T), k = static_cast<int64_t>(K);
        const auto m = static_cast<int64_t>(M);
        return upmap::to_numpy(std::move(values), {T, K, A, M}, {k, 1, m * t * k, t * k});
    }

    // A value for each point of each curve as [T, R, K, A, M].
    nb::object points_to_numpy(upmap::Buffer<double>&& values) const {
        const auto t = static_cast<int64_t>(T), r = static_cast<int64_t>(R);
        const auto k = static_cast<int64_t>(K), m = static_cast<int64_t>(M);
        return upmap::to_numpy(std::move(values), {T, R, K, A, M},
                               {r * k, k, 1, m * t * r * k, t * r * k});
    }
};

// By curve or point, as the layout has them; all_points and scores empty where not asked for.
struct Curves {
    upmap::Buffer<double> precision, recall, all_points, scores;
};

// The curves of one class, one for each area range and threshold, under one cap after another. A
// true positive is kept as the number of false ones before it.
class ClassCurves {
  public:
    ClassCurves(const Ranked& ranked, const Options& options, const Layout& layout, size_t k,
                Curves& curves)
        : ranked_(ranked),
          options_(options),
          layout_(layout),
          k_(k),
          curves_(curves),
          false_positives_(ranked.A * ranked.T),
          false_before_(false_positives_.size()),
          group_false_(false_positives_.size()),
          group_true_(false_positives_.size()),
          true_positive_rows_(options.with_scores ? false_positives_.size() : 0) {}

    // Writes the curves under cap m.
    void accumulate(size_t m) {
        count_detections(m);
        for (size_t a = 0; a < ranked_.A; ++a) {
            find_needed(a);
            for (size_t t = 0; t < ranked_.T; ++t)
                if (positives(a))
                    write_curve(t, a, m);
                else
                    write_undefined_curve(t, a, m);
        }
    }

  private:
    const Ranked& ranked_;
    const Options& options_;
    const Layout& layout_;
    size_t k_;
    Curves& curves_;
    std::vector<uint32_t> false_positives_;                // [A, T], so far
    std::vector<std::vector<uint32_t>> false_before_;      // [A, T], of each true positive
    std::vector<uint32_t> group_false_;                    // [A, T], before the equal scores
    std::vector<size_t> group_true_;                       // [A, T], likewise
    std::vector<std::vector<size_t>> true_positive_rows_;  // [A, T], where scores are asked for
    std::vector<double> precision_;  // at each true positive; then the largest from there on
    std::vector<size_t> needed_;     // [R], the true positives before the one that reaches a recall
    bool has_detections_ = false;
    size_t first_row_ = 0;  // of the detections that the cap lets through

    size_t positives(size_t a) const { return static_cast<size_t>(ranked_.positives(k_, a)); }

    // Walks the detections that cap m lets through.
    void count_detections(size_t m) {
        std::fill(false_positives_.begin(), false_positives_.end(), 0);
        for (auto& curve : false_before_) curve.clear();
        for (auto& curve : true_positive_rows_) curve.clear();
        std::fill(group_false_.begin(), group_false_.end(), 0);
        std::fill(group_true_.begin(), group_true_.end(), 0);
        has_detections_ = false;
        const size_t width = false_positives_.size();
        double score = kNaN;
        for (size_t row = ranked_.begin(k_); row < ranked_.end(k_); ++row) {
            if (ranked_.rank(row) >= options_.max_dets(m)) continue;
            if (!has_detections_) first_row_ = row;
            has_detections_ = true;
            if (options_.ties != TieOrder::kKept && ranked_.score(row) != score) {
                end_equal_scores();
                score = ranked_.score(row);
            }
            const uint8_t* status = ranked_.status_of(row);
            bool has_true_positive = false;
            for (size_t j = 0; j < width; ++j) {
                false_positives_[j] += status[j] == upmap::kFalsePositive;
                has_true_positive |= status[j] == upmap::kTruePositive;
            }
            if (has_true_positive) keep(row, status);
        }
        if (options_.ties != TieOrder::kKept) end_equal_scores();
    }

    // Puts the true positives since the last call before or after the false ones since then.
    void end_equal_scores() {
        const bool is_before = options_.ties == TieOrder::kTrueFirst;
        for (size_t j = 0; j < false_positives_.size(); ++j) {
            const uint32_t count = is_before ? group_false_[j] : false_positives_[j];
            const auto first = false_before_[j].begin() + static_cast<ptrdiff_t>(group_true_[j]);
            std::fill(first, false_before_[j].end(), count);
            group_false_[j] = false_positives_[j];
            group_true_[j] = false_before_[j].size();
        }
    }

    // Notes a true positive in each curve where the detection is one.
    void keep(size_t row, const uint8_t* status) {
        for (size_t j = 0; j < false_positives_.size(); ++j) {
            if (status[j] != upmap::kTruePositive) continue;
            false_before_[j].push_back(false_positives_[j]);
            if (!true_positive_rows_.empty()) true_positive_rows_[j].push_back(row);
        }
    }

    // Without positives there is no recall.
    void write_undefined_curve(size_t t, size_t a, size_t m) {
        const size_t curve = layout_.curve(t, k_, a, m);
        curves_.recall[curve] = kNaN;
        if (options_.with_areas) curves_.all_points[curve] = kNaN;
        for (size_t r = 0; r < layout_.R; ++r) {
            const size_t point = layout_.point(t, r, k_, a, m);
            curves_.precision[point] = kNaN;
            if (options_.with_scores) curves_.scores[point] = kNaN;
        }
    }

    // Recall points ascend, so one pass serves them all; no curve has more true positives than the
    // longest.
    void find_needed(size_t a) {
        size_t longest = 0, reached = 0;
        for (size_t t = 0; t < ranked_.T; ++t)
            longest = std::max(longest, false_before_[a * ranked_.T + t].size());
        const auto all = static_cast<double>(positives(a));
        needed_.clear();
        for (size_t r = 0; r < layout_.R; ++r) {
            const double recall = options_.recall_points(r);
            while (reached < longest && static_cast<double>(reached + 1) / all < recall) ++reached;
            needed_.push_back(reached);
        }
    }

    // There must be positives.
    void write_curve(size_t t, size_t a, size_t m) {
        const size_t j = a * ranked_.T + t, curve = layout_.curve(t, k_, a, m);
        const auto all = static_cast<double>(positives(a));
        interpolate_precision(j);
        curves_.recall[curve] = static_cast<double>(precision_.size()) / all;
        if (options_.with_areas) curves_.all_points[curve] = area(all);
        for (size_t r = 0; r < layout_.R; ++r) {
            const bool is_reached = needed_[r] < precision_.size();
            const size_t point = layout_.point(t, r, k_, a, m);
            curves_.precision[point] = is_reached ? precision_[needed_[r]] : 0.0;
            if (options_.with_scores) curves_.scores[point] = score(r, is_reached, j);
        }
    }

    // Recall 0 is reached by the very first detection, whatever its status.
    double score(size_t r, bool is_reached, size_t j) const {
        if (options_.recall_points(r) <= 0)
            return has_detections_ ? ranked_.score(first_row_) : 0.0;
        return is_reached ? ranked_.score(true_positive_rows_[j][needed_[r]]) : 0.0;
    }

    // Fills precision_ for curve j.
    void interpolate_precision(size_t j) {
        precision_.resize(false_before_[j].size());
        for (size_t i = 0; i < precision_.size(); ++i) {
            const auto true_positives = static_cast<double>(i + 1);
            const auto false_positives = static_cast<double>(false_before_[j][i]);
            // pycocotools adds in this order.
            precision_[i] = true_positives / (false_positives + true_positives + options_.epsilon);
        }
        for (size_t i = precision_.size(); i > 1; --i)
            precision_[i - 2] = std::max(precision_[i - 2], precision_[i - 1]);
    }

    // Under the interpolated precision, summed from recall 0 on as VOCap.m does.
    double area(double all) const {
        double sum = 0, recall_before = 0;
        for (size_t i = 0; i < precision_.size(); ++i) {
            const double recall = static_cast<double>(i + 1) / all;
            sum += (recall - recall_before) * precision_[i];
            recall_before = recall;
        }
        return sum;
    }
};

// Classes write to entries of their own, so the threads need no lock.
Curves accumulate_all(const Ranked& ranked, const Options& options, const Layout& layout,
                      int threads) {
    Curves curves{upmap::Buffer<double>(layout.points()), upmap::Buffer<double>(layout.curves()),
                  upmap::Buffer<double>(options.with_areas ? layout.curves() : 0),
                  upmap::Buffer<double>(options.with_scores ? layout.points() : 0)};
    upmap::parallel_for(layout.K, threads, [&](size_t k) {
        ClassCurves class_curves(ranked, options, layout, k, curves);
        for (size_t m = 0; m < layout.M; ++m) class_curves.accumulate(m);
    });
    return curves;
}

nb::tuple accumulate(nb::handle columns, Input<uint8_t, 3> status, Input<double, 1> recall_points,
                     Input<int64_t, 1> max_dets, double epsilon, bool with_areas, bool with_scores,
                     int ties, int threads) {
    const Ranked ranked(columns, status);
    if (ties < 0 || ties > static_cast<int>(TieOrder::kFalseFirst))
        throw nb::value_error("ties must be the place of a tie order");
    const Options options{recall_points, max_dets,    epsilon,
                          with_areas,    with_scores, static_cast<TieOrder>(ties)};
    const Layout layout{ranked.T, recall_points.size(), ranked.K, ranked.A, max_dets.size()};
    Curves curves;
    {
        nb::gil_scoped_release release;
        curves = accumulate_all(ranked, options, layout, threads);
    }
    return nb::make_tuple(
        layout.points_to_numpy(std::move(curves.precision)),
        layout.curves_to_numpy(std::move(curves.recall)),
        with_areas ? layout.curves_to_numpy(std::move(curves.all_points)) : nb::none(),
        with_scores ? layout.points_to_numpy(std::move(curves.scores)) : nb::none());
}

// Counts the true positives of a class by area range and threshold.
class ClassRecalls {
  public:
    ClassRecalls(const Ranked& ranked, size_t k)
        : ranked_(ranked), k_(k), true_positives_(ranked.A * ranked.T) {}

    // Writes the recall under a cap, [A, T].
    void write(int64_t max_dets, double* recall) {
        count_true_positives(max_dets);
        for (size_t j = 0; j < true_positives_.size(); ++j) {
            const int64_t all = ranked_.positives(k_, j / ranked_.T);
            recall[j] = all ? true_positives_[j] / static_cast<double>(all) : kNaN;
        }
    }

  private:
    const Ranked& ranked_;
    size_t k_;
    std::vector<uint32_t> true_positives_;  // [A, T]

    void count_true_positives(int64_t max_dets) {
        std::fill(true_positives_.begin(), true_positives_.end(), 0);
        const size_t width = true_positives_.size();
        for (size_t row = ranked_.begin(k_); row < ranked_.end(k_); ++row) {
            if (ranked_.rank(row) >= max_dets) continue;
            const uint8_t* status = ranked_.status_of(row);
            // Most detections are false everywhere.
            if (!std::memchr(status, upmap::kTruePositive, width)) continue;
            for (size_t j = 0; j < width; ++j)
                true_positives_[j] += status[j] == upmap::kTruePositive;
        }
    }
};

nb::object recalls(nb::handle columns, Input<uint8_t, 3> status, Input<int64_t, 1> max_dets,
                   int threads) {
    const Ranked ranked(columns, status);
    const size_t T = ranked.T, K = ranked.K, A = ranked.A, M = max_dets.size();
    upmap::Buffer<double> recall(K * M * A * T);
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(K, threads, [&](size_t k) {
            ClassRecalls class_recalls(ranked, k);
            for (size_t m = 0; m < M; ++m)
                class_recalls.write(max_dets(m), recall.data() + (k * M + m) * A * T);
        });
    }
    // In memory [K, M, A, T], a piece for each task; seen as [T, K, A, M].
    const auto t = static_cast<int64_t>(T), a = static_cast<int64_t>(A);
    const auto m = static_cast<int64_t>(M);
    return upmap::to_numpy(std::move(recall), {T, K, A, M}, {1, m * a * t, t, a * t});
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "accumulate", &accumulate, nb::arg("ranked"), nb::arg("status"), nb::arg("recall_points"),
        nb::arg("max_dets"), nb::arg("epsilon"), nb::arg("with_areas"), nb::arg("with_scores"),
        nb::arg("ties"), nb::arg("threads"),
        "See kernels.accumulation.accumulate; returns (precision, recall, all_points, scores).");
    module.def("recalls", &recalls, nb::arg("ranked"), nb::arg("status"), nb::arg("max_dets"),
               nb::arg("threads"), "See kernels.accumulation.recalls.");
}
