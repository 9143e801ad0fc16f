// Accumulation, fast: one walk over a class's detections per cap, for all its curves at once.
//
// Does what kernels/accumulation/reference.py says, to the last bit. Only true positives need be
// kept: recall changes there alone, and the interpolated precision is the largest from one of them on.
#include <algorithm>
#include <cstdint>
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
          rank(nb::cast<Input<int32_t, 1>>(columns.attr("rank"))),
          score(nb::cast<Input<double, 1>>(columns.attr("score"))),
          start(nb::cast<Input<int64_t, 1>>(columns.attr("start"))),
          positives(nb::cast<Input<int64_t, 2>>(columns.attr("positives"))) {
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
          rows_(out_.scores.size() ? wrong_.size() : 0) {}

    void accumulate(size_t m) {
        walk(m);
        for (size_t a = 0; a < ranked_.A(); ++a)
            for (size_t t = 0; t < ranked_.T(); ++t)
                if (positives(a))
                    defined(t, a, m);
                else
                    undefined(t, a, m);
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
        out_.recall[last] = out_.all_points[last] = none;
        for (size_t r = 0; r < settings_.R(); ++r) {
            const size_t at = settings_.point(t, r, k_, a, m);
            out_.precision[at] = none;
            if (out_.scores.size()) out_.scores[at] = none;
        }
    }

    void defined(size_t t, size_t a, size_t m) {
        const size_t j = a * ranked_.T() + t, last = settings_.last(t, k_, a, m);
        const auto all = static_cast<double>(positives(a));
        find_precision(j);
        out_.recall[last] = static_cast<double>(precision_.size()) / all;
        out_.all_points[last] = area(all);
        size_t reached = 0;  // recall points ascend, so one pass finds them all
        for (size_t r = 0; r < settings_.R(); ++r) {
            const double wanted = settings_.recall_points(r);
            while (reached < precision_.size() && static_cast<double>(reached + 1) / all < wanted)
                ++reached;
            const size_t at = settings_.point(t, r, k_, a, m);
            const bool is_reached = reached < precision_.size();
            out_.precision[at] = is_reached ? precision_[reached] : 0.0;
            if (!out_.scores.size()) continue;
            // Recall 0 is reached by the very first detection, whatever its status.
            if (wanted <= 0)
                out_.scores[at] = first_ < 0 ? 0.0 : ranked_.score(static_cast<size_t>(first_));
            else
                out_.scores[at] =
                    is_reached ? ranked_.score(static_cast<size_t>(rows_[j][reached])) : 0.0;
        }
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

Output accumulate_all(const Settings& settings, bool with_scores, int threads) {
    const Ranked& ranked = settings.ranked;
    const size_t curves = ranked.T() * ranked.K() * ranked.A() * settings.M();
    const size_t points = curves * settings.R();
    Output out{upmap::Buffer<double>(points), upmap::Buffer<double>(curves),
               upmap::Buffer<double>(curves), upmap::Buffer<double>(with_scores ? points : 0)};
    upmap::parallel_for(static_cast<int64_t>(ranked.K()), threads, [&](int64_t k) {
        ClassCurves curves_of_class(settings, static_cast<size_t>(k), out);
        for (size_t m = 0; m < settings.M(); ++m) curves_of_class.accumulate(m);
    });
    return out;
}

nb::tuple accumulate(nb::handle columns, Input<uint8_t, 3> status, Input<double, 1> recall_points,
                     Input<int64_t, 1> max_dets, double epsilon, bool with_scores, int threads) {
    Ranked ranked(columns, status);
    Settings settings{ranked, recall_points, max_dets, epsilon};
    Output out;
    {
        nb::gil_scoped_release release;
        out = accumulate_all(settings, with_scores, threads);
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
    nb::object scores = nb::none();
    if (with_scores) scores = points(std::move(out.scores));
    return nb::make_tuple(points(std::move(out.precision)), lasts(std::move(out.recall)),
                          lasts(std::move(out.all_points)), scores);
}

}  // namespace

NB_MODULE(native, module) {
    module.def("accumulate", &accumulate, nb::arg("ranked"), nb::arg("status"), nb::arg("recall_points"),
               nb::arg("max_dets"), nb::arg("epsilon"), nb::arg("with_scores"), nb::arg("threads"),
               "See kernels.accumulation.accumulate; returns (precision, recall, all_points, scores).");
}
