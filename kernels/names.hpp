// Texts that repeat, as indices into the different ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>

namespace upmap {

// The names in the order in which they are first seen.
class Names {
  public:
    std::deque<std::string> texts;  // which stay where they are

    // The index of a name, which is added if it is new. Neighboring rows often have the same name.
    int32_t index(std::string_view name) {
        if (!texts.empty() && texts[static_cast<size_t>(last_)] == name) return last_;
        const auto entry = indices_.find(name);
        if (entry != indices_.end()) return last_ = entry->second;
        last_ = static_cast<int32_t>(texts.size());
        texts.emplace_back(name);
        indices_.emplace(texts.back(), last_);
        return last_;
    }

  private:
    std::unordered_map<std::string_view, int32_t> indices_;
    int32_t last_ = 0;
};

}  // namespace upmap
