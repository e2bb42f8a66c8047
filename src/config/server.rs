//! Which servers are trusted with a password, and with what is sent to them: one on this machine, and one that proves who
//! it is. Anything else has to be asked for by `unverified = true`, and is told at each start. Pure.

use std::net::IpAddr;

use crate::postgres::TlsMode;

/// What the settings say of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    Proved,
    /// What weakens the proof, as one line for a person.
    Weak(String),
    /// What has to change, for a person.
    Refused(String),
}

/// Whether `host` is this machine: the folder of a socket, `localhost`, or a loopback address.
pub(crate) fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.starts_with('/')
        || host.eq_ignore_ascii_case("localhost")
        || address.parse().is_ok_and(|address: IpAddr| address.to_canonical().is_loopback())
}

/// The `tls` of a database that does not say one.
pub(super) fn default_tls(host: &str) -> TlsMode {
    if is_local(host) { TlsMode::Prefer } else { TlsMode::VerifyFull }
}

/// Judges a Postgres. `section`: where it is in the document.
pub(super) fn judge_database(
    section: &str,
    host: &str,
    tls: TlsMode,
    is_unverified_accepted: bool,
) -> Trust {
    if is_local(host) || tls == TlsMode::VerifyFull {
        return Trust::Proved;
    }
    if tls == TlsMode::VerifyCa {
        return Trust::Weak(format!(
            "[{section}]: with `tls = \"verify-ca\"` any server whose certificate is signed by the authority is taken for {host}; `verify-full` asks for its name, too"
        ));
    }
    let mode = tls.name();
    if is_unverified_accepted {
        return Trust::Weak(format!(
            "[{section}]: with `tls = \"{mode}\"` and `unverified = true` whoever answers as {host} is given the password and the data"
        ));
    }
    Trust::Refused(format!(
        "`tls = \"{mode}\"` would give the password to whoever answers as {host}: take `verify-full`, with the authority that signed the server's certificate in `ca_file`; within a network of which every machine is trusted, `unverified = true` allows it"
    ))
}

/// Judges the address of an API that is given a token.
pub(super) fn judge_url(section: &str, url: &str, is_unverified_accepted: bool) -> Trust {
    let Some(rest) = url.strip_prefix("http://") else { return Trust::Proved };
    let host = host_of(rest);
    if is_local(host) {
        return Trust::Proved;
    }
    if is_unverified_accepted {
        return Trust::Weak(format!(
            "[{section}]: with `http://` and `unverified = true` the token and the data go in plain text to whoever answers as {host}"
        ));
    }
    Trust::Refused(format!(
        "`api_url` with `http://` would send the token in plain text to whoever answers as {host}: take `https://`; `http://` is for this machine (`localhost`)"
    ))
}

/// The host of `host:port/path`; an IPv6 address keeps its brackets.
fn host_of(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_on_this_machine_is_known_by_its_address() {
        for host in [
            "localhost",
            "LocalHost",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "[::1]",
            "::ffff:127.0.0.1",
            "/run/postgresql",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "localhost.example.org",
            "10.0.0.1",
            "127.0.0.1.example.org",
            "db",
            "0.0.0.0",
            "",
            "[::2]",
        ] {
            assert!(!is_local(host), "{host}");
        }
        assert_eq!(default_tls("127.0.0.1"), TlsMode::Prefer);
        assert_eq!(default_tls("db.example.org"), TlsMode::VerifyFull);
    }

    #[test]
    fn server_that_does_not_prove_itself_is_refused_unless_a_person_accepts_it() {
        for tls in [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require] {
            let Trust::Refused(said) = judge_database("canonical", "db", tls, false) else {
                panic!()
            };
            assert!(said.contains(tls.name()) && said.contains("`unverified = true`"), "{said}");
            let Trust::Weak(said) = judge_database("canonical", "db", tls, true) else { panic!() };
            assert!(said.contains("whoever answers as db"), "{said}");
            assert_eq!(judge_database("canonical", "127.0.0.1", tls, false), Trust::Proved);
        }
        assert_eq!(judge_database("canonical", "db", TlsMode::VerifyFull, false), Trust::Proved);
        assert!(matches!(
            judge_database("canonical", "db", TlsMode::VerifyCa, false),
            Trust::Weak(_)
        ));
    }

    #[test]
    fn server_of_an_api_is_reached_over_tls_or_on_this_machine() {
        for url in [
            "https://d.example.org",
            "http://localhost:8055",
            "http://127.0.0.1/x",
            "http://[::1]:80/",
        ] {
            assert_eq!(judge_url("directus", url, false), Trust::Proved, "{url}");
        }
        for url in [
            "http://d.example.org",
            "http://directus:8055",
            "http://127.0.0.1.example.org/",
            "http://10.0.0.7",
        ] {
            assert!(matches!(judge_url("directus", url, false), Trust::Refused(_)), "{url}");
            assert!(matches!(judge_url("directus", url, true), Trust::Weak(_)), "{url}");
        }
    }
}
