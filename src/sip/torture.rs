//! The messages of RFC 4475 and RFC 5118, each with the verdict that its section asks of parser and validation.
//!
//! Where a section leaves the verdict to a later layer (416, 420, 483, 401, 415, 406) the message must pass here.

use bytes::Bytes;

use crate::sip::{HeaderName, Host, Limits, Message, Method, Request, Scheme, salvage, validate};

/// What parser and validation owe a message that came in a datagram.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Parsed and valid.
    Accepted,
    /// A request that parses but is not valid: this status.
    Invalid(u16),
    /// A request that does not parse, but what came of it can be answered with this status.
    Unparsed(u16),
    /// To be counted and dropped.
    Dropped,
}
use Verdict::{Accepted, Dropped, Invalid, Unparsed};

fn verdict(bytes: &'static [u8]) -> Verdict {
    let bytes = Bytes::from_static(bytes);
    match Message::parse(bytes.clone(), false, &Limits::default()) {
        Ok(Message::Request(request)) => match validate::request(&request) {
            Ok(()) => Accepted,
            Err(problem) => Invalid(problem.status.code()),
        },
        Ok(Message::Response(response)) if validate::response(&response).is_ok() => Accepted,
        Ok(Message::Response(_)) => Dropped,
        Err(problem) => match salvage(&bytes) {
            Some(_) => Unparsed(problem.status.code()),
            None => Dropped,
        },
    }
}

macro_rules! table {
    ($folder:literal: $($test:ident, $file:literal => $verdict:expr;)*) => {
        $(
            #[test]
            fn $test() {
                assert_eq!(verdict(include_bytes!(concat!("../../sip-tests/torture/", $folder, "/", $file))), $verdict);
            }
        )*
    };
}

mod rfc4475 {
    use super::*;

    table! { "rfc4475":
        a_short_tortuous_invite_3_1_1_1, "wsinv.dat" => Accepted;
        wide_range_of_valid_characters_3_1_1_2, "intmeth.dat" => Accepted;
        valid_use_of_escapes_3_1_1_3, "esc01.dat" => Accepted;
        escaped_nulls_in_uris_3_1_1_4, "escnull.dat" => Accepted;
        percent_where_it_is_no_escape_3_1_1_5, "esc02.dat" => Accepted;
        no_white_space_between_name_and_angle_3_1_1_6, "lwsdisp.dat" => Accepted;
        long_values_3_1_1_7, "longreq.dat" => Accepted;
        extra_octets_in_a_datagram_3_1_1_8, "dblreq.dat" => Accepted;
        semicolon_parameters_in_the_user_part_3_1_1_9, "semiuri.dat" => Accepted;
        varied_and_unknown_transports_3_1_1_10, "transports.dat" => Accepted;
        multipart_mime_3_1_1_11, "mpart01.dat" => Accepted;
        unusual_reason_phrase_3_1_1_12, "unreason.dat" => Accepted;
        empty_reason_phrase_3_1_1_13, "noreason.dat" => Accepted;

        extraneous_separators_3_1_2_1, "badinv01.dat" => Invalid(400);
        content_length_larger_than_message_3_1_2_2, "clerr.dat" => Unparsed(400);
        negative_content_length_3_1_2_3, "ncl.dat" => Unparsed(400);
        request_scalars_out_of_range_3_1_2_4, "scalar02.dat" => Invalid(400);
        response_scalars_out_of_range_3_1_2_5, "scalarlg.dat" => Dropped;
        unterminated_quoted_string_3_1_2_6, "quotbal.dat" => Invalid(400);
        angles_around_the_request_uri_3_1_2_7, "ltgtruri.dat" => Unparsed(400);
        white_space_in_the_request_uri_3_1_2_8, "lwsruri.dat" => Unparsed(400);
        multiple_spaces_in_the_request_line_3_1_2_9, "lwsstart.dat" => Unparsed(400);
        spaces_at_the_end_of_the_request_line_3_1_2_10, "trws.dat" => Unparsed(400);
        escaped_headers_in_the_request_uri_3_1_2_11, "escruri.dat" => Invalid(400);
        // The Date is nobody's affair here; the section lets an element ignore it.
        invalid_time_zone_in_date_3_1_2_12, "baddate.dat" => Accepted;
        headers_in_a_contact_without_angles_3_1_2_13, "regbadct.dat" => Invalid(400);
        spaces_within_addr_spec_3_1_2_14, "badaspec.dat" => Invalid(400);
        non_token_characters_in_display_name_3_1_2_15, "baddn.dat" => Invalid(400);
        unknown_protocol_version_3_1_2_16, "badvers.dat" => Unparsed(505);
        method_mismatch_3_1_2_17, "mismatch01.dat" => Invalid(400);
        unknown_method_with_cseq_mismatch_3_1_2_18, "mismatch02.dat" => Invalid(400);
        overlarge_response_code_3_1_2_19, "bigcode.dat" => Dropped;

        missing_transaction_identifier_3_2_1, "badbranch.dat" => Accepted;

        missing_required_headers_3_3_1, "insuf.dat" => Invalid(400);
        request_uri_with_unknown_scheme_3_3_2, "unkscm.dat" => Accepted;
        request_uri_with_known_but_atypical_scheme_3_3_3, "novelsc.dat" => Accepted;
        unknown_uri_schemes_in_headers_3_3_4, "unksm2.dat" => Accepted;
        proxy_require_and_require_3_3_5, "bext01.dat" => Accepted;
        unknown_content_type_3_3_6, "invut.dat" => Accepted;
        unknown_authorization_scheme_3_3_7, "regaut01.dat" => Accepted;
        multiple_values_in_single_value_headers_3_3_8, "multi01.dat" => Invalid(400);
        multiple_content_length_values_3_3_9, "mcl01.dat" => Unparsed(400);
        response_with_broadcast_via_3_3_10, "bcast.dat" => Accepted;
        max_forwards_of_zero_3_3_11, "zeromf.dat" => Accepted;
        register_with_a_contact_header_parameter_3_3_12, "cparam01.dat" => Accepted;
        register_with_a_uri_parameter_3_3_13, "cparam02.dat" => Accepted;
        register_with_escaped_header_in_contact_3_3_14, "regescrt.dat" => Accepted;
        unacceptable_accept_offering_3_3_15, "sdp01.dat" => Accepted;

        invite_of_rfc2543_3_4_1, "inv2543.dat" => Accepted;
    }

    fn request(bytes: &'static [u8]) -> Request {
        match Message::parse(Bytes::from_static(bytes), false, &Limits::default()) {
            Ok(Message::Request(request)) => request,
            other => panic!("a request: {other:?}"),
        }
    }

    macro_rules! message {
        ($file:literal) => {
            request(include_bytes!(concat!("../../sip-tests/torture/rfc4475/", $file)))
        };
    }

    #[test]
    fn the_tortuous_invite_says_what_it_says_3_1_1_1() {
        let request = message!("wsinv.dat");
        assert_eq!(request.to().unwrap().tag(), Some("1918181833n"));
        assert_eq!(request.from().unwrap().tag(), Some("98asjd8"));
        assert_eq!(request.from().unwrap().display, Some("J Rosenberg \\\\\\\""));
        assert_eq!(request.max_forwards(), Ok(Some(68)));
        assert_eq!(request.cseq().unwrap().number, 9);
        let branches: Vec<_> = request.vias().map(|via| via.unwrap().branch().unwrap()).collect();
        assert_eq!(branches, ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]);
        assert_eq!(request.value(HeaderName::Subject), Some(&b""[..]));
        assert_eq!(request.other("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
        let route = request.addresses(HeaderName::Route).next().unwrap().unwrap();
        assert!(route.uri.params.has("lr") && route.uri.params.has("unknown-no-value"));
        let crate::sip::Contacts::List(contacts) = request.contacts().unwrap() else { panic!("a list") };
        assert_eq!(contacts[0].params.get("newparam"), Some("newvalue"));
        assert_eq!(contacts[0].params.get("q"), Some("0.33"));
        assert_eq!(request.body().len(), 150);
    }

    #[test]
    fn unusual_characters_are_kept_3_1_1_2() {
        let request = message!("intmeth.dat");
        assert_eq!(request.method().as_str(), "!interesting-Method0123456789_*+`.%indeed'~");
        assert_eq!(request.cseq().unwrap().method, *request.method());
        assert_eq!(
            request.from().unwrap().params.get("fromParam''~+*_!.-%"),
            Some("\u{440}\u{430}\u{431}\u{43e}\u{442}\u{430}\u{44e}\u{449}\u{438}\u{439}")
        );
        assert_eq!(request.from().unwrap().tag(), Some("_token~1'+`*%!-."));
        assert_eq!(request.to().unwrap().display, Some("BEL:\\\u{7} NUL:\\\0 DEL:\\\u{7f}"));
    }

    #[test]
    fn escapes_are_read_as_written_3_1_1_3_and_3_1_1_5() {
        assert_eq!(message!("esc01.dat").uri().unwrap().user_decoded().unwrap(), "sips:user@example.com");
        assert_eq!(message!("esc01.dat").to().unwrap().uri.user_decoded().unwrap(), "user");
        let request = message!("esc02.dat");
        assert_eq!(*request.method(), Method::Extension("RE%47IST%45R".into()));
        assert_eq!(request.elements(HeaderName::Contact).count(), 2);
        assert!(request.other("C%6Fntact").is_some());
    }

    #[test]
    fn the_second_request_of_the_datagram_is_no_request_3_1_1_8() {
        let request = message!("dblreq.dat");
        assert_eq!(*request.method(), Method::Register);
        assert!(request.body().is_empty() && request.surplus() > 300);
    }

    #[test]
    fn unknown_schemes_are_text_3_3_2_to_3_3_4() {
        assert_eq!(message!("unkscm.dat").uri().unwrap().scheme, Scheme::Other("nobodyKnowsThisScheme"));
        assert_eq!(message!("novelsc.dat").uri().unwrap().scheme, Scheme::Other("soap.beep"));
        assert_eq!(message!("unksm2.dat").to().unwrap().uri.as_str(), "isbn:2983792873");
    }

    #[test]
    fn a_parameter_of_the_header_is_none_of_the_uri_3_3_12_and_3_3_13() {
        let has = |request: Request| {
            let crate::sip::Contacts::List(contacts) = request.contacts().unwrap() else { panic!("a list") };
            (contacts[0].params.has("unknownparam"), contacts[0].uri.params.has("unknownparam"))
        };
        assert_eq!(has(message!("cparam01.dat")), (true, false));
        assert_eq!(has(message!("cparam02.dat")), (false, true));
    }
}

mod rfc5118 {
    use super::*;

    table! { "rfc5118":
        valid_ipv6_reference_4_1, "ipv6-good" => Accepted;
        ipv6_without_brackets_4_2, "ipv6-bad" => Invalid(400);
        port_ambiguous_4_3, "port-ambiguous" => Accepted;
        port_unambiguous_4_4, "port-unambiguous" => Accepted;
        received_with_brackets_4_5, "via-received-param-with-delim" => Accepted;
        received_without_brackets_4_5, "via-received-param-no-delim" => Accepted;
        ipv6_in_sdp_4_6, "ipv6-in-sdp" => Accepted;
        mixed_addresses_in_headers_4_7, "mult-ip-in-header" => Accepted;
        mixed_addresses_in_sdp_4_8, "mult-ip-in-sdp" => Accepted;
        ipv4_mapped_ipv6_4_9, "ipv4-mapped-ipv6" => Accepted;
        three_colons_4_10, "ipv6-bug-abnf-3-colons" => Accepted;
        two_colons_4_10, "ipv6-correct-abnf-2-colons" => Accepted;
    }

    fn host_and_port(bytes: &'static [u8]) -> (String, Option<u16>) {
        match Message::parse(Bytes::from_static(bytes), false, &Limits::default()).unwrap() {
            Message::Request(request) => {
                let host_port = request.uri().unwrap().host_port;
                assert!(matches!(host_port.host, Host::V6(_)));
                (host_port.host.to_string(), host_port.port)
            }
            Message::Response(_) => panic!("a request"),
        }
    }

    #[test]
    fn what_looks_like_a_port_inside_brackets_is_none_4_3_and_4_4() {
        let ambiguous = include_bytes!("../../sip-tests/torture/rfc5118/port-ambiguous");
        let unambiguous = include_bytes!("../../sip-tests/torture/rfc5118/port-unambiguous");
        assert_eq!(host_and_port(ambiguous), ("[2001:db8::10:5070]".to_owned(), None));
        assert_eq!(host_and_port(unambiguous), ("[2001:db8::10]".to_owned(), Some(5070)));
    }
}
