//! Other people's programs against a server: SIPp, baresip, linphone. Each test says so and passes where its program
//! is not installed; with `CI=true` SIPp and baresip must be there.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use crate::harness::documents::{basics, cpim};
use crate::harness::phone::{aor, unique, user_of};
use crate::harness::presence::befriend;
use crate::harness::server::password_of;
use crate::harness::{DOMAIN, Database, Phone, Server, Transport};

/// Whether a program can be run; a missing one that `required` names is a failure where `CI=true`.
fn installed(program: &str, required: bool) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()));
    if !found {
        assert!(
            !required || std::env::var("CI").as_deref() != Ok("true"),
            "{program} is missing, and CI=true"
        );
        println!("SKIPPED: {program} is not installed");
    }
    found
}

fn scenario_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-tests/foreign").join(name)
}

/// A port that is free for UDP and TCP, below those that the system gives to sockets without one: between this look and
/// the program's start nobody is handed it by chance.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    (0..1000)
        .map(|_| std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
        .filter_map(|number| u16::try_from(20_000 + number % 12_000).ok())
        .find(|port| {
            UdpSocket::bind(("0.0.0.0", *port)).is_ok() && TcpListener::bind(("0.0.0.0", *port)).is_ok()
        })
        .expect("a free port")
}

/// SIPp with one of our scenario files; a watchdog of its own ends it after twenty seconds.
fn sipp(server: &Server, scenario: &str, dir: &Path, local_port: u16, tcp: bool, more: &[&str]) -> Command {
    let transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let mut command = Command::new("sipp");
    command
        .arg(server.address(transport).to_string())
        .arg("-sf")
        .arg(scenario_file(scenario))
        .args(["-i", "127.0.0.1", "-p", &local_port.to_string()])
        .args(["-t", if tcp { "t1" } else { "u1" }])
        .args(["-m", "1", "-timeout", "20s", "-timeout_error", "-nostdin", "-trace_err"])
        .args(["-key", "domain", DOMAIN])
        .args(more)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn assert_success(what: &str, dir: &Path, output: &Output) {
    if output.status.success() {
        return;
    }
    for entry in std::fs::read_dir(dir).expect("directory").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            eprintln!("{}", std::fs::read_to_string(entry.path()).unwrap_or_default());
        }
    }
    panic!("{what}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}

fn sipp_registers(database: Database, via: Transport) {
    if !installed("sipp", true) {
        return;
    }
    let server = Server::start(database);
    let dir = tempfile::tempdir().expect("a directory");
    let password = password_of("alice");
    let output = sipp(
        &server,
        "register.xml",
        dir.path(),
        free_port(),
        via == Transport::Tcp,
        &["-s", "alice", "-au", "alice", "-ap", &password],
    )
    .output()
    .expect("sipp");
    assert_success("register.xml", dir.path(), &output);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    assert_eq!(alice.fetch_contacts().len(), 1);
}

fn sipp_calls_sipp(database: Database, via: Transport) {
    if !installed("sipp", true) {
        return;
    }
    let server = Server::start(database);
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let (alices, bobs) = (password_of("alice"), password_of("bob"));
    let port = free_port();
    let registered = sipp(
        &server,
        "register.xml",
        dirs[0].path(),
        port,
        false,
        &["-s", "bob", "-au", "bob", "-ap", &bobs],
    )
    .output()
    .expect("sipp");
    assert_success("register.xml", dirs[0].path(), &registered);
    // On the port that was registered: over UDP that is the same flow.
    let callee =
        sipp(&server, "callee.xml", dirs[1].path(), port, false, &["-s", "bob"]).spawn().expect("sipp");
    let uri = format!("bob@{DOMAIN}");
    let caller = ["-s", "bob", "-au", "alice", "-ap", &alices, "-auth_uri", &uri, "-key", "caller", "alice"];
    let caller = sipp(&server, "caller.xml", dirs[2].path(), free_port(), via == Transport::Tcp, &caller)
        .output()
        .expect("sipp");
    assert_success("caller.xml", dirs[2].path(), &caller);
    let callee = callee.wait_with_output().expect("sipp");
    assert_success("callee.xml", dirs[1].path(), &callee);
}

/// The transports of a call: the caller's, and those of the devices that it rings at.
struct Ways {
    caller: Transport,
    first: Transport,
    second: Transport,
}

/// SIPp calls SIPp: `bob` has a device per entry of `devices` (scenario, name), each registered by the scenario that then takes the call.
fn sipp_plays(database: Database, caller: &str, devices: &[(&str, &str)], ways: &Ways) {
    if !installed("sipp", true) {
        return;
    }
    let server = Server::start(database);
    let (alices, bobs) = (password_of("alice"), password_of("bob"));
    // SIPp gives a message to the scenario that has its Call-ID: one for all is how a scenario that registered gets the call.
    let one_call = ["-cid_str", &unique("evening")];
    let mut started = Vec::new();
    for ((scenario, device), via) in devices.iter().zip([ways.first, ways.second]) {
        let dir = tempfile::tempdir().expect("a directory");
        let who = ["-s", "bob", "-au", "bob", "-ap", &bobs, "-key", "device", device];
        let mut command = sipp(&server, scenario, dir.path(), free_port(), via == Transport::Tcp, &who);
        started.push((scenario, command.args(one_call).spawn().expect("sipp"), dir));
    }
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let deadline = Instant::now() + Duration::from_secs(15);
    while bob.fetch_contacts().len() < devices.len() {
        assert!(Instant::now() < deadline, "not all of {devices:?} registered:\n{}", server.log());
    }
    let dir = tempfile::tempdir().expect("a directory");
    let uri = format!("bob@{DOMAIN}");
    let who = ["-s", "bob", "-au", "alice", "-ap", &alices, "-auth_uri", &uri, "-key", "caller", "alice"];
    let mut command = sipp(&server, caller, dir.path(), free_port(), ways.caller == Transport::Tcp, &who);
    let output = command.args(one_call).output().expect("sipp");
    assert_success(caller, dir.path(), &output);
    for (scenario, device, dir) in started {
        assert_success(scenario, dir.path(), &device.wait_with_output().expect("sipp"));
    }
}

fn sipp_makes_a_whole_call(database: Database, ways: &Ways) {
    sipp_plays(database, "whole_caller.xml", &[("whole_callee.xml", "desk")], ways);
}

fn sipp_gives_up(database: Database, ways: &Ways) {
    sipp_plays(database, "cancel_caller.xml", &[("cancel_callee.xml", "desk")], ways);
}

fn sipp_rings_at_two_devices(database: Database, ways: &Ways) {
    let devices = [("fork_taker.xml", "desk"), ("fork_loser.xml", "mobile")];
    sipp_plays(database, "fork_caller.xml", &devices, ways);
}

/// A program that is talked to on its standard input and listened to on its standard output.
struct Program {
    child: Child,
    lines: Receiver<String>,
    heard: String,
}

impl Program {
    fn start(command: &mut Command) -> Program {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let stdout = child.stdout.take().expect("stdout");
        let (sender, lines) = sync_channel(10_000);
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let _ = sender.try_send(String::from_utf8_lossy(&line).into_owned());
                line.clear();
            }
        });
        Program { child, lines, heard: String::new() }
    }

    fn say(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin");
        stdin.write_all(format!("{text}\n").as_bytes()).expect("write");
        stdin.flush().expect("flush");
    }

    fn expect(&mut self, what: &str) {
        let deadline = Instant::now() + Duration::from_secs(15);
        while !self.heard.contains(what) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push_str(&line),
                Err(_) => panic!("{what:?} was not said:\n{}", self.heard),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// baresip's configuration: no sound, the commands on its standard input. Its ports are the system's choice: given one
/// for SIP it takes the next one too, for TLS, and that one may be somebody else's.
fn baresip(server: &Server, dir: &Path, via: Transport) -> Program {
    let (transport, sip) = match via {
        Transport::Tcp => ("tcp", server.address(Transport::Tcp)),
        _ => ("udp", server.address(Transport::Udp)),
    };
    let modules = ["/usr/lib/baresip/modules", "/usr/local/lib/baresip/modules"]
        .into_iter()
        .find(|path| Path::new(path).is_dir())
        .unwrap_or("/usr/lib/baresip/modules");
    std::fs::write(
        dir.join("config"),
        format!(
            "sip_listen 127.0.0.1:0\nmodule_path {modules}\nmodule stdio.so\nmodule g711.so\nmodule_app account.so\n\
             module_app contact.so\nmodule_app menu.so\nmodule_app presence.so\nmodule_tmp uuid.so\n"
        ),
    )
    .expect("write");
    std::fs::write(
        dir.join("accounts"),
        format!(
            "<sip:bob@{DOMAIN};transport={transport}>;auth_user=bob;auth_pass=\"{}\";outbound=\"sip:{sip};transport={transport}\";\
             regint=600;answermode=auto;pubint=0\n",
            password_of("bob")
        ),
    )
    .expect("write");
    std::fs::write(dir.join("contacts"), format!("\"Alice\" <sip:alice@{DOMAIN}>;presence=p2p\n"))
        .expect("write");
    Program::start(Command::new("baresip").arg("-f").arg(dir).current_dir(dir))
}

fn baresip_registers_and_takes_a_text(database: Database, via: Transport) {
    if !installed("baresip", true) {
        return;
    }
    let server = Server::start(database);
    let dir = tempfile::tempdir().expect("a directory");
    let mut program = baresip(&server, dir.path(), via);
    program.expect("baresip is ready");
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let deadline = Instant::now() + Duration::from_secs(15);
    while bob.fetch_contacts().is_empty() {
        assert!(Instant::now() < deadline, "baresip did not register:\n{}", server.log());
    }
    let request = alice.message("bob", "hello baresip");
    alice.expect_status(&request, 200);
}

/// linphone as `bob`, and where it lives.
fn linphone(server: &Server) -> (Program, tempfile::TempDir) {
    let home = tempfile::tempdir().expect("a directory");
    // It does not start where it cannot keep its database.
    std::fs::create_dir_all(home.path().join(".local/share/linphone")).expect("a directory");
    std::fs::create_dir_all(home.path().join(".config/linphone")).expect("a directory");
    let config = home.path().join("linphonerc");
    let sip = server.address(Transport::Udp);
    std::fs::write(
        &config,
        format!(
            "[sip]\nsip_port={0}\nsip_tcp_port=0\nsip_tls_port=0\ndefault_proxy=0\nverify_server_certs=0\n[net]\n[sound]\n\
             [proxy_0]\nreg_proxy=<sip:{sip}>\nreg_route=<sip:{sip};lr>\nreg_identity=sip:bob@{DOMAIN}\nreg_expires=600\n\
             reg_sendregister=1\npublish=1\n[auth_info_0]\nusername=bob\npasswd={1}\nrealm={DOMAIN}\ndomain={DOMAIN}\n",
            free_port(),
            password_of("bob")
        ),
    )
    .expect("write");
    let program = Program::start(Command::new("linphonec").arg("-c").arg(&config).env("HOME", home.path()));
    (program, home)
}

fn linphone_registers_and_watches(database: Database) {
    if !installed("linphonec", false) {
        return;
    }
    let server = Server::start(database);
    let (mut program, _home) = linphone(&server);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    let (watching, _) = befriend(&mut alice, &mut bob);
    alice.expect_notify_until(&watching.call_id, "open", |m| {
        basics(&m.body_text()).contains(&"open".to_string())
    });
    let request = alice.message("bob", "hello linphone");
    alice.expect_status(&request, 200);
    program.expect("hello linphone");
    program.say("quit");
}

fn linphone_tells_that_it_got_a_message_rfc5438(database: Database) {
    if !installed("linphonec", false) {
        return;
    }
    let server = Server::start(database);
    let (mut program, _home) = linphone(&server);
    let mut alice = Phone::new(&server, "alice", Transport::Udp);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    alice.register();
    let deadline = Instant::now() + Duration::from_secs(15);
    while bob.fetch_contacts().is_empty() {
        assert!(Instant::now() < deadline, "it did not register:\n{}", server.log());
    }
    // linphone 5.1 refuses any date in January.
    let body = cpim("alice", "bob", "hello linphone").replace("2026-01-01", "2026-11-20").replace(
        "Subject",
        "NS: imdn <urn:ietf:params:imdn>\r\nimdn.Message-ID: 34jk324j\r\nimdn.Disposition-Notification: positive-delivery\r\nSubject",
    );
    let request = alice.request("MESSAGE", &aor("bob")).body("message/cpim", body.as_bytes());
    let request = alice.start(request);
    program.expect("hello linphone");
    alice.expect_status(&request, 200);
    // Compressed, and without CPIM around it.
    alice.second_opinion = false;
    let told = alice.expect_request("MESSAGE");
    assert_eq!((user_of(told.need("From")).as_str(), told.need("Content-Type")), ("bob", "message/imdn+xml"));
    alice.answer(&told, 200, "OK");
    program.say("quit");
}

/// Foreign programs over both transports, on SQLite: they cannot see which database it is.
mod over {
    macro_rules! both_transports {
        ($($name:ident),* $(,)?) => { $(
            mod $name {
                use crate::harness::{Database, Transport};
                #[test]
                fn udp() {
                    super::super::$name(Database::Sqlite, Transport::Udp);
                }
                #[test]
                fn tcp() {
                    super::super::$name(Database::Sqlite, Transport::Tcp);
                }
            }
        )* };
    }
    both_transports!(sipp_registers, sipp_calls_sipp, baresip_registers_and_takes_a_text);

    /// Caller and first device over one transport each; the second device over UDP.
    macro_rules! mixed_transports {
        ($($name:ident),* $(,)?) => { $(
            mod $name {
                use super::super::Ways;
                use crate::harness::{Database, Transport};
                fn play(caller: Transport, first: Transport) {
                    super::super::$name(Database::Sqlite, &Ways { caller, first, second: Transport::Udp });
                }
                #[test]
                fn udp() {
                    play(Transport::Udp, Transport::Udp);
                }
                #[test]
                fn tcp() {
                    super::super::$name(Database::Sqlite, &Ways { caller: Transport::Tcp, first: Transport::Tcp, second: Transport::Tcp });
                }
                #[test]
                fn udp_to_tcp() {
                    play(Transport::Udp, Transport::Tcp);
                }
                #[test]
                fn tcp_to_udp() {
                    play(Transport::Tcp, Transport::Udp);
                }
            }
        )* };
    }
    mixed_transports!(sipp_makes_a_whole_call, sipp_gives_up, sipp_rings_at_two_devices);
}

on_each_database!(linphone_registers_and_watches, linphone_tells_that_it_got_a_message_rfc5438);
