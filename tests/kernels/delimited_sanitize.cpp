// The native reader of delimited text over a corpus, for the sanitizers:
//   python -m tests.kernels.delimited_fuzz corpus 20000
//   c++ -std=c++17 -g -O1 -fsanitize=address,undefined -fno-sanitize-recover -I.
//       tests/kernels/delimited_sanitize.cpp -o sanitize && ./sanitize corpus
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "kernels/delimited/lines.hpp"
#include "kernels/file.hpp"
#include "kernels/source.hpp"

using namespace upmap::delimited;

// Reads each file of a folder in pieces of some bytes.
void read_folder(const std::filesystem::path& folder, const Format& format, int64_t piece) {
    int64_t files = 0, rows = 0;
    size_t odd = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const upmap::File file(entry.path().string());
        const upmap::Source source(file);
        LinesReader reader(source, format);
        for (int64_t from = source.begin(); from < source.end(); from += piece) {
            const int64_t first = from > source.begin() ? reader.next_line(from - 1) : from;
            const int64_t last = std::min(from + piece, source.end());
            if (first >= last) continue;
            // Arrays of their own for each column, of exactly the size that was counted.
            Part part;
            part.capacity = reader.count_lines(from, last, from == source.begin());
            std::vector<std::vector<double>> numbers;
            std::vector<std::vector<int32_t>> places;
            for (const Request& request : format.requests) {
                const size_t width = request.kind == Kind::kBox ? 4 : 1;
                Column column;
                column.stride = width;
                column.numbers = numbers.emplace_back(part.capacity * width).data();
                column.index = places.emplace_back(part.capacity).data();
                part.columns.push_back(std::move(column));
            }
            reader.read(first, last, part);
            rows += static_cast<int64_t>(part.rows);
            odd += part.odd.size();
        }
        ++files;
    }
    std::printf("%lld files, %lld rows, %zu odd\n", static_cast<long long>(files),
                static_cast<long long>(rows), odd);
}

int main(int, char** arguments) {
    const Format csv{
        false, ',', 4, {{"image", 0, Kind::kText, 0, 0}, {"x", 1, Kind::kNumber, 1, 0}}};
    const Format semicolons{
        false, ';', 3, {{"x", 1, Kind::kInteger, 0, 0}, {"s", 2, Kind::kNumber, 1, 0}}};
    const Format json{
        true, ',', 0, {{"image", 0, Kind::kText, 0, 0}, {"box", 0, Kind::kBox, 1, 0}}};
    for (const Format& format : {csv, semicolons, json})
        for (const int64_t piece : {40, 300, 1 << 20}) read_folder(arguments[1], format, piece);
}
