//! Event packages (RFC 6665 7.2), and sets of them.

use crate::model::Auid;

/// Event packages that are served. The numbers are stored; templates (RFC 6665 4.5.4, "winfo") have theirs from 16 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Package {
    /// RFC 3856.
    Presence = 1,
    /// RFC 4235.
    Dialog = 2,
    /// RFC 3842.
    MessageSummary = 3,
    /// RFC 3680.
    Reg = 4,
    /// RFC 3857, of `presence`.
    PresenceWinfo = 16,
}

impl Package {
    /// All of them, as listed in Allow-Events.
    pub const ALL: [Package; 5] =
        [Package::Presence, Package::Dialog, Package::MessageSummary, Package::Reg, Package::PresenceWinfo];
    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Package::Presence => "presence",
            Package::Dialog => "dialog",
            Package::MessageSummary => "message-summary",
            Package::Reg => "reg",
            Package::PresenceWinfo => "presence.winfo",
        }
    }
    /// Exact token match (RFC 6665 8.2.1); old linphone sends `Presence`, so ASCII case is ignored.
    pub fn parse(token: &str) -> Option<Package> {
        Package::ALL.into_iter().find(|p| p.as_str().eq_ignore_ascii_case(token))
    }
    /// From its number, as stored.
    pub fn from_number(number: u8) -> Option<Package> {
        Package::ALL.into_iter().find(|p| *p as u8 == number)
    }
}

/// A set of packages, as a hint about which watchers may have something to hear: one too many costs a look, one too few a NOTIFY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packages(u32);

impl Packages {
    /// None.
    pub const NONE: Packages = Packages(0);
    /// Every one there is or will be.
    pub const ALL: Packages = Packages(u32::MAX);
    /// Those whose documents show bindings.
    pub const SHOWING_BINDINGS: Packages = Packages::of(&[Package::Presence, Package::Dialog, Package::Reg]);
    /// Those whose documents show how many messages wait.
    pub const SHOWING_MESSAGES: Packages = Packages::of(&[Package::MessageSummary]);
    /// Those whose documents show who watches.
    pub const SHOWING_WATCHERS: Packages = Packages::of(&[Package::PresenceWinfo]);
    /// Those whose documents hang on who else watches whom (the reciprocal rule).
    pub const SHOWN_TO_OTHERS: Packages = Packages::of(&[Package::Presence, Package::Dialog]);
    /// Those for which presence rules decide who sees what (RFC 5025).
    pub const RULED: Packages = Packages::of(&[Package::Presence, Package::Dialog]);

    /// These.
    pub const fn of(packages: &[Package]) -> Packages {
        let (mut set, mut at) = (0, 0);
        while at < packages.len() {
            set |= 1 << packages[at] as u8;
            at += 1;
        }
        Packages(set)
    }
    /// Those whose documents show what is published in this package.
    pub const fn showing_publications_of(package: Package) -> Packages {
        match package {
            Package::Presence => Packages::of(&[Package::Presence]),
            // Who is in a call is on the phone.
            Package::Dialog => Packages::of(&[Package::Dialog, Package::Presence]),
            Package::MessageSummary => Packages::of(&[Package::MessageSummary]),
            Package::Reg | Package::PresenceWinfo => Packages::NONE,
        }
    }
    /// Those whose documents hang on documents of this application.
    pub fn moved_by(auid: &Auid) -> Packages {
        match auid {
            Auid::PresRules => Packages::RULED,
            Auid::PidfManipulation => Packages::showing_publications_of(Package::Presence),
            Auid::ResourceLists | Auid::RlsServices | Auid::Other(_) => Packages::NONE,
        }
    }
    /// Both.
    pub const fn and(self, other: Packages) -> Packages {
        Packages(self.0 | other.0)
    }
    /// Is it one of them?
    pub const fn has(self, package: Package) -> bool {
        self.0 & 1 << package as u8 != 0
    }
    /// None at all?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Every number has its bit.
const _: () = {
    let mut at = 0;
    while at < Package::ALL.len() {
        assert!((Package::ALL[at] as u8) < 32);
        at += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_numbers_name_one_package_each_rfc6665_8_2_1() {
        for package in Package::ALL {
            assert_eq!(Package::parse(package.as_str()), Some(package));
            assert_eq!(Package::from_number(package as u8), Some(package));
            assert!(Packages::of(&[package]).has(package) && !Packages::NONE.has(package));
            assert!(Packages::ALL.has(package) && !Packages::of(&[package]).is_empty());
        }
        assert_eq!((Package::parse("presence.x"), Package::from_number(0)), (None, None));
    }
}
