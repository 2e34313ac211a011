//! Writing XML: elements, text, escapes. Nothing else of XML is needed here.

use std::fmt::Display;

/// A document that grows.
#[derive(Debug)]
pub(super) struct Xml(String);

impl Xml {
    pub(super) fn new() -> Self {
        Self("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_owned())
    }

    /// An element with text.
    pub(super) fn put(&mut self, name: &str, value: impl Display) {
        self.open(name);
        self.text(&value.to_string());
        self.close(name);
    }

    /// The same if there is a value.
    pub(super) fn put_some<T: Display>(&mut self, name: &str, value: Option<T>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    /// An element with what `inside` writes.
    pub(super) fn nest(&mut self, name: &str, inside: impl FnOnce(&mut Self)) {
        self.open(name);
        inside(self);
        self.close(name);
    }

    /// A list: one `item` for each; an empty element if there are none.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut each: impl FnMut(&mut Self, T),
    ) {
        let mut items = items.into_iter().peekable();
        if items.peek().is_none() {
            self.0.push_str(&format!("<{name}/>"));
            return;
        }
        self.nest(name, |xml| {
            for item in items {
                xml.nest("item", |xml| each(xml, item));
            }
        });
    }

    /// A list of plain values.
    pub(super) fn values<T: Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) {
        self.list(name, items, |xml, item| xml.text(&item.to_string()));
    }

    /// An element with a namespace: the document's root.
    pub(super) fn root(&mut self, name: &str, namespace: &str, inside: impl FnOnce(&mut Self)) {
        self.0.push_str(&format!("<{name} xmlns=\"{namespace}\">"));
        inside(self);
        self.close(name);
    }

    pub(super) fn finish(self) -> String {
        self.0
    }

    fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    /// Escapes what XML gives a meaning to. Control characters that XML 1.0 can't carry become
    /// U+FFFD; a carriage return is kept as a reference, or parsers would fold it into a newline.
    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\r' => self.0.push_str("&#xD;"),
                '\t' | '\n' => self.0.push(c),
                c if c.is_control() && u32::from(c) < 0x20 => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
    }
}
