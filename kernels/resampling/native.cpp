// Resampling, fast: 64 replicates at a time, one pass over a class for all its curves.
//
// Does what kernels/resampling/reference.py says, without writing a replicate out: a weight is
// added where the reference repeats a row. A task is one class in one block of replicates; it
// writes numbers that no other task writes, so the number of threads changes no bit.
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"
#include "kernels/resampling/influence.hpp"
#include "kernels/resampling/lanes.hpp"
#include "kernels/resampling/outcomes.hpp"

namespace nb = nanobind;
using upmap::CurveState;
using upmap::Input;
using upmap::kLanes;
using upmap::LaneFunctions;
using upmap::Lanes;
using upmap::Outcomes;
using upmap::Pass;
using upmap::Quantities;
using upmap::RecallGrid;

namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
// Below so many positives, by weight, single precision gives sampled average precision to 1e-6, and
// which recall points are reached exactly.
constexpr int64_t kMaxSinglePositives = 100000;
constexpr size_t kMaxGridSteps = 127;  // RecallGrid::late has a bit for each point

const LaneFunctions& select_instructions(const std::string& name) {
#ifdef UPMAP_X86
    const bool has_avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    if (has_avx512 && (name.empty() || name == "avx512")) return upmap::lanes_avx512;
    if (__builtin_cpu_supports("avx2") && (name.empty() || name == "avx2"))
        return upmap::lanes_avx2;
#endif
    if (name.empty() || name == "baseline") return upmap::lanes_baseline;
    throw nb::value_error(("no instruction set " + name + " here").c_str());
}

// The points as a grid where they are i / steps but for the last bit, as those of COCO and VOC are.
RecallGrid describe_points(const double* points, size_t count) {
    RecallGrid grid{0, {0, 0, 0, 0}, points, count};
    if (count < 2 || count - 1 > kMaxGridSteps) return grid;
    const auto steps = static_cast<double>(count - 1);
    for (size_t i = 0; i < count; ++i) {
        const double quotient = static_cast<double>(i) / steps;
        const double difference = points[i] - quotient;
        if (difference > 1e-15 || difference < -1e-15) return {0, {0, 0, 0, 0}, points, count};
        if (points[i] > quotient) grid.late[i / 32] |= 1u << (i % 32);
    }
    grid.steps = static_cast<int32_t>(count - 1);
    return grid;
}

// The weights of a class's rows and positives, as sums: [A] positives, then one for each recall.
std::vector<upmap::Term> collect_terms(const Outcomes& outcomes, const Quantities& quantities,
                                       size_t k) {
    std::vector<upmap::Term> terms;
    const size_t A = outcomes.A();
    for (size_t g = outcomes.positive_start[k]; g < outcomes.positive_start[k + 1]; ++g)
        for (size_t a = 0; a < A; ++a)
            if (outcomes.positive_areas(g) >> a & 1)
                terms.push_back({outcomes.positive_image(g), 1, static_cast<int32_t>(a)});
    upmap::for_each_true(outcomes, quantities, k, [&](int32_t image, int32_t count, size_t q) {
        terms.push_back({image, count, static_cast<int32_t>(A + q)});
    });
    return terms;
}

// A class, prepared once for all blocks of replicates.
struct PreparedClass {
    std::vector<upmap::Term> terms;
    std::vector<upmap::ClassRows> rows;  // of each pass
    bool is_single = false;              // whether single precision does
};

struct Problem {
    const Outcomes& outcomes;
    const Quantities& quantities;
    const LaneFunctions& functions;
    RecallGrid grid;
    std::vector<Pass> passes;
    std::vector<PreparedClass> classes;
    size_t B;                        // replicates
    upmap::Buffer<uint8_t> weights;  // [blocks][images][kLanes]
    size_t blocks() const { return (B + kLanes - 1) / kLanes; }
};

// Room for the state of one class in one block.
template <class Real>
struct StateMemory {
    std::vector<Lanes<int32_t>> counted, deviation, is_true;
    std::vector<Lanes<Real>> highest, reached, sum, positives;

    StateMemory(size_t A, size_t C)
        : counted(A), deviation(C), is_true(C), highest(C), reached(C), sum(C), positives(A) {}
    CurveState<Real> state() {
        return {counted.data(), deviation.data(), is_true.data(),  highest.data(),
                reached.data(), sum.data(),       positives.data()};
    }
};

// One thread's work: classes in blocks of replicates.
class Worker {
  public:
    Worker(const Problem& problem, double* out)
        : problem_(problem),
          out_(out),
          A_(problem.outcomes.A()),
          T_(problem.outcomes.T()),
          sums_(A_ + problem.quantities.Q()),
          average_(A_ * T_),
          single_(A_, A_ * T_),
          double_(A_, A_ * T_) {}

    void compute(size_t block, size_t k) {
        const PreparedClass& prepared = problem_.classes[k];
        const uint8_t* weights =
            problem_.weights.data() + block * problem_.outcomes.images * kLanes;
        std::fill(sums_.begin(), sums_.end(), Lanes<int32_t>{});
        problem_.functions.add_terms(prepared.terms.data(), prepared.terms.size(), weights,
                                     sums_.data());
        for (size_t q = 0; q < problem_.quantities.Q(); ++q)
            if (problem_.quantities.is_recall(q)) write(block, k, q);
        for (size_t i = 0; i < problem_.passes.size(); ++i) {
            average(prepared, prepared.rows[i].view(A_, T_), weights);
            for (size_t q : problem_.passes[i].quantities) write(block, k, q);
        }
    }

  private:
    const Problem& problem_;
    double* out_;  // [Q, K, B]
    size_t A_, T_;
    std::vector<Lanes<int32_t>> sums_;    // see collect_terms
    std::vector<Lanes<double>> average_;  // [A, T]
    StateMemory<float> single_;
    StateMemory<double> double_;

    void average(const PreparedClass& prepared, const upmap::CurveRows& rows,
                 const uint8_t* weights) {
        const LaneFunctions& functions = problem_.functions;
        const Lanes<int32_t>* positives = sums_.data();
        if (prepared.is_single)
            functions.average_float(rows, weights, problem_.grid, positives, single_.state(),
                                    average_.data());
        else
            functions.average_double(rows, weights, problem_.grid, positives, double_.state(),
                                     average_.data());
    }

    void write(size_t block, size_t k, size_t q) {
        const size_t first = block * kLanes, B = problem_.B;
        const size_t count = std::min<size_t>(kLanes, B - first);
        const size_t a = problem_.quantities.area_of(q);
        const uint64_t thresholds = problem_.quantities.thresholds(q);
        double* out = out_ + (q * problem_.classes.size() + k) * B + first;
        Lanes<double> sum{};
        if (problem_.quantities.is_recall(q))
            for (size_t l = 0; l < kLanes; ++l) sum.v[l] = sums_[A_ + q].v[l];
        else
            for (size_t t = 0; t < T_; ++t)
                if (thresholds >> t & 1)
                    for (size_t l = 0; l < kLanes; ++l) sum.v[l] += average_[a * T_ + t].v[l];
        const int32_t parts = upmap::count_bits(thresholds);
        const bool is_recall = problem_.quantities.is_recall(q);
        for (size_t l = 0; l < count; ++l) {
            const double positives = sums_[a].v[l];
            const double divisor = is_recall ? parts * positives : parts;
            out[l] = positives > 0 ? sum.v[l] / divisor : kUndefined;
        }
    }
};

// Brings the weights [B, I] of each block of replicates together, by image; missing replicates
// weigh 0.
upmap::Buffer<uint8_t> transpose_weights(Input<uint8_t, 2> weights, int threads) {
    const size_t B = weights.shape(0), images = weights.shape(1);
    const size_t blocks = (B + kLanes - 1) / kLanes;
    upmap::Buffer<uint8_t> out(blocks * images * kLanes);
    upmap::parallel_for(blocks, threads, [&](size_t block) {
        constexpr size_t kTile = 64;  // images: a tile of both arrays stays in the first cache
        const size_t first = block * kLanes;
        uint8_t* to = out.data() + first * images;
        for (size_t tile = 0; tile < images; tile += kTile)
            for (size_t l = 0; l < kLanes; ++l) {
                const size_t end = std::min(tile + kTile, images);
                const uint8_t* from =
                    first + l < B ? weights.data() + (first + l) * images : nullptr;
                for (size_t i = tile; i < end; ++i) to[i * kLanes + l] = from ? from[i] : 0;
            }
    });
    return out;
}

void prepare_classes(Problem& problem, int64_t max_weight, int threads) {
    problem.classes.resize(problem.outcomes.K());
    upmap::parallel_for(problem.outcomes.K(), threads, [&](size_t k) {
        const std::vector<size_t>& start = problem.outcomes.positive_start;
        PreparedClass& prepared = problem.classes[k];
        prepared.terms = collect_terms(problem.outcomes, problem.quantities, k);
        for (const Pass& pass : problem.passes)
            prepared.rows.push_back(upmap::encode_rows(problem.outcomes, k, pass));
        const auto positives = static_cast<int64_t>(start[k + 1] - start[k]);
        prepared.is_single = problem.grid.steps && positives * max_weight < kMaxSinglePositives;
    });
}

void run(Problem& problem, Input<uint8_t, 2> weights, int threads, double* out) {
    const uint8_t *first = weights.data(), *last = first + weights.size();
    const int64_t max_weight = first == last ? 0 : *std::max_element(first, last);
    problem.weights = transpose_weights(weights, threads);
    prepare_classes(problem, max_weight, threads);
    const size_t K = problem.classes.size();
    upmap::parallel_workers(problem.blocks() * K, threads, [&] {
        return [worker = Worker(problem, out), K](size_t task) mutable {
            worker.compute(task / K, task % K);
        };
    });
}

nb::object resample(nb::handle outcomes, Input<uint8_t, 3> status, Input<uint8_t, 2> weights,
                    nb::handle quantities, nb::handle recall_points, int threads,
                    const std::string& instructions) {
    const Outcomes columns(outcomes, status);
    const Quantities numbers(quantities);
    if (weights.shape(1) != columns.images) throw nb::value_error("weights must be [B, I]");
    RecallGrid grid{0, {0, 0, 0, 0}, nullptr, 0};
    Input<double, 1> points;
    if (!recall_points.is_none()) {
        points = nb::cast<Input<double, 1>>(recall_points, false);
        grid = describe_points(points.data(), points.size());
    }
    const LaneFunctions& functions = select_instructions(instructions);
    std::vector<Pass> passes = upmap::plan_passes(numbers, columns.A());
    Problem problem{columns, numbers, functions, grid, std::move(passes), {}, weights.shape(0), {}};
    const size_t Q = numbers.Q(), K = columns.K(), B = weights.shape(0);
    upmap::Buffer<double> out(Q * K * B);
    {
        nb::gil_scoped_release release;
        run(problem, weights, threads, out.data());
    }
    return upmap::to_numpy(std::move(out), {Q, K, B});
}

struct InfluenceOutput {
    std::vector<std::vector<int32_t>> images;  // of each class
    upmap::Buffer<int64_t> start;              // [K + 1]
    upmap::Buffer<int32_t> image;              // [E]
    upmap::Buffer<double> value;               // [E, Q]
    upmap::Buffer<double> number;              // [K, Q]
};

// Writes the value of each quantity, [Q], from sums over thresholds, [width].
void write_means(const upmap::SlotPlan& plan, const upmap::ClassInfluence& of_class,
                 const double* sums, double* means) {
    for (size_t s = 0; s < plan.width(); ++s) {
        const upmap::Slot& slot = plan.slots[s];
        if (!slot.thresholds) continue;
        means[slot.quantity] =
            of_class.is_defined(s) ? sums[s] / upmap::count_bits(slot.thresholds) : kUndefined;
    }
}

InfluenceOutput compute_influence(const Outcomes& outcomes, const Quantities& quantities,
                                  int threads) {
    const size_t K = outcomes.K(), Q = quantities.Q();
    const upmap::SlotPlan plan(quantities, outcomes.A());
    InfluenceOutput out{std::vector<std::vector<int32_t>>(K),
                        upmap::Buffer<int64_t>(K + 1),
                        {},
                        {},
                        upmap::Buffer<double>(K * Q)};
    upmap::parallel_workers(K, threads, [&] {
        return [&, images = upmap::ClassImages(outcomes.images)](size_t k) mutable {
            images.collect(outcomes, k);
            out.images[k] = images.list();
        };
    });
    out.start[0] = 0;
    for (size_t k = 0; k < K; ++k)
        out.start[k + 1] = out.start[k] + static_cast<int64_t>(out.images[k].size());
    const auto E = static_cast<size_t>(out.start[K]);
    out.image = upmap::Buffer<int32_t>(E);
    out.value = upmap::Buffer<double>(E * Q);
    upmap::parallel_workers(K, threads, [&] {
        return [&, images = upmap::ClassImages(outcomes.images),
                of_class = upmap::ClassInfluence(outcomes, plan)](size_t k) mutable {
            images.collect(outcomes, k);
            of_class.compute(k, images);
            const auto first = static_cast<size_t>(out.start[k]);
            std::copy(images.list().begin(), images.list().end(), out.image.data() + first);
            for (size_t i = 0; i < images.list().size(); ++i)
                write_means(plan, of_class, of_class.values() + i * plan.width(),
                            out.value.data() + (first + i) * Q);
            write_means(plan, of_class, of_class.totals().data(), out.number.data() + k * Q);
        };
    });
    return out;
}

nb::tuple influence(nb::handle outcomes, Input<uint8_t, 3> status, nb::handle quantities,
                    int threads) {
    const Outcomes columns(outcomes, status);
    const Quantities numbers(quantities);
    InfluenceOutput out;
    {
        nb::gil_scoped_release release;
        out = compute_influence(columns, numbers, threads);
    }
    const size_t K = columns.K(), Q = numbers.Q(), E = out.image.size();
    return nb::make_tuple(
        upmap::to_numpy(std::move(out.start), {K + 1}), upmap::to_numpy(std::move(out.image), {E}),
        upmap::to_numpy(std::move(out.value), {Q, E}, {1, static_cast<int64_t>(Q)}),
        upmap::to_numpy(std::move(out.number), {Q, K}, {1, static_cast<int64_t>(Q)}));
}

struct SumsOutput {
    upmap::Buffer<double> of_images;         // [Q]
    upmap::Buffer<double> of_classes;        // [K, Q]
    upmap::Buffer<double> number;            // [K, Q]
    upmap::Buffer<int64_t> positive_images;  // [K, Q]
};

// Runs of classes with about equally many rows, as the first class of each, and K. Each needs room
// for all images, so there are not many more than rows for an image; their number does not depend
// on that of threads, or the last bit of a sum would.
std::vector<size_t> divide_classes(const Outcomes& outcomes) {
    constexpr size_t kMaxRuns = 8;
    const size_t K = outcomes.K(), rows = outcomes.rank.size() + outcomes.positive_image.size();
    const size_t runs =
        std::clamp<size_t>(rows / std::max<size_t>(outcomes.images, 1), 1, kMaxRuns);
    std::vector<size_t> first(1, 0);
    for (size_t k = 1; k < K; ++k) {
        const size_t before = static_cast<size_t>(outcomes.start(k)) + outcomes.positive_start[k];
        if (before * runs > rows * first.size()) first.push_back(k);
    }
    first.push_back(K);
    return first;
}

// Adds the influence on one class to `by_image`, [images][width], and writes the class's own sums.
void add_class(const Outcomes& outcomes, const upmap::SlotPlan& plan, size_t k,
               const std::vector<int32_t>& images, const upmap::ClassInfluence& of_class,
               double* by_image, SumsOutput& out) {
    const size_t width = plan.width(), Q = out.of_images.size();
    std::vector<double> squares(width);
    for (size_t i = 0; i < images.size(); ++i) {
        const double* values = of_class.values() + i * width;
        double* sums = by_image + static_cast<size_t>(images[i]) * width;
        for (size_t s = 0; s < width; ++s) {
            squares[s] += values[s] * values[s];
            sums[s] += values[s];
        }
    }
    write_means(plan, of_class, of_class.totals().data(), out.number.data() + k * Q);
    std::vector<int64_t> counts;
    for (size_t a = 0; a < outcomes.A(); ++a) counts.push_back(of_class.count_positive_images(a));
    for (size_t s = 0; s < width; ++s) {
        const upmap::Slot& slot = plan.slots[s];
        if (!slot.thresholds) continue;
        const double parts = upmap::count_bits(slot.thresholds);
        out.of_classes[k * Q + slot.quantity] = squares[s] / (parts * parts);
        out.positive_images[k * Q + slot.quantity] = counts[slot.area];
    }
}

// Writes the sum over images of the square of each quantity's influence, [Q], from that of runs of
// classes, [images][width] each.
void square_sums(const upmap::SlotPlan& plan, size_t images,
                 const std::vector<std::vector<double>>& by_image, double* squares) {
    std::vector<double> sums(plan.width()), totals(plan.width());
    for (size_t i = 0; i < images; ++i) {
        std::fill(sums.begin(), sums.end(), 0.0);
        for (const std::vector<double>& run : by_image)
            for (size_t s = 0; s < sums.size(); ++s) sums[s] += run[i * sums.size() + s];
        for (size_t s = 0; s < sums.size(); ++s) totals[s] += sums[s] * sums[s];
    }
    for (size_t s = 0; s < totals.size(); ++s) {
        const double parts = upmap::count_bits(plan.slots[s].thresholds);
        if (parts > 0) squares[plan.slots[s].quantity] = totals[s] / (parts * parts);
    }
}

SumsOutput compute_sums(const Outcomes& outcomes, const Quantities& quantities, int threads) {
    const size_t K = outcomes.K(), Q = quantities.Q();
    const upmap::SlotPlan plan(quantities, outcomes.A());
    SumsOutput out{upmap::Buffer<double>(Q), upmap::Buffer<double>(K * Q),
                   upmap::Buffer<double>(K * Q), upmap::Buffer<int64_t>(K * Q)};
    const std::vector<size_t> first = divide_classes(outcomes);
    std::vector<std::vector<double>> by_image(first.size() - 1);  // of each run of classes
    upmap::parallel_workers(by_image.size(), threads, [&] {
        return [&, images = upmap::ClassImages(outcomes.images),
                of_class = upmap::ClassInfluence(outcomes, plan)](size_t run) mutable {
            by_image[run].assign(outcomes.images * plan.width(), 0.0);
            for (size_t k = first[run]; k < first[run + 1]; ++k) {
                images.collect(outcomes, k);
                of_class.compute(k, images);
                add_class(outcomes, plan, k, images.list(), of_class, by_image[run].data(), out);
            }
        };
    });
    square_sums(plan, outcomes.images, by_image, out.of_images.data());
    return out;
}

nb::tuple sum_influence(nb::handle outcomes, Input<uint8_t, 3> status, nb::handle quantities,
                        int threads) {
    const Outcomes columns(outcomes, status);
    const Quantities numbers(quantities);
    SumsOutput out;
    {
        nb::gil_scoped_release release;
        out = compute_sums(columns, numbers, threads);
    }
    const size_t K = columns.K(), Q = numbers.Q();
    const auto stride = static_cast<int64_t>(Q);
    return nb::make_tuple(upmap::to_numpy(std::move(out.of_images), {Q}),
                          upmap::to_numpy(std::move(out.of_classes), {Q, K}, {1, stride}),
                          upmap::to_numpy(std::move(out.number), {Q, K}, {1, stride}),
                          upmap::to_numpy(std::move(out.positive_images), {Q, K}, {1, stride}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("resample", &resample, nb::arg("outcomes"), nb::arg("status"), nb::arg("weights"),
               nb::arg("quantities"), nb::arg("recall_points").none(), nb::arg("threads"),
               nb::arg("instructions"),
               "See kernels.resampling.resample; instructions is avx512, avx2, baseline, or empty "
               "for the best that this machine has.");
    module.def("influence", &influence, nb::arg("outcomes"), nb::arg("status"),
               nb::arg("quantities"), nb::arg("threads"),
               "See kernels.resampling.influence; returns (start, image, value, number).");
    module.def("sum_influence", &sum_influence, nb::arg("outcomes"), nb::arg("status"),
               nb::arg("quantities"), nb::arg("threads"),
               "See kernels.resampling.sum_influence; returns (of_images, of_classes, number, "
               "positive_images).");
}
