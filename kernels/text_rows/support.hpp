// The names under which the shared headers offer small files and numpy arrays.
#pragma once
#if __has_include("kernels/voc_files/text_buffer.hpp")
#include "kernels/file.hpp"
#include "kernels/voc_files/text_buffer.hpp"
#else
#include "kernels/voc_files/file.hpp"
#endif

namespace upmap::text_rows {

#if __has_include("kernels/voc_files/text_buffer.hpp")
using upmap::kPadding;
using upmap::Text;
using upmap::voc::TextBuffer;
#else
using upmap::voc::Text;
using TextBuffer = upmap::voc::File;
constexpr size_t kPadding = upmap::voc::PADDING;
#endif

}  // namespace upmap::text_rows
