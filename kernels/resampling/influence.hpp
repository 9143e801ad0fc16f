// The influence of images on average precision and recall: its derivative with respect to their
// weights.
//
// With N true and S counted rows up to a row, P positives, and m(j) the row from j on of which the
// precision N / S is largest, AP = sum over true j of N_m(j) / S_m(j) / P. With c_m the part of the
// true rows j, of P, for which m(j) = m, the derivative with respect to the weight of one row r is
//     [r is true] * (N_m(r) / S_m(r) / P + A_r) - B_r,
//     A_r = sum over m >= r of c_m / S_m,  B_r = sum over m >= r of c_m N_m / S_m^2,
// 0 if it is ignored, and with respect to the weight of a positive -AP / P.
#pragma once
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/resampling/outcomes.hpp"

namespace upmap {

// The images of a class: those that have a detection or a positive of it, ascending.
class ClassImages {
  public:
    explicit ClassImages(size_t images) : has_((images + 63) / 64), place_(images) {}

    std::vector<int32_t> collect(const Outcomes& outcomes, size_t k) {
        std::fill(has_.begin(), has_.end(), 0);
        for (int64_t row = outcomes.start(k); row < outcomes.start(k + 1); ++row)
            mark(outcomes.image(static_cast<size_t>(row)));
        for (size_t g = outcomes.positive_start[k]; g < outcomes.positive_start[k + 1]; ++g)
            mark(outcomes.positive_image(g));
        std::vector<int32_t> images;
        for (size_t i = 0; i < has_.size(); ++i)
            for_each_bit(has_[i], [&](int32_t bit) {
                images.push_back(static_cast<int32_t>(64 * i) + bit);
            });
        return images;
    }

    // Makes `place` speak of these images.
    void index(const int32_t* images, size_t count) {
        for (size_t i = 0; i < count; ++i) place_[static_cast<size_t>(images[i])] = i;
    }
    size_t place(int32_t image) const { return place_[static_cast<size_t>(image)]; }

  private:
    std::vector<uint64_t> has_;
    std::vector<size_t> place_;

    void mark(int32_t image) {
        has_[static_cast<size_t>(image) / 64] |= uint64_t{1} << (image % 64);
    }
};

// A curve, by true row: what the formula above has of it.
struct TrueRows {
    std::vector<int32_t> counted;        // S
    std::vector<double> highest;         // N_m / S_m / P
    std::vector<double> a_step, b_step;  // c_m / S_m and c_m N_m / S_m^2
    double average = 0, a_sum = 0, b_sum = 0;
    size_t left = 0;  // true rows not yet passed

    // Computes all from `counted`, the best score first. Of equal precisions the first one is m.
    void differentiate(double positives) {
        const size_t count = counted.size();
        highest.assign(count, 0);
        a_step.assign(count, 0);
        b_step.assign(count, 0);
        average = a_sum = b_sum = 0;
        left = count;
        double best = -1;
        size_t m = 0;
        for (size_t j = count; j-- > 0;) {
            const double precision = static_cast<double>(j + 1) / counted[j];
            if (precision >= best) {
                best = precision;
                m = j;
            }
            highest[j] = best / positives;
            average += best / positives;
            a_step[m] += 1 / positives;  // c_m, so far
        }
        for (size_t j = 0; j < count; ++j) {
            a_step[j] /= counted[j];
            b_step[j] = a_step[j] * static_cast<double>(j + 1) / counted[j];
        }
    }
};

// All quantities of one class. `value` is [images of the class][Q], to be filled.
class ClassInfluence {
  public:
    ClassInfluence(const Outcomes& outcomes, const Quantities& quantities,
                   const std::vector<Pass>& passes)
        : outcomes_(outcomes),
          quantities_(quantities),
          passes_(passes),
          positives_(outcomes.A()),
          curves_(outcomes.A() * outcomes.T()),
          counted_(outcomes.A()),
          deviation_(curves_.size()),
          total_(quantities.Q()),
          b_sum_(quantities.Q()) {}

    void compute(size_t k, const ClassImages& images, size_t count, double* value) {
        images_ = &images;
        value_ = value;
        std::fill(value, value + count * quantities_.Q(), 0.0);
        std::fill(total_.begin(), total_.end(), 0.0);
        count_positives(k);
        add_recalls(k);
        for (const Pass& pass : passes_) add_pass(k, pass);
        subtract_positives(k);
        for (size_t i = 0; i < count; ++i) scale(value + i * quantities_.Q());
    }

    // Writes the quantities of the class last computed, [Q].
    void write_numbers(double* numbers) const {
        std::copy(total_.begin(), total_.end(), numbers);
        scale(numbers);
    }

  private:
    const Outcomes& outcomes_;
    const Quantities& quantities_;
    const std::vector<Pass>& passes_;
    const ClassImages* images_ = nullptr;
    double* value_ = nullptr;
    std::vector<double> positives_;   // [A]
    std::vector<TrueRows> curves_;    // [A, T]
    std::vector<int32_t> counted_;    // [A], so far
    std::vector<int32_t> deviation_;  // [A, T], to add to it at a threshold
    std::vector<double> total_;       // [Q], the sum over thresholds of the quantity
    std::vector<double> b_sum_;       // [Q], the sum over thresholds of B, so far

    double& value(int32_t image, size_t q) {
        return value_[images_->place(image) * quantities_.Q() + q];
    }
    TrueRows& curve(size_t a, size_t t) { return curves_[a * outcomes_.T() + t]; }

    void count_positives(size_t k) {
        for (size_t a = 0; a < positives_.size(); ++a) {
            positives_[a] = 0;
            for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g)
                positives_[a] += static_cast<double>(outcomes_.positive_areas(g) >> a & 1);
        }
    }

    void add_recalls(size_t k) {
        for_each_true(outcomes_, quantities_, k, [&](int32_t image, int32_t count, size_t q) {
            const double part = count / positives_[quantities_.area_of(q)];
            value(image, q) += part;
            total_[q] += part;
        });
    }

    void add_pass(size_t k, const Pass& pass) {
        const ClassRows rows = encode_rows(outcomes_, k, pass);
        walk_forward(rows);
        for (size_t a = 0; a < positives_.size(); ++a)
            for (size_t t = 0; t < outcomes_.T(); ++t) curve(a, t).differentiate(positives_[a]);
        for (size_t q : pass.quantities) {
            b_sum_[q] = 0;
            for (size_t t = 0; t < outcomes_.T(); ++t)
                if (quantities_.thresholds(q) >> t & 1)
                    total_[q] += curve(quantities_.area_of(q), t).average;
        }
        for (size_t i = rows.rows.size(); i-- > 0;) walk_back(rows, rows.rows[i], pass);
    }

    // Finds S of every true row of every curve.
    void walk_forward(const ClassRows& rows) {
        std::fill(counted_.begin(), counted_.end(), 0);
        std::fill(deviation_.begin(), deviation_.end(), 0);
        for (TrueRows& rows_of_curve : curves_) rows_of_curve.counted.clear();
        const size_t A = outcomes_.A();
        for (const CurveRow& row : rows.rows) {
            for_each_bit(row.counted, [&](int32_t a) { ++counted_[static_cast<size_t>(a)]; });
            if (row.event < 0) continue;
            const Event* events = rows.events.data() + static_cast<size_t>(row.event) * A;
            for (size_t a = 0; a < A; ++a) count_event(events[a], a);
        }
    }

    void count_event(const Event& event, size_t a) {
        int32_t* deviation = deviation_.data() + a * outcomes_.T();
        for_each_bit(event.added, [&](int32_t t) { ++deviation[t]; });
        for_each_bit(event.removed, [&](int32_t t) { --deviation[t]; });
        for_each_bit(event.is_true, [&](int32_t t) {
            curve(a, static_cast<size_t>(t)).counted.push_back(counted_[a] + deviation[t]);
        });
    }

    void walk_back(const ClassRows& rows, const CurveRow& row, const Pass& pass) {
        const Event* events = nullptr;
        if (row.event >= 0) {
            events = rows.events.data() + static_cast<size_t>(row.event) * outcomes_.A();
            pass_true(events, pass);
        }
        double* values = &value(row.image, 0);
        for (size_t q : pass.quantities) {
            const size_t a = quantities_.area_of(q);
            if (row.counted >> a & 1) values[q] -= b_sum_[q];
            if (events) values[q] += deviation(events[a], a, quantities_.thresholds(q));
        }
    }

    // Takes the row itself into A and B of the curves where it is true.
    void pass_true(const Event* events, const Pass& pass) {
        for (size_t a = 0; a < outcomes_.A(); ++a)
            for_each_bit(events[a].is_true, [&](int32_t place) {
                const auto t = static_cast<size_t>(place);
                TrueRows& rows = curve(a, t);
                --rows.left;
                const double step = rows.b_step[rows.left];
                if (step == 0) return;  // another row attains the maximum
                rows.a_sum += rows.a_step[rows.left];
                rows.b_sum += step;
                for (size_t q : pass.quantities)
                    if (quantities_.area_of(q) == a && (quantities_.thresholds(q) >> t & 1))
                        b_sum_[q] += step;
            });
    }

    // What a row adds at thresholds where it is true, or counts otherwise than at most.
    double deviation(const Event& event, size_t a, uint64_t thresholds) {
        double sum = 0;
        for_each_bit(event.added & thresholds,
                     [&](int32_t t) { sum -= curve(a, static_cast<size_t>(t)).b_sum; });
        for_each_bit(event.removed & thresholds,
                     [&](int32_t t) { sum += curve(a, static_cast<size_t>(t)).b_sum; });
        for_each_bit(event.is_true & thresholds, [&](int32_t t) {
            const TrueRows& rows = curve(a, static_cast<size_t>(t));
            sum += rows.highest[rows.left] + rows.a_sum;
        });
        return sum;
    }

    void subtract_positives(size_t k) {
        for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g)
            for (size_t q = 0; q < quantities_.Q(); ++q) {
                const size_t a = quantities_.area_of(q);
                if (outcomes_.positive_areas(g) >> a & 1)
                    value(outcomes_.positive_image(g), q) -= total_[q] / positives_[a];
            }
    }

    // Sums over thresholds become means; numbers that are not defined have no influence.
    void scale(double* values) const {
        for (size_t q = 0; q < quantities_.Q(); ++q)
            if (positives_[quantities_.area_of(q)] > 0)
                values[q] /= count_bits(quantities_.thresholds(q));
            else
                values[q] = std::numeric_limits<double>::quiet_NaN();
    }
};

}  // namespace upmap
