//! An evening of two friends, and a server that is killed between any two of its steps: nobody is lost, nobody is left over.

use std::time::Duration;

use crate::harness::documents::pidf;
use crate::harness::presence::Subscription;
use crate::harness::{Database, Phone, Server, Transport};

/// Within this time after a start every watcher has been told.
const RESUMED: Duration = Duration::from_secs(30);

/// A live subscription, and what its watcher must be shown.
struct Watcher {
    phone: usize,
    watching: Subscription,
    /// CSeq of the last NOTIFY.
    cseq: u32,
    state: &'static str,
    /// What stands in the document.
    shows: &'static str,
}

struct Evening {
    server: Server,
    /// Alice, bob, and carol, who watches nobody.
    phones: [Phone; 3],
    watchers: Vec<Watcher>,
}

const ALICE: usize = 0;
const BOB: usize = 1;

impl Evening {
    fn begin(database: Database) -> Evening {
        let server = Server::start(database);
        let phones = ["alice", "bob", "carol"].map(|user| Phone::new(&server, user, Transport::Udp));
        Evening { server, phones, watchers: Vec::new() }
    }

    /// Somebody begins to watch; the first NOTIFY says this.
    fn watch(&mut self, phone: usize, whom: &str, state: &'static str, shows: &'static str) {
        let watching = self.phones[phone].subscribe(whom);
        let cseq = watching.notify.cseq();
        self.watchers.push(Watcher { phone, watching, cseq, state, shows });
        let watcher = self.watchers.last().expect("just pushed");
        watcher.holds(&watcher.watching.notify);
    }

    /// The watcher's NOTIFYs go on until one says this.
    fn told(&mut self, phone: usize, state: &'static str, shows: &'static str) {
        let watcher = self.watchers.iter_mut().find(|w| w.phone == phone).expect("a watcher");
        (watcher.state, watcher.shows) = (state, shows);
        let notify = self.phones[phone].expect_notify_until(&watcher.watching.call_id, shows, |notify| {
            notify.subscription_state() == state && notify.body_text().contains(shows)
        });
        assert!(notify.cseq() > watcher.cseq, "I4");
        watcher.cseq = notify.cseq();
    }

    fn nobody_hears_more(&mut self) {
        self.phones.iter_mut().for_each(Phone::expect_nothing_more);
    }

    /// Killed and started again: each watcher gets full state with a higher CSeq and is answered as ever, nobody else gets anything.
    fn killed(&mut self) {
        self.nobody_hears_more();
        self.server.kill9();
        assert_eq!(self.server.rows("subscription"), i64::try_from(self.watchers.len()).expect("few"));
        self.server.restart();
        for watcher in &mut self.watchers {
            let phone = &mut self.phones[watcher.phone];
            let call_id = watcher.watching.call_id.clone();
            let notify = phone
                .await_within(RESUMED, |m| m.is_request("NOTIFY") && m.call_id() == call_id)
                .unwrap_or_else(|| panic!("{}: no NOTIFY after the start", phone.user));
            phone.answer(&notify, 200, "OK");
            assert!(notify.cseq() > watcher.cseq, "I4: {} after {}", notify.cseq(), watcher.cseq);
            watcher.cseq = notify.cseq();
            watcher.holds(&notify);
        }
        self.nobody_hears_more();
    }

    /// The phone leaves: its last NOTIFY is `terminated`.
    fn leave(&mut self, phone: usize) {
        let at = self.watchers.iter().position(|w| w.phone == phone).expect("a watcher");
        let watcher = self.watchers.remove(at);
        let request = self.phones[phone].resubscribe_request(&watcher.watching, 0);
        assert_eq!(self.phones[phone].ask(request).status(), Some(200));
        let last = self.phones[phone].expect_notify(&watcher.watching.call_id);
        assert_eq!(last.subscription_state(), "terminated", "{last}");
    }

    fn published(&mut self, phone: usize, basic: &str, note: &str, tag: Option<&str>) -> String {
        let document = pidf(&self.phones[phone].user.clone(), "t1", basic, note);
        self.phones[phone].publish_as(Some(&document), tag, 600)
    }
}

impl Watcher {
    fn holds(&self, notify: &crate::harness::Message) {
        assert_eq!(notify.subscription_state(), self.state, "{notify}");
        assert!(notify.body_text().contains(self.shows), "{} is not in\n{notify}", self.shows);
    }
}

fn an_evening_killed_between_any_two_steps(database: Database) {
    let mut evening = Evening::begin(database);
    evening.phones[ALICE].register();
    evening.killed();
    evening.phones[BOB].register();
    evening.killed();
    // Nobody sees anybody who does not watch back.
    evening.watch(ALICE, "bob", "pending", "");
    evening.killed();
    evening.watch(BOB, "alice", "active", "open");
    evening.told(ALICE, "active", "open");
    evening.killed();
    let at_work = evening.published(BOB, "open", "at work", None);
    evening.told(ALICE, "active", "at work");
    evening.killed();
    let at_lunch = evening.published(BOB, "open", "at lunch", Some(&at_work));
    evening.told(ALICE, "active", "at lunch");
    evening.killed();
    let still = evening.phones[BOB].publish_as(None, Some(&at_lunch), 600);
    evening.killed();
    let busy = evening.published(ALICE, "closed", "busy", None);
    evening.told(BOB, "active", "busy");
    evening.killed();
    let request = evening.phones[ALICE].resubscribe_request(&evening.watchers[0].watching, 600);
    assert_eq!(evening.phones[ALICE].ask(request).status(), Some(200));
    evening.told(ALICE, "active", "at lunch");
    evening.killed();
    evening.phones[BOB].publish_as(None, Some(&still), 0);
    evening.told(ALICE, "active", "<basic>open</basic>");
    evening.killed();
    evening.phones[BOB].register_contact("*", Some(0));
    evening.told(ALICE, "active", "<basic>closed</basic>");
    evening.killed();
    evening.phones[ALICE].publish_as(None, Some(&busy), 0);
    evening.told(BOB, "active", "<basic>open</basic>");
    evening.killed();
    evening.leave(ALICE);
    // Who does not watch any more is not shown any more.
    evening.told(BOB, "pending", "<basic>closed</basic>");
    evening.killed();
    evening.leave(BOB);
    evening.killed();
    evening.phones[ALICE].register_contact("*", Some(0));
    evening.killed();
    for table in ["binding", "publication", "subscription"] {
        assert_eq!(evening.server.rows(table), 0, "{table}");
    }
}

fn a_subscribe_that_a_crash_interrupts_leaves_one_subscription(database: Database) {
    let mut server = Server::start(database);
    let mut bob = Phone::new(&server, "bob", Transport::Udp);
    bob.subscribe("alice");
    // At some of these instants it has been written and not answered, at others neither.
    for (nth, ms) in [0, 1, 2, 3, 5, 8, 13].into_iter().enumerate() {
        let mut alice = Phone::new(&server, "alice", Transport::Udp);
        let mut request = alice.subscribe_request("bob", "presence", 600);
        let challenge = alice.transact(&request);
        alice.learn(&challenge);
        request = alice.again(&request);
        alice.authorize(&mut request, "Authorization");
        alice.send(&request);
        // Not a wait: when it is killed is what differs.
        std::thread::sleep(Duration::from_millis(ms));
        server.kill9();
        server.restart();
        // The phone repeats itself, with a new challenge; whatever came of the first is not its concern.
        let request = alice.again(&request.without("Authorization"));
        let challenge = alice.transact(&request);
        alice.learn(&challenge);
        let mut request = alice.again(&request);
        alice.authorize(&mut request, "Authorization");
        let response = alice.transact(&request);
        assert_eq!(response.status(), Some(200), "{response}");
        let tag = response.to_tag();
        alice.expect_notify_until(request.call_id(), "of the second dialog", |n| n.tag_in_from() == tag);
        // Bob's, and one of each of alice's phones.
        assert_eq!(server.rows("subscription"), 2 + i64::try_from(nth).expect("few"), "after {ms} ms");
    }
}

on_each_database!(
    an_evening_killed_between_any_two_steps,
    a_subscribe_that_a_crash_interrupts_leaves_one_subscription,
);
