// Sorting: the order of a class's boxes by image, and the order in which a curve takes detections.
#pragma once
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/matching/tables.hpp"

namespace upmap::matching {

// A score as a number that is the smaller the better the score; equal scores are equal. Not NaN.
inline uint64_t descending_key(double score) {
    score += 0.0;  // there is no negative zero
    uint64_t bits;
    std::memcpy(&bits, &score, 8);
    return bits >> 63 ? bits : ~bits & ~(uint64_t{1} << 63);
}

// A record of a class by its index there, with what it is sorted by.
struct SortItem {
    uint64_t key;
    uint32_t index;
    int32_t image;
};

inline bool has_smaller_key(const SortItem& x, const SortItem& y) { return x.key < y.key; }

// Sorts by key, stably: by comparison if they are few, else byte by byte from the last. `spare` is
// scratch memory.
inline void sort_by_key(std::vector<SortItem>& items, std::vector<SortItem>& spare) {
    if (std::is_sorted(items.begin(), items.end(), has_smaller_key)) return;
    if (items.size() < 512) {
        std::stable_sort(items.begin(), items.end(), has_smaller_key);
        return;
    }
    std::vector<std::array<uint32_t, 256>> counts(8);
    for (auto& count : counts) count.fill(0);
    for (const SortItem& item : items)
        for (size_t byte = 0; byte < 8; ++byte) ++counts[byte][item.key >> 8 * byte & 255];
    spare.resize(items.size());
    for (size_t byte = 0; byte < 8; ++byte) {
        auto& count = counts[byte];
        if (count[items[0].key >> 8 * byte & 255] == items.size()) continue;  // all are equal here
        uint32_t next = 0;
        for (uint32_t& place : count) next += std::exchange(place, next);
        for (const SortItem& item : items) spare[count[item.key >> 8 * byte & 255]++] = item;
        items.swap(spare);
    }
}

// Sorts by key, stably: by insertion, for a class seldom has more than a few boxes in an image.
inline void sort_few_by_key(SortItem* begin, SortItem* end) {
    if (end - begin > 32) {
        std::stable_sort(begin, end, has_smaller_key);
        return;
    }
    for (SortItem* next = begin; next < end; ++next) {
        const SortItem item = *next;
        SortItem* target = next;
        for (; target > begin && item.key < (target - 1)->key; --target) *target = *(target - 1);
        *target = item;
    }
}

// Items for `count` records, by image, in input order within one.
template <class Record>
void sort_by_image(const Record* records, size_t count, std::vector<SortItem>& items,
                   std::vector<SortItem>& spare) {
    items.resize(count);
    for (uint32_t i = 0; i < count; ++i)
        items[i] = {static_cast<uint32_t>(records[i].image), i, records[i].image};
    sort_by_key(items, spare);
}

// The end of the items that have the image of the one at `begin`.
inline size_t end_of_image(const std::vector<SortItem>& items, size_t begin) {
    size_t end = begin;
    while (end < items.size() && items[end].image == items[begin].image) ++end;
    return end;
}

// The two orders of a class's detections: by image for matching, and by score for its curve.
class CurveOrder {
  public:
    explicit CurveOrder(const Rules& rules) : rules_(rules) {}

    // Sorts a class's detections, which are in input order, by row, then finds both orders. The
    // detections must outlive what it returns.
    void sort(Detection* detections, size_t count) {
        auto is_earlier = [](const Detection& x, const Detection& y) { return x.row < y.row; };
        if (!std::is_sorted(detections, detections + count, is_earlier))
            std::stable_sort(detections, detections + count, is_earlier);
        sort_within_images(detections, count);
        sort_by_score();
    }

    // The detections by image, best first; those with equal scores by row.
    const std::vector<SortItem>& by_image() const { return by_image_; }

    // The detections in curve order: by score, equal scores as the rules say. Only an item's index
    // has a meaning.
    const std::vector<SortItem>& by_score() const { return by_score_; }

    // The place of by_image()[i] in by_score().
    size_t place(size_t i) const { return places_[i]; }

  private:
    const Rules& rules_;
    std::vector<SortItem> by_image_, by_score_, spare_;
    std::vector<size_t> places_;  // of each of by_image_ in by_score_

    void sort_within_images(const Detection* detections, size_t count) {
        sort_by_image(detections, count, by_image_, spare_);
        for (SortItem& item : by_image_) item.key = descending_key(detections[item.index].score);
        for (size_t begin = 0, end; begin < by_image_.size(); begin = end) {
            end = end_of_image(by_image_, begin);
            sort_few_by_key(by_image_.data() + begin, by_image_.data() + end);
        }
    }

    // Equal scores keep image order, or that of the rows, which is the detections' own. Meanwhile
    // an item's `image` is its index in by_image_, where its place is noted.
    void sort_by_score() {
        const size_t count = by_image_.size();
        by_score_ = by_image_;
        for (size_t i = 0; i < count; ++i) by_score_[i].image = static_cast<int32_t>(i);
        if (!rules_.ties_by_image)
            std::sort(by_score_.begin(), by_score_.end(),
                      [](const SortItem& x, const SortItem& y) { return x.index < y.index; });
        sort_by_key(by_score_, spare_);
        places_.resize(count);
        for (size_t place = 0; place < count; ++place)
            places_[static_cast<size_t>(by_score_[place].image)] = place;
    }
};

}  // namespace upmap::matching
