// Accumulation, fast: one walk over a class's detections per area range, cap and IoU threshold.
//
// Does what kernels/accumulation/reference.py says, to the last bit. Only true positives need be
// kept: recall changes there alone, and the interpolated precision is the largest from one of them on.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/parallel.hpp"

namespace nb = nanobind;

namespace {

template <class T, size_t Dimensions>
using Input = nb::ndarray<const T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;

constexpr uint8_t TRUE_POSITIVE = 1, IGNORED = 2;

struct Ranked {
    Input<uint8_t, 3> status;
    Input<int32_t, 1> rank;
    Input<double, 1> score;
    Input<int64_t, 1> start;
    Input<int64_t, 2> positives;

    explicit Ranked(nb::handle columns)
        : status(nb::cast<Input<uint8_t, 3>>(columns.attr("status"))),
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
    size_t A() const { return status.shape(0); }
    size_t T() const { return status.shape(1); }
    size_t N() const { return status.shape(2); }
    size_t K() const { return positives.shape(0); }
};

struct Settings {
    const Ranked& ranked;
    Input<double, 1> recall_points;
    Input<int64_t, 1> max_dets;
    double epsilon;
    size_t R() const { return recall_points.size(); }
    size_t M() const { return max_dets.size(); }
    // Where [t, k, a, m] lies; [t, r, k, a, m] lies r * K * A * M further, from t * R on.
    size_t last(size_t t, size_t k, size_t a, size_t m) const {
        return ((t * ranked.K() + k) * ranked.A() + a) * M() + m;
    }
    size_t point(size_t t, size_t r, size_t k, size_t a, size_t m) const {
        return (((t * R() + r) * ranked.K() + k) * ranked.A() + a) * M() + m;
    }
};

struct Output {
    std::vector<double> precision, recall, all_points, scores;
};

// The detections of one class under one cap, and the curves that they draw.
class ClassCurves {
  public:
    ClassCurves(const Settings& settings, size_t k, Output& out)
        : settings_(settings), ranked_(settings.ranked), k_(k), out_(out) {}

    void accumulate(size_t m) {
        rows_.clear();
        for (int64_t row = ranked_.start(k_); row < ranked_.start(k_ + 1); ++row)
            if (ranked_.rank(row) < settings_.max_dets(m)) rows_.push_back(row);
        for (size_t a = 0; a < ranked_.A(); ++a)
            if (ranked_.positives(k_, a))
                for (size_t t = 0; t < ranked_.T(); ++t) accumulate(t, a, m);
    }

  private:
    const Settings& settings_;
    const Ranked& ranked_;
    size_t k_;
    Output& out_;
    std::vector<int64_t> rows_;
    std::vector<double> precision_;  // at each true positive; then the largest from there on
    std::vector<int64_t> true_;      // the row of each true positive

    void accumulate(size_t t, size_t a, size_t m) {
        walk(ranked_.status.data() + (a * ranked_.T() + t) * ranked_.N());
        const double positives = static_cast<double>(ranked_.positives(k_, a));
        const size_t last = settings_.last(t, k_, a, m);
        out_.recall[last] = static_cast<double>(precision_.size()) / positives;
        out_.all_points[last] = area(positives);
        size_t reached = 0;  // recall points ascend, so one pass finds them all
        for (size_t r = 0; r < settings_.R(); ++r) {
            const double wanted = settings_.recall_points(r);
            while (reached < precision_.size() &&
                   static_cast<double>(reached + 1) / positives < wanted)
                ++reached;
            const size_t at = settings_.point(t, r, k_, a, m);
            const bool is_reached = reached < precision_.size();
            out_.precision[at] = is_reached ? precision_[reached] : 0.0;
            if (out_.scores.empty()) continue;
            // Recall 0 is reached by the very first detection, whatever its status.
            if (wanted <= 0)
                out_.scores[at] = rows_.empty() ? 0.0 : ranked_.score(rows_[0]);
            else
                out_.scores[at] = is_reached ? ranked_.score(true_[reached]) : 0.0;
        }
    }

    void walk(const uint8_t* status) {
        precision_.clear();
        true_.clear();
        int64_t false_positives = 0;
        for (int64_t row : rows_) {
            if (status[row] == TRUE_POSITIVE) {
                true_.push_back(row);
                const auto found = static_cast<double>(true_.size());
                const auto wrong = static_cast<double>(false_positives);
                precision_.push_back(found / (wrong + found + settings_.epsilon));
            } else {
                false_positives += status[row] != IGNORED;
            }
        }
        for (size_t i = precision_.size(); i > 1; --i)
            precision_[i - 2] = std::max(precision_[i - 2], precision_[i - 1]);
    }

    double area(double positives) const {
        double sum = 0, before = 0;
        for (size_t i = 0; i < precision_.size(); ++i) {
            const double recall = static_cast<double>(i + 1) / positives;
            sum += (recall - before) * precision_[i];
            before = recall;
        }
        return sum;
    }
};

Output accumulate_all(const Settings& settings, bool with_scores, int threads) {
    const Ranked& ranked = settings.ranked;
    const size_t curves = ranked.T() * ranked.K() * ranked.A() * settings.M();
    const double undefined = std::numeric_limits<double>::quiet_NaN();
    Output out;
    out.precision.assign(curves * settings.R(), undefined);
    out.recall.assign(curves, undefined);
    out.all_points.assign(curves, undefined);
    if (with_scores) out.scores.assign(curves * settings.R(), undefined);
    upmap::parallel_for(static_cast<int64_t>(ranked.K()), threads, [&](int64_t k) {
        ClassCurves curves_of_class(settings, static_cast<size_t>(k), out);
        for (size_t m = 0; m < settings.M(); ++m) curves_of_class.accumulate(m);
    });
    return out;
}

nb::object owned(std::vector<double>&& values, std::initializer_list<size_t> shape) {
    auto kept = std::make_unique<std::vector<double>>(std::move(values));
    double* data = kept->data();
    nb::capsule owner(kept.release(), [](void* pointer) noexcept {
        delete static_cast<std::vector<double>*>(pointer);
    });
    return nb::cast(nb::ndarray<nb::numpy, double>(data, shape, owner));
}

nb::tuple accumulate(nb::handle columns, Input<double, 1> recall_points, Input<int64_t, 1> max_dets,
                     double epsilon, bool with_scores, int threads) {
    Ranked ranked(columns);
    Settings settings{ranked, recall_points, max_dets, epsilon};
    Output out;
    {
        nb::gil_scoped_release release;
        out = accumulate_all(settings, with_scores, threads);
    }
    const size_t T = ranked.T(), K = ranked.K(), A = ranked.A();
    const size_t R = settings.R(), M = settings.M();
    nb::object scores = nb::none();
    if (with_scores) scores = owned(std::move(out.scores), {T, R, K, A, M});
    return nb::make_tuple(owned(std::move(out.precision), {T, R, K, A, M}),
                          owned(std::move(out.recall), {T, K, A, M}),
                          owned(std::move(out.all_points), {T, K, A, M}), scores);
}

}  // namespace

NB_MODULE(native, module) {
    module.def("accumulate", &accumulate, nb::arg("ranked"), nb::arg("recall_points"),
               nb::arg("max_dets"), nb::arg("epsilon"), nb::arg("with_scores"), nb::arg("threads"),
               "See kernels.accumulation.accumulate; returns (precision, recall, all_points, scores).");
}
