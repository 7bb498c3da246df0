//! The application usages that are known here, and what each says of its documents (RFC 4825 5).

use crate::availability::document::xml::{Document, Limits};
use crate::availability::hard_state;
use crate::model::{Aor, Auid};
use crate::xcap::conflict::Conflict;
use crate::xcap::schema::{pidf, pres_rules, resource_lists, rls_services};

/// An application usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Who may see what (RFC 5025 9).
    PresRules,
    /// Lists of people (RFC 4826 3.4).
    ResourceLists,
    /// Lists that can be subscribed to (RFC 4826 4.4).
    RlsServices,
    /// Presence set by hand (RFC 4827).
    PidfManipulation,
    /// What this server can (RFC 4825 12).
    Caps,
    /// Which documents a user has (OMA XML Document Management, xcap-directory).
    Directory,
}

impl Usage {
    /// All of them, in the order in which they are told.
    pub const ALL: [Usage; 6] = [
        Usage::Caps,
        Usage::ResourceLists,
        Usage::RlsServices,
        Usage::PresRules,
        Usage::PidfManipulation,
        Usage::Directory,
    ];

    /// From the first segment of a URI.
    pub fn parse(auid: &str) -> Option<Usage> {
        Usage::ALL.into_iter().find(|usage| usage.auid() == auid)
    }

    /// Its id.
    pub fn auid(self) -> &'static str {
        match self {
            Usage::PresRules => "pres-rules",
            Usage::ResourceLists => "resource-lists",
            Usage::RlsServices => "rls-services",
            Usage::PidfManipulation => "pidf-manipulation",
            Usage::Caps => "xcap-caps",
            Usage::Directory => "org.openmobilealliance.xcap-directory",
        }
    }

    /// What its documents are kept as; `None`: they are made when somebody asks, and nobody writes them.
    pub fn kept_as(self) -> Option<Auid> {
        match self {
            Usage::PresRules => Some(Auid::PresRules),
            Usage::ResourceLists => Some(Auid::ResourceLists),
            Usage::RlsServices => Some(Auid::RlsServices),
            Usage::PidfManipulation => Some(Auid::PidfManipulation),
            Usage::Caps | Usage::Directory => None,
        }
    }

    /// The media type of its documents.
    pub fn media_type(self) -> &'static str {
        match self {
            Usage::PresRules => "application/auth-policy+xml",
            Usage::ResourceLists => "application/resource-lists+xml",
            Usage::RlsServices => "application/rls-services+xml",
            Usage::PidfManipulation => "application/pidf+xml",
            Usage::Caps => "application/xcap-caps+xml",
            Usage::Directory => "application/vnd.oma.xcap-directory+xml",
        }
    }

    /// May a document of a user have this name? Some applications have one document alone.
    pub fn has(self, name: &str) -> bool {
        match self {
            Usage::PidfManipulation => name == hard_state::NAME,
            Usage::PresRules | Usage::ResourceLists | Usage::RlsServices | Usage::Caps | Usage::Directory => {
                true
            }
        }
    }

    /// The namespace of element names without prefix in URIs (5.2).
    pub fn namespace(self) -> &'static str {
        match self {
            Usage::PresRules => namespace::PRES_RULES,
            Usage::ResourceLists => namespace::RESOURCE_LISTS,
            Usage::RlsServices => namespace::RLS_SERVICES,
            Usage::PidfManipulation => namespace::PIDF,
            Usage::Caps => namespace::CAPS,
            Usage::Directory => namespace::DIRECTORY,
        }
    }

    /// May a document be what it is (RFC 4825 8.2.5)? Schema first, then what is to be unique, then other constraints.
    ///
    /// - `owner`: whose tree it is in.
    ///
    /// # Errors
    /// The conflict to be told.
    pub fn validate(self, document: &Document<'_>, owner: &Aor) -> Result<(), Conflict> {
        match self {
            Usage::PresRules => pres_rules::validate(document.root()),
            Usage::ResourceLists => resource_lists::validate(document.root()),
            Usage::RlsServices => rls_services::validate(document.root(), owner),
            Usage::PidfManipulation => pidf::validate(document.root(), owner),
            Usage::Caps | Usage::Directory => {
                Err(Conflict::Constraint("this document is made by the server"))
            }
        }
    }
}

/// Namespaces of the documents here.
pub mod namespace {
    /// RFC 4745 13
    pub const COMMON_POLICY: &str = "urn:ietf:params:xml:ns:common-policy";
    /// RFC 5025 7
    pub const PRES_RULES: &str = "urn:ietf:params:xml:ns:pres-rules";
    /// RFC 4826 3.1
    pub const RESOURCE_LISTS: &str = "urn:ietf:params:xml:ns:resource-lists";
    /// RFC 4826 4.1
    pub const RLS_SERVICES: &str = "urn:ietf:params:xml:ns:rls-services";
    /// RFC 3863 3.2
    pub const PIDF: &str = "urn:ietf:params:xml:ns:pidf";
    /// RFC 4479 6.1
    pub const DATA_MODEL: &str = "urn:ietf:params:xml:ns:pidf:data-model";
    /// RFC 4825 12.3
    pub const CAPS: &str = "urn:ietf:params:xml:ns:xcap-caps";
    /// RFC 4825 11.2
    pub const ERROR: &str = "urn:ietf:params:xml:ns:xcap-error";
    /// OMA
    pub const DIRECTORY: &str = "urn:oma:xml:xdm:xcap-directory";

    /// Those whose schemas are known here, so that what they do not have is refused (RFC 4825 8.2.5 and 12).
    pub const KNOWN: [&str; 7] =
        [CAPS, RESOURCE_LISTS, RLS_SERVICES, COMMON_POLICY, PRES_RULES, PIDF, DATA_MODEL];
}

/// How much of a stored document is believed: a list of a thousand people is some 120 KiB.
pub const LIMITS: Limits = Limits::STORED;
