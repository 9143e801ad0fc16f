// Upsampling and cross-entropy, fused: a row of pixels at a time, for bands of rows in parallel.
//
// A band is the rows of pixels whose upper source row is one of kBandRows successive ones. It reads
// one source row more, and in the backward pass adds to it: so even bands go first, then odd ones,
// and every sum has one order however many threads there are.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"
#include "kernels/upsample_ce/rows.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using upmap::Input;
using upmap::Output;

namespace {

using AnyLabels = nb::ndarray<nb::ro, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

constexpr size_t kBandRows = 4;  // source rows

// The loops for the instruction set of that name, or for the best of this processor.
const upmap::RowKernels& select_kernels(const std::string& name) {
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

// Where the pixels of one side come from; see kernels/upsample_ce/taps.py.
struct Taps {
    Input<int32_t, 1> first, second;
    Input<float, 1> second_weight;

    // Taps that do not ascend, or leave the source, are a ValueError.
    Taps(nb::handle taps, size_t source_pixels)
        : first(nb::cast<Input<int32_t, 1>>(taps[nb::int_(0)])),
          second(nb::cast<Input<int32_t, 1>>(taps[nb::int_(1)])),
          second_weight(nb::cast<Input<float, 1>>(taps[nb::int_(2)])) {
        if (second.size() != first.size() || second_weight.size() != first.size())
            throw nb::value_error("taps of different lengths");
        for (size_t i = 0; i < first.size(); ++i)
            if (first(i) < 0 || second(i) < first(i) ||
                static_cast<size_t>(second(i)) >= source_pixels || (i && first(i) < first(i - 1)))
                throw nb::value_error("taps must ascend and lie within the features");
    }
};

// The fewest vectors of 4, 8 or 16 classes.
size_t pad_classes(size_t classes) {
    return classes <= 4 ? 4 : classes <= 8 ? 8 : (classes + 15) / 16 * 16;
}

// What all passes read: logits [N, C, h, w], which are upsampled to [N, C, H, W].
struct Problem {
    Input<float, 4> logits;
    size_t N, C, h, w;
    Taps rows, columns;
    size_t H, W;
    size_t padded_classes;
    std::vector<float> class_weight;  // [padded_classes]
    float class_weight_sum = 0, smoothing;
    const upmap::RowKernels& kernels;

    Problem(Input<float, 4> source, nb::handle row_taps, nb::handle column_taps,
            Input<float, 1> weights, float label_smoothing, const std::string& isa)
        : logits(source),
          N(logits.shape(0)),
          C(logits.shape(1)),
          h(logits.shape(2)),
          w(logits.shape(3)),
          rows(row_taps, h),
          columns(column_taps, w),
          H(rows.first.size()),
          W(columns.first.size()),
          padded_classes(pad_classes(C)),
          class_weight(padded_classes, 0.0f),
          smoothing(label_smoothing),
          kernels(select_kernels(isa)) {
        if (weights.size() != C) throw nb::value_error("expected a weight for each class");
        std::copy_n(weights.data(), C, class_weight.begin());
        for (float weight : class_weight) class_weight_sum += weight;
    }

    // The last one may have fewer source rows.
    size_t bands() const { return (h + kBandRows - 1) / kBandRows; }
    size_t source_row_size() const { return w * padded_classes; }

    // Where a row of pixels begins in [N, H, W].
    size_t row_offset(size_t image, size_t y) const { return (image * H + y) * W; }

    // Where an image's logits begin in [N, C, h, w].
    size_t image_offset(size_t image) const { return image * C * h * w; }
};

// A row of the source as [w, padded_classes], from [C, h, w]. Keeps the last one.
class SourceRow {
  public:
    explicit SourceRow(const Problem& problem)
        : problem_(problem), values_(problem.source_row_size(), upmap::kPaddingLogit) {}

    // Row i of an image, which must be the same in all calls.
    const float* read(size_t image, int32_t i) {
        if (i != row_) fetch(image, i);
        return values_.data();
    }

    // What one holds the other keeps: no row is fetched twice.
    void swap(SourceRow& other) {
        std::swap(values_, other.values_);
        std::swap(row_, other.row_);
    }

  private:
    const Problem& problem_;
    std::vector<float> values_;
    int32_t row_ = -1;

    // Classes of a pixel lie far apart in [C, h, w]; the padding stays as it is.
    void fetch(size_t image, int32_t i) {
        const size_t plane = problem_.h * problem_.w;
        const float* from = problem_.logits.data() + problem_.image_offset(image) +
                            static_cast<size_t>(i) * problem_.w;
        for (size_t c = 0; c < problem_.C; ++c)
            for (size_t j = 0; j < problem_.w; ++j)
                values_[j * problem_.padded_classes + c] = from[c * plane + j];
        row_ = i;
    }
};

// The rows of pixels of one band, one after another.
class Band {
  public:
    std::vector<int32_t> label;  // [W], of the row that is asked for next; the caller fills it

    Band(const Problem& problem, size_t image, size_t band)
        : label(problem.W, 0),
          problem_(problem),
          image_(image),
          upper_(problem),
          lower_(problem),
          interpolated_(problem.source_row_size()),
          logits_(problem.padded_classes) {
        begin_ = first_pixel_row(band);
        end_ = first_pixel_row(band + 1);
    }

    // The rows of pixels, [begin, end); none where rows are skipped.
    size_t begin() const { return begin_; }
    size_t end() const { return end_; }

    // All that a kernel reads for row y; valid until the next call. Rows must ascend.
    upmap::PixelRow row(size_t y) {
        const int32_t first = problem_.rows.first(y), second = problem_.rows.second(y);
        // What was the lower source row is the upper one now.
        if (first != row_ && first == row_ + 1) upper_.swap(lower_);
        row_ = first;
        const float* upper = upper_.read(image_, first);
        const float* lower = second == first ? upper : lower_.read(image_, second);
        return {upper,
                lower,
                problem_.rows.second_weight(y),
                problem_.columns.first.data(),
                problem_.columns.second.data(),
                problem_.columns.second_weight.data(),
                label.data(),
                problem_.class_weight.data(),
                problem_.class_weight_sum,
                problem_.smoothing,
                static_cast<int32_t>(problem_.W),
                static_cast<int32_t>(problem_.w),
                static_cast<int32_t>(problem_.C),
                static_cast<int32_t>(problem_.padded_classes),
                interpolated_.data(),
                logits_.data()};
    }

  private:
    const Problem& problem_;
    size_t image_;
    SourceRow upper_, lower_;
    std::vector<float> interpolated_, logits_;
    size_t begin_, end_;
    int32_t row_ = -2;  // the upper source row; before the first, none that another one follows

    // The first row of pixels that belongs to this band or to one behind.
    size_t first_pixel_row(size_t band) const {
        const int32_t* first = problem_.rows.first.data();
        const auto source_row = static_cast<int32_t>(band * kBandRows);
        return static_cast<size_t>(std::lower_bound(first, first + problem_.H, source_row) - first);
    }
};

// Labels of any integer type, [N, H, W], a row at a time as int32, negative where ignored.
class Labels {
  public:
    // Another shape is a ValueError, another type a TypeError.
    Labels(AnyLabels labels, const Problem& problem, int64_t ignore_index)
        : labels_(labels), problem_(problem), ignore_index_(ignore_index) {
        if (labels.shape(0) != problem.N || labels.shape(1) != problem.H ||
            labels.shape(2) != problem.W)
            throw nb::value_error("labels must be [N, H, W]");
        if (labels.dtype() != nb::dtype<uint8_t>() && labels.dtype() != nb::dtype<int32_t>() &&
            labels.dtype() != nb::dtype<int64_t>())
            throw nb::type_error("labels must be uint8, int32 or int64");
    }

    // A label that is no class and not ignored is an IndexError.
    void read(size_t image, size_t y, std::vector<int32_t>& row) const {
        if (labels_.dtype() == nb::dtype<uint8_t>())
            read_as<uint8_t>(image, y, row);
        else if (labels_.dtype() == nb::dtype<int32_t>())
            read_as<int32_t>(image, y, row);
        else
            read_as<int64_t>(image, y, row);
    }

  private:
    AnyLabels labels_;
    const Problem& problem_;
    int64_t ignore_index_;

    // `row` must have W entries.
    template <class T>
    void read_as(size_t image, size_t y, std::vector<int32_t>& row) const {
        const T* from = static_cast<const T*>(labels_.data()) + problem_.row_offset(image, y);
        const auto classes = static_cast<int64_t>(problem_.C);
        for (size_t x = 0; x < row.size(); ++x) {
            const int64_t label = from[x];
            if (label != ignore_index_ && (label < 0 || label >= classes))
                throw std::out_of_range("label " + std::to_string(label) + " is not in 0 .. " +
                                        std::to_string(classes - 1));
            row[x] = label == ignore_index_ ? -1 : static_cast<int32_t>(label);
        }
    }
};

// Writes the losses and the log-sum-exps, [N, H, W].
void forward(const Problem& problem, const Labels& labels, float* losses, float* logsumexps,
             int threads) {
    upmap::parallel_for(problem.N * problem.bands(), threads, [&](size_t task) {
        const size_t image = task / problem.bands();
        Band band(problem, image, task % problem.bands());
        for (size_t y = band.begin(); y < band.end(); ++y) {
            labels.read(image, y, band.label);
            const size_t offset = problem.row_offset(image, y);
            problem.kernels.forward(band.row(y), losses + offset, logsumexps + offset);
        }
    });
}

// Adds the gradient of a source row, [w, padded_classes], to [C, h, w], and clears it.
void flush(const Problem& problem, float* to, std::vector<float>& row) {
    const size_t plane = problem.h * problem.w;
    for (size_t c = 0; c < problem.C; ++c)
        for (size_t j = 0; j < problem.w; ++j)
            to[c * plane + j] += row[j * problem.padded_classes + c];
    std::fill(row.begin(), row.end(), 0.0f);
}

// Adds a band's part of the gradient of the logits. Source rows gather in `upper` and `lower`, and
// are flushed once no further row of pixels lies between them.
void backward_band(const Problem& problem, const Labels& labels, const float* gradient,
                   const float* logsumexps, float* logits_gradient, size_t image, size_t index) {
    Band band(problem, image, index);
    std::vector<float> middle(problem.source_row_size()), upper(middle), lower(middle);
    float* image_gradient = logits_gradient + problem.image_offset(image);
    auto source_row = [&](int32_t i) {
        return image_gradient + static_cast<size_t>(i) * problem.w;
    };
    for (size_t y = band.begin(); y < band.end(); ++y) {
        labels.read(image, y, band.label);
        const size_t offset = problem.row_offset(image, y);
        problem.kernels.backward(band.row(y), gradient + offset, logsumexps + offset, middle.data(),
                                 upper.data(), lower.data());
        const int32_t first = problem.rows.first(y), second = problem.rows.second(y);
        const bool is_last = y + 1 == band.end();
        if (!is_last && problem.rows.first(y + 1) == first) continue;
        flush(problem, source_row(first), upper);
        if (!is_last && problem.rows.first(y + 1) == second)
            std::swap(upper, lower);
        else
            flush(problem, source_row(second), lower);
    }
}

// Writes the gradient of the logits, [N, C, h, w].
void backward(const Problem& problem, const Labels& labels, const float* gradient,
              const float* logsumexps, float* logits_gradient, int threads) {
    std::fill_n(logits_gradient, problem.logits.size(), 0.0f);
    for (size_t parity = 0; parity < 2; ++parity) {
        const size_t count = (problem.bands() - parity + 1) / 2;
        upmap::parallel_for(problem.N * count, threads, [&](size_t task) {
            backward_band(problem, labels, gradient, logsumexps, logits_gradient, task / count,
                          task % count * 2 + parity);
        });
    }
}

// Writes the classes with the largest logits, [N, H, W].
void argmax(const Problem& problem, int32_t* predictions, int threads) {
    upmap::parallel_for(problem.N * problem.bands(), threads, [&](size_t task) {
        const size_t image = task / problem.bands();
        Band band(problem, image, task % problem.bands());
        for (size_t y = band.begin(); y < band.end(); ++y)
            problem.kernels.argmax(band.row(y), predictions + problem.row_offset(image, y));
    });
}

// Adds to counts, [C, C], target by prediction.
void confusion(const Problem& problem, const Labels& labels, int64_t* counts, int threads) {
    std::mutex lock;
    upmap::parallel_for(problem.N * problem.bands(), threads, [&](size_t task) {
        const size_t image = task / problem.bands(), C = problem.C;
        Band band(problem, image, task % problem.bands());
        std::vector<int64_t> band_counts(C * C, 0);
        std::vector<int32_t> predictions(problem.W);
        for (size_t y = band.begin(); y < band.end(); ++y) {
            labels.read(image, y, band.label);
            problem.kernels.argmax(band.row(y), predictions.data());
            for (size_t x = 0; x < predictions.size(); ++x) {
                if (band.label[x] < 0) continue;
                const auto target = static_cast<size_t>(band.label[x]);
                ++band_counts[target * C + static_cast<size_t>(predictions[x])];
            }
        }
        std::lock_guard<std::mutex> guard(lock);
        for (size_t i = 0; i < band_counts.size(); ++i) counts[i] += band_counts[i];
    });
}

// Another shape is a ValueError.
template <class Array>
void require_pixels(const Array& array, const Problem& problem) {
    if (array.shape(0) != problem.N || array.shape(1) != problem.H || array.shape(2) != problem.W)
        throw nb::value_error("expected [N, H, W]");
}

}  // namespace

NB_MODULE(native, module) {
    module.def(
        "forward",
        [](Input<float, 4> logits, AnyLabels target, Input<float, 1> weight, nb::tuple rows,
           nb::tuple columns, int64_t ignore_index, float smoothing, Output<float, 3> losses,
           Output<float, 3> logsumexp, int threads, const std::string& isa) {
            const Problem problem(logits, rows, columns, weight, smoothing, isa);
            const Labels labels(target, problem, ignore_index);
            require_pixels(losses, problem);
            require_pixels(logsumexp, problem);
            nb::gil_scoped_release release;
            forward(problem, labels, losses.data(), logsumexp.data(), threads);
        },
        "logits"_a, "target"_a, "weight"_a, "rows"_a, "columns"_a, "ignore_index"_a, "smoothing"_a,
        "losses"_a, "logsumexp"_a, "threads"_a, "isa"_a,
        "Writes `losses` and `logsumexp`; see kernels.upsample_ce.fused_native.forward.");
    module.def(
        "backward",
        [](Input<float, 3> gradient, Input<float, 3> logsumexp, Input<float, 4> logits,
           AnyLabels target, Input<float, 1> weight, nb::tuple rows, nb::tuple columns,
           int64_t ignore_index, float smoothing, Output<float, 4> logits_gradient, int threads,
           const std::string& isa) {
            const Problem problem(logits, rows, columns, weight, smoothing, isa);
            const Labels labels(target, problem, ignore_index);
            require_pixels(gradient, problem);
            require_pixels(logsumexp, problem);
            for (size_t axis = 0; axis < 4; ++axis)
                if (logits_gradient.shape(axis) != logits.shape(axis))
                    throw nb::value_error("expected [N, C, h, w]");
            nb::gil_scoped_release release;
            backward(problem, labels, gradient.data(), logsumexp.data(), logits_gradient.data(),
                     threads);
        },
        "gradient"_a, "logsumexp"_a, "logits"_a, "target"_a, "weight"_a, "rows"_a, "columns"_a,
        "ignore_index"_a, "smoothing"_a, "logits_gradient"_a, "threads"_a, "isa"_a,
        "Writes `logits_gradient`; see kernels.upsample_ce.fused_native.backward.");
    module.def(
        "argmax",
        [](Input<float, 4> logits, Input<float, 1> weight, nb::tuple rows, nb::tuple columns,
           Output<int32_t, 3> predictions, int threads, const std::string& isa) {
            const Problem problem(logits, rows, columns, weight, 0, isa);
            require_pixels(predictions, problem);
            nb::gil_scoped_release release;
            argmax(problem, predictions.data(), threads);
        },
        "logits"_a, "weight"_a, "rows"_a, "columns"_a, "predictions"_a, "threads"_a, "isa"_a,
        "Writes `predictions`; see kernels.upsample_ce.fused_native.argmax.");
    module.def(
        "confusion",
        [](Input<float, 4> logits, AnyLabels target, Input<float, 1> weight, nb::tuple rows,
           nb::tuple columns, int64_t ignore_index, Output<int64_t, 2> counts, int threads,
           const std::string& isa) {
            const Problem problem(logits, rows, columns, weight, 0, isa);
            const Labels labels(target, problem, ignore_index);
            if (counts.shape(0) != problem.C || counts.shape(1) != problem.C)
                throw nb::value_error("expected [C, C]");
            nb::gil_scoped_release release;
            confusion(problem, labels, counts.data(), threads);
        },
        "logits"_a, "target"_a, "weight"_a, "rows"_a, "columns"_a, "ignore_index"_a, "counts"_a,
        "threads"_a, "isa"_a, "Adds to `counts`; see kernels.upsample_ce.fused_native.confusion.");
    module.def(
        "instruction_set",
        [](const std::string& isa) { return std::string(select_kernels(isa).name); }, "isa"_a = "",
        "The name of the instruction set that is used where `isa` is asked for.");
}
