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
// The rows m are the peaks of a curve: between two of them A, B and the precision are constant. So
// a walk forward collects S of the true rows, and a walk back has one number for B of each
// quantity, which it takes off the image of a false row, and one of each curve for its true rows.
#pragma once
#include <algorithm>
#include <cstdint>
#include <iterator>
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
    size_t first_recall = 0;           // slot

    SlotPlan(const Quantities& quantities, size_t A) : thresholds(A) {
        for (const Pass& pass : plan_passes(quantities, A)) add_pass(quantities, pass);
        first_recall = slots.size();
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

// A curve: its true rows, best score first, and what the walk back knows.
struct InfluenceCurve {
    std::vector<TrueRow> rows;
    int32_t next_event = -1;  // of the next peak; the walk meets it or no peak is left
    size_t n = 0;             // N at that peak
    double gain = 0;          // precision / P + A of the true rows here
    double b = 0, a_sum = 0;  // B and A here
    double average = 0;       // AP of the rows behind the next peak

    void start() {
        n = rows.size();
        next_event = n ? rows[n - 1].event : -1;
        gain = b = a_sum = average = 0;
    }

    // Takes the next peak into A and B, and finds the one before it; returns how much B gains.
    // `share` is 1 / P. Of equal precisions the first one is the peak of the rows up to it, and
    // those behind it have the next. Precondition: there is a peak.
    double pass_peak(double share) {
        const int64_t s = rows[n - 1].s, n_here = static_cast<int64_t>(n);
        size_t before = n - 1;  // back to a row whose precision is as large
        while (before > 0 && static_cast<int64_t>(before) * s < n_here * rows[before - 1].s)
            --before;
        const double inverse = 1 / static_cast<double>(s);
        const double precision = static_cast<double>(n) * inverse;
        const double c = static_cast<double>(n - before) * share, step = c * precision * inverse;
        a_sum += c * inverse;
        average += c * precision;
        gain = precision * share + a_sum;
        b += step;
        n = before;
        next_event = n ? rows[n - 1].event : -1;
        return step;
    }
};

// The different sets of area ranges of a class's rows, or of its positives: in data, at most twice
// as many as area ranges. `mask` has 1 for each slot whose area range is in the set, else 0.
class AreaSets {
  public:
    void clear() {
        sets_.clear();
        std::fill(std::begin(places_), std::end(places_), int16_t{-1});
    }
    // The place of a set, which is added if it is new; -1 if there are too many.
    int32_t find(uint64_t set) {
        if (set >= kSmall) return find_or_add(set);
        if (places_[set] < 0) places_[set] = static_cast<int16_t>(find_or_add(set));
        return places_[set];
    }
    size_t size() const { return sets_.size(); }
    uint64_t operator[](size_t i) const { return sets_[i]; }
    void make_masks(const std::vector<Slot>& slots) {
        width_ = slots.size();
        masks_.clear();
        for (uint64_t set : sets_)
            for (const Slot& slot : slots)
                masks_.push_back(slot.thresholds ? static_cast<double>(set >> slot.area & 1) : 0);
    }
    const double* mask(int32_t place) const {
        return masks_.data() + static_cast<size_t>(place) * width_;
    }

  private:
    static constexpr size_t kMaxSets = 256;
    static constexpr uint64_t kSmall = 64;  // all sets of six area ranges
    std::vector<uint64_t> sets_;
    int16_t places_[kSmall] = {};  // of each small set, -1 if it has none
    std::vector<double> masks_;    // [sets, width]
    size_t width_ = 0;

    int32_t find_or_add(uint64_t set) {
        const auto known = std::find(sets_.begin(), sets_.end(), set);
        if (known != sets_.end()) return static_cast<int32_t>(known - sets_.begin());
        if (sets_.size() == kMaxSets) return -1;
        sets_.push_back(set);
        return static_cast<int32_t>(sets_.size() - 1);
    }
};

// All quantities of one class: their values for each of its images, before the division by the
// number of thresholds that a quantity averages over.
class ClassInfluence {
  public:
    ClassInfluence(const Outcomes& outcomes, const SlotPlan& plan)
        : outcomes_(outcomes),
          plan_(plan),
          plain_(plan.thresholds, outcomes.T()),
          share_(outcomes.A()),
          curves_(outcomes.A() * outcomes.T()),
          deviation_(curves_.size()),
          b_(plan.width()),
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
    const Outcomes& outcomes_;
    const SlotPlan& plan_;
    PlainRows plain_;
    std::vector<double> share_;             // [A], 1 / P, or 0 without positives
    std::vector<uint64_t> positive_areas_;  // of each image, the areas with a positive
    std::vector<InfluenceRow> rows_;
    std::vector<Event> events_;           // [.][A]
    AreaSets patterns_, positive_sets_;   // of rows; of positives
    std::vector<int32_t> counted_;        // rows so far of each pattern
    std::vector<InfluenceCurve> curves_;  // [A, T]
    std::vector<int32_t> deviation_;      // [A, T], to add to the rows that count, at a threshold
    std::vector<double> b_;               // [width], the sum of B over a quantity's thresholds
    std::vector<double> total_, values_;

    InfluenceCurve& curve(size_t a, int32_t t) {
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
        patterns_.clear();
        patterns_.find(0);
        std::vector<Event> events(outcomes_.A());
        const int32_t *rank = outcomes_.rank.data(), *image = outcomes_.image.data();
        for (int64_t row = outcomes_.start(k); row < outcomes_.start(k + 1); ++row) {
            if (rank[row] >= plan_.cap) continue;
            RowSummary summary = describe_row(outcomes_.row_status(row), outcomes_.T(),
                                              plan_.thresholds, plain_, events.data());
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

    // Where there are too many patterns, the row's event spells out where it counts, and the row
    // has the first pattern, without area ranges.
    int32_t find_pattern(RowSummary& summary, std::vector<Event>& events) {
        const int32_t place = patterns_.find(summary.counted);
        if (place >= 0) return place;
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
            double* values = values_of(row.place);
            for (size_t s = plan_.first_recall; s < plan_.width(); ++s) {
                const Slot& slot = plan_.slots[s];
                const uint64_t is_true = events[slot.area].is_true & slot.thresholds;
                if (!is_true || row.rank >= slot.cap) continue;
                const double part = count_bits(is_true) * share_[slot.area];
                values[s] += part;
                total_[s] += part;
            }
        }
    }

    void add_pass(const SlotPass& pass) {
        walk_forward(pass);
        walk_back(pass);
        for (size_t s = pass.first; s < pass.first + pass.width; ++s)
            for_each_bit(plan_.slots[s].thresholds,
                         [&](int32_t t) { total_[s] += curve(plan_.slots[s].area, t).average; });
    }

    // Finds S of every true row of every curve.
    void walk_forward(const SlotPass& pass) {
        counted_.assign(patterns_.size(), 0);
        std::fill(deviation_.begin(), deviation_.end(), 0);
        for (InfluenceCurve& curve : curves_) curve.rows.clear();
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
            curve(a, t).rows.push_back({counted + deviation[t], place});
        });
    }

    // Adds what each row does to its image.
    void walk_back(const SlotPass& pass) {
        patterns_.make_masks(plan_.slots);
        std::fill(b_.begin(), b_.end(), 0.0);
        for (InfluenceCurve& curve : curves_) curve.start();
        const double* b = b_.data() + pass.first;
        for (size_t i = rows_.size(); i-- > 0;) {
            const InfluenceRow& row = rows_[i];
            if (row.rank >= pass.cap) continue;
            if (row.event >= 0) pass_peaks(row, pass);
            double* values = values_of(row.place) + pass.first;
            const double* mask = patterns_.mask(row.pattern) + pass.first;
            for (size_t s = 0; s < pass.width; s += 2) {
                values[s] -= b[s] * mask[s];
                values[s + 1] -= b[s + 1] * mask[s + 1];
            }
            if (row.event >= 0) add_event(row, pass);
        }
    }

    // Takes a row into A and B of the curves of which it is a peak.
    void pass_peaks(const InfluenceRow& row, const SlotPass& pass) {
        const Event* events = events_of(row);
        for (size_t a = 0; a < outcomes_.A(); ++a)
            for_each_bit(events[a].is_true & pass.thresholds[a], [&](int32_t t) {
                InfluenceCurve& here = curve(a, t);
                if (here.next_event != row.event) return;
                const double step = here.pass_peak(share_[a]);
                for (size_t s = pass.area_start[a]; s < pass.area_start[a + 1]; ++s)
                    if (plan_.slots[s].thresholds >> t & 1) b_[s] += step;
            });
    }

    // What a row adds at thresholds where it is true, or counts otherwise than at most.
    void add_event(const InfluenceRow& row, const SlotPass& pass) {
        const Event* events = events_of(row);
        double* values = values_of(row.place);
        for (size_t a = 0; a < outcomes_.A(); ++a) {
            const Event& event = events[a];
            if (!(event.is_true | event.added | event.removed)) continue;
            for (size_t s = pass.area_start[a]; s < pass.area_start[a + 1]; ++s) {
                const uint64_t thresholds = plan_.slots[s].thresholds;
                double sum = 0;
                for_each_bit(event.is_true & thresholds,
                             [&](int32_t t) { sum += curve(a, t).gain; });
                for_each_bit(event.added & thresholds, [&](int32_t t) { sum -= curve(a, t).b; });
                for_each_bit(event.removed & thresholds, [&](int32_t t) { sum += curve(a, t).b; });
                values[s] += sum;
            }
        }
    }

    void subtract_positives(size_t k, const ClassImages& images) {
        std::vector<double> parts;
        for (size_t s = 0; s < plan_.width(); ++s)
            parts.push_back(total_[s] * share_[plan_.slots[s].area]);
        positive_sets_.clear();
        for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g)
            positive_sets_.find(outcomes_.positive_areas(g));
        positive_sets_.make_masks(plan_.slots);
        for (size_t g = outcomes_.positive_start[k]; g < outcomes_.positive_start[k + 1]; ++g) {
            double* values = values_of(images.place(outcomes_.positive_image(g)));
            const uint64_t areas = outcomes_.positive_areas(g);
            const int32_t set = positive_sets_.find(areas);
            if (set >= 0) {
                const double* mask = positive_sets_.mask(set);
                for (size_t s = 0; s < parts.size(); ++s) values[s] -= parts[s] * mask[s];
                continue;
            }
            for (size_t s = 0; s < parts.size(); ++s)
                if (areas >> plan_.slots[s].area & 1) values[s] -= parts[s];
        }
    }
};

}  // namespace upmap
