// The native reader of rows over a corpus, for the sanitizers:
//   python -m tests.kernels.text_rows_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover -I.
//       tests/kernels/text_rows_sanitize.cpp -o sanitize && ./sanitize corpus
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>

#include "kernels/text_buffer.hpp"
#include "kernels/text_rows/rows_reader.hpp"

using namespace upmap::text_rows;

// Reads each file of a folder, in memory that ends where the reader's contract says.
void read_folder(const std::filesystem::path& folder, const Layout& layout) {
    int files = 0, taken = 0;
    Rows rows;
    RowsReader reader(layout, rows);
    upmap::TextBuffer buffer;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (!buffer.read(entry.path().string())) continue;
        const upmap::Text text = buffer.text();
        const auto length = static_cast<size_t>(text.end - text.begin);
        const std::unique_ptr<char[]> exact(new char[length + upmap::kPadding]());
        std::memcpy(exact.get(), text.begin, length);
        taken += reader.read(upmap::Text{exact.get(), exact.get() + length});
        ++files;
    }
    std::printf("%d files, %d taken, %zu rows\n", files, taken, rows.line.size());
}

int main(int, char** arguments) {
    Layout named;
    named.name_column = 0;
    named.keywords.emplace_back("difficult", 1.0);
    named.skipped_prefixes.emplace_back("imagesource:");
    Layout inner;
    inner.name_column = 2;
    for (const Layout& layout : {Layout{}, named, inner}) read_folder(arguments[1], layout);
}
