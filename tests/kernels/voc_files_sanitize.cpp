// The native readers of VOC files over a corpus, for the sanitizers:
//   python -m tests.kernels.voc_files_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover -I.
//       tests/kernels/voc_files_sanitize.cpp -o sanitize && ./sanitize corpus
#include <cstdio>
#include <filesystem>
#include <memory>

#include "kernels/voc_files/annotation.hpp"
#include "kernels/voc_files/file.hpp"
#include "kernels/voc_files/results.hpp"

using namespace upmap::voc;

// Calls read(text) for each file of a folder, in memory that ends where the readers' contract says.
template <class Read>
void over_files(const std::filesystem::path& folder, const Read& read) {
    int files = 0, taken = 0;
    File file;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (!file.read(entry.path().string())) continue;
        const Text text = file.text();
        const auto length = static_cast<size_t>(text.end - text.begin);
        const std::unique_ptr<char[]> exact(new char[length + PADDING]());
        std::memcpy(exact.get(), text.begin, length);
        taken += read(Text{exact.get(), exact.get() + length});
        ++files;
    }
    std::printf("%s: %d files, %d taken\n", folder.c_str(), files, taken);
}

int main(int, char** arguments) {
    const std::filesystem::path corpus = arguments[1];
    AnnotationReader annotations;
    ImagePlaces places;
    for (const char* name : {"000001", "000002", "b\u00e9", "a b", "x\u00a0y", "", "-1"})
        places.add(name, 1);
    over_files(corpus / "annotations", [&](const Text& text) { return annotations.read(text); });
    over_files(corpus / "results", [&](const Text& text) {
        Results results;
        return ResultsReader(places, results).read(text);
    });
}
