// Upsampling and cross-entropy, fused: a row of pixels at a time, for bands of rows in parallel.
//
// A band is the rows of pixels whose upper row of features is one of BAND successive ones. It reads one
// row of features more, and in the backward pass adds to it: so even bands go first, then odd ones,
// and every sum has one order however many threads there are.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/parallel.hpp"
#include "kernels/upsample_ce/rows.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace {

template <class T, size_t Dimensions>
using Input = nb::ndarray<const T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;
template <class T, size_t Dimensions>
using Output = nb::ndarray<T, nb::ndim<Dimensions>, nb::c_contig, nb::device::cpu>;

constexpr int32_t BAND = 4;
constexpr float LEAST = -1e30f;  // as rows.inc has it

const upmap::Rows& rows_called(const std::string& name) {
#ifdef UPMAP_X86
    const bool has_avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (has_avx512 && (name.empty() || name == "avx512")) return upmap::rows_avx512;
    if (has_avx2 && (name.empty() || name == "avx2")) return upmap::rows_avx2;
#endif
    if (name.empty() || name == "baseline") return upmap::rows_baseline;
    throw nb::value_error(("no instruction set " + name + " here").c_str());
}

// One side of the interpolation; see kernels/upsample_ce/taps.py.
struct Side {
    Input<int32_t, 1> first, second;
    Input<float, 1> share;
    explicit Side(nb::handle taps)
        : first(nb::cast<Input<int32_t, 1>>(taps[nb::int_(0)])),
          second(nb::cast<Input<int32_t, 1>>(taps[nb::int_(1)])),
          share(nb::cast<Input<float, 1>>(taps[nb::int_(2)])) {}
    void check(size_t features) const {
        if (second.size() != first.size() || share.size() != first.size())
            throw nb::value_error("taps of different lengths");
        for (size_t i = 0; i < first.size(); ++i)
            if (first(i) < 0 || second(i) < first(i) || size_t(second(i)) >= features ||
                (i && first(i) < first(i - 1)))
                throw nb::value_error("taps must ascend and lie within the features");
    }
};

// What all passes need to know.
struct Problem {
    Input<float, 4> logits;
    Side upright, level;
    std::vector<float> weight;  // padded
    float weight_sum = 0, smoothing = 0;
    int32_t padded = 0;
    const upmap::Rows& rows;

    Problem(Input<float, 4> given, nb::handle vertical, nb::handle horizontal,
            Input<float, 1> weights, float label_smoothing, const std::string& isa)
        : logits(given),
          upright(vertical),
          level(horizontal),
          smoothing(label_smoothing),
          rows(rows_called(isa)) {
        upright.check(h());
        level.check(w());
        if (weights.size() != C()) throw nb::value_error("expected a weight for each class");
        const int32_t classes = int32_t(C());
        padded = classes <= 4 ? 4 : classes <= 8 ? 8 : (classes + 15) / 16 * 16;
        weight.assign(padded, 0.0f);
        std::copy_n(weights.data(), C(), weight.begin());
        for (float one : weight) weight_sum += one;
    }
    size_t N() const { return logits.shape(0); }
    size_t C() const { return logits.shape(1); }
    size_t h() const { return logits.shape(2); }
    size_t w() const { return logits.shape(3); }
    size_t H() const { return upright.first.size(); }
    size_t W() const { return level.first.size(); }
    int32_t bands() const { return (int32_t(h()) + BAND - 1) / BAND; }
    size_t row_values() const { return w() * padded; }
};

// Rows of features as [features, classes], padded, from [classes, features].
class Features {
  public:
    explicit Features(const Problem& problem)
        : problem_(problem), values_(problem.row_values(), LEAST) {}
    const float* row(size_t image, int32_t i) {
        if (i != row_) fetch(image, i);
        return values_.data();
    }
    void swap(Features& other) {
        std::swap(values_, other.values_);
        std::swap(row_, other.row_);
    }

  private:
    void fetch(size_t image, int32_t i) {
        const size_t plane = problem_.h() * problem_.w();
        const float* from =
            problem_.logits.data() + image * problem_.C() * plane + i * problem_.w();
        for (size_t c = 0; c < problem_.C(); ++c)
            for (size_t j = 0; j < problem_.w(); ++j)
                values_[j * problem_.padded + c] = from[c * plane + j];
        row_ = i;
    }
    const Problem& problem_;
    std::vector<float> values_;
    int32_t row_ = -1;
};

// The rows of pixels of one band, one after another, with all that Row wants.
class Band {
  public:
    Band(const Problem& problem, size_t image, int32_t band)
        : problem_(problem),
          image_(image),
          upper_(problem),
          lower_(problem),
          between_(problem.row_values()),
          scores_(problem.padded),
          label_(problem.W(), 0) {
        const int32_t* first = problem.upright.first.data();
        const int32_t* end = first + problem.H();
        begin_ = std::lower_bound(first, end, band * BAND) - first;
        end_ = std::lower_bound(first, end, (band + 1) * BAND) - first;
    }
    size_t begin() const { return begin_; }
    size_t end() const { return end_; }
    std::vector<int32_t>& label() { return label_; }
    upmap::Row row(size_t y) {
        const int32_t first = problem_.upright.first(y), second = problem_.upright.second(y);
        if (first != row_ && first == row_ + 1) upper_.swap(lower_);
        row_ = first;
        const float* upper = upper_.row(image_, first);
        const float* lower = second == first ? upper : lower_.row(image_, second);
        return {upper,
                lower,
                problem_.upright.share(y),
                problem_.level.first.data(),
                problem_.level.second.data(),
                problem_.level.share.data(),
                label_.data(),
                problem_.weight.data(),
                problem_.weight_sum,
                problem_.smoothing,
                int32_t(problem_.W()),
                int32_t(problem_.w()),
                int32_t(problem_.C()),
                problem_.padded,
                between_.data(),
                scores_.data()};
    }

  private:
    const Problem& problem_;
    size_t image_;
    Features upper_, lower_;
    std::vector<float> between_, scores_;
    std::vector<int32_t> label_;
    size_t begin_, end_;
    int32_t row_ = -2;
};

// Labels of any integer type, [N, H, W], a row at a time as int32, negative where ignored.
class Labels {
  public:
    Labels(nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu> given,
           const Problem& problem, int64_t ignore_index)
        : given_(given), problem_(problem), ignore_(ignore_index) {
        if (given.shape(0) != problem.N() || given.shape(1) != problem.H() ||
            given.shape(2) != problem.W())
            throw nb::value_error("labels must be [N, H, W]");
        if (given.dtype() != nb::dtype<uint8_t>() && given.dtype() != nb::dtype<int32_t>() &&
            given.dtype() != nb::dtype<int64_t>())
            throw nb::type_error("labels must be uint8, int32 or int64");
    }
    void read(size_t image, size_t y, std::vector<int32_t>& row) const {
        if (given_.dtype() == nb::dtype<uint8_t>()) return read_as<uint8_t>(image, y, row);
        if (given_.dtype() == nb::dtype<int32_t>()) return read_as<int32_t>(image, y, row);
        read_as<int64_t>(image, y, row);
    }

  private:
    template <class T>
    void read_as(size_t image, size_t y, std::vector<int32_t>& row) const {
        const T* from =
            static_cast<const T*>(given_.data()) + (image * problem_.H() + y) * row.size();
        const int64_t classes = int64_t(problem_.C());
        for (size_t x = 0; x < row.size(); ++x) {
            const int64_t label = from[x];
            if (label != ignore_ && (label < 0 || label >= classes))
                throw std::out_of_range("label " + std::to_string(label) + " is not in 0 .. " +
                                        std::to_string(classes - 1));
            row[x] = label == ignore_ ? -1 : int32_t(label);
        }
    }
    nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu> given_;
    const Problem& problem_;
    int64_t ignore_;
};

void forward(const Problem& problem, const Labels& labels, float* losses, float* totals,
             int threads) {
    upmap::parallel_for(problem.N() * problem.bands(), threads, [&](int64_t task) {
        const size_t image = task / problem.bands();
        Band band(problem, image, int32_t(task % problem.bands()));
        for (size_t y = band.begin(); y < band.end(); ++y) {
            labels.read(image, y, band.label());
            const size_t at = (image * problem.H() + y) * problem.W();
            problem.rows.forward(band.row(y), losses + at, totals + at);
        }
    });
}

// Adds a row's gradient, [features, classes], to [classes, features], and clears it.
void flush(const Problem& problem, float* to, std::vector<float>& row) {
    const size_t plane = problem.h() * problem.w();
    for (size_t c = 0; c < problem.C(); ++c)
        for (size_t j = 0; j < problem.w(); ++j) to[c * plane + j] += row[j * problem.padded + c];
    std::fill(row.begin(), row.end(), 0.0f);
}

void backward_band(const Problem& problem, const Labels& labels, const float* gradient,
                   const float* totals, float* found, size_t image, int32_t index) {
    Band band(problem, image, index);
    std::vector<float> middle(problem.row_values()), upper(middle), lower(middle);
    float* plane = found + image * problem.C() * problem.h() * problem.w();
    for (size_t y = band.begin(); y < band.end(); ++y) {
        labels.read(image, y, band.label());
        const size_t at = (image * problem.H() + y) * problem.W();
        problem.rows.backward(band.row(y), gradient + at, totals + at, middle.data(), upper.data(),
                              lower.data());
        const int32_t first = problem.upright.first(y), second = problem.upright.second(y);
        const bool is_last = y + 1 == band.end();
        if (!is_last && problem.upright.first(y + 1) == first) continue;
        flush(problem, plane + first * problem.w(), upper);
        const bool goes_on = !is_last && problem.upright.first(y + 1) == second;
        if (goes_on)
            std::swap(upper, lower);
        else
            flush(problem, plane + second * problem.w(), lower);
    }
}

void backward(const Problem& problem, const Labels& labels, const float* gradient,
              const float* totals, float* found, int threads) {
    std::memset(found, 0, problem.logits.size() * sizeof(float));
    for (int32_t parity = 0; parity < 2; ++parity) {
        const int64_t count = (problem.bands() - parity + 1) / 2;
        upmap::parallel_for(problem.N() * count, threads, [&](int64_t task) {
            const int32_t index = int32_t(task % count) * 2 + parity;
            backward_band(problem, labels, gradient, totals, found, task / count, index);
        });
    }
}

void argmax(const Problem& problem, int32_t* found, int threads) {
    upmap::parallel_for(problem.N() * problem.bands(), threads, [&](int64_t task) {
        const size_t image = task / problem.bands();
        Band band(problem, image, int32_t(task % problem.bands()));
        for (size_t y = band.begin(); y < band.end(); ++y)
            problem.rows.argmax(band.row(y), found + (image * problem.H() + y) * problem.W());
    });
}

// Adds to counts, [classes, classes], target by prediction.
void confusion(const Problem& problem, const Labels& labels, int64_t* counts, int threads) {
    std::mutex lock;
    upmap::parallel_for(problem.N() * problem.bands(), threads, [&](int64_t task) {
        const size_t image = task / problem.bands(), C = problem.C();
        Band band(problem, image, int32_t(task % problem.bands()));
        std::vector<int64_t> own(C * C, 0);
        std::vector<int32_t> found(problem.W());
        for (size_t y = band.begin(); y < band.end(); ++y) {
            labels.read(image, y, band.label());
            problem.rows.argmax(band.row(y), found.data());
            for (size_t x = 0; x < found.size(); ++x)
                if (band.label()[x] >= 0) ++own[band.label()[x] * C + found[x]];
        }
        std::lock_guard<std::mutex> guard(lock);
        for (size_t i = 0; i < own.size(); ++i) counts[i] += own[i];
    });
}

template <class Array>
void refuse_other_shape(const Array& array, const Problem& problem) {
    if (array.shape(0) != problem.N() || array.shape(1) != problem.H() ||
        array.shape(2) != problem.W())
        throw nb::value_error("expected [N, H, W]");
}

using AnyLabels = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "forward",
        [](Input<float, 4> logits, AnyLabels target, Input<float, 1> weight, nb::tuple upright,
           nb::tuple level, int64_t ignore_index, float smoothing, Output<float, 3> losses,
           Output<float, 3> totals, int threads, const std::string& isa) {
            Problem problem(logits, upright, level, weight, smoothing, isa);
            Labels labels(target, problem, ignore_index);
            refuse_other_shape(losses, problem);
            refuse_other_shape(totals, problem);
            nb::gil_scoped_release release;
            forward(problem, labels, losses.data(), totals.data(), threads);
        },
        "logits"_a, "target"_a, "weight"_a, "upright"_a, "level"_a, "ignore_index"_a, "smoothing"_a,
        "losses"_a, "totals"_a, "threads"_a, "isa"_a);
    module.def(
        "backward",
        [](Input<float, 3> gradient, Input<float, 3> totals, Input<float, 4> logits,
           AnyLabels target, Input<float, 1> weight, nb::tuple upright, nb::tuple level,
           int64_t ignore_index, float smoothing, Output<float, 4> found, int threads,
           const std::string& isa) {
            Problem problem(logits, upright, level, weight, smoothing, isa);
            Labels labels(target, problem, ignore_index);
            refuse_other_shape(gradient, problem);
            refuse_other_shape(totals, problem);
            for (size_t axis = 0; axis < 4; ++axis)
                if (found.shape(axis) != logits.shape(axis))
                    throw nb::value_error("expected [N, C, h, w]");
            nb::gil_scoped_release release;
            backward(problem, labels, gradient.data(), totals.data(), found.data(), threads);
        },
        "gradient"_a, "totals"_a, "logits"_a, "target"_a, "weight"_a, "upright"_a, "level"_a,
        "ignore_index"_a, "smoothing"_a, "found"_a, "threads"_a, "isa"_a);
    module.def(
        "argmax",
        [](Input<float, 4> logits, Input<float, 1> weight, nb::tuple upright, nb::tuple level,
           Output<int32_t, 3> found, int threads, const std::string& isa) {
            Problem problem(logits, upright, level, weight, 0, isa);
            refuse_other_shape(found, problem);
            nb::gil_scoped_release release;
            argmax(problem, found.data(), threads);
        },
        "logits"_a, "weight"_a, "upright"_a, "level"_a, "found"_a, "threads"_a, "isa"_a);
    module.def(
        "confusion",
        [](Input<float, 4> logits, AnyLabels target, Input<float, 1> weight, nb::tuple upright,
           nb::tuple level, int64_t ignore_index, Output<int64_t, 2> counts, int threads,
           const std::string& isa) {
            Problem problem(logits, upright, level, weight, 0, isa);
            Labels labels(target, problem, ignore_index);
            if (counts.shape(0) != problem.C() || counts.shape(1) != problem.C())
                throw nb::value_error("expected [C, C]");
            nb::gil_scoped_release release;
            confusion(problem, labels, counts.data(), threads);
        },
        "logits"_a, "target"_a, "weight"_a, "upright"_a, "level"_a, "ignore_index"_a, "counts"_a,
        "threads"_a, "isa"_a);
    module.def(
        "instruction_set",
        [](const std::string& isa) { return std::string(rows_called(isa).name); }, "isa"_a = "");
}
