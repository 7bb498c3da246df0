//! What several sources know of one user's dialogs, as one list. Pure.

use crate::availability::document::dialog_info::{Dialog, DialogInfo, Participant, State};

/// One source: a name of its own, and what it says.
pub(super) type Source = (String, DialogInfo);

/// All dialogs that any source knows of, in order. What two of them say of one dialog is put together: it is as far as it is for the one that
/// knows more, and if it has ended for one, it has (RFC 4235 3.7.1).
pub(super) fn compose(sources: impl Iterator<Item = Source>) -> Vec<Dialog> {
    let mut all: Vec<Dialog> = Vec::new();
    for (name, info) in sources {
        let known = all.len();
        for mut dialog in info.dialogs {
            let same = all.iter_mut().take(known).find(|other| other.is_same(&dialog));
            match same {
                Some(other) => put_together(other, dialog),
                None => {
                    // Ids are unique among all of them, and stay what they are whoever else publishes (4.1.1).
                    dialog.id = format!("{name}.{}", dialog.id);
                    all.push(dialog);
                }
            }
        }
    }
    all
}

/// What a publisher says now, after what it said before: what has ended stays so, whether it is still told of or not.
pub(super) fn succeed(before: &DialogInfo, mut now: DialogInfo) -> DialogInfo {
    let ended = before.dialogs.iter().filter(|dialog| dialog.state == State::Terminated);
    let mut silent = Vec::new();
    for gone in ended {
        let is_it = |dialog: &Dialog| match (&dialog.call_id, &gone.call_id) {
            (Some(_), Some(_)) => dialog.is_same(gone),
            // Nothing else names it.
            (None, _) | (_, None) => dialog.id == gone.id,
        };
        match now.dialogs.iter_mut().find(|dialog| is_it(dialog)) {
            Some(dialog) if dialog.state == State::Terminated => {}
            Some(dialog) => {
                dialog.state = State::Terminated;
                (dialog.event, dialog.code) = (gone.event, gone.code);
            }
            None => silent.push(gone.clone()),
        }
    }
    // An id may be used again for another dialog.
    for gone in &mut silent {
        while now.dialogs.iter().any(|dialog| dialog.id == gone.id) {
            gone.id.push('~');
        }
    }
    let room = MOST_REMEMBERED.min(MOST_AT_ONCE.saturating_sub(now.dialogs.len()));
    // The newest come first: what was told of last time, then what was remembered then.
    silent.truncate(room);
    now.dialogs.extend(silent);
    now
}

fn put_together(known: &mut Dialog, other: Dialog) {
    if other.state > known.state {
        (known.state, known.event, known.code) = (other.state, other.event, other.code);
    }
    let fill = |known: &mut Participant, other: Participant| {
        known.identity = known.identity.take().or(other.identity);
        known.target = known.target.take().or(other.target);
    };
    known.local_tag = known.local_tag.take().or(other.local_tag);
    known.remote_tag = known.remote_tag.take().or(other.remote_tag);
    known.direction = known.direction.or(other.direction);
    known.replaces = known.replaces.take().or(other.replaces);
    known.referred_by = known.referred_by.take().or(other.referred_by);
    fill(&mut known.local, other.local);
    fill(&mut known.remote, other.remote);
}

/// Dialogs that have ended and that a publisher need not tell of any more: so many are known to have.
const MOST_REMEMBERED: usize = 16;
/// What can be read again: as many as one document may hold.
const MOST_AT_ONCE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use State::{Confirmed, Early, Proceeding, Terminated, Trying};

    fn dialog(id: &str, ids: [&str; 3], state: State) -> Dialog {
        let [call_id, local_tag, remote_tag] = ids.map(|id| Some(id.to_owned()).filter(|id| !id.is_empty()));
        Dialog { call_id, local_tag, remote_tag, ..Dialog::bare(id.into(), state) }
    }

    fn info(dialogs: &[Dialog]) -> DialogInfo {
        DialogInfo { entity: "sip:alice@example.org".into(), dialogs: dialogs.to_vec() }
    }

    fn composed(sources: &[&[Dialog]]) -> Vec<(String, State)> {
        let sources = sources.iter().zip(["p", "q"]).map(|(dialogs, name)| (name.to_owned(), info(dialogs)));
        compose(sources).into_iter().map(|dialog| (dialog.id, dialog.state)).collect()
    }

    #[test]
    fn one_dialog_of_two_sources_is_one_and_as_far_as_the_further_rfc4235_3_7_1() {
        let phone = [dialog("1", ["c", "l", "r"], Early), dialog("2", ["d", "l", "r"], Confirmed)];
        let proxy = [dialog("1", ["c", "l", ""], Proceeding), dialog("2", ["d", "l", "r"], Terminated)];
        assert_eq!(composed(&[&phone, &proxy]), [("p.1".into(), Early), ("p.2".into(), Terminated)]);
        assert_eq!(composed(&[&proxy, &phone]), [("p.1".into(), Early), ("p.2".into(), Terminated)]);
    }

    #[test]
    fn different_dialogs_stay_apart_and_their_ids_differ_rfc4235_4_1_1() {
        let one = [dialog("1", ["c", "l", "r"], Early), dialog("2", ["c", "l", "s"], Early)];
        let other = [dialog("1", ["c", "r", "l"], Trying), dialog("2", ["", "", ""], Trying)];
        let ids: Vec<_> = composed(&[&one, &other]).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["p.1", "p.2", "q.1", "q.2"]);
    }

    #[test]
    fn what_has_ended_never_comes_back_rfc4235_3_7_1() {
        let ended = Dialog { event: Some("remote-bye"), ..dialog("1", ["c", "l", "r"], Terminated) };
        let before = info(std::slice::from_ref(&ended));
        for again in [dialog("1", ["c", "l", "r"], Confirmed), dialog("7", ["c", "l", "r"], Early)] {
            let now = succeed(&before, info(&[again]));
            assert_eq!((now.dialogs[0].state, now.dialogs[0].event), (Terminated, Some("remote-bye")));
            assert_eq!(now.dialogs.len(), 1);
        }
        // Nor after it was not told of for a while; the same id for another dialog is another dialog.
        let silent = succeed(&before, info(&[]));
        assert_eq!(silent, before);
        let another = dialog("1", ["d", "l", "r"], Early);
        let now = succeed(&silent, info(std::slice::from_ref(&another)));
        assert_eq!((&now.dialogs[0], now.dialogs[1].id.as_str()), (&another, "1~"));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut known = info(&[]);
        for n in 0..40 {
            let ended = dialog(&n.to_string(), [&format!("c{n}"), "l", "r"], Terminated);
            known = succeed(&known, info(&[ended]));
        }
        assert_eq!(known.dialogs.len(), 1 + MOST_REMEMBERED);
        assert_eq!(known.dialogs.last().map(|dialog| dialog.id.as_str()), Some("23"));
    }
}
