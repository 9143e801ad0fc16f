// The influence of images on average precision and recall: its derivative with respect to their
// weights.
//
// With N true and S counted rows up to a row, P positives, and m(j) the row from j on of which the
// precision N / S is largest, AP = sum over true j of N_m(j) / S_m(j) / P. With c_m the part of the
// true rows j, of P, for which m(j) = m, the derivative with respect to the weight of one row r is
//     [r is true] * (N_m(r) / S_m(r) / P + A_r) - B_r,
//     A_r = sum over m >= r of c_m / S_m,  B_r = sum over m >= r of c_m N_m / S_m^2,
// 0 if it is ignored, and with respect to the weight of a positive -AP / P.
//
// The rows m, the peaks of a curve, are few: between two of them A, B and the precision are
// constant. So a walk forward collects the peaks alone, and a walk back adds to each image, for
// most rows one vector of all quantities' B.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/resampling/outcomes.hpp"

namespace upmap {

// The images of a class: those that have a detection or a positive of it, ascending.
class ClassImages {
  public:
    explicit ClassImages(size_t images) : has_((images + 63) / 64), place_(images) {}

    // Lists the images of a class; `place` speaks of them from now on.
    void collect(const Outcomes& outcomes, size_t k) {
        std::fill(has_.begin(), has_.end(), 0);
        const int32_t* images = outcomes.image.data();
        for (int64_t row = outcomes.start(k); row < outcomes.start(k + 1); ++row) mark(images[row]);
        for (size_t g = outcomes.positive_start[k]; g < outcomes.positive_start[k + 1]; ++g)
            mark(outcomes.positive_image(g));
        images_.clear();
        for (size_t i = 0; i < has_.size(); ++i)
            for_each_bit(has_[i], [&](int32_t bit) {
                images_.push_back(static_cast<int32_t>(64 * i) + bit);
            });
        for (size_t i = 0; i < images_.size(); ++i)
            place_[static_cast<size_t>(images_[i])] = static_cast<int32_t>(i);
    }

    const std::vector<int32_t>& list() const { return images_; }
    int32_t place(int32_t image) const { return place_[static_cast<size_t>(image)]; }

  private:
    std::vector<uint64_t> has_;
    std::vector<int32_t> place_;   // of each image in the list
    std::vector<int32_t> images_;  // the list

    void mark(int32_t image) {
        has_[static_cast<size_t>(image) / 64] |= uint64_t{1} << (image % 64);
    }
};

// A quantity among the columns of values. One that only fills up has no thresholds.
struct Slot {
    size_t quantity = 0, area = 0;
    uint64_t thresholds = 0;
    int64_t cap = 0;
    bool is_recall = false;
};

// The quantities of average precision under one cap: slots `first` to `first + width`, those of
// area range a from `area_start[a]` to `area_start[a + 1]`.
struct SlotPass {
    int64_t cap;
    std::vector<uint64_t> thresholds;  // [A], those that a quantity averages over
    size_t first, width;
    std::vector<size_t> area_start;
};

// The order of the columns: by pass, within it by area range; the recalls behind. A pass has an
// even width, so that a compiler adds two columns at a time.
struct SlotPlan {
    std::vector<Slot> slots;
    std::vector<SlotPass> passes;
    std::vector<uint64_t> thresholds;  // [A], of all quantities
    int64_t cap = 0;                   // the largest

    SlotPlan(const Quantities& quantities, size_t A) : thresholds(A) {
        for (const Pass& pass : plan_passes(quantities, A)) add_pass(quantities, pass);
        for (size_t q = 0; q < quantities.Q(); ++q) {
            thresholds[quantities.area_of(q)] |= quantities.thresholds(q);
            cap = std::max(cap, quantities.max_dets(q));
            if (quantities.is_recall(q)) add_slot(quantities, q);
        }
    }
    size_t width() const { return slots.size(); }

  private:
    void add_slot(const Quantities& quantities, size_t q) {
        slots.push_back({q, quantities.area_of(q), quantities.thresholds(q), quantities.max_dets(q),
                         quantities.is_recall(q)});
    }

    void add_pass(const Quantities& quantities, const Pass& pass) {
        SlotPass out{pass.cap, pass.thresholds, slots.size(), 0, {}};
        for (size_t a = 0; a < pass.thresholds.size(); ++a) {
            out.area_start.push_back(slots.size());
            for (size_t q : pass.quantities)
                if (quantities.area_of(q) == a) add_slot(quantities, q);
        }
        out.area_start.push_back(slots.size());
        if ((slots.size() - out.first) % 2) slots.emplace_back();
        out.width = slots.size() - out.first;
        passes.push_back(std::move(out));
    }
};

// A row of a class that counts, or has an event: the place of its image, and of the area ranges in
// which it counts among the patterns. `event` is -1 where it has none.
struct InfluenceRow {
    int32_t place, rank, pattern, event;
};

// A true row of a curve: S there, and the place of its event.
struct TrueRow {
    int32_t s, event;
};

// A row of a curve from which on no precision is larger. For the true rows from the peak before on,
// `gain` is precision / P + A; `step` is how much B gains here. `next` is another peak of the same
// row, on another curve, -1 for none.
struct Peak {
    double gain, step;
    int32_t curve, next;
};

// The sums of the first j values of one area range at its thresholds, j = 0 .. T. Few rows are true
// at thresholds that are no run, and values change at peaks alone.
class RunningSums {
  public:
    void clear(size_t T) {
        values_.assign(T, 0.0);
        sums_.assign(T + 1, 0.0);
    }
    double value(int32_t t) const { return values_[static_cast<size_t>(t)]; }
    void set(int32_t t, double value) {
        values_[static_cast<size_t>(t)] = value;
        for (auto j = static_cast<size_t>(t); j < values_.size(); ++j)
            sums_[j + 1] = sums_[j] + values_[j];
    }
    // The sum of the values at some thresholds. Precondition: there is one.
    double sum(uint64_t thresholds) const {
        const int32_t first = lowest_bit(thresholds);
        const uint64_t run = thresholds >> first;
        if (run == 1) return value(first);
        if (run & (run + 1)) {
            double sum = 0;
            for_each_bit(thresholds, [&](int32_t t) { sum += value(t); });
            return sum;
        }
        const int32_t end = run == ~uint64_t{0} ? 64 : first + lowest_bit(run + 1);
        return sums_[static_cast<size_t>(end)] - sums_[static_cast<size_t>(first)];
    }

  private:
    std::vector<double> values_, sums_;
};

// All quantities of one class: their values for each of its images, before the division by the
// number of thresholds that a quantity averages over.
class ClassInfluence {
  public:
    ClassInfluence(const Outcomes& outcomes, const SlotPlan& plan)
        : outcomes_(outcomes),
          plan_(plan),
          share_(outcomes.A()),
          curves_(outcomes.A() * outcomes.T()),
          deviation_(curves_.size()),
          gains_(outcomes.A()),
          b_(outcomes.A()),
          total_(plan.width()) {}

    // Precondition: `images` has collected the images of class k.
    void compute(size_t k, const ClassImages& images) {
        values_.assign(images.list().size() * plan_.width(), 0.0);
        std::fill(total_.begin(), total_.end(), 0.0);
        count_positives(k, images);
        encode(k, images);
        add_recalls();
        for (const SlotPass& pass : plan_.passes) add_pass(pass);
        subtract_positives(k, images);
    }

    // Row i of the values, [width], is that of image i of the list. A slot without positives, or
    // without thresholds, has zeros.
    const double* values() const { return values_.data(); }
    // Sums over thresholds of the quantities, [width].
    const std::vector<double>& totals() const { return total_; }
    bool is_defined(size_t slot) const { return share_[plan_.slots[slot].area] > 0; }
    // The images with a positive that counts in an area range.
    int64_t count_positive_images(size_t a) const {
        int64_t count = 0;
        for (uint64_t areas : positive_areas_) count += static_cast<int64_t>(areas >> a & 1);
        return count;
    }

  private:
    static constexpr size_t kMaxPatterns = 256;

    const Outcomes& outcomes_;
    const SlotPlan& plan_;
    std::vector<double> share_;             // [A], 1 / P, or 0 without positives
    std::vector<uint64_t> positive_areas_;  // of each image, the areas with a positive
    std::vector<InfluenceRow> rows_;
    std::vector<Event> events_;       // [.][A]
    std::vector<uint64_t> patterns_;  // sets of area ranges in which a row counts
    std::vector<int32_t> counted_;    // rows so far of each pattern
    std::vector<std::vector<TrueRow>> curves_;  // [A, T]
    std::vector<int32_t> deviation_;  // [A, T], to add to the rows that count, at a threshold
    std::vector<Peak> peaks_;
    std::vector<int32_t> first_peak_;  // of each event, -1 for none
    std::vector<RunningSums> gains_, b_;  // [A], for the true rows and B where the walk back is
    std::vector<double> b_sums_;      // [patterns, width of the pass], see `walk_back`
    std::vector<double> total_, values_;

    std::vector<TrueRow>& curve(size_t a, int32_t t) {
        return curves_[a * outcomes_.T() + static_cast<size_t>(t)];
    }
    double* values_of(int32_t place) {
        return values_.data() + static_cast<size_t>(place) * plan_.width();
    }
    const Event* events_of(const InfluenceRow& row) const {
        return events_.data() + static_cast<size_t>(row.event) * outcomes_.A();
    }

    void count_positives(size_t k, const ClassImages& images) {
        std::fill(share_.begin(), share_.end(), 0.0);
        positive_areas_.assign(images.list().size(), 0);
        for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g) {
            const uint64_t areas = outcomes_.positive_areas(g);
            for_each_bit(areas, [&](int32_t a) { ++share_[static_cast<size_t>(a)]; });
            positive_areas_[static_cast<size_t>(images.place(outcomes_.positive_image(g)))] |=
                areas;
        }
        for (double& share : share_) share = share > 0 ? 1 / share : 0;
    }

    // Collects the rows that no cap leaves out and that are not ignored everywhere.
    void encode(size_t k, const ClassImages& images) {
        rows_.clear();
        events_.clear();
        patterns_.assign(1, 0);
        std::vector<Event> events(outcomes_.A());
        const int32_t *rank = outcomes_.rank.data(), *image = outcomes_.image.data();
        for (int64_t row = outcomes_.start(k); row < outcomes_.start(k + 1); ++row) {
            if (rank[row] >= plan_.cap) continue;
            RowSummary summary = describe_row(outcomes_.row_status(row), outcomes_.T(),
                                              plan_.thresholds, events.data());
            if (!summary.counted && !summary.has_event) continue;
            const int32_t pattern = find_pattern(summary, events);
            int32_t event = -1;
            if (summary.has_event) {
                event = static_cast<int32_t>(events_.size() / outcomes_.A());
                events_.insert(events_.end(), events.begin(), events.end());
            }
            rows_.push_back({images.place(image[row]), rank[row], pattern, event});
        }
    }

    // Data has at most twice as many patterns as area ranges. Where there are very many, those
    // beyond are spelled out in the row's event, and the row has the pattern without bits.
    int32_t find_pattern(RowSummary& summary, std::vector<Event>& events) {
        const auto known = std::find(patterns_.begin(), patterns_.end(), summary.counted);
        if (known != patterns_.end()) return static_cast<int32_t>(known - patterns_.begin());
        if (patterns_.size() < kMaxPatterns) {
            patterns_.push_back(summary.counted);
            return static_cast<int32_t>(patterns_.size() - 1);
        }
        if (!summary.has_event) std::fill(events.begin(), events.end(), Event{0, 0, 0});
        for_each_bit(summary.counted, [&](int32_t a) {
            Event& event = events[static_cast<size_t>(a)];
            event.added = plan_.thresholds[static_cast<size_t>(a)] & ~event.removed;
            event.removed = 0;
        });
        summary = {0, true};
        return 0;
    }

    void add_recalls() {
        for (const InfluenceRow& row : rows_) {
            if (row.event < 0) continue;
            const Event* events = events_of(row);
            for (size_t s = 0; s < plan_.width(); ++s) {
                const Slot& slot = plan_.slots[s];
                if (!slot.is_recall || row.rank >= slot.cap) continue;
                const uint64_t is_true = events[slot.area].is_true & slot.thresholds;
                const double part = is_true ? count_bits(is_true) * share_[slot.area] : 0;
                values_of(row.place)[s] += part;
                total_[s] += part;
            }
        }
    }

    void add_pass(const SlotPass& pass) {
        walk_forward(pass);
        peaks_.clear();
        first_peak_.assign(events_.size() / outcomes_.A(), -1);
        for (size_t a = 0; a < outcomes_.A(); ++a)
            for_each_bit(pass.thresholds[a], [&](int32_t t) {
                const double average = find_peaks(a, t);
                for (size_t s = pass.area_start[a]; s < pass.area_start[a + 1]; ++s)
                    if (plan_.slots[s].thresholds >> t & 1) total_[s] += average;
            });
        walk_back(pass);
    }

    // Finds the peaks of a curve, the last one first; returns AP. Of equal precisions the first one
    // is the peak of the rows up to it, and those behind it have the next.
    double find_peaks(size_t a, int32_t t) {
        const std::vector<TrueRow>& rows = curve(a, t);
        double average = 0, a_sum = 0;
        size_t end = rows.size();  // N at the peak
        while (end > 0) {
            const TrueRow& row = rows[end - 1];
            const auto n = static_cast<int64_t>(end);
            // Back to the next true row whose precision is as large.
            size_t before = end - 1;
            while (before > 0 && static_cast<int64_t>(before) * row.s < n * rows[before - 1].s)
                --before;
            const double c = static_cast<double>(end - before) * share_[a], s = row.s;
            const double precision = static_cast<double>(n) / s;
            a_sum += c / s;
            average += c * precision;
            int32_t& first = first_peak_[static_cast<size_t>(row.event)];
            const auto place = static_cast<int32_t>(a * outcomes_.T()) + t;
            peaks_.push_back({precision * share_[a] + a_sum, c * precision / s, place, first});
            first = static_cast<int32_t>(peaks_.size()) - 1;
            end = before;
        }
        return average;
    }

    // Finds S of every true row of every curve.
    void walk_forward(const SlotPass& pass) {
        counted_.assign(patterns_.size(), 0);
        std::fill(deviation_.begin(), deviation_.end(), 0);
        for (std::vector<TrueRow>& curve : curves_) curve.clear();
        for (const InfluenceRow& row : rows_) {
            if (row.rank >= pass.cap) continue;
            ++counted_[static_cast<size_t>(row.pattern)];
            if (row.event < 0) continue;
            const Event* events = events_of(row);
            for (size_t a = 0; a < outcomes_.A(); ++a) count_event(events[a], row.event, a, pass);
        }
    }

    void count_event(const Event& event, int32_t place, size_t a, const SlotPass& pass) {
        int32_t* deviation = deviation_.data() + a * outcomes_.T();
        for_each_bit(event.added, [&](int32_t t) { ++deviation[t]; });
        for_each_bit(event.removed, [&](int32_t t) { --deviation[t]; });
        const uint64_t is_true = event.is_true & pass.thresholds[a];
        if (!is_true) return;
        int32_t counted = 0;
        for (size_t i = 0; i < patterns_.size(); ++i)
            counted += static_cast<int32_t>(patterns_[i] >> a & 1) * counted_[i];
        for_each_bit(is_true, [&](int32_t t) {
            curve(a, t).push_back({counted + deviation[t], place});
        });
    }

    // Adds what each row does to its image. A false row subtracts the sum of B over thresholds from
    // each quantity in whose area range it counts: `b_sums_` has these, up to date, for each
    // pattern.
    void walk_back(const SlotPass& pass) {
        b_sums_.assign(patterns_.size() * pass.width, 0.0);
        for (RunningSums& sums : gains_) sums.clear(outcomes_.T());
        for (RunningSums& sums : b_) sums.clear(outcomes_.T());
        for (size_t i = rows_.size(); i-- > 0;) {
            const InfluenceRow& row = rows_[i];
            if (row.rank >= pass.cap) continue;
            if (row.event >= 0) pass_peaks(row.event, pass);
            double* values = values_of(row.place) + pass.first;
            const double* sums = b_sums_.data() + static_cast<size_t>(row.pattern) * pass.width;
            for (size_t s = 0; s < pass.width; s += 2) {
                values[s] -= sums[s];
                values[s + 1] -= sums[s + 1];
            }
            if (row.event >= 0) add_event(events_of(row), values - pass.first, pass);
        }
    }

    // Takes a row into A and B of the curves of which it is a peak.
    void pass_peaks(int32_t event, const SlotPass& pass) {
        for (int32_t i = first_peak_[static_cast<size_t>(event)]; i >= 0;) {
            const Peak& peak = peaks_[static_cast<size_t>(i)];
            const size_t a = static_cast<size_t>(peak.curve) / outcomes_.T();
            const int32_t t = peak.curve - static_cast<int32_t>(a * outcomes_.T());
            gains_[a].set(t, peak.gain);
            b_[a].set(t, b_[a].value(t) + peak.step);
            raise_b(a, t, peak.step, pass);
            i = peak.next;
        }
    }

    void raise_b(size_t a, int32_t t, double step, const SlotPass& pass) {
        for (size_t s = pass.area_start[a]; s < pass.area_start[a + 1]; ++s) {
            if (!(plan_.slots[s].thresholds >> t & 1)) continue;
            for (size_t i = 0; i < patterns_.size(); ++i)
                if (patterns_[i] >> a & 1) b_sums_[i * pass.width + s - pass.first] += step;
        }
    }

    // What a row adds at thresholds where it is true, or counts otherwise than at most.
    void add_event(const Event* events, double* values, const SlotPass& pass) {
        for (size_t a = 0; a < outcomes_.A(); ++a) {
            const Event& event = events[a];
            if (!(event.is_true | event.added | event.removed)) continue;
            for (size_t s = pass.area_start[a]; s < pass.area_start[a + 1]; ++s) {
                const uint64_t thresholds = plan_.slots[s].thresholds;
                const uint64_t is_true = event.is_true & thresholds;
                const uint64_t added = event.added & thresholds;
                const uint64_t removed = event.removed & thresholds;
                if (is_true) values[s] += gains_[a].sum(is_true);
                if (added) values[s] -= b_[a].sum(added);
                if (removed) values[s] += b_[a].sum(removed);
            }
        }
    }

    void subtract_positives(size_t k, const ClassImages& images) {
        std::vector<double> parts;
        for (size_t s = 0; s < plan_.width(); ++s)
            parts.push_back(total_[s] * share_[plan_.slots[s].area]);
        for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g) {
            double* values = values_of(images.place(outcomes_.positive_image(g)));
            const uint64_t areas = outcomes_.positive_areas(g);
            for (size_t s = 0; s < plan_.width(); ++s)
                if (areas >> plan_.slots[s].area & 1) values[s] -= parts[s];
        }
    }
};

}  // namespace upmap
