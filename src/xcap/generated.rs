//! Documents that the server makes when somebody asks: what it can, and which documents a user has.

use aws_lc_rs::digest::{SHA256, digest};

use crate::availability::document::edit::escaped;
use crate::model::{Documents, EntityTag};
use crate::xcap::selector::encoded;
use crate::xcap::usage::{Usage, namespace};

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// `xcap-caps/global/index` (RFC 4825 12): applications and namespaces that are known here; there are no extensions.
pub fn capabilities() -> String {
    let element = |name: &str, text: &str| format!("    <{name}>{}</{name}>\n", escaped(text));
    let auids: String = Usage::ALL.iter().map(|usage| element("auid", usage.auid())).collect();
    let namespaces: String = namespace::KNOWN.iter().map(|uri| element("namespace", uri)).collect();
    format!(
        "{DECLARATION}<xcap-caps xmlns=\"{}\">\n  <auids>\n{auids}  </auids>\n  <extensions/>\n  <namespaces>\n{namespaces}  \
         </namespaces>\n</xcap-caps>\n",
        namespace::CAPS
    )
}

/// `org.openmobilealliance.xcap-directory/users/XUI/directory.xml`: every document of one user (OMA XDM 2.0 6.7.2).
///
/// - `root`: the path of the XCAP root.
/// - `user`: the XUI as it was asked for, decoded.
pub fn directory(root: &str, user: &str, documents: &Documents) -> String {
    let mut text = format!("{DECLARATION}<xcap-directory xmlns=\"{}\">\n", namespace::DIRECTORY);
    let kept = Usage::ALL.into_iter().filter_map(|usage| usage.kept_as().map(|auid| (usage, auid)));
    for (usage, auid) in kept {
        let mut entries = String::new();
        for document in documents.of(&auid) {
            let name = encoded(&document.name.name);
            let uri = format!("{root}/{}/users/{}/{name}", usage.auid(), encoded(user));
            entries.push_str(&format!(
                "    <entry uri=\"{}\" etag=\"{}\" last-modified=\"{}\" size=\"{}\"/>\n",
                escaped(&uri),
                document.tag,
                document.modified_at.rfc3339(),
                document.body.len()
            ));
        }
        if !entries.is_empty() {
            text.push_str(&format!("  <folder auid=\"{}\">\n{entries}  </folder>\n", usage.auid()));
        }
    }
    text.push_str("</xcap-directory>\n");
    text
}

/// A tag that changes with the text, for what is not stored.
pub fn tag(text: &str) -> EntityTag {
    let hash = digest(&SHA256, text.as_bytes());
    EntityTag(hash.as_ref().iter().take(16).fold(0, |tag, byte| tag << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::availability::document::xml::{Document, Limits};
    use crate::model::{Aor, Auid, DocumentName, Timestamp};

    #[test]
    fn the_capabilities_name_themselves_rfc4825_12() {
        let text = capabilities();
        let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
        assert!(document.root().is(namespace::CAPS, "xcap-caps"));
        let children: Vec<_> = document.root().children().collect();
        // The order of 12.2.
        let names: Vec<_> = children.iter().map(|child| child.local()).collect();
        assert_eq!(names, ["auids", "extensions", "namespaces"]);
        assert!(children[0].children().any(|auid| auid.text() == "xcap-caps"));
        assert!(children[2].children().any(|uri| uri.text() == namespace::CAPS));
    }

    #[test]
    fn the_directory_names_every_document_with_its_tag() {
        let mut documents = Documents::default();
        let put = |documents: &mut Documents, auid, name: &str| {
            documents.put(&Arc::new(crate::model::Document {
                owner: Aor::new("alice", "example.org").unwrap(),
                name: DocumentName::new(auid, name),
                tag: EntityTag(7),
                content_type: "application/auth-policy+xml".into(),
                body: Bytes::from_static(b"<a/>"),
                modified_at: Timestamp(0),
                said: Default::default(),
            }));
        };
        put(&mut documents, Auid::PresRules, "a&b c");
        put(&mut documents, Auid::Other("foreign".into()), "index");
        let text = directory("/root", "sip:alice@example.org", &documents);
        let document = Document::read(text.as_bytes(), &Limits::PUBLISHED).unwrap();
        let folders: Vec<_> = document.root().children().collect();
        assert_eq!((folders.len(), folders[0].attribute("auid")), (1, Some("pres-rules")));
        let entry = folders[0].children().next().unwrap();
        assert_eq!(entry.attribute("uri"), Some("/root/pres-rules/users/sip:alice@example.org/a&b%20c"));
        assert_eq!(entry.attribute("etag"), Some(EntityTag(7).to_string().as_str()));
        assert_ne!(tag("a"), tag("b"));
    }
}
