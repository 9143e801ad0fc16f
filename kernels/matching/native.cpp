// Matching, fast: the status of every detection at every IoU threshold and area range, in one pass.
//
// Does what kernels/matching/reference.py says, to the last bit: the IoU is computed in the order of
// operations of the VOC kits and of pycocotools (which agree), and must be compiled without
// contraction. One task is one class. Memory decides the time: the boxes of a class lie all over the
// columns, so they are first brought together, a box with all that is asked of it in one cache line;
// and a detection's status at all thresholds and area ranges is kept together, as it is found.
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

// A box with all that matching asks of it.
struct Detection {
    double box[4], area, score;
    int64_t row;
    int32_t image;
};
struct Truth {
    double box[4], box_area, area;
    int32_t image;
    Kind kind;
};

// The columns that detections and ground truths have in common.
struct Boxes {
    Input<int32_t, 1> image, label;
    Input<double, 2> box;
    Input<double, 1> box_area;

    explicit Boxes(nb::handle columns)
        : image(upmap::attribute<Input<int32_t, 1>>(columns, "image")),
          label(upmap::attribute<Input<int32_t, 1>>(columns, "label")),
          box(upmap::attribute<Input<double, 2>>(columns, "box")),
          box_area(upmap::attribute<Input<double, 1>>(columns, "box_area")) {
        for (size_t length : {image.size(), box.shape(0), box_area.size()}) check_length(length);
        if (label.size() && box.shape(1) != 4) throw nb::value_error("box must be [N, 4]");
        if (label.size() > INT32_MAX) throw nb::value_error("more than 2^31 - 1 boxes");
    }
    void check_length(size_t length) const {
        if (length != label.size()) throw nb::value_error("columns must have equal lengths");
    }
};

struct DetectionBoxes : Boxes {
    Input<double, 1> score;
    Input<int64_t, 1> row;

    explicit DetectionBoxes(nb::handle columns)
        : Boxes(columns),
          score(upmap::attribute<Input<double, 1>>(columns, "score")),
          row(upmap::attribute<Input<int64_t, 1>>(columns, "row")) {
        for (size_t length : {score.size(), row.size()}) check_length(length);
    }
    Detection detection(int64_t i) const {
        const double* b = box.data() + 4 * i;
        return {{b[0], b[1], b[2], b[3]},
                box_area.data()[i],
                score.data()[i],
                row.data()[i],
                image.data()[i]};
    }
};

struct TruthBoxes : Boxes {
    Input<double, 1> area;
    Input<uint8_t, 1> kind;

    explicit TruthBoxes(nb::handle columns)
        : Boxes(columns),
          area(upmap::attribute<Input<double, 1>>(columns, "area")),
          kind(upmap::attribute<Input<uint8_t, 1>>(columns, "kind")) {
        for (size_t length : {area.size(), kind.size()}) check_length(length);
    }
    Truth truth(int64_t i) const {
        const double* b = box.data() + 4 * i;
        return {{b[0], b[1], b[2], b[3]},
                box_area.data()[i],
                area.data()[i],
                image.data()[i],
                static_cast<Kind>(kind.data()[i])};
    }
};

struct Range {
    double low, high;
    bool holds(double area) const { return low <= area && area <= high; }
};

struct Rules {
    std::vector<double> iou_thresholds;
    std::vector<Range> area_ranges;
    double side_offset;
    bool strict, best_only, last_of_equals, ties_by_image;
    int64_t max_dets;

    explicit Rules(nb::handle rules)
        : side_offset(upmap::attribute<double>(rules, "side_offset")),
          strict(upmap::attribute<bool>(rules, "strict")),
          best_only(upmap::attribute<bool>(rules, "best_only")),
          last_of_equals(upmap::attribute<bool>(rules, "last_of_equals")),
          ties_by_image(upmap::attribute<bool>(rules, "ties_by_image")),
          max_dets(upmap::attribute<int64_t>(rules, "max_dets")) {
        const auto thresholds = upmap::attribute<Input<double, 1>>(rules, "iou_thresholds");
        const auto ranges = upmap::attribute<Input<double, 2>>(rules, "area_ranges");
        if (thresholds.size() == 0 || thresholds.size() > 64)
            throw nb::value_error("expected 1 to 64 IoU thresholds");
        if (ranges.shape(1) != 2) throw nb::value_error("area_ranges must be [A, 2]");
        iou_thresholds.assign(thresholds.data(), thresholds.data() + thresholds.size());
        for (size_t a = 0; a < ranges.shape(0); ++a)
            area_ranges.push_back({ranges(a, 0), ranges(a, 1)});
    }
    size_t T() const { return iou_thresholds.size(); }
    size_t A() const { return area_ranges.size(); }
    bool passes(double iou, double threshold) const {
        return strict ? iou > threshold : iou >= threshold;
    }
    bool beats(double iou, double best) const { return last_of_equals ? iou >= best : iou > best; }
};

// The rows of each class, which `gather` brings together in input order. The rows are cut into parts
// that threads count, and move, on their own.
class ByClass {
  public:
    ByClass(const Input<int32_t, 1>& label, int64_t classes, int threads)
        : label_(label.data()), rows_(static_cast<int64_t>(label.size())), threads_(threads) {
        const int64_t parts = std::clamp<int64_t>(rows_ / (4 * classes + (1 << 16)), 1, 16);
        next_.assign(static_cast<size_t>(parts), std::vector<int64_t>(classes, 0));
        over_parts([&](std::vector<int64_t>& counts, int64_t i) {
            if (label_[i] < 0 || label_[i] >= classes) throw nb::value_error("label out of range");
            ++counts[label_[i]];
        });
        start_.push_back(0);
        for (int64_t k = 0; k < classes; ++k) {
            int64_t next = start_.back();
            for (auto& part : next_) next += std::exchange(part[k], next);
            start_.push_back(next);
        }
    }
    // Where each class begins among all, [K + 1].
    int64_t start(int64_t k) const { return start_[k]; }
    int64_t count(int64_t first, int64_t last) const { return start_[last] - start_[first]; }

    // make(i) of the rows i of the classes first .. last - 1, class by class; once for each class.
    template <class Record, class Make>
    void gather(int64_t first, int64_t last, Record* records, const Make& make) {
        over_parts([&](std::vector<int64_t>& next, int64_t i) {
            const int64_t k = label_[i];
            if (first <= k && k < last) records[next[k]++ - start_[first]] = make(i);
        });
    }

  private:
    const int32_t* label_;
    int64_t rows_;
    int threads_;
    std::vector<int64_t> start_;
    std::vector<std::vector<int64_t>> next_;  // for each part and class, where its next row goes

    template <class Body>
    void over_parts(const Body& body) {
        const auto parts = static_cast<int64_t>(next_.size());
        upmap::parallel_for(parts, threads_, [&](int64_t part) {
            for (int64_t i = rows_ * part / parts; i < rows_ * (part + 1) / parts; ++i)
                body(next_[part], i);
        });
    }
};

// A score as a number that is the smaller the better the score; equal scores are equal.
inline uint64_t descending(double score) {
    score += 0.0;  // there is no negative zero
    uint64_t bits;
    std::memcpy(&bits, &score, 8);
    return bits >> 63 ? bits : ~bits & ~(uint64_t{1} << 63);
}

// A detection or ground truth of the class at hand, with what it is sorted by.
struct Item {
    uint64_t key;
    int32_t place, image;
};

// Sorts by key, stably: by comparison if they are few, else byte by byte from the last.
void sort_by_key(std::vector<Item>& items, std::vector<Item>& spare) {
    auto less = [](const Item& x, const Item& y) { return x.key < y.key; };
    if (std::is_sorted(items.begin(), items.end(), less)) return;
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

constexpr size_t AHEAD = 8;  // detections, fetched before they are matched

struct Output {
    upmap::Buffer<int32_t> image, label;
    upmap::Buffer<double> score;
    upmap::Buffer<int64_t> row;
    upmap::Buffer<int32_t> rank;
    upmap::Buffer<uint8_t> status;     // [N, A, T]
    upmap::Buffer<int64_t> positives;  // [K, A]
};

// One class after another: its detections are put in curve order, then matched image by image.
class ClassMatcher {
  public:
    ClassMatcher(const Rules& rules, Output& out)
        : rules_(rules),
          out_(out),
          lowest_(*std::min_element(rules.iou_thresholds.begin(), rules.iou_thresholds.end())) {}

    // Matches a class's detections, in input order, whose places in curve order begin at `place`.
    void match(int64_t label, Detection* detections, int64_t count, int64_t place,
               const Truth* truths, int64_t truth_count) {
        detections_ = detections;
        truths_ = truths;
        count_positives(label, truth_count);
        auto earlier = [](const Detection& x, const Detection& y) { return x.row < y.row; };
        if (!std::is_sorted(detections, detections + count, earlier))
            std::stable_sort(detections, detections + count, earlier);
        order_by_image(count);
        find_places(static_cast<int32_t>(label), place);
        sort_by_image(truths_, truth_count, truths_by_image_);
        match_images();
    }

  private:
    struct Candidate {
        int32_t truth;
        double iou;
    };
    // The thresholds, a bit each, at which a detection is right and at which it is ignored.
    struct Outcome {
        uint64_t right = 0, ignored = 0;
    };

    const Rules& rules_;
    Output& out_;
    const double lowest_;
    const Detection* detections_ = nullptr;
    const Truth* truths_ = nullptr;
    std::vector<Item> by_image_;         // the class's detections by image, best first
    std::vector<Item> truths_by_image_;  // in input order
    std::vector<Item> ranked_, spare_;
    std::vector<int64_t> places_;        // of each of by_image_ in curve order
    std::vector<Truth> here_;            // this image's ground truths, input order
    std::vector<Candidate> candidates_;  // what passes the lowest threshold with one detection
    std::vector<uint8_t> ignored_;       // [A, here]
    std::vector<uint64_t> claimed_;      // [A, here], a bit per threshold

    void count_positives(int64_t label, int64_t count) {
        int64_t* positives = out_.positives.data() + label * static_cast<int64_t>(rules_.A());
        for (const Range& range : rules_.area_ranges)
            *positives++ = std::count_if(truths_, truths_ + count, [&](const Truth& truth) {
                return truth.kind == CLAIMABLE && range.holds(truth.area);
            });
    }

    // Detections by image, and by descending score within one: equal scores keep `row` order.
    void order_by_image(int64_t count) {
        sort_by_image(detections_, count, by_image_);
        for (Item& item : by_image_) item.key = descending(detections_[item.place].score);
        for (size_t begin = 0, end; begin < by_image_.size(); begin = end) {
            end = end_of_image(by_image_, begin);
            sort_few(by_image_.begin() + begin, by_image_.begin() + end);
        }
    }

    // Detections or ground truths by image, in input order within one.
    template <class Record>
    void sort_by_image(const Record* records, int64_t count, std::vector<Item>& items) {
        items.resize(static_cast<size_t>(count));
        for (int32_t i = 0; i < count; ++i)
            items[i] = {static_cast<uint32_t>(records[i].image), i, records[i].image};
        sort_by_key(items, spare_);
    }

    static size_t end_of_image(const std::vector<Item>& items, size_t begin) {
        size_t end = begin;
        while (end < items.size() && items[end].image == items[begin].image) ++end;
        return end;
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
    void find_places(int32_t label, int64_t place) {
        ranked_ = by_image_;
        for (size_t i = 0; i < ranked_.size(); ++i)
            ranked_[i].image = static_cast<int32_t>(i);  // where it stands in by_image_
        if (!rules_.ties_by_image)  // by row, which is the order of detections_
            std::sort(ranked_.begin(), ranked_.end(),
                      [](const Item& x, const Item& y) { return x.place < y.place; });
        sort_by_key(ranked_, spare_);
        places_.resize(ranked_.size());
        for (const Item& item : ranked_) {
            const Detection& detection = detections_[item.place];
            out_.image[place] = detection.image;
            out_.label[place] = label;
            out_.score[place] = detection.score;
            out_.row[place] = detection.row;
            places_[item.image] = place++;
        }
    }

    void match_images() {
        size_t g = 0;
        for (size_t begin = 0, end; begin < by_image_.size(); begin = end) {
            end = end_of_image(by_image_, begin);
            const int32_t image = by_image_[begin].image;
            while (g < truths_by_image_.size() && truths_by_image_[g].image < image) ++g;
            const size_t first = g;
            while (g < truths_by_image_.size() && truths_by_image_[g].image == image) ++g;
            gather_here(first, g);
            match_image(begin, end);
        }
    }

    // The ground truths truths_by_image_[first .. last - 1], an image's.
    void gather_here(size_t first, size_t last) {
        const size_t count = last - first;
        here_.resize(count);
        ignored_.resize(count * rules_.A());
        claimed_.assign(ignored_.size(), 0);
        for (size_t j = 0; j < count; ++j) {
            const Truth& truth = here_[j] = truths_[truths_by_image_[first + j].place];
            for (size_t a = 0; a < rules_.A(); ++a)
                ignored_[a * count + j] =
                    truth.kind != CLAIMABLE || !rules_.area_ranges[a].holds(truth.area);
        }
    }

    void match_image(size_t begin, size_t end) {
        const size_t width = rules_.A() * rules_.T();
        for (size_t d = begin; d < end; ++d) {
            const Item& later = by_image_[std::min(d + AHEAD, by_image_.size() - 1)];
            upmap::prefetch(detections_ + later.place);
            const auto rank = static_cast<int32_t>(d - begin);
            out_.rank[places_[d]] = rank;
            uint8_t* status = out_.status.data() + static_cast<size_t>(places_[d]) * width;
            if (rank < rules_.max_dets)
                match_detection(detections_[by_image_[d].place], status);
            else
                std::memset(status, IGNORED, width);
        }
    }

    void match_detection(const Detection& detection, uint8_t* status) {
        const size_t T = rules_.T();
        find_candidates(detection);
        for (size_t a = 0; a < rules_.A(); ++a, status += T) {
            const bool is_inside = rules_.area_ranges[a].holds(detection.area);
            std::memset(status, is_inside ? FALSE_POSITIVE : IGNORED, T);
            if (candidates_.empty()) continue;
            const Outcome found = candidates_.size() == 1 ? outcome_of_one(a) : outcome_of_many(a);
            for (size_t t = 0; t < T; ++t)
                if (found.right >> t & 1)
                    status[t] = TRUE_POSITIVE;
                else if (found.ignored >> t & 1)
                    status[t] = IGNORED;
        }
    }

    void find_candidates(const Detection& detection) {
        candidates_.clear();
        const double* p = detection.box;
        for (size_t j = 0; j < here_.size(); ++j) {
            const double* q = here_[j].box;
            double width = std::min(p[2], q[2]) - std::max(p[0], q[0]) + rules_.side_offset;
            if (!(width > 0)) continue;
            double height = std::min(p[3], q[3]) - std::max(p[1], q[1]) + rules_.side_offset;
            if (!(height > 0)) continue;
            double common = width * height, area = detection.area;
            if (here_[j].kind != CROWD) area = area + here_[j].box_area - common;
            double iou = common / area;
            if (iou > 0 && iou >= lowest_) candidates_.push_back({static_cast<int32_t>(j), iou});
        }
    }

    // What nearly all are: a detection that overlaps one ground truth. All thresholds at once.
    Outcome outcome_of_one(size_t a) {
        const Candidate& only = candidates_[0];
        const size_t at = a * here_.size() + only.truth;
        uint64_t hits = 0;
        for (size_t t = 0; t < rules_.T(); ++t)
            hits |= uint64_t{rules_.passes(only.iou, rules_.iou_thresholds[t])} << t;
        const uint64_t taken = here_[only.truth].kind == CLAIMABLE ? claimed_[at] : 0;
        claimed_[at] |= hits;
        if (!ignored_[at]) return {hits & ~taken, 0};
        return {0, rules_.best_only ? hits : hits & ~taken};
    }

    Outcome outcome_of_many(size_t a) {
        Outcome found;
        for (size_t t = 0; t < rules_.T(); ++t) {
            const Status state = outcome(a, t);
            found.right |= uint64_t{state == TRUE_POSITIVE} << t;
            found.ignored |= uint64_t{state == IGNORED} << t;
        }
        return found;
    }

    Status outcome(size_t a, size_t t) {
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
    const Candidate* best(size_t t, const Eligible& eligible) const {
        const Candidate* found = nullptr;
        for (const Candidate& c : candidates_)
            if (eligible(c) && (!found || rules_.beats(c.iou, found->iou))) found = &c;
        return found && rules_.passes(found->iou, rules_.iou_thresholds[t]) ? found : nullptr;
    }
};

constexpr int64_t MOST_TOGETHER = 1 << 20;  // boxes: 64 MB

// Where each part of the work ends: as many classes as keep within MOST_TOGETHER, at least one.
int64_t end_of_batch(const ByClass& detections, const ByClass& truths, int64_t first,
                     int64_t classes) {
    int64_t last = first + 1;
    while (last < classes &&
           detections.count(first, last + 1) + truths.count(first, last + 1) <= MOST_TOGETHER)
        ++last;
    return last;
}

// The classes first .. last - 1, those with most detections first.
std::vector<int64_t> largest_first(const ByClass& detections, int64_t first, int64_t last) {
    std::vector<int64_t> classes(static_cast<size_t>(last - first));
    std::iota(classes.begin(), classes.end(), first);
    std::stable_sort(classes.begin(), classes.end(), [&](int64_t x, int64_t y) {
        return detections.count(x, x + 1) > detections.count(y, y + 1);
    });
    return classes;
}

Output match_all(const DetectionBoxes& detections, const TruthBoxes& truths, const Rules& rules,
                 int64_t classes, int threads) {
    const size_t N = detections.label.size();
    Output out{upmap::Buffer<int32_t>(N),
               upmap::Buffer<int32_t>(N),
               upmap::Buffer<double>(N),
               upmap::Buffer<int64_t>(N),
               upmap::Buffer<int32_t>(N),
               upmap::Buffer<uint8_t>(N * rules.A() * rules.T()),
               upmap::Buffer<int64_t>(static_cast<size_t>(classes) * rules.A())};
    ByClass found(detections.label, classes, threads), there(truths.label, classes, threads);
    for (int64_t first = 0, last; first < classes; first = last) {
        last = end_of_batch(found, there, first, classes);
        upmap::Buffer<Detection> records(static_cast<size_t>(found.count(first, last)));
        upmap::Buffer<Truth> truth_records(static_cast<size_t>(there.count(first, last)));
        found.gather(first, last, records.data(),
                     [&](int64_t i) { return detections.detection(i); });
        there.gather(first, last, truth_records.data(), [&](int64_t i) { return truths.truth(i); });
        const std::vector<int64_t> order = largest_first(found, first, last);
        upmap::parallel_workers(last - first, threads, [&] {
            return [&, matcher = ClassMatcher(rules, out)](int64_t task) mutable {
                const int64_t k = order[static_cast<size_t>(task)];
                matcher.match(k, records.data() + found.count(first, k), found.count(k, k + 1),
                              found.start(k), truth_records.data() + there.count(first, k),
                              there.count(k, k + 1));
            };
        });
    }
    return out;
}

nb::tuple match(nb::handle detection_columns, nb::handle truth_columns, nb::handle rule_values,
                int64_t classes, int threads) {
    DetectionBoxes detections(detection_columns);
    TruthBoxes truths(truth_columns);
    Rules rules(rule_values);
    Output out;
    {
        nb::gil_scoped_release release;
        out = match_all(detections, truths, rules, classes, threads);
    }
    const size_t N = detections.label.size(), A = rules.A(), T = rules.T();
    const auto a = static_cast<int64_t>(A), t = static_cast<int64_t>(T);
    return nb::make_tuple(
        upmap::owned(std::move(out.image), {N}), upmap::owned(std::move(out.label), {N}),
        upmap::owned(std::move(out.score), {N}), upmap::owned(std::move(out.row), {N}),
        upmap::owned(std::move(out.rank), {N}),
        upmap::owned(std::move(out.status), {A, T, N}, {t, 1, a * t}),
        upmap::owned(std::move(out.positives), {static_cast<size_t>(classes), A}));
}

}  // namespace

NB_MODULE(native, module) {
    module.def("match", &match, nb::arg("detections"), nb::arg("ground_truth"), nb::arg("rules"),
               nb::arg("classes"), nb::arg("threads"),
               "See kernels.matching.match; returns the columns of Matches.");
}
