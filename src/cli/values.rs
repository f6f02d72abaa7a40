//! Parsers for the values of flags. An error gives the fix; clap adds the flag.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use tracing::Level;

use crate::node::address::Address;
use crate::server::Listen;

pub(super) fn address(value: &str) -> Result<Address, String> {
    if value.starts_with("unix:") {
        return unix_path(value).map(Address::Unix);
    }
    let fix = "write HOST:PORT as in 127.0.0.1:3306, [IPV6]:PORT, or unix:PATH";
    if value.starts_with('/') {
        return Err(format!("for a Unix socket write unix:{value}"));
    }
    if value.contains("://") {
        return Err(format!("it must not have a scheme: {fix}"));
    }
    let (host, port) = value.rsplit_once(':').ok_or(format!("the port is missing: {fix}"))?;
    let port = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(format!("the port is not a number from 1 to 65535: {fix}")),
    };
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => address,
        Some(_) => return Err(format!("the text in brackets is not an IPv6 address: {fix}")),
        None if host.contains(':') => {
            return Err("an IPv6 address needs brackets: write [::1]:3306".to_owned());
        }
        None => host,
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_name) {
        return Err(format!("the host is not a name or an address: {fix}"));
    }
    Ok(Address::Tcp { host: host.to_owned(), port })
}

pub(super) fn listen(value: &str) -> Result<Listen, String> {
    // A list may have spaces after its commas.
    let value = value.trim();
    if value.starts_with("unix:") {
        return unix_path(value).map(Listen::Unix);
    }
    value.parse().map(Listen::Tcp).map_err(|_| {
        "write ADDRESS:PORT with a numeric address, as in 0.0.0.0:9200 or [::]:9200, or unix:PATH"
            .to_owned()
    })
}

/// The `http` URL of a running probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The address to connect to.
    pub address: Address,
    /// Host and port as written, for the header `Host`.
    pub authority: String,
    /// The path with the query.
    pub path: String,
}

pub(super) fn url(value: &str) -> Result<Url, String> {
    let fix = "write http://ADDRESS:PORT/PATH, as in http://127.0.0.1:9200/livez";
    let rest = value.strip_prefix("http://").ok_or(fix)?;
    let (authority, path) = match rest.find(['/', '?']).and_then(|at| rest.split_at_checked(at)) {
        Some((authority, path)) if path.starts_with('/') => (authority, path.to_owned()),
        Some((authority, query)) => (authority, format!("/{query}")),
        None => (rest, "/".to_owned()),
    };
    // A space or a line end in the URL would end the request line.
    if authority.starts_with("unix:") || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(fix.to_owned());
    }
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    let address = match has_port {
        true => address(authority),
        false => address(&format!("{authority}:80")),
    };
    let address = address.map_err(|_| fix)?;
    Ok(Url { address, authority: authority.to_owned(), path })
}

fn unix_path(value: &str) -> Result<PathBuf, String> {
    match value.strip_prefix("unix:") {
        None | Some("") => Err("the path is missing: write unix:/run/some.sock".to_owned()),
        // struct sockaddr_un has 108 bytes, with the NUL that ends the path.
        Some(path) if path.len() > 107 => Err("a socket's path has at most 107 bytes".to_owned()),
        Some(path) => Ok(path.into()),
    }
}

/// Parses a duration of at most an hour. A longer duration is taken for a mistake.
pub(super) fn duration(value: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(value)
        .map_err(|_| "write a number with its unit, as in 1500ms or 2s".to_owned())?;
    match duration <= Duration::from_secs(3600) {
        true => Ok(duration),
        false => Err("it must be at most 1h".to_owned()),
    }
}

/// Parses a deadline from 1 ms to 5 s.
///
/// Zero would refuse every node. An HTTP exchange may take 10 s and its request 5 s, which
/// leaves 5 s for the verdict.
pub(super) fn timeout(value: &str) -> Result<Duration, String> {
    match duration(value)? {
        timeout if timeout < Duration::from_millis(1) => Err("it must be at least 1ms".to_owned()),
        timeout if timeout > Duration::from_secs(5) => Err("it must be at most 5s".to_owned()),
        timeout => Ok(timeout),
    }
}

pub(super) fn level(value: &str) -> Result<Level, String> {
    match value.to_ascii_lowercase().as_str() {
        "error" => Ok(Level::ERROR),
        "warn" => Ok(Level::WARN),
        "info" => Ok(Level::INFO),
        "debug" => Ok(Level::DEBUG),
        "trace" => Ok(Level::TRACE),
        _ => Err("write error, warn, info, debug or trace".to_owned()),
    }
}

/// Returns an error of the same kind as clap's own for an invalid value.
pub(super) fn invalid(message: impl Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format_args!("{message}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn parses_each_form_of_target_and_displays_it_unchanged() {
        for (value, expected) in [
            ("127.0.0.1:3306", tcp("127.0.0.1", 3306)),
            ("[::1]:3307", tcp("::1", 3307)),
            ("node-1.db_a.svc.cluster.local.:1", tcp("node-1.db_a.svc.cluster.local.", 1)),
            ("unix:/run/my sql.sock", Address::Unix("/run/my sql.sock".into())),
        ] {
            let parsed = address(value);
            assert_eq!(parsed.as_ref(), Ok(&expected));
            assert_eq!(expected.to_string(), value);
        }
    }

    #[test]
    fn refuses_a_wrong_target_with_the_fix() {
        for (value, fix) in [
            ("db1", "write HOST:PORT"),
            ("", "write HOST:PORT"),
            (":3306", "write HOST:PORT"),
            ("db1:", "1 to 65535"),
            ("db1:0", "1 to 65535"),
            ("db1:65536", "1 to 65535"),
            ("::1:3306", "write [::1]:3306"),
            ("[db1]:3306", "not an IPv6 address"),
            ("[::1:3306", "brackets"),
            ("my host:3306", "not a name"),
            ("user@db1:3306", "not a name"),
            ("mysql://db1:3306", "must not have a scheme"),
            ("/run/mysqld/mysqld.sock", "write unix:/run/mysqld/mysqld.sock"),
            ("unix:", "write unix:/"),
            (&format!("unix:/{}", "x".repeat(107)), "at most 107 bytes"),
        ] {
            let error = address(value).unwrap_err();
            assert!(error.contains(fix), "{value}: {error}");
        }
    }

    #[test]
    fn a_listener_is_a_numeric_address_or_a_unix_socket() {
        for value in ["0.0.0.0:9200", "[::]:9200", "127.0.0.1:0"] {
            assert_eq!(listen(value), Ok(Listen::Tcp(value.parse().unwrap())));
        }
        assert_eq!(listen("unix:/run/a.sock"), Ok(Listen::Unix("/run/a.sock".into())));
        for value in ["9200", ":9200", "localhost:9200", "0.0.0.0", "unix:", ""] {
            assert!(listen(value).is_err(), "{value}");
        }
    }

    #[test]
    fn parses_http_urls_and_refuses_others() {
        for (value, address, path) in [
            ("http://127.0.0.1:9200/livez", tcp("127.0.0.1", 9200), "/livez"),
            ("http://127.0.0.1:9200", tcp("127.0.0.1", 9200), "/"),
            ("http://[::1]:9200/reader?a=b", tcp("::1", 9200), "/reader?a=b"),
            ("http://[::1]/", tcp("::1", 80), "/"),
            ("http://probe?a", tcp("probe", 80), "/?a"),
        ] {
            let url = url(value).unwrap();
            assert_eq!((url.address, url.path.as_str()), (address, path), "{value}");
        }
        for value in [
            "",
            "127.0.0.1:9200",
            "https://127.0.0.1/",
            "http://",
            "http:///livez",
            "http://a:0/",
            "http://unix:/a",
            "http://u@a/",
            "http://a/ b",
            "http://a/\r\nB: c",
            "http://a/\u{e9}",
        ] {
            assert!(url(value).is_err(), "{value}");
        }
    }

    #[test]
    fn parses_timeouts_with_units_from_1_ms_to_5_s() {
        for (value, milliseconds) in
            [("1500ms", 1500), ("2s", 2000), ("1s 500ms", 1500), ("5s", 5000)]
        {
            assert_eq!(timeout(value), Ok(Duration::from_millis(milliseconds)));
        }
        for value in
            ["", "2", "two", "-1s", "0s", "0ms", "999us", "5001ms", "99999999999999999999s"]
        {
            assert!(timeout(value).is_err(), "{value}");
        }
    }
}
