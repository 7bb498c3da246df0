//! hither: the server that knows where people are, whether they can be reached, and how to reach them.
//!
//! A SIP registrar and proxy, a presence agent and a pager-mode message service. Bytes come in through [`transport`], become [`sip`]
//! messages, are made reliable by [`transaction`] machines that the [`endpoint`] drives, and [`dispatch`] hands each request to one service
//! ([`registrar`], [`presence`], [`messaging`], [`proxy`]). A service changes things only in the [`home`] of one address of record, in five steps: enter,
//! decide, commit, apply, act.
//!
//! The map, lowest layer first; a module uses only what stands on a lower line (a test below holds it to that):
//!
//! ```text
//! 1 sip
//! 2 model
//! 3 transaction   transport   store   availability
//! 4 endpoint   auth   home
//! 5 registrar   presence   messaging   proxy        services never import one another
//! 6 dispatch   xcap   api   config
//! 7 server   cli
//! ```

pub mod api;
pub mod auth;
pub mod availability;
pub mod cli;
pub mod config;
pub mod dispatch;
pub mod endpoint;
pub mod home;
pub mod messaging;
pub mod model;
pub mod presence;
pub mod proxy;
pub mod registrar;
pub mod server;
pub mod sip;
pub mod store;
pub mod transaction;
pub mod transport;
pub mod xcap;

#[cfg(test)]
mod layers {
    use std::path::{Path, PathBuf};

    const LAYERS: &[&[&str]] = &[
        &["sip"],
        &["model"],
        &["transaction", "transport", "store", "availability"],
        &["endpoint", "auth", "home"],
        &["registrar", "presence", "messaging", "proxy"],
        &["dispatch", "xcap", "api", "config"],
        &["server", "cli"],
    ];

    /// Modules and files that take time and randomness as arguments and wait for nothing.
    const PURE: &[&str] = &[
        "sip",
        "model",
        "transaction",
        "availability",
        "registrar/binding.rs",
        "presence/publication.rs",
        "presence/subscription.rs",
        "presence/dialog",
        "presence/pacing.rs",
        "presence/package",
        "presence/policy.rs",
        "presence/subscribe.rs",
        "presence/waiting.rs",
        "proxy/context.rs",
        "proxy/target.rs",
        "messaging/admission.rs",
        "messaging/asked.rs",
        "messaging/attempt.rs",
        "messaging/copy.rs",
        "messaging/cpim.rs",
        "messaging/cpim_write.rs",
        "messaging/device_order.rs",
        "messaging/duplicates.rs",
        "messaging/imdn.rs",
        "messaging/lanes.rs",
        "messaging/outbox.rs",
        "messaging/protection.rs",
        "proxy/outstanding.rs",
        "dispatch/route.rs",
        "xcap/address.rs",
        "xcap/conflict.rs",
        "xcap/operation.rs",
        "xcap/schema",
        "xcap/selector.rs",
        "xcap/usage.rs",
        "auth/digest.rs",
        "auth/mark.rs",
        "auth/clients.rs",
        "auth/peers.rs",
    ];

    const IMPURE_WORDS: &[&str] = &[
        "async fn",
        "tokio::",
        "sqlx::",
        "Instant::now",
        "SystemTime::now",
        ".await",
        "std::net::UdpSocket",
    ];

    fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, into);
            } else if path.extension().is_some_and(|e| e == "rs") {
                into.push(path);
            }
        }
    }

    fn all() -> Vec<(String, String)> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut paths = Vec::new();
        sources(&root, &mut paths);
        let name = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let read = |path: &PathBuf| (name(path), std::fs::read_to_string(path).unwrap());
        paths.iter().map(read).filter(|(file, _)| !is_for_tests(file)).collect()
    }

    /// Files that only unit tests use.
    fn is_for_tests(file: &str) -> bool {
        [
            "testing.rs",
            "battery.rs",
            "throwaway.rs",
            "pair.rs",
            "properties.rs",
            "torture.rs",
            "second_opinion.rs",
        ]
        .iter()
        .any(|name| file.ends_with(name))
    }

    /// The part of a file before its unit tests.
    fn production(text: &str) -> &str {
        text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text)
    }

    fn layer(module: &str) -> Option<usize> {
        LAYERS.iter().position(|line| line.contains(&module))
    }

    #[test]
    fn a_module_uses_only_lower_layers() {
        let mut wrong = Vec::new();
        for (file, text) in all() {
            let own = file.split(['/', '.']).next().unwrap();
            let Some(own_layer) = layer(own) else { continue };
            for (number, line) in
                production(&text).lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
            {
                for (at, _) in line.match_indices("crate::") {
                    let used =
                        line[at + 7..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                    match layer(used) {
                        Some(used_layer) if used != own && used_layer >= own_layer && own_layer < 5 => {
                            wrong.push(format!("{file}:{}: {own} uses {used}", number + 1));
                        }
                        Some(used_layer) if used_layer > own_layer => {
                            wrong.push(format!("{file}:{}: {own} uses {used}", number + 1));
                        }
                        _ => {}
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_module_has_its_layer() {
        for (file, _) in all() {
            let own = file.split(['/', '.']).next().unwrap();
            assert!(
                layer(own).is_some() || ["main", "lib"].contains(&own),
                "{file} has no line in the table"
            );
        }
    }

    #[test]
    fn pure_files_wait_for_nothing_and_read_no_clock() {
        let mut wrong = Vec::new();
        for (file, text) in all() {
            if !PURE.iter().any(|pure| file == *pure || file.starts_with(&format!("{pure}/"))) {
                continue;
            }
            for (number, line) in
                production(&text).lines().enumerate().filter(|(_, l)| !l.trim_start().starts_with("//"))
            {
                wrong.extend(
                    IMPURE_WORDS
                        .iter()
                        .filter(|word| line.contains(**word))
                        .map(|word| format!("{file}:{}: {word}", number + 1)),
                );
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn only_the_store_speaks_sql_and_only_documents_speak_xml() {
        for (file, text) in all().into_iter().filter(|(file, _)| file != "lib.rs") {
            let text = production(&text);
            assert!(!text.contains("sqlx") || file.starts_with("store"), "{file} uses sqlx");
            assert!(
                !text.contains("quick_xml") || file.starts_with("availability/document"),
                "{file} uses quick-xml"
            );
            assert!(!text.contains("rsip::") || file.starts_with("sip"), "{file} uses rsip");
        }
    }
}
