//! `kill -9` in the middle of a thousand registrations.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::harness::{DEADLINE, DOMAIN, Database, Phone, Server, Transport};

const USERS: usize = 50;
/// Devices of each user.
const DEVICES: usize = 20;

fn nothing_answered_is_lost_when_killed_among_a_thousand_registrations(database: Database) {
    let mut server = Server::with(database, |config| config.set("registration.max_bindings", DEVICES as i64));
    let users: Vec<String> = (0..USERS).map(|number| format!("user{number}")).collect();
    users.iter().for_each(|user| server.add_user(user));
    let mut phones: Vec<Phone> = users.iter().map(|user| Phone::new(&server, user, Transport::Udp)).collect();
    phones.iter_mut().for_each(|phone| assert!(phone.fetch_contacts().is_empty()));

    // The phones send without waiting, so that the server has many in hand at once when it dies.
    let mut sent: Vec<HashMap<String, String>> = vec![HashMap::new(); phones.len()];
    let mut answered: Vec<HashSet<String>> = vec![HashSet::new(); phones.len()];
    let note = |phone: &mut Phone,
                sent: &HashMap<String, String>,
                answered: &mut HashSet<String>,
                wait: Duration| {
        let Some(response) = phone.await_within(wait, |m| m.status().is_some_and(|status| status >= 200))
        else {
            return false;
        };
        if response.status() == Some(200)
            && let Some(contact) = sent.get(&response.branch())
        {
            answered.insert(contact.clone());
        }
        true
    };
    for device in 0..DEVICES {
        for (at, phone) in phones.iter_mut().enumerate() {
            let contact = format!("sip:{}-{device}@127.0.0.1:{}", users[at], 20_000 + device);
            let aor = phone.aor();
            let mut request = phone
                .request("REGISTER", &format!("sip:{DOMAIN}"))
                .set("To", &format!("<{aor}>"))
                .header("Contact", &format!("<{contact}>"))
                .header("Expires", "600");
            phone.authorize(&mut request, "Authorization");
            sent[at].insert(request.branch(), contact);
            phone.send(&request);
        }
    }
    // Some hundred answers, while hundreds more are in hand.
    let deadline = std::time::Instant::now() + DEADLINE;
    while answered.iter().map(HashSet::len).sum::<usize>() < 300 {
        assert!(std::time::Instant::now() < deadline, "the answers stopped coming");
        for (at, phone) in phones.iter_mut().enumerate() {
            note(phone, &sent[at], &mut answered[at], Duration::from_millis(1));
        }
    }
    server.kill9();
    // What had been answered before the end lies in the sockets.
    for (at, phone) in phones.iter_mut().enumerate() {
        while note(phone, &sent[at], &mut answered[at], Duration::from_millis(1)) {}
    }
    let total: usize = answered.iter().map(HashSet::len).sum();
    let asked: usize = sent.iter().map(HashMap::len).sum();
    println!("{total} of {asked} registrations were answered before the end");

    server.restart();
    for (at, user) in users.iter().enumerate() {
        let mut phone = Phone::new(&server, user, Transport::Tcp);
        let kept: HashSet<String> =
            phone.fetch_contacts().iter().map(|c| crate::harness::message::uri_of(c)).collect();
        let lost: Vec<_> = answered[at].difference(&kept).collect();
        assert!(lost.is_empty(), "{user}: answered and lost: {lost:?}");
    }
}

on_each_database!(nothing_answered_is_lost_when_killed_among_a_thousand_registrations);
