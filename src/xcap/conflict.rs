//! What a 409 tells (RFC 4825 11).

use crate::availability::document::edit::escaped;
use crate::xcap::usage::namespace;

/// An error condition of RFC 4825 11.1, with a phrase for people where there is more to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// The body is no well-formed document.
    NotWellFormed(&'static str),
    /// The body is not one well-balanced element.
    NotXmlFragment(&'static str),
    /// There is nothing to put it into.
    NoParent {
        /// The nearest place that is there, as a URI.
        ancestor: Option<String>,
    },
    /// The document would not be what its schema says.
    SchemaValidation(&'static str),
    /// The body is no attribute value with its quotes.
    NotXmlAttributeValue,
    /// A GET of the same URI would not give what was put.
    CannotInsert(&'static str),
    /// The same URI would then choose something else.
    CannotDelete,
    /// Values that have to be unique are not.
    Uniqueness(Vec<Exists>),
    /// Another rule of the application or of this server.
    Constraint(&'static str),
    /// The document would not be UTF-8.
    NotUtf8,
}

/// A value that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exists {
    /// A URI relative to the document.
    pub field: String,
    /// Values that would do.
    pub alternatives: Vec<String>,
}

impl Conflict {
    /// The document of type `application/xcap-error+xml`.
    pub fn document(&self) -> String {
        let phrased = |name: &str, phrase: &str| format!("<{name} phrase=\"{}\"/>", escaped(phrase));
        let condition = match self {
            Conflict::NotWellFormed(phrase) => phrased("not-well-formed", phrase),
            Conflict::NotXmlFragment(phrase) => phrased("not-xml-frag", phrase),
            Conflict::NoParent { ancestor: None } => "<no-parent/>".to_owned(),
            Conflict::NoParent { ancestor: Some(uri) } => {
                format!("<no-parent><ancestor>{}</ancestor></no-parent>", escaped(uri))
            }
            Conflict::SchemaValidation(phrase) => phrased("schema-validation-error", phrase),
            Conflict::NotXmlAttributeValue => "<not-xml-att-value/>".to_owned(),
            Conflict::CannotInsert(phrase) => phrased("cannot-insert", phrase),
            Conflict::CannotDelete => "<cannot-delete/>".to_owned(),
            Conflict::Uniqueness(exists) => {
                let all: String = exists.iter().map(Exists::element).collect();
                format!("<uniqueness-failure>{all}</uniqueness-failure>")
            }
            Conflict::Constraint(phrase) => phrased("constraint-failure", phrase),
            Conflict::NotUtf8 => "<not-utf-8/>".to_owned(),
        };
        let namespace = namespace::ERROR;
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xcap-error xmlns=\"{namespace}\">{condition}</xcap-error>\n"
        )
    }
}

impl Exists {
    fn element(&self) -> String {
        let field = escaped(&self.field);
        let values: String = self
            .alternatives
            .iter()
            .map(|value| format!("<alt-value>{}</alt-value>", escaped(value)))
            .collect();
        match values.as_str() {
            "" => format!("<exists field=\"{field}\"/>"),
            values => format!("<exists field=\"{field}\">{values}</exists>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::availability::document::xml::{Document, Limits};

    #[test]
    fn every_condition_is_a_document_of_the_schema_rfc4825_11_2() {
        let exists = |alternatives: &[&str]| Exists {
            field: "rls-services/service/@uri".into(),
            alternatives: alternatives.iter().map(|a| (*a).to_owned()).collect(),
        };
        for (conflict, name) in [
            (Conflict::NotWellFormed("a \"b\" <c>"), "not-well-formed"),
            (Conflict::NotXmlFragment("x"), "not-xml-frag"),
            (Conflict::NoParent { ancestor: None }, "no-parent"),
            (Conflict::NoParent { ancestor: Some("a/b?x&y".into()) }, "no-parent"),
            (Conflict::SchemaValidation("x"), "schema-validation-error"),
            (Conflict::NotXmlAttributeValue, "not-xml-att-value"),
            (Conflict::CannotInsert("x"), "cannot-insert"),
            (Conflict::CannotDelete, "cannot-delete"),
            (
                Conflict::Uniqueness(vec![exists(&["sip:mybuddies@example.com"]), exists(&[])]),
                "uniqueness-failure",
            ),
            (Conflict::Constraint("x"), "constraint-failure"),
            (Conflict::NotUtf8, "not-utf-8"),
        ] {
            let text = conflict.document();
            let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
            assert!(document.root().is(namespace::ERROR, "xcap-error"), "{text}");
            let children: Vec<_> = document.root().children().collect();
            assert!(children.len() == 1 && children[0].is(namespace::ERROR, name), "{text}");
        }
    }
}
