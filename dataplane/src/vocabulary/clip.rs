//! Input that is shown again: in an error, in a log line.

/// The text on one line and of at most about `most` bytes: control characters are written as
/// escapes, and of what is too long the middle is left out.
pub fn clip(text: &str, most: usize) -> String {
    let escaped = |part: &str| -> String {
        let mut clean = String::with_capacity(part.len());
        for c in part.chars() {
            if c.is_control() || is_hidden(c) {
                clean.extend(c.escape_default());
            } else {
                clean.push(c);
            }
        }
        clean
    };
    if text.len() <= most {
        return escaped(text);
    }
    // More of the beginning, for there it says what it is about.
    let (head, tail) = (floor(text, most / 3 * 2), ceil(text, text.len() - most / 3));
    format!("{}[… {} bytes …]{}", escaped(&text[..head]), tail - head, escaped(&text[tail..]))
}

/// Characters that end a line elsewhere, or turn the direction of what follows.
const fn is_hidden(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceil(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_and_plain_stays() {
        for text in ["", "unknown key `tpc`", "größer"] {
            assert_eq!(clip(text, 20), text);
        }
    }

    #[test]
    fn no_character_can_begin_a_line_or_move_the_cursor() {
        assert_eq!(clip("a\nb\r\u{1b}[2J\0", 99), "a\\nb\\r\\u{1b}[2J\\u{0}");
        assert_eq!(clip("a\u{202e}b\u{2028}", 99), "a\\u{202e}b\\u{2028}");
    }

    #[test]
    fn of_what_is_long_both_ends_are_left() {
        let long = format!("found \"{}\", expected a name", "x".repeat(8_000_000));
        let short = clip(&long, 90);
        assert!(
            short.starts_with("found \"xxx") && short.ends_with(", expected a name"),
            "{short}"
        );
        assert!(short.len() < 120, "{short}");
        // At no place is a character cut.
        for most in 0..40 {
            clip(&"ä€𝄞".repeat(10), most);
        }
    }
}
