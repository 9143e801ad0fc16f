// The native reader of COCO JSON over a corpus, for the sanitizers; tiny pieces make threads meet:
//   python -m tests.kernels.coco_json_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -pthread -DUPMAP_JSON_PIECE=40 -fsanitize=address,undefined
//       -fno-sanitize-recover -I. tests/kernels/coco_json_sanitize.cpp -o sanitize
//   ./sanitize corpus
// and once more with -fsanitize=thread.
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string_view>

#include "kernels/coco_json/sections.hpp"
#include "kernels/coco_json/source.hpp"
#include "kernels/file.hpp"

using namespace upmap::json;

// Calls read(source) for each file of a folder, from the file and from memory that ends with its
// bytes. Both must be taken, or both refused.
template <class Read>
void read_folder(const std::filesystem::path& folder, const Read& read) {
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
        const upmap::File file(entry.path().string());
        if (!file.is_open()) std::abort();
        const std::unique_ptr<char[]> exact(new char[file.size()]);
        if (file.read_some(0, exact.get(), file.size()) != file.size()) std::abort();
        const bool is_file_taken = is_taken(Source(file));
        if (is_taken(Source(std::string_view(exact.get(), file.size()))) != is_file_taken)
            std::abort();
        taken += is_file_taken;
        ++files;
    }
    std::printf("%s: %d files, %d taken\n", folder.c_str(), files, taken);
}

int main(int, char** arguments) {
    const std::filesystem::path corpus = arguments[1];
    read_folder(corpus / "instances", [](const Source& source) {
        Instances instances;
        read_instances(source, 3, instances);
    });
    read_folder(corpus / "results", [](const Source& source) {
        Section<Results> results;
        read_results(source, 3, results);
    });
}
