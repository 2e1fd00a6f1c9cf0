//! Bounds-checked little-endian reads from an event body.

/// A body that does not hold what its event kind promises.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {why}")]
pub struct Malformed {
    /// The field or structure.
    pub part: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Malformed {
    pub(crate) fn new(part: &'static str, why: impl Into<String>) -> Self {
        Self { part, why: why.into() }
    }

    #[cold]
    fn short(part: &'static str, needed: usize, left: usize) -> Self {
        Self::new(part, format!("needs {needed} bytes, {left} are left"))
    }
}

/// Reads an event body from front to back; every read states the field it is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

type Result<T> = std::result::Result<T, Malformed>;

impl<'a> Cursor<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Everything not read yet.
    #[inline]
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    #[inline]
    pub(crate) fn bytes(&mut self, n: usize, part: &'static str) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(Malformed::short(part, n, self.rest.len())),
        }
    }

    #[inline]
    fn array<const N: usize>(&mut self, part: &'static str) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(Malformed::short(part, N, self.rest.len())),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self, part: &'static str) -> Result<u8> {
        Ok(self.array::<1>(part)?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self, part: &'static str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(part)?))
    }

    #[inline]
    pub(crate) fn u24(&mut self, part: &'static str) -> Result<u32> {
        let [a, b, c] = self.array(part)?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    #[inline]
    pub(crate) fn u32(&mut self, part: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(part)?))
    }

    #[inline]
    pub(crate) fn u56(&mut self, part: &'static str) -> Result<u64> {
        self.uint(7, part)
    }

    #[inline]
    pub(crate) fn u64(&mut self, part: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(part)?))
    }

    /// A little-endian number of `width` bytes, at most 8.
    #[inline]
    pub(crate) fn uint(&mut self, width: usize, part: &'static str) -> Result<u64> {
        let mut wide = [0; 8];
        wide.get_mut(..width)
            .ok_or_else(|| Malformed::new(part, format!("a number of {width} bytes")))?
            .copy_from_slice(self.bytes(width, part)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// A length-encoded number of the client protocol: one byte below 251, else 252, 253 or 254 and 2, 3
    /// or 8 bytes.
    #[inline]
    pub(crate) fn lenenc(&mut self, part: &'static str) -> Result<u64> {
        match self.u8(part)? {
            small @ 0..=250 => Ok(small.into()),
            252 => self.uint(2, part),
            253 => self.uint(3, part),
            254 => self.uint(8, part),
            other => Err(Malformed::new(part, format!("a length cannot start with byte {other}"))),
        }
    }

    /// A length-encoded length and so many bytes.
    pub(crate) fn lenenc_bytes(&mut self, part: &'static str) -> Result<&'a [u8]> {
        let n = self.lenenc(part)?;
        self.bytes(usize::try_from(n).unwrap_or(usize::MAX), part)
    }

    /// A length byte and so many bytes.
    pub(crate) fn short_bytes(&mut self, part: &'static str) -> Result<&'a [u8]> {
        let n = self.u8(part)?;
        self.bytes(n.into(), part)
    }

    /// Bytes up to the next NUL, which is read, too.
    pub(crate) fn until_nul(&mut self, part: &'static str) -> Result<&'a [u8]> {
        let end =
            self.rest.iter().position(|b| *b == 0).ok_or_else(|| Malformed::new(part, "no NUL ends it"))?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    pub(crate) fn nul(&mut self, part: &'static str) -> Result<()> {
        match self.u8(part)? {
            0 => Ok(()),
            other => Err(Malformed::new(part, format!("expected NUL, found byte {other}"))),
        }
    }

    /// Fails unless everything was read.
    pub(crate) fn end(&self, part: &'static str) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(Malformed::new(part, format!("{n} bytes too many"))),
        }
    }
}
