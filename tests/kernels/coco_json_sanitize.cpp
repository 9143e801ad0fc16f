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

// Calls read(source) for each file of a folder, from the file and from memory that ends with its bytes.
template <class Read>
void over_files(const std::filesystem::path& folder, const Read& read) {
    int files = 0, taken = 0;
    auto is_taken = [&](const Source& source) {
        try {
            read(source);
            return true;
        } catch (const Refusal&) {
            return false;
        }
    };
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const File file(entry.path().string());
        const auto length = static_cast<int64_t>(entry.file_size());
        const std::unique_ptr<char[]> exact(new char[static_cast<size_t>(length)]);
        file.source().copy(0, exact.get(), length);
        const bool is_file_taken = is_taken(file.source());
        if (is_taken({exact.get(), length}) != is_file_taken) std::abort();
        taken += is_file_taken;
        ++files;
    }
    std::printf("%s: %d files, %d taken\n", folder.c_str(), files, taken);
}

int main(int, char** arguments) {
    const std::filesystem::path corpus = arguments[1];
    over_files(corpus / "instances", [](const Source& source) {
        Instances found;
        read_instances(source, 3, found);
    });
    over_files(corpus / "results", [](const Source& source) {
        Section<Results> found;
        read_results(source, 3, found);
    });
}
