use super::*;
use crate::text::detect;

#[test]
fn formats_are_recognised() {
    for (format, text) in [
        (Format::Plain, "# Title\nads.example\ntrack.example\n"),
        (Format::Plain, "ads.example"),
        (Format::Plain, "BZh.example\n"),
        (Format::Plain, "ads.example\nb.example\n*.c.example\n"),
        (Format::Plain, "http://ads.example/\nhttp://b.example/x\n"),
        (Format::Wildcard, "# Title\n*.ads.example\n*.b.example\nc.example\n"),
        (Format::Wildcard, ".ads.example\n.b.example\n"),
        (Format::Hosts, "127.0.0.1 localhost\n::1 localhost\n0.0.0.0 ads.example\n"),
        (Format::Hosts, "0.0.0.0 ads.example b.example\nfe80::1%lo0 localhost\n"),
        (Format::Adblock, "[Adblock Plus]\nads.example\n"),
        (Format::Adblock, "! Title\n||ads.example^\n"),
        (Format::Adblock, "! Title\nads.example\nb.example\n@@||good.ads.example^\n"),
        (Format::Adblock, "0.0.0.0 a.example\n0.0.0.0 b.example\n||ads.example^$important\n"),
        (Format::Adblock, "/^ad[0-9]+/\n"),
        (Format::Dnsmasq, "# Title\naddress=/ads.example/#\n"),
        (Format::Dnsmasq, "local=/ads.example/\nserver=/b.example/\n"),
        (Format::Unbound, "server:\n  local-zone: \"ads.example\" static\n"),
        (Format::Rpz, "; Title\n$TTL 300\n@ SOA ns. host. 1 2 3 4 5\n NS ns.\nads.example CNAME .\n"),
        (Format::Rpz, "ads.example CNAME .\n*.ads.example CNAME .\n"),
        (Format::Rpz, "ads.example 300 IN A 192.0.2.1\n"),
    ] {
        assert_eq!(detect(text.as_bytes()).unwrap(), format, "{text}");
        let (report, found) = rules(Format::Auto, text.as_bytes()).unwrap();
        assert_eq!(report.format, format);
        assert!(!found.is_empty(), "{text}");
        // An unfinished line at the end changes nothing.
        let cut = format!("{text}\n<html");
        assert_eq!(detect(cut.as_bytes()).unwrap(), format, "{text}");
    }
}

#[test]
fn what_is_no_list_is_refused_with_its_reason() {
    for (text, reason) in [
        (&b""[..], "is empty"),
        (b" \n\r\n\t", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"\n <!DOCTYPE html><html>ads.example</html>", "HTML or XML page"),
        (b"<HTML>\nads.example\n", "HTML or XML page"),
        (b"<?xml version='1.0'?>", "HTML or XML page"),
        (b"\x1f\x8b\x08\0\0", "(gzip)"),
        (b"PK\x03\x04\n", "ZIP archive"),
        (b"BZh91AY&SY\n", "(bzip2)"),
        (b"\xff\xfea\0d\0s\0", "UTF-16"),
        (b"ads.example\nb.example\nc\0.example\n", "line 3 has a NUL byte"),
        (b"{\"error\": \"not found\"}\n{}\n", "not recognised"),
        (b"404: Not Found\n", "not recognised"),
        (b"# nothing yet\n", "not recognised"),
    ] {
        let error = rules(Format::Auto, text).map(|(report, _)| report).expect_err("it is no list");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let error = rules(Format::Hosts, b"# Title\n||ads.example^\n").expect_err("it is no hosts file");
    let text = error.to_string();
    assert_eq!(
        text,
        "none of 2 lines is a rule in the format hosts (line 2: \"||ads.example^\": it has a character \
         that is in no host name). Check the source and `format`"
    );
}

#[test]
fn formats_have_names() {
    for (format, name) in Format::ALL {
        assert_eq!(format.to_string(), name);
    }
}
