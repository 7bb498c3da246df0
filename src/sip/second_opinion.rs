//! `rsip` as a second reader: what it can read of ordinary messages, both read the same. And two readers of our own making, one that forgives
//! nothing and one that forgives everything: of what this server sends on they read the same headers (`A03`).

use bytes::Bytes;
use proptest::prelude::*;
use rsip::prelude::{HeadersExt, ToTypedHeader, UntypedHeader};

use crate::sip::{HeaderName, Limits, Message, forward};

/// Header rows as name in lower case and value.
type Rows = Vec<(String, Vec<u8>)>;

/// Forgives nothing: CRLF and nothing else ends a line, a name is a token with the colon at its end, there is no folding. `None`: refused.
fn strict(message: &[u8]) -> Option<Rows> {
    let section = message.windows(4).position(|four| four == b"\r\n\r\n")?;
    let mut rest = message.get(..section + 2)?;
    let mut rows = Rows::new();
    let mut is_start_line = true;
    while !rest.is_empty() {
        let end = rest.windows(2).position(|two| two == b"\r\n")?;
        let (line, next) = (&rest[..end], &rest[end + 2..]);
        if line.iter().any(|b| matches!(b, b'\r' | b'\n')) {
            return None;
        }
        if !is_start_line {
            let colon = line.iter().position(|&b| b == b':')?;
            let is_token = |b: &u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(b);
            if colon == 0 || !line[..colon].iter().all(is_token) {
                return None;
            }
            rows.push((
                String::from_utf8_lossy(&line[..colon]).to_lowercase(),
                line[colon + 1..].trim_ascii().to_vec(),
            ));
        }
        is_start_line = false;
        rest = next;
    }
    Some(rows)
}

/// Forgives everything: CR, LF, VT and FF end a line like CRLF, what begins with white space goes on, names lose whatever is no letter around them.
fn lax(message: &[u8]) -> Rows {
    let mut rows = Rows::new();
    let lines = message.split(|b| matches!(b, b'\r' | b'\n' | 0x0b | 0x0c)).skip(1);
    let mut blank = 0;
    for line in lines {
        // CRLF is split in two: an empty piece between them, three at the end of the section.
        blank = if line.is_empty() { blank + 1 } else { 0 };
        if blank == 3 {
            break;
        }
        if line.first().is_some_and(|b| b" \t".contains(b)) {
            if let Some((_, value)) = rows.last_mut() {
                value.extend_from_slice(line);
            }
        } else if let Some(colon) = line.iter().position(|&b| b == b':') {
            let name = String::from_utf8_lossy(&line[..colon]).to_lowercase();
            let name = name.trim_matches(|c: char| !c.is_ascii_graphic()).to_owned();
            rows.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }
    rows
}

/// What `rsip` makes of it, if it can read it.
fn rsips(message: &[u8]) -> Option<Rows> {
    let request = rsip::Request::try_from(message).ok()?;
    Some(
        request
            .headers
            .iter()
            .filter_map(|header| {
                let (name, value) =
                    header.to_string().split_once(':').map(|(n, v)| (n.to_lowercase(), v.to_owned()))?;
                Some((name, value.trim().as_bytes().to_vec()))
            })
            .collect(),
    )
}

/// The copy that is sent on, read by all three. `false`: the message is refused.
fn one_reading(text: &[u8]) -> bool {
    let Ok(Message::Request(request)) =
        Message::parse(Bytes::copy_from_slice(text), false, &Limits::default())
    else {
        return false;
    };
    let edits = forward::RequestEdits {
        via: Some("SIP/2.0/UDP us;branch=z9hG4bKu"),
        max_forwards: Some(7),
        ..Default::default()
    };
    let copy = forward::request(&request, &edits);
    let shown = String::from_utf8_lossy(&copy);
    let rows = strict(&copy).unwrap_or_else(|| panic!("a strict reader refuses {shown:?}"));
    assert_eq!(lax(&copy), rows, "a lax reader differs on {shown:?}");
    if let Some(theirs) = rsips(&copy) {
        assert_eq!(theirs, rows, "rsip differs on {shown:?}");
    }
    // And the first reader, again.
    let Ok(Message::Request(again)) = Message::parse(copy.clone(), true, &Limits::default()) else {
        panic!("not read again: {shown:?}");
    };
    assert_eq!(again.iter().count(), rows.len());
    true
}

/// Spellings of a header row that systems have read differently; `N` stands for the name, `V` for the value.
const SPELLINGS: [&str; 14] = [
    "N: V\r\n",
    "N:V\r\n",
    "N : V\r\n",
    "N\t:\tV\r\n",
    "N:\r\n V\r\n",
    "N\r\n : V\r\n",
    " N: V\r\n",
    "N\0: V\r\n",
    "N\u{b}: V\r\n",
    "N: V\0\r\n",
    "N: V\rX: y\r\n",
    "X: y\nN: V\r\n",
    "N: V\n",
    "\u{a0}N: V\r\n",
];

#[test]
fn what_is_sent_on_reads_the_same_to_strict_and_lax_a03() {
    let mut passed = 0;
    for (name, value) in [
        ("Via", "SIP/2.0/UDP h;branch=z9hG4bK1"),
        ("From", "<sip:a@b>;tag=1"),
        ("Route", "<sip:r;lr>"),
        ("Max-Forwards", "70"),
        ("Content-Length", "0"),
        ("Proxy-Authorization", "Basic x"),
    ] {
        for spelling in SPELLINGS {
            let row = spelling.replace('V', value).replace('N', name);
            passed += usize::from(one_reading(
                format!("OPTIONS sip:a@b SIP/2.0\r\nSubject: s\r\n{row}\r\n").as_bytes(),
            ));
        }
    }
    // The plain ones, white space around the colon, a folded value, and a row that only goes on with the one above it.
    assert_eq!(passed, 6 * 6);
}

/// Compares method, Call-ID, CSeq, tags and branch.
fn agree(text: &str) {
    let Ok(Message::Request(ours)) =
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), true, &Limits::default())
    else {
        panic!("ours reads {text}");
    };
    let theirs =
        rsip::Request::try_from(text.as_bytes()).unwrap_or_else(|e| panic!("rsip reads {text}: {e}"));
    assert_eq!(ours.method().as_str(), theirs.method.to_string());
    assert_eq!(ours.call_id().unwrap(), theirs.call_id_header().unwrap().value());
    let cseq = theirs.cseq_header().unwrap();
    assert_eq!(ours.cseq().unwrap().number, cseq.seq().unwrap());
    assert_eq!(ours.cseq().unwrap().method.as_str(), cseq.method().unwrap().to_string());
    let tag = |tag: Option<rsip::param::Tag>| tag.map(|tag| tag.value().to_owned());
    assert_eq!(
        ours.from().unwrap().tag().map(str::to_owned),
        tag(theirs.from_header().unwrap().tag().unwrap())
    );
    assert_eq!(ours.to().unwrap().tag().map(str::to_owned), tag(theirs.to_header().unwrap().tag().unwrap()));
    let branch =
        theirs.via_header().unwrap().typed().unwrap().branch().map(|branch| branch.value().to_owned());
    assert_eq!(ours.top_via().unwrap().branch().map(str::to_owned), branch);
    assert_eq!(ours.body(), theirs.body);
    assert_eq!(
        ours.value(HeaderName::MaxForwards).unwrap(),
        theirs.max_forwards_header().unwrap().value().as_bytes()
    );
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_rows_that_pass_read_the_same_to_all_a03(
        rows in proptest::collection::vec((
            prop::sample::select(vec!["Via", "v", "From", "Route", "ROUTE", "Contact", "X-Y", "l", "s", "Proxy-Authorization"]),
            prop::sample::select(vec![":", ": ", " : ", "\t:", ":\r\n ", ":\r\n\t\r\n ", "\r\n:", "\u{b}:", "\0:", ""]),
            prop::sample::select(vec!["", "a", "a,,b", "\"a\\\"b\"", "<sip:a>;b", "a\r\n b", "a\rb", "a\nb", "a\u{b}b", "\"\\\u{7}\"", "0", "\u{e9}"]),
            prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r", "\r\n "]),
        ), 0..6),
    ) {
        let rows: String = rows.into_iter().map(|(name, colon, value, end)| [name, colon, value, end].concat()).collect();
        one_reading(format!("OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\n{rows}\r\n").as_bytes());
    }

    #[test]
    fn ordinary_requests_read_the_same(
        method in prop::sample::select(vec!["INVITE", "MESSAGE", "SUBSCRIBE", "NOTIFY", "PUBLISH", "REGISTER", "OPTIONS", "BYE"]),
        user in "[a-z][a-z0-9]{0,12}",
        host in "[a-z]{1,10}\\.example\\.com",
        tag in "[a-zA-Z0-9]{1,16}",
        to_tag in proptest::option::of("[a-zA-Z0-9]{1,16}"),
        branch in "[a-zA-Z0-9]{1,20}",
        call_id in "[a-zA-Z0-9-]{1,30}",
        number in 0u32..(1 << 31),
        body in "[ -~]{0,60}",
    ) {
        let to_tag = to_tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        agree(&format!(
            "{method} sip:{user}@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
             From: \"{user}\" <sip:{user}@{host}>;tag={tag}\r\nTo: <sip:{user}@{host}>{to_tag}\r\nCall-ID: {call_id}@{host}\r\n\
             CSeq: {number} {method}\r\nContact: <sip:{user}@{host}:5070>\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
    }
}
