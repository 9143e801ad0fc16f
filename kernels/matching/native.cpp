// Matching, fast: the status of every detection at every IoU threshold and area range, in one pass.
//
// Does what kernels/matching/reference.py says, to the last bit: the IoU is computed in the order of
// operations of the VOC kits and of pycocotools (which agree), and must be compiled without
// contraction. One task is one class. A detection's status at all thresholds and area ranges is kept
// together, as they are found together and read together.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/arrays.hpp"
#include "kernels/parallel.hpp"

namespace nb = nanobind;
using upmap::Input;

namespace {

enum Status : uint8_t { FALSE_POSITIVE = 0, TRUE_POSITIVE = 1, IGNORED = 2 };
enum Kind : uint8_t { CLAIMABLE = 0, NEVER_CLAIMED = 1, CROWD = 2 };

struct Boxes {
    Input<int32_t, 1> image, label;
    Input<double, 2> box;
    Input<double, 1> box_area, area, score;
    Input<int64_t, 1> row;
    Input<uint8_t, 1> kind;

    explicit Boxes(nb::handle columns)
        : image(nb::cast<Input<int32_t, 1>>(columns.attr("image"))),
          label(nb::cast<Input<int32_t, 1>>(columns.attr("label"))),
          box(nb::cast<Input<double, 2>>(columns.attr("box"))),
          box_area(nb::cast<Input<double, 1>>(columns.attr("box_area"))),
          area(nb::cast<Input<double, 1>>(columns.attr("area"))),
          score(nb::cast<Input<double, 1>>(columns.attr("score"))),
          row(nb::cast<Input<int64_t, 1>>(columns.attr("row"))),
          kind(nb::cast<Input<uint8_t, 1>>(columns.attr("kind"))) {
        for (size_t length : {image.size(), box.shape(0), box_area.size(), area.size()})
            if (length != label.size()) throw nb::value_error("columns must have equal lengths");
        if (label.size() && box.shape(1) != 4) throw nb::value_error("box must be [N, 4]");
        if (label.size() > INT32_MAX) throw nb::value_error("more than 2^31 - 1 boxes");
    }
    int64_t size() const { return static_cast<int64_t>(label.size()); }
};

struct Rules {
    Input<double, 1> iou_thresholds;
    Input<double, 2> area_ranges;
    double side_offset;
    bool strict, best_only, last_of_equals, ties_by_image;
    int64_t max_dets;

    explicit Rules(nb::handle rules)
        : iou_thresholds(nb::cast<Input<double, 1>>(rules.attr("iou_thresholds"))),
          area_ranges(nb::cast<Input<double, 2>>(rules.attr("area_ranges"))),
          side_offset(nb::cast<double>(rules.attr("side_offset"))),
          strict(nb::cast<bool>(rules.attr("strict"))),
          best_only(nb::cast<bool>(rules.attr("best_only"))),
          last_of_equals(nb::cast<bool>(rules.attr("last_of_equals"))),
          ties_by_image(nb::cast<bool>(rules.attr("ties_by_image"))),
          max_dets(nb::cast<int64_t>(rules.attr("max_dets"))) {
        if (iou_thresholds.size() == 0 || iou_thresholds.size() > 64)
            throw nb::value_error("expected 1 to 64 IoU thresholds");
        if (area_ranges.shape(1) != 2) throw nb::value_error("area_ranges must be [A, 2]");
    }
    int64_t T() const { return static_cast<int64_t>(iou_thresholds.size()); }
    int64_t A() const { return static_cast<int64_t>(area_ranges.shape(0)); }
    bool passes(double iou, double threshold) const {
        return strict ? iou > threshold : iou >= threshold;
    }
    bool beats(double iou, double best) const { return last_of_equals ? iou >= best : iou > best; }
    bool inside(double area, int64_t a) const {
        return area_ranges(a, 0) <= area && area <= area_ranges(a, 1);
    }
};

// Rows grouped by class; in `row` order within a class, then input order.
struct Groups {
    std::vector<int64_t> start;  // of each class
    std::vector<int32_t> rows;

    Groups(const Boxes& boxes, const int64_t* row, int64_t classes)
        : start(classes + 1, 0), rows(boxes.size()) {
        for (int64_t i = 0; i < boxes.size(); ++i) {
            if (boxes.label(i) < 0 || boxes.label(i) >= classes)
                throw nb::value_error("label out of range");
            ++start[boxes.label(i) + 1];
        }
        std::partial_sum(start.begin(), start.end(), start.begin());
        std::vector<int64_t> next(start);
        const bool in_order = !row || std::is_sorted(row, row + boxes.size());
        for (int32_t i : in_order ? std::vector<int32_t>{} : by_row(row, boxes.size()))
            rows[next[boxes.label(i)]++] = i;
        for (int32_t i = 0; in_order && i < boxes.size(); ++i) rows[next[boxes.label(i)]++] = i;
    }

  private:
    static std::vector<int32_t> by_row(const int64_t* row, int64_t count) {
        std::vector<int32_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int32_t x, int32_t y) { return row[x] < row[y]; });
        return order;
    }
};

// A score as a number that is the smaller the better the score; equal scores are equal.
inline uint64_t descending(double score) {
    score += 0.0;  // there is no negative zero
    uint64_t bits;
    std::memcpy(&bits, &score, 8);
    return bits >> 63 ? bits : ~bits & ~(uint64_t{1} << 63);
}

// A row with what it is sorted by.
struct Item {
    uint64_t key;
    int32_t row, image;
};

// Sorts by key, stably: by comparison if they are few, else byte by byte from the last.
void sort_by_key(std::vector<Item>& items, std::vector<Item>& spare) {
    auto less = [](const Item& x, const Item& y) { return x.key < y.key; };
    if (items.size() < 512) return std::stable_sort(items.begin(), items.end(), less);
    std::vector<std::array<uint32_t, 256>> counts(8);
    for (auto& count : counts) count.fill(0);
    for (const Item& item : items)
        for (int byte = 0; byte < 8; ++byte) ++counts[byte][item.key >> 8 * byte & 255];
    spare.resize(items.size());
    for (int byte = 0; byte < 8; ++byte) {
        auto& count = counts[byte];
        if (count[items[0].key >> 8 * byte & 255] == items.size()) continue;  // all are equal here
        uint32_t next = 0;
        for (uint32_t& place : count) next += std::exchange(place, next);
        for (const Item& item : items) spare[count[item.key >> 8 * byte & 255]++] = item;
        items.swap(spare);
    }
}

constexpr int64_t AHEAD = 16;  // rows, fetched before they are needed

struct Output {
    upmap::Buffer<int64_t> order;
    upmap::Buffer<int32_t> rank;
    upmap::Buffer<uint8_t> status;     // [N, A, T]
    upmap::Buffer<int64_t> positives;  // [K, A]
};

// One class: its images' detections are sorted by score, then placed in the class's own order, then
// matched image by image. Buffers live as long as the task.
class ClassMatcher {
  public:
    ClassMatcher(const Boxes& detections, const Boxes& truths, const Rules& rules, Output& out)
        : detections_(detections), truths_(truths), rules_(rules), out_(out) {
        lowest_ = *std::min_element(rules.iou_thresholds.data(),
                                    rules.iou_thresholds.data() + rules.T());
    }

    // Matches the detections `rows`, whose places in curve order begin at `place`.
    void match(const int32_t* rows, int64_t count, int64_t place, const int32_t* truths,
               int64_t truth_count, int64_t label) {
        count_positives(truths, truth_count, label);
        gather_items(rows, count);
        find_places(place);
        gather_truths(truths, truth_count);
        size_t g = 0;
        for (int64_t d = 0; d < count;) {
            const int64_t begin = d;
            const int32_t image = items_[d].image;
            while (d < count && items_[d].image == image) ++d;
            while (g < by_image_.size() && by_image_[g].image < image) ++g;
            const size_t first = g;
            while (g < by_image_.size() && by_image_[g].image == image) ++g;
            gather_here(first, g);
            match_image(begin, d);
        }
    }

  private:
    struct Truth {
        double box[4], box_area;
        Kind kind;
    };
    struct Candidate {
        int32_t truth;
        double iou;
    };
    // The thresholds, a bit each, at which a detection is right and at which it is ignored.
    struct Outcome {
        uint64_t right = 0, ignored = 0;
    };

    const Boxes& detections_;
    const Boxes& truths_;
    const Rules& rules_;
    Output& out_;
    double lowest_;
    std::vector<Item> items_;     // the class's detections by image, best first
    std::vector<Item> by_image_;  // its ground truths by image, input order
    std::vector<Item> spare_;
    std::vector<int64_t> places_;     // of each of items_ in curve order
    std::vector<Truth> here_;         // this image's ground truths, input order
    std::vector<Candidate> candidates_;  // what passes the lowest threshold with one detection
    std::vector<uint8_t> ignored_;    // [A, here]
    std::vector<uint64_t> claimed_;   // [A, here], a bit per threshold

    void count_positives(const int32_t* truths, int64_t count, int64_t label) {
        for (int64_t a = 0; a < rules_.A(); ++a) {
            int64_t positives = 0;
            for (int64_t i = 0; i < count; ++i)
                positives += truths_.kind(truths[i]) == CLAIMABLE &&
                             rules_.inside(truths_.area(truths[i]), a);
            out_.positives[label * rules_.A() + a] = positives;
        }
    }

    // Detections by image, and by descending score within one: equal scores keep `row` order.
    void gather_items(const int32_t* rows, int64_t count) {
        items_.resize(count);
        for (int64_t i = 0; i < count; ++i) {
            const int32_t image = detections_.image(rows[i]);
            items_[i] = {static_cast<uint32_t>(image), rows[i], image};
        }
        sort_by_key(items_, spare_);
        for (Item& item : items_) item.key = descending(detections_.score(item.row));
        for (size_t begin = 0, end; begin < items_.size(); begin = end) {
            for (end = begin + 1; end < items_.size() && items_[end].image == items_[begin].image;)
                ++end;
            sort_few(items_.begin() + begin, items_.begin() + end);
        }
    }

    static void sort_few(std::vector<Item>::iterator begin, std::vector<Item>::iterator end) {
        if (end - begin > 32) {
            auto less = [](const Item& x, const Item& y) { return x.key < y.key; };
            return std::stable_sort(begin, end, less);
        }
        for (auto next = begin; next < end; ++next) {
            const Item item = *next;
            auto at = next;
            for (; at > begin && item.key < (at - 1)->key; --at) *at = *(at - 1);
            *at = item;
        }
    }

    // The place of each detection in curve order: by score, then as the rules say.
    void find_places(int64_t place) {
        const auto count = static_cast<int32_t>(items_.size());
        std::vector<Item> ranked(items_);
        for (int32_t i = 0; i < count; ++i) ranked[i].image = i;  // where it stands in items_
        if (!rules_.ties_by_image)
            std::sort(ranked.begin(), ranked.end(), [&](const Item& x, const Item& y) {
                const int64_t row = detections_.row(x.row), other = detections_.row(y.row);
                return row != other ? row < other : x.row < y.row;
            });
        sort_by_key(ranked, spare_);
        places_.resize(items_.size());
        for (int32_t i = 0; i < count; ++i) {
            places_[ranked[i].image] = place + i;
            out_.order[place + i] = ranked[i].row;
        }
    }

    void gather_truths(const int32_t* truths, int64_t count) {
        by_image_.resize(count);
        for (int64_t i = 0; i < count; ++i) {
            const int32_t image = truths_.image(truths[i]);
            by_image_[i] = {static_cast<uint32_t>(image), truths[i], image};
        }
        sort_by_key(by_image_, spare_);
    }

    void match_image(int64_t begin, int64_t end) {
        const int64_t kept = std::min(end, begin + rules_.max_dets);
        const int64_t last = static_cast<int64_t>(items_.size()) - 1;
        for (int64_t d = begin; d < end; ++d) {
            prefetch(std::min(d + AHEAD, last));
            out_.rank[places_[d]] = static_cast<int32_t>(d - begin);
            uint8_t* status = out_.status.data() + places_[d] * rules_.A() * rules_.T();
            if (d < kept)
                match_detection(items_[d].row, status);
            else
                std::memset(status, IGNORED, static_cast<size_t>(rules_.A() * rules_.T()));
        }
    }

    // Rows lie anywhere in memory: without this, matching would mostly wait for them.
    void prefetch(int64_t d) const {
        const int64_t row = items_[d].row;
        __builtin_prefetch(detections_.box.data() + 4 * row);
        __builtin_prefetch(detections_.box_area.data() + row);
        __builtin_prefetch(detections_.area.data() + row);
        __builtin_prefetch(out_.status.data() + places_[d] * rules_.A() * rules_.T(), 1);
        __builtin_prefetch(out_.rank.data() + places_[d], 1);
    }

    // The ground truths by_image_[first .. last - 1], an image's.
    void gather_here(size_t first, size_t last) {
        const size_t count = last - first;
        here_.resize(count);
        ignored_.resize(count * static_cast<size_t>(rules_.A()));
        claimed_.assign(ignored_.size(), 0);
        for (size_t j = 0; j < count; ++j) {
            const int64_t g = by_image_[first + j].row;
            std::memcpy(here_[j].box, truths_.box.data() + 4 * g, sizeof here_[j].box);
            here_[j].box_area = truths_.box_area(g);
            here_[j].kind = static_cast<Kind>(truths_.kind(g));
            for (int64_t a = 0; a < rules_.A(); ++a)
                ignored_[a * count + j] =
                    here_[j].kind != CLAIMABLE || !rules_.inside(truths_.area(g), a);
        }
    }

    void match_detection(int32_t row, uint8_t* status) {
        const int64_t T = rules_.T();
        find_candidates(row);
        for (int64_t a = 0; a < rules_.A(); ++a, status += T) {
            const Status otherwise =
                rules_.inside(detections_.area(row), a) ? FALSE_POSITIVE : IGNORED;
            std::memset(status, otherwise, static_cast<size_t>(T));
            if (candidates_.empty()) continue;
            const Outcome found = candidates_.size() == 1 ? outcome_of_one(a) : outcome_of_many(a);
            for (int64_t t = 0; t < T; ++t)
                if (found.right >> t & 1)
                    status[t] = TRUE_POSITIVE;
                else if (found.ignored >> t & 1)
                    status[t] = IGNORED;
        }
    }

    void find_candidates(int32_t row) {
        candidates_.clear();
        const double* p = detections_.box.data() + 4 * static_cast<int64_t>(row);
        for (size_t j = 0; j < here_.size(); ++j) {
            const double* q = here_[j].box;
            double width = std::min(p[2], q[2]) - std::max(p[0], q[0]) + rules_.side_offset;
            if (!(width > 0)) continue;
            double height = std::min(p[3], q[3]) - std::max(p[1], q[1]) + rules_.side_offset;
            if (!(height > 0)) continue;
            double common = width * height, area = detections_.box_area(row);
            if (here_[j].kind != CROWD) area = area + here_[j].box_area - common;
            double iou = common / area;
            if (iou > 0 && iou >= lowest_) candidates_.push_back({static_cast<int32_t>(j), iou});
        }
    }

    // What nearly all are: a detection that overlaps one ground truth. All thresholds at once.
    Outcome outcome_of_one(int64_t a) {
        const Candidate& only = candidates_[0];
        const size_t at = a * here_.size() + only.truth;
        uint64_t hits = 0;
        for (int64_t t = 0; t < rules_.T(); ++t)
            hits |= uint64_t{rules_.passes(only.iou, rules_.iou_thresholds(t))} << t;
        const uint64_t taken = here_[only.truth].kind == CLAIMABLE ? claimed_[at] : 0;
        claimed_[at] |= hits;
        if (!ignored_[at]) return {hits & ~taken, 0};
        return {0, rules_.best_only ? hits : hits & ~taken};
    }

    Outcome outcome_of_many(int64_t a) {
        Outcome found;
        for (int64_t t = 0; t < rules_.T(); ++t) {
            const Status state = outcome(a, t);
            found.right |= uint64_t{state == TRUE_POSITIVE} << t;
            found.ignored |= uint64_t{state == IGNORED} << t;
        }
        return found;
    }

    Status outcome(int64_t a, int64_t t) {
        const uint8_t* ignored = ignored_.data() + a * here_.size();
        uint64_t* claimed = claimed_.data() + a * here_.size();
        const Candidate* found;
        if (rules_.best_only) {
            found = best(t, [](const Candidate&) { return true; });
        } else {
            auto free = [&](const Candidate& c) {
                return here_[c.truth].kind != CLAIMABLE || !(claimed[c.truth] >> t & 1);
            };
            found = best(t, [&](const Candidate& c) { return !ignored[c.truth] && free(c); });
            if (!found)
                found = best(t, [&](const Candidate& c) { return ignored[c.truth] && free(c); });
        }
        if (!found) return FALSE_POSITIVE;
        const bool taken = claimed[found->truth] >> t & 1;
        claimed[found->truth] |= uint64_t{1} << t;
        if (ignored[found->truth]) return IGNORED;
        return taken ? FALSE_POSITIVE : TRUE_POSITIVE;
    }

    // The candidate of largest IoU among the eligible, if it passes threshold t.
    template <class Eligible>
    const Candidate* best(int64_t t, const Eligible& eligible) const {
        const Candidate* found = nullptr;
        for (const Candidate& c : candidates_)
            if (eligible(c) && (!found || rules_.beats(c.iou, found->iou))) found = &c;
        return found && rules_.passes(found->iou, rules_.iou_thresholds(t)) ? found : nullptr;
    }
};

Output match_all(const Boxes& detections, const Boxes& truths, const Rules& rules, int64_t classes,
                 int threads) {
    const auto N = static_cast<size_t>(detections.size());
    const auto A = static_cast<size_t>(rules.A()), T = static_cast<size_t>(rules.T());
    Output out{upmap::Buffer<int64_t>(N), upmap::Buffer<int32_t>(N), upmap::Buffer<uint8_t>(N * A * T),
               upmap::Buffer<int64_t>(static_cast<size_t>(classes) * A)};
    const Groups by_class(detections, detections.row.data(), classes);
    const Groups truth_by_class(truths, nullptr, classes);
    auto count = [&](int64_t k) { return by_class.start[k + 1] - by_class.start[k]; };
    std::vector<int64_t> largest_first(classes);
    std::iota(largest_first.begin(), largest_first.end(), 0);
    std::stable_sort(largest_first.begin(), largest_first.end(),
                     [&](int64_t x, int64_t y) { return count(x) > count(y); });
    upmap::parallel_for(classes, threads, [&](int64_t task) {
        int64_t k = largest_first[task], first = truth_by_class.start[k];
        ClassMatcher(detections, truths, rules, out)
            .match(by_class.rows.data() + by_class.start[k], count(k), by_class.start[k],
                   truth_by_class.rows.data() + first, truth_by_class.start[k + 1] - first, k);
    });
    return out;
}

nb::tuple match(nb::handle detection_columns, nb::handle truth_columns, nb::handle rule_values,
                int64_t classes, int threads) {
    Boxes detections(detection_columns), truths(truth_columns);
    if (detections.score.size() != detections.label.size() ||
        detections.row.size() != detections.label.size() ||
        truths.kind.size() != truths.label.size())
        throw nb::value_error("columns must have equal lengths");
    Rules rules(rule_values);
    Output out;
    {
        nb::gil_scoped_release release;
        out = match_all(detections, truths, rules, classes, threads);
    }
    const size_t N = detections.label.size(), K = classes;
    const auto A = rules.A(), T = rules.T();
    return nb::make_tuple(
        upmap::owned(std::move(out.order), {N}), upmap::owned(std::move(out.rank), {N}),
        upmap::owned(std::move(out.status), {size_t(A), size_t(T), N}, {T, 1, A * T}),
        upmap::owned(std::move(out.positives), {K, size_t(A)}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("match", &match, nb::arg("detections"), nb::arg("ground_truth"), nb::arg("rules"),
               nb::arg("classes"), nb::arg("threads"),
               "See kernels.matching.match; returns (order, rank, status, positives).");
}
