// The native reader of COCO JSON over a corpus, for the sanitizers; tiny pieces make threads meet:
//   python -m tests.kernels.coco_json_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -pthread -DUPMAP_JSON_PIECE=40 -fsanitize=address,undefined
//       -fno-sanitize-recover -I. tests/kernels/coco_json_sanitize.cpp -o sanitize && ./sanitize corpus
// and once more with -fsanitize=thread.
#include <cstdio>
#include <filesystem>
#include <memory>

#include "kernels/coco_json/file.hpp"
#include "kernels/coco_json/sections.hpp"

using namespace upmap::json;

// Calls read(text) for each file of a folder, in memory that ends where the reader's contract says.
template <class Read>
void over_files(const std::filesystem::path& folder, const Read& read) {
    int files = 0, taken = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const File file(entry.path().string());
        const Text text = without_mark(file.text());
        const auto length = static_cast<size_t>(text.end - text.begin);
        const std::unique_ptr<char[]> exact(new char[length + PADDING]());
        std::memcpy(exact.get(), text.begin, length);
        try {
            taken += read(Text{exact.get(), exact.get() + length});
        } catch (const Malformed&) {
        }
        ++files;
    }
    std::printf("%s: %d files, %d taken\n", folder.c_str(), files, taken);
}

int main(int, char** arguments) {
    const std::filesystem::path corpus = arguments[1];
    over_files(corpus / "instances", [](const Text& text) {
        Instances found;
        return read_instances(text, 3, found);
    });
    over_files(corpus / "results", [](const Text& text) {
        Section<Results> found;
        return read_results(text, 3, found);
    });
}
