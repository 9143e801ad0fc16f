// Texts that repeat, as indices into the different ones.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace upmap {

// The names in the order in which they are first seen.
class Names {
  public:
    std::vector<std::string> texts;

    // The index of a name, which is added if it is new. Neighboring rows often have the same name.
    int32_t index(std::string_view name) {
        if (!texts.empty() && texts[static_cast<size_t>(last_)] == name) return last_;
        const auto [entry, is_new] =
            indices_.try_emplace(std::string(name), static_cast<int32_t>(texts.size()));
        if (is_new) texts.emplace_back(name);
        return last_ = entry->second;
    }

  private:
    std::unordered_map<std::string, int32_t> indices_;
    int32_t last_ = 0;
};

}  // namespace upmap
