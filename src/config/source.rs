//! From a file and the environment to one checked tree, knowing for every value who set it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use crate::config::error::{ConfigError, Origin, Problem, Wrong};
use crate::config::{Config, check};

/// Lays `file` (path and text) over `base`, the `HITHER__` variables over both, and checks the outcome.
///
/// # Errors
/// `Syntax` if the file is not TOML, else `Problems` with everything that is wrong.
pub(super) fn resolve(
    base: &Config,
    file: Option<(&Path, &str)>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let known = Table::try_from(base).map_err(internal)?;
    let mut layers = Layers { merged: known.clone(), known, origins: BTreeMap::new(), problems: Vec::new() };
    if let Some((path, text)) = file {
        let table: Table = text
            .parse()
            .map_err(|source| ConfigError::Syntax { path: path.into(), source: Box::new(source) })?;
        layers.lay_table(&table, &mut Vec::new(), &Origin::File(path.into()));
    }
    // In a fixed order, so that the same mistakes give the same text.
    let variables: BTreeMap<String, String> =
        environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    for (name, text) in &variables {
        layers.lay_variable(name, text);
    }
    let Layers { merged, origins, mut problems, .. } = layers;
    let mut config = Config::deserialize(merged).map_err(internal)?;
    for found in check::check(&mut config) {
        let key = found.keys.iter().find(|key| origins.contains_key(**key)).or(found.keys.first());
        let key = key.map_or("", |key| *key);
        let origin = origins.get(key).cloned().unwrap_or(Origin::Default);
        problems.push(Problem { origin, key: key.into(), wrong: Wrong::Value(found.reason) });
    }
    if problems.is_empty() { Ok(config) } else { Err(ConfigError::Problems(problems)) }
}

struct Layers {
    /// The tree of all keys that exist, with values of the right types.
    known: Table,
    /// What holds so far: always readable as a [`Config`].
    merged: Table,
    /// Who set which dotted key.
    origins: BTreeMap<String, Origin>,
    problems: Vec<Problem>,
}

impl Layers {
    fn lay_table(&mut self, table: &Table, path: &mut Vec<String>, origin: &Origin) {
        for (name, value) in table {
            path.push(name.clone());
            match (at(&self.known, path), value) {
                (Some(Value::Table(_)), Value::Table(inner)) => self.lay_table(inner, path, origin),
                _ => self.lay_value(path, value.clone(), origin),
            }
            path.pop();
        }
    }

    fn lay_variable(&mut self, name: &str, text: &str) {
        let path: Vec<String> =
            name[PREFIX.len()..].split("__").map(|part| part.to_ascii_lowercase()).collect();
        let value = match at(&self.known, &path) {
            Some(Value::Integer(_)) => text.trim().parse().map(Value::Integer).ok(),
            Some(Value::Boolean(_)) => text.trim().parse().map(Value::Boolean).ok(),
            Some(Value::Array(_)) => Some(list(text)),
            _ => None,
        };
        let value = value.unwrap_or_else(|| Value::String(text.into()));
        self.lay_value(&path, value, &Origin::Variable(name.into()));
    }

    fn lay_value(&mut self, path: &[String], value: Value, origin: &Origin) {
        let key = path.join(".");
        let wrong = match at(&self.known, path) {
            None => Some(Wrong::Unknown { nearest: self.nearest(&key, origin) }),
            Some(known) if known.type_str() != value.type_str() => {
                Some(Wrong::Kind { expected: kind(known), found: kind(&value) })
            }
            // Alone in a tree of defaults, so that what is wrong is wrong with this key.
            Some(_) => match Config::deserialize(nested(path, value.clone())) {
                Ok(_) => None,
                Err(error) => Some(Wrong::Value(reason(error.message()))),
            },
        };
        match wrong {
            Some(wrong) => self.problems.push(Problem { origin: origin.clone(), key, wrong }),
            None => {
                put(&mut self.merged, path, value);
                self.origins.insert(key, origin.clone());
            }
        }
    }

    /// The known key that looks most like this one, whole or by its last part (the section may be what was forgotten).
    fn nearest(&self, key: &str, origin: &Origin) -> Option<String> {
        let mut all = Vec::new();
        dotted(&self.known, "", &mut all);
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
        let distance = |known: &String| {
            let whole = strsim::damerau_levenshtein(key, known);
            whole.min(strsim::damerau_levenshtein(&last(key), &last(known)).saturating_add(1))
        };
        let nearest = all.into_iter().min_by_key(distance)?;
        if distance(&nearest) > (last(key).len() / 2).max(3) {
            return None;
        }
        Some(match origin {
            Origin::Variable(_) => format!("{PREFIX}{}", nearest.replace('.', "__").to_ascii_uppercase()),
            Origin::File(_) | Origin::Default => nearest,
        })
    }
}

/// A TOML array, or values between commas.
fn list(text: &str) -> Value {
    if text.trim_start().starts_with('[')
        && let Ok(mut table) = format!("it = {text}").parse::<Table>()
        && let Some(value @ Value::Array(_)) = table.remove("it")
    {
        return value;
    }
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    Value::Array(parts.map(|part| Value::String(part.into())).collect())
}

fn at<'a>(table: &'a Table, path: &[String]) -> Option<&'a Value> {
    let (last, sections) = path.split_last()?;
    sections.iter().try_fold(table, |table, name| table.get(name)?.as_table())?.get(last)
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        table.insert(first.clone(), value);
    } else if let Some(inner) =
        table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new())).as_table_mut()
    {
        put(inner, rest, value);
    }
}

fn nested(path: &[String], value: Value) -> Table {
    let mut table = Table::new();
    put(&mut table, path, value);
    table
}

fn dotted(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        if let Value::Table(inner) = value {
            dotted(inner, &format!("{key}."), into);
        }
        into.push(key);
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number with a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    }
}

/// Our own texts begin with a verb and stand as they are; those of the deserialiser get one.
fn reason(message: &str) -> String {
    let own = ["is ", "holds ", "advertises "].iter().any(|verb| message.starts_with(verb));
    if own { message.into() } else { format!("cannot be read: {message}") }
}

fn internal(error: impl std::fmt::Display) -> ConfigError {
    ConfigError::Problems(vec![Problem {
        origin: Origin::Default,
        key: "configuration".into(),
        wrong: Wrong::Value(format!("cannot be read: {error}")),
    }])
}

/// What our variables begin with.
const PREFIX: &str = "HITHER__";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        resolve(&Config::default(), Some((Path::new("hither.toml"), text)), environment)
            .map_err(|error| error.to_string())
    }

    fn refused(text: &str) -> String {
        load(&format!("domain = \"example.org\"\n{text}"), &[]).unwrap_err()
    }

    #[test]
    fn unknown_keys_are_refused_with_the_nearest_known_one() {
        let said = refused("[registration]\nmin_interval = 60");
        assert_eq!(
            said,
            "hither.toml: `registration.min_interval` is not a known key; did you mean `registration.min_interval_s`?"
        );
        assert!(refused("databse = \"x\"").contains("did you mean `database`?"));
        assert!(refused("[registraton]\nmax_bindings = 1").contains("did you mean `registration`?"));
        assert!(refused("max_forks = 3").contains("did you mean `proxy.max_forks`?"));
        assert!(refused("qqqqqqqqqqqq = 3").ends_with("is not a known key"));
    }

    #[test]
    fn unknown_variables_are_refused_with_the_nearest_known_one() {
        let said =
            load("", &[("HITHER__DOMIAN", "example.org"), ("HITHER__DOMAIN", "example.org")]).unwrap_err();
        assert_eq!(
            said,
            "environment variable HITHER__DOMIAN: `domian` is not a known key; did you mean `HITHER__DOMAIN`?"
        );
    }

    #[test]
    fn everything_wrong_is_told_at_once() {
        let said = refused("databse = \"x\"\nlisten = 7\n[proxy]\nmax_forks = 0");
        assert_eq!(said.lines().count(), 3, "{said}");
    }

    #[test]
    fn a_peer_may_nothing_unless_it_is_said() {
        let text = "domain = \"example.org\"\n[[peers]]\nname = \"mailbox\"\naddresses = [\"192.0.2.40\"]\n";
        let config = load(text, &[]).unwrap();
        let peer = &config.peers[0];
        assert!(!peer.udp && !peer.assert_identity && peer.publish.is_empty());
        let said = load(&format!("{text}publish = [\"weather\"]"), &[]).unwrap_err();
        assert!(said.contains("holds `weather`; the event packages are `presence`"), "{said}");
        let said = load(&format!("{text}everything = true"), &[]).unwrap_err();
        assert!(said.contains("peers") && said.contains("everything"), "{said}");
    }

    #[test]
    fn variables_stand_above_the_file() {
        let text = "domain = \"example.org\"\n[registration]\nmin_interval_s = 30";
        let environment = [
            ("HITHER__DOMAIN", "example.com"),
            ("HITHER__REGISTRATION__MIN_INTERVAL_S", "5"),
            ("HITHER__MESSAGING__ENABLED", "false"),
            ("HITHER__PRESENCE__DEFAULT_RULE", "full"),
            ("HITHER__SERVER_HEADER", ""),
            ("HITHER__ALIASES", "a.example, b.example"),
            ("PATH", "/bin"),
        ];
        let config = load(text, &environment).unwrap();
        assert_eq!(config.domain, "example.com");
        assert_eq!(config.registration.min_interval_s, 5);
        assert!(!config.messaging.enabled);
        assert_eq!(config.presence.default_rule, crate::availability::view::DomainDefault::Full);
        assert_eq!(config.server_header, None);
        assert_eq!(config.aliases, ["a.example", "b.example"]);
    }

    #[test]
    fn lists_in_variables_are_commas_or_toml() {
        let commas = [("HITHER__DOMAIN", "a.example"), ("HITHER__LISTEN", "udp:127.0.0.1:0,tcp:[::1]:0")];
        let config = load("", &commas).unwrap();
        assert_eq!(config.listen.len(), 2);
        let literal = [
            ("HITHER__DOMAIN", "a.example"),
            ("HITHER__LISTEN", "[{ listen = \"tcp:127.0.0.1:0\", advertise = \"sip.a.example\" }]"),
        ];
        let config = load("", &literal).unwrap();
        assert_eq!(config.listen[0].transport, Transport::Tcp);
        assert_eq!(config.listen[0].advertise, Some(("sip.a.example".into(), None)));
        let servers = [("HITHER__DOMAIN", "a.example"), ("HITHER__DNS__SERVERS", "192.0.2.53,[::1]:5353")];
        let servers = load("", &servers).unwrap().dns.addresses();
        assert_eq!(servers, ["192.0.2.53:53".parse().unwrap(), "[::1]:5353".parse().unwrap()]);
        let empty = [("HITHER__DOMAIN", "a.example"), ("HITHER__CONTACT__DENY", "")];
        assert!(load("", &empty).unwrap().contact.deny.is_empty());
    }

    #[test]
    fn variables_of_the_wrong_type_are_refused() {
        let said =
            load("", &[("HITHER__DOMAIN", "a.example"), ("HITHER__PROXY__MAX_FORKS", "many")]).unwrap_err();
        assert_eq!(
            said,
            "environment variable HITHER__PROXY__MAX_FORKS: `proxy.max_forks` must be a whole number, not text"
        );
        let said = load("", &[("HITHER__DOMAIN", "a.example"), ("HITHER__PROXY", "x")]).unwrap_err();
        assert!(said.contains("`proxy` must be a section, not text"), "{said}");
    }

    #[test]
    fn wrong_types_are_refused_in_plain_words() {
        assert!(refused("listen = 7").contains("`listen` must be a list, not a whole number"));
        assert!(refused("proxy = 7").contains("`proxy` must be a section, not a whole number"));
        assert!(refused("[proxy]\nmax_forks = \"3\"").contains("must be a whole number, not text"));
        assert!(refused("[messaging]\nenabled = 1").contains("must be true or false, not a whole number"));
        assert!(refused("[proxy]\nmax_forks = -1").contains("`proxy.max_forks` cannot be read"));
        assert!(refused("listen = [7]").contains("udp:0.0.0.0:5060"));
        assert!(
            refused("listen = [{ listen = \"udp:0.0.0.0:0\", advertize = \"x\" }]").contains("advertize")
        );
    }

    #[test]
    fn values_that_mean_nothing_are_refused_with_what_would() {
        assert!(refused("listen = [\"udp:x\"]").contains("as in `udp:0.0.0.0:5060`"));
        assert!(
            refused("listen = [{ listen = \"udp:0.0.0.0:0\", advertise = \"a b\" }]")
                .contains("advertises `a b`")
        );
        assert!(
            refused("[presence]\ndefault_rule = \"all\"")
                .contains("`presence.default_rule` is `all`; it must be")
        );
        assert!(
            refused("[auth]\nalgorithms = [\"SHA-1\"]")
                .contains("the algorithms are `SHA-512-256`, `SHA-256`, `MD5`")
        );
        assert!(refused("[log]\nformat = \"xml\"").contains("unknown variant `xml`"));
        assert!(refused("[contact]\ndeny = [\"10/8\"]").contains("as in `10.0.0.0/8`"));
        assert!(
            refused("[dns]\nservers = [\"ns1\"]").contains("`dns.servers` holds `ns1`; a name server is")
        );
    }

    #[test]
    fn a_missing_domain_is_said_so() {
        let said = load("", &[]).unwrap_err();
        assert!(said.contains("`domain` is not set"), "{said}");
    }
}
