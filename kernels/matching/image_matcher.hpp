// Matching the detections of one class in one image: candidates, claims and outcomes.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/matching/curve_order.hpp"
#include "kernels/matching/tables.hpp"
#include "kernels/status.hpp"

namespace upmap::matching {

// Matches detections, best first, to the ground truths of their image, for all area ranges and
// thresholds at once: a bit per threshold says whether a ground truth has been claimed.
class ImageMatcher {
  public:
    // `range_area` is that of DetectionColumns.
    ImageMatcher(const Rules& rules, const double* range_area)
        : rules_(rules),
          range_area_(range_area),
          min_threshold_(
              *std::min_element(rules.iou_thresholds.begin(), rules.iou_thresholds.end())) {}

    // Begins an image, whose ground truths are records[item.index] for the items begin .. end - 1,
    // in input order.
    void begin_image(const Truth* records, const SortItem* begin, const SortItem* end) {
        const auto count = static_cast<size_t>(end - begin);
        truths_.resize(count);
        is_ignored_.resize(rules_.A * count);
        claims_.assign(rules_.A * count, 0);
        for (size_t j = 0; j < count; ++j) {
            const Truth& truth = truths_[j] = records[begin[j].index];
            for (size_t a = 0; a < rules_.A; ++a)
                is_ignored_[a * count + j] =
                    truth.kind != kClaimable || !rules_.area_ranges[a].contains(truth.area);
        }
    }

    // Matches the image's next detection, and writes its status, [A, T].
    void match(const Detection& detection, uint8_t* status) {
        // A copy: for all that the compiler knows, `status` could point to rules_.T.
        const size_t T = rules_.T;
        find_candidates(detection);
        for (size_t a = 0; a < rules_.A; ++a, status += T) {
            const bool is_inside = rules_.area_ranges[a].contains(
                range_area_ ? range_area_[detection.index] : detection.area);
            std::memset(status, is_inside ? kFalsePositive : kIgnored, T);
            if (candidates_.empty()) continue;
            const Outcome outcome = candidates_.size() == 1 ? claim_only(a) : claim_best(a);
            for (size_t t = 0; t < T; ++t)
                if (outcome.true_positive >> t & 1)
                    status[t] = kTruePositive;
                else if (outcome.ignored >> t & 1)
                    status[t] = kIgnored;
        }
    }

  private:
    struct Candidate {
        size_t truth;
        double iou;
    };
    // The thresholds, a bit each, at which a detection is a true positive, and at which its ground
    // truth makes it ignored.
    struct Outcome {
        uint64_t true_positive = 0, ignored = 0;
    };

    const Rules& rules_;
    const double* range_area_;
    const double min_threshold_;
    std::vector<Truth> truths_;
    std::vector<uint8_t> is_ignored_;    // [A, truths]
    std::vector<uint64_t> claims_;       // [A, truths]
    std::vector<Candidate> candidates_;  // the truths that pass the lowest threshold

    // The order of operations is that of the VOC kits and of pycocotools: another one would change
    // the last bit of some IoU.
    void find_candidates(const Detection& detection) {
        candidates_.clear();
        const double* p = detection.box;
        for (size_t j = 0; j < truths_.size(); ++j) {
            const Truth& truth = truths_[j];
            const double* q = truth.box;
            const double width = std::min(p[2], q[2]) - std::max(p[0], q[0]) + rules_.side_offset;
            if (!(width > 0)) continue;
            const double height = std::min(p[3], q[3]) - std::max(p[1], q[1]) + rules_.side_offset;
            if (!(height > 0)) continue;
            const double intersection = width * height;
            double area = detection.area;
            if (truth.kind != kCrowd) area = area + truth.box_area - intersection;
            const double iou = intersection / area;
            if (iou > 0 && iou >= min_threshold_) candidates_.push_back({j, iou});
        }
    }

    // What nearly all are: a detection that overlaps one ground truth. All thresholds at once.
    Outcome claim_only(size_t a) {
        const Candidate& only = candidates_[0];
        const size_t entry = a * truths_.size() + only.truth;
        uint64_t hits = 0;
        for (size_t t = 0; t < rules_.T; ++t)
            hits |= uint64_t{rules_.passes(only.iou, rules_.iou_thresholds[t])} << t;
        const uint64_t earlier = truths_[only.truth].kind == kClaimable ? claims_[entry] : 0;
        claims_[entry] |= hits;
        if (!is_ignored_[entry]) return {hits & ~earlier, 0};
        return {0, rules_.best_only ? hits : hits & ~earlier};
    }

    Outcome claim_best(size_t a) {
        Outcome outcome;
        for (size_t t = 0; t < rules_.T; ++t) {
            const Status status = claim_best_at(a, t);
            outcome.true_positive |= uint64_t{status == kTruePositive} << t;
            outcome.ignored |= uint64_t{status == kIgnored} << t;
        }
        return outcome;
    }

    Status claim_best_at(size_t a, size_t t) {
        const uint8_t* is_ignored = is_ignored_.data() + a * truths_.size();
        uint64_t* claims = claims_.data() + a * truths_.size();
        const Candidate* candidate = choose(t, is_ignored, claims);
        if (!candidate) return kFalsePositive;
        const bool is_claimed = claims[candidate->truth] >> t & 1;
        claims[candidate->truth] |= uint64_t{1} << t;
        if (is_ignored[candidate->truth]) return kIgnored;
        return is_claimed ? kFalsePositive : kTruePositive;
    }

    // By VOC's rules the best of all, claimed or not; by COCO's the best that is free, one that
    // counts before one that is ignored.
    const Candidate* choose(size_t t, const uint8_t* is_ignored, const uint64_t* claims) const {
        if (rules_.best_only) return best_of(t, [](const Candidate&) { return true; });
        auto is_free = [&](const Candidate& c) {
            return truths_[c.truth].kind != kClaimable || !(claims[c.truth] >> t & 1);
        };
        const Candidate* candidate =
            best_of(t, [&](const Candidate& c) { return !is_ignored[c.truth] && is_free(c); });
        if (candidate) return candidate;
        return best_of(t, [&](const Candidate& c) { return is_ignored[c.truth] && is_free(c); });
    }

    // The candidate of largest IoU among the eligible, if it passes threshold t.
    template <class IsEligible>
    const Candidate* best_of(size_t t, const IsEligible& is_eligible) const {
        const Candidate* best = nullptr;
        for (const Candidate& c : candidates_)
            if (is_eligible(c) && (!best || rules_.beats(c.iou, best->iou))) best = &c;
        return best && rules_.passes(best->iou, rules_.iou_thresholds[t]) ? best : nullptr;
    }
};

}  // namespace upmap::matching
