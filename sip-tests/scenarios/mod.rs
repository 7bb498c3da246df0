//! Scenarios, one file per service or danger. The name of a test is the rule it holds.

mod attack_dialogs;
mod attack_identity;
mod attack_parser;
mod attack_reflection;
mod attack_streams;
mod authentication;
mod calls;
mod durability;
mod forking;
mod messaging;
mod operation;
mod options;
mod outage;
mod presence;
mod presence_lifetime;
mod publication;
mod registrar;
mod registrar_order;
mod registrar_refusals;
mod search;
mod storm;
mod strangers;
mod torture;
mod transparency;
