use super::*;
use crate::question::wire_question;
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{RData, RecordType},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

fn answerer(arguments: &[&str]) -> Answerer {
    crate::stage::answerer(arguments).unwrap()
}

fn query(name: &str, qtype: RecordType, edns: Option<u16>) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    query.extend(wire_question(name, qtype.into()).unwrap());
    if let Some(size) = edns {
        let [size1, size0] = size.to_be_bytes();
        query.extend([0, 0, 41, size1, size0, 0, 0, 0x80, 0, 0, 0]);
    }
    query
}

fn ask(answerer: &Answerer, query: &[u8], over: Over) -> Option<Message> {
    let mut reply = Vec::new();
    answerer.answer(query, over, &mut reply).then(|| Message::from_vec(&reply).unwrap())
}

#[test]
fn every_type_it_knows_parses_and_repeats_itself() {
    let answerer = answerer(&["--ttl", "77"]);
    for qtype in ["A", "AAAA", "TXT", "MX", "NS", "CNAME", "PTR", "SRV", "SOA", "CAA", "HTTPS", "SVCB", "ANY"]
    {
        let qtype = qtype.parse().unwrap();
        let query = query("Some.Name.test", qtype, None);
        let reply = ask(&answerer, &query, Over::Udp).unwrap();
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert_eq!(reply.metadata.id, 0x1234);
        assert_eq!(reply.answers.len(), 1, "{qtype}");
        assert_eq!(reply.answers[0].ttl, 77);
        assert_eq!(&reply.answers[0].name, reply.queries[0].name());
        assert_eq!(ask(&answerer, &query, Over::Udp), Some(reply), "{qtype} is answered alike each time");
    }
    assert!(ask(&answerer, &query(".", RecordType::NS, None), Over::Udp).is_some());
    let reply = ask(&answerer, &query("x.test", RecordType::Unknown(65280), None), Over::Udp).unwrap();
    assert_eq!(reply.answers.len(), 1);
}

#[test]
fn data_depends_on_the_name_but_not_on_its_case() {
    let answerer = answerer(&[]);
    let data =
        |name| ask(&answerer, &query(name, RecordType::A, None), Over::Udp).unwrap().answers[0].data.clone();
    assert_eq!(data("a.example"), data("A.eXample"));
    assert_ne!(data("a.example"), data("b.example"));
}

#[test]
fn suffixes_get_their_trouble_and_the_longest_wins() {
    let answerer = answerer(&[
        "--nxdomain-suffix=nx.test",
        "--nodata-suffix=sub.nx.test",
        "--servfail-suffix=bad.test",
        "--refused-suffix=no.test",
        "--silent-suffix=mute.test",
    ]);
    let of = |name| ask(&answerer, &query(name, RecordType::A, None), Over::Udp);
    let negative = of("a.b.NX.test").unwrap();
    assert_eq!(negative.metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(negative.authorities[0].name.to_ascii().to_lowercase(), "nx.test.");
    assert!(matches!(negative.authorities[0].data, RData::SOA(_)));
    let nodata = of("a.sub.nx.test").unwrap();
    assert_eq!((nodata.metadata.response_code, nodata.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(of("a.bad.test").unwrap().metadata.response_code, ResponseCode::ServFail);
    assert_eq!(of("no.test").unwrap().metadata.response_code, ResponseCode::Refused);
    assert_eq!(of("x.mute.test"), None);
    // The same letters, but not whole labels.
    assert_eq!(of("xnx.test").unwrap().answers.len(), 1);
}

#[test]
fn types_without_data_get_the_soa_of_the_parent() {
    let reply = ask(&answerer(&[]), &query("a.example", RecordType::NAPTR, None), Over::Udp).unwrap();
    assert!(reply.answers.is_empty());
    assert_eq!(reply.authorities[0].name.to_ascii(), "example.");
}

#[test]
fn an_alias_leads_to_its_target() {
    let reply = ask(
        &answerer(&["--alias-suffix=alias.test"]),
        &query("www.alias.test", RecordType::A, None),
        Over::Udp,
    );
    let reply = reply.unwrap();
    let [cname, address] = reply.answers.as_slice() else { panic!("{:?}", reply.answers) };
    let RData::CNAME(target) = &cname.data else { panic!("{cname}") };
    assert_eq!(target.to_ascii(), "target.www.alias.test.");
    assert_eq!(address.name, target.0);
}

#[test]
fn what_does_not_fit_a_datagram_is_cut() {
    let answerer = answerer(&["--records=100", "--truncate-suffix=cut.test"]);
    let plain = ask(&answerer, &query("a.test", RecordType::A, None), Over::Udp).unwrap();
    assert!(plain.metadata.truncation && plain.answers.is_empty());
    let edns = ask(&answerer, &query("a.test", RecordType::A, Some(4096)), Over::Udp).unwrap();
    assert!(edns.metadata.truncation, "1600 bytes are above what is kept to, whatever the client takes");
    assert!(edns.edns.is_some_and(|edns| edns.flags().dnssec_ok));
    assert_eq!(ask(&answerer, &query("a.test", RecordType::A, None), Over::Tcp).unwrap().answers.len(), 100);
    assert!(
        ask(&answerer, &query("a.cut.test", RecordType::TXT, Some(1232)), Over::Udp)
            .unwrap()
            .metadata
            .truncation
    );
}

#[test]
fn the_first_label_may_set_the_ttl() {
    let reply = ask(&answerer(&[]), &query("ttl-5.example", RecordType::A, None), Over::Udp).unwrap();
    assert_eq!(reply.answers[0].ttl, 5);
}

#[test]
fn rubbish_is_rejected_or_ignored() {
    let answerer = answerer(&[]);
    assert_eq!(ask(&answerer, &[0; 11], Over::Udp), None);
    let mut response = query("a.test", RecordType::A, None);
    response[2] |= 0x80;
    assert_eq!(ask(&answerer, &response, Over::Udp), None);
    let cut = &query("a.test", RecordType::A, None)[..20];
    assert_eq!(ask(&answerer, cut, Over::Udp).unwrap().metadata.response_code, ResponseCode::FormErr);
    let mut notify = query("a.test", RecordType::A, None);
    notify[2] = 0x20;
    assert_eq!(ask(&answerer, &notify, Over::Udp).unwrap().metadata.response_code, ResponseCode::NotImp);
}

#[test]
fn it_serves_both_transports_and_counts() {
    let upstream = Upstream::started(&["--delay-us=1000"]);
    let address = upstream.addresses()[0];
    let query = query("a.test", RecordType::A, None);
    let limit = Some(Duration::from_secs(5));

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(limit).unwrap();
    let asked = Instant::now();
    client.send_to(&query, address).unwrap();
    let mut datagram = [0; 512];
    let len = client.recv(&mut datagram).unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(1));

    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(limit).unwrap();
    let framed = [&(query.len() as u16).to_be_bytes(), query.as_slice()].concat();
    stream.write_all(&framed.repeat(3)).unwrap();
    let mut replies = vec![0; 3 * (2 + len)];
    stream.read_exact(&mut replies).unwrap();
    assert!(replies.chunks(2 + len).all(|reply| reply[2..] == datagram[..len]));
    assert_eq!(upstream.served().to_string(), "udp=1 tcp=3 unanswered=0");

    let mut about = query.clone();
    about.truncate(12);
    about.extend(b"\x06served\x09ringbench\0\0\x10\0\x03");
    client.send_to(&about, address).unwrap();
    let len = client.recv(&mut datagram).unwrap();
    assert!(datagram[..len].ends_with(b"udp=2 tcp=3 unanswered=0"));
}
