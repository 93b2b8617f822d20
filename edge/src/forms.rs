//! What a door's body says: a form or a JSON object, read strictly.
//!
//! Every field is text and stands there once; a field given twice is an error in a form and in JSON
//! (whoever reads the body next must not be able to see another value than we did). Fields that
//! nobody asked for are ignored.

use core::fmt;

use edgekeep_shared::problem::{Code, Problem};
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// The largest body that one of our own doors reads, in bytes.
pub const MAX_BODY_BYTES: usize = 16 * 1024;
/// The longest user name that is looked at, in bytes as typed.
pub const MAX_NAME_BYTES: usize = 256;
/// The longest password that is looked at, in bytes as typed. The coordinator's own limit is in characters and lower.
pub const MAX_PASSWORD_BYTES: usize = 4 * 1024;
/// The most fields of a body.
const MAX_FIELDS: usize = 32;

/// The two kinds of body that a door takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyKind {
    /// `application/x-www-form-urlencoded`, what an HTML form sends.
    Form,
    /// `application/json`
    Json,
}

impl BodyKind {
    /// The kind that a `Content-Type` names, if it is one of the two. Parameters such as `charset` do not matter:
    /// both kinds are UTF-8 by definition.
    #[must_use]
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else {
            None
        }
    }
}

/// The fields of one body. `Debug` shows names only: values may be passwords.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(Vec<(String, String)>);

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Fields {
    /// Reads a body of this kind.
    ///
    /// # Errors
    /// `invalid_request`, with what is wrong but never with what was sent.
    pub fn read(kind: BodyKind, body: &[u8]) -> Result<Self, Problem> {
        let fields = match kind {
            BodyKind::Form => read_form(body)?,
            BodyKind::Json => read_json(body)?,
        };
        Ok(fields)
    }

    /// The field's value, if the body has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The field's value.
    ///
    /// # Errors
    /// `invalid_request` when it is missing or empty, `too_large` when it has more than `max_bytes`.
    pub fn required(&self, name: &str, max_bytes: usize) -> Result<&str, Problem> {
        let value = self.get(name).filter(|value| !value.is_empty());
        let value = value.ok_or_else(|| invalid(format!("The field {name} is missing or empty.")))?;
        if value.len() > max_bytes {
            return Err(Problem::new(Code::TooLarge, format!("The field {name} has more than {max_bytes} bytes.")));
        }
        Ok(value)
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidRequest, detail)
}

/// Adds a field unless there is one of that name.
fn add(fields: &mut Vec<(String, String)>, name: String, value: String) -> Result<(), &'static str> {
    if fields.iter().any(|(other, _)| *other == name) {
        return Err("A field is given twice.");
    }
    if fields.len() == MAX_FIELDS {
        return Err("The body has too many fields.");
    }
    fields.push((name, value));
    Ok(())
}

fn read_form(body: &[u8]) -> Result<Fields, Problem> {
    let mut fields = Vec::new();
    for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
        let at = pair.iter().position(|byte| *byte == b'=');
        let (name, value) = at.map_or((pair, &[][..]), |at| (&pair[..at], &pair[at + 1..]));
        let (Some(name), Some(value)) = (form_text(name), form_text(value)) else {
            return Err(invalid("The form is not URL-encoded UTF-8."));
        };
        add(&mut fields, name, value).map_err(invalid)?;
    }
    Ok(Fields(fields))
}

/// Undoes the encoding of one name or value; nothing when an escape is cut short or the bytes are not UTF-8.
fn form_text(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_digit(*rest.next()?)? << 4 | hex_digit(*rest.next()?)?,
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The value of the first `name=value` in a query string, decoded.
#[must_use]
pub fn query_value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (found, value) = pair.split_once('=').unwrap_or((pair, ""));
        if found == name { form_text(value.as_bytes()) } else { None }
    })
}

/// Text as a query value or form value: everything but unreserved characters (RFC 3986) and `/` is escaped.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => out.push(char::from(byte)),
            other => push_escape(&mut out, other),
        }
    }
    out
}

/// Appends `%XX`.
pub fn push_escape(out: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(char::from(DIGITS[usize::from(byte >> 4)]));
    out.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// A JSON object whose text fields are kept in order, refusing a name that comes twice.
struct JsonFields(Vec<(String, String)>);

/// A value of which only text is kept.
struct TextOrElse(Option<String>);

impl<'de> Deserialize<'de> for TextOrElse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = TextOrElse;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<TextOrElse, E> {
                Ok(TextOrElse(Some(text.to_owned())))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_unit<E: de::Error>(self) -> Result<TextOrElse, E> {
                Ok(TextOrElse(None))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<TextOrElse, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(TextOrElse(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<TextOrElse, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(TextOrElse(None))
            }
        }
        deserializer.deserialize_any(Text)
    }
}

impl<'de> Deserialize<'de> for JsonFields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = JsonFields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonFields, A::Error> {
                let (mut fields, mut others) = (Vec::new(), Vec::new());
                while let Some((name, value)) = map.next_entry::<String, TextOrElse>()? {
                    // A field that is not text counts as given, so that it cannot be given again as text.
                    if fields.iter().chain(&others).any(|(other, _)| *other == name) {
                        return Err(de::Error::custom("twice"));
                    }
                    match value.0 {
                        Some(text) => add(&mut fields, name, text).map_err(de::Error::custom)?,
                        None => add(&mut others, name, String::new()).map_err(de::Error::custom)?,
                    }
                }
                Ok(JsonFields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn read_json(body: &[u8]) -> Result<Fields, Problem> {
    // All of it is text first: serde looks at no character of a value that nobody asked for.
    let fields = core::str::from_utf8(body).ok().and_then(|text| serde_json::from_str::<JsonFields>(text).ok());
    // What serde says could quote the body, so it is not passed on.
    let fields = fields.ok_or_else(|| invalid("The body is not a JSON object in which every field is given once."))?;
    Ok(Fields(fields.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Result<Fields, Problem> {
        Fields::read(BodyKind::Form, body.as_bytes())
    }

    fn json(body: &str) -> Result<Fields, Problem> {
        Fields::read(BodyKind::Json, body.as_bytes())
    }

    #[test]
    fn reads_forms_as_browsers_send_them() {
        let fields = form("username=J%C3%BCrgen+M&password=a%2Bb%26c%3D+&empty=&bare").expect("a form");
        assert_eq!(fields.get("username"), Some("Jürgen M"));
        assert_eq!(fields.get("password"), Some("a+b&c= "));
        assert_eq!(fields.get("empty"), Some(""));
        assert_eq!(fields.get("bare"), Some(""));
        assert_eq!(fields.get("none"), None);
    }

    #[test]
    fn refuses_what_two_readers_could_read_differently() {
        for bad in ["a=1&a=2", "a=1&%61=2", "a=%", "a=%4", "a=%zz", "a=%ff", "%ff=a"] {
            assert_eq!(form(bad).map_err(|problem| problem.code), Err(Code::InvalidRequest), "{bad}");
        }
        for bad in [
            r#"{"a":"1","a":"2"}"#,
            r#"{"a":"1","\u0061":"2"}"#,
            r#"{"a":1,"a":"2"}"#,
            r#"{"a":"2","a":null}"#,
            r#"["a"]"#,
            r#"{"a":"1"} x"#,
            r#"{"a":"1""#,
            "",
            "null",
        ] {
            assert_eq!(json(bad).map_err(|problem| problem.code), Err(Code::InvalidRequest), "{bad}");
        }
        let not_text = Fields::read(BodyKind::Json, b"{\"a\":\"1\",\"b\":{\"c\":\"\xb5\"}}");
        assert_eq!(not_text.map_err(|problem| problem.code), Err(Code::InvalidRequest));
    }

    #[test]
    fn keeps_the_text_fields_of_json() {
        let fields = json(r#"{"username":"ann","password":"p\"\u00e4","n":1,"o":{"a":[1]},"l":[{}],"x":null}"#);
        let fields = fields.expect("an object");
        assert_eq!(fields.get("username"), Some("ann"));
        assert_eq!(fields.get("password"), Some("p\"ä"));
        assert_eq!(fields.get("n"), None);
        assert_eq!(fields.required("n", 9).map_err(|problem| problem.code), Err(Code::InvalidRequest));
    }

    #[test]
    fn limits_hold() {
        let many: String = (0..=MAX_FIELDS).map(|n| format!("f{n}=1&")).collect();
        assert!(form(&many).is_err());
        let fields = form("a=12345").expect("a form");
        assert_eq!(fields.required("a", 5), Ok("12345"));
        assert_eq!(fields.required("a", 4).map_err(|problem| problem.code), Err(Code::TooLarge));
        assert_eq!(fields.required("b", 4).map_err(|problem| problem.code), Err(Code::InvalidRequest));
    }

    #[test]
    fn problems_and_debug_never_quote_a_value() {
        let fields = form("password=hunter2hunter2").expect("a form");
        assert!(!format!("{fields:?}").contains("hunter2"));
        let problem = json(r#"{"password":"hunter2","password":"hunter2"}"#).expect_err("twice");
        assert!(!problem.detail.contains("hunter2"));
    }

    #[test]
    fn content_types() {
        assert_eq!(BodyKind::of("application/json; charset=utf-8"), Some(BodyKind::Json));
        assert_eq!(BodyKind::of("Application/X-WWW-Form-urlencoded"), Some(BodyKind::Form));
        for other in ["", "text/plain", "multipart/form-data; boundary=x", "application/jsonp", "application/json-seq"]
        {
            assert_eq!(BodyKind::of(other), None, "{other}");
        }
    }

    #[test]
    fn queries_and_escapes() {
        assert_eq!(query_value("a=1&return_to=%2Fx%3Fy%3D1&return_to=/z", "return_to").as_deref(), Some("/x?y=1"));
        assert_eq!(query_value("return_to=%ff", "return_to"), None);
        assert_eq!(encode("/a b?c=ä&d"), "/a%20b%3Fc%3D%C3%A4%26d");
    }
}
