// The native readers of VOC files over a corpus, for the sanitizers:
//   python -m tests.kernels.voc_files_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover -I.
//       tests/kernels/voc_files_sanitize.cpp -o sanitize && ./sanitize corpus
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "kernels/text_buffer.hpp"
#include "kernels/voc_files/annotation.hpp"
#include "kernels/voc_files/results.hpp"

using namespace upmap::voc;
using upmap::Text;

// Calls read(text) for each file of a folder, in memory that ends where the readers' contract says.
template <class Read>
void read_folder(const std::filesystem::path& folder, const Read& read) {
    int files = 0, taken = 0;
    upmap::TextBuffer buffer;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (!buffer.read(entry.path().string())) continue;
        const Text text = buffer.text();
        const auto length = static_cast<size_t>(text.end - text.begin);
        const std::unique_ptr<char[]> exact(new char[length + upmap::kPadding]());
        std::memcpy(exact.get(), text.begin, length);
        taken += read(Text{exact.get(), exact.get() + length});
        ++files;
    }
    std::printf("%s: %d files, %d taken\n", folder.c_str(), files, taken);
}

int main(int, char** arguments) {
    const std::filesystem::path corpus = arguments[1];
    AnnotationReader annotations;
    ImageIndices images;
    for (const char* name : {"000001", "000002", "b\u00e9", "a b", "x\u00a0y", "", "-1"})
        images.add(name, 1);
    read_folder(corpus / "annotations", [&](const Text& text) { return annotations.read(text); });
    read_folder(corpus / "results", [&](const Text& text) {
        Results results;
        return ResultsReader(images, results).read(text);
    });
}
