// Accumulation, fast: one walk over a class's detections per cap, for all its curves at once.
//
// Does what kernels/accumulation/reference.py says, to the last bit. Only true positives need be
// kept: recall changes there alone, and the interpolated precision is the largest from one of them on.
// How many of them reach a recall depends on the positives alone: it is found once for all thresholds.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"

namespace nb = nanobind;
using upmap::Input;

namespace {

constexpr uint8_t FALSE_POSITIVE = 0, TRUE_POSITIVE = 1;

struct Ranked {
    Input<uint8_t, 3> status;  // [N, A, T]
    Input<int32_t, 1> rank;
    Input<double, 1> score;
    Input<int64_t, 1> start;
    Input<int64_t, 2> positives;

    Ranked(nb::handle columns, Input<uint8_t, 3> by_detection)
        : status(by_detection),
          rank(upmap::attribute<Input<int32_t, 1>>(columns, "rank")),
          score(upmap::attribute<Input<double, 1>>(columns, "score")),
          start(upmap::attribute<Input<int64_t, 1>>(columns, "start")),
          positives(upmap::attribute<Input<int64_t, 2>>(columns, "positives")) {
        if (rank.size() != N() || score.size() != N() || start.size() != K() + 1 ||
            positives.shape(1) != A() || start(0) != 0 || start(K()) != static_cast<int64_t>(N()))
            throw nb::value_error("the columns of ranked detections disagree");
        for (size_t k = 0; k < K(); ++k)
            if (start(k) > start(k + 1)) throw nb::value_error("start must not descend");
    }
    size_t N() const { return status.shape(0); }
    size_t A() const { return status.shape(1); }
    size_t T() const { return status.shape(2); }
    size_t K() const { return positives.shape(0); }
};

struct Settings {
    const Ranked& ranked;
    Input<double, 1> recall_points;
    Input<int64_t, 1> max_dets;
    double epsilon;
    bool with_areas, with_scores;
    size_t R() const { return recall_points.size(); }
    size_t M() const { return max_dets.size(); }
    // Where [t, k, a, m] and [t, r, k, a, m] lie in memory: as [A, M, T, K] and [A, M, T, R, K], so
    // that the part of which a mean is taken is in one piece.
    size_t last(size_t t, size_t k, size_t a, size_t m) const {
        return ((a * M() + m) * ranked.T() + t) * ranked.K() + k;
    }
    size_t point(size_t t, size_t r, size_t k, size_t a, size_t m) const {
        return (((a * M() + m) * ranked.T() + t) * R() + r) * ranked.K() + k;
    }
};

struct Output {
    upmap::Buffer<double> precision, recall, all_points, scores;
};

// The detections of one class under one cap, and the curves that they draw: one for each area range
// and threshold. A true positive is kept as the number of false ones before it.
class ClassCurves {
  public:
    ClassCurves(const Settings& settings, size_t k, Output& out)
        : settings_(settings),
          ranked_(settings.ranked),
          k_(k),
          out_(out),
          wrong_(ranked_.A() * ranked_.T()),
          false_before_(wrong_.size()),
          rows_(settings.with_scores ? wrong_.size() : 0) {}

    void accumulate(size_t m) {
        walk(m);
        for (size_t a = 0; a < ranked_.A(); ++a) {
            find_needed(a);
            for (size_t t = 0; t < ranked_.T(); ++t)
                if (positives(a))
                    defined(t, a, m);
                else
                    undefined(t, a, m);
        }
    }

  private:
    const Settings& settings_;
    const Ranked& ranked_;
    size_t k_;
    Output& out_;
    std::vector<uint32_t> wrong_;                      // [A, T], so far
    std::vector<std::vector<uint32_t>> false_before_;  // [A, T], each true positive
    std::vector<std::vector<int64_t>> rows_;           // [A, T], the same, where scores are wanted
    std::vector<double> precision_;  // at each true positive; then the largest from there on
    std::vector<size_t> needed_;     // [R], the true positives before the one that reaches a recall
    int64_t first_ = -1;             // the first row that the cap lets through

    size_t positives(size_t a) const { return static_cast<size_t>(ranked_.positives(k_, a)); }

    void walk(size_t m) {
        std::fill(wrong_.begin(), wrong_.end(), 0);
        for (auto& curve : false_before_) curve.clear();
        for (auto& curve : rows_) curve.clear();
        first_ = -1;
        const size_t curves = wrong_.size();
        for (int64_t row = ranked_.start(k_); row < ranked_.start(k_ + 1); ++row) {
            if (ranked_.rank(row) >= settings_.max_dets(m)) continue;
            if (first_ < 0) first_ = row;
            const uint8_t* status = ranked_.status.data() + static_cast<size_t>(row) * curves;
            bool is_right = false;
            for (size_t j = 0; j < curves; ++j) {
                wrong_[j] += status[j] == FALSE_POSITIVE;
                is_right |= status[j] == TRUE_POSITIVE;
            }
            if (is_right) keep(row, status);
        }
    }

    void keep(int64_t row, const uint8_t* status) {
        for (size_t j = 0; j < wrong_.size(); ++j) {
            if (status[j] != TRUE_POSITIVE) continue;
            false_before_[j].push_back(wrong_[j]);
            if (!rows_.empty()) rows_[j].push_back(row);
        }
    }

    void undefined(size_t t, size_t a, size_t m) {
        const double none = std::numeric_limits<double>::quiet_NaN();
        const size_t last = settings_.last(t, k_, a, m);
        out_.recall[last] = none;
        if (settings_.with_areas) out_.all_points[last] = none;
        for (size_t r = 0; r < settings_.R(); ++r) {
            const size_t at = settings_.point(t, r, k_, a, m);
            out_.precision[at] = none;
            if (settings_.with_scores) out_.scores[at] = none;
        }
    }

    // Recall points ascend, so one pass finds them all.
    void find_needed(size_t a) {
        size_t most = 0, reached = 0;
        for (size_t t = 0; t < ranked_.T(); ++t)
            most = std::max(most, false_before_[a * ranked_.T() + t].size());
        needed_.clear();
        for (size_t r = 0; r < settings_.R(); ++r) {
            const double wanted = settings_.recall_points(r),
                         all = static_cast<double>(positives(a));
            while (reached < most && static_cast<double>(reached + 1) / all < wanted) ++reached;
            needed_.push_back(reached);
        }
    }

    void defined(size_t t, size_t a, size_t m) {
        const size_t j = a * ranked_.T() + t, last = settings_.last(t, k_, a, m);
        const auto all = static_cast<double>(positives(a));
        find_precision(j);
        out_.recall[last] = static_cast<double>(precision_.size()) / all;
        if (settings_.with_areas) out_.all_points[last] = area(all);
        for (size_t r = 0; r < settings_.R(); ++r) {
            const bool is_reached = needed_[r] < precision_.size();
            const size_t at = settings_.point(t, r, k_, a, m);
            out_.precision[at] = is_reached ? precision_[needed_[r]] : 0.0;
            if (settings_.with_scores) out_.scores[at] = score(r, is_reached, j);
        }
    }

    // Recall 0 is reached by the very first detection, whatever its status.
    double score(size_t r, bool is_reached, size_t j) const {
        int64_t row = is_reached ? rows_[j][needed_[r]] : -1;
        if (settings_.recall_points(r) <= 0) row = first_;
        return row < 0 ? 0.0 : ranked_.score(static_cast<size_t>(row));
    }

    void find_precision(size_t j) {
        precision_.resize(false_before_[j].size());
        for (size_t i = 0; i < precision_.size(); ++i) {
            const auto found = static_cast<double>(i + 1);
            const auto wrong = static_cast<double>(false_before_[j][i]);
            precision_[i] = found / (wrong + found + settings_.epsilon);
        }
        for (size_t i = precision_.size(); i > 1; --i)
            precision_[i - 2] = std::max(precision_[i - 2], precision_[i - 1]);
    }

    double area(double all) const {
        double sum = 0, before = 0;
        for (size_t i = 0; i < precision_.size(); ++i) {
            const double recall = static_cast<double>(i + 1) / all;
            sum += (recall - before) * precision_[i];
            before = recall;
        }
        return sum;
    }
};

Output accumulate_all(const Settings& settings, int threads) {
    const Ranked& ranked = settings.ranked;
    const size_t curves = ranked.T() * ranked.K() * ranked.A() * settings.M();
    const size_t points = curves * settings.R();
    Output out{upmap::Buffer<double>(points), upmap::Buffer<double>(curves),
               upmap::Buffer<double>(settings.with_areas ? curves : 0),
               upmap::Buffer<double>(settings.with_scores ? points : 0)};
    upmap::parallel_for(static_cast<int64_t>(ranked.K()), threads, [&](int64_t k) {
        ClassCurves curves_of_class(settings, static_cast<size_t>(k), out);
        for (size_t m = 0; m < settings.M(); ++m) curves_of_class.accumulate(m);
    });
    return out;
}

nb::tuple accumulate(nb::handle columns, Input<uint8_t, 3> status, Input<double, 1> recall_points,
                     Input<int64_t, 1> max_dets, double epsilon, bool with_areas, bool with_scores,
                     int threads) {
    Ranked ranked(columns, status);
    Settings settings{ranked, recall_points, max_dets, epsilon, with_areas, with_scores};
    Output out;
    {
        nb::gil_scoped_release release;
        out = accumulate_all(settings, threads);
    }
    const size_t T = ranked.T(), K = ranked.K(), A = ranked.A();
    const size_t R = settings.R(), M = settings.M();
    const auto t = static_cast<int64_t>(T), k = static_cast<int64_t>(K);
    const auto r = static_cast<int64_t>(R), m = static_cast<int64_t>(M);
    auto points = [&](upmap::Buffer<double>&& values) {
        return upmap::owned(std::move(values), {T, R, K, A, M},
                            {r * k, k, 1, m * t * r * k, t * r * k});
    };
    auto lasts = [&](upmap::Buffer<double>&& values) {
        return upmap::owned(std::move(values), {T, K, A, M}, {k, 1, m * t * k, t * k});
    };
    return nb::make_tuple(points(std::move(out.precision)), lasts(std::move(out.recall)),
                          with_areas ? lasts(std::move(out.all_points)) : nb::none(),
                          with_scores ? points(std::move(out.scores)) : nb::none());
}

// The true positives of a class by area range and threshold, under one cap, as a part of all.
class ClassRecalls {
  public:
    ClassRecalls(const Ranked& ranked, size_t k)
        : ranked_(ranked), k_(k), right_(ranked.A() * ranked.T()) {}

    // Writes recall [A, T] under the cap.
    void find(int64_t max_dets, double* recall) {
        std::fill(right_.begin(), right_.end(), 0);
        for (int64_t row = ranked_.start(k_); row < ranked_.start(k_ + 1); ++row) {
            if (ranked_.rank(row) >= max_dets) continue;
            const uint8_t* status =
                ranked_.status.data() + static_cast<size_t>(row) * right_.size();
            if (!std::memchr(status, TRUE_POSITIVE, right_.size())) continue;
            for (size_t j = 0; j < right_.size(); ++j) right_[j] += status[j] == TRUE_POSITIVE;
        }
        for (size_t j = 0; j < right_.size(); ++j) {
            const int64_t all = ranked_.positives(k_, j / ranked_.T());
            recall[j] = all ? right_[j] / static_cast<double>(all)
                            : std::numeric_limits<double>::quiet_NaN();
        }
    }

  private:
    const Ranked& ranked_;
    size_t k_;
    std::vector<uint32_t> right_;  // [A, T]
};

nb::object recalls(nb::handle columns, Input<uint8_t, 3> status, Input<int64_t, 1> max_dets,
                   int threads) {
    Ranked ranked(columns, status);
    const size_t T = ranked.T(), K = ranked.K(), A = ranked.A(), M = max_dets.size();
    upmap::Buffer<double> out(K * M * A * T);
    {
        nb::gil_scoped_release release;
        upmap::parallel_for(static_cast<int64_t>(K), threads, [&](int64_t k) {
            ClassRecalls of_class(ranked, static_cast<size_t>(k));
            for (size_t m = 0; m < M; ++m)
                of_class.find(max_dets(m), out.data() + (static_cast<size_t>(k) * M + m) * A * T);
        });
    }
    const auto t = static_cast<int64_t>(T), a = static_cast<int64_t>(A),
               m = static_cast<int64_t>(M);
    return upmap::owned(std::move(out), {T, K, A, M}, {1, m * a * t, t, a * t});
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "accumulate", &accumulate, nb::arg("ranked"), nb::arg("status"), nb::arg("recall_points"),
        nb::arg("max_dets"), nb::arg("epsilon"), nb::arg("with_areas"), nb::arg("with_scores"),
        nb::arg("threads"),
        "See kernels.accumulation.accumulate; returns (precision, recall, all_points, scores).");
    module.def("recalls", &recalls, nb::arg("ranked"), nb::arg("status"), nb::arg("max_dets"),
               nb::arg("threads"), "See kernels.accumulation.recalls.");
}
