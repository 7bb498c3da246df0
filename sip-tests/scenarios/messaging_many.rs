//! A thousand users who come back at once to what was kept for them, and calls beside it.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::server::password_of;
use crate::harness::{Database, Message, Phone, Server, Transport, call, postgres};
use crate::scenarios::messaging_store::wait_until_stored;

/// Messages for each.
const EACH: usize = 3;
/// RFC 3261 17.1.1.1.
const T1: Duration = Duration::from_millis(500);
/// Who plays them.
const PLAYERS: usize = 8;

/// Makes users without starting a program for each.
fn add_users(server: &Server, users: &[String]) {
    let stream = UnixStream::connect(server.dir.path().join("control.sock")).expect("the control socket");
    let mut answers = BufReader::new(stream.try_clone().expect("a clone")).lines();
    let mut stream = stream;
    for user in users {
        let password = password_of(user);
        writeln!(stream, "{{\"user_add\":{{\"user\":\"{user}\",\"password\":\"{password}\"}}}}")
            .expect("asked");
        let answer = answers.next().expect("an answer").expect("a line");
        assert!(answer.contains("done"), "{answer}");
    }
}

/// How long each of these calls took from INVITE to 200, while `go_on` says so.
fn calls(caller: &mut Phone, callee: &mut Phone, go_on: impl Fn(usize) -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while go_on(took.len()) {
        let begun = Instant::now();
        let (dialog, _) = call::connect(caller, callee);
        took.push(begun.elapsed());
        let bye = caller.in_dialog(&dialog, "BYE");
        caller.send(&bye);
        let arrived = callee.expect_request("BYE");
        callee.answer(&arrived, 200, "OK");
        caller.expect_status(&bye, 200);
    }
    took.sort();
    took
}

fn at(took: &[Duration], thousandths: usize) -> Duration {
    took[(took.len() * thousandths / 1_000).min(took.len() - 1)]
}

/// Gives how long it took until everything was there, and the longest that a call took.
fn all_come_back(database: Database, number: usize) -> (Duration, Duration) {
    let server = Server::with(database, |config| {
        for key in ["burst", "strangers_burst"] {
            config.set(&format!("messaging.{key}"), 1_000_000);
        }
        config.set("log.filter", "info");
    });
    let users: Vec<String> = (0..number).map(|number| format!("user{number}")).collect();
    add_users(&server, &users);
    let mut alice = Phone::new(&server, "alice", Transport::Tcp);
    let mut carol = Phone::new(&server, "carol", Transport::Udp);
    let mut dave = Phone::new(&server, "dave", Transport::Udp);
    carol.register();
    dave.register();
    let begun = Instant::now();
    for number in 0..EACH {
        for some in users.chunks(50) {
            let requests: Vec<_> =
                some.iter().map(|user| alice.message(user, &format!("number {number}"))).collect();
            for request in &requests {
                alice.expect_status(request, 202);
            }
        }
    }
    let stored = begun.elapsed();
    let mut phones: Vec<Phone> = users.iter().map(|user| Phone::new(&server, user, Transport::Udp)).collect();
    phones.iter_mut().for_each(|phone| assert!(phone.fetch_contacts().is_empty()));
    let before = calls(&mut carol, &mut dave, |made| made < 50);

    let share = number.div_ceil(PLAYERS);
    let playing = AtomicUsize::new(number.div_ceil(share));
    let begun = Instant::now();
    let during = std::thread::scope(|scope| {
        for phones in phones.chunks_mut(share) {
            let playing = &playing;
            scope.spawn(move || {
                let mut registers = Vec::new();
                for phone in &mut *phones {
                    let contact = phone.contact();
                    let mut register =
                        phone.register_request().header("Contact", &contact).header("Expires", "600");
                    phone.authorize(&mut register, "Authorization");
                    phone.send(&register);
                    registers.push(register);
                }
                // A burst of datagrams may lose some: they are sent again (RFC 3261 17.1.2.2).
                for (phone, register) in phones.iter_mut().zip(&registers) {
                    let is_answered =
                        |m: &Message| m.branch() == register.branch() && m.status() == Some(200);
                    while phone.await_within(T1, is_answered).is_none() {
                        phone.send(register);
                    }
                }
                for number in 0..EACH {
                    for phone in &mut *phones {
                        let arrived = phone
                            .await_within(Duration::from_secs(60), |m| m.is_request("MESSAGE"))
                            .unwrap_or_else(|| panic!("{} has waited for too long", phone.user));
                        assert_eq!(arrived.body_text(), format!("number {number}"), "to {}", phone.user);
                        phone.answer(&arrived, 200, "OK");
                    }
                }
                playing.fetch_sub(1, Ordering::Release);
            });
        }
        calls(&mut carol, &mut dave, |made| made < 5 || playing.load(Ordering::Acquire) > 0)
    });
    let took = begun.elapsed();
    wait_until_stored(&server, 0);
    println!(
        "{number} users, {EACH} messages each, {database:?}: stored in {stored:.1?}, all delivered {took:.2?} after the first REGISTER"
    );
    for (when, took) in [("before", &before), ("meanwhile", &during)] {
        let [half, most, all] = [500, 990, 1_000].map(|thousandths| at(took, thousandths));
        println!(
            "  INVITE to 200 {when}: {} calls, p50 {half:.1?}, p99 {most:.1?}, longest {all:.1?}",
            took.len()
        );
    }
    (took, at(&during, 1_000))
}

/// `cargo test --test scenarios a_thousand -- --ignored --nocapture --test-threads 1`.
mod a_thousand_come_back_at_once {
    use super::{Database, Duration, all_come_back, postgres};

    #[test]
    #[ignore = "a minute: a thousand users"]
    fn sqlite() {
        let (took, longest_call) = all_come_back(Database::Sqlite, 1_000);
        assert!(took < Duration::from_secs(60) && longest_call < Duration::from_secs(2));
    }

    #[test]
    #[ignore = "a minute: a thousand users"]
    fn postgres() {
        if postgres::required_or_present() {
            let (took, longest_call) = all_come_back(Database::Postgres, 1_000);
            assert!(took < Duration::from_secs(60) && longest_call < Duration::from_secs(2));
        }
    }
}
