//! EC2's XML as a tree of names and texts, without namespaces, attributes and white space between
//! elements, of which EC2's answers use none.

use roxmltree::Document;

/// An element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: String,
    /// Elements in it.
    pub inside: Vec<Self>,
    /// Its text, if there are no elements in it.
    pub text: String,
}

impl Element {
    /// The document's root.
    ///
    /// # Errors
    /// The text is not XML.
    pub fn parse(text: &str) -> Result<Self, roxmltree::Error> {
        Ok(Self::of(Document::parse(text)?.root_element()))
    }

    fn of(node: roxmltree::Node<'_, '_>) -> Self {
        let inside: Vec<Self> = node
            .children()
            .filter(roxmltree::Node::is_element)
            .map(Self::of)
            .collect();
        let text = if inside.is_empty() {
            node.text().unwrap_or_default().to_owned()
        } else {
            String::new()
        };
        Self {
            name: node.tag_name().name().to_owned(),
            inside,
            text,
        }
    }

    /// The first element at this path of names below this one.
    #[must_use]
    pub fn at(&self, path: &str) -> Option<&Self> {
        path.split('/').try_fold(self, |element, name| {
            element.inside.iter().find(|e| e.name == name)
        })
    }

    /// The text at this path; empty if there is nothing.
    #[must_use]
    pub fn text(&self, path: &str) -> &str {
        self.at(path).map_or("", |e| e.text.as_str())
    }

    /// The members of the list at this path.
    #[must_use]
    pub fn list(&self, path: &str) -> &[Self] {
        self.at(path).map_or(&[], |e| e.inside.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::Element;

    #[test]
    fn answers_are_read() {
        let text = "<?xml version='1.0' encoding='utf-8'?>\n<R xmlns=\"http://x/\"><set>\n<item><a>1 &amp; 2</a></item><item/></set><id>q</id></R>";
        let root = Element::parse(text).expect("XML");
        assert_eq!(root.name, "R");
        assert_eq!(root.list("set").len(), 2);
        assert_eq!(root.list("set")[0].text("a"), "1 & 2");
        assert_eq!((root.text("id"), root.text("nowhere/at/all")), ("q", ""));
        assert!(Element::parse("no XML").is_err());
    }
}
