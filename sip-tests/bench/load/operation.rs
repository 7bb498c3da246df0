//! What can be measured.

use clap::ValueEnum;

use crate::wire::Transport;

/// One operation, from its first request to its final answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    /// OPTIONS to the server and its 200.
    Options,
    /// REGISTER that refreshes a binding, its credentials on a nonce in use, and its 200.
    Register,
    /// The same with its challenge: REGISTER, 401, REGISTER, 200.
    RegisterChallenged,
    /// REGISTER of a device that came back (same Contact, new Call-ID): on disk before its 200.
    RegisterAgain,
    /// REGISTER with a Contact that was never there: on disk before its 200. Ends when all users are full.
    RegisterNew,
    /// MESSAGE to a user of no account, and its 404.
    MessageNobody,
    /// MESSAGE to a registered user: relayed, answered 200 by the phone, relayed back.
    Message,
    /// MESSAGE to a user who has no binding: stored, on disk before its 202. Ends when all users have as many as are kept.
    MessageStored,
    /// A stored message, from its turn in the server to the 200 of the phone of a user who came back.
    MessageDelivered,
    /// A call: INVITE, 180, 200, ACK, BYE and its 200, all relayed.
    Invite,
    /// SUBSCRIBE to a user's presence, its 200 and its first NOTIFY.
    Subscribe,
    /// PUBLISH that changes a document, until the one watcher has it.
    #[value(name = "publish-1")]
    Publish1,
    /// The same, until the last of ten watchers has it.
    #[value(name = "publish-10")]
    Publish10,
    /// The same, until the last of a hundred watchers has it.
    #[value(name = "publish-100")]
    Publish100,
    /// Everybody's first REGISTER.
    #[value(skip)]
    Enrol,
    /// Fresh users ask for their first nonce: REGISTER and its 401.
    #[value(skip)]
    Ask,
    /// What [`Operation::MessageDelivered`] will deliver: MESSAGE and its 202.
    #[value(skip)]
    Fill,
}

impl Operation {
    /// What is measured if nothing is said.
    pub const USUAL: [Operation; 12] = [
        Operation::Options,
        Operation::Register,
        Operation::RegisterChallenged,
        Operation::RegisterAgain,
        Operation::RegisterNew,
        Operation::MessageNobody,
        Operation::Message,
        Operation::Invite,
        Operation::Subscribe,
        Operation::Publish1,
        Operation::Publish10,
        Operation::Publish100,
    ];

    /// Is it the business of [`crate::presence::Presence`]?
    pub fn is_presence(self) -> bool {
        self == Operation::Subscribe || self.watchers().is_some()
    }

    /// Is anything stored by it, or delivered later? Kamailio, as it is configured here, does neither.
    pub fn is_storage(self) -> bool {
        matches!(self, Operation::MessageStored | Operation::MessageDelivered)
    }

    /// How many watchers each publisher has; `None`: nothing is published.
    pub fn watchers(self) -> Option<u32> {
        match self {
            Operation::Publish1 => Some(1),
            Operation::Publish10 => Some(10),
            Operation::Publish100 => Some(100),
            _ => None,
        }
    }

    /// Its name on the command line and in the table.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Server transactions that hither holds for half a minute afterwards. Over connections nothing comes twice, so nothing is held for it
    /// (RFC 3261 17.2.2), but an answered INVITE is (RFC 6026 7.1, Timer L).
    pub fn held(self, transport: Transport) -> u64 {
        match (self, transport) {
            (Operation::Options | Operation::Ask, _) => 0,
            (Operation::Invite, Transport::Udp) => 2,
            (Operation::Invite, Transport::Tcp) | (_, Transport::Udp) => 1,
            (_, Transport::Tcp) => 0,
        }
    }

    /// The status that ends it.
    pub fn wanted(self) -> u16 {
        match self {
            Operation::MessageNobody => 404,
            Operation::Ask => 401,
            Operation::MessageStored | Operation::Fill => 202,
            _ => 200,
        }
    }
}
