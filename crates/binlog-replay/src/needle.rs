//! A text to look for in bytes, upper and lower case of ASCII letters being one.

/// Places that are looked at together: a multiple of what a vector register holds.
const BLOCK: usize = 64;

/// A text to look for.
#[derive(Debug, Clone)]
pub(crate) struct Needle {
    folded: Vec<u8>,
}

impl Needle {
    pub(crate) fn new(text: &str) -> Self {
        Self { folded: text.bytes().map(|b| b.to_ascii_lowercase()).collect() }
    }

    /// Where it is in `text` first; an empty one is everywhere.
    pub(crate) fn find(&self, text: &[u8]) -> Option<usize> {
        let [first, ..] = *self.folded else { return Some(0) };
        let behind = self.folded.len() - 1;
        let (first, last) = (Folded::new(first), Folded::new(self.folded[behind]));
        // The first byte of a place is in `starts`, the last one as far in `ends`.
        let ends = text.get(behind..)?;
        let starts = &text[..ends.len()];
        let is_at = |at: usize| text[at..=at + behind].eq_ignore_ascii_case(&self.folded);
        let (start_blocks, start_rest) = starts.as_chunks::<BLOCK>();
        let (end_blocks, _) = ends.as_chunks::<BLOCK>();
        for (n, (starts, ends)) in start_blocks.iter().zip(end_blocks).enumerate() {
            // No branch in here: the compiler makes vector instructions of it.
            let mut any = false;
            for (start, end) in starts.iter().zip(ends) {
                any |= first.is(*start) & last.is(*end);
            }
            if any && let Some(at) = (n * BLOCK..(n + 1) * BLOCK).find(|at| is_at(*at)) {
                return Some(at);
            }
        }
        (starts.len() - start_rest.len()..starts.len()).find(|at| is_at(*at))
    }

    pub(crate) fn is_in(&self, text: &[u8]) -> bool {
        self.find(text).is_some()
    }

    /// Whether it is in `text` with no letter, digit or underscore around it; an empty one never is.
    pub(crate) fn is_word_in(&self, text: &[u8]) -> bool {
        let is_letter =
            |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80);
        let mut from = 0;
        while let Some(at) = text.get(from..).and_then(|rest| self.find(rest)).map(|at| from + at) {
            let before = at.checked_sub(1).and_then(|i| text.get(i));
            if !self.folded.is_empty() && !is_letter(before) && !is_letter(text.get(at + self.folded.len())) {
                return true;
            }
            from = at + 1;
        }
        false
    }
}

/// A byte of a needle.
#[derive(Clone, Copy)]
struct Folded {
    byte: u8,
    /// The bit in which upper and lower case differ, for letters.
    case: u8,
}

impl Folded {
    fn new(byte: u8) -> Self {
        Self { byte, case: if byte.is_ascii_lowercase() { 0x20 } else { 0 } }
    }

    fn is(self, byte: u8) -> bool {
        byte | self.case == self.byte
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_comparing_at_every_offset_finds(
            text in proptest::collection::vec(prop::sample::select(b"aAbB@`{[1\x01\xc3".to_vec()), 0..300),
            part in "[aAbB@`{1\x01]{0,4}",
        ) {
            let at = match part.len() {
                0 => Some(0),
                n => text.windows(n).position(|w| w.eq_ignore_ascii_case(part.as_bytes())),
            };
            prop_assert_eq!(Needle::new(&part).find(&text), at);
        }
    }

    #[test]
    fn is_found_at_the_edges_of_blocks() {
        for at in 0..200 {
            let mut text = vec![b'.'; 210];
            text[at..at + 4].copy_from_slice(b"DrOp");
            assert_eq!(Needle::new("drop").find(&text), Some(at));
        }
        assert!(!Needle::new("drop").is_in(b"dro"));
        assert!(Needle::new("").is_in(b""));
    }

    #[test]
    fn words_are_whole() {
        let has_word = |text: &[u8], word| Needle::new(word).is_word_in(text);
        assert!(has_word(b"DROP TABLE `shop`.`orders`", "Orders"));
        assert!(has_word(b"orders", "orders"));
        assert!(has_word(b"reorders orders", "orders"));
        assert!(!has_word(b"DROP TABLE orders_old", "orders"));
        assert!(!has_word(b"DROP TABLE reorders", "orders"));
        assert!(!has_word(b"DROP TABLE orders", ""));
    }
}
