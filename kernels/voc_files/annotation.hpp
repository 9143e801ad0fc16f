// One VOC annotation: the XML that the tools of the field write, as expat reads it.
//
// Elements, text, comments, the five predefined entities, and at most one attribute in a tag; UTF-8
// without a document type. Everything else that XML has, and everything that is wrong, is refused.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/text.hpp"
#include "kernels/voc_files/file.hpp"

namespace upmap::voc {

constexpr double LARGEST = 1e150;             // px, of a coordinate
constexpr double LARGEST_IMAGE = 1ull << 31;  // px, of a side
constexpr size_t MAX_DEPTH = 100;             // of elements

struct Object {
    std::string_view name;  // within the text
    bool difficult;
    double box[4];
};

class AnnotationReader {
  public:
    std::vector<Object> objects;
    int64_t size[2];  // width and height, px; 0 where the file does not say

    // Whether the annotation was read; if not, it is for expat to judge.
    bool read(const Text& text) {
        p_ = text.begin;
        above_.clear();
        found_.clear();
        objects.clear();
        size_ = {};
        try {
            document(text.end);
            for (const Fields& fields : found_) objects.push_back(object(fields));
            for (int side = 0; side < 2; ++side) size[side] = side_of_image(size_[side]);
        } catch (const Refused&) {
            return false;
        }
        return true;
    }

  private:
    struct Refused {};
    using Fields = std::array<std::string_view, 6>;
    static constexpr Fields FIELDS{"name", "difficult", "xmin", "ymin", "xmax", "ymax"};
    static constexpr std::array<std::string_view, 2> SIDES{"width", "height"};

    const char* p_;
    const char* text_;  // where the last tag ended
    std::vector<std::string_view> above_;
    std::vector<Fields> found_;  // by object; no data where there is no such element
    std::array<std::string_view, 2> size_;

    // What each byte may be, bit by bit.
    enum : uint8_t { ANY = 1, PLAIN = 2, NAME = 4, NAME_START = 8, SPACE = 16 };
    static constexpr std::array<uint8_t, 256> KINDS = [] {
        std::array<uint8_t, 256> kinds{};
        for (int c = 0; c < 128; ++c) {
            const bool is_letter =
                (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
            const bool in_name = is_letter || (c >= '0' && c <= '9') || c == '-' || c == '.';
            const bool is_space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
            const bool may_stand = c >= ' ' || is_space;
            const bool is_plain = may_stand && c != '<' && c != '&' && c != ']';
            kinds[static_cast<size_t>(c)] = static_cast<uint8_t>(
                (may_stand ? ANY : 0) | (is_plain ? PLAIN : 0) | (in_name ? NAME : 0) |
                (is_letter ? NAME_START : 0) | (is_space ? SPACE : 0));
        }
        return kinds;
    }();

    bool is(uint8_t kind) const { return KINDS[static_cast<unsigned char>(*p_)] & kind; }

    bool accept(std::string_view word) {
        if (std::memcmp(p_, word.data(), word.size())) return false;
        p_ += word.size();
        return true;
    }

    void expect(std::string_view word) {
        if (!accept(word)) throw Refused{};
    }

    bool space() {
        const char* first = p_;
        while (is(SPACE)) ++p_;
        return p_ != first;
    }

    void document(const char* end) {
        declaration();
        around();
        start_tag();
        while (!above_.empty()) content();
        around();
        if (p_ != end) throw Refused{};
    }

    void declaration() {
        if (!accept("<?xml version=")) return;
        if (!accept("\"1.0\"")) expect("'1.0'");
        for (const char* encoding : {" encoding=\"utf-8\"", " encoding=\"UTF-8\"",
                                     " encoding='utf-8'", " encoding='UTF-8'"})
            if (accept(encoding)) break;
        space();
        expect("?>");
    }

    // White space and comments, which may stand before and behind the root.
    void around() {
        for (space(); accept("<!"); space()) comment();
    }

    void content() {
        text();
        if (accept("</"))
            end_tag();
        else if (accept("<!"))
            comment();
        else
            start_tag();
    }

    void text() {
        for (;;) {
            while (is(PLAIN)) ++p_;
            if (*p_ == '<') return;
            if (*p_ == '&') {
                entity();
            } else if (*p_ == ']') {
                if (accept("]]>")) throw Refused{};
                ++p_;
            } else {
                character();
            }
        }
    }

    void entity() {
        for (const char* name : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"})
            if (accept(name)) return;
        throw Refused{};
    }

    // A character that may stand in XML, whatever it means there.
    void character() {
        uint32_t code = 0;
        const int length = is(ANY) ? 1 : utf8_character(p_, code);
        if (!length || code == 0xFFFE || code == 0xFFFF) throw Refused{};
        p_ += length;
    }

    void comment() {
        expect("--");
        while (!accept("--")) character();
        expect(">");
    }

    std::string_view name() {
        const char* first = p_;
        if (!is(NAME_START)) throw Refused{};
        while (is(NAME)) ++p_;
        return {first, static_cast<size_t>(p_ - first)};
    }

    void start_tag() {
        expect("<");
        const std::string_view element = name();
        if (space() && is(NAME_START)) attribute();
        const bool is_empty = accept("/");
        expect(">");
        start(element);
        text_ = p_;
        if (is_empty) end(element, p_);
    }

    // One is read and a second refused, so none stands twice.
    void attribute() {
        name();
        space();
        expect("=");
        space();
        const char quote = *p_;
        if (quote != '"' && quote != '\'') throw Refused{};
        for (++p_; *p_ != quote;) {
            if (*p_ == '<' || *p_ == '&') throw Refused{};
            character();
        }
        ++p_;
        space();
    }

    void end_tag() {
        const char* behind_text = p_ - 2;
        const std::string_view element = name();
        space();
        expect(">");
        end(element, behind_text);
    }

    void start(std::string_view element) {
        if (above_.empty() && element != "annotation") throw Refused{};
        if (above_.size() == MAX_DEPTH) throw Refused{};
        above_.push_back(element);
        if (above_.size() == 2 && element == "object") found_.emplace_back();
    }

    // Of an object's fields the first counts, of the image's size the last. The parts of an object
    // (heads, hands) have a name and a bndbox of their own, deeper down.
    void end(std::string_view element, const char* behind_text) {
        if (above_.back() != element) throw Refused{};
        above_.pop_back();
        const std::string_view raw(text_, static_cast<size_t>(behind_text - text_));
        text_ = p_;
        const size_t depth = above_.size();
        if (depth < 2 || depth > 3) return;
        if (above_[1] == "object" && (depth == 2 || above_[2] == "bndbox")) {
            for (size_t i = 0; i < FIELDS.size(); ++i)
                if (element == FIELDS[i] && !found_.back()[i].data())
                    found_.back()[i] = stripped(raw);
        } else if (above_[1] == "size" && depth == 2) {
            for (size_t i = 0; i < SIDES.size(); ++i)
                if (element == SIDES[i]) size_[i] = stripped(raw);
        }
    }

    // Text without the white space around it; only text that means what it says.
    static std::string_view stripped(std::string_view raw) {
        constexpr const char* SPACES = " \t\r\n";
        const size_t first = raw.find_first_not_of(SPACES);
        if (first == raw.npos) return raw.substr(raw.size());
        const std::string_view text = raw.substr(first, raw.find_last_not_of(SPACES) + 1 - first);
        const char* last = text.data() + text.size() - 1;
        while ((static_cast<unsigned char>(*last) & 0xC0) == 0x80) --last;
        if (text.find_first_of("<&\r") != text.npos || may_be_space(text.data()) ||
            may_be_space(last))
            throw Refused{};
        return text;
    }

    static Object object(const Fields& fields) {
        Object found{fields[0], fields[1] == "1", {}};
        if (found.name.empty()) throw Refused{};
        for (size_t side = 0; side < 4; ++side) found.box[side] = number(fields[side + 2]);
        if (found.box[2] < found.box[0] || found.box[3] < found.box[1]) throw Refused{};
        return found;
    }

    static int64_t side_of_image(std::string_view word) {
        const double side = word.empty() ? 0 : number(word);
        if (!(side >= 0 && side <= LARGEST_IMAGE)) throw Refused{};
        return static_cast<int64_t>(side);
    }

    static double number(std::string_view word) {
        double value;
        const char* p = word.data();
        if (word.empty() || !read_decimal(p, value) || p != word.data() + word.size())
            throw Refused{};
        if (std::abs(value) > LARGEST) throw Refused{};
        return value;
    }
};

}  // namespace upmap::voc
