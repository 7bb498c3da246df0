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
    /// Everybody's first REGISTER.
    #[value(skip)]
    Enrol,
    /// Fresh users ask for their first nonce: REGISTER and its 401.
    #[value(skip)]
    Ask,
}

impl Operation {
    /// What is measured if nothing is said.
    pub const USUAL: [Operation; 7] = [
        Operation::Options,
        Operation::Register,
        Operation::RegisterChallenged,
        Operation::RegisterAgain,
        Operation::RegisterNew,
        Operation::MessageNobody,
        Operation::Message,
    ];

    /// Its name on the command line and in the table.
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Does the server hold a transaction afterwards? Over connections nothing comes twice, so nothing is held for it (RFC 3261 17.2.2).
    pub fn is_held(self, transport: Transport) -> bool {
        transport == Transport::Udp && !matches!(self, Operation::Options | Operation::Ask)
    }

    /// The status that ends it.
    pub fn wanted(self) -> u16 {
        match self {
            Operation::MessageNobody => 404,
            Operation::Ask => 401,
            _ => 200,
        }
    }
}
