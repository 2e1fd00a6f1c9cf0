//! Values as SQL literals for people.

use std::fmt::Write;

use super::json::JsonOperation;
use super::value::Value;

impl Value<'_> {
    /// The value as an SQL literal, or as close to one as it gets; long ones are cut after `limit` bytes.
    pub fn to_sql(&self, limit: usize) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Int(n, None) => n.to_string(),
            Self::Int(n, Some(unsigned)) => format!("{n} /* or {unsigned} */"),
            Self::UInt(n) | Self::Enum(n) => n.to_string(),
            Self::Number(text) => text.clone(),
            Self::Temporal(text) => format!("'{text}'"),
            Self::Bytes(bytes) => literal(bytes, limit),
            Self::Compressed(bytes) => format!("{} /* compressed */", hex(bytes, limit)),
            Self::Json(text) => literal(text.as_bytes(), limit),
            Self::JsonChanges(changes) => {
                let parts: Vec<String> = changes
                    .iter()
                    .map(|c| {
                        let path = literal(c.path.as_bytes(), limit);
                        let value = c.value.as_ref().map(|v| literal(v.as_bytes(), limit));
                        let name = match c.operation {
                            JsonOperation::Replace => "JSON_REPLACE",
                            JsonOperation::Insert => "JSON_INSERT",
                            JsonOperation::Remove => "JSON_REMOVE",
                        };
                        match value {
                            Some(value) => format!("{name}({path}, {value})"),
                            None => format!("{name}({path})"),
                        }
                    })
                    .collect();
                parts.join(" ")
            }
            Self::Geometry(bytes) => hex(bytes, limit),
            Self::Vector(floats) => {
                let parts: Vec<String> = floats.iter().map(f32::to_string).collect();
                format!("'[{}]'", parts.join(", "))
            }
            Self::Bit(bits) => format!("b'{bits:b}'"),
            Self::Set(bits) => format!("{bits} /* members {} */", members(*bits)),
        }
    }
}

fn members(bits: u64) -> String {
    let set: Vec<String> = (0..64).filter(|at| bits >> at & 1 != 0).map(|at| (at + 1).to_string()).collect();
    if set.is_empty() { "none".to_owned() } else { set.join(",") }
}

/// Text in quotes; what is no UTF-8 text, in hexadecimal.
fn literal(bytes: &[u8], limit: usize) -> String {
    let is_text = std::str::from_utf8(bytes).is_ok_and(|t| !t.contains('\0'));
    if !is_text {
        return hex(bytes, limit);
    }
    let text = crate::statement::excerpt(bytes, limit);
    let mut out = String::with_capacity(text.len() + 2);
    out.push('\'');
    for c in text.chars() {
        match c {
            '\'' => out.push_str("''"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

fn hex(bytes: &[u8], limit: usize) -> String {
    let mut out = String::from("x'");
    for byte in bytes.iter().take(limit / 2 + 1) {
        let _ = write!(out, "{byte:02x}");
    }
    if bytes.len() > limit / 2 + 1 {
        out.push('…');
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_say_what_they_are() {
        assert_eq!(Value::Bytes(b"it's\n").to_sql(99), "'it''s\\n'");
        assert_eq!(Value::Bytes(b"\xff\x00").to_sql(99), "x'ff00'");
        assert_eq!(Value::Int(-1, Some(255)).to_sql(99), "-1 /* or 255 */");
        assert_eq!(Value::Set(5).to_sql(99), "5 /* members 1,3 */");
        assert_eq!(Value::Bytes(&[b'a'; 50]).to_sql(3), "'aaa…'");
    }
}
