//! The configuration: one typed tree from a TOML file and the environment.
//!
//! `domain` alone is a complete configuration; every other key has a default. `HITHER__SECTION__KEY` variables stand above
//! the file. Unknown keys, wrong types and values out of range are refused with the key, where it came from and what
//! would be right. `docker/hither.toml` shows every key with its default.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::Redacted;
use crate::store::Target;
use crate::transport::ListenerConfig;

mod check;
mod error;
mod host;
mod section;
mod source;
mod value;

pub use error::{ConfigError, Origin, Problem, Wrong};
pub use section::{
    Auth, Contact, Dns, Http, Limits, Log, LogFormat, Messaging, Peer, Presence, Proxy, Publication,
    Registration, Server, Subscription,
};
pub use value::{Listen, NameServer, Net};

/// Everything that can be set.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The domain whose users live here: a host name, or an address where there is no name. Also the realm of every
    /// password, so changing it means setting all passwords again. Required. Example: `domain = "example.org"`.
    pub domain: String,
    /// Other domains and host names that mean this server too. Default: none. Example: `aliases = ["sip.example.org"]`.
    pub aliases: Vec<String>,
    /// Where accounts, registrations and presence are kept: `sqlite:FILE` or `postgres://user:password@host/name`.
    /// Example: `database = "postgres://hither:secret@db/hither"`.
    pub database: String,
    /// Unix socket on which `hither user` and `hither status` reach the running server.
    /// Example: `control_socket = "/run/hither/hither.sock"`.
    pub control_socket: PathBuf,
    /// Value of the Server header (RFC 3261 20.35); `""` sends none. Names no version unless told so.
    /// Example: `server_header = "example gateway"`.
    #[serde(with = "value::optional_text")]
    pub server_header: Option<String>,
    /// Where SIP is spoken: `udp` and `tcp` on port 5060 of every address.
    /// Example: `listen = ["udp:0.0.0.0:5060", { listen = "tcp:0.0.0.0:5060", advertise = "sip.example.org:5060" }]`.
    pub listen: Vec<Listen>,
    /// Machines that are believed without a password: a mailbox, a telephone system. Default: none.
    /// Example: `peers = [{ name = "mailbox", addresses = ["192.0.2.40"], publish = ["message-summary"] }]`.
    pub peers: Vec<Peer>,
    /// How the machine is used.
    pub server: Server,
    /// What is logged, and how.
    pub log: Log,
    /// REGISTER.
    pub registration: Registration,
    /// SUBSCRIBE.
    pub subscription: Subscription,
    /// PUBLISH.
    pub publication: Publication,
    /// Who sees whom, and how often watchers are told.
    pub presence: Presence,
    /// MESSAGE.
    pub messaging: Messaging,
    /// Digest authentication.
    pub auth: Auth,
    /// Forwarding of calls.
    pub proxy: Proxy,
    /// Sizes, numbers and deadlines of messages and connections.
    pub limits: Limits,
    /// Where registered devices may be.
    pub contact: Contact,
    /// How names of hosts are looked up.
    pub dns: Dns,
    /// XCAP over HTTP.
    pub http: Http,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            domain: String::new(),
            aliases: Vec::new(),
            database: "sqlite:hither.sqlite".into(),
            control_socket: "hither.sock".into(),
            server_header: Some("hither".into()),
            listen: Listen::everywhere(SIP_PORT),
            peers: Vec::new(),
            server: Server::default(),
            log: Log::default(),
            registration: Registration::default(),
            subscription: Subscription::default(),
            publication: Publication::default(),
            presence: Presence::default(),
            messaging: Messaging::default(),
            auth: Auth::default(),
            proxy: Proxy::default(),
            limits: Limits::default(),
            contact: Contact::default(),
            dns: Dns::default(),
            http: Http::default(),
        }
    }
}

impl Config {
    /// Reads `path` (if given), lays the `HITHER__` variables of `environment` over it and checks the whole.
    ///
    /// # Errors
    /// [`ConfigError`]: the file cannot be read or is not TOML, or the list of everything that is wrong in it.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let text = match path {
            Some(path) => Some((
                path,
                std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.into(), source })?,
            )),
            None => None,
        };
        let file = text.as_ref().map(|(path, text)| (*path, text.as_str()));
        source::resolve(&Config::default(), file, environment)
    }

    /// The configuration of `hither --dev`: an embedded store and the control socket in `dir`, the standard listeners on
    /// `port`. Variables of the environment stand above it, as always.
    ///
    /// # Errors
    /// [`ConfigError`] if `domain` or a variable is not acceptable.
    pub fn dev(
        dir: &Path,
        domain: &str,
        port: u16,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let base = Config {
            domain: domain.into(),
            database: format!("sqlite:{}", dir.join("hither.sqlite").display()),
            control_socket: dir.join("hither.sock"),
            listen: Listen::everywhere(port),
            ..Config::default()
        };
        source::resolve(&base, None, environment)
    }

    /// Which database `database` means.
    pub fn target(&self) -> Target {
        match self.database.strip_prefix("sqlite:") {
            Some(file) => Target::Sqlite(file.into()),
            None => Target::Postgres(Redacted(self.database.clone())),
        }
    }

    /// The listeners as transport wants them.
    pub fn listeners(&self) -> Vec<ListenerConfig> {
        let one = |listen: &Listen| ListenerConfig {
            transport: listen.transport,
            bind: listen.bind,
            advertise: listen.advertise.clone(),
        };
        self.listen.iter().map(one).collect()
    }

    /// Is this host (as in a URI: name in any case, or address, IPv6 in brackets) the domain or one of its aliases?
    pub fn is_our_domain(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.domain.eq_ignore_ascii_case(host) || self.aliases.iter().any(|a| a.eq_ignore_ascii_case(host))
    }

    /// The effective configuration as TOML, every key named, the password of the database left out.
    pub fn to_toml(&self) -> String {
        let shown = Config { database: value::without_password(&self.database), ..self.clone() };
        toml::to_string(&shown).unwrap_or_else(|error| format!("# cannot be shown: {error}\n"))
    }

    /// Settings that are allowed but that an operator should know about.
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_toml())
    }
}

const SIP_PORT: u16 = 5060;

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> std::iter::Empty<(String, String)> {
        std::iter::empty()
    }

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hither.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn domain_alone_is_a_complete_configuration() {
        let (_dir, path) = written("domain = \"Example.ORG\"");
        let config = Config::load(Some(&path), none()).unwrap();
        assert_eq!(config, Config { domain: "example.org".into(), ..Config::default() });
        assert_eq!(config.target(), Target::Sqlite("hither.sqlite".into()));
        assert_eq!(config.listeners().len(), 4);
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Some(Path::new("/nowhere/hither.toml")), none()).unwrap_err().to_string();
        assert!(error.contains("/nowhere/hither.toml"), "{error}");
    }

    #[test]
    fn what_is_not_toml_is_refused_with_its_place() {
        let (_dir, path) = written("domain = \"example.org\"\nlisten = [");
        let error = Config::load(Some(&path), none()).unwrap_err().to_string();
        assert!(error.contains("hither.toml") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let text = include_str!("../../docker/hither.toml");
        let (_dir, path) = written(text);
        let expected = Config { domain: "example.org".into(), ..Config::default() };
        assert_eq!(Config::load(Some(&path), none()).unwrap(), expected);

        let example: toml::Table = text.parse().unwrap();
        let every = toml::Table::try_from(&expected).unwrap();
        for (name, value) in &every {
            assert!(example.contains_key(name), "{name} is not in the example");
            for key in value.as_table().into_iter().flatten().map(|(key, _)| key) {
                assert!(example[name].get(key).is_some(), "{name}.{key} is not in the example");
            }
        }
    }

    #[test]
    fn what_is_shown_loads_again_as_the_same() {
        let shown = Config { domain: "example.org".into(), ..Config::default() };
        let (_dir, path) = written(&shown.to_toml());
        assert_eq!(Config::load(Some(&path), none()).unwrap(), shown);

        let advertise = Some(("sip.example.org".into(), Some(5060)));
        let listen =
            shown.listen.iter().map(|l| Listen { advertise: advertise.clone(), ..l.clone() }).collect();
        let peers = vec![Peer {
            name: "mailbox".into(),
            addresses: vec!["192.0.2.40".parse().unwrap(), "2001:db8::/64".parse().unwrap()],
            udp: true,
            publish: vec![crate::model::Package::MessageSummary],
            assert_identity: false,
            read_services: false,
        }];
        let shown = Config { listen, peers, server_header: None, ..shown };
        let (_dir, path) = written(&shown.to_toml());
        assert_eq!(Config::load(Some(&path), none()).unwrap(), shown);
    }

    #[test]
    fn the_password_of_the_database_is_never_shown() {
        let config = Config {
            domain: "example.org".into(),
            database: "postgres://hither:s3cret@db:5432/hither?password=s3cret".into(),
            ..Config::default()
        };
        assert!(!config.to_toml().contains("s3cret"), "{}", config.to_toml());
        assert!(!format!("{config:?} {:?}", config.target()).contains("s3cret"));
        assert!(config.to_toml().contains("postgres://hither:redacted@db:5432/hither?redacted"));
    }

    #[test]
    fn aliases_are_ours_in_any_case() {
        let aliases = vec!["sip.example.org".into(), "[2001:db8::1]".into()];
        let config = Config { domain: "example.org".into(), aliases, ..Config::default() };
        assert!(config.is_our_domain("EXAMPLE.org."));
        assert!(config.is_our_domain("SIP.example.org"));
        assert!(config.is_our_domain("[2001:DB8::1]"));
        assert!(!config.is_our_domain("evil-example.org"));
    }

    #[test]
    fn dev_keeps_everything_in_its_directory() {
        let config = Config::dev(Path::new("hither-dev"), "192.0.2.7", 5070, none()).unwrap();
        assert_eq!(config.target(), Target::Sqlite("hither-dev/hither.sqlite".into()));
        assert_eq!(config.control_socket, Path::new("hither-dev/hither.sock"));
        assert!(config.listen.iter().all(|listen| listen.bind.port() == 5070));
        let over = [("HITHER__LOG__FILTER".to_owned(), "debug".to_owned())].into_iter();
        assert_eq!(Config::dev(Path::new("x"), "192.0.2.7", 5070, over).unwrap().log.filter, "debug");
    }
}
