// One VOC annotation: the XML that the tools of the field write, as expat reads it.
//
// Elements, text, comments, the five predefined entities, and at most one attribute in a tag; UTF-8
// without a document type. Everything else that XML has, and everything that is wrong, is refused.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "kernels/file.hpp"
#include "kernels/text.hpp"

namespace upmap::voc {

// As kernels/voc_files/reference.py limits them: beyond, an area or an IoU could overflow.
constexpr double kMaxCoordinate = 1e150;        // px
constexpr double kMaxImageSide = 2147483648.0;  // px, 2^31
constexpr size_t kMaxDepth = 100;               // of elements

struct Object {
    std::string_view name;  // within the text
    bool difficult;
    double box[4];
};

// What each byte may be in XML, a bit each. Bytes beyond ASCII are none of them.
enum CharacterClass : uint8_t {
    kAllowed = 1,
    kPlainText = 2,  // needs no second look within text
    kInName = 4,
    kStartsName = 8,
    kSpace = 16
};

constexpr std::array<uint8_t, 256> character_classes() {
    std::array<uint8_t, 256> classes{};
    for (int c = 0; c < 128; ++c) {
        const bool is_letter =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == ':';
        const bool in_name = is_letter || (c >= '0' && c <= '9') || c == '-' || c == '.';
        const bool is_space = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        const bool is_allowed = c >= ' ' || is_space;
        const bool is_plain = is_allowed && c != '<' && c != '&' && c != ']';
        classes[static_cast<size_t>(c)] = static_cast<uint8_t>(
            (is_allowed ? kAllowed : 0) | (is_plain ? kPlainText : 0) | (in_name ? kInName : 0) |
            (is_letter ? kStartsName : 0) | (is_space ? kSpace : 0));
    }
    return classes;
}

class AnnotationReader {
  public:
    std::vector<Object> objects;
    int64_t size[2];  // width and height, px; 0 where the file does not say

    // Whether the annotation was read; if not, expat decides. `objects` point into the text.
    bool read(const Text& text) {
        p_ = text.begin;
        open_elements_.clear();
        fields_of_objects_.clear();
        objects.clear();
        size_fields_ = {};
        try {
            read_document(text.end);
            for (const Fields& fields : fields_of_objects_) objects.push_back(parse_object(fields));
            for (size_t side = 0; side < 2; ++side) size[side] = parse_side(size_fields_[side]);
        } catch (const Refused&) {
            return false;
        }
        return true;
    }

  private:
    struct Refused {};
    using Fields = std::array<std::string_view, 6>;
    static constexpr Fields kFields{"name", "difficult", "xmin", "ymin", "xmax", "ymax"};
    static constexpr std::array<std::string_view, 2> kSizeFields{"width", "height"};
    static constexpr std::array<uint8_t, 256> kCharacterClasses = character_classes();

    const char* p_;           // never behind the text's end, for a zero byte is of no class
    const char* text_begin_;  // where the last tag ended
    std::vector<std::string_view> open_elements_;  // from the root to the element at p_
    std::vector<Fields> fields_of_objects_;        // no data where there is no such element
    std::array<std::string_view, 2> size_fields_;

    bool is(CharacterClass character_class) const {
        return kCharacterClasses[static_cast<unsigned char>(*p_)] & character_class;
    }

    // A word of at most kPadding bytes.
    bool accept(std::string_view word) {
        if (std::memcmp(p_, word.data(), word.size())) return false;
        p_ += word.size();
        return true;
    }

    void expect(std::string_view word) {
        if (!accept(word)) throw Refused{};
    }

    // Whether there was any.
    bool skip_space() {
        const char* first = p_;
        while (is(kSpace)) ++p_;
        return p_ != first;
    }

    void read_document(const char* end) {
        skip_declaration();
        skip_comments();
        read_start_tag();
        while (!open_elements_.empty()) read_content();
        skip_comments();
        if (p_ != end) throw Refused{};
    }

    void skip_declaration() {
        if (!accept("<?xml version=")) return;
        if (!accept("\"1.0\"")) expect("'1.0'");
        for (const char* encoding : {" encoding=\"utf-8\"", " encoding=\"UTF-8\"",
                                     " encoding='utf-8'", " encoding='UTF-8'"})
            if (accept(encoding)) break;
        skip_space();
        expect("?>");
    }

    // Comments and white space, which may stand before and behind the root.
    void skip_comments() {
        for (skip_space(); accept("<!"); skip_space()) skip_comment();
    }

    // Text up to a tag or comment, and that.
    void read_content() {
        skip_text();
        if (accept("</"))
            read_end_tag();
        else if (accept("<!"))
            skip_comment();
        else
            read_start_tag();
    }

    // Up to the next tag; checks that all of it may stand in XML.
    void skip_text() {
        for (;;) {
            while (is(kPlainText)) ++p_;
            if (*p_ == '<') return;
            if (*p_ == '&') {
                skip_entity();
            } else if (*p_ == ']') {
                if (accept("]]>")) throw Refused{};
                ++p_;
            } else {
                skip_character();
            }
        }
    }

    // One of the five that need no declaration; from its ampersand on.
    void skip_entity() {
        for (const char* name : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"})
            if (accept(name)) return;
        throw Refused{};
    }

    // A character that may stand in XML, whatever it means there.
    void skip_character() {
        uint32_t code = 0;
        const int length = is(kAllowed) ? 1 : utf8_character(p_, code);
        if (!length || code == 0xFFFE || code == 0xFFFF) throw Refused{};
        p_ += length;
    }

    // Behind "<!".
    void skip_comment() {
        expect("--");
        while (!accept("--")) skip_character();
        expect(">");
    }

    // In ASCII; XML has more.
    std::string_view read_name() {
        const char* first = p_;
        if (!is(kStartsName)) throw Refused{};
        while (is(kInName)) ++p_;
        return {first, static_cast<size_t>(p_ - first)};
    }

    void read_start_tag() {
        expect("<");
        const std::string_view element = read_name();
        if (skip_space() && is(kStartsName)) skip_attribute();
        const bool is_empty = accept("/");
        expect(">");
        open_element(element);
        text_begin_ = p_;
        if (is_empty) close_element(element, p_);
    }

    // A second one in a tag is refused, so none can stand twice.
    void skip_attribute() {
        read_name();
        skip_space();
        expect("=");
        skip_space();
        const char quote = *p_;
        if (quote != '"' && quote != '\'') throw Refused{};
        for (++p_; *p_ != quote;) {
            if (*p_ == '<' || *p_ == '&') throw Refused{};
            skip_character();
        }
        ++p_;
        skip_space();
    }

    // Behind "</".
    void read_end_tag() {
        const char* text_end = p_ - 2;
        const std::string_view element = read_name();
        skip_space();
        expect(">");
        close_element(element, text_end);
    }

    // The root must be an annotation.
    void open_element(std::string_view element) {
        if (open_elements_.empty() && element != "annotation") throw Refused{};
        if (open_elements_.size() == kMaxDepth) throw Refused{};
        open_elements_.push_back(element);
        if (open_elements_.size() == 2 && element == "object") fields_of_objects_.emplace_back();
    }

    // Of an object's fields the first counts, of the image's size the last. The parts of an object
    // (heads, hands) have a name and a bndbox of their own, deeper down.
    void close_element(std::string_view element, const char* text_end) {
        if (open_elements_.back() != element) throw Refused{};
        open_elements_.pop_back();
        const std::string_view text(text_begin_, static_cast<size_t>(text_end - text_begin_));
        text_begin_ = p_;
        const size_t depth = open_elements_.size();
        if (depth < 2 || depth > 3) return;
        if (open_elements_[1] == "object" && (depth == 2 || open_elements_[2] == "bndbox")) {
            Fields& fields = fields_of_objects_.back();
            for (size_t i = 0; i < kFields.size(); ++i)
                if (element == kFields[i] && !fields[i].data()) fields[i] = strip(text);
        } else if (open_elements_[1] == "size" && depth == 2) {
            for (size_t i = 0; i < kSizeFields.size(); ++i)
                if (element == kSizeFields[i]) size_fields_[i] = strip(text);
        }
    }

    // Text without the white space around it. Text that has to be decoded is refused: tags within
    // it, entities, carriage returns, and what Python might strip besides.
    static std::string_view strip(std::string_view text) {
        constexpr const char* kSpaces = " \t\r\n";
        const size_t first = text.find_first_not_of(kSpaces);
        if (first == text.npos) return text.substr(text.size());
        const std::string_view inner =
            text.substr(first, text.find_last_not_of(kSpaces) + 1 - first);
        const char* last = inner.data() + inner.size() - 1;
        while ((static_cast<unsigned char>(*last) & 0xC0) == 0x80) --last;
        if (inner.find_first_of("<&\r") != inner.npos || may_be_space(inner.data()) ||
            may_be_space(last))
            throw Refused{};
        return inner;
    }

    // The fields as kernels/voc_files/reference.py understands them; difficult where it says 1.
    static Object parse_object(const Fields& fields) {
        Object object{fields[0], fields[1] == "1", {}};
        if (object.name.empty()) throw Refused{};
        for (size_t side = 0; side < 4; ++side) object.box[side] = parse_number(fields[side + 2]);
        return object;
    }

    // Whole pixels, rounded down; 0 where the file does not say.
    static int64_t parse_side(std::string_view word) {
        const double side = word.empty() ? 0 : parse_number(word);
        if (!(side >= 0 && side <= kMaxImageSide)) throw Refused{};
        return static_cast<int64_t>(side);
    }

    // All of the word.
    static double parse_number(std::string_view word) {
        double value;
        const char* p = word.data();
        if (word.empty() || !read_decimal(p, value) || p != word.data() + word.size())
            throw Refused{};
        if (std::abs(value) > kMaxCoordinate) throw Refused{};
        return value;
    }
};

}  // namespace upmap::voc
