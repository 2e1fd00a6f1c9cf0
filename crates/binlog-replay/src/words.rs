//! The words of a statement, as a server reads them.

use std::ops::Range as Span;

/// The words, quoted names and other characters of a statement; no comments.
#[derive(Clone)]
pub(crate) struct Words<'a> {
    pub(crate) text: &'a [u8],
    at: usize,
    /// A backslash in quotes: what it means, `sql_mode` says.
    pub(crate) unclear: bool,
}

impl<'a> Words<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Self { text, at: 0, unclear: false }
    }

    /// The word that says what the statement does: the first one behind brackets and MariaDB's `SET STATEMENT … FOR`.
    pub(crate) fn verb(&mut self) -> Option<Span<usize>> {
        loop {
            let token = self.next()?;
            if self.is(&token, b"(") {
                continue;
            }
            let settings = self.is(&token, b"SET")
                && self.clone().next().is_some_and(|next| self.is(&next, b"STATEMENT"));
            if !settings {
                return self.text[token.start].is_ascii_alphabetic().then_some(token);
            }
            let mut depth = 0_u32;
            loop {
                let token = self.next()?;
                match self.text[token.start] {
                    b'(' => depth += 1,
                    b')' => depth = depth.saturating_sub(1),
                    _ if depth == 0 && self.is(&token, b"FOR") => break,
                    _ => {}
                }
            }
        }
    }

    /// The next token if it is a word.
    pub(crate) fn word(&mut self) -> Option<Span<usize>> {
        let token = self.next()?;
        self.text[token.start].is_ascii_alphabetic().then_some(token)
    }

    /// `token` with the empty pair of brackets that may come behind it.
    pub(crate) fn with_brackets(&mut self, token: Span<usize>) -> Span<usize> {
        let mut at = token.end;
        for bracket in [b'(', b')'] {
            at += self.text[at..].iter().take_while(|b| is_blank(**b)).count();
            if self.text.get(at) != Some(&bracket) {
                return token;
            }
            at += 1;
        }
        self.at = at;
        token.start..at
    }

    fn is(&self, token: &Span<usize>, word: &[u8]) -> bool {
        self.text[token.clone()].eq_ignore_ascii_case(word)
    }

    /// Goes behind blanks and comments; the text of `/*!12345 …*/` and of MariaDB's `/*M!123456 …*/` is no comment.
    fn skip_blanks(&mut self) {
        loop {
            let rest = &self.text[self.at..];
            let end_of = |mark: &[u8]| {
                rest.windows(mark.len()).position(|w| w == mark).map_or(rest.len(), |at| at + mark.len())
            };
            let version = [&b"/*!"[..], b"/*M!"].into_iter().find(|mark| rest.starts_with(mark));
            self.at += if let Some(mark) = version {
                mark.len() + rest[mark.len()..].iter().take_while(|b| b.is_ascii_digit()).count()
            } else if rest.starts_with(b"/*") {
                2 + rest[2..].windows(2).position(|w| w == b"*/").map_or(rest.len() - 2, |at| at + 2)
            } else if rest.starts_with(b"*/") {
                2
            } else if rest.starts_with(b"#")
                || (rest.starts_with(b"--")
                    && rest.get(2).is_none_or(|b| is_blank(*b) || b.is_ascii_control()))
            {
                end_of(b"\n")
            } else {
                match rest.iter().take_while(|b| is_blank(**b)).count() {
                    0 => return,
                    blanks => blanks,
                }
            };
        }
    }
}

/// The vertical tab is one, too.
fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

impl Iterator for Words<'_> {
    type Item = Span<usize>;

    fn next(&mut self) -> Option<Span<usize>> {
        self.skip_blanks();
        let start = self.at;
        let first = *self.text.get(start)?;
        let in_word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
        let rest = &self.text[start + 1..];
        self.at = start
            + 1
            + match first {
                b'\'' | b'"' | b'`' => {
                    let inner = rest.iter().position(|b| *b == first).unwrap_or(rest.len());
                    self.unclear |= rest[..inner].contains(&b'\\');
                    (inner + 1).min(rest.len())
                }
                _ if in_word(&first) => rest.iter().take_while(|b| in_word(b)).count(),
                _ => 0,
            };
        Some(start..self.at)
    }
}
