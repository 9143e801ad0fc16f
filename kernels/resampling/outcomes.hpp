// What resampling and influence take, and the rows of a class in the form that both walk over.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/columns.hpp"
#include "kernels/resampling/bits.hpp"
#include "kernels/resampling/lanes.hpp"
#include "kernels/status.hpp"

namespace upmap {

// See kernels/resampling/contract.py. Precondition: its columns have been validated.
struct Outcomes {
    size_t images;
    Input<uint8_t, 3> status;  // [N, A, T]
    Input<int32_t, 1> rank, image;
    Input<int64_t, 1> start;
    Input<int32_t, 1> positive_image, positive_label;
    Input<uint64_t, 1> positive_areas;
    std::vector<size_t> positive_start;  // [K + 1]

    Outcomes(nanobind::handle columns, Input<uint8_t, 3> by_detection)
        : images(nanobind::cast<size_t>(columns.attr("images"))),
          status(by_detection),
          rank(attribute<Input<int32_t, 1>>(columns, "rank")),
          image(attribute<Input<int32_t, 1>>(columns, "image")),
          start(attribute<Input<int64_t, 1>>(columns, "start")),
          positive_image(attribute<Input<int32_t, 1>>(columns, "positive_image")),
          positive_label(attribute<Input<int32_t, 1>>(columns, "positive_label")),
          positive_areas(attribute<Input<uint64_t, 1>>(columns, "positive_areas")) {
        const size_t G = positive_image.size();
        if (rank.size() != status.shape(0) || image.size() != rank.size() || start.size() < 1 ||
            positive_label.size() != G || positive_areas.size() != G)
            throw nanobind::value_error("the columns of outcomes disagree");
        const int32_t *label = positive_label.data(), *end = label + G;
        for (size_t k = 0; k <= K(); ++k)
            positive_start.push_back(
                static_cast<size_t>(std::lower_bound(label, end, static_cast<int32_t>(k)) - label));
    }
    size_t A() const { return status.shape(1); }
    size_t T() const { return status.shape(2); }
    size_t K() const { return start.size() - 1; }
    const uint8_t* row_status(int64_t row) const {
        return status.data() + static_cast<size_t>(row) * A() * T();
    }
};

struct Quantities {
    Input<bool, 1> is_recall;
    Input<int32_t, 1> area;
    Input<int64_t, 1> max_dets;
    Input<uint64_t, 1> thresholds;

    explicit Quantities(nanobind::handle columns)
        : is_recall(attribute<Input<bool, 1>>(columns, "is_recall")),
          area(attribute<Input<int32_t, 1>>(columns, "area")),
          max_dets(attribute<Input<int64_t, 1>>(columns, "max_dets")),
          thresholds(attribute<Input<uint64_t, 1>>(columns, "thresholds")) {
        if (area.size() != Q() || max_dets.size() != Q() || thresholds.size() != Q())
            throw nanobind::value_error("the columns of quantities disagree");
    }
    size_t Q() const { return is_recall.size(); }
    size_t area_of(size_t q) const { return static_cast<size_t>(area(q)); }
};

// The curves under one cap: one walk over a class serves all quantities that have it.
struct Pass {
    int64_t cap;
    std::vector<uint64_t> thresholds;  // [A], those that a quantity averages over
    std::vector<size_t> quantities;
};

// The passes that quantities of average precision need.
inline std::vector<Pass> plan_passes(const Quantities& quantities, size_t A) {
    std::vector<Pass> passes;
    for (size_t q = 0; q < quantities.Q(); ++q) {
        if (quantities.is_recall(q)) continue;
        const int64_t cap = quantities.max_dets(q);
        auto pass = std::find_if(passes.begin(), passes.end(),
                                 [&](const Pass& other) { return other.cap == cap; });
        if (pass == passes.end())
            pass = passes.insert(passes.end(), {cap, std::vector<uint64_t>(A), {}});
        pass->thresholds[quantities.area_of(q)] |= quantities.thresholds(q);
        pass->quantities.push_back(q);
    }
    return passes;
}

// The thresholds at which a detection is true and at which it counts, in one area range.
struct StatusBits {
    uint64_t is_true = 0, counts = 0;
};

constexpr uint64_t kEachByte = 0x0101010101010101;

inline uint64_t load_word(const uint8_t* bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof word);
    return word;
}

// Whether all of T bytes are alike. Precondition: T > 0.
inline bool is_uniform(const uint8_t* bytes, size_t T) {
    if (T < 8) return std::all_of(bytes + 1, bytes + T, [&](uint8_t b) { return b == bytes[0]; });
    const uint64_t alike = bytes[0] * kEachByte;
    for (size_t t = 0; t + 8 < T; t += 8)
        if (load_word(bytes + t) != alike) return false;
    return load_word(bytes + T - 8) == alike;
}

// Bit i is set where byte i of the word, from the lowest, is 0.
inline uint64_t zero_bytes(uint64_t word) {
    constexpr uint64_t kLow = 0x7f * kEachByte;
    const uint64_t high_bits = ~(((word & kLow) + kLow) | word | kLow);
    // The product brings bit 8 i to bit 56 + i.
    return ((high_bits >> 7) * 0x0102040810204080) >> 56;
}

// Precondition: status has T bytes, 0 < T <= 64. In most rows all are alike.
inline StatusBits status_bits(const uint8_t* status, size_t T) {
    StatusBits bits;
    const uint64_t all = T == 64 ? ~uint64_t{0} : (uint64_t{1} << T) - 1;
    if (status[0] != kTruePositive && is_uniform(status, T)) {
        bits.counts = status[0] == kFalsePositive ? all : 0;
        return bits;
    }
    static_assert(kFalsePositive == 0 && kTruePositive == 1);
    size_t t = 0;
    for (; t + 8 <= T; t += 8) {
        uint64_t word = 0;  // byte i is status[t + i], whatever the order of bytes in memory
        for (size_t i = 0; i < 8; ++i) word |= static_cast<uint64_t>(status[t + i]) << (8 * i);
        bits.is_true |= zero_bytes(word ^ kEachByte) << t;
        bits.counts |= zero_bytes(word & (0xfe * kEachByte)) << t;
    }
    for (; t < T; ++t) {
        bits.is_true |= static_cast<uint64_t>(status[t] == kTruePositive) << t;
        bits.counts |= static_cast<uint64_t>(status[t] <= kTruePositive) << t;
    }
    return bits;
}

// The rows of a class under a cap, without those that are ignored in every curve.
struct ClassRows {
    std::vector<CurveRow> rows;
    std::vector<Event> events;  // [.][A]

    CurveRows view(size_t A, size_t T) const {
        return {rows.data(), rows.size(), events.data(), static_cast<int32_t>(A),
                static_cast<int32_t>(T)};
    }
};

// A row: the area ranges in which it counts at most thresholds, and whether the events say more.
struct RowSummary {
    uint64_t counted = 0;
    bool has_event = false;
};

// Recognizes rows that are false or ignored in each area range alike at all thresholds, as most
// are: such a row has no event, and `counted` says it all.
class PlainRows {
  public:
    // `needed` are the thresholds of each area range, [A]; it must outlive this.
    PlainRows(const std::vector<uint64_t>& needed, size_t T)
        : needed_(needed), T_(T), size_(needed.size() * T) {
        if (size_ < 9) return;
        for (size_t i = 0; i + 9 < size_; i += 8) add_word(i);
        add_word(size_ - 9);
    }

    bool describe(const uint8_t* status, RowSummary& summary) const {
        if (!is_plain(status)) return false;
        uint64_t counted = 0, is_true = 0;
        for (size_t a = 0; a < needed_.size(); ++a, status += T_) {
            counted |= static_cast<uint64_t>(*status == kFalsePositive && needed_[a]) << a;
            is_true |= static_cast<uint64_t>(*status == kTruePositive);
        }
        summary.counted = counted;
        return !is_true;
    }

  private:
    // Eight bytes from `place` on are compared with those one place further, where the mask has
    // ones: not from one area range to the next.
    struct Word {
        size_t place;
        uint64_t mask;
    };
    const std::vector<uint64_t>& needed_;
    size_t T_, size_;
    std::vector<Word> words_;

    void add_word(size_t place) {
        uint8_t mask[8];
        for (size_t i = 0; i < 8; ++i) mask[i] = (place + i + 1) % T_ ? 0xff : 0;
        words_.push_back({place, load_word(mask)});
    }

    bool is_plain(const uint8_t* status) const {
        uint64_t differences = 0;
        if (size_ < 9) {
            for (size_t i = 1; i < size_; ++i)
                differences |= static_cast<uint64_t>(i % T_ && status[i] != status[i - 1]);
            return !differences;
        }
        for (const Word& word : words_)
            differences |=
                (load_word(status + word.place) ^ load_word(status + word.place + 1)) & word.mask;
        return !differences;
    }
};

// Finds the events of a row, [A], at the thresholds needed in each area range, [A].
inline RowSummary describe_row(const uint8_t* status, size_t T, const std::vector<uint64_t>& needed,
                               const PlainRows& plain, Event* events) {
    RowSummary summary;
    if (plain.describe(status, summary)) return summary;
    summary.counted = 0;
    for (size_t a = 0; a < needed.size(); ++a) {
        StatusBits bits;
        if (needed[a]) bits = status_bits(status + a * T, T);
        const uint64_t is_true = bits.is_true & needed[a], counts = bits.counts & needed[a];
        const uint64_t ignored = needed[a] & ~counts;
        // Bits are counted only where they differ.
        const bool is_counted = counts && (!ignored || count_bits(counts) >= count_bits(ignored));
        events[a] = {is_true, is_counted ? 0 : counts, is_counted ? ignored : 0};
        summary.counted |= static_cast<uint64_t>(is_counted) << a;
        summary.has_event |= (is_true | events[a].added | events[a].removed) != 0;
    }
    return summary;
}

// Appends a row, and its event if it has one. `events` is room for [A].
inline void append_row(const Outcomes& outcomes, int64_t row, const Pass& pass,
                       const PlainRows& plain, Event* events, ClassRows& out) {
    const size_t A = outcomes.A();
    const RowSummary summary =
        describe_row(outcomes.row_status(row), outcomes.T(), pass.thresholds, plain, events);
    if (!summary.counted && !summary.has_event) return;
    const int32_t place = summary.has_event ? static_cast<int32_t>(out.events.size() / A) : -1;
    out.rows.push_back({summary.counted, outcomes.image(static_cast<size_t>(row)), place});
    if (summary.has_event) out.events.insert(out.events.end(), events, events + A);
}

inline ClassRows encode_rows(const Outcomes& outcomes, size_t k, const Pass& pass) {
    ClassRows out;
    const PlainRows plain(pass.thresholds, outcomes.T());
    std::vector<Event> events(outcomes.A());
    for (int64_t row = outcomes.start(k); row < outcomes.start(k + 1); ++row)
        if (outcomes.rank(static_cast<size_t>(row)) < pass.cap)
            append_row(outcomes, row, pass, plain, events.data(), out);
    return out;
}

// Calls body(image, count, q) for each row of a class and each recall q to which it adds `count`
// true ones, summed over thresholds.
template <class Body>
void for_each_true(const Outcomes& outcomes, const Quantities& quantities, size_t k,
                   const Body& body) {
    const size_t A = outcomes.A(), T = outcomes.T();
    for (int64_t row = outcomes.start(k); row < outcomes.start(k + 1); ++row) {
        const uint8_t* status = outcomes.row_status(row);
        if (!std::memchr(status, kTruePositive, A * T)) continue;
        const auto place = static_cast<size_t>(row);
        for (size_t q = 0; q < quantities.Q(); ++q) {
            if (!quantities.is_recall(q) || outcomes.rank(place) >= quantities.max_dets(q))
                continue;
            const StatusBits bits = status_bits(status + quantities.area_of(q) * T, T);
            const int32_t count = count_bits(bits.is_true & quantities.thresholds(q));
            if (count) body(outcomes.image(place), count, q);
        }
    }
}

}  // namespace upmap
